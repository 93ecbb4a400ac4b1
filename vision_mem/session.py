"""What the loop of ``runs.loop`` drives: a source of frames, a session, sinks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

from vision_mem.types import Frame, MemoryUsage, SourceInfo

Result_co = TypeVar("Result_co", covariant=True)
Result_contra = TypeVar("Result_contra", contravariant=True)


class Steps(Protocol[Result_co]):
    """What looks at one frame after the other."""

    def step(self, frame: Frame) -> Result_co:
        """Look at the next frame."""


class Session(Steps[Result_co], Protocol[Result_co]):
    """Everything about one stream that changes. Models are shared and never change."""

    def reset(self) -> None:
        """Forget everything; equal to a new session."""

    def usage(self) -> MemoryUsage:
        """What is held now."""

    def state_dict(self) -> dict[str, Any]:
        """The whole state as nested dicts of tensors, numbers, strings and lists."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken."""


class FrameSource(Protocol):
    """An iterable of frames that knows what it is and can be closed early."""

    @property
    def info(self) -> SourceInfo:
        """Name, size, rate and length."""

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Stop decoding and free the device or file; safe to call twice."""


class Sink(Protocol[Result_contra]):
    """Where results go. Opened by ``open``, finished by ``close``, which is always called."""

    def open(self, info: SourceInfo) -> None:
        """Called once before the first frame; refuses early what could not be written."""

    def write(self, frame: Frame, result: Result_contra) -> None:
        """Called once a frame, in order; what was written is on disk when this returns."""

    def close(self) -> None:
        """Finish the files. Called also after an error or Ctrl-C."""
