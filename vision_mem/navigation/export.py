"""A map for people and other programs: from above, as points, as a graph."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.formats.graphs import Origin, Shape, Value, write_geojson, write_graphml
from vision_mem.formats.ply import write_ply
from vision_mem.navigation.graph.path_planning import PlanningConfig, floor_plan
from vision_mem.navigation.gravity import Levels
from vision_mem.navigation.journal import Key
from vision_mem.navigation.records import Route
from vision_mem.navigation.retrieval import Hit, sigma_of
from vision_mem.navigation.session import NavigationSession
from vision_mem.navigation.storage import MapFile
from vision_mem.sinks.rerun import write_rerun
from vision_mem.visualization.bev import Thing, TopDown, write_topdown

_GREY = 160


@dataclass(frozen=True)
class Above:
    """How a map lies when it is looked at from above.

    Attributes:
        right, ahead: axes of the map's frame that point right and up in the picture.
        flip: -1 where the picture's up is against the second axis.
        up, sign: the axis that is up, and 1 or -1 for its direction.
    """

    right: int
    ahead: int
    flip: int
    up: int
    sign: int

    @classmethod
    def of(cls, up: str) -> Above:
        """From a setting such as ``+z``."""
        axis, sign = PlanningConfig(up).upward
        right, ahead = [each for each in range(3) if each != axis]
        # Right, the picture's up and the viewer's side are a right-handed frame.
        handed = float(np.cross(np.eye(3)[right], np.eye(3)[ahead])[axis])
        return cls(right, ahead, 1 if handed * sign > 0 else -1, axis, sign)

    def flat(self, points: ArrayLike) -> NDArray[np.float64]:
        """``(n, 2)`` metres right and up in the picture, of ``(n, 3)``."""
        array = np.asarray(points, np.float64).reshape(-1, 3)
        return np.stack([array[:, self.right], self.flip * array[:, self.ahead]], axis=1)

    def surveyed(self, points: ArrayLike) -> NDArray[np.float64]:
        """``(n, 3)`` metres east, north and up, of ``(n, 3)`` in the map's frame."""
        array = np.asarray(points, np.float64).reshape(-1, 3)
        return np.concatenate([self.flat(array), self.sign * array[:, [self.up]]], axis=1)

    def spot(self, point: ArrayLike) -> tuple[float, float]:
        """One of ``flat``."""
        x, y = self.flat(point)[0].tolist()
        return x, y


def view_from_above(
    session: NavigationSession,
    *,
    route: Route | None = None,
    hits: Sequence[Hit] | None = None,
    start: ArrayLike | None = None,
    goal: ArrayLike | None = None,
    title: str = "",
) -> TopDown:
    """What a picture shows: a way as a line, some hits or all things, start and goal ``(3,)``."""
    state, planning = session.state, session.config.planning
    above = Above.of(planning.up)
    ids, observers = state.topology.positions()
    try:
        plan = floor_plan(state.octree, planning, observers)
        if plan is not None and start is not None and len(plan.levels.floors) > 1:
            plan = floor_plan(state.octree, planning, observers, np.asarray(start, np.float64))
    except InputError:
        plan = None  # too wide for cells; places and names remain
    spot = dict(zip(ids.tolist(), above.flat(observers), strict=True))
    ways = [(spot[a], spot[b]) for a, b in _pairs(session)]
    if hits is None:
        things = [
            Thing(each.label, above.spot(each.position), sigma_of(each.covariance),
                  state.landmarks.gone(each))
            for each in state.landmarks.by_id.values()
        ]  # fmt: skip
    else:
        things = [
            Thing(each.label, above.spot(each.position), each.sigma, each.gone) for each in hits
        ]
    scene: dict[str, Any] = {
        "things": things, "places": above.flat(observers), "ways": ways, "title": title,
        "path": () if route is None else above.flat(route.points),
        "steps": () if route is None else _steps(route, above),
        "start": None if start is None else above.spot(start),
        "goal": None if goal is None else above.spot(goal),
    }  # fmt: skip
    if plan is not None:
        carries = plan.carries & ~plan.obstacle
        low, layers = plan.low, [plan.obstacle, plan.seen, carries, plan.tall]
        if above.flip < 0:
            low = np.array([low[0], -(low[1] + plan.obstacle.shape[1] * plan.size)])
            layers = [each[:, ::-1] for each in layers]
        known = bool(plan.levels.floors)
        scene |= {
            "low": (float(low[0]), float(low[1])), "size": plan.size,
            "obstacle": layers[0], "seen": layers[1], "floor": layers[2] & known,
            "tall": layers[3],
            "note": f"floor at height {plan.floor:.2f} m" if known else "floor unknown",
        }  # fmt: skip
    return TopDown(**scene)


