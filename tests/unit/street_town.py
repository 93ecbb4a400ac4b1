"""A small town for walks of agents, and a memory that walked through it."""

from __future__ import annotations

import itertools

from street_samples import graph_of, walk

from vision_mem.vln.action_spaces import make_navigator
from vision_mem.vln.environment import Episode, StreetTask, WordWorld, run_episode
from vision_mem.vln.graph import StreetGraph
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.observations import Visit

# Two crossings, 40 m apart; a pharmacy at the corner of the second, a bank up its north arm.
#
#        n3          m3
#        |           |
#   w1 - A - a b c - B - e1 - e2 - e3
#        |           |
#        s1          t1
PLACES = {
    "w2": (-20, 0), "w1": (-10, 0), "A": (0, 0), "a": (10, 0), "b": (20, 0), "c": (30, 0),
    "B": (40, 0), "e1": (50, 0), "e2": (60, 0), "e3": (70, 0),
    "n1": (0, 10), "n2": (0, 20), "n3": (0, 30), "s1": (0, -10), "s2": (0, -20),
    "m1": (40, 10), "m2": (40, 20), "m3": (40, 30), "m4": (40, 40), "t1": (40, -10),
    "t2": (40, -20),
}  # fmt: skip
STREETS = ["w2 w1 A a b c B e1 e2 e3", "s2 s1 A n1 n2 n3", "t2 t1 B m1 m2 m3 m4"]
TEXT = "Turn left at the light with the red pharmacy on the corner. Stop at the blue bank."
SIGHTS = {"B": [("red pharmacy", 45.0, 11.3)], "m3": [("blue bank", 90.0, 8.0)]}
GOAL = "w1 A a b c B m1 m2 m3"


def town() -> StreetGraph:
    names = [row.split() for row in STREETS]
    return graph_of(PLACES, [pair for row in names for pair in itertools.pairwise(row)])


def go(agent, world=SIGHTS, text: str = TEXT, start: str = "w1", navigator="touchdown") -> Episode:
    graph = town()
    return run_episode(
        agent, make_navigator(navigator, graph), StreetTask("t", text),
        (graph.number(start), 90.0), WordWorld(graph, world),
    )  # fmt: skip


def names(episode: Episode) -> str:
    graph = town()
    return " ".join(graph.ids[place] for place in episode.trajectory)


def toured(route: str, world=SIGHTS, looks: int = 2) -> LongMemory:
    """A memory that walked a route so many times."""
    graph, memory = town(), LongMemory()
    seen = WordWorld(graph, world)
    for _ in range(looks):
        memory.begin()
        path = walk(graph, route)
        for number, place in enumerate(path):
            came = graph.heading_between(path[number - 1], place) if number else None
            exits = tuple(heading for heading, _ in graph.exits[place])
            memory.write(Visit(graph.position[place], exits, seen.sights(place, 0, 0.0), came))
    return memory
