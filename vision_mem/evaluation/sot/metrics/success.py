"""Success and precision curves of one-pass evaluation (Wu et al., CVPR 2013), as pytracking's.

Boxes are x, y, width, height. Which quirks of the field's scorer are kept, and why, is said in
``docs/scoring.md``; ``strict=True`` leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUCCESS_THRESHOLDS = np.linspace(0.0, 1.0, 21)
"""IoU thresholds of the success plot (Wu et al., Online Object Tracking, CVPR 2013)."""
PRECISION_THRESHOLDS = np.arange(51.0)
"""Centre errors of the precision plot, pixels."""
NORMALISED_THRESHOLDS = np.arange(51) / 100
"""Centre errors of the normalised precision plot, shares of the true width and height."""

_AT_HALF, _AT_THREE_QUARTERS = 10, 15  # of the success thresholds
_AT_20_PIXELS, _AT_A_FIFTH = 20, 20  # of the two precision thresholds

ABSENT = ("miss", "pytracking", "skip")
"""What can be done with frames without target, see ``success_curves``."""

# pytracking's names of the sets it treats apart.
_LASOT, _UAV = "lasot", "uav"
_HIT, _MISS = -1.0, np.inf  # errors that every threshold takes, or none


@dataclass(frozen=True)
class FrameErrors:
    """How far off each frame is.

    Attributes:
        overlap: ``(T,)`` intersection over union; -1 where there is nothing to be found.
        centre: ``(T,)`` distance of centres in pixels.
        normalised: ``(T,)`` the same with each axis divided by the true size.
        valid: ``(T,)`` bool: the truth has area and is not flagged as absent.
    """

    overlap: NDArray[np.float64]
    centre: NDArray[np.float64]
    normalised: NDArray[np.float64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class SuccessCurves:
    """The three curves of one sequence, or of several.

    Attributes:
        success: ``(21,)`` share of frames with more overlap than ``SUCCESS_THRESHOLDS``.
        precision: ``(51,)`` share of frames no further off than ``PRECISION_THRESHOLDS``.
        normalised: ``(51,)`` the same for ``NORMALISED_THRESHOLDS``.
    """

    success: NDArray[np.float64]
    precision: NDArray[np.float64]
    normalised: NDArray[np.float64]


def carry_forward(
    predicted: NDArray[np.float64], truth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Put the box before in the place of boxes without width or height.

    So "absent" in a result file scores as "still where it was". The first row stays, and rows
    where the truth is NaN stay.

    Args:
        predicted: ``(T, 4)`` boxes, x, y, width, height.
        truth: ``(T, 4)``.

    Returns:
        ``(T, 4)``, a copy.
    """
    replaced = (predicted[:, 2:] == 0).any(axis=1) & ~np.isnan(truth).any(axis=1)
    rows = np.arange(len(predicted))
    # Of the rows up to each, the last that is not replaced; the first where there is none.
    return predicted[np.maximum.accumulate(np.where(replaced, 0, rows))]


