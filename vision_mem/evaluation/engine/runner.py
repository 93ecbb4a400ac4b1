"""Sequences of a benchmark, one after the other; the parts of a run that can travel.

Everything here is a plain value, so that the same work can be done in this process, in others
(``processes``) or on other machines (``ray``). A job knows how to run itself; each family has its
own. Whoever runs it tells what happened through one function; nobody but its owner, who started the
run, writes files.
"""

from __future__ import annotations

import logging
import os
import platform
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from vision_mem._version import __version__
from vision_mem.errors import VisionMemError

_MOST_REMARKS = 50


class Model(Protocol):
    """What a runner asks of any model."""

    @property
    def traits(self) -> Any:
        """``model_id`` and ``extra``: results are labelled with them."""

    @property
    def device(self) -> Any:
        """Where it runs."""


class Loaded(Protocol):
    """What works on sequences: a session, or more, around a model."""

    @property
    def model(self) -> Model:
        """The model."""


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


class Job(Protocol):
    """One sequence to run. Fit to travel to another process."""

    @property
    def name(self) -> str:
        """Of the sequence, as in the set's lists; fit for a file name."""

    @property
    def length(self) -> int:
        """Frames to go through."""

    def is_whole(self, results: Path, log: Path) -> bool:
        """Say whether it was done before: whether its results are all there.

        Args:
            results: the folder of result files.
            log: the file that says how the sequence went; may not be there.
        """

    def run(
        self, session: Any, tell: Callable[[Advanced], None], log: dict[str, Any]
    ) -> dict[str, bytes]:
        """Go through the sequence.

        Args:
            session: what the maker of this kind of job made; is reset first.
            tell: hears of each frame; what it raises goes through.
            log: takes JSON-ready values for people, ``frames``, ``seconds`` and
                ``tracking_seconds`` among them.

        Returns:
            Path below the results folder to content; the one that says "done" is the last.

        Raises:
            VisionMemError: when the sequence cannot be done; one line.
        """


Message = Ready | Advanced | Finished | Failed | WorkerLost
Tell = Callable[[Message], None]
MakeSession = Callable[[str], Loaded]
"""Loads a model on a device and makes what its jobs run on; travels to other processes by name."""


class Stopped(Exception):
    """The run was asked to end; the sequence in hand is dropped."""


def run_here(
    jobs: Sequence[Job],
    make_session: MakeSession,
    device: str,
    tell: Tell,
    stop: Callable[[], bool],
) -> None:
    """Run sequences one after the other in this process.

    Args:
        jobs: what to run, in this order.
        make_session: called once, with the device.
        device: to run on.
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


def introduce(session: Loaded) -> Ready:
    """Who is ready to work: the model as its results should be labelled, and where it runs."""
    traits = session.model.traits
    precision = traits.extra.get("precision")
    model = traits.model_id + (f" {precision}" if precision else "")
    place = f"process {os.getpid()} on {platform.node() or 'this machine'}"
    return Ready(model, place, str(session.model.device))


def run_job(job: Job, session: Loaded, tell: Callable[[Advanced], None]) -> Finished | Failed:
    """Run one sequence; what goes wrong becomes ``Failed``, but for what ``tell`` raises."""
    ready = introduce(session)
    log: dict[str, Any] = {
        "sequence": job.name,
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
            files = job.run(session, tell, log)
        except Stopped:
            raise
        except VisionMemError as error:
            return Failed(job.name, " ".join(str(error).split()), log)
        except Exception as error:
            log["traceback"] = traceback.format_exc()
            text = " ".join(f"unexpected {type(error).__name__}: {error}".split())
            return Failed(job.name, text, log)
    log["status"] = "finished"
    return Finished(job.name, files, log)


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
