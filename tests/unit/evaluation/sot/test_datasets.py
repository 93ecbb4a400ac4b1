"""Readers of benchmarks on tiny copies: what is found, what is odd, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from benchmark_samples import (
    FRAMES,
    mask,
    rows,
    true_boxes,
    write,
    write_images,
    write_masks,
    write_sample,
)

from vision_mem.errors import InputError
from vision_mem.evaluation.sot.datasets import BENCHMARKS, open_benchmark
from vision_mem.evaluation.sot.datasets.truth import boxes_around, read_labels

PROTOCOLS = {
    "got10k-val": "got10k", "got10k-test": "server", "trackingnet": "server", "vot": "vot",
    "davis2016": "davis", "davis2017": "davis",
}  # fmt: skip
MATLAB_MADE = ("lasot", "lasot-ext", "otb100", "uav123")


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted)


@pytest.mark.parametrize("key", BENCHMARKS)
def test_each_layout_opens(key, tmp_path) -> None:
    names = write_sample(key, tmp_path)
    found = open_benchmark(key, tmp_path)
    assert [sequence.name for sequence in found.sequences] == names
    assert found.key == key
    assert found.protocol == PROTOCOLS.get(key, "success")
    for number, sequence in enumerate(found.sequences):
        assert len(sequence.frames) == FRAMES
        assert all(frame.is_file() for frame in sequence.frames)
        assert sequence.origin == (key in MATLAB_MADE)
        boxes = sequence.boxes
        if found.protocol == "davis":
            assert boxes.shape == (0, 4)
            assert len(sequence.masks) == FRAMES
        elif found.protocol == "server":
            same(boxes, true_boxes(number)[:1])
        elif sequence.name != "Jogging-2":  # a still second target
            known = ~np.isnan(boxes[:, 0])
            same(boxes[known], true_boxes(number, sequence.origin)[known])
            assert known.sum() >= FRAMES - 1


@pytest.mark.parametrize("key", [k for k in BENCHMARKS if not k.startswith("lasot")])
def test_scoring_needs_no_images(key, tmp_path) -> None:
    names = write_sample(key, tmp_path)
    for image in tmp_path.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(InputError, match="images"):
        open_benchmark(key, tmp_path)
    found = open_benchmark(key, tmp_path, need_frames=False)
    assert [sequence.name for sequence in found.sequences] == names
    for sequence in found.sequences:
        assert sequence.frames == ()
        rows_expected = {"got10k-test": 1, "trackingnet": 1, "nfs": 8 * FRAMES}.get(key, FRAMES)
        assert len(sequence.masks or sequence.boxes) == rows_expected


@pytest.mark.parametrize("key", BENCHMARKS)
def test_a_wrong_root_is_refused(key, tmp_path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_benchmark(key, tmp_path / "none")
    write(tmp_path / "other" / "notes.txt", "nothing of interest")
    with pytest.raises(InputError, match="expected"):
        open_benchmark(key, tmp_path)
    with pytest.raises(InputError):
        open_benchmark(key, tmp_path / "other" / "notes.txt")


def test_an_unknown_benchmark_names_the_nearest(tmp_path) -> None:
    with pytest.raises(InputError, match="did you mean 'davis2017"):
        open_benchmark("davis17", tmp_path)


@pytest.mark.parametrize("key", BENCHMARKS)
def test_garbage_in_any_file_is_an_input_error_at_worst(key, tmp_path) -> None:
    write_sample(key, tmp_path)
    rng = np.random.default_rng(5)
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".jpg"]
    for path in files:
        whole = path.read_bytes()
        for junk in (b"", b"\x00\xff" * 40, rng.bytes(300), whole[: len(whole) // 2], b"m,,\n9"):
            path.write_bytes(junk)
            try:
                open_benchmark(key, tmp_path)
            except InputError as error:
                assert str(tmp_path) in str(error)
                assert "\n" not in str(error)
        path.write_bytes(whole)
    open_benchmark(key, tmp_path)


LISTS = [
    ("lasot", "testing_set.txt"),
    ("got10k-val", "val/list.txt"),
    ("vot", "sequences/list.txt"),
    ("davis2017", "ImageSets/2017/val.txt"),
]


@pytest.mark.parametrize(("key", "path"), LISTS)
@pytest.mark.parametrize(
    "bad", ["../up", "..", "/etc", "a/b", "a\\b", "C:evil", "x\x01y", "n" * 300]
)
def test_lists_cannot_lead_outside(key, path, bad, tmp_path) -> None:
    names = write_sample(key, tmp_path)
    write(tmp_path / path, [names[0], bad])
    with pytest.raises(InputError, match=r"line 2: .*is not the name of a sequence"):
        open_benchmark(key, tmp_path)


@pytest.mark.parametrize(("key", "path"), LISTS)
def test_lists_choose_and_order_the_sequences(key, path, tmp_path) -> None:
    names = write_sample(key, tmp_path)
    write(tmp_path / path, ["# comment", names[1], "", "  gone ", names[0], names[1]])
    found = open_benchmark(key, tmp_path)
    assert [s.name for s in found.sequences] == [names[1], names[0]]
    assert any("1 of 3" in note and "gone" in note for note in found.notes)
    write(tmp_path / path, ["gone"])
    with pytest.raises(InputError):
        open_benchmark(key, tmp_path)
    (tmp_path / path).unlink()
    found = open_benchmark(key, tmp_path)
    assert {s.name for s in found.sequences} == set(names)
    assert any(note.startswith("no ") for note in found.notes)


TRUTH = {
    "lasot": "airplane/airplane-1/groundtruth.txt",
    "lasot-ext": "atv/atv-1/groundtruth.txt",
    "got10k-val": "val/GOT-10k_Val_000001/groundtruth.txt",
    "got10k-test": "test/GOT-10k_Test_000001/groundtruth.txt",
    "trackingnet": "TEST/anno/-Dz7OIf54b0_0.txt",
    "otb100": "Crossing/groundtruth_rect.txt",
    "uav123": "anno/UAV123/bike1.txt",
    "vot": "sequences/agility/groundtruth.txt",
    "folder": "bee/groundtruth.txt",
}


@pytest.mark.parametrize("key", TRUTH)
@pytest.mark.parametrize("line", ["NaN,NaN,NaN,NaN", "0,0,0,0", "5,5,0,9", ""])
def test_a_missing_first_box_names_file_and_line(key, line, tmp_path) -> None:
    write_sample(key, tmp_path)
    write(tmp_path / TRUTH[key], [line, "1,2,3,4"])
    with pytest.raises(InputError, match=rf"{TRUTH[key]}, line 1: the first frame has no box"):
        open_benchmark(key, tmp_path)


@pytest.mark.parametrize("key", TRUTH)
def test_a_bad_line_names_file_and_line(key, tmp_path) -> None:
    write_sample(key, tmp_path)
    write(tmp_path / TRUTH[key], ["1,2,3,4", "1,2,3"])
    with pytest.raises(InputError, match=rf"{TRUTH[key]}, line 2: 3 numbers in '1,2,3'; expected"):
        open_benchmark(key, tmp_path)


@pytest.mark.parametrize("key", [k for k in TRUTH if k not in ("got10k-test", "trackingnet")])
@pytest.mark.parametrize("count", [FRAMES - 3, FRAMES + 3])
def test_other_numbers_of_rows_than_images_are_noted(key, count, tmp_path) -> None:
    names = write_sample(key, tmp_path)
    write(tmp_path / TRUTH[key], "9,9,20,20\n" * count)
    found = open_benchmark(key, tmp_path)
    assert len(found.sequences) == len(names)
    changed = next(s for s in found.sequences if len(s.boxes) == count)
    assert f"{changed.name}: {FRAMES} images but {count} rows of truth" in found.notes
    assert changed.visible is None or len(changed.visible) == count


@pytest.mark.parametrize("key", ["lasot", "got10k-val", "otb100", "uav123", "folder", "vot"])
def test_polygons_where_boxes_are_expected_become_the_boxes_around(key, tmp_path) -> None:
    write_sample(key, tmp_path)
    write(tmp_path / TRUTH[key], ["10,20,30,25,28,50,8,45", "9,9,20,20"] + ["nan"] * (FRAMES - 2))
    boxes = next(s.boxes for s in open_benchmark(key, tmp_path).sequences if s.boxes[0, 0] == 8)
    same(boxes[:2], [[8, 20, 22, 30], [9, 9, 20, 20]])
    assert np.isnan(boxes[2:]).all()


def test_frames_come_in_natural_order_and_images_only(tmp_path) -> None:
    write(tmp_path / "a" / "groundtruth.txt", rows(true_boxes(0)))
    for name in ("img2.jpg", "img10.JPG", "img1.png", ".hidden.jpg", "Thumbs.db", "list.txt"):
        write(tmp_path / "a" / "img" / name, "")
    (tmp_path / "a" / "img" / "img3.jpg").mkdir()
    (tmp_path / "a" / "img" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "b").symlink_to("b")
    frames = open_benchmark("folder", tmp_path).sequences[0].frames
    assert [f.name for f in frames] == ["img1.png", "img2.jpg", "img10.JPG", "loop.jpg"]


# Folders


def test_a_folder_that_is_one_sequence(tmp_path) -> None:
    write_sample("folder", tmp_path)
    found = open_benchmark("folder", tmp_path / "cup2")
    assert [s.name for s in found.sequences] == ["cup2"]
    assert found.title == "cup2"


def test_a_folder_with_several_targets_and_others_without_truth(tmp_path) -> None:
    for number, name in enumerate(["a", "b"]):
        write_images(tmp_path / name / "color", number)
    for number in (2, 10):
        write(tmp_path / "a" / f"groundtruth_rect.{number}.txt", rows(true_boxes(0, number)))
    found = open_benchmark("folder", tmp_path)
    assert [s.name for s in found.sequences] == ["a-1", "a-2"]
    assert [s.origin for s in found.sequences] == [1, 1]
    same(found.sequences[1].boxes, true_boxes(0, 10))
    assert found.notes == ("1 folders without truth left out: b",)


def test_boxes_and_masks_together_are_all_boxes(tmp_path) -> None:
    write_sample("folder", tmp_path)
    write_images(tmp_path / "dog" / "JPEGImages", 1, "{:05d}.jpg", first=0)
    write_masks(tmp_path / "dog" / "Annotations", 1)
    found = open_benchmark("folder", tmp_path)
    assert found.protocol == "success"
    dog = next(s for s in found.sequences if s.name == "dog")
    assert dog.masks == ()
    same(dog.boxes, true_boxes(1))
    assert "boxes around them" in found.notes[0]


def test_a_folder_laid_out_as_davis(tmp_path) -> None:
    write_images(tmp_path / "JPEGImages" / "x", 0, "{:05d}.jpg", first=0)
    write_masks(tmp_path / "Annotations" / "x", 0, second=True)
    (found,) = open_benchmark("folder", tmp_path).sequences
    assert (found.name, len(found.frames), len(found.masks)) == ("x", FRAMES, FRAMES)
    assert not found.merge_objects
    same(boxes_around(found.masks[:1])[0, :2], true_boxes(0)[0, :2])
    assert (read_labels(found.masks[0]) == 1).sum() == mask(0, 0).sum()
