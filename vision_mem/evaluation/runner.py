"""One sequence of a benchmark through a tracking session; the parts of a run that can travel.

Everything here is a plain value, so that the same work can be done in this process, in others
(``sharding``) or on other machines (``cluster``). Whoever does it tells what happened through one
function; nobody but its owner, who started the run, writes files.
"""

from __future__ import annotations

import logging
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem import __version__
from vision_mem.errors import InputError, SourceError, VisionMemError
from vision_mem.evaluation.records import Sequence
from vision_mem.evaluation.resultfiles import ResultRows
from vision_mem.evaluation.starting import INITS, first_prompts
from vision_mem.io.images import read_image
from vision_mem.io.prefetch import Prefetch
from vision_mem.tracking import TrackingSession
from vision_mem.types import Frame, Prompt, TrackingResult

# Time stamps only: the sets do not say how fast they were filmed, and no policy looks at them.
_FPS = 30.0
_READ_AHEAD = 4
_MOST_REMARKS = 50


@dataclass(frozen=True)
class Job:
    """One sequence to run.

    Attributes:
        sequence: frames and first truth.
        layout: how its results are written, see ``resultfiles.LAYOUTS``.
        init: what to start from, see ``starting.first_prompts``.
        strict: an unreadable image ends the sequence instead of counting as absence.
    """

    sequence: Sequence
    layout: str
    init: str = "auto"
    strict: bool = False

    def __post_init__(self) -> None:
        if self.init not in INITS:
            raise InputError(f"--init is {self.init!r}; expected one of {', '.join(INITS)}")


@dataclass(frozen=True)
class Ready:
    """A worker has loaded its model."""

    model: str
    place: str
    device: str
    version: str = __version__


@dataclass(frozen=True)
class Advanced:
    """So many frames of a sequence are done."""

    sequence: str
    frames: int


@dataclass(frozen=True)
class Finished:
    """A sequence is done.

    Attributes:
        sequence: its name.
        files: path below the results folder to content.
        log: JSON-ready values for people.
    """

    sequence: str
    files: dict[str, bytes]
    log: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """A sequence cannot be done; ``log`` holds what is known, ``reason`` is one line."""

    sequence: str
    reason: str
    log: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerLost:
    """A worker died; the sequence it had will be tried again."""

    sequence: str
    how: str


Message = Ready | Advanced | Finished | Failed | WorkerLost
Tell = Callable[[Message], None]
MakeSession = Callable[[str], TrackingSession]
"""Loads a model on a device and makes a session with it; travels to other processes by name."""


class Stopped(Exception):
    """The run was asked to end; the sequence in hand is dropped."""


def run_here(
    jobs: list[Job], make_session: MakeSession, device: str, tell: Tell, stop: Callable[[], bool]
) -> None:
    """Run sequences one after the other in this process.

    Args:
        jobs: what to run, in this order.
        make_session: called once.
        device: passed to it.
        tell: hears what happens.
        stop: asked after each frame; True ends the run.
    """
    session = make_session(device)
    tell(introduce(session))

    def advanced(message: Advanced) -> None:
        tell(message)
        if stop():
            raise Stopped

    for job in jobs:
        if stop():
            return
        try:
            tell(run_job(job, session, advanced))
        except Stopped:
            return


def introduce(session: TrackingSession) -> Ready:
    """Who is ready to work: the model as its results should be labelled, and where it runs."""
    traits = session.segmenter.traits
    precision = traits.extra.get("precision")
    model = traits.model_id + (f" {precision}" if precision else "")
    place = f"process {os.getpid()} on {platform.node() or 'this machine'}"
    return Ready(model, place, str(session.segmenter.device))


def run_job(
    job: Job, session: TrackingSession, tell: Callable[[Advanced], None]
) -> Finished | Failed:
    """Run one sequence; what goes wrong with it becomes ``Failed``.

    Args:
        job: the sequence.
        session: is reset first.
        tell: hears of each frame; what it raises goes through.
    """
    ready = introduce(session)
    log: dict[str, Any] = {
        "sequence": job.sequence.name,
        "status": "failed",
        "model": ready.model,
        "device": ready.device,
        "place": ready.place,
        "threads": torch.get_num_threads(),
        "version": ready.version,
    }
    with _remarks() as remarks:
        log["warnings"] = remarks
        try:
            files = _run(job, session, tell, log)
        except Stopped:
            raise
        except VisionMemError as error:
            return Failed(job.sequence.name, " ".join(str(error).split()), log)
        except Exception as error:
            log["traceback"] = traceback.format_exc()
            text = " ".join(f"unexpected {type(error).__name__}: {error}".split())
            return Failed(job.sequence.name, text, log)
    log["status"] = "finished"
    return Finished(job.sequence.name, files, log)


