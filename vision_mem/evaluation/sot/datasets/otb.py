"""OTB100, also called OTB-2015: 100 targets in 98 folders.

Pixels count from 1 (the benchmark is a MATLAB kit).
"""

from __future__ import annotations

from pathlib import Path

from vision_mem.evaluation import dataset_files
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.sot.datasets.truth import ATTRIBUTES as ATTRIBUTE_NAMES
from vision_mem.evaluation.sot.datasets.truth import check_first, compare_counts, read_boxes
from vision_mem.evaluation.sot.records import Benchmark, SotSequence

_ATTRIBUTES = """
Basketball: IV OCC DEF OPR BC; Biker: SV OCC MB FM OPR OV LR; Bird1: DEF FM OV;
Bird2: OCC DEF FM IPR OPR; BlurBody: SV DEF MB FM IPR; BlurCar1: MB FM; BlurCar2: SV MB FM;
BlurCar3: MB FM; BlurCar4: MB FM; BlurFace: MB FM IPR; BlurOwl: SV MB FM IPR;
Board: SV MB FM OPR OV BC; Bolt: OCC DEF IPR OPR; Bolt2: DEF BC;
Box: IV SV OCC MB IPR OPR OV BC LR; Boy: SV MB FM IPR OPR; Car1: IV SV MB FM BC LR;
Car2: IV SV MB FM BC; Car24: IV SV BC; Car4: IV SV; CarDark: IV BC; CarScale: SV OCC FM IPR OPR;
ClifBar: SV OCC MB FM IPR OV BC; Coke: IV OCC FM IPR OPR BC; Couple: SV DEF FM OPR BC;
Coupon: OCC BC; Crossing: SV DEF FM OPR BC; Crowds: IV DEF BC; Dancer: SV DEF IPR OPR;
Dancer2: DEF; David: IV SV OCC DEF MB IPR OPR; David2: IPR OPR; David3: OCC DEF OPR BC;
Deer: MB FM IPR BC LR; Diving: SV DEF IPR; Dog: SV DEF OPR; Dog1: SV IPR OPR;
Doll: IV SV OCC IPR OPR; DragonBaby: SV OCC MB FM IPR OPR OV; Dudek: SV OCC DEF FM IPR OPR OV BC;
FaceOcc1: OCC; FaceOcc2: IV OCC IPR OPR; Fish: IV; FleetFace: SV DEF MB FM IPR OPR;
Football: OCC IPR OPR BC; Football1: IPR OPR BC; Freeman1: SV IPR OPR; Freeman3: SV IPR OPR;
Freeman4: SV OCC IPR OPR; Girl: SV OCC IPR OPR; Girl2: SV OCC DEF MB OPR; Gym: SV DEF IPR OPR;
Human2: IV SV MB OPR; Human3: SV OCC DEF OPR BC; Human4-2: IV SV OCC DEF; Human5: SV OCC DEF;
Human6: SV OCC DEF FM OPR OV; Human7: IV SV OCC DEF MB FM; Human8: IV SV DEF;
Human9: IV SV DEF MB FM; Ironman: IV SV OCC MB FM IPR OPR OV BC LR; Jogging-1: OCC DEF OPR;
Jogging-2: OCC DEF OPR; Jump: SV OCC DEF MB FM IPR OPR; Jumping: MB FM; KiteSurf: IV OCC IPR OPR;
Lemming: IV SV OCC FM OPR OV; Liquor: IV SV OCC MB FM OPR OV BC; Man: IV;
Matrix: IV SV OCC FM IPR OPR BC; Mhyang: IV DEF OPR BC; MotorRolling: IV SV MB FM IPR BC LR;
MountainBike: IPR OPR BC; Panda: SV OCC DEF IPR OPR OV LR; RedTeam: SV OCC IPR OPR LR;
Rubik: SV OCC IPR OPR; Shaking: IV SV IPR OPR BC; Singer1: IV SV OCC OPR;
Singer2: IV DEF IPR OPR BC; Skater: SV DEF IPR OPR; Skater2: SV DEF FM IPR OPR;
Skating1: IV SV OCC DEF OPR BC; Skating2-1: SV OCC DEF FM OPR; Skating2-2: SV OCC DEF FM OPR;
Skiing: IV SV DEF IPR OPR; Soccer: IV SV OCC MB FM IPR OPR BC; Subway: OCC DEF BC;
Surfer: SV FM IPR OPR LR; Suv: OCC IPR OV; Sylvester: IV IPR OPR;
Tiger1: IV OCC DEF MB FM IPR OPR; Tiger2: IV OCC DEF MB FM IPR OPR OV; Toy: SV FM IPR OPR;
Trans: IV SV OCC DEF; Trellis: IV SV IPR OPR BC; Twinnings: SV OPR; Vase: SV FM IPR;
Walking: SV OCC DEF; Walking2: SV OCC LR; Woman: IV SV OCC DEF MB FM OPR
"""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    name.strip(): tuple(letters.split())
    for name, _, letters in (
        entry.partition(":") for entry in _ATTRIBUTES.replace("\n", " ").split(";")
    )
}
"""Attribute letters by target, in the order of the official list."""

