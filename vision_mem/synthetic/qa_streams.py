"""Generated streams with questions about them: objects come and go, and everything is known.

Coloured shapes, objects cut out of photographs and cards with a digit appear at nine places in
front of a photograph, stay or move, and disappear; now and then the background changes. Changes
happen on the *beat*, a moment that comes every few seconds, half-way between two whole seconds; so
frames at whole seconds are never in doubt. Nothing is downloaded, frames are rendered when asked
for, and a seed always gives the same stream. ``vision_mem.synthetic.qa_questions`` asks about it,
``vision_mem.synthetic.qa_sets`` writes it as a benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.synthetic.clips import Actor, ActorPose, film_background, paste, view_of
from vision_mem.types import Frame, SourceInfo

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (225, 30, 30), "green": (30, 190, 50), "blue": (40, 70, 235),
    "yellow": (240, 225, 30), "purple": (170, 40, 200), "orange": (250, 140, 20),
    "white": (250, 250, 250), "black": (8, 8, 8),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
OBJECTS = ("cat", "cup", "motorcycle", "helmet", "astronaut")
CARD = "card"
PLACES = (
    "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom",
    "bottom right",
)  # fmt: skip
STILL = "staying where it is"
MOTIONS: Mapping[str, tuple[int, int]] = {
    STILL: (0, 0), "moving left": (-1, 0), "moving right": (1, 0), "moving up": (0, -1),
    "moving down": (0, 1),
}  # fmt: skip
"""What an object does, and its direction across and down."""
BACKGROUNDS: Mapping[str, str] = {
    "grass": "grass", "gravel": "gravel", "bricks": "brick", "launch pad": "rocket",
}  # fmt: skip
"""Photographs by what questions call them."""
_SIZE = 0.62  # of an object, share of its place
_REACH = 0.45  # how far from the middle a moving object gets, share of its place
_ARRIVALS = (0, 1, 1, 1, 2)  # on a beat
_CONTRAST, _GREY = 0.45, 62.0  # of backgrounds, so that all colours stand out


@dataclass(frozen=True)
class StreamSettings:
    """What a stream is made of.

    Attributes:
        seed: same settings and seed, same stream.
        seconds: length, a whole number.
        beat_s: seconds between moments at which things change, a whole number of at least 3.
        objects: at most so many at a time, 1 to 5.
        longest: beats that an object stays, at most.
        scene_beats: beats after which the background changes, on the average; 0: never.
        cutouts, cards: whether there are such objects.
        moving: chance that an object is asked to move while it stays.
        returning: chance that what comes was seen before.
        width, height: pixels, even.
        fps: frames a second of the whole stream.
        noise: standard deviation in grey levels.
    """

    seed: int = 0
    seconds: int = 64
    beat_s: int = 4
    objects: int = 3
    longest: int = 3
    scene_beats: int = 6
    cutouts: bool = True
    cards: bool = True
    moving: float = 0.35
    returning: float = 0.35
    width: int = 224
    height: int = 168
    fps: float = 4.0
    noise: float = 2.0

    def __post_init__(self) -> None:
        good = self.beat_s >= 3 and self.seconds >= 2 * self.beat_s and 1 <= self.objects <= 5
        if not good or self.longest < 1 or self.scene_beats < 0 or not self.fps > 0:
            raise InputError(
                f"a stream of {self.seconds} s with a beat of {self.beat_s} s and {self.objects} "
                "objects cannot be made; expected a beat of 3 s or more, two beats or more, 1 to "
                "5 objects, longest=1 or more, fps above 0"
            )
        if self.width < 56 or self.height < 56 or self.width % 2 or self.height % 2:
            raise InputError(
                f"a stream of {self.width}x{self.height} cannot be made; expected even sides of "
                "56 or more"
            )


@dataclass(frozen=True)
class ObjectVisit:
    """One stay of one object.

    Attributes:
        kind: a shape, an object, or ``card``.
        mark: colour of a shape, digit of a card; empty for an object.
        place: one of ``PLACES``: where it is in the middle of its stay.
        motion: one of ``MOTIONS``.
        start_s, end_s: it is seen from the one to the other.
    """

    kind: str
    mark: str
    place: str
    motion: str
    start_s: float
    end_s: float

    @property
    def name(self) -> str:
        """What it is called: ``red circle``, ``cat``, ``card with a 7``."""
        if self.kind == CARD:
            return f"card with a {self.mark}"
        return f"{self.mark} {self.kind}".strip()

    def seen_at(self, time_s: float) -> bool:
        """Whether it is there."""
        return self.start_s <= time_s < self.end_s


class GeneratedStream:
    """A stream of a few minutes: what happens is made at once, pictures when they are asked for.

    Attributes:
        settings: what it is made of.
        name: fit for a file name.
        visits: in the order of their beginnings.
        scenes: when each background begins, and its name.
    """

    def __init__(self, settings: StreamSettings | None = None, name: str | None = None) -> None:
        self.settings = settings or StreamSettings()
        self.name = name or f"stream-{self.settings.seed}"
        random = np.random.default_rng(self.settings.seed)
        self.scenes = _scenes(self.settings, random)
        self.visits = _visits(self.settings, random)

    @property
    def info(self) -> SourceInfo:
        """Name, size, rate and length."""
        s = self.settings
        return SourceInfo(self.name, s.width, s.height, s.fps, len(self))

    def __len__(self) -> int:
        return round(self.settings.seconds * self.settings.fps)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, fps: float | None = None, until_s: float | None = None) -> Iterator[Frame]:
        """Frames in order, at a rate of their own.

        Args:
            fps: frames a second; that of the stream when left out.
            until_s: time of the last one, inclusive; the end when left out.
        """
        rate = self.settings.fps if fps is None else fps
        for index in range(math.ceil(self.settings.seconds * rate)):
            time_s = index / rate
            if until_s is not None and time_s > until_s:
                return
            yield Frame(index, time_s, self.picture(time_s))

    def seen_at(self, time_s: float) -> list[ObjectVisit]:
        """What is to be seen at a time."""
        return [visit for visit in self.visits if visit.seen_at(time_s)]

    def scene_at(self, time_s: float) -> str:
        """The background at a time."""
        return [name for start, name in self.scenes if start <= time_s][-1]

    def is_quiet(self, time_s: float) -> bool:
        """Whether nothing has changed for 1.5 s: frames at this second and the one before agree."""
        since = (time_s - 0.5) % self.settings.beat_s
        return since >= 1.5 or time_s < 0.5

    def picture(self, time_s: float) -> NDArray[np.uint8]:
        """The frame at a time, ``(H, W, 3)`` uint8 RGB."""
        s = self.settings
        size = (s.height, s.width)
        pan = 0.04 * s.width * math.sin(time_s / 7)
        ground = film_background(
            BACKGROUNDS[self.scene_at(time_s)], size, view_of(pan, 0.0, 1.0, size)
        )
        image = ground * np.float32(_CONTRAST) + np.float32(_GREY)
        for visit in self.seen_at(time_s):
            _draw(image, visit, time_s)
        if s.noise > 0:
            random = np.random.default_rng((s.seed, round(time_s * 1000)))
            image += random.normal(0, s.noise, size)[..., None].astype(np.float32)
        picture: NDArray[np.uint8] = np.clip(image, 0, 255).astype(np.uint8)
        return picture


def _beats(settings: StreamSettings) -> list[float]:
    """The moments at which something may change, the beginning first."""
    count = math.ceil((settings.seconds - 0.5) / settings.beat_s)
    return [0.0, *(number * settings.beat_s + 0.5 for number in range(1, count))]


def _scenes(settings: StreamSettings, random: np.random.Generator) -> tuple[tuple[float, str], ...]:
    found = [(0.0, str(random.choice(list(BACKGROUNDS))))]
    for beat in _beats(settings)[1:]:
        if settings.scene_beats and random.random() < 1 / settings.scene_beats:
            others = [name for name in BACKGROUNDS if name != found[-1][1]]
            found.append((beat, str(random.choice(others))))
    return tuple(found)


def _visits(settings: StreamSettings, random: np.random.Generator) -> tuple[ObjectVisit, ...]:
    found: list[ObjectVisit] = []
    beats = _beats(settings)
    for number, beat in enumerate(beats):
        here = [visit for visit in found if visit.seen_at(beat)]
        wanted = int(random.choice(_ARRIVALS))
        for _ in range(min(wanted, settings.objects - len(here))):
            # What moves does so for one beat: it has only so much room.
            moves = bool(random.random() < settings.moving) and number > 0
            stay = 1 if moves else int(random.integers(1, settings.longest + 1))
            end = beats[number + stay] if number + stay < len(beats) else settings.seconds + 1.0
            moves = moves and end <= settings.seconds
            visit = _new(settings, found, here, (beat, end), random, moves=moves)
            if visit is not None:
                found.append(visit)
                here.append(visit)
    return tuple(found)


def _new(
    settings: StreamSettings,
    before: list[ObjectVisit],
    here: list[ObjectVisit],
    span: tuple[float, float],
    random: np.random.Generator,
    *,
    moves: bool,
) -> ObjectVisit | None:
    """An object of a kind that is not there, where nothing is in its way; None where none fits."""
    # Nothing comes back on the very beat at which it left: that would be no change to be seen.
    start, end = span
    taken = {v.kind for v in before if v.end_s >= start}
    known = [v for v in before if v.kind not in taken]
    if known and random.random() < settings.returning:
        model = known[int(random.integers(len(known)))]
        kind, mark = model.kind, model.mark
    else:
        kinds = [*SHAPES, *(OBJECTS if settings.cutouts else ()), *([CARD] * settings.cards)]
        free = [kind for kind in kinds if kind not in taken]
        if not free:
            return None
        kind = str(random.choice(free))
        mark = str(random.choice(list(COLOURS))) if kind in SHAPES else ""
        mark = str(random.integers(10)) if kind == CARD else mark
    motion = str(random.choice([name for name in MOTIONS if name != STILL])) if moves else STILL
    blocked = {place for visit in here for place in room_of(visit.place, visit.motion)}
    places = [place for place in PLACES if not blocked & room_of(place, motion)]
    if not places:
        return None
    return ObjectVisit(kind, mark, str(random.choice(places)), motion, start, end)


def room_of(place: str, motion: str) -> set[str]:
    """The places that an object may touch: its own, or its row or column when it moves."""
    across, down = MOTIONS[motion]
    row, column = divmod(PLACES.index(place), 3)
    if across:
        return set(PLACES[3 * row : 3 * row + 3])
    if down:
        return set(PLACES[column::3])
    return {place}


def middle_of(visit: ObjectVisit, time_s: float, width: int, height: int) -> tuple[float, float]:
    """Where the middle of an object is at a time within its stay, ``(x, y)`` in pixels."""
    row, column = divmod(PLACES.index(visit.place), 3)
    across, down = MOTIONS[visit.motion]
    # From -1 at the beginning of the stay to 1 at its end.
    progress = 2 * (time_s - visit.start_s) / (visit.end_s - visit.start_s) - 1
    x = width * (2 * column + 1 + 2 * _REACH * progress * across) / 6
    y = height * (2 * row + 1 + 2 * _REACH * progress * down) / 6
    return x, y


def _draw(image: NDArray[np.float32], visit: ObjectVisit, time_s: float) -> None:
    height, width = image.shape[:2]
    x, y = middle_of(visit, time_s, width, height)
    size = _SIZE * min(width, height) / 3
    if visit.kind in OBJECTS:
        pose = ActorPose(x, y, size * 1.2)
        paste(image, Actor(visit.kind, lambda t: pose), 0, view_of(0, 0, 1, (height, width)))
    elif visit.kind == CARD:
        _draw_card(image, visit.mark, x, y, size)
    else:
        _draw_shape(image, visit.kind, COLOURS[visit.mark], x, y, size / 2)


_ROUND = [(np.cos(turn), np.sin(turn)) for turn in np.arange(48) * 2 * np.pi / 48]
_REACHES = [(0.42 if k % 2 else 1.1, k * np.pi / 5) for k in range(10)]
_A = 0.34
_OUTLINES: Mapping[str, list[tuple[float, float]]] = {
    "circle": _ROUND,
    "ring": _ROUND,
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "triangle": [(0, -1), (0.95, 0.8), (-0.95, 0.8)],
    "star": [(reach * np.sin(turn), -reach * np.cos(turn)) for reach, turn in _REACHES],
    "cross": [(-_A, -1), (_A, -1), (_A, -_A), (1, -_A), (1, _A), (_A, _A), (_A, 1), (-_A, 1),
              (-_A, _A), (-1, _A), (-1, -_A), (-_A, -_A)],
}  # fmt: skip


def _draw_shape(
    image: NDArray[np.float32], kind: str, colour: tuple[int, int, int], x: float, y: float,
    radius: float,
) -> None:  # fmt: skip
    outline = np.array(_OUTLINES[kind])
    parts = [_pixels(outline, x, y, radius)]
    if kind == "ring":
        parts.append(_pixels(outline, x, y, 0.55 * radius))
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, parts, 255, cv2.LINE_AA, _SUBPIXEL)
    alpha = mask[..., None].astype(np.float32) / 255
    image += alpha * (np.array(colour, np.float32) - image)


_SUBPIXEL = 4  # bits


def _pixels(outline: NDArray[np.float64], x: float, y: float, radius: float) -> NDArray[np.int32]:
    return np.round((outline * radius + [x, y]) * (1 << _SUBPIXEL)).astype(np.int32)


def _draw_card(image: NDArray[np.float32], digit: str, x: float, y: float, size: float) -> None:
    half = size / 2
    box = np.array([(-1, -1.15), (1, -1.15), (1, 1.15), (-1, 1.15)])
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [_pixels(box, x, y, half)], 255, cv2.LINE_AA, _SUBPIXEL)
    ink = np.zeros(image.shape[:2], np.uint8)
    scale, thick = size / 26, max(1, round(size / 12))
    (wide, high), _ = cv2.getTextSize(digit, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    corner = (round(x - wide / 2), round(y + high / 2))
    cv2.putText(ink, digit, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick, cv2.LINE_AA)
    for layer, grey in ((mask, 245.0), (ink, 10.0)):
        image += layer[..., None].astype(np.float32) / 255 * (np.float32(grey) - image)
