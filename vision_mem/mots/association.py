"""Which detection is which track: costs from overlaps, and a one-to-one match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.config import check_choice, check_range
from vision_mem.errors import InputError
from vision_mem.geometry.assignment import assign

COSTS = ("overlap", "modulated")


@dataclass(frozen=True)
class AssociationConfig:
    """How detections and tracks find each other.

    Attributes:
        cost: ``overlap`` (the better of mask and box IoU) or ``modulated`` (mask IoU mixed with
            the distance of the middles, dearer where detector or track are not sure).
        min_iou: overlap that a pair needs; a mean of two when motion has a say.
        low_iou: overlap that detections too weak for a birth need; they choose after all others,
            among tracks in view (ByteTrack, arXiv 2110.06864); 0: all choose at once.
        lost_iou: overlap that a lost track needs, when no track in view has ``min_iou`` with the
            detection.
        same_class: whether both must be of one class.
        motion_weight: how much the place that a track's motion leads to counts against where its
            mask is; 0 looks at masks alone. A mask may slip onto a neighbour; motion does not.
        motion_frames: frames that motion is believed without having seen the object.
        edges: whether boxes cut by the same side of the picture may be one object though they
            hardly overlap.
        part_share: share of a detection inside the place a track's motion leads to from which on
            it may show a part of that track, when neither has anybody else; 0 is never.
        middle_weight: ``modulated``: weight of the distance against the mask IoU.
        middle_spread: ``modulated``: distance, in sizes, at which a pair is worth 0.61.
        doubt_weight: ``modulated``: how much dearer a pair gets with a detector or a track that
            is not sure at all.
        max_cost: ``modulated``: what a pair may cost.

    Source:
        ``modulated`` is our own reading of the words mask centroid distance and confidence-aware
        cost modulation in the abstract of Seg2Track++ (arXiv 2606.03875); its formulas are not
        known to us.
    """

    cost: str = "overlap"
    min_iou: float = 0.2
    low_iou: float = 0.4
    lost_iou: float = 0.1
    same_class: bool = True
    motion_weight: float = 0.5
    motion_frames: int = 10
    edges: bool = True
    part_share: float = 0.7
    middle_weight: float = 0.5
    middle_spread: float = 0.5
    doubt_weight: float = 0.5
    max_cost: float = 0.9

    def __post_init__(self) -> None:
        check_choice(self, "cost", COSTS)
        shares = ("min_iou", "low_iou", "lost_iou", "motion_weight", "part_share")
        check_range(self, (*shares, "middle_weight", "doubt_weight"), 0, 1)
        if not self.middle_spread > 0:
            raise InputError(f"middle_spread is {self.middle_spread}; expected more than 0")


def compatible(labels: ArrayLike, track_labels: ArrayLike, same_class: bool) -> NDArray[np.bool_]:
    """``(n, m)``: which detections may be which tracks, by class numbers ``(n,)``, ``(m,)``."""
    a, b = np.asarray(labels).reshape(-1, 1), np.asarray(track_labels).reshape(1, -1)
    every = np.ones((a.size, b.size), dtype=bool)
    return (a == b) if same_class else every


def match_by_overlap(
    config: AssociationConfig,
    iou: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    lost: Sequence[bool],
) -> dict[int, int]:
    """Pair detections with tracks by overlap, as detection to track; tracks in view choose first.

    Args:
        config: settings.
        iou: ``(n, m)`` overlap of detections and tracks, [0, 1].
        allowed: ``(n, m)`` pairs that may be.
        lost: ``(m,)`` tracks that are lost.
    """
    gone = np.asarray(lost, dtype=bool)
    fits = allowed & (iou >= config.min_iou) & (iou > 0)
    cost = np.where(fits & ~gone[None], 1.0 - iou, np.inf)
    pairs = dict(assign(cost))
    # A detection that a track in view could have had says little about a lost one.
    near = (fits & ~gone[None]).any(axis=1, keepdims=True)
    least = np.where(near, config.min_iou, config.lost_iou)
    left = np.array([n not in pairs for n in range(len(iou))], dtype=bool)[:, None]
    loose = allowed & (iou >= least) & (iou > 0) & gone[None] & left
    return pairs | dict(assign(np.where(loose, 1.0 - iou, np.inf)))


def affinity(
    config: AssociationConfig,
    seen: NDArray[np.float64],
    moved: NDArray[np.float64],
    has_mask: Sequence[bool],
    has_motion: Sequence[bool],
) -> NDArray[np.float64]:
    """How well detections and tracks fit, by masks and by motion.

    Args:
        config: settings.
        seen: ``(n, m)`` overlap of detections and masks, [0, 1].
        moved: ``(n, m)`` box IoU of detections and where motion leads, [0, 1].
        has_mask: ``(m,)`` tracks that have a mask on this frame.
        has_motion: ``(m,)`` tracks whose motion is to be believed.

    Returns:
        ``(n, m)`` in [0, 1]: the mean by ``motion_weight`` where both are known.
    """
    mask, motion = np.asarray(has_mask, dtype=bool), np.asarray(has_motion, dtype=bool)
    weight = np.where(mask, config.motion_weight, 1.0)
    weight = np.where(motion & (config.motion_weight > 0), weight, 0.0)[None]
    return np.asarray((1 - weight) * np.where(mask, seen, 0.0) + weight * moved)


def match_parts(
    config: AssociationConfig,
    boxes: ArrayLike,
    paths: ArrayLike,
    allowed: NDArray[np.bool_],
) -> dict[int, int]:
    """Pair what is left over: detections that show a part of a track that is hidden otherwise.

    Args:
        config: settings.
        boxes: ``(n, 4)`` pixels, of detections without a track.
        paths: ``(m, 4)`` where tracks without a detection should be by their motion.
        allowed: ``(n, m)`` pairs that may be.
    """
    a = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    b = np.asarray(paths, np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    share = shared / np.maximum(np.prod(a[..., 2:] - a[..., :2], axis=-1), 1e-9)
    fits = allowed & (share >= config.part_share) & (config.part_share > 0)
    return dict(assign(np.where(fits, 1.0 - share, np.inf)))


def match_by_cost(
    config: AssociationConfig, cost: NDArray[np.float64], allowed: NDArray[np.bool_]
) -> dict[int, int]:
    """Pair detections with tracks by ``modulated_cost``; see ``match_by_overlap``."""
    return dict(assign(np.where(allowed, cost, np.inf), config.max_cost))


def middle_distances(
    first: ArrayLike, first_areas: ArrayLike, second: ArrayLike, second_areas: ArrayLike
) -> NDArray[np.float64]:
    """Distance of the middles of masks, in units of their size.

    Args:
        first: ``(n, 2)`` middles, pixels.
        first_areas: ``(n,)`` pixels.
        second: ``(m, 2)``.
        second_areas: ``(m,)``.

    Returns:
        ``(n, m)``: distance over the root of the summed areas.
    """
    a = np.asarray(first, np.float64).reshape(-1, 1, 2)
    b = np.asarray(second, np.float64).reshape(1, -1, 2)
    sizes = np.add.outer(np.asarray(first_areas, np.float64), np.asarray(second_areas))
    return np.asarray(np.linalg.norm(a - b, axis=-1) / np.sqrt(np.maximum(sizes, 1.0)))


def modulated_cost(
    config: AssociationConfig,
    iou: NDArray[np.float64],
    distance: NDArray[np.float64],
    detector_scores: ArrayLike,
    track_scores: ArrayLike,
) -> NDArray[np.float64]:
    """Cost from overlap and distance, dearer where detector or track are not sure.

    Args:
        config: settings.
        iou: ``(n, m)`` mask IoU.
        distance: ``(n, m)``, see ``middle_distances``.
        detector_scores: ``(n,)`` in [0, 1].
        track_scores: ``(m,)`` in [0, 1].

    Returns:
        ``(n, m)``; a sure pair that overlaps wholly costs 0.
    """
    alike = np.exp(-(distance**2) / (2 * config.middle_spread**2))
    w, doubt = config.middle_weight, config.doubt_weight
    plain = (1 - w) * (1 - iou) + w * (1 - alike)
    unsure = (1 - np.asarray(detector_scores, np.float64)).reshape(-1, 1)
    weak = (1 - np.asarray(track_scores, np.float64)).reshape(1, -1)
    return np.asarray(plain * (1 + doubt * unsure + doubt * weak))
