"""The actor of one camera: a thread that runs its command, and waits for its turn at each frame."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vision_mem.errors import InputError, NotFoundError, VisionMemError
from vision_mem.fleet.cameras import CameraEntry
from vision_mem.fleet.degradation import (
    LEVELS,
    CameraSegmenter,
    StreamBudget,
    StreamLoad,
    allow_all,
    give_up_one,
    next_level,
)
from vision_mem.fleet.turns import FairTurns
from vision_mem.models.detectors.open import SHARED_DETECTORS
from vision_mem.models.detectors.protocol import Detector
from vision_mem.models.segmenters.load import SHARED_MODELS
from vision_mem.models.segmenters.protocol import Segmenter
from vision_mem.runs.folder import RECORD
from vision_mem.runs.loop import AROUND, SourceView, losses, paced
from vision_mem.session import FrameSource
from vision_mem.sources.live import StopRun
from vision_mem.text import read_json
from vision_mem.types import Frame

log = logging.getLogger(__name__)

RunLine = Callable[[str, Sequence[str]], int]
"""Runs a command with its words, and says the exit code; travels to other processes by name."""


class Models(Protocol):
    """What cameras share: networks, which hold nothing of any stream."""

    def segmenter(self, wanted: dict[str, Any]) -> Segmenter:
        """The segmenter of these arguments of ``load_segmenter``."""

    def detector(self, key: tuple[Any, ...], make: Callable[[], Detector]) -> Detector:
        """The detector of this key."""


WAITING, RUNNING, BROKEN = "waiting", "running", "broken"
FINISHED, FAILED, STOPPED = "finished", "failed", "stopped"
ENDED = frozenset({FINISHED, FAILED, STOPPED})
_LOOK_S = 3.0
"""So often a stream's level is thought over."""
_RATE_OVER = 60  # frames
_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LATEST_S = 10.0


@dataclass
class CameraStatus:
    """How a camera is doing; plain values that travel.

    Attributes:
        name: of the camera.
        state: ``waiting``, ``running``, ``broken`` (and tried again), ``finished``, ``failed``,
            ``stopped``.
        device: where it runs.
        frames: followed, since its process began.
        left_out: frames that came and were not followed, since this part began.
        reconnects: times the source was opened again.
        fps: frames a second, of late.
        delay_s: of the last frame; None where frames come as they are wanted.
        worst_s: the largest of the last ten seconds.
        step_s: seconds of the device that a frame takes.
        seconds: of the device, since its process began.
        level: index in ``degradation.LEVELS``.
        bytes: held by its session.
        objects: id to name of what is followed.
        restarts: times it was begun again.
        problem: what is wrong, in a line.
        folder: of its results.
    """

    name: str
    state: str = WAITING
    device: str = ""
    frames: int = 0
    left_out: int = 0
    reconnects: int = 0
    fps: float = 0.0
    delay_s: float | None = None
    worst_s: float | None = None
    step_s: float = 0.0
    seconds: float = 0.0
    level: int = 0
    bytes: int = 0
    objects: dict[int, str] = field(default_factory=dict)
    restarts: int = 0
    problem: str = ""
    folder: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self) | {"level": LEVELS[self.level]}


class NewestFrames(SourceView):
    """A source whose newest frame is taken when the stream's turn comes; others are left out.

    Args:
        source: live, or a file; the latter is played at its own speed.
        take: waits for the turn; False for none.
        stopping: set when the stream is to end.
        written: told how long ago a frame came, in seconds, once its results are written.
    """

    def __init__(
        self, source: FrameSource, take: Callable[[], bool], stopping: threading.Event,
        written: Callable[[float], None],
    ) -> None:  # fmt: skip
        super().__init__(source)
        self._take, self._stopping, self._written = take, stopping, written
        self._changed = threading.Condition()
        self._newest: tuple[Frame, float] | None = None
        self._ended = False
        self._error: BaseException | None = None
        self.left_out = 0

    def __iter__(self) -> Iterator[Frame]:
        reader = threading.Thread(target=self._read, name="vision-mem-newest", daemon=True)
        reader.start()
        while True:
            with self._changed:
                while self._newest is None and not self._ended and not self._stopping.is_set():
                    self._changed.wait(0.25)
                if self._newest is None and self._ended and self._error is None:
                    return
                if self._error is not None and self._newest is None:
                    raise self._error
            if self._stopping.is_set() or not self._take():
                raise StopRun
            with self._changed:
                assert self._newest is not None  # only this thread takes it away
                (frame, arrived_at), self._newest = self._newest, None
            yield frame
            self._written(time.monotonic() - arrived_at)

    def _read(self) -> None:
        try:
            frames = self._source if self.info.live else paced(self._source)
            for frame in frames:
                with self._changed:
                    self.left_out += self._newest is not None
                    self._newest = frame, time.monotonic()
                    self._changed.notify()
                if self._stopping.is_set():
                    return
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()


