"""Getting to know streets: a long walk past everything, and a memory that it is written into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from vision_mem.errors import InputError
from vision_mem.vln.environment import StreetWorld
from vision_mem.vln.graph import StreetGraph
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.observations import Visit


def explore(
    graph: StreetGraph,
    world: StreetWorld,
    steps: int,
    seed: int,
    memory: LongMemory | None = None,
) -> LongMemory:
    """Walk through a city, and remember it.

    Args:
        graph: the streets walked on; the memory gets to know those it walks.
        world: what is seen.
        steps: as ``tour``.
        seed: as ``tour``.
        memory: what to write into; a new one by default.

    Returns:
        The memory. It holds what was seen and walked, and nothing of the rest of the city.
    """
    memory = LongMemory() if memory is None else memory
    memory.begin()
    for visit in tour(graph, world, steps, seed):
        memory.write(visit)
    memory.begin()
    return memory


def tour(graph: StreetGraph, world: StreetWorld, steps: int, seed: int) -> Iterator[Visit]:
    """A walk, at each place along the way taken least so far.

    Args:
        graph: the streets walked on.
        world: what is seen.
        steps: places visited; 3,000 see nearly all of the default city several times. A longer
            tour begins as a shorter one.
        seed: of the choice between ways taken equally often, and of where to begin.

    Yields:
        One visit a step; it ends early where no way leads on.

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
