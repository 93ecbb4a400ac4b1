"""Zones and lines in the picture: who entered, left or crossed, and how long they stayed.

They look at results alone, of one object or of many. An object counts where its anchor is, a
point of its box; what is out of sight stays on the side where it was last seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.config import nearest
from vision_mem.errors import InputError, ModelError
from vision_mem.formats.text import write_file
from vision_mem.geometry.polygons import crossing_edges, points_covered, polygon_area
from vision_mem.results import ShownObject
from vision_mem.text import read_json, shown
from vision_mem.types import Event, Frame, MemoryUsage, ZoneCounts, ZoneEvent, ZoneVisit

ANCHORS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "bottom": ((0.5, 1.0),),
    "centre": ((0.5, 0.5),),
    "top": ((0.5, 0.0),),
    "left": ((0.0, 0.5),),
    "right": ((1.0, 0.5),),
    "corners": ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)),
}
"""Points of a box, as shares of its width and height; of several, all must be on a side."""

_FILE = "zones.json"
"""Beside a session's snapshot."""


@dataclass(frozen=True)
class Zone:
    """A polygon; its edge belongs to it.

    Attributes:
        name: of the zone, for events and files.
        corners: three or more ``(x, y)`` in pixels, in order; the last needs not be the first.

    Raises:
        InputError: for what is no polygon, or crosses itself.
    """

    name: str
    corners: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        points = _points(self.name, "zone", self.corners)
        if len(points) > 1 and points[0] == points[-1]:
            points = points[:-1]
        if len(points) < 3:
            raise InputError(
                f"zone {shown(self.name)} has {len(points)} corners; expected three or more: "
                "x1,y1,x2,y2,x3,y3 (two points are a --line)"
            )
        if len(set(points)) < len(points):
            raise InputError(f"zone {shown(self.name)} has a corner twice; expected each once")
        flat = np.linalg.svd(np.subtract(points, points[0]), compute_uv=False)[1] < 1e-6
        if not flat and (edges := crossing_edges(points)) is not None:
            spots = " and ".join(f"{_spot(points[edge])}" for edge in edges)
            raise InputError(
                f"zone {shown(self.name)} crosses itself: the edges from {spots} meet; give its "
                "corners in order, once around"
            )
        if flat or polygon_area(points) < 1:
            raise InputError(
                f"zone {shown(self.name)} has no area; expected corners in pixels that span one"
            )
        object.__setattr__(self, "corners", points)


@dataclass(frozen=True)
class Line:
    """A line between two points; only what passes between them counts.

    Seen on the picture from its start to its end, ``in`` is across it to the left, ``out`` to the
    right.

    Attributes:
        name: of the line, for events and files.
        ends: start and end ``(x, y)`` in pixels.

    Raises:
        InputError: for other than two different points.
    """

    name: str
    ends: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        points = _points(self.name, "line", self.ends)
        if len(points) != 2:
            raise InputError(
                f"line {shown(self.name)} has {len(points)} points; expected two: x1,y1,x2,y2"
            )
        if math.dist(*points) < 1:
            raise InputError(
                f"line {shown(self.name)} has no length; expected two points in pixels"
            )
        object.__setattr__(self, "ends", points)


def parse_zones(zones: Sequence[str], lines: Sequence[str] = ()) -> list[Zone | Line]:
    """Read zones and lines as they stand on a command line.

    Args:
        zones: ``[name=]x,y,x,y,x,y,...``, corners in pixels.
        lines: ``[name=]x,y,x,y``, start and end in pixels.

    Raises:
        InputError: for what is none of both, and for a name given twice.
    """
    found: list[Zone | Line] = []
    kinds: tuple[tuple[str, Sequence[str], type[Zone] | type[Line]], ...] = (
        ("zone", zones, Zone),
        ("line", lines, Line),
    )
    for kind, words, made in kinds:
        for number, text in enumerate(words, 1):
            name, equals, numbers = text.rpartition("=")
            name = name.strip() if equals else f"{kind}-{number}"
            found.append(made(name, _numbers(kind, text, numbers)))
    return _named_once(found)


