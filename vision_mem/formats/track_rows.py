"""Rows of files that list many objects, as columns; and what can be wrong with such a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.rle import MaskRuns

MOST_DIGITS = 15
"""Whole numbers with more digits are refused: they would not be exact everywhere."""


@dataclass(frozen=True)
class TrackRecord:
    """One object on one frame, to be written.

    Attributes:
        object_id: 0 or above, the same for ever.
        class_id: 1 or above, what it is.
        score: in [0, 1].
        box: ``(4,)`` x1, y1, x2, y2 pixels, right and bottom exclusive; None where only the mask
            matters.
        mask: ``(H, W)`` bool; None where only the box matters.
    """

    object_id: int
    class_id: int
    score: float = 1.0
    box: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class TrackRows:
    """All rows of one sequence, in the order of the file.

    Attributes:
        frames: ``(N,)`` int64, from 0 whatever the file counts from.
        ids: ``(N,)`` int64, as in the file.
        classes: ``(N,)`` int64.
        scores: ``(N,)`` float64; 1 where the file has none.
        boxes: ``(N, 4)`` float64 x1, y1, x2, y2 pixels, right and bottom exclusive; of files of
            masks the bounds of the masks.
        lines: ``(N,)`` int64, where in the file, from 1; 0 for images.
        masks: the masks of files of masks, else None.
        truncated: ``(N,)`` int64, KITTI's levels; zeros elsewhere.
        occluded: ``(N,)`` int64, KITTI's levels; zeros elsewhere.
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    lines: NDArray[np.int64]
    masks: MaskRuns | None
    truncated: NDArray[np.int64]
    occluded: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frames)

    def by_frame(self, count: int) -> list[NDArray[np.int64]]:
        """Row numbers of each frame, in the order of the file.

        Args:
            count: frames; rows of later ones are left out.
        """
        order = np.argsort(self.frames, kind="stable")
        edges = np.searchsorted(self.frames[order], np.arange(count + 1))
        return [order[a:b] for a, b in pairwise(edges.tolist())]

    def record(self, row: int) -> TrackRecord:
        """One row as a record."""
        return TrackRecord(
            int(self.ids[row]),
            int(self.classes[row]),
            float(self.scores[row]),
            self.boxes[row].astype(np.float32),
            None if self.masks is None else self.masks.mask(row),
        )


def track_rows(
    columns: NDArray[np.int64],
    *,
    scores: NDArray[np.float64] | None = None,
    boxes: NDArray[np.float64] | None = None,
    masks: MaskRuns | None = None,
    levels: NDArray[np.int64] | None = None,
) -> TrackRows:
    """Make ``TrackRows`` from what a file has.

    Args:
        columns: ``(N, 4)`` frame from 0, id, class, line.
        scores: ``(N,)``; ones when left out.
        boxes: ``(N, 4)``; from the masks when left out.
        masks: N of them, or None.
        levels: ``(N, 2)`` truncated, occluded; zeros when left out.
    """
    count = len(columns)
    if boxes is None:
        boxes = np.zeros((count, 4)) if masks is None else masks.boxes()
    if levels is None:
        levels = np.zeros((count, 2), np.int64)
    return TrackRows(
        columns[:, 0], columns[:, 1], columns[:, 2],
        np.ones(count) if scores is None else scores,
        boxes, columns[:, 3], masks, levels[:, 0], levels[:, 1],
    )  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """Something wrong in a file.

    Attributes:
        where: the file.
        line: in it, from 1; 0 when it is about the whole file or an image.
        kind: ``format``, ``frame``, ``id``, ``class``, ``size``, ``rle``, ``empty``, ``box``,
            ``duplicate`` or ``overlap``.
        message: what, and what was expected.
        fatal: scorers refuse the file; otherwise they read it, and may count other than meant.
    """

    where: str
    line: int
    kind: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        place = f"{self.where}, line {self.line}" if self.line else self.where
        return f"{place}: {self.message}"


class Findings:
    """Problems found while a file is read; the first of many are kept.

    Args:
        where: the file.
        most: problems kept.
    """

    def __init__(self, where: str, most: int = 100) -> None:
        self.where = where
        self.most = most
        self._found: list[Problem] = []

    def add(
        self, line: int, kind: str, message: str, *, fatal: bool = True, where: str = ""
    ) -> None:
        """Note a problem."""
        # Twice as many as shown: a later check may find one that stands further up in the file.
        if len(self._found) < 2 * self.most or fatal:
            self._found.append(Problem(where or self.where, int(line), kind, message, fatal))
        if len(self._found) > 4 * self.most:
            self._found = self._sorted()[: 2 * self.most]

    def problems(self) -> list[Problem]:
        """The problems, those that are fatal first, in the order of the file."""
        return self._sorted()[: self.most]

    def refuse(self) -> None:
        """Raise the first fatal problem.

        Raises:
            InputError: when there is one.
        """
        for problem in self._sorted():
            if problem.fatal:
                raise InputError(str(problem))

    def _sorted(self) -> list[Problem]:
        return sorted(self._found, key=lambda each: (not each.fatal, each.where, each.line))


def lister(parse: Callable[..., object]) -> Callable[..., list[Problem]]:
    """A function that lists what is wrong with a file, and never raises.

    Args:
        parse: notes problems in its second argument, ``Findings``.

    Returns:
        A function of the same arguments with the file's name in the second place, and ``most``:
        problems listed.
    """

    def check(content: Any, where: str | Path, *more: Any, most: int = 100, **named: Any) -> Any:
        found = Findings(str(where), most)
        parse(content, found, *more, **named)
        return found.problems()

    return check


def whole(text: str) -> int | None:
    """A whole number as plain digits; None for anything else."""
    digits = text[1:] if text[:1] == "-" else text
    if digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS:
        return int(text)
    return None


def check_frames(found: Findings, rows: TrackRows, first_frame: int, frames: int | None) -> None:
    """Note rows of frames that the sequence does not have.

    Args:
        found: takes the problems.
        rows: of the file.
        first_frame: what the file calls the first frame.
        frames: how many the sequence has; None when unknown.
    """
    outside = rows.frames < 0
    if frames is not None:
        outside |= rows.frames >= frames
    for row in np.flatnonzero(outside):
        last = "" if frames is None else f" to {frames - 1 + first_frame}"
        expected = f"{first_frame}{last}" if last else f"{first_frame} and above"
        found.add(
            rows.lines[row], "frame",
            f"frame {rows.frames[row] + first_frame} is not in the sequence; expected {expected}",
        )  # fmt: skip


def check_duplicates(
    found: Findings, rows: TrackRows, first_frame: int, checked: NDArray[np.bool_],
    *, by_class: bool = False,
) -> None:  # fmt: skip
    """Note ids that stand twice in a frame.

    Args:
        found: takes the problems.
        rows: of the file.
        first_frame: what the file calls the first frame.
        checked: ``(N,)`` rows that count.
        by_class: the same id may stand once in each class.
    """
    keys: Sequence[NDArray[np.int64]] = (rows.ids, rows.frames)
    if by_class:
        keys = (rows.classes, *keys)
    index = np.flatnonzero(checked)
    order = index[np.lexsort([key[index] for key in keys])]
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    for place in np.flatnonzero(same):
        first, second = order[place], order[place + 1]
        found.add(
            rows.lines[second], "duplicate",
            f"id {rows.ids[second]} stands twice in frame {rows.frames[second] + first_frame}"
            f"{f', first in line {rows.lines[first]}' if rows.lines[first] else ''}",
        )  # fmt: skip
