"""A generated city: streets in Touchdown's format, landmarks, and what can be seen of them.

Streets are a jittered grid with some taken out; panoramas stand every ten metres; landmarks are a
colour and a kind of building at street sides and corners, with names that repeat. What an agent
sees is a landmark's name as a vector with noise, and sometimes nothing. Everything follows from
the seed. Source: mem4nav specification, section 5.1 and 5.2.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vision_mem.errors import InputError
from vision_mem.formats.graphs import to_degrees
from vision_mem.formats.street_words import PanoramaFeatures, SeenWord
from vision_mem.formats.touchdown import StreetFiles
from vision_mem.vln.graph import StreetGraph, bearing_of, turn_between
from vision_mem.vln.observations import ENCODER, WIDTH, Sight, word_vector

COLOURS = ("red", "blue", "green", "yellow", "white", "black", "orange", "purple")
KINDS = (
    "pharmacy", "bank", "cafe", "hotel", "bakery", "church",
    "school", "theater", "garage", "florist", "museum", "diner",
)  # fmt: skip
_ORIGIN = (40.0, -74.0)  # degrees; any place where a metre is a metre


@dataclass(frozen=True)
class CityConfig:
    """How a city is made.

    Attributes:
        blocks: junctions along one side.
        block_m: metres between junctions.
        jitter_m: junctions move by up to this, each way.
        spacing_m: metres between panoramas, about.
        removed: share of the streets that are taken out.
        corner_chance: that one of the four corners of a junction has a landmark.
        side_chance: that a street has a landmark at its side.
        aside_m: metres from a street's middle to its landmarks.
    """

    blocks: int = 8
    block_m: float = 60.0
    jitter_m: float = 6.0
    spacing_m: float = 10.0
    removed: float = 0.15
    corner_chance: float = 0.6
    side_chance: float = 0.95
    aside_m: float = 8.0

    def __post_init__(self) -> None:
        if not 3 <= self.blocks <= 60:
            raise InputError(f"blocks is {self.blocks}; expected 3 to 60")
        if not 0 <= self.removed <= 0.3:
            raise InputError(f"removed is {self.removed}; expected 0 to 0.3")
        if not self.block_m >= 4 * self.spacing_m > 0:
            raise InputError("block_m must be at least four times spacing_m, and both above 0")
        if not 0 <= self.jitter_m <= self.block_m / 4:
            raise InputError(f"jitter_m is {self.jitter_m}; expected 0 to a quarter of block_m")


@dataclass(frozen=True)
class CityLandmark:
    """Something with a name.

    Attributes:
        name: a colour and a kind.
        position: ``(2,)`` metres east and north.
        junction: place number of the junction whose corner it is at; -1 at a street's side.
    """

    name: str
    position: NDArray[np.float64]
    junction: int


@dataclass(frozen=True)
class City:
    """Streets and landmarks.

    Attributes:
        graph: the streets.
        junctions: place numbers of grid crossings; some have only two streets left.
        landmarks: all of them.
    """

    graph: StreetGraph
    junctions: tuple[int, ...]
    landmarks: tuple[CityLandmark, ...]

    @cached_property
    def landmark_positions(self) -> NDArray[np.float64]:
        """``(L, 2)`` metres."""
        return np.array([mark.position for mark in self.landmarks]).reshape(-1, 2)

    def near(self, position: NDArray[np.float64], radius: float) -> list[CityLandmark]:
        """Landmarks within ``radius`` metres, nearest first."""
        apart = np.hypot(*(self.landmark_positions - position).T)
        return [self.landmarks[i] for i in np.argsort(apart, kind="stable") if apart[i] <= radius]

    def changed(self, rng: np.random.Generator, share: float = 0.1) -> City:
        """The city after a while: a share of its landmarks, half of them gone, half repainted."""
        order = rng.permutation(len(self.landmarks))[: round(share * len(self.landmarks))]
        gone, painted = set(order[::2].tolist()), set(order[1::2].tolist())
        marks = []
        for number, mark in enumerate(self.landmarks):
            if number in gone:
                continue
            colour, kind = mark.name.split()
            others = [one for one in COLOURS if one != colour]
            if number in painted:
                mark = CityLandmark(f"{rng.choice(others)} {kind}", mark.position, mark.junction)
            marks.append(mark)
        return City(self.graph, self.junctions, tuple(marks))


def make_city(seed: int, config: CityConfig | None = None) -> City:
    """Generate a city; the same seed, 0 or more, gives the same city everywhere."""
    config = config or CityConfig()
    rng = np.random.default_rng([seed, 7])
    corners = _junctions(rng, config)
    streets = _streets(rng, config)
    places, links = _panoramas(corners, streets, config)
    graph = _graph(seed, places, links)
    junctions = tuple(range(len(corners)))
    # The graph has its own origin, the mean of its places.
    shift = graph.position[0] - places[0]
    landmarks = _landmarks(rng, config, places + shift, corners + shift, streets, links)
    return City(graph, junctions, landmarks)


def _junctions(rng: np.random.Generator, config: CityConfig) -> NDArray[np.float64]:
    rows, columns = np.divmod(np.arange(config.blocks**2), config.blocks)
    even = np.stack([columns, rows], axis=1) * config.block_m
    return even + rng.uniform(-config.jitter_m, config.jitter_m, even.shape)


def _streets(rng: np.random.Generator, config: CityConfig) -> list[tuple[int, int]]:
    """Grid streets less some, with two or more at each junction and all in one piece."""
    n = config.blocks
    streets = [(j, j + 1) for j in range(n * n) if j % n < n - 1]
    streets += [(j, j + n) for j in range(n * n - n)]
    wanted, grid = round(config.removed * len(streets)), list(streets)
    degree = np.bincount(np.ravel(streets), minlength=n * n)
    for number in rng.permutation(len(streets)).tolist():
        if wanted == 0:
            break
        street = grid[number]
        rest = [one for one in streets if one != street]
        if min(degree[street[0]], degree[street[1]]) <= 2 or not _in_one_piece(rest, n * n):
            continue
        streets, wanted = rest, wanted - 1
        degree[list(street)] -= 1
    return streets


def _in_one_piece(streets: list[tuple[int, int]], count: int) -> bool:
    start, end = np.array(streets).T
    matrix = coo_matrix((np.ones(len(streets)), (start, end)), shape=(count, count))
    return int(connected_components(matrix, directed=False, return_labels=False)) == 1


def _panoramas(
    corners: NDArray[np.float64], streets: list[tuple[int, int]], config: CityConfig
) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
    places, links = list(corners), []
    for start, end in streets:
        parts = max(2, round(np.linalg.norm(corners[end] - corners[start]) / config.spacing_m))
        between = [
            corners[start] + (corners[end] - corners[start]) * part / parts
            for part in range(1, parts)
        ]
        numbers = [start, *range(len(places), len(places) + len(between)), end]
        places += between
        for one, other in itertools.pairwise(numbers):
            links += [(one, other), (other, one)]
    return np.array(places), links


def _graph(seed: int, places: NDArray[np.float64], links: list[tuple[int, int]]) -> StreetGraph:
    latitude, longitude = to_degrees(places, _ORIGIN)
    # Through the same digits that the files have, so that a city read back is this city.
    latitude, longitude = latitude.round(7), longitude.round(7)
    start, end = np.array(links, np.int64).T
    heading = np.array([round(bearing_of(places[b] - places[a])) % 360 for a, b in links])
    ids = tuple(f"city{seed}-{number:05d}" for number in range(len(places)))
    yaw = np.zeros(len(places))
    return StreetGraph(
        StreetFiles(ids, yaw, latitude, longitude, start, heading.astype(np.float64), end)
    )


def _landmarks(
    rng: np.random.Generator,
    config: CityConfig,
    places: NDArray[np.float64],
    corners: NDArray[np.float64],
    streets: list[tuple[int, int]],
    links: list[tuple[int, int]],
) -> tuple[CityLandmark, ...]:
    spots: list[tuple[NDArray[np.float64], int]] = []
    for junction, at in enumerate(corners):
        for side in ((1, 1), (1, -1), (-1, -1), (-1, 1)):
            if rng.random() < config.corner_chance:
                spots.append((at + config.aside_m * np.array(side, float), junction))
    for start, end in streets:
        if rng.random() < config.side_chance:
            along = corners[end] - corners[start]
            across = np.array([-along[1], along[0]]) / np.linalg.norm(along)
            side = config.aside_m * rng.choice([-1.0, 1.0])
            spots.append((corners[start] + along * rng.uniform(0.35, 0.65) + across * side, -1))
    marks: list[CityLandmark] = []
    for at, junction in spots:
        # Two of one name side by side could not be told apart by anybody.
        close = {one.name for one in marks if np.hypot(*(one.position - at)) < 40.0}
        name = ""
        while not name or name in close:
            name = f"{rng.choice(COLOURS)} {rng.choice(KINDS)}"
        marks.append(CityLandmark(name, at, junction))
    return tuple(marks)


@dataclass(frozen=True)
class DetectorConfig:
    """How well landmarks are seen (spec 5.2).

    Attributes:
        reach_m: farther ones are not seen.
        field: degrees that are looked at, half of them to each side of the heading; the default is
            what VELMA's five crops span, 360 is a whole panorama.
        missed: chance that one within reach is not seen on a visit.
        cosine: of what is seen with the truth, on average.
        position_sd_m: noise of the position, metres each way.
    """

    reach_m: float = 15.0
    field: float = 240.0
    missed: float = 0.35
    cosine: float = 0.74
    position_sd_m: float = 1.5

    def __post_init__(self) -> None:
        if not (0 <= self.missed <= 1 and 0 < self.cosine <= 1 and self.position_sd_m >= 0):
            raise InputError("expected missed in [0, 1], cosine in (0, 1], position_sd_m 0 or more")


@dataclass
class CityWorld:
    """What an agent sees in a city. A visit sees anew; standing still sees the same.

    Attributes:
        city: where.
        seed: of the noise; with the place and the number of the visit it decides what is seen, so
            that agents compared on one episode see the same where they stand at the same place.
        detector: how well.
    """

    city: City
    seed: tuple[int, ...]
    detector: DetectorConfig = field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        self._truth = np.array([word_vector(m.name) for m in self.city.landmarks], np.float64)
        self._noise = np.sqrt((1.0 / self.detector.cosine**2 - 1.0) / WIDTH)
        marks = self.city.landmark_positions
        self._in_reach: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        for at in self.city.graph.position:
            offset = marks - at
            near = np.flatnonzero(np.hypot(*offset.T) <= self.detector.reach_m)
            bearing = np.degrees(np.arctan2(offset[near, 0], offset[near, 1]))
            self._in_reach.append((near, bearing))

    def again(self, *seed: int) -> CityWorld:
        """The same world with other noise."""
        other = CityWorld.__new__(CityWorld)
        other.__dict__.update(self.__dict__, seed=seed)
        return other

    def sights(self, place: int, visit: int, heading: float) -> tuple[Sight, ...]:
        """What is seen at a place on the ``visit``-th visit, from 0, looking at a heading."""
        found, bearing = self._in_reach[place]
        if not len(found):
            return ()
        rng = np.random.default_rng([*self.seed, place, visit])
        off = np.abs((bearing - heading + 180.0) % 360.0 - 180.0)
        # Drawn for all around, so that turning does not change what was seen already.
        drawn = rng.random(len(found)) >= self.detector.missed
        noise = rng.standard_normal((len(found), WIDTH)) * self._noise
        shift = rng.normal(0.0, self.detector.position_sd_m, (len(found), 2))
        kept = drawn & (off <= self.detector.field / 2.0)
        if not kept.any():
            return ()
        vectors = self._truth[found[kept]] + noise[kept]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        at = self.city.landmark_positions[found[kept]] + shift[kept]
        return tuple(Sight(v, p) for v, p in zip(vectors, at, strict=True))


VIEWS = 8
"""Views of a panorama, 45 degrees from one to the next, as VELMA's five span 180."""
FIELD = 60.0
"""Degrees across a view (spec 2.2)."""


