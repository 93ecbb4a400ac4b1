"""The folder of one run: what may be written there, the record beside the results, snapshots.

A snapshot is a folder ``snapshot-<frames done>`` that appears under its name only when it is
whole, so that a run killed at any moment leaves one that can be continued from.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import shutil
import sys
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError, NotUsable, SinkError
from vision_mem.formats.text import FULL, write_file
from vision_mem.sources.selection import file_name, is_url, without_password
from vision_mem.text import read_json

RECORD = "run.json"
SESSION = "session.safetensors"
_PROGRESS = "progress.json"
_BESIDE = ("-wal", "-shm", ".lock")
"""Ends of names of what lies beside a database as long as it is open."""
_SNAPSHOT = re.compile(r"snapshot-(\d+)")


def default_folder(source: str, command: str = "") -> Path:
    """``runs/<command>/<name>`` for a source as typed, known before it is opened."""
    if source.isdecimal():
        return Path("runs", command, f"camera-{source}")
    path = Path(source)
    # Benchmarks call their image folders all the same: the folder above has the name.
    generic = {"img", "img1", "images", "frames", "color", "imgs"}
    if not is_url(source) and path.name.lower() in generic and path.resolve().parent.name:
        path = path.resolve().parent
    return Path("runs", command, file_name(source if is_url(source) else path.stem)[:80])


def choose_folder(
    command: str,
    source: str,
    out: Path | None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    options: Collection[str] = (),
    adds: bool = False,
) -> RunFolder:
    """The folder that is asked for, or ``runs/<command>/<name>``, numbered when that is taken.

    Without ``out``, ``resume`` and ``overwrite`` take the latest run of the command on this
    source, also one that an earlier version left in ``runs/<name>``.

    Args:
        command: as ``track``.
        source: as typed.
        out: the folder that is asked for.
        overwrite: as ``RunFolder``.
        resume: as ``RunFolder``.
        options: names of the command's recorded options, by which its older runs are known.
        adds: as ``RunFolder``.

    Raises:
        InputError: as ``RunFolder``, and when no run is there to continue.
    """
    if out is not None or (overwrite and resume):
        place = out or default_folder(source, command)
        folder = RunFolder(place, overwrite=overwrite, resume=resume, adds=adds)
        if resume:
            folder.check_command(command, options)
            folder.check_source(source)
        return folder
    base = default_folder(source, command)
    if resume or overwrite:
        for place in _runs_of(command, source, base, options):
            with suppress(InputError):
                return RunFolder(place, overwrite=overwrite, resume=resume, adds=adds)
    if resume:
        raise InputError(
            f"no snapshot of a run of {command} on {source} in {base.parent} to continue from; "
            "leave out --resume, or name its folder with --out"
        )
    return _first_free(base, lambda folder: folder.reserve())


def number_folder(base: Path) -> Path:
    """The folder, or with ``-2``, ``-3`` ... the first one that may be written to."""
    return _first_free(base, lambda folder: True).path


def _first_free(base: Path, fits: Callable[[RunFolder], bool]) -> RunFolder:
    numbered = (base.with_name(f"{base.name}-{n}") for n in range(2, 10_000))
    for place in itertools.chain([base], numbered):
        with suppress(InputError):
            folder = RunFolder(place)
            if fits(folder):
                return folder
    raise InputError(f"there are too many runs in {base.parent}; give a folder with --out")


def without_secret(source: str) -> str:
    """A source as typed, for records: addresses without their password."""
    return without_password(source) if is_url(source) else source


def _runs_of(command: str, source: str, base: Path, options: Collection[str]) -> list[Path]:
    """Folders of runs of a command on a source, the latest first."""
    numbered = re.compile(re.escape(base.name) + r"(-\d+)?")
    places = [default_folder(source)]
    with suppress(OSError):
        places += [place for place in base.parent.iterdir() if numbered.fullmatch(place.name)]
    found = []
    for place in places:
        record = _read_record(place)
        if _is_of(record, command, options) and _same(
            str(record.get("source")), without_secret(source)
        ):
            found.append(((place / RECORD).stat().st_mtime_ns, place))
    return [place for _, place in sorted(found, reverse=True)]


def _is_of(record: Mapping[str, Any], command: str, options: Collection[str]) -> bool:
    # Before 0.2 the record did not say the command; its options tell.
    said = record.get("command") or (set(record.get("options") or "?") <= set(options))
    return said in (True, command)


def _same(one: str, other: str) -> bool:
    return one == other or (not is_url(other) and Path(one).resolve() == Path(other).resolve())


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_json(folder / RECORD, nan=True))
    except (ValueError, TypeError):
        return {}


def _remove_empty(places: Iterable[Path]) -> None:
    for place in places:
        with suppress(OSError):
            place.rmdir()


def tell_notes() -> None:
    """A run begins: what the command line held back until then, so that slips come first, is said.

    Programs that keep log lines of their own in buffers get them written out.
    """
    for handler in logging.getLogger().handlers:
        handler.flush()


class RunFolder:
    """Looks at the folder of a run; ``begin`` makes it.

    Args:
        path: the folder.
        overwrite: replace the results of an earlier run. Only files that its record names are
            deleted; others stay.
        resume: continue the run whose snapshot lies there.
        adds: results are added to those that are there; needs no snapshot to continue.

    Raises:
        InputError: when results are there already and nothing was said about them, or when there
            is nothing to continue.
    """

    def __init__(
        self, path: Path, *, overwrite: bool = False, resume: bool = False, adds: bool = False
    ) -> None:
        if overwrite and resume:
            raise InputError("--overwrite and --resume exclude each other: give one of them")
        self.path = path
        self.remark: str | None = None
        """What ``begin`` says on standard error: only a run that begins has anything to say."""
        self._record: dict[str, Any] = {}
        self._anew = False
        self._lock: int | None = None
        self._unused: weakref.finalize[..., Any] | None = None
        self._before: int | None = None
        if path.exists() and not path.is_dir():
            raise InputError(f"--out {path} is a file; expected a folder")
        if adds and not overwrite:
            self._record = _read_record(path)
            if resume and not self._record:
                raise InputError(f"{path} holds no run to continue; leave out --resume")
        elif resume:
            self._record = _read_record(path)
            # Cut off before its first frame was done: what it was is known, and nothing is lost.
            begun = self._record.get("status", "running") == "running" and "options" in self._record
            self._anew = begun and self.snapshot is None and bool(self._record["snapshot_every"])
            if self.snapshot is None and not self._anew:
                raise InputError(f"{path} holds no snapshot to continue from; leave out --resume")
        elif path.is_dir() and any(path.iterdir()) and not overwrite:
            earlier = _read_record(path)
            # A run that failed before its first result (a slip in a box) is no obstacle.
            overwrite = earlier.get("status") == "failed" and not earlier.get("frames")
        if path.is_dir() and any(path.iterdir()) and not (overwrite or resume or adds):
            raise InputError(
                f"{path} holds results already; give --overwrite to replace them, --resume to "
                "continue that run, or another --out"
            )
        self._replace = (overwrite or self._anew) and path.is_dir()
        if self._anew:
            self.remark = f"note: {path} was cut off before its first frame; it begins anew"

    def check_command(self, command: str, options: Collection[str]) -> None:
        """Refuse to go on with the run of another command.

        Args:
            command: as ``track``.
            options: as ``choose_folder``.

        Raises:
            InputError: when the run to continue was one of another.
        """
        if not _is_of(self._record, command, options):
            other = self.recorded("command")
            whose = f"one of {other}, not of {command}" if other else f"none of {command}"
            raise InputError(f"the run in {self.path} is {whose}; give another --out")

    def check_source(self, source: str) -> None:
        """Refuse to go on with another input; a file that was moved keeps its name.

        Raises:
            InputError: when the run to continue was of another source.
        """
        before, now = self.recorded("source"), without_secret(source)
        if before is None or _same(str(before), now):
            return
        if is_url(now) or is_url(str(before)) or Path(str(before)).name != Path(now).name:
            raise InputError(
                f"the run in {self.path} is one of {before}, not of {source}; continue it with its "
                "own source, or give another --out"
            )

    def check_info(self, info: Mapping[str, Any]) -> None:
        """Refuse a file that was replaced by another one of its name.

        Args:
            info: of the source as it is now, by field.

        Raises:
            InputError: when its size or rate is not what it was.
        """
        before = self.recorded("source_info") or {}
        for name in () if info["live"] else ("width", "height", "fps"):
            if name in before and abs(float(before[name]) - float(info[name])) > 1e-6:
                raise InputError(
                    f"the source has {name} {info[name]:g}, and had {before[name]:g} in the run to "
                    f"continue in {self.path}: it is another file; begin anew with --overwrite"
                )

    def reserve(self) -> bool:
        """Keep out runs that start in the same moment; a folder that stays unused goes again.

        Returns:
            Whether this run may have it.
        """
        made = [place for place in (self.path, *self.path.parents) if not place.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._unused = weakref.finalize(self, _remove_empty, made)
            return self._take() and (self._replace or not any(self.path.iterdir()))
        except OSError:
            return True  # ``begin`` says what is wrong

    def begin(self) -> None:
        """Make the folder, and clear away what is to be replaced: only now, when all else is well.

        Raises:
                NotUsable: when it cannot be written to.
            SinkError: when another run writes to it, or nothing is free there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            taken = self._take()
            if self._unused is not None:
                self._unused.detach()
            if taken and self._before is not None:
                kept, self._before = dict(self._snapshots()), None
                for entry, _ in self._snapshots():
                    if entry not in kept:
                        shutil.rmtree(entry, ignore_errors=True)
            if self._replace and taken:
                self._clear()
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise (SinkError if error.errno in FULL else NotUsable)(
                f"{self.path} cannot be written to ({error.strerror}); give another --out"
            ) from error
        if not taken:
            raise SinkError(
                f"another run is writing to {self.path}; wait for it, or give another --out"
            )
        if self.remark is not None:
            print(self.remark, file=sys.stderr)
            self.remark = None
        tell_notes()

    def _take(self) -> bool:
        """Keep other runs out until this object or its process is gone; False when one is there."""
        try:
            import fcntl
        except ImportError:  # Windows
            return True
        if self._lock is None:
            self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # some network disks know no locks
            pass
        return True

    def __del__(self) -> None:
        if getattr(self, "_lock", None) is not None:
            os.close(self._lock)  # type: ignore[arg-type]

    def resumes(self, wanted: bool) -> bool:
        """Whether the run goes on from a snapshot; one cut off before its first begins anew.

        Args:
            wanted: whether ``--resume`` is given.
        """
        return wanted and not self._anew

    @property
    def snapshot(self) -> Path | None:
        """The newest whole snapshot."""
        found = [(int(match[1]), entry) for entry, match in self._snapshots()]
        return max(found)[1] if found else None

    def go_back(self, frame: int) -> bool:
        """Go on from before a frame; ``begin`` forgets later snapshots.

        Returns:
            False when no snapshot is that old, and everything begins anew.
        """
        self._before = frame
        self._replace = self._replace or self.snapshot is None
        return self.snapshot is not None

    def _has_seen(self, place: Path, frame: int) -> bool:
        try:
            told = json.loads((place / _PROGRESS).read_text(encoding="utf-8"))
            return int(told["last_index"]) >= frame
        except (OSError, ValueError, KeyError, TypeError):
            return True

    def frames_done(self) -> int:
        """Frames the newest snapshot has behind it; 0 without one."""
        return max((int(match[1]) for _, match in self._snapshots()), default=0)

    def progress(self) -> dict[str, Any]:
        """What ``take_snapshot`` was told with the newest snapshot."""
        place = self.snapshot
        if place is None:
            return {}
        try:
            return dict(read_json(place / _PROGRESS, nan=True))
        except (ValueError, TypeError) as error:
            raise InputError(f"{place} is damaged ({error}); run again with --overwrite") from error

    def take_snapshot(
        self, frames_done: int, save: Callable[[Path], object], progress: Mapping[str, Any]
    ) -> Path:
        """Write a snapshot, then forget the older ones.

        Args:
            frames_done: frames behind it.
            save: writes the session's state under the path it is given.
            progress: JSON-ready values to be handed back by ``progress``.

        Returns:
            Its folder.
        """
        place = self.path / f"snapshot-{frames_done:08d}"
        partial = place.with_suffix(".partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            save(partial / SESSION)
            (partial / _PROGRESS).write_text(json.dumps(dict(progress)), encoding="utf-8")
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
        except OSError as error:
            raise SinkError(f"no snapshot could be written to {place}: {error}") from error
        for entry, _ in self._snapshots():
            if entry != place:
                shutil.rmtree(entry, ignore_errors=True)
        return place

    def record(self, **values: Any) -> None:
        """Add to the run's record and write it, whole or not at all."""
        self._record |= values
        write_file(self.path / RECORD, (json.dumps(self._record, indent=2) + "\n").encode())

    def recorded(self, key: str) -> Any:
        """A value of the record, None when it is not there."""
        return self._record.get(key)

    def files(self) -> list[str]:
        """Names of everything in the folder that is a result, folders with a slash."""
        names = []
        for entry in sorted(self.path.iterdir()):
            if entry.name == RECORD or entry.suffix == ".partial" or self._is_snapshot(entry):
                continue
            if entry.name.endswith(_BESIDE):
                continue
            names.append(entry.name + ("/" if entry.is_dir() else ""))
        return names

    def _snapshots(self) -> Iterable[tuple[Path, re.Match[str]]]:
        if not self.path.is_dir():
            return []
        matches = ((entry, _SNAPSHOT.fullmatch(entry.name)) for entry in self.path.iterdir())
        found = [(entry, match) for entry, match in matches if match]
        if self._before is None:
            return found
        return [pair for pair in found if not self._has_seen(pair[0], self._before)]

    @staticmethod
    def _is_snapshot(entry: Path) -> bool:
        return entry.is_dir() and _SNAPSHOT.fullmatch(entry.stem) is not None

    def _clear(self) -> None:
        named = _read_record(self.path).get("files", [])
        for name in [*named, *([] if self._anew else [RECORD])]:
            entry = self.path / str(name)
            if entry.resolve().parent != self.path.resolve():
                continue  # a record that points elsewhere was not written by us
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        for entry in list(self.path.iterdir()):
            if self._is_snapshot(entry):
                shutil.rmtree(entry, ignore_errors=True)
