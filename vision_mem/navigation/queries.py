"""What a map answers: where things are, and how to get there. Nothing here changes a map."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError, NotFoundError
from vision_mem.formats.graphs import Degrees, to_metres
from vision_mem.navigation.graph.path_planning import (
    FloorPlan,
    directions,
    floor_plan,
    nearest_open,
    shortest_walk,
)
from vision_mem.navigation.graph.topology import Place
from vision_mem.navigation.journal import KINDS, Key, Memory
from vision_mem.navigation.landmarks import Landmark, words
from vision_mem.navigation.mean_directions import unit
from vision_mem.navigation.records import Route
from vision_mem.navigation.retrieval import Hit, MapQuery, make_hit
from vision_mem.navigation.state import SpatialState
from vision_mem.navigation.update import to_seen
from vision_mem.text import short

History = Callable[[Key, float], list[Memory]]
"""What was observed of a key until a time, in seconds."""
_SNAP_MOST = 5.0
"""Metres beside a start or goal beyond which a way that begins or ends there is none."""


@dataclass(frozen=True, eq=False)
class Target:
    """What somebody means by a position, a key or words.

    Attributes:
        position: float64 ``(3,)`` metres in the map's frame.
        key: of the landmark or place; None for a bare position.
        name: for people.
    """

    position: NDArray[np.float64]
    key: Key | None
    name: str


def resolve(state: SpatialState, what: Any, role: str = "target") -> Target:
    """See ``NavigationSession.resolve``."""
    if what is None:
        current = state.topology.current
        if current is None:
            raise NotFoundError(
                f"the {role} is not known: the map has no places yet; give a position"
            )
        here = state.topology.places[current].position
        return Target(here, Key("place", current), f"place {current}")
    if isinstance(what, str):
        key, position = parse_key(what), _parse_position(what, role, state.origin)
        if key is None and position is None:
            return _best(state, what, role)
        what = key or position
    if isinstance(what, Key):
        known: Any = {"place": state.topology.places, "landmark": state.landmarks.by_id}
        found = known.get(what.kind, {}).get(what.number)
        if found is None:
            raise NotFoundError(f"{role} {what} is not in this map")
        return Target(found.position, what, str(what))
    array = np.asarray(what, np.float64)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise InputError(f"{role} {what!r}: expected 3 finite numbers in metres, a key, or words")
    return Target(array, None, str(array.round(2).tolist()))


def parse_key(text: str) -> Key | None:
    """The key that ``landmark:12``, ``place:3`` or ``leaf:CODE`` is; None for other words.

    Raises:
        InputError: for one of these kinds without a number.
    """
    return Key.parse(text) if text.strip().partition(":")[0] in KINDS and ":" in text else None


def key_of(state: SpatialState, text: str) -> Key:
    """The key that a text is, or that of what words fit best.

    Raises:
        InputError: for words that nothing fits, or a position.
    """
    key = parse_key(text) or resolve(state, text, "key").key
    if key is None:
        raise InputError(f"key {text!r} is a position; expected leaf:CODE, place:ID or landmark:ID")
    return key


def landmark_id(state: SpatialState, what: int | str) -> int:
    """The id of a landmark that is named exactly, by id, key or name: for what cannot be undone.

    Raises:
        InputError: for none, or more than one, which are listed.
    """
    marks = state.landmarks.by_id
    key = parse_key(what) if isinstance(what, str) else Key("landmark", what)
    if key is not None:
        found = [key.number] if key.kind == "landmark" and key.number in marks else []
    else:
        found = [number for number, each in marks.items() if each.label == what]
        if str(what).isdecimal() and int(what) in marks and int(what) not in found:
            found.append(int(what))
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(f"landmark:{i} ({short(marks[i].label)})" for i in found[:8])
        raise InputError(f"{len(found)} landmarks may be meant by {what!r}: {some}; give its key")
    if key is None and not str(what).isdecimal():
        raise NotFoundError(
            f"no landmark is called {short(str(what))!r} exactly; `navigate where` finds numbers"
        )
    number = short(str(what).removeprefix("landmark:"))
    raise NotFoundError(f"no landmark {number} in this map; `navigate where` finds numbers")


def _best(state: SpatialState, text: str, role: str) -> Target:
    """The remembered thing that words fit best."""
    hits = where(state, text, None, None, 1, False)
    if not hits:
        close = ", ".join(nearest_words(state, text, 5))
        hint = f"; near in spelling: {short(close, 200)}" if close else ""
        raise NotFoundError(f"{role} {short(text)!r} is not known here{hint}")
    key = Key("landmark", hits[0].node)
    return Target(hits[0].position, key, f"{short(hits[0].label) or hits[0].node!s} ({key})")


def _parse_position(text: str, role: str, origin: Degrees | None) -> list[float] | None:
    """``x,y,z`` in metres, or ``latitude,longitude`` on streets; None for words."""
    try:
        values = [float(part) for part in text.strip().removeprefix("geo:").split(",")]
    except ValueError:
        return None
    if len(values) != 2:
        return values if len(values) == 3 else None
    if origin is None:
        raise InputError(
            f"{role} {text!r} is two numbers, and this map does not know its latitude and "
            "longitude; give x,y,z in metres"
        )
    if not (abs(values[0]) <= 90 and abs(values[1]) <= 180):
        raise InputError(
            f"{role} {text!r}: expected latitude,longitude in degrees (up to 90, 180), or x,y,z in "
            "metres"
        )
    if max(abs(values[1] - origin[0]), abs(values[0] - origin[1])) < 1:
        raise InputError(f"{role} {text!r}: the latitude comes first: {values[1]:g},{values[0]:g}")
    east, north = to_metres(values[:1], values[1:], origin)[0].tolist()
    return [east, north, 0.0]


def where(
    state: SpatialState,
    query: str | ArrayLike | None,
    near: ArrayLike | None,
    at: float | None,
    k: int,
    write: bool,
    history: History | None = None,
) -> list[Hit]:
    """See ``NavigationSession.where``; ``history`` is needed for ``at``."""
    if k < 1:
        raise InputError(f"k is {k}; expected 1 or more")
    if query is None and near is None:
        raise InputError("a question needs words, an embedding, or a position to be near to")
    asked = _query(query, near)
    if at is None:
        return state.retriever.search(asked, k, state.now_s, write=write)
    # As it was known then: only what had been seen, from what had been seen of it.
    allowed = {i for i, each in state.landmarks.by_id.items() if each.first_s <= at}
    hits = state.retriever.search(asked, len(allowed) or 1, at, allowed=allowed, write=False)
    found: list[Hit] = []
    for hit in hits:
        assert history is not None
        until = history(Key("landmark", hit.node), at)
        if until:
            then = summed(state, hit.node, until)
            found.append(make_hit(then, hit.score, hit.channels, at, gone=False))
        if len(found) == k:
            break
    return found


def summed(state: SpatialState, landmark_id: int, history: list[Memory]) -> Landmark:
    """A landmark as a part of its journal tells it, with the places where they are today.

    Its row of embeddings is 0: it belongs to no store.
    """
    config = state.config.landmark
    made = Landmark(landmark_id, first_s=history[0].time_s)
    for memory in history:
        place = state.topology.places.get(memory.place)
        seen = from_memory(state, memory, place)
        made.tally(seen, memory.seq, memory.time_s, config)
        spread = seen.covariance + config.least_sigma**2 * np.eye(3)
        weight = np.asarray(np.linalg.inv(spread), np.float64)
        made.weight = made.weight + weight
        made.pull = made.pull + weight @ seen.position
    made.solve()
    return made


def from_memory(state: SpatialState, memory: Memory, place: Place | None) -> Any:
    """The sighting that a memory of a landmark holds, in the map of today."""
    assert memory.position is not None
    # Where its place was forgotten, the pose of that time is all there is.
    pose = memory.pose @ np.linalg.inv(memory.relative) if place is None else place.pose
    return to_seen(
        pose, memory.relative, memory.position[:3], memory.position[3:].reshape(3, 3),
        memory.vector(state.journal.dtype), memory.label, memory.score, memory.track,
    )  # fmt: skip


def nearest_words(state: SpatialState, text: str, k: int) -> list[str]:
    """See ``NavigationSession.nearest_words``."""
    vocabulary = state.landmarks.vocabulary
    found: list[str] = []
    for word in words(text):
        found += difflib.get_close_matches(word, vocabulary, n=k, cutoff=0.6)
    return list(dict.fromkeys(found))[:k]


def plan(state: SpatialState, goal: Any, start: Any) -> Route:
    """See ``NavigationSession.plan``."""
    topology = state.topology
    first, _ = _place(state, start, "start")
    last, name = _place(state, goal, "goal")
    way = topology.path(first, last)
    if way is None:
        blocked = any(each.blocked for each in topology.ways.values())
        raise NotFoundError(
            f"no known way leads from place {first} to {name}; explore between them"
            f"{', or lift a block' if blocked else ''}"
        )
    points = np.array([topology.places[place].position for place in way])
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    turns = directions(points, state.config.planning.upward)
    return Route(points, length, tuple(way), *turns, "places")


def route(state: SpatialState, goal: Any, start: Any) -> Route:
    """See ``NavigationSession.route``."""
    config = state.config.planning
    observers = state.topology.positions()[1]
    drawn = floor_plan(state.octree, config, observers)
    if drawn is None:
        return plan(state, goal, start)
    first, last = resolve(state, start, "start"), resolve(state, goal, "goal")
    drawn = _storey(state, drawn, first, last)
    points = shortest_walk(drawn, first.position, last.position, config.snap)
    if points is None:
        raise NotFoundError(
            f"no way over the {'' if config.optimistic else 'known '}floor leads to {last.name}; "
            f"{_remedy(state, drawn, first, last, goal, start)}"
        )
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    flat = list(drawn.axes)
    ends = ((first.position, points[0]), (last.position, points[-1]))
    begin, end = (float(np.linalg.norm((one - other)[flat])) for one, other in ends)
    return Route(points, length, (), *directions(points, drawn.up), "floor", (begin, end))


def _storey(state: SpatialState, drawn: FloorPlan, first: Target, last: Target) -> FloorPlan:
    """The plan of the storey that both ends are on.

    Raises:
        NotFoundError: when no floor is known, or they are on two.
    """
    levels, (axis, sign) = drawn.levels, drawn.up
    heights = [float(end.position[axis]) * sign for end in (first, last)]
    below, above = (levels.under(height) for height in heights)
    if below is None or above is None:
        raise NotFoundError(
            f"the floor of this map is not known: {levels.doubt}; give its height "
            "(--floor-height), or go along ways that were walked (--places)"
        )
    if below.height != above.height:
        raise NotFoundError(
            f"{last.name} is on another floor (height {above.height:.1f} m) than the start (height "
            f"{below.height:.1f} m); no way over one floor leads there: go along ways that were "
            "walked (--places)"
        )
    if below.height == drawn.floor:
        return drawn
    observers = state.topology.positions()[1]
    other = floor_plan(state.octree, state.config.planning, observers, first.position)
    assert other is not None
    return other


def _remedy(
    state: SpatialState, drawn: FloorPlan, first: Target, last: Target, goal: Any, start: Any
) -> str:
    """What would open a way: each advice was tried, none is given that leads nowhere."""
    config, observers = state.config.planning, state.topology.positions()[1]
    for end, role in ((first, "start"), (last, "goal")):
        away = nearest_open(drawn, end.position)
        if config.snap < away < np.inf and away > _SNAP_MOST:
            return f"the nearest open floor is {away:.1f} m from the {role}: explore there"
    snap = max(nearest_open(drawn, end.position) for end in (first, last))
    wider = math.ceil(10 * snap + 1e-6) / 10 if config.snap < snap <= _SNAP_MOST else config.snap
    unseen = {"optimistic": True}
    tried: list[tuple[dict[str, Any], str]] = [
        ({"snap": wider}, f"planning.snap={wider:g} begins or ends that far beside it"),
        (unseen, "planning.optimistic=true crosses floor that was never seen"),
        ({"radius": config.radius / 2}, f"planning.radius={config.radius / 2:g} goes closer by"),
        (unseen | {"snap": _SNAP_MOST}, f"with planning.optimistic=true and planning.snap="
         f"{_SNAP_MOST:g} one does, over floor never seen"),
    ]  # fmt: skip
    ends = (first.position, last.position)
    for changes, advice in tried:
        other = replace(config, **changes)
        drawn_so = (
            None if other == config else floor_plan(state.octree, other, observers, first.position)
        )
        if drawn_so is not None and shortest_walk(drawn_so, *ends, other.snap) is not None:
            return advice
    with contextlib.suppress(InputError):
        plan(state, goal, start)
        return "one that was walked does (--places)"
    return "no setting opens one: explore between them"


def _query(query: str | ArrayLike | None, near: ArrayLike | None) -> MapQuery:
    position = None
    if near is not None:
        array = np.asarray(near, np.float64)
        position = array[:3, 3] if array.shape == (4, 4) else array
        if position.shape != (3,) or not np.isfinite(position).all():
            raise InputError("near needs 3 finite numbers, metres, or a (4, 4) pose")
    if isinstance(query, str):
        return MapQuery(text=query, position=position)
    return MapQuery(embedding=None if query is None else unit(query), position=position)


def _place(state: SpatialState, what: Any, role: str) -> tuple[int, str]:
    """The place to start from or to go to, and what it was asked for as."""
    topology, config = state.topology, state.config
    target = resolve(state, what, role)
    if target.key is not None and target.key.kind == "place":
        return target.key.number, target.name
    if target.key is not None:
        views = state.landmarks.by_id[target.key.number].views
        # Where it was seen from best: nearest of the places that saw it.
        seen = [place for place in views if place in topology.places]
        if seen:
            return min(seen, key=lambda place: (views[place].distance, place)), target.name
    nearest = topology.nearest(target.position)
    if nearest is None:
        raise NotFoundError(f"the {role} cannot be reached: the map has no places yet")
    away = float(np.linalg.norm(topology.places[nearest].position - target.position))
    if away > max(10 * config.topology.place_radius, 5 * config.planning.snap):
        raise NotFoundError(
            f"the {role} {target.name} is {away:.1f} m from the nearest place that is known; "
            "explore there"
        )
    return nearest, target.name
