"""Camera paths as text: TUM (time, position, quaternion), KITTI (3x4 matrices), EuRoC's CSV.

TUM files have ``time x y z qx qy qz qw``, the real part last, as the benchmark defines it; those of
EuRoC have nanoseconds, and the real part first. A line of names above the rows decides.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, NotUsable
from vision_mem.formats.text import LineFile
from vision_mem.geometry.poses import (
    is_rigid,
    made_rigid,
    make_pose,
    quaternion_from,
    rotation_of,
)
from vision_mem.text import read_text

log = logging.getLogger(__name__)

FORMATS = ("tum", "kitti")
_LARGEST = 1 << 28


@dataclass(frozen=True)
class Trajectory:
    """Poses in order.

    Attributes:
        times: ``(N,)`` seconds; the row number for formats without time.
        poses: ``(N, 4, 4)`` float64 camera-to-world.
        rows: ``(N,)`` place of each among the rows of its file, from 0; rows that are no pose are
            left out. None: all are there, in order.
        total: rows of the file; None for N.
        timed: whether the file says times.
    """

    times: NDArray[np.float64]
    poses: NDArray[np.float64]
    rows: NDArray[np.int64] | None = None
    total: int | None = None
    timed: bool = True

    def __len__(self) -> int:
        return len(self.times)

    def by_row(self, count: int) -> list[NDArray[np.float64] | None] | None:
        """A pose, or None, for each of so many frames; None where the file has not as many rows."""
        if count != (len(self) if self.total is None else self.total):
            return None
        found: list[NDArray[np.float64] | None] = [None] * count
        for row, pose in zip(
            range(count) if self.rows is None else self.rows, self.poses, strict=True
        ):
            found[row] = pose
        return found


def pose_line(pose: NDArray[np.float64], time_s: float, form: str) -> str:
    """One pose as a line, without its end.

    Args:
        pose: ``(4, 4)`` camera-to-world.
        time_s: seconds; not used by ``kitti``.
        form: ``tum`` or ``kitti``.
    """
    if form == "kitti":
        return " ".join(f"{value:.9g}" for value in pose[:3].ravel())
    if form != "tum":
        raise InputError(f"trajectory format is {form!r}; expected one of {', '.join(FORMATS)}")
    w, x, y, z = quaternion_from(pose[:3, :3])
    numbers = " ".join(f"{value:.9g}" for value in (*pose[:3, 3], x, y, z, w))
    return f"{time_s:.6f} {numbers}"


class TrajectoryFile:
    """A path written pose by pose; each line is on disk when ``write`` returns.

    Args:
        path: the file.
        form: ``tum`` or ``kitti``.
        append: go on after the lines that are there.
        rows: with ``append``: lines that stay at most; what an interrupted run wrote after its
            last snapshot comes again.

    Raises:
        InputError: for another format.
        SinkError: when the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        form: str = "tum",
        *,
        append: bool = False,
        rows: int | None = None,
    ) -> None:
        pose_line(np.eye(4), 0.0, form)  # refuses another format before anything is opened
        self.form = form
        self._file = LineFile(Path(path), append=append)
        if append and rows is not None:
            self._file.keep(lambda number, line: number < rows)

    def write(self, pose: NDArray[np.float64], time_s: float) -> None:
        """Add a pose ``(4, 4)`` at ``time_s`` seconds."""
        self._file.write(pose_line(pose, time_s, self.form))

    def close(self) -> None:
        """Finish the file; safe to call twice."""
        self._file.close()


def read_numbers(path: str | Path, columns: int) -> list[tuple[int, list[float]]]:
    """Rows of numbers of a text file, with their line numbers.

    Args:
        path: the file; empty lines and those that begin with ``#`` are left out, commas and
            semicolons count as spaces.
        columns: numbers that a row must have.

    Raises:
        NotUsable: for a file that is not there, is no text, or has another row.
    """
    rows = []
    for number, line in _lines(Path(path)):
        values = _numbers(line)
        if line.startswith("#"):
            continue
        if values is None or len(values) != columns:
            raise _odd_row(Path(path), number, line, f"{columns} numbers")
        rows.append((number, values))
    return rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    try:
        text = read_text(path, most=_LARGEST)
    except InputError as error:
        raise NotUsable(str(error)) from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip(" \t,;"):
            yield number, line.strip()


def _numbers(line: str) -> list[float] | None:
    try:
        return [float(word) for word in _words(line)]
    except ValueError:
        return None


def _words(line: str) -> list[str]:
    return _SEPARATOR.split(line.strip(" \t,;"))


def _odd_row(path: Path, number: int, line: str, expected: str) -> NotUsable:
    return NotUsable(f"{path} line {number} is {line[:60]!r}; expected {expected}")


