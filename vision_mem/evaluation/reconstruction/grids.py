"""Depth maps, points and masks of one size at another, and true points on a grid."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.reconstruction.records import SceneSequence, SceneView
from vision_mem.geometry.poses import inverse, transform

Array = NDArray[np.float64]


def resized_depth(
    depth: NDArray[np.float32], size: tuple[int, int], *, strict: bool = False
) -> NDArray[np.float32]:
    """A depth map at the size of the truth.

    Args:
        depth: ``(h, w)``, NaN where not known.
        size: ``(H, W)``.
        strict: linear instead of cubic: cubic overshoots at edges, as in the peers' code.
    """
    if depth.shape == size:
        return depth
    shape = (size[1], size[0])
    known = np.isfinite(depth)
    how = cv2.INTER_LINEAR if strict else cv2.INTER_CUBIC
    if known.all():
        return np.asarray(cv2.resize(depth, shape, interpolation=how), np.float32)
    # A hole would eat its neighbours: the nearest reading decides what is known.
    filled = np.where(known, depth, np.float32(np.median(depth[known])) if known.any() else 0)
    large = cv2.resize(filled.astype(np.float32), shape, interpolation=how)
    there = cv2.resize(known.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST)
    return np.where(there > 0, large, np.nan).astype(np.float32)


def true_grid(
    sequence: SceneSequence, view: SceneView, there: Array, size: tuple[int, int], *, strict: bool
) -> tuple[Array, NDArray[np.bool_]]:
    """True points of a view in the axes of the first camera, and which are known.

    Args:
        sequence: of the view.
        view: one with true depth.
        there: from the world to the axes of the first camera.
        size: ``(height, width)`` of the grid.
        strict: see ``nearest_grid``.
    """
    assert view.depth is not None, "readers see to it"
    depth = sequence.depth(view.depth)
    camera = sequence.camera(view, (depth.shape[0], depth.shape[1]))
    if depth.shape != size:
        depth = nearest_grid(depth, size, strict=strict)
        camera = camera.resized(size[1], size[0])
    if view.pose is None:
        return np.zeros((*depth.shape, 3)), np.zeros(depth.shape, bool)
    points = transform(there @ view.pose, camera.unproject(depth))
    return points, np.asarray(depth > 0)


def cropped(share: tuple[float, float], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The middle of each frame, as the peers' code compares it."""
    height, width = known.shape[1:]
    half = round(share[0] * width / 2), round(share[1] * height / 2)
    x, y = width // 2, height // 2
    crop = np.zeros_like(known)
    crop[:, max(y - half[1], 0) : y + half[1], max(x - half[0], 0) : x + half[0]] = True
    return crop


def nearest_grid(
    grid: NDArray[np.float32], size: tuple[int, ...], *, strict: bool
) -> NDArray[np.float32]:
    """Depth or points at another size, each pixel from one of the old ones.

    Args:
        grid: ``(h, w, ...)``.
        size: ``(H, W)``.
        strict: the old pixel in which the middle of the new one lies; else the one in which its
            upper left corner does, as OpenCV takes it: up to half a pixel off.
    """
    if grid.shape[:2] == size:
        return grid
    part = 0.5 if strict else 0.0
    rows = (np.arange(size[0]) + part) * grid.shape[0] / size[0]
    columns = (np.arange(size[1]) + part) * grid.shape[1] / size[1]
    return np.asarray(grid[rows.astype(int)][:, columns.astype(int)])


def mask_at(mask: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask at another size."""
    if mask.shape == size:
        return mask
    shape = (size[1], size[0])
    large = cv2.resize(mask.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST)
    return np.asarray(large > 0)


def to_first_camera(view: SceneView) -> NDArray[np.float64]:
    """``(4, 4)`` from the set's world to the axes of a view's camera.

    Raises:
        InputError: when its pose is not known.
    """
    if view.pose is None:
        raise InputError(f"the first frame, {view.name}, has no true pose to compare points in")
    return inverse(view.pose)
