"""Memory by scores: the latest frames on which the mask is believed, as SAMURAI."""

from __future__ import annotations

from dataclasses import dataclass

from vision_mem.config import check_range
from vision_mem.tracking.policies.protocol import FrameRecord, MemoryPolicy


@dataclass(frozen=True)
class ScoredFrames(MemoryPolicy, name="scored"):
    """The latest frames with good scores. The defaults are SAMURAI's with its oddities repaired.

    Attributes:
        memory_iou: estimated IoU a frame must exceed to be read later (SAMURAI: 0.5).
        memory_object_logit: object logit it must exceed (SAMURAI: 0).
        memory_motion_gate: whether it must exceed ``memory_motion_iou`` too. SAMURAI's code as
            first released never stored that score, so its published numbers may be without.
        memory_motion_iou: motion IoU it must exceed (SAMURAI: 0).
        first_memory_index: first tracked frame that scores can admit; the prompt is frame 0.
            SAMURAI's code starts at 2, which leaves frame 1 out.

    Source:
        SAMURAI (arXiv 2411.11922), section 4.2; ``sam2_base.py:
        _prepare_memory_conditioned_features`` of its code. All comparisons are strict.
    """

    memory_iou: float = 0.5
    memory_object_logit: float = 0.0
    memory_motion_gate: bool = True
    memory_motion_iou: float = 0.0
    first_memory_index: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("memory_iou",), 0, 1)
        check_range(self, ("first_memory_index",), 1)

    def admit(self, record: FrameRecord) -> str | None:
        """By its scores, unless a person pointed at it."""
        if record.prompted:
            return None
        if record.index < self.first_memory_index:
            return f"frame {record.index} is before the first that scores admit"
        if not record.iou > self.memory_iou:
            return f"estimated IoU {record.iou:.3f} is not above {self.memory_iou}"
        if not record.object_logit > self.memory_object_logit:
            return f"object logit {record.object_logit:.3f} is not above {self.memory_object_logit}"
        overlap = record.motion_iou if self.memory_motion_gate else None
        if overlap is not None and not overlap > self.memory_motion_iou:
            return f"motion IoU {overlap:.3f} is not above {self.memory_motion_iou}"
        return None
