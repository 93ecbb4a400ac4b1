"""Which candidate wins: the best estimate, or one mixed with the motion filter's opinion.

The motion-aware choice has three states, named after what happens in them:

* ``A``, no steady filter: it starts from the best estimate;
* ``B``, warming up: the best estimate wins and the filter learns from it;
* ``C``, steady: estimate and motion agree on a winner.

A poor estimate leads back to ``A``. Nothing here touches a tensor.

Source:
    SAMURAI (arXiv 2411.11922), section 4.1, and its reference code, ``sam2_base.py:
    _forward_sam_heads``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import check_choice, check_range
from vision_mem.tracking.kalman import BoxMotion, motion_ious, predict, start, update

CHOICES = ("iou", "motion")
PROMPT_MOTIONS = ("init", "clicks")


@dataclass(frozen=True)
class MaskSelectionConfig:
    """Which candidate mask wins. The defaults are SAMURAI's with its oddities repaired.

    Attributes:
        choice: ``iou`` (the best estimate, SAM 2) or ``motion`` (estimate mixed with agreement
            with a motion filter; SAMURAI section 4.1).
        motion_weight: weight of the motion IoU against the estimated IoU, 0..1. SAMURAI's code
            uses 0.25 with tiny, small and base-plus weights and 0.15 with large ones.
        stable_frames: frames in a row with a good estimate before motion has a say (SAMURAI: 15).
        stable_iou: estimated IoU that counts as good (SAMURAI: 0.3; compared in float32).
        motion_update_on_empty: whether an empty mask counts as a box at the origin. SAMURAI's
            code does, and needs up to 29 frames to recover; otherwise the filter coasts.
        motion_max_coast: frames to coast without a mask before the filter starts anew; 0 for
            ever. Ours: one second of ordinary video.
        motion_on_prompt: ``init`` starts the filter from the prompted mask; ``clicks`` runs one
            step on prompts with several candidates only (single clicks), as SAMURAI's code.
    """

    choice: str = "motion"
    motion_weight: float = 0.25
    stable_frames: int = 15
    stable_iou: float = 0.3
    motion_update_on_empty: bool = False
    motion_max_coast: int = 30
    motion_on_prompt: str = "init"

    def __post_init__(self) -> None:
        check_choice(self, "choice", CHOICES)
        check_choice(self, "motion_on_prompt", PROMPT_MOTIONS)
        check_range(self, ("motion_weight", "stable_iou"), 0, 1)
        check_range(self, ("stable_frames",), 1)
        check_range(self, ("motion_max_coast",), 0)


@dataclass(frozen=True)
class CandidateScores:
    """What a segmenter offered for one object on one frame.

    Attributes:
        iou: float32 ``(M,)`` estimated IoU; float32 matters, see ``choose_candidate``.
        object_logit: above the appear threshold when the object is to be seen.
        extents: float64 ``(M, 4)`` pixel extents on the grid, zeros for empty masks.
        areas: int64 ``(M,)`` pixels on the grid.
    """

    iou: NDArray[np.float32]
    object_logit: float
    extents: NDArray[np.float64]
    areas: NDArray[np.int64]


@dataclass(frozen=True)
class ChoiceState:
    """What the choice remembers of one object.

    Attributes:
        motion: the filter; None before its first start.
        stable: frames in a row with a good estimate, at most ``stable_frames``.
        coast: frames in a row on which the filter saw no mask.
    """

    motion: BoxMotion | None = None
    stable: int = 0
    coast: int = 0

    @property
    def steady(self) -> bool:
        """Whether the filter's prediction means anything."""
        return self.motion is not None and self.stable > 0


@dataclass(frozen=True)
class Choice:
    """A decision, its reasons, and the state after it.

    Attributes:
        chosen: candidate that won.
        state: ``A``, ``B``, ``C``, or empty where the filter took no part.
        after: what to remember.
        motion_iou: agreement of the winner with the filter; None outside ``C``.
        motion_ious: the same of all candidates; empty outside ``C``.
        combined: what was compared; empty outside ``C``.
        predicted: filter after its prediction; None in ``A``.
    """

    chosen: int
    state: str
    after: ChoiceState
    motion_iou: float | None = None
    motion_ious: tuple[float, ...] = ()
    combined: tuple[float, ...] = ()
    predicted: BoxMotion | None = field(default=None)

    def diary(self) -> dict[str, Any]:
        """The reasons in JSON-ready values."""
        return {
            "chosen": self.chosen,
            "state": self.state or None,
            "stable": self.after.stable,
            "motion_iou": self.motion_iou,
            "motion_ious": list(self.motion_ious),
            "combined": list(self.combined),
            "predicted_box": None if self.predicted is None else self.predicted.box.tolist(),
        }


def choose_candidate(
    config: MaskSelectionConfig, state: ChoiceState, scores: CandidateScores
) -> Choice:
    """Choose among the candidates of a tracked frame.

    Two roundings are part of the rule, because near-ties hang on them: an estimate is compared
    with the threshold in float32, and ``(1 - w) * iou`` is a float32 product, widened only when
    it is added to the float64 motion term. The first of equal candidates wins.
    """
    best = int(np.argmax(scores.iou))
    if config.choice == "iou":
        return Choice(best, "", state)
    if not state.steady or state.motion is None:
        if scores.areas[best] == 0 and not config.motion_update_on_empty:
            return Choice(best, "A", ChoiceState(state.motion))
        return Choice(best, "A", ChoiceState(start(scores.extents[best]), stable=1))

    predicted = predict(state.motion)
    threshold = np.float32(config.stable_iou)
    if state.stable < config.stable_frames:
        good = bool(scores.iou[best] > threshold)
        after = _advance(config, state, predicted, scores, best, good)
        return Choice(best, "B", after, predicted=predicted)

    overlaps = motion_ious(predicted, scores.extents)
    estimates = np.float32(1.0 - config.motion_weight) * scores.iou.astype(np.float32)
    combined = config.motion_weight * overlaps + estimates.astype(np.float64)
    best = int(np.argmax(combined))
    # Not the mirror image of B: at exactly the threshold B fails and C passes, as published.
    good = not bool(scores.iou[best] < threshold)
    after = _advance(config, state, predicted, scores, best, good)
    ious = tuple(overlaps.tolist())
    return Choice(best, "C", after, ious[best], ious, tuple(combined.tolist()), predicted)


def choose_prompted(
    config: MaskSelectionConfig, state: ChoiceState, scores: CandidateScores
) -> Choice:
    """Choose among what a prompt gave, and let the filter know.

    There is one candidate unless a single click left doubt.
    """
    best = int(np.argmax(scores.iou))
    if config.choice == "iou":
        return Choice(best, "", state)
    clicks = config.motion_on_prompt == "clicks"
    if clicks and len(scores.iou) > 1:
        return choose_candidate(config, state, scores)
    if clicks or scores.areas[best] == 0:
        return Choice(best, "", state)
    return Choice(best, "", ChoiceState(start(scores.extents[best]), stable=1))


def _advance(
    config: MaskSelectionConfig,
    state: ChoiceState,
    predicted: BoxMotion,
    scores: CandidateScores,
    chosen: int,
    good: bool,
) -> ChoiceState:
    if not good:
        return ChoiceState(predicted, stable=0)
    if scores.areas[chosen] == 0 and not config.motion_update_on_empty:
        coast = state.coast + 1
        lost = 0 < config.motion_max_coast < coast
        return ChoiceState(predicted, stable=0 if lost else state.stable, coast=coast)
    stable = min(state.stable + 1, config.stable_frames)
    return ChoiceState(update(predicted, scores.extents[chosen]), stable=stable)
