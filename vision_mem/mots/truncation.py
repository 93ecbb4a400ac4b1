"""Objects that come in and go out over the picture's edge: what is seen of them is no box yet.

A thing that comes in is a sliver first, and twice as wide a frame later: the two hardly overlap,
though they are plainly the same. What says so is the edge they share.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NEAR = 2.0  # pixels from the edge that still touch it


def at_edge(boxes: ArrayLike, size: tuple[int, int]) -> NDArray[np.bool_]:
    """``(n, 4)``: whether boxes touch left, top, right, bottom of a ``(height, width)`` frame."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    height, width = size
    low = corners[:, :2] <= _NEAR
    high = corners[:, 2:] >= np.array([width, height]) - _NEAR
    return np.concatenate([low, high], axis=1)


def edge_fit(
    first: ArrayLike, second: ArrayLike, size: tuple[int, int], *, slivers: bool = False
) -> NDArray[np.float64]:
    """How well boxes go together that are cut by the same side of the picture.

    Along the side they must overlap; how far they reach into the picture may differ, as it does
    from frame to frame, by less than half of their length.

    Args:
        first: ``(n, 4)`` pixels, inside the frame.
        second: ``(m, 4)``.
        size: ``(height, width)`` of the frame.
        slivers: the second ones may be the first that is seen of something: shorter than it, and
            as far from it as it is long.

    Returns:
        ``(n, m)`` in [0, 1]; 0 for boxes that share no side.
    """
    a = np.asarray(first, np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, np.float64).reshape(1, -1, 4)
    shared = at_edge(first, size)[:, None] & at_edge(second, size)[None]
    fit = np.zeros(shared.shape[:2])
    for side in range(4):
        along = 1 - side % 2  # a left or right side runs along y
        low = np.maximum(a[..., along], b[..., along])
        high = np.minimum(a[..., along + 2], b[..., along + 2])
        first_long = a[..., along + 2] - a[..., along]
        second_long = b[..., along + 2] - b[..., along]
        common = np.maximum(high - low, 0)
        shorter = np.minimum(first_long, second_long)
        whole = shorter if slivers else first_long + second_long - common
        overlap = common / np.maximum(whole, 1e-9)
        inner = (side + 2) % 4
        step = np.abs(a[..., inner] - b[..., inner])
        longer = np.maximum(np.maximum(first_long, second_long), 1e-9)
        near = 1 - (1 if slivers else 2) * step / longer
        fit = np.maximum(fit, np.where(shared[..., side], overlap * np.clip(near, 0, 1), 0.0))
    return np.asarray(fit, np.float64)
