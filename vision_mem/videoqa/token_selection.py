"""Which tokens mean most: the way into the long tier with a bank, and the token budget."""

from __future__ import annotations

import math

import torch


def quadrant_count(mean_salience: float, n: int, *, ratio: float, gain: float, least: int) -> int:
    """How many of a grid's n tokens to keep: more where more means something.

    Args:
        mean_salience: mean over the tokens; counts as at least 0 and at most 1.
        n: tokens there are.
        ratio: kept are ``ratio + gain * mean`` of them, rounded down.
        gain: see there.
        least: but no fewer than these.

    Source:
        specs/savemem.md 1.7.
    """
    share = ratio + gain * min(max(mean_salience, 0.0), 1.0)
    return max(least, math.floor(n * share))


def select_quadrants(
    salience: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor, count: int
) -> torch.Tensor:
    """The most salient tokens, spread over the four quarters of the area they cover.

    Args:
        salience: float32 ``(n,)``.
        rows: integer ``(n,)`` places.
        cols: integer ``(n,)`` places.
        count: tokens to keep.

    Returns:
        bool ``(n,)`` with ``count`` True; all True when there are no more than that.

    Source:
        specs/savemem.md 1.7: a quarter of the count from each quarter that has tokens, at least
        one; the rest from the best that are left. Of equal ones the first wins.
    """
    n = len(salience)
    keep = torch.zeros(n, dtype=torch.bool, device=salience.device)
    if count >= n:
        return ~keep
    order = salience.argsort(descending=True, stable=True)
    low = 2 * rows.long() > int(rows.min()) + int(rows.max())
    right = 2 * cols.long() > int(cols.min()) + int(cols.max())
    quarter = (low.long() * 2 + right.long())[order]
    for number in range(4):
        keep[order[quarter == number][: max(1, count // 4)]] = True
    missing = count - int(keep.sum())
    if missing > 0:
        keep[order[~keep[order]][:missing]] = True
    return keep


def keep_highest(worth: torch.Tensor, count: int) -> torch.Tensor:
    """The ``count`` highest values, as bool ``(n,)``; of equal ones the later stay.

    Args:
        worth: ``(n,)``, oldest first: of tokens that are worth the same, the older go first.
        count: how many to keep, 0 or more.
    """
    keep = torch.ones(len(worth), dtype=torch.bool, device=worth.device)
    spare = max(0, len(worth) - count)
    keep[worth.argsort(stable=True)[:spare]] = False
    return keep
