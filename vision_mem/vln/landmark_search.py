"""Searching for a landmark by name, when nothing tells the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vision_mem.vln.environment import StreetView
from vision_mem.vln.graph import bearing_of, turn_between
from vision_mem.vln.observations import Hit, WayMemory

if TYPE_CHECKING:
    from vision_mem.vln.rule_agent import FollowerConfig

Match = Callable[[NDArray[np.float32], NDArray[np.float64], float], Hit | None]

_ARRIVED_M = 10.5  # landmarks stand some eight metres aside; then a place is beside one
_GOAL_M = 14.0
_CANDIDATES = 5


class Searcher:
    """Finds its way to a landmark.

    With remembered ways and ``plan``: along the shortest of them. With remembered landmarks only:
    toward where it was. Without: by chance at junctions.

    Args:
        long: what is remembered; None for nothing.
        config: the follower's.
        rng: for chance.
    """

    def __init__(
        self, long: WayMemory | None, config: FollowerConfig, rng: np.random.Generator
    ) -> None:
        self._long, self._config, self._rng = long, config, rng
        self._taken: Counter[tuple[int, int, float]] = Counter()
        self._candidates: list[Hit] | None = None
        self._path: list[int] = []

    def decide(
        self, view: StreetView, heading: float, vector: NDArray[np.float32], match: Match
    ) -> float | None:
        """The exit to take; None to stop, beside the landmark."""
        if match(vector, view.position, _ARRIVED_M) is not None:
            return None
        if self._candidates is None:
            self._candidates = self._remembered(vector)
        going = self._by_plan(view) if self._config.plan else None
        if going is None and self._candidates:
            going = self._toward(view, self._candidates[0].position)
        if going is None:
            going = self._by_chance(view, heading)
        self._taken[(*self._spot(view), going)] += 1
        return going

    def _remembered(self, vector: NDArray[np.float32]) -> list[Hit]:
        if self._long is None:
            return []
        found = self._long.find(vector, k=_CANDIDATES)
        looks = self._config.looks
        return [hit for hit in found if hit.looks >= looks and self._config.means(hit)]

    def _by_plan(self, view: StreetView) -> float | None:
        """The first exit of the shortest remembered way to the best candidate that has one."""
        memory = self._long
        here = None if memory is None else memory.place_at(view.position)
        if memory is None or here is None or not self._candidates:
            return None
        while self._candidates:
            if here in self._path[:-1]:
                self._path = self._path[self._path.index(here) :]
            else:
                goals = memory.places_near(self._candidates[0].position, _GOAL_M)[:1]
                self._path = [] if goals == [here] else memory.path(here, goals)
            if len(self._path) > 1:
                ways = {end: heading for heading, end in memory.ways_from(here)}
                wanted = ways[self._path[1]]
                off = {one: abs(turn_between(wanted, one)) for one in view.exits}
                going = min(off, key=lambda one: off[one])
                # A remembered way that is not to be seen: closed since, or another city.
                if off[going] <= 45.0 and self._taken[(*self._spot(view), going)] < 3:
                    return going
            # There, and it is not what was sought; or no way leads there.
            self._candidates.pop(0)
            self._path = []
        return None

    def _toward(self, view: StreetView, goal: NDArray[np.float64]) -> float:
        """The exit nearest to the direction of the goal, less those taken before."""
        wanted, spot = bearing_of(goal - view.position), self._spot(view)
        return min(
            view.exits,
            key=lambda one: abs(turn_between(wanted, one)) + 90.0 * self._taken[(*spot, one)],
        )

    def _by_chance(self, view: StreetView, heading: float) -> float:
        ways = [one for one in view.exits if abs(turn_between(heading, one)) <= 150.0]
        if view.came_by is None:
            ways = [min(view.exits, key=lambda one: abs(turn_between(heading, one)))]
        return float(self._rng.choice(ways or list(view.exits)))

    @staticmethod
    def _spot(view: StreetView) -> tuple[int, int]:
        return round(float(view.position[0])), round(float(view.position[1]))
