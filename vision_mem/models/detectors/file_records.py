"""What detection files are made of, whatever their format: objects with frame and line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.rle import MaskRuns

MOST_LINE = 1 << 26
"""Characters; a longer line is no detection's."""
_FIELD_SHOWN = 40

BOX_FORMATS = ("xyxy", "xywh")
SCORES: Mapping[str, Callable[[float], float]] = {
    "unit": lambda score: score,
    "percent": lambda score: score / 100.0,
    "sigmoid": lambda score: float(1.0 / (1.0 + np.exp(-np.clip(score, -60.0, 60.0)))),
}
"""What a file's scores are, and how they become 0 to 1."""


@dataclass(frozen=True)
class Found:
    """One object on one frame, as a file says it.

    Attributes:
        frame: from 0.
        line: of the file, from 1; 0 where the format has no lines.
        box: ``(x1, y1, x2, y2)`` pixels, finite, with a size.
        score: 0 to 1.
        label: class number.
        mask: run lengths; or outlines ``(k, 2)`` in pixels, to be drawn at the frame's size.
        embedding: ``(d,)`` or None.
    """

    frame: int
    line: int
    box: tuple[float, float, float, float]
    score: float = 1.0
    label: int = 0
    mask: MaskRuns | tuple[NDArray[np.float32], ...] | None = None
    embedding: NDArray[np.float32] | None = None


@dataclass
class Reading:
    """One pass over a file: how to read it, and what was left out.

    Attributes:
        path: the file.
        box_format: ``"xyxy"`` or ``"xywh"``: what the four numbers of a box are.
        first_frame: number that the file gives to the video's first frame.
        scores: see ``SCORES``.
        strict: refuse unusable boxes instead of leaving them out.
        dropped: boxes left out, by reason.
    """

    path: Path
    box_format: str
    first_frame: int
    scores: str = "unit"
    strict: bool = False
    dropped: Counter[str] = field(default_factory=Counter)

    def where(self, line: int) -> str:
        """The place as messages call it."""
        return f"{self.path}, line {line}" if line else str(self.path)

    def fail(self, line: int, what: str) -> InputError:
        """The error for a line."""
        return InputError(f"{self.where(line)}: {what}")

    def number(self, text: Any, line: int, what: str) -> float:
        """A number, NaN and infinity included."""
        try:
            # float() also takes "1_000" and digits of other scripts, which no tool writes.
            if isinstance(text, str) and (not text.isascii() or "_" in text):
                raise ValueError
            if isinstance(text, bool):
                raise ValueError
            return float(text)
        except (TypeError, ValueError, OverflowError):
            raise self.fail(line, f"{shown(text)} is not a number; expected {what}") from None

    def whole(self, text: Any, line: int, what: str) -> int:
        """A whole number, as 3 or 3.0."""
        value = self.number(text, line, what)
        if not (abs(value) < 1e15 and value == round(value)):
            raise self.fail(line, f"{shown(text)} is not a whole number; expected {what}")
        return int(value)

    def frame(self, text: Any, line: int) -> int:
        """A frame number, counted from 0.

        Raises:
            InputError: when it lies before the first frame.
        """
        number = self.whole(text, line, "a frame number")
        if number < self.first_frame:
            other = f"; if the file counts from {number}, say first={number}" if number >= 0 else ""
            raise self.fail(
                line,
                f"frame {number}, but frames are counted from {self.first_frame} here{other}",
            )
        return number - self.first_frame

    def box(self, values: Any, line: int) -> tuple[float, float, float, float] | None:
        """Corners of a box; None for one that is left out.

        Raises:
            InputError: for corners the wrong way round, and with ``strict`` for all that cannot be
                used.
        """
        a, b, c, d = (self.number(v, line, "four numbers for a box") for v in values)
        if self.box_format == "xywh":
            c, d = a + c, b + d
        with np.errstate(over="ignore"):  # judged as it will be kept, in single precision
            kept = np.array((a, b, c, d)).astype(np.float32)
        if not np.isfinite(kept).all():
            self._leave_out("not finite", line, values)
            return None
        if kept[2] > kept[0] and kept[3] > kept[1]:
            return a, b, c, d
        if self.box_format == "xyxy":
            raise self.fail(
                line,
                f"box {a:g} {b:g} {c:g} {d:g} has its right or bottom edge before its left or top "
                "one; expected x1 y1 x2 y2. If the columns are left, top, width and height, say "
                "box=xywh",
            )
        self._leave_out("without size", line, values)
        return None

    def _leave_out(self, reason: str, line: int, values: Any) -> None:
        if self.strict:
            raise self.fail(line, f"box {' '.join(map(str, values))} is {reason}")
        self.dropped[reason] += 1

    def score(self, text: Any, line: int) -> float:
        """A score, 0 to 1.

        Raises:
            InputError: for one that is not, with what may help.
        """
        value = self.number(text, line, "a score")
        score = SCORES[self.scores](value)
        if not -1e-3 <= score <= 1 + 1e-3:  # NaN fails too
            raise self.fail(
                line,
                f"score {value:g}; expected 0 to 1. For percentages say scores=percent, for "
                "logits scores=sigmoid",
            )
        return min(max(score, 0.0), 1.0)


def shown(value: Any) -> str:
    """A value as messages show it, cut to a length."""
    text = repr(value)
    return text if len(text) <= _FIELD_SHOWN else text[: _FIELD_SHOWN - 3] + "..."


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1.

    UTF-8, or UTF-16 where it says so; other bytes become replacement signs.

    Raises:
        InputError: no such file, not readable, or a line no text file has.
    """
    try:
        with path.open("rb") as file:
            # Files written by "> file" in some shells of Windows are UTF-16.
            wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
        encoding = "utf-16" if wide else "utf-8-sig"
        with path.open(encoding=encoding, errors="replace") as text:
            number = 0
            while line := text.readline(MOST_LINE):
                number += 1
                if len(line) == MOST_LINE:
                    raise InputError(f"{path}, line {number}: too long for a file of detections")
                if line.strip():
                    yield number, line.strip()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path of the detections") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; expected a file of detections") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}") from None
