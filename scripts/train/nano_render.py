"""Drawing of training clips: backgrounds, actors that bend and smear, and what a camera does."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from nano_pictures import Image
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two others, its logarithm evenly spread."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


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


def film(ground: Image, view: Matrix, world: NDArray, side: int) -> Image:
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


def draw(image: Image, ids: Image, actor: Actor, t: int, view: Matrix) -> None:
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


class Look:
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
