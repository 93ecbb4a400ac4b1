"""Sequences of a benchmark over a Ray cluster: one actor a worker, with its own model.

Ray places the actors, starts those again that die, and tries their sequences again. Results come
back to this process as bytes, so that machines need to share the images only.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vision_mem._version import __version__
from vision_mem.errors import InputError, MissingExtra, VisionMemError
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
    with _connected(address, workers) as ray:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if device in ("auto", "cuda") else 0
        count = min(workers or gpus or int(resources.get("CPU", 1)) or 1, len(jobs))
        remote = ray.remote(
            num_cpus=1,
            num_gpus=min(1.0, gpus / count) if gpus else 0,
            max_restarts=-1,
            max_task_retries=ATTEMPTS - 1,
        )(_Actor)
        actors = [remote.remote(make_session, device) for _ in range(count)]
        try:
            _hand_out(ray, actors, list(jobs), tell, stop)
        finally:
            for actor in actors:
                ray.kill(actor)


def _hand_out(
    ray: Any, actors: list[Any], jobs: list[Job], tell: Tell, stop: Callable[[], bool]
) -> None:
    """Keep every actor busy with one sequence at a time until all are done."""
    waiting = iter(jobs)
    busy: dict[Any, tuple[Any, Job | None]] = {a.ready.remote(): (a, None) for a in actors}
    while busy and not stop():
        done, _ = ray.wait(list(busy), num_returns=1, timeout=_LOOK_S)
        for reference in done:
            actor, job = busy.pop(reference)
            tell(_outcome(ray, reference, job))
            following = next(waiting, None)
            if following is not None:
                busy[actor.run.remote(following)] = (actor, following)


def _outcome(ray: Any, reference: Any, job: Job | None) -> Ready | Finished | Failed:
    try:
        message = ray.get(reference)
    except ray.exceptions.RayError as error:
        how = " ".join(str(error).split())[:200]
        if job is None:
            raise VisionMemError(f"an actor ended before it had its model: {how}") from None
        reason = f"each of the {ATTEMPTS} workers that tried it ended ({how})"
        return Failed(job.name, reason, {"attempts": ATTEMPTS})
    if isinstance(message, VisionMemError):
        raise message
    if isinstance(message, Ready) and message.version != __version__:
        raise VisionMemError(
            f"{message.place} has vision-mem {message.version}, here it is {__version__}; install "
            "the same version on all machines"
        )
    assert isinstance(message, (Ready, Finished, Failed)), message
    return message


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
def _connected(address: str, workers: int | None) -> Iterator[Any]:
    """Ray, connected; what was started here is ended here."""
    # Nothing is sent to anybody about the use of a cluster that we start.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra(
            "--ray needs Ray, which is not installed; pip install 'vision-mem[ray]'"
        ) from None
    settings: dict[str, Any] = {}
    if address == "local":
        settings = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        settings |= {"num_cpus": workers} if workers else {}
    if ray.is_initialized():
        raise VisionMemError("this process is connected to a Ray cluster already; disconnect first")
    with _own_signals():
        try:
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
