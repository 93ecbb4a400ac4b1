"""What one frame says about space: which leaves its rays passed and in which they ended.

Each leaf counts once a frame, and one in which a ray ended counts as hit even where others passed
(specification 1.1 and 4.2). Rays go from the sensor to the middle of the leaf they end in, one
a leaf however many points lie in it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import DamagedFileError, InputError
from vision_mem.navigation.space.kernels import END, HIT, MISS, OctreeKernels, batches
from vision_mem.navigation.space.morton import (
    BRICK,
    CELL_OF,
    SLOT_OF,
    Cells,
    Codes,
    encode,
    quantise,
)
from vision_mem.navigation.storage import BROKEN, inflate

LEAVES = BRICK**3
_LARGEST = 1 << 27
"""Bytes of a stored frame, unpacked."""
_DENSEST = 1 << 26
"""Leaves of a box that is held at once; frames that reach further are sorted instead."""


@dataclass(frozen=True, eq=False)
class FrameUpdate:
    """What a frame changes, ready to be applied, or stored and applied later.

    Attributes:
        bricks: uint64 ``(n,)`` ascending, without repeats.
        state: uint8 ``(n, 512)`` of ``MISS`` and ``HIT`` bits, never both.
        hits: int64 ``(h,)`` ascending: ``brick index * 512 + slot`` of each leaf hit.
        colours: uint8 ``(h, 3)`` mean of the points in the leaf, or None.
        labels: uint16 ``(h,)`` the most frequent one, 0 for none, or None.
        embedding_of: int32 ``(h,)`` row in ``embeddings``, -1 for none, or None.
        embeddings: float32 ``(m, d)`` of length 1, or None.
        dropped: points without a place: not finite, or beyond the range of keys.
        beyond: points further than the greatest range, which only carve.
    """

    bricks: Codes
    state: NDArray[np.uint8]
    hits: NDArray[np.int64]
    colours: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint16] | None = None
    embedding_of: NDArray[np.int32] | None = None
    embeddings: NDArray[np.float32] | None = None
    dropped: int = 0
    beyond: int = 0

    def to_bytes(self) -> bytes:
        """Pack for storage."""
        extras = [self.colours, self.labels, self.embedding_of, self.embeddings]
        width = 0 if self.embeddings is None else self.embeddings.shape[1]
        head = [len(self.bricks), len(self.hits), self.dropped, self.beyond, width]
        head += [-1 if extra is None else len(extra) for extra in extras]
        # Where a brick lies is told by the step from the one before: mostly small numbers.
        steps = np.diff(self.bricks, prepend=np.uint64(0)).astype("<u8")
        planes = [np.packbits(self.state & bit != 0) for bit in (MISS, HIT)]
        parts = [np.array(head, "<i8"), steps, *planes, *extras]
        raw = b"".join(part.tobytes() for part in parts if part is not None)
        return zlib.compress(raw, 1)

    @classmethod
    def from_bytes(cls, packed: bytes) -> FrameUpdate:
        """Unpack what ``to_bytes`` gave.

        Raises:
            ModelError: for bytes that are damaged.
        """
        try:
            raw = memoryview(inflate(packed, _LARGEST))
            n, h, dropped, beyond, width, *lengths = np.frombuffer(raw[:72], "<i8").tolist()
            if not 0 <= n <= len(raw) // (8 + LEAVES // 4) or width < 0 or min(dropped, beyond) < 0:
                raise ValueError
            kinds = [("u1", 3), ("<u2", 1), ("<i4", 1), ("<f4", width)]
            place = 72 + 8 * n
            bricks = np.cumsum(np.frombuffer(raw[72:place], "<u8"), dtype=np.uint64)
            state = np.zeros((n, LEAVES), np.uint8)
            for bit in (MISS, HIT):
                plane = np.frombuffer(raw[place : place + n * LEAVES // 8], np.uint8)
                state |= (np.unpackbits(plane).reshape(n, LEAVES) * bit).astype(np.uint8)
                place += n * LEAVES // 8
            hits = np.flatnonzero(state.reshape(-1) & HIT)
            extras = []
            for length, (kind, columns) in zip(lengths, kinds, strict=True):
                size = max(length, 0) * columns * np.dtype(kind).itemsize
                part = np.frombuffer(raw[place : place + size], kind)
                part = part.reshape(-1, columns) if kind in ("u1", "<f4") and columns else part
                extras.append(None if length < 0 else part)
                place += size
            if len(hits) != h or place != len(raw) or (bricks[1:] <= bricks[:-1]).any():
                raise ValueError
        except BROKEN as error:
            raise DamagedFileError("a stored frame of the map is damaged") from error
        paint, label, rows, vectors = extras
        return cls(bricks, state, hits, paint, label, rows, vectors, dropped, beyond)


def look(
    kernels: OctreeKernels,
    size: float,
    corner: ArrayLike,
    sensor: ArrayLike,
    points: ArrayLike,
    *,
    max_range: float = np.inf,
    colours: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    embeddings: ArrayLike | None = None,
    embedding_of: ArrayLike | None = None,
) -> FrameUpdate:
    """Work out what a frame's points say about space.

    ``sensor`` ``(3,)``, where rays begin, and ``points`` ``(n, 3)`` are metres in the map's frame,
    whose leaf (0, 0, 0) begins at ``corner``. Rows that are not finite are dropped; points beyond
    ``max_range`` carve up to there and hit nothing. ``colours`` are ``(n, 3)`` uint8, ``labels``
    ``(n,)`` 0 to 65535, 0 for none; ``embeddings`` ``(m, d)`` are of segments, ``embedding_of``
    ``(n,)`` is the row of each point, -1 for none.

    Raises:
        InputError: for a sensor position that is not finite, or arrays that do not fit.
    """
    sensor = np.asarray(sensor, np.float64)
    points = np.asarray(points, np.float64)
    if sensor.shape != (3,) or not np.isfinite(sensor).all():
        raise InputError(f"sensor position is {sensor.tolist()}; expected 3 finite numbers, metres")
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points have shape {points.shape}; expected (n, 3) metres")
    n = len(points)
    segment = _column(embedding_of, n, "embedding_of", -1, np.iinfo(np.int32).max)
    kinds = _column(labels, n, "labels", 0, 65535)
    paint = None if colours is None else np.asarray(colours)
    if paint is not None and paint.shape != (n, 3):
        raise InputError(f"colours have shape {paint.shape}; expected ({n}, 3) as the points")
    first, inside = quantise(sensor[None], size, corner)
    start = (sensor - np.asarray(corner, np.float64)) / size
    if not inside[0]:
        # Nothing can be said about a way that begins outside the grid.
        empty = np.empty((0, LEAVES), np.uint8)
        return FrameUpdate(np.empty(0, np.uint64), empty, np.empty(0, np.int64), dropped=n)
    hit = np.ones(n, bool)
    if np.isfinite(max_range) and n:
        away = points - sensor
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.sqrt(away[:, 0] ** 2 + away[:, 1] ** 2 + away[:, 2] ** 2)
            far = distance > max_range
        if far.any():
            hit = ~far
            with np.errstate(invalid="ignore"):
                cut = sensor + away[far] * (max_range / distance[far])[:, None]
            points = points.copy()
            points[far] = cut
    cells, inside = quantise(points, size, corner)
    dropped = n - int(inside.sum())
    beyond = int((inside & ~hit).sum())
    if dropped:
        cells, hit = cells[inside], hit[inside]
        kinds, segment = (None if c is None else c[inside] for c in (kinds, segment))
        paint = None if paint is None else paint[inside]
    bricks, state, of_point = _touched(kernels, start, first[0], cells, hit)
    hits = np.flatnonzero(state.reshape(-1) & HIT)
    # Which leaf a point hit matters only to what it carries.
    carries = not (paint is None and kinds is None and segment is None)
    order = _order(of_point[hit], hits, state.size) if carries else hits
    unit, segment = _units(embeddings, segment)
    count = len(hits)
    if paint is not None:
        paint = _mean(paint[hit], order, count)
    kinds = None if kinds is None else _majority(kinds[hit], order, count)
    rows = None if segment is None else _majority(segment[hit] + 1, order, count) - 1
    return FrameUpdate(
        bricks, state, hits, paint, None if kinds is None else kinds.astype(np.uint16),
        None if rows is None else rows.astype(np.int32), unit, dropped, beyond,
    )  # fmt: skip


def _column(
    values: ArrayLike | None, n: int, what: str, least: int, most: int
) -> NDArray[np.int64] | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{what} have shape {array.shape}; expected ({n},) whole numbers")
    if n and (array.min() < least or array.max() > most):
        raise InputError(f"{what} are outside {least} to {most}")
    return array.astype(np.int64)


def _units(
    embeddings: ArrayLike | None, segment: NDArray[np.int64] | None
) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None]:
    if embeddings is None or segment is None:
        return None, None
    vectors = np.asarray(embeddings, np.float32)
    if vectors.ndim != 2 or (len(segment) and segment.max() >= len(vectors)):
        raise InputError(
            f"embeddings have shape {vectors.shape}; expected (m, d), a row for each number in "
            "embedding_of"
        )
    length = np.linalg.norm(vectors, axis=1)
    good = np.isfinite(length) & (length > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.where(good[:, None], vectors / length[:, None], 0).astype(np.float32)
    known = np.append(good, False)  # a vector without direction says nothing; -1 finds the last
    return unit, np.where(known[segment], segment, -1)


def _touched(
    kernels: OctreeKernels,
    start: NDArray[np.float64],
    first: NDArray[np.int64],
    cells: Cells,
    hit: NDArray[np.bool_],
) -> tuple[Codes, NDArray[np.uint8], NDArray[np.int64]]:
    """Bricks, state, and for each point the place of its leaf in ``state.reshape(-1)``."""
    columns = [np.append(cells[:, axis], first[axis]) for axis in range(3)]
    low = np.array([column.min() for column in columns]) // BRICK * BRICK
    shape = np.array([column.max() for column in columns]) // BRICK + 1 - low // BRICK
    if np.prod(shape.astype(np.float64)) * LEAVES > _DENSEST:
        return _touched_sparse(kernels, start, first, cells, hit)
    reach = [np.arange(count * BRICK) for count in shape]
    strides = (shape[1] * shape[2] * LEAVES, shape[2] * LEAVES, LEAVES)
    tables = [
        along // BRICK * stride + SLOT_OF[axis][along % BRICK]
        for axis, (along, stride) in enumerate(zip(reach, strides, strict=True))
    ]
    grid = np.zeros(int(np.prod(shape)) * LEAVES, np.uint8)
    place = np.zeros(len(cells), np.int64)
    for axis, table in enumerate(tables):
        place += table[columns[axis][:-1] - low[axis]]
    if not hit.all():
        grid[place[~hit]] = END
    grid[place if hit.all() else place[hit]] = HIT
    ends = np.flatnonzero(grid)
    kernels.mark(start, first, _cells_of(ends, shape, low), *tables, low, grid)
    boxes = grid.reshape(-1, LEAVES)
    boxes &= MISS | HIT
    boxes[boxes == (MISS | HIT)] = HIT
    # Eight leaves at once: whether anything in a brick is set.
    kept = np.flatnonzero(boxes.view(np.uint64).any(axis=1))
    brick_cells = np.stack(np.unravel_index(kept, tuple(shape.tolist())), axis=1) + low // BRICK
    codes = encode(brick_cells * BRICK) >> np.uint64(9)
    order = np.argsort(codes)
    state = boxes[kept[order]]
    row = np.full(len(boxes), -1, np.int64)
    row[kept[order]] = np.arange(len(kept))
    return codes[order], state, row[place // LEAVES] * LEAVES + place % LEAVES


def _cells_of(place: NDArray[np.int64], shape: NDArray[np.int64], low: NDArray[np.int64]) -> Cells:
    bricks = np.stack(np.unravel_index(place // LEAVES, tuple(shape.tolist())), axis=1)
    return np.ascontiguousarray(bricks * BRICK + CELL_OF[place % LEAVES] + low)


def _touched_sparse(
    kernels: OctreeKernels,
    start: NDArray[np.float64],
    first: NDArray[np.int64],
    cells: Cells,
    hit: NDArray[np.bool_],
) -> tuple[Codes, NDArray[np.uint8], NDArray[np.int64]]:
    codes = encode(cells)
    ends = np.unique(cells, axis=0)
    missed = np.empty(0, np.uint64)
    for some in batches(first, ends):
        walked = encode(kernels.walk(start, first, ends[some]))
        missed = np.unique(np.concatenate([missed, walked]))
    hits = np.unique(codes[hit])
    bricks = np.unique(np.concatenate([missed, hits]) >> np.uint64(9))
    state = np.zeros((len(bricks), LEAVES), np.uint8)
    flat = state.reshape(-1)

    def place(of: Codes) -> NDArray[np.int64]:
        row = np.searchsorted(bricks, of >> np.uint64(9))
        return row * LEAVES + (of & np.uint64(LEAVES - 1)).astype(np.int64)

    flat[place(missed)] = MISS
    flat[place(hits)] = HIT
    return bricks, state, place(codes)


def _order(of_point: NDArray[np.int64], hits: NDArray[np.int64], leaves: int) -> NDArray[np.int64]:
    """For each point that hit, the number of its leaf among ``hits``."""
    number = np.empty(leaves, np.int64)
    number[hits] = np.arange(len(hits))
    return number[of_point]


def _mean(colours: NDArray[np.uint8], order: NDArray[np.int64], n: int) -> NDArray[np.uint8]:
    count = np.bincount(order, minlength=n)
    sums = [np.bincount(order, colours[:, axis], n) for axis in range(3)]
    return np.rint(np.stack(sums, axis=1) / count[:, None]).astype(np.uint8)


def _majority(values: NDArray[np.int64], order: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The most frequent value of each group, the lowest of equals; 0 does not vote."""
    out = np.zeros(n, np.int64)
    votes = values != 0
    pairs, counts = np.unique(
        np.stack([order[votes], values[votes]], axis=1), axis=0, return_counts=True
    )
    best = np.lexsort((-pairs[:, 1], counts, pairs[:, 0]))
    out[pairs[best, 0]] = pairs[best, 1]  # the last of a group stays
    return out
