"""Scenes for generated clips: the demo's, and random ones that are hard in chosen ways.

The demo, the tests and the choice of the embedded segmenter's constants use them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.boxes import box_iou
from vision_mem.synthetic.clips import OUTLINES, Actor, ActorPose, ClipScene, SyntheticClip, cutout


def demo_clip() -> SyntheticClip:
    """The clip of ``vision-mem demo``: a cup that goes behind a pillar and meets its twin.

    6 seconds at 640x360: the camera pans and zooms, the cup swells and leans, passes behind a
    pillar (fully hidden for about half a second) and then crosses the path of a second cup.
    """

    def target(t: int) -> ActorPose:
        return ActorPose(
            x=90 + 2.6 * t,
            y=205 + 34 * np.sin(t / 17),
            height=96 + 18 * np.sin(t / 31),
            angle=9 * np.sin(t / 13),
            squeeze=0.94 + 0.06 * np.cos(t / 11),
        )

    def twin(t: int) -> ActorPose:
        return ActorPose(
            x=640 - 1.3 * t, y=95 + 14 * np.sin(t / 15), height=88, angle=-6, gain=0.96
        )

    return SyntheticClip(
        ClipScene(
            name="cup",
            background="stereo_left",
            target=Actor("cup", target),
            others=(Actor("cat", lambda t: ActorPose(420 + 20 * np.sin(t / 20), 330, 120)),)
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
        part: chance that the target is a part of something larger that moves with it.
        compression: chance of frames that were JPEG files, of poor to good quality.
        camouflage: chance of a target in the colours of what is behind it.
        spin: chance of turning round and round in the picture plane.
        shake: chance of a camera that swings by up to a twentieth of the picture a frame.
        flutter: chance of bending twice as far, as fast as a running animal.
        chase: chance of a camera that goes along with the target, unsteadily.
    """

    small: float = 0.3
    fast: float = 0.35
    twin: float = 0.4
    pillar: float = 0.4
    dim: float = 0.3
    bend: float = 0.6
    turn: float = 0.4
    fence: float = 0.25
    blur: float = 0.5
    compression: float = 0.8
    part: float = 0.25
    camouflage: float = 0.35
    spin: float = 0.2
    shake: float = 0.25
    flutter: float = 0.3
    chase: float = 0.4
    sizes: tuple[tuple[int, int], ...] = field(
        default=((640, 360), (480, 270), (360, 240), (240, 180), (848, 480))
    )


def random_scene(seed: int, difficulty: Difficulty | None = None, frames: int = 60) -> ClipScene:
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
    more = np.random.default_rng((seed, 1))
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
    if more.random() < difficulty.flutter:
        bend, bend_rate = more.uniform(0.08, 0.2), more.uniform(0.4, 0.9)
    spin = more.uniform(-3, 3) if more.random() < difficulty.spin else 0.0

    def path(t: int) -> ActorPose:
        return ActorPose(
            x=x0 + reach_x * (np.sin(rate * t + phase) - np.sin(phase)),
            y=y0 + reach_y * np.sin(ratio * rate * t),
            height=size * (1 + grow * t / max(frames, 1)),
            angle=turn * np.sin(turn_rate * t) + spin * t,
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
                lambda t: ActorPose(
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
    if more.random() < difficulty.shake:
        sway, swing = width * more.uniform(0.05, 0.12), more.uniform(0.2, 0.4)
    dim = 0.45 if rng.random() < difficulty.dim else 0.05
    part = None
    if more.random() < difficulty.part:
        part = (*more.uniform(0.4, 0.6, 2), *more.uniform(0.25, 0.4, 2))
    chase = more.uniform(0.7, 1.0) if more.random() < difficulty.chase else 0.0
    start = path(0)

    def camera(t: int) -> tuple[float, float, float]:
        now = path(t)
        return (
            sway * np.sin(swing * t) + chase * (now.x - start.x),
            0.5 * sway * np.sin(0.7 * swing * t) + chase * (now.y - start.y),
            1 + 0.12 * np.sin(0.5 * swing * t),
        )

    scene = ClipScene(
        name=f"{target}-{seed:03d}",
        background=background,
        target=Actor(target, path, part=part),
        others=others,
        occluders=occluders,
        camera=camera,
        light=lambda t: 1 - dim * np.sin(0.06 * t) ** 2,
        frames=frames,
        width=width,
        height=height,
        noise=rng.uniform(1, 5),
        seed=seed,
        blur=more.uniform(0.5, 2.0) if rng.random() < difficulty.blur else 0.0,
        quality=int(more.integers(25, 85)) if more.random() < difficulty.compression else None,
    )
    if more.random() < difficulty.camouflage:
        scene = _camouflage(scene, more.uniform(0.5, 1.0))
    clear = replace(scene, occluders=())
    if occluders:
        areas = [int(SyntheticClip(s).render(0).mask.sum()) for s in (scene, clear)]
        if areas[0] < 0.8 * areas[1]:
            return clear
    return scene


def _camouflage(scene: ClipScene, strength: float) -> ClipScene:
    """Move the target's colours (mean and spread) towards those behind it on frame 0."""
    bare = SyntheticClip(replace(scene, occluders=(), others=(), noise=0.0))
    mask = bare.render(0).mask
    away = replace(scene.target, path=lambda t: ActorPose(-1e4, -1e4, 1))
    behind = (
        SyntheticClip(replace(bare.scene, target=away)).render(0).image[mask].astype(np.float64)
    )
    picture = cutout(scene.target.cutout)
    own = picture[..., :3][picture[..., 3] > 127].astype(np.float64)
    wanted = np.clip(behind.std() / max(own.std(), 1.0), 0.4, 1.5)
    contrast = 1 + strength * (wanted - 1)
    tint = own.mean(0) * (1 - contrast) + strength * (behind.mean(0) - own.mean(0))
    red, green, blue = (float(v) for v in tint)
    target = replace(scene.target, contrast=float(contrast), tint=(red, green, blue))
    return replace(scene, target=target)


def score_boxes(boxes: NDArray[np.float32], truth: NDArray[np.float32]) -> dict[str, float]:
    """How well boxes follow the object of a clip.

    Args:
        boxes: ``(T, 4)`` xyxy of a tracker; zeros where it says that the object is absent.
        truth: ``(T, 4)`` of the clip; zeros where it is hidden.

    Returns:
        JSON-ready counts and means, four digits behind the point.
    """
    iou = box_iou(boxes, truth)
    visible = np.asarray(truth.any(axis=1))
    present = np.asarray(boxes.any(axis=1))
    return {
        "frames": len(truth),
        "visible": int(visible.sum()),
        "mean_iou_where_visible": round(float(iou[visible].mean()), 4),
        "share_above_half": round(float((iou[visible] > 0.5).mean()), 4),
        "hidden": int((~visible).sum()),
        "said_absent_where_hidden": int((~present[~visible]).sum()),
        "last_iou": round(float(iou[visible][-1]), 4),
    }
