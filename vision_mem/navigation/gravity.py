"""Which way is up in a recording, and which level surface is its floor.

Many recordings count from their first camera, which looked somewhat down, so that no axis of theirs
is up: floors, tables and shelves tell. Routes need one that is, and need to know the floor from a
table: it is the lowest large level surface, the camera is a body's height above it, and nothing was
seen below.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.spatial.transform import Rotation

from vision_mem.geometry.camera import Pinhole

_ACROSS = 80
"""Pieces of surface, in a row of a picture, whose direction is taken."""
_CONE, _NEAR = 45.0, 6.0
"""Degrees from the cameras' own up within which it is sought, and within which pieces agree."""
_SHARE = 0.08
"""Of all pieces of surface, those that must lie level."""
_LEAST = 60
_SMALL, _CORE, _OF_LARGEST = 0.3, 0.06, 0.08
"""Square metres of a large level surface, and of its inside; its share of the largest."""
_BODY, _REACH = 0.9, 2.3
"""Metres from a floor up to a camera that somebody carries, least and most."""
_WIDE = 4.0
"""Square metres that no table has."""
_DEPTH, _BELOW = 0.3, 0.05
"""So far below a floor nothing is known, but for a share of its area."""


@dataclass(frozen=True)
class Level:
    """A large level surface with free space above it.

    Attributes:
        height: metres along up, of its upper edge.
        area: square metres of it that were seen.
        below: metres from the observers that it carries, or might, down to it; NaN for none.
        is_floor: whether somebody can be said to stand on it.
        doubt: why it may be no floor, in words; empty when it is one, or stands on one.
    """

    height: float
    area: float
    below: float = float("nan")
    is_floor: bool = False
    doubt: str = ""


@dataclass(frozen=True)
class Levels:
    """Level surfaces of a map, from the lowest up.

    Attributes:
        surfaces: all of them.
        given: the height of the floor, where somebody said it.
    """

    surfaces: tuple[Level, ...] = ()
    given: float | None = None

    @property
    def floors(self) -> tuple[Level, ...]:
        """Those that somebody stands on: one a storey."""
        if self.given is not None:
            same = [each for each in self.surfaces if abs(each.height - self.given) < 0.15]
            area = max((each.area for each in same), default=0.0)
            return (Level(self.given, area, is_floor=True),)
        return tuple(each for each in self.surfaces if each.is_floor)

    def under(self, height: float, slack: float = 0.3) -> Level | None:
        """The floor of the storey that a height is on; None where no floor is known."""
        floors = self.floors
        lower = [each for each in floors if each.height <= height + slack]
        return lower[-1] if lower else floors[0] if floors else None

    @property
    def doubt(self) -> str:
        """Why no floor is known, in words; empty when one is."""
        if self.floors:
            return ""
        asked = [each for each in self.surfaces if each.doubt]
        return asked[0].doubt if asked else "no large level surface lies below the camera"

    def words(self) -> list[str]:
        """What is floor and what is not, a line each."""
        said = []
        for each in self.floors:
            told = "as given" if self.given is not None else f"{each.area:.1f} m2 of it seen"
            if np.isfinite(each.below):
                told += f", {each.below:.1f} m below the camera"
            said.append(f"floor at height {each.height:.2f} m ({told})")
        if not said:
            said.append(f"floor unknown: {self.doubt}; --floor-height says it")
        known = [each.height for each in self.floors]
        others = [
            f"{each.height:.2f} m ({each.area:.1f} m2)"
            for each in self.surfaces
            if all(abs(each.height - height) >= 0.15 for height in known)
        ]
        if others:
            said.append(f"other level surfaces, no floor: {', '.join(others[:6])}")
        return said


