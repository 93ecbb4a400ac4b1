"""A constant-velocity filter over boxes, as values: old state in, new state out.

The state is ``(xc, yc, a, h)`` and their velocities: centre in pixels, ``a`` = width / height,
``h`` = height in pixels, one step a frame. Pixels are those of the grid on which masks are
compared, not of the video. All in float64 on the host: half of the devices cannot hold float64.

Source:
    SAMURAI (arXiv 2411.11922), section 4.1, and the noise model of its reference code
    (``sam2/utils/kalman_filter.py``), which is DeepSORT's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.geometry.boxes import box_iou
from vision_mem.geometry.camera_motion import carried_point

if TYPE_CHECKING:
    from filterpy.kalman import KalmanFilter

POSITION_NOISE = 1.0 / 20.0
"""Standard deviation of a position over one frame, as a part of the height."""
VELOCITY_NOISE = 1.0 / 160.0
"""Standard deviation of a velocity over one frame, as a part of the height."""

_TRANSITION = np.eye(8) + np.eye(8, k=4)
_MEASUREMENT = np.eye(4, 8)


@dataclass(frozen=True)
class BoxMotion:
    """What the filter believes.

    Attributes:
        mean: float64 ``(8,)`` ``(xc, yc, a, h, vxc, vyc, va, vh)``.
        covariance: float64 ``(8, 8)``.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @property
    def box(self) -> NDArray[np.float64]:
        """float64 ``(4,)`` ``(x1, y1, x2, y2)``; inverted when the height went below zero."""
        x, y, aspect, height = self.mean[:4]
        half_width, half_height = aspect * height / 2.0, height / 2.0
        return np.array([x - half_width, y - half_height, x + half_width, y + half_height])

    @property
    def spread(self) -> float:
        """Standard deviation of the centre, pixels: the larger one of both axes."""
        return float(np.sqrt(max(self.covariance[0, 0], self.covariance[1, 1], 0.0)))


def measure(extent: ArrayLike) -> NDArray[np.float64]:
    """Turn a box ``(x1, y1, x2, y2)``, last pixel included, into what the filter measures.

    That is float64 ``(4,)`` ``(xc, yc, a, h)``, pixels; a height of 0 counts as 1.
    """
    x1, y1, x2, y2 = np.asarray(extent, dtype=np.float64)
    height = y2 - y1
    height = 1.0 if height == 0 else height
    return np.array([(x1 + x2) / 2.0, (y1 + y2) / 2.0, (x2 - x1) / height, height])


def start(extent: ArrayLike) -> BoxMotion:
    """Start at rest from one box ``(4,)`` in pixels, last pixel included."""
    z = measure(extent)
    p, v = POSITION_NOISE * z[3], VELOCITY_NOISE * z[3]
    deviation = np.array([2 * p, 2 * p, 1e-2, 2 * p, 10 * v, 10 * v, 1e-5, 10 * v])
    return BoxMotion(np.concatenate([z, np.zeros(4)]), np.diag(np.square(deviation)))


def predict(motion: BoxMotion) -> BoxMotion:
    """Move one frame on. The given state stays as it was, so looking ahead costs nothing."""
    p, v = POSITION_NOISE * motion.mean[3], VELOCITY_NOISE * motion.mean[3]
    deviation = np.array([p, p, 1e-2, p, v, v, 1e-5, v])
    kalman = _filter(motion)
    kalman.predict(Q=np.diag(np.square(deviation)))
    return _state(kalman)


def carried(motion: BoxMotion, matrix: NDArray[np.float64]) -> BoxMotion:
    """Where a camera's motion takes what the filter believes.

    Args:
        motion: before it.
        matrix: ``(3, 3)`` homography, in pixels of the filter's grid.

    Source:
        As BoT-SORT (arXiv 2206.14651), section 3.2, does with an affine motion.
    """
    middle, turn = carried_point(motion.mean[0], motion.mean[1], matrix)
    scale = float(np.sqrt(abs(np.linalg.det(turn))))
    half = np.eye(4)
    half[:2, :2], half[3, 3] = turn, scale
    whole = np.kron(np.eye(2), half)
    mean = whole @ motion.mean
    mean[:2] = middle
    return BoxMotion(mean, whole @ motion.covariance @ whole.T)


def update(predicted: BoxMotion, extent: ArrayLike) -> BoxMotion:
    """Correct this frame's prediction by the box seen, ``(4,)`` pixels, last pixel included."""
    p = POSITION_NOISE * predicted.mean[3]
    kalman = _filter(predicted)
    kalman.update(measure(extent), R=np.diag(np.square([p, p, 1e-1, p])))
    return _state(kalman)


def motion_ious(predicted: BoxMotion, extents: ArrayLike) -> NDArray[np.float64]:
    """How well candidates' boxes ``(M, 4)`` agree with the prediction for this frame.

    Box IoU, float64 ``(M,)``; 0 for empty masks, whose boxes are zeros.
    """
    boxes = np.asarray(extents, dtype=np.float64)
    return np.where(boxes.any(axis=-1), box_iou(boxes, predicted.box), 0.0)


def _filter(motion: BoxMotion) -> KalmanFilter:
    from filterpy.kalman import KalmanFilter  # with scipy; settings are read without it

    kalman = KalmanFilter(dim_x=8, dim_z=4)
    kalman.F, kalman.H = _TRANSITION, _MEASUREMENT
    kalman.x, kalman.P = motion.mean, motion.covariance
    return kalman


def _state(kalman: KalmanFilter) -> BoxMotion:
    return BoxMotion(np.array(kalman.x, dtype=np.float64), np.array(kalman.P, dtype=np.float64))
