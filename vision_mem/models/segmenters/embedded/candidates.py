"""What the votes of one window say of an object: candidates, each with an estimate of its IoU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.windows import Window, keep_parts

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


_OUTSIDE = -6.9


@dataclass(frozen=True)
class Candidate:
    """One reading of one frame for one object.

    Attributes:
        logits: ``(s, s)`` float32 in its window.
        window: where it was looked for.
        score: estimated IoU with the truth, (0, 1).
        signs: ``(11,)`` what tells how far it is to be trusted, see ``signs_of``; None for none.
    """

    logits: NDArray[np.float32]
    window: Window
    score: float
    signs: NDArray[np.float64] | None = None


def signs_of(
    candidate: NDArray[np.float32],
    everything: NDArray[np.float32],
    evidence: NDArray[np.float64],
    missing: int,
    meant: float,
) -> NDArray[np.float64]:
    """What tells how far a candidate is to be trusted.

    Args:
        candidate: ``(s, s)`` its logits.
        everything: ``(s, s)`` those of the window with all that looks like the object.
        evidence: from ``candidate_evidence``.
        missing: frames since the object was seen.
        meant: how sure it is that the first mask is what the user meant, [0, 1].

    Returns:
        ``(11,)``: 1, room for the score's logit (``told_signs``), the four parts of the evidence,
        the share of its largest piece, what else in the window looks like the object, how clear
        its pixels are, whether it was missing, and ``meant``.
    """
    on = (candidate > 0).astype(np.uint8)
    count = max(int(np.count_nonzero(on)), 1)
    _, _, stats, _ = cv2.connectedComponentsWithStats(on)
    largest = float(stats[1:, cv2.CC_STAT_AREA].max()) / count if len(stats) > 1 else 1.0
    others = (int(np.count_nonzero(everything > 0)) - count) / count
    clear = float(np.abs(np.tanh(candidate[on > 0] / 2)).mean()) if on.any() else 0.0
    return np.array([
        1.0, 0.0, *evidence[1:], largest,
        min(max(others, 0.0), 2.0), clear, float(missing > 0), meant,
    ])  # fmt: skip


_TOO_LARGE, _JUMP = 1.5, 0.5


def without_double(
    logits: NDArray[np.float32], expected: NDArray[np.float32], usual: float
) -> NDArray[np.float32]:
    """A mask without the look-alike that has run into the object.

    Two of a kind that touch are one piece. Then the mask is larger than the object has been, and
    much of it is not where the object went; only what is there stays. What comes out from behind
    something grows as fast, but not beyond its size.

    Args:
        logits: ``(s, s)``.
        expected: ``(s, s)`` previous mask moved along the optical flow.
        usual: area of the object, pixels of the window.
    """
    on, moved = logits > 0, expected > 0.5
    count, before = int(np.count_nonzero(on)), int(np.count_nonzero(moved))
    inside = int(np.count_nonzero(on & moved))
    if not inside or count < _TOO_LARGE * usual or count - inside < _JUMP * before:
        return logits
    return np.where(moved, logits, np.minimum(logits, np.float32(-2)))


def read_window(
    config: EmbeddedConfig,
    said: NDArray[np.float32],
    logits: NDArray[np.float32],
    window: Window,
    expected: NDArray[np.float32] | None,
    extent: float,
    area: float,
    missing: int = 0,
    meant: float = 1.0,
) -> tuple[Candidate, Candidate, Candidate]:
    """Turn votes into candidates.

    Args:
        config: constants.
        said: ``(2, t, t)`` float32 votes of all memories and of prompted ones alone, [0, 1].
        logits: ``(s, s)`` float32, the object's outline.
        window: where it was looked for.
        expected: ``(s, s)`` previous mask moved along the optical flow, or None.
        extent: longer side of the object, video pixels.
        area: its expected area, video pixels.
        missing: frames since the object was seen.
        meant: how sure it is that the first mask is what the user meant, [0, 1].

    Returns:
        The object's parts, the best part alone, all parts.
    """
    side = config.window
    plain, first = (cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) for one in said)
    kept, single = keep_parts(logits, expected, extent / window.side / 2, config.part_overlap)
    if expected is not None:
        usual = area * (side / window.side) ** 2
        kept, single = (without_double(one, expected, usual) for one in (kept, single))
    made: dict[int, Candidate] = {}
    for some in (kept, single, logits):
        if id(some) in made:  # one part in view is the usual case, and then all three are one
            continue
        evidence = candidate_evidence(
            some, plain, first, expected, window, area, config.no_prior_agreement
        )
        if evidence is None:
            made[id(some)] = Candidate(some, window, NOTHING)
            continue
        score = estimated_iou(evidence, config.weights)
        signs = signs_of(some, logits, evidence, missing, meant)
        made[id(some)] = Candidate(some, window, score, signs)
    main, alone, loose = (made[id(some)] for some in (kept, single, logits))
    return main, replace(alone, score=max(alone.score - config.alone, NOTHING)), loose


def told_signs(one: Candidate) -> NDArray[np.float64] | None:
    """Signs of a candidate with the logit of its score, in which a search has had its say."""
    if one.signs is None or one.score <= NOTHING:
        return None
    signs = one.signs.copy()
    signs[1] = np.log(one.score / max(1 - one.score, 1e-6))
    return signs


def calibrated(one: Candidate, weights: Sequence[float]) -> float:
    """How sure people may be of a candidate: a logistic function of its signs."""
    signs = told_signs(one)
    return NOTHING if signs is None else float(1 / (1 + np.exp(-signs @ np.array(weights))))


def lay_out(candidates: Sequence[Candidate], rows: NDArray[np.float32], scale: float) -> None:
    """Lay M candidates out on the grid on which masks live, ``(M, gh, gw)`` logits.

    What is the same is laid out once; ``scale`` is grid / video.
    """
    for n, one in enumerate(candidates):
        for row, before in zip(rows[:n], candidates, strict=False):
            if before.logits is one.logits and before.window == one.window:
                np.copyto(rows[n], row)
                break
        else:
            one.window.onto_grid(one.logits, rows[n], scale, _OUTSIDE)
