"""Any folder of sequences with boxes or masks as truth."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation import dataset_files
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.sot.datasets.davis import paired_folders
from vision_mem.evaluation.sot.datasets.truth import (
    boxes_around,
    check_first,
    compare_counts,
    mask_sequence,
)
from vision_mem.evaluation.sot.datasets.vot import read_regions
from vision_mem.evaluation.sot.records import Benchmark, SotSequence

_EXPECTED = (
    "NAME/ with images (there or in img/, imgs/, color/, JPEGImages/) and groundtruth*.txt or "
    "Annotations/*.png"
)
_MASKS = ("Annotations", "annotations", "masks")


def open_folder(root: Path, *, need_frames: bool) -> Benchmark:
    """Each folder in ``root`` that has truth, or ``root`` itself when it is a sequence.

    Boxes of ``groundtruth_rect*.txt`` count pixels from 1, as OTB's do; all others from 0.
    """
    if not root.is_dir():
        raise dataset_files.no_sequences(root, _EXPECTED)
    notes: list[str] = []
    sequences = _sequences(root.resolve().name or "sequence", root, need_frames, notes)
    if not sequences:
        bare = []
        for name, folder in dataset_files.folders_in(root).items():
            found = _sequences(name, folder, need_frames, notes)
            sequences += found
            bare += [] if found else [name]
        if sequences and bare:
            notes.append(f"{len(bare)} folders without truth left out: {dataset_files.said(bare)}")
    if not sequences:
        for name, (images, truth) in paired_folders(root).items():
            sequences.append(
                _masked(name, dataset_files.images_in(images), truth, need_frames, notes)
            )
    if not sequences:
        raise dataset_files.no_sequences(root, _EXPECTED)
    protocol = "davis" if all(s.masks for s in sequences) else "success"
    if protocol == "success" and any(s.masks for s in sequences):
        notes.append("boxes and masks in one folder: all are scored by the boxes around them")
        sequences = [_as_boxes(sequence) for sequence in sequences]
    return Benchmark("folder", root.resolve().name, protocol, "folder", tuple(sequences),
                     tuple(notes))  # fmt: skip


def _sequences(name: str, folder: Path, need_frames: bool, notes: list[str]) -> list[SotSequence]:
    """What a folder holds: nothing, one sequence, or one for each numbered truth file."""
    for inside in _MASKS:
        if dataset_files.has_images(folder / inside, {".png"}):
            return [
                _masked(name, dataset_files.frames_of(folder), folder / inside, need_frames, notes)
            ]
    truths = _truth_files(folder)
    if not truths:
        return []
    frames = dataset_files.frames_of(folder)
    if need_frames and not frames:
        raise InputError(f"{folder} has truth but no images; expected {_EXPECTED}")
    return [
        _boxed(name if len(truths) == 1 else f"{name}-{number}", frames, truth, notes)
        for number, truth in enumerate(truths, start=1)
    ]


def _truth_files(folder: Path) -> list[Path]:
    for name in ("groundtruth.txt", "groundtruth_rect.txt"):
        if (folder / name).is_file():
            return [folder / name]
    names = [p.name for p in folder.glob("groundtruth*.txt") if p.is_file()]
    numbered = [n for n in names if re.search(r"[._-]\d+\.txt$", n)]
    return [folder / name for name in dataset_files.natural(numbered or names[:1])]


def _boxed(name: str, frames: tuple[Path, ...], truth: Path, notes: list[str]) -> SotSequence:
    boxes, polygons, _ = read_regions(read_text(truth), truth)
    check_first(boxes, truth)
    compare_counts(name, len(frames), len(boxes), notes)
    origin = 1 if truth.name.startswith("groundtruth_rect") else 0
    return SotSequence(name, frames, boxes, origin=origin, polygons=polygons)


def _masked(
    name: str, frames: tuple[Path, ...], truth: Path, need_frames: bool, notes: list[str]
) -> SotSequence:
    if need_frames and not frames:
        raise InputError(f"{truth.parent} has masks but no images of {name}; expected {_EXPECTED}")
    masks = dataset_files.images_in(truth, {".png"})
    return mask_sequence(name, frames, masks, merge=None, notes=notes)


def _as_boxes(sequence: SotSequence) -> SotSequence:
    if not sequence.masks:
        return sequence
    return replace(sequence, boxes=boxes_around(sequence.masks), masks=(), merge_objects=False)
