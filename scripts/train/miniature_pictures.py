"""What the miniature's vision tower is taught from: pictures, and what each token of them shows.

``make_scene`` gives a grid of its own, full of objects; ``shown_in`` says what is where in any
grid. Everything follows from numbers drawn by chance; no network is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.synthetic.qa_streams import (
    BACKGROUNDS,
    CARD,
    COLOURS,
    MOTIONS,
    OBJECTS,
    PLACES,
    SHAPES,
    STILL,
    GeneratedStream,
    ObjectVisit,
    StreamSettings,
    middle_of,
    room_of,
)

WIDTH, HEIGHT = 224, 168
CELL = 28  # pixels a token
UNKNOWN = -1
BOTH, FIRST, SECOND, NOTHING = range(4)

PARTS: Mapping[str, tuple[str, ...]] = {
    "kind": (*SHAPES, *OBJECTS, CARD, *BACKGROUNDS),
    "mark": (*COLOURS, *(str(digit) for digit in range(10))),
    "motion": tuple(MOTIONS),
    "frames": ("both", "first", "second", "none"),
    "ground": tuple(BACKGROUNDS),
    "middle": ("no", "yes"),
}
"""What is said of a token, part by part: what is there, its colour or digit, how it moves, in which
of the two frames it is, the background, and whether the middle of an object lies in it."""

_CARDS, _CUTOUTS = 0.3, 0.2  # of all objects
_MOVING, _HALF, _SINGLE, _CUT, _PACKED = 0.4, 0.25, 0.25, 0.08, 0.5
_MOST = 6
_HALF_SIZE = 17  # pixels from an object's middle to its rim, about
SEEN, _TOUCHED = 8, 0  # pixels of overlap from which on a token shows an object


@dataclass
class Scene:
    """A grid and what it shows.

    Attributes:
        images: ``(2, H, W, 3)`` uint8 RGB.
        shown: ``(tokens, len(PARTS))`` numbers in the parts, ``UNKNOWN`` where in doubt.
    """

    images: NDArray[np.uint8]
    shown: NDArray[np.int64]


def make_scene(rng: np.random.Generator) -> Scene:
    """A grid with up to six objects: still, moving, coming or going between its two frames.

    Args:
        rng: decides everything.
    """
    noise = float(rng.uniform(0, 4))
    settings = StreamSettings(seed=int(rng.integers(2**31)), seconds=8, noise=noise)
    stream = GeneratedStream(settings)
    first = float(rng.integers(1, 64))  # the camera sways with time
    scenes = [(0.0, str(rng.choice(list(BACKGROUNDS))))]
    if rng.random() < _CUT:
        scenes.append((first + 0.5, str(rng.choice(list(BACKGROUNDS)))))
    stream.scenes = tuple(scenes)
    visits: list[ObjectVisit] = []
    for _ in range(int(rng.integers(1, _MOST + 1))):
        visits += _visit(rng, first, visits)
    stream.visits = tuple(visits)
    times = [first, first if rng.random() < _SINGLE else first + 1]
    quality = int(rng.integers(60, 96)) if rng.random() < _PACKED else None
    images = [_packed(stream.picture(t), quality) for t in times]
    return Scene(np.stack(images), shown_in(stream, times))


def _visit(
    rng: np.random.Generator, first: float, others: Sequence[ObjectVisit]
) -> list[ObjectVisit]:
    lot = rng.random()
    if lot < _CARDS:
        kind, mark = CARD, str(rng.integers(10))
    elif lot < _CARDS + _CUTOUTS:
        kind, mark = str(rng.choice(OBJECTS)), ""
    else:
        kind, mark = str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS)))
    motion, half = STILL, bool(rng.random() < _HALF)
    if rng.random() < _MOVING:
        motion = str(rng.choice([name for name in MOTIONS if name != STILL]))
        since = float(rng.choice([-0.5, 3.5] if half else [0.5, 1.5, 1.5, 2.5]))
        start, end = first - since, first - since + 4
    else:
        start, end = first - 8, first + 8
        if half:
            start, end = (start, first + 0.5) if rng.random() < 0.5 else (first + 0.5, end)
    blocked = {place for visit in others for place in room_of(visit.place, visit.motion)}
    places = [place for place in PLACES if not blocked & room_of(place, motion)]
    return [ObjectVisit(kind, mark, str(rng.choice(places)), motion, start, end)] if places else []


def _packed(image: NDArray[np.uint8], quality: int | None) -> NDArray[np.uint8]:
    if quality is None:
        return image
    code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)


def overlap(
    visit: ObjectVisit, time_s: float, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Pixels by which tokens and an object overlap, on the axis on which they do so less.

    Args:
        visit: the object, in a picture of 224 x 168.
        time_s: within its stay.
        rows: of the tokens.
        columns: of the tokens.
    """
    x, y = middle_of(visit, time_s, WIDTH, HEIGHT)
    across, down = abs(CELL * (columns + 0.5) - x), abs(CELL * (rows + 0.5) - y)
    return CELL / 2 + _HALF_SIZE - np.maximum(across, down)


def shown_in(stream: GeneratedStream, times: Sequence[float]) -> NDArray[np.int64]:
    """What each token of a grid shows: ``(tokens, len(PARTS))``, ``UNKNOWN`` where in doubt.

    In doubt are the rims of objects, places where one object follows another, and how something
    moves that is in one frame only.

    Args:
        stream: with its objects.
        times: of the grid's frames, one or two.
    """
    width, height = WIDTH, HEIGHT
    rows, columns = np.mgrid[: height // CELL, : width // CELL]
    frames = sorted(set(times))
    grounds = [PARTS["ground"].index(stream.scene_at(t)) for t in frames]
    ground = grounds[0] if len(set(grounds)) == 1 else UNKNOWN
    kind = len(PARTS["kind"]) - len(BACKGROUNDS) + ground if ground != UNKNOWN else UNKNOWN
    names = list(PARTS)
    shown = np.full((*rows.shape, len(names)), UNKNOWN, np.int64)
    for name, value in (("kind", kind), ("ground", ground), ("frames", NOTHING), ("middle", 0)):
        shown[..., names.index(name)] = value
    owners = np.zeros(rows.shape, int)
    visits = {id(visit): visit for t in frames for visit in stream.seen_at(t)}
    for visit in visits.values():
        there = [visit.seen_at(t) for t in frames]
        spots = [middle_of(visit, t, width, height) for t in frames if visit.seen_at(t)]
        common = np.max([overlap(visit, t, rows, columns) for t in frames if visit.seen_at(t)], 0)
        when = BOTH if all(there) else FIRST if there[0] else SECOND
        moves = list(MOTIONS).index(visit.motion) if len(spots) == 2 else UNKNOWN
        mark = PARTS["mark"].index(visit.mark) if visit.mark else UNKNOWN
        said = (PARTS["kind"].index(visit.kind), mark, moves, when, ground, 0)
        inside, touched = common >= SEEN, common > _TOUCHED
        shown[touched & ~inside, : names.index("ground")] = UNKNOWN
        shown[inside] = np.where((owners[inside] > 0)[:, None], UNKNOWN, said)
        shown[inside, names.index("ground")] = ground
        owners += inside
        x, y = np.mean(spots, axis=0) - 1e-6  # of four tokens around it, the upper left one
        shown[int(y // CELL), int(x // CELL), names.index("middle")] = 1
    return shown.reshape(-1, len(names))
