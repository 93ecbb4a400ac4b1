"""What runs on one device: one copy of the weights, and a thread for each camera.

Threads, because they share weights whatever the device is, and because what several streams ask
of a network at a time can be one pass. A process of its own, because a network that crashes takes
its process with it: the owner begins another one, and all streams go on from their snapshots.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem._version import __version__
from vision_mem.fleet.camera_run import CameraRun, CameraStatus, RunLine
from vision_mem.fleet.cameras import CameraEntry
from vision_mem.fleet.turns import FairTurns
from vision_mem.models.detectors.protocol import Detector
from vision_mem.models.device import cores
from vision_mem.models.segmenters.load import SHARED_MODELS, load_segmenter
from vision_mem.models.segmenters.protocol import Segmenter
from vision_mem.types import Prompt

_SPEAK_S = 0.25
_FINISH_S = 20.0
_CUDA_SLOTS = 4


@dataclass(frozen=True)
class HostPlan:
    """What a host is made of; travels to other processes and machines.

    Attributes:
        device: of its networks.
        run: runs a command with its words.
        log: file for what commands and libraries say.
        slots: streams that compute at a time; None for one a core, or four on a GPU.
        snapshot_every: frames between snapshots.
    """

    device: str
    run: RunLine
    log: Path
    slots: int | None = None
    snapshot_every: int = 100


class SharedModels:
    """One copy of each segmenter and each detector that is asked for, whoever asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[Any, ...], Segmenter] = {}
        self._detectors: dict[tuple[Any, ...], Detector] = {}

    def detector(self, key: tuple[Any, ...], make: Callable[[], Detector]) -> Detector:
        """The detector of this key; a new one each time where it remembers a stream.

        Raises:
            VisionMemError: as ``make``.
        """
        with self._lock:
            if key in self._detectors:
                return self._detectors[key]
            made = make()
            if not made.stateful:
                self._detectors[key] = made
            return made

    def segmenter(self, wanted: dict[str, Any]) -> Segmenter:
        """The segmenter of these arguments of ``load_segmenter``.

        Raises:
            VisionMemError: as ``load_segmenter``.
        """
        key = tuple(wanted.values())
        with self._lock:
            if key not in self._made:
                token = SHARED_MODELS.set(None)
                try:
                    made = load_segmenter(**wanted)
                finally:
                    SHARED_MODELS.reset(token)
                if (join := getattr(made, "join_passes", None)) is not None:
                    join()
                _warm_up(made)
                self._made[key] = made
            return self._made[key]


def _warm_up(segmenter: Segmenter) -> None:
    """Follow a square for two frames: a network's first ones take much longer than all others."""
    from vision_mem.tracking.session import TrackingSession

    image = np.full((96, 160, 3), 90, np.uint8)
    image[30:60, 40:80] = (220, 40, 40)
    session = TrackingSession(segmenter)
    session.step(image, Prompt(box=np.array([40, 30, 80, 60], np.float32)))
    session.step(image)


class DeviceHost:
    """The cameras of one device. All calls are quick, but ``close``.

    Args:
        plan: what it is made of.
    """

    def __init__(self, plan: HostPlan) -> None:
        self._plan = plan
        slots = plan.slots or (_CUDA_SLOTS if plan.device.startswith("cuda") else cores())
        self._turns, self._models = FairTurns(slots), SharedModels()
        self._runs: dict[str, CameraRun] = {}
        self._leaving: list[CameraRun] = []

    def begin(self, camera: CameraEntry, folder: Path) -> None:
        """Run a camera, or go on with it."""
        self.end(camera.name)
        self._runs[camera.name] = CameraRun(
            camera, folder, self._plan.run, self._turns, self._models,
            snapshot_every=self._plan.snapshot_every, device=self._plan.device,
        ).start()  # fmt: skip

    def tell(self, camera: CameraEntry) -> None:
        """Take over other budgets of a camera that runs."""
        if camera.name in self._runs:
            self._runs[camera.name].tell(camera)

    def end(self, name: str) -> None:
        """Stop a camera and finish its files; the others do not notice."""
        if (run := self._runs.pop(name, None)) is not None:
            run.ask_to_stop()
            self._leaving.append(run)

    def status(self) -> list[CameraStatus]:
        """How each camera is doing."""
        return [run.status() for run in self._runs.values()]

    def version(self) -> str:
        """Of the package, for who asks from elsewhere."""
        return __version__

    def pid(self) -> int:
        """Number of its process."""
        return os.getpid()

    def close(self) -> list[CameraStatus]:
        """Stop all, finish their files, and say how they ended."""
        runs = [*self._runs.values(), *self._leaving]
        for run in runs:
            run.ask_to_stop()
        until = time.monotonic() + _FINISH_S
        for run in runs:
            run.join(max(0.1, until - time.monotonic()))
        return self.status()


