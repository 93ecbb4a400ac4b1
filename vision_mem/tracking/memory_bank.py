"""What is remembered of one object: a bounded value that is replaced, never changed.

Held are the prompted frames, at most ``limits.slots`` tracked frames, the pointers of the latest
``limits.pointers`` frames and a few anchors, where the policy wants some. That is all a policy can
ever read again, so the output equals that of a memory which keeps everything, and the bytes held
stop growing once the slots and the pointer ring are full. Which frames these are is the policy's
word (``policies``); this file knows none by name.

Since writing returns a new memory, a step that fails half-way has changed nothing, and the memory
before a frame is kept for a correction by keeping a reference to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from vision_mem.models.segmenters.protocol import MemoryEntry, MemoryRead, SearchHint
from vision_mem.tracking.policies.protocol import (
    AnchorState,
    FrameRecord,
    HeldFrames,
    MemoryLimits,
    MemoryPolicy,
)
from vision_mem.types import MemoryUsage


@dataclass(frozen=True)
class ScoredEntry:
    """A memory entry and the scores that decide about it."""

    entry: MemoryEntry
    record: FrameRecord


@dataclass(frozen=True)
class Pointer:
    """The object pointer of one tracked frame: ``(C,)``, its frame, and whether a mask was seen."""

    index: int
    vector: torch.Tensor
    seen: bool


@dataclass(frozen=True)
class MaskMemory:
    """The memory of one object.

    Attributes:
        policy: rules it.
        limits: what the network can read.
        prompts: frames a person pointed at, in time order.
        recents: tracked frames, in time order.
        anchors: tracked frames that the policy keeps for longer, in time order.
        pointers: one for each of the latest frames, in time order.
        anchor_state: what deciding about anchors needs.
    """

    policy: MemoryPolicy
    limits: MemoryLimits
    prompts: tuple[ScoredEntry, ...] = ()
    recents: tuple[ScoredEntry, ...] = ()
    anchors: tuple[ScoredEntry, ...] = ()
    pointers: tuple[Pointer, ...] = ()
    anchor_state: AnchorState = AnchorState()

    def write_prompt(self, entry: MemoryEntry, record: FrameRecord) -> MaskMemory:
        """Remember a frame a person pointed at.

        The nearest ``limits.prompts`` prompted frames stay; one that is too many is read as a
        tracked frame for as long as it is recent. The entry is newer than all that is held.

        Source:
            SAM 2, ``sam2_utils.py: select_closest_cond_frames``.
        """
        new = ScoredEntry(entry, record)
        held = (*self.prompts, new)
        kept, spare = held[-self.limits.prompts :], held[: -self.limits.prompts]
        if self.policy.pin_first_prompt and spare and self.limits.prompts > 1:
            kept, spare = (held[0], *kept[1:]), (*spare[1:], kept[0])
        anchor_state = self.anchor_state.after(record, anchored=True)
        memory = replace(self, prompts=kept, anchor_state=anchor_state)
        for old in spare:
            memory = memory._demote(old, entry.index)
        # The window moved on by one frame although no pointer was added to it.
        memory = replace(memory, pointers=memory._window(memory.pointers, entry.index))
        return memory._within(self.policy.window)

    def write(
        self, entry: MemoryEntry, record: FrameRecord, *, anchor: bool = False
    ) -> tuple[MaskMemory, str | None]:
        """Remember a tracked frame, as far as the policy wants it.

        Args:
            entry: what the segmenter made of it; newer than all that is held.
            record: its scores.
            anchor: keep it as an anchor too (see ``becomes_anchor``).

        Returns:
            The memory after it, and why the frame will be read on the next frame only, or None.
        """
        new = ScoredEntry(entry, record)
        pointers = self.pointers
        if self.policy.keeps_pointers:
            pointers = (*pointers, Pointer(entry.index, entry.pointer, record.area > 0))
        anchors = self.anchors
        if anchor:
            anchors = (*anchors, new)[-max(self.policy.max_anchors, 1) :]
        memory = replace(
            self,
            recents=self._kept((*self.recents, new)),
            anchors=anchors,
            pointers=self._window(pointers, entry.index),
            anchor_state=self.anchor_state.after(record, anchored=anchor),
        )._within(self.policy.window)
        return memory, self.policy.admit(record)

    def becomes_anchor(self, record: FrameRecord, overlaps: Callable[[], Sequence[float]]) -> bool:
        """Whether the policy wants a tracked frame as an anchor, see ``MemoryPolicy.anchor``."""
        return self.policy.anchor(record, self.anchor_state, overlaps)

    def read(
        self, index: int, *, hint: SearchHint | None = None, num_frames_hint: int | None = None
    ) -> MemoryRead:
        """What may be looked at on a frame. Reading changes nothing.

        Args:
            index: number of the frame, counted from the object's first prompt; newer than all
                that is held.
            hint: where to look, or None.
            num_frames_hint: length of the clip, if known.

        Returns:
            Entries and pointers in reading order.
        """
        held = HeldFrames(_records(self.prompts), _records(self.recents), _records(self.anchors))
        plan = self.policy.read(held, index, self.limits)
        anchors = [self.anchors[n] for n in plan.anchors]
        fixed = sorted([*self.prompts, *anchors], key=lambda one: one.entry.index)
        pointers = [(one.entry.pointer, index - one.entry.index) for one in fixed]
        short = num_frames_hint is not None and num_frames_hint <= self.limits.pointers
        reach = min(self.limits.pointers, (num_frames_hint or 1) - 1) if short else None
        first = index - (self.limits.pointers if reach is None else reach)
        fixed_indices = {one.entry.index for one in fixed}
        pointers += [
            (pointer.vector, index - pointer.index)
            for pointer in reversed(self.pointers)
            if pointer.index >= first
            and pointer.index not in fixed_indices
            and (pointer.seen or not self.policy.pointer_gate)
        ]
        return MemoryRead(
            prompts=[one.entry for one in fixed],
            recents=[(self.recents[n].entry, t_pos) for n, t_pos in plan.recents],
            pointers=pointers,
            index=index,
            num_frames_hint=num_frames_hint if short else None,
            hint=hint,
            timed_prompts=plan.timed_prompts,
        )

    def without(self, index: int) -> MaskMemory:
        """The memory as if a frame had not been remembered; what it displaced stays away."""
        return replace(
            self,
            prompts=tuple(held for held in self.prompts if held.entry.index != index),
            recents=tuple(held for held in self.recents if held.entry.index != index),
            anchors=tuple(held for held in self.anchors if held.entry.index != index),
            pointers=tuple(pointer for pointer in self.pointers if pointer.index != index),
        )

    def thinned(self) -> MaskMemory | None:
        """With one memory less: the oldest tracked frame, then the oldest prompted but the first.

        Returns:
            The smaller memory; None when only what an object cannot do without is left, one
            prompted and one tracked frame.
        """
        if self.anchors:
            return replace(self, anchors=self.anchors[1:])
        if len(self.recents) > 1:
            return replace(self, recents=self.recents[1:])
        if len(self.prompts) > 1:
            return replace(self, prompts=(self.prompts[0], *self.prompts[2:]))
        return None

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """All tensors held with the kind of each; shared ones come up more than once."""
        for held in (*self.prompts, *self.recents, *self.anchors):
            for tensor in held.entry.tensors.values():
                yield "memory maps", tensor
            yield "pointers", held.entry.pointer
        for pointer in self.pointers:
            yield "pointers", pointer.vector

    def usage(self) -> MemoryUsage:
        """Entries and bytes of this object's memory."""
        entries = len(self.prompts) + len(self.recents) + len(self.anchors) + len(self.pointers)
        return count_usage(self.tensors(), entries)

    def state_dict(self) -> dict[str, Any]:
        """All that is held, as nested dicts and lists of tensors and plain values."""
        return {
            "prompts": [_remembered_state(held) for held in self.prompts],
            "recents": [_remembered_state(held) for held in self.recents],
            "anchors": [_remembered_state(held) for held in self.anchors],
            "pointers": [dict(vars(pointer)) for pointer in self.pointers],
            "areas": [list(pair) for pair in self.anchor_state.areas],
            "last_anchor": self.anchor_state.last,
        }

    def filled(self, state: Mapping[str, Any], device: torch.device) -> MaskMemory:
        """This memory with what ``state_dict`` held in place of its own, on a device."""

        def entries(kind: str) -> tuple[ScoredEntry, ...]:
            return tuple(_remembered(held, device) for held in state[kind])

        areas = tuple((int(index), int(area)) for index, area in state["areas"])
        return replace(
            self, prompts=entries("prompts"), recents=entries("recents"),
            anchors=entries("anchors"), anchor_state=AnchorState(areas, int(state["last_anchor"])),
            pointers=tuple(
                Pointer(int(p["index"]), p["vector"].to(device), bool(p["seen"]))
                for p in state["pointers"]
            ),
        )  # fmt: skip

    def _kept(self, held: tuple[ScoredEntry, ...]) -> tuple[ScoredEntry, ...]:
        """Those of the tracked frames that the policy keeps and the network has slots for."""
        slots = self.limits.slots
        keep = self.policy.keep(_records(held), self.limits) if held and slots else []
        return tuple(held[n] for n in keep[-slots:])

    def _window(self, pointers: tuple[Pointer, ...], newest: int) -> tuple[Pointer, ...]:
        first = newest + 1 - self.limits.pointers
        return tuple(pointer for pointer in pointers if pointer.index >= first)

    def _within(self, window: int | None) -> MaskMemory:
        """Without tracked frames that lie further back than the window reaches."""
        if window is None or len(self.pointers) <= window + 1:
            return self
        pointers = self.pointers[-(window + 1) :]
        first = pointers[0].index
        recents = tuple(held for held in self.recents if held.entry.index >= first)
        return replace(self, pointers=pointers, recents=recents)

    def _demote(self, old: ScoredEntry, newest: int) -> MaskMemory:
        pointer = Pointer(old.entry.index, old.entry.pointer, old.record.area > 0)
        pointers = sorted((*self.pointers, pointer), key=lambda held: held.index)
        recents = self.recents
        if newest - old.entry.index <= self.limits.slots * self.limits.stride:
            recents = tuple(sorted((*recents, old), key=lambda held: held.entry.index))
            recents = self._kept(recents)
        return replace(self, recents=recents, pointers=self._window(tuple(pointers), newest))


