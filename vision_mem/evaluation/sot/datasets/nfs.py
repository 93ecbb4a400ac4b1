"""Need for Speed at 30 frames a second (H. Kiani Galoogahi et al., ICCV 2017): 100 sequences.

Pixels count from 0 as far as is known. Frames flagged as lost are scored like all others, as the
toolkits do, so that all layouts give the same numbers.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation import dataset_files
from vision_mem.evaluation.file_tree import FileTree, read_text
from vision_mem.evaluation.number_rows import read_rows
from vision_mem.evaluation.sot.datasets.truth import check_first, compare_counts, read_boxes
from vision_mem.evaluation.sot.records import Benchmark, SotSequence

_EXPECTED = (
    "NAME/30/NAME.txt (or NAME/30/groundtruth.txt) and NAME/30/NAME/ with images; or "
    "anno/nfs_NAME.txt and sequences/NAME/ with images"
)
_FULL = 100
_ORIGINAL = re.compile(r"\s*\d+(?:[ \t]+[-+.\d]+){8}")
_BEFORE_LABEL = re.compile(r"^([ \t]*(?:\S+[ \t]+){8}\S+).*$", re.MULTILINE)
_EVERY = 8  # truth was drawn at 240 frames a second


def open_nfs(root: Path, *, need_frames: bool) -> Benchmark:
    """The sequences that have truth here, at 30 frames a second."""
    if not root.is_dir():
        raise dataset_files.no_sequences(root, _EXPECTED)
    notes: list[str] = []
    if (root / "anno").is_dir():
        found = [
            (n.removesuffix(".txt").removeprefix("nfs_"), root / "anno" / n)
            for n in dataset_files.natural(FileTree(root).names("anno"))
        ]
        places = [
            (name, truth, dataset_files.frames_of(root / "sequences" / name))
            for name, truth in found
        ]
    else:
        places = [
            (name, truth, _frames(folder / "30", name))
            for name, folder in dataset_files.folders_in(root).items()
            if (truth := _truth(folder / "30", name)) is not None
        ]
    sequences = [_sequence(*place, need_frames, notes) for place in places]
    if not sequences:
        raise dataset_files.no_sequences(root, _EXPECTED)
    if len(sequences) != _FULL:
        notes.append(f"{len(sequences)} sequences here; the full set has {_FULL}")
    return Benchmark("nfs", "NFS", "success", "nfs", tuple(sequences), tuple(notes))


def _truth(folder: Path, name: str) -> Path | None:
    names = (f"{name}.txt", "groundtruth.txt", "groundtruth_rect.txt")
    return dataset_files.first_file(*(folder / each for each in names))


def _frames(folder: Path, name: str) -> tuple[Path, ...]:
    return dataset_files.images_in(folder / name) or dataset_files.frames_of(folder)


def _sequence(
    name: str, truth: Path, frames: tuple[Path, ...], need_frames: bool, notes: list[str]
) -> SotSequence:
    if need_frames and not frames:
        raise InputError(f"no images of {name} beside {truth}; expected {_EXPECTED}")
    text = read_text(truth)
    if _ORIGINAL.match(text):
        boxes, count = _original(text, truth), len(frames) or _count_of(truth, name)
        if count is None:
            notes.append(f"{name}: no images, so all rows are taken; truth may be at 240 frames/s")
    else:
        boxes, count = read_boxes(text, truth)[0], len(frames) or None
    if count and abs(len(boxes) / count - _EVERY) < 1:
        boxes = boxes[::_EVERY]
        if len(boxes) == count + 1:
            boxes = boxes[:count]
    check_first(boxes, truth)
    compare_counts(name, len(frames), len(boxes), notes)
    return SotSequence(name, frames, boxes, aliases=(f"nfs_{name}",))


def _original(text: str, where: Path) -> NDArray[np.float64]:
    """Rows ``id x1 y1 x2 y2 frame lost occluded generated "label"`` as boxes."""
    rows = read_rows(_BEFORE_LABEL.sub(r"\1", text), where, (9,))
    corners = rows[:, 1:5]
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _count_of(truth: Path, name: str) -> int | None:
    """How many frames the sequence has, told by the truth for 240 frames a second beside it.

    The original copies have the same rows in both places.
    """
    full = truth.parent.parent / "240" / f"{name}.txt"
    if truth.parent.name != "30" or not full.is_file():
        return None
    lines = read_text(full).rstrip().count("\n") + 1
    return -(-lines // _EVERY)
