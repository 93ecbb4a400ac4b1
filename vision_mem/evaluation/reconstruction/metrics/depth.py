"""Errors of depth over a sequence, after an alignment of all of it at once.

The rules are those of MonST3R and CUT3R, their quirks included; ``strict`` has them corrected.
What differs is said in docs/scoring.md. Sums run over slices: a sequence has tens of millions of
pixels.

Source: specs/mem4d.md section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError

ALIGNMENTS = ("metric", "median", "scale", "scale&shift")
SOLVERS = ("irls", "adam")
"""How scale and shift are found: the least sum of errors, or as the peers' code looks for it."""

Pixels = NDArray[np.float32]

_ROUNDS, _SHIFT_ROUNDS = 10, 50
_LEAST_SCALE, _LEAST_DEPTH = 1e-3, 1e-5
_STEPS, _RATE, _CLOSE = 1000, 1e-4, 1e-6
_SLICE = 1 << 20
_RATIOS = np.linspace(1.0, 2.0, 101)


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
    clip: bool = True,
    solver: str = "irls",
    strict: bool = False,
) -> DepthErrors:
    """Compare depth maps of a whole sequence.

    Args:
        predicted: ``(..., H, W)``.
        true: of the same shape, metres; what is not above 0 and finite is not known.
        align: ``metric`` (none), ``median`` (ratio of medians), ``scale`` (robust), or
            ``scale&shift`` (least sum of absolute errors), over all pixels of the sequence.
        farthest: true depth that counts at most.
        clip: the aligned prediction is cut off at ``farthest``; never when ``strict``.
        solver: of ``scale&shift``, one of ``SOLVERS``.
        strict: see ``fit_depth``.

    Raises:
        InputError: for shapes that differ, or no pixel to compare.
    """
    ours, truth = np.asarray(predicted, np.float32), np.asarray(true, np.float32)
    if ours.shape != truth.shape:
        raise InputError(f"depth has shape {ours.shape}, the truth {truth.shape}; expected one")
    known = comparable(ours, truth, farthest)
    p, g = ours[known], truth[known]
    scale, shift = fit_depth(p, g, align, solver=solver, strict=strict)
    cut = farthest if clip and not strict else None
    return pixel_errors(p, g, scale, shift, cut)


def comparable(ours: Pixels, truth: Pixels, farthest: float | None) -> NDArray[np.bool_]:
    """Which pixels have both a depth and a truth that counts."""
    known = np.isfinite(truth) & (truth > 0) & np.isfinite(ours)
    if farthest is not None:
        known &= truth < farthest
    return np.asarray(known)


def fit_depth(
    p: Pixels, g: Pixels, align: str, *, solver: str = "irls", strict: bool = False
) -> tuple[float, float]:
    """Scale and shift that bring depth onto the truth.

    Args:
        p: ``(N,)`` predicted depth of the pixels that are compared.
        g: ``(N,)`` the truth.
        align: one of ``ALIGNMENTS``.
        solver: of ``scale&shift``, one of ``SOLVERS``.
        strict: the peers' code takes the lower of two middle values as the median, stops the
            robust scale after ten rounds, and takes no scale below 0.001; this does not.

    Raises:
        InputError: for other words, no pixels, or depth that cannot be scaled.
    """
    if align not in ALIGNMENTS:
        raise InputError(f"align is {align!r}; expected one of {', '.join(ALIGNMENTS)}")
    if solver not in SOLVERS:
        raise InputError(f"compat is {solver!r}; expected one of {', '.join(SOLVERS)}")
    if not len(p):
        raise InputError("no pixel has both a depth and a truth; nothing can be compared")
    if align == "metric":
        return 1.0, 0.0
    if align == "scale":
        return (_exact_scale(p, g) if strict else _robust_scale(p, g)), 0.0
    middle, true = (float(np.median(v)) if strict else lower_median(v) for v in (p, g))
    if align == "median":
        if middle <= 0:
            raise InputError(f"the median of the depth is {middle:g}; expected more than 0")
        return true / middle, 0.0
    start = true / middle if middle > 0 else 1.0
    return _by_adam(p, g, start) if solver == "adam" else _least_absolute(p, g, start)


def pixel_errors(
    p: Pixels, g: Pixels, scale: float, shift: float, cut: float | None = None
) -> DepthErrors:
    """Errors of pixels after an alignment.

    Args:
        p: ``(N,)`` predicted depth, N >= 1.
        g: ``(N,)`` the truth.
        scale: of the alignment.
        shift: of the alignment.
        cut: what lies beyond is taken to lie there.
    """
    sums = np.zeros(5)
    for found, low, true in _aligned(p, g, scale, shift, cut):
        off = found - true
        ratio = np.maximum(low / true, true / low)
        sums += (
            (np.abs(off) / true).sum(), (off * off / true).sum(), (off * off).sum(),
            (np.log(low / true) ** 2).sum(), np.count_nonzero(ratio < 1.25),
        )  # fmt: skip
    mean = sums / len(p)
    return DepthErrors(
        abs_rel=float(mean[0]), sq_rel=float(mean[1]), rmse=float(np.sqrt(mean[2])),
        log_rmse=float(np.sqrt(mean[3])), delta=float(mean[4]), pixels=len(p),
        scale=scale, shift=shift,
    )  # fmt: skip


