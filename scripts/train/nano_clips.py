"""Training clips with known masks, composed on the fly: one number, one clip.

Objects (cut-outs, cut-outs filled with textures, smooth blobs) move, turn, bend and change size
and light before a photograph or a video that a moving camera films. They cross each other and
bars, meet their doubles, are covered, leave and come back. Everything is drawn from the generator
that is handed in, so clip n of a run is the same whichever process makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from nano_pictures import Image, Pictures, filled, random_picture
from nano_render import Actor, Look, Matrix, draw, film, log_uniform
from numpy.typing import NDArray

SMALLEST = 30
"""Pixels that a target must show on the first frame."""


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
    look = Look(rng, frames, side)
    images = np.empty((len(drawn), side, side, 3), np.uint8)
    ids = np.zeros((len(drawn), side, side), np.uint8)
    for n, t in enumerate(drawn):
        images[n] = film(ground[t % len(ground)], views[t], world, side)
        for actor in [*(actors[k] for k in order), *front]:
            if t not in actor.hidden:
                draw(images[n], ids[n], actor, t, views[t])
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
