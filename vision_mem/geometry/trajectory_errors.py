"""Errors of camera paths: absolute after alignment, and relative from frame to frame.

Source: specs/mem4d.md section 3.2; Sturm et al. 2012 (the TUM benchmark); Umeyama 1991.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.poses import aligned, inverse, rotation_angle

ALIGN = ("sim3", "se3", "none")
MOST_APART_S = 0.02
"""Seconds by which two poses of one moment may differ (TUM's own tool)."""
_FLAT = 1e-6


@dataclass(frozen=True)
class PathErrors:
    """One path against the truth.

    Attributes:
        ate: root mean square of the distances of aligned positions, metres of the truth.
        ate_mean, ate_median, ate_max: of the same distances.
        rpe_translation: root mean square of what relative motions are off, metres of the truth.
        rpe_rotation: the same in degrees.
        poses: compared.
        scale: that the path was multiplied by.
        degenerate: whether the positions lie on a line or a point, so that the alignment is not
            the only one: such a path is to be counted, not passed over.
        distances: ``(N,)`` metres by which each aligned position is off.
    """

    ate: float
    ate_mean: float
    ate_median: float
    ate_max: float
    rpe_translation: float
    rpe_rotation: float
    poses: int
    scale: float
    degenerate: bool
    distances: NDArray[np.float64] = field(
        default_factory=lambda: np.zeros(0), repr=False, compare=False
    )


def path_errors(
    found: ArrayLike, true: ArrayLike, *, align: str = "sim3", delta: int = 1
) -> PathErrors:
    """Compare a path with the truth, pose by pose.

    Args:
        found: ``(N, 4, 4)`` camera-to-world, N >= 2, N >= 3 where there is to be an alignment.
        true: ``(N, 4, 4)`` of the same moments.
        align: ``sim3`` (rotation, translation and scale: paths without a scale of their own),
            ``se3`` (no scale: depth cameras), or ``none``.
        delta: frames between the poses of a relative motion; all pairs are taken.

    Raises:
        InputError: for arrays that do not fit together, or too few poses.
    """
    if align not in ALIGN:
        raise InputError(f"align is {align!r}; expected one of {', '.join(ALIGN)}")
    ours, truth = np.asarray(found, np.float64), np.asarray(true, np.float64)
    least = 2 if align == "none" else 3
    if ours.shape != truth.shape or ours.shape[1:] != (4, 4) or len(ours) < least:
        raise InputError(
            f"paths have shapes {ours.shape} and {truth.shape}; expected two equal (N, 4, 4) with "
            f"N >= {least}"
        )
    if not (np.isfinite(ours).all() and np.isfinite(truth).all()):
        raise InputError("a path holds numbers that are not finite; leave such poses out")
    if not 1 <= delta < len(ours):
        raise InputError(f"delta is {delta}; expected 1 to {len(ours) - 1}")
    scale, motion = 1.0, np.eye(4)
    if align != "none":
        scale, motion = aligned(ours[:, :3, 3], truth[:, :3, 3], with_scale=align == "sim3")
    moved = ours.copy()
    moved[:, :3, 3] *= scale
    moved = motion @ moved
    distance = np.linalg.norm(moved[:, :3, 3] - truth[:, :3, 3], axis=1)
    shift, turn = _relative(moved, truth, [(k, k + delta) for k in range(len(ours) - delta)])
    return PathErrors(
        ate=_rms(distance),
        ate_mean=float(distance.mean()),
        ate_median=float(np.median(distance)),
        ate_max=float(distance.max()),
        rpe_translation=_rms(shift),
        rpe_rotation=_rms(np.degrees(turn)),
        poses=len(ours),
        scale=scale,
        degenerate=align != "none" and (_thin(ours[:, :3, 3]) or _thin(truth[:, :3, 3])),
        distances=distance,
    )


def errors_over_distance(
    found: ArrayLike, true: ArrayLike, metres: float, *, scale: float = 1.0
) -> tuple[float, float]:
    """Relative errors over pieces of the true path, from each pose to the first so far along it.

    Args:
        found: ``(N, 4, 4)`` camera-to-world.
        true: ``(N, 4, 4)`` of the same moments.
        metres: length of a piece, above 0.
        scale: that the path found is multiplied by, as ``PathErrors`` says it.

    Returns:
        Root mean squares in metres and degrees; NaN where the true path is shorter.
    """
    ours, truth = np.array(found, np.float64), np.asarray(true, np.float64)
    ours[:, :3, 3] *= scale
    steps = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    # A margin for sums of steps that rounding leaves just below.
    ends = np.searchsorted(along, along + metres * (1 - 1e-9))
    pairs = [(k, m) for k, m in enumerate(ends.tolist()) if m < len(ours)]
    if not pairs:
        return float("nan"), float("nan")
    shift, turn = _relative(ours, truth, pairs)
    return _rms(shift), _rms(np.degrees(turn))


def _relative(
    ours: NDArray[np.float64], truth: NDArray[np.float64], pairs: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres and radians by which motions between pairs of poses are off."""
    shift, turn = [], []
    for k, m in pairs:
        step = inverse(ours[k]) @ ours[m]
        off = inverse(inverse(truth[k]) @ truth[m]) @ step
        shift.append(np.linalg.norm(off[:3, 3]))
        turn.append(rotation_angle(off[:3, :3]))
    return np.array(shift), np.array(turn)


def _thin(points: NDArray[np.float64]) -> bool:
    """Whether points lie on a line, or are one point."""
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(spread[1] <= _FLAT * max(float(spread[0]), 1e-12))


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def associate(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    most_apart: float = MOST_APART_S,
) -> list[tuple[int, int]]:
    """Pairs of moments that belong together, the closest first, each taken once.

    Args:
        first: seconds, rising.
        second: seconds, rising.
        most_apart: seconds by which a pair may differ.

    Returns:
        Positions in both, in the order of ``first``.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    near = []
    for k, stamp in enumerate(one.tolist()):
        low, high = np.searchsorted(other, (stamp - most_apart, stamp + most_apart))
        # A margin for numbers that rounding put on the other side of the bound.
        for m in range(max(int(low) - 1, 0), min(int(high) + 1, len(other))):
            apart = abs(float(other[m]) - stamp)
            if apart <= most_apart + 1e-9:
                near.append((apart, k, m))
    taken_one: set[int] = set()
    taken_other: set[int] = set()
    pairs = []
    for _, k, m in sorted(near):
        if k not in taken_one and m not in taken_other:
            taken_one.add(k)
            taken_other.add(m)
            pairs.append((k, m))
    return sorted(pairs)
