"""What an agent on a street graph remembers: landmarks it saw, places it stood at, ways between.

``ShortMemory`` keeps the latest views and nothing else. ``LongMemory`` keeps everything it is
given, pools repeated looks at one landmark, and survives a restart through ``save`` and ``load``.
Neither sees the street graph: a way is remembered when it was walked. Source: mem4nav
specification, 1.2 (places, landmarks, edges) and 1.4 (short memory).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from vision_mem.errors import InputError, ModelError
from vision_mem.io.lines import make_folder, write_file
from vision_mem.navigation.sights import Hit, Landmarks, Visit
from vision_mem.navigation.street import turn_between

_VERSION = 1
_CELL_M = 4.0  # of the grid that finds places
# What numpy and zipfile raise on damaged or hostile content.
_DAMAGES = (
    ValueError, TypeError, KeyError, AttributeError, EOFError, MemoryError, NotImplementedError,
    RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class ShortMemory:
    """The latest views; older ones are gone.

    Args:
        views: how many are kept.
    """

    def __init__(self, views: int = 6) -> None:
        if views < 1:
            raise InputError(f"short memory of {views} views; expected 1 or more")
        self._views: deque[Visit] = deque(maxlen=views)
        self._pooled: Landmarks | None = None

    def write(self, visit: Visit) -> None:
        """Remember a view; the oldest goes when there are too many."""
        self._views.append(visit)
        self._pooled = None

    def find(
        self,
        vector: NDArray[np.floating],
        near: NDArray[np.float64] | None = None,
        radius: float = np.inf,
        k: int = 3,
    ) -> list[Hit]:
        """Landmarks of the latest views most like a vector, best first."""
        if self._pooled is None:
            self._pooled = Landmarks()
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
    """Everything visited: landmarks, places, ways. Grows with what is new, not with time.

    Args:
        place_radius: metres within which two visits are to one place. Panoramas of Manhattan are as
            near as this; elsewhere it is for positions that are not exact.
    """

    def __init__(self, place_radius: float = 0.5) -> None:
        self.place_radius = place_radius
        self.landmarks = Landmarks()
        self._position: list[NDArray[np.float64]] = []
        self._exits: list[tuple[float, ...]] = []
        self._ways: dict[int, dict[int, float]] = {}
        self._grid: dict[tuple[int, int], list[int]] = {}
        self._last: int | None = None
        self._matrix: csr_matrix | None = None

    # -- writing -------------------------------------------------------------------------------

    def write(self, visit: Visit) -> None:
        """Remember a visit: its place, the way that led there, and what was seen.

        Raises:
            InputError: for a position that is not finite.
        """
        if not np.isfinite(visit.position).all():
            raise InputError("a visit without a finite position; leave it out")
        place = self.place_at(visit.position, self.place_radius)
        if place is None:
            place = self._add_place(visit)
        known = set(self._exits[place])
        self._exits[place] += tuple(one for one in visit.exits if one not in known)
        if self._last is not None and visit.came_by is not None and self._last != place:
            self._ways.setdefault(self._last, {})[place] = visit.came_by % 360.0
            self._matrix = None
        self._last = place
        for sight in visit.sights:
            self.landmarks.add(sight)

    def begin(self) -> None:
        """The next visit does not continue from the last one."""
        self._last = None

    def _add_place(self, visit: Visit) -> int:
        place = len(self._position)
        self._position.append(np.array(visit.position, np.float64))
        self._exits.append(())
        self._grid.setdefault(self._cell(visit.position), []).append(place)
        self._matrix = None
        return place

    def _cell(self, position: NDArray[np.float64]) -> tuple[int, int]:
        return int(np.floor(position[0] / _CELL_M)), int(np.floor(position[1] / _CELL_M))

    # -- reading -------------------------------------------------------------------------------

    @property
    def places(self) -> int:
        """How many places are remembered."""
        return len(self._position)

    @property
    def ways(self) -> int:
        """How many ways are remembered, each direction counted."""
        return sum(len(ends) for ends in self._ways.values())

    def find(
        self,
        vector: NDArray[np.floating],
        near: NDArray[np.float64] | None = None,
        radius: float = np.inf,
        k: int = 3,
    ) -> list[Hit]:
        """Landmarks most like a vector, best first; an empty list from an empty memory."""
        return self.landmarks.find(vector, near, radius, k)

    def place_at(self, position: NDArray[np.float64], radius: float = 4.0) -> int | None:
        """The nearest remembered place within ``radius`` metres."""
        x, y = self._cell(position)
        reach = int(np.ceil(radius / _CELL_M))
        best, least = None, radius
        for dx in range(-reach, reach + 1):
            for dy in range(-reach, reach + 1):
                for place in self._grid.get((x + dx, y + dy), ()):
                    apart = float(np.hypot(*(self._position[place] - position)))
                    if apart <= least:
                        best, least = place, apart
        return best

    def place_position(self, place: int) -> NDArray[np.float64]:
        """``(2,)`` metres."""
        return self._position[place]

    def places_near(self, position: NDArray[np.float64], radius: float) -> list[int]:
        """Places within ``radius`` metres, nearest first."""
        if not self._position:
            return []
        apart = np.hypot(*(np.array(self._position) - position).T)
        found = np.flatnonzero(apart <= radius)
        return [int(place) for place in found[np.argsort(apart[found], kind="stable")]]

    def exits_of(self, place: int) -> tuple[float, ...]:
        """Headings of the ways seen to leave a place, walked or not."""
        return self._exits[place]

    def ways_from(self, place: int) -> list[tuple[float, int]]:
        """``(heading, place)`` of each way that was walked from here."""
        return [(heading, end) for end, heading in self._ways.get(place, {}).items()]

    def path(self, start: int, goals: Sequence[int]) -> list[int]:
        """Shortest way over remembered ways to the nearest of some places, both ends included."""
        if not goals:
            return []
        lengths, before = dijkstra(self._graph(), indices=start, return_predecessors=True)
        goal = min(goals, key=lambda place: lengths[place])
        if not np.isfinite(lengths[goal]):
            return []
        path = [int(goal)]
        while path[-1] != start:
            path.append(int(before[path[-1]]))
        return path[::-1]

    def _graph(self) -> csr_matrix:
        if self._matrix is None:
            starts = [start for start, ends in self._ways.items() for _ in ends]
            finishes = [end for ends in self._ways.values() for end in ends]
            at = np.array(self._position).reshape(-1, 2)
            lengths = np.maximum(np.hypot(*(at[starts] - at[finishes]).T), 1e-3)
            self._matrix = csr_matrix(
                (lengths, (starts, finishes)), shape=(self.places, self.places)
            )
        return self._matrix

    def ahead(self, place: int, heading: float, limit: int = 60) -> list[int]:
        """Places met by walking on as straight as remembered ways allow, the start left out.

        Args:
            place: where to begin.
            heading: of the first step, degrees.
            limit: most places.
        """
        found: list[int] = []
        seen = {place}
        while len(found) < limit:
            # A way may be bent where there is no choice; at a junction only what is ahead counts.
            sharpest = 60.0 if len(self._exits[place]) > 2 else 120.0
            ways = [(abs(turn_between(heading, h)), h, end) for h, end in self.ways_from(place)]
            ways = [way for way in ways if way[0] <= sharpest and way[2] not in seen]
            if not ways:
                break
            _, heading, place = min(ways)
            seen.add(place)
            found.append(place)
        return found

    # -- forgetting and changing ---------------------------------------------------------------

    def forget_way(self, start: int, end: int) -> bool:
        """Forget that one can walk from one place to another; whether it was known."""
        known = self._ways.get(start, {}).pop(end, None) is not None
        self._matrix = None if known else self._matrix
        return known

    def with_landmarks_moved(self, rng: np.random.Generator) -> LongMemory:
        """A copy whose landmarks have each other's positions: a control, never of use."""
        copy = LongMemory.from_arrays(self.arrays())
        n = copy.landmarks.count
        copy.landmarks.position[:n] = copy.landmarks.position[rng.permutation(n)]
        return copy

    # -- keeping -------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The whole content as plain arrays."""
        marks, n = self.landmarks, self.landmarks.count
        ways = [(s, e, h) for s, ends in self._ways.items() for e, h in ends.items()]
        exits = [(place, h) for place, several in enumerate(self._exits) for h in several]
        return {
            "version": np.array(_VERSION),
            "place_radius": np.array(self.place_radius),
            "total": marks.total[:n].copy(),
            "landmark": marks.position[:n].copy(),
            "looks": marks.looks[:n].copy(),
            "place": np.array(self._position, np.float64).reshape(-1, 2),
            "exits": np.array(exits, np.float64).reshape(-1, 2),
            "ways": np.array(ways, np.float64).reshape(-1, 3),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> LongMemory:
        """A memory from what ``arrays`` gave.

        Raises:
            ModelError: when the arrays do not fit together.
        """
        try:
            if int(arrays["version"]) != _VERSION:
                raise ModelError(
                    f"street memory of version {int(arrays['version'])}; this program reads "
                    f"version {_VERSION}"
                )
            return cls._checked({k: np.asarray(v, np.float64) for k, v in arrays.items()})
        except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
            raise ModelError(
                f"not the content of a street memory ({type(error).__name__})"
            ) from error

    @classmethod
    def _checked(cls, arrays: dict[str, NDArray[np.float64]]) -> LongMemory:
        memory = cls(float(arrays["place_radius"]))
        total, places = arrays["total"], arrays["place"].reshape(-1, 2)
        if not all(np.isfinite(one).all() for one in arrays.values()):
            raise ValueError("numbers that are not finite")
        memory._exits = [()] * len(places)
        for number, position in enumerate(places):
            memory._position.append(position.copy())
            memory._grid.setdefault(memory._cell(position), []).append(number)
        for place, heading in arrays["exits"].reshape(-1, 2).tolist():
            memory._exits[_index(place, len(places))] += (heading,)
        for start, end, heading in arrays["ways"].reshape(-1, 3).tolist():
            ends = memory._ways.setdefault(_index(start, len(places)), {})
            ends[_index(end, len(places))] = heading
        marks, n = memory.landmarks, len(total)
        if total.ndim != 2 or arrays["landmark"].shape != (n, 2) or arrays["looks"].shape != (n,):
            raise ValueError("landmarks of unlike lengths")
        sizes = np.linalg.norm(total, axis=1, keepdims=True)
        marks.total, marks.mean = total.copy(), total / np.maximum(sizes, 1e-12)
        marks.position = arrays["landmark"].copy()
        marks.looks, marks.count = arrays["looks"].astype(np.int64), n
        return memory

    def save(self, path: str | Path) -> None:
        """Write everything to one file, whole or not at all.

        Raises:
            SinkError: when it cannot be written.
        """
        path = Path(path)
        make_folder(path.parent)
        content = io.BytesIO()
        np.savez_compressed(content, **self.arrays())  # type: ignore[arg-type]
        write_file(path, content.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> LongMemory:
        """Continue with what ``save`` wrote.

        Raises:
            ModelError: for a file that is missing, damaged, or of something else; one line.
        """
        path = Path(path)
        try:
            # Through memory: numpy leaves the file open when it is damaged.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
        except _DAMAGES as error:
            raise ModelError(f"{path} is no street memory, or a damaged one") from error
        try:
            return cls.from_arrays(arrays)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error


def _index(value: float, count: int) -> int:
    if not 0 <= value < count or value != int(value):
        raise IndexError(value)
    return int(value)
