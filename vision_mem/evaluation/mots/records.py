"""What benchmarks of many objects are made of: sequences, their truth, and how they are scored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation.file_tree import read_text
from vision_mem.formats.mot import (
    DONT_CARE,
    MOT15,
    MOT17,
    MotLayout,
    read_kitti_labels,
    read_mot_text,
)
from vision_mem.formats.mots import (
    IGNORED_CLASS,
    KITTI_MOTS,
    MOTS_CHALLENGE,
    MotsLayout,
    read_mots_pngs,
    read_mots_text,
)
from vision_mem.formats.track_rows import TrackRows, whole


@dataclass(frozen=True)
class MotRules:
    """How a set is scored, and what its files look like.

    Attributes:
        files: ``"mots"`` (masks), ``"kitti"`` (labels) or ``"mot"`` (lines of boxes).
        classes: what is scored: name to number.
        layout: of the files, for ``"mots"`` and ``"mot"``.
        distractors: classes, by that of ``classes`` they resemble: who finds one of them is
            neither right nor wrong.
        ignored: class of regions where nothing is counted; 0: there are none.
        all_classes: results are matched with truth of every class to find distractors (MOT).
        least_height: unmatched boxes up to this height are not counted, pixels; 0: all are.
        most_occluded: truth with a higher level is treated as a distractor.
        most_truncated: the same for truncation.

    Source:
        TrackEval 1.3.0: ``KittiMOTS``, ``MOTSChallenge``, ``Kitti2DBox``, ``MotChallenge2DBox``.
    """

    files: str
    classes: Mapping[str, int]
    layout: MotsLayout | MotLayout | None = None
    distractors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ignored: int = 0
    all_classes: bool = False
    least_height: float = 0.0
    most_occluded: int | None = None
    most_truncated: int | None = None

    @property
    def masks(self) -> bool:
        """Whether masks are compared; else boxes are."""
        return self.files == "mots"

    @property
    def first_frame(self) -> int:
        """What the set's files call the first frame."""
        if isinstance(self.layout, MotsLayout):
            return self.layout.first_frame
        return 1 if self.files == "mot" else 0


_MOT_DISTRACTORS = (2, 7, 8, 12)  # on a vehicle, static person, distractor, reflection

RULES: Mapping[str, MotRules] = {
    "kitti-mots": MotRules(
        "mots", {"car": 1, "pedestrian": 2}, layout=KITTI_MOTS, ignored=IGNORED_CLASS
    ),
    "mots-challenge": MotRules(
        "mots", {"pedestrian": 2}, layout=MOTS_CHALLENGE, ignored=IGNORED_CLASS
    ),
    "kitti-mot": MotRules(
        "kitti",
        {"car": 1, "pedestrian": 4},
        distractors={"car": (2,), "pedestrian": (5,)},  # van; sitting person
        ignored=DONT_CARE,
        least_height=25,
        most_occluded=2,
        most_truncated=0,
    ),
    "mot17": MotRules(
        "mot",
        {"pedestrian": 1},
        layout=MOT17,
        distractors={"pedestrian": _MOT_DISTRACTORS},
        all_classes=True,
    ),
    "mot20": MotRules(
        "mot",
        {"pedestrian": 1},
        layout=MotLayout("MOT20", 13),
        distractors={"pedestrian": (*_MOT_DISTRACTORS, 6)},  # and other vehicles
        all_classes=True,
    ),
    "mot15": MotRules("mot", {"pedestrian": 1}, layout=MOT15),
}
"""Rules by the word for a set."""


@dataclass(frozen=True)
class MotSequence:
    """One sequence; images and truth are files of the benchmark.

    Attributes:
        name: as in the benchmark's lists; also the stem of result files.
        length: frames.
        frames: image files in order; empty when only the truth is there.
        truth: a text file, a folder of MOTS PNG images, or None where it is kept secret.
        size: ``(height, width)`` of the images where the set says it.
        fps: frames a second.
        aliases: other stems result files may have (``MOT17-02`` for ``MOT17-02-FRCNN``).
    """

    name: str
    length: int
    frames: tuple[Path, ...]
    truth: Path | None
    size: tuple[int, int] | None = None
    fps: float = 10.0
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class MotBenchmark:
    """A set of sequences.

    Attributes:
        key: the word on the command line.
        title: as papers write it.
        rules: how it is scored.
        sequences: in the order of the set's list.
        notes: what was found odd in this copy, one line each, for the user to read.
    """

    key: str
    title: str
    rules: MotRules
    sequences: tuple[MotSequence, ...]
    notes: tuple[str, ...] = ()


def read_truth(sequence: MotSequence, rules: MotRules) -> TrackRows:
    """The truth of a sequence.

    Raises:
        InputError: when it is not there or damaged, with the line.
    """
    path = sequence.truth
    if path is None:
        raise InputError(
            f"the truth of {sequence.name} is not here; test sequences are scored by the set's "
            "server"
        )
    if path.is_dir():
        layout = rules.layout
        assert isinstance(layout, MotsLayout), "only sets of masks have images for truth"
        images = numbered_pngs(path)
        return read_mots_pngs(images, path, layout, frames=sequence.length, size=sequence.size)
    return parse_rows(read_text(path), path, rules, sequence.length, sequence.size, truth=True)


def parse_rows(
    text: str,
    where: str | Path,
    rules: MotRules,
    frames: int,
    size: tuple[int, int] | None,
    *,
    truth: bool = False,
) -> TrackRows:
    """Rows of a text file in the format of a set; ``where`` names it, ``size`` is (height, width).

    Raises:
        InputError: for what official scorers refuse, with the line.
    """
    if rules.files == "kitti":
        return read_kitti_labels(text, where, frames=frames)
    if isinstance(rules.layout, MotsLayout):
        return read_mots_text(text, where, rules.layout, frames=frames, size=size)
    assert rules.layout is not None, "lines of boxes have a layout"
    return read_mot_text(text, where, rules.layout, truth=truth, frames=frames)


def last_frame(truth: Path, name: str, notes: list[str]) -> int:
    """The number of the last frame with truth, a text file or a folder of MOTS PNG images."""
    if truth.is_dir():
        return max(number for number, _ in numbered_pngs(truth))
    notes.append(f"{name}: nothing says how many frames there are; took those up to the last truth")
    heads = (
        re.split(r"[,\s]", line.strip(), maxsplit=1)[0] for line in read_text(truth).splitlines()
    )
    return max((value for head in heads if (value := whole(head)) is not None), default=0)


def numbered_pngs(folder: Path) -> list[tuple[int, Path]]:
    """PNG files of a folder whose stem is a number, with the number, in order."""
    try:
        found = [
            (int(path.stem), path)
            for path in folder.iterdir()
            if path.suffix.lower() == ".png" and path.stem.isascii() and path.stem.isdigit()
        ]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{folder} cannot be listed: {reason}") from None
    return sorted(found)
