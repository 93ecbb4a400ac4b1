"""What an agent on a street graph remembers: landmarks it saw, places it stood at, ways between.

``ShortMemory`` keeps the latest views and nothing else. ``LongMemory`` is a map file, the same as
of rooms: each visit is an observation and a transaction, so what was walked outlives a crash, is
recalled byte for byte, and is asked, forgotten and exported as any map. Neither sees the street
graph: a way is remembered when it was walked, in the direction it was walked. Source: mem4nav
specification, 1.2 (places, landmarks, edges) and 1.4 (short memory).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.navigation.config import NavigationConfig, StoreConfig
from vision_mem.navigation.graph.topology import Way
from vision_mem.navigation.records import NavigationResult, Observation, Sighting
from vision_mem.navigation.session import NavigationSession
from vision_mem.navigation.storage import MEMORY
from vision_mem.vln.graph import turn_between
from vision_mem.vln.observations import LandmarkHit, StreetLandmarks, Vector, Visit

SIGHT_SIGMA_M = 1.5
"""How exact the position of a sight is taken to be (spec 5.2)."""


@cache
def street_config() -> NavigationConfig:
    """Settings of a new map of a street graph: the preset ``street``, with a place a panorama.

    Panoramas of Manhattan are as near to each other as half a metre; elsewhere that is for
    positions that are not exact. A way is known in the direction in which it was walked.
    """
    changes = ["topology.place_radius=0.5", "topology.both_ways=false"]
    return load_config(NavigationConfig, "street", changes, folder="navigation")


class RecentViews:
    """The latest views, so many; older ones are gone."""

    def __init__(self, views: int = 6) -> None:
        if views < 1:
            raise InputError(f"short memory of {views} views; expected 1 or more")
        self._views: deque[Visit] = deque(maxlen=views)
        self._pooled: StreetLandmarks | None = None

    def write(self, visit: Visit) -> None:
        """Remember a view; the oldest goes when there are too many."""
        self._views.append(visit)
        self._pooled = None

    def find(
        self, vector: Vector, near: Vector | None = None, radius: float = np.inf, k: int = 3
    ) -> list[LandmarkHit]:
        """Landmarks of the latest views most like a vector, best first."""
        if self._pooled is None:
            self._pooled = StreetLandmarks()
            for visit in self._views:
                for sight in visit.sights:
                    self._pooled.add(sight)
        return self._pooled.find(vector, near, radius, k)

    def clear(self) -> None:
        """Forget all views."""
        self._views.clear()
        self._pooled = None

    def __len__(self) -> int:
        return len(self._views)


class LongMemory:
    """Everything visited: landmarks, places, ways. Grows with what is new, and with the journal.

    Args:
        path: the map file, made when there is none; ``:memory:`` for one that ends with this.
        mode: ``w`` to write, ``r`` to read only.
        config: settings of a new map; None for ``street_config()``.
        encoder: what makes the sights' vectors; a map takes only one.

    Attributes:
        session: the map itself. Time is counted in visits, a second each.

    Raises:
        InputError: for a map of something else than streets, or of another encoder.
        ModelError, SinkError: as ``NavigationSession``.
    """

    def __init__(
        self,
        path: str | Path = MEMORY,
        *,
        mode: str = "w",
        config: NavigationConfig | None = None,
        encoder: str = "",
    ) -> None:
        new = str(path) == MEMORY or not Path(path).exists() or not Path(path).stat().st_size
        if new and config is None:
            config = street_config()
            if str(path) == MEMORY:  # nothing of it outlives the process, a crash or not
                store = StoreConfig(commit_every=256)
                config = replace(config, store=store)
        self.session = NavigationSession(path, config, mode=mode, encoder=encoder)
        if self.session.config.topology.both_ways:
            self.session.close()
            raise InputError(
                f"map {path} is of rooms, not of streets; give another file for what is remembered "
                "of streets"
            )
        self._fresh = True

    def __enter__(self) -> LongMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self.session.close()

    def belong_to(self, origin: tuple[float, float]) -> None:
        """Say at which latitude and longitude (0, 0) is: other streets would mean other places.

        Raises:
            InputError: when the map is of somewhere else.
        """
        state, known = self.session.state, self.session.state.origin
        if known is None and not state.frame and self.session.mode == "w":
            state.origin = (float(origin[0]), float(origin[1]))
            self.session.commit()
        elif known is None or np.abs(np.subtract(known, origin)).max() > 1e-7:
            raise InputError(
                f"map {self.session.path} is of other streets than this graph: their middles are "
                "not the same; give the graph it was made on, or another file"
            )

    # -- writing -------------------------------------------------------------------------------

    def write(self, visit: Visit) -> NavigationResult:
        """Remember a visit: its place, the way that led there, and what was seen.

        Raises:
            InputError: for a position that is not finite, or sights that cannot be used.
        """
        if not np.isfinite(visit.position).all():
            raise InputError("a visit without a finite position; leave it out")
        first = visit.exits[0] if visit.exits else 0.0
        pose = _facing(visit.position, first if visit.came_by is None else visit.came_by)
        seen = []
        for sight in visit.sights:
            away = np.append(np.asarray(sight.position, np.float64) - visit.position, 0.0)
            with np.errstate(invalid="ignore"):  # refused below, in words
                local = pose[:3, :3].T @ away
            seen.append(Sighting(local, sight.word, SIGHT_SIGMA_M, sight.vector))
        observation = Observation(
            self.session.state.now_s + 1.0, pose, sightings=seen, source=visit.source,
            jump=self._fresh or visit.came_by is None, exits=visit.exits, came_by=visit.came_by,
        )  # fmt: skip
        result = self.session.step(observation)
        self._fresh = False
        return result

    def begin(self) -> None:
        """The next visit does not continue from the last one."""
        self._fresh = True

    def go_on(self) -> None:
        """The next visit continues from the last one, also when that was in another process."""
        self._fresh = False

    def link(self, start: int, end: int, heading: float) -> None:
        """Remember a way that a street graph tells of; in the file with the next ``commit``."""
        state = self.session.state
        if start != end and (start, end) not in state.topology.ways:
            state.topology.put_way(Way(start, end, 0, state.now_s))
            state.topology.changed_ways.add((start, end))
            state.exits.lead(start, heading, end)

    def forget_way(self, start: int, end: int) -> bool:
        """Forget that one can walk from one place to another; whether it was known."""
        state = self.session.state
        known = state.topology.drop_way(start, end)
        if known:
            state.exits.close(start, end)
            self.session.commit()
        return known

    # -- reading -------------------------------------------------------------------------------

    @property
    def places(self) -> int:
        """How many places are remembered."""
        return len(self.session.state.topology.places)

    @property
    def ways(self) -> int:
        """How many ways are remembered, each direction counted."""
        return len(self.session.state.topology.ways)

    def find(
        self, vector: Vector, near: Vector | None = None, radius: float = np.inf, k: int = 3
    ) -> list[LandmarkHit]:
        """Landmarks most like a vector, best first; an empty list from an empty memory.

        Raises:
            InputError: for a vector of another width than the sights.
        """
        state = self.session.state
        marks, store = state.landmarks, state.landmarks.vectors
        if store.used == 1 or k < 1:
            return []
        if len(vector) != store.sums.shape[1]:
            raise InputError(
                f"a query of {len(vector)} numbers; this memory holds vectors of "
                f"{store.sums.shape[1]}: one map, one encoder"
            )
        asked = np.asarray(vector, np.float32)
        if near is None or not np.isfinite(radius):
            length = float(np.linalg.norm(asked))
            scored = state.retriever.neighbours.search(asked / max(length, 1e-12), k)
            found = [(marks.by_id[marks.owner[row]], score * length) for row, score in scored]
        else:
            around = [marks.by_id[i] for i in marks.around(_flat(near), radius)[0].tolist()]
            around = [mark for mark in around if mark.row]
            rows = np.array([mark.row for mark in around], np.int64)
            sums = store.sums[rows]
            scores = sums @ asked / np.maximum(np.linalg.norm(sums, axis=1), 1e-12)
            order = np.lexsort(([mark.landmark_id for mark in around], -scores))[:k]
            found = [(around[i], float(scores[i])) for i in order.tolist()]
        return [LandmarkHit(score, mark.position[:2].copy(), mark.count) for mark, score in found]

    def place_at(self, position: NDArray[np.float64], radius: float = 4.0) -> int | None:
        """The nearest remembered place within ``radius`` metres."""
        near = self.session.state.topology.around(_flat(position), radius)
        return near[0] if near else None

    def place_position(self, place: int) -> NDArray[np.float64]:
        """``(2,)`` metres."""
        return self.session.state.topology.places[place].position[:2]

    def places_near(self, position: NDArray[np.float64], radius: float) -> list[int]:
        """Places within ``radius`` metres, nearest first."""
        return self.session.state.topology.around(_flat(position), radius)

    def exits_of(self, place: int) -> tuple[float, ...]:
        """Headings of the ways seen to leave a place, walked or not."""
        return self.session.state.exits.headings(place)

    def ways_from(self, place: int) -> list[tuple[float, int]]:
        """``(heading, place)`` of each way that was walked from here and is not blocked."""
        ways = self.session.state.topology.ways
        known = self.session.state.exits.known(place)
        return [
            (heading, end)
            for heading, end in known
            if (place, end) in ways and not ways[place, end].blocked
        ]

    def path(self, start: int, goals: Sequence[int]) -> list[int]:
        """Shortest way over remembered ways to the nearest of some places, both ends included."""
        return self.session.state.topology.path(start, *goals) or []

    def ahead(self, place: int, heading: float, limit: int = 60) -> list[int]:
        """Places met by walking on as straight as remembered ways allow, the start left out."""
        found: list[int] = []
        seen = {place}
        while len(found) < limit:
            # A way may be bent where there is no choice; at a junction only what is ahead counts.
            sharpest = 60.0 if len(self.exits_of(place)) > 2 else 120.0
            ways = [(abs(turn_between(heading, h)), h, end) for h, end in self.ways_from(place)]
            ways = [way for way in ways if way[0] <= sharpest and way[2] not in seen]
            if not ways:
                break
            _, heading, place = min(ways)
            seen.add(place)
            found.append(place)
        return found

    # -- copies --------------------------------------------------------------------------------

    def copy(self) -> LongMemory:
        """The same memory apart, by way of the bytes of its file."""
        other = LongMemory(config=self.session.config)
        other.session.become(self.session.content())
        return other

    def with_landmarks_moved(self, rng: np.random.Generator) -> LongMemory:
        """A copy whose landmarks have each other's positions: a control, never of use."""
        copy = self.copy()
        marks = copy.session.state.landmarks
        ids = sorted(marks.by_id)
        at = [marks.by_id[i].position for i in ids]
        for number, place in zip(ids, rng.permutation(len(ids)).tolist(), strict=True):
            marks.by_id[number].position = at[place]
            marks.put(marks.by_id[number])
        return copy


def _flat(position: Vector) -> NDArray[np.float64]:
    return np.array([position[0], position[1], 0.0])


def _facing(position: NDArray[np.float64], heading: float) -> NDArray[np.float64]:
    """``(4, 4)`` camera-to-world at ``(2,)`` metres east and north; axes right, down, ahead."""
    sine, cosine = np.sin(np.radians(heading)), np.cos(np.radians(heading))
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = (cosine, -sine, 0), (0, 0, -1), (sine, cosine, 0)
    pose[:2, 3] = position
    return pose
