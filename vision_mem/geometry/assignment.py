"""Who goes with whom: one-to-one assignment at the least cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def assign(cost: ArrayLike, most: float = np.inf) -> list[tuple[int, int]]:
    """Pair rows with columns so that the sum of costs is least.

    Args:
        cost: ``(n, m)``; infinite where a pair must not be.
        most: pairs that cost more are left apart. A pair is worth ``most``: rather many pairs
            than a few cheap ones.

    Returns:
        ``(row, column)`` of each pair, by row.
    """
    from scipy.optimize import linear_sum_assignment  # a third of a second to load

    table = np.asarray(cost, dtype=np.float64)
    if table.size == 0:
        return []
    allowed = np.isfinite(table) & (table <= most)
    if not allowed.any():
        return []
    # Dearer than any set of allowed pairs, so that one is never given up for a forbidden one.
    dear = (np.abs(table[allowed]).max() + 1.0) * (min(table.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(allowed, table, dear))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if allowed[r, c]]
