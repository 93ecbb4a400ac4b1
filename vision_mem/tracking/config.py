"""All settings of a tracking session; read without torch, so that slips are said at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from vision_mem.errors import InputError
from vision_mem.tracking.policy import PolicyConfig

BATCHING = ("auto", "on", "off")


@dataclass(frozen=True)
class TrackingConfig:
    """Settings of a tracking session.

    Attributes:
        policy: which memories are read and which candidate wins.
        fill_hole_area: holes up to this many low-resolution pixels are filled in results; None
            takes the segmenter's own number, 0 fills nothing.
        batch_objects: ``on`` sends objects with equal memory shapes through the network
            together, ``off`` one by one as SAM 2's predictor does, ``auto`` together on a GPU
            only. Together, float sums run in another order; masks stay equal within rounding.
        num_frames_hint: length of the clip in frames if known. SAM 2 scales the age of pointers
            by it when it is below 16; None behaves as any longer clip.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    fill_hole_area: int | None = None
    batch_objects: str = "auto"
    num_frames_hint: int | None = None

    def __post_init__(self) -> None:
        if self.batch_objects not in BATCHING:
            raise InputError(
                f"batch_objects is {self.batch_objects!r}; expected one of {', '.join(BATCHING)}"
            )
        if self.fill_hole_area is not None and self.fill_hole_area < 0:
            raise InputError(f"fill_hole_area is {self.fill_hole_area}; expected 0 or more pixels")
        if self.num_frames_hint is not None and self.num_frames_hint < 1:
            raise InputError(f"num_frames_hint is {self.num_frames_hint}; expected 1 or more")
