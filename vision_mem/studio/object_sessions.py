"""One object's way through the frames: its session, how far it is, and states to go back to."""

from __future__ import annotations

import ctypes
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vision_mem.formats.snapshot import join_state, load_session, save_snapshot, split_state
from vision_mem.models.segmenters.protocol import ImageFeatures, Segmenter
from vision_mem.studio.commands import EditPlan, ObjectPlan
from vision_mem.studio.results_store import ObjectStatus, Row, assemble, without_mask
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.session import TrackingSession
from vision_mem.types import Frame, MemoryUsage, TrackingResult

_TENSOR_BYTES, _STATE_BYTES = 600, 1000
"""About what a tensor, and a state, take besides their numbers: objects of torch and Python."""
_TIDY_S = 4.0


class SharedFeatures:
    """A segmenter that encodes a frame once, for all the objects that look at it.

    Args:
        segmenter: the network; everything else is its own.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._latest: tuple[Frame, ImageFeatures] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segmenter, name)

    def encode_image(self, frame: Frame) -> ImageFeatures:
        """The features of a frame, those of just before where it is the same."""
        if self._latest is None or self._latest[0] is not frame:
            self._latest = None  # the largest thing held: let go of it first
            self._latest = (frame, self._segmenter.encode_image(frame))
        return self._latest[1]


@dataclass(frozen=True, slots=True)
class HeldState:
    """A state to go back to, in little memory.

    Attributes:
        plain: as ``split_state`` packs it.
        tensors: shared with the states before and after.
    """

    plain: bytes
    tensors: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> HeldState:
        """Take a session's state apart."""
        return cls(*split_state(state))

    def state(self) -> dict[str, Any]:
        """As a session takes it."""
        return join_state(self.plain, self.tensors)


class Lane:
    """An object that is followed by a session of its own, which touches no other one.

    Args:
        segmenter: shared.
        config: of the session.
        keep: states to go back to are kept; not while no one can go back.
    """

    def __init__(self, segmenter: Any, config: TrackingConfig, keep: bool = True) -> None:
        self.session = TrackingSession(segmenter, config)
        self.front: int | None = None
        self.states: dict[int, HeldState] = {}
        self.status: ObjectStatus | None = None
        self._statuses: dict[int, ObjectStatus | None] = {}
        self._keep, self._held = keep, Counter[int]()
        self._places: dict[int, list[int]] = {}
        self._sizes: dict[int, int] = {}
        self.bytes = 0
        """Of the states; tensors that several share count once."""

    def step(self, frame: Frame, plan: ObjectPlan) -> Row:
        """Look at the next frame, with the prompts that are due on it."""
        result = self.session.step(frame, plan.at(frame.index, self.front))
        self.front = frame.index
        row = Row.of(result)
        self.status, change = ObjectStatus.after(self.status, row)
        if self._keep:
            self._save(frame.index, HeldState.of(self.session.state_dict()), self.status)
        return replace(row, change=change)

    def back_to(self, before: int) -> Lane:
        """A new lane with what this one had behind it before a frame.

        Args:
            before: its first frame is to be this one, or an earlier one.
        """
        made = Lane(self.session.segmenter, self.session.config)
        for index, state in self.states.items():
            if index < before:
                made._save(index, state, self._statuses[index])
        if made.states:
            made.front = max(made.states)
            made.status = made._statuses[made.front]
            made.session.load_state_dict(made.states[made.front].state())
        return made

    def thin(self) -> bool:
        """Let go of the state that is missed least; False when one is left."""
        if len(self.states) < 3:
            return False
        order = sorted(self.states)
        newest = order[-1] + 1
        # Dense where it is recent, sparse long ago: a click is a second late, not an hour.
        gaps = {
            b: (c - a) / (newest - b) for a, b, c in zip(order, order[1:], order[2:], strict=False)
        }
        self._drop(min(gaps, key=lambda index: gaps[index]))
        return True

    def forget_before(self, index: int) -> None:
        """Let go of states that no frame follows any more, but for the newest of all."""
        newest = max(self.states, default=index)
        for n in [n for n in self.states if n < index and n != newest]:
            self._drop(n)

    def restore(self, index: int, state: Mapping[str, Any], status: ObjectStatus | None) -> None:
        """Go on behind a frame, from a state that was kept elsewhere.

        Raises:
            ModelError: for a state that is damaged.
        """
        self.session.load_state_dict(state)
        self.front, self.status = index, status
        self._save(index, HeldState.of(state), status)

    def _save(self, index: int, state: HeldState, status: ObjectStatus | None) -> None:
        if index in self.states:
            self._drop(index)
        self.states[index], self._statuses[index] = state, status
        places = [tensor.untyped_storage().data_ptr() for tensor in state.tensors]
        self._places[index] = places
        self.bytes += len(state.plain) + _STATE_BYTES
        for place, tensor in zip(places, state.tensors, strict=True):
            self._held[place] += 1
            if self._held[place] == 1:
                self._sizes[place] = tensor.untyped_storage().nbytes() + _TENSOR_BYTES
                self.bytes += self._sizes[place]

    def _drop(self, index: int) -> None:
        self.bytes -= len(self.states.pop(index).plain) + _STATE_BYTES
        del self._statuses[index]
        for place in self._places.pop(index):
            self._held[place] -= 1
            if not self._held[place]:
                del self._held[place]
                self.bytes -= self._sizes.pop(place)


