"""Memories of whole grids, to judge the tiers by: which grids stay. Pure functions on entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vision_mem.videoqa.records import GridEntry
from vision_mem.videoqa.tiers import tokens_of

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


WHOLE: dict[str, Callable[[Sequence[GridEntry], int, int], Entries]] = {
    "recent": lambda entries, grids, budget: keep_latest(entries[-grids:], grids, budget),
    "fifo": keep_latest,
    "uniform": keep_uniform,
    "full": lambda entries, grids, budget: tuple(entries),
}
"""``recent`` has at most ``grids`` of them, and ``full`` no budget."""
