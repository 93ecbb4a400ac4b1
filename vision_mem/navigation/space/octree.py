"""A map of space: which cells are free, which are not, what colour, label and looks they have.

Cells are leaves of an octree of 22 levels. Only leaves are kept, in bricks; larger cells are
worked out from the sorted codes when they are asked for (specification 1.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.navigation.mean_directions import UnitSums
from vision_mem.navigation.space.blocks import LEAVES, SHADES, UNIT, Bricks
from vision_mem.navigation.space.kernels import HIT, MISS, choose
from vision_mem.navigation.space.morton import (
    BITS,
    HALF,
    Codes,
    decode,
    encode,
    level_centres,
    quantise,
)
from vision_mem.navigation.space.raycasting import FrameUpdate, look


@dataclass(frozen=True, eq=False)
class Leaves:
    """Cells of the map.

    Attributes:
        codes: uint64 ``(n,)`` ascending, of ``level``.
        level: 0 for leaves; each level doubles the edge.
        centres: float64 ``(n, 3)`` metres.
        log_odds: float32 ``(n,)``; for larger cells the highest of their known leaves.
        hits: int64 ``(n,)``, summed.
        known: int64 ``(n,)`` leaves of which something is known; 1 for leaves.
        tick: int64 ``(n,)`` of the last update.
        colours: uint8 ``(n, 3)`` weighted by hits, or None.
        labels: uint16 ``(n,)`` of the leaf with the most hits, 0 for none, or None.
        embedding: int64 ``(n,)`` row for ``Octree.embedding``, 0 for none.
    """

    codes: Codes
    level: int
    centres: NDArray[np.float64]
    log_odds: NDArray[np.float32]
    hits: NDArray[np.int64]
    known: NDArray[np.int64]
    tick: NDArray[np.int64]
    colours: NDArray[np.uint8] | None
    labels: NDArray[np.uint16] | None
    embedding: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, which: NDArray[np.bool_]) -> Leaves:
        """Some of them, in their order."""
        values: list[Any] = [getattr(self, each.name) for each in fields(self)]
        parts: list[Any] = [v[which] if isinstance(v, np.ndarray) else v for v in values]
        return Leaves(*parts)

    @property
    def occupied(self) -> NDArray[np.bool_]:
        """Which are not free."""
        return self.log_odds > 0


@dataclass(frozen=True)
class RayHit:
    """Where a ray meets something.

    Attributes:
        position: ``(3,)`` metres, middle of the leaf.
        distance: metres from the start to there.
        code: of the leaf.
        through_unknown: whether leaves on the way were never looked at.
    """

    position: tuple[float, float, float]
    distance: float
    code: int
    through_unknown: bool


UNKNOWN, FREE, OCCUPIED = -1, 0, 1


@dataclass(frozen=True)
class OctreeConfig:
    """How space is cut up and how much a look counts.

    Attributes:
        leaf: edge of a leaf, metres; the map then reaches over 2^21 of them.
        hit, miss: log-odds that a ray's end adds and that a ray passing takes, both above 0.
        lowest, highest: log-odds stop here.
        max_range: metres; what is further away only carves. 0 for no limit.
        kernels: ``auto``, ``numba`` or ``numpy``.

    Source:
        OctoMap's usual numbers (Hornung et al., 2013), rounded to hundredths.
    """

    leaf: float = 0.10
    hit: float = 0.85
    miss: float = 0.40
    lowest: float = -2.0
    highest: float = 3.5
    max_range: float = 10.0
    kernels: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.leaf < np.inf:
            raise InputError(f"leaf is {self.leaf}; expected an edge above 0, metres")
        if not (0 < self.hit <= 30 and 0 < self.miss <= 30):
            raise InputError(f"hit {self.hit} and miss {self.miss} must lie above 0, up to 30")
        if not -30 <= self.lowest < 0 < self.highest <= 30:
            raise InputError("expected -30 <= lowest < 0 < highest <= 30 log-odds")
        if not self.max_range >= 0:
            raise InputError(f"max_range is {self.max_range}; expected metres, or 0 for no limit")


@dataclass
class OctreeStats:
    """What was taken in so far.

    Attributes:
        frames: updates applied.
        hits, misses: leaves updated, once a frame each.
        dropped: points without a place: not finite, or beyond the range of keys.
        beyond: points further than ``max_range``.
    """

    frames: int = 0
    hits: int = 0
    misses: int = 0
    dropped: int = 0
    beyond: int = 0


class Octree:
    """Occupancy, colours, labels and embeddings in cubic leaves.

    The map's range lies about ``corner``, ``(3,)`` metres: that of leaf (0, 0, 0).
    """

    def __init__(self, config: OctreeConfig | None = None, corner: ArrayLike = (0, 0, 0)) -> None:
        self.config = config or OctreeConfig()
        self.corner = np.asarray(corner, np.float64)
        if self.corner.shape != (3,) or not np.isfinite(self.corner).all():
            raise InputError(f"corner is {self.corner.tolist()}; expected 3 finite numbers, metres")
        self.kernels = choose(self.config.kernels)
        self.bricks = Bricks()
        self.stats = OctreeStats()
        self.vectors = UnitSums()
        self._steps = [
            round(value * UNIT) for value in (self.config.hit, self.config.miss, self.config.lowest)
        ] + [round(self.config.highest * UNIT)]

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self.bricks.nbytes + self.vectors.nbytes

    # -- writing -------------------------------------------------------------------------------

    def look(self, sensor: ArrayLike, points: ArrayLike, **extras: Any) -> FrameUpdate:
        """Work out what a frame changes, without changing anything; see ``raycasting.look``."""
        reach = self.config.max_range or np.inf
        return look(
            self.kernels, self.config.leaf, self.corner, sensor, points, max_range=reach, **extras
        )

    def insert(self, sensor: ArrayLike, points: ArrayLike, **extras: Any) -> FrameUpdate:
        """Take in one frame: ``look``, then ``apply``; arguments as ``raycasting.look``."""
        update = self.look(sensor, points, **extras)
        self.apply(update)
        return update

    def apply(self, update: FrameUpdate, anchor: int = 0) -> None:
        """Change the map as ``look`` said of this grid, seen from the place ``anchor``."""
        hit, miss, lowest, highest = self._steps
        stats = self.stats
        stats.frames += 1
        stats.dropped += update.dropped
        stats.beyond += update.beyond
        stats.hits += len(update.hits)
        stats.misses += int(np.count_nonzero(update.state == MISS))
        if not len(update.bricks):
            return
        bricks = self.bricks
        rows = bricks.rows(update.bricks)
        index, slot = np.nonzero(update.state)
        at = (rows[index], slot)
        was_hit = update.state[index, slot] == HIT
        odds = bricks.log_odds[at].astype(np.int32) + np.where(was_hit, hit, -miss)
        bricks.log_odds[at] = np.clip(odds, lowest, highest)
        bricks.tick[at] = stats.frames
        bricks.anchor[rows] = anchor
        bricks.dirty[rows] = True
        at = (rows[update.hits // LEAVES], update.hits % LEAVES)
        count = bricks.hits[at]
        bricks.hits[at] = np.where(count < 65535, count + 1, count)
        if update.colours is not None:
            self._paint(at, update.colours)
        if update.labels is not None:
            self._vote(at, update.labels)
        if update.embedding_of is not None and update.embeddings is not None:
            self._embed(at, update.embedding_of, update.embeddings)

    def _paint(self, at: Any, colours: NDArray[np.uint8]) -> None:
        self.bricks.want("colour")
        assert self.bricks.colour is not None
        # From the 64th hit on a running mean of the last ones: things may be repainted.
        weight = np.minimum(self.bricks.hits[at], 64).astype(np.int64)[:, None]
        old = self.bricks.colour[at].astype(np.int64)
        change = colours.astype(np.int64) * SHADES - old
        self.bricks.colour[at] = old + np.rint(change / weight).astype(np.int64)

    def _vote(self, at: Any, labels: NDArray[np.uint16]) -> None:
        for name in ("label", "label_weight"):
            self.bricks.want(name)
        assert self.bricks.label is not None and self.bricks.label_weight is not None
        old, weight = self.bricks.label[at], self.bricks.label_weight[at].astype(np.int64)
        same, votes = old == labels, labels > 0
        taken = votes & ~same & (weight == 0)
        self.bricks.label[at] = np.where(taken, labels, old)
        weight = np.where(taken, 1, np.where(same, weight + 1, weight - 1))
        kept = self.bricks.label_weight[at]
        self.bricks.label_weight[at] = np.where(votes, np.clip(weight, 0, 255), kept)

    def _embed(self, at: Any, row: NDArray[np.int32], vectors: NDArray[np.float32]) -> None:
        self.bricks.want("embedding")
        assert self.bricks.embedding is not None
        given = row >= 0
        at = (at[0][given], at[1][given])
        refs = self.bricks.embedding[at].astype(np.int64)
        new = refs == 0
        refs[new] = self.vectors.new(int(new.sum()), vectors.shape[1])
        self.bricks.embedding[at] = refs
        self.vectors.add(refs, vectors[row[given]])

    def forget(self, low: ArrayLike, high: ArrayLike) -> int:
        """Make all leaves whose middle lies in a box unknown again; returns how many there were."""
        gone = self.box(low, high)
        rows = self.bricks.find(gone.codes >> np.uint64(9))
        slots = (gone.codes & np.uint64(LEAVES - 1)).astype(np.int64)
        self.clear(rows, slots)
        return len(gone)

    def clear(self, rows: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
        """Make leaves unknown."""
        bricks = self.bricks
        names = ("log_odds", "hits", "tick", "colour", "label", "label_weight", "embedding")
        refs = bricks.embedding[rows, slots] if bricks.embedding is not None else None
        if refs is not None and len(refs):
            self.vectors.clear(refs[refs > 0].astype(np.int64))
        for name in names:
            array = getattr(bricks, name)
            if array is not None:
                array[rows, slots] = 0
        bricks.dirty[rows] = True

    # -- reading -------------------------------------------------------------------------------

    def log_odds(self, points: ArrayLike) -> NDArray[np.float32]:
        """Log-odds at ``(n, 3)`` positions, metres; NaN where nothing is known."""
        cells, inside = quantise(points, self.config.leaf, self.corner)
        return self._odds(encode(cells), inside)

    def state(self, points: ArrayLike) -> NDArray[np.int8]:
        """``UNKNOWN``, ``FREE`` or ``OCCUPIED`` at ``(n, 3)`` positions, metres; int8 ``(n,)``."""
        odds = self.log_odds(points)
        return np.where(np.isnan(odds), UNKNOWN, np.where(odds > 0, OCCUPIED, FREE)).astype(np.int8)

    def _odds(self, codes: Codes, valid: NDArray[np.bool_] | bool = True) -> NDArray[np.float32]:
        rows = self.bricks.find(codes >> np.uint64(9))
        slots = (codes & np.uint64(LEAVES - 1)).astype(np.int64)
        there = (rows >= 0) & valid
        out = np.full(len(codes), np.nan, np.float32)
        known = self.bricks.tick[rows[there], slots[there]] > 0
        odds = self.bricks.log_odds[rows[there], slots[there]] / np.float32(UNIT)
        out[there] = np.where(known, odds, np.nan)
        return out

    def embedding(self, row: int) -> NDArray[np.float32]:
        """Mean direction of a leaf's embeddings, float32 ``(d,)`` of length 1, or zeros."""
        return self.vectors.mean(row)

    def ray(
        self, start: ArrayLike, direction: ArrayLike, max_range: float, *, unknown: bool = False
    ) -> RayHit | None:
        """Find the first occupied leaf along a ray; start and direction ``(3,)``, metres.

        With ``unknown`` a leaf of which nothing is known stops it, too. None when nothing does,
        or it starts outside the grid.
        """
        start, direction = np.asarray(start, np.float64), np.asarray(direction, np.float64)
        length = float(np.linalg.norm(direction))
        if not (np.isfinite(start).all() and np.isfinite(length) and 0 <= max_range < np.inf):
            raise InputError("a ray needs a finite start, direction and range")
        if length == 0:
            raise InputError("a ray's direction has length 0; expected where to look")
        both = np.stack([start, start + direction / length * max_range])
        cells, inside = quantise(both, self.config.leaf, self.corner)
        if not inside[0]:
            return None
        reach = float(HALF)
        scaled = (both - self.corner) / self.config.leaf
        if not inside[1]:  # cut the ray at the grid's border
            way = scaled[1] - scaled[0]
            with np.errstate(divide="ignore", invalid="ignore"):
                border = np.where(way > 0, reach - 0.5, -reach + 0.5)
                share = np.nanmin(np.where(way != 0, (border - scaled[0]) / way, np.inf))
            cells[1] = np.floor(scaled[0] + max(share, 0.0) * way).astype(np.int64)
        path = self.kernels.walk(scaled[0], cells[0], cells[1:])
        path = np.concatenate([path, cells[1:]])
        codes = encode(path)
        odds = self._odds(codes)
        blind = np.isnan(odds)
        stops = np.flatnonzero((odds > 0) | (blind & unknown))
        if not len(stops):
            return None
        first = int(stops[0])
        x, y, z = ((path[first] + 0.5) * self.config.leaf + self.corner).tolist()
        distance = float(np.linalg.norm(np.array([x, y, z]) - start))
        return RayHit((x, y, z), distance, int(codes[first]), bool(blind[:first].any()))

    def box(self, low: ArrayLike, high: ArrayLike, level: int = 0) -> Leaves:
        """Known cells of a level whose middle lies in ``low <= middle <= high``, metres."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        if low.shape != (3,) or high.shape != (3,) or np.isnan(low).any() or np.isnan(high).any():
            raise InputError("a box needs two corners of 3 numbers, metres")
        found = self._gather(self._rows_in(low, high, level), level)
        inside = np.all((found.centres >= low) & (found.centres <= high), axis=1)
        return found.take(inside)

    def radius(self, centre: ArrayLike, radius: float, level: int = 0) -> Leaves:
        """Known cells of a level whose middle lies within ``radius`` metres of a position."""
        centre = np.asarray(centre, np.float64)
        if centre.shape != (3,) or not np.isfinite(centre).all() or not radius >= 0:
            raise InputError("a radius query needs 3 finite numbers and a radius of 0 or more")
        found = self._gather(self._rows_in(centre - radius, centre + radius, level), level)
        away = found.centres - centre
        return found.take(np.asarray((away * away).sum(axis=1) <= radius * radius))

    def level(self, level: int) -> Leaves:
        """All known cells of a level, 0 for leaves to 21 for the root."""
        return self._gather(self.bricks.find(self.bricks.every()), level)

    def leaves(self) -> Iterator[Leaves]:
        """All known leaves, some bricks at a time, for writing them out."""
        codes = self.bricks.every()
        some = 256 if self.bricks.limit else 4096
        for place in range(0, len(codes), some):
            yield self._gather(self.bricks.find(codes[place : place + some]), 0)

    def _gather(self, rows: NDArray[np.int64], level: int) -> Leaves:
        """Known cells of a level in some bricks without repeats."""
        if not 0 <= level <= BITS:
            raise InputError(f"level is {level}; expected 0 (leaves) to {BITS} (root)")
        bricks = self.bricks
        rows = rows[np.argsort(bricks.codes[rows])]
        index, slots = np.nonzero(bricks.tick[rows])
        at = (rows[index], slots)
        codes = (bricks.codes[at[0]] << np.uint64(9)) | slots.astype(np.uint64)
        odds = np.asarray(bricks.log_odds[at] / np.float32(UNIT), np.float32)
        hits, tick = bricks.hits[at].astype(np.int64), bricks.tick[at].astype(np.int64)
        paint = None if bricks.colour is None else bricks.colour[at] / SHADES
        labels = None if bricks.label is None else bricks.label[at]
        refs = bricks.embedding[at].astype(np.int64) if bricks.embedding is not None else hits * 0
        known = np.ones(len(codes), np.int64)
        if level:
            codes, begins = np.unique(codes >> np.uint64(3 * level), return_index=True)
            groups = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(odds)))
            if labels is not None or bricks.embedding is not None:
                best = np.lexsort((hits, groups))[np.append(begins[1:], len(odds)) - 1]
                labels = None if labels is None else labels[best]
                refs = refs[best]
            if paint is not None:
                weight = np.bincount(groups, hits, len(begins))
                sums = [np.bincount(groups, paint[:, a] * hits, len(begins)) for a in range(3)]
                paint = np.stack(sums, axis=1) / np.maximum(weight, 1)[:, None]
            refs = refs if len(refs) == len(begins) else np.zeros(len(begins), np.int64)
            if len(begins):
                odds = np.maximum.reduceat(odds, begins)
                hits, known = np.add.reduceat(hits, begins), np.add.reduceat(known, begins)
                tick = np.maximum.reduceat(tick, begins)
        colours = None if paint is None else np.rint(paint).astype(np.uint8)
        where = level_centres(codes, level, self.config.leaf, self.corner)
        bricks.trim()
        return Leaves(codes, level, where, odds, hits, known, tick, colours, labels, refs)

    def _rows_in(self, low: Any, high: Any, level: int) -> NDArray[np.int64]:
        """Bricks that may hold leaves of cells whose middle lies in the box."""
        half = 0.5 * self.config.leaf * (1 << level) if level else 0.0
        edge = self.config.leaf * 8
        with np.errstate(over="ignore"):
            first = np.floor((low - half - self.corner) / edge)
            last = np.floor((high + half - self.corner) / edge)
        limit = HALF // 8
        first, last = np.clip(first, -limit, limit - 1), np.clip(last, -limit, limit - 1)
        spans = np.maximum(last - first + 1, 0)
        codes = self.bricks.every() if len(self.bricks.away) else self.bricks.codes
        if np.prod(spans) <= len(codes):
            axes = [np.arange(int(a), int(a) + int(n)) for a, n in zip(first, spans, strict=True)]
            grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
            rows = self.bricks.find(encode(grid * 8) >> np.uint64(9))
            return rows[rows >= 0]
        cells = decode(codes << np.uint64(9)) // 8
        return self.bricks.find(codes[((cells >= first) & (cells <= last)).all(axis=1)])
