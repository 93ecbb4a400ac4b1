"""The one way in: which sets of many objects there are, and opening a copy of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vision_mem.config import nearest
from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.mots.datasets.kitti import open_kitti
from vision_mem.evaluation.mots.datasets.motchallenge import open_motchallenge
from vision_mem.evaluation.mots.records import MotBenchmark

MOT_BENCHMARKS: Mapping[str, tuple[str, str]] = {
    "kitti-mots": ("KITTI MOTS", "training/{image_02/0002/,instances_txt/0002.txt or instances/}"),
    "kitti-mot": ("KITTI tracking", "training/{image_02/0002/,label_02/0002.txt}"),
    "mots-challenge": ("MOTS Challenge", "train/MOTS20-02/{img1/,gt/gt.txt,seqinfo.ini}"),
    "mot17": ("MOT17", "train/MOT17-02-FRCNN/{img1/,gt/gt.txt,seqinfo.ini}"),
    "mot20": ("MOT20", "train/MOT20-01/{img1/,gt/gt.txt,seqinfo.ini}"),
    "mot15": ("MOT15", "train/PETS09-S2L1/{img1/,gt/gt.txt}: boxes of one class"),
    "crowds": ("generated crowds", "what vision-mem eval crowds writes"),
}
"""Title of each set, and what its root must look like, by its word on the command line."""


def _open_crowds(key: str, root: Path, *, split: str | None, need_frames: bool) -> MotBenchmark:
    """What ``crowdfiles.write_crowd`` wrote: KITTI MOTS in all but its content."""
    if split is not None:
        raise InputError(f"generated crowds have no split {split!r}: all sequences are taken")
    found = open_kitti("kitti-mots", root, split="val", need_frames=need_frames)
    return replace(found, key=key, title=MOT_BENCHMARKS[key][0])


_READERS: Mapping[str, Callable[..., MotBenchmark]] = {
    "kitti-mots": open_kitti,
    "kitti-mot": open_kitti,
    "mots-challenge": open_motchallenge,
    "mot17": open_motchallenge,
    "mot20": open_motchallenge,
    "mot15": open_motchallenge,
    "crowds": _open_crowds,
}


def open_mot_benchmark(
    key: str, root: str | Path, *, split: str | None = None, need_frames: bool = True
) -> MotBenchmark:
    """Open a copy of a set of many objects: find its sequences, their images and truth files.

    Images are listed, not read; truth is read by ``read_truth``.

    Args:
        key: one of ``MOT_BENCHMARKS``.
        root: the copy's folder.
        split: part of the set; None: what papers report on (``val`` of KITTI MOTS, ``training``
            of KITTI tracking, ``train`` of MOTChallenge, where other truth is secret).
        need_frames: False for scoring: the truth suffices, images may be absent.

    Raises:
        InputError: an unknown key; a root that does not look as ``MOT_BENCHMARKS`` says.
    """
    reader = _READERS.get(key)
    if reader is None:
        hint = nearest(key, list(MOT_BENCHMARKS))
        raise InputError(f"no benchmark {key!r}; expected one of {', '.join(MOT_BENCHMARKS)}{hint}")
    try:
        return reader(key, Path(root).expanduser(), split=split, need_frames=need_frames)
    except VisionMemError:
        raise
    except OSError as error:
        place: Any = error.filename or root
        raise InputError(f"{place} cannot be read: {error.strerror or error}") from None