def find_levels(
    cells: NDArray[np.int64],
    occupied: NDArray[np.bool_],
    observers: NDArray[np.float64],
    size: float,
    low: float,
    below: float,
) -> Levels:
    """Tell floors and platforms apart.

    Args:
        cells: ``(n, 3)`` of all that is known: two along the plan, and the layer, from 0 up.
        occupied: ``(n,)`` which are not free.
        observers: ``(k,)`` heights along up that one looked from.
        size: edge of a cell, metres.
        low: height of the lower edge of layer 0.
        below: metres that a floor lies below the observers at least.
    """
    if not len(cells) or not occupied.any():
        return Levels()
    shape = cells.max(axis=0) + 2
    key = (cells[:, 0] * shape[1] + cells[:, 1]) * shape[2] + cells[:, 2]
    top = occupied & np.isin(key + 1, key[~occupied])
    tops = cells[top]
    counts = np.bincount(tops[:, 2], minlength=shape[2] + 1)
    areas = (counts[:-1] + counts[1:]) * size**2
    peaks = np.maximum(counts[:-1], counts[1:])
    least = max(_SMALL, _OF_LARGEST * float(areas.max()))
    found: list[Level] = []
    last = -np.inf
    for layer in np.flatnonzero(areas >= least).tolist():
        # Of layers that share a surface, the pair that holds most of it.
        if areas[layer] < areas[max(layer - 1, 0) : layer + 2].max() or layer - last < 2:
            continue
        pair = tops[(tops[:, 2] == layer) | (tops[:, 2] == layer + 1)]
        if _inside(pair[:, :2]) * size**2 < _CORE:
            continue  # the upper edges of walls, and noise
        last = layer
        # The upper one where it holds a good part: floors lie between two layers as well.
        upper = layer + 1 if counts[layer + 1] >= 0.4 * peaks[layer] else layer
        found.append(Level(low + (upper + 1) * size, float(areas[layer])))
    return Levels(tuple(_judged(found, cells, low, size, observers, below)))


def _inside(cells: NDArray[np.int64]) -> int:
    """How many cells ``(n, 2)`` of a surface have nearly all their neighbours in it."""
    if not len(cells):
        return 0
    corner = cells.min(axis=0)
    mask = np.zeros(cells.max(axis=0) - corner + 3, np.float32)
    mask[tuple((cells - corner + 1).T)] = 1
    return int((uniform_filter(mask, 3, mode="constant") * 9 > 6.5).sum())


def _judged(
    found: list[Level],
    cells: NDArray[np.int64],
    low: float,
    size: float,
    observers: NDArray[np.float64],
    below: float,
) -> list[Level]:
    """Levels with what is known of each: whom it carries, and what speaks against it."""
    heights = np.array([each.height for each in found])
    middle = low + (cells[:, 2] + 0.5) * size
    carried: dict[int, list[float]] = {}
    for camera in observers.tolist():
        down = camera - heights
        reached = np.flatnonzero((down >= below) & (down <= _REACH))
        if not len(reached):
            reached = np.flatnonzero(down >= below)
        if len(reached):
            carried.setdefault(int(reached[0]), []).append(camera)
    judged = list(found)
    for number, cameras in carried.items():
        level = found[number]
        down = float(np.median(cameras)) - level.height
        lower = int((middle < level.height - _DEPTH).sum()) * size**2
        clear, wide = lower <= _BELOW * level.area, level.area >= _WIDE
        doubt = ""
        if down < _BODY and not (clear and wide):
            doubt = (
                f"the lowest large level surface is only {down:.1f} m below the camera and may be "
                "a table"
            )
        elif not (clear or wide):
            doubt = (
                f"something was seen below the lowest large level surface, which is {down:.1f} m "
                "below the camera and may be a platform"
            )
        judged[number] = replace(level, below=down, is_floor=not doubt, doubt=doubt)
    return judged


