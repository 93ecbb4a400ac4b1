"""Graphs and named places as files: GraphML for graph programs, GeoJSON for map programs."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import make_folder, write_file

Value = str | int | float | bool
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot hold, not even escaped."""


def write_graphml(
    path: str | Path,
    nodes: Iterable[tuple[str, Mapping[str, Value]]],
    edges: Iterable[tuple[str, str, Mapping[str, Value]]],
) -> None:
    """Write a directed graph; whole or not at all.

    Args:
        path: the file; its folder is made.
        nodes: name and properties each.
        edges: from, to, and properties each.

    Raises:
        SinkError: when it cannot be written.
    """
    import networkx as nx

    graph = nx.DiGraph()
    for name, properties in nodes:
        graph.add_node(name, **_clean(properties))
    for start, end, properties in edges:
        graph.add_edge(start, end, **_clean(properties))
    content = io.BytesIO()
    nx.write_graphml_xml(graph, content)
    make_folder(Path(path).parent)
    write_file(Path(path), content.getvalue())


def _clean(properties: Mapping[str, Value]) -> dict[str, Value]:
    return {
        name: _FORBIDDEN.sub("\ufffd", value) if isinstance(value, str) else value
        for name, value in properties.items()
    }


Degrees = tuple[float, float]
"""Latitude and longitude."""
_EARTH = 6_371_008.8
"""Mean radius, metres."""


def to_metres(latitude: ArrayLike, longitude: ArrayLike, origin: Degrees) -> NDArray[np.float64]:
    """``(N, 2)`` metres east and north of an origin, of ``(N,)`` latitudes and longitudes."""
    north = np.radians(np.asarray(latitude) - origin[0]) * _EARTH
    east = np.radians(np.asarray(longitude) - origin[1]) * _EARTH * np.cos(np.radians(origin[0]))
    return np.stack([east, north], axis=1)


def to_degrees(
    position: NDArray[np.float64], origin: Degrees
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitudes and longitudes of ``(N, 2)`` metres east and north of an origin in degrees."""
    latitude = origin[0] + np.degrees(position[:, 1] / _EARTH)
    around = _EARTH * np.cos(np.radians(origin[0]))
    return latitude, origin[1] + np.degrees(position[:, 0] / around)


@dataclass(frozen=True)
class Shape:
    """A point or a line.

    Attributes:
        points: ``(n, 3)`` metres east, north and up; one point is a point, more are a line.
        properties: JSON-ready.
    """

    points: ArrayLike
    properties: Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where metres are counted from.

    Attributes:
        latitude, longitude: degrees.
        heading: degrees clockwise from north in which the second axis points.
    """

    latitude: float
    longitude: float
    heading: float = 0.0

    def __post_init__(self) -> None:
        if not (-85 <= self.latitude <= 85 and -180 <= self.longitude <= 180):
            raise InputError(
                f"origin is {self.latitude:g},{self.longitude:g}; expected a latitude from -85 to "
                "85 and a longitude from -180 to 180"
            )
        if not math.isfinite(self.heading):
            raise InputError(f"the origin's heading is {self.heading}; expected degrees")

    def degrees(self, points: ArrayLike) -> list[list[float]]:
        """``[longitude, latitude, metres up]`` of ``(n, 3)`` metres, good for some kilometres."""
        x, y, z = np.asarray(points, np.float64).reshape(-1, 3).T
        turn = math.radians(self.heading)
        east = x * math.cos(turn) + y * math.sin(turn)
        north = y * math.cos(turn) - x * math.sin(turn)
        flat = np.stack([east, north], axis=1)
        latitude, longitude = to_degrees(flat, (self.latitude, self.longitude))
        rows = np.stack([longitude.round(8), latitude.round(8), z.round(3)], axis=1)
        return [[float(value) for value in row] for row in rows]


def write_geojson(path: str | Path, shapes: Iterable[Shape], origin: Origin | None = None) -> None:
    """Write a collection of features; whole or not at all.

    Args:
        path: the file; its folder is made.
        shapes: what.
        origin: where on Earth metres are counted from. Without one the coordinates are metres,
            which the member ``coordinates_are`` says; map programs then need a local frame.

    Raises:
        SinkError: when it cannot be written.
    """
    features = []
    for shape in shapes:
        points = np.asarray(shape.points, np.float64).reshape(-1, 3)
        rows: Sequence[list[float]]
        if origin is None:
            rows = [[round(float(value), 4) for value in row] for row in points]
        else:
            rows = origin.degrees(points)
        geometry = (
            {"type": "Point", "coordinates": rows[0]}
            if len(rows) == 1
            else {"type": "LineString", "coordinates": rows}
        )
        features.append(
            {"type": "Feature", "geometry": geometry, "properties": dict(shape.properties)}
        )
    value: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if origin is None:
        value["coordinates_are"] = "metres in the map's frame"
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    make_folder(Path(path).parent)
    write_file(Path(path), (text + "\n").encode("utf-8"))
