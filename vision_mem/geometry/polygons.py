"""Polygons in the picture: what lies inside, how large they are, whether their edges cross."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ON_EDGE = 1e-6
"""Pixels from an edge within which a point lies on it."""


def points_inside(points: ArrayLike, corners: ArrayLike) -> NDArray[np.bool_]:
    """``(n,)``: which points ``(n, 2)`` lie in a polygon of corners ``(k, 2)``, k >= 3, in order.

    The edges to their right are counted.
    """
    p = np.asarray(points, np.float64)[:, None]
    start = np.asarray(corners, np.float64)
    end = np.roll(start, -1, axis=0)
    crosses = (start[:, 1] > p[..., 1]) != (end[:, 1] > p[..., 1])
    rise = np.where(end[:, 1] == start[:, 1], 1.0, end[:, 1] - start[:, 1])
    at = start[:, 0] + (p[..., 1] - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
    return np.asarray((crosses & (p[..., 0] < at)).sum(axis=1) % 2 == 1)


def points_covered(points: ArrayLike, corners: ArrayLike) -> NDArray[np.bool_]:
    """``(n,)``: which points ``(n, 2)`` lie in a polygon ``(k, 2)`` or on its edge."""
    p = np.asarray(points, np.float64)[:, None]
    start = np.asarray(corners, np.float64)
    along = np.roll(start, -1, axis=0) - start
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    share = (((p - start) * along).sum(axis=2) / length).clip(0, 1)
    off = np.linalg.norm(p - (start + share[..., None] * along), axis=2)
    return np.asarray(points_inside(points, corners) | (off <= _ON_EDGE).any(axis=1))


def polygon_area(corners: ArrayLike) -> float:
    """Square pixels of a polygon ``(k, 2)`` whose edges do not cross."""
    x, y = np.asarray(corners, np.float64).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def crossing_edges(corners: ArrayLike) -> tuple[int, int] | None:
    """Two edges of a polygon ``(k, 2)`` that cross or touch, by their first corners; else None.

    Edges that follow each other share a corner; they cross where one goes back along the other.
    """
    points = np.asarray(corners, np.float64)
    count = len(points)
    for first in range(count):
        for second in range(first + 1, count):
            a, b = points[first], points[(first + 1) % count]
            c, d = points[second], points[(second + 1) % count]
            if second == first + 1:
                crossed = _goes_back(a, b, d)
            elif (second + 1) % count == first:
                crossed = _goes_back(c, d, b)
            else:
                crossed = _segments_meet(a, b, c, d)
            if crossed:
                return first, second
    return None


def _goes_back(
    start: NDArray[np.float64], corner: NDArray[np.float64], end: NDArray[np.float64]
) -> bool:
    to, on = corner - start, end - corner
    return bool(_cross(to, on) == 0 and to @ on <= 0)


def _segments_meet(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]
) -> bool:
    sides = [
        np.sign(_cross(q - p, r - p)) for p, q, r in ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    ]
    if sides[0] != sides[1] and sides[2] != sides[3]:
        return True
    # On one line they meet where their bounds do.
    low, high = (
        np.maximum(np.minimum(a, b), np.minimum(c, d)),
        np.minimum(np.maximum(a, b), np.maximum(c, d)),
    )
    return not any(sides) and bool((low <= high).all())


def _cross(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(first[0] * second[1] - first[1] * second[0])
