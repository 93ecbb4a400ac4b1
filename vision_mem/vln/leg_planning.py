"""Planning one leg of a route on remembered ways: which junction ahead has the landmark?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vision_mem.vln.environment import StreetView
from vision_mem.vln.graph import along, turn_between
from vision_mem.vln.observations import WayMemory

if TYPE_CHECKING:
    from vision_mem.vln.rule_agent import FollowerConfig

_SAME_M = 4.0  # two positions this near are one place


class LegPlanner:
    """Looks along remembered ways, straight ahead, for the place that an instruction means.

    The plan is checked at each place: off the remembered way it is dropped, and the follower goes
    by what it sees. Only ways that were walked are known.

    Args:
        long: what is remembered.
        config: the follower's.
    """

    def __init__(self, long: WayMemory | None, config: FollowerConfig) -> None:
        self._long, self._config = long, config
        self.clear()

    def clear(self) -> None:
        """A new leg begins."""
        self._way: list[NDArray[np.float64]] | None = None

    def here(
        self, view: StreetView, heading: float, vector: NDArray[np.float32], *, stop: bool
    ) -> bool | None:
        """Whether the planned place is reached.

        Args:
            view: where one is.
            heading: along which one came, degrees.
            vector: of the landmark's name.
            stop: whether to stop beside the landmark, rather than turn at its corner.

        Returns:
            None when there is no plan: nothing remembered ahead, or off the way.
        """
        if self._way is None:
            self._way = self._plan(view, heading, vector, stop)
        elif self._way:
            at = [i for i, p in enumerate(self._way) if _near(p, view.position)]
            # Not where the plan leads: what is remembered does not hold here.
            self._way = self._way[at[0] :] if at else []
        if not self._way:
            return None
        return len(self._way) == 1

    def _plan(
        self, view: StreetView, heading: float, vector: NDArray[np.float32], stop: bool
    ) -> list[NDArray[np.float64]]:
        """Positions from here to the best place ahead; empty when none is remembered."""
        memory = self._long
        place = None if memory is None else memory.place_at(view.position)
        if memory is None or place is None:
            return []
        # The first step is the one the agent is about to take; as it comes, not as it looks.
        ways = [place, *memory.ahead(place, heading)]
        best, score = 0, -1.0
        radius = self._config.beside_m if stop else self._config.corner_m
        for number, each in enumerate(ways):
            if number == 0 and (view.came_by is None or stop):
                continue
            if not stop and len(memory.exits_of(each)) <= 2:
                continue
            at = memory.place_position(each)
            following = ways[min(number + 1, len(ways) - 1)]
            on = self._heading(each, following, heading)
            for hit in memory.find(vector, at, radius, 1):
                if hit.looks < self._config.looks or not self._config.means(hit):
                    continue
                if stop and along(on, hit.position - at) > 5.0:
                    continue
                # The same landmark is beside several places; the first of them is meant.
                if hit.score > score + (0.05 if best else 0.0):
                    best, score = number, hit.score
        return [memory.place_position(each) for each in ways[: best + 1]] if best else []

    def _heading(self, place: int, following: int, heading: float) -> float:
        assert self._long is not None
        ways = self._long.ways_from(place)
        found = [h for h, end in ways if end == following]
        ahead = [h for h, _ in ways if abs(turn_between(heading, h)) <= 90.0]
        return (found or ahead or [heading])[0]


def _near(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(np.hypot(*(one - other)) <= _SAME_M)
