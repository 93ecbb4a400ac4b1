"""What happens to grids on their way through the tiers, and which of whole grids stay.

Pure functions on entries.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import torch

from vision_mem.videoqa.compression import (
    find_clusters,
    keep_changed,
    keep_highest,
    merge,
    neighbour_best,
    quadrant_count,
    select_quadrants,
    survivors,
)
from vision_mem.videoqa.config import MemoryConfig
from vision_mem.videoqa.records import LONG, MID, GridEntry


def meet(previous: GridEntry, entry: GridEntry) -> tuple[GridEntry, GridEntry]:
    """Compare a new grid with the whole one before it: both, each with how alike they are."""
    like_next, like_previous = neighbour_best(
        previous.units(), entry.units(), (previous.rows, previous.cols), (entry.rows, entry.cols)
    )
    return replace(previous, like_next=like_next), replace(entry, like_previous=like_previous)


def mean_distance(entry: GridEntry) -> float:
    """Mean cosine distance of a grid's tokens to the grid before; 0 when none met another."""
    if entry.like_previous is None:
        return 0.0
    met = entry.like_previous[entry.like_previous.isfinite()]
    return float((1.0 - met).mean()) if len(met) else 0.0


def leave_short(entry: GridEntry, config: MemoryConfig) -> GridEntry:
    """The grid in the middle tier: what its neighbours in time show as well is dropped."""
    pruned = entry
    if entry.like_previous is not None or entry.like_next is not None:
        keep = keep_changed(
            entry.like_previous,
            entry.like_next,
            entry.salience,
            scene_change=entry.scene_change,
            drop_similarity=config.drop_similarity,
            salience_uplift=config.salience_uplift,
            fixed_distance=config.fixed_distance,
        )
        pruned = entry.take(keep)
    return replace(pruned, tier=MID, like_previous=None, like_next=None)


def leave_mid(entry: GridEntry, config: MemoryConfig) -> tuple[GridEntry, int]:
    """The grid in the long tier: its most salient tokens, or its like neighbours merged.

    With it, how many of its rows were rewritten by merging.
    """
    n = len(entry)
    if entry.salience is not None and n >= config.select_from:
        count = quadrant_count(
            float(entry.salience.mean()),
            n,
            ratio=config.select_ratio,
            gain=config.select_gain,
            least=config.select_least,
        )
        kept = entry.take(select_quadrants(entry.salience, entry.rows, entry.cols, count))
        return replace(kept, tier=LONG), 0
    units = entry.units()
    clusters = find_clusters(entry.features, units, entry.rows, entry.cols) if n > 1 else ()
    if not clusters:
        return replace(entry, tier=LONG), 0
    merged = replace(
        entry,
        tier=LONG,
        features=merge(entry.features, clusters),
        directions=units if config.stale_directions else None,
        extras={name: merge(extra, clusters) for name, extra in entry.extras.items()},
    )
    return merged.take(survivors(n, clusters, entry.features.device)), len(clusters)


def thin(entries: Sequence[GridEntry], excess: int) -> tuple[GridEntry, ...]:
    """Grids, oldest first, without the ``excess`` tokens that mean least; emptied grids go.

    Without salience the tokens of the smallest norm go; specs/savemem.md 1.7.
    """
    left = list(entries)
    if excess > 0 and left:
        keep = keep_highest(torch.cat([_worth(entry) for entry in left]), tokens_of(left) - excess)
        ends = list(accumulate(entry.features.shape[0] for entry in left))
        gone = (~keep).nonzero().squeeze(1).tolist()
        # Few grids lose something, and there may be as many grids as tokens: touch those alone.
        for n in {bisect_right(ends, place) for place in gone}:
            left[n] = left[n].take(keep[ends[n] - len(left[n]) : ends[n]])
    return tuple(entry for entry in left if len(entry))


def _worth(entry: GridEntry) -> torch.Tensor:
    return entry.features.float().norm(dim=-1) if entry.salience is None else entry.salience


def tokens_of(entries: Sequence[GridEntry]) -> int:
    """Tokens of some grids together."""
    return sum(entry.features.shape[0] for entry in entries)


Entries = tuple[GridEntry, ...]


def keep_latest(entries: Sequence[GridEntry], grids: int, budget: int) -> Entries:
    """The latest grids that fit the budget, the newest in any case. ``grids`` is not used."""
    left = list(entries)
    while len(left) > 1 and tokens_of(left) > budget:
        left.pop(0)
    return tuple(left)


def keep_uniform(entries: Sequence[GridEntry], grids: int, budget: int) -> Entries:
    """Grids that fit the budget, spread evenly over the stream. ``grids`` is not used.

    One by one, the grid goes that leaves the smallest gap between the two around it; of equal
    ones the oldest. The first and the newest grid stay for as long as two fit, so what is held
    always reaches over all that was seen.
    """
    left = list(entries)
    while len(left) > 1 and tokens_of(left) > budget:
        gaps = [after.index - before.index for before, after in zip(left, left[2:], strict=False)]
        left.pop(gaps.index(min(gaps)) + 1 if gaps else 0)
    return tuple(left)


# Memories of whole grids, to judge the tiers by.
WHOLE: dict[str, Callable[[Sequence[GridEntry], int, int], Entries]] = {
    "recent": lambda entries, grids, budget: keep_latest(entries[-grids:], grids, budget),
    "fifo": keep_latest,
    "uniform": keep_uniform,
    "full": lambda entries, grids, budget: tuple(entries),
}
"""``recent`` has at most ``grids`` of them, and ``full`` no budget."""
