"""The inner loops of the octree, twice: numba's machine code, and numpy alone.

Both give the same cells, bit for bit: the same float64 sums in the same order, no fused
operations. Without numba (``pip install 'vision-mem[nav]'``) everything works, only slower.

A ray's cells are found by stepping to the nearest cell border (Amanatides and Woo, 1987); the
number of steps along each axis is known beforehand, so that no rounding can miss the end.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, MissingExtra

CHOICES = ("auto", "numba", "numpy")
MISS, HIT, END = 1, 2, 4
"""Bits of a leaf in one frame: a ray passed, a ray ended, a ray was cut off here."""
_ROOM = 1 << 22
"""Cells that one round of walking may hold at once."""

Cells = NDArray[np.int64]


@dataclass(frozen=True)
class OctreeKernels:
    """One of the two sets.

    Attributes:
        name: ``numba`` or ``numpy``.
        mark: ``mark(start, first, ends, tx, ty, tz, low, grid)`` sets bit ``MISS`` in the flat
            uint8 ``grid`` for each cell from ``first`` up to, not including, each of ``ends``;
            a cell's place is ``tx[x - low[0]] + ty[y - low[1]] + tz[z - low[2]]``.
        walk: ``walk(start, first, ends)`` gives those cells, int64 ``(n, 3)``, ray after ray.
    """

    name: str
    mark: Callable[..., Any]
    walk: Callable[..., Any]


def choose(name: str = "auto") -> OctreeKernels:
    """Give a set of kernels; ``auto`` is numba where it is installed.

    Raises:
        MissingExtra: when numba is asked for and not installed.
        InputError: for another name.
    """
    if name not in CHOICES:
        raise InputError(f"kernels is {name!r}; expected one of {', '.join(CHOICES)}")
    if name == "numpy":
        return NUMPY
    try:
        return _compiled()
    except ImportError as error:
        if name == "auto":
            return NUMPY
        raise MissingExtra(
            "the numba kernels need numba: pip install 'vision-mem[nav]', or set kernels to numpy"
        ) from error


# -- plain loops, for numba ------------------------------------------------------------------


def _mark_loop(
    start: Any, first: Any, ends: Any, tx: Any, ty: Any, tz: Any, low: Any, grid: Any
) -> None:
    for ray in range(ends.shape[0]):
        x, y, z = first[0] - low[0], first[1] - low[1], first[2] - low[2]
        nx, ny, nz = ends[ray, 0] - first[0], ends[ray, 1] - first[1], ends[ray, 2] - first[2]
        ix = 1.0 / (ends[ray, 0] + 0.5 - start[0]) if nx else 0.0
        iy = 1.0 / (ends[ray, 1] + 0.5 - start[1]) if ny else 0.0
        iz = 1.0 / (ends[ray, 2] + 0.5 - start[2]) if nz else 0.0
        sx, sy, sz = (1 if nx > 0 else -1), (1 if ny > 0 else -1), (1 if nz > 0 else -1)
        bx = float(first[0] + (1 if nx > 0 else 0))
        by = float(first[1] + (1 if ny > 0 else 0))
        bz = float(first[2] + (1 if nz > 0 else 0))
        nx, ny, nz = abs(nx), abs(ny), abs(nz)
        far = np.inf
        ux = (bx - start[0]) * ix if nx else far
        uy = (by - start[1]) * iy if ny else far
        uz = (bz - start[2]) * iz if nz else far
        for _ in range(nx + ny + nz):
            grid[tx[x] + ty[y] + tz[z]] |= 1
            if ux <= uy and ux <= uz:
                x += sx
                bx += sx
                nx -= 1
                ux = (bx - start[0]) * ix if nx else far
            elif uy <= uz:
                y += sy
                by += sy
                ny -= 1
                uy = (by - start[1]) * iy if ny else far
            else:
                z += sz
                bz += sz
                nz -= 1
                uz = (bz - start[2]) * iz if nz else far


def _walk_loop(start: Any, first: Any, ends: Any, out: Any) -> None:
    place = 0
    cell = np.zeros(3, np.int64)
    step = np.zeros(3, np.int64)
    left = np.zeros(3, np.int64)
    border = np.zeros(3)
    inverse = np.zeros(3)
    until = np.zeros(3)
    for ray in range(ends.shape[0]):
        for axis in range(3):
            cell[axis] = first[axis]
            way = ends[ray, axis] - first[axis]
            left[axis] = abs(way)
            step[axis] = 1 if way > 0 else -1
            border[axis] = first[axis] + (1 if way > 0 else 0)
            inverse[axis] = 1.0 / (ends[ray, axis] + 0.5 - start[axis]) if way else 0.0
            until[axis] = (border[axis] - start[axis]) * inverse[axis] if way else np.inf
        for _ in range(left[0] + left[1] + left[2]):
            out[place, 0], out[place, 1], out[place, 2] = cell[0], cell[1], cell[2]
            place += 1
            if until[0] <= until[1] and until[0] <= until[2]:
                axis = 0
            elif until[1] <= until[2]:
                axis = 1
            else:
                axis = 2
            cell[axis] += step[axis]
            border[axis] += step[axis]
            left[axis] -= 1
            more = left[axis] > 0
            until[axis] = (border[axis] - start[axis]) * inverse[axis] if more else np.inf


@functools.lru_cache(maxsize=1)
def _compiled() -> OctreeKernels:
    numba = importlib.import_module("numba")

    def compiled(loop: Callable[..., None]) -> Any:
        try:
            return numba.njit(cache=True, nogil=True)(loop)
        except RuntimeError:  # no folder in which compiled code could be kept
            return numba.njit(nogil=True)(loop)

    mark, walked = compiled(_mark_loop), compiled(_walk_loop)

    def walk(start: Any, first: Cells, ends: Cells) -> Cells:
        out = np.empty((int(np.abs(ends - first).sum()), 3), np.int64)
        walked(start, first, ends, out)
        return out

    return OctreeKernels("numba", mark, walk)


# -- numpy -----------------------------------------------------------------------------------


class _Rays:
    """All rays of a batch, one step at a time."""

    def __init__(self, start: Any, first: Cells, ends: Cells) -> None:
        way = ends - first
        self.start = np.asarray(start, np.float64)
        self.cell = np.broadcast_to(first, way.shape).copy()
        self.left = np.abs(way)
        self.step = np.where(way > 0, 1, -1)
        self.border = (first + (way > 0)).astype(np.float64)
        with np.errstate(divide="ignore"):
            self.inverse = 1.0 / (ends + 0.5 - self.start)
        self.inverse[way == 0] = 0.0
        self.until = np.where(way != 0, (self.border - self.start) * self.inverse, np.inf)
        self.number = np.arange(len(ends))
        self._keep(np.any(self.left > 0, axis=1))

    def _keep(self, which: NDArray[np.bool_]) -> None:
        if not which.all():
            for name in ("cell", "left", "step", "border", "inverse", "until", "number"):
                setattr(self, name, getattr(self, name)[which])

    def advance(self) -> None:
        # argmin takes the first of equals, as the loop does: x before y before z.
        axis = self.until.argmin(axis=1)
        ray = np.arange(len(axis))
        step = self.step[ray, axis]
        self.cell[ray, axis] += step
        border = self.border[ray, axis] + step
        self.border[ray, axis] = border
        left = self.left[ray, axis] - 1
        self.left[ray, axis] = left
        until = (border - self.start[axis]) * self.inverse[ray, axis]
        self.until[ray, axis] = np.where(left > 0, until, np.inf)
        self._keep(np.any(np.isfinite(self.until), axis=1))


def _mark_numpy(
    start: Any, first: Cells, ends: Cells, tx: Any, ty: Any, tz: Any, low: Any, grid: Any
) -> None:
    rays = _Rays(start, first, ends)
    while len(rays.cell):
        x, y, z = (rays.cell - low).T
        grid[tx[x] + ty[y] + tz[z]] |= MISS
        rays.advance()


def _walk_numpy(start: Any, first: Cells, ends: Cells) -> Cells:
    counts = np.abs(ends - first).sum(axis=1)
    out = np.empty((int(counts.sum()), 3), np.int64)
    place = np.cumsum(counts) - counts
    rays = _Rays(start, first, ends)
    while len(rays.cell):
        out[place[rays.number]] = rays.cell
        place[rays.number] += 1
        rays.advance()
    return out


NUMPY = OctreeKernels("numpy", _mark_numpy, _walk_numpy)


def batches(first: Cells, ends: Cells) -> list[slice]:
    """Cut rays into runs whose cells fit into memory at once."""
    total = np.abs(ends - first).sum(axis=1).cumsum()
    if not len(total) or total[-1] <= _ROOM:
        return [slice(0, len(ends))]
    cuts = np.searchsorted(total, np.arange(_ROOM, int(total[-1]), _ROOM)).tolist()
    edges = sorted({0, *cuts, len(ends)})
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
