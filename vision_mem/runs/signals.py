"""Ctrl-C between frames, not inside one: files are finished and state stays whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

from vision_mem.session import FrameSource
from vision_mem.types import Frame, SourceInfo

Item = TypeVar("Item")


class _WaitIsOver(KeyboardInterrupt):
    """Raised out of the wait for the next frame only."""


class StopSignals:
    """While entered, Ctrl-C and a request to end (SIGTERM) stop the stream after the frame in hand.

    A second one stops at once, wherever the program is. Outside the main thread, where Python
    does not deliver signals, this does nothing.

    Attributes:
        received: the signal's number, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._waiting = False
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal ended: 130 for Ctrl-C; else 0."""
        return 0 if self.received is None else 128 + self.received

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def watch(self, source: FrameSource) -> FrameSource:
        """The same source, but it ends when a signal came."""
        return _Watched(source, self)

    def _on_signal(self, number: int, where: FrameType | None) -> None:
        again = self.received is not None
        self.received = number
        if self._waiting:
            self._waiting = False
            raise _WaitIsOver
        if again:
            raise KeyboardInterrupt

    def until(self, source: Iterable[Item]) -> Iterator[Item]:
        """Items of a source until a signal comes, which also ends the wait for the next one."""
        frames = iter(source)
        while self.received is None:
            try:
                self._waiting = True
                frame = next(frames, None)
                self._waiting = False
            except _WaitIsOver:
                return
            finally:
                self._waiting = False
            if frame is None:
                return
            yield frame


class _Watched:
    def __init__(self, source: FrameSource, signals: StopSignals) -> None:
        self._source, self._signals = source, signals

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    def __iter__(self) -> Iterator[Frame]:
        return self._signals.until(self._source)

    def close(self) -> None:
        self._source.close()
