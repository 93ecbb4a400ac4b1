"""Overlap metrics as pure functions over arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.boxes import box_iou

SUCCESS_THRESHOLDS = np.linspace(0.0, 1.0, 21)
"""IoU thresholds of the success plot (Wu et al., Online Object Tracking, CVPR 2013)."""


def sequence_iou(
    predicted: NDArray[np.floating], truth: NDArray[np.floating]
) -> NDArray[np.float64]:
    """IoU frame by frame.

    Args:
        predicted: ``(T, 4)`` xyxy boxes, zeros where the tracker says absent.
        truth: ``(T, 4)`` xyxy boxes.

    Returns:
        ``(T,)`` IoU in [0, 1]; NaN where the truth has no area.
    """
    scores = np.array([float(box_iou(p, t)) for p, t in zip(predicted, truth, strict=True)])
    empty = (truth[:, 2] <= truth[:, 0]) | (truth[:, 3] <= truth[:, 1])
    scores[empty] = np.nan
    return scores


def success_auc(iou: NDArray[np.float64]) -> float:
    """Area under the success plot: mean over thresholds of the share of frames above (strictly).

    Args:
        iou: ``(T,)``; NaN frames are left out.
    """
    known = iou[~np.isnan(iou)]
    return float(np.mean([(known > threshold).mean() for threshold in SUCCESS_THRESHOLDS]))


def mean_jaccard(
    predicted: Sequence[NDArray[np.bool_]], truth: Sequence[NDArray[np.bool_]]
) -> float:
    """Mean IoU of masks, first and last frame left out (DAVIS 2016); 1 where both are empty."""
    scores = []
    for mask, wanted in list(zip(predicted, truth, strict=True))[1:-1]:
        union = np.count_nonzero(mask | wanted)
        scores.append(np.count_nonzero(mask & wanted) / union if union else 1.0)
    return float(np.mean(scores))
