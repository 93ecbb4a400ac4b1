"""GOT-10k, validation and test split (L. Huang et al., TPAMI 2021).

Pixels count from 0 as far as is known: the toolkit takes boxes as they stand.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import (
    first_folder,
    first_list,
    folders_in,
    image_size,
    images_in,
    missing_note,
    no_sequences,
)
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.sot.datasets.truth import (
    check_first,
    compare_counts,
    fit_flags,
    read_boxes,
    read_flags,
)
from vision_mem.evaluation.sot.records import Benchmark, SotSequence

_CLASSES = ("object_class", "motion_class")


def open_validation(root: Path, *, need_frames: bool) -> Benchmark:
    """The 180 sequences of the validation split, scored here."""
    sequences, notes = _open(root, "val", need_frames)
    return Benchmark("got10k-val", "GOT-10k val", "got10k", "got10k", sequences, notes)


def open_test(root: Path, *, need_frames: bool) -> Benchmark:
    """The 180 sequences of the test split: first boxes only, scored by the server."""
    sequences, notes = _open(root, "test", need_frames)
    return Benchmark("got10k-test", "GOT-10k test", "server", "got10k", sequences, notes)


def _open(
    root: Path, split: str, need_frames: bool
) -> tuple[tuple[SotSequence, ...], tuple[str, ...]]:
    notes: list[str] = []
    place = first_folder(root / split, root / "GOT-10k" / split, root / "full_data" / split) or root
    if not place.is_dir():
        raise no_sequences(root, _expected(split))
    folders = {
        name: folder
        for name, folder in folders_in(place).items()
        if (folder / "groundtruth.txt").is_file()
    }
    listed = first_list(place / "list.txt")
    if listed is None:
        notes.append(f"no list.txt in {place}: took all {len(folders)} sequences found")
        listed = list(folders)
    notes += missing_note(listed, folders, "listed sequences")
    names = [name for name in listed if name in folders]
    if not names:
        raise no_sequences(place, _expected(split))
    sequences = tuple(_sequence(name, folders[name], split, need_frames, notes) for name in names)
    return sequences, tuple(notes)


def _expected(split: str) -> str:
    return f"{split}/list.txt and {split}/NAME/ with images and groundtruth.txt"


def _sequence(
    name: str, folder: Path, split: str, need_frames: bool, notes: list[str]
) -> SotSequence:
    truth = folder / "groundtruth.txt"
    boxes, _ = read_boxes(read_text(truth), truth)
    check_first(boxes, truth)
    frames = images_in(folder)
    if need_frames and not frames:
        raise InputError(f"{folder} holds no images; unpack the benchmark's images there")
    described = _described(folder / "meta_info.ini")
    size = _resolution(described.get("resolution", ""))
    if size is None and frames:
        size = image_size(frames[0])
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


def _described(path: Path) -> dict[str, str]:
    """``key: value`` lines of a ``meta_info.ini``; none when there is no such file."""
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in read_text(path).splitlines() if ":" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _resolution(text: str) -> tuple[int, int] | None:
    """``(height, width)`` from ``(1280, 720)``, which is width first."""
    match = re.fullmatch(r"\(?\s*(\d{1,5})\s*[,x]\s*(\d{1,5})\s*\)?", text)
    return (int(match.group(2)), int(match.group(1))) if match else None
