"""Posed observations as JSON lines: what any robot or program can write, and pipe in.

One object a line: ``t`` (seconds), ``pose`` (4x4 camera-to-world, metres; or ``position`` with
``quaternion`` x, y, z, w), then any of ``points`` (rows of x, y, z in the camera's frame, or the
name of an ``.npy``), ``rgb``, ``depth`` and ``K`` (names of files; fx, fy, cx, cy),
``depth_scale`` (metres of one unit), ``things`` (what was seen) and ``source``. A thing has
``label``, one of ``position`` (camera's frame), ``world`` or ``box`` (pixels, lifted through the
depth), and any of ``sigma``, ``score``, ``embedding``, ``track``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.depth import read_depth
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import make_pose, rotation_of
from vision_mem.sources.images import read_image
from vision_mem.sources.rgbd_live import PATIENCE_S, GrowingLines, Patience
from vision_mem.text import parse_json

_KNOWN = (
    "t", "pose", "position", "quaternion", "points", "rgb", "depth", "K", "depth_scale", "things",
    "source",
)  # fmt: skip
_OF_THINGS = ("label", "position", "world", "box", "sigma", "score", "embedding", "track")
_LONGEST = 64 << 20


@dataclass(frozen=True, eq=False)
class PosedRow:
    """One line, read.

    Attributes:
        index: number of the line, from 0.
        time_s: seconds.
        pose: ``(4, 4)`` camera-to-world as given, or None.
        points: ``(n, 3)`` metres in the camera's frame, or None.
        image: ``(H, W, 3)`` uint8 RGB, or None.
        depth: ``(H, W)`` float32 metres, or None.
        camera: of the depth, or None.
        things: what was seen, as on the line; None when nobody looked.
        source: where it is from, or "".
    """

    index: int
    time_s: float
    pose: NDArray[np.float64] | None
    points: NDArray[np.float64] | None = None
    image: NDArray[np.uint8] | None = None
    depth: NDArray[np.float32] | None = None
    camera: Pinhole | None = None
    things: tuple[Mapping[str, Any], ...] | None = field(default=None)
    source: str = ""


def read_posed_lines(
    path: str | Path, start: int = 0, follow_for: float | None = None
) -> Iterator[PosedRow | SourceError]:
    """Go through a file of posed observations, or standard input, line by line.

    Args:
        path: the file; ``-`` for standard input. Names on its lines are looked up beside it.
        start: lines to pass over.
        follow_for: seconds for which new lines of a file that grows are waited for; None takes it
            as it is.

    Yields:
        Rows; in the place of a line that cannot be used, the error, which names the line.

    Raises:
        InputError: when there is no such file.
    """
    if str(path) == "-":
        yield from _rows(sys.stdin.buffer, "standard input", Path(), start)
        return
    path = Path(path)
    try:
        with path.open("rb") as file:
            lines: Any = file if follow_for is None else GrowingLines(file, follow_for)
            yield from _rows(lines, str(path), path.parent, start, follow_for is not None)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def count_lines(path: Path) -> int:
    """Lines of a file that are not empty."""
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _rows(
    file: Any, name: str, folder: Path, start: int, growing: bool = False
) -> Iterator[PosedRow | SourceError]:
    number = -1
    while line := file.readline(_LONGEST):
        if not line.strip():
            continue
        number += 1
        if number < start:
            continue
        where = f"{name}, line {number + 1}"
        try:
            yield _when_whole(line, number, folder) if growing else _row(line, number, folder)
        except (InputError, SourceError) as error:
            yield SourceError(f"{where}: {error}")
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            said = " ".join(str(error).split())[:120]
            yield SourceError(f"{where}: {said}; expected an object with t, pose and more")


def _when_whole(line: bytes, number: int, folder: Path) -> PosedRow:
    """A row whose pictures may come after it."""
    patience = Patience(PATIENCE_S)
    while True:
        try:
            return _row(line, number, folder)
        except SourceError:
            if patience.ends():
                raise


def _row(line: bytes, number: int, folder: Path) -> PosedRow:
    item = parse_json(line, "this", nan=True)
    if not isinstance(item, dict) or "t" not in item:
        raise InputError("no object with a time t; see docs/navigation.md for the keys")
    unknown = [key for key in item if key not in _KNOWN]
    if unknown:
        raise InputError(f"key {unknown[0]!r} is not known; expected {', '.join(_KNOWN)}")
    time_s = float(item["t"])
    depth, camera = _depth(item, folder)
    points = None
    if item.get("points") is not None:
        given = item["points"]
        rows = _array(folder / given) if isinstance(given, str) else given
        points = np.asarray(rows, np.float64).reshape(-1, 3)
    image = None if item.get("rgb") is None else read_image(folder / str(item["rgb"]))
    if image is not None and depth is not None and image.shape[:2] != depth.shape:
        raise InputError("rgb and depth have other sizes; resize one of them")
    return PosedRow(
        number, time_s, _pose(item), points, image, depth, camera, _things(item),
        str(item.get("source", "")),
    )  # fmt: skip


def _pose(item: Mapping[str, Any]) -> NDArray[np.float64] | None:
    if item.get("pose") is not None:
        pose = np.asarray(item["pose"], np.float64)
        if pose.size not in (12, 16):
            raise InputError(f"pose has {pose.size} numbers; expected 4x4, camera-to-world")
        rows = pose.reshape(-1, 4)
        return rows if len(rows) == 4 else np.vstack([rows, (0.0, 0.0, 0.0, 1.0)])
    if item.get("position") is None:
        return None
    turn = np.asarray(item.get("quaternion", (0, 0, 0, 1)), np.float64)
    place = np.asarray(item["position"], np.float64)
    if turn.shape != (4,) or place.shape != (3,):
        raise InputError("expected a position of 3 numbers and a quaternion x, y, z, w")
    return make_pose(rotation_of(turn[[3, 0, 1, 2]]), place)


def _depth(
    item: Mapping[str, Any], folder: Path
) -> tuple[NDArray[np.float32] | None, Pinhole | None]:
    if item.get("depth") is None:
        return None, None
    numbers = np.asarray(item.get("K", ()), np.float64)
    if numbers.shape == (3, 3):
        numbers = numbers[[0, 1, 0, 1], [0, 1, 2, 2]]
    if numbers.shape != (4,):
        raise InputError("depth without K; expected fx, fy, cx, cy")
    stored = read_depth(folder / str(item["depth"]))
    scale = float(item.get("depth_scale", 0.001 if stored.dtype.kind in "ui" else 1.0))
    with np.errstate(over="ignore", invalid="ignore"):
        depth = stored.astype(np.float64) * scale
        depth[~(np.isfinite(depth) & (depth > 0) & (depth < 1e6))] = 0
    fx, fy, cx, cy = numbers.tolist()
    camera = Pinhole.from_centres(fx, fy, cx, cy, depth.shape[1], depth.shape[0])
    return depth.astype(np.float32), camera


def _array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _things(item: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...] | None:
    given = item.get("things")
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise InputError("things is no list of objects")
    for each in given:
        unknown = [key for key in each if key not in _OF_THINGS]
        if unknown:
            raise InputError(
                f"key {unknown[0]!r} of a thing is not known; expected {', '.join(_OF_THINGS)}"
            )
        if sum(each.get(key) is not None for key in ("position", "world", "box")) != 1:
            raise InputError("a thing needs exactly one of position, world and box")
    return tuple(given)