SECOND_TARGETS: dict[str, tuple[str, int]] = {
    "Human4-2": ("Human4", 2),
    "Jogging-1": ("Jogging", 1),
    "Jogging-2": ("Jogging", 2),
    "Skating2-1": ("Skating2", 1),
    "Skating2-2": ("Skating2", 2),
}
"""Targets in folders with several: the folder, and the number of the truth file there."""

FRAME_RANGES: dict[str, tuple[int, int]] = {
    "BlurCar1": (247, 988),
    "BlurCar3": (3, 359),
    "BlurCar4": (18, 397),
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
}
"""First and last image of targets whose truth does not cover all images of the folder."""

OMITTED: dict[str, int] = {"Tiger1": 5}
"""Frames, and rows of truth, that are left out in front."""


_EXPECTED = "NAME/img/ with images and NAME/groundtruth_rect.txt"
# SAMURAI's copy calls it groundtruth.txt.
_TRUTH = ("groundtruth_rect", "groundtruth")


def open_otb(root: Path, *, need_frames: bool) -> Benchmark:
    """All targets whose folders are here; others with truth come after them."""
    if not root.is_dir():
        raise dataset_files.no_sequences(root, _EXPECTED)
    # Copies differ in capitals (david, Fleetface).
    folders = {name.lower(): folder for name, folder in dataset_files.folders_in(root).items()}
    notes: list[str] = []
    sequences: list[SotSequence] = []
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
        raise dataset_files.no_sequences(root, _EXPECTED)
    if others:
        listed = dataset_files.said([name for name, _, _ in others])
        notes.append(f"not in the official list of OTB100, but evaluated too: {listed}")
    notes += dataset_files.missing_note(list(ATTRIBUTES), official, "targets of OTB100")
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
    return dataset_files.first_file(*(folder / (stem + end) for stem in _TRUTH))


def _sequence(
    name: str, folder: Path, truth: Path, need_frames: bool, notes: list[str]
) -> SotSequence:
    boxes, _ = read_boxes(read_text(truth), truth)
    frames = dataset_files.frames_of(folder)
    dataset_files.images_here(frames, folder / "img", needed=need_frames)
    if name in FRAME_RANGES and len(frames) != len(boxes):
        # Copies that hold just the frames that count may number them anew.
        frames = dataset_files.numbered(frames, *FRAME_RANGES[name]) or frames
    omitted = OMITTED.get(name, 0)
    if omitted >= len(boxes) or (frames and len(frames) != len(boxes)):
        omitted = 0  # a copy cut already
    boxes, frames = boxes[omitted:], frames[omitted:]
    check_first(boxes, truth, line=omitted + 1)
    compare_counts(name, len(frames), len(boxes), notes)
    letters = _letters(name, folder)
    attributes = tuple(ATTRIBUTE_NAMES[each] for each in letters if each in ATTRIBUTE_NAMES)
    aliases = {name.replace("-", "_"), name.replace("-", ".")} - {name}
    return SotSequence(
        name, frames, boxes, origin=1, attributes=attributes, aliases=tuple(sorted(aliases)),
        omitted=omitted,
    )  # fmt: skip


def _letters(name: str, folder: Path) -> tuple[str, ...]:
    """Attribute letters from the folder's ``attrs.txt`` if it has one, else from the list."""
    path = folder / "attrs.txt"
    if path.is_file():
        return tuple(letter.strip().upper() for letter in read_text(path).split(","))
    return ATTRIBUTES.get(name, ())
