"""All settings of a multi-object session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vision_mem.errors import InputError
from vision_mem.mots.association import AssociationConfig
from vision_mem.mots.birth import BirthConfig
from vision_mem.mots.eviction import EvictionConfig
from vision_mem.mots.gallery import GalleryConfig
from vision_mem.mots.lifecycle import ExistenceConfig, LifecycleConfig, RepromptConfig
from vision_mem.mots.regions import RULES as OVERLAPS
from vision_mem.mots.seg2track import OfficialConfig
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.policies.scored import ScoredFrames

RULES = ("own", "official")
BOXES = ("mask", "detection")


def _tracking() -> TrackingConfig:
    policy = ScoredFrames(max_prompts=4, pin_first_prompt=True)
    return TrackingConfig(policy=policy, appear_threshold=0.0, corrections_are_prompts=True)


@dataclass(frozen=True)
class MotsConfig:
    """Settings of a multi-object session.

    Attributes:
        rules: ``own``, or ``official``: step for step what Seg2Track-SAM2's code does, its
            oddities included; then only ``official``, ``tracking`` and ``memory.max_tracks``
            matter.
        association, birth, lifecycle, reprompt, existence, gallery, memory: see there.
        official: constants of the ``official`` rules.
        overlap: who wins contested pixels: ``score``, ``area``, ``creation`` or ``none``.
        emit_tentative: whether tracks are shown before they are confirmed.
        shown_score: score that a track needs to be shown on a frame without a detection of it; a
            mask that is believed to be wrong is not shown.
        box: whether a detected track's box is that of its ``mask`` or of its ``detection``.
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
    overlap: str = "score"
    emit_tentative: bool = True
    shown_score: float = 0.5
    box: str = "mask"
    tracking: TrackingConfig = field(default_factory=_tracking)

    def __post_init__(self) -> None:
        if not 0.0 <= self.shown_score <= 1.0:
            raise InputError(f"shown_score is {self.shown_score}; expected a number from 0 to 1")
        for name, known in (("rules", RULES), ("overlap", OVERLAPS), ("box", BOXES)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )


def is_motion(words: Sequence[str]) -> bool:
    """Whether all that is asked for is background subtraction."""
    return all(word.strip().partition(":")[0] == "motion" for word in words)


def usual_preset(words: Sequence[str]) -> str:
    """The rules that go with detectors when nobody says which."""
    if not is_motion(words):
        return "default"
    upright = all(word.strip() == "motion:upright" for word in words)
    return "upright" if upright else "motion"
