"""Street graphs and routes in the files of Touchdown and Map2Seq.

``nodes.txt``: ``panorama id,yaw in degrees,latitude,longitude`` a line (a fifth column, as VELMA's
copies have, is left alone; Map2Seq's own street layout has no yaw). ``links.txt``: ``start id,
heading in degrees clockwise from north,end id``, one direction a line. Routes: one JSON object a
line, or one JSON list. Source: mem4nav specification, section 2.1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import json_rows, make_folder, text_lines, write_file
from vision_mem.text import short


@dataclass(frozen=True)
class StreetFiles:
    """What ``nodes.txt`` and ``links.txt`` say, checked.

    Attributes:
        ids: panorama ids, N of them, in the order of the file.
        yaw: ``(N,)`` degrees: where the panorama's reference column looks.
        latitude: ``(N,)`` degrees.
        longitude: ``(N,)`` degrees.
        start: ``(M,)`` int64, index into ``ids``, in the order of the file.
        heading: ``(M,)`` degrees clockwise from north, in [0, 360).
        end: ``(M,)`` int64, index into ``ids``.
    """

    ids: tuple[str, ...]
    yaw: NDArray[np.float64]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    start: NDArray[np.int64]
    heading: NDArray[np.float64]
    end: NDArray[np.int64]


@dataclass(frozen=True)
class StreetRoute:
    """One route with its instruction.

    Attributes:
        route_id: unique in its file: Touchdown's ``route_id``, Map2Seq's ``instructions_id``.
        text: the instruction.
        panoramas: ids along the true path, start and goal included; at least one.
        start_heading: degrees at the start. Touchdown writes 0 whatever the street, so it has to
            be turned to the nearest link (``snap``).
        kind: ``"touchdown"`` or ``"map2seq"``.
        landmarks: words named in the text, where a landmark file gave them.
    """

    route_id: str
    text: str
    panoramas: tuple[str, ...]
    start_heading: float
    kind: str = "touchdown"
    landmarks: tuple[str, ...] = field(default=())


def find_street_files(root: str | Path) -> tuple[Path, Path]:
    """``nodes.txt`` and ``links.txt`` in a folder or in its ``graph`` folder.

    Raises:
        InputError: when they are not there.
    """
    root = Path(root)
    for folder in (root, root / "graph"):
        if (folder / "nodes.txt").is_file() and (folder / "links.txt").is_file():
            return folder / "nodes.txt", folder / "links.txt"
    raise InputError(
        f"{root} holds no street graph; expected nodes.txt and links.txt there or in graph/"
    )


def read_street_files(root: str | Path) -> StreetFiles:
    """Read a street graph.

    Args:
        root: the folder with ``nodes.txt`` and ``links.txt``, or the one above ``graph/``.

    Raises:
        InputError: one line that names file and line: a damaged line, an id that comes twice, a
            link to a panorama that is not there, two links of one start and heading.
    """
    nodes, links = find_street_files(root)
    ids, numbers = _read_nodes(nodes)
    places = {name: index for index, name in enumerate(ids)}
    start, heading, end = _read_links(links, places, nodes.name)
    yaw, latitude, longitude = numbers.T
    return StreetFiles(tuple(ids), yaw, latitude, longitude, start, heading, end)


def _read_nodes(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    seen: dict[str, int] = {}
    rows: list[tuple[float, float, float]] = []
    for number, line in text_lines(path):
        fields = line.split(",")
        try:
            if len(fields) in (4, 5):
                row = (float(fields[1]), float(fields[2]), float(fields[3]))
            elif len(fields) == 3:
                row = (0.0, float(fields[1]), float(fields[2]))
            else:
                raise ValueError
        except ValueError:
            raise _damaged(path, number, "panorama id,yaw,latitude,longitude", line) from None
        yaw, latitude, longitude = row
        # Written so that "not a number" fails too.
        if not (abs(latitude) <= 90 and abs(longitude) <= 180 and abs(yaw) <= 1e6):
            raise InputError(
                f"{path} line {number}: yaw {yaw:g}, latitude {latitude:g}, longitude "
                f"{longitude:g}; expected degrees, latitude within 90 and longitude within 180"
            )
        name = fields[0].strip()
        if not name:
            raise _damaged(path, number, "panorama id,yaw,latitude,longitude", line)
        if name in seen:
            raise InputError(
                f"{path} line {number}: panorama {short(name)} is there already, in line "
                f"{seen[name]}; expected each id once"
            )
        seen[name] = number
        rows.append(row)
    if not rows:
        raise InputError(f"{path} is empty; expected panorama id,yaw,latitude,longitude lines")
    return list(seen), np.array(rows, np.float64)


def _read_links(
    path: Path, places: dict[str, int], nodes: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    starts: list[int] = []
    headings: list[float] = []
    ends: list[int] = []
    seen: dict[tuple[int, float], int] = {}
    for number, line in text_lines(path):
        fields = line.split(",")
        try:
            begin, turn, finish = fields
            heading = float(turn)
            if not math.isfinite(heading):
                raise ValueError
        except ValueError:
            raise _damaged(path, number, "start id,heading,end id", line) from None
        try:
            start, end = places[begin.strip()], places[finish.strip()]
        except KeyError as error:
            raise InputError(
                f"{path} line {number}: panorama {short(error.args[0])} is not in {nodes}; "
                "expected links between panoramas listed there"
            ) from None
        heading %= 360.0
        if start == end:
            raise InputError(
                f"{path} line {number}: a link of panorama {short(begin)} to itself; "
                "expected two different panoramas"
            )
        if (start, heading) in seen:
            raise InputError(
                f"{path} line {number}: a second link of panorama {short(begin)} at heading "
                f"{heading:g}, after line {seen[start, heading]}; expected one link a heading"
            )
        seen[start, heading] = number
        starts.append(start)
        headings.append(heading)
        ends.append(end)
    return np.array(starts, np.int64), np.array(headings, np.float64), np.array(ends, np.int64)


def read_routes(path: str | Path) -> list[StreetRoute]:
    """Read a file of routes: Touchdown's, or Map2Seq's in either of its two layouts.

    Args:
        path: JSON lines (``.json`` or ``.jsonl``), or one JSON list.

    Returns:
        The routes in the order of the file. Further instructions for a route id get ``-2`` and so
        on behind it.

    Raises:
        InputError: one line: what is wrong in which line; or a route that comes twice.
    """
    path = Path(path)
    routes: dict[str, StreetRoute] = {}
    lines: dict[str, int] = {}
    for number, item in json_rows(path):
        route = _route(path, number, item)
        name, again = route.route_id, 1
        while name in routes:
            known = routes[name]
            if (known.panoramas, known.text) == (route.panoramas, route.text):
                raise InputError(
                    f"{path} line {number}: route {short(name)} is there already, in line "
                    f"{lines[name]}; expected each route with its text once"
                )
            again += 1
            name = f"{route.route_id}-{again}"
        routes[name] = replace(route, route_id=name)
        lines[name] = number
    if not routes:
        raise InputError(f"{path} holds no routes; expected one JSON object a line")
    return list(routes.values())


def _route(path: Path, number: int, item: Any) -> StreetRoute:
    wanted = "route_panoids, navigation_text and start_heading"
    if not isinstance(item, dict):
        raise InputError(f"{path} line {number}: not a JSON object; expected {wanted}")
    inner = item.get("route")
    if isinstance(inner, dict):  # the layout of Map2Seq's own release
        panoramas, heading = inner.get("pano_path"), inner.get("initial_heading")
        text, name = item.get("instructions"), item.get("instructions_id")
    else:
        panoramas, heading = item.get("route_panoids"), item.get("start_heading", 0.0)
        text = item.get("navigation_text")
        name = item.get("instructions_id", item.get("route_id", item.get("id")))
    map2seq = "instructions_id" in item
    path_ids = panoramas if isinstance(panoramas, list) else []
    if not path_ids or not all(isinstance(p, str) and p for p in path_ids):
        raise InputError(f"{path} line {number}: no list of panorama ids; expected {wanted}")
    if not isinstance(text, str):
        raise InputError(f"{path} line {number}: no instruction text; expected {wanted}")
    if isinstance(name, bool) or not isinstance(name, (int, str)) or str(name) == "":
        raise InputError(
            f"{path} line {number}: no id; expected route_id (Touchdown) or instructions_id"
        )
    if isinstance(heading, bool) or not isinstance(heading, (int, float)):
        heading = math.nan
    if not abs(heading) <= 1e6:
        raise InputError(
            f"{path} line {number}: start_heading is no number; expected degrees from north"
        )
    words = item.get("landmarks", ())
    marks = tuple(w for w in words if isinstance(w, str)) if isinstance(words, list) else ()
    kind = "map2seq" if map2seq else "touchdown"
    return StreetRoute(str(name), text, tuple(path_ids), float(heading) % 360.0, kind, marks)


def write_street_files(
    root: str | Path, files: StreetFiles, routes: dict[str, Sequence[StreetRoute]]
) -> None:
    """Write a street graph and its routes as Touchdown lays them out.

    Args:
        root: the folder: ``graph/nodes.txt``, ``graph/links.txt``, ``data/<split>.json``.
        files: the graph.
        routes: split name to routes.

    Raises:
        SinkError: when it cannot be written.
    """
    root = Path(root)
    make_folder(root / "graph")
    make_folder(root / "data")
    nodes = (
        f"{name},{yaw:.0f},{lat:.7f},{lng:.7f}\n"
        for name, yaw, lat, lng in zip(
            files.ids, files.yaw, files.latitude, files.longitude, strict=True
        )
    )
    links = (
        f"{files.ids[start]},{heading:.0f},{files.ids[end]}\n"
        for start, heading, end in zip(files.start, files.heading, files.end, strict=True)
    )
    write_file(root / "graph" / "nodes.txt", "".join(nodes).encode())
    write_file(root / "graph" / "links.txt", "".join(links).encode())
    for split, several in routes.items():
        rows = "".join(json.dumps(_as_object(route)) + "\n" for route in several)
        write_file(root / "data" / f"{split}.json", rows.encode())


def _as_object(route: StreetRoute) -> dict[str, Any]:
    name = "route_id" if route.kind == "touchdown" else "instructions_id"
    value: dict[str, Any] = {
        name: route.route_id,
        "route_panoids": list(route.panoramas),
        "navigation_text": route.text,
        "start_heading": route.start_heading,
    }
    return {**value, "landmarks": list(route.landmarks)} if route.landmarks else value


def _damaged(path: Path, number: int, wanted: str, line: str) -> InputError:
    return InputError(f"{path} line {number}: {short(line)!r}; expected {wanted}")


def is_street_graph(source: str) -> bool:
    """Whether a folder, or its ``graph`` folder, has ``nodes.txt`` and ``links.txt``."""
    try:
        return bool(find_street_files(source))
    except InputError:
        return False
