"""Generated clips with known truth: photographs filmed by a moving camera, with cut-outs in them.

The photographs are the ones scikit-image ships inside its wheel; nothing is downloaded. A scene
is a background that the camera pans and zooms over, actors cut out of photographs that move,
turn, swell, bend and change light, look-alikes of the target, and occluders in front of it all.
``demo_clip`` composes the one of ``vision-mem demo``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.boxes import box_iou
from vision_mem.types import SourceInfo

Image = NDArray[np.uint8]

# Outlines in pixels of the photograph each belongs to, drawn by hand.
OUTLINES: dict[str, tuple[str, list[tuple[int, int]]]] = {
    "astronaut": (
        "astronaut",
        [(25, 360), (40, 290), (70, 245), (110, 215), (115, 165), (150, 150), (185, 152)]
        + [(185, 135), (160, 120), (153, 80), (170, 35), (235, 12), (285, 35), (300, 80)]
        + [(295, 125), (262, 150), (300, 200), (305, 240), (340, 270), (362, 345), (330, 355)]
        + [(290, 420), (275, 511), (30, 511), (15, 430)],
    ),
    "face": (
        "astronaut",
        [(155, 75), (165, 40), (195, 18), (235, 12), (275, 30), (298, 65), (300, 105)]
        + [(285, 130), (258, 135), (262, 160), (240, 180), (190, 178), (185, 140), (165, 128)],
    ),
    "shuttle": (
        "astronaut",
        [(392, 12), (415, 8), (430, 40), (445, 55), (450, 130), (452, 190), (468, 230)]
        + [(462, 258), (440, 285), (375, 285), (355, 250), (360, 220), (375, 185), (378, 90)],
    ),
    "helmet": (
        "astronaut",
        [(280, 420), (300, 375), (350, 350), (420, 345), (470, 375), (495, 430), (510, 470)]
        + [(510, 511), (285, 511)],
    ),
    "cat": (
        "chelsea",
        [(45, 5), (340, 2), (352, 60), (358, 120), (340, 170), (318, 215), (290, 265)]
        + [(240, 285), (150, 280), (80, 250), (40, 200), (30, 120)],
    ),
    "cup": (
        "coffee",
        [(170, 110), (185, 60), (225, 25), (280, 16), (340, 25), (385, 65), (400, 110)]
        + [(385, 165), (360, 215), (320, 245), (260, 260), (245, 295), (215, 308), (198, 292)]
        + [(205, 245), (180, 205)],
    ),
    "rocket": (
        "rocket",
        [(312, 140), (322, 128), (332, 140), (336, 175), (334, 400), (310, 400), (308, 175)],
    ),
}


@cache
def load_photograph(name: str) -> Image:
    """A photograph of scikit-image by its name, or ``stereo_left``; ``(H, W, 3)`` uint8 RGB."""
    import skimage.data

    # "stereo_left" is the left picture of a stereo pair; all others are called by their name.
    if name == "stereo_left":
        return np.ascontiguousarray(skimage.data.stereo_motorcycle()[0])
    image = np.asarray(getattr(skimage.data, name)())
    if image.ndim == 2:
        image = np.stack([image] * 3, axis=-1)
    return np.ascontiguousarray(image[..., :3])


@cache
def _motorcycle() -> Image:
    """Photograph and outline of the motorcycle: what stands nearer than the floor behind it."""
    import skimage.data

    left, _, disparity = skimage.data.stereo_motorcycle()
    disparity = np.where(np.isfinite(disparity), disparity, 0).astype(np.float32)
    floor = np.maximum.accumulate(np.median(disparity[:, :100], axis=1))
    near = ((disparity > floor[:, None] + 3) & (disparity > 38)).astype(np.uint8)
    near = cv2.morphologyEx(near, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(near)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.dstack([left, (labels == largest).astype(np.uint8) * 255])


@cache
def _coins() -> list[Image]:
    photograph = load_photograph("coins")
    bright = cv2.threshold(cv2.GaussianBlur(photograph[..., 0], (5, 5), 0), 110, 255, 0)[1]
    bright = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright)
    found = []
    for label in range(1, len(stats)):
        x, y, width, height, area = stats[label]
        if 500 < area < 4000 and 0.7 < width / height < 1.4:
            alpha = (labels == label).astype(np.uint8) * 255
            hull = cv2.convexHull(cv2.findNonZero(alpha))
            cv2.fillConvexPoly(alpha, hull, 255)
            both = np.dstack([photograph, alpha])
            found.append(np.ascontiguousarray(both[y : y + height, x : x + width]))
    return found


@cache
def cutout(name: str) -> Image:
    """Cut an object out of its photograph.

    Args:
        name: one of ``cutout_names()``.

    Returns:
        ``(h, w, 4)`` uint8, RGB and opacity, cropped to the object.

    Raises:
        InputError: when there is no such object.
    """
    if name in OUTLINES:
        photograph, outline = OUTLINES[name]
        image = load_photograph(photograph)
        alpha = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(alpha, [np.array(outline, np.int32)], 255, cv2.LINE_AA)
        both = np.dstack([image, alpha])
    elif name == "motorcycle":
        both = _motorcycle()
    elif name.startswith("coin") and name[4:].isdigit():
        both = _coins()[int(name[4:]) % len(_coins())]
    else:
        raise InputError(f"no cut-out named {name!r}; there are {', '.join(cutout_names())}")
    rows, columns = np.nonzero(both[..., 3] > 127)
    return np.ascontiguousarray(
        both[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    )


def cutout_names() -> list[str]:
    """Names that ``cutout`` takes; ``coin0``, ``coin1``, ... stand for the coins."""
    return [*OUTLINES, "motorcycle", "coin0"]


@dataclass(frozen=True)
class ActorPose:
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
    """A cut-out, its path (a function of the frame number), and its colours.

    Colours become ``contrast`` times those of the photograph plus ``tint``, grey levels. With a
    ``part``, the truth is not the whole cut-out but an ellipse in it (centre and radii, x before y,
    as shares of its sides), as a face is a part of a person.
    """

    cutout: str
    path: Callable[[int], ActorPose]
    contrast: float = 1.0
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    part: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class ClipScene:
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
        quality: JPEG quality the frames have been through, 1 to 100; None for none.
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
    quality: int | None = None


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

    def __init__(self, scene: ClipScene) -> None:
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
        view = view_of(camera_x, camera_y, zoom, (scene.height, scene.width))
        image = film_background(scene.background, (scene.height, scene.width), view)
        for actor in scene.others:
            paste(image, actor, t, view)
        alpha = paste(image, scene.target, t, view)
        for photograph, x, width in scene.occluders:
            left, right = pillar(image, photograph, x, width, view)
            alpha[:, left:right] = 0
        if scene.blur > 0:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), scene.blur), np.float32)
        shaded = image * np.float32(scene.light(t))
        if scene.noise > 0:
            generator = np.random.default_rng((scene.seed, t))
            # One plane for all channels: sensor noise is mostly brightness, and it is faster.
            shaded += generator.normal(0, scene.noise, image.shape[:2])[..., None].astype("f4")
        mask = alpha > 0.5
        seen = _compress(np.clip(shaded, 0, 255).astype(np.uint8), scene.quality)
        return RenderedFrame(seen, mask, _bounds(mask))


def _compress(image: Image, quality: int | None) -> Image:
    """What a JPEG file keeps of an image: blocks, ringing, half the resolution in colour."""
    if quality is None:
        return image
    packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    unpacked = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(unpacked[..., ::-1])


def _bounds(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def view_of(x: float, y: float, zoom: float, size: tuple[int, int]) -> NDArray[np.float64]:
    """How a camera turns places in the world into places in the picture.

    Args:
        x: how far it has moved to the right, world pixels.
        y: how far down.
        zoom: factor on sizes.
        size: ``(height, width)`` of the picture; its middle shows the camera's centre.

    Returns:
        ``(2, 3)`` affine matrix.
    """
    height, width = size
    return np.array(
        [
            [zoom, 0, width / 2 - zoom * (width / 2 + x)],
            [0, zoom, height / 2 - zoom * (height / 2 + y)],
        ],
        np.float64,
    )


def film_background(
    name: str, size: tuple[int, int], view: NDArray[np.float64]
) -> NDArray[np.float32]:
    """What the camera sees of a photograph behind everything, ``(H, W, 3)``.

    Args:
        name: of the photograph.
        size: ``(height, width)`` of the picture.
        view: see ``view_of``.
    """
    height, width = size
    photograph = load_photograph(name)
    # The world is 1.6 times the picture, so that the camera has somewhere to go.
    scale = 1.6 * max(width / photograph.shape[1], height / photograph.shape[0])
    offset = (
        width / 2 - scale * photograph.shape[1] / 2,
        height / 2 - scale * photograph.shape[0] / 2,
    )
    world = np.array([[scale, 0, offset[0]], [0, scale, offset[1]], [0, 0, 1]])
    filmed = cv2.warpAffine(
        photograph,
        view @ world,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(filmed, np.float32)


def paste(
    image: NDArray[np.float32], actor: Actor, t: int, view: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Draw an actor, as it is at frame ``t``, into ``image``.

    Returns:
        Opacity ``(H, W)`` in [0, 1] of the actor, or of its part.
    """
    pose = actor.path(t)
    picture = cutout(actor.cutout)
    truth = picture
    if actor.part is not None:
        rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
        x, y, across, down = actor.part
        off = (columns / picture.shape[1] - x) ** 2 / across**2
        inside = off + (rows / picture.shape[0] - y) ** 2 / down**2 < 1
        truth = np.dstack([picture[..., :3], picture[..., 3] * inside])
    if pose.shade:
        light = np.linspace(1 - pose.shade, 1 + pose.shade, picture.shape[1], dtype=np.float32)
        shaded = np.clip(picture[..., :3] * light[None, :, None], 0, 255).astype(np.uint8)
        picture = np.dstack([shaded, picture[..., 3]])
    warped = _place(picture, pose, view, image.shape[:2])
    alpha = _opacity(warped)
    colour = warped[..., :3].astype(np.float32)
    if actor.contrast != 1.0 or any(actor.tint):
        colour = np.clip(colour * actor.contrast + np.array(actor.tint, np.float32), 0, 255)
    colour *= pose.gain
    image += alpha[..., None] * (colour - image)
    if actor.part is None:
        return alpha
    return _opacity(_place(truth, pose, view, image.shape[:2]))


