"""Boxes as arrays: pure functions, no state.

A box is ``(x1, y1, x2, y2)`` in pixels, right and bottom exclusive, unless a name says
``extent``: an *extent* holds the indices of the first and last pixel that are on, both included,
and is all zeros when no pixel is on. Motion filters and the reference codes count in extents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def is_empty(boxes: ArrayLike) -> NDArray[np.bool_]:
    """Say which boxes have no area.

    Args:
        boxes: ``(..., 4)`` boxes, right and bottom exclusive.

    Returns:
        ``(...)`` bool.
    """
    b = np.asarray(boxes)
    return (b[..., 2] <= b[..., 0]) | (b[..., 3] <= b[..., 1])


def box_iou(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of boxes as continuous rectangles.

    Args:
        first: ``(..., 4)`` boxes.
        second: ``(..., 4)`` boxes; the leading axes broadcast.

    Returns:
        ``(...)`` float64 in [0, 1]; 0 where the union has no area.
    """
    a = np.asarray(first, dtype=np.float64)
    b = np.asarray(second, dtype=np.float64)
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    union = area_a + area_b - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0)


def clip_box(box: ArrayLike, height: int, width: int) -> NDArray[np.float32]:
    """Cut a box at the borders of an image.

    Args:
        box: ``(..., 4)`` boxes.
        height: pixels.
        width: pixels.

    Returns:
        ``(..., 4)`` float32; empty (zero or negative size) when the box lies outside.
    """
    b = np.asarray(box, dtype=np.float32)
    limit = np.array([width, height, width, height], dtype=np.float32)
    return np.clip(b, 0, limit).astype(np.float32)


def xywh_to_box(xywh: ArrayLike) -> NDArray[np.float32]:
    """Turn ``(x, y, width, height)`` into ``(x1, y1, x2, y2)``.

    Args:
        xywh: ``(..., 4)`` pixels.

    Returns:
        ``(..., 4)`` float32.
    """
    b = np.array(xywh, dtype=np.float32)
    b[..., 2:] += b[..., :2]
    return b


def box_to_xywh(box: ArrayLike, *, inclusive: bool = True) -> NDArray[np.float32]:
    """Turn a result's box into ``(x, y, width, height)`` for text files.

    Args:
        box: ``(..., 4)`` pixels, right and bottom exclusive; zeros when the object is absent.
        inclusive: True counts pixels, so that one pixel has width 1. False gives the numbers of
            SAMURAI's own result files, ``xmax - xmin`` of pixel indices, one less each.

    Returns:
        ``(..., 4)`` float32; zeros stay zeros.

    Source:
        SAMURAI reference code, ``scripts/main_inference.py`` (without the +1).
    """
    b = np.asarray(box, dtype=np.float32)
    size = b[..., 2:] - b[..., :2]
    if not inclusive:
        size = np.maximum(size - 1.0, 0.0)
    xywh = np.concatenate([b[..., :2], size], axis=-1)
    return np.where(is_empty(b)[..., None], np.float32(0.0), xywh).astype(np.float32)
