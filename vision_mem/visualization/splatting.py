"""Pictures of points with colours, drawn without a GPU: splats with a depth buffer."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.camera import Pinhole

BACKGROUND = (248, 248, 250)
_LARGEST = 6
_NEAR = 0.05


def splat(
    points: ArrayLike,
    colours: ArrayLike,
    camera: Pinhole,
    pose: ArrayLike,
    *,
    size: float,
    normals: ArrayLike | None = None,
    background: tuple[int, int, int] = BACKGROUND,
) -> NDArray[np.uint8]:
    """Draw points as squares that hide what is behind them.

    Args:
        points: ``(N, 3)`` metres in the world.
        colours: ``(N, 3)`` uint8 RGB.
        camera: intrinsics and size of the picture.
        pose: ``(4, 4)`` camera-to-world.
        size: metres that a point covers.
        normals: ``(N, 3)``; points that turn away from the camera are left out, so that one looks
            into a room through its walls. Zeros are drawn from everywhere.
        background: RGB where there is nothing.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        InputError: for arrays that do not fit together.
    """
    where = np.asarray(points, np.float32).reshape(-1, 3)
    paint = np.asarray(colours, np.uint8).reshape(-1, 3)
    if len(paint) != len(where) or not size > 0:
        raise InputError(
            f"{len(where)} points have {len(paint)} colours and size {size}; expected one colour "
            "each and metres above 0"
        )
    matrix = np.asarray(pose, np.float32)
    seen = (where - matrix[:3, 3]) @ matrix[:3, :3]
    shown = np.isfinite(seen).all(axis=1) & (seen[:, 2] > _NEAR)
    if normals is not None:
        facing = np.einsum("ni,ni->n", np.asarray(normals, np.float32), matrix[:3, 3] - where)
        shown &= facing >= 0
    seen, paint = seen[shown], paint[shown]
    z = seen[:, 2].astype(np.float32)
    x = np.floor(camera.fx * seen[:, 0] / z + camera.cx)
    y = np.floor(camera.fy * seen[:, 1] / z + camera.cy)
    reach = np.clip(np.rint(camera.fx * size / z / 2), 0, _LARGEST).astype(np.int64)
    inside = (np.abs(x) < 1e6) & (np.abs(y) < 1e6)
    columns, rows = x[inside].astype(np.int64), y[inside].astype(np.int64)
    nearest, picture = _buffers(columns, rows, z[inside], reach[inside], paint[inside], camera)
    picture[~np.isfinite(nearest)] = background
    return _shaded(picture, nearest)


def _buffers(
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    z: NDArray[np.float32],
    reach: NDArray[np.int64],
    paint: NDArray[np.uint8],
    camera: Pinhole,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Depth and colour of each pixel, infinite where nothing is seen."""
    height, width = camera.height, camera.width
    nearest = np.full(height * width, np.inf, np.float32)
    picture = np.zeros((height * width, 3), np.uint8)
    order = np.argsort(-z, kind="stable")  # of several points on a pixel the last one stays
    x, y, z, reach, paint = x[order], y[order], z[order], reach[order], paint[order]
    most = int(reach.max(initial=0))
    for dy in range(-most, most + 1):
        for dx in range(-most, most + 1):
            u, v = x + dx, y + dy
            on = (reach >= max(abs(dx), abs(dy))) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
            place, depth = (v * width + u)[on], z[on]
            layer = np.full(height * width, np.inf, np.float32)
            layer[place] = depth
            top = np.zeros((height * width, 3), np.uint8)
            top[place] = paint[on]
            nearer = layer < nearest
            nearest[nearer], picture[nearer] = layer[nearer], top[nearer]
    return nearest.reshape(height, width), picture.reshape(height, width, 3)


def _shaded(picture: NDArray[np.uint8], nearest: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Darken where the surroundings are much nearer: edges are seen without any light."""
    depth = np.log(np.where(np.isfinite(nearest), nearest, 1e3)).astype(np.float32)
    around = cv2.erode(depth, np.ones((5, 5), np.uint8))
    behind = np.clip(depth - around - 0.03, 0, 0.25)
    behind[~np.isfinite(nearest)] = 0
    return np.asarray(picture * (1 - 1.6 * behind[..., None]), np.uint8)


def look_at(eye: ArrayLike, target: ArrayLike, up: ArrayLike) -> NDArray[np.float64]:
    """``(4, 4)`` camera-to-world of a camera at ``eye`` that looks at ``target``.

    Args:
        eye: ``(3,)`` metres.
        target: ``(3,)`` metres.
        up: ``(3,)`` which way is up.
    """
    here = np.asarray(eye, np.float64)
    forward = np.asarray(target, np.float64) - here
    forward /= max(float(np.linalg.norm(forward)), 1e-9)
    right = np.cross(forward, np.asarray(up, np.float64))
    if np.linalg.norm(right) < 1e-6:  # straight up or down: any side will do
        right = np.cross(forward, np.roll(np.asarray(up, np.float64), 1))
    right /= max(float(np.linalg.norm(right)), 1e-9)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, np.cross(forward, right), forward
    pose[:3, 3] = here
    return pose
