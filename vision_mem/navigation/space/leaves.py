"""Reading cells of any level out of the bricks: only leaves are kept, the rest is summed up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.navigation.space.blocks import SHADES, UNIT, Bricks
from vision_mem.navigation.space.morton import BITS, Codes, level_centres


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


def gather(
    bricks: Bricks, rows: NDArray[np.int64], level: int, size: float, corner: ArrayLike
) -> Leaves:
    """Known cells of some bricks.

    Args:
        bricks: the map.
        rows: which of them, without repeats.
        level: 0 for leaves to 21 for the root.
        size: edge of a leaf, metres.
        corner: ``(3,)`` metres: corner of leaf (0, 0, 0).
    """
    if not 0 <= level <= BITS:
        raise InputError(f"level is {level}; expected 0 (leaves) to {BITS} (root)")
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
    where = level_centres(codes, level, size, corner)
    return Leaves(codes, level, where, odds, hits, known, tick, colours, labels, refs)