def read_trajectory(path: str | Path, form: str | None = None) -> Trajectory:
    """Read a path.

    Rows that are no pose (numbers that are not finite, a quaternion of zeros, a matrix that is no
    rotation, a last line cut short) are left out, and counted in one warning.

    Args:
        path: the file; a line of names may say which column is what.
        form: ``tum`` or ``kitti``; None looks at the first row.

    Returns:
        The poses, sorted by time.

    Raises:
        NotUsable: one line for a file that cannot be used.
    """
    path = Path(path)
    if form not in (None, *FORMATS):
        raise InputError(f"trajectory format is {form!r}; expected one of {', '.join(FORMATS)}")
    columns, rows, header = _rows(path, form)
    if not rows:
        raise NotUsable(f"{path} holds no poses; expected one a line (TUM, KITTI or EuRoC)")
    clock = -1 if columns is None else columns[0]
    stamps = [abs(values[clock]) for _, values in rows] if clock >= 0 else []
    unit = _unit(max(filter(np.isfinite, stamps), default=0.0), header)
    poses, times, kept = [], [], []
    first_odd = ""
    for row, (number, values) in enumerate(rows):
        time_s = values[clock] * unit if clock >= 0 else float(row)
        pose = _pose(values, columns)
        if pose is not None and np.isfinite(time_s):
            poses.append(made_rigid(pose))
            times.append(time_s)
            kept.append(row)
        else:
            first_odd = first_odd or f"line {number}"
    if not poses:
        why = "zeros, not finite, or no rotation"
        raise NotUsable(f"{path}: none of its rows is a pose ({first_odd}: {why})")
    if first_odd:
        log.warning(
            "%s: %d of %d rows are no rigid motion (%s is the first); those frames have no pose",
            path, len(rows) - len(kept), len(rows), first_odd,
        )  # fmt: skip
    order = np.argsort(times, kind="stable")
    if (np.diff(order) < 0).any():
        log.warning("%s: time stamps are out of order; sorted", path)
    return Trajectory(
        np.array(times)[order], np.stack(poses)[order], np.array(kept)[order], len(rows), clock >= 0
    )


_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
_UNITS = re.compile(r"\[[^]]*\]|\([^)]*\)|%")
_NAMES = {
    "time": re.compile(r"(.*_)?(time|timestamps?|stamp|t|secs?|seconds)(_n?s|_sec)?"),
    "turn": re.compile(r"(?:q|quat|rot|orient)[a-z]*(?:_\w*)?([wxyz])"),
    "place": re.compile(r"(?:(?:p|t|pos|trans|loc)[a-z]*?(?:_\w*)?)?([xyz])"),
}
_TUM, _EUROC = (0, 1, 2, 3, 7, 4, 5, 6), (0, 1, 2, 3, 4, 5, 6, 7)
"""Columns of time, x, y, z, then qw, qx, qy, qz."""


def _rows(
    path: Path, form: str | None
) -> tuple[tuple[int, ...] | None, list[tuple[int, list[float]]], str]:
    """Which columns are what (None: a matrix), the rows with their line numbers, the header."""
    columns: tuple[int, ...] | None = None
    widths: Sequence[int] = {"tum": (8,), "kitti": (12,)}.get(form or "", (8, 12, 16, 17))
    header = ""
    rows: list[tuple[int, list[float]]] = []
    lines = list(_lines(path))
    for number, line in lines:
        values, remark = _numbers(line), line.startswith("#")
        if values is None and not rows and (remark or not any(map(_numbers, _words(line)))):
            if form != "kitti" and (found := _named(path, line, remark)) is not None:
                columns, header, widths = found, line.lower(), range(max(found) + 1, 100)
        elif not remark:
            if rows and values is not None and len(values) < widths[0] and line == lines[-1][1]:
                values = [np.nan] * widths[0]  # the last line, cut short
            if values is None or len(values) not in widths:
                other = "" if len(widths) == 1 or columns else " (TUM) or 12 (KITTI)"
                raise _odd_row(path, number, line, f"{widths[0]} numbers{other}")
            widths = (len(values),)
            rows.append((number, values))
    if rows and columns is None and widths[0] not in (12, 16):
        columns = _EUROC if abs(rows[0][1][0]) > _LEAST_NS else _TUM
    return columns, rows, header


def _named(path: Path, line: str, remark: bool) -> tuple[int, ...] | None:
    """Columns by their names; None where these do not say what is where."""
    found: dict[str, int] = {}
    words = _words(_UNITS.sub("", line.lower().lstrip("# ")))
    for column, word in enumerate(words):
        name = "_".join(word.split(".")[-2:])
        for kind, pattern in _NAMES.items():
            if match := pattern.fullmatch(name):
                found.setdefault(kind + (match[1] if kind != "time" else ""), column)
                break
    place, turn = ([found.get(kind + axis, -1) for axis in axes]
                   for kind, axes in (("place", "xyz"), ("turn", "wxyz")))  # fmt: skip
    if min(place) < 0 or min(turn) < 0:
        if min(place) >= 0 and not remark and len(words) not in (12, 16):
            raise NotUsable(
                f"{path} has the columns {line[:60]!r}; expected a quaternion among them, as qx, "
                "qy, qz, qw"
            )
        return None
    return (found.get("time", -1), *place, *turn)


_LEAST_NS, _FARTHEST = 1e16, 1e9
"""Time stamps that cannot be seconds, and metres that cannot be a place."""


def _unit(stamp: float, header: str) -> float:
    """Seconds of one unit of time stamps: nobody counts seconds beyond the year 5000."""
    if "[ns]" in header or "_ns" in header:
        return 1e-9
    return next((unit for least, unit in ((_LEAST_NS, 1e-9), (1e13, 1e-6), (1e11, 1e-3))
                 if stamp > least), 1.0)  # fmt: skip


def _pose(values: list[float], columns: tuple[int, ...] | None) -> NDArray[np.float64] | None:
    if columns is None:
        last = [] if len(values) == 16 else [0.0, 0.0, 0.0, 1.0]
        pose = np.reshape([*values, *last], (4, 4))
    else:
        picked = [values[column] for column in columns[1:]]
        try:
            with np.errstate(over="ignore"):
                pose = make_pose(rotation_of(picked[3:]), picked[:3])
        except ValueError:
            return None
    return pose if is_rigid(pose) and np.abs(pose[:3, 3]).max() < _FARTHEST else None
