"""What is particular to each benchmark: its lists, flags, offsets, spellings and kinds of truth."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from benchmark_samples import (
    FRAMES,
    HEIGHT,
    HIDDEN_FRAME,
    WIDTH,
    rows,
    true_boxes,
    write,
    write_images,
    write_masks,
    write_sample,
)

from vision_mem.errors import InputError
from vision_mem.evaluation.sot.datasets import open_benchmark
from vision_mem.evaluation.sot.datasets.lasot import test_names as lasot_test_names
from vision_mem.evaluation.sot.datasets.otb import ATTRIBUTES, FRAME_RANGES, OMITTED, SECOND_TARGETS
from vision_mem.evaluation.sot.datasets.truth import boxes_around, read_labels
from vision_mem.evaluation.sot.datasets.uav123 import frame_ranges
from vision_mem.evaluation.sot.records import Benchmark, SotSequence

VOT_TRUTH = "sequences/agility/groundtruth.txt"


def named(benchmark: Benchmark, name: str) -> SotSequence:
    return next(sequence for sequence in benchmark.sequences if sequence.name == name)


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted)


# LaSOT


def test_lasot_hides_frames_that_either_file_flags(tmp_path) -> None:
    write_sample("lasot", tmp_path)
    folder = tmp_path / "airplane" / "airplane-1"
    write(folder / "out_of_view.txt", ["1" if f == 2 else "0" for f in range(FRAMES)])
    visible = open_benchmark("lasot", tmp_path).sequences[0].visible
    assert np.flatnonzero(~visible).tolist() == [2, HIDDEN_FRAME]
    for name in ("out_of_view.txt", "full_occlusion.txt"):
        (folder / name).unlink()
    assert open_benchmark("lasot", tmp_path).sequences[0].visible is None


def test_lasot_without_classes_and_list(tmp_path) -> None:
    write_sample("lasot", tmp_path / "deep")
    for folder in (tmp_path / "deep").glob("*/*-*"):
        folder.rename(tmp_path / folder.name)
    (tmp_path / "bird-2").rename(tmp_path / "bird-4")  # of the training set
    found = open_benchmark("lasot", tmp_path)
    assert [s.name for s in found.sequences] == ["airplane-1", "airplane-9"]
    assert "official list" in found.notes[0]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("beside", [False, True])
def test_lasot_toolkit(packed, beside, tmp_path) -> None:
    top = "" if packed else "kit/"
    absent = "absent" if beside else "annos/absent"
    files = {
        "annos/bird-2.txt": rows(true_boxes(0, 1)),
        "annos/bird-3.txt": rows(true_boxes(1, 1)),
        "annos/att/bird-2.txt": "1,0,0,0,0,0,0,0,0,0,0,0,0,1\n",
        f"{absent}/bird-2.txt": "0\n0\n1\n" + "0\n" * (FRAMES - 3),
    }
    root = tmp_path / "kit"
    if packed:
        root = tmp_path / "groundtruth.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    for name, text in {} if packed else files.items():
        write(tmp_path / top / name, text)
    with pytest.raises(InputError, match="no images"):
        open_benchmark("lasot", root)
    found = open_benchmark("lasot", root, need_frames=False)
    assert [s.name for s in found.sequences] == ["bird-2", "bird-3"]
    first, second = found.sequences
    same(first.boxes, true_boxes(0, 1))
    assert np.flatnonzero(~first.visible).tolist() == [2]
    assert second.visible is None
    assert first.attributes == ("Illumination Variation", "Aspect Ratio Change")
    (root.parent if packed else root).joinpath("testing_set.txt").write_text("bird-3\n")
    found = open_benchmark("lasot", root.parent if packed else root, need_frames=False)
    assert [s.name for s in found.sequences] == ["bird-3"]


def test_the_official_list_of_lasot() -> None:
    names = lasot_test_names()
    assert len(names) == len(set(names)) == 280
    assert names[:2] == ["airplane-1", "airplane-9"]
    assert len({name.rpartition("-")[0] for name in names}) == 70


# GOT-10k, TrackingNet


def test_got10k_tells_what_is_visible_the_size_and_the_classes(tmp_path) -> None:
    write_sample("got10k-val", tmp_path)
    first, second = open_benchmark("got10k-val", tmp_path).sequences
    assert np.flatnonzero(~first.visible).tolist() == [HIDDEN_FRAME]
    assert second.visible.all()
    assert first.size == (HEIGHT, WIDTH)
    assert first.attributes == ("square", "sliding")
    assert open_benchmark("got10k-val", tmp_path / "val").sequences[0].name == first.name
    folder = tmp_path / "val" / first.name
    for name in ("meta_info.ini", "cover.label"):
        (folder / name).unlink()
    found = open_benchmark("got10k-val", tmp_path)
    assert found.sequences[0].size == (HEIGHT, WIDTH)  # from an image
    assert found.sequences[0].visible is None
    assert found.notes == (f"{first.name}: no cover.label; all its frames are scored",)


def test_trackingnet_says_that_frames_are_still_packed(tmp_path) -> None:
    write_sample("trackingnet", tmp_path)
    (tmp_path / "TEST" / "frames").rename(tmp_path / "TEST" / "zips")
    with pytest.raises(InputError, match=r"unpack TEST/zips"):
        open_benchmark("trackingnet", tmp_path)


# OTB


def test_otb_takes_the_images_that_count(tmp_path) -> None:
    write_sample("otb100", tmp_path)
    david = named(open_benchmark("otb100", tmp_path), "David")
    assert [f.name for f in david.frames[:1]] == ["0300.jpg"]
    for name in ("0298.jpg", "0299.jpg"):
        (tmp_path / "David" / "img" / name).unlink()
    for number, path in enumerate(david.frames, start=1):  # a copy that numbers them anew
        path.rename(path.with_name(f"{number:04d}.jpg"))
    again = named(open_benchmark("otb100", tmp_path), "David")
    assert [f.name for f in again.frames] == [f"{n:04d}.jpg" for n in range(1, FRAMES + 1)]


def test_otb_omits_the_first_frames_of_tiger1_unless_they_are_gone(tmp_path) -> None:
    write_images(tmp_path / "Tiger1" / "img", 0, "{:04d}.jpg")
    truth = tmp_path / "Tiger1" / "groundtruth_rect.txt"
    write(truth, rows(true_boxes(0, 1)))
    (tiger,) = open_benchmark("otb100", tmp_path).sequences
    assert tiger.omitted == 5
    assert [f.name for f in tiger.frames] == ["0006.jpg", "0007.jpg", "0008.jpg"]
    same(tiger.boxes, true_boxes(0, 1)[5:])
    write(truth, rows(true_boxes(0, 1)[:4]))
    (tiger,) = open_benchmark("otb100", tmp_path).sequences
    assert (tiger.omitted, len(tiger.frames)) == (0, FRAMES)


def test_otb_spellings(tmp_path) -> None:
    """Lower case, renamed truth, folders of their own for second targets, other folders."""
    for folder, truth in (
        ("fleetface", "groundtruth.txt"),
        ("Skating2_1", "groundtruth_rect.1.txt"),
        ("Skating2.2", "groundtruth_rect.txt"),
        ("Human4", "groundtruth.2.txt"),
        ("Jogging", "groundtruth.txt"),
        ("mine", "groundtruth_rect.txt"),
    ):
        write_images(tmp_path / folder / "img", 0, "{:04d}.jpg")
        write(tmp_path / folder / truth, rows(true_boxes(0, 1), " , "))
    write(tmp_path / "Human4" / "groundtruth.1.txt", "bad")
    write(tmp_path / "mine" / "attrs.txt", "SV, oCC, unknown\n")
    found = open_benchmark("otb100", tmp_path)
    names = [s.name for s in found.sequences]
    assert names == ["FleetFace", "Human4-2", "Skating2-1", "Skating2-2", "Jogging", "mine"]
    assert "Jogging, mine" in found.notes[0]
    assert named(found, "Human4-2").aliases == ("Human4.2", "Human4_2")
    assert named(found, "mine").attributes == ("Scale Variation", "Occlusion")


def test_the_lists_of_otb() -> None:
    assert len(ATTRIBUTES) == 100
    assert {letter for letters in ATTRIBUTES.values() for letter in letters} == {
        "IV", "SV", "OCC", "DEF", "MB", "FM", "IPR", "OPR", "OV", "BC", "LR",
    }  # fmt: skip
    for table in (FRAME_RANGES, OMITTED, SECOND_TARGETS):
        assert set(table) <= set(ATTRIBUTES)
    # As many as the authors' repository counts for attributes that its lists do not cut short.
    counts = {a: sum(a in letters for letters in ATTRIBUTES.values()) for a in ("LR", "MB", "OV")}
    assert counts == {"LR": 10, "MB": 31, "OV": 14}


# NFS


def test_nfs_layouts_agree(tmp_path) -> None:
    write_sample("nfs", tmp_path / "original")
    wanted = true_boxes(0)
    write_images(tmp_path / "subsampled" / "sequences" / "bee", 0, "{:05d}.jpg")
    write(tmp_path / "subsampled" / "anno" / "nfs_bee.txt", rows(wanted, "\t"))
    write_images(tmp_path / "samurai" / "bee" / "30" / "bee", 0, "{:05d}.jpg")
    write(tmp_path / "samurai" / "bee" / "30" / "groundtruth.txt", rows(wanted))
    for layout in ("original", "subsampled", "samurai"):
        first = open_benchmark("nfs", tmp_path / layout).sequences[0]
        same(first.boxes, wanted)
        assert len(first.frames) == FRAMES
        assert first.aliases == (f"nfs_{first.name}",)


def test_nfs_truth_without_images(tmp_path) -> None:
    write_sample("nfs", tmp_path)
    for image in tmp_path.rglob("*.jpg"):
        image.unlink()
    found = open_benchmark("nfs", tmp_path, need_frames=False)
    assert "240 frames/s" in found.notes[0]
    truth = tmp_path / "bee" / "30" / "bee.txt"
    write(tmp_path / "bee" / "240" / "bee.txt", truth.read_text())
    bee = named(open_benchmark("nfs", tmp_path, need_frames=False), "bee")
    same(bee.boxes, true_boxes(1))
    write(truth, truth.read_text().replace('"square"', "square thing"))
    same(named(open_benchmark("nfs", tmp_path, need_frames=False), "bee").boxes, true_boxes(1))


# UAV123


def test_uav123_copies_with_a_folder_a_track(tmp_path) -> None:
    for number, name in enumerate(["bike1", "car16_2"]):
        write_images(tmp_path / name / "img", number)
        write(tmp_path / name / "groundtruth.txt", rows(true_boxes(number, 1)))
    found = open_benchmark("uav123", tmp_path)
    assert [s.name for s in found.sequences] == ["bike1", "car16_2"]
    assert found.sequences[1].aliases == ("uav_car16_2",)


def test_uav123_keeps_absent_frames_and_attributes(tmp_path) -> None:
    write_sample("uav123", tmp_path / "UAV123")
    found = open_benchmark("uav123", tmp_path)
    bike, _, part = found.sequences
    assert np.flatnonzero(np.isnan(bike.boxes[:, 0])).tolist() == [HIDDEN_FRAME]
    assert bike.attributes[:2] == ("Scale Variation", "Aspect Ratio Change")
    assert len(bike.attributes) == 7
    assert part.frames[0].name == "000416.jpg"


def test_the_ranges_of_uav123() -> None:
    ranges = frame_ranges()
    assert len(ranges) == 51
    assert ranges["uav1_3"] == ("uav1", 2473, 3469)
    assert all(first < last for _, first, last in ranges.values())
    folders = {folder for folder, _, _ in ranges.values()}
    assert 123 - len(ranges) + len(folders) == 91  # as many folders as the set has


# DAVIS and masks


def test_davis_objects(tmp_path) -> None:
    write_sample("davis2016", tmp_path / "16")
    write_sample("davis2017", tmp_path / "17")
    single = open_benchmark("davis2016", tmp_path / "16").sequences[0]
    several = open_benchmark("davis2017", tmp_path / "17").sequences[0]
    assert single.merge_objects
    assert not several.merge_objects
    assert np.unique(read_labels(single.masks[3])).tolist() == [0, 255]
    assert np.unique(read_labels(several.masks[3])).tolist() == [0, 1, 2]
    same(boxes_around(single.masks), true_boxes(0))
    assert single.size == several.size == (HEIGHT, WIDTH)


def test_davis_bare_copies(tmp_path) -> None:
    for number, name in enumerate(["davis_a", "davis_b"]):
        write_images(tmp_path / name / "JPEGImages", number, "{:05d}.jpg", first=0)
        write_masks(tmp_path / name / "Annotations", number, value=255)
    for key in ("davis2016", "folder"):
        found = open_benchmark(key, tmp_path)
        assert [s.name for s in found.sequences] == ["davis_a", "davis_b"]
        assert all(s.merge_objects for s in found.sequences)
        assert found.protocol == "davis"


def test_masks_belong_to_the_frames_of_their_number(tmp_path) -> None:
    write_sample("davis2017", tmp_path)
    folder = tmp_path / "Annotations" / "480p" / "car-shadow"
    (folder / "00003.png").rename(folder / "00099.png")
    found = open_benchmark("davis2017", tmp_path)
    assert [mask is None for mask in found.sequences[0].masks] == [f == 3 for f in range(FRAMES)]
    assert found.notes == (
        "car-shadow: 1 of 8 frames have no mask", "car-shadow: 1 masks belong to no frame"
    )  # fmt: skip
    assert np.isnan(boxes_around(found.sequences[0].masks)[3]).all()
    (folder / "00000.png").unlink()
    with pytest.raises(InputError, match=r"no mask for the first frame 00000\.jpg"):
        open_benchmark("davis2017", tmp_path)


@pytest.mark.parametrize(
    ("mode", "message"),
    [("RGB", "holds colours \\(RGB\\); expected an indexed or grey PNG"),
     ("I;16", "values up to 300"), ("L", "shows no object")],
)  # fmt: skip
def test_masks_that_are_none(mode, message, tmp_path) -> None:
    from PIL import Image

    write_sample("davis2017", tmp_path)
    image = Image.new(mode, (WIDTH, HEIGHT), {"I;16": 300, "RGB": (9, 0, 0)}.get(mode, 0))
    image.save(tmp_path / "Annotations" / "480p" / "libby" / "00000.png")
    with pytest.raises(InputError, match=message):
        open_benchmark("davis2017", tmp_path)


# VOT


def _runs(labels: np.ndarray) -> str:
    """Lengths of runs of 0 and 1 in turn, beginning with 0."""
    flat = labels.ravel().astype(int)
    ends = np.append(np.flatnonzero(np.diff(flat)) + 1, len(flat))
    lengths = np.diff(np.append(0, ends)).tolist()
    return ",".join(map(str, lengths if flat[0] == 0 else [0, *lengths]))


@pytest.mark.parametrize("seed", range(6))
def test_boxes_around_run_length_masks(seed, tmp_path) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random((9, 13)) < (0.02, 0.1, 0.4, 0.9, 0.1, 0.03)[seed]
    labels[4, 6] = True
    write_sample("vot", tmp_path)
    write(tmp_path / VOT_TRUTH, [f"m30,20,13,9,{_runs(labels)}", "m0,0,0,0", "m5,5,4,4,16"])
    boxes = open_benchmark("vot", tmp_path).sequences[0].boxes
    ys, xs = np.nonzero(labels)
    same(boxes[0], [30 + xs.min(), 20 + ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1])
    assert np.isnan(boxes[1:]).all()


@pytest.mark.parametrize(
    "line", ["m1,2,3", "m1,2,3,x", "m0,0,2,2,1,99", "m0,0,-2,2", "m0,0,2,2,-1,1", "m9" + "9" * 30]
)
def test_bad_run_length_masks_name_their_line(line, tmp_path) -> None:
    write_sample("vot", tmp_path)
    write(tmp_path / VOT_TRUTH, ["1,2,3,4", line])
    with pytest.raises(InputError, match=r"line 2: .*mask"):
        open_benchmark("vot", tmp_path)


def test_regions_of_all_kinds_in_one_file(tmp_path) -> None:
    write_sample("vot", tmp_path)
    lines = ["0,0,9,0,9,9", "1", "2,3,4,5", "nan,nan,nan,nan", "0,0,5,0,9,5,5,9,0,5"]
    write(tmp_path / VOT_TRUTH, lines)
    first = open_benchmark("vot", tmp_path).sequences[0]
    same(first.boxes, [[0, 0, 9, 9], [np.nan] * 4, [2, 3, 4, 5], [np.nan] * 4, [0, 0, 9, 9]])
    assert first.polygons.shape == (5, 10)
    same(first.polygons[0], [0, 0, 9, 0, 9, 9, 9, 9, 9, 9])
    same(first.polygons[2], [2, 3, 6, 3, 6, 8, 2, 8, 2, 8])
    write(tmp_path / VOT_TRUTH, ["0,0,9,0,9,9", "2,3,4,5"])  # only triangles beside rectangles
    first = open_benchmark("vot", tmp_path).sequences[0]
    same(first.polygons, [[0, 0, 9, 0, 9, 9, 9, 9], [2, 3, 6, 3, 6, 8, 2, 8]])


def test_vot_attributes_and_old_layout(tmp_path) -> None:
    write_sample("vot", tmp_path)
    found = open_benchmark("vot", tmp_path)
    assert named(found, "ball").attributes == ("occlusion",)
    assert named(found, "ball").size == (HEIGHT, WIDTH)
    assert np.isnan(named(found, "ball").boxes[HIDDEN_FRAME]).all()
    for image in (tmp_path / "sequences" / "agility" / "color").iterdir():
        image.rename(tmp_path / "sequences" / "agility" / image.name)
    assert len(open_benchmark("vot", tmp_path / "sequences").sequences[0].frames) == FRAMES
