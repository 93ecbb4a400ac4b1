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
    before_association: bool = False
    prompt: str = "auto"

    def __post_init__(self) -> None:
        check_choice(self, "prompt", PROMPTS)
        shares = ("detector_score", "nms_iou", "min_area", "min_score", "free_share", "max_overlap")
        check_range(self, shares, 0, 1)

    def free(self, class_name: str) -> float:
        """Free share that a new track of a class needs."""
        return self.free_share_by_class.get(class_name.lower(), self.free_share)


def worth_a_look(
    config: BirthConfig,
    boxes: NDArray[np.float32],
    scores: ArrayLike,
    labels: ArrayLike,
    size: tuple[int, int],
) -> list[int]:
    """Which detections count at all: sure enough, large enough, not the same thing twice.

    Args:
        config: settings.
        boxes: ``(n, 4)`` pixels.
        scores: ``(n,)`` in [0, 1].
        labels: ``(n,)`` class numbers.
        size: ``(height, width)`` of the frame.

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
        rivals = [k for k in kept if label[k] == label[n]] if config.nms_iou < 1 else []
        if not rivals or box_iou(boxes[n], boxes[rivals]).max() <= config.nms_iou:
            kept.append(int(n))
    return kept


def is_new(
    config: BirthConfig, score: float, class_name: str, free: float, overlap: float
) -> str | None:
    """Why a detection that no track claims does not become a track; None when it does.

    Score, ``free``, the share of its box that no track covers, and ``overlap``, the largest box
    IoU with those already accepted on this frame, are in [0, 1].
    """
    if score < config.min_score:
        return f"score {score:.2f} is below {config.min_score}"
    needed = config.free(class_name)
    if not free > needed:
        return f"only {free:.2f} of its box is free; {needed} is needed"
    if overlap >= config.max_overlap and config.max_overlap < 1:
        return f"it overlaps a new track by {overlap:.2f}"
    return None
