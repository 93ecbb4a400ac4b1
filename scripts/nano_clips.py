"""Training clips with known masks, composed on the fly: one number, one clip.

Objects (cut-outs, cut-outs filled with textures, smooth blobs) move, turn, bend and change size
and light before a photograph or a video that a moving camera films. They cross each other and
bars, meet their doubles, are covered, leave and come back. Everything is drawn from the generator
that is handed in, so clip n of a run is the same whichever process makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from nano_pictures import Image, Pictures, filled, random_picture
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
SMALLEST = 30
"""Pixels that a target must show on the first frame."""


@dataclass
class Actor:
    """A picture and its path.

    Attributes:
        picture: ``(h, w, 4)`` uint8, colours multiplied by opacity, about its size on screen.
        place: ``(T, 2)`` centre in world pixels.
        height: ``(T,)`` world pixels.
        angle: ``(T,)`` radians.
        squeeze: ``(T,)`` factor on the width.
        bend: amplitude of a wave across it, as a share of its size; 0 for rigid ones.
        phase: ``(T,)`` of that wave.
        gain: ``(T,)`` factor on its light.
        number: its value in the map of objects; 0 for occluders.
        hidden: frames on which it is not drawn.
        smear: ``(T,)`` pixels of motion blur.
    """

    picture: Image
    place: NDArray[np.float64]
    height: NDArray[np.float64]
    angle: NDArray[np.float64]
    squeeze: NDArray[np.float64]
    bend: float
    phase: NDArray[np.float64]
    gain: NDArray[np.float64]
    number: int
    smear: NDArray[np.float64]
    hidden: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Clip:
    """``images`` (T, S, S, 3) uint8 RGB; ``ids`` (T, S, S) uint8, 0 where no object is seen;
    ``targets``: numbers of objects that are in good view on frame 0, the planned one first;
    ``parts``: numbers of parts, and of the objects they belong to."""

    images: Image
    ids: Image
    targets: list[int]
    parts: dict[int, int] = field(default_factory=dict)

    def mask(self, number: int) -> NDArray[np.bool_]:
        """``(T, S, S)`` where an object is, its parts with it, or a part."""
        found = self.ids == number
        for part, whole in self.parts.items():
            if whole == number:
                found |= self.ids == part
        return found


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two others, its logarithm evenly spread."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def render_clip(
    pictures: Pictures,
    rng: np.random.Generator,
    frames: int,
    side: int = 256,
    drawn: Sequence[int] | None = None,
    parts: float = 0.0,
) -> Clip:
    """Compose one clip.

    Args:
        pictures: what to compose it of.
        rng: decides everything.
        frames: its length, at least 1.
        side: S in pixels.
        drawn: frames to draw, 0 first; None draws all. T of them are in the clip.
        parts: how often a part of the first object counts as an object of its own.

    Returns:
        A clip with at least one target, unless eight tries in a row gave none.
    """
    for _ in range(8):
        chosen = range(frames) if drawn is None else drawn
        clip = _try(pictures, rng, frames, side, chosen, parts)
        if clip.targets:
            break
    return clip


def _try(
    pictures: Pictures,
    rng: np.random.Generator,
    frames: int,
    side: int,
    drawn: Sequence[int],
    parts: float,
) -> Clip:
    aspect = rng.choice([1.0, 4 / 3, 16 / 9, 9 / 16], p=[0.3, 0.2, 0.4, 0.1])
    world = np.array([side * aspect, side])
    views = _camera(rng, frames, side, aspect)
    actors = [_actor(pictures, rng, frames, world, 1)]
    if rng.random() < 0.4:
        actors.append(_double(rng, actors[0], world, 2))
    for _ in range(rng.integers(0, 4)):
        actors.append(_actor(pictures, rng, frames, world, len(actors) + 1))
    front: list[Actor] = []
    if frames > 2 and rng.random() < 0.25:
        front += _disappear(pictures, rng, actors[0], frames, world)
    if rng.random() < 0.3:
        front += _bars(pictures, rng, frames, world)
    order = list(rng.permutation(len(actors)))
    if order[0] != 0 and rng.random() < 0.5:  # the first one is what the rest was made around
        order.remove(0)
        order.append(0)
    owners: dict[int, int] = {}
    if parts and rng.random() < parts:
        actors.append(_part(rng, actors[0], len(actors) + 1))
        owners[len(actors)] = 1
        order.insert(order.index(0) + 1, len(actors) - 1)
    ground = _ground(pictures, rng)
    look = _Look(rng, frames, side)
    images = np.empty((len(drawn), side, side, 3), np.uint8)
    ids = np.zeros((len(drawn), side, side), np.uint8)
    for n, t in enumerate(drawn):
        images[n] = _film(ground[t % len(ground)], views[t], world, side)
        for actor in [*(actors[k] for k in order), *front]:
            if t not in actor.hidden:
                _draw(images[n], ids[n], actor, t, views[t])
        images[n] = look(images[n], t, rng)
    seen = np.bincount(ids[0].ravel(), minlength=len(actors) + 1)
    wanted = [n for n in range(1, len(actors) + 1) if SMALLEST <= seen[n] < 0.7 * side * side]
    return Clip(images, ids, wanted, owners)


def _ground(pictures: Pictures, rng: np.random.Generator) -> list[Image]:
    run = pictures.background(rng)
    if len(run) > 1:
        run = run[rng.integers(0, 3) :]
        return run if rng.random() < 0.7 else run[:1]
    return run


# -- how it moves ------------------------------------------------------------------------------


def _camera(rng: np.random.Generator, frames: int, side: int, aspect: float) -> list[Matrix]:
    """World to picture, for each frame: pan, zoom, roll and shake; the picture is squashed."""
    t = np.arange(frames)
    still = rng.random() < 0.2
    speed = 0.0 if still else log_uniform(rng, 0.1, 8.0)
    heading = rng.uniform(0, 2 * np.pi)
    pan = speed * t[:, None] * np.array([np.cos(heading), np.sin(heading)])
    if not still:
        pan = pan + rng.uniform(0, 12) * np.sin(rng.uniform(0.1, 0.9) * t + heading)[:, None]
        pan = pan + (rng.normal(0, rng.uniform(0, 1.5), (frames, 2)) if rng.random() < 0.4 else 0)
    zoom = np.exp(rng.normal(0, 0.0 if still else 0.02) * t) * rng.uniform(1.0, 1.25)
    roll = rng.normal(0, 0.0 if still else 0.008) * t
    middle = np.array([side * aspect / 2, side / 2])
    views = []
    for n in range(frames):
        turn = np.array([[np.cos(roll[n]), -np.sin(roll[n])], [np.sin(roll[n]), np.cos(roll[n])]])
        linear = np.diag([1 / aspect, 1.0]) @ turn * zoom[n]
        shift = np.array([side / 2, side / 2]) - linear @ (middle + pan[n])
        views.append(np.vstack([np.column_stack([linear, shift]), [0, 0, 1]]))
    return views


def _actor(
    pictures: Pictures, rng: np.random.Generator, frames: int, world: NDArray, number: int
) -> Actor:
    t = np.arange(frames)
    longer = log_uniform(rng, 14, 0.75 * world.min())
    picture = random_picture(pictures, rng, 1.4 * longer)
    height = max(longer * min(1.0, picture.shape[0] / picture.shape[1]), 7.0)
    size = height * np.sqrt(picture.shape[1] / picture.shape[0])
    pace = 0.0 if rng.random() < 0.2 else min(size * log_uniform(rng, 0.01, 0.8), 60.0)
    heading = rng.uniform(0, 2 * np.pi)
    start = world * rng.uniform(0.12, 0.88, 2)
    path = start + pace * t[:, None] * np.array([np.cos(heading), np.sin(heading)])
    path = path + rng.uniform(0, 0.5) * pace * np.sin(rng.uniform(0.3, 1.2) * t)[:, None]
    smear = np.full(frames, pace * rng.uniform(0.2, 0.6) if rng.random() < 0.3 else 0.0)
    rigid = rng.random() < 0.6
    return Actor(
        picture=picture,
        place=path,
        height=height * np.exp(rng.normal(0, 0.03) * t),
        angle=rng.normal(0, 0.35) + rng.normal(0, 0.06) * t,
        squeeze=1 - rng.uniform(0, 0.45) * np.sin(rng.uniform(0, 0.4) * t + rng.uniform(0, 3)) ** 2,
        bend=0.0 if rigid else rng.uniform(0.02, 0.1),
        phase=rng.uniform(0, 2 * np.pi) + rng.uniform(0.1, 0.9) * t,
        gain=rng.uniform(0.8, 1.15) + rng.normal(0, 0.03) * t,
        number=number,
        smear=smear,
    )


def _double(rng: np.random.Generator, first: Actor, world: NDArray, number: int) -> Actor:
    """The same object once more, elsewhere, on a path of its own that often crosses the first."""
    frames = len(first.place)
    t = np.arange(frames)[:, None]
    start = world * rng.uniform(0.1, 0.9, 2)
    goal = first.place[rng.integers(frames)] if rng.random() < 0.5 else world * rng.random(2)
    share = t / max(frames - 1, 1) * rng.uniform(0.2, 1.0)
    return Actor(
        picture=first.picture,
        place=start + (goal - start) * share,
        height=first.height * log_uniform(rng, 0.75, 1.3),
        angle=first.angle + rng.normal(0, 0.3),
        squeeze=first.squeeze,
        bend=first.bend,
        phase=first.phase + rng.uniform(0, 6),
        gain=first.gain * rng.uniform(0.85, 1.15),
        number=number,
        smear=np.zeros(frames),
    )


def _part(rng: np.random.Generator, whole: Actor, number: int) -> Actor:
    """A part of an object, drawn over it: what lies on one side of a line, or in an ellipse."""
    height, width = whole.picture.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    turn = rng.uniform(0, 2 * np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    if rng.random() < 0.6:
        inside = along > rng.uniform(-0.4, 0.5)
    else:
        middle, size = rng.normal(0, 0.2, 2), rng.uniform(0.3, 0.7, 2)
        inside = ((along - middle[0]) / size[0]) ** 2 + ((across - middle[1]) / size[1]) ** 2 < 1
    return replace(whole, picture=whole.picture * inside[..., None].astype(np.uint8), number=number)


def _disappear(
    pictures: Pictures, rng: np.random.Generator, actor: Actor, frames: int, world: NDArray
) -> list[Actor]:
    """Take an actor out of sight for some frames after the first: gone, or behind something."""
    first = int(rng.integers(1, frames))
    last = int(rng.integers(first, frames))
    away = set(range(first, last + 1))
    if rng.random() < 0.45:
        actor.hidden |= away
        if rng.random() < 0.5:  # it comes back elsewhere
            actor.place[last + 1 :] += rng.normal(0, 0.15, 2) * world
        return []
    size = actor.height.max() * max(1.0, actor.picture.shape[1] / actor.picture.shape[0])
    cover = _actor(pictures, rng, frames, world, 0)
    shape = (64, 64)
    solid = np.full(shape, 255, np.uint8)
    cover.picture = filled(pictures.texture(rng, *shape), solid).astype(np.uint8)
    cover.height = np.full(frames, size * rng.uniform(1.2, 1.9))
    cover.angle, cover.squeeze, cover.bend = np.zeros(frames), np.ones(frames), 0.0
    beside = np.array([max(first - t, t - last, 0) * np.sign(t - first) for t in range(frames)])
    step = rng.normal(0, 1, 2)
    step *= cover.height[0] * rng.uniform(0.3, 1.0) / np.linalg.norm(step)
    # It comes from one side and goes to the other, covering whatever the actor does meanwhile.
    cover.place = actor.place + beside[:, None] * step
    cover.hidden = {0}
    return [cover]


def _bars(pictures: Pictures, rng: np.random.Generator, frames: int, world: NDArray) -> list[Actor]:
    """A few bars in front of everything, still in the world or moving a little."""
    made = []
    turn = rng.normal(0, 0.4) + (np.pi / 2 if rng.random() < 0.3 else 0)
    for _ in range(rng.integers(1, 5)):
        bar = _actor(pictures, rng, frames, world, 0)
        width = int(rng.integers(6, 28))
        texture = pictures.texture(rng, 160, width)
        bar.picture = filled(texture, np.full((160, width), 255, np.uint8)).astype(np.uint8)
        bar.height = np.full(frames, rng.uniform(0.7, 1.6) * world[1])
        bar.angle, bar.squeeze, bar.bend = np.full(frames, turn), np.ones(frames), 0.0
        bar.squeeze *= 160 / bar.height[0]  # as wide in the world as the texture
        made.append(bar)
    return made


# -- drawing -----------------------------------------------------------------------------------


def _film(ground: Image, view: Matrix, world: NDArray, side: int) -> Image:
    """The background: it covers the world with a margin, and is reflected beyond."""
    height, width = ground.shape[:2]
    scale = 1.15 * max(world[0] / width, world[1] / height)
    place = np.array(
        [
            [scale, 0, world[0] / 2 - scale * width / 2],
            [0, scale, world[1] / 2 - scale * height / 2],
            [0, 0, 1],
        ]
    )
    whole = (view @ place)[:2]
    smaller = float(np.linalg.norm(whole[:, 0]))
    if smaller < 0.6:  # wide photographs are squashed; sample them finely enough
        ground = cv2.resize(ground, None, fx=smaller, fy=1.0, interpolation=cv2.INTER_AREA)
        whole = whole @ np.diag([width / ground.shape[1], 1.0, 1.0])
    flags, border = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
    return np.asarray(cv2.warpAffine(ground, whole, (side, side), flags=flags, borderMode=border))


def _draw(image: Image, ids: Image, actor: Actor, t: int, view: Matrix) -> None:
    """Draw an actor into a picture and its number into the map of objects, both in place."""
    height, width = actor.picture.shape[:2]
    scale = actor.height[t] / height
    cos, sin = np.cos(actor.angle[t]) * scale, np.sin(actor.angle[t]) * scale
    linear = np.array([[cos * actor.squeeze[t], -sin], [sin * actor.squeeze[t], cos]])
    shift = actor.place[t] - linear @ np.array([width / 2, height / 2])
    whole = view @ np.vstack([np.column_stack([linear, shift]), [0, 0, 1]])
    corners = whole[:2, :2] @ np.array([[0, width, width, 0], [0, 0, height, height]])
    corners += whole[:2, 2:]
    margin = 2 + actor.smear[t] + actor.bend * np.ptp(corners, axis=1).max()
    low = np.maximum(np.floor(corners.min(1) - margin), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(1) + margin), image.shape[1::-1]).astype(int)
    if (high - low < 1).any():
        return
    local = whole[:2].copy()
    local[:, 2] -= low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    if actor.bend:
        made = _bent(actor, t, local, size)
    else:
        made = cv2.warpAffine(actor.picture, local, size, flags=cv2.INTER_LINEAR)
    if actor.smear[t] >= 2:
        made = _smear(made, actor, t)
    opacity = made[..., 3:].astype(np.float32) * np.float32(1 / 255)
    part = (slice(low[1], high[1]), slice(low[0], high[0]))
    mixed = made[..., :3] * np.float32(actor.gain[t]) + image[part] * (1 - opacity)
    image[part] = np.minimum(mixed, 255).astype(np.uint8)
    ids[part][opacity[..., 0] > 0.5] = actor.number


def _bent(actor: Actor, t: int, local: Matrix, size: tuple[int, int]) -> Image:
    """Warp with a wave along each side, so that outlines change and insides with them."""
    inverse = cv2.invertAffineTransform(local).astype(np.float32)
    x = np.arange(size[0], dtype=np.float32)[None, :]
    y = np.arange(size[1], dtype=np.float32)[:, None]
    u = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
    v = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
    height, width = actor.picture.shape[:2]
    reach = np.float32(actor.bend * max(height, width))
    phase = np.float32(actor.phase[t])
    wave_u = reach * np.sin(v * np.float32(5 / height) + phase)
    wave_v = reach * np.sin(u * np.float32(5 / width) + 1.3 * phase)
    return np.asarray(cv2.remap(actor.picture, u + wave_u, v + wave_v, cv2.INTER_LINEAR), np.uint8)


def _smear(made: Image, actor: Actor, t: int) -> Image:
    step = actor.place[min(t + 1, len(actor.place) - 1)] - actor.place[max(t - 1, 0)]
    if not np.any(step):
        return made
    step = step / np.linalg.norm(step)
    length = int(min(actor.smear[t], 21)) | 1
    kernel = np.zeros((length, length), np.float32)
    reach, middle = step * (length // 2), length // 2
    ends = [tuple(round(middle + s * r) for r in reach) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return np.asarray(cv2.filter2D(made, -1, kernel / kernel.sum()))


class _Look:
    """What lens, sensor and codec do to all frames of a clip alike."""

    def __init__(self, rng: np.random.Generator, frames: int, side: int) -> None:
        t = np.arange(frames)
        self._gain = rng.uniform(0.65, 1.2) + rng.normal(0, 0.02) * t
        self._lift = rng.normal(0, 10, 3)
        self._gamma = log_uniform(rng, 0.75, 1.35)
        self._blur = rng.uniform(0.4, 1.3) if rng.random() < 0.25 else 0.0
        self._noise = rng.uniform(1, 9) if rng.random() < 0.5 else 0.0
        self._quality = int(rng.integers(25, 90)) if rng.random() < 0.35 else 0
        self._grey = rng.random() < 0.04
        # One plane of noise, shifted from frame to frame: drawing each would cost more than all.
        plane = (side + 44, side + 44)
        self._plane = rng.standard_normal(plane, np.float32) if self._noise else None

    def __call__(self, image: Image, t: int, rng: np.random.Generator) -> Image:
        levels = 255 * (np.arange(256) / 255) ** self._gamma * self._gain[t]
        table = np.clip(levels[:, None] + self._lift, 0, 255).astype(np.uint8)[None]
        image = cv2.LUT(image, table)
        if self._grey:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if self._blur:
            image = cv2.GaussianBlur(image, (0, 0), self._blur)
        if self._plane is not None:
            y, x = rng.integers(0, 44, 2)
            grain = self._plane[y : y + image.shape[0], x : x + image.shape[1], None]
            image = np.clip(image + self._noise * grain, 0, 255).astype(np.uint8)
        if self._quality:
            _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
            image = cv2.imdecode(code, cv2.IMREAD_COLOR)
        return np.asarray(image)
