"""What a map is told of frames with poses: points, things with names, and which way is up."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import json_rows
from vision_mem.geometry.camera import RgbdFrame
from vision_mem.geometry.poses import inverse, is_rigid, transform
from vision_mem.navigation.backprojection import cloud, lift, lift_pixel
from vision_mem.navigation.gravity import find_up, levelled, turned
from vision_mem.navigation.journal import Key
from vision_mem.navigation.records import Observation, Sighting
from vision_mem.navigation.session import NavigationSession
from vision_mem.navigation.storage import BROKEN
from vision_mem.sources.posed import PosedSource
from vision_mem.sources.posed_jsonl import PosedRow
from vision_mem.text import parse_json, short
from vision_mem.types import Detections, Frame

if TYPE_CHECKING:
    from vision_mem.models.detectors import Detector
    from vision_mem.models.vlm.word_search import WordEmbedder
    from vision_mem.reconstruction import ReconstructionSession

_ENOUGH = 20_000
"""Points a frame, about, when nobody says how many: closer together than leaves in a room."""
_SAME_M = 0.05
_EXCERPT = 16
"""Frames of a recording from which it is told what is up."""


@dataclass(frozen=True)
class NamedThing:
    """A landmark that somebody points out.

    Attributes:
        name: what it is called.
        position: x, y, z in the map's frame, metres; None when it is pointed at in a frame.
        pixel: column and row.
        frame: of the pixel.
    """

    name: str
    position: tuple[float, float, float] | None = None
    pixel: tuple[float, float] | None = None
    frame: int = 0

    @property
    def track(self) -> str:
        """Its identity in the map: what has the same name is the same thing."""
        return f"hand:{self.name}"


def parse_thing(word: str) -> NamedThing:
    """Read ``NAME=x,y,z`` (metres) or ``NAME=u,v@FRAME`` (a pixel of a frame).

    Raises:
        InputError: for anything else.
    """
    name, equals, rest = word.rpartition("=")
    numbers, at, frame = rest.partition("@")
    try:
        values = [float(part) for part in numbers.split(",")]
        if equals and name.strip() and np.isfinite(values).all():
            if len(values) == 3 and not at:
                return NamedThing(name.strip(), position=(values[0], values[1], values[2]))
            if len(values) == 2 and at and 0 <= int(frame) < 1 << 53:
                return NamedThing(name.strip(), None, (values[0], values[1]), int(frame))
    except ValueError:
        pass
    raise InputError(
        f"--landmark {short(word)!r}: expected NAME=x,y,z in metres, or NAME=u,v@FRAME, a "
        "pixel of a frame"
    )


def read_things(path: Path) -> list[NamedThing]:
    """Read landmarks from JSON lines: ``name`` with ``position``, or with ``pixel`` and ``frame``.

    Raises:
        InputError: for a file that cannot be read or a line that says something else.
    """
    found = []
    for number, item in json_rows(path):
        try:
            spot = ",".join(str(float(v)) for v in item.get("position") or item["pixel"])
            frame = "" if item.get("position") else f"@{int(item['frame'])}"
            found.append(parse_thing(f"{item['name']}={spot}{frame}"))
        except BROKEN:
            raise InputError(
                f"{path}, line {number}: expected name with position [x, y, z], or with pixel "
                "[u, v] and frame"
            ) from None
    return found


@dataclass
class Observer:
    """Makes observations of rows: points, and things from detections, from the row, by hand.

    Args:
        name: of the recording.
        detector: finds things in pictures; None to look for none.
        things: pointed out by hand, and not yet seen.
        stride: pixels between points; None to choose.
        tracker: finds the poses that rows lack; None to leave such rows out.
        turn: rotation vector by which the recording's world is turned.
        drop: told of a thing pointed out at a pixel where nothing can be placed.
        embedder: of names and looks; None for no embeddings.
    """

    name: str
    detector: Detector | None
    things: list[NamedThing]
    stride: int | None
    tracker: ReconstructionSession | None
    turn: NDArray[np.float64]
    drop: Callable[[InputError], None]
    embedder: WordEmbedder | None = None
    _moving: NDArray[np.bool_] | None = field(default=None, init=False)

    def pose_of(self, row: PosedRow) -> NDArray[np.float64] | None:
        """Where the camera was, as recorded; or found, when somebody is to find it."""
        if self.tracker is None:
            return row.pose
        if row.depth is None or row.image is None or row.camera is None:
            raise InputError("a pose can only be found for a frame with colour and depth")
        result = self.tracker.step(
            RgbdFrame(row.index, row.time_s, row.image, row.depth, row.camera, row.pose)
        )
        self._moving = None if result.lost else result.dynamic | result.maybe
        return None if result.lost else result.pose

    def observe(self, row: PosedRow, shift_s: float) -> Observation:
        """What to remember of a frame.

        Raises:
            InputError: for a frame that cannot be used.
        """
        pose = self.pose_of(row)
        points, colours = row.points, None
        if points is None and row.depth is not None and row.camera is not None:
            stride = self.stride or max(1, round(math.sqrt(row.depth.size / _ENOUGH)))
            image = row.image
            shown = np.full((*row.depth.shape, 3), 160, np.uint8) if image is None else image
            points, colours = cloud(shown, row.depth, row.camera, stride, moving=self._moving)
            colours = None if image is None else colours
        seen = self._seen(row, pose)
        source = f"{self.name}#{row.index}"
        time_s, note = row.time_s + shift_s, _noted(self.turn)
        if pose is not None and is_rigid(pose):
            pose = turned(np.asarray(pose, np.float64), self.turn)
        # Refuses a pose that is missing before anything pointed out is used up.
        bare = Observation(time_s, pose, points, colours, sightings=seen, source=source, note=note)
        named = self._named(row, np.asarray(bare.pose, np.float64))
        if not named:
            return bare
        everything = [*(seen or []), *named]
        return replace(bare, sightings=everything)

    def _seen(self, row: PosedRow, pose: NDArray[np.float64] | None) -> list[Sighting] | None:
        found = (
            None if row.things is None else [self._given(each, row, pose) for each in row.things]
        )
        seen = None if found is None else [each for each in found if each is not None]
        if self.detector is None or row.image is None:
            return seen
        frame = Frame(row.index, row.time_s, row.image)
        detected = self.detector.detect(frame)
        if detected is None:
            return seen
        if row.depth is None or row.camera is None:
            raise InputError("detections need depth to be somewhere in space; the frame has none")
        vectors = None if self.embedder is None else self.embedder.of_things(frame, detected)
        return [*(seen or []), *lift(detected, row.depth, row.camera, vectors)]

    def _given(
        self, thing: Any, row: PosedRow, pose: NDArray[np.float64] | None
    ) -> Sighting | None:
        label, score = str(thing.get("label", "")), float(thing.get("score", 1.0))
        looks, track = thing.get("embedding"), str(thing.get("track", ""))
        if thing.get("box") is not None:
            if row.depth is None or row.camera is None:
                raise InputError("a thing with a box needs depth and K on the same line")
            boxes = np.asarray(thing["box"], np.float32).reshape(1, -1)
            one = Detections(boxes, np.array([score]), names={0: label})
            lifted = lift(one, row.depth, row.camera, [looks])
            if not lifted:
                return None
            known = lifted[0]
            return Sighting(known.position, label, known.sigma, looks, score, track)
        where = thing.get("position")
        if where is None:
            if pose is None:
                raise InputError("a thing in the world's frame needs a pose on the same line")
            where = transform(inverse(pose), np.asarray(thing["world"], np.float64))
        return Sighting(where, label, thing.get("sigma", 0.05), looks, score, track)

    def _named(self, row: PosedRow, pose: NDArray[np.float64]) -> list[Sighting]:
        """What was pointed out in this frame, or anywhere."""
        found, rest = [], []
        for thing in self.things:
            if thing.pixel is not None and thing.frame != row.index:
                rest.append(thing)
                continue
            try:
                seen = sighting_of(thing, row, pose)
            except InputError as error:
                self.drop(error)
                continue
            vector = None if self.embedder is None else self.embedder.of_text(thing.name)
            found.append(seen if vector is None else replace(seen, embedding=vector))
        self.things = rest
        return found


def sighting_of(thing: NamedThing, row: PosedRow | None, pose: NDArray[np.float64]) -> Sighting:
    """A thing that was pointed out, in the frame of a camera; ``row`` is the frame with its pixel.

    Raises:
        InputError: when its pixel has no depth.
    """
    if thing.position is not None:
        local = transform(inverse(pose), np.array(thing.position))
        return Sighting(local, thing.name, 0.02, track=thing.track)
    assert thing.pixel is not None
    if row is None or row.depth is None or row.camera is None:
        raise InputError(f"landmark {thing.name!r}: frame {thing.frame} has no depth")
    u, v = thing.pixel
    try:
        spot = lift_pixel(row.depth, row.camera, u, v)
        if spot is None:
            raise InputError(
                f"no depth at pixel {u:g},{v:g} of frame {thing.frame}; point at another of it"
            )
    except InputError as error:
        raise InputError(f"landmark {thing.name!r}: {error}") from None
    return Sighting(spot, thing.name, 0.03, track=thing.track)


def not_known(session: NavigationSession, things: Sequence[NamedThing]) -> list[NamedThing]:
    """Things that the map does not have yet: a run that goes on gives them once more.

    Raises:
        InputError: for two of one name, or a name that the map has elsewhere.
    """
    names = [thing.name for thing in things]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"landmark {twice[0]!r} is pointed out twice; give each thing its name")
    known = {each.track: each for each in session.state.landmarks.by_id.values() if each.track}
    new = []
    for thing in things:
        old = known.get(thing.track)
        if old is None:
            new.append(thing)
        elif thing.position is not None:
            off = float(np.linalg.norm(old.position - thing.position))
            if off > _SAME_M:
                raise InputError(
                    f"landmark {thing.name!r} is in the map already, {off:.2f} m from there; "
                    f"forget it first (navigate forget --landmark {old.landmark_id}), or choose "
                    "another name"
                )
    return new


def put_by_hand(
    session: NavigationSession,
    feed: PosedSource,
    things: Sequence[NamedThing],
    turn: NDArray[np.float64],
    drop: Callable[[InputError], None],
) -> None:
    """Remember things pointed out after their frames were taken in, as if seen from here.

    Raises:
        InputError: when the map has no place yet.
    """
    current = session.state.topology.current
    if current is None:
        raise InputError("nothing can be named before a frame was taken in; check the poses")
    here = session.state.topology.places[current].pose
    seen = []
    for thing in things:
        if thing.position is not None:
            seen.append(sighting_of(thing, None, here))
            continue
        try:
            row = feed.at(thing.frame)
            if row.pose is None:
                raise InputError(f"landmark {thing.name!r}: frame {thing.frame} has no pose")
            there = sighting_of(thing, row, row.pose)
        except InputError as error:
            said = str(error).removeprefix(f"landmark {thing.name!r}: ")
            drop(InputError(f"landmark {thing.name!r}: {said}"))
            continue
        local = transform(inverse(here), transform(turned(row.pose, turn), there.position))
        seen.append(Sighting(local, thing.name, 0.03, track=thing.track))
    if seen:
        session.step(
            Observation(
                session.state.now_s, here, sightings=seen, source="by hand", note=_noted(turn)
            )
        )


def turn_of(session: NavigationSession) -> NDArray[np.float64]:
    """How recordings were turned that are in a map: a rotation vector ``(3,)``."""
    current = session.state.topology.current
    latest = [] if current is None else session.recall(Key("place", current), limit=1)
    try:
        turn = np.array(parse_json(latest[0].note, "")["turn"], np.float64)
    except BROKEN:
        return np.zeros(3)
    return turn if turn.shape == (3,) and np.isfinite(turn).all() else np.zeros(3)


def find_level(feed: PosedSource) -> tuple[str | None, NDArray[np.float64]]:
    """Which axis is up, and how to turn a recording so that it is exactly so.

    Level surfaces tell; where there are too few, the first camera is taken to be held upright and
    nothing is turned. Standard input cannot be read twice, and tells nothing.
    """
    rows = list(feed.excerpt(_EXCERPT))
    posed = [row for row in rows if row.pose is not None and is_rigid(row.pose)]
    if not posed:
        return None, np.zeros(3)
    up = find_up(
        (row.depth, row.camera, np.asarray(row.pose, np.float64))
        for row in posed
        if row.depth is not None and row.camera is not None
    )
    if up is not None:
        return levelled(up)
    return levelled(-np.asarray(posed[0].pose, np.float64)[:3, 1])[0], np.zeros(3)


def _noted(turn: NDArray[np.float64]) -> str:
    return json.dumps({"turn": turn.tolist()}) if turn.any() else ""
