"""Let a slow sink work while the next frame is looked at."""

from __future__ import annotations

import queue
import threading
from typing import Any

from vision_mem.types import Frame, SourceInfo


class WriteBehind:
    """A sink in a thread of its own, a few frames behind.

    Frames are written in order, and all of them before ``close`` returns. What the sink raises is
    raised by the next ``write``, or by ``close``; nothing is written after that. Meant for sinks
    that promise nothing about the frame just written, as videos do.

    Args:
        sink: a sink; between ``open`` and ``close`` this thread alone uses it.
        depth: frames that may wait; ``write`` blocks when that many do.
    """

    def __init__(self, sink: Any, depth: int = 4) -> None:
        self.sink = sink
        self._waiting: queue.Queue[tuple[Frame, Any] | None] = queue.Queue(depth)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._failed = False

    def open(self, info: SourceInfo) -> None:
        """Open the sink; the thread starts with the first frame."""
        self.sink.open(info)

    def write(self, frame: Frame, result: Any) -> None:
        """Hand a frame over, or raise what an earlier one met."""
        self._raise()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="vision-mem-write-behind", daemon=True
            )
            self._thread.start()
        self._waiting.put((frame, result))

    def close(self) -> None:
        """Write what waits, then close the sink. Safe to call twice."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
        try:
            self.sink.close()
        finally:
            self._raise()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failed:
                continue  # later frames would leave a gap
            try:
                self.sink.write(*item)
            except BaseException as error:
                self._error, self._failed = error, True

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