def overlaps(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes counted in whole pixels.

    The sums are pytracking's in their order, so that ties with thresholds fall as there.

    Args:
        predicted: ``(T, 4)`` boxes, x, y, width, height.
        truth: ``(T, 4)``.

    Returns:
        ``(T,)``; NaN where neither has area.
    """
    first = np.maximum(predicted[:, :2], truth[:, :2])
    last = np.minimum(predicted[:, :2] + predicted[:, 2:] - 1.0, truth[:, :2] + truth[:, 2:] - 1.0)
    shared = np.maximum(last - first + 1.0, 0.0).prod(axis=1)
    union = predicted[:, 2:].prod(axis=1) + truth[:, 2:].prod(axis=1) - shared
    return np.asarray(shared / union)


def frame_errors(
    predicted: NDArray[np.float64],
    truth: NDArray[np.float64],
    *,
    visible: NDArray[np.bool_] | None = None,
    tag: str = "",
    strict: bool = False,
    absent: str = "miss",
) -> FrameErrors:
    """Compare a result with the truth, frame by frame.

    The first box of the result does not count: the truth's is taken. See ``carry_forward`` for
    boxes without area.

    Args:
        predicted: ``(N, 4)`` boxes, x, y, width, height, finite, no negative size. Fewer than the
            truth: the frames it lacks are missed. More: they are left out.
        truth: ``(T, 4)``; NaN or no area where the target is absent.
        visible: ``(T,)``, where the set flags frames.
        tag: pytracking's name of the set; ``lasot`` and ``uav`` have rules of their own.
        strict: count no frame as hit in which there is nothing to be found.
        absent: with ``miss``, the overlap of ``lasot`` is taken wherever the truth has a box,
            flagged or not; that gives the published AUC of ATOM, 0.515.

    Returns:
        The errors. Without ``strict``, frames with nothing to be found are hits of the
        normalised precision (but frames of ``lasot`` that are flagged), and for ``uav`` hits of
        the precision as well.

    Source:
        pytracking, ``analysis/extract_results.py: calc_seq_err_robust``.
    """
    given = predicted[: len(truth)]
    predicted = np.zeros_like(truth)
    predicted[: len(given)] = carry_forward(given, truth[: len(given)])
    predicted[:1] = truth[:1]
    boxed = np.asarray((truth[:, 2:] > 0).all(axis=1))
    valid = boxed if visible is None else boxed & visible
    # No area divides by zero, and nonsense of a tracker may overflow; both become misses.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        overlap = overlaps(predicted, truth)
        predicted_centre = predicted[:, :2] + 0.5 * (predicted[:, 2:] - 1.0)
        true_centre = truth[:, :2] + 0.5 * (truth[:, 2:] - 1.0)
        centre = _length(predicted_centre - true_centre)
        normalised = _length(predicted_centre / truth[:, 2:] - true_centre / truth[:, 2:])
    overlap[~(boxed if tag == _LASOT and absent == "miss" else valid)] = -1.0
    centre[~valid] = _HIT if tag == _UAV and not strict else _MISS
    normalised[~valid] = _MISS if strict else _HIT
    if tag == _LASOT and visible is not None:
        centre[~visible] = _MISS
        normalised[~visible] = _MISS
    return FrameErrors(overlap, centre, normalised, valid)


def _length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt((vectors**2).sum(axis=1)))


def success_curves(errors: FrameErrors, *, absent: str = "miss") -> SuccessCurves | None:
    """Shares of frames of one sequence within each threshold; None when no frame is left.

    With ``absent`` ``skip`` frames without target are left out; otherwise the shares are of all
    frames, so that those without target lower the success.
    """
    counted = errors.valid if absent == "skip" else np.ones_like(errors.valid)
    if not counted.any():
        return None
    return SuccessCurves(
        success=(errors.overlap[counted, None] > SUCCESS_THRESHOLDS).mean(axis=0),
        precision=(errors.centre[counted, None] <= PRECISION_THRESHOLDS).mean(axis=0),
        normalised=(errors.normalised[counted, None] <= NORMALISED_THRESHOLDS).mean(axis=0),
    )


def mean_curves(curves: Sequence[SuccessCurves]) -> SuccessCurves:
    """The mean over sequences, or over runs of one: each counts the same, however long."""
    return SuccessCurves(
        success=np.mean([each.success for each in curves], axis=0),
        precision=np.mean([each.precision for each in curves], axis=0),
        normalised=np.mean([each.normalised for each in curves], axis=0),
    )


def success_measures(curves: SuccessCurves) -> dict[str, float]:
    """The numbers papers print, all in [0, 1].

    Returns:
        ``AUC`` (mean of the success curve), ``OP50`` and ``OP75`` (share of frames with more than
        half, three quarters overlap), ``P`` (no more than 20 pixels off), ``P_norm`` (no more
        than a fifth of the target's size off).
    """
    return {
        "AUC": float(curves.success.mean()),
        "OP50": float(curves.success[_AT_HALF]),
        "OP75": float(curves.success[_AT_THREE_QUARTERS]),
        "P": float(curves.precision[_AT_20_PIXELS]),
        "P_norm": float(curves.normalised[_AT_A_FIFTH]),
    }
