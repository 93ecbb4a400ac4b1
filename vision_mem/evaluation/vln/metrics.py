"""Measures of one walk against the true path, as pure functions.

A walk is a sequence of places. Functions that need distances take a table of them, so that hops
and metres, and each family's own choice, share the code. Source: mem4nav specification, 2.3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def warping_cost(distances: NDArray[np.float64]) -> float:
    """Cost of the cheapest alignment of two walks (dynamic time warping).

    Args:
        distances: ``(A, B)`` between the places of the walk and of the reference.

    Returns:
        The summed distance along the alignment; infinite when one walk is empty.
    """
    rows, columns = distances.shape
    if rows == 0 or columns == 0:
        return 0.0 if rows == columns else math.inf
    above = [math.inf] * (columns + 1)
    above[0] = 0.0
    for row in distances.tolist():
        left = math.inf
        current = [left]
        for column, cost in enumerate(row, 1):
            left = cost + min(above[column], left, above[column - 1])
            current.append(left)
        above = current
    return above[-1]


def edit_distance(first: Sequence[int], second: Sequence[int]) -> int:
    """Damerau-Levenshtein distance: insertions, deletions, changes, swaps of neighbours.

    The unrestricted form: a swapped pair may be edited again.
    """
    # Rows and columns are shifted by one more than usual, for the border that forbids swaps
    # with something that has not come yet.
    beyond = len(first) + len(second)
    table = [[beyond] * (len(second) + 2) for _ in range(len(first) + 2)]
    for i in range(len(first) + 1):
        table[i + 1][1] = i
    for j in range(len(second) + 1):
        table[1][j + 1] = j
    last_row: dict[int, int] = {}
    for i, one in enumerate(first, 1):
        last_column = 0
        for j, other in enumerate(second, 1):
            row, column = last_row.get(other, 0), last_column
            change = 0 if one == other else 1
            if one == other:
                last_column = j
            table[i + 1][j + 1] = min(
                table[i][j] + change,
                table[i + 1][j] + 1,
                table[i][j + 1] + 1,
                table[row][column] + (i - row - 1) + 1 + (j - column - 1),
            )
        last_row[one] = i
    return table[-1][-1]


def edit_similarity(walk: Sequence[int], reference: Sequence[int]) -> float:
    """1 less the edit distance over the longer length; 1 for two empty walks."""
    longer = max(len(walk), len(reference))
    return 1.0 - edit_distance(walk, reference) / longer if longer else 1.0


def warping_similarity(distances: NDArray[np.float64], scale: float) -> float:
    """``exp(-cost / scale)`` of the cheapest alignment: nDTW, given the family's scale.

    Args:
        distances: ``(A, B)`` between walk and reference.
        scale: in the unit of the distances; outdoor ``2 sqrt(B)``, Ilharco ``B * threshold``,
            the Mem4Nav code the length of the reference.

    Returns:
        In [0, 1]; 0 when only one walk is empty, 1 when both are.
    """
    cost = warping_cost(distances)
    if cost == 0.0:
        return 1.0
    # A reference of one place has no length: only standing on it is right.
    return math.exp(-cost / scale) if scale > 0 and math.isfinite(cost) else 0.0


def coverage_by_length(distances: NDArray[np.float64]) -> float:
    """CLS: how much of the reference is near the walk, times how well the lengths agree.

    Args:
        distances: ``(A, B)`` hops between walk and reference.
    """
    if 0 in distances.shape:
        return 0.0
    coverage = float(np.exp(-distances.min(axis=0)).mean())
    expected = coverage * distances.shape[1]
    return float(coverage * expected / (expected + abs(expected - distances.shape[0])))


def key_points(
    reference: Sequence[int], is_junction: Callable[[int], bool]
) -> set[tuple[int, int]]:
    """Steps that decide: the first one, and each that leaves a junction of the true path."""
    steps = list(itertools.pairwise(reference))
    return {step for at, step in enumerate(steps) if at == 0 or is_junction(step[0])}


def key_point_accuracy(
    walk: Sequence[int],
    reference: Sequence[int],
    is_junction: Callable[[int], bool],
    arrived: bool,
) -> float:
    """Share of the deciding steps that the walk takes too, arriving counted as one more."""
    wanted = key_points(reference, is_junction)
    taken = set(itertools.pairwise(walk))
    return (len(wanted & taken) + bool(arrived)) / (len(wanted) + 1)


def weighted_by_length(success: float, shortest: float, walked: float) -> float:
    """SPL of one walk: success times shortest over walked length."""
    longer = max(walked, shortest)
    return success * (shortest / longer if longer > 0 else 1.0)
