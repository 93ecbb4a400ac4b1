"""LaSOT and LaSOT_ext: the benchmarks' own folders, and the truth of the evaluation toolkit.

Pixels count from 1: the sets were made with MATLAB (H. Fan et al., LaSOT, CVPR 2019, and IJCV
2021), and no visible box of the test set begins at 0, while 21,277 begin at y = 1.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation import dataset_files
from vision_mem.evaluation.file_tree import FileTree, read_text
from vision_mem.evaluation.sot.datasets.truth import (
    boxes_from,
    check_first,
    compare_counts,
    fit_flags,
    flagged_names,
    read_boxes,
    read_flags,
)
from vision_mem.evaluation.sot.records import Benchmark, SotSequence

ATTRIBUTE_ORDER = (
    "IV", "POC", "DEF", "MB", "CM", "ROT", "BC", "VC", "SV", "FOC", "FM", "OV", "LR", "ARC",
)  # fmt: skip
"""The flags of an ``att/NAME.txt`` file (LaSOT_Evaluation_Toolkit, its main script)."""

TRUTH_ARCHIVE = "groundtruth.zip"
_LIST = "testing_set.txt"
_LISTS = (_LIST, f"sequence_evaluation_config/{_LIST}")

# The 280 test sequences of protocol II, in the order of testing_set.txt.
_TEST = """
airplane 1 9 13 15; basketball 1 6 7 11; bear 2 4 6 17; bicycle 2 7 9 18; bird 2 3 15 17;
boat 3 4 12 17; book 3 10 11 19; bottle 1 12 14 18; bus 2 5 17 19; car 2 6 9 17; cat 1 3 18 20;
cattle 2 7 12 13; spider 14 16 18 20; coin 3 6 7 18; crab 3 6 12 18; surfboard 12 4 5 8;
cup 1 4 7 17; deer 4 8 10 14; dog 1 7 15 19; guitar 3 8 10 16; person 1 5 10 12; pig 2 10 13 18;
rubicCube 1 6 14 19; swing 10 14 17 20; drone 13 15 2 7; pool 12 15 3 7; rabbit 10 13 17 19;
racing 10 15 16 20; robot 1 19 5 8; sepia 13 16 6 8; sheep 3 5 7 9; skateboard 16 19 3 8;
tank 14 16 6 9; tiger 12 18 4 6; train 1 11 20 7; truck 16 3 6 7; turtle 16 5 8 9;
umbrella 17 19 2 9; yoyo 15 17 19 7; zebra 10 14 16 17; elephant 1 12 16 18; goldfish 3 7 8 10;
hat 1 2 5 18; kite 4 6 10 15; motorcycle 1 3 9 18; mouse 1 8 9 17; flag 3 9 5 2; frog 3 4 20 9;
gametarget 1 2 7 13; hand 2 3 9 16; helmet 5 11 19 13; licenseplate 6 12 13 15;
electricfan 1 10 18 20; chameleon 3 6 11 20; crocodile 3 4 10 14; gecko 1 5 16 19; fox 2 3 5 20;
giraffe 2 10 13 15; gorilla 4 6 9 13; hippo 1 7 9 20; horse 1 4 12 15; kangaroo 2 5 11 14;
leopard 1 7 16 20; lion 1 5 12 20; lizard 1 3 6 13; microphone 2 6 14 16; monkey 3 4 9 17;
shark 2 3 5 6; squirrel 8 11 13 19; volleyball 1 13 18 19
"""

EXPECTED = (
    "CLASS/CLASS-N/ or CLASS-N/ with img/ and groundtruth.txt; or for scoring the toolkit's "
    f"annos/ folder, or {TRUTH_ARCHIVE}"
)


def test_names() -> list[str]:
    """Names of the official test set of LaSOT."""
    classes = (entry.split() for entry in _TEST.replace("\n", " ").split(";"))
    return [f"{kind}-{number}" for kind, *numbers in classes for number in numbers]


def _open(key: str, title: str, tag: str, root: Path, *, need_frames: bool) -> Benchmark:
    notes: list[str] = []
    if root.is_file():
        files, listed = FileTree(root), dataset_files.first_list(root.parent / _LIST)
    elif (root / TRUTH_ARCHIVE).is_file():
        files, listed = FileTree(root / TRUTH_ARCHIVE), dataset_files.first_list(root / _LIST)
    else:
        files, listed = None, dataset_files.first_list(*(root / name for name in _LISTS))
        if root.is_dir() and not _sequence_folders(root):
            files = FileTree(root)
    if files is None:
        folders = _sequence_folders(root)
        names = _chosen(list(folders), listed, key, root, notes)
        sequences = [_from_folder(name, folders[name], need_frames, notes) for name in names]
    else:
        with files:
            sequences = _from_toolkit(files, listed, key, need_frames, notes)
    return Benchmark(key, title, "success", tag, tuple(sequences), tuple(notes))


open_lasot = partial(_open, "lasot", "LaSOT", "lasot")
"""LaSOT's test set: the sequences of ``testing_set.txt``, else those of the official list."""
open_lasot_ext = partial(_open, "lasot-ext", "LaSOT_ext", "lasot_extension_subset")
"""LaSOT_ext: all its sequences (150 in a full copy)."""


