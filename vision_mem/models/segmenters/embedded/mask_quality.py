"""How good a mask probably is: SAM 2 has learned to guess its IoU, here evidence is weighed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vision_mem.models.segmenters.embedded.windows import Window

NOTHING = 0.01
"""Estimate of an empty candidate, and the lowest of any."""


def candidate_evidence(
    logits: NDArray[np.float32],
    votes: NDArray[np.float32],
    first: NDArray[np.float32],
    expected: NDArray[np.float32] | None,
    window: Window,
    area: float,
    no_prior_agreement: float,
) -> NDArray[np.float64] | None:
    """What speaks for a candidate.

    Args:
        logits: ``(s, s)`` of the candidate in its window.
        votes: ``(s, s)`` votes of all memories, [0, 1].
        first: ``(s, s)`` votes of prompted memories alone.
        expected: ``(s, s)`` previous mask moved along the optical flow, or None.
        window: of the candidate.
        area: expected area of the object, video pixels.
        no_prior_agreement: stands for the agreement with ``expected`` where there is none.

    Returns:
        ``(5,)``: 1, mean vote inside, IoU with the moved mask, agreement of areas, mean vote of
        prompted memories inside; None for an empty candidate.
    """
    on = logits > 0
    count = int(np.count_nonzero(on))
    if count == 0:
        return None
    agreement = no_prior_agreement
    if expected is not None:
        moved = expected > 0.5
        agreement = int(np.count_nonzero(moved & on)) / max(int(np.count_nonzero(moved | on)), 1)
    size = count * (window.side / logits.shape[0]) ** 2
    ratio = min(size / max(area, 1.0), max(area, 1.0) / size)
    return np.array([1.0, float(votes[on].mean()), agreement, ratio, float(first[on].mean())])


def estimated_iou(evidence: NDArray[np.float64], weights: Sequence[float]) -> float:
    """Logistic function of the weighed evidence, in (0, 1)."""
    return float(1 / (1 + np.exp(-evidence @ np.array(weights))))
