"""What a session knows of its stream between frames, and which frames it looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from vision_mem.errors import InputError
from vision_mem.types import Frame
from vision_mem.videoqa.config import MemoryConfig
from vision_mem.videoqa.memory import TokenMemory
from vision_mem.videoqa.mrope import Watched

# Clocks of cameras are set back now and then; more than this is another stream.
_BACKWARD_S = 1.0
_ROUNDING_S = 1e-6


def steady_time(frame: Frame, latest_s: float | None) -> float:
    """The time of a frame, never before the one before.

    Args:
        frame: the frame.
        latest_s: the time of the frame before, seconds; None for the first.

    Raises:
        InputError: when the time is no number, or lies more than a second back.
    """
    if not math.isfinite(frame.time_s):
        raise InputError(f"frame {frame.index} has time {frame.time_s}; expected seconds")
    if latest_s is None:
        return frame.time_s
    if frame.time_s < latest_s - _BACKWARD_S:
        raise InputError(
            f"frame {frame.index} at {frame.time_s:g} s comes after {latest_s:g} s; time cannot "
            "run back: call reset() before another stream"
        )
    return max(frame.time_s, latest_s)


def next_due(time_s: float, origin_s: float, fps: float | None) -> float | None:
    """When the next frame is to be looked at, after one was.

    Args:
        time_s: of the frame looked at, seconds.
        origin_s: of the first frame of the stream: looks lie on a raster that begins there, so
            that they do not drift with the source's own rate.
        fps: looks a second; None for every frame.

    Returns:
        Seconds, less a rounding error; None for at once.
    """
    if fps is None:
        return None
    looks = math.floor((time_s - origin_s) * fps + _ROUNDING_S) + 1
    return origin_s + looks / fps - _ROUNDING_S


@dataclass(frozen=True, eq=False)
class StreamState:
    """Everything about one stream that changes. Never changed, only replaced.

    Attributes:
        memory: what is remembered.
        watched: how much was seen.
        pending: frames that wait for their grid to be full.
        segment: counts changes of the frame size.
        size: ``(height, width)`` of the newest frame looked at.
        frame_index, time_s: of the newest frame.
        origin_s: time of the first frame.
        due_s: when the next frame is looked at; None for at once.
    """

    memory: TokenMemory
    watched: Watched = Watched()
    pending: tuple[Frame, ...] = ()
    segment: int = 0
    size: tuple[int, int] | None = None
    frame_index: int | None = None
    time_s: float | None = None
    origin_s: float | None = None
    due_s: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts and lists of tensors and plain values."""
        return {
            "memory": self.memory.state_dict(),
            "watched": asdict(self.watched),
            "pending": [
                {"index": f.index, "time_s": f.time_s, "image": torch.tensor(f.image)}
                for f in self.pending
            ],
            "segment": self.segment,
            "size": None if self.size is None else list(self.size),
            "frame_index": self.frame_index,
            "time_s": self.time_s,
            "origin_s": self.origin_s,
            "due_s": self.due_s,
        }

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        config: MemoryConfig,
        frames_per_grid: int,
        device: torch.device | str,
    ) -> StreamState:
        """Rebuild from ``state_dict``, on a device.

        Raises:
            KeyError, TypeError, ValueError: when the state is not whole.
        """
        size, index = state["size"], state["frame_index"]
        times = {name: state[name] for name in ("time_s", "origin_s", "due_s")}
        return cls(
            memory=TokenMemory.from_state(state["memory"], config, frames_per_grid, device),
            watched=Watched(**state["watched"]),
            pending=tuple(
                Frame(int(f["index"]), float(f["time_s"]), f["image"].cpu().numpy())
                for f in state["pending"]
            ),
            segment=int(state["segment"]),
            size=None if size is None else (int(size[0]), int(size[1])),
            frame_index=None if index is None else int(index),
            **{name: None if value is None else float(value) for name, value in times.items()},
        )
