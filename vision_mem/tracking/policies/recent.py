"""Memory by time alone: the latest frames as SAM 2, or the prompts and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vision_mem.tracking.policies.protocol import (
    FrameRecord,
    HeldFrames,
    MemoryLimits,
    MemoryPolicy,
    ReadPlan,
)


@dataclass(frozen=True)
class RecentFrames(MemoryPolicy, name="recent"):
    """The latest frames, whatever their scores.

    Source:
        SAM 2, ``sam2_base.py: _prepare_memory_conditioned_features``.
    """

    def keep(self, held: Sequence[FrameRecord], limits: MemoryLimits) -> list[int]:
        """Those at the network's stride."""
        newest = len(held) - 1
        stride = limits.stride
        fit = [n for n in range(newest) if held[n].prompted or held[n].index % stride == 0]
        return [*fit, newest]

    def read(self, held: HeldFrames, index: int, limits: MemoryLimits) -> ReadPlan:
        """By distance in time: a frame that is gone leaves a gap in the code."""
        place = {record.index: n for n, record in enumerate(held.recents)}
        slots, stride = limits.slots, limits.stride
        wanted = [(index - 1, slots)]
        last = ((index - 2) // stride) * stride
        wanted += [(last - back * stride, slots - 1 - back) for back in range(slots - 1)]
        return ReadPlan(
            [(place[i], t_pos) for i, t_pos in reversed(wanted) if t_pos > 0 and i in place]
        )


@dataclass(frozen=True)
class PromptsOnly(MemoryPolicy, name="prompt"):
    """No tracked frame: a baseline that shows what memory is worth."""

    keeps_pointers: ClassVar[bool] = False

    def admit(self, record: FrameRecord) -> str | None:
        """Nothing."""
        return "this policy reads the prompt only"

    def keep(self, held: Sequence[FrameRecord], limits: MemoryLimits) -> list[int]:
        """None."""
        return []
