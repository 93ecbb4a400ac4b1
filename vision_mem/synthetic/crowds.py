"""Generated clips of many objects with known masks and identities.

Objects of two classes come in from the sides, cross, hide each other and themselves behind
pillars, stop now and then, leave, and some come back as who they were. Nothing is downloaded:
photographs and cut-outs are those of ``synthetic.clips``. ``write_crowd`` makes a
benchmark in KITTI's layout of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.track_rows import TrackRecord
from vision_mem.geometry.masks import mask_to_box
from vision_mem.synthetic.clips import (
    Actor,
    ActorPose,
    Image,
    cutout,
    film_background,
    paste,
    pillar,
    view_of,
)
from vision_mem.types import SourceInfo

CROWD_CLASSES: Mapping[int, str] = {1: "car", 2: "pedestrian"}
"""Classes of KITTI MOTS; here things and living beings stand in for them."""

IGNORED = -1
"""What marks the region where nothing is counted in ``CrowdFrame.labels``."""

_LOOKS = {1: ("motorcycle", "helmet", "cup"), 2: ("astronaut", "cat", "shuttle")}
_HEIGHTS = {1: (0.16, 0.22), 2: (0.24, 0.34)}  # shares of the picture's height, for the far lane
_GROUNDS = ("gravel", "grass", "brick", "rocket")
_LEAST = 12  # pixels to be seen; less is no truth
_BYSTANDERS = 5
_SWAY = 0.07  # of a moving camera, share of the width


@dataclass(frozen=True)
class CrowdSettings:
    """What a clip is made of.

    Attributes:
        seed: same settings and seed, same clip.
        frames, width, height, fps: of the clip; pixels.
        objects: about how many are there at a time.
        moving: the camera pans and zooms; otherwise it stands still.
        returning: chance that who comes in is somebody who left before.
        stopping: chance of a stop on the way.
        pillars: in front of everything.
        ignored: a corner with small things that move and are not counted.
        quiet: frames at the beginning without any object.
        noise: standard deviation in grey levels.
    """

    seed: int = 0
    frames: int = 120
    width: int = 416
    height: int = 240
    fps: float = 10.0
    objects: int = 6
    moving: bool = False
    returning: float = 0.4
    stopping: float = 0.2
    pillars: int = 1
    ignored: bool = True
    quiet: int = 0
    noise: float = 2.0

    def __post_init__(self) -> None:
        if self.frames < 1 or self.width < 64 or self.height < 48 or self.objects < 0:
            raise InputError(
                f"a crowd of {self.objects} objects on {self.frames} frames of "
                f"{self.width}x{self.height} cannot be made; expected at least 1 frame of 64x48"
            )


@dataclass(frozen=True)
class _Visit:
    """One way through the picture: who, when, and where."""

    object_id: int
    class_id: int
    actor: Actor
    first: int
    last: int
    feet: float


@dataclass(frozen=True)
class CrowdFrame:
    """One frame with its truth.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        labels: ``(H, W)`` int32, the object to be seen at each pixel, from 1; 0 for none,
            ``IGNORED`` where nothing is counted.
        classes: class of each object to be seen.
        hidden: share of each object's outline in the picture that something covers, [0, 1).
        cut: objects that reach over the picture's edge.
    """

    image: Image
    labels: NDArray[np.int32]
    classes: Mapping[int, int]
    hidden: Mapping[int, float]
    cut: frozenset[int]

    def records(self) -> list[TrackRecord]:
        """The objects as records with masks and boxes, in the order of their ids."""
        masks = {object_id: self.labels == object_id for object_id in sorted(self.classes)}
        return [
            TrackRecord(object_id, self.classes[object_id], 1.0, mask_to_box(mask), mask)
            for object_id, mask in masks.items()
        ]


class CrowdClip:
    """Renders a crowd frame by frame; iterating twice gives the same frames."""

    def __init__(self, settings: CrowdSettings | None = None, name: str = "crowd") -> None:
        """Plan who comes when; nothing is rendered yet."""
        self.settings = settings or CrowdSettings()
        self.name = name
        random = np.random.default_rng(self.settings.seed)
        self._ground = _GROUNDS[int(random.integers(len(_GROUNDS)))]
        self._visits = _plan(self.settings, random)
        self._pillars = _pillars(self.settings, self._ground, random)
        self._bystanders = _bystanders(self.settings, random)

    @property
    def info(self) -> SourceInfo:
        """Name, size, rate and length."""
        s = self.settings
        return SourceInfo(self.name, s.width, s.height, s.fps, s.frames)

    @property
    def object_count(self) -> int:
        """Identities that are planned; a few may never be seen."""
        return max((visit.object_id for visit in self._visits), default=0)

    def __len__(self) -> int:
        return self.settings.frames

    def __iter__(self) -> Iterator[CrowdFrame]:
        return (self.render(t) for t in range(len(self)))

    def frames(self) -> Iterator[Image]:
        """Images alone, ``(H, W, 3)`` uint8 RGB."""
        return (rendered.image for rendered in self)

    def render(self, t: int) -> CrowdFrame:
        """Render frame ``t`` (0 <= t < number of frames)."""
        s = self.settings
        size = (s.height, s.width)
        view = view_of(*_camera(s, t), size)
        image = film_background(self._ground, size, view)
        for actor in self._bystanders:
            _draw(image, actor, t, view)
        labels = np.zeros(size, np.int32)
        if self._bystanders:
            labels[_corner(s, view)] = IGNORED
        outlines: dict[int, int] = {}
        classes, cut = {}, set()
        # Who stands further down is nearer.
        here = [visit for visit in self._visits if visit.first <= t < visit.last]
        for visit in sorted(here, key=lambda each: each.feet):
            window, solid = _draw(image, visit.actor, t, view)
            labels[window][solid] = visit.object_id
            outlines[visit.object_id] = int(solid.sum())
            classes[visit.object_id] = visit.class_id
            x1, y1, x2, y2 = mask_to_box(solid)
            top, left = window[0].start, window[1].start
            first, last = 0 in (left + x1, top + y1), (left + x2 == s.width, top + y2 == s.height)
            if x2 > 0 and (first or any(last)):
                cut.add(visit.object_id)
        for texture, x, width in self._pillars:
            left, right = pillar(image, texture, x, width, view)
            labels[:, left:right] = 0
        if s.noise > 0:
            grain = np.random.default_rng((s.seed, t)).normal(0, s.noise, size)
            image += grain[..., None].astype(np.float32)
        hidden = {}
        for object_id, outline in outlines.items():
            seen = int((labels == object_id).sum())
            if seen < _LEAST:
                labels[labels == object_id] = 0
                continue
            hidden[object_id] = 1 - seen / outline
        return CrowdFrame(
            np.clip(image, 0, 255).astype(np.uint8),
            labels,
            {object_id: classes[object_id] for object_id in hidden},
            hidden,
            frozenset(cut & hidden.keys()),
        )


def _draw(
    image: NDArray[np.float32], actor: Actor, t: int, view: NDArray[np.float64]
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Draw an actor; returns the part of the picture around it, and its outline there."""
    pose = actor.path(t)
    picture = cutout(actor.cutout)
    zoom = view[0, 0]
    reach = zoom * pose.height * np.hypot(1, picture.shape[1] / picture.shape[0]) / 2 + 3
    x, y = zoom * pose.x + view[0, 2], zoom * pose.y + view[1, 2]
    left, top = max(int(x - reach), 0), max(int(y - reach), 0)
    right, bottom = max(int(x + reach) + 1, left), max(int(y + reach) + 1, top)
    window = (slice(top, bottom), slice(left, right))
    part = image[window]
    if not part.size:
        return window, np.zeros(part.shape[:2], dtype=bool)
    shifted = view - np.array([[0, 0, left], [0, 0, top]])
    return window, paste(part, actor, t, shifted) > 0.5


