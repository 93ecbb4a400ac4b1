"""The two ways in which published work lets an agent move on a street graph.

``touchdown``: forward, left, right, stop, as the Touchdown paper's environment. ``velma``: five
actions; at junctions left and right are meant as a person would mean them. An agent's trajectory
is its start and every place it reached after. Source: mem4nav specification, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vision_mem.config import nearest
from vision_mem.errors import InputError
from vision_mem.vln.graph import StreetGraph, nearest_heading, turn_between

FORWARD, LEFT, RIGHT, STOP, AROUND = "forward", "left", "right", "stop", "turn_around"


@dataclass(frozen=True)
class StreetState:
    """Where an agent is and where it looks.

    Attributes:
        place: place number.
        heading: degrees clockwise from north.
    """

    place: int
    heading: float


class Navigator:
    """Moves one agent on a graph; keeps its state, the places it reached and its actions.

    Attributes:
        state: where it is.
        trajectory: its start and every place it reached after.
        taken: actions so far.
        done: whether it stopped.
    """

    name: str
    actions: tuple[str, ...]

    def __init__(self, graph: StreetGraph) -> None:
        self.graph = graph
        self.begin_at(StreetState(0, 0.0))

    def begin_at(self, state: StreetState) -> None:
        """Put the agent somewhere, as it is; forget what was."""
        self.state = state
        self.before: StreetState | None = None
        self.trajectory = [state.place]
        self.taken: list[str] = []
        self.done = False

    def begin(self, place: int, heading: float) -> None:
        """Put the agent somewhere; forget what was."""
        raise NotImplementedError

    def step(self, action: str) -> StreetState:
        """Do one action; returns the new state."""
        raise NotImplementedError

    def toward(self, place: int) -> str:
        """The action that leads to a neighbouring place, now or after further turning."""
        raise NotImplementedError

    def move(self, action: str, state: StreetState) -> StreetState:
        """Take a state that an action led to."""
        self.before, self.state = self.state, state
        self.taken.append(action)
        if state.place != self.before.place:
            self.trajectory.append(state.place)
        self.done = action == STOP
        return state

    def headings(self, place: int) -> list[float]:
        """Of the links that leave a place."""
        return [heading for heading, _ in self.graph.exits[place]]

    def along(self, heading: float) -> int | None:
        """The place that the link at exactly this heading leads to."""
        exits = self.graph.exits[self.state.place]
        return next((end for one, end in exits if one == heading), None)

    def refuse(self, action: str, actions: tuple[str, ...]) -> InputError:
        """What to say of an action that is none."""
        hint = nearest(action, list(actions))
        return InputError(f"no action {action!r}; there are {', '.join(actions)}{hint}")


class TouchdownNavigator(Navigator):
    """Four actions; left and right turn to the next link that way, whatever kind of place.

    A step onto a place with fewer than two links is refused: the agent stays as it was.
    """

    name = "touchdown"
    actions: tuple[str, ...] = (FORWARD, LEFT, RIGHT, STOP)

    def begin(self, place: int, heading: float) -> None:
        """Put the agent somewhere. Its heading is turned to the nearest link (``snap``)."""
        headings = self.headings(place)
        self.begin_at(
            StreetState(place, nearest_heading(heading, headings) if headings else heading)
        )

    def step(self, action: str) -> StreetState:
        """Do one action.

        Raises:
            InputError: for an action that is not one of the four.
        """
        if action not in self.actions:
            raise self.refuse(action, self.actions)
        following = self.after(action)
        if action != STOP and len(self.graph.exits[following.place]) < 2:
            following = self.state
        return self.move(action, following)

    def after(self, action: str) -> StreetState:
        """Where an action leads, before refusals."""
        place, heading = self.state.place, self.state.heading
        if action == STOP:
            return self.state
        if action == FORWARD:
            reached = self.along(heading)
            place = place if reached is None else reached
            headings = self.headings(place)
            return StreetState(place, nearest_heading(heading, headings) if headings else heading)
        side = -1.0 if action == LEFT else 1.0
        others = [one for one in self.headings(place) if one != heading]
        if not others:
            return self.state
        return StreetState(place, min(others, key=lambda one: side * (one - heading) % 360.0))

    def toward(self, place: int) -> str:
        """Forward when the link is ahead, otherwise the shorter turn to it.

        Raises:
            InputError: when the place is no neighbour.
        """
        heading = _heading_to(self.graph, self.state.place, place)
        turn = (heading - self.state.heading) % 360.0
        if turn == 0.0:
            return FORWARD
        return RIGHT if turn < 180.0 else LEFT


class VelmaNavigator(Navigator):
    """Five actions, with left, right and ahead as seen by someone who arrives at a junction.

    On a street left and right mean forward. At its end anything but turning around is a stop. At
    a junction the way one came from does not count; ahead is the middle one of the others.
    """

    name = "velma"
    actions: tuple[str, ...] = (FORWARD, LEFT, RIGHT, STOP, AROUND)

    def begin(self, place: int, heading: float) -> None:
        """Put the agent somewhere, looking as told."""
        self.begin_at(StreetState(place, heading % 360.0))

    def allowed(self, action: str) -> str:
        """What an action means here: see the class.

        Raises:
            InputError: for an action that is not one of the five.
        """
        if action not in self.actions:
            raise self.refuse(action, self.actions)
        degree = len(self.graph.exits[self.state.place])
        if degree <= 1 and action not in (STOP, AROUND):
            return STOP
        return FORWARD if degree == 2 and action in (LEFT, RIGHT) else action

    def step(self, action: str) -> StreetState:
        """Do one action."""
        action = self.allowed(action)
        return self.move(action, self.after(action))

    def after(self, action: str) -> StreetState:
        """Where an allowed action leads."""
        place, heading = self.state.place, self.state.heading
        headings = self.headings(place)
        if action == STOP or not headings:
            return self.state
        if action == AROUND:
            return StreetState(place, nearest_heading((heading - 180.0) % 360.0, headings))
        if action == FORWARD and (reached := self.along(heading)) is not None:
            return StreetState(reached, heading)
        chosen = nearest_heading(heading, headings)
        if len(headings) > 2:
            chosen = self._at_junction(action)
        if action != FORWARD:
            return StreetState(place, chosen)
        reached = self.along(chosen)
        assert reached is not None, "the heading was taken from this place's links"
        return StreetState(reached, chosen)

    def _at_junction(self, action: str) -> float:
        place, heading = self.state.place, self.state.heading
        others, ahead = self.headings(place), heading
        degree = len(others)
        if self.before is not None and self.before.place != place:
            back = self.graph.heading_between(place, self.before.place)
            if back is not None:
                others.remove(back)
            others.sort(key=lambda one: turn_between(heading, one))
            half = len(others) // 2
            ahead = others[half]
            if len(others) % 2 == 0:
                ahead = nearest_heading(heading, others[half - 1 : half + 1])
            if degree == 3 and action in (LEFT, RIGHT):
                return others[0] if action == LEFT else others[-1]
        if action == FORWARD:
            # Not just arrived and looking between two links: the reference fails here.
            return ahead if ahead in others else nearest_heading(ahead, others)
        side = -1.0 if action == LEFT else 1.0
        rest = [one for one in others if one != ahead]
        return min(rest, key=lambda one: side * (one - ahead) % 360.0)

    def toward(self, place: int) -> str:
        """Forward where it leads there (but turn first at a sharp turn of a three-way junction).

        Raises:
            InputError: when the place is no neighbour.
        """
        wanted = _heading_to(self.graph, self.state.place, place)
        heading, degree = self.state.heading, len(self.graph.exits[self.state.place])
        if degree <= 1:
            return FORWARD if wanted == heading else AROUND
        ahead = self.after(FORWARD)
        sharp = degree == 3 and abs(turn_between(heading, ahead.heading)) >= 45.0
        if ahead.place == place and not sharp:
            return FORWARD
        turns = [AROUND, LEFT, RIGHT] if degree > 2 else [AROUND]
        for turn in turns:
            if self.after(turn).heading == wanted:
                return turn
        if ahead.place == place:
            return FORWARD
        return min(turns, key=lambda turn: abs(turn_between(self.after(turn).heading, wanted)))


NAVIGATORS: dict[str, Callable[[StreetGraph], Navigator]] = {
    "touchdown": TouchdownNavigator,
    "velma": VelmaNavigator,
}


def make_navigator(name: str, graph: StreetGraph) -> Navigator:
    """A navigator by name.

    Raises:
        InputError: when there is none of that name.
    """
    if name not in NAVIGATORS:
        hint = nearest(name, list(NAVIGATORS))
        raise InputError(f"no navigator {name!r}; there are {', '.join(NAVIGATORS)}{hint}")
    return NAVIGATORS[name](graph)


def _heading_to(graph: StreetGraph, place: int, target: int) -> float:
    heading = graph.heading_between(place, target)
    if heading is None:
        raise InputError(f"no link leads from {graph.ids[place]} to {graph.ids[target]}")
    return heading


def follow_path(navigator: Navigator, path: list[int], limit: int = 200) -> list[int]:
    """Follow the true path, as a perfect agent does; the navigator begins at its first place.

    Returns:
        The trajectory; equal to the path where the navigator allows it. It stops where no link
        leads to the next place.
    """
    at, graph = 0, navigator.graph
    while not navigator.done and len(navigator.taken) < limit:
        place = navigator.state.place
        if at + 1 < len(path) and place == path[at + 1]:
            at += 1
        last = at + 1 == len(path)
        if place != path[at] or last or graph.heading_between(place, path[at + 1]) is None:
            navigator.step(STOP)
        else:
            navigator.step(navigator.toward(path[at + 1]))
    return navigator.trajectory
