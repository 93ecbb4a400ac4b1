"""Readers of benchmarks on real truth: LaSOT's test set, two sequences of OTB, two of DAVIS."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vision_mem.evaluation.file_tree import FileTree
from vision_mem.evaluation.number_rows import read_rows
from vision_mem.evaluation.sot.datasets import open_benchmark
from vision_mem.evaluation.sot.datasets.lasot import test_names as lasot_test_names
from vision_mem.evaluation.sot.datasets.truth import boxes_around

pytestmark = pytest.mark.data

ROWS, ABSENT = 685_360, 18_346
SECONDS = 10.0


@pytest.fixture(scope="module")
def lasot_folder(data):
    folder = data / "eval" / "lasot_test"
    if not folder.is_dir():
        pytest.skip(f"LaSOT's truth not found in {folder}")
    return folder


def test_the_test_set_of_lasot(lasot_folder) -> None:
    begun = time.perf_counter()
    found = open_benchmark("lasot", lasot_folder, need_frames=False)
    seconds = time.perf_counter() - begun
    print(f"{len(found.sequences)} sequences in {seconds:.2f} s")
    assert seconds < SECONDS
    assert found.notes == ()
    assert [s.name for s in found.sequences] == lasot_test_names()
    assert lasot_test_names() == (lasot_folder / "testing_set.txt").read_text().split()
    assert sum(len(s.boxes) for s in found.sequences) == ROWS
    hidden = np.concatenate([~s.visible for s in found.sequences])
    assert hidden.sum() == ABSENT
    boxes = np.concatenate([s.boxes for s in found.sequences])
    assert np.isfinite(boxes).all()
    empty = (boxes == 0).all(axis=1)
    assert empty.sum() == 8159  # the other hidden frames have a box, or one without height
    assert hidden[empty].all()
    alone = open_benchmark("lasot", lasot_folder / "groundtruth.zip", need_frames=False)
    assert [s.name for s in alone.sequences] == lasot_test_names()


def test_published_results_have_the_same_rows(lasot_folder) -> None:
    found = open_benchmark("lasot", lasot_folder, need_frames=False)
    with FileTree(lasot_folder / "results_ATOM.zip") as files:
        assert set(files.names()) == {f"{s.name}.txt" for s in found.sequences}
        for sequence in found.sequences:
            name = f"{sequence.name}.txt"
            rows = read_rows(files.text(name), files.where(name), (4,))
            assert rows.shape == sequence.boxes.shape


@pytest.mark.parametrize(
    ("name", "folder", "frames", "first", "attribute"),
    [
        ("Crossing", "otb_crossing", 120, [205, 151, 17, 50], "Deformation"),
        ("Man", "otb_man", 134, [69, 48, 26, 39], "Illumination Variation"),
    ],
)
def test_sequences_of_otb(name, folder, frames, first, attribute, data, tmp_path) -> None:
    (tmp_path / name).symlink_to(data / "sot" / folder)
    (sequence,) = open_benchmark("otb100", tmp_path).sequences
    assert (sequence.name, sequence.origin) == (name, 1)
    assert len(sequence.frames) == len(sequence.boxes) == frames
    assert sequence.boxes[0].tolist() == first
    assert attribute in sequence.attributes


def test_folders(data) -> None:
    boxed = open_benchmark("folder", data / "sot")
    assert {s.name: len(s.frames) for s in boxed.sequences} == {"otb_crossing": 120, "otb_man": 134}
    assert boxed.protocol == "success"
    masked = open_benchmark("folder", data / "vos")
    lengths = {s.name: len(s.masks) for s in masked.sequences}
    assert lengths == {"davis_car-shadow": 40, "davis_libby": 49}
    assert masked.protocol == "davis"
    assert all(s.merge_objects and s.size == (480, 854) for s in masked.sequences)
    assert not (boxed.notes or masked.notes)
    for sequence in masked.sequences:
        boxes = boxes_around(sequence.masks)
        assert (boxes[:, 2:] > 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= [854, 480]).all()