def _numbers(kind: str, text: str, numbers: str) -> tuple[tuple[float, float], ...]:
    example = "door=100,50,200,50,200,150" if kind == "zone" else "gate=0,200,640,200"
    try:
        values = [float(part) for part in numbers.replace(" ", ",").split(",") if part.strip()]
    except ValueError:
        values = []
    if not values:
        raise InputError(f"--{kind} {shown(text)}: expected NAME=x,y,x,y,... as {example}")
    if len(values) % 2:
        raise InputError(
            f"--{kind} {shown(text)} has {len(values)} numbers; expected pairs of x and y, as "
            f"{example}"
        )
    return tuple(zip(values[::2], values[1::2], strict=True))


def _named_once(areas: Sequence[Zone | Line]) -> list[Zone | Line]:
    names: set[str] = set()
    for area in areas:
        if area.name in names:
            raise InputError(
                f"there are two zones or lines called {shown(area.name)}; give each its own name"
            )
        names.add(area.name)
    return list(areas)


def _points(name: str, kind: str, points: ArrayLike) -> tuple[tuple[float, float], ...]:
    if not name.strip():
        raise InputError(f"a {kind} has an empty name; expected NAME=x,y,x,y,...")
    array = np.asarray(points, np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise InputError(f"{kind} {shown(name)}: expected points (x, y) of finite numbers")
    return tuple((float(x), float(y)) for x, y in array)


def _spot(point: tuple[float, float]) -> str:
    return f"{point[0]:g},{point[1]:g}"


@dataclass
class _Follow:
    """One object at one zone or line.

    Attributes:
        side: where it was last for sure: inside or not, left of a line or not; None before.
        run: frames in a row on the other side.
        since, since_s: of a zone: the frame from which on it is inside, or may be.
        last_s: when it was last seen inside.
        outside: whether it was ever seen outside.
        name, class_name: words for people.
    """

    side: bool | None = None
    run: int = 0
    since: int = 0
    since_s: float = 0.0
    last_s: float = 0.0
    outside: bool = False
    name: str = ""
    class_name: str = ""


@dataclass
class _Watch:
    """One zone or line with what it has counted."""

    area: Zone | Line
    counts: ZoneCounts
    followed: dict[int, _Follow] = field(default_factory=dict)


class ZoneCounter:
    """Counts who enters and leaves zones, and who crosses lines.

    What it holds grows with the objects that are followed now, not with the stream.

    Args:
        areas: zones and lines, names all different.
        anchor: which point of an object's box is the object: a key of ``ANCHORS``; with
            ``corners`` the whole box must be on a side.
        settle: frames in a row on the other side until that counts; more than 1 for boxes that
            tremble.

    Raises:
        InputError: for names given twice, or settings that are not known.
    """

    def __init__(
        self, areas: Sequence[Zone | Line], *, anchor: str = "bottom", settle: int = 1
    ) -> None:
        if anchor not in ANCHORS:
            raise InputError(
                f"anchor is {shown(anchor)}; expected one of {', '.join(ANCHORS)}"
                f"{nearest(anchor, list(ANCHORS))}"
            )
        if settle < 1:
            raise InputError(f"settle is {settle}; expected 1 frame or more")
        self._areas, self._settle = _named_once(areas), settle
        self._anchors = np.array(ANCHORS[anchor])
        self.reset()

    def reset(self) -> None:
        """Forget everything; equal to a new counter."""
        self._watches = [
            _Watch(
                area, ZoneCounts(area.name, area.corners if isinstance(area, Zone) else area.ends)
            )
            for area in self._areas
        ]

    @property
    def zones(self) -> tuple[ZoneCounts, ...]:
        """Counts so far, zones first as they were given."""
        return tuple(watch.counts for watch in self._watches)

    def check_size(self, width: int, height: int) -> None:
        """Make sure that all is in the picture.

        Args:
            width: of the picture, pixels.
            height: of the picture, pixels.

        Raises:
            InputError: for a zone or line with a point outside.
        """
        for counts in self.zones:
            for x, y in counts.points:
                if not (0 <= x <= width and 0 <= y <= height):
                    kind = "line" if counts.is_line else "zone"
                    raise InputError(
                        f"{kind} {shown(counts.name)} has the point {_spot((x, y))} outside the "
                        f"frame, {width}x{height} pixels; expected x from 0 to {width} and y from "
                        f"0 to {height}"
                    )

    def step(self, result: Any) -> Any:
        """Look at the result of the next frame.

        Args:
            result: a ``TrackingResult`` or ``MotsResult``.

        Returns:
            The same with what happened at zones and lines among its events, and with the counts.
        """
        seen = [each for each in result.objects if each.present]
        boxes = np.array([each.box for each in seen], np.float64).reshape(-1, 4)
        extent = boxes[:, None, 2:] - boxes[:, None, :2]
        anchors = boxes[:, None, :2] + self._anchors * extent  # (n, anchors, 2)
        followed = {each.object_id for each in result.objects}
        events: list[Event] = []
        for watch in self._watches:
            events += _ended(watch, followed, result)
            look = _look_at_zone if isinstance(watch.area, Zone) else _look_at_line
            events += look(watch, seen, anchors, self._settle, result)
        return replace(result, events=(*result.events, *events), zones=self.zones)

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers, JSON-ready."""
        return {
            watch.area.name: {
                "counts": asdict(watch.counts),
                "followed": {str(key): asdict(one) for key, one in watch.followed.items()},
            }
            for watch in self._watches
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken.

        Raises:
            ModelError: for the state of other zones and lines.
        """
        made = []
        try:
            for watch in self._watches:
                told = state[watch.area.name]
                counts = dict(told["counts"])
                counts["points"] = tuple((float(x), float(y)) for x, y in counts["points"])
                counts["visits"] = tuple(ZoneVisit(**visit) for visit in counts["visits"])
                followed = {int(key): _Follow(**one) for key, one in told["followed"].items()}
                made.append(_Watch(watch.area, ZoneCounts(**counts), followed))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                "the counts of zones and lines in the snapshot are damaged, or of others; start "
                "anew with --overwrite"
            ) from error
        if any(
            one.counts.points != other.counts.points
            for one, other in zip(made, self._watches, strict=True)
        ):
            raise ModelError("the snapshot is of zones or lines elsewhere; give those of the run")
        self._watches = made