def _plan(settings: CrowdSettings, random: np.random.Generator) -> list[_Visit]:
    """Places in the crowd are taken by one object after the other, now and then by an old one."""
    visits: list[_Visit] = []
    known: dict[int, tuple[int, Actor, int]] = {}  # class, looks, when it was gone
    # Some are on their way when the clip begins, unless it begins with nobody.
    early, late = (0, 30) if settings.quiet else (-45, 15)
    starts = (settings.quiet + int(random.integers(early, late)) for _ in range(settings.objects))
    free = [(start, place) for place, start in enumerate(starts)]
    heapq.heapify(free)
    while free:
        start, place = heapq.heappop(free)
        if start >= settings.frames:
            continue
        gone = [number for number, (_, _, left) in known.items() if left + 5 <= start]
        if gone and random.random() < settings.returning:
            number = int(random.choice(gone))
            class_id, looks, _ = known[number]
        else:
            number = len(known) + 1
            class_id = int(random.choice((1, 2)))
            looks = _looks(class_id, random)
        visit = _visit(number, class_id, looks, start, settings, random)
        visits.append(visit)
        known[number] = (class_id, looks, visit.last)
        heapq.heappush(free, (visit.last + int(random.integers(1, 25)), place))
    return visits


def _looks(class_id: int, random: np.random.Generator) -> Actor:
    names = _LOOKS[class_id]
    red, green, blue = (float(v) for v in random.uniform(-45, 45, 3))
    return Actor(
        names[int(random.integers(len(names)))],
        lambda t: ActorPose(0, 0, 1),
        contrast=float(random.uniform(0.7, 1.1)),
        tint=(red, green, blue),
    )


