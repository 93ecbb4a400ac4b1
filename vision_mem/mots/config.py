"""All settings of a multi-object session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vision_mem.config import check_choice, check_range
from vision_mem.mots.association import AssociationConfig
from vision_mem.mots.birth import BirthConfig
from vision_mem.mots.gallery import GalleryConfig
from vision_mem.mots.lifecycle import ExistenceConfig, LifecycleConfig, RepromptConfig
from vision_mem.mots.regions import RULES as OVERLAPS
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.policies.scored import ScoredFrames

RULES = ("own", "official")
BOXES = ("auto", "mask", "detection")
CAMERAS = ("auto", "still")


def _tracking() -> TrackingConfig:
    policy = ScoredFrames(max_prompts=4, pin_first_prompt=True)
    return TrackingConfig(policy=policy, appear_threshold=0.0, corrections_are_prompts=True)


@dataclass(frozen=True)
class EvictionConfig:
    """What is kept.

    Attributes:
        gate: whether masks that may be wrong are kept out of memory.
        gate_score: score that a mask needs.
        gate_area_change: factor between its area and the usual one that is not exceeded.
        gate_covered: share of it that other tracks' masks may cover.
        budget_mb: MiB that all tracks and the gallery may hold together; 0 for no limit.
        max_tracks: tracks at a time, lost ones among them. For a new one room is made by the one
            lost longest, then by the weakest tentative one that is weaker than it; without any,
            the new one is refused. How many were is counted.
    """

    gate: bool = True
    gate_score: float = 0.5
    gate_area_change: float = 4.0
    gate_covered: float = 0.5
    budget_mb: float = 0.0
    max_tracks: int = 128

    def __post_init__(self) -> None:
        check_range(self, ("max_tracks", "gate_area_change"), 1)
        check_range(self, ("budget_mb",), 0)

    @property
    def budget(self) -> int | None:
        """Bytes; None for no limit."""
        return int(self.budget_mb * 2**20) if self.budget_mb else None


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
    addition_threshold: dict[str, float] = field(default_factory=lambda: {"1": 0.6, "2": 0.85})
    other_addition: float = 0.6
    reprompt: bool = True
    reprompt_threshold: float = 0.7
    removal: bool = True
    removal_threshold: float = 0.1
    removal_tries: int = 5

    def addition(self, label: int) -> float:
        """Threshold of a class."""
        return self.addition_threshold.get(str(label), self.other_addition)


_RARER = (5, 9, 25)
"""Tracks from which on masks are made on every second, third and fourth frame only."""


@dataclass(frozen=True)
class MotsConfig:
    """Settings of a multi-object session.

    Attributes:
        rules: ``own``, or ``official``: step for step what Seg2Track-SAM2's code does, its
            oddities included; then only ``official``, ``tracking`` and ``memory.max_tracks``
            matter.
        association, birth, lifecycle, reprompt, existence, gallery, memory: see there.
        official: constants of the ``official`` rules.
        overlap: who wins contested pixels: ``shared`` (the surest mask, but who is nearly
            swallowed by a neighbour and was detected shares a border with it), ``score``,
            ``area``, ``creation`` or ``none``.
        emit_tentative: whether tracks are shown before they are confirmed.
        shown_score: score that a track needs to be shown on a frame without a detection of it; a
            mask that is believed to be wrong is not shown.
        box: whether a detected track's box is that of its ``mask`` or of its ``detection``;
            ``auto``: of its detection where the detector gives boxes alone and reports absence,
            of its motion on frames between those, and of its mask else.
        mask_every: a mask is made anew on every so-manyth frame only while the detector's boxes
            follow a track's motion and nobody is near; between, it goes along with the boxes.
            1 makes all masks on each frame; 0 does so for a few tracks and makes them more rarely
            the more there are (``rhythm``).
        camera: ``"auto"`` carries what is expected of the tracks along with a camera that moves;
            ``"still"`` looks at none. Only for ``own`` rules.
        tracking: memory policy and engine.

    Source:
        Seg2Track-SAM2 (arXiv 2509.11772) and its code; where ``own`` differs, it is ours.
    """

    rules: str = "own"
    association: AssociationConfig = AssociationConfig()
    birth: BirthConfig = field(default_factory=BirthConfig)
    lifecycle: LifecycleConfig = LifecycleConfig()
    reprompt: RepromptConfig = RepromptConfig()
    existence: ExistenceConfig = ExistenceConfig()
    gallery: GalleryConfig = GalleryConfig()
    memory: EvictionConfig = EvictionConfig()
    official: OfficialConfig = field(default_factory=OfficialConfig)
    overlap: str = "shared"
    emit_tentative: bool = True
    shown_score: float = 0.5
    box: str = "auto"
    mask_every: int = 0
    camera: str = "auto"
    tracking: TrackingConfig = field(default_factory=_tracking)

    def rhythm(self, tracks: int) -> int:
        """``mask_every`` of so many tracks."""
        return self.mask_every or 1 + sum(tracks >= count for count in _RARER)

    def __post_init__(self) -> None:
        check_range(self, ("shown_score",), 0, 1)
        check_range(self, ("mask_every",), 0)
        words = {"rules": RULES, "overlap": OVERLAPS, "box": BOXES, "camera": CAMERAS}
        for name, known in words.items():
            check_choice(self, name, known)


def is_motion(words: Sequence[str]) -> bool:
    """Whether all that is asked for is background subtraction."""
    return all(word.strip().partition(":")[0] == "motion" for word in words)


def usual_preset(words: Sequence[str]) -> str:
    """The rules that go with detectors when nobody says which."""
    if not is_motion(words):
        return "default"
    upright = all(word.strip() == "motion:upright" for word in words)
    return "upright" if upright else "motion"
