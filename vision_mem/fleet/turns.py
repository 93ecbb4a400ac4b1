"""Whose turn it is on a device: the stream that has had the least of it for its weight."""

from __future__ import annotations

import threading
from collections.abc import Callable

_LOOK_S = 0.25
_CREDIT_S = 0.5
"""So much a stream may be owed: it is not in the queue while it writes what it found."""


class FairTurns:
    """A few turns at a time, handed out by weighted fair queueing.

    Each stream has a clock that runs by the time it had, over its weight; the one that is most
    behind is next. A stream that wanted nothing for a while gets half a second of credit for it:
    its clock is set to that of the last turn that was given, less this.

    Args:
        slots: turns at a time, >= 1.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._changed = threading.Condition()
        self._clocks: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._waiting: dict[str, int] = {}
        self._arrivals = 0
        self._floor = 0.0
        self.seconds: dict[str, float] = {}
        """What each stream has had, since it was first here."""

    def weigh(self, name: str, weight: float) -> None:
        """Say what a stream's share is to be, against those of the others."""
        with self._changed:
            self._weights[name] = weight

    def take(self, name: str, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait for a turn.

        Args:
            name: of the stream.
            stopped: asked a few times a second.

        Returns:
            False when it was stopped; else ``give_back`` is to be called.
        """
        with self._changed:
            self._clocks[name] = max(self._clocks.get(name, self._floor), self._floor - _CREDIT_S)
            self._arrivals += 1
            self._waiting[name] = self._arrivals
            try:
                while self._free == 0 or self._next() != name:
                    self._changed.wait(_LOOK_S)
                    if stopped():
                        return False
                self._free -= 1
                self._floor = max(self._floor, self._clocks[name])
                return True
            finally:
                del self._waiting[name]
                self._changed.notify_all()

    def give_back(self, name: str, seconds: float) -> None:
        """Hand the turn on.

        Args:
            name: of the stream.
            seconds: that it took.
        """
        with self._changed:
            self._free += 1
            self._clocks[name] += seconds / self._weights.get(name, 1.0)
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self._changed.notify_all()

    def _next(self) -> str:
        return min(self._waiting, key=lambda name: (self._clocks[name], self._waiting[name]))
