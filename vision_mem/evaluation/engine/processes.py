"""Sequences of a benchmark on several processes of one machine, each with its own model.

The owner hands out one sequence at a time and hears back through a pipe a worker. A worker that
dies (out of memory, killed) loses the sequence it had, which is tried again on a new one.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from vision_mem.errors import VisionMemError
from vision_mem.evaluation.engine.runner import (
    Advanced,
    Failed,
    Finished,
    Job,
    MakeSession,
    Message,
    Ready,
    Tell,
    WorkerLost,
    introduce,
    run_job,
)

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a sequence is tried when the worker that has it dies."""

_LOOK_S = 0.2
_SPEAK_S = 0.5
_PATIENCE_S = 5.0


def run_in_processes(
    jobs: Sequence[Job],
    make_session: MakeSession,
    devices: Sequence[str],
    tell: Tell,
    stop: Callable[[], bool],
    workers: int,
) -> None:
    """Run sequences on several processes, as ``run_here``; devices go to the workers in turn.

    ``make_session`` must be found in each process by its name; ``tell`` hears what happens in this
    one; ``stop`` is asked several times a second, and drops the sequences in hand.

    Raises:
        VisionMemError: when a worker cannot load the model.
    """
    crew = _Crew(jobs, make_session, devices, tell)
    try:
        while crew.has_work and not stop():
            crew.fill(workers)
            crew.listen(_LOOK_S)
    finally:
        crew.dismiss()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    device: str
    job: Job | None = None
    ready: bool = False


class _Crew:
    """The owner's side: who works on what, and what is left."""

    def __init__(
        self, jobs: Sequence[Job], make_session: MakeSession, devices: Sequence[str], tell: Tell
    ) -> None:
        # A fresh interpreter each: a copy of this one would share CUDA and threads in mid-work.
        self._context = multiprocessing.get_context("spawn")
        self._waiting = deque((job, 1) for job in jobs)
        self._attempts: dict[str, int] = {}
        self._make_session = make_session
        self._devices = devices
        self._tell = tell
        self._workers: list[_Worker] = []
        self._never_ready = 0

    @property
    def has_work(self) -> bool:
        return bool(self._waiting) or any(worker.job for worker in self._workers)

    def fill(self, workers: int) -> None:
        """Start workers for what waits, up to their number, and give work to idle ones."""
        idle = sum(worker.job is None for worker in self._workers)
        while len(self._workers) < workers and idle < len(self._waiting):
            self._workers.append(self._start())
            idle += 1
        for worker in list(self._workers):
            if worker.job is None and self._waiting:
                self._give(worker)

    def _start(self) -> _Worker:
        # The device that fewest have now, so that a worker that takes another's place gets its.
        used = [worker.device for worker in self._workers]
        device = min(self._devices, key=used.count)
        mine, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._make_session, device), daemon=True
        )
        with deaf_to_interrupts():
            process.start()
        theirs.close()  # so that reading ends when the worker does
        return _Worker(process, mine, device)

    def _give(self, worker: _Worker) -> None:
        job, attempt = self._waiting.popleft()
        worker.job = job
        self._attempts[job.name] = attempt
        try:
            worker.pipe.send(job)
        except OSError:
            self._lose(worker)

    def listen(self, timeout_s: float) -> None:
        """Hear what workers have to say, for at most so long when they say nothing."""
        for ready in wait([worker.pipe for worker in self._workers], timeout_s):
            worker = next(each for each in self._workers if each.pipe is ready)
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                self._lose(worker)
                continue
            self._hear(worker, message)

    def _hear(self, worker: _Worker, message: Message | VisionMemError) -> None:
        if isinstance(message, VisionMemError):
            raise message
        if isinstance(message, Ready):
            worker.ready, self._never_ready = True, 0
        if isinstance(message, (Finished, Failed)):
            worker.job = None
            message.log["attempts"] = self._attempts[message.sequence]
        self._tell(message)

    def _lose(self, worker: _Worker) -> None:
        """A worker is gone: try its sequence again, or give up on it."""
        worker.pipe.close()
        worker.process.join(_PATIENCE_S)
        self._workers.remove(worker)
        how = _how_it_ended(worker.process.exitcode)
        if not worker.ready:
            self._never_ready += 1
            if self._never_ready >= ATTEMPTS:
                raise VisionMemError(
                    f"workers end while they load the model ({how}); is there memory for "
                    "so many? give fewer --workers"
                )
        job, worker.job = worker.job, None
        if job is None:
            return
        name = job.name
        attempt = self._attempts[name]
        if attempt < ATTEMPTS:
            self._waiting.appendleft((job, attempt + 1))
            self._tell(WorkerLost(name, how))
        else:
            reason = f"each of the {attempt} workers that tried it ended ({how})"
            self._tell(Failed(name, reason, {"attempts": attempt}))

    def dismiss(self) -> None:
        """End all workers, whatever they do."""
        for worker in self._workers:
            worker.process.terminate()
        until = time.monotonic() + _PATIENCE_S
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers.clear()


def loading_failed(error: Exception) -> VisionMemError:
    """An error that says why a worker has no model, fit to travel."""
    if isinstance(error, VisionMemError):
        return error
    return VisionMemError(f"unexpected {type(error).__name__} in a worker: {error}")


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "without a word"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


# -- the worker's side ---------------------------------------------------------------------------


def _work(pipe: Connection, make_session: MakeSession, device: str) -> None:
    # Ctrl-C reaches the whole group; the owner alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    _end_with_owner()
    try:
        session = make_session(device)
    except Exception as error:
        pipe.send(loading_failed(error))
        return
    pipe.send(introduce(session))
    spoken = 0.0

    def advanced(message: Advanced) -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= _SPEAK_S:
            spoken = time.monotonic()
            pipe.send(message)

    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(run_job(job, session, advanced))


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started meanwhile never hear Ctrl-C, not even while they import their modules.

    The terminal sends it to all of them; ending them is their owner's business.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_owner() -> None:
    """End this process when its owner does, however that ends and whatever is done here."""
    owner = multiprocessing.parent_process()
    assert owner is not None, "a worker is started by its owner"

    def watch() -> None:
        wait([owner.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="vision-mem-owner", daemon=True).start()
