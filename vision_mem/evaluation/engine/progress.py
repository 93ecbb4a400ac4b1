"""How an evaluation is going: a living line on a terminal, now and then a plain one elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vision_mem.evaluation.engine.runner import Advanced, Failed, Finished, Job, Message, WorkerLost
from vision_mem.runs.progress import start_bar

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_PLAIN_EVERY_S = 10.0
# Seconds over which the current rate is measured; results of a cluster come in large pieces.
_RATE_OVER_S = 30.0


class EvaluationProgress:
    """Counts sequences and frames of all workers and shows them on standard error.

    Args:
        jobs: what is to be run now.
        done: sequences that were done before.
        title: of the set.
        show: False counts silently.
    """

    def __init__(
        self, jobs: Sequence[Job], *, done: int = 0, title: str = "", show: bool = True
    ) -> None:
        self._lengths = {job.name: job.length for job in jobs}
        self._under_way: dict[str, int] = {}
        self._settled = 0
        self._done, self._title, self._show = done, title, show
        self._begin = self._last_line = time.perf_counter()
        self._recent: deque[tuple[float, int]] = deque([(self._begin, 0)])
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self.finished = 0
        self.failed: list[Failed] = []

    @property
    def frames(self) -> int:
        """Frames done now, those of sequences under way included."""
        return self._settled + sum(self._under_way.values())

    @property
    def total(self) -> int:
        """Frames to be done now."""
        return sum(self._lengths.values())

    @property
    def seconds(self) -> float:
        """Since this was made."""
        return time.perf_counter() - self._begin

    def __enter__(self) -> EvaluationProgress:
        if self._show and sys.stderr.isatty():
            self._bar, self._task = start_bar(self._title, self.total)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def hear(self, message: Message) -> None:
        """Count what happened and, when it is time, say how things stand."""
        if isinstance(message, Advanced):
            self._under_way[message.sequence] = message.frames
        elif isinstance(message, WorkerLost):
            self._under_way.pop(message.sequence, None)
            self._say(f"{message.sequence}: its worker ended ({message.how}); trying again")
        elif isinstance(message, (Finished, Failed)):
            self._under_way.pop(message.sequence, None)
            # A sequence that broke half-way is behind us as a whole, or the end would never come.
            self._settled += self._lengths[message.sequence]
            if isinstance(message, Failed):
                self.failed.append(message)
                self._say(f"{message.sequence} failed: {message.reason}")
            else:
                self.finished += 1
        self._show_line()

    def _say(self, text: str) -> None:
        if self._show:
            print(text, file=sys.stderr, flush=True)

    def _show_line(self) -> None:
        if not self._show:
            return
        now = time.perf_counter()
        if now - self._recent[-1][0] >= 0.25:
            self._recent.append((now, self.frames))
            while len(self._recent) > 2 and now - self._recent[0][0] > _RATE_OVER_S:
                self._recent.popleft()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.frames, line=self._line())
        elif now - self._last_line >= _PLAIN_EVERY_S:
            self._last_line = now
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        (first, then), (last, now) = self._recent[0], self._recent[-1]
        rate = max(now - then, 0) / (last - first) if last > first else 0.0
        behind = self._done + self.finished + len(self.failed)
        parts = [f"sequence {behind}/{self._done + len(self._lengths)}"]
        if rate > 0:
            left = round((self.total - self.frames) / rate)
            parts += [f"{rate:.1f} frames/s", f"{clock(left)} left"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)


def clock(seconds: int) -> str:
    """Seconds for people: ``0:07``, ``12:40``, ``3:05:00``."""
    minutes, rest = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
