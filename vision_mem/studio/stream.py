"""The actor of one stream: a thread that owns its source, its sessions, what can be gone back to.

Commands apply between frames, in order. A command changes the plan; what the plan changes of an
object is computed again from there, beside the live run, and takes its place once it has caught
up. Objects are lanes of their own, so the others do not change by a bit. There is no web in here.
"""

from __future__ import annotations

import json
import logging
import queue
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.errors import InputError, VisionMemError
from vision_mem.formats.snapshot import load_session
from vision_mem.formats.text import LineFile
from vision_mem.models.device import cores
from vision_mem.models.segmenters.protocol import Segmenter
from vision_mem.studio.commands import (
    EDITS,
    EditPlan,
    History,
    ObjectPlan,
    StudioCommand,
    changed_from,
    command_json,
    log_line,
    read_log,
)
from vision_mem.studio.detection_prompts import DetectionPrompts
from vision_mem.studio.frames import FileFrames, FrameRing, Frames, encode_jpeg
from vision_mem.studio.object_sessions import (
    Lane,
    SharedFeatures,
    follow_backwards,
    give_back_memory,
)
from vision_mem.studio.results_store import ObjectStatus, ResultsStore, Row, without_mask
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.parallel import mapped
from vision_mem.tracking.prompts import fit_prompt
from vision_mem.types import Frame

log = logging.getLogger(__name__)

LOG, RESULTS, OBJECTS = "commands.jsonl", "results.sqlite", "objects"
MOST_OBJECTS = 32
_WAITING = 64  # commands
_COMMANDS_A_TURN = 8
_RING_SHARE, _STATES_SHARE = 0.6, 0.3
_SLICE_S = 0.03  # of catching up, while a file plays
_STATUS_S, _SAVE_S, _COMMIT_S = 0.25, 10.0, 0.5
_LANES_S, _LANES_SHARE = 1.0, 0.03
"""The lanes of the timeline are brought up to date so often, and take so much of the time."""
_RATES_OVER = 45  # frames
_NOTES, _ANSWERS, _EVENTS, _ENDED_SHOWN = 5, 20, 300, 64


@dataclass
class FollowedObject:
    """The lanes of one object.

    Attributes:
        live: what is shown and goes on with the stream, or stands where the object ends.
        branch: what is to take its place, while it catches up.
        backwards: the same for earlier frames.
    """

    live: Lane | None = None
    branch: Lane | None = None
    backwards: Iterator[tuple[Frame, Row]] | None = None

    def lanes(self) -> list[Lane]:
        """Those that are there."""
        return [lane for lane in (self.live, self.branch) if lane is not None]


@dataclass
class _Rates:
    """Frames a second, of late."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=_RATES_OVER))

    def add(self) -> None:
        self.times.append(time.monotonic())

    def value(self) -> float:
        times = list(self.times)
        if len(times) < 2 or time.monotonic() - times[-1] > 2.0:
            return 0.0
        return (len(times) - 1) / max(times[-1] - times[0], 1e-6)


class FrameMessage:
    """A frame for pages, put into bytes once, and only when one of them takes it.

    Args:
        head: what is said of it.
        picture: its JPEG, or the image ``(H, W, 3)`` one is to be made of.
    """

    def __init__(self, head: Mapping[str, Any], picture: bytes | NDArray[np.uint8]) -> None:
        self.head = head
        self._picture, self._content = picture, b""
        self._lock = threading.Lock()

    @property
    def quick(self) -> bool:
        """Whether ``content`` takes no time to speak of."""
        return bool(self._content) or isinstance(self._picture, bytes)

    def content(self) -> bytes:
        """Head and picture: the head's length in four bytes, JSON, JPEG; from any thread."""
        with self._lock:
            if not self._content:
                held = self._picture
                jpeg = held if isinstance(held, bytes) else encode_jpeg(held)
                said = json.dumps(self.head).encode()
                self._content = struct.pack("<I", len(said)) + said + jpeg
            return self._content


Listener = Callable[[FrameMessage | str], None]