def ratio_curve(
    p: Pixels, g: Pixels, scale: float, shift: float, cut: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of pixels whose depth is right up to a factor, for factors from 1 to 2."""
    counts = np.zeros(len(_RATIOS))
    for _, low, true in _aligned(p, g, scale, shift, cut):
        ratio = np.sort(np.maximum(low / true, true / low))
        counts += np.searchsorted(ratio, _RATIOS, side="left")
    return _RATIOS, counts / len(p)


def _aligned(
    p: Pixels, g: Pixels, scale: float, shift: float, cut: float | None
) -> Iterator[tuple[NDArray[np.float64], ...]]:
    """Aligned depth, the same above 0 for ratios and logarithms, and the truth."""
    for some, true in _slices(p, g):
        found = scale * some + shift
        if cut is not None:
            np.minimum(found, cut, out=found)
        yield found, np.maximum(found, _LEAST_DEPTH), true


def _slices(p: Pixels, g: Pixels) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    for start in range(0, len(p), _SLICE):
        part = slice(start, start + _SLICE)
        yield p[part].astype(np.float64), g[part].astype(np.float64)


def lower_median(values: NDArray[np.floating]) -> float:
    """The lower of two middle values, as torch has it."""
    middle = (len(values) - 1) // 2
    return float(np.partition(values, middle)[middle])


def _robust_scale(p: Pixels, g: Pixels) -> float:
    """Least squares again and again, each pixel by the inverse of how far it was off."""
    mean = float(p.mean(dtype=np.float64))
    if not mean > 0:
        raise InputError(f"the mean of the depth is {mean:g}; expected more than 0")
    scale = float(g.mean(dtype=np.float64)) / mean
    for _ in range(_ROUNDS):
        above = below = 0.0
        for some, true in _slices(p, g):
            weight = 1 / (np.abs(scale * some - true) + 1e-8)
            above += float((weight * some * true).sum())
            below += float((weight * some * some).sum())
        scale = above / below
    return max(scale, _LEAST_SCALE)


def _exact_scale(p: Pixels, g: Pixels) -> float:
    """The scale of the least sum of absolute errors: a median of ratios, weighted by depth."""
    some = p > 0
    if not some.any():
        raise InputError("no depth is above 0; it cannot be scaled")
    depth, ratio = p[some], g[some] / p[some]
    order = np.argsort(ratio)
    weight = np.cumsum(depth[order], dtype=np.float64)
    return float(ratio[order[np.searchsorted(weight, weight[-1] / 2)]])


def _least_absolute(p: Pixels, g: Pixels, start: float) -> tuple[float, float]:
    """Scale and shift of the least sum of absolute errors, by least squares with weights."""
    scale, shift = start, 0.0
    for _ in range(_SHIFT_ROUNDS):
        sums = np.zeros(5)
        for some, true in _slices(p, g):
            weight = 1 / (np.abs(scale * some + shift - true) + 1e-8)
            heavy = weight * some
            sums += (
                weight.sum(), heavy.sum(), (weight * true).sum(),
                (heavy * some).sum(), (heavy * true).sum(),
            )  # fmt: skip
        total, of_p, of_g, of_pp, of_pg = sums
        spread = of_pp - of_p * of_p / total
        # One depth everywhere: there is nothing to scale.
        if not spread > 1e-10 * of_pp:
            return 1.0, float(np.median(g - p))
        scale = float((of_pg - of_p * of_g / total) / spread)
        shift = float((of_g - scale * of_p) / total)
    return scale, shift


def _by_adam(p: Pixels, g: Pixels, start: float) -> tuple[float, float]:
    """Scale and shift as the peers' code finds them: a thousand small steps from the start.

    It moves each by at most about 0.1, so that depth in small units is not brought to metres.
    """
    at, first, second = np.array([start, 0.0]), np.zeros(2), np.zeros(2)
    before = None
    for step in range(1, _STEPS + 1):
        loss, slope = 0.0, np.zeros(2)
        for some, true in _slices(p, g):
            off = at[0] * some + at[1] - true
            loss += float(np.abs(off).sum())
            sign = np.sign(off)
            slope += ((sign * some).sum(), sign.sum())
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope * slope
        size = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        at = at - _RATE * first / (1 - 0.9**step) / size
        if before is not None and abs(before - loss) < _CLOSE:
            break
        before = loss
    return float(at[0]), float(at[1])
