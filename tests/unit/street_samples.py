"""Small street graphs whose every distance can be worked out by hand."""

from __future__ import annotations

import numpy as np

from vision_mem.formats.touchdown import StreetFiles
from vision_mem.vln.graph import StreetGraph, bearing_of, to_degrees


def graph_of(
    places: dict[str, tuple[float, float]], streets: list[tuple[str, str]], *, one_way: bool = False
) -> StreetGraph:
    """A graph of named places at metres east and north, streets both ways."""
    names = list(places)
    at = np.array([places[name] for name in names], float)
    latitude, longitude = to_degrees(at, (40.0, -74.0))
    links = [(a, b) for pair in streets for a, b in ((pair,) if one_way else (pair, pair[::-1]))]
    start = np.array([names.index(a) for a, _ in links], np.int64)
    end = np.array([names.index(b) for _, b in links], np.int64)
    heading = np.array(
        [round(bearing_of(at[e] - at[s])) % 360 for s, e in zip(start, end, strict=True)], float
    )
    return StreetGraph(
        StreetFiles(tuple(names), np.zeros(len(names)), latitude, longitude, start, heading, end)
    )


def cross() -> StreetGraph:
    """Two streets that cross at ``x``: west ``w2 w1 x e1 e2``, south ``s2 s1 x n1 n2``; 10 m."""
    places = {"x": (0.0, 0.0)}
    for name, east, north in (("e", 1, 0), ("w", -1, 0), ("n", 0, 1), ("s", 0, -1)):
        for far in (1, 2):
            places[f"{name}{far}"] = (10.0 * far * east, 10.0 * far * north)
    streets = [(a, b) for arm in "ewns" for a, b in (("x", f"{arm}1"), (f"{arm}1", f"{arm}2"))]
    return graph_of(places, streets)


def walk(graph: StreetGraph, text: str) -> list[int]:
    """Place numbers of names with blanks between."""
    return [graph.number(name) for name in text.split()]
