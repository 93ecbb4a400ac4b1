"""What to remember and what to read: rules on small records, without tensors or networks.

Each rule takes the settings and records and returns positions or decisions, so that it can be
checked by a table. Which *candidate* wins is decided in ``choice.py``.

A frame's fitness for memory depends on its own scores alone and never changes, so nothing has to
be searched for later: keeping the newest few fit frames equals keeping all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from vision_mem.errors import InputError
from vision_mem.models.segmenters.protocol import SegmenterTraits

CHOICES = ("iou", "motion")
MEMORIES = ("recent", "scored", "distractor", "prompt")
PROMPT_MOTIONS = ("init", "clicks")
UNLIMITED_PROMPTS = 8
"""Prompted frames kept when neither settings nor model give a limit, so that memory is bounded."""


@dataclass(frozen=True)
class PolicyConfig:
    """Every switch of a tracking policy. The defaults are SAMURAI with its oddities repaired.

    Attributes:
        choice: which candidate wins: ``iou`` (the best estimate, SAM 2) or ``motion`` (estimate
            mixed with agreement with a motion filter; SAMURAI section 4.1).
        memory: which tracked frames are read: ``recent`` (the latest; SAM 2), ``scored`` (the
            latest with good scores; SAMURAI section 4.2), ``distractor`` (recent ones plus frames
            on which a look-alike was told apart; DAM4SAM section 3), ``prompt`` (none).
        motion_weight: weight of the motion IoU against the estimated IoU, 0..1. SAMURAI's code
            uses 0.25 with tiny, small and base-plus weights and 0.15 with large ones.
        stable_frames: frames in a row with a good estimate before motion has a say (SAMURAI: 15).
        stable_iou: estimated IoU that counts as good (SAMURAI: 0.3; compared in float32).
        appear_threshold: object logit above which the object is to be seen (SAM 2: 0,
            SAMURAI: -1).
        no_object_threshold: object logit at or below which a memory is marked "no object"
            (SAM 2: 0).
        memory_iou: estimated IoU a frame must exceed to be read later (SAMURAI: 0.5).
        memory_object_logit: object logit it must exceed (SAMURAI: 0).
        memory_motion_gate: whether it must exceed ``memory_motion_iou`` too. SAMURAI's code as
            first released never stored that score, so its published numbers may be without.
        memory_motion_iou: motion IoU it must exceed (SAMURAI: 0).
        first_memory_index: first tracked frame that scores can admit; the prompt is frame 0.
            SAMURAI's code starts at 2, which leaves frame 1 out.
        motion_update_on_empty: whether an empty mask counts as a box at the origin. SAMURAI's
            code does, and needs up to 29 frames to recover; otherwise the filter coasts.
        motion_max_coast: frames to coast without a mask before the filter starts anew; 0 for
            ever. Ours: one second of ordinary video.
        motion_on_prompt: ``init`` starts the filter from the prompted mask; ``clicks`` runs one
            step on prompts with several candidates only (single clicks), as SAMURAI's code.
        pointer_gate: whether pointers of frames with an empty mask are left out (DAM4SAM: yes).
        max_prompts: prompted frames kept at most, the nearest in time (SAM 2's
            ``max_cond_frames_in_attn``). None takes the model's limit, or 8 if it has none.
        pin_first_prompt: whether the very first prompted frame stays when there are too many
            (SAM 2's selection counts by distance alone).
        window: tracked frames that may be read behind the newest one, counted among those that
            were remembered; older memories and pointers are dropped. None drops none that can be
            read: with SAM 2's memory 14 or more change nothing (Seg2Track-SAM2: 16).
        corrections_are_prompts: whether a frame corrected by hand is kept like a first prompt
            (SAM 2's ``add_all_frames_to_correct_as_cond``; off there) or like a tracked frame.
        anchor_slots: frames kept by ``distractor`` memory, the first prompt included (DAM4SAM: 4).
        anchor_stride: temporal stride of its recent frames (DAM4SAM: 5).
        anchor_iou: estimated IoU a new anchor must exceed (DAM4SAM: 0.8).
        anchor_area_change: allowed relative distance of its area from the median of the latest
            ten (DAM4SAM: 0.2).
        anchor_area_window: frames back in which those ten are looked for (DAM4SAM: 300).
        anchor_gap: frames that must lie between two anchors (DAM4SAM: 5).
        anchor_overlap: box IoU at or below which an alternative shows a look-alike
            (DAM4SAM: 0.7).
        inclusive_box: whether text files count pixels (True) or index differences, one less, as
            SAMURAI's scripts write them. See ``geometry.boxes.box_to_xywh``.
    """

    choice: str = "motion"
    memory: str = "scored"
    motion_weight: float = 0.25
    stable_frames: int = 15
    stable_iou: float = 0.3
    appear_threshold: float = -1.0
    no_object_threshold: float = 0.0
    memory_iou: float = 0.5
    memory_object_logit: float = 0.0
    memory_motion_gate: bool = True
    memory_motion_iou: float = 0.0
    first_memory_index: int = 1
    motion_update_on_empty: bool = False
    motion_max_coast: int = 30
    motion_on_prompt: str = "init"
    pointer_gate: bool = False
    max_prompts: int | None = None
    pin_first_prompt: bool = False
    window: int | None = None
    corrections_are_prompts: bool = False
    anchor_slots: int = 4
    anchor_stride: int = 5
    anchor_iou: float = 0.8
    anchor_area_change: float = 0.2
    anchor_area_window: int = 300
    anchor_gap: int = 5
    anchor_overlap: float = 0.7
    inclusive_box: bool = True

    def __post_init__(self) -> None:
        _one_of("choice", self.choice, CHOICES)
        _one_of("memory", self.memory, MEMORIES)
        _one_of("motion_on_prompt", self.motion_on_prompt, PROMPT_MOTIONS)
        for name in ("motion_weight", "stable_iou", "memory_iou", "anchor_iou", "anchor_overlap"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} is {value}; expected a number from 0 to 1")
        least = {"stable_frames": 1, "first_memory_index": 1, "motion_max_coast": 0}
        least |= {"anchor_slots": 1, "anchor_stride": 1, "anchor_gap": 0, "anchor_area_window": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)}; expected {low} or more")
        if self.max_prompts is not None and self.max_prompts < 1:
            raise InputError(f"max_prompts is {self.max_prompts}; expected 1 or more, or null")
        if self.window is not None and self.window < 1:
            raise InputError(f"window is {self.window}; expected 1 or more frames, or null")


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(known)}")


@dataclass(frozen=True)
class MemoryLimits:
    """How much a network can read.

    Attributes:
        slots: tracked frames read at most (6 for SAM 2).
        pointers: tracked pointers read at most, one for each of as many frames back (15).
        prompts: prompted frames read at most.
        stride: temporal stride of ``recent`` memory (1).
    """

    slots: int
    pointers: int
    prompts: int
    stride: int = 1

    @classmethod
    def of(cls, traits: SegmenterTraits, config: PolicyConfig) -> MemoryLimits:
        """Limits of a segmenter under a policy."""
        prompts = config.max_prompts or traits.max_prompts or UNLIMITED_PROMPTS
        return cls(
            slots=max(traits.num_maskmem - 1, 0),
            pointers=max(traits.max_pointers - 1, 0),
            prompts=prompts,
            stride=max(traits.memory_stride, 1),
        )


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
    """

    index: int
    iou: float
    object_logit: float
    motion_iou: float | None
    area: int
    prompted: bool = False


def refusal(config: PolicyConfig, record: FrameRecord) -> str | None:
    """Why scored memory will not read a frame, or None when it will.

    Source:
        SAMURAI section 4.2; ``sam2_base.py: _prepare_memory_conditioned_features`` of its code.
        All comparisons are strict.
    """
    if record.prompted:
        return None
    if record.index < config.first_memory_index:
        return f"frame {record.index} is before the first that scores admit"
    if not record.iou > config.memory_iou:
        return f"estimated IoU {record.iou:.3f} is not above {config.memory_iou}"
    if not record.object_logit > config.memory_object_logit:
        return f"object logit {record.object_logit:.3f} is not above {config.memory_object_logit}"
    overlap = record.motion_iou if config.memory_motion_gate else None
    if overlap is not None and not overlap > config.memory_motion_iou:
        return f"motion IoU {overlap:.3f} is not above {config.memory_motion_iou}"
    return None


def keep_slots(
    config: PolicyConfig, limits: MemoryLimits, held: Sequence[FrameRecord]
) -> list[int]:
    """Which of the held frames may still be read.

    Args:
        config: the policy.
        limits: what the network can read.
        held: frames in time order; the last one is new.

    Returns:
        Positions in ``held`` to keep, in order; never more than ``limits.slots``.
    """
    if not held or limits.slots == 0 or config.memory == "prompt":
        return []
    newest, older = len(held) - 1, range(len(held) - 1)
    if config.memory == "scored":
        # The newest frame is read whatever its scores; once it is not the newest, scores decide.
        fit = [n for n in older if refusal(config, held[n]) is None]
    elif config.memory == "distractor":
        step = config.anchor_stride
        fit = [n for n in older if held[n].index % step == 0 and held[n].area > 0]
        fit = [n for n in older if held[n].prompted or n in fit]
    else:
        fit = [n for n in older if held[n].prompted or held[n].index % limits.stride == 0]
    spare = limits.slots - 1
    return [*(fit[-spare:] if spare else []), newest]


def read_slots(
    config: PolicyConfig,
    limits: MemoryLimits,
    held: Sequence[FrameRecord],
    index: int,
    anchors: int = 0,
) -> list[tuple[int, int]]:
    """Which held frames are read for a new frame, and under which temporal code.

    Args:
        config: the policy.
        limits: what the network can read.
        held: frames kept, in time order.
        index: number of the new frame.
        anchors: prompted and anchor frames read beside them (``distractor`` only).

    Returns:
        ``(position in held, t_pos)`` from oldest to newest; the newest t_pos is ``limits.slots``.

    Source:
        SAM 2, ``sam2_base.py: _prepare_memory_conditioned_features`` (``recent``); SAMURAI's
        copy of it (``scored``: rank instead of distance); DAM4SAM section 3 (``distractor``).
    """
    slots = limits.slots
    if config.memory == "recent":
        place = {record.index: n for n, record in enumerate(held)}
        stride = limits.stride
        wanted = [(index - 1, slots)]
        last = ((index - 2) // stride) * stride
        wanted += [(last - back * stride, slots - 1 - back) for back in range(slots - 1)]
        return [(place[i], t_pos) for i, t_pos in reversed(wanted) if t_pos > 0 and i in place]
    count = len(held)
    if config.memory == "distractor":
        count = min(count, max(slots - max(anchors - 1, 0), 1))
    chosen = range(len(held) - count, len(held))
    return [(n, slots - (len(held) - 1 - n)) for n in chosen]


@dataclass(frozen=True)
class AnchorState:
    """What ``distractor`` memory knows of the past.

    Attributes:
        areas: ``(index, area)`` of the latest ten frames with a mask.
        last: index of the latest anchor; 0, the prompt, at first.
    """

    areas: tuple[tuple[int, int], ...] = ()
    last: int = 0


def may_anchor(config: PolicyConfig, state: AnchorState, record: FrameRecord) -> bool:
    """Whether a frame is good and calm enough to become an anchor, look-alikes aside.

    Source:
        DAM4SAM (arXiv 2411.17576), section 3.
    """
    if config.memory != "distractor" or record.area == 0:
        return False
    if not record.iou > config.anchor_iou or record.index - state.last <= config.anchor_gap:
        return False
    oldest = record.index - config.anchor_area_window
    areas = [area for index, area in state.areas if index >= oldest]
    if not areas:
        return False
    return abs(record.area / median(areas) - 1.0) <= config.anchor_area_change


def after_frame(state: AnchorState, record: FrameRecord, anchored: bool) -> AnchorState:
    """The anchor state once a frame has been seen."""
    areas = state.areas
    if record.area > 0:
        areas = (*areas, (record.index, record.area))[-10:]
    return replace(state, areas=areas, last=record.index if anchored else state.last)


def read_anchors(config: PolicyConfig, held: Sequence[int], index: int) -> list[int]:
    """Which anchors are read for a frame: the newest, but not the previous frame itself.

    Args:
        config: the policy.
        held: indices of the anchors kept, in time order.
        index: number of the new frame.

    Returns:
        Positions in ``held``, in order.
    """
    past = [n for n, anchor in enumerate(held) if anchor < index - 1]
    spare = config.anchor_slots - 1
    return past[-spare:] if spare else []
