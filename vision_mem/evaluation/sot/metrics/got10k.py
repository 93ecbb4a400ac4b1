"""GOT-10k's measures: average overlap and success rates, over the frames of all sequences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SUCCESS_THRESHOLDS = np.linspace(0.0, 1.0, 101)
"""IoU thresholds of GOT-10k's success plot."""


def clipped_iou(
    predicted: NDArray[np.float64], truth: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Intersection over union after both boxes are clipped to the image.

    A box that begins left of the image or above it is moved in and keeps its width and height,
    as in the toolkit. A box without area scores 0.

    Args:
        predicted: ``(T, 4)`` boxes, x, y, width, height.
        truth: ``(T, 4)``.
        size: ``(height, width)`` of the image.

    Returns:
        ``(T,)`` in [0, 1].

    Source:
        PyPI ``got10k`` 0.1.3, ``utils/metrics.py: rect_iou`` with ``bound``.
    """
    ours, theirs = _clip(predicted, size), _clip(truth, size)
    first = np.maximum(ours[:, :2], theirs[:, :2])
    last = np.minimum(ours[:, :2] + ours[:, 2:], theirs[:, :2] + theirs[:, 2:])
    shared = np.maximum(last - first, 0.0).prod(axis=1)
    union = ours[:, 2:].prod(axis=1) + theirs[:, 2:].prod(axis=1) - shared
    return np.asarray(np.clip(shared / (union + np.finfo(float).eps), 0.0, 1.0))


def _clip(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    limit = np.array([size[1], size[0]], dtype=np.float64)
    corner = np.clip(boxes[:, :2], 0.0, limit)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0.0, limit - corner)], axis=1)


def counted_iou(
    predicted: NDArray[np.float64],
    truth: NDArray[np.float64],
    size: tuple[int, int],
    visible: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """The overlaps that count: not the first frame, and none in which the target is hidden.

    Args:
        predicted: ``(T, 4)`` boxes, x, y, width, height.
        truth: ``(T, 4)``.
        size: ``(height, width)`` of the image.
        visible: ``(T,)``, cover above 0; None counts all.

    Returns:
        ``(N,)`` IoU, N at most T - 1.
    """
    iou = clipped_iou(predicted[1:], truth[1:], size)
    return iou if visible is None else iou[visible[1:]]


def got10k_measures(iou: NDArray[np.float64]) -> dict[str, float]:
    """The numbers papers print, all in [0, 1].

    Args:
        iou: ``(N,)`` of all frames that count, of all sequences and runs in one.

    Returns:
        ``AO`` (their mean), ``SR50`` and ``SR75`` (share above a half, three quarters); NaN
        when no frame counts.
    """
    if not iou.size:
        return dict.fromkeys(("AO", "SR50", "SR75"), float("nan"))
    return {
        "AO": float(iou.mean()),
        "SR50": float((iou > 0.5).mean()),
        "SR75": float((iou > 0.75).mean()),
    }


def success_curve(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of frames with more overlap than each of ``SUCCESS_THRESHOLDS``.

    Args:
        iou: ``(N,)``, at least one.

    Returns:
        ``(101,)``.
    """
    # Counted from the sorted overlaps: pooled sets have millions of frames.
    return 1.0 - np.searchsorted(np.sort(iou), SUCCESS_THRESHOLDS, side="right") / iou.size