def _opacity(picture: Image) -> NDArray[np.float32]:
    return picture[..., 3].astype(np.float32) / np.float32(255)


def _place(
    picture: Image, pose: ActorPose, view: NDArray[np.float64], size: tuple[int, ...]
) -> Image:
    """A cut-out where and how its pose says, in a picture of ``size`` (h, w)."""
    scale = pose.height / picture.shape[0]
    # Shrink first: warpAffine alone would alias small objects.
    shrink = scale * view[0, 0]
    if shrink < 0.7:
        less = (max(2, round(picture.shape[1] * shrink)), max(2, round(picture.shape[0] * shrink)))
        small = cv2.resize(picture, less, interpolation=cv2.INTER_AREA)
        scale *= picture.shape[0] / small.shape[0]
        picture = np.asarray(small, np.uint8)
    if pose.bend:
        picture = _bend(picture, pose.bend)
    turn = np.deg2rad(pose.angle)
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    to_world = np.array(
        [[cos * pose.squeeze, sin, 0], [-sin * pose.squeeze, cos, 0], [0, 0, 1]], np.float64
    )
    centre = to_world @ np.array([picture.shape[1] / 2, picture.shape[0] / 2, 1])
    to_world[0, 2] = pose.x - centre[0]
    to_world[1, 2] = pose.y - centre[1]
    placed = cv2.warpAffine(picture, view @ to_world, (size[1], size[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(placed, np.uint8)


def _bend(picture: Image, amplitude: float) -> Image:
    height = picture.shape[0]
    margin = int(abs(amplitude) * height) + 1
    wide = cv2.copyMakeBorder(picture, 0, 0, margin, margin, cv2.BORDER_CONSTANT, value=(0,) * 4)
    rows = np.arange(height, dtype=np.float32)
    shift = (amplitude * height * np.sin(rows / height * 2 * np.pi)).astype(np.float32)
    grid_x = np.arange(wide.shape[1], dtype=np.float32)[None, :] + shift[:, None]
    grid_y = np.repeat(rows[:, None], wide.shape[1], axis=1)
    return np.asarray(cv2.remap(wide, grid_x, grid_y, cv2.INTER_LINEAR), np.uint8)


def pillar(
    image: NDArray[np.float32], photograph: str, x: float, width: float, view: NDArray[np.float64]
) -> tuple[int, int]:
    """Draw a pillar from top to bottom into ``image``.

    Args:
        image: ``(H, W, 3)``.
        photograph: its surface.
        x: its left edge in the world.
        width: world pixels.
        view: see ``view_of``.

    Returns:
        The first of its columns and the one behind its last; equal when it is out of the picture.
    """
    left = round(view[0, 0] * x + view[0, 2])
    right = round(view[0, 0] * (x + width) + view[0, 2])
    left, right = max(left, 0), min(right, image.shape[1])
    if right <= left:
        return 0, 0
    texture = load_photograph(photograph)
    texture = cv2.resize(texture, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_AREA)
    image[:, left:right] = texture[:, : right - left]
    return left, right


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
