"""What becomes of a track: how likely it is real; tentative, confirmed, weak, lost, removed.

::

    tentative --seen often enough--> confirmed <--> weak
        |                               |            |
        |                               +--> lost <--+     lost: looked for now and then, not shown
        +-----------> removed <--------------+             removed: memory freed, id kept for ever
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vision_mem.config import check_choice, check_range


@dataclass(frozen=True)
class ExistenceConfig:
    """Constants of the filter.

    Attributes:
        survive: probability that what was there is there a frame later.
        detect: probability that what is there and to be seen is detected.
        clutter: weight of false alarms against the detector's doubt.
        birth: existence of a new track whose detection is sure.
        confirm: existence above which a track is confirmed.
        delete: existence below which it is removed, or lost when it was confirmed.
    """

    survive: float = 0.99
    detect: float = 0.9
    clutter: float = 0.1
    birth: float = 0.5
    confirm: float = 0.8
    delete: float = 0.05

    def __post_init__(self) -> None:
        check_range(self, ("survive", "detect", "birth", "confirm", "delete"), 0, 1)


def survived(config: ExistenceConfig, existence: float) -> float:
    """Existence when a frame has gone by."""
    return config.survive * existence


def after_hit(config: ExistenceConfig, existence: float, score: float) -> float:
    """Existence after a detection with a score in [0, 1]."""
    ratio = config.detect * score / (config.clutter * (1.0 - score) + 1e-6)
    return existence * ratio / (1.0 - existence + existence * ratio)


def after_miss(config: ExistenceConfig, existence: float, visible: float) -> float:
    """Existence after an answer without it.

    What is hidden cannot be missed: ``visible`` is the share that nothing hides, [0, 1].
    """
    detect = config.detect * visible
    return existence * (1.0 - detect) / (1.0 - existence * detect)


TENTATIVE, CONFIRMED, WEAK, LOST, REMOVED = "tentative", "confirmed", "weak", "lost", "removed"
STATES = (TENTATIVE, CONFIRMED, WEAK, LOST, REMOVED)
SHOWN = (TENTATIVE, CONFIRMED, WEAK)
VALIDATIONS = ("counts", "existence", "none")


@dataclass(frozen=True)
class LifecycleConfig:
    """When a track changes its state.

    Attributes:
        validation: how a new track proves itself: ``counts`` of detections, probability of
            ``existence``, or ``none``: it is confirmed at birth.
        confirm_hits: detections that confirm it, its first one included.
        confirm_answers: answers of the detector within which they must come; with fewer hits by
            then it is removed.
        good_score: score from which on a track is not weak.
        good_frames: frames in a row with a good score that end weakness.
        lost_score: score below which a track is lost.
        doubt_score: score below which a track cannot do without detections for long.
        doubt_frames: frames in a row without one after which it is lost, whatever the detector
            reports; 0 for never.
        lose: whether tracks may be lost at all; off, they stay weak.
        max_misses: answers of the detector in a row without the track after which it is lost;
            0 for never. Not counted when the detector does not report absence.
        hidden_frames: answers of the detector in a row for which a track that was detected by
            boxes, and whose motion leads behind others, counts as hidden, not lost, whatever its
            mask says; 0 for none.
        max_lost_s: seconds after which a lost track is removed; 0 for never.
        lost_every: a lost track is looked for on every ``lost_every``-th frame.
        duplicate_share: share of a track's mask inside an older one's from which on it is the
            same thing; 1 is never.
        duplicate_frames: frames in a row after which the younger one is removed (tentative) or
            lost.
        found_needs_match: a track that comes back after ``free_return`` frames must be detected.
        free_return: frames after which it must.
    """

    validation: str = "counts"
    confirm_hits: int = 3
    confirm_answers: int = 5
    good_score: float = 0.7
    good_frames: int = 2
    lost_score: float = 0.1
    doubt_score: float = 0.5
    doubt_frames: int = 5
    lose: bool = True
    max_misses: int = 30
    hidden_frames: int = 3
    max_lost_s: float = 5.0
    lost_every: int = 3
    duplicate_share: float = 0.8
    duplicate_frames: int = 3
    found_needs_match: bool = False
    free_return: int = 5

    def __post_init__(self) -> None:
        check_choice(self, "validation", VALIDATIONS)
        counts = ("confirm_hits", "confirm_answers", "good_frames", "lost_every")
        check_range(self, (*counts, "duplicate_frames"), 1)
        check_range(self, ("max_misses", "hidden_frames", "free_return"), 0)
        shares = ("good_score", "lost_score", "doubt_score", "duplicate_share")
        check_range(self, shares, 0, 1)


@dataclass(frozen=True)
class Life:
    """What the rules know of a track.

    Attributes:
        state: one of ``STATES``.
        frames: since its birth; 0 on the first.
        answers: of the detector since then, the first included.
        hits: of them that were this track.
        misses: answers in a row that were not.
        good: frames in a row with a good score.
        doubtful: frames in a row with a doubtful one and without a detection.
        lost_frames: frames in a row that it is lost.
        lost_since_s: when it was lost; of no meaning in other states.
        duplicate: frames in a row on which an older track covers it.
        since_prompt: frames since it was shown to the segmenter.
        score: running mean of its scores, [0, 1].
        area: running mean of its mask's area, pixels.
        existence: probability that it is real, [0, 1].
    """

    state: str = TENTATIVE
    frames: int = 0
    answers: int = 1
    hits: int = 1
    misses: int = 0
    good: int = 0
    doubtful: int = 0
    lost_frames: int = 0
    lost_since_s: float = 0.0
    duplicate: int = 0
    since_prompt: int = 0
    score: float = 1.0
    area: float = 0.0
    existence: float = 0.5


@dataclass(frozen=True)
class TrackEvidence:
    """One track on one frame.

    Attributes:
        time_s: of the frame.
        looked: whether the track was looked for.
        score: estimated IoU where the object is to be seen, else 0.
        area: pixels of its mask.
        matched: whether a detection is this track.
        detector_score: of that detection.
        answered: whether the detector answered.
        absence_counts: whether not being detected says anything.
        prompted: whether it was shown to the segmenter again.
        covered: largest share of its mask inside an older track's mask.
        apart: whether it and that older track are matched by different detections.
        visible: share of its bounds that no other mask covers.
        sure: whether that detection is sure: what it shows is there, though hidden by others.
        behind: whether it was detected by boxes and its motion leads behind others that are.
    """

    time_s: float
    looked: bool = True
    score: float = 0.0
    area: int = 0
    matched: bool = False
    detector_score: float = 0.0
    answered: bool = True
    absence_counts: bool = True
    prompted: bool = False
    covered: float = 0.0
    apart: bool = False
    visible: float = 1.0
    sure: bool = False
    behind: bool = False


def newborn(config: LifecycleConfig, existence: ExistenceConfig, sighting: TrackEvidence) -> Life:
    """The life of a track on its first frame."""
    return Life(
        state=CONFIRMED if config.validation == "none" else TENTATIVE,
        good=1 if sighting.score >= config.good_score else 0,
        score=sighting.score,
        area=float(sighting.area),
        existence=existence.birth * sighting.detector_score,
    )


def advance(
    config: LifecycleConfig, existence: ExistenceConfig, life: Life, seen: TrackEvidence
) -> Life:
    """The life of a track, not removed yet, after one more frame."""
    life = _counted(config, existence, life, seen)
    if life.state == TENTATIVE:
        state = _tentative(config, existence, life, seen)
    elif life.state == LOST:
        state = _lost(config, existence, life, seen)
    else:
        state = _in_view(config, existence, life, seen)
    if state != LOST:
        return replace(life, state=state, lost_frames=0)
    since = life.lost_since_s if life.state == LOST else seen.time_s
    return replace(life, state=LOST, lost_frames=life.lost_frames + 1, lost_since_s=since)


def _counted(
    config: LifecycleConfig, existence: ExistenceConfig, life: Life, seen: TrackEvidence
) -> Life:
    """All counters moved on by a frame; the state as it was."""
    answered = seen.answered or seen.matched
    misses = life.misses
    if seen.matched:
        misses = 0
    elif seen.answered and seen.absence_counts:
        misses += 1
    probability = survived(existence, life.existence)
    if seen.matched:
        probability = after_hit(existence, probability, seen.detector_score)
    elif seen.answered and (seen.absence_counts or life.state == TENTATIVE):
        probability = after_miss(existence, probability, seen.visible)
    score, area, good, duplicate = life.score, life.area, life.good, life.duplicate
    doubtful = life.doubtful
    if seen.looked:
        doubtful = 0 if seen.matched or seen.score >= config.doubt_score else doubtful + 1
        score += 0.2 * (seen.score - score)
        good = good + 1 if seen.score >= config.good_score else 0
        twin = config.duplicate_share < 1 and seen.covered >= config.duplicate_share
        duplicate = duplicate + 1 if twin and seen.area and not seen.apart else 0
        if seen.area:
            area += 0.3 * (seen.area - area) if area else float(seen.area)
    return replace(
        life, frames=life.frames + 1, answers=life.answers + answered,
        hits=life.hits + seen.matched, misses=misses, good=good, doubtful=doubtful,
        duplicate=duplicate, since_prompt=0 if seen.prompted else life.since_prompt + 1,
        score=score, area=area, existence=probability,
    )  # fmt: skip


def _tentative(
    config: LifecycleConfig, existence: ExistenceConfig, life: Life, seen: TrackEvidence
) -> str:
    if life.duplicate >= config.duplicate_frames:
        return REMOVED
    if config.validation == "existence":
        if life.existence < existence.delete:
            return REMOVED
        return CONFIRMED if life.existence > existence.confirm else TENTATIVE
    if life.hits >= config.confirm_hits:
        return CONFIRMED
    left = config.confirm_answers - life.answers
    return TENTATIVE if life.hits + left >= config.confirm_hits else REMOVED


def _in_view(
    config: LifecycleConfig, existence: ExistenceConfig, life: Life, seen: TrackEvidence
) -> str:
    if not seen.looked:
        return life.state
    if seen.prompted:
        return CONFIRMED
    gone = seen.area == 0 or seen.score < config.lost_score
    gone |= life.duplicate >= config.duplicate_frames
    gone |= 0 < config.doubt_frames <= life.doubtful
    gone |= 0 < config.max_misses <= life.misses
    gone |= config.validation == "existence" and life.existence < existence.delete
    if gone and not seen.sure and not (seen.behind and is_hidden(config, life)):
        return LOST if config.lose else WEAK
    if seen.score >= config.good_score:
        return CONFIRMED if life.state == CONFIRMED or life.good >= config.good_frames else WEAK
    return WEAK


def _lost(
    config: LifecycleConfig, existence: ExistenceConfig, life: Life, seen: TrackEvidence
) -> str:
    if seen.prompted:
        return CONFIRMED
    back = seen.looked and seen.area > 0 and seen.score >= config.good_score
    back &= life.duplicate == 0
    back &= seen.matched or not 0 < config.max_misses <= life.misses
    if config.found_needs_match and life.lost_frames >= config.free_return:
        back &= seen.matched
    if back:
        return CONFIRMED
    if 0 < config.max_lost_s < seen.time_s - life.lost_since_s:
        return REMOVED
    return LOST


def is_hidden(config: LifecycleConfig, life: Life) -> bool:
    """Whether a track without a detection may be believed to be hidden by others."""
    return 0 < life.misses <= config.hidden_frames and life.hits >= config.confirm_hits


def is_due(config: LifecycleConfig, life: Life) -> bool:
    """Whether a track is looked for on the coming frame: lost ones only now and then."""
    return life.state != LOST or life.lost_frames % config.lost_every == 0


def event_kind(before: str, after: str) -> str | None:
    """What to report of a change of state; None when there is nothing to say."""
    if before == after:
        return None
    if after == CONFIRMED and before == LOST:
        return "found"
    return {CONFIRMED: "confirmed", WEAK: "weak", LOST: "lost", REMOVED: "removed"}.get(after)


@dataclass(frozen=True)
class RepromptConfig:
    """When a track is shown to the segmenter again, by the box of its detection.

    Attributes:
        enabled: whether it ever is.
        min_score: detector score it needs.
        min_iou: overlap of detection and track it needs (lost tracks: ``association.lost_iou``).
        drift_iou: box IoU of detection and mask below which a track is corrected although it is
            not weak.
        cooldown: frames between two for one track.
        drift_cooldown: the same when mask and detection are apart, which does not wait.
        whole_again: a track that came in over the picture's edge is shown anew, and what was
            remembered of a part of it forgotten, when a detection first shows all of it.
        crowd_share: share of another track's mask inside the detection from which on it shows
            several objects, and nobody is corrected by it; 1 asks nobody.
    """

    enabled: bool = True
    min_score: float = 0.5
    min_iou: float = 0.3
    drift_iou: float = 0.5
    cooldown: int = 5
    drift_cooldown: int = 1
    whole_again: bool = True
    crowd_share: float = 1.0


def should_reprompt(
    config: RepromptConfig,
    life: Life,
    *,
    weak_now: bool,
    detector_score: float,
    iou: float,
    box_iou: float,
    crowded: float = 0.0,
    whole: bool = False,
) -> bool:
    """Whether a matched track is shown to the segmenter again.

    Args:
        config: settings.
        life: of the track, before the frame.
        weak_now: its score on this frame is not good.
        detector_score: of its detection.
        iou: overlap of detection and track by which they were matched.
        box_iou: of the detection and the bounds of the mask.
        crowded: largest share of another track's mask inside the detection.
        whole: the detection is the first that shows all of the track.
    """
    if not config.enabled or detector_score < config.min_score or iou <= 0:
        return False
    if config.crowd_share < 1 and crowded >= config.crowd_share:
        return False
    if whole and config.whole_again:
        return True
    rested = life.since_prompt >= config.cooldown
    if life.state == LOST:
        return rested
    if life.state == TENTATIVE or iou < config.min_iou:
        return False
    drifted = box_iou < config.drift_iou and life.since_prompt >= config.drift_cooldown
    return drifted or (weak_now and rested)
