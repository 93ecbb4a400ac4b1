"""What is odd about a camera's path by itself, and beside the depth that was seen on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import (
    inverse,
    make_pose,
    quaternion_from,
    rotation_of,
    transform,
)

Matrix = NDArray[np.float64]

_JUMP_M, _TIMES = 3.0, 10.0
"""Metres between two poses that are doubtful, where others move ten times as slowly."""


def jumps(poses: ArrayLike, times: Sequence[float] | Matrix) -> list[int]:
    """Where a path jumps as no camera does.

    Args:
        poses: ``(N, 4, 4)``.
        times: ``(N,)`` seconds, rising.

    Returns:
        Places of poses that are more than 3 m from the one before, and ten times as fast as usual.
    """
    step = np.linalg.norm(np.diff(np.asarray(poses, np.float64)[:, :3, 3], axis=0), axis=1)
    pace = step / np.maximum(np.diff(times), 1e-9)
    usual = float(np.median(pace)) if len(pace) else 0.0
    return [int(k) + 1 for k in np.flatnonzero((step > _JUMP_M) & (pace > _TIMES * usual))]


View = tuple[NDArray[Any], Matrix]
"""Depth ``(H, W)`` metres, 0 where there is no reading, and pose ``(4, 4)``."""

_FINE, _BAD, _SEEN, _SAMPLES = 0.85, 0.3, 0.3, 2000
_BETTER = 0.15
"""Share of the readings by which another way has to agree better, and be fine itself."""

_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


def _real_first(pose: Matrix) -> Matrix:
    """The pose whose quaternion, real part first, was read with the real part last."""
    w, x, y, z = quaternion_from(pose[:3, :3])
    return make_pose(rotation_of([x, y, z, w]), pose[:3, 3])


_OTHER_WAYS: tuple[tuple[str, Callable[[Matrix], Matrix], float], ...] = (
    ("quaternions with the real part first, w x y z", _real_first, 1.0),
    ("world-to-camera instead of camera-to-world", inverse, 1.0),
    ("world-to-camera, quaternions as w x y z", lambda pose: inverse(_real_first(pose)), 1.0),
    ("axes with y up and z backwards", lambda pose: pose @ _AXES, 1.0),
    ("positions in millimetres", lambda pose: make_pose(pose[:3, :3], pose[:3, 3] / 1000), 1.0),
    ("a depth scale five times as large", lambda pose: pose, 5.0),
    ("a depth scale five times as small", lambda pose: pose, 0.2),
)  # fmt: skip


def misread(
    pairs: Sequence[tuple[View, View]],
    camera: Pinhole,
) -> tuple[float, str, float] | None:
    """Whether depth maps contradict their poses, and what would explain it.

    Args:
        pairs: two views each, of much the same scene: depth ``(H, W)`` metres with 0 where there
            is no reading, and pose ``(4, 4)``.
        camera: of all depth maps.

    Returns:
        Share of the readings that agree, [0, 1]; in what way poses or depth may have been meant,
        and the share that agrees then ("" and 0 where no way helps). None when nothing is odd.
    """
    given, seen = _agreement(pairs, camera, lambda pose: pose, 1.0)
    if given >= _FINE - _BETTER / 2:
        return None
    best = ("", 0.0)
    for name, way, factor in _OTHER_WAYS:
        agree, there = _agreement(pairs, camera, way, factor)
        if there >= _SEEN and agree > max(_FINE, given + _BETTER, best[1]):
            best = name, agree
    return (given, *best) if best[0] or (seen >= _SEEN and given < _BAD) else None


def _agreement(
    pairs: Sequence[tuple[View, View]],
    camera: Pinhole,
    way: Callable[[Matrix], Matrix],
    factor: float,
) -> tuple[float, float]:
    """Share of the readings of one view that the other one confirms where it sees them at all."""
    rays = camera.rays()
    total = inside = agree = 0
    for (depth, pose), (other, other_pose) in pairs:
        rows, columns = np.nonzero(depth > 0)
        some = slice(None, None, max(1, len(rows) // _SAMPLES))
        rows, columns = rows[some], columns[some]
        points = rays[rows, columns] * (depth[rows, columns] * factor)[:, None]
        pixels, z = camera.project(transform(inverse(way(other_pose)) @ way(pose), points))
        with np.errstate(invalid="ignore"):
            there = (pixels >= 0).all(axis=1) & (pixels < (camera.width, camera.height)).all(axis=1)
        x, y = np.floor(pixels[there]).astype(np.int64).T
        found, z = other[y, x] * factor, z[there]
        known = found > 0
        total += len(rows)
        inside += int(known.sum())
        agree += int((np.abs(found - z)[known] < 0.05 + 0.03 * z[known]).sum())
    return agree / max(inside, 1), inside / max(total, 1)
