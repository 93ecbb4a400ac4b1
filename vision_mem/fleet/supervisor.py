"""The owner of a fleet: reads the list, spreads cameras over devices, begins again what died.

It loads no network, and nothing that it does holds a stream up. What it knows is in
``Fleet.view``; what it decides on is the list, which is read again when it changes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vision_mem._version import __version__
from vision_mem.errors import InputError, VisionMemError
from vision_mem.fleet.camera_run import BROKEN, ENDED, FAILED, CameraStatus
from vision_mem.fleet.cameras import CameraEntry, WordsOf, changes, read_cameras
from vision_mem.fleet.device_host import HostLost, HostPlan
from vision_mem.formats.text import make_folder, write_file
from vision_mem.text import one_line, read_json

RECORD, LOGS = "fleet.json", "logs"
_LOOK_S = 0.2
_WATCH_S = 1.0
_WRITE_S = 2.0
_SAY_S = 10.0
_PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_S = 60.0


class Host(Protocol):
    """The cameras of one device, wherever it is; methods raise ``HostLost`` when it is gone."""

    device: str

    @property
    def pid(self) -> int | None:
        """Number of its process, on its machine."""

    def ask(self, method: str, *arguments: Any) -> None:
        """Have a method of ``DeviceHost`` called."""

    def poll(self) -> Sequence[CameraStatus]:
        """How its cameras are doing, as it last said."""

    def close(self) -> Sequence[CameraStatus]:
        """Let it finish all files, and say how they ended."""

    def abandon(self) -> None:
        """Make sure that it is gone."""


@dataclass
class _DevicePlace:
    """A device of the fleet, whatever process is its host now."""

    plan: HostPlan
    host: Host | None = None
    cameras: dict[str, CameraEntry] = field(default_factory=dict)
    deaths: int = 0
    died_at: float = 0.0
    begin_at: float = 0.0
    restarts: int = 0

    @property
    def weight(self) -> float:
        return sum(camera.weight for camera in self.cameras.values())


class Fleet:
    """All cameras of a list.

    Args:
        path: the list.
        out: folder of results, one a camera.
        plans: a device each.
        open_host: begins the host of a device.
        words_of: checks options of commands.
        resume: go on with the fleet that is in ``out``.
        overwrite: forget the one that is there.
        quiet: say nothing but what is wrong.

    Raises:
        VisionMemError: for a list that cannot be read, and for a folder that holds other results.
    """

    def __init__(
        self, path: Path, out: Path, plans: Sequence[HostPlan],
        open_host: Callable[[HostPlan], Host], words_of: WordsOf,
        *, resume: bool = False, overwrite: bool = False, quiet: bool = False,
    ) -> None:  # fmt: skip
        self._path, self._out, self._quiet = path, out, quiet
        self._open_host, self._words_of = open_host, words_of
        self._places = [_DevicePlace(plan) for plan in plans]
        self._cameras: tuple[CameraEntry, ...] = ()
        self._statuses: dict[str, CameraStatus] = {}
        self._restarts: dict[str, int] = {}
        self._lines: dict[str, str] = self._before(resume, overwrite)
        self._stamp: tuple[int, int] | None = None
        self._watched_at = self._written_at = 0.0
        self._said_at = time.monotonic()
        self._said: dict[str, str] = {}
        self.mistakes: tuple[str, ...] = ()
        """What is wrong with the list as it is now; the cameras of before run on."""

    # -- the list ------------------------------------------------------------------------------

    def begin(self, cameras: Sequence[CameraEntry]) -> None:
        """Begin with the cameras of a list that was read."""
        self._stamp = _stamp(self._path)
        self._take_over(cameras)

    def _watch(self, now: float) -> None:
        if now - self._watched_at < _WATCH_S:
            return
        self._watched_at = now
        stamp = _stamp(self._path)
        if stamp in (None, self._stamp):
            return
        self._stamp = stamp
        try:
            cameras, mistakes = read_cameras(self._path, self._words_of)
        except InputError as error:
            cameras, mistakes = (), (str(error),)
        self.mistakes = mistakes
        for mistake in mistakes:
            self._tell(f"error: {mistake}; the cameras of before run on", wrong=True)
        if not mistakes:
            self._take_over(cameras)

    def _take_over(self, cameras: Sequence[CameraEntry]) -> None:
        ended, begun, told = changes(self._cameras, cameras)
        self._cameras = tuple(cameras)
        for camera in ended:
            place = self._place_of(camera.name)
            if place is not None:
                del place.cameras[camera.name]
                self._ask(place, "end", camera.name)
            self._statuses.pop(camera.name, None)
            if all(camera.name != one.name for one in begun):
                self._tell(f"camera {camera.name}: ends, its files are finished")
        for camera in begun:
            place = self._choose(camera)
            place.cameras[camera.name] = camera
            self._tell(f"camera {camera.name}: begins on {place.plan.device}")
            self._ask(place, "begin", camera, self._folder_of(camera))
        for camera in told:
            place = self._place_of(camera.name)
            if place is not None:
                place.cameras[camera.name] = camera
                self._ask(place, "tell", camera)
        self._record()

    def _choose(self, camera: CameraEntry) -> _DevicePlace:
        known = [place for place in self._places if place.plan.device == camera.device]
        if camera.device is not None and not known:
            said = ", ".join(dict.fromkeys(place.plan.device for place in self._places))
            text = f"camera {camera.name}: device {camera.device} is none of --devices ({said})"
            self._tell(f"error: {text}; it runs on another", wrong=True)
        return min(known or self._places, key=lambda place: place.weight)

    def _place_of(self, name: str) -> _DevicePlace | None:
        return next((place for place in self._places if name in place.cameras), None)

    # -- folders -------------------------------------------------------------------------------

    def _before(self, resume: bool, overwrite: bool) -> dict[str, str]:
        """Folders of the fleet that is gone on with, and the mark of the line that each is of."""
        record = self._out / RECORD
        if not record.is_file():
            others = [e.name for e in self._out.iterdir()] if self._out.is_dir() else []
            if any(name != f"{RECORD}.lock" for name in others):
                raise InputError(f"--out {self._out} holds other files; give a folder of its own")
            return {}
        try:
            lines = dict(read_json(record)["lines"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{record} is damaged ({error}); give another --out") from None
        if not resume and not overwrite:
            raise InputError(
                f"{self._out} holds a fleet already; --resume goes on with it, --overwrite "
                "begins anew"
            )
        if overwrite:
            for name in lines:  # without them each run begins anew, and clears what it had
                for snapshot in (self._out / name).glob("snapshot-*"):
                    shutil.rmtree(snapshot, ignore_errors=True)
            return {}
        return lines

    def _folder_of(self, camera: CameraEntry) -> Path:
        """The folder of this line; of another line under the same name, results stay."""
        name, number, mark = camera.name, 1, _mark(camera)
        while self._lines.get(name, mark) != mark:
            number += 1
            name = f"{camera.name}-{number}"
        self._lines[name] = mark
        return self._out / name

    def _record(self) -> None:
        make_folder(self._out)
        said = {"version": __version__, "list": str(self._path), "lines": self._lines}
        write_file(self._out / RECORD, (json.dumps(said, indent=2) + "\n").encode())

    # -- hosts ---------------------------------------------------------------------------------

    def _ask(self, place: _DevicePlace, method: str, *arguments: Any) -> None:
        if place.host is None:
            return  # ``_start`` begins what the place has by then
        try:
            place.host.ask(method, *arguments)
        except HostLost as error:
            self._lose(place, error)

    def _start(self, place: _DevicePlace, now: float) -> None:
        if place.host is not None or not place.cameras or now < place.begin_at:
            return
        place.host = self._open_host(place.plan)
        for camera in list(place.cameras.values()):
            self._ask(place, "begin", camera, self._folder_of(camera))

    def _lose(self, place: _DevicePlace, error: HostLost) -> None:
        now = time.monotonic()
        host, place.host = place.host, None
        if host is not None:
            host.abandon()
        place.deaths = 0 if now - place.died_at > _STEADY_S else place.deaths + 1
        place.died_at, place.restarts = now, place.restarts + 1
        pause = _PAUSES_S[min(place.deaths, len(_PAUSES_S) - 1)]
        place.begin_at = now + pause
        for name in place.cameras:
            self._restarts[name] = self._restarts.get(name, 0) + 1
            if name in self._statuses and self._statuses[name].state not in ENDED:
                self._statuses[name].state = BROKEN
        self._tell(
            f"error: the process of {place.plan.device} is gone ({error}); its "
            f"{len(place.cameras)} cameras go on from their snapshots"
            + (f" in {pause:g} s" if pause else ""),
            wrong=True,
        )

    def _listen(self, place: _DevicePlace) -> None:
        if place.host is None:
            return
        try:
            for status in place.host.poll():
                if status.name in place.cameras:
                    self._hear(status)
        except HostLost as error:
            self._lose(place, error)

    def _hear(self, status: CameraStatus) -> None:
        self._statuses[status.name] = status
        if status.problem and self._said.get(status.name) != status.problem:
            self._tell(f"error: camera {status.name}: {status.problem}", wrong=True)
        self._said[status.name] = status.problem

    # -- the loop ------------------------------------------------------------------------------

    def run(self, stopped: Callable[[], bool]) -> bool:
        """Run until all cameras have come to their end, or it is stopped.

        Args:
            stopped: asked several times a second.

        Returns:
            Whether all of them did what they should.
        """
        try:
            while not stopped() and not self._all_ended():
                now = time.monotonic()
                self._watch(now)
                for place in self._places:
                    self._start(place, now)
                    self._listen(place)
                if now - self._written_at > _WRITE_S:
                    self._written_at = now
                    self._write_view()
                self._say(now)
                time.sleep(_LOOK_S)
        finally:
            for place in self._places:
                if place.host is not None:
                    for status in place.host.close():
                        if status.name in place.cameras:
                            self._hear(status)
                    place.host = None
            self._write_view()
        return all(status.state != FAILED for status in self._statuses.values())

    def _all_ended(self) -> bool:
        ended = {name for name, status in self._statuses.items() if status.state in ENDED}
        return not self.mistakes and ended >= {camera.name for camera in self._cameras}

    def view(self) -> dict[str, Any]:
        """All that is known, JSON-ready; from any thread."""
        cameras = []
        for camera in self._cameras:
            status = self._statuses.get(camera.name) or CameraStatus(camera.name)
            row = status.as_dict()
            row["restarts"] += self._restarts.get(camera.name, 0)
            cameras.append(row | {"command": camera.command, "budget_s": camera.delay_ms / 1e3})
        devices = [
            {
                "device": place.plan.device, "cameras": len(place.cameras),
                "pid": None if place.host is None else place.host.pid, "restarts": place.restarts,
            }
            for place in list(self._places)
        ]  # fmt: skip
        return {
            "version": __version__, "cameras": cameras, "devices": devices,
            "mistakes": list(self.mistakes),
        }  # fmt: skip

    def _write_view(self) -> None:
        with suppress(VisionMemError):
            content = json.dumps(self.view(), indent=2) + "\n"
            write_file(self._out / "status.json", content.encode())

    def _say(self, now: float) -> None:
        if self._quiet or now - self._said_at < _SAY_S:
            return
        self._said_at = now
        print(summary_line(self.view()), file=sys.stderr, flush=True)

    def _tell(self, text: str, *, wrong: bool = False) -> None:
        if wrong or not self._quiet:
            print(one_line(text), file=sys.stderr, flush=True)


def _mark(camera: CameraEntry) -> str:
    """What tells a line from others, and nothing of the passwords in it."""
    return hashlib.sha256(json.dumps(camera.line).encode()).hexdigest()[:16]


def summary_line(view: dict[str, Any]) -> str:
    """How a fleet is doing, in a line."""
    cameras = view["cameras"]
    running = [one for one in cameras if one["state"] == "running"]
    parts = [
        f"{len(running)} of {len(cameras)} cameras run",
        f"{sum(one['fps'] for one in cameras):.1f} frames/s in all",
    ]
    if delays := [one["worst_s"] for one in running if one["worst_s"] is not None]:
        parts.append(f"largest delay {max(delays):.2f} s")
    if less := sum(one["level"] not in ("all", "frames left out") for one in running):
        parts.append(f"{less} with less than their picture or objects")
    return ", ".join(parts)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells that a file was written again; None where it is not there just now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
