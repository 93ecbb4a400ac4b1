"""DAVIS's measures of masks: region similarity J and boundary accuracy F (Perazzi et al. 2016).

A *label image* holds an object's number in each pixel, 0 for background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BOUNDARY_SHARE = 0.008
"""How far apart boundaries may be and still match, as a share of the image's diagonal."""

_VOID = 255  # in truth with several objects: pixels nobody labelled
_DECAY_BINS = 4
_RECALL_ABOVE = 0.5


@dataclass(frozen=True)
class ObjectScore:
    """One object of one sequence.

    Attributes:
        number: the object's value in the truth.
        j: ``(T,)`` region similarity of the frames that count.
        f: ``(T,)`` boundary accuracy of the same.
    """

    number: int
    j: NDArray[np.float64]
    f: NDArray[np.float64]


def true_labels(image: NDArray[np.uint8], *, merge: bool) -> NDArray[np.uint8]:
    """The truth as a label image.

    Args:
        image: ``(H, W)`` as the PNG has it.
        merge: everything marked is object 1 (DAVIS 2016, where it is 255); otherwise 255 is
            "not labelled" and counts as background, as in the official scorer.
    """
    if merge:
        return (image > 0).astype(np.uint8)
    return np.where(image == _VOID, np.uint8(0), image)


def jaccard(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], objects: int
) -> NDArray[np.float64]:
    """Region similarity of each object: intersection over union of its pixels.

    Args:
        predicted: ``(H, W)`` label image.
        truth: ``(H, W)`` label image.
        objects: how many; numbers above are of no object.

    Returns:
        ``(objects,)``; 1 where an object is in neither image.
    """
    pairs = truth.astype(np.intp).ravel() * 256 + predicted.ravel()
    table = np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
    numbers = np.arange(1, objects + 1)
    shared = table[numbers, numbers]
    union = table[numbers].sum(axis=1) + table[:, numbers].sum(axis=0) - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def boundary_f(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], share: float = BOUNDARY_SHARE
) -> float:
    """Boundary accuracy: F-measure of boundary pixels that have a counterpart nearby.

    A pixel lies on the boundary when it differs from its neighbour to the right, below or
    diagonally below. It has a counterpart when a boundary pixel of the other mask lies within
    ``ceil(share * diagonal)`` pixels.

    Args:
        predicted: ``(H, W)`` bool.
        truth: ``(H, W)`` bool.
        share: of the image's diagonal.

    Returns:
        In [0, 1]; 1 when neither mask has a boundary.

    Source:
        ``davis2017-evaluation``, ``metrics.py: f_measure``; distances are taken here instead of
        growing the boundary by a disk, which is the same set of pixels.
    """
    radius = math.ceil(share * math.hypot(*truth.shape))
    window = _window(predicted | truth)
    if window is None:
        return 1.0
    ours, theirs = _boundary(predicted[window]), _boundary(truth[window])
    ours_count, theirs_count = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not ours_count or not theirs_count:
        return 1.0 if ours_count == theirs_count else 0.0
    precision = np.count_nonzero(ours & _near(theirs, radius)) / ours_count
    recall = np.count_nonzero(theirs & _near(ours, radius)) / theirs_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _window(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Where the mask is, with a pixel around it for the boundary; None when it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - 1), int(rows[-1]) + 2),
        slice(max(0, int(columns[0]) - 1), int(columns[-1]) + 2),
    )


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # At the image's last row and column there is no neighbour, hence no difference.
    wide = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, diagonal = wide[:-1, 1:], wide[1:, :-1], wide[1:, 1:]
    return np.asarray((mask != right) | (mask != below) | (mask != diagonal))


def _near(boundary: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    distance = cv2.distanceTransform(
        (~boundary).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    # Squared distances of pixels are whole numbers; half a unit takes rounding out of it.
    return np.asarray(distance < math.sqrt(radius * radius + 0.5))


def statistics(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """What DAVIS says of a measure over the frames of an object.

    Args:
        values: ``(T,)`` of the frames that count.

    Returns:
        Mean; recall, the share of frames above 0.5; decay, the mean of the first quarter less
        that of the last. NaN when there are no frames.
    """
    if not values.size:
        return math.nan, math.nan, math.nan
    edges = np.round(np.linspace(1, len(values), _DECAY_BINS + 1) + 1e-10).astype(int) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[-2] : edges[-1] + 1]
    recall = float((values > _RECALL_ABOVE).mean())
    return float(values.mean()), recall, float(first.mean() - last.mean())


def davis_measures(objects: Sequence[ObjectScore]) -> dict[str, float]:
    """The numbers papers print, each the mean over objects (not sequences).

    Returns:
        ``J&F``, ``J``, ``J_recall``, ``J_decay``, ``F``, ``F_recall``, ``F_decay``.
    """
    j = np.array([statistics(each.j) for each in objects]).reshape(-1, 3)
    f = np.array([statistics(each.f) for each in objects]).reshape(-1, 3)
    if not len(j):
        j = f = np.full((1, 3), np.nan)
    (j_mean, j_recall, j_decay), (f_mean, f_recall, f_decay) = j.mean(axis=0), f.mean(axis=0)
    return {
        "J&F": float((j_mean + f_mean) / 2),
        "J": float(j_mean),
        "J_recall": float(j_recall),
        "J_decay": float(j_decay),
        "F": float(f_mean),
        "F_recall": float(f_recall),
        "F_decay": float(f_decay),
    }
