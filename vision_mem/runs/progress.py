"""How a run is going: one living line on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Protocol

from vision_mem.results import Shown
from vision_mem.text import PrintableStream, printable
from vision_mem.types import MemoryUsage, SourceInfo

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


FRAMES_DONE: ContextVar[Callable[[int], None] | None] = ContextVar("frames_done", default=None)
"""Hears how many frames a run has done, of those who run many."""

WORK_AFTER: ContextVar[WorkAfter | None] = ContextVar("work_after", default=None)
"""Hears of work that comes after the last frame: the progress of the run that is under way."""


class WorkAfter(Protocol):
    """Who shows it."""

    def expect(self, work: float) -> None:
        """So much of it will come, in frames that would take as long."""

    def went_on(self, what: str, work: float) -> None:
        """So much of it has been done."""


def expect_work(work: float) -> None:
    """Count work after the last frame into the total of the run under way.

    Args:
        work: in frames that would take as long, about.
    """
    if (shown := WORK_AFTER.get()) is not None:
        shown.expect(work)


def tell_work(what: str, work: float = 0.0) -> None:
    """Say what is being done after the last frame, and how much of it has been done by now.

    Args:
        what: ``report``.
        work: done since it was told last, as of ``expect_work``.
    """
    if (shown := WORK_AFTER.get()) is not None:
        shown.went_on(what, work)


# Where nobody watches, a line this often is enough for a log.
_PLAIN_EVERY_S = 10.0
# Frames over which the current rate is measured.
_RATE_OVER = 30


class Progress:
    """Counts frames and shows them on standard error.

    Args:
        info: of the source; its length, when known, gives the end of the bar.
        show: False counts silently.
        done: frames done before, by the run that is continued.
    """

    def __init__(self, info: SourceInfo, *, show: bool = True, done: int = 0) -> None:
        self.frames = 0
        self._info = info
        self._done = done
        self._begin = time.perf_counter()
        self._last_line = self._begin
        self._recent: deque[float] = deque(maxlen=_RATE_OVER + 1)
        self._show = show
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._expected, self._worked = 0.0, 0.0
        self._outer: Token[WorkAfter | None] | None = None

    @property
    def seconds(self) -> float:
        """Since this was made, or first frame if later."""
        return time.perf_counter() - self._begin

    @property
    def rate(self) -> float:
        """Frames a second over the whole run."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def __enter__(self) -> Progress:
        self._outer = WORK_AFTER.set(self)
        if self._show and sys.stderr.isatty():
            total = self._info.frame_count
            left = None if total is None else total + self._done + round(self._expected)
            self._bar, self._task = start_bar(self._info.name, left, remaining=True)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._outer is not None:
            WORK_AFTER.reset(self._outer)
        if self._bar is not None:
            self._bar.stop()

    def expect(self, work: float) -> None:
        """Make room for work after the last frame."""
        self._expected += work
        total = self._info.frame_count
        if self._bar is not None and self._task is not None and total is not None:
            self._bar.update(self._task, total=total + self._done + self._expected)

    def went_on(self, what: str, work: float) -> None:
        """Say how work after the last frame goes."""
        self._worked = min(self._worked + work, self._expected)
        if not self._show:
            return
        share = f"{self._worked / self._expected:.0%} of what is made at the end"
        now = time.perf_counter()
        if self._bar is not None and self._task is not None:
            done = self._done + self.frames + self._worked
            self._bar.update(self._task, completed=done, line=printable(f"{what}: {share}"))
            self._bar.refresh()
        elif now - self._last_line >= _PLAIN_EVERY_S:
            self._last_line = now
            print(f"{what}: {share}", file=sys.stderr, flush=True)

    def update(self, result: Any, usage: MemoryUsage) -> None:
        """Count a frame and, when it is time, say how things stand."""
        now = time.perf_counter()
        self.frames += 1
        self._recent.append(now)
        if (hear := FRAMES_DONE.get()) is not None:
            hear(self._done + self.frames)
        if not self._show:
            return
        if self._bar is not None and self._task is not None:
            line = printable(self._line(result, usage))
            self._bar.update(self._task, completed=self._done + self.frames, line=line)
        elif now - self._last_line >= _PLAIN_EVERY_S:
            self._last_line = now
            print(self._line(result, usage), file=sys.stderr, flush=True)

    def _line(self, result: Any, usage: MemoryUsage) -> str:
        total = self._info.frame_count
        of = f"/{total + self._done}" if total is not None else ""
        span = self._recent[-1] - self._recent[0]
        rate = (len(self._recent) - 1) / span if span > 0 else 0.0
        parts = [
            f"frame {self._done + self.frames}{of}",
            f"{rate:.1f} frames/s",
            f"memory {megabytes(usage.bytes)}",
            *self._words(result, usage),
        ]
        return ", ".join(part for part in parts if part)

    def _words(self, result: Shown, usage: MemoryUsage) -> list[str]:
        """What else is worth saying."""
        present = [found.name for found in result.objects if found.present]
        lost = [found.name for found in result.objects if not found.present]
        return [
            f"{some(present)} present" if present else "",
            f"{some(lost)} lost" if lost else "",
        ]


class WatchProgress(Progress):
    """The same for a memory of tokens: how many there are in each tier."""

    def _words(self, result: Any, usage: MemoryUsage) -> list[str]:
        tokens = getattr(usage, "tokens", {})
        return [f"{number} tokens {tier}" for tier, number in tokens.items() if number]


class MapProgress(Progress):
    """The same for a map: how much it holds.

    Args:
        session: a ``NavigationSession``, whose map it is.
        info: of the source.
        show: as ``Progress``.
        done: as ``Progress``.
    """

    def __init__(self, session: Any, info: SourceInfo, *, show: bool = True, done: int = 0) -> None:
        super().__init__(info, show=show, done=done)
        self._session, self._usage = session, session.usage()

    def add(self, result: Any) -> None:
        """Count a frame; now and then what is held is asked for."""
        if self.frames % 20 == 19:
            self._usage = self._session.usage()
        self.update(result, self._usage)

    def _words(self, result: Any, usage: MemoryUsage) -> list[str]:
        state, gone = self._session.state, len(result.gone)
        marks = len(state.landmarks)
        return [
            f"{len(state.topology.places)} places",
            f"{marks} landmarks" if marks else "",
            f"{gone} gone" if gone else "",
        ]


def start_bar(title: str, total: int | None, *, remaining: bool = False) -> tuple[Bar, TaskID]:
    """A bar on the terminal of standard error, running, with a field ``line`` for words.

    Args:
        title: stands before it.
        total: what is complete; None where that is not known.
        remaining: show the time left.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    def words(field: str) -> TextColumn:
        return TextColumn(field, markup=False)  # names may hold brackets

    columns = [words("{task.description}"), BarColumn(24), words("{task.fields[line]}")]
    columns[2:2] = [TimeRemainingColumn()] * remaining
    # A bar moves the cursor, which others must not.
    bar = Progress(*columns, console=Console(file=getattr(sys.stderr, "raw", sys.stderr)))
    task = bar.add_task(printable(title), total=total, line="")
    bar.start()
    # What is printed meanwhile goes through rich, which would obey it; ``stop`` undoes this.
    clean: Any = map(PrintableStream, (sys.stdout, sys.stderr))
    sys.stdout, sys.stderr = clean
    return bar, task


def megabytes(count: int) -> str:
    """Bytes for people: ``12.3 MB``."""
    return f"{count / 1e6:.1f} MB"


def some(names: list[str], things: str = "objects") -> str:
    """Up to three names, then the number of things."""
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} {things}"
