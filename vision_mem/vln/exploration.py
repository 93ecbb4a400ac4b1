"""Getting to know streets: a graph as it lies there, or a long walk, written into a memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.errors import InputError
from vision_mem.formats.street_words import read_panorama_features, read_sight_words
from vision_mem.navigation.export import frames_taken
from vision_mem.navigation.records import NavigationResult
from vision_mem.navigation.session import NavigationSession
from vision_mem.navigation.storage import discard_map
from vision_mem.runs.tally import count
from vision_mem.types import SourceInfo
from vision_mem.vln.environment import FeatureWorld, StreetWorld, WordWorld
from vision_mem.vln.graph import StreetGraph
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.observations import ENCODER, Visit, word_vector
from vision_mem.vln.rule_agent import Encode


def explore(
    graph: StreetGraph,
    world: StreetWorld,
    steps: int,
    seed: int,
    memory: LongMemory | None = None,
) -> LongMemory:
    """Walk through a city, and remember it, as ``tour`` and in a new memory by default.

    The memory holds what was seen and walked, and nothing of the rest of the city.
    """
    memory = LongMemory() if memory is None else memory
    memory.begin()
    for visit in tour(graph, world, steps, seed):
        memory.write(visit)
    memory.begin()
    return memory


def tour(graph: StreetGraph, world: StreetWorld, steps: int, seed: int) -> Iterator[Visit]:
    """A walk, one visit a step, at each place along the way taken least so far.

    3,000 steps see nearly all of the default city several times; a longer tour begins as a shorter
    one, and ends early where no way leads on. Where ways were taken equally often, and where to
    begin, the seed decides.

    Raises:
        InputError: for fewer than 0 steps.
    """
    if steps < 0:
        raise InputError(f"a tour of {steps} steps; expected 0 or more")
    rng = np.random.default_rng([seed, 17])
    place = int(rng.integers(len(graph)))
    came_by: float | None = None
    looks, before = (graph.exits[place] or ((0.0, place),))[0][0], -1
    visits: Counter[int] = Counter()
    taken: Counter[tuple[int, int]] = Counter()
    for _ in range(steps):
        exits = graph.exits[place]
        sights = world.sights(place, visits[place], looks)
        visits[place] += 1
        headings = tuple(heading for heading, _ in exits)
        yield Visit(graph.position[place], headings, sights, came_by, graph.ids[place])
        if not exits:
            return
        ways = [way for way in exits if way[1] != before] or list(exits)
        least = min(taken[place, end] for _, end in ways)
        fresh = [way for way in ways if taken[place, way[1]] == least]
        came_by, following = fresh[int(rng.integers(len(fresh)))]
        taken[place, following] += 1
        looks = came_by
        before, place = place, following


@dataclass(frozen=True)
class StreetSights:
    """What is to be seen on streets.

    Attributes:
        world: gives the sights of a place.
        encode: words to the space of the sights; None where nobody can.
        encoder: names that space, for the map.
        words: whether sights are words, and so certain, rather than features.
    """

    world: StreetWorld
    encode: Encode | None
    encoder: str
    words: bool


def open_sights(graph: StreetGraph, path: Path | None, *, around: bool) -> StreetSights:
    """Read a file of sights: words as JSON lines, or features of panoramas as ``.npz``.

    Raises:
        InputError: for a file that is neither.
    """
    if path is None or path.suffix.lower() != ".npz":
        words = None if path is None else read_sight_words(path)
        return StreetSights(WordWorld(graph, words), word_vector, ENCODER, True)
    found = read_panorama_features(path)
    world = FeatureWorld(graph, found, field=360.0 if around else 240.0)
    encode: Encode | None = word_vector if found.encoder == ENCODER else None
    if found.encoder.startswith("words#"):
        encode = _encoder_of(found.encoder, found.features.shape[2])
    return StreetSights(world, encode, found.encoder, False)


def _encoder_of(encoder: str, width: int) -> Encode | None:
    """The embedder of ``ask``, when the features are its."""
    from vision_mem.models.vlm.word_search import WordEmbedder

    embedder = WordEmbedder()
    if embedder.encoder != encoder:
        return None

    def encode(text: str) -> Any:
        vector = embedder.of_text(text)
        return np.zeros(width, np.float32) if vector is None else vector

    return encode


class StreetBuild:
    """Takes a street graph into a map: every panorama as it lies there, or what a walk passes.

    Each panorama, or step of the walk, is one transaction; the same build goes on where it was cut
    off. ``tour`` is the steps of a walk; None takes in the whole graph with all its links.

    Attributes:
        memory: the map.
        total: panoramas or steps in all.
        before: of those, how many the map had.

    Raises:
        InputError: for files that cannot be used, or a map of other streets.
    """

    def __init__(
        self,
        source: str,
        map_: Path,
        sights: Path | None,
        tour: int | None,
        seed: int,
        overwrite: bool,
    ) -> None:
        self._graph = StreetGraph.read(source)
        self._seen = open_sights(self._graph, sights, around=tour is None)
        self._tour, self._seed = tour, seed
        walk = "" if tour is None else f"?tour={seed}"
        self._name = f"{Path(source).expanduser().resolve()}{walk}"
        self.total = len(self._graph) if tour is None else tour
        map_.parent.mkdir(parents=True, exist_ok=True)
        if overwrite:
            discard_map(map_)
        self.memory: LongMemory = LongMemory(map_, encoder=self._seen.encoder)
        try:
            self.memory.belong_to(self._graph.origin)
            self.before = min(len(frames_taken(map_, self._name)), self.total)
        except BaseException:
            self.memory.close()
            raise

    @property
    def session(self) -> NavigationSession:
        """The map."""
        return self.memory.session

    @property
    def left(self) -> SourceInfo:
        """What is left to take in."""
        return SourceInfo(self.session.path.stem, 1, 1, 30.0, self.total - self.before)

    def run(
        self,
        until: Callable[[Iterable[tuple[int, Visit]]], Iterator[tuple[int, Visit]]],
        tell: Callable[[int, NavigationResult], None],
    ) -> int:
        """Take in what is left, telling each number and what it changed; returns how many."""
        if self._tour is not None and 0 < self.before < self.total:
            self.memory.go_on()
        done = 0
        for number, visit in until(enumerate(self._visits())):
            if number >= self.before:
                source = f"{self._name}#{visit.source}"
                tell(number, self.memory.write(replace(visit, source=source)))
                done += 1
        return done

    def lines(self) -> list[str]:
        """What came of it, in words."""
        usage, memory = self.session.usage(), self.memory
        marks = count(len(self.session.state.landmarks), "landmark")
        return [
            f"{count(memory.places, 'place')}, {count(memory.ways, 'way')}, {marks}",
            f"{usage.memories} memories, file {usage.file_bytes / 1e6:.1f} MB",
        ]

    def _visits(self) -> Iterator[Visit]:
        graph, world = self._graph, self._seen.world
        if self._tour is not None:
            yield from tour(graph, world, self._tour, self._seed)
            return
        for place, name in enumerate(graph.ids):
            exits = tuple(heading for heading, _ in graph.exits[place])
            looks = exits[0] if exits else 0.0
            yield Visit(graph.position[place], exits, world.sights(place, 0, looks), None, name)

    def put_rest(self) -> None:
        """Remember which panorama each link leads to, once all are there."""
        if self._tour is not None:
            return
        graph, memory = self._graph, self.memory
        radius = memory.session.config.topology.place_radius
        places = [memory.place_at(at, radius) for at in graph.position]
        for start, exits in zip(places, graph.exits, strict=True):
            for heading, end in exits:
                known = places[end]
                if start is not None and known is not None:
                    memory.link(start, known, heading)
        memory.session.commit()