def _run(
    job: Job,
    session: TrackingSession,
    tell: Callable[[Advanced], None],
    log: dict[str, Any],
) -> dict[str, bytes]:
    sequence = job.sequence
    if not sequence.frames:
        raise InputError("it has no images; only its truth was found")
    session.reset()
    rows = ResultRows(sequence, job.layout)
    clock = _Clock(session.segmenter.device)
    events: list[dict[str, Any]] = []
    damaged: list[int] = []
    log |= {"frames": 0, "events": events, "damaged_frames": damaged}
    images = Prefetch(lambda: _images(sequence), _READ_AHEAD)
    try:
        for index, image in enumerate(images):
            if isinstance(image, SourceError):
                if job.strict or index == 0:
                    raise image
                damaged.append(index)
                rows.add_absent()
            else:
                frame = Frame(index, index / _FPS, image)
                prompts: list[Prompt] = []
                if index == 0:
                    prompts, log["init"] = first_prompts(sequence, frame.size, job.init)
                    log["size"] = list(frame.size)
                with clock:
                    result = session.step(frame, prompts)
                rows.add(result, clock.latest)
                events += _events(result)
            log["frames"] = index + 1
            tell(Advanced(sequence.name, index + 1))
    finally:
        images.close()
    if damaged:
        log["warnings"].append(
            f"{len(damaged)} of {len(sequence.frames)} images cannot be read and count as absent, "
            f"the first is {sequence.frames[damaged[0]]}"
        )
    log |= clock.report(len(sequence.frames))
    return rows.files()


def _images(sequence: Sequence) -> Iterator[NDArray[np.uint8] | SourceError]:
    """Images in order; one that cannot be read comes as its error."""
    for path in sequence.frames:
        try:
            yield read_image(path)
        except SourceError as error:
            yield error


def _events(result: TrackingResult) -> list[dict[str, Any]]:
    return [
        {"frame": event.frame_index, "kind": event.kind, "object": event.object_id}
        for event in result.events
        if event.kind in ("lost", "found")
    ]


class _Clock:
    """Counts the tracker's own time, and what memory it takes, frame by frame."""

    def __init__(self, device: torch.device) -> None:
        import psutil

        self._device = device
        self._process = psutil.Process()
        self._begin = time.perf_counter()
        self._tracking = 0.0
        self._peak = 0
        self.latest = 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def __enter__(self) -> None:
        self._entered = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        # Masks have come to the host by now, so that nothing is left running on a GPU.
        self.latest = time.perf_counter() - self._entered
        self._tracking += self.latest
        self._peak = max(self._peak, self._process.memory_info().rss)

    def report(self, frames: int) -> dict[str, Any]:
        """Speed without reading files, as the field counts it, and end to end; memory."""
        whole = time.perf_counter() - self._begin
        values: dict[str, Any] = {
            "seconds": round(whole, 3),
            "tracking_seconds": round(self._tracking, 3),
            "frames_per_s": round(frames / max(self._tracking, 1e-9), 2),
            "frames_per_s_end_to_end": round(frames / max(whole, 1e-9), 2),
            "peak_rss_bytes": self._peak,
        }
        if self._device.type == "cuda":
            values["peak_device_bytes"] = torch.cuda.max_memory_allocated(self._device)
        return values


class _Remarks(logging.Handler):
    """Keeps log lines of a sequence, for its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < _MOST_REMARKS:
            self.lines.append(" ".join(record.getMessage().split()))


@contextmanager
def _remarks() -> Iterator[list[str]]:
    """Warnings given meanwhile go to this list, not to the terminal between progress lines."""
    logger, handler = logging.getLogger("vision_mem"), _Remarks()
    passes_on = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = passes_on
