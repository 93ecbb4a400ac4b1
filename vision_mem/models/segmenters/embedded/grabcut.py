"""From a box or clicks to a mask, with colours alone: GrabCut around what the user pointed at.

SAM 2 has learned this; the embedded segmenter has not. GrabCut (Rother et al., 2004, here
OpenCV's) splits colours inside and outside; it is good where an object differs in colour from
what is around it, and an ellipse inside the box stands in where it finds nothing.
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
        click_sizes: diameters, as shares of the picture's shorter side, tried with a lone click.
    """

    working_side: int = 240
    margin: float = 0.3
    sure_core: float = 0.35
    box_agreement: float = 0.8
    rounds: int = 3
    click_sizes: tuple[float, ...] = (0.12, 0.25, 0.5)


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


def masks_from_points(
    image: NDArray[np.uint8],
    points: NDArray[np.float32],
    labels: NDArray[np.int32],
    before: NDArray[np.bool_] | None = None,
    config: CutConfig = _DEFAULTS,
) -> list[NDArray[np.bool_]]:
    """Segment what was clicked on, or correct a mask by clicks.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        points: ``(N, 2)`` pixels inside the image.
        labels: ``(N,)`` 1 for the object, 0 for not the object.
        before: ``(H, W)`` bool mask to be corrected, or None for a new object.
        config: constants.

    Returns:
        ``(H, W)`` bool masks: one for a correction, else a small, a medium and a large reading
        of the clicks.
    """
    height, width = image.shape[:2]
    scale = min(1.0, 2 * config.working_side / max(height, width))
    small = _shrink(image, scale)
    places = points * scale
    shape, short = small.shape[:2], min(small.shape[:2])
    rows, columns = np.mgrid[: shape[0], : shape[1]]

    def finish(marks: NDArray[np.uint8], size: float) -> NDArray[np.bool_]:
        _mark_points(marks, places, labels, max(1, round(size / 12)))
        found = _only_clicked(_grab(small, marks, config.rounds), places[labels == 1])
        grown = cv2.resize(found.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        return np.asarray(grown > 0)

    if before is not None and before.any():
        old = cv2.resize(before.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_AREA)
        marks = np.where(old > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        box = mask_to_box(old > 0)
        return [finish(marks, float(max(box[2:] - box[:2])))]
    masks = []
    inside = places[labels == 1] if (labels == 1).any() else places
    for share in config.click_sizes:
        reach = share * short
        distance = np.full(shape, np.inf)
        for x, y in inside:
            distance = np.minimum(distance, np.hypot(columns - x, rows - y))
        marks = np.full(shape, cv2.GC_BGD, np.uint8)
        marks[distance < 1.1 * reach] = cv2.GC_PR_BGD
        marks[distance < 0.6 * reach] = cv2.GC_PR_FGD
        masks.append(finish(marks, reach))
    return masks


def click_score(mask: NDArray[np.bool_]) -> float:
    """Preference among readings ``(H, W)`` of a click, in (0, 1).

    Those that fill their box and are not the whole picture come first.
    """
    box = mask_to_box(mask)
    extent = float(np.prod(box[2:] - box[:2]))
    if extent == 0:
        return 0.01
    share = extent / mask.size
    fill = float(mask.sum()) / extent
    return float(np.clip(0.9 * fill * (1 - share) - (0.4 if share > 0.6 else 0.0), 0.01, 0.99))


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


def _only_clicked(mask: NDArray[np.bool_], clicks: NDArray[np.floating]) -> NDArray[np.bool_]:
    """The connected parts that hold a click."""
    if not len(clicks):
        return mask
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    rows = np.clip(np.round(clicks[:, 1]).astype(int), 0, mask.shape[0] - 1)
    columns = np.clip(np.round(clicks[:, 0]).astype(int), 0, mask.shape[1] - 1)
    wanted = set(labels[rows, columns].tolist()) - {0}
    return np.isin(labels, list(wanted)) if wanted else mask
