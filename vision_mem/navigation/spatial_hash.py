"""What lies near a position: points in a coarse grid of lists, for nodes that come and move."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]


class Nearby:
    """Nodes by position.

    Args:
        reach: metres: edge of a grid cell; look-ups of about this radius are the fastest.
    """

    def __init__(self, reach: float) -> None:
        self._reach = reach
        self._cells: dict[tuple[int, int, int], set[int]] = {}
        self._where: dict[int, tuple[int, int, int]] = {}

    def put(self, node: int, position: Point) -> None:
        """Add a node, or move it."""
        cell = self._cell(position)
        old = self._where.get(node)
        if old == cell:
            return
        if old is not None:
            self.drop(node)
        self._where[node] = cell
        self._cells.setdefault(cell, set()).add(node)

    def drop(self, node: int) -> None:
        """Take a node out, if it is there."""
        cell = self._where.pop(node, None)
        if cell is not None:
            self._cells[cell].discard(node)
            if not self._cells[cell]:
                del self._cells[cell]

    def around(self, position: Point, radius: float) -> list[int]:
        """Nodes that may lie within ``radius`` metres, ascending; some lie a little further."""
        x, y, z = self._cell(position)
        span = math.ceil(radius / self._reach) if math.isfinite(radius) else 1 << 30
        if (2 * span + 1) ** 3 > len(self._cells):
            near = [
                cell
                for cell in self._cells
                if max(abs(cell[0] - x), abs(cell[1] - y), abs(cell[2] - z)) <= span
            ]
        else:
            steps = range(-span, span + 1)
            cells = ((x + i, y + j, z + k) for i, j, k in itertools.product(steps, repeat=3))
            near = [cell for cell in cells if cell in self._cells]
        return sorted(node for cell in near for node in self._cells[cell])

    def _cell(self, position: Point) -> tuple[int, int, int]:
        x, y, z = (math.floor(float(value) / self._reach) for value in position)
        return x, y, z
