"""Places and the ways between them: the graph on which routes are planned.

A place is somewhere the observer stood. Its position is that of its first pose until a correction
comes; it is never averaged, so that distances stay those that were travelled (specification 1.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial.transform import Rotation

from vision_mem.errors import InputError
from vision_mem.navigation.spatial_hash import Nearby

Pose = NDArray[np.float64]


@dataclass(frozen=True)
class TopologyConfig:
    """When somewhere is a new place.

    Attributes:
        place_radius: metres within which one is still at a place.
        place_cosine: likeness of descriptors that the same place needs, -1 to 1, where both are
            known.
        blocked_penalty: a blocked way counts as this many times its length; 0 closes it.
        both_ways: whether a way that was gone can be gone back; on streets only what was walked
            is known.
    """

    place_radius: float = 1.0
    place_cosine: float = 0.5
    blocked_penalty: float = 0.0
    both_ways: bool = True

    def __post_init__(self) -> None:
        if not self.place_radius > 0:
            raise InputError(f"place_radius is {self.place_radius}; expected metres above 0")
        if not self.blocked_penalty >= 0:
            raise InputError(f"blocked_penalty is {self.blocked_penalty}; expected 0 or more")


@dataclass(frozen=True, eq=False)
class Place:
    """Somewhere the observer stood.

    Attributes:
        place_id: from the map's own sequence; never given twice, not even to a landmark.
        pose: float64 ``(4, 4)`` camera-to-world of the first visit, corrections applied.
        descriptor: float32 ``(d,)`` of length 1 of the first visit that had one, or None.
        visits: times it was entered.
        first_s, last_s: seconds, of the first and latest look from here.
    """

    place_id: int
    pose: Pose
    descriptor: NDArray[np.float32] | None
    visits: int
    first_s: float
    last_s: float

    @property
    def position(self) -> NDArray[np.float64]:
        """``(3,)`` metres in the map's frame."""
        return self.pose[:3, 3]


@dataclass(frozen=True)
class Way:
    """A way from one place to another, in the direction it was gone.

    Attributes:
        start, end: place ids.
        traversed: times it was gone.
        last_s: seconds, when last.
        blocked: whether it is known to be closed.
    """

    start: int
    end: int
    traversed: int = 1
    last_s: float = 0.0
    blocked: bool = False