def _chosen(
    found: list[str], listed: list[str] | None, key: str, root: Path, notes: list[str]
) -> list[str]:
    """Which of the sequences found are evaluated, in the order of the list."""
    if not found:
        raise dataset_files.no_sequences(root, EXPECTED)
    if listed is None and key != "lasot":
        return found
    return dataset_files.chosen_names(found, listed, test_names(), _LIST, root, notes)


def _sequence_folders(root: Path) -> dict[str, Path]:
    """Folders with a ``groundtruth.txt``, directly in ``root`` or one class below."""
    if not root.is_dir():
        raise dataset_files.no_sequences(root, EXPECTED)
    found = {}
    for name, folder in dataset_files.folders_in(root).items():
        if (folder / "groundtruth.txt").is_file():
            found[name] = folder
        elif name not in ("annos", "absent", "att"):
            for inner, path in dataset_files.folders_in(folder).items():
                # Only CLASS/CLASS-N, so that other things kept beside do not get in.
                named = re.fullmatch(rf"{re.escape(name)}-\d+", inner)
                if named and (path / "groundtruth.txt").is_file():
                    found[inner] = path
    return found


def _from_folder(name: str, folder: Path, need_frames: bool, notes: list[str]) -> SotSequence:
    boxes = boxes_from(folder / "groundtruth.txt")
    hidden: NDArray[np.bool_] | None = None
    for kind in ("full_occlusion", "out_of_view"):
        path = folder / f"{kind}.txt"
        if path.is_file():
            flags = fit_flags(read_flags(read_text(path), path), len(boxes), name, kind, notes)
            hidden = flags if hidden is None else hidden | flags
    frames = dataset_files.images_in(folder / "img") or dataset_files.images_in(folder)
    dataset_files.images_here(frames, folder / "img", needed=need_frames)
    compare_counts(name, len(frames), len(boxes), notes)
    visible = None if hidden is None else ~hidden
    return SotSequence(name, frames, boxes, origin=1, visible=visible)


def _from_toolkit(
    files: FileTree, listed: list[str] | None, key: str, need_frames: bool, notes: list[str]
) -> list[SotSequence]:
    """Truth only: ``annos/NAME.txt``, ``absent/NAME.txt``, ``att/NAME.txt``."""
    for folder in ("annos", "anno", ""):
        found = dataset_files.natural(
            n for n in files.names(folder) if re.fullmatch(r".+-\d+\.txt", n)
        )
        if found:
            break
    else:
        raise dataset_files.no_sequences(files.root, EXPECTED)
    if need_frames:
        raise InputError(
            f"{files.root} holds the truth of {len(found)} sequences but no images; tracking "
            "needs the benchmark's own folder (scoring result files does not)"
        )
    for name in _LISTS:
        if listed is None and files.has(name):
            listed = dataset_files.read_names(files.text(name), files.where(name))
    prefix = f"{folder}/" if folder else ""
    stems = [name.removesuffix(".txt") for name in found]
    sequences = []
    for name in _chosen(stems, listed, key, files.root, notes):
        truth = f"{prefix}{name}.txt"
        boxes, _ = read_boxes(files.text(truth), files.where(truth))
        check_first(boxes, files.where(truth))
        visible = None
        if path := _beside(files, prefix, "absent", name):
            flags = read_flags(files.text(path), files.where(path))
            visible = ~fit_flags(flags, len(boxes), name, "absence", notes)
        attributes: tuple[str, ...] = ()
        if path := _beside(files, prefix, "att", name):
            where = files.where(path)
            attributes = flagged_names(files.text(path), ATTRIBUTE_ORDER, where, notes)
        sequences.append(
            SotSequence(name, (), boxes, origin=1, visible=visible, attributes=attributes)
        )
    return sequences


def _beside(files: FileTree, prefix: str, kind: str, name: str) -> str | None:
    """A file about a sequence: ``annos/KIND/NAME.txt`` or ``KIND/NAME.txt``."""
    places = (f"{prefix}{kind}/{name}.txt", f"{kind}/{name}.txt")
    return next((place for place in places if files.has(place)), None)
