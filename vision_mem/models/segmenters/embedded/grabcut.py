"""From a box to a mask, with colours alone, where tokens have nothing to compare (``token_cut``).

GrabCut (Rother et al., 2004, here OpenCV's) splits colours inside and outside; an ellipse inside
the box stands in where it finds nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.boxes import box_iou
from vision_mem.geometry.masks import mask_to_box


@dataclass(frozen=True)
class CutConfig:
    """Constants of cutting an object out, chosen on generated clips (docs/embedded.md).

    Attributes:
        working_side: longest side, in pixels, of the picture that GrabCut works on.
        margin: how far around the box colours count as background, as a share of its sides.
        sure_core: squared radius, in the box's ellipse of radius 1, of what is surely the object.
        box_agreement: IoU of the found mask's box with the given one, above which it is believed.
        rounds: of GrabCut.
    """

    working_side: int = 240
    margin: float = 0.3
    sure_core: float = 0.35
    box_agreement: float = 0.8
    rounds: int = 3


_DEFAULTS = CutConfig()


def mask_from_box(
    image: NDArray[np.uint8],
    box: NDArray[np.float32],
    points: NDArray[np.float32] | None = None,
    labels: NDArray[np.int32] | None = None,
    config: CutConfig = _DEFAULTS,
) -> NDArray[np.bool_]:
    """Segment what fills a box.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        box: ``(x1, y1, x2, y2)`` pixels, inside the image, at least one pixel.
        points: ``(N, 2)`` pixels, or None.
        labels: ``(N,)`` 1 for the object, 0 for not the object.
        config: constants.

    Returns:
        ``(H, W)`` bool, never empty.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.round(box).astype(int)
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    x2, y2 = min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)
    pad_x, pad_y = int((x2 - x1) * config.margin) + 4, int((y2 - y1) * config.margin) + 4
    left, top = max(0, x1 - pad_x), max(0, y1 - pad_y)
    right, bottom = min(width, x2 + pad_x), min(height, y2 + pad_y)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    scale = min(1.0, config.working_side / max(part.shape[:2]))
    small = _shrink(part, scale)
    inner = np.round(np.array([x1 - left, y1 - top, x2 - left, y2 - top]) * scale).astype(int)
    inner[2:] = np.maximum(inner[2:], inner[:2] + 1)

    rows, columns = np.mgrid[: small.shape[0], : small.shape[1]]
    across = (columns - (inner[0] + inner[2] - 1) / 2) / (inner[2] - inner[0]) * 2
    down = (rows - (inner[1] + inner[3] - 1) / 2) / (inner[3] - inner[1]) * 2
    radius = across**2 + down**2
    marks = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    marks[inner[1] : inner[3], inner[0] : inner[2]] = cv2.GC_PR_FGD
    marks[radius < config.sure_core] = cv2.GC_FGD
    if points is not None and labels is not None:
        places = (points - (left, top)) * scale
        _mark_points(marks, places, labels, max(1, round(0.04 * float(max(inner[2:] - inner[:2])))))
    found = _grab(small, marks, config.rounds)
    agrees = float(box_iou(mask_to_box(found), inner.astype(np.float32)))
    if agrees <= config.box_agreement:
        found = radius < 1
    whole = np.zeros((height, width), bool)
    size = (right - left, bottom - top)
    grown = cv2.resize(found.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    whole[top:bottom, left:right] = grown > 0
    if not whole.any():
        whole[y1:y2, x1:x2] = True
    return whole


def _shrink(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Resize by ``scale``; very long pictures keep a pixel across."""
    fx, fy = max(scale, 1 / image.shape[1]), max(scale, 1 / image.shape[0])
    return np.asarray(cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA))


def _mark_points(
    marks: NDArray[np.uint8], places: NDArray[np.floating], labels: NDArray[np.int32], radius: int
) -> None:
    for (x, y), label in zip(places, labels, strict=True):
        kind = cv2.GC_FGD if label else cv2.GC_BGD
        cv2.circle(marks, (round(float(x)), round(float(y))), radius, int(kind), -1)


def _grab(image: NDArray[np.uint8], marks: NDArray[np.uint8], rounds: int) -> NDArray[np.bool_]:
    """GrabCut from marks; gives the marks themselves where it has nothing to split."""
    kinds = set(np.unique(marks).tolist())
    if not kinds & {cv2.GC_BGD, cv2.GC_PR_BGD} or not kinds & {cv2.GC_FGD, cv2.GC_PR_FGD}:
        return np.asarray((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD))
    marks = marks.copy()
    cv2.setRNGSeed(0)  # GrabCut starts from k-means: same picture, same mask
    inner, outer = np.zeros((1, 65)), np.zeros((1, 65))
    # Fewer colours than mixture components, on tiny or flat pictures, are an error there.
    with contextlib.suppress(cv2.error):
        cv2.grabCut(image, marks, None, inner, outer, rounds, cv2.GC_INIT_WITH_MASK)
    return np.asarray((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD))