class Topology:
    """The graph of places.

    Attributes:
        places: by id.
        ways: by (start, end).
        current: the place of the latest look, None before the first.
        changed_places: ids to be stored.
        changed_ways: pairs of ids to be stored.
        version: counts changes that matter to paths.
    """

    def __init__(self, config: TopologyConfig | None = None) -> None:
        self.config = config or TopologyConfig()
        self.places: dict[int, Place] = {}
        self.ways: dict[tuple[int, int], Way] = {}
        self.current: int | None = None
        self.changed_places: set[int] = set()
        self.changed_ways: set[tuple[int, int]] = set()
        self.version = 0
        self._nearby = Nearby(max(self.config.place_radius, 2.0))
        self._graph: tuple[int, NDArray[np.int64], csr_array] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held, about: 128 of matrix, and the descriptor, a place; 64 a way."""
        width = sum(
            0 if p.descriptor is None else p.descriptor.nbytes for p in self.places.values()
        )
        return 192 * len(self.places) + 64 * len(self.ways) + width

    def put(self, place: Place) -> None:
        """Store a place as it is, as when a map is read."""
        self.places[place.place_id] = place
        self._nearby.put(place.place_id, place.position)
        self.version += 1

    def put_way(self, way: Way) -> None:
        """Store a way as it is."""
        self.ways[way.start, way.end] = way
        self.version += 1

    def match(self, pose: Pose, descriptor: NDArray[np.float32] | None = None) -> int | None:
        """The nearest place that this may be; None where it is a new one."""
        for place_id in self.around(pose[:3, 3], self.config.place_radius):
            known = self.places[place_id].descriptor
            if descriptor is None or known is None:
                return place_id
            if float(known @ descriptor) >= self.config.place_cosine:
                return place_id
        return None

    def visit(
        self,
        pose: Pose,
        time_s: float,
        new_id: int,
        descriptor: NDArray[np.float32] | None = None,
        *,
        jump: bool = False,
    ) -> tuple[Place, bool]:
        """Be somewhere: find the place or make it, and remember the way that led here.

        Without a way after a ``jump``: the observer was put here. Returns the place, and whether it
        is new; then it has ``new_id``.
        """
        found = self.match(pose, descriptor)
        new = found is None
        if found is None:
            place = Place(new_id, pose.copy(), descriptor, 1, time_s, time_s)
        else:
            known = self.places[found]
            place = replace(
                known,
                visits=known.visits + (found != self.current),
                last_s=time_s,
                descriptor=descriptor if known.descriptor is None else known.descriptor,
            )
        self.places[place.place_id] = place
        self.changed_places.add(place.place_id)
        if new:
            self._nearby.put(place.place_id, place.position)
            self.version += 1
        if self.current is not None and self.current != place.place_id and not jump:
            self.go(self.current, place.place_id, time_s)
        self.current = place.place_id
        return place, new

    def go(self, start: int, end: int, time_s: float) -> None:
        """Remember that a way was gone."""
        for pair, gone in (((start, end), 1), ((end, start), 0)):
            if not (gone or self.config.both_ways):
                continue
            way = self.ways.get(pair)
            if way is None:
                self.version += 1
                way = Way(*pair, 0, time_s)
            # Going a way shows that it is open again.
            self.version += way.blocked and bool(gone)
            blocked = way.blocked and not gone
            self.ways[pair] = replace(
                way, traversed=way.traversed + gone, last_s=time_s, blocked=blocked
            )
            self.changed_ways.add(pair)

    def block(self, start: int, end: int, blocked: bool = True) -> None:
        """Say that a way, in one direction, is closed or open.

        Raises:
            InputError: when no such way is known.
        """
        if (start, end) not in self.ways:
            raise InputError(f"no way from place {start} to place {end} is known")
        self.ways[start, end] = replace(self.ways[start, end], blocked=blocked)
        self.changed_ways.add((start, end))
        self.version += 1

    def drop_way(self, start: int, end: int) -> bool:
        """Forget a way, in one direction; whether it was known."""
        if self.ways.pop((start, end), None) is None:
            return False
        self.changed_ways.add((start, end))
        self.version += 1
        return True

    def drop(self, place_id: int) -> None:
        """Forget a place and its ways."""
        if self.places.pop(place_id, None) is None:
            return
        self._nearby.drop(place_id)
        self.changed_places.add(place_id)
        for pair in [pair for pair in self.ways if place_id in pair]:
            del self.ways[pair]
            self.changed_ways.add(pair)
        self.current = None if self.current == place_id else self.current
        self.version += 1

    def length(self, start: int, end: int) -> float:
        """Metres between two places, from their poses as they are now."""
        return float(np.linalg.norm(self.places[end].position - self.places[start].position))

    def nearest(self, position: NDArray[np.float64]) -> int | None:
        """The place nearest to a position; None when there are no places."""
        ids, where = self.positions()
        if not len(ids):
            return None
        away = where - position
        return int(ids[(away * away).sum(axis=1).argmin()])

    def around(self, position: NDArray[np.float64], radius: float) -> list[int]:
        """Places within ``radius`` metres, nearest first."""
        found: list[int] = self._nearby.within(position, radius)[0].tolist()
        return found

    def positions(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ids ``(n,)`` ascending and positions ``(n, 3)``, metres."""
        ids = sorted(self.places)
        where = np.array([self.places[i].position for i in ids]).reshape(-1, 3)
        return np.array(ids, np.int64), where

    # -- paths ---------------------------------------------------------------------------------

    def _matrix(self) -> tuple[NDArray[np.int64], csr_array]:
        if self._graph is None or self._graph[0] != self.version:
            ids, where = self.positions()
            ways = [
                way
                for way in self.ways.values()
                if not way.blocked or self.config.blocked_penalty > 0
            ]
            rows = np.searchsorted(ids, [way.start for way in ways])
            columns = np.searchsorted(ids, [way.end for way in ways])
            costs = np.linalg.norm(where[rows] - where[columns], axis=1) if ways else np.empty(0)
            factor = [self.config.blocked_penalty if way.blocked else 1.0 for way in ways]
            # A length of 0 would read as "no way".
            costs = np.maximum(costs * np.array(factor), 1e-9)
            matrix = csr_array((costs, (rows, columns)), shape=(len(ids), len(ids)))
            self._graph = (self.version, ids, matrix)
        return self._graph[1], self._graph[2]

    def distances(self, start: int) -> dict[int, float]:
        """Metres along ways from a place to every place that can be reached."""
        self._known(start)
        ids, matrix = self._matrix()
        found = dijkstra(matrix, indices=int(np.searchsorted(ids, start)))
        pairs = zip(ids.tolist(), found.tolist(), strict=True)
        return {place: metres for place, metres in pairs if math.isfinite(metres)}

    def path(self, start: int, *ends: int) -> list[int] | None:
        """Places of the shortest way to the nearest of some places, both ends included.

        Returns:
            None when there is no way to any.
        """
        for place in (start, *ends):
            self._known(place)
        ids, matrix = self._matrix()
        first, *goals = (int(np.searchsorted(ids, place)) for place in (start, *ends))
        lengths, before = dijkstra(matrix, indices=first, return_predecessors=True)
        last = min(goals, key=lambda goal: float(lengths[goal]), default=None)
        if last is None:
            return None
        way = [last]
        while way[-1] != first:
            way.append(int(before[way[-1]]))
            if way[-1] < 0:
                return None
        return [int(ids[place]) for place in reversed(way)]

    def _known(self, place_id: int) -> None:
        if place_id not in self.places:
            raise InputError(f"no place {place_id} in this map; it knows {len(self.places)} places")

    # -- corrections ---------------------------------------------------------------------------

    def close_loop(self, start: int, end: int, relative: Pose) -> dict[int, Pose]:
        """Poses for ``correct`` after a closed loop: its error is spread evenly along the way gone.

        ``relative`` is the pose ``(4, 4)`` of ``end`` in the frame of ``start``, as measured now.

        Raises:
            InputError: when no way leads from one to the other.
        """
        way = self.path(start, end)
        if way is None or len(way) < 2:
            raise InputError(f"no way from place {start} to place {end} is known to spread over")
        old = self.places[end].pose
        error = self.places[start].pose @ relative @ np.linalg.inv(old)
        turn = Rotation.from_matrix(error[:3, :3]).as_rotvec()
        # Turned about the loop's end, so that a turn alone moves nothing far away.
        shift = (error @ old)[:3, 3] - old[:3, 3]
        poses = {start: self.places[start].pose.copy()}
        for number, place in enumerate(way[1:], start=1):
            share = number / (len(way) - 1)
            part = self.places[place].pose.copy()
            part[:3, :3] = Rotation.from_rotvec(share * turn).as_matrix() @ part[:3, :3]
            part[:3, 3] += share * shift
            poses[place] = part
        return poses

    def correct(self, poses: Mapping[int, Pose]) -> dict[int, Pose]:
        """Move places to new poses ``(4, 4)``; others follow the one nearest along the ways.

        Returns:
            For every place that moved the rigid motion ``(4, 4)`` from old to new map frame.
        """
        for place_id in poses:
            self._known(place_id)
        motions = {
            place_id: np.asarray(pose, np.float64) @ np.linalg.inv(self.places[place_id].pose)
            for place_id, pose in poses.items()
        }
        if motions:
            ids, matrix = self._matrix()
            named = np.array(sorted(motions))
            sources = np.searchsorted(ids, named)
            both = matrix.maximum(matrix.T)
            _, _, source = dijkstra(both, indices=sources, min_only=True, return_predecessors=True)
            # What no way joins to a corrected place stays where it is.
            labels = connected_components(both, directed=False)[1]
            joined = np.isin(labels, labels[sources])
            for place, nearest, follows in zip(ids.tolist(), source, joined, strict=True):
                if follows and place not in motions:
                    motions[place] = motions[int(ids[nearest])]
        for place_id, motion in motions.items():
            place = self.places[place_id]
            exact = poses.get(place_id)
            pose = motion @ place.pose if exact is None else np.asarray(exact, np.float64)
            self.places[place_id] = replace(place, pose=pose)
            self._nearby.put(place_id, pose[:3, 3])
            self.changed_places.add(place_id)
        self.version += 1
        return motions
