"""Objects cut out of the photographs that scikit-image ships inside its wheel."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError

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
