"""The rules of Seg2Track-SAM2's code, oddities included, for comparison with it.

Known oddities, kept on purpose: births come before association and are not checked against each
other; any pairing is accepted, that without overlap too; bad frames are counted over a track's
whole life; the frame of a birth and re-prompted masks are not reported; an object is invented
when the first frame has no detection.

Source:
    Seg2Track-SAM2 (github.com/hcmr-lab, commit 17ee19f) as described in sections 1.2 to 1.8 of
    our notes; written from that description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.assignment import assign

INVENTED_CLASS = 10
"""Class of the object that is invented on an empty first frame."""


def _additions() -> dict[str, float]:
    return {"1": 0.6, "2": 0.85}


@dataclass(frozen=True)
class OfficialConfig:
    """Constants, as in the configuration for MOTS Challenge; KITTI's switches two of them off.

    Attributes:
        detection_threshold: detector score needed to be looked at (KITTI: 0.5).
        addition_threshold: by class number: share of the box that must be free, and detector
            score that a re-prompt needs.
        other_addition: the same for other classes, where the original stops with an error.
        reprompt: whether tracks are shown to the segmenter again (KITTI: no).
        reprompt_threshold: score below which they are.
        removal: whether tracks are removed (KITTI: no).
        removal_threshold: score below which a frame is bad.
        removal_tries: bad frames, in all, that remove a track.
    """

    detection_threshold: float = 0.25
    addition_threshold: dict[str, float] = field(default_factory=_additions)
    other_addition: float = 0.6
    reprompt: bool = True
    reprompt_threshold: float = 0.7
    removal: bool = True
    removal_threshold: float = 0.1
    removal_tries: int = 5

    def addition(self, label: int) -> float:
        """Threshold of a class."""
        return self.addition_threshold.get(str(label), self.other_addition)


def split_detections(
    config: OfficialConfig, free: Sequence[float], labels: Sequence[int], tracks: int
) -> tuple[list[int], list[int]]:
    """Which detections become tracks, and which are left for association.

    Args:
        config: constants.
        free: share of each detection's box that no track covers.
        labels: their class numbers.
        tracks: how many there are; without any, all detections are new.

    Returns:
        Positions of the new ones and of the others.
    """
    new = [n for n, share in enumerate(free) if tracks == 0 or share > config.addition(labels[n])]
    return new, [n for n in range(len(free)) if n not in new]


def pair_padded(iou: NDArray[np.float64]) -> dict[int, int]:
    """Pair tracks with detections; the table is made square with pairs that overlap nowhere.

    Args:
        iou: ``(tracks, detections)`` IoU of masks and filled boxes.

    Returns:
        Track to detection; every one that is no padding, without overlap too.
    """
    tracks, detections = iou.shape
    side = max(tracks, detections)
    cost = np.ones((side, side))
    cost[:tracks, :detections] = 1.0 - iou
    return {r: c for r, c in assign(cost) if r < tracks and c < detections}


@dataclass(frozen=True)
class Verdict:
    """What happens to a track after its frame was looked at.

    Attributes:
        tries: bad frames so far.
        removed: it is removed.
        reprompted: it is shown to the segmenter again.
    """

    tries: int
    removed: bool = False
    reprompted: bool = False


def judge(
    config: OfficialConfig, *, score: float, tries: int, label: int, detector_score: float | None
) -> Verdict:
    """What happens to a track.

    Args:
        config: constants.
        score: best estimated IoU among its candidates on this frame.
        tries: bad frames before.
        label: its class.
        detector_score: of the detection it was paired with; None without one.
    """
    if config.removal and score < config.removal_threshold:
        tries += 1
        if tries >= config.removal_tries:
            return Verdict(tries, removed=True)
    asked = config.reprompt and score < config.reprompt_threshold and detector_score is not None
    if asked and detector_score is not None and detector_score > config.addition(label):
        return Verdict(tries, reprompted=True)
    return Verdict(tries)
