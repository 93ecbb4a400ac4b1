"""TrackingNet's test set (M. Müller et al., ECCV 2018): first boxes only, scored by the server.

Pixels count from 0 as far as is known.
"""

from __future__ import annotations

from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import first_folder, images_in, no_sequences
from vision_mem.evaluation.file_tree import FileTree
from vision_mem.evaluation.sot.datasets.truth import boxes_from, compare_counts
from vision_mem.evaluation.sot.records import Benchmark, SotSequence

_EXPECTED = "TEST/anno/NAME.txt and TEST/frames/NAME/ with images"
_FULL = 511


def open_trackingnet(root: Path, *, need_frames: bool) -> Benchmark:
    """The 511 test videos, those of them that are here."""
    place = first_folder(root / "TEST", root / "TrackingNet" / "TEST") or root
    if not (place / "anno").is_dir():
        raise no_sequences(root, _EXPECTED)
    names = [n.removesuffix(".txt") for n in FileTree(place).names("anno")]
    notes: list[str] = []
    sequences = []
    bare = []
    for name in names:
        frames = images_in(place / "frames" / name)
        if need_frames and not frames:
            bare.append(name)
            continue
        truth = place / "anno" / f"{name}.txt"
        boxes = boxes_from(truth)
        compare_counts(name, len(frames), len(boxes), notes)
        sequences.append(SotSequence(name, frames, boxes))
    if bare:
        notes.append(f"{len(bare)} videos have no images in {place / 'frames'}, such as {bare[0]}")
    if not sequences:
        zipped = (place / "zips").is_dir()
        raise InputError(
            f"{place / 'frames'} holds no images; unpack TEST/zips/NAME.zip to TEST/frames/NAME/"
            if zipped
            else f"{place} holds no sequences; expected {_EXPECTED}"
        )
    if len(sequences) != _FULL:
        notes.append(f"{len(sequences)} videos here; the full test set has {_FULL}")
    return Benchmark("trackingnet", "TrackingNet", "server", "trackingnet", tuple(sequences),
                     tuple(notes))  # fmt: skip
