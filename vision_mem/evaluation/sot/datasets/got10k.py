"""GOT-10k, validation and test split (L. Huang et al., TPAMI 2021).

Pixels count from 0 as far as is known: the toolkit takes boxes as they stand.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.evaluation import dataset_files
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.sot.datasets.truth import (
    boxes_from,
    compare_counts,
    fit_flags,
    read_flags,
)
from vision_mem.evaluation.sot.records import Benchmark, SotSequence

_CLASSES = ("object_class", "motion_class")


def _open(split: str, protocol: str, root: Path, *, need_frames: bool) -> Benchmark:
    notes: list[str] = []
    place = (
        dataset_files.first_folder(
            root / split, root / "GOT-10k" / split, root / "full_data" / split
        )
        or root
    )
    if not place.is_dir():
        raise dataset_files.no_sequences(root, _expected(split))
    found = dataset_files.listed_folders(place, [place / "list.txt"], _expected(split), notes)
    sequences = tuple(_sequence(*each, split, need_frames, notes) for each in found.items())
    key, title = f"got10k-{split}", f"GOT-10k {split}"
    return Benchmark(key, title, protocol, "got10k", sequences, tuple(notes))


open_validation = partial(_open, "val", "got10k")
"""The 180 sequences of the validation split, scored here."""
open_test = partial(_open, "test", "server")
"""The 180 sequences of the test split: first boxes only, scored by the server."""


def _expected(split: str) -> str:
    return f"{split}/list.txt and {split}/NAME/ with images and groundtruth.txt"


def _sequence(
    name: str, folder: Path, split: str, need_frames: bool, notes: list[str]
) -> SotSequence:
    boxes = boxes_from(folder / "groundtruth.txt")
    frames = dataset_files.images_in(folder)
    dataset_files.images_here(frames, folder, needed=need_frames)
    described = dataset_files.read_pairs(folder / "meta_info.ini", ":")
    size = _resolution(described.get("resolution", ""))
    if size is None and frames:
        size = dataset_files.image_size(frames[0])
    visible: NDArray[np.bool_] | None = None
    if split == "test":
        boxes = boxes[:1]
    else:
        compare_counts(name, len(frames), len(boxes), notes)
        cover = folder / "cover.label"
        if cover.is_file():
            # 0 to 8: how much of the object can be seen; the toolkit scores frames above 0.
            flags = read_flags(read_text(cover), cover)
            visible = fit_flags(flags, len(boxes), name, "cover", notes)
        else:
            notes.append(f"{name}: no cover.label; all its frames are scored")
    attributes = tuple(dict.fromkeys(described[c] for c in _CLASSES if described.get(c)))
    return SotSequence(name, frames, boxes, visible=visible, size=size, attributes=attributes)


def _resolution(text: str) -> tuple[int, int] | None:
    """``(height, width)`` from ``(1280, 720)``, which is width first."""
    match = re.fullmatch(r"\(?\s*(\d{1,5})\s*[,x]\s*(\d{1,5})\s*\)?", text)
    return (int(match.group(2)), int(match.group(1))) if match else None
