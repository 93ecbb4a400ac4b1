"""What a memory policy is: rules on small records, without tensors or networks.

A frame's fitness for memory depends on its own scores alone and never changes, so nothing has to
be searched for later: keeping the newest few fit frames equals keeping all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from vision_mem.config import check_range
from vision_mem.models.segmenters.protocol import SegmenterTraits

UNLIMITED_PROMPTS = 8
"""Prompted frames kept when neither settings nor model give a limit, so that memory is bounded."""


@dataclass(frozen=True)
class FrameRecord:
    """The scores of one object on one frame: all that memory rules look at.

    Attributes:
        index: frame number, counted from the object's first prompt (0).
        iou: estimated IoU of the chosen mask.
        object_logit: above 0 when the object is to be seen.
        motion_iou: agreement with the motion filter; None where it had no say.
        area: pixels of the chosen mask on the grid.
        prompted: True when a person pointed at this frame; scores then do not matter.
        score: how sure people may be of the mask, where the segmenter tells that from ``iou``.
    """

    index: int
    iou: float
    object_logit: float
    motion_iou: float | None
    area: int
    prompted: bool = False
    score: float | None = None


@dataclass(frozen=True)
class MemoryLimits:
    """How much a network can read.

    Attributes:
        slots: tracked frames read at most (6 for SAM 2).
        pointers: tracked pointers read at most, one for each of as many frames back (15).
        prompts: prompted frames read at most.
        stride: temporal stride that the network wants of its memories (1).
    """

    slots: int
    pointers: int
    prompts: int
    stride: int = 1

    @classmethod
    def of(cls, traits: SegmenterTraits, policy: MemoryPolicy) -> MemoryLimits:
        """Limits of a segmenter under a policy."""
        return cls(
            slots=max(traits.num_maskmem - 1, 0),
            pointers=max(traits.max_pointers - 1, 0),
            prompts=policy.max_prompts or traits.max_prompts or UNLIMITED_PROMPTS,
            stride=max(traits.memory_stride, 1),
        )


@dataclass(frozen=True)
class AnchorState:
    """What is known of an object's past when a frame may become an anchor.

    Attributes:
        areas: ``(index, area)`` of the latest ten frames with a mask.
        last: index of the latest anchor or prompt.
    """

    areas: tuple[tuple[int, int], ...] = ()
    last: int = 0

    def after(self, record: FrameRecord, anchored: bool) -> AnchorState:
        """The state once a frame has been seen."""
        areas = self.areas
        if record.area > 0:
            areas = (*areas, (record.index, record.area))[-10:]
        return replace(self, areas=areas, last=record.index if anchored else self.last)


@dataclass(frozen=True)
class HeldFrames:
    """Scores of what is held of one object, each in time order.

    Attributes:
        prompts: frames a person pointed at.
        recents: tracked frames.
        anchors: tracked frames kept for longer.
    """

    prompts: Sequence[FrameRecord] = ()
    recents: Sequence[FrameRecord] = ()
    anchors: Sequence[FrameRecord] = ()


@dataclass(frozen=True)
class ReadPlan:
    """What is read on a frame; the prompts are always.

    Attributes:
        recents: ``(position, t_pos)`` of tracked frames from oldest to newest. ``t_pos`` is the
            temporal code, from 1 to ``limits.slots``, which is that of the newest.
        anchors: positions of anchors; they are read like prompts.
        timed_prompts: whether prompts carry a temporal code too.
    """

    recents: Sequence[tuple[int, int]]
    anchors: Sequence[int] = ()
    timed_prompts: bool = True


@dataclass(frozen=True)
class MemoryPolicy:
    """Which frames are remembered and which are read. Its fields are its settings.

    A policy of one's own is a subclass, itself a frozen dataclass where it has settings; each
    needs a default. What it does not override is: every frame may be read later, there are no
    anchors, and of those that may be read the latest are, by rank. Whatever it says, memory stays
    within ``MemoryLimits``.

    Attributes:
        name: what presets and snapshots call the class; ``module:Class`` for one of the user's.
        pointer_gate: whether pointers of frames with an empty mask are left out (DAM4SAM: yes).
        max_prompts: prompted frames kept at most, the nearest in time (SAM 2's
            ``max_cond_frames_in_attn``). None takes the model's limit, or 8 if it has none.
        pin_first_prompt: whether the very first prompted frame stays when there are too many
            (SAM 2's selection counts by distance alone).
        window: tracked frames that may be read behind the newest one, counted among those that
            were remembered; older memories and pointers are dropped. None drops none that can be
            read: with SAM 2's memory 14 or more change nothing (Seg2Track-SAM2: 16).
    """

    name: str = field(default="", init=False)
    pointer_gate: bool = False
    max_prompts: int | None = None
    pin_first_prompt: bool = False
    window: int | None = None

    keeps_pointers: ClassVar[bool] = True
    """Whether pointers of tracked frames are kept."""

    def __init_subclass__(cls, name: str = "") -> None:
        super().__init_subclass__()
        cls.name = name or f"{cls.__module__}:{cls.__qualname__}"

    def __post_init__(self) -> None:
        check_range(self, ("max_prompts", "window"), 1)

    @property
    def max_anchors(self) -> int:
        """Anchors kept at most."""
        return 0

    def admit(self, record: FrameRecord) -> str | None:
        """Why a frame will not be read later, or None when it may be.

        The newest frame is read whatever this says. The reason goes into the diary.
        """
        return None

    def anchor(
        self, record: FrameRecord, past: AnchorState, overlaps: Callable[[], Sequence[float]]
    ) -> bool:
        """Whether a tracked frame is to be kept as an anchor.

        Args:
            record: its scores.
            past: of the object.
            overlaps: gives the box IoU of each other candidate mask with the chosen one; costs
                time, so ask it last.
        """
        return False

    def keep(self, held: Sequence[FrameRecord], limits: MemoryLimits) -> list[int]:
        """Which of the tracked frames may still be read.

        Args:
            held: frames in time order; the last one is new.
            limits: what the network can read.

        Returns:
            Positions in ``held``, in order; of too many the newest stay.
        """
        newest = len(held) - 1
        return [*(n for n in range(newest) if self.admit(held[n]) is None), newest]

    def read(self, held: HeldFrames, index: int, limits: MemoryLimits) -> ReadPlan:
        """Which held frames are read for a new frame, and under which temporal code.

        Args:
            held: what ``keep`` and ``anchor`` let stay.
            index: number of the new frame.
            limits: what the network can read.
        """
        return ReadPlan(by_rank(len(held.recents), len(held.recents), limits))


def by_rank(count: int, read: int, limits: MemoryLimits) -> list[tuple[int, int]]:
    """``(position, t_pos)`` of the newest ``read`` of ``count`` frames, without gaps in the code.

    Source:
        SAMURAI's copy of SAM 2, ``sam2_base.py: _prepare_memory_conditioned_features``: rank
        instead of distance.
    """
    return [(n, limits.slots - (count - 1 - n)) for n in range(max(count - read, 0), count)]
