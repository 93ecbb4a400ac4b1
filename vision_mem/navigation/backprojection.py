"""From a picture with depth to what a spatial memory takes in: points, and things in space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.camera import Pinhole
from vision_mem.navigation.records import Sighting
from vision_mem.types import Detections

_MIDDLE = 0.5
"""Share of a box, in each direction, whose depth stands for the thing where no mask is known."""
_WHOLE, _CUT = 0.15, 0.3
"""Standard deviation of a thing's middle in parts of its size: seen whole, and cut off."""
_LEAST = 4
"""Pixels with depth that a thing needs."""


def cloud(
    image: NDArray[np.uint8],
    depth: NDArray[np.float32],
    camera: Pinhole,
    stride: int = 1,
    *,
    moving: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Points and colours of every n-th pixel that has a reading.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        depth: ``(H, W)`` metres; 0 and what is not finite are no readings.
        camera: intrinsics of both.
        stride: pixels from one to the next, in both directions.
        moving: ``(H, W)`` pixels to leave out, such as those of people passing; None for none.

    Returns:
        ``(n, 3)`` metres in the camera's frame and ``(n, 3)`` uint8 RGB.
    """
    rows, columns = slice(stride // 2, None, stride), slice(stride // 2, None, stride)
    z = np.asarray(depth[rows, columns], np.float64)
    good = np.isfinite(z) & (z > 0)
    if moving is not None:
        good &= ~moving[rows, columns]
    points = camera.rays()[rows, columns][good] * z[good][:, None]
    return points, np.ascontiguousarray(image[rows, columns][good])


def lift_pixel(depth: NDArray[np.float32], camera: Pinhole, u: float, v: float) -> ArrayLike | None:
    """Where what a pixel shows is: ``u`` is its column from the top left corner, ``v`` its row.

    Returns:
        ``(3,)`` metres in the camera's frame, with the median depth of 5 x 5 pixels; None where
        there is no reading.

    Raises:
        InputError: for a pixel outside the image.
    """
    row, column = int(v), int(u)
    if not (0 <= row < camera.height and 0 <= column < camera.width):
        raise InputError(
            f"pixel {u:g},{v:g} is outside the image of {camera.width} x {camera.height}"
        )
    near = depth[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
    good = near[np.isfinite(near) & (near > 0)]
    if not len(good):
        return None
    z = float(np.median(good))
    return np.array([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z])


def lift(
    found: Detections,
    depth: NDArray[np.float32],
    camera: Pinhole,
    embeddings: Sequence[ArrayLike | None] | None = None,
) -> list[Sighting]:
    """Detections as sightings: where the surfaces are that they show.

    A mask's pixels, or the middle half of a box, give the depth as their median. What has no
    depth there, or no name and no looks, is left out.

    Args:
        found: boxes in pixels of the image, with masks where they are known.
        depth: ``(H, W)`` metres.
        camera: its intrinsics.
        embeddings: what each looks like; those of the detections when left out.
    """
    sightings = []
    for number, box in enumerate(found.boxes.astype(np.float64)):
        rows, columns = _pixels(box, None if found.masks is None else found.masks[number], depth)
        z = depth[rows, columns].astype(np.float64)
        good = np.isfinite(z) & (z > 0)
        if good.sum() < _LEAST:
            continue
        away = float(np.median(z[good]))
        # A thing's own pixels only: what is far from the median is the background, or in front.
        spread = 1.4826 * float(np.median(np.abs(z[good] - away)))
        own = good & (np.abs(z - away) <= max(3.0 * spread, 0.05))
        u, v = float(np.median(columns[own])) + 0.5, float(np.median(rows[own])) + 0.5
        x, y = (u - camera.cx) / camera.fx * away, (v - camera.cy) / camera.fy * away
        # How far the middle of what is seen may be from that of the thing, more so where the
        # image's border cuts it off.
        size = (box[2:] - box[:2]) / (camera.fx, camera.fy) * away
        cut = (box[:2] <= 1) | (box[2:] >= (camera.width - 1, camera.height - 1))
        across = np.maximum(np.where(cut, _CUT, _WHOLE) * size, 0.01)
        sigma = np.diag([*across**2, max(spread, _WHOLE * float(size.mean()), 0.02) ** 2])
        label = found.names.get(int(found.labels[number]), "")
        looks = found.embeddings if embeddings is None else embeddings
        vector = None if looks is None else looks[number]
        if not label and vector is None:
            continue
        sightings.append(Sighting((x, y, away), label, sigma, vector, float(found.scores[number])))
    return sightings


def _pixels(
    box: NDArray[np.float64], mask: NDArray[np.bool_] | None, depth: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if mask is not None and mask.any():
        rows, columns = np.nonzero(mask)
        return rows, columns
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * _MIDDLE
    height, width = depth.shape
    (x1, y1), (x2, y2) = np.floor(middle - half), np.ceil(middle + half)
    columns = np.arange(int(max(x1, 0)), int(min(x2, width)))
    rows = np.arange(int(max(y1, 0)), int(min(y2, height)))
    grid = np.meshgrid(rows, columns, indexing="ij")
    return grid[0].ravel(), grid[1].ravel()
