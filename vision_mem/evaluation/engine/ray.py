"""Sequences of a benchmark over a Ray cluster: one actor a worker, with its own model.

Ray places the actors; others take the place of those that die, and their sequences. Results come
back to this process as bytes, so that machines need to share the images only.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from vision_mem._version import __version__
from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.engine.processes import ATTEMPTS, loading_failed
from vision_mem.evaluation.engine.runner import (
    Failed,
    Finished,
    Job,
    Loaded,
    MakeSession,
    Ready,
    Tell,
    introduce,
    run_job,
)
from vision_mem.evaluation.options import check_cluster

_LOOK_S = 0.2
_STORE_BYTES = 200_000_000  # results are small; Ray's default is a third of the memory


def run_on_ray(
    jobs: Sequence[Job],
    make_session: MakeSession,
    device: str,
    tell: Tell,
    stop: Callable[[], bool],
    *,
    address: str,
    workers: int | None = None,
) -> None:
    """Run sequences on the machines of a Ray cluster; arguments as ``run_in_processes``.

    The package must be installed on each of them in this version, and the images be found under
    the same path. With the device ``auto`` and GPUs in the cluster, each actor gets one. The
    address is that of the cluster, ``auto`` for the one this machine belongs to, or ``local`` to
    start one here for the time of the run. Without a number of workers there is one a GPU or CPU.

    Raises:
        MissingExtra: when Ray is not installed.
        InputError: when there is no cluster under this address.
        VisionMemError: when an actor cannot load the model or has another version.
    """
    with connected_ray(address, workers) as ray:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if device in ("auto", "cuda") else 0
        count = min(workers or gpus or int(resources.get("CPU", 1)) or 1, len(jobs))
        remote = ray.remote(num_cpus=1, num_gpus=min(1.0, gpus / count) if gpus else 0)(_Actor)
        _hand_out(ray, lambda: remote.remote(make_session, device), count, jobs, tell, stop)


def _hand_out(
    ray: Any,
    make: Callable[[], Any],
    count: int,
    jobs: Sequence[Job],
    tell: Tell,
    stop: Callable[[], bool],
) -> None:
    """Keep actors busy with one sequence each until all are done.

    Who dies is replaced here and not by Ray, whose own attempts are used up within a second when
    a whole machine is gone. A new actor may wait for a place for ever; the others go on meanwhile,
    with what it would have done.
    """
    waiting, tried, unborn = deque(jobs), Counter[str](), 0
    idle: list[Any] = []
    busy: dict[Any, tuple[Any, Job | None]] = {}
    try:
        while len(busy) < count:
            actor = make()
            busy[actor.ready.remote()] = (actor, None)
        while not stop() and (waiting or any(job is not None for _, job in busy.values())):
            while idle and waiting:
                actor, job = idle.pop(), waiting.popleft()
                busy[actor.run.remote(job)] = (actor, job)
            done, _ = ray.wait(list(busy), num_returns=1, timeout=_LOOK_S)
            for reference in done:
                actor, held = busy.pop(reference)
                try:
                    message = ray.get(reference)
                except ray.exceptions.RayError as error:
                    with suppress(ray.exceptions.RayError):
                        ray.kill(actor)
                    how = _reason(error)
                    if held is None:
                        unborn += 1
                        if unborn >= ATTEMPTS:
                            raise VisionMemError(
                                f"an actor ended before it had its model: {how}"
                            ) from None
                    else:
                        tried[held.name] += 1
                        if tried[held.name] < ATTEMPTS:
                            waiting.appendleft(held)
                        else:
                            reason = f"each of the {ATTEMPTS} workers that tried it ended ({how})"
                            tell(Failed(held.name, reason, {"attempts": ATTEMPTS}))
                    actor = make()
                    busy[actor.ready.remote()] = (actor, None)
                    continue
                tell(_checked(message))
                idle.append(actor)
    finally:
        for actor in [*idle, *(actor for actor, _ in busy.values())]:
            with suppress(ray.exceptions.RayError):
                ray.kill(actor)


def _checked(message: Any) -> Ready | Finished | Failed:
    """What an actor says, if it is fit to work."""
    if isinstance(message, VisionMemError):
        raise message
    if isinstance(message, Ready) and message.version != __version__:
        raise VisionMemError(
            f"{message.place} has vision-mem {message.version}, here it is {__version__}; install "
            "the same version on all machines"
        )
    assert isinstance(message, (Ready, Finished, Failed)), message
    return message


def _reason(error: Exception) -> str:
    """Why an actor is gone, in one line.

    Raises:
        VisionMemError: where every other one on its machine would end likewise.
    """
    absent = re.search(r"No module named '(vision_mem[\w.]*)'", str(error))
    if absent is not None:
        has = "lacks vision-mem" if absent[1] == "vision_mem" else "has another vision-mem"
        raise VisionMemError(
            f"{_node_of(error)} {has}; install vision-mem {__version__} on all machines of the "
            "cluster"
        )
    return " ".join(str(error).split())[:200]


def _node_of(error: Exception) -> str:
    """The machine that an error is of, as far as Ray says it."""
    found = re.search(r"\bip[=:] ?([\d.]+)", str(error))
    return "a machine of the cluster" if found is None else f"the machine {found[1]} of the cluster"


class _Actor:
    """A worker somewhere in the cluster. Loads its model when it is first needed."""

    def __init__(self, make_session: MakeSession, device: str) -> None:
        self._make_session, self._device = make_session, device
        self._session: Loaded | None = None

    def _loaded(self) -> Loaded:
        if self._session is None:
            self._session = self._make_session(self._device)
        return self._session

    def ready(self) -> Ready | VisionMemError:
        try:
            return introduce(self._loaded())
        except Exception as error:
            return loading_failed(error)

    def run(self, job: Job) -> Finished | Failed | VisionMemError:
        try:
            session = self._loaded()  # once more, if Ray started this actor again
        except Exception as error:
            return loading_failed(error)
        return run_job(job, session, lambda _: None)


@contextmanager
def connected_ray(address: str, workers: int | None) -> Iterator[Any]:
    """Ray, connected; what was started here is ended here."""
    check_cluster(address)
    # Nothing is sent to anybody about the use of a cluster that we start.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    settings: dict[str, Any] = {}
    if address == "local":
        settings = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        settings |= {"num_cpus": workers} if workers else {}
    if ray.is_initialized():
        raise VisionMemError("this process is connected to a Ray cluster already; disconnect first")
    with _own_signals():
        try:
            with _own_words():
                ray.init(address=address, configure_logging=False, log_to_driver=False, **settings)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"no Ray cluster at {address!r} ({reason}); expected an address as 10.0.0.1:6379, "
                "auto or local"
            ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _own_words() -> Iterator[None]:
    """What Ray's core says, a line a second, stays away: what goes wrong is said in one of ours."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts its own answer to SIGTERM in place; ours finishes the run in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
