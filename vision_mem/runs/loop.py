"""One loop for all systems: frames come from a source, go through a session, end in sinks.

``run`` is the loop itself. ``run_to_folder`` adds what a run of the command line has: progress,
snapshots, a record, Ctrl-C. The classes are what may stand around its source and its session.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol, TypeVar

from vision_mem.errors import InputError, VisionMemError
from vision_mem.results import Shown
from vision_mem.runs.folder import RunFolder
from vision_mem.runs.progress import Progress, megabytes
from vision_mem.runs.signals import StopSignals
from vision_mem.runs.tally import RunTally, count, machine, zone_line
from vision_mem.session import FrameSource, Sink, Steps
from vision_mem.sources.live import Reconnect, StopRun
from vision_mem.sources.open import open_source
from vision_mem.sources.selection import is_url
from vision_mem.text import one_line
from vision_mem.types import Frame, MemoryUsage, SourceInfo, ZoneCounts

Result = TypeVar("Result")
SomeResult = TypeVar("SomeResult", bound=Shown)
Co = TypeVar("Co", bound=Shown, covariant=True)


AROUND: ContextVar[Callable[[Any, Any], tuple[Any, Any]] | None] = ContextVar(
    "around", default=None
)
"""Given the source and the session of a run, says what stands around them, of those who run many:
they wait for their turn, and stop in between."""


def stream(frames: Iterable[Frame], session: Steps[Result]) -> Iterator[tuple[Frame, Result]]:
    """Yield each frame with what the session says of it."""
    for frame in frames:
        yield frame, session.step(frame)


def run(
    source: FrameSource, session: Steps[Result], sinks: Sequence[Sink[Result]]
) -> Iterator[tuple[Frame, Result]]:
    """Drive a source through a session into sinks, and hand every step to the caller too.

    The caller prints progress or stops early; sinks and source are closed in every case.
    """
    with ExitStack() as stack:
        stack.callback(source.close)
        for sink in sinks:
            stack.callback(sink.close)
            sink.open(source.info)
        for frame, result in stream(source, session):
            for sink in sinks:
                sink.write(frame, result)
            yield frame, result


class ResumableSession(Protocol[Co]):
    """What the run needs of a session."""

    def step(self, frame: Frame) -> Co:
        """Look at the next frame."""

    def usage(self) -> MemoryUsage:
        """What is held now."""

    def snapshot(self, path: str | Path) -> None:
        """Write the state to one file."""


def run_to_folder(
    frames: FrameSource,
    session: ResumableSession[SomeResult],
    sinks: Sequence[Sink[SomeResult]],
    folder: RunFolder,
    tally: RunTally,
    snapshot_every: int = 300,
    *,
    remarks: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> int:
    """Drive frames through a session, with progress, snapshots, a record, and Ctrl-C.

    Args:
        frames: where frames come from.
        session: new, or resumed from the folder's snapshot.
        sinks: what to write.
        folder: where snapshots and the record go.
        tally: counts; those of the part done before, when this run continues one.
        snapshot_every: frames between snapshots, 0 for none at all.
        remarks: more values for the record.
        quiet: no progress and no summary.

    Returns:
        The exit code: 0, or 128 + the number of the signal that stopped the run.

    Raises:
        VisionMemError: when the run broke; what was written stays valid and can be continued.
    """
    if (around := AROUND.get()) is not None:
        frames, session = around(frames, session)
    before, snapshot_at = tally.seconds, tally.frames
    info = asdict(frames.info)
    if tally.frames:
        folder.check_info(info)
        if info["frame_count"] is not None:
            info["frame_count"] += tally.frames  # of the whole run, not of what is left
    folder.record(
        status="running", started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        source_info=info, resumed_at=tally.frames or None, **machine(),
        **(remarks or {}),
    )  # fmt: skip

    if tally.frames and folder.snapshot is not None:
        for sink in sinks:
            if (recall := getattr(sink, "recall", None)) is not None:
                recall(folder.snapshot)

    def save(place: Path) -> None:
        session.snapshot(place)
        for sink in sinks:
            if (keep := getattr(sink, "keep", None)) is not None:
                keep(place.parent)

    def snapshot() -> None:
        nonlocal snapshot_at
        if snapshot_every and tally.frames > snapshot_at:
            for sink in sinks:
                if (flush := getattr(sink, "flush", None)) is not None:
                    flush()  # results reach as far as the snapshot, whatever happens after it
            folder.take_snapshot(tally.frames, save, tally.as_dict())
            snapshot_at = tally.frames

    status, closed = "failed", False
    with StopSignals() as signals, Progress(frames.info, show=not quiet, done=tally.frames) as bar:
        try:
            try:
                for _, result in run(signals.watch(frames), session, sinks):
                    tally.add(result)
                    tally.seconds = before + bar.seconds
                    bar.update(result, session.usage())
                    # One right at the start too: a run that dies early can be continued as well.
                    if tally.frames == 1 or tally.frames % max(snapshot_every, 1) == 0:
                        snapshot()
                tally.seconds = before + bar.seconds  # with what was made at the end
            except StopRun:
                closed = True  # by closing the window: not an error, and not the end either
            snapshot()
            status = "stopped" if closed or signals.received is not None else "finished"
        finally:
            if status == "failed":
                with suppress(VisionMemError):  # the first error is the one to tell
                    snapshot()
            with suppress(*([VisionMemError] if status == "failed" else [])):
                zones = [each.as_dict() for each in zones_of(session)]
                folder.record(
                    status=status, **tally.as_dict(), **losses(frames), files=folder.files(),
                    frames_per_s=round(bar.rate, 2), memory=asdict(session.usage()),
                    **({"zones": zones} if zones else {}),
                )  # fmt: skip
    if not quiet:
        _say(tally, session, folder, status == "stopped")
        for what, number in losses(frames).items():
            print(f"{_LOSSES[what]}: {number}")
    return signals.exit_code


_LOSSES = {
    "dropped": "frames left out, newer ones came first",
    "reconnects": "times the source was opened again",
    "fitted": "frames of another size, fitted to the first",
}


def losses(frames: Any) -> dict[str, int]:
    """What a source did that its frames do not show; nothing where all went smoothly."""
    while hasattr(frames, "_source"):
        frames = frames._source
    return {name: number for name in _LOSSES if (number := getattr(frames, name, 0))}


def nothing_left(folder: RunFolder, frames: int) -> int:
    """Say that the run to continue is at its end."""
    print(f"nothing left to do: {folder.path} has {count(frames, 'frame')} already")
    return 0


@dataclass(frozen=True)
class RemainingFrames:
    """The frames of a source that a run has still to see, as its options and its past say.

    Attributes:
        source: as typed.
        start, end, stride, max_frames: as ``open_source``, for the whole run.
        strict, drop, decoder: as ``open_source``.
        reconnect: tries after a break of a live source, at most; None for any number.
        resume: whether an earlier run is continued.
        done: frames it has seen.
        last_index: number of the last of them.
    """

    source: str
    start: int = 0
    end: int | None = None
    stride: int = 1
    max_frames: int | None = None
    strict: bool = False
    drop: str = "latest"
    decoder: str = "auto"
    reconnect: int | None = None
    resume: bool = False
    done: int = 0
    last_index: int = -1

    @property
    def first(self) -> int:
        """Number of the first frame to come."""
        return self.last_index + self.stride if self.done else self.start

    @property
    def live(self) -> bool:
        """Whether this is a camera or an address, from its spelling alone."""
        return self.source.isdecimal() or is_url(self.source)

    def open(
        self, stack: ExitStack, folder: RunFolder, model_size: int | None = None
    ) -> FrameSource | None:
        """Open the source at the first frame to come.

        Args:
            stack: closes it.
            folder: of the run.
            model_size: side to which decord brings frames, when it is asked to.

        Returns:
            The source; without frames when a run was killed after its last one, so that what is
            made at the end is made now; None when the run has finished and nothing is left.

        Raises:
            VisionMemError: as ``open_source``.
        """
        left = None if self.max_frames is None else self.max_frames - self.done
        ended = self.resume and folder.recorded("status") == "finished"
        if (left is not None and left <= 0 < self.done) or (
            self.end is not None and self.done and self.end <= self.first
        ):
            return None if ended else self._nothing_more(stack)
        try:
            opened = open_source(
                self.source, start=0 if self.live and self.resume else self.first, end=self.end,
                stride=self.stride, max_frames=left, strict=self.strict, drop=self.drop,
                decoder=self.decoder, resize=None if model_size is None else ("decord", model_size),
                reconnect=Reconnect(limit=self.reconnect),
            )  # fmt: skip
        except InputError:
            if not self.resume or not self.done:
                raise
            return None if ended else self._nothing_more(stack)
        stack.callback(opened.close)
        return ShiftedSource(opened, self.first) if self.resume and opened.info.live else opened

    def _nothing_more(self, stack: ExitStack) -> FrameSource:
        opened = open_source(self.source, decoder=self.decoder)
        stack.callback(opened.close)
        return EndedSource(opened)


class SourceView(ABC):
    """A source seen another way; its size and rate are those of the source."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source

    @property
    def info(self) -> SourceInfo:
        """That of the source."""
        return self._source.info

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Its frames."""

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class EndedSource(SourceView):
    """A source of which every frame has been seen."""

    @property
    def info(self) -> SourceInfo:
        """That of the source, without frames."""
        return replace(self._source.info, frame_count=0)

    def __iter__(self) -> Iterator[Frame]:
        return iter(())


class ShiftedSource(SourceView):
    """A live source counts from 0 each time it is opened; a continued run counts on."""

    def __init__(self, source: FrameSource, by: int) -> None:
        super().__init__(source)
        self._by = by

    def __iter__(self) -> Iterator[Frame]:
        return (replace(frame, index=frame.index + self._by) for frame in self._source)


def paced(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames at their own times, as a camera would give them."""
    begin, origin = time.monotonic(), None
    for frame in frames:
        origin = frame.time_s if origin is None else origin
        time.sleep(max(0.0, frame.time_s - origin - (time.monotonic() - begin)))
        yield frame


def zones_of(session: Any) -> tuple[ZoneCounts, ...]:
    """The counts of zones and lines, of a session that has some."""
    return tuple(getattr(session, "zones", ()))


def _say(tally: RunTally, session: Any, folder: RunFolder, stopped: bool) -> None:
    for line in [*tally.lines(), *map(zone_line, zones_of(session))]:
        print(one_line(line))
    print(f"memory held: {megabytes(session.usage().bytes)}")
    print(f"{'stopped; results so far' if stopped else 'results'} in {one_line(str(folder.path))}:")
    for name in folder.files():
        if name.startswith("."):  # journals, which --resume goes on from
            continue
        print(one_line(f"  {folder.path / name}"))
