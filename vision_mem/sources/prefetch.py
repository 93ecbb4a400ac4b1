"""Work ahead of the consumer, in one thread, within a bound."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")


class _Channel(Generic[Item]):
    """What producer and consumer share. The thread holds only this, never the Prefetch."""

    def __init__(self, depth: int, latest: bool) -> None:
        self.items: deque[Item] = deque()
        self.depth = depth
        self.latest = latest
        self.dropped = 0
        self.finished = False
        self.stopped = False
        self.error: BaseException | None = None
        self.changed = threading.Condition()

    def put(self, item: Item) -> bool:
        """Hand over one item; False when nobody wants more."""
        with self.changed:
            if self.latest:
                self.dropped += len(self.items)
                self.items.clear()
            while len(self.items) >= self.depth and not self.stopped:
                self.changed.wait()
            if not self.stopped:
                self.items.append(item)
                self.changed.notify_all()
            return not self.stopped

    def finish(self, error: BaseException | None) -> None:
        with self.changed:
            self.finished, self.error = True, error
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.items.clear()
            self.changed.notify_all()


def _produce(channel: _Channel[Item], make: Callable[[], Iterator[Item]]) -> None:
    error: BaseException | None = None
    items: Iterator[Item] | None = None
    try:
        items = make()
        for item in items:
            if not channel.put(item):
                break
    except BaseException as caught:
        error = caught
    try:
        # A generator's own clean-up belongs to the thread that ran it.
        if items is not None and hasattr(items, "close"):
            items.close()
    except Exception as caught:
        error = error or caught
    channel.finish(error)


class Prefetch(Generic[Item]):
    """Iterator over ``make()``, run in a daemon thread at most ``depth`` items ahead.

    Items come in order; an exception of the producer is raised after the items before it.
    ``latest=True`` keeps only the newest item and counts what it threw away in ``dropped``.
    The thread starts with the first ``next`` and ends with the items, with ``close``, or when
    this object is garbage.

    Args:
        make: called in the thread; gives the iterator to run.
        depth: items held at most, >= 1; 1 when ``latest``.
        latest: keep the newest item only.
    """

    def __init__(
        self, make: Callable[[], Iterator[Item]], depth: int, *, latest: bool = False
    ) -> None:
        self._channel: _Channel[Item] = _Channel(1 if latest else depth, latest)
        self._thread = threading.Thread(
            target=_produce, args=(self._channel, make), name="vision-mem-prefetch", daemon=True
        )
        self._started = False
        weakref.finalize(self, self._channel.stop)

    @property
    def dropped(self) -> int:
        """Items thrown away because a newer one came first."""
        return self._channel.dropped

    @property
    def waiting(self) -> int:
        """Items held now."""
        return len(self._channel.items)

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        channel = self._channel
        if not self._started and not channel.stopped:
            self._started = True
            self._thread.start()
        with channel.changed:
            while not (channel.items or channel.finished or channel.stopped):
                # The time-out lets Ctrl-C through on systems where a bare wait blocks it.
                channel.changed.wait(0.5)
            if channel.items:
                item = channel.items.popleft()
                channel.changed.notify_all()
                return item
            if channel.error is not None and not channel.stopped:
                error, channel.error = channel.error, None
                raise error
        raise StopIteration

    def close(self, timeout_s: float = 2.0) -> bool:
        """Stop the thread and wait for it up to ``timeout_s``; True once it has ended."""
        self._channel.stop()
        if self._started and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.debug("a reader is still waiting for its input; its thread ends after that")
                return False
        return True
