"""Detections within a box or polygon of the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.models.detectors.filters import Around
from vision_mem.models.detectors.protocol import Detector
from vision_mem.types import Detections, Frame


class Within(Around):
    """Keeps objects whose anchor lies in a region of the picture.

    Args:
        detector: the one that looks, at the whole picture or at a part of it.
        region: ``(4,)`` box x1, y1, x2, y2, or ``(k, 2)`` corners of a polygon, pixels.
        anchor: ``"centre"`` of the box, or ``"foot"``, the middle of its lower edge.
        crop: show the detector only the bounds of the region: quicker for some, and small objects
            are then larger to a network. Objects are cut off at those bounds.
    """

    def __init__(
        self, detector: Detector, region: ArrayLike, *, anchor: str = "centre", crop: bool = False
    ) -> None:
        if anchor not in ("centre", "foot"):
            raise InputError(f"anchor is {anchor!r}; expected centre or foot")
        super().__init__(detector)
        self._corners = _corners(region)
        self._anchor, self._crop = anchor, crop

    def detect(self, frame: Frame) -> Detections | None:
        if not self._crop:
            found = self.detector.detect(frame)
            return None if found is None else found.take(self._inside(found.boxes, frame.size))
        x1, y1, x2, y2 = self._bounds(frame)
        part = replace(
            frame, image=np.ascontiguousarray(frame.image[y1:y2, x1:x2]), model_image=None
        )
        found = self.detector.detect(part)
        if found is None:
            return None
        masks = None
        if found.masks is not None:
            masks = np.zeros((len(found), *frame.size), bool)
            masks[:, y1:y2, x1:x2] = found.masks
        shift = np.array([x1, y1, x1, y1], np.float32)
        found = replace(found, boxes=found.boxes + shift, masks=masks)
        return found.take(self._inside(found.boxes, frame.size))

    def _bounds(self, frame: Frame) -> tuple[int, int, int, int]:
        height, width = frame.size
        low = np.floor(self._corners.min(axis=0)).clip(0).astype(int)
        high = np.minimum(np.ceil(self._corners.max(axis=0)), [width, height]).astype(int)
        if (high <= low).any():
            raise InputError(
                f"the region {self._corners.tolist()} lies outside the picture of {width}x{height}"
            )
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def _inside(self, boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
        y = boxes[:, 3] if self._anchor == "foot" else (boxes[:, 1] + boxes[:, 3]) / 2
        return points_inside(np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, y], axis=1), self._corners)


def _corners(region: ArrayLike) -> NDArray[np.float64]:
    corners = np.asarray(region, np.float64)
    if corners.shape == (4,):
        x1, y1, x2, y2 = corners
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    good = corners.ndim == 2 and corners.shape[1] == 2 and len(corners) >= 3
    if not good or not np.isfinite(corners).all() or (np.ptp(corners, axis=0) <= 0).any():
        raise InputError(
            f"region has shape {np.shape(region)}; expected a box x1, y1, x2, y2 or three or more "
            "corners (x, y) that span an area"
        )
    return corners


def points_inside(points: ArrayLike, corners: ArrayLike) -> NDArray[np.bool_]:
    """Which points lie in a polygon, by counting its edges to their right.

    Args:
        points: ``(n, 2)``.
        corners: ``(k, 2)``, k >= 3, in order.

    Returns:
        ``(n,)`` bool.
    """
    p = np.asarray(points, np.float64)[:, None]
    start = np.asarray(corners, np.float64)
    end = np.roll(start, -1, axis=0)
    crosses = (start[:, 1] > p[..., 1]) != (end[:, 1] > p[..., 1])
    rise = np.where(end[:, 1] == start[:, 1], 1.0, end[:, 1] - start[:, 1])
    at = start[:, 0] + (p[..., 1] - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
    return np.asarray((crosses & (p[..., 0] < at)).sum(axis=1) % 2 == 1)
