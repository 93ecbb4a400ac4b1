"""A street graph as an agent walks it: places, headed links, positions in metres, distances.

Positions are metres east and north of the graph's middle (equirectangular, good to centimetres
over a city). Headings are degrees clockwise from north. Source: mem4nav specification, 2.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from vision_mem.errors import InputError
from vision_mem.formats.graphs import to_metres
from vision_mem.formats.touchdown import StreetFiles, StreetRoute, read_street_files
from vision_mem.text import short


class StreetGraph:
    """Places numbered from 0, and the links that leave them.

    Attributes:
        ids: panorama ids by number.
        yaw: ``(N,)`` degrees.
        position: ``(N, 2)`` metres east and north of the origin.
        origin: latitude and longitude of the middle, degrees.
        exits: for each place its ``(heading, place reached)``, in the order of the file.
    """

    def __init__(self, files: StreetFiles) -> None:
        self.files = files
        self.ids = files.ids
        self.yaw = files.yaw
        self._index = {name: number for number, name in enumerate(files.ids)}
        self.origin = (float(files.latitude.mean()), float(files.longitude.mean()))
        self.position = to_metres(files.latitude, files.longitude, self.origin)
        exits: list[list[tuple[float, int]]] = [[] for _ in files.ids]
        for start, heading, end in zip(
            files.start.tolist(), files.heading.tolist(), files.end.tolist(), strict=True
        ):
            exits[start].append((heading, end))
        self.exits: tuple[tuple[tuple[float, int], ...], ...] = tuple(map(tuple, exits))

    @classmethod
    def read(cls, root: str | Path) -> StreetGraph:
        """Read ``nodes.txt`` and ``links.txt`` from a folder or its ``graph`` folder.

        Raises:
            InputError: one line for what is wrong in which file.
        """
        return cls(read_street_files(root))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def links(self) -> int:
        """Number of links, each direction counted."""
        return len(self.files.start)

    def number(self, panorama: str) -> int:
        """Place number of a panorama id.

        Raises:
            InputError: when there is none.
        """
        try:
            return self._index[panorama]
        except KeyError:
            raise InputError(
                f"panorama {short(panorama)!r} is not in the street graph of {len(self)} places; "
                "check that routes and graph belong together"
            ) from None

    def path_of(self, route: StreetRoute, *, linked: bool = True) -> list[int]:
        """Place numbers along a route.

        Raises:
            InputError: for a panorama that is not there or, with ``linked``, a step without a link.
        """
        try:
            path = [self.number(name) for name in route.panoramas]
        except InputError as error:
            raise InputError(f"route {short(route.route_id)}: {error}") from None
        gap = self.first_gap(path) if linked else None
        if gap is not None:
            one, other = (short(self.ids[place]) for place in path[gap : gap + 2])
            raise InputError(
                f"route {short(route.route_id)}: no link leads from {one} to {other}; check that "
                "routes and graph belong together"
            )
        return path

    def first_gap(self, path: Sequence[int]) -> int | None:
        """Index of the first place of a path from which no link leads to the next; or None."""
        steps = enumerate(itertools.pairwise(path))
        return next((i for i, (a, b) in steps if self.heading_between(a, b) is None), None)

    def heading_between(self, start: int, end: int) -> float | None:
        """Heading of the link from one place to another; None when there is none."""
        return next((heading for heading, reached in self.exits[start] if reached == end), None)

    def neighbours(self, place: int) -> set[int]:
        """Places one link away, in either direction."""
        return {end for _, end in self.exits[place]} | self._entering.get(place, set())

    # -- distances -----------------------------------------------------------------------------

    @cached_property
    def _entering(self) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for start, end in zip(self.files.start.tolist(), self.files.end.tolist(), strict=True):
            found.setdefault(end, set()).add(start)
        return found

    @cached_property
    def link_metres(self) -> NDArray[np.float64]:
        """``(M,)`` length of each link, metres."""
        between = self.position[self.files.end] - self.position[self.files.start]
        return np.hypot(between[:, 0], between[:, 1])

    @cached_property
    def _matrix(self) -> Any:
        # A zero would mean "no link" to scipy; two panoramas can stand at one spot.
        lengths = np.maximum(self.link_metres, 1e-3)
        # Two links of one pair (other headings): the shorter counts, not the sum.
        order = np.lexsort((lengths, self.files.end, self.files.start))
        start, end = self.files.start[order], self.files.end[order]
        first = np.ones(len(order), bool)
        first[1:] = (start[1:] != start[:-1]) | (end[1:] != end[:-1])
        shape = (len(self), len(self))
        return csr_matrix((lengths[order][first], (start[first], end[first])), shape=shape)

    def distances(
        self, source: int, *, hops: bool = False, limit: float = np.inf
    ) -> NDArray[np.float64]:
        """Shortest distances ``(N,)`` from a place to all, in metres or links (``hops``).

        Infinite where no way leads, or farther than ``limit``.
        """
        found = dijkstra(self._matrix, indices=source, unweighted=hops, limit=limit)
        return np.asarray(found, np.float64)

    def distance_table(
        self, sources: Sequence[int], targets: Sequence[int], *, hops: bool
    ) -> tuple[NDArray[np.float64], bool]:
        """Distances ``(A, B)`` from each source to each target, in metres or links (``hops``).

        And whether a pair had no way between, whose distance is then the largest one in the graph
        (``diameter``).
        """
        origins, row = np.unique(np.asarray(sources, np.int64), return_inverse=True)
        column = np.asarray(targets, np.int64)
        # Both walks begin at one place as a rule, so what lies between is near them.
        limit = float(len(sources) + len(targets))
        if not hops:
            limit = 1.0 + self._walked(origins[row]) + self._walked(column)
        table = dijkstra(self._matrix, indices=origins, unweighted=hops, limit=limit)[:, column]
        if np.isinf(table).any():
            table = dijkstra(self._matrix, indices=origins, unweighted=hops)[:, column]
        cut_off = bool(np.isinf(table).any())
        if cut_off:
            table = np.where(np.isinf(table), self.diameter(hops=hops), table)
        return np.asarray(table[row], np.float64), cut_off

    def _walked(self, places: NDArray[np.int64]) -> float:
        steps = np.diff(self.position[places], axis=0)
        return float(np.hypot(steps[:, 0], steps[:, 1]).sum())

    def diameter(self, *, hops: bool) -> float:
        """The largest distance found by two sweeps from place 0: from it, then from the farthest.

        Exact on trees, and a close lower bound on street graphs.
        """
        return self._diameters[0 if hops else 1]

    @cached_property
    def _diameters(self) -> tuple[float, float]:
        found = []
        for hops in (True, False):
            first = self.distances(0, hops=hops)
            far = int(np.argmax(np.where(np.isinf(first), -1.0, first)))
            second = self.distances(far, hops=hops)
            both = np.concatenate([first[np.isfinite(first)], second[np.isfinite(second)]])
            found.append(float(both.max(initial=0.0)))
        return found[0], found[1]

    def shortest_path(self, start: int, end: int, *, hops: bool = False) -> list[int]:
        """Places of a shortest way, both ends included.

        Raises:
            InputError: when no way leads there.
        """
        distances, before = dijkstra(
            self._matrix, indices=start, unweighted=hops, return_predecessors=True
        )
        if np.isinf(distances[end]):
            raise InputError(f"no way leads from {self.ids[start]} to {self.ids[end]}")
        path = [end]
        while path[-1] != start:
            path.append(int(before[path[-1]]))
        return path[::-1]


# -- angles, positions, panoramas ----------------------------------------------------------------


def turn_between(heading: float, other: float) -> float:
    """Signed turn from one heading to another, degrees in (-180, 180]; right is positive."""
    turn = (other - heading) % 360.0
    return turn - 360.0 if turn > 180.0 else turn


def nearest_heading(heading: float, headings: Sequence[float]) -> float:
    """The heading closest in angle, in degrees, of one or more; the first one given on ties."""
    return min(headings, key=lambda one: abs(turn_between(heading, one)))


def bearing_of(offset: NDArray[np.float64] | Sequence[float]) -> float:
    """Heading of an ``(east, north)`` offset, degrees in [0, 360)."""
    return float(np.degrees(np.arctan2(offset[0], offset[1])) % 360.0)


def along(heading: float, offset: NDArray[np.float64]) -> float:
    """How far ahead an ``(east, north)`` offset lies in a direction; metres, negative behind."""
    radians = np.radians(heading)
    return float(offset[0] * np.sin(radians) + offset[1] * np.cos(radians))
