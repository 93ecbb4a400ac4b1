"""What a map answers: where things are, and how to get there. Nothing here changes a map."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.navigation.graph.path_planning import directions, floor_plan, shortest_walk
from vision_mem.navigation.graph.topology import Place
from vision_mem.navigation.journal import Key, Memory
from vision_mem.navigation.landmarks import Landmark, words
from vision_mem.navigation.mean_directions import unit
from vision_mem.navigation.records import Route
from vision_mem.navigation.retrieval import Hit, MapQuery, make_hit
from vision_mem.navigation.state import SpatialState
from vision_mem.navigation.update import to_seen

if TYPE_CHECKING:
    from vision_mem.navigation.session import NavigationSession


def where(
    session: NavigationSession,
    query: str | ArrayLike | None,
    near: ArrayLike | None,
    at: float | None,
    k: int,
    write: bool,
) -> list[Hit]:
    """See ``NavigationSession.where``."""
    state = session.state
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
        history = session.recall(Key("landmark", hit.node), at=at)
        if history:
            then = summed(state, hit.node, history)
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
        if seen.label:
            made.votes[seen.label] = made.votes.get(seen.label, 0.0) + seen.score
        spread = seen.covariance + config.least_sigma**2 * np.eye(3)
        weight = np.asarray(np.linalg.inv(spread), np.float64)
        made.weight = made.weight + weight
        made.pull = made.pull + weight @ seen.position
        made.count += 1
        made.existence = min(made.existence + config.seen, config.surest)
        made.last_s = max(made.last_s, memory.time_s)
        if memory.score > made.best:
            made.best, made.best_seq = memory.score, memory.seq
        made.last = (*made.last, memory.seq)[-config.last :]
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


def plan(session: NavigationSession, goal: Any, start: Any) -> Route:
    """See ``NavigationSession.plan``."""
    topology = session.state.topology
    first, _ = _place(session, start, "start")
    last, name = _place(session, goal, "goal")
    way = topology.path(first, last)
    if way is None:
        raise InputError(
            f"no known way leads from place {first} to {name}; explore between them, or lift a "
            "block"
        )
    points = np.array([topology.places[place].position for place in way])
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    axis, sign = session.config.planning.up[1], session.config.planning.up[0]
    up = ("xyz".index(axis), 1 if sign == "+" else -1)
    return Route(points, length, tuple(way), *directions(points, up), "places")


def route(session: NavigationSession, goal: Any, start: Any) -> Route:
    """See ``NavigationSession.route``."""
    state, config = session.state, session.config.planning
    observers = state.topology.positions()[1]
    drawn = floor_plan(state.octree, config, observers)
    if drawn is None:
        return plan(session, goal, start)
    first, _ = _position(session, start, "start")
    last, name = _position(session, goal, "goal")
    points = shortest_walk(drawn, first, last, config.snap)
    if points is None:
        raise InputError(
            f"no way over the known floor leads to {name}; explore more, allow unknown floor "
            "(planning.optimistic), or a larger planning.snap"
        )
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    return Route(points, length, (), *directions(points, drawn.up), "floor")


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


def _position(session: NavigationSession, what: Any, role: str) -> tuple[NDArray[np.float64], str]:
    state = session.state
    if what is None:
        current = state.topology.current
        if current is None:
            raise InputError(f"the {role} is not known: the map has no places yet; give a position")
        return state.topology.places[current].position, f"place {current}"
    if isinstance(what, Key) or (isinstance(what, str) and ":" in what):
        key = what if isinstance(what, Key) else Key.parse(what)
        if key.kind == "place" and key.number in state.topology.places:
            return state.topology.places[key.number].position, str(key)
        if key.kind == "landmark" and key.number in state.landmarks.by_id:
            return state.landmarks.by_id[key.number].position, str(key)
        raise InputError(f"{role} {key} is not in this map")
    if isinstance(what, str):
        hits = where(session, what, None, None, 1, False)
        if not hits:
            close = ", ".join(nearest_words(state, what, 5))
            raise InputError(
                f"{role} {what!r} is not known here"
                + (f"; near in spelling: {close}" if close else "")
            )
        return hits[0].position, f"{hits[0].label or hits[0].node!s} (landmark:{hits[0].node})"
    array = np.asarray(what, np.float64)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise InputError(f"{role} {what!r}: expected 3 finite numbers in metres, a key, or words")
    return array, str(array.round(2).tolist())


def _place(session: NavigationSession, what: Any, role: str) -> tuple[int, str]:
    topology = session.state.topology
    position, name = _position(session, what, role)
    key = Key.parse(what) if isinstance(what, str) and what.startswith("place:") else what
    if isinstance(key, Key) and key.kind == "place":
        return key.number, name
    landmark = session.state.landmarks.by_id.get(_landmark_of(name))
    if landmark is not None and landmark.views:
        # Where it was seen from best: nearest of the places that saw it.
        seen = [p for p in landmark.views if p in topology.places]
        if seen:
            return min(seen, key=lambda p: (landmark.views[p].distance, p)), name
    nearest = topology.nearest(position)
    if nearest is None:
        raise InputError(f"the {role} cannot be reached: the map has no places yet")
    config = session.config
    away = float(np.linalg.norm(topology.places[nearest].position - position))
    if away > max(10 * config.topology.place_radius, 5 * config.planning.snap):
        raise InputError(
            f"the {role} {name} is {away:.1f} m from the nearest place that is known; explore there"
        )
    return nearest, name


def _landmark_of(name: str) -> int:
    number = name.rpartition("landmark:")[2].rstrip(")")
    return int(number) if "landmark:" in name and number.isdigit() else 0
