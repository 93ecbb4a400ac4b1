"""Errors of depth over a sequence, after an alignment of all of it at once.

Source: specs/mem4d.md section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError

ALIGNMENTS = ("metric", "median", "scale", "scale&shift")
_ROUNDS, _SHIFT_ROUNDS = 10, 50


@dataclass(frozen=True)
class DepthErrors:
    """Depth against the truth.

    Attributes:
        abs_rel: mean of ``|p - g| / g``.
        sq_rel: mean of ``(p - g)^2 / g``, metres.
        rmse: metres.
        log_rmse: of natural logarithms.
        delta: share of pixels with ``max(p / g, g / p) < 1.25``.
        pixels: compared; data sets weigh sequences by them.
        scale, shift: of the alignment: ``p = scale * predicted + shift``.
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    log_rmse: float
    delta: float
    pixels: int
    scale: float
    shift: float


def depth_errors(
    predicted: ArrayLike,
    true: ArrayLike,
    *,
    align: str = "scale",
    farthest: float | None = None,
) -> DepthErrors:
    """Compare depth maps of a whole sequence.

    Args:
        predicted: ``(..., H, W)``.
        true: of the same shape, metres; what is not above 0 and finite is not known.
        align: ``metric`` (none), ``median`` (ratio of medians), ``scale`` (robust), or
            ``scale&shift`` (least sum of absolute errors), over all pixels of the sequence.
        farthest: true depth that counts at most; the aligned prediction is cut off there.

    Raises:
        InputError: for shapes that differ, or no pixel to compare.
    """
    if align not in ALIGNMENTS:
        raise InputError(f"align is {align!r}; expected one of {', '.join(ALIGNMENTS)}")
    ours, truth = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if ours.shape != truth.shape:
        raise InputError(f"depth has shape {ours.shape}, the truth {truth.shape}; expected one")
    known = np.isfinite(truth) & (truth > 0) & np.isfinite(ours)
    if farthest is not None:
        known &= truth < farthest
    if not known.any():
        raise InputError("no pixel has both a depth and a truth; nothing can be compared")
    p, g = ours[known], truth[known]
    scale, shift = _alignment(p, g, align)
    p = np.clip(scale * p + shift, 1e-6, farthest)
    ratio = np.maximum(p / g, g / p)
    return DepthErrors(
        abs_rel=float(np.mean(np.abs(p - g) / g)),
        sq_rel=float(np.mean((p - g) ** 2 / g)),
        rmse=float(np.sqrt(np.mean((p - g) ** 2))),
        log_rmse=float(np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2))),
        delta=float(np.mean(ratio < 1.25)),
        pixels=len(g),
        scale=scale,
        shift=shift,
    )


def _alignment(p: NDArray[np.float64], g: NDArray[np.float64], align: str) -> tuple[float, float]:
    if align == "metric":
        return 1.0, 0.0
    if align == "median":
        middle = float(np.median(p))
        if middle <= 0:
            raise InputError(f"the median of the depth is {middle:g}; expected more than 0")
        return float(np.median(g)) / middle, 0.0
    if align == "scale":
        return _robust_scale(p, g), 0.0
    return _least_absolute(p, g)


def _robust_scale(p: NDArray[np.float64], g: NDArray[np.float64]) -> float:
    """Least squares again and again, each pixel by the inverse of how far it was off."""
    if not p.mean() > 0:
        raise InputError(f"the mean of the depth is {p.mean():g}; expected more than 0")
    scale = float(g.mean() / p.mean())
    for _ in range(_ROUNDS):
        weight = 1 / (np.abs(scale * p - g) + 1e-8)
        scale = float((weight * p * g).sum() / (weight * p * p).sum())
    return max(scale, 1e-3)


def _least_absolute(p: NDArray[np.float64], g: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shift of the least sum of absolute errors, by least squares with weights."""
    middle = float(np.median(p))
    scale, shift = (float(np.median(g)) / middle if middle > 0 else 1.0), 0.0
    for _ in range(_SHIFT_ROUNDS):
        weight = 1 / (np.abs(scale * p + shift - g) + 1e-8)
        total = weight.sum()
        mean_p, mean_g = (weight * p).sum() / total, (weight * g).sum() / total
        spread = (weight * (p - mean_p) ** 2).sum()
        if not spread > 1e-12 * total:  # one depth everywhere: there is nothing to scale
            return 1.0, float(np.median(g - p))
        scale = float((weight * (p - mean_p) * (g - mean_g)).sum() / spread)
        shift = float(mean_g - scale * mean_p)
    return scale, shift
