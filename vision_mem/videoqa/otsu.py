"""Where to cut a set of distances in two: Otsu's threshold, as the reference computes it."""

from __future__ import annotations

import torch

BINS = 128
LARGEST = 2.0  # of a cosine distance
_LEAST_VARIANCE = 1e-12
_LEAST_WEIGHT = 1e-6


def otsu(distances: torch.Tensor) -> float | None:
    """The threshold that parts distances best into small and large ones.

    Args:
        distances: ``(n,)`` cosine distances; values outside [0, 2] count as its ends.

    Returns:
        The centre of a bin 1/64 wide; None when there is nothing to part: fewer than two
        distances, all (nearly) equal, or no split with a positive variance between its sides.

    Source:
        Otsu (1979); specs/savemem.md 1.6: 128 bins on [0, 2], splits "bins 0 to i" against the
        rest, sides lighter than 1e-6 left out, the first best split wins.
    """
    if len(distances) < 2:
        return None
    clamped = distances.float().clamp(0.0, LARGEST)
    if float(clamped.var()) <= _LEAST_VARIANCE:
        return None
    # Multiplying by 64 is exact, so a distance falls into the same bin on every machine.
    bins = (clamped * (BINS / LARGEST)).long().clamp(max=BINS - 1)
    # Counts are exact on every device, and 128 of them are faster on the host.
    weights = torch.bincount(bins, minlength=BINS).cpu().double() / len(distances)
    centres = (torch.arange(BINS).double() + 0.5) * (LARGEST / BINS)
    below = weights.cumsum(0)
    moment = (weights * centres).cumsum(0)
    # Empty bins add exact zeros: splits inside a gap tie exactly, and the first one wins.
    allowed = (below >= _LEAST_WEIGHT) & (1.0 - below >= _LEAST_WEIGHT)
    product = torch.where(allowed, below * (1.0 - below), 1.0)
    between = (moment[-1] * below - moment).square() / product
    between = torch.where(allowed, between, -1.0)
    best = int(between.argmax())
    if float(between[best]) <= 0.0:
        return None
    return (best + 0.5) * (LARGEST / BINS)


def otsu_or_median(distances: torch.Tensor) -> float:
    """Otsu's threshold, or the (lower) median where there is none.

    Args:
        distances: ``(n,)`` with n >= 1.
    """
    found = otsu(distances)
    return float(distances.float().clamp(0.0, LARGEST).median()) if found is None else found
