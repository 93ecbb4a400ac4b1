"""Which frames of a video a question is asked about, and reading them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vision_mem.errors import InputError, SourceError
from vision_mem.sources.open import open_source
from vision_mem.types import Frame

MODES = ("clips", "stream")
SCOPES = ("auto", "recent", "all", "benchmark")


@dataclass(frozen=True)
class FrameProtocol:
    """How questions are asked.

    Attributes:
        mode: ``clips``: for each question the memory is emptied and sees the clip before it, as
            the published numbers were made. ``stream``: it sees the video once from its
            beginning, and is asked on the way.
        window_s: of ``clips``: only so many seconds before the question are seen; None for all
            from where the set lets its clip begin.
        fps: frames a second that are looked at.
        min_frames, max_frames: of a clip, for ``clips``; both are made even.
        whole_seconds: clips are what a file holds that is cut off at the next whole second after
            the question, as OVO-Bench cuts them; otherwise the frame at the question's time is
            the last one.
        scope: what of the memory may be read: ``auto``, ``recent`` or ``all`` as in ``ask``;
            ``benchmark``: recent for real-time tasks and all for the others, which the released
            SAVEMem code sets by hand.

    Source:
        specs/savemem.md 1.2, 3 and 4.1.
    """

    mode: str = "clips"
    window_s: float | None = 256.0
    fps: float = 1.0
    min_frames: int = 2
    max_frames: int = 256
    whole_seconds: bool = False
    scope: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("scope", SCOPES)):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise InputError(f"{name} is {value!r}; expected one of {', '.join(known)}")
        for name in ("window_s", "fps"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; expected a number above 0")
        if not 1 <= self.min_frames <= self.max_frames:
            raise InputError(
                f"min_frames {self.min_frames} and max_frames {self.max_frames}; expected 1 or "
                "more, and not the larger one first"
            )

    def scope_of(self, group: str) -> str:
        """The scope for questions of a group."""
        if self.scope != "benchmark":
            return self.scope
        return "recent" if group == "realtime" else "all"

    def end_of(self, time_s: float) -> float:
        """Where the clip of a question ends, seconds."""
        return math.ceil(time_s) if self.whole_seconds else time_s


def chosen_frames(
    total: int,
    video_fps: float,
    protocol: FrameProtocol,
    *,
    end_s: float | None,
    start_s: float = 0.0,
) -> list[int]:
    """Frames of a video that a clip consists of.

    With a window they are counted back from the end in equal steps; without, they are spread
    evenly. The official sampler repeats the first frame of clips shorter than ``min_frames``
    seconds; here each frame comes once.

    Args:
        total: frames of the video, 1 or more.
        video_fps: its rate.
        protocol: window, rate and bounds.
        end_s: where the clip ends, seconds; None for the end of the video.
        start_s: where the set lets it begin; not looked at with a window.

    Returns:
        Indices in order, at least one.

    Source:
        specs/savemem.md 1.2.
    """
    last, end = total - 1, total / video_fps
    if end_s is not None:
        # Of a file that is cut off there, the frame at its end is no longer part.
        cut = math.ceil(end_s * video_fps - 1e-6) - 1
        at = cut if protocol.whole_seconds else math.floor(end_s * video_fps + 1e-6)
        last, end = max(0, min(last, at)), min(end, end_s)
    window = protocol.window_s
    begin = start_s if window is None else max(0.0, end - window)
    first = min(math.ceil(begin * video_fps - 1e-6), last)
    there = last - first + 1
    least = protocol.min_frames + protocol.min_frames % 2
    most = max(2, protocol.max_frames - protocol.max_frames % 2)
    number = min(max(there / video_fps * protocol.fps, least), most, there)
    number = max(int(number) // 2 * 2, 2)
    if window is None:
        step = (last - first) / (number - 1)
        return sorted({round(first + step * k) for k in range(number)})
    step = max(video_fps / protocol.fps, 1.0)
    return sorted({max(last - round(step * k), first) for k in range(number)})


def extent_of(path: Path) -> tuple[int, float]:
    """How much there is of a video file: frames, and frames a second.

    Raises:
        SourceError: when it cannot be read.
    """
    with open_source(path, prefetch=1) as source:
        total = source.info.frame_count
        if total is None:
            total = sum(1 for _ in source)
        return max(1, total), source.info.fps


def read_frames(path: Path, wanted: list[int]) -> Iterator[Frame]:
    """Some frames of a video file, indices in order; those that are damaged are left out.

    Raises:
        SourceError: when none of them can be read.
    """
    some, found = set(wanted), 0
    with open_source(path, start=wanted[0], end=wanted[-1] + 1) as source:
        for frame in source:
            if frame.index in some:
                found += 1
                yield frame
    if not found:
        raise SourceError(f"{path}: none of frames {wanted[0]} to {wanted[-1]} can be read")


def paced_frames(path: Path, fps: float, until_s: float) -> Iterator[Frame]:
    """Frames of a video file at a steady pace, by their times, ``fps`` a second at most.

    None comes after ``until_s``, except the first, which always does.
    """
    due = 0
    with open_source(path) as source:
        for frame in source:
            if due and frame.time_s > until_s + 1e-6:
                return
            if due and frame.time_s * fps < due - 1e-6:
                continue
            due = max(due + 1, math.floor(frame.time_s * fps + 1e-6) + 1)
            yield frame
