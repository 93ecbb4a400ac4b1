"""Which detections are looked at, and which of those that no track claims become new tracks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.config import check_choice, check_range
from vision_mem.geometry.boxes import box_iou

PROMPTS = ("auto", "box", "mask")


@dataclass(frozen=True)
class BirthConfig:
    """When something new is there.

    Attributes:
        detector_score: detections below it are not looked at.
        nms_iou: of two detections of a class that overlap by more, the weaker is not looked at;
            1 looks at all.
        min_area: smallest box, as a share of the frame's area.
        min_score: detector score that a new track needs.
        free_share: share of the box that no track may cover.
        free_share_by_class: the same for some classes, by name (Seg2Track-SAM2: 0.6 for cars,
            0.85 for people).
        max_overlap: box IoU with another new track of the frame from which on it is the same
            thing; 1 allows all.
        sure_score: score from which on a detection is sure: tracks that are detected elsewhere
            may cover it wholly, as people cover each other. Asked only where the detector reports
            absence: what background subtraction calls a score is no confidence. 1.01 for never.
        sure_overlap: box IoU of two sure detections from which on they are the same thing; it
            stands for ``nms_iou`` and ``max_overlap`` between those.
        before_association: births come first and association gets what is left, as in
            Seg2Track-SAM2's code; else the other way round.
        prompt: what new tracks are shown to the segmenter by: ``box``, ``mask`` where the
            detector gives one, or ``auto``, masks when they fill their box as objects do.
    """

    detector_score: float = 0.25
    nms_iou: float = 0.7
    min_area: float = 0.0
    min_score: float = 0.5
    free_share: float = 0.6
    free_share_by_class: dict[str, float] = field(
        default_factory=lambda: {"person": 0.85, "pedestrian": 0.85}
    )
    max_overlap: float = 0.5
    sure_score: float = 0.9
    sure_overlap: float = 0.85
    before_association: bool = False
    prompt: str = "auto"

    def __post_init__(self) -> None:
        check_choice(self, "prompt", PROMPTS)
        shares = ("detector_score", "nms_iou", "min_area", "min_score", "free_share", "max_overlap")
        check_range(self, (*shares, "sure_overlap"), 0, 1)
        check_range(self, ("sure_score",), 0)

    def free(self, class_name: str) -> float:
        """Free share that a new track of a class needs."""
        return self.free_share_by_class.get(class_name.lower(), self.free_share)

    def sure(self, score: float, absence_counts: bool) -> bool:
        """Whether a detection of a detector that reports absence, or does not, is sure."""
        return absence_counts and score >= self.sure_score


def worth_a_look(
    config: BirthConfig,
    boxes: NDArray[np.float32],
    scores: ArrayLike,
    labels: ArrayLike,
    size: tuple[int, int],
    absence_counts: bool = False,
) -> list[int]:
    """Which detections count at all: sure enough, large enough, not the same thing twice.

    Args:
        config: settings.
        boxes: ``(n, 4)`` pixels.
        scores: ``(n,)`` in [0, 1].
        labels: ``(n,)`` class numbers.
        size: ``(height, width)`` of the frame.
        absence_counts: whether the detector reports absence, without which none is sure.

    Returns:
        Positions, from the highest score down; equal scores in the order given.
    """
    score, label = np.asarray(scores, np.float64), np.asarray(labels)
    height, width = size
    inside = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    areas = np.prod(np.maximum(inside[:, 2:] - inside[:, :2], 0), axis=1)
    good = (score >= config.detector_score) & (areas > 0)
    good &= areas >= config.min_area * height * width
    kept: list[int] = []
    for n in np.argsort(-score, kind="stable"):
        if not good[n]:
            continue
        # Those before it are at least as sure.
        sure = config.sure(float(score[n]), absence_counts)
        most = max(config.nms_iou, config.sure_overlap) if sure else config.nms_iou
        rivals = [k for k in kept if label[k] == label[n]] if most < 1 else []
        if not rivals or box_iou(boxes[n], boxes[rivals]).max() <= most:
            kept.append(int(n))
    return kept


def is_new(
    config: BirthConfig,
    score: float,
    class_name: str,
    free: float,
    overlap: float,
    sure: bool = False,
) -> str | None:
    """Why a detection that no track claims does not become a track; None when it does.

    Score, ``free``, the share of its box that no track covers, and ``overlap``, the largest box
    IoU with those already accepted on this frame, are in [0, 1]. Of a ``sure`` one the caller
    says what tracks without a detection of their own leave free, and compares it with all that
    have one.
    """
    if score < config.min_score:
        return f"score {score:.2f} is below {config.min_score}"
    needed = config.free(class_name)
    if not free > needed:
        return f"only {free:.2f} of its box is free; {needed} is needed"
    most = max(config.max_overlap, config.sure_overlap) if sure else config.max_overlap
    if overlap >= most and most < 1:
        return f"it overlaps a new track by {overlap:.2f}"
    return None
