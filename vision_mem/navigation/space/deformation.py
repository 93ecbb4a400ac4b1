"""Space follows corrections: bricks move with the place from which they were last looked at.

Each leaf of the new grid takes what the old grid held where it was before; so nothing is torn
apart by a turn, and what meets what stood there already is added up.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.navigation.space.blocks import LEAVES
from vision_mem.navigation.space.morton import BRICK, Codes, centres, decode, encode, quantise
from vision_mem.navigation.space.octree import Octree

_STILL = 1e-9
_FIELDS = ("log_odds", "hits", "tick", "colour", "label", "label_weight", "embedding")
_AROUND = np.array(list(itertools.product((-1, 0, 1), repeat=3)))


def move_space(octree: Octree, motions: Mapping[int, NDArray[np.float64]]) -> int:
    """Move bricks by the rigid motions ``(4, 4)`` of their places; returns how many moved."""
    bricks = octree.bricks
    moving = {
        place: motion
        for place, motion in motions.items()
        if np.abs(motion - np.eye(4)).max() > _STILL
    }
    bricks.find(bricks.every())  # any of them may move
    rows = np.flatnonzero(np.isin(bricks.anchor, np.array(list(moving), np.uint64)))
    if not len(rows):
        return 0
    moved = {
        place: _resampled(octree, rows[bricks.anchor[rows] == place], motion)
        for place, motion in sorted(moving.items())
    }
    index, slots = np.nonzero(bricks.tick[rows])
    octree.clear(rows[index], slots)
    for place, (codes, fields) in moved.items():
        _put(octree, place, codes, fields)
    return len(rows)


def _resampled(
    octree: Octree, rows: NDArray[np.int64], motion: NDArray[np.float64]
) -> tuple[Codes, dict[str, NDArray[Any]]]:
    bricks, size, corner = octree.bricks, octree.config.leaf, octree.corner
    # Every brick that the moved ones may reach into: those around where their middles come to lie.
    middles = centres(decode(bricks.codes[rows] << np.uint64(9)) + BRICK // 2, size, corner)
    there = middles @ motion[:3, :3].T + motion[:3, 3]
    cells, inside = quantise(there, size, corner)
    around = (cells[inside] // BRICK)[:, None] + _AROUND
    limit = (1 << 20) // BRICK
    around = around.reshape(-1, 3)
    around = around[np.all((around >= -limit) & (around < limit), axis=1)]
    targets = np.unique(encode(around * BRICK) >> np.uint64(9))
    back = np.linalg.inv(motion)
    own = np.zeros(len(bricks), bool)
    own[rows] = True
    codes, sources = [], []
    for some in np.array_split(targets, max(1, len(targets) // 2000)):
        leaf = (some[:, None] << np.uint64(9)) | np.arange(LEAVES, dtype=np.uint64)
        leaf = leaf.reshape(-1)
        was = centres(decode(leaf), size, corner) @ back[:3, :3].T + back[:3, 3]
        old_cells, good = quantise(was, size, corner)
        old = encode(old_cells)
        row = bricks.find(old >> np.uint64(9))
        slot = (old & np.uint64(LEAVES - 1)).astype(np.int64)
        good &= (row >= 0) & own[row]
        good &= bricks.tick[row, slot] > 0
        codes.append(leaf[good])
        sources.append(np.stack([row[good], slot[good]]))
    at = np.concatenate(sources, axis=1) if sources else np.empty((2, 0), np.int64)
    fields = {}
    for name in _FIELDS:
        array = getattr(bricks, name)
        if array is not None:
            fields[name] = array[at[0], at[1]].copy()
    if "embedding" in fields:
        fields["embedding"] = _copied(octree, fields["embedding"].astype(np.int64))
    return np.concatenate(codes) if codes else np.empty(0, np.uint64), fields


def _copied(octree: Octree, refs: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Own rows for leaves that came from the same one."""
    store, given = octree.vectors, refs > 0
    fresh = store.new(int(given.sum()), store.sums.shape[1])
    store.sums[fresh] = store.sums[refs[given]]
    store.count[fresh] = store.count[refs[given]]
    store.touch(fresh)
    out = np.zeros(len(refs), np.uint32)
    out[given] = fresh
    return out


def _put(octree: Octree, anchor: int, codes: Codes, fields: dict[str, NDArray[Any]]) -> None:
    if not len(codes):
        return
    bricks = octree.bricks
    unique, inverse = np.unique(codes >> np.uint64(9), return_inverse=True)
    rows = bricks.rows(unique)
    at = (rows[inverse], (codes & np.uint64(LEAVES - 1)).astype(np.int64))
    new = bricks.tick[at] == 0
    surer = new | (fields["hits"] > bricks.hits[at])
    lowest, highest = (round(v * 1000) for v in (octree.config.lowest, octree.config.highest))
    odds = bricks.log_odds[at].astype(np.int32) + fields["log_odds"]
    bricks.log_odds[at] = np.clip(odds, lowest, highest)
    for name in ("colour", "label", "label_weight", "embedding"):
        array = getattr(bricks, name)
        if array is not None and name in fields:
            keep = surer[:, None] if array.ndim == 3 else surer
            array[at] = np.where(keep, fields[name], array[at])
    hits = bricks.hits[at].astype(np.int64) + fields["hits"]
    bricks.hits[at] = np.minimum(hits, 65535)
    bricks.tick[at] = np.maximum(bricks.tick[at], fields["tick"])
    bricks.anchor[rows] = anchor
    bricks.dirty[rows] = True
