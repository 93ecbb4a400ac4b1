"""UAV123 (M. Mueller, N. Smith, B. Ghanem, ECCV 2016): 123 tracks over 91 folders of images.

Pixels count from 1 (the benchmark is a MATLAB kit).
"""

from __future__ import annotations

from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation import dataset_files
from vision_mem.evaluation.file_tree import FileTree, read_text
from vision_mem.evaluation.sot.datasets.truth import boxes_from, compare_counts, flagged_names
from vision_mem.evaluation.sot.records import Benchmark, SotSequence

ATTRIBUTE_ORDER = (
    "SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB",
)  # fmt: skip
"""The flags of an ``anno/UAV123/att/NAME.txt`` file."""

_EXPECTED = (
    "anno/UAV123/NAME.txt and data_seq/UAV123/NAME/ with images; or NAME/ with images and "
    "groundtruth.txt"
)
_FULL = 123

# Tracks that are a part of a folder: first and last image (configSeqs.m of the kit, as pytracking
# repeats it; the same ranges divided by three are in the lists of UAV123@10fps).
_PARTS = """
bird1 1-253 775-1477 1573-2437; car1 1-751 751-1627 1627-2629; car16 1-415 415-1993;
car6 1-487 487-1807 1807-2953 2953-3925 3925-4861; car8 1-1357 1357-2575;
group1 1-1333 1333-2515 2515-3925 3925-4873; group2 1-907 907-1771 1771-2683;
group3 1-1567 1567-2827 2827-4369 4369-5527; person12 1-601 601-1621;
person14 1-847 847-1813 1813-2923; person17 1-1501 1501-2347;
person19 1-1243 1243-2791 2791-4357; person2 1-1189 1189-2623; person4 1-1501 1501-2743;
person5 1-877 877-2101; person7 1-1249 1249-2065; person8 1-1075 1075-1525;
truck4 1-577 577-1261; uav1 1-1555 1555-2377 2473-3469
"""


def frame_ranges() -> dict[str, tuple[str, int, int]]:
    """Folder, first and last image of each track that is a part of a folder."""
    found = {}
    for entry in _PARTS.replace("\n", " ").split(";"):
        folder, *parts = entry.split()
        for number, part in enumerate(parts, start=1):
            first, last = map(int, part.split("-"))
            found[f"{folder}_{number}"] = (folder, first, last)
    return found


def open_uav123(root: Path, *, need_frames: bool) -> Benchmark:
    """The tracks that have truth here."""
    place = root if (root / "anno").is_dir() else root / "UAV123"
    anno = dataset_files.first_folder(place / "anno" / "UAV123", place / "anno")
    notes: list[str] = []
    if anno is None:
        sequences = _own_folders(root, need_frames, notes)
    else:
        sequences = _official(place, anno, need_frames, notes)
    if len(sequences) != _FULL:
        notes.append(f"{len(sequences)} tracks here; the full set has {_FULL}")
    return Benchmark("uav123", "UAV123", "success", "uav", tuple(sequences), tuple(notes))


def _official(place: Path, anno: Path, need_frames: bool, notes: list[str]) -> list[SotSequence]:
    ranges = frame_ranges()
    images = dataset_files.first_folder(place / "data_seq" / "UAV123", place / "data_seq") or place
    sequences = []
    bare = []
    for name in dataset_files.natural(n.removesuffix(".txt") for n in FileTree(anno).names()):
        frames = dataset_files.frames_of(images / name)
        if not frames and name in ranges:
            folder, first, last = ranges[name]
            frames = dataset_files.numbered(dataset_files.frames_of(images / folder), first, last)
        if need_frames and not frames:
            bare.append(name)
            continue
        att = anno / "att" / f"{name}.txt"
        sequences.append(_sequence(name, frames, anno / f"{name}.txt", att, notes))
    if bare:
        notes.append(f"{len(bare)} tracks have no images in {images}, such as {bare[0]}")
    if not sequences:
        raise (
            InputError(f"{images} holds no images of the tracks in {anno}; unpack them there")
            if bare
            else dataset_files.no_sequences(anno, _EXPECTED)
        )
    return sequences


def _own_folders(root: Path, need_frames: bool, notes: list[str]) -> list[SotSequence]:
    """Copies with one folder a track."""
    if not root.is_dir():
        raise dataset_files.no_sequences(root, _EXPECTED)
    sequences = []
    for name, folder in dataset_files.folders_in(root).items():
        names = ("groundtruth.txt", "groundtruth_rect.txt", f"{name}.txt")
        truth = dataset_files.first_file(*(folder / each for each in names))
        if truth is None:
            continue
        frames = dataset_files.frames_of(folder)
        dataset_files.images_here(frames, folder, needed=need_frames)
        sequences.append(_sequence(name, frames, truth, folder / "att.txt", notes))
    if not sequences:
        raise dataset_files.no_sequences(root, _EXPECTED)
    return sequences


def _sequence(
    name: str, frames: tuple[Path, ...], truth: Path, att: Path, notes: list[str]
) -> SotSequence:
    boxes = boxes_from(truth)
    compare_counts(name, len(frames), len(boxes), notes)
    attributes: tuple[str, ...] = ()
    if att.is_file():
        attributes = flagged_names(read_text(att), ATTRIBUTE_ORDER, att, notes)
    alias = name.removeprefix("uav_") if name.startswith("uav_") else f"uav_{name}"
    return SotSequence(name, frames, boxes, origin=1, attributes=attributes, aliases=(alias,))
