"""Memory against look-alikes: some recent frames, and anchors on which one was told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from vision_mem.config import check_range
from vision_mem.tracking.policies.protocol import (
    AnchorState,
    FrameRecord,
    HeldFrames,
    MemoryLimits,
    MemoryPolicy,
    ReadPlan,
    by_rank,
)


@dataclass(frozen=True)
class DistractorFrames(MemoryPolicy, name="distractor"):
    """Every fifth recent frame, plus frames on which a look-alike was told apart.

    Attributes:
        anchor_slots: frames kept as anchors, the first prompt included (DAM4SAM: 4).
        anchor_stride: temporal stride of the recent frames (DAM4SAM: 5).
        anchor_iou: estimated IoU a new anchor must exceed (DAM4SAM: 0.8).
        anchor_area_change: allowed relative distance of its area from the median of the latest
            ten (DAM4SAM: 0.2).
        anchor_area_window: frames back in which those ten are looked for (DAM4SAM: 300).
        anchor_gap: frames that must lie between two anchors (DAM4SAM: 5).
        anchor_overlap: box IoU at or below which an alternative shows a look-alike
            (DAM4SAM: 0.7).

    Source:
        DAM4SAM (arXiv 2411.17576), section 3.
    """

    anchor_slots: int = 4
    anchor_stride: int = 5
    anchor_iou: float = 0.8
    anchor_area_change: float = 0.2
    anchor_area_window: int = 300
    anchor_gap: int = 5
    anchor_overlap: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("anchor_iou", "anchor_overlap"), 0, 1)
        check_range(self, ("anchor_slots", "anchor_stride", "anchor_area_window"), 1)
        check_range(self, ("anchor_gap",), 0)

    @property
    def max_anchors(self) -> int:
        """As ``anchor_slots`` says."""
        # One more than is read: the newest anchor has to wait until it is two frames old.
        return self.anchor_slots

    def anchor(
        self, record: FrameRecord, past: AnchorState, overlaps: Callable[[], Sequence[float]]
    ) -> bool:
        """Whether the frame is good and calm, and shows a look-alike."""
        if self.anchor_slots == 1 or not self._is_calm(record, past):
            return False
        return any(value <= self.anchor_overlap for value in overlaps())

    def _is_calm(self, record: FrameRecord, past: AnchorState) -> bool:
        """Whether a frame is good and calm enough to become an anchor, look-alikes aside."""
        if record.area == 0 or not record.iou > self.anchor_iou:
            return False
        if record.index - past.last <= self.anchor_gap:
            return False
        oldest = record.index - self.anchor_area_window
        areas = [area for index, area in past.areas if index >= oldest]
        return bool(areas) and abs(record.area / median(areas) - 1.0) <= self.anchor_area_change

    def keep(self, held: Sequence[FrameRecord], limits: MemoryLimits) -> list[int]:
        """Those at the stride on which the object was seen."""
        newest = len(held) - 1
        fit = [
            n
            for n, record in enumerate(held[:newest])
            if record.prompted or (record.index % self.anchor_stride == 0 and record.area > 0)
        ]
        return [*fit, newest]

    def read(self, held: HeldFrames, index: int, limits: MemoryLimits) -> ReadPlan:
        """Fewer recent frames the more prompts and anchors are read."""
        # The newest anchors, but not the previous frame itself.
        past = [n for n, anchor in enumerate(held.anchors) if anchor.index < index - 1]
        spare = self.anchor_slots - 1
        anchors = past[-spare:] if spare else []
        beside = len(held.prompts) + len(anchors)
        slots = max(limits.slots - max(beside - 1, 0), 1)
        return ReadPlan(by_rank(len(held.recents), slots, limits), anchors, timed_prompts=False)