def _look_at_zone(
    watch: _Watch,
    seen: Sequence[ShownObject],
    anchors: NDArray[np.float64],
    settle: int,
    result: Any,
) -> list[Event]:
    events: list[Event] = []
    flat = points_covered(anchors.reshape(-1, 2), watch.counts.points)
    for each, sides in zip(seen, flat.reshape(anchors.shape[:2]), strict=True):
        inside = bool(sides.all())
        one = watch.followed.setdefault(each.object_id, _Follow(side=False))
        one.name, one.class_name = each.name, getattr(each, "class_name", "")
        if inside != one.side:
            one.run += 1
            if inside and one.run == 1:
                one.since, one.since_s = result.frame_index, result.time_s
        else:
            one.run = 0
        if inside:
            one.last_s = result.time_s
        if one.run >= settle:
            one.side, one.run = inside, 0
            events.append(_turned(watch, each.object_id, one, result))
        # Only now: what was first seen inside has not been seen to come in.
        one.outside = one.outside or not inside
    _show_visits(watch)
    return events


def _turned(watch: _Watch, key: int, one: _Follow, result: Any, *, seen: bool = True) -> Event:
    """Count an entry, or the end of a visit."""
    kind, dwell = ("entered", None) if one.side else ("left", one.last_s - one.since_s)
    counts = _more(watch.counts, kind, one.class_name)
    if dwell is not None:
        counts = replace(
            counts, dwell_s=counts.dwell_s + dwell, longest_s=max(counts.longest_s, dwell)
        )
    watch.counts = counts
    return ZoneEvent(
        kind, key, result.frame_index, result.time_s, one.name, watch.area.name, one.class_name,
        dwell_s=dwell, seen=seen and (one.outside or kind == "left"),
    )  # fmt: skip