def _visit(
    number: int, class_id: int, looks: Actor, start: int, settings: CrowdSettings,
    random: np.random.Generator,
) -> _Visit:  # fmt: skip
    lane = float(random.uniform(0, 1))  # 0 far, 1 near
    low, high = _HEIGHTS[class_id]
    height = settings.height * float(random.uniform(low, high)) * (1 + 0.5 * lane)
    feet = settings.height * (0.62 + 0.33 * lane)
    pace = settings.width * float(random.uniform(0.012, 0.026)) * (1 + 0.5 * lane)
    side = 1 if random.random() < 0.5 else -1
    # Widest cut-out: one and a half times as wide as high; a moving camera sees more.
    margin = 0.8 * height + (2.5 * _SWAY * settings.width if settings.moving else 0.0)
    way = settings.width + 2 * margin
    stop, pause = 0.0, 0
    if random.random() < settings.stopping:
        stop, pause = float(random.uniform(0.35, 0.65)) * way, int(random.integers(15, 40))
    bob, rate = float(random.uniform(0, 0.03)) * height, float(random.uniform(0.15, 0.5))
    lean = float(random.uniform(0, 6))

    def path(t: int) -> ActorPose:
        gone = pace * (t - start)
        if pause and gone > stop:
            gone = max(stop, gone - pace * pause)
        begin = -margin if side > 0 else settings.width + margin
        return ActorPose(
            x=begin + side * gone,
            y=feet - height / 2 + bob * np.sin(rate * t),
            height=height,
            angle=lean * np.sin(0.7 * rate * t),
            squeeze=float(side),  # looks where it goes
        )

    actor = Actor(looks.cutout, path, looks.contrast, looks.tint)
    return _Visit(number, class_id, actor, start, start + int(way / pace) + pause + 1, feet)


def _pillars(
    settings: CrowdSettings, ground: str, random: np.random.Generator
) -> list[tuple[str, float, float]]:
    texture = "brick" if ground != "brick" else "grass"
    places = (np.arange(settings.pillars) + random.uniform(0.3, 0.7)) / max(settings.pillars, 1)
    return [
        (texture, float(x) * settings.width, settings.width * float(random.uniform(0.03, 0.07)))
        for x in places
    ]


def _bystanders(settings: CrowdSettings, random: np.random.Generator) -> list[Actor]:
    """Small things that mill about in the corner."""
    if not settings.ignored:
        return []
    width, height = 0.2 * settings.width, 0.2 * settings.height

    def make(number: int) -> Actor:
        x, y = random.uniform(0.25, 0.75, 2) * [width, height]
        rates, phases = random.uniform(0.05, 0.25, 2), random.uniform(0, 6, 2)
        return Actor(
            f"coin{number}",
            lambda t: ActorPose(
                x=float(x + 0.18 * width * np.sin(rates[0] * t + phases[0])),
                y=float(y + 0.15 * height * np.sin(rates[1] * t + phases[1])),
                height=0.06 * settings.height,
            ),
        )

    return [make(number) for number in range(_BYSTANDERS)]


def _corner(settings: CrowdSettings, view: NDArray[np.float64]) -> tuple[slice, slice]:
    """Rows and columns of the region in the picture where nothing is counted."""
    zoom = view[0, 0]
    right = round(zoom * 0.2 * settings.width + view[0, 2])
    bottom = round(zoom * 0.2 * settings.height + view[1, 2])
    left, top = round(view[0, 2]), round(view[1, 2])
    return slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))


def _camera(settings: CrowdSettings, t: int) -> tuple[float, float, float]:
    if not settings.moving:
        return 0.0, 0.0, 1.0
    sway = _SWAY * settings.width
    x, y, zoom = sway * np.sin(t / 19), 0.3 * sway * np.sin(t / 13), 1 + 0.05 * np.sin(t / 29)
    return float(x), float(y), float(zoom)