def serve(pipe: Connection, plan: HostPlan) -> None:
    """Be the host of a device in a process of its own, until the owner says ``close`` or is gone.

    Args:
        pipe: takes ``(method, arguments)``; statuses come back four times a second.
        plan: what it is made of.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all; the owner decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _speak_into(plan.log)
    host = DeviceHost(plan)
    spoken = 0.0
    try:
        while True:
            if pipe.poll(_SPEAK_S):
                method, arguments = pipe.recv()
                if method == "close":
                    pipe.send(host.close())
                    return
                getattr(host, method)(*arguments)
            if time.monotonic() - spoken >= _SPEAK_S:
                spoken = time.monotonic()
                pipe.send(host.status())
    except (EOFError, OSError):
        host.close()  # the owner is gone: what was found is kept
    finally:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)  # threads that wait inside a source would hold the process


def _speak_into(path: Path) -> None:
    """Let all that is said in this process go into a file."""
    warnings.simplefilter("ignore")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        sys.stdout.flush()
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
    form = "%(asctime)s %(levelname)s %(threadName)s: %(message)s"
    logging.basicConfig(level=logging.WARNING, format=form)


class HostLost(Exception):
    """The process or actor of a device is gone; the text says how."""


_PRELOADED = [
    f"vision_mem.{name}" for name in (
        "fleet.device_host", "pipelines.track", "pipelines.mots", "runs.loop", "sinks.registry",
        "tracking.session", "mots.session", "models.detectors", "sources.open",
        "models.segmenters.embedded.segmenter", "studio.object_sessions",
    )
]  # fmt: skip


def _context() -> Any:
    """How processes of hosts begin: never as a copy of this one, which has threads in mid-work.

    Where the system can, they are copies of one that has done nothing but import what they need:
    a host that died is back seconds sooner.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


class LocalHost:
    """The host of a device in a process of its own.

    Args:
        plan: what it is made of.
    """

    def __init__(self, plan: HostPlan) -> None:
        self.device = plan.device
        context = _context()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, plan), daemon=True)
        self._process.start()
        theirs.close()  # so that reading ends when the process does
        self._statuses: list[CameraStatus] = []

    @property
    def pid(self) -> int | None:
        """Number of the process."""
        number: int | None = self._process.pid
        return number

    def ask(self, method: str, *arguments: Any) -> None:
        """Have a method of the host called.

        Raises:
            HostLost: when it is gone.
        """
        try:
            self._pipe.send((method, arguments))
        except OSError:
            raise HostLost(self._how()) from None

    def poll(self) -> Sequence[CameraStatus]:
        """What it last said.

        Raises:
            HostLost: when it is gone.
        """
        try:
            while self._pipe.poll():
                self._statuses = self._pipe.recv()
        except (EOFError, OSError):
            raise HostLost(self._how()) from None
        return self._statuses

    def close(self) -> Sequence[CameraStatus]:
        """Let it finish all files; end it where it does not."""
        with suppress(HostLost, EOFError, OSError):
            self.ask("close")
            until = time.monotonic() + _FINISH_S + 5.0
            while self._pipe.poll(max(0.1, until - time.monotonic())):
                self._statuses = self._pipe.recv()
        self.abandon()
        return self._statuses

    def abandon(self) -> None:
        """Make sure that the process is gone."""
        self._process.join(1.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def _how(self) -> str:
        self._process.join(2.0)
        code = self._process.exitcode
        if code is None:
            return "it does not answer"
        with suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"exit code {code}"
