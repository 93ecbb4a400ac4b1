"""All settings of a tracking session; read without torch, so that slips are said at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from vision_mem.config import check_choice, check_range
from vision_mem.errors import InputError
from vision_mem.tracking.mask_selection import MaskSelectionConfig
from vision_mem.tracking.policies import POLICIES, policy_class
from vision_mem.tracking.policies.protocol import MemoryPolicy
from vision_mem.tracking.policies.scored import ScoredFrames

BATCHING = ("auto", "on", "off")
_ONCE_OF_POLICIES = (
    "appear_threshold", "no_object_threshold", "corrections_are_prompts", "inclusive_box",
)  # fmt: skip


@dataclass(frozen=True)
class TrackingConfig:
    """Settings of a tracking session.

    Attributes:
        policy: which frames are remembered and read, see ``policies``.
        selection: which candidate mask wins.
        appear_threshold: object logit above which the object is to be seen (SAM 2: 0,
            SAMURAI: -1).
        no_object_threshold: object logit at or below which a memory is marked "no object"
            (SAM 2: 0).
        corrections_are_prompts: whether a frame corrected by hand is kept like a first prompt
            (SAM 2's ``add_all_frames_to_correct_as_cond``; off there) or like a tracked frame.
        inclusive_box: whether files of boxes count pixels (True) or index differences, one less,
            as SAMURAI's scripts write them. See ``geometry.boxes.box_to_xywh``. Results of a
            session do not depend on it.
        fill_hole_area: holes up to this many low-resolution pixels are filled in results; None
            takes the segmenter's own number, 0 fills nothing.
        batch_objects: ``on`` sends objects with equal memory shapes through the network
            together, ``off`` one by one as SAM 2's predictor does, ``auto`` together on a GPU
            only. Together, float sums run in another order; masks stay equal within rounding.
        num_frames_hint: length of the clip in frames if known. SAM 2 scales the age of pointers
            by it when it is below 16; None behaves as any longer clip.
    """

    policy: MemoryPolicy = field(default_factory=ScoredFrames, metadata={"kinds": policy_class})
    selection: MaskSelectionConfig = MaskSelectionConfig()
    appear_threshold: float = -1.0
    no_object_threshold: float = 0.0
    corrections_are_prompts: bool = False
    inclusive_box: bool = True
    fill_hole_area: int | None = None
    batch_objects: str = "auto"
    num_frames_hint: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.policy, MemoryPolicy):
            raise InputError(
                f"policy is of type {type(self.policy).__name__}; expected an object of a class "
                "made from vision_mem.tracking.MemoryPolicy"
            )
        check_choice(self, "batch_objects", BATCHING)
        check_range(self, ("fill_hole_area",), 0)
        check_range(self, ("num_frames_hint",), 1)

    @staticmethod
    def upgrade(settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of earlier versions, where ``policy`` held them all, in today's shape."""
        made = dict(settings)
        if not isinstance(made.get("policy"), Mapping):
            return made
        policy = dict(made["policy"])
        moved = [f.name for f in fields(MaskSelectionConfig) if f.name in policy]
        if moved:
            selection = {name: policy.pop(name) for name in moved}
            made["selection"] = selection | dict(made.get("selection") or {})
        made |= {name: policy.pop(name) for name in _ONCE_OF_POLICIES if name in policy}
        if "memory" in policy:
            name = policy["name"] = policy.pop("memory")
            # It held the settings of every policy.
            foreign = {f.name for kind in POLICIES.values() for f in fields(kind)}
            foreign -= {f.name for f in fields(POLICIES.get(name, MemoryPolicy))}
            policy = {key: value for key, value in policy.items() if key not in foreign}
        return made | {"policy": policy}
