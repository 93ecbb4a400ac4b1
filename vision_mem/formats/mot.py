"""Text files of many objects' boxes: KITTI tracking labels and MOTChallenge lines.

``read_*`` refuse a file that official scorers refuse, naming the line; ``check_*`` list
everything that is wrong with it.

Source:
    KITTI tracking development kit; MOT16 (arXiv 1603.00831), section 3; TrackEval 1.3.0 for what
    is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.formats.track_rows import (
    Findings,
    TrackRows,
    check_duplicates,
    check_frames,
    lister,
    track_rows,
    whole,
)
from vision_mem.text import shown

KITTI_CLASSES: Mapping[str, int] = {
    "car": 1, "van": 2, "truck": 3, "pedestrian": 4, "person": 5, "person_sitting": 5,
    "cyclist": 6, "tram": 7, "misc": 8, "dontcare": 9,
}  # fmt: skip
"""Types of KITTI labels in small letters, and the numbers ``TrackRows.classes`` has for them."""

DONT_CARE = 9
"""The number of regions where nothing is counted."""

_LARGEST = 1e9
_KITTI_FIELDS = (17, 18)


@dataclass(frozen=True)
class MotLayout:
    """Where the years of MOTChallenge differ.

    Attributes:
        title: as people call the set.
        classes: the eighth column of the truth is a class, 1 to this; 0: it is none (MOT15).
    """

    title: str
    classes: int


MOT17 = MotLayout("MOT17", 13)
MOT15 = MotLayout("MOT15", 0)

_MOT_FIRST_FRAME = 1
_MOT_FIELDS = "frame,id,left,top,width,height,confidence"
_MOT_WIDTHS = (7, 8, 9, 10)


def read_kitti_labels(text: str, where: str | Path, *, frames: int | None = None) -> TrackRows:
    """Read KITTI tracking labels, truth or results.

    A line is frame (from 0), id, type, truncated, occluded, angle, box as left, top, right,
    bottom, seven numbers about 3D, and for results a score.

    Args:
        text: what the file holds.
        where: the file, for messages.
        frames: how many the sequence has; None: any.

    Returns:
        The rows; ids below 0 are left out but for ``DontCare``.

    Raises:
        InputError: for lines that cannot be read, types KITTI has not, frames that are not there,
            ids that stand twice in a frame and class; with the line.
    """
    found = Findings(str(where))
    rows = _parse_kitti(text, found, frames)
    found.refuse()
    return rows


def read_mot_text(
    text: str,
    where: str | Path,
    layout: MotLayout = MOT17,
    *,
    truth: bool = False,
    frames: int | None = None,
) -> TrackRows:
    """Read MOTChallenge lines, truth or results.

    A line is frame (from 1), id, left, top, width, height, confidence, and up to three numbers
    more: class and visibility in the truth from MOT16 on, else a place in the world or -1.
    Commas, spaces and tabs part them.

    Args:
        text: what the file holds.
        where: the file, for messages.
        layout: of which year.
        truth: the file is the truth: ``scores`` are its marks, 0 for rows that do not count.
        frames: how many the sequence has; None: any.

    Returns:
        The rows; the class is 1 where the file has none.

    Raises:
        InputError: for lines that cannot be read, frames that are not there, ids that stand twice
            in a frame, truth of classes that are none, results of other classes than 1; with the
            line.
    """
    found = Findings(str(where))
    rows = _parse_mot(text, found, layout, truth, frames)
    found.refuse()
    return rows


def _parse_kitti(text: str, found: Findings, frames: int | None = None) -> TrackRows:
    columns, numbers = [], []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) not in _KITTI_FIELDS:
            found.add(
                number, "format",
                f"{len(fields)} fields in {shown(line)}; expected 17, or 18 with a score",
            )  # fmt: skip
            continue
        frame, identity = whole(fields[0]), whole(fields[1])
        kind = KITTI_CLASSES.get(fields[2].lower())
        if kind is None:
            known = ", ".join(name for name in KITTI_CLASSES if name != "person_sitting")
            found.add(number, "class", f"type {shown(fields[2])} is none of KITTI's: {known}")
            continue
        values = [_real(field) for field in (*fields[3:5], *fields[6:10], *fields[17:])]
        if frame is None or identity is None or not all(map(math.isfinite, values)):
            found.add(number, "format", f"{shown(line)} is no label: a number cannot be read")
            continue
        if identity < 0 and kind != DONT_CARE:
            continue
        columns.append((frame, identity, kind, number))
        numbers.append((*values[:6], values[6] if len(values) > 6 else 1.0))
    table = np.array(numbers, np.float64).reshape(-1, 7)
    rows = track_rows(
        np.array(columns, np.int64).reshape(-1, 4),
        scores=table[:, 6],
        boxes=table[:, 2:6],
        levels=table[:, :2].astype(np.int64),
    )
    check_frames(found, rows, 0, frames)
    check_duplicates(found, rows, 0, rows.classes != DONT_CARE, by_class=True)
    _check_boxes(found, rows)
    return rows


def _parse_mot(
    text: str,
    found: Findings,
    layout: MotLayout = MOT17,
    truth: bool = False,
    frames: int | None = None,
) -> TrackRows:
    table, lines = _table(text.removeprefix("\ufeff"), found)
    kinds = np.ones(len(table), np.int64)
    if layout.classes:
        wrong = _classes(table, lines, kinds, layout, truth, found)
        table, lines, kinds = table[~wrong], lines[~wrong], kinds[~wrong]
    boxes = table[:, 2:6].copy()
    boxes[:, 2:] += boxes[:, :2]
    frame = table[:, 0].astype(np.int64) - _MOT_FIRST_FRAME
    columns = np.stack([frame, table[:, 1].astype(np.int64), kinds, lines], axis=1)
    rows = track_rows(columns, scores=table[:, 6], boxes=boxes)
    check_frames(found, rows, _MOT_FIRST_FRAME, frames)
    check_duplicates(found, rows, _MOT_FIRST_FRAME, np.ones(len(rows), dtype=bool))
    _check_boxes(found, rows)
    return rows


check_kitti_labels, check_mot_text = lister(_parse_kitti), lister(_parse_mot)
"""What is wrong with KITTI labels, and with MOTChallenge lines; arguments as of ``read_*``."""


def _classes(
    table: NDArray[np.float64],
    lines: NDArray[np.int64],
    kinds: NDArray[np.int64],
    layout: MotLayout,
    truth: bool,
    found: Findings,
) -> NDArray[np.bool_]:
    """Fill in the classes from the eighth column; which rows have one that is none."""
    said = table[:, 7]  # NaN where a line has no such column
    given = ~np.isnan(said)
    wrong: NDArray[np.bool_]
    if truth:
        wrong = ~given | (said != np.floor(said)) | (said < 1) | (said > layout.classes)
        expected = f"expected a class from 1 to {layout.classes} in column 8"
    else:
        # Results have -1 here, or the class: of people, the only one that is scored.
        wrong = given & (said >= 2)
        expected = "expected -1 or 1: only class 1, pedestrian, is scored"
    for row in np.flatnonzero(wrong):
        value = "no class" if np.isnan(said[row]) else f"class {said[row]:g}"
        found.add(lines[row], "class", f"{value}; {expected}")
    if truth:
        kinds[given & ~wrong] = said[given & ~wrong].astype(np.int64)
    return wrong


def _table(text: str, found: Findings) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """``(N, 10)`` numbers of the good lines, NaN where a line is shorter, and their places."""
    placed = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    lines = np.array([number for number, _ in placed], np.int64)
    if not placed:
        return np.empty((0, 10)), lines
    try:
        plain = [line.replace(",", " ") for _, line in placed]
        values = np.loadtxt(plain, dtype=np.float64, comments=None, ndmin=2)
    except ValueError:
        values = np.empty((0, 0))
    table = np.full((len(placed), 10), np.nan)
    if len(values) == len(placed) and values.shape[1] in _MOT_WIDTHS and _sound(values):
        table[:, : values.shape[1]] = values
        return table, lines
    good = np.zeros(len(placed), dtype=bool)
    for index, (number, line) in enumerate(placed):
        fields = line.replace(",", " ").split()
        row = np.array([_real(field) for field in fields])
        if len(fields) not in _MOT_WIDTHS:
            found.add(
                number, "format",
                f"{len(fields)} numbers in {shown(line)}; expected 7 to 10: {_MOT_FIELDS}, ...",
            )  # fmt: skip
        elif not _sound(row[None]):
            found.add(
                number, "format",
                f"{shown(line)} is no row of numbers that begins {_MOT_FIELDS}; frame and id are "
                "whole, id is 0 or above",
            )  # fmt: skip
        else:
            table[index, : len(row)] = row
            good[index] = True
    return table[good], lines[good]


def _sound(values: NDArray[np.float64]) -> bool:
    """Whether all are numbers, frames and ids whole, ids not negative."""
    if not np.isfinite(values).all() or (np.abs(values) > _LARGEST).any():
        return False
    head = values[:, :2]
    return bool((head == np.floor(head)).all() and (head[:, 1] >= 0).all())


def _real(text: str) -> float:
    """A number; NaN for anything else, infinity and numbers beyond all pixels among them."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan
    return value if abs(value) <= _LARGEST else math.nan


def _check_boxes(found: Findings, rows: TrackRows) -> None:
    empty = (rows.boxes[:, 2:] <= rows.boxes[:, :2]).any(axis=1)
    for row in np.flatnonzero(empty):
        found.add(rows.lines[row], "box", "the box has no area: it matches nothing", fatal=False)
