"""What several threads ask of a network at a time, in one pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class _Request(Generic[Item, Made]):
    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.made: list[Made] | None = None
        self.error: Exception | None = None


class JoinedPasses(Generic[Item, Made]):
    """A function of a list that is called for several threads' lists together.

    Nobody waits for others to come: while one pass runs, requests gather, and are the next one.

    Args:
        work: makes something of each item; what it makes of one does not depend on the others.
        most: items in a pass; a longer request is a pass of its own.
    """

    def __init__(self, work: Callable[[list[Item]], list[Made]], most: int) -> None:
        self._work, self._most = work, most
        self._waiting: list[_Request[Item, Made]] = []
        self._lock, self._running = threading.Lock(), threading.Lock()
        self.passes = 0

    def __call__(self, items: Sequence[Item]) -> list[Made]:
        """What is made of each item.

        Raises:
            Exception: what ``work`` raises, in each thread whose items were in that pass.
        """
        request: _Request[Item, Made] = _Request(items)
        with self._lock:
            self._waiting.append(request)
        while request.made is None and request.error is None:
            with self._running:
                if request.made is None and request.error is None:
                    self._run(self._next())
        if request.error is not None:
            raise request.error
        assert request.made is not None
        return request.made

    def _next(self) -> list[_Request[Item, Made]]:
        """The oldest requests, as many as fit."""
        with self._lock:
            some, count = [self._waiting.pop(0)], 0
            count = len(some[0].items)
            while self._waiting and count + len(self._waiting[0].items) <= self._most:
                some.append(self._waiting.pop(0))
                count += len(some[-1].items)
            return some

    def _run(self, some: list[_Request[Item, Made]]) -> None:
        self.passes += 1
        try:
            made = self._work([item for one in some for item in one.items])
        except Exception as error:
            for one in some:
                one.error = error
            return
        at = 0
        for one in some:
            one.made = made[at : at + len(one.items)]
            at += len(one.items)
