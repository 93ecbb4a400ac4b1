"""The one way in: which sets of many objects there are, and opening a copy of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vision_mem.evaluation.registry import Dataset, known_dataset, look_up, open_copy

if TYPE_CHECKING:
    from vision_mem.evaluation.mots.records import MotBenchmark

MOT_BENCHMARKS: dict[str, Dataset] = {
    word: Dataset(title, layout, f"{__name__}.{read}")
    for word, title, layout, read in (
        ("kitti-mots", "KITTI MOTS",
         "training/{image_02/0002/,instances_txt/0002.txt or instances/}", "kitti:open_kitti"),
        ("kitti-mot", "KITTI tracking", "training/{image_02/0002/,label_02/0002.txt}",
         "kitti:open_kitti"),
        ("mots-challenge", "MOTS Challenge", "train/MOTS20-02/{img1/,gt/gt.txt,seqinfo.ini}",
         "motchallenge:open_motchallenge"),
        ("mot17", "MOT17", "train/MOT17-02-FRCNN/{img1/,gt/gt.txt,seqinfo.ini}",
         "motchallenge:open_motchallenge"),
        ("mot20", "MOT20", "train/MOT20-01/{img1/,gt/gt.txt,seqinfo.ini}",
         "motchallenge:open_motchallenge"),
        ("mot15", "MOT15", "train/PETS09-S2L1/{img1/,gt/gt.txt}: boxes of one class",
         "motchallenge:open_motchallenge"),
        ("crowds", "generated crowds", "what vision-mem eval crowds writes", "kitti:open_crowds"),
    )
}  # fmt: skip
"""The sets by their words on the command line. A set of one's own is a row more; its function is
called as ``read(key, root: Path, split=..., need_frames=...)`` and returns a ``MotBenchmark``."""


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
    function = look_up(known_dataset(MOT_BENCHMARKS, key).read)
    found: MotBenchmark = open_copy(
        lambda place: function(key, place, split=split, need_frames=need_frames), root
    )
    return found
