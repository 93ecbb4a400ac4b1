"""What a session may ask of a network: the seams every segmenter is cut at.

A segmenter holds weights and nothing about any stream: all calls are pure functions of their
arguments, so one segmenter serves any number of sessions. Policy (which memories are read,
which candidate wins, what is kept) lives between the seams, in ``vision_mem.tracking``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_mem.types import Frame, Prompt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ImageFeatures:
    """One encoded frame, made once and shared by all objects.

    Attributes:
        video_size: ``(H, W)`` of the frame.
        grid_size: ``(gh, gw)`` of the grid on which candidates are compared and boxes measured;
            motion filters count in its pixels. ``(1024, 1024)`` for SAM 2.
        payload: the segmenter's own tensors; nobody else looks inside.
    """

    video_size: tuple[int, int]
    grid_size: tuple[int, int]
    payload: Any


@dataclass(frozen=True)
class MemoryEntry:
    """What is remembered of one object on one frame.

    Attributes:
        index: frame number, counted from the object's first prompt (0).
        tensors: the segmenter's own memory of it, by name. Tensors that several objects share
            (frame tokens of the embedded segmenter) are the same tensor object in each entry.
        pointer: ``(C,)`` object pointer; C may be 0 for segmenters without pointers.
    """

    index: int
    tensors: dict[str, torch.Tensor]
    pointer: torch.Tensor


@dataclass(frozen=True)
class SearchHint:
    """Where an object is expected, for segmenters that look closer there.

    Attributes:
        box: float64 ``(4,)`` ``(x1, y1, x2, y2)`` in grid pixels: the motion filter's
            prediction when the policy runs one, else the last box seen.
        spread: standard deviation of the box centre, grid pixels.
        missing: frames since the object was last seen; 0 when seen on the previous frame.
    """

    box: NDArray[np.float64]
    spread: float
    missing: int


@dataclass(frozen=True)
class MemoryRead:
    """Everything one object may look at on this frame. Made by a policy.

    Attributes:
        prompts: prompted entries, in time order.
        recents: ``(entry, t_pos)`` oldest to newest; t_pos = num_maskmem - rank, newest has the
            highest (SAMURAI spec 1.4a.2).
        pointers: ``(pointer (C,), position)`` in reading order, position in frames.
        index: number of the current frame, counted from the object's first prompt.
        num_frames_hint: length of the clip if it is shorter than the pointer window, else None
            (SAMURAI spec 1.7 row 11).
        hint: where to look, or None.
        timed_prompts: whether prompted entries carry the temporal code of prompts; False for
            DAM4SAM's anchors.
        among: objects followed on this frame: of each of many, fewer memories may be asked.
    """

    prompts: Sequence[MemoryEntry]
    recents: Sequence[tuple[MemoryEntry, int]]
    pointers: Sequence[tuple[torch.Tensor, int]]
    index: int
    num_frames_hint: int | None = None
    hint: SearchHint | None = None
    timed_prompts: bool = True
    among: int = 1


@dataclass(frozen=True)
class Candidates:
    """Masks offered for B objects, M each (M = 1 when the prompt leaves no doubt).

    Attributes:
        logits: float32 ``(B, M, h, w)`` low-resolution mask logits, before any hole filling;
            -1024 everywhere when the object is judged absent.
        iou: ``(B, M)`` estimated IoU, in (0, 1).
        object_logit: ``(B,)`` above the appear threshold when the object is to be seen.
        pointers: ``(B, M, C)`` float32 object pointer of each candidate.
        scores: ``(B, M)`` how sure people may be of each mask, calibrated, [0, 1]; None where
            ``iou`` is all there is. Policies never look at it.
    """

    logits: torch.Tensor
    iou: torch.Tensor
    object_logit: torch.Tensor
    pointers: torch.Tensor
    scores: torch.Tensor | None = None

    def rows(self, which: slice | torch.Tensor) -> Candidates:
        """Those of some objects."""
        known = {name: values for name, values in vars(self).items() if values is not None}
        return Candidates(**{name: values[which] for name, values in known.items()})

    def of(self, row: int) -> Candidates:
        """Those of one object of several, B = 1."""
        return self.rows(slice(row, row + 1))

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """Those of several looks, one behind the other."""
        import torch

        names = [name for name, value in vars(parts[0]).items() if value is not None]
        return cls(**{name: torch.cat([vars(one)[name] for one in parts]) for name in names})


@dataclass(frozen=True)
class SegmenterTraits:
    """Numbers a policy needs to know about a segmenter.

    Attributes:
        model_id: name and, when from a file, a short hash of the weights; a snapshot records it.
        image_size: side S of the model's own square input, or None when it takes any shape.
        num_maskmem: memory slots plus the prompt (7 for SAM 2).
        max_pointers: pointers read at most, prompt frames included (16 for SAM 2).
        max_prompts: prompted frames read at most, or None for all.
        memory_stride: temporal stride of memories in evaluation (1).
        fill_hole_area: background holes of at most this many low-resolution pixels are filled.
        parallel: several threads may call ``decode`` and ``encode_memory`` at a time, each for
            objects of its own.
        decodes_at_once: objects that ``decode`` may get at once without their results depending
            on it, not even in the last bit.
    """

    model_id: str
    image_size: int | None
    num_maskmem: int = 7
    max_pointers: int = 16
    max_prompts: int | None = None
    memory_stride: int = 1
    fill_hole_area: int = 0
    parallel: bool = False
    decodes_at_once: int = 1
    extra: dict[str, Any] = field(default_factory=dict)


class Segmenter(Protocol):
    """A promptable video segmenter, cut at its seams. All tensors live on ``device``.

    One that can look at what several threads ask for in one pass, with the same results, has a
    method ``join_passes()``, which begins it; see ``models.joined_passes``.
    """

    traits: SegmenterTraits
    device: torch.device

    def encode_image(self, frame: Frame) -> ImageFeatures:
        """Encode a frame, once for all objects."""

    def decode_prompt(
        self,
        features: ImageFeatures,
        prompt: Prompt,
        *,
        read: MemoryRead | None = None,
        previous_logits: torch.Tensor | None = None,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        """Segment what a prompt points at (B = 1).

        Args:
            features: the encoded frame.
            prompt: checked against the frame already; video pixels.
            read: memory of an object that is tracked already and is being corrected; None for
                the first prompt of an object.
            previous_logits: ``(1, 1, h, w)`` this frame's low-resolution logits when earlier
                clicks or tracking gave some.
            appear_threshold: object logits above it count as present.
        """

    def decode(
        self,
        features: ImageFeatures,
        reads: Sequence[MemoryRead],
        *,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        """Segment B tracked objects from what they remember, in the order of ``reads``."""

    def to_grid(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        """``(B, M, h, w)`` low-resolution logits to ``(B, M, gh, gw)`` on the grid."""

    def to_video(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        """``(B, 1, h, w)`` low-resolution logits to ``(B, 1, H, W)`` at the frame's size."""

    def encode_memory(
        self,
        features: ImageFeatures,
        grid_logits: torch.Tensor,
        object_logit: torch.Tensor,
        *,
        from_prompt: bool,
        no_object_threshold: float = 0.0,
        pointers: torch.Tensor | None = None,
    ) -> list[dict[str, torch.Tensor]]:
        """Turn chosen masks into what ``MemoryEntry.tensors`` holds, one dict an object.

        Args:
            features: the encoded frame.
            grid_logits: ``(B, 1, gh, gw)`` logits on the grid.
            object_logit: ``(B,)``.
            from_prompt: True on prompted frames (SAM 2 binarises those masks).
            no_object_threshold: object logits at or below it mark the memory as "no object".
            pointers: ``(B, C)`` pointers of the chosen candidates, for segmenters whose
                pointers say where they looked; SAM 2 needs none.
        """
