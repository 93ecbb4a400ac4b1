"""Measures of one walk against the true path, and the three families that share their names.

A walk is a sequence of places. Functions that need distances take a table of them, so that hops
and metres, and each family's own choice, share the code. Source: mem4nav specification, 2.3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import nearest
from vision_mem.errors import InputError
from vision_mem.vln.graph import StreetGraph


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
    walk: Sequence[int], reference: Sequence[int], is_junction: Callable[[int], bool], arrived: bool
) -> float:
    """Share of the deciding steps that the walk takes too, arriving counted as one more."""
    wanted = key_points(reference, is_junction)
    taken = set(itertools.pairwise(walk))
    return (len(wanted & taken) + bool(arrived)) / (len(wanted) + 1)


def weighted_by_length(success: float, shortest: float, walked: float) -> float:
    """SPL of one walk: success times shortest over walked length."""
    longer = max(walked, shortest)
    return success * (shortest / longer if longer > 0 else 1.0)


# In the order of their columns; those in PERCENT are multiplied by 100 in tables.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "outdoor": ("TC", "SPD", "nDTW", "sDTW", "SED", "CLS", "KPA"),
    "paper": ("TC", "SPD", "nDTW", "SPL"),
    "ilharco": ("TC", "nDTW", "sDTW"),
}
UNITS: Mapping[str, str] = {
    "outdoor": "hops; TC within one link",
    "paper": "metres; TC within 3 m",
    "ilharco": "metres along streets",
}
PERCENT = frozenset({"TC", "nDTW", "sDTW", "SED", "CLS", "KPA", "SPL"})
PAPER_SUCCESS_M = 3.0


@dataclass(frozen=True)
class WalkScore:
    """Measures of one walk.

    Attributes:
        family: which definitions.
        values: measure to value; rates in [0, 1], distances in the family's unit.
        unreachable: whether a pair of places had no way between and the graph's diameter stood in.
    """

    family: str
    values: Mapping[str, float]
    unreachable: bool = False


@dataclass(frozen=True)
class MeasureFamily:
    """One family of measures, ready to score walks.

    Args:
        name: ``"outdoor"``, ``"paper"`` or ``"ilharco"``.
        threshold: ``ilharco`` only: metres within which a walk has arrived, and nDTW's scale.

    Raises:
        InputError: for another name or a threshold that is not positive.
    """

    name: str = "outdoor"
    threshold: float = 3.0
    measures: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.name not in FAMILIES:
            hint = nearest(self.name, list(FAMILIES))
            raise InputError(
                f"no family of measures {self.name!r}; there are {', '.join(FAMILIES)}{hint}"
            )
        if not (math.isfinite(self.threshold) and self.threshold > 0):
            raise InputError(f"threshold is {self.threshold}; expected metres above 0")
        object.__setattr__(self, "measures", FAMILIES[self.name])

    @property
    def title(self) -> str:
        """Name and unit, as tables print them."""
        extra = f", within {self.threshold:g} m" if self.name == "ilharco" else ""
        return f"{self.name} ({UNITS[self.name]}{extra})"

    def score(self, graph: StreetGraph, walk: Sequence[int], reference: Sequence[int]) -> WalkScore:
        """Score one walk.

        Args:
            graph: the streets.
            walk: places, the start included; may be empty, which is a failure.
            reference: places of the true path, at least one.

        Raises:
            InputError: when the reference is empty.
        """
        if not reference:
            raise InputError("the true path is empty; expected at least its goal")
        if not walk:
            return self._nothing(graph, reference)
        score = {"outdoor": self._outdoor, "paper": self._paper, "ilharco": self._ilharco}
        values, unreachable = score[self.name](graph, walk, reference)
        return WalkScore(self.name, {name: values[name] for name in self.measures}, unreachable)

    def _nothing(self, graph: StreetGraph, reference: Sequence[int]) -> WalkScore:
        """An empty walk never left the start, which is where its distance is taken from."""
        hops = self.name == "outdoor"
        table, cut = graph.distance_table(reference[:1], reference[-1:], hops=hops)
        far = float(table[0, 0])
        values = {name: far if name == "SPD" else 0.0 for name in self.measures}
        return WalkScore(self.name, values, cut)

    def _outdoor(
        self, graph: StreetGraph, walk: Sequence[int], reference: Sequence[int]
    ) -> tuple[dict[str, float], bool]:
        hops, cut = graph.distance_table(walk, reference, hops=True)
        goal = reference[-1]
        arrived = walk[-1] == goal or walk[-1] in graph.neighbours(goal)
        near = warping_similarity(hops, 2.0 * math.sqrt(len(reference)))
        similar = edit_similarity(walk, reference)
        points = key_point_accuracy(
            walk, reference, lambda place: len(graph.exits[place]) > 2, arrived
        )
        return {
            "TC": float(arrived),
            "SPD": float(hops[-1, -1]),
            "nDTW": near,
            "sDTW": near * arrived,
            "SED": similar * arrived,
            "CLS": coverage_by_length(hops),
            "KPA": points,
        }, cut

    def _paper(
        self, graph: StreetGraph, walk: Sequence[int], reference: Sequence[int]
    ) -> tuple[dict[str, float], bool]:
        at, true = graph.position[list(walk)], graph.position[list(reference)]
        straight = np.linalg.norm(at[:, None] - true[None], axis=2)
        walked, length = _length(at), _length(true)
        ends = [walk[-1], reference[0]]
        table, cut = graph.distance_table(ends, reference[-1:], hops=False)
        arrived = float(straight[-1, -1] <= PAPER_SUCCESS_M)
        return {
            "TC": arrived,
            "SPD": float(table[0, 0]),
            "nDTW": warping_similarity(straight, length),
            "SPL": weighted_by_length(arrived, float(table[1, 0]), walked),
        }, cut

    def _ilharco(
        self, graph: StreetGraph, walk: Sequence[int], reference: Sequence[int]
    ) -> tuple[dict[str, float], bool]:
        metres, cut = graph.distance_table(walk, reference, hops=False)
        arrived = float(metres[-1, -1] <= self.threshold)
        near = warping_similarity(metres, len(reference) * self.threshold)
        return {"TC": arrived, "nDTW": near, "sDTW": arrived * near}, cut


def average(scores: Sequence[WalkScore]) -> WalkScore:
    """Mean over walks, rates still in [0, 1].

    Raises:
        InputError: for no walks, or walks of two families.
    """
    families = {score.family for score in scores}
    if len(families) != 1:
        raise InputError(
            f"scores of {len(families)} families ({', '.join(sorted(families)) or 'none'}); "
            "expected walks of exactly one: their numbers mean different things"
        )
    (family,) = families
    values = {
        name: float(np.mean([score.values[name] for score in scores])) for name in FAMILIES[family]
    }
    return WalkScore(family, values, any(score.unreachable for score in scores))


def table_lines(rows: Mapping[str, WalkScore], title: str) -> list[str]:
    """Averages as aligned text, one row an agent.

    Args:
        rows: agent to averages, all of one family.
        title: first line.

    Raises:
        InputError: when the rows are of two families, or there are none.
    """
    average(list(rows.values()))  # refuses a mixture
    family = next(iter(rows.values())).family
    names = FAMILIES[family]
    wide = max([len("agent"), *map(len, rows)])
    lines = [title, "agent".ljust(wide) + "".join(name.rjust(8) for name in names)]
    for agent, score in rows.items():
        cells = [score.values[n] * (100.0 if n in PERCENT else 1.0) for n in names]
        lines.append(agent.ljust(wide) + "".join(f"{cell:8.2f}" for cell in cells))
    return lines


def _length(points: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
