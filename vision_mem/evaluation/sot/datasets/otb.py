"""OTB100, also called OTB-2015: 100 targets in 98 folders.

Pixels count from 1 (the benchmark is a MATLAB kit).
"""

from __future__ import annotations

from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import (
    folders_in,
    frames_of,
    missing_note,
    no_sequences,
    numbered,
    said,
)
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.sot.datasets.otb_lists import (
    ATTRIBUTES,
    FRAME_RANGES,
    OMITTED,
    SECOND_TARGETS,
)
from vision_mem.evaluation.sot.datasets.truth import ATTRIBUTES as ATTRIBUTE_NAMES
from vision_mem.evaluation.sot.datasets.truth import check_first, compare_counts, read_boxes
from vision_mem.evaluation.sot.records import Benchmark, Sequence

_EXPECTED = "NAME/img/ with images and NAME/groundtruth_rect.txt"
# SAMURAI's copy calls it groundtruth.txt.
_TRUTH = ("groundtruth_rect", "groundtruth")


def open_otb(root: Path, *, need_frames: bool) -> Benchmark:
    """All targets whose folders are here; others with truth come after them."""
    if not root.is_dir():
        raise no_sequences(root, _EXPECTED)
    # Copies differ in capitals (david, Fleetface).
    folders = {name.lower(): folder for name, folder in folders_in(root).items()}
    notes: list[str] = []
    sequences: list[Sequence] = []
    used: set[Path] = set()
    for name in ATTRIBUTES:
        place = _place(name, folders)
        if place is not None:
            folder, truth = place
            used.add(folder)
            sequences.append(_sequence(name, folder, truth, need_frames, notes))
    official = [sequence.name for sequence in sequences]
    others = [
        (folder.name, folder, found)
        for folder in folders.values()
        if folder not in used and (found := _truth(folder, 0) or _truth(folder, 1)) is not None
    ]
    sequences += [_sequence(*other, need_frames, notes) for other in others]
    if not sequences:
        raise no_sequences(root, _EXPECTED)
    if others:
        listed = said([name for name, _, _ in others])
        notes.append(f"not in the official list of OTB100, but evaluated too: {listed}")
    notes += missing_note(list(ATTRIBUTES), official, "targets of OTB100")
    return Benchmark("otb100", "OTB100", "success", "otb", tuple(sequences), tuple(notes))


def _place(name: str, folders: dict[str, Path]) -> tuple[Path, Path] | None:
    """Folder and truth file of a target; None when they are not here."""
    shared, number = SECOND_TARGETS.get(name, (name, 0))
    for spelled in (name, name.replace("-", "_"), name.replace("-", ".")):
        folder = folders.get(spelled.lower())  # of its own, also for second targets
        if folder is not None:
            truth = _truth(folder, number) or _truth(folder, 0)
            return None if truth is None else (folder, truth)
    folder = folders.get(shared.lower())
    truth = None if folder is None else _truth(folder, number)
    return None if folder is None or truth is None else (folder, truth)


def _truth(folder: Path, number: int) -> Path | None:
    end = f".{number}.txt" if number else ".txt"
    paths = (folder / (stem + end) for stem in _TRUTH)
    return next((path for path in paths if path.is_file()), None)


def _sequence(
    name: str, folder: Path, truth: Path, need_frames: bool, notes: list[str]
) -> Sequence:
    boxes, _ = read_boxes(read_text(truth), truth)
    frames = frames_of(folder)
    if need_frames and not frames:
        raise InputError(f"{folder / 'img'} holds no images; unpack the benchmark's images there")
    if name in FRAME_RANGES and len(frames) != len(boxes):
        # Copies that hold just the frames that count may number them anew.
        frames = numbered(frames, *FRAME_RANGES[name]) or frames
    omitted = OMITTED.get(name, 0)
    if omitted >= len(boxes) or (frames and len(frames) != len(boxes)):
        omitted = 0  # a copy cut already
    boxes, frames = boxes[omitted:], frames[omitted:]
    check_first(boxes, truth, line=omitted + 1)
    compare_counts(name, len(frames), len(boxes), notes)
    letters = _letters(name, folder)
    attributes = tuple(ATTRIBUTE_NAMES[each] for each in letters if each in ATTRIBUTE_NAMES)
    aliases = {name.replace("-", "_"), name.replace("-", ".")} - {name}
    return Sequence(
        name,
        frames,
        boxes,
        origin=1,
        attributes=attributes,
        aliases=tuple(sorted(aliases)),
        omitted=omitted,
    )


def _letters(name: str, folder: Path) -> tuple[str, ...]:
    """Attribute letters from the folder's ``attrs.txt`` if it has one, else from the list."""
    path = folder / "attrs.txt"
    if path.is_file():
        return tuple(letter.strip().upper() for letter in read_text(path).split(","))
    return ATTRIBUTES.get(name, ())
