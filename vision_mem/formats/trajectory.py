"""Camera paths as text: TUM (time, position, quaternion) and KITTI (3x4 matrices).

TUM files have ``time x y z qx qy qz qw``, the real part last, as the benchmark defines it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.text import LineFile, make_folder, write_file
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
    """

    times: NDArray[np.float64]
    poses: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)


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
        if form not in FORMATS:
            raise InputError(f"trajectory format is {form!r}; expected one of {', '.join(FORMATS)}")
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


def write_trajectory(
    path: str | Path,
    poses: Sequence[NDArray[np.float64]] | NDArray[np.float64],
    times: Sequence[float] | NDArray[np.float64] | None = None,
    form: str = "tum",
) -> None:
    """Write a path, whole or not at all.

    Args:
        path: the file; its folder is made.
        poses: ``(N, 4, 4)`` camera-to-world.
        times: ``(N,)`` seconds; row numbers when left out.
        form: ``tum`` or ``kitti``.

    Raises:
        InputError: for another format, or as many times as poses not given.
        SinkError: when the file cannot be written.
    """
    if form not in FORMATS:
        raise InputError(f"trajectory format is {form!r}; expected one of {', '.join(FORMATS)}")
    stamps = range(len(poses)) if times is None else times
    if len(stamps) != len(poses):
        raise InputError(f"there are {len(stamps)} times for {len(poses)} poses; give one each")
    rows = [pose_line(p, float(t), form) for p, t in zip(poses, stamps, strict=True)]
    make_folder(Path(path).parent)
    write_file(Path(path), "".join(row + "\n" for row in rows).encode())


def read_numbers(path: str | Path, columns: int) -> list[tuple[int, list[float]]]:
    """Rows of numbers of a text file, with their line numbers.

    Args:
        path: the file; empty lines and those that begin with ``#`` are left out, commas count
            as spaces.
        columns: numbers that a row must have.

    Raises:
        SourceError: for a file that is not there, is no text, or has another row.
    """
    path = Path(path)
    text = _text(path)
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) != columns:
            raise SourceError(
                f"{path} line {number} is {line.strip()[:60]!r}; expected {columns} numbers"
            )
        rows.append((number, values))
    return rows


def read_trajectory(path: str | Path, form: str | None = None) -> Trajectory:
    """Read a path.

    Args:
        path: the file.
        form: ``tum`` or ``kitti``; None looks at the number of columns of the first row.

    Returns:
        The poses, sorted by time.

    Raises:
        SourceError: one line for a file that cannot be used.
    """
    if form is None:
        form = _form_of(Path(path))
    if form not in FORMATS:
        raise InputError(f"trajectory format is {form!r}; expected one of {', '.join(FORMATS)}")
    rows = read_numbers(path, 8 if form == "tum" else 12)
    if not rows:
        raise SourceError(f"{path} holds no poses; expected one a line")
    times: list[float] = []
    poses = []
    for number, values in rows:
        try:
            if form == "tum":
                x, y, z, w = values[4:]
                pose = make_pose(rotation_of([w, x, y, z]), values[1:4])
            else:
                pose = np.vstack([np.reshape(values, (3, 4)), (0, 0, 0, 1)])
        except ValueError as error:
            raise SourceError(f"{path} line {number}: {error}") from None
        if not (is_rigid(pose) and np.isfinite(values[0])):
            raise SourceError(f"{path} line {number} is no rigid motion; expected a camera pose")
        times.append(values[0] if form == "tum" else float(len(times)))
        poses.append(made_rigid(pose))
    order = np.argsort(times, kind="stable")
    if (np.diff(order) < 0).any():
        log.warning("%s: time stamps are out of order; sorted", path)
    return Trajectory(np.array(times)[order], np.stack(poses)[order])


def _form_of(path: Path) -> str:
    for line in _text(path).splitlines():
        words = line.replace(",", " ").split()
        if words and not words[0].startswith("#"):
            return "kitti" if len(words) == 12 else "tum"
    return "tum"


def _text(path: Path) -> str:
    try:
        return read_text(path, most=_LARGEST)
    except InputError as error:
        raise SourceError(str(error)) from None
