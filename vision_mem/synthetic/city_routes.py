"""Routes through a generated city, with instructions that name landmarks.

``make_routes``: walk on until the named landmark, turn, and stop at the last one. ``make_goals``:
find one landmark whose name is unique in the city, from anywhere. Source: mem4nav specification,
section 5.1 and 5.2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.street_words import write_panorama_features, write_sight_words
from vision_mem.formats.touchdown import StreetRoute, write_street_files
from vision_mem.synthetic.city import City, city_features, city_words
from vision_mem.vln.graph import StreetGraph, along, turn_between
from vision_mem.vln.instructions import Step, write_instruction

CORNER_M = 14.0  # a landmark this near to a junction is at its corner
ASIDE_M = 13.0  # and this near to a place, beside it


def make_routes(
    city: City, count: int, seed: int, *, turns: tuple[int, int] = (2, 4), longest: int = 45
) -> list[StreetRoute]:
    """Routes with turn-by-turn instructions, so many ``turns``, ``longest`` places at most.

    Raises:
        InputError: when the city has not enough such routes.
    """
    rng = np.random.default_rng([seed, 11])
    routes: list[StreetRoute] = []
    for _ in range(2000 + 200 * count):
        if len(routes) == count:
            return routes
        wanted = int(rng.integers(turns[0], turns[1] + 1))
        walk = _Walker(city, rng, longest).walk(wanted)
        if walk is not None:
            path, steps = walk
            routes.append(_route(city.graph, f"route-{len(routes)}", path, steps))
    raise InputError(f"only {len(routes)} of {count} routes found; make the city larger")


def make_goals(
    city: City, count: int, seed: int, *, nearest: int = 10, farthest: int = 45
) -> list[StreetRoute]:
    """Tasks that name only the goal, ``nearest`` to ``farthest`` links away on a shortest path.

    Raises:
        InputError: when no landmark's name is unique, or no start is at such a distance.
    """
    rng = np.random.default_rng([seed, 13])
    names = [mark.name for mark in city.landmarks]
    unique = [mark for mark in city.landmarks if names.count(mark.name) == 1]
    # At a corner two places, on two streets, are beside it; which one is meant nobody could say.
    unique = [mark for mark in unique if mark.junction < 0] or unique
    if not unique:
        raise InputError("no landmark's name is unique in this city; make it smaller")
    graph = city.graph
    goals: list[StreetRoute] = []
    for _ in range(2000 + 200 * count):
        if len(goals) == count:
            return goals
        mark = unique[int(rng.integers(len(unique)))]
        goal = int(np.argmin(np.hypot(*(graph.position - mark.position).T)))
        hops = graph.distances(goal, hops=True)
        starts = np.flatnonzero((hops >= nearest) & (hops <= farthest))
        if len(starts):
            path = graph.shortest_path(int(rng.choice(starts)), goal)
            goals.append(_route(graph, f"goal-{len(goals)}", path, [Step("find", mark.name)]))
    raise InputError(f"only {len(goals)} of {count} goals found; make the city larger")


def _route(graph: StreetGraph, name: str, path: list[int], steps: list[Step]) -> StreetRoute:
    heading = graph.heading_between(path[0], path[1])
    assert heading is not None, "paths follow links"
    marks = tuple(dict.fromkeys(step.landmark for step in steps))
    ids = tuple(graph.ids[place] for place in path)
    return StreetRoute(name, write_instruction(steps), ids, heading, landmarks=marks)


class _Walker:
    """Walks at random, and notes how one would tell the way."""

    def __init__(self, city: City, rng: np.random.Generator, longest: int) -> None:
        self.city, self.rng, self.longest = city, rng, longest
        self.graph = city.graph

    def walk(self, turns: int) -> tuple[list[int], list[Step]] | None:
        """A path and its steps, or None when this one led nowhere."""
        place = int(self.rng.integers(len(self.graph)))
        heading, following = self._pick(list(self.graph.exits[place]))
        path, leg = [place], 1
        steps: list[Step] = []
        self.passed: set[str] = set()  # what one would see at junctions of this leg
        while len(path) < self.longest:
            place = following
            if place in path:
                return None
            path.append(place)
            back = (heading + 180.0) % 360.0
            ways = [way for way in self.graph.exits[place] if way[1] != path[-2]]
            if not ways:
                return None
            straight = min(ways, key=lambda way: abs(turn_between(heading, way[0])))
            if len(self.graph.exits[place]) == 2:
                heading, following = straight
                leg += 1
                if len(steps) == turns and leg >= 3 and (mark := self._beside(place, heading)):
                    return path, [*steps, Step("stop", mark)]
                self.passed |= self._behind(place, heading)
                continue
            turn = self._turn(place, back, heading, ways) if len(steps) < turns else None
            if turn is not None:
                step, (heading, following) = turn
                steps.append(step)
                self.passed, leg = set(), 0
                continue
            if abs(turn_between(heading, straight[0])) > 45.0:
                return None
            self.passed |= {m.name for m in self.city.near(self._at(place), 25.0)}
            heading, following = straight
        return None

    def _at(self, place: int) -> NDArray[np.float64]:
        return np.asarray(self.graph.position[place])

    def _pick(self, ways: list[tuple[float, int]]) -> tuple[float, int]:
        return ways[int(self.rng.integers(len(ways)))]

    def _turn(
        self, place: int, back: float, heading: float, ways: list[tuple[float, int]]
    ) -> tuple[Step, tuple[float, int]] | None:
        """Sometimes a turn here, when there is one and a landmark tells where."""
        ahead = min(abs(turn_between(heading, way[0])) for way in ways) <= 45.0
        sides = [way for way in ways if 45.0 < abs(turn_between(heading, way[0])) < 135.0]
        marks = [m.name for m in self.city.near(self._at(place), CORNER_M) if m.junction == place]
        marks = [name for name in marks if name not in self.passed]
        if not sides or not marks or (ahead and self.rng.random() < 0.5):
            return None
        way = self._pick(sides)
        side = "right" if turn_between(heading, way[0]) > 0 else "left"
        return Step(side, marks[int(self.rng.integers(len(marks)))]), way

    def _beside(self, place: int, heading: float) -> str:
        """A landmark one would stop at: beside this place, not met on this leg before."""
        for mark in self.city.near(self._at(place), ASIDE_M):
            ahead = along(heading, mark.position - self._at(place))
            if mark.name not in self.passed and abs(ahead) <= 5.0:
                return mark.name
        return ""

    def _behind(self, place: int, heading: float) -> set[str]:
        """Names that one has walked past, and that would mislead if they came again."""
        near = self.city.near(self._at(place), 20.0)
        return {m.name for m in near if along(heading, m.position - self._at(place)) < -5.0}


def write_city(city: City, root: str | Path, splits: dict[str, list[StreetRoute]]) -> None:
    """Write a city as Touchdown's files, for the same readers and commands.

    ``graph/nodes.txt``, ``graph/links.txt``, ``data/<split>.json``; and what is to be seen,
    ``sights.jsonl`` (words) and ``features.npz`` (of views).

    Raises:
        SinkError: when it cannot be written.
    """
    write_street_files(root, city.graph.files, dict(splits))
    write_sight_words(Path(root) / "sights.jsonl", city_words(city))
    write_panorama_features(Path(root) / "features.npz", city_features(city))
