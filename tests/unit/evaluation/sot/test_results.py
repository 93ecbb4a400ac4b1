"""Result files as people pack them, and as they get damaged."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from vision_mem.errors import InputError
from vision_mem.evaluation.sot.datasets.truth import read_labels
from vision_mem.evaluation.sot.records import Benchmark, SotSequence
from vision_mem.evaluation.sot.results import ResultSet
from vision_mem.evaluation.sot.scores import score_benchmark

ROWS = "1,2,30,40\n5,6,30,40\n"


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def packed(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("files", "sequence", "runs"),
    [
        ({"car-1.txt": ROWS}, "car-1", 1),
        ({"ATOM_tracking_result/car-1.txt": ROWS}, "car-1", 1),
        ({"car/car-1.txt": ROWS, "bird/bird-1.txt": ROWS}, "bird-1", 1),  # a folder a class
        ({"v/v_001.txt": ROWS, "v/v_time.txt": "0.1"}, "v", 1),
        ({"v/v_001.txt": ROWS, "v/v_002.txt": ROWS, "v/v_003.txt": ROWS}, "v", 3),
        ({"atom/default_000/a.txt": ROWS, "atom/default_001/a.txt": ROWS}, "a", 2),
        ({"a.txt": ROWS, "times/a_time.txt": "0.1", "a_time.txt": "0.1"}, "a", 1),
        ({"nfs_Gymnastics.txt": ROWS}, "Gymnastics", 1),
        ({"bike1.txt": ROWS}, "uav_bike1", 1),
        ({"jogging_1.txt": ROWS, "jogging_2.txt": ROWS}, "Jogging-1", 1),
        ({"Jogging.1.txt": ROWS}, "Jogging-1", 1),
        ({"human4.txt": ROWS}, "Human4-2", 1),
        ({"car-1.txt": ROWS, "car_1.txt": "0"}, "car-1", 1),  # the exact name goes first
        ({"GOT-10k_Val_000001/GOT-10k_Val_000001_001.txt": ROWS}, "GOT-10k_Val_000001", 1),
        ({".hidden/a.txt": ROWS, "a.txt": ROWS, ".a.txt": "half"}, "a", 1),
        ({"run.json": "{}", "results/a.txt": ROWS, "logs/a.json": "{}"}, "a", 1),
    ],
)
def test_files_are_found(tmp_path, files, sequence, runs):
    for root in (write(tmp_path / "folder", files), packed(tmp_path / "a.zip", files)):
        with ResultSet(root) as results:
            assert results.holds(sequence, "boxes")
            found = results.boxes(sequence)
            assert not results.holds("other", "boxes")
        assert len(found) == runs
        np.testing.assert_array_equal(found[0][1], [[1, 2, 30, 40], [5, 6, 30, 40]])


@pytest.mark.parametrize(
    "text",
    ["1,2,30,40\n5,6,30,40", "1\t2\t30\t40\r\n5\t6\t30\t40\r\n", "1 2 30 40\n5 6 30 40\n\n",
     "1, 2, 30, 40\n5, 6, 30, 40\n", "\ufeff1.0,2.0,3e1,40\n5,6,30,40\n"],
)  # fmt: skip
def test_ways_to_write_numbers(tmp_path, text):
    write(tmp_path, {"a.txt": text.encode(), "b.txt": text.encode("utf-16")})
    results = ResultSet(tmp_path)
    for name in ("a", "b"):
        ((_, rows),) = results.boxes(name)
        np.testing.assert_array_equal(rows, [[1, 2, 30, 40], [5, 6, 30, 40]])


def test_a_run_written_as_text_and_binary_counts_once(tmp_path):
    binary = b"\x01\x00\x00\x00\x00\x00"
    results = ResultSet(write(tmp_path, {"v/v_001.txt": "1,2,30,40\n0\n", "v/v_001.bin": binary}))
    ((where, regions),) = results.regions("v")
    assert where.endswith(".txt")
    assert len(regions) == 2


def test_a_folder_in_an_archive(tmp_path):
    path = packed(tmp_path / "all.zip", {"LaSOT/ATOM/a.txt": ROWS, "LaSOT/DiMP/a.txt": ROWS})
    with ResultSet(path) as results, pytest.raises(InputError, match=r"all\.zip/LaSOT/ATOM"):
        results.boxes("a")
    with ResultSet(path / "LaSOT" / "DiMP") as results:
        assert (results.name, len(results.boxes("a"))) == ("DiMP", 1)
    with pytest.raises(InputError, match="no folder LaSOT/ECO"):
        ResultSet(path / "LaSOT" / "ECO")


@pytest.mark.parametrize(
    ("name", "called"),
    [("ATOM", "ATOM"), ("v1.2", "v1.2"), ("runs/mine/results", "mine"), ("ATOM.zip", "ATOM")],
)
def test_trackers_have_names(tmp_path, name, called):
    place = tmp_path / name
    if place.suffix == ".zip":
        packed(place, {"a.txt": ROWS})
    else:
        write(place, {"a.txt": ROWS})
    with ResultSet(place) as results:
        assert results.name == called
    with ResultSet(place, "other") as results:
        assert results.name == "other"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no boxes"),
        ("1,2,3\n4,5,6\n", "line 1"),
        ("1,2,30,40\n1,2,x,40\n", "line 2"),
        ("1,2,30,40\n1,2,inf,40\n", "line 2"),
        (b"\x00\xff" * 50, "line 1"),
        ("1,2,3,4,5,6,7,8\n", "8 numbers"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    results = ResultSet(write(tmp_path, {"a.txt": content}))
    with pytest.raises(InputError, match=message) as raised:
        results.boxes("a")
    assert "a.txt" in str(raised.value)


def test_damaged_archives(tmp_path):
    whole = packed(tmp_path / "whole.zip", {"a.txt": ROWS * 500}).read_bytes()
    (tmp_path / "text.zip").write_text(ROWS)
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    bad = bytearray(whole)
    bad[60:70] = b"\xaa" * 10
    (tmp_path / "bad.zip").write_bytes(bad)
    for name in ("text.zip", "cut.zip", "none.zip", "none"):
        with pytest.raises(InputError, match=name):
            ResultSet(tmp_path / name)
    with ResultSet(tmp_path / "bad.zip") as results, pytest.raises(InputError, match=r"a\.txt"):
        results.boxes("a")


def png(values, mode=None):
    held = io.BytesIO()
    Image.fromarray(values, mode).save(held, format="PNG")
    return held.getvalue()


def test_mask_images():
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    indexed = Image.fromarray(labels)
    indexed.putpalette(list(range(255, -1, -1)) * 3)
    held = io.BytesIO()
    indexed.save(held, format="PNG")
    grey_in_colour = np.repeat(labels[..., None], 3, axis=2)
    for data in (png(labels), held.getvalue(), png(grey_in_colour)):
        np.testing.assert_array_equal(read_labels("m.png", data), labels)
    colours = grey_in_colour.copy()
    colours[0, 0] = [200, 0, 0]
    noise = np.random.default_rng(0).integers(0, 255, (80, 80), np.uint8)
    cut = png(noise)[:3000]
    for data in (png(colours), b"\x89PNG", b"", cut, png(labels.astype(np.uint16) + 300)):
        with pytest.raises(InputError, match=r"m\.png"):
            read_labels("m.png", data)


def sequence(name, rows=4, **more):
    return SotSequence(name, (), np.array([[10.0, 20, 30, 40]] * rows), **more)


def benchmark(*sequences, protocol="success", tag="otb"):
    return Benchmark("set", "A set", protocol, tag, sequences)


GOOD = "10,20,30,40\n" * 4


def test_incomplete_results(tmp_path):
    set_ = benchmark(*(sequence(f"s{n}") for n in range(8)))
    results = ResultSet(write(tmp_path / "some", {"s0.txt": GOOD}))
    with pytest.raises(
        InputError, match=r"lacks 7 of A set's 8 .*s1, s2, .* and 2 more; expected .*--partial"
    ):
        score_benchmark(set_, results)
    score = score_benchmark(set_, results, partial=True)
    assert score.missing == tuple(f"s{n}" for n in range(1, 8))
    assert score.summary()["OP50"] == 1.0
    empty = ResultSet(write(tmp_path / "none", {"other.txt": GOOD}))
    with pytest.raises(InputError, match=r"holds no result .*s0\.txt"):
        score_benchmark(set_, empty, partial=True)


def test_lengths(tmp_path):
    set_ = benchmark(sequence("a"))
    long = ResultSet(write(tmp_path / "long", {"a.txt": GOOD + "0,0,1,1\n" * 3}))
    assert score_benchmark(set_, long).summary()["OP50"] == 1.0
    short = ResultSet(write(tmp_path / "short", {"a.txt": "10,20,30,40\n" * 3}))
    with pytest.raises(InputError, match=r"a\.txt has 3 boxes, the truth of a has 4"):
        score_benchmark(set_, short)
    score = score_benchmark(set_, short, partial=True)
    assert score.summary()["OP50"] == 0.75
    assert "3 of 4 frames" in score.notes[0]
    with pytest.raises(InputError, match="first box alone"):
        score_benchmark(benchmark(sequence("a", rows=1)), long)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("10,20,30,40", None),
        ("11,21,30,40", None),  # counted from 1
        ("14,22,28,40", None),  # what a tracker made of it
        ("10,20,40,60", "if its numbers are x1,y1,x2,y2"),
        ("25,40,30,40", "if its numbers are the centre, width and height"),
        ("20,10,40,30", "if its numbers are y,x,height,width"),
        ("0.1,0.2,0.3,0.4", "not the given box 10,20,30,40 but 0.1,0.2,0.3,0.4; expected"),
    ],
)
def test_a_first_row_that_is_not_the_given_box_is_said(tmp_path, row, said):
    results = ResultSet(write(tmp_path, {f"{n}.txt": f"{row}\n" * 4 for n in "ab"}))
    notes = score_benchmark(benchmark(sequence("a"), sequence("b")), results).notes
    assert sum("first row" in note for note in notes) == (said is not None)  # said once
    assert said is None or said in notes[0]


@pytest.mark.parametrize("bad", ["nan,nan,nan,nan", "10,20,-3,40", "10,20,30,nan"])
@pytest.mark.parametrize("line", [1, 3])
def test_boxes_that_are_none(tmp_path, bad, line):
    lines = GOOD.splitlines()
    lines[line - 1] = bad
    results = ResultSet(write(tmp_path, {"a.txt": "\n".join(lines)}))
    set_ = benchmark(sequence("a"))
    with pytest.raises(InputError, match=rf"a\.txt, line {line}: .* --repair"):
        score_benchmark(set_, results)
    score = score_benchmark(set_, results, repair=True)
    assert score.summary()["OP50"] == 1.0
    assert "1 line without a box repaired" in score.notes[0]


def test_runs_are_averaged(tmp_path):
    files = {"a/a_001.txt": GOOD, "a/a_002.txt": "10,20,30,40\n" + "90,90,5,5\n" * 3}
    score = score_benchmark(benchmark(sequence("a")), ResultSet(write(tmp_path, files)))
    assert score.summary()["OP50"] == pytest.approx((1 + 0.25) / 2)
    assert score.sequences[0].runs == 2


def test_attributes(tmp_path):
    set_ = benchmark(
        sequence("a", attributes=("fast",)),
        sequence("b", attributes=("fast", "small")),
        sequence("c"),
    )
    lost = "10,20,30,40\n" + "90,90,5,5\n" * 3
    results = ResultSet(write(tmp_path, {"a.txt": GOOD, "b.txt": lost, "c.txt": GOOD}))
    found = score_benchmark(set_, results).by_attribute()
    assert {name: (n, values["OP50"]) for name, (n, values) in found.items()} == {
        "fast": (2, 0.625),
        "small": (1, 0.25),
    }


def test_what_cannot_be_scored(tmp_path):
    results = ResultSet(write(tmp_path, {"a.txt": GOOD}))
    with pytest.raises(InputError, match="server"):
        score_benchmark(benchmark(sequence("a"), protocol="server"), results)
    with pytest.raises(InputError, match="no sequences"):
        score_benchmark(benchmark(), results)
    with pytest.raises(InputError, match="--absent"):
        score_benchmark(benchmark(sequence("a")), results, absent="drop")
    with pytest.raises(InputError, match="--absent skip"):
        score_benchmark(benchmark(sequence("a"), protocol="got10k"), results, absent="skip")
    with pytest.raises(InputError, match="how large its images are"):
        score_benchmark(benchmark(sequence("a"), protocol="got10k"), results)
    gone = SotSequence("a", (), np.array([[1.0, 2, 3, 4]] * 4), visible=np.zeros(4, bool))
    with pytest.raises(InputError, match="no sequence is there a frame"):
        score_benchmark(benchmark(gone), results, absent="skip")


def masks(root, name, images):
    for number, image in enumerate(images):
        write(root, {f"{name}/{number:05d}.png": png(image)})
    return tuple(root / name / f"{number:05d}.png" for number in range(len(images)))


def test_masks_that_do_not_fit(tmp_path):
    truth = np.zeros((5, 20, 30), np.uint8)
    truth[:, 5:12, 5:12] = 1
    truth[:, 5:12, 20:27] = 2
    set_ = benchmark(
        SotSequence("dog", (), np.empty((0, 4)), masks=masks(tmp_path / "truth", "dog", truth)),
        protocol="davis",
    )
    masks(tmp_path / "good", "dog", truth)
    assert score_benchmark(set_, ResultSet(tmp_path / "good")).summary()["J&F"] == 1.0
    # Neither the first nor the last frame is asked for.
    middle = write(tmp_path / "middle", {f"480p/dog/{n:05d}.png": png(truth[n]) for n in (1, 2, 3)})
    assert score_benchmark(set_, ResultSet(middle)).summary()["J&F"] == 1.0
    archive = packed(tmp_path / "x.zip", {f"dog/{n:05d}.png": png(truth[n]) for n in range(5)})
    with ResultSet(archive) as results:
        assert score_benchmark(set_, results).summary()["J&F"] == 1.0
    more, small, fewer = truth.copy(), truth[:, :10], truth[:2]
    more[2, 0, 0] = 9
    for name, images, message in (
        ("more", more, "00002.png holds object 9"),
        ("small", small, "is 30x10, its truth 30x20"),
        ("fewer", fewer, "no mask of frame 00002"),
    ):
        masks(tmp_path / name, "dog", images)
        with pytest.raises(InputError, match=message):
            score_benchmark(set_, ResultSet(tmp_path / name))