_tidied, _tidying = [0.0], threading.Lock()


def give_back_memory() -> None:
    """Hand what was freed back to the system; for a process full of states, every few seconds.

    Small things that are kept lie between large ones that are not, and without this the
    allocator holds on to the gaps: many times what is in use.
    """
    if time.monotonic() - _tidied[0] > _TIDY_S and _tidying.acquire(blocking=False):
        try:
            _tidied[0] = time.monotonic()
            with suppress(
                OSError, AttributeError, TypeError
            ):  # the GNU library's own; others have no such
                ctypes.CDLL(None).malloc_trim(0)
        finally:
            _tidying.release()


class ReplaySession:
    """A session that follows objects as a plan says: what a log of commands amounts to.

    Args:
        segmenter: the network.
        config: settings.
        plan: the objects.
        backwards: frames from one on downwards, for objects that are followed so too.
        forwards: whether objects are followed forwards from their first prompt.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        config: TrackingConfig,
        plan: EditPlan,
        backwards: Callable[[int], Iterable[Frame]] | None = None,
        forwards: bool = True,
    ) -> None:
        self.plan, self._backwards, self._forwards = plan, backwards, forwards
        self._rows: dict[int, dict[int, Row]] = {}
        self._config = config
        self._segmenter: Any = SharedFeatures(segmenter)
        self._previous: int | None = None
        self._lanes: dict[int, Lane] = {}

    def step(self, frame: Frame) -> TrackingResult:
        """Look at the next frame."""
        found = {}
        for object_id, plan in self.plan.objects.items():
            if plan.both and frame.index < plan.first:
                row = self._before(plan).get(frame.index)
                if row is not None:
                    found[object_id] = row
            elif plan.follows(frame.index) and (self._forwards or frame.index == plan.first):
                lane = self._lanes.get(object_id)
                if lane is None:
                    lane = Lane(self._segmenter, self._config, keep=False)
                    self._lanes[object_id] = lane
                found[object_id] = lane.step(frame, plan)
            elif plan.end is not None and plan.end <= frame.index:
                self._lanes.pop(object_id, None)
        previous, self._previous = self._previous, frame.index
        return assemble(frame.index, frame.time_s, frame.size, found, self.plan, previous)

    def _before(self, plan: ObjectPlan) -> dict[int, Row]:
        """What is found on the frames before the first prompt: looked for once, as run lengths."""
        if plan.object_id not in self._rows:
            assert self._backwards is not None, "only files are followed backwards"
            frames = self._backwards(plan.first)
            found = follow_backwards(plan, frames, self._segmenter, self._config)
            self._rows[plan.object_id] = {frame.index: without_mask(row) for frame, row in found}
        return self._rows[plan.object_id]

    def usage(self) -> MemoryUsage:
        """What the sessions hold."""
        each = [lane.session.usage() for lane in self._lanes.values()]
        return MemoryUsage(sum(u.entries for u in each), sum(u.bytes for u in each))

    def snapshot(self, path: str | Path) -> None:
        """Write the state to one file, as ``TrackingSession.snapshot``."""
        lanes = [
            {"object": n, "front": lane.front, "state": lane.session.state_dict()}
            for n, lane in self._lanes.items()
        ]
        header = {"kind": "commands", "model_id": self._segmenter.traits.model_id, "config": {}}
        save_snapshot(path, {"previous": self._previous, "lanes": lanes}, header)

    def resume(self, path: Path) -> None:
        """Go on from a snapshot.

        Raises:
            ModelError: for a damaged file, or one of another model.
        """
        state, _ = load_session(path, "commands", self._segmenter.traits.model_id)
        self._previous = state["previous"]
        for held in state["lanes"]:
            lane = Lane(self._segmenter, self._config, keep=False)
            lane.session.load_state_dict(held["state"])
            lane.front = held["front"]
            self._lanes[int(held["object"])] = lane


def follow_backwards(
    plan: ObjectPlan, frames: Iterable[Frame], segmenter: Any, config: TrackingConfig
) -> Iterable[tuple[Frame, Row]]:
    """Follow an object from its first prompt to earlier frames.

    Args:
        plan: of the object.
        frames: from the frame of its first prompt on downwards.
        segmenter: the network.
        config: settings.

    Yields:
        The earlier frames, downwards, and what was found.
    """
    lane = Lane(segmenter, config, keep=False)
    prompts = [prompt for n, prompt in plan.prompts if n == plan.first]
    for frame in frames:
        result = lane.session.step(frame, prompts)
        if not prompts:
            yield frame, replace(Row.of(result), events=())
        prompts = []