def _records(held: Iterable[ScoredEntry]) -> list[FrameRecord]:
    return [one.record for one in held]


def count_usage(tensors: Iterable[tuple[str, torch.Tensor]], entries: int) -> MemoryUsage:
    """Sum the bytes that stay allocated because of some ``(kind, tensor)`` pairs, by kind.

    A view counts as all of what it keeps alive, and shared storage counts once.
    """
    seen: set[int] = set()
    detail: dict[str, int] = {}
    for kind, tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            detail[kind] = detail.get(kind, 0) + storage.nbytes()
    return MemoryUsage(entries=entries, bytes=sum(detail.values()), detail=detail)


def _remembered_state(held: ScoredEntry) -> dict[str, Any]:
    entry = held.entry
    return {
        "index": entry.index,
        "tensors": dict(entry.tensors),
        "pointer": entry.pointer,
        "record": asdict(held.record),
    }


def _remembered(state: Mapping[str, Any], device: torch.device) -> ScoredEntry:
    tensors = {str(name): tensor.to(device) for name, tensor in state["tensors"].items()}
    entry = MemoryEntry(int(state["index"]), tensors, state["pointer"].to(device))
    return ScoredEntry(entry, FrameRecord(**state["record"]))


def describe_read(read: MemoryRead) -> dict[str, Any]:
    """Which frames a look at a memory saw, for the diary."""
    return {
        "prompts": [entry.index for entry in read.prompts],
        "recents": [[t_pos, entry.index] for entry, t_pos in read.recents],
        "pointers": [read.index - position for _, position in read.pointers],
    }