def find_up(
    views: Iterable[tuple[NDArray[np.float32], Pinhole, NDArray[np.float64]]],
) -> NDArray[np.float64] | None:
    """The direction that most level surfaces face, near that of the cameras' tops.

    Of views of depth ``(H, W)`` metres, intrinsics and camera-to-world pose. Returns ``(3,)`` of
    length 1 in the world's frame; None where too little is level.
    """
    found, tops = [np.empty((0, 3))], []
    for depth, camera, pose in views:
        tops.append(-pose[:3, 1])
        found.append(_facing(depth, camera) @ pose[:3, :3].T)
    normals = np.concatenate(found)
    if not tops or np.linalg.norm(top := np.mean(tops, axis=0)) < 0.5:
        return None  # held in all directions: nobody knows
    top = top / np.linalg.norm(top)
    level = normals[normals @ top > np.cos(np.radians(_CONE))]
    if len(level) < _LEAST:
        return None
    agree = np.cos(np.radians(_NEAR))
    seeds = level[:: max(1, len(level) // 300)]
    votes = (seeds @ level.T > agree).sum(axis=1)
    up = seeds[int(votes.argmax())]
    for _ in range(3):
        own = level[level @ up > agree]
        up = own.mean(axis=0) / np.linalg.norm(own.mean(axis=0))
    enough = len(own) >= max(_LEAST, _SHARE * len(normals))
    return np.asarray(up, np.float64) if enough else None


def _facing(depth: NDArray[np.float32], camera: Pinhole) -> NDArray[np.float64]:
    """Directions ``(n, 3)`` that pieces of surface face, in the camera's frame, toward it."""
    block = max(2, depth.shape[1] // _ACROSS)
    rows, columns = depth.shape[0] // block, depth.shape[1] // block
    if rows < 3 or columns < 3:
        return np.empty((0, 3))
    points = camera.unproject(np.nan_to_num(depth, posinf=0.0, neginf=0.0))
    shape = (rows, block, columns, block)
    kept = points[: rows * block, : columns * block]
    z = kept[..., 2].reshape(shape)
    middles = kept.reshape(*shape, 3).mean(axis=(1, 3))
    low, high = z.min(axis=(1, 3)), z.max(axis=(1, 3))
    across = middles[1:-1, 2:] - middles[1:-1, :-2]
    down = middles[2:, 1:-1] - middles[:-2, 1:-1]
    normals = np.cross(down, across)
    length = np.linalg.norm(normals, axis=-1)
    # Whole, and no edge within or beside it.
    whole = (low > 0) & (high - low < 0.1 * high)
    good = whole[1:-1, 1:-1] & whole[1:-1, 2:] & whole[1:-1, :-2] & whole[2:, 1:-1]
    good &= whole[:-2, 1:-1] & (length > 0)
    for step in (across, down):
        good &= np.abs(step[..., 2]) < 0.2 * middles[1:-1, 1:-1, 2]
    facing = normals[good] / length[good][:, None]
    toward = np.sign((facing * -middles[1:-1, 1:-1][good]).sum(axis=1))
    return np.asarray(facing * toward[:, None])


def levelled(up: NDArray[np.float64], least: float = 3.0) -> tuple[str, NDArray[np.float64]]:
    """The axis nearest to a direction ``(3,)``, such as ``+z``, and the smallest turn to it.

    The turn is a rotation vector ``(3,)`` in radians; zeros where it is below ``least`` degrees.
    """
    axis = int(np.abs(up).argmax())
    sign = 1.0 if up[axis] > 0 else -1.0
    aim = np.eye(3)[axis] * sign
    turn = np.cross(up, aim)
    angle = float(np.arctan2(np.linalg.norm(turn), up @ aim))
    name = f"{'+' if sign > 0 else '-'}{'xyz'[axis]}"
    if np.degrees(angle) < least:
        return name, np.zeros(3)
    return name, np.asarray(turn / np.linalg.norm(turn) * angle)


def turned(pose: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """A pose in the turned world: ``(4, 4)``, by a rotation vector."""
    out = pose.copy()
    out[:3] = Rotation.from_rotvec(turn).as_matrix() @ pose[:3]
    return out