def city_words(city: City, reach_m: float = 15.0) -> dict[str, tuple[SeenWord, ...]]:
    """Names of the landmarks within reach of each panorama, with bearing and range."""
    found = {}
    for name, at in zip(city.graph.ids, city.graph.position, strict=True):
        marks = city.near(at, reach_m)
        found[name] = tuple(
            (m.name, bearing_of(m.position - at), float(np.hypot(*(m.position - at))))
            for m in marks
        )
    return found


def city_features(
    city: City, seed: int = 0, *, reach_m: float = 15.0, noise: float = 0.5
) -> PanoramaFeatures:
    """Features of views, such as an embedder of pictures would give (spec 5.1, b).

    In the space of ``word_vector``: of each view the sum of the names within ``reach_m``, nearer
    ones counting more, and noise of length ``noise`` beside their length of 1. Views of nothing
    are noise only, and short, as they are of no direction.
    """
    rng = np.random.default_rng([seed, 23])
    bearings = np.arange(VIEWS) * 360.0 / VIEWS
    features = np.zeros((len(city.graph), VIEWS, WIDTH))
    for place, at in enumerate(city.graph.position):
        for mark in city.near(at, reach_m):
            bearing = bearing_of(mark.position - at)
            away = max(float(np.hypot(*(mark.position - at))), 1.0)
            for view in range(VIEWS):
                if abs(turn_between(bearing, float(bearings[view]))) <= FIELD / 2:
                    features[place, view] += word_vector(mark.name) / away
    lengths = np.linalg.norm(features, axis=2, keepdims=True)
    features = np.divide(features, lengths, out=features, where=lengths > 0)
    spread = rng.standard_normal(features.shape) * noise / np.sqrt(WIDTH)
    features += np.where(lengths > 0, spread, 0.0)
    return PanoramaFeatures(
        tuple(city.graph.ids), features.astype(np.float32),
        np.tile(bearings, (len(city.graph), 1)), ENCODER,
    )  # fmt: skip