class AllFrames(SourceView):
    """A file whose every frame is followed, each when the stream's turn comes."""

    left_out = 0

    def __init__(
        self, source: FrameSource, take: Callable[[], bool], stopping: threading.Event,
        written: Callable[[float], None],
    ) -> None:  # fmt: skip
        super().__init__(source)
        self._take, self._stopping = take, stopping
        del written  # a file has no hurry

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            if self._stopping.is_set() or not self._take():
                raise StopRun
            yield frame


class CameraRun:
    """Runs a camera's command until it ends or is stopped, and begins it again when it breaks.

    Args:
        camera: what to run, and within which budgets.
        folder: of its results; a run that is there is gone on with.
        run: runs a command with its words.
        turns: of the device.
        models: that all share.
        snapshot_every: frames between snapshots.
        device: for the status, and for ``--device``.
    """

    def __init__(
        self, camera: CameraEntry, folder: Path, run: RunLine, turns: FairTurns, models: Models,
        *, snapshot_every: int = 100, device: str = "auto",
    ) -> None:  # fmt: skip
        self.camera, self.folder = camera, folder
        self._run_line, self._turns, self._models = run, turns, models
        self._snapshot_every, self._device = snapshot_every, device
        self._stopping = threading.Event()
        self._status = CameraStatus(camera.name, device=device, folder=str(folder))
        self._frames: NewestFrames | AllFrames | None = None
        self._session: Any = None
        self._views: list[CameraSegmenter] = []
        self._times: deque[float] = deque(maxlen=_RATE_OVER)
        self._delays: deque[tuple[float, float]] = deque()
        self._result: Any = None
        self._looked_at, self._left_before = time.monotonic(), 0
        self._level = 0
        turns.weigh(camera.name, camera.weight)
        self._thread = threading.Thread(target=self._run, name=camera.name, daemon=True)

    # -- from any thread -----------------------------------------------------------------------

    def start(self) -> CameraRun:
        """Begin."""
        self._thread.start()
        return self

    def tell(self, camera: CameraEntry) -> None:
        """Take over other budgets."""
        self.camera = camera
        self._turns.weigh(camera.name, camera.weight)

    def ask_to_stop(self) -> None:
        """Begin to stop; ``join`` waits for it."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Whether its files are finished, within so many seconds."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def status(self) -> CameraStatus:
        """How it is doing."""
        status, now = self._status, time.monotonic()
        times = list(self._times)
        recent = len(times) > 1 and now - times[-1] < max(5.0, 3 * (times[-1] - times[0]))
        status.fps = (len(times) - 1) / max(times[-1] - times[0], 1e-6) if recent else 0.0
        status.seconds = self._turns.seconds.get(self.camera.name, 0.0)
        status.level = self._level
        if (frames := self._frames) is not None:
            status.left_out = frames.left_out
            status.reconnects = losses(frames).get("reconnects", 0)
        delays = [delay for at, delay in list(self._delays) if now - at <= _LATEST_S]
        status.worst_s = max(delays, default=None)
        return status

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        SHARED_MODELS.set(self._segmenter)
        SHARED_DETECTORS.set(self._models.detector)
        AROUND.set(self._around)
        failures = 0
        while not self._stopping.is_set():
            done = self._status.frames
            self._status.state = RUNNING
            outcome = self._try()
            self._frames = self._session = self._result = None
            self._views.clear()
            if outcome in ENDED:
                self._status.state = outcome
                return
            failures = 0 if self._status.frames > done else failures + 1
            self._status.state = BROKEN
            self._status.restarts += 1
            self._stopping.wait(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
        self._status.state = STOPPED

    def _try(self) -> str:
        """Run the command once; the state that it ended in."""
        try:
            code = self._run_line(self.camera.command, self._words())
        except NotFoundError as error:  # it came to its end, and there was nothing
            self._status.problem = _line(error)
            return FINISHED
        except InputError as error:
            self._status.problem = _line(error)
            return FAILED
        except VisionMemError as error:
            self._status.problem = _line(error)
            return BROKEN
        except Exception as error:
            log.info("camera %s broke", self.camera.name, exc_info=True)
            self._status.problem = f"unexpected {type(error).__name__}: {_line(error)}"
            return BROKEN
        self._status.problem = "" if code == 0 else f"ended with {code}"
        if self._stopping.is_set():
            return STOPPED
        return FINISHED if code == 0 else BROKEN

    def _words(self) -> list[str]:
        words = [self.camera.source, *self.camera.words, "--out", str(self.folder), "--quiet"]
        words += ["--snapshot-every", str(self._snapshot_every), "--threads", "1"]
        if self._device != "auto":
            words += ["--device", self._device]
        if self.folder.is_dir() and any(self.folder.iterdir()):
            words.append("--resume" if goes_on(self.folder) else "--overwrite")
        return words

    def _segmenter(self, wanted: dict[str, Any]) -> Segmenter:
        view: Any = CameraSegmenter(self._models.segmenter(wanted))
        self._views.append(view)
        segmenter: Segmenter = view
        return segmenter

    def _around(self, frames: Any, session: Any) -> tuple[Any, Any]:
        """The source and the session of the command, as they are run here."""
        live = frames.info.live or self.camera.paced
        kind = NewestFrames if live else AllFrames
        self._frames = kind(frames, self._take, self._stopping, self._written)
        self._session = session
        self._left_before, self._looked_at = 0, time.monotonic()
        return self._frames, _TurnSession(session, self)

    def _take(self) -> bool:
        return self._turns.take(self.camera.name, self._stopping.is_set)

    def _written(self, delay_s: float) -> None:
        now, self._status.delay_s = time.monotonic(), delay_s
        self._delays.append((now, delay_s))
        while now - self._delays[0][0] > _LATEST_S:
            self._delays.popleft()

    def step(self, frame: Frame) -> Any:
        """Look at a frame within the turn that was taken for it, and hand the turn on."""
        begun = time.monotonic()
        try:
            if begun - self._looked_at > _LOOK_S:
                self._think(begun)
            self._result = self._session.step(frame)
        finally:
            took = time.monotonic() - begun
            self._turns.give_back(self.camera.name, took)
        status = self._status
        status.frames += 1
        status.step_s += (took - status.step_s) * (0.1 if status.step_s else 1.0)
        self._times.append(time.monotonic())
        if status.frames % 10 == 1:
            status.bytes = self._session.usage().bytes
            status.objects = {o.object_id: o.name for o in getattr(self._result, "objects", ())}
        return self._result

    def _think(self, now: float) -> None:
        """Give something up, or take it back, as the last seconds went."""
        frames, camera, span = self._frames, self.camera, now - self._looked_at
        self._looked_at = now
        if not isinstance(frames, NewestFrames):
            return  # every frame of a file is wanted, however long it takes
        left_out, self._left_before = frames.left_out - self._left_before, frames.left_out
        followed = sum(at > now - span for at in self._times)
        load = StreamLoad(
            delay_s=max((delay for at, delay in self._delays if at > now - span), default=0.0),
            bytes=self._status.bytes, fps=followed / span, left_out=left_out,
        )  # fmt: skip
        budget = StreamBudget(camera.delay_ms / 1e3, int(camera.memory_mb * 1e6), camera.min_fps)
        before, self._level = self._level, next_level(self._level, load, budget)
        for view in self._views:
            view.smaller = self._level >= LEVELS.index("smaller picture")
        if self._level == LEVELS.index("fewer objects"):
            if give_up_one(self._session, self._result):
                log.warning("camera %s: an object less is followed", camera.name)
        elif before > self._level:
            allow_all(self._session)


class _TurnSession:
    """A session that looks at a frame within the turn that its source has taken."""

    def __init__(self, session: Any, run: CameraRun) -> None:
        self._session, self.step = session, run.step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def goes_on(folder: Path) -> bool:
    """Whether a folder holds a run that can be gone on with."""
    record = _record(folder)
    snapshots = any(folder.glob("snapshot-*[0-9]"))
    return bool(record) and (snapshots or record.get("status", "running") == "running")


def _record(folder: Path) -> dict[str, Any]:
    with suppress(VisionMemError, ValueError, TypeError, OSError):
        return dict(read_json(folder / RECORD, nan=True))
    return {}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]
