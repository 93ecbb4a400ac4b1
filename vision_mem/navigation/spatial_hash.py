"""What lies near a position: a coarse grid over rows of arrays, for nodes that come and move."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
_FAR = 1 << 40
"""Cells from the middle at which the grid ends; what is further lies in the last one."""


class Nearby:
    """Nodes by position; look-ups of about ``reach`` metres, a cell's edge, are the fastest."""

    def __init__(self, reach: float) -> None:
        self._reach = reach
        self._cells: dict[tuple[int, ...], set[int]] = {}
        self._row: dict[int, int] = {}
        self._free: list[int] = []
        self._nodes = np.full(16, -1, np.int64)
        self._where = np.zeros((16, 3))
        self._grid = np.zeros((16, 3), np.int64)

    def put(self, node: int, position: NDArray[np.float64]) -> None:
        """Add a node, or move it."""
        row, cell = self._row.get(node), self._cell(position)
        if row is not None:
            old = self._of(row)
            self._where[row] = position
            if old == cell:
                return
            self._leave(row, old)
        else:
            row = self._free.pop() if self._free else len(self._row)
            if row == len(self._nodes):
                self._nodes = np.append(self._nodes, np.full(row, -1, np.int64))
                self._where = np.append(self._where, np.zeros((row, 3)), axis=0)
                self._grid = np.append(self._grid, np.zeros((row, 3), np.int64), axis=0)
            self._row[node], self._nodes[row], self._where[row] = row, node, position
        self._grid[row] = cell
        self._cells.setdefault(cell, set()).add(row)

    def drop(self, node: int) -> None:
        """Take a node out, if it is there."""
        row = self._row.pop(node, None)
        if row is not None:
            self._leave(row, self._of(row))
            self._nodes[row] = -1
            self._free.append(row)

    def around(
        self, position: NDArray[np.float64], radius: float
    ) -> tuple[Ids, NDArray[np.float64], NDArray[np.float64]]:
        """Nodes that may lie within ``radius`` metres: those of all cells that it touches.

        Returns:
            Ids ``(n,)``, metres ``(n,)`` and positions ``(n, 3)``, nearest first, equals by id;
            some lie a little further than the radius.
        """
        cell = self._cell(position)
        span = math.ceil(radius / self._reach) if math.isfinite(radius) else 2 * _FAR
        if (2 * span + 1) ** 3 > len(self._cells):
            near = (np.abs(self._grid - cell) <= span).all(axis=1) & (self._nodes >= 0)
            rows: NDArray[Any] = np.flatnonzero(near)
        else:
            axes = (range(each - span, each + span + 1) for each in cell)
            cells = (self._cells.get(each, ()) for each in itertools.product(*axes))
            rows = np.fromiter(itertools.chain.from_iterable(cells), np.int64)
        nodes, where = self._nodes[rows], self._where[rows]
        metres = np.linalg.norm(where - position, axis=1)
        order = np.lexsort((nodes, metres))
        return nodes[order], metres[order], where[order]

    def within(
        self, position: NDArray[np.float64], radius: float
    ) -> tuple[Ids, NDArray[np.float64], NDArray[np.float64]]:
        """The same of nodes that do lie within ``radius`` metres."""
        nodes, metres, where = self.around(position, radius)
        count = int(np.searchsorted(metres, radius, "right"))
        return nodes[:count], metres[:count], where[:count]

    def _of(self, row: int) -> tuple[int, ...]:
        return tuple(self._grid[row].tolist())

    def _leave(self, row: int, cell: tuple[int, ...]) -> None:
        self._cells[cell].discard(row)
        if not self._cells[cell]:
            del self._cells[cell]

    def _cell(self, position: NDArray[np.float64]) -> tuple[int, ...]:
        at = (math.floor(each / self._reach) for each in position.tolist())
        return tuple(min(max(each, -_FAR), _FAR) for each in at)