def _steps(route: Route, above: Above) -> list[tuple[tuple[float, float], str]]:
    """Where each leg of a way begins, and its words."""
    begins = (0, *route.ends[:-1])
    return [
        (above.spot(route.points[k]), words)
        for k, words in zip(begins, route.directions, strict=True)
    ]


def levels_of(session: NavigationSession) -> Levels:
    """Floors and other level surfaces of a map; none where it holds no space, or too much."""
    observers = session.state.topology.positions()[1]
    with contextlib.suppress(InputError):
        plan = floor_plan(session.state.octree, session.config.planning, observers)
        if plan is not None:
            return plan.levels
    return Levels()


def write_picture(session: NavigationSession, path: str | Path, **shown: Any) -> None:
    """Draw a map from above; ``shown`` as ``view_from_above``."""
    write_topdown(path, view_from_above(session, **shown))


def _pairs(session: NavigationSession) -> list[tuple[int, int]]:
    """Ends of ways, whichever way they are gone."""
    return sorted({(min(pair), max(pair)) for pair in session.state.topology.ways})


def occupied(session: NavigationSession) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Middles ``(n, 3)`` metres and colours ``(n, 3)`` of all occupied leaves; grey for none."""
    points, colours = [np.empty((0, 3))], [np.empty((0, 3), np.uint8)]
    for leaves in session.state.octree.leaves():
        full = leaves.take(leaves.occupied)
        points.append(full.centres)
        plain = np.full((len(full), 3), _GREY, np.uint8)
        colours.append(plain if full.colours is None else full.colours)
    return np.concatenate(points), np.concatenate(colours)


def write_points(session: NavigationSession, path: str | Path) -> int:
    """Write occupied leaves as a PLY; returns how many there are."""
    points, colours = occupied(session)
    leaf = session.config.octree.leaf
    write_ply(path, points, colours=colours, comment=f"middles of occupied cells of {leaf:g} m")
    return len(points)


def write_features(
    session: NavigationSession, path: str | Path, origin: Origin | None = None
) -> int:
    """Write landmarks, places and ways as GeoJSON; returns how many shapes there are.

    In degrees where an origin is given, or the map has one, as maps of streets do.
    """
    state, above = session.state, Above.of(session.config.planning.up)
    if origin is None and state.origin is not None:
        origin = Origin(*state.origin)
    shapes = [
        Shape(above.surveyed(each.position), {
            "kind": "landmark", "id": number, "name": each.label, "seen": each.count,
            "first_s": each.first_s, "last_s": each.last_s, "sigma_m": sigma_of(each.covariance),
            "gone": state.landmarks.gone(each),
        })
        for number, each in sorted(state.landmarks.by_id.items())
    ]  # fmt: skip
    places = state.topology.places
    shapes += [
        Shape(above.surveyed(each.position), {"kind": "place", "id": number, "visits": each.visits})
        for number, each in sorted(places.items())
    ]
    shapes += [
        Shape(above.surveyed([places[a].position, places[b].position]), {
            "kind": "way", "from": a, "to": b, "traversed": way.traversed, "blocked": way.blocked,
        })
        for (a, b), way in sorted(state.topology.ways.items())
    ]  # fmt: skip
    write_geojson(path, shapes, origin)
    return len(shapes)


def write_graph(session: NavigationSession, path: str | Path) -> int:
    """Write places, landmarks, ways and what is seen from where as GraphML; returns the nodes."""
    topology, marks = session.state.topology, session.state.landmarks
    nodes: list[tuple[str, dict[str, Value]]] = []
    edges: list[tuple[str, str, dict[str, Value]]] = []
    for number, place in sorted(topology.places.items()):
        x, y, z = place.position.tolist()
        nodes.append((
            f"place:{number}", {"kind": "place", "x": x, "y": y, "z": z, "visits": place.visits},
        ))  # fmt: skip
    for number, mark in sorted(marks.by_id.items()):
        x, y, z = mark.position.tolist()
        nodes.append((f"landmark:{number}", {
            "kind": "landmark", "x": x, "y": y, "z": z, "name": mark.label, "seen": mark.count,
            "gone": marks.gone(mark),
        }))  # fmt: skip
        for place_id, view in sorted(mark.views.items()):
            edges.append((f"place:{place_id}", f"landmark:{number}", {
                "kind": "sees", "metres": view.distance, "bearing": view.bearing,
                "times": view.count,
            }))  # fmt: skip
    for (a, b), way in sorted(topology.ways.items()):
        edges.append((f"place:{a}", f"place:{b}", {
            "kind": "way", "metres": topology.length(a, b), "traversed": way.traversed,
            "blocked": way.blocked,
        }))  # fmt: skip
    write_graphml(path, nodes, edges)
    return len(nodes)


def write_recording(session: NavigationSession, path: str | Path) -> int:
    """Write the map for the viewer of rerun; returns how many points it has."""
    points, colours = occupied(session)
    topology, marks = session.state.topology, session.state.landmarks.by_id
    write_rerun(
        path, points, colours, size=session.config.octree.leaf,
        names=[each.label for each in marks.values()],
        things=np.array([each.position for each in marks.values()]).reshape(-1, 3),
        places=topology.positions()[1],
        lines=[
            np.array([topology.places[a].position, topology.places[b].position])
            for a, b in _pairs(session)
        ],
    )  # fmt: skip
    return len(points)


def frames_taken(path: str | Path, recording: str) -> list[tuple[int, int]]:
    """Frames of a recording that are in a map: their number there, and in the map.

    They are remembered with the source ``<recording>#<number>``, or -1 after ``#`` and a name.
    """
    if not Path(path).is_file() or not Path(path).stat().st_size:
        return []
    with contextlib.closing(MapFile(path, "r")) as file, file.reading() as sql:
        # "$" is the character after "#".
        rows = sql.execute(
            "SELECT source, frame FROM frame WHERE source >= ? AND source < ?",
            (f"{recording}#", f"{recording}$"),
        )
        tails = [(str(source).rpartition("#")[2], frame) for source, frame in rows]
    return [
        (int(tail) if tail.isdecimal() and len(tail) < 19 else -1, frame) for tail, frame in tails
    ]


def last_taken(path: str | Path, recording: str) -> tuple[int, float] | None:
    """Number, and seconds as the map has them, of a recording's last frame in it; None for none."""
    number, frame = max(frames_taken(path, recording), default=(-1, 0))
    if number < 0:
        return None
    with contextlib.closing(MapFile(path, "r")) as file, file.reading() as sql:
        (time_s,) = sql.execute("SELECT t FROM memory WHERE frame=?", (frame,)).fetchone()
    return number, float(time_s)


