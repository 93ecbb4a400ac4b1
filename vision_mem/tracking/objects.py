"""One tracked object as a value: what it remembers, and what became of it on the latest frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.models.segmenters.protocol import SearchHint
from vision_mem.tracking.kalman import BoxMotion, predict
from vision_mem.tracking.mask_selection import ChoiceState
from vision_mem.tracking.memory_bank import MaskMemory
from vision_mem.tracking.policies.protocol import FrameRecord

_LOST_SPREAD = 1.0 / 20.0
"""Spread a frame of a box that no filter follows, as a part of its height (as the filter's)."""


@dataclass(frozen=True)
class TrackedObject:
    """Everything about one object that outlives a frame.

    Attributes:
        object_id: given once.
        name: a word for people.
        age: number of its latest frame, counted from its first prompt (0).
        memory: what it remembers.
        choice: state of the choice between candidates.
        last_extent: pixel extent on the grid where it was last seen; zeros before.
        missing: frames since then.
        present: whether it was to be seen on the latest frame.
    """

    object_id: int
    name: str
    age: int
    memory: MaskMemory
    choice: ChoiceState = ChoiceState()
    last_extent: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    missing: int = 0
    present: bool = False

    def hint(self) -> SearchHint | None:
        """Where to look on the next frame: the motion filter's word, else where it was last."""
        motion = self.choice.motion
        if self.choice.steady and motion is not None:
            ahead = predict(motion)
            x1, y1, x2, y2 = ahead.box
            # A filter fed with empty masks can turn its box inside out; that is no place to look.
            if x2 > x1 and y2 > y1:
                return SearchHint(ahead.box, ahead.spread, self.missing)
        if not any(self.last_extent):
            return None
        box: NDArray[np.float64] = np.array(self.last_extent, dtype=np.float64)
        height = max(float(box[3] - box[1]), 1.0)
        return SearchHint(box, _LOST_SPREAD * height * (self.missing + 1), self.missing)

    def skipped(self, max_coast: int) -> TrackedObject:
        """The object after a frame on which nobody looked for it.

        Args:
            max_coast: frames after which the motion filter means nothing any more; 0 for never.
        """
        choice = self.choice
        if choice.motion is not None:
            coast = choice.coast + 1
            stable = 0 if 0 < max_coast < coast else choice.stable
            choice = ChoiceState(predict(choice.motion), stable, coast)
        return replace(self, age=self.age + 1, choice=choice, missing=self.missing + 1)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {
            "object_id": self.object_id,
            "name": self.name,
            "age": self.age,
            "memory": self.memory.state_dict(),
            **motion_state(self.choice.motion),
            "stable": self.choice.stable,
            "coast": self.choice.coast,
            "last_extent": list(self.last_extent),
            "missing": self.missing,
            "present": self.present,
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], blank: MaskMemory, device: torch.device
    ) -> TrackedObject:
        """Rebuild an object from ``state_dict``; ``blank`` is a memory that holds nothing."""
        choice = ChoiceState(motion_of(state), int(state["stable"]), int(state["coast"]))
        x1, y1, x2, y2 = (float(value) for value in state["last_extent"])
        return cls(
            object_id=int(state["object_id"]),
            name=str(state["name"]),
            age=int(state["age"]),
            memory=blank.filled(state["memory"], device),
            choice=choice,
            last_extent=(x1, y1, x2, y2),
            missing=int(state["missing"]),
            present=bool(state["present"]),
        )


def motion_state(motion: BoxMotion | None) -> dict[str, torch.Tensor | None]:
    """A motion filter in a ``state_dict``: copies of its mean and covariance."""
    if motion is None:
        return {"mean": None, "covariance": None}
    return {name: torch.from_numpy(value.copy()) for name, value in vars(motion).items()}


def motion_of(state: Mapping[str, Any]) -> BoxMotion | None:
    """The motion filter that ``motion_state`` put into a ``state_dict``."""
    if state["mean"] is None:
        return None
    mean, covariance = (state[name].cpu().numpy() for name in ("mean", "covariance"))
    if mean.shape != (8,) or covariance.shape != (8, 8):
        raise ValueError("motion filter of another size")
    return BoxMotion(mean.astype(np.float64), covariance.astype(np.float64))


@dataclass(frozen=True)
class Outcome:
    """What one frame made of one object; kept until the next frame so that it can be corrected.

    Attributes:
        after: the object with this frame in it.
        before: the object without it; None on the frame of its first prompt.
        logits: ``(1, 1, h, w)`` low-resolution logits, holes filled.
        record: scores of the chosen mask.
        diary: reasons, JSON-ready.
    """

    after: TrackedObject
    before: TrackedObject | None
    logits: torch.Tensor
    record: FrameRecord
    diary: dict[str, Any] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {
            "after": self.after.state_dict(),
            "before": None if self.before is None else self.before.state_dict(),
            "logits": self.logits,
            "record": asdict(self.record),
            "diary": self.diary,
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], blank: MaskMemory, device: torch.device
    ) -> Outcome:
        """Rebuild an outcome from ``state_dict``; see ``TrackedObject``."""
        before = state["before"]
        if before is not None:
            before = TrackedObject.from_state(before, blank, device)
        return cls(
            after=TrackedObject.from_state(state["after"], blank, device),
            before=before,
            logits=state["logits"].to(device),
            record=FrameRecord(**state["record"]),
            diary=dict(state["diary"]),
        )


@dataclass(frozen=True)
class UsedIds:
    """Ids ever given, as merged ranges: a few numbers even after weeks."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[Sequence[int]]) -> UsedIds:
        """From the ranges in a ``state_dict``."""
        return cls(tuple((int(first), int(last)) for first, last in ranges))

    def __contains__(self, object_id: int) -> bool:
        return any(first <= object_id <= last for first, last in self.ranges)

    def next(self) -> int:
        """The smallest id above all that were given; 1 at first."""
        return self.ranges[-1][1] + 1 if self.ranges else 1

    def add(self, object_id: int) -> UsedIds:
        """With one more id."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted((*self.ranges, (object_id, object_id))):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return UsedIds(tuple(merged))
