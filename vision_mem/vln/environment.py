"""One walk of an agent: what it is asked, what it sees at each step, what comes of it.

An agent sees its position, the headings of the ways that leave, and the sights; never the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.street_words import PanoramaFeatures
from vision_mem.vln.action_spaces import FORWARD, STOP, Navigator, StreetState
from vision_mem.vln.graph import StreetGraph, nearest_heading, turn_between
from vision_mem.vln.observations import Sight, Visit, word_vector

STEP_LIMIT = 55  # actions, as VELMA counts


@dataclass(frozen=True)
class StreetTask:
    """What an agent is asked.

    Attributes:
        task_id: of the route.
        text: the instruction.
        landmarks: words named in it, where a file gave them.
    """

    task_id: str
    text: str
    landmarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class StreetView:
    """What an agent knows at one step.

    Attributes:
        position: ``(2,)`` metres east and north.
        heading: degrees it looks at.
        exits: headings of the ways that leave, degrees.
        came_by: heading of the way walked in the last step; None when it stood still.
        sights: what was seen on reaching the place.
        actions: the navigator's actions.
        toward: the action that leads along an exit, now or after further turning.
        source: where what is seen is to be found, to be kept with what is remembered.
    """

    position: NDArray[np.float64]
    heading: float
    exits: tuple[float, ...]
    came_by: float | None
    sights: tuple[Sight, ...]
    actions: tuple[str, ...]
    toward: Callable[[float], str]
    source: str = ""

    def visit(self) -> Visit:
        """What a memory is told."""
        return Visit(self.position, self.exits, self.sights, self.came_by, self.source)


class StreetAgent(Protocol):
    """Decides one action at a time."""

    def begin(self, task: StreetTask) -> None:
        """A new task; what was learned in earlier ones may stay."""

    def act(self, view: StreetView) -> str:
        """The next action, one of ``view.actions``."""


class StreetWorld(Protocol):
    """Gives the sights of a place."""

    def sights(self, place: int, visit: int, heading: float) -> tuple[Sight, ...]:
        """What is seen at a place on the ``visit``-th visit, from 0, looking at a heading."""


class WordWorld:
    """Sights from words by panorama id, with bearing in degrees and range in metres; or none.

    Raises:
        InputError: for a panorama that is not in the graph.
    """

    def __init__(
        self,
        graph: StreetGraph,
        words: Mapping[str, Sequence[tuple[str, float, float]]] | None = None,
    ) -> None:
        self._sights: dict[int, tuple[Sight, ...]] = {}
        for name, several in (words or {}).items():
            place = graph.number(name)
            self._sights[place] = tuple(
                Sight(word_vector(word), _offset(graph.position[place], bearing, far), word)
                for word, bearing, far in several
                if word_vector(word).any()
            )

    def sights(self, place: int, visit: int, heading: float) -> tuple[Sight, ...]:
        """The words of a place, all around and on each visit the same."""
        return self._sights.get(place, ())


class FeatureWorld:
    """Sights from features of panoramas' crops; each crop is one thing, ``range_m`` metres away.

    ``field`` is the degrees that are looked at, half of them to each side of the heading.

    Raises:
        InputError: for a panorama that is not in the graph.
    """

    def __init__(
        self,
        graph: StreetGraph,
        found: PanoramaFeatures,
        *,
        field: float = 240.0,
        range_m: float = 10.0,
    ) -> None:
        self._graph, self._found = graph, found
        self._field, self._range = field, range_m
        self._row = {graph.number(name): row for row, name in enumerate(found.ids)}

    def sights(self, place: int, visit: int, heading: float) -> tuple[Sight, ...]:
        """The crops in view, on each visit the same."""
        row = self._row.get(place)
        if row is None:
            return ()
        at = self._graph.position[place]
        seen = zip(self._found.bearings[row].tolist(), self._found.features[row], strict=True)
        return tuple(
            Sight(vector / np.linalg.norm(vector), _offset(at, bearing, self._range))
            for bearing, vector in seen
            if abs(turn_between(heading, bearing)) <= self._field / 2.0 and vector.any()
        )


def _offset(at: NDArray[np.float64], bearing: float, far: float) -> NDArray[np.float64]:
    radians = np.radians(bearing)
    return at + far * np.array([np.sin(radians), np.cos(radians)])


@dataclass(frozen=True)
class Episode:
    """What came of a walk.

    Attributes:
        task_id: of the route.
        trajectory: place numbers, the start first.
        actions: as taken.
        stopped: whether the agent stopped itself, rather than ran out of steps.
    """

    task_id: str
    trajectory: tuple[int, ...]
    actions: tuple[str, ...]
    stopped: bool


def run_episode(
    agent: StreetAgent,
    navigator: Navigator,
    task: StreetTask,
    start: tuple[int, float],
    world: StreetWorld,
    *,
    limit: int = STEP_LIMIT,
    first_forward: bool = False,
    watch: Callable[[int, StreetState, str], None] | None = None,
) -> Episode:
    """Let an agent walk until it stops or its steps, ``limit`` of them, are used up.

    ``start`` is a place number and a heading; ``first_forward`` begins with one forced step, as
    VELMA does on Map2Seq; ``watch`` is told the number of each step, where the agent was, and its
    action.

    Raises:
        InputError: when the agent asks for an action that is none.
    """
    if limit < 1:
        raise InputError(f"limit is {limit}; expected at least 1 action")
    graph = navigator.graph
    navigator.begin(*start)
    agent.begin(task)
    visits: dict[int, int] = {}
    came_by: float | None = None
    if first_forward and graph.exits[start[0]]:
        navigator.step(FORWARD)
        came_by = _way(graph, navigator.trajectory)
    place = -1
    sights: tuple[Sight, ...] = ()
    while not navigator.done and len(navigator.taken) < limit:
        if navigator.state.place != place:
            place = navigator.state.place
            number = visits.get(place, 0)
            visits[place] = number + 1
            sights = world.sights(place, number, _looking(came_by, navigator))
        reached = len(navigator.trajectory)
        action = agent.act(_view(navigator, came_by, sights))
        if watch is not None:
            watch(len(navigator.taken), navigator.state, action)
        navigator.step(action)
        moved = len(navigator.trajectory) > reached
        came_by = _way(graph, navigator.trajectory) if moved else None
    actions = tuple(navigator.taken)
    stopped = bool(actions) and actions[-1] == STOP
    return Episode(task.task_id, tuple(navigator.trajectory), actions, stopped)


def _view(navigator: Navigator, came_by: float | None, sights: tuple[Sight, ...]) -> StreetView:
    graph, state = navigator.graph, navigator.state
    exits = graph.exits[state.place]

    def toward(heading: float) -> str:
        if not exits:
            return STOP
        nearest = nearest_heading(heading, [one for one, _ in exits])
        return navigator.toward(next(end for one, end in exits if one == nearest))

    return StreetView(
        graph.position[state.place], state.heading, tuple(heading for heading, _ in exits),
        came_by, sights, navigator.actions, toward, graph.ids[state.place],
    )  # fmt: skip


def _way(graph: StreetGraph, trajectory: list[int]) -> float | None:
    if len(trajectory) < 2:
        return None
    return graph.heading_between(trajectory[-2], trajectory[-1])


def _looking(came_by: float | None, navigator: Navigator) -> float:
    """Who reaches a place looks the way it walked; the navigator's heading is an exit's."""
    return navigator.state.heading if came_by is None else came_by
