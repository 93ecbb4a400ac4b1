"""Which way is up in a recording: floors, tables and shelves tell.

Many recordings count from their first camera, which looked somewhat down, so that no axis of theirs
is up. Routes over a floor need one that is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vision_mem.geometry.camera import Pinhole

_ACROSS = 80
"""Pieces of surface, in a row of a picture, whose direction is taken."""
_CONE, _NEAR = 45.0, 6.0
"""Degrees from the cameras' own up within which it is sought, and within which pieces agree."""
_SHARE = 0.08
"""Of all pieces of surface, those that must lie level."""
_LEAST = 60


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
