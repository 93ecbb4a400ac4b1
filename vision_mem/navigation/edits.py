"""Changes to what is remembered: corrections, forgetting, rebuilding."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.poses import is_rigid
from vision_mem.navigation.landmarks import Landmarks
from vision_mem.navigation.queries import from_memory
from vision_mem.navigation.records import Sighting
from vision_mem.navigation.retrieval import Retriever
from vision_mem.navigation.space.deformation import move_space
from vision_mem.navigation.state import SpatialState
from vision_mem.navigation.update import to_seen


def correct(state: SpatialState, poses: Mapping[int, ArrayLike]) -> int:
    """See ``NavigationSession.correct``."""
    for place_id, pose in poses.items():
        if not is_rigid(np.asarray(pose, np.float64)):
            raise InputError(
                f"the new pose of place {place_id} is not finite or no rigid motion; expected a "
                "(4, 4) camera-to-world matrix"
            )
    motions = state.topology.correct({i: np.asarray(p, np.float64) for i, p in poses.items()})
    state.exits.turn(motions)
    state.landmarks.refuse(state.topology, motions)
    state.short.move(motions)
    move_space(state.octree, motions)
    state.events.append((state.now_s, "correct", {"places": sorted(poses)}))
    return len(motions)


def relocate(
    state: SpatialState, landmark_id: int, sighting: Sighting, pose: NDArray[np.float64]
) -> None:
    """See ``NavigationSession.relocate``."""
    place = state.topology.places[state.topology.current or 0]
    relative = np.linalg.inv(place.pose) @ pose
    seen = to_seen(
        place.pose, relative, np.asarray(sighting.position), np.asarray(sighting.sigma), None,
        sighting.label, sighting.score, sighting.track,
    )  # fmt: skip
    mark = state.landmarks.relocate(landmark_id, seen, place.place_id, state.topology)
    state.short.insert(landmark_id, mark.position, place.place_id, None, mark.label, state.now_s)
    state.events.append((state.now_s, "moved", {"landmark": landmark_id}))


def forget(
    state: SpatialState,
    sql: sqlite3.Connection,
    region: tuple[ArrayLike, ArrayLike] | None,
    landmark: int | None,
    before: float | None,
) -> dict[str, int]:
    """See ``NavigationSession.forget``; within a transaction."""
    gone = {"memories": 0, "landmarks": 0, "places": 0, "leaves": 0}
    if landmark is not None:
        _drop_landmark(state, sql, landmark, gone)
    elif region is not None:
        _forget_region(state, sql, region, gone)
    else:
        gone["memories"] += sql.execute("DELETE FROM memory WHERE t<?", (before,)).rowcount
        left = {row[0] for row in sql.execute("SELECT DISTINCT landmark FROM memory")}
        for landmark_id in sorted(state.landmarks.by_id.keys() - left):
            _drop_landmark(state, sql, landmark_id, gone)
        rebuild(state, sql)
    sql.execute("DELETE FROM frame WHERE frame NOT IN (SELECT frame FROM memory)")
    return gone


def _drop_landmark(
    state: SpatialState, sql: sqlite3.Connection, landmark_id: int, gone: dict[str, int]
) -> None:
    asked = "DELETE FROM memory WHERE landmark=?"
    gone["memories"] += sql.execute(asked, (landmark_id,)).rowcount
    gone["landmarks"] += 1
    state.landmarks.drop(landmark_id)
    state.short.drop(landmark_id)


def _forget_region(
    state: SpatialState,
    sql: sqlite3.Connection,
    region: tuple[ArrayLike, ArrayLike],
    gone: dict[str, int],
) -> None:
    low, high = (np.asarray(corner, np.float64) for corner in region)
    gone["leaves"] = state.octree.forget(low, high)  # refuses what is no box

    def inside(position: NDArray[np.float64]) -> bool:
        return bool(((position >= low) & (position <= high)).all())

    for landmark_id in sorted(state.landmarks.by_id):
        if inside(state.landmarks.by_id[landmark_id].position):
            _drop_landmark(state, sql, landmark_id, gone)
    places = state.topology.places
    leaving = [i for i in sorted(places) if inside(places[i].position)]
    for place_id in leaving:
        rest = [i for i in places if i not in leaving]
        asked = "DELETE FROM memory WHERE place=? AND landmark IS NULL"
        gone["memories"] += sql.execute(asked, (place_id,)).rowcount
        if rest:
            here = places[place_id].position
            near = min(rest, key=lambda i: (float(np.linalg.norm(places[i].position - here)), i))
            state.landmarks.reanchor(place_id, near, state.topology)
        else:
            # Seen from nowhere that is still known: there is nothing to hold on to.
            for landmark_id in sorted(state.landmarks.by_id):
                _drop_landmark(state, sql, landmark_id, gone)
        state.topology.drop(place_id)
        state.exits.drop(place_id)
        gone["places"] += 1


def rebuild(state: SpatialState, sql: sqlite3.Connection) -> None:
    """Work out all landmarks anew from the journal; only whether they still exist is kept."""
    old = state.landmarks
    fresh = Landmarks(state.config.landmark)
    for memory in state.journal.all(sql):
        if memory.landmark is None or memory.position is None:
            continue
        place = state.topology.places.get(memory.place)
        seen = from_memory(state, memory, place)
        anchor = memory.place
        if place is None:
            nearest = state.topology.nearest(seen.position)
            if nearest is None:
                continue
            anchor = nearest
            inverse = np.linalg.inv(state.topology.places[anchor].pose)
            seen.local[:] = inverse[:3, :3] @ seen.position + inverse[:3, 3]
            turn = inverse[:3, :3]
            seen.local_covariance[:] = turn @ seen.covariance @ turn.T
        fresh.add(memory.landmark, seen, memory.seq, memory.time_s, anchor, state.topology)
    for landmark_id, landmark in fresh.by_id.items():
        if landmark_id in old.by_id:
            landmark.existence = old.by_id[landmark_id].existence
    fresh.changed |= old.changed | set(old.by_id)
    pairs = {(i, place) for i, each in old.by_id.items() for place in each.views}
    fresh.changed_views |= old.changed_views | pairs
    state.landmarks = fresh
    state.retriever = Retriever(fresh, state.short, state.config.retrieval)