def _show_visits(watch: _Watch) -> None:
    visits = tuple(
        ZoneVisit(key, one.name, one.class_name, one.since, one.since_s, one.last_s)
        for key, one in sorted(watch.followed.items(), key=lambda pair: (pair[1].since, pair[0]))
        if one.side
    )
    longest = max((visit.last_s - visit.time_s for visit in visits), default=0.0)
    counts = watch.counts
    watch.counts = replace(
        counts, visits=visits, most=max(counts.most, len(visits)),
        longest_s=max(counts.longest_s, longest),
    )  # fmt: skip


def _look_at_line(
    watch: _Watch,
    seen: Sequence[ShownObject],
    anchors: NDArray[np.float64],
    settle: int,
    result: Any,
) -> list[Event]:
    start, end = np.array(watch.counts.points)
    along = end - start
    away = anchors - start  # (n, anchors, 2)
    share = away @ along / (along @ along)
    between = ((share >= 0) & (share <= 1)).all(axis=1)
    left = along[0] * away[..., 1] - along[1] * away[..., 0] < 0  # y points down
    events: list[Event] = []
    for each, within, sides in zip(seen, between.tolist(), left, strict=True):
        if not within or sides.any() != sides.all():
            continue  # beside the line, or on both sides of it
        side = bool(sides.all())
        one = watch.followed.setdefault(each.object_id, _Follow(side=side))
        one.name, one.class_name = each.name, getattr(each, "class_name", "")
        one.run = one.run + 1 if side != one.side else 0
        if one.run >= settle:
            one.side, one.run = side, 0
            direction = "in" if side else "out"
            watch.counts = _more(watch.counts, direction, one.class_name)
            now = result.frame_index, result.time_s
            named = one.name, watch.area.name, one.class_name
            events.append(ZoneEvent("crossed", each.object_id, *now, *named, direction))
    return events


def _ended(watch: _Watch, followed: set[int], result: Any) -> list[Event]:
    """Forget objects that are followed no more; visits of theirs end where they were last seen."""
    events: list[Event] = []
    for key in [key for key in watch.followed if key not in followed]:
        one = watch.followed.pop(key)
        if isinstance(watch.area, Zone) and one.side:
            one.side = False
            events.append(_turned(watch, key, one, result, seen=False))
    return events


def _more(counts: ZoneCounts, kind: str, class_name: str) -> ZoneCounts:
    classes = dict(counts.counts.get(kind, {}))
    classes[class_name] = classes.get(class_name, 0) + 1
    return replace(counts, counts={**counts.counts, kind: classes})


class ZonedSession:
    """A session whose results go past zones and lines; its snapshots hold their counts too.

    Args:
        session: has ``step``, ``usage`` and ``snapshot``.
        counter: of the zones and lines.
    """

    def __init__(self, session: Any, counter: ZoneCounter) -> None:
        self._session, self._counter = session, counter

    @property
    def zones(self) -> tuple[ZoneCounts, ...]:
        """Counts so far."""
        return self._counter.zones

    def step(self, frame: Frame) -> Any:
        """Look at the next frame."""
        return self._counter.step(self._session.step(frame))

    def usage(self) -> MemoryUsage:
        """What the session holds; zones and lines keep some numbers an object."""
        usage: MemoryUsage = self._session.usage()
        return usage

    def snapshot(self, path: str | Path) -> None:
        """Write the session's state, and that of the zones beside it."""
        self._session.snapshot(path)
        content = json.dumps(self._counter.state_dict()).encode()
        write_file(Path(path).with_name(_FILE), content)

    def resume(self, path: str | Path) -> None:
        """Take the counts up again from beside a snapshot of the session.

        Raises:
            ModelError: when they are missing, damaged, or of other zones.
        """
        place = Path(path).with_name(_FILE)
        try:
            state = read_json(place, nan=True)
        except (OSError, InputError) as error:
            raise ModelError(
                f"{place} is missing or damaged; start anew with --overwrite"
            ) from error
        self._counter.load_state_dict(state if isinstance(state, dict) else {})