class StreamActor:
    """One stream and everything that is done to it. Call ``start``; all else is thread-safe.

    Args:
        name: for people.
        open_frames: opens the source; is given what wakes the actor, the first frame's number,
            and the ``(height, width)`` that frames had before a restart, zeros for none.
        segmenter: shared by all streams.
        config: of the sessions.
        folder: of the run: the log of commands, the results, the objects to resume from.
        budget: bytes that may be held for going back.
        detect: makes a detector, of its word and the classes wanted; None for no such thing.
        watch: is shown every frame that is followed, as the memory that is asked.
        paced: whether files play at their own speed at most.

    Raises:
        VisionMemError: when the source cannot be opened, or the folder not written to.
    """

    def __init__(
        self,
        name: str,
        open_frames: Callable[[Callable[[], None], int, tuple[int, int]], Frames],
        segmenter: Segmenter,
        config: TrackingConfig,
        folder: Path,
        *,
        budget: int = 512 << 20,
        detect: Callable[[str, list[str]], Any] | None = None,
        watch: Callable[[Frame], None] | None = None,
        paced: bool = True,
    ) -> None:
        self.name, self.folder, self.budget = name, folder, budget
        self._segmenter: Any = SharedFeatures(segmenter)
        on_cpu = segmenter.traits.parallel and segmenter.device.type == "cpu"
        self._threads = max(1, cores() // torch.get_num_threads()) if on_cpu else 1
        self._config, self._detect, self._watch, self._paced = config, detect, watch, paced
        folder.mkdir(parents=True, exist_ok=True)
        (folder / OBJECTS).mkdir(exist_ok=True)
        resumed = (folder / LOG).exists()
        self.history = read_log(folder / LOG) if resumed else History()
        self.store = ResultsStore(folder / RESULTS)
        self._head = self.store.last_frame() if resumed else None
        self._woken = threading.Event()
        first = 0 if self._head is None else self._head + 1
        try:
            self.frames = open_frames(self._woken.set, first, self.store.size)
        except BaseException:
            self.store.close()
            raise
        self._log = LineFile(folder / LOG, append=resumed)
        info = self.frames.info
        if info.height:
            self.store.size = (info.height, info.width)
        self.ring = FrameRing(int(budget * _RING_SHARE))
        self._objects: dict[int, FollowedObject] = {}
        self._saved: dict[int, int] = {}
        self._commands: queue.Queue[
            tuple[StudioCommand, Future[dict[str, Any]], DetectionPrompts | None]
        ] = queue.Queue(_WAITING)
        self._listeners: list[Listener] = []
        self._shown: int | None = None  # None for the newest
        self._latest: Frame | None = None
        self._playing = not self.frames.seekable
        self._goal: int | None = None
        self._due = self._status_at = self._saved_at = self._committed_at = self._lanes_due = 0.0
        self._lanes: dict[int, list[int]] = {}
        self._events: dict[int, list[tuple[int, str]]] = {}
        self._notes: deque[tuple[int, str]] = deque(maxlen=_NOTES)
        self._noted = 0
        self._answers: deque[tuple[str, list[int]]] = deque(maxlen=_ANSWERS)
        self._begun = time.monotonic()
        self._detection: DetectionPrompts | None = None
        self._in, self._followed = _Rates(), _Rates()
        self.followed = 0
        self._delay_s = self._shown_at = 0.0
        self._closing = False
        self.problem: str | None = None
        self.status: dict[str, Any] = {}
        if resumed:
            self._resume()
        self._make_status()
        self._thread = threading.Thread(target=self._run, name=f"studio-{name}", daemon=True)

    # -- from any thread -----------------------------------------------------------------------

    def start(self) -> StreamActor:
        """Begin."""
        self._thread.start()
        return self

    def submit(self, command: StudioCommand) -> Future[dict[str, Any]]:
        """Hand in a command; what it did, or why it was refused, comes by the future.

        A detector is opened here, in the caller's thread: that may take long, and the stream is
        not to wait.

        Raises:
            InputError: when too many wait already, or the stream is closed.
            VisionMemError: when the detector cannot be opened.
        """
        done: Future[dict[str, Any]] = Future()
        if self._closing or self.problem:
            raise InputError(self.problem or "the stream is closed")
        detection = self._open_detector(command.said) if command.kind == "detect" else None
        try:
            self._commands.put_nowait((command, done, detection))
        except queue.Full:
            if detection is not None:
                detection.close()
            raise InputError("too many commands at a time; wait a moment") from None
        self._woken.set()
        return done

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call somebody with each message: frames, and the state as text. To be quick.

        Returns:
            What ends it.
        """
        self._listeners.append(listener)
        listener(json.dumps(self.status))
        self._status_at = 0.0
        self._refresh = True
        self._woken.set()

        def end() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return end

    _refresh = False

    def note_answer(self, question: str, frames: list[int]) -> None:
        """Mark the moments of an answer on the timeline; from any thread."""
        self._answers.append((question, frames))
        self._status_at = 0.0
        self._woken.set()

    def ask_to_close(self) -> None:
        """Begin to close; ``close`` waits for it."""
        self._closing = True
        self._woken.set()

    def close(self) -> None:
        """Finish all files and let go of the source; safe to call twice."""
        self.ask_to_close()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(30.0)

    def wait_until_caught_up(self, timeout_s: float = 600.0) -> bool:
        """Wait until nothing is left to be computed again; for exports and tests."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and not self.problem and not self._closing:
            with suppress(InputError):
                if not self.submit(StudioCommand("state")).result(timeout_s)["behind"]:
                    return True
            time.sleep(0.02)
        return False

    # -- the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self.frames.seekable and self._head is None:
                self._next_frame()  # a prompt on the first frame of a file may come at once
            while not self._closing:
                self._woken.clear()
                busy = self._do_commands()
                busy = self._next_frame() or busy
                busy = self._catch_up() or busy
                self._housekeeping()
                if not busy:
                    self._woken.wait(self._idle_s())
        except Exception as error:
            self.problem = " ".join(str(error).split()) or type(error).__name__
            log.info("stream %s broke", self.name, exc_info=True)
        finally:
            self._finish()

    def _idle_s(self) -> float:
        if self.frames.seekable and self._playing:
            return max(0.0, min(0.25, self._due - time.monotonic()))
        return 0.25

    def _finish(self) -> None:
        with suppress(Exception):
            self._save_objects()
        for end in (self.frames.close, self.store.close, self._log.close):
            with suppress(Exception):
                end()
        if self._detection is not None:
            self._detection.close()
        self._make_status()
        self._send(json.dumps(self.status))
        while True:
            try:
                _, done, detection = self._commands.get_nowait()
            except queue.Empty:
                break
            if detection is not None:
                detection.close()
            done.set_exception(InputError(self.problem or "the stream is closed"))

    # -- frames --------------------------------------------------------------------------------

    def _next_frame(self) -> bool:
        if self.frames.seekable:
            return self._play_on()
        if (found := self.frames.poll()) is None:
            return False
        frame, content = found
        if not self.store.size[0]:
            self.store.size = frame.size
        self.ring.add(frame, content)
        self._in.add()
        self._take_in(frame)
        self._delay_s = max(0.0, time.time() - frame.time_s)
        if self._shown is None:
            self._show(frame, content)
        return True

    def _play_on(self) -> bool:
        assert isinstance(self.frames, FileFrames)
        now = time.monotonic()
        if self._goal is not None:
            return self._hurry_on(now)
        if self._head is not None and (not self._playing or now < self._due):
            return False
        at = self._shown_frame()
        frame = self.frames.get(0 if at is None else at + 1)
        if frame is None:
            self._playing = False
            self._status_at = 0.0
            return True
        wait = 1.0 / self.frames.info.fps if self._paced else 0.0
        self._due = max(self._due + wait, now)  # late frames are not made up for
        self._in.add()
        if self._head is None or frame.index > self._head:
            self._take_in(frame)
        self._shown = frame.index
        self._show(frame)
        return True

    def _hurry_on(self, now: float) -> bool:
        """Towards a frame that nobody has seen yet; what lies between is followed on the way."""
        assert isinstance(self.frames, FileFrames) and self._goal is not None
        frame = self.frames.get(0 if self._head is None else self._head + 1)
        if frame is not None:
            self._take_in(frame)
            self._shown = frame.index
        done = frame is None or frame.index >= self._goal
        if done:
            self._goal = None
            self._due = now
        if done or now > self._due + 0.2:
            self._due = now
            self._show_again()
        return True

    def _take_in(self, frame: Frame) -> None:
        """A frame that nobody has seen yet."""
        self._head, self._latest = frame.index, frame
        self.store.add_frame(frame.index, frame.time_s)
        due = []
        for object_id, one in self._objects.items():
            plan, lane = self.history.plan.objects[object_id], one.live
            if lane is not None and plan.follows(frame.index) and lane.front != frame.index:
                due.append((object_id, one, lane, plan))
        broken: list[tuple[int, Exception]] = []

        def step(each: tuple[int, FollowedObject, Lane, ObjectPlan]) -> Row | None:
            try:
                return each[2].step(frame, each[3])
            except Exception as error:  # one object's trouble is not the others'
                broken.append((each[0], error))
                return None

        if due:
            with suppress(Exception):  # once, before threads ask for it; steps meet the error again
                self._segmenter.encode_image(frame)
        found = mapped(step, due, self._threads)
        now: dict[int, Row] = {}
        for (object_id, one, _, _), row in zip(due, found, strict=True):
            if row is not None:
                now[object_id] = row
                self.store.put(object_id, frame.index, row, front=one.branch is None)
        for object_id, error in broken:
            self._end_broken(object_id, frame.index, error)
        if self._detection is not None:
            self._follow_everything(frame, now)
        if self._watch is not None:
            self._watch(frame)
        self._followed.add()
        self.followed += 1

    def _end_broken(self, object_id: int, frame: int, error: Exception) -> None:
        """Let go of an object that cannot be followed on; the user may undo that."""
        name = self.history.plan.objects[object_id].name
        log.info("stream %s, object %d", self.name, object_id, exc_info=error)
        self._note(
            f"{name} could not be followed on frame {frame}, and ends there: {in_a_line(error)}"
        )
        with suppress(InputError):
            self._edit(StudioCommand("remove", frame, object_id))

    def _note(self, text: str) -> None:
        """Something to be told on the page, once."""
        self._noted += 1
        self._notes.append((self._noted, text))
        self._status_at = 0.0

    def _frame(self, index: int) -> Frame | None:
        """A frame again; of files the next one where it is damaged."""
        if self._latest is not None and self._latest.index == index:
            return self._latest
        if isinstance(self.frames, FileFrames):
            return self.frames.get(index)
        return self.ring.get(index)

    # -- commands ------------------------------------------------------------------------------

    def _do_commands(self) -> bool:
        done = 0
        while done < _COMMANDS_A_TURN:
            try:
                command, future, detection = self._commands.get_nowait()
            except queue.Empty:
                break
            done += 1
            try:
                future.set_result(self._do(command, detection))
            except VisionMemError as error:
                future.set_exception(error)
            except Exception as error:
                future.set_exception(error)
                raise
            self._status_at = 0.0
        return done > 0

    def _do(
        self, command: StudioCommand, detection: DetectionPrompts | None = None
    ) -> dict[str, Any]:
        if command.kind in (*EDITS, "undo", "redo"):
            command = self._edit(command)
            self._show_again()
            if command.kind == "prompt" and command.frame != self._shown_frame():
                self._show_preview(command)
        elif command.kind in ("pause", "play"):
            self._playing, self._goal = command.kind == "play", None
            if self.frames.seekable:
                self._due = time.monotonic()
            else:
                self._shown = None if self._playing else self._head
        elif command.kind == "seek":
            self._seek(command.frame)
        elif command.kind == "detect":
            self._set_detection(detection)
        behind = sum(one.branch is not None or one.backwards is not None
                     for one in self._objects.values())  # fmt: skip
        return command_json(command) | {"shown": self._shown_frame(), "behind": behind}

    def _seek(self, frame: int | None) -> None:
        if frame is None:
            raise InputError("seek needs 'frame', the number of one")
        if not self.frames.seekable:
            span = self.ring.span
            if span is None or frame < span[0]:
                raise InputError(self._too_old(frame))
            found = self.ring.before(frame + 1)
            self._shown, self._playing = found, False
            self._show_again()
            return
        assert isinstance(self.frames, FileFrames)
        got = self.frames.get(frame)
        if got is None:
            raise InputError(f"there is no frame {frame} in this source")
        self._due = time.monotonic()
        followed = any(
            plan.follows((self._head or 0) + 1) for plan in self.history.plan.objects.values()
        )
        if self._head is not None and got.index > self._head and followed:
            self._goal = got.index
            return
        if self._head is None or got.index > self._head:
            self._take_in(got)  # nothing is followed: what lies between has nothing to show
        self._shown = got.index
        self._show_again()

    def _edit(self, command: StudioCommand) -> StudioCommand:
        """Take a command of the plan in, or refuse it; nothing has changed then."""
        old, new = self.history.plan, self.history.after(command)
        if self._followed_by(new) > max(MOST_OBJECTS, self._followed_by(old)):
            raise InputError(f"{MOST_OBJECTS} objects are followed already; remove one first")
        if command.kind == "prompt":
            self._check_prompt(command)
        if command.both and not self.frames.seekable:
            raise InputError("only files can be followed backwards; leave out direction")
        for object_id, plan in new.objects.items():
            if (start := changed_from(old.objects.get(object_id), plan)) is not None:
                self._check_reach(object_id, plan, start)
        command = self.history.apply(command)
        self._log.write(log_line(command, time.time()))
        broken = self._reconcile(old, self.history.plan)
        if broken is not None:
            raise InputError(broken)
        if self._detection is not None and command.kind in EDITS:
            self._detection.applied(command)
        return command

    def _followed_by(self, plan: EditPlan) -> int:
        """How many objects a plan goes on with."""
        return sum(one.end is None or one.end > (self._head or 0) for one in plan.objects.values())

    def _check_prompt(self, command: StudioCommand) -> None:
        assert command.frame is not None and command.prompt is not None
        held = self._head is not None and command.frame <= self._head
        if not self.frames.seekable:
            if not held or self.ring.get(command.frame) is None:
                raise InputError(self._too_old(command.frame))
        elif not held:
            raise InputError(f"frame {command.frame} was not shown yet; point at one that was")
        fit_prompt(command.prompt, self.store.size)

    def _too_old(self, frame: int) -> str:
        span = self.ring.span
        reach = (
            "no frame is held" if span is None else f"memory reaches from {span[0]} to {span[1]}"
        )
        return f"frame {frame} can no longer be gone back to; {reach}"

    def _check_reach(self, object_id: int, plan: ObjectPlan, start: int) -> None:
        if self.frames.seekable or (plan.end is not None and start >= plan.end):
            return
        one = self._objects.get(object_id, FollowedObject())
        states = [n for lane in one.lanes()[-1:] for n in lane.states if n < start]
        span = self.ring.span
        if span is None or (max(states) < self.ring.lost if states else plan.first < span[0]):
            raise InputError(self._too_old(start))

    def _reconcile(self, old: EditPlan, new: EditPlan) -> str | None:
        """Bring what is followed to a new plan.

        Returns:
            Why an object cannot be computed by it; the edit was undone then. None if all is well.
        """
        broken = None
        for object_id in old.objects.keys() - new.objects.keys():
            self._objects.pop(object_id, None)
            self.store.drop(object_id)
            self.store.set_front(object_id, None)
            self._forget_saved(object_id, -1)
        for object_id, plan in new.objects.items():
            before = old.objects.get(object_id)
            start = changed_from(before, plan)
            if start is not None and (why := self._again(object_id, plan, start)) is not None:
                broken = why
                continue
            if before is not None and before.both and not plan.both:
                self.store.drop(object_id, high=plan.first)
            afresh = (
                before is None or not before.both or (start is not None and start <= plan.first)
            )
            if plan.both and afresh and isinstance(self.frames, FileFrames):
                frames = self.frames.backwards(plan.first)
                back = follow_backwards(plan, frames, self._segmenter, self._config)
                self._objects[object_id].backwards = iter(back)
        return broken

    def _again(self, object_id: int, plan: ObjectPlan, start: int) -> str | None:
        """Compute an object again from a frame on; that frame itself at once, as a preview.

        Returns:
            As ``_reconcile``.
        """
        one = self._objects.setdefault(object_id, FollowedObject())
        lanes = one.lanes()
        one.branch = lanes[-1].back_to(start) if lanes else Lane(self._segmenter, self._config)
        start = max(start, plan.first)
        if plan.end is not None:
            self.store.drop(object_id, low=plan.end)
            if self._head is not None and plan.end <= self._head:
                one.live = None
        self.store.drop(object_id, high=plan.first)
        self.store.set_front(object_id, one.branch.front)
        self._forget_saved(object_id, start)
        while one.branch is not None and (one.branch.front is None or one.branch.front < start):
            try:
                if not self._step_branch(object_id, one):
                    break
            except Exception as error:
                return self._take_back(object_id, error)
        return None

    def _take_back(self, object_id: int, error: Exception) -> str:
        """Undo the latest edit of an object, which cannot be computed; what it was comes back.

        Returns:
            What to say of it, in a line.
        """
        log.info("stream %s, object %d", self.name, object_id, exc_info=error)
        name = self.history.plan.objects[object_id].name
        one = self._objects[object_id]
        one.branch = one.backwards = None
        old = self.history.plan
        undone = self.history.apply(StudioCommand("undo", object_id=object_id))
        self._log.write(log_line(undone, time.time()))
        why = f"the latest change of {name} could not be computed and is undone: {in_a_line(error)}"
        self._note(why)
        self._reconcile(old, self.history.plan)
        return why

    def _step_branch(self, object_id: int, one: FollowedObject) -> bool:
        """One frame of what catches up; False when it has caught up, or cannot."""
        plan, lane = self.history.plan.objects[object_id], one.branch
        if lane is None:
            return False
        wanted: int | None = plan.first if lane.front is None else lane.front + 1
        assert wanted is not None
        if not self.frames.seekable:
            # Where a frame has fallen out, what was found on it stays as it is.
            lost = lane.front is not None and lane.front < self.ring.lost
            wanted = None if lost else self.ring.after(wanted - 1)
        frame = None
        if wanted is not None and self._head is not None and wanted <= self._head:
            frame = self._frame(wanted)
        if frame is None or frame.index > (self._head or 0) or not plan.follows(frame.index):
            one.live, one.branch = lane, None
            return False
        self.store.put(object_id, frame.index, lane.step(frame, plan))
        if frame.index == self._head:
            one.live, one.branch = lane, None
        return True

    # -- catching up ---------------------------------------------------------------------------

    def _catch_up(self) -> bool:
        """A share of what is to be computed again; live frames wait for two steps an object.

        With fewer, objects would never catch up with a stream that takes all the time there is.
        """
        behind = {n: one for n, one in self._objects.items() if one.branch or one.backwards}
        if not behind:
            return False
        end, steps, least = time.monotonic() + _SLICE_S, 0, 2 * len(behind)
        while behind and not self._closing:
            for object_id, one in list(behind.items()):
                try:
                    moved = self._step_branch(object_id, one) or self._step_back(object_id, one)
                except Exception as error:
                    self._take_back(object_id, error)
                    moved = False
                    if object_id not in self._objects:
                        del behind[object_id]
                        continue
                if not moved and one.branch is None and one.backwards is None:
                    del behind[object_id]
                steps += 1
            if steps >= least and (self._woken.is_set() or time.monotonic() > end):
                break
        now = time.monotonic()
        if not behind or (not self._playing and now - self._shown_at > 0.15):
            self._shown_at = now
            self._show_again()
        self._status_at = self._status_at if behind else 0.0
        return True

    def _step_back(self, object_id: int, one: FollowedObject) -> bool:
        if one.backwards is None:
            return False
        found = next(one.backwards, None)
        if found is None:
            one.backwards = None
            return False
        frame, row = found
        self.store.put(object_id, frame.index, without_mask(row), front=False)
        return True

    # -- follow everything ---------------------------------------------------------------------

    def _open_detector(self, wanted: Mapping[str, Any]) -> DetectionPrompts | None:
        """What is to follow everything from now on; None for nothing. From any thread."""
        if not wanted.get("on"):
            return None
        if self._detect is None:
            raise InputError("this stream has no detector to follow everything with")
        word, classes = str(wanted.get("detector") or "motion"), wanted.get("classes") or []
        if isinstance(classes, str):
            classes = [part.strip() for part in classes.split(",") if part.strip()]
        return DetectionPrompts(self._detect(word, [str(each) for each in classes]), word)

    def _set_detection(self, detection: DetectionPrompts | None) -> None:
        if self._detection is not None:
            self._detection.close()
        self._detection = detection

    def _follow_everything(self, frame: Frame, now: Mapping[int, Row]) -> None:
        """Show the detector a frame that all live objects have looked at."""
        assert self._detection is not None

        def objects(index: int) -> dict[int, Row | None]:
            rows: Mapping[int, Row] = now if index == frame.index else self.store.rows(index)
            followed = self.history.plan.objects.values()
            return {o.object_id: rows.get(o.object_id) for o in followed if o.follows(index)}

        try:
            commands = self._detection.look(frame, objects)
        except Exception as error:
            log.info("stream %s, detector", self.name, exc_info=error)
            self._note(f"follow everything is off: {in_a_line(error)}")
            self._set_detection(None)
            return
        for command in commands:
            try:
                self._edit(command)
            except InputError:
                self._detection.refused(command)

    # -- what is shown -------------------------------------------------------------------------

    def _shown_frame(self) -> int | None:
        return self._head if self._shown is None else self._shown

    def _show_again(self) -> None:
        index = self._shown_frame()
        if index is None or not self._listeners:
            return
        content = self.ring.jpeg(index)
        frame = self._frame(index)
        if frame is not None:
            self._show(frame, content)

    def _show_preview(self, command: StudioCommand) -> None:
        """The frame that was pointed at, when the page is elsewhere by now."""
        assert command.frame is not None
        if self._listeners and (frame := self._frame(command.frame)) is not None:
            self._show(frame, self.ring.jpeg(command.frame), command.object_id)

    def _show(self, frame: Frame, content: bytes | None = None, preview: int | None = None) -> None:
        if not self._listeners:
            return
        rows = self.store.rows(frame.index)
        objects = []
        for object_id, plan in self.history.plan.objects.items():
            if (row := rows.get(object_id)) is None:
                continue
            said = {
                "id": object_id, "name": plan.name, "state": row.state,
                "score": round(row.score, 3), "box": [round(float(v), 1) for v in row.box],
            }  # fmt: skip
            if row.present:
                said["rle"] = row.counts
            objects.append(said)
        head = {
            "frame": frame.index, "time_s": frame.time_s, "width": frame.image.shape[1],
            "height": frame.image.shape[0], "objects": objects, "head": self._head,
            "live": not self.frames.seekable, "following": self._shown is None,
            **({} if preview is None else {"preview": preview}),
        }  # fmt: skip
        self._send(FrameMessage(head, content or frame.image))

    def picture(self, index: int) -> bytes | None:
        """The JPEG of a frame that can still be had; from any thread."""
        if isinstance(self.frames, FileFrames):
            frame = self.frames.get(index)
            return None if frame is None else encode_jpeg(frame.image)
        return self.ring.jpeg(index)

    def _send(self, message: FrameMessage | str) -> None:
        for listener in list(self._listeners):
            with suppress(Exception):
                listener(message)

    def _make_status(self) -> None:
        info, plan = self.frames.info, self.history.plan
        span = self.ring.span
        if self.frames.seekable:
            span = (0, (self.frames.ends_at or (self._head or 0) + 1) - 1)  # type: ignore[attr-defined]
        low, high = span or (0, 0)
        now = time.monotonic()
        forced = self._status_at == 0.0 and now > self._lanes_due - _LANES_S * 0.75
        if span and not self._closing and (forced or now > self._lanes_due):
            self._lanes = self.store.lanes(low, high)
            self._events = {}
            for frame, object_id, kinds in self.store.events(low, high, _EVENTS):
                self._events.setdefault(object_id, []).append((frame, kinds))
            took = time.monotonic() - now
            self._lanes_due = now + max(_LANES_S, took / _LANES_SHARE)
        behind = [n for n, one in self._objects.items() if one.branch or one.backwards]
        objects = []
        for n, one in self._worth_showing(plan, low):
            objects.append({
                "id": n, "name": one.name, "first": one.first, "end": one.end, "both": one.both,
                "prompts": [frame for frame, _ in one.prompts if frame >= low],
                "behind": n in behind, "lane": self._lanes.get(n, []),
                "events": self._events.get(n, []),
            })  # fmt: skip
        self.status = {
            "name": self.name, "live": not self.frames.seekable, "width": info.width,
            "height": info.height, "fps": round(self.ring.rate or info.fps, 3),
            "frame_count": info.frame_count,
            "head": self._head, "shown": self._shown_frame(), "following": self._shown is None,
            "playing": self._playing, "reach": list(span) if span else None, "objects": objects,
            "behind": behind, "can": self.history.can(), "commands": len(self.history),
            "fps_in": round(self._in.value(), 1), "fps_followed": round(self._followed.value(), 1),
            "delay_s": round(self._delay_s, 3), "memory": self.held(), "budget": self.budget,
            "detector": None if self._detection is None else self._detection.word,
            "notes": list(self._notes),
            "answers": [[text, [n for n in some if n >= low]] for text, some in self._answers],
            "ended": getattr(self.frames, "ended", None), "problem": self.problem,
            "closed": self._closing, "uptime_s": round(time.monotonic() - self._begun, 1),
            **self.frames.counts(),
        }  # fmt: skip

    def _worth_showing(self, plan: EditPlan, low: int) -> list[tuple[int, ObjectPlan]]:
        """Objects that are followed, and the latest of those that ended within reach."""
        ended = [n for n, one in plan.objects.items() if one.end is not None]
        shown = {n for n in ended if (plan.objects[n].end or 0) > low}
        shown -= set(sorted(shown)[:-_ENDED_SHOWN])
        return [(n, o) for n, o in plan.objects.items() if o.end is None or n in shown]

    def held(self) -> int:
        """Bytes held: frames, states and sessions."""
        lanes = [lane for one in list(self._objects.values()) for lane in one.lanes()]
        return self.ring.bytes + sum(lane.bytes for lane in lanes)

    # -- upkeep --------------------------------------------------------------------------------

    def _housekeeping(self) -> None:
        now = time.monotonic()
        self._keep_in_budget()
        if self._refresh:
            self._refresh = False
            self._show_again()
        if now - self._committed_at > _COMMIT_S:
            self._committed_at = now
            self.store.commit()
            give_back_memory()
        if now - self._status_at > _STATUS_S:
            self._make_status()
            self._status_at = now
            if self._listeners:
                self._send(json.dumps(self.status))
        if now - self._saved_at > _SAVE_S:
            self._saved_at = now
            self._save_objects()

    def _keep_in_budget(self) -> None:
        lanes = [lane for one in self._objects.values() for lane in one.lanes()]
        if not self.frames.seekable:
            for lane in lanes:
                lane.forget_before(self.ring.lost)
        while lanes and sum(lane.bytes for lane in lanes) > self.budget * _STATES_SHARE:
            fullest = max(lanes, key=lambda lane: lane.bytes)
            if not fullest.thin():
                lanes.remove(fullest)

    # -- resume --------------------------------------------------------------------------------

    def _save_objects(self) -> None:
        for object_id, one in self._objects.items():
            lane = one.live
            if lane is None or one.branch is not None or lane.front is None:
                continue
            if self._saved.get(object_id) != lane.front:
                lane.session.snapshot(self._saved_at_path(object_id))
                self._saved[object_id] = lane.front

    def _saved_at_path(self, object_id: int) -> Path:
        return self.folder / OBJECTS / f"{object_id}.safetensors"

    def _forget_saved(self, object_id: int, start: int) -> None:
        if self._saved.get(object_id, start) >= start:
            self._saved.pop(object_id, None)
            self._saved_at_path(object_id).unlink(missing_ok=True)

    def _resume(self) -> None:
        """Go on where the folder ends; what was not finished is computed again."""
        fronts = self.store.fronts()
        model_id = self._segmenter.traits.model_id
        for object_id in self.history.plan.objects:
            lane = Lane(self._segmenter, self._config)
            with suppress(VisionMemError):
                state, _ = load_session(self._saved_at_path(object_id), "tracking", model_id)
                index = int(state["frame_index"])
                # What the results do not hold was found by a plan that is no longer there.
                if index <= fronts.get(object_id, -1):
                    row = self.store.rows(index).get(object_id)
                    before = None if row is None else ObjectStatus.after(None, row)[0]
                    lane.restore(index, state, before)
                    self._saved[object_id] = index
            one = self._objects[object_id] = FollowedObject()
            if self.frames.seekable:
                one.branch = lane
            elif lane.front is not None:
                one.live = lane
        self._shown = self._head if self.frames.seekable else None


def in_a_line(error: BaseException) -> str:
    """An error in one line, for people."""
    if isinstance(error, VisionMemError):
        return " ".join(str(error).split())
    return f"unexpected {type(error).__name__}; see the log of the server"


def read_frame_message(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Head and picture of a message."""
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length]), message[4 + length :]
