"""Names of cells: 63-bit Morton codes of a cubic grid with 2^21 cells along each axis.

A cell's x, y and z are interleaved, x in bit 0. Cutting three bits off a code gives the name of
the eight times larger cell around it, so one sorted list of codes is an octree of all levels.

Source: specification 1.1. Cells are found by flooring, never by cutting off towards zero, and what
lies outside is reported, never moved to the border.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

BITS = 21
"""Bits along one axis; also the level of the root, leaves being level 0."""
HALF = 1 << (BITS - 1)
"""Cell numbers along an axis run from -HALF to HALF - 1."""
BRICK = 8
"""Leaves along the edge of a brick; 512 in all."""

Cells = NDArray[np.int64]
Codes = NDArray[np.uint64]

_SPREAD = (
    (32, 0x001F00000000FFFF),
    (16, 0x001F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


def quantise(
    points: ArrayLike, size: float, origin: ArrayLike = (0.0, 0.0, 0.0)
) -> tuple[Cells, NDArray[np.bool_]]:
    """Find the cells of ``size`` metres that points ``(n, 3)`` lie in, (0, 0, 0) at ``origin``.

    Returns:
        int64 ``(n, 3)`` cell numbers from ``-HALF`` to ``HALF - 1``, and bool ``(n,)``: False
        where a point is not finite or beyond the range; its cell number is then 0.
    """
    scaled = np.floor((np.asarray(points, np.float64) - np.asarray(origin, np.float64)) / size)
    with np.errstate(invalid="ignore"):
        good = (scaled >= -HALF) & (scaled < HALF)
    # Column by column: numpy reduces short rows slowly.
    inside = np.asarray(good[:, 0] & good[:, 1] & good[:, 2])
    if not inside.all():
        scaled[~inside] = 0.0
    return scaled.astype(np.int64), inside


def centres(cells: Cells, size: float, origin: ArrayLike = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """Middles of cells, ``(n, 3)`` metres in the map's frame."""
    return np.asarray((np.asarray(cells) + 0.5) * size + np.asarray(origin, np.float64), np.float64)


def encode(cells: ArrayLike) -> Codes:
    """Codes, uint64 ``(...)``, of cell numbers ``(..., 3)`` from ``-HALF`` to ``HALF - 1``."""
    shifted = (np.asarray(cells, np.int64) + HALF).astype(np.uint64)
    return _spread(shifted[..., 0], 0) | _spread(shifted[..., 1], 1) | _spread(shifted[..., 2], 2)


def decode(codes: ArrayLike) -> Cells:
    """Turn codes back into cell numbers, int64 ``(..., 3)``."""
    codes = np.asarray(codes, np.uint64)
    axes = [_gather(codes >> np.uint64(axis)) for axis in range(3)]
    return np.stack(axes, axis=-1).astype(np.int64) - HALF


def level_centres(
    codes: ArrayLike, level: int, size: float, origin: ArrayLike = (0.0, 0.0, 0.0)
) -> NDArray[np.float64]:
    """Middles of cells of a level, ``(n, 3)`` metres: leaf codes are cut by ``3 * level`` bits."""
    from_corner = decode(codes) + HALF
    middle = ((from_corner + 0.5) * (1 << level) - HALF) * size
    return np.asarray(middle + np.asarray(origin, np.float64))


def _spread(values: Codes, axis: int) -> Codes:
    for shift, mask in _SPREAD:
        values = (values | (values << np.uint64(shift))) & np.uint64(mask)
    return values << np.uint64(axis)


def _gather(values: Codes) -> Codes:
    values = values & np.uint64(_SPREAD[-1][1])
    masks = [mask for _, mask in _SPREAD[-2::-1]] + [(1 << BITS) - 1]
    for (shift, _), mask in zip(_SPREAD[::-1], masks, strict=True):
        values = (values | (values >> np.uint64(shift))) & np.uint64(mask)
    return values


_INNER = np.stack(np.meshgrid(*[np.arange(BRICK)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
SLOT_OF = np.zeros((3, BRICK), np.int64)
"""What each coordinate inside a brick adds to a leaf's slot: ``slot = sum of SLOT_OF[axis, x]``."""
for _axis in range(3):
    for _place in range(BRICK):
        SLOT_OF[_axis, _place] = sum(((_place >> bit) & 1) << (3 * bit + _axis) for bit in range(3))
CELL_OF = np.zeros((BRICK**3, 3), np.int64)
"""Cell inside a brick of each slot."""
CELL_OF[SLOT_OF[0][_INNER[:, 0]] + SLOT_OF[1][_INNER[:, 1]] + SLOT_OF[2][_INNER[:, 2]]] = _INNER
