"""The three families of street measures that share names and mean different things.

``outdoor``: the code behind the published Touchdown and Map2Seq tables (hops). ``paper``: the
released Mem4Nav code (metres, success within 3 m; the paper is withdrawn). ``ilharco``: nDTW as
defined by Ilharco et al. (metres along streets, success within a threshold). Numbers of two
families never stand in one table. Source: mem4nav specification, section 2.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vision_mem.config import nearest
from vision_mem.errors import InputError
from vision_mem.evaluation.vln import metrics
from vision_mem.vln.graph import StreetGraph

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
class Family:
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
        near = metrics.warping_similarity(hops, 2.0 * math.sqrt(len(reference)))
        similar = metrics.edit_similarity(walk, reference)
        points = metrics.key_point_accuracy(
            walk, reference, lambda place: len(graph.exits[place]) > 2, arrived
        )
        return {
            "TC": float(arrived),
            "SPD": float(hops[-1, -1]),
            "nDTW": near,
            "sDTW": near * arrived,
            "SED": similar * arrived,
            "CLS": metrics.coverage_by_length(hops),
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
            "nDTW": metrics.warping_similarity(straight, length),
            "SPL": metrics.weighted_by_length(arrived, float(table[1, 0]), walked),
        }, cut

    def _ilharco(
        self, graph: StreetGraph, walk: Sequence[int], reference: Sequence[int]
    ) -> tuple[dict[str, float], bool]:
        metres, cut = graph.distance_table(walk, reference, hops=False)
        arrived = float(metres[-1, -1] <= self.threshold)
        near = metrics.warping_similarity(metres, len(reference) * self.threshold)
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
