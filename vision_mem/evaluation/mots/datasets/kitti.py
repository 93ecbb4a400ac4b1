"""KITTI MOTS and KITTI tracking (Geiger et al., CVPR 2012; Voigtlaender et al., CVPR 2019).

Both have the same images. Truth of masks is ``instances_txt/0002.txt`` or
``instances/0002/000000.png``; that of boxes ``label_02/0002.txt``. TrackEval keeps MOTS text in
``label_02``, which is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation import dataset_files
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.mots.datasets import MOT_BENCHMARKS
from vision_mem.evaluation.mots.records import (
    RULES,
    MotBenchmark,
    MotSequence,
    last_frame,
    numbered_pngs,
)
from vision_mem.formats.track_rows import whole

LENGTHS: Mapping[str, int] = dict(
    zip(
        (f"{number:04d}" for number in range(21)),
        (154, 447, 233, 144, 314, 297, 270, 800, 390, 803, 294)
        + (373, 78, 340, 106, 376, 209, 145, 339, 1059, 837),
        strict=True,
    )
)
"""Frames of the training sequences."""

_VALIDATION = (2, 6, 7, 8, 10, 13, 14, 16, 18)

SPLITS: Mapping[str, tuple[str, ...]] = {
    "val": tuple(f"{number:04d}" for number in _VALIDATION),
    "train": tuple(f"{n:04d}" for n in range(21) if n not in _VALIDATION),
    "training": tuple(LENGTHS),
}
"""Sequences that papers on KITTI MOTS validate on, the others with truth, and all of them."""

FPS = 10.0

_MASKS = ("instances_txt", "instances", "label_02")
_BOXES = ("label_02",)
_EXPECTED = {
    "kitti-mots": "[training/]image_02/0002/000000.png and instances_txt/0002.txt or instances/",
    "kitti-mot": "[training/]image_02/0002/000000.png and label_02/0002.txt",
}
# The last column is the last frame for MOTS, and behind the last for boxes.
_SEQMAPS = {"kitti-mots": ("evaluate_mots.seqmap", 1), "kitti-mot": ("evaluate_tracking.seqmap", 0)}
_DEFAULT_SPLIT = {"kitti-mots": "val", "kitti-mot": "training"}


def open_kitti(key: str, root: Path, *, split: str | None, need_frames: bool) -> MotBenchmark:
    """KITTI MOTS or KITTI tracking, in the copy's folder or its ``training``.

    Splits are ``val``, ``train``, ``training`` (all with truth), ``testing`` (no truth) and others
    that a seqmap of the copy names; None: ``val`` of masks, ``training`` of boxes.

    Raises:
        InputError: when nothing like it is there.
    """
    split = split or _DEFAULT_SPLIT[key]
    secret = split == "testing"
    place = dataset_files.first_folder(root / ("testing" if secret else "training")) or root
    notes: list[str] = []
    images = place / "image_02"
    truth: Mapping[str, Path | None] = _truth(place, key)
    if secret and images.is_dir():
        truth = dict.fromkeys(dataset_files.folders_in(images))
    if not truth:
        raise dataset_files.no_sequences(root, _EXPECTED[key])
    listed = _listed(root, place, key, split, list(truth), notes)
    sequences = []
    for name, length in listed.items():
        if name not in truth:
            continue
        frames = dataset_files.images_in(images / name)
        if need_frames and not frames:
            raise InputError(f"{images / name} holds no images; unpack KITTI's left images there")
        answer = truth[name]
        known = length or len(frames)
        if not known and answer is not None:
            known = 1 + last_frame(answer, name, notes)
        if frames and len(frames) != known:
            notes.append(f"{name}: {len(frames)} images, {known} frames in the list")
        size = dataset_files.image_size(frames[0]) if frames else None
        sequences.append(MotSequence(name, known, frames, answer, size, FPS))
    notes += dataset_files.missing_note(list(listed), list(truth), f"sequences of {split}")
    if not sequences:
        raise InputError(f"{root} holds none of the {len(listed)} sequences of {split}")
    title = f"{MOT_BENCHMARKS[key].title} {split}"
    return MotBenchmark(key, title, RULES[key], tuple(sequences), tuple(notes))


def _truth(place: Path, key: str) -> dict[str, Path]:
    """Truth by sequence, from the first folder that has any."""
    for name in _MASKS if key == "kitti-mots" else _BOXES:
        folder = place / name
        if not folder.is_dir():
            continue
        if name == "instances":
            found = {
                key: path
                for key, path in dataset_files.folders_in(folder).items()
                if numbered_pngs(path)
            }
        else:
            found = {path.stem: path for path in sorted(folder.glob("*.txt"))}
        if found:
            return found
    return {}


def _listed(
    root: Path, place: Path, key: str, split: str, found: list[str], notes: list[str]
) -> dict[str, int]:
    """Names of the split's sequences, and their lengths (0: not said)."""
    stem, extra = _SEQMAPS[key]
    for path in (root / f"{stem}.{split}", place / f"{stem}.{split}"):
        if path.is_file():
            return _read_seqmap(path, extra)
    if split == "testing":
        return dict.fromkeys(found, 0)
    official = SPLITS.get(split)
    if official is None:
        raise InputError(
            f"no split {split!r} of {key}: expected {', '.join(SPLITS)}, or a file "
            f"{stem}.{split} in {root}"
        )
    if set(official) & set(found):
        return {name: LENGTHS[name] for name in official}
    notes.append(f"no {stem}.{split} and none of KITTI's own sequences: took all {len(found)}")
    return dict.fromkeys(found, 0)


def _read_seqmap(path: Path, extra: int) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        last = whole(fields[3]) if len(fields) >= 4 else None
        name = fields[0].zfill(4)
        if last is None or last < 0 or not name.isalnum():
            raise InputError(
                f"{path}, line {number}: expected name, word, first and last frame as in "
                "'0002 empty 000000 000232'"
            )
        lengths[name] = last + extra
    if not lengths:
        raise InputError(f"{path} lists no sequences")
    return lengths


def open_crowds(key: str, root: Path, *, split: str | None, need_frames: bool) -> MotBenchmark:
    """What ``synthetic.crowd_sets.write_crowd`` wrote: KITTI MOTS in all but its content."""
    if split is not None:
        raise InputError(f"generated crowds have no split {split!r}: all sequences are taken")
    found = open_kitti("kitti-mots", root, split="val", need_frames=need_frames)
    return replace(found, key=key, title="generated crowds")
