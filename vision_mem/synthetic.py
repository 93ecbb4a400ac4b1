"""Generated clips with known truth: photographs filmed by a moving camera, with cut-outs in them.

The photographs are the ones scikit-image ships inside its wheel; nothing is downloaded. A scene
is a background that the camera pans and zooms over, actors cut out of photographs that move,
turn, swell, bend and change light, look-alikes of the target, and occluders in front of it all.
The demo, the tests and the choice of the embedded segmenter's constants use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.cutouts import OUTLINES, Image, cutout, load_photograph
from vision_mem.types import SourceInfo


@dataclass(frozen=True)
class Pose:
    """Where and how an actor is at one moment.

    Attributes:
        x, y: centre in pixels of the world (the uncropped first frame).
        height: height in pixels.
        angle: degrees, counter-clockwise.
        squeeze: factor on the width, as if turning away.
        bend: amplitude of a slow sideways wave, as a share of the height.
        gain: factor on the brightness.
        shade: light falls from the side: brightness goes from 1 - shade to 1 + shade across it.
    """

    x: float
    y: float
    height: float
    angle: float = 0.0
    squeeze: float = 1.0
    bend: float = 0.0
    gain: float = 1.0
    shade: float = 0.0


@dataclass(frozen=True)
class Actor:
    """A cut-out and its path: a function of the frame number."""

    cutout: str
    path: Callable[[int], Pose]


@dataclass(frozen=True)
class Scene:
    """A clip to be rendered.

    Attributes:
        name: fit for a file name.
        background: photograph behind everything.
        target: the actor whose truth is known.
        others: actors behind the target, look-alikes among them.
        occluders: ``(photograph, x, width)`` pillars in front of everything, world pixels.
        camera: frame number to ``(x, y, zoom)`` of the camera, in world pixels.
        light: frame number to a factor on all brightness.
        frames, width, height, fps: of the clip.
        noise: standard deviation in grey levels.
        seed: of the noise.
        blur: standard deviation of an unsharp lens, pixels.
    """

    name: str
    background: str
    target: Actor
    others: tuple[Actor, ...] = ()
    occluders: tuple[tuple[str, float, float], ...] = ()
    camera: Callable[[int], tuple[float, float, float]] = lambda t: (0.0, 0.0, 1.0)
    light: Callable[[int], float] = lambda t: 1.0
    frames: int = 90
    width: int = 640
    height: int = 360
    fps: float = 30.0
    noise: float = 2.0
    seed: int = 0
    blur: float = 0.0


@dataclass(frozen=True)
class RenderedFrame:
    """One generated frame: image, mask of what is to be seen of the target, and its box.

    ``box`` is float32 xyxy, right and bottom exclusive, zeros when nothing is to be seen.
    """

    image: Image
    mask: NDArray[np.bool_]
    box: NDArray[np.float32]


class SyntheticClip:
    """Renders a scene frame by frame; iterating twice gives the same frames."""

    def __init__(self, scene: Scene) -> None:
        """Keep the scene; nothing is rendered yet."""
        self.scene = scene

    @property
    def info(self) -> SourceInfo:
        """Name, size, rate and length."""
        s = self.scene
        return SourceInfo(s.name, s.width, s.height, s.fps, s.frames)

    def __len__(self) -> int:
        return self.scene.frames

    def __iter__(self) -> Iterator[RenderedFrame]:
        return (self.render(t) for t in range(self.scene.frames))

    def frames(self) -> Iterator[Image]:
        """Images alone, ``(H, W, 3)`` uint8 RGB."""
        return (rendered.image for rendered in self)

    def render(self, t: int) -> RenderedFrame:
        """Render frame ``t`` (0 <= t < number of frames)."""
        scene = self.scene
        camera_x, camera_y, zoom = scene.camera(t)
        # World to view: the camera's centre lands in the middle of the picture.
        view = np.array(
            [
                [zoom, 0, scene.width / 2 - zoom * (scene.width / 2 + camera_x)],
                [0, zoom, scene.height / 2 - zoom * (scene.height / 2 + camera_y)],
            ],
            np.float64,
        )
        image = _film_background(scene, view)
        for actor in scene.others:
            _paste(image, actor, t, view)
        alpha = _paste(image, scene.target, t, view)
        for photograph, x, width in scene.occluders:
            _pillar(image, alpha, photograph, x, width, view)
        if scene.blur > 0:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), scene.blur), np.float32)
        shaded = image * np.float32(scene.light(t))
        if scene.noise > 0:
            generator = np.random.default_rng((scene.seed, t))
            # One plane for all channels: sensor noise is mostly brightness, and it is faster.
            shaded += generator.normal(0, scene.noise, image.shape[:2])[..., None].astype("f4")
        mask = alpha > 0.5
        return RenderedFrame(np.clip(shaded, 0, 255).astype(np.uint8), mask, _bounds(mask))


def _bounds(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _film_background(scene: Scene, view: NDArray[np.float64]) -> NDArray[np.float32]:
    photograph = load_photograph(scene.background)
    # The world is 1.6 times the picture, so that the camera has somewhere to go.
    scale = 1.6 * max(scene.width / photograph.shape[1], scene.height / photograph.shape[0])
    offset = (
        scene.width / 2 - scale * photograph.shape[1] / 2,
        scene.height / 2 - scale * photograph.shape[0] / 2,
    )
    world = np.array([[scale, 0, offset[0]], [0, scale, offset[1]], [0, 0, 1]])
    filmed = cv2.warpAffine(
        photograph,
        view @ world,
        (scene.width, scene.height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(filmed, np.float32)


def _paste(
    image: NDArray[np.float32], actor: Actor, t: int, view: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Draw an actor into ``image``; returns its opacity ``(H, W)`` in [0, 1]."""
    height, width = image.shape[:2]
    pose = actor.path(t)
    picture = cutout(actor.cutout)
    scale = pose.height / picture.shape[0]
    # Shrink first: warpAffine alone would alias small objects.
    shrink = scale * view[0, 0]
    if shrink < 0.7:
        size = (max(2, round(picture.shape[1] * shrink)), max(2, round(picture.shape[0] * shrink)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        scale *= picture.shape[0] / small.shape[0]
        picture = small
    if pose.bend:
        picture = _bend(picture, pose.bend)
    if pose.shade:
        across = np.linspace(1 - pose.shade, 1 + pose.shade, picture.shape[1], dtype=np.float32)
        shaded = np.clip(picture[..., :3] * across[None, :, None], 0, 255).astype(np.uint8)
        picture = np.dstack([shaded, picture[..., 3]])
    turn = np.deg2rad(pose.angle)
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    to_world = np.array(
        [[cos * pose.squeeze, sin, 0], [-sin * pose.squeeze, cos, 0], [0, 0, 1]], np.float64
    )
    centre = to_world @ np.array([picture.shape[1] / 2, picture.shape[0] / 2, 1])
    to_world[0, 2] = pose.x - centre[0]
    to_world[1, 2] = pose.y - centre[1]
    warped = cv2.warpAffine(picture, view @ to_world, (width, height), flags=cv2.INTER_LINEAR)
    alpha: NDArray[np.float32] = warped[..., 3].astype(np.float32) / 255
    colour = warped[..., :3].astype(np.float32) * pose.gain
    image += alpha[..., None] * (colour - image)
    return alpha


def _bend(picture: Image, amplitude: float) -> Image:
    height = picture.shape[0]
    margin = int(abs(amplitude) * height) + 1
    wide = cv2.copyMakeBorder(picture, 0, 0, margin, margin, cv2.BORDER_CONSTANT, value=(0,) * 4)
    rows = np.arange(height, dtype=np.float32)
    shift = (amplitude * height * np.sin(rows / height * 2 * np.pi)).astype(np.float32)
    grid_x = np.arange(wide.shape[1], dtype=np.float32)[None, :] + shift[:, None]
    grid_y = np.repeat(rows[:, None], wide.shape[1], axis=1)
    return np.asarray(cv2.remap(wide, grid_x, grid_y, cv2.INTER_LINEAR), np.uint8)


def _pillar(
    image: NDArray[np.float32],
    alpha: NDArray[np.float32],
    photograph: str,
    x: float,
    width: float,
    view: NDArray[np.float64],
) -> None:
    left = round(view[0, 0] * x + view[0, 2])
    right = round(view[0, 0] * (x + width) + view[0, 2])
    left, right = max(left, 0), min(right, image.shape[1])
    if right <= left:
        return
    texture = load_photograph(photograph)
    texture = cv2.resize(texture, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_AREA)
    image[:, left:right] = texture[:, : right - left]
    alpha[:, left:right] = 0


def demo_clip() -> SyntheticClip:
    """The clip of ``vision-mem demo``: a cup that goes behind a pillar and meets its twin.

    6 seconds at 640x360: the camera pans and zooms, the cup swells and leans, passes behind a
    pillar (fully hidden for about half a second) and then crosses the path of a second cup.
    """

    def target(t: int) -> Pose:
        return Pose(
            x=90 + 2.6 * t,
            y=205 + 34 * np.sin(t / 17),
            height=96 + 18 * np.sin(t / 31),
            angle=9 * np.sin(t / 13),
            squeeze=0.94 + 0.06 * np.cos(t / 11),
        )

    def twin(t: int) -> Pose:
        return Pose(x=640 - 1.3 * t, y=95 + 14 * np.sin(t / 15), height=88, angle=-6, gain=0.96)

    return SyntheticClip(
        Scene(
            name="cup",
            background="stereo_left",
            target=Actor("cup", target),
            others=(Actor("cat", lambda t: Pose(420 + 20 * np.sin(t / 20), 330, 120)),)
            + (Actor("cup", twin),),
            occluders=(("brick", 250.0, 108.0),),
            camera=lambda t: (26 * np.sin(t / 40), 9 * np.sin(t / 23), 1 + 0.09 * np.sin(t / 37)),
            light=lambda t: 1 + 0.12 * np.sin(t / 29),
            frames=180,
        )
    )


_BACKGROUNDS = ("stereo_left", "coffee", "rocket", "grass", "gravel", "chelsea", "brick", "retina")
_TARGETS = ("face", "cat", "cup", "motorcycle", "helmet", "shuttle", "astronaut", "coin3")
_OTHERS = {"coin3": "coin5", "cup": "cup", "face": "astronaut", "cat": "cat", "helmet": "helmet"}


@dataclass(frozen=True)
class Difficulty:
    """What a random scene is made of; each a probability or a strength, 0 for none.

    Attributes:
        small: chance that the target is a tenth of the picture high.
        fast: chance of fast motion, up to half its size a frame.
        twin: chance of a look-alike.
        pillar: chance of a pillar that hides it for some frames.
        dim: chance of strong changes of light.
        bend: chance of bending.
        turn: chance of turning away: narrow, leaning, lit from another side.
        fence: chance of a row of thin bars in front of the whole picture.
        blur: chance of an unsharp picture.
    """

    small: float = 0.3
    fast: float = 0.35
    twin: float = 0.4
    pillar: float = 0.4
    dim: float = 0.3
    bend: float = 0.6
    turn: float = 0.4
    fence: float = 0.25
    blur: float = 0.25
    sizes: tuple[tuple[int, int], ...] = field(
        default=((640, 360), (480, 270), (360, 240), (848, 480))
    )


def random_scene(seed: int, difficulty: Difficulty | None = None, frames: int = 60) -> Scene:
    """Draw a scene: target, background, path, camera, light, look-alike and occluder.

    Args:
        seed: same seed, same scene.
        difficulty: chances and strengths; the default mixes everything.
        frames: length in frames.

    Returns:
        A scene whose target is in full view on frame 0.
    """
    difficulty = difficulty or Difficulty()
    rng = np.random.default_rng(seed)
    width, height = difficulty.sizes[rng.integers(len(difficulty.sizes))]
    target = _TARGETS[seed % len(_TARGETS)]
    backgrounds = [b for b in _BACKGROUNDS if not (b == "stereo_left" and target == "motorcycle")]
    backgrounds = [b for b in backgrounds if b != OUTLINES.get(target, ("", []))[0]]
    background = backgrounds[rng.integers(len(backgrounds))]
    small = rng.random() < difficulty.small
    size = height * (rng.uniform(0.09, 0.16) if small else rng.uniform(0.2, 0.5))
    fast = rng.random() < difficulty.fast
    pace = size * (rng.uniform(0.12, 0.3) if fast else rng.uniform(0.01, 0.06))
    x0, y0 = width * rng.uniform(0.3, 0.7), height * rng.uniform(0.35, 0.65)
    # Closed Lissajous path; its extent follows from pace so that the object stays in the picture.
    reach_x = width * rng.uniform(0.12, 0.28)
    reach_y = height * rng.uniform(0.06, 0.2)
    rate = pace / max(reach_x, 1.0)
    phase, ratio = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.4)
    grow, turn = rng.uniform(-0.35, 0.6), rng.uniform(-25, 25)
    bend = rng.uniform(0.04, 0.12) if rng.random() < difficulty.bend else 0.0
    bend_rate = rng.uniform(0.1, 0.4)
    turn_rate = rng.uniform(0.03, 0.1)
    turns = rng.random() < difficulty.turn
    narrow, shade = (0.5, 0.5) if turns else (0.2, 0.1)
    turn *= 1.6 if turns else 1.0

    def path(t: int) -> Pose:
        return Pose(
            x=x0 + reach_x * (np.sin(rate * t + phase) - np.sin(phase)),
            y=y0 + reach_y * np.sin(ratio * rate * t),
            height=size * (1 + grow * t / max(frames, 1)),
            angle=turn * np.sin(turn_rate * t),
            squeeze=1 - narrow * np.sin(turn_rate * t) ** 2,
            bend=bend * np.sin(bend_rate * t),
            shade=shade * np.sin(turn_rate * t),
        )

    others: tuple[Actor, ...] = ()
    if rng.random() < difficulty.twin:
        other = _OTHERS.get(target, target)
        side = 1 if x0 < width / 2 else -1
        others = (
            Actor(
                other,
                lambda t: Pose(
                    x=x0 + side * (width * 0.33 - width * 0.3 * t / frames),
                    y=y0 + height * 0.16,
                    height=size * 1.02,
                    angle=8,
                ),
            ),
        )
    occluders: tuple[tuple[str, float, float], ...] = ()
    if rng.random() < difficulty.pillar:
        middle = path(int(frames * rng.uniform(0.35, 0.7))).x
        wide = cutout(target).shape[1] / cutout(target).shape[0] * size
        occluders = (("gravel", middle, wide * rng.uniform(0.3, 1.1)),)
    if rng.random() < difficulty.fence:
        gap = width / rng.integers(7, 12)
        bars = tuple(("brick", gap * (i - 4) + x0 + gap / 2, gap * 0.12) for i in range(9))
        occluders = occluders + bars
    sway = rng.uniform(0, 0.06) * width
    swing = rng.uniform(0.03, 0.15)
    dim = 0.45 if rng.random() < difficulty.dim else 0.05
    scene = Scene(
        name=f"{target}-{seed:03d}",
        background=background,
        target=Actor(target, path),
        others=others,
        occluders=occluders,
        camera=lambda t: (
            sway * np.sin(swing * t),
            0.5 * sway * np.sin(0.7 * swing * t),
            1 + 0.12 * np.sin(0.5 * swing * t),
        ),
        light=lambda t: 1 - dim * np.sin(0.06 * t) ** 2,
        frames=frames,
        width=width,
        height=height,
        noise=rng.uniform(1, 5),
        seed=seed,
        blur=1.5 if rng.random() < difficulty.blur else 0.0,
    )
    clear = replace(scene, occluders=())
    if occluders:
        areas = [int(SyntheticClip(s).render(0).mask.sum()) for s in (scene, clear)]
        if areas[0] < 0.8 * areas[1]:
            return clear
    return scene