def latest_pose(session: NavigationSession) -> NDArray[np.float64] | None:
    """Where the observer was last, ``(4, 4)`` in the map of today; None before the first look."""
    topology = session.state.topology
    if topology.current is None:
        return None
    place = topology.places[topology.current]
    latest = session.recall(Key("place", topology.current), limit=1)
    return np.asarray(place.pose @ latest[0].relative if latest else place.pose)


def direction_words(pose: NDArray[np.float64], position: ArrayLike) -> str:
    """``2.1 m away, ahead on the left``: a position ``(3,)`` as seen from a pose ``(4, 4)``."""
    local = pose[:3, :3].T @ (np.asarray(position, np.float64) - pose[:3, 3])
    away = float(np.linalg.norm(local))
    level = math.hypot(local[0], local[2])
    if away < 0.05:
        return "right here"
    said = f"{away:.1f} m away"
    if abs(local[1]) > 2 * level:
        return f"{said}, {'below' if local[1] > 0 else 'above'}"
    angle = math.degrees(math.atan2(local[0], local[2]))
    side = "right" if angle > 0 else "left"
    if abs(angle) <= 20:
        return f"{said}, ahead"
    if abs(angle) >= 160:
        return f"{said}, behind"
    if abs(angle) < 70:
        return f"{said}, ahead on the {side}"
    return f"{said}, {'to' if abs(angle) <= 110 else 'behind on'} the {side}"
