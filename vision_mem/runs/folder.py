"""The folder of one run: what may be written there, the record beside the results, snapshots.

A snapshot is a folder ``snapshot-<frames done>`` that appears under its name only when it is
whole, so that a run killed at any moment leaves one that can be continued from.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError, SinkError
from vision_mem.formats.text import write_file
from vision_mem.sources.selection import file_name, is_url

RECORD = "run.json"
SESSION = "session.safetensors"
_PROGRESS = "progress.json"
_SNAPSHOT = re.compile(r"snapshot-(\d+)")


def default_folder(source: str) -> Path:
    """``runs/<name>`` for a source as given on the command line, known before it is opened."""
    if source.isdecimal():
        return Path("runs") / f"camera-{source}"
    path = Path(source)
    # Benchmarks call their image folders all the same: the folder above has the name.
    generic = {"img", "img1", "images", "frames", "color", "imgs"}
    if not is_url(source) and path.name.lower() in generic and path.resolve().parent.name:
        path = path.resolve().parent
    return Path("runs") / file_name(source if is_url(source) else path.stem)[:80]


class RunFolder:
    """Looks at the folder of a run; ``begin`` makes it.

    Args:
        path: the folder.
        overwrite: replace the results of an earlier run. Only files that its record names are
            deleted; others stay.
        resume: continue the run whose snapshot lies there.

    Raises:
        InputError: when results are there already and nothing was said about them, or when there
            is nothing to continue.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, resume: bool = False) -> None:
        if overwrite and resume:
            raise InputError("--overwrite and --resume exclude each other: give one of them")
        self.path = path
        self._record: dict[str, Any] = {}
        if path.exists() and not path.is_dir():
            raise InputError(f"--out {path} is a file; expected a folder")
        if resume:
            if self.snapshot is None:
                raise InputError(f"{path} holds no snapshot to continue from; leave out --resume")
            self._record = self._read_record()
        elif path.is_dir() and any(path.iterdir()) and not overwrite:
            earlier = self._read_record()
            # A run that failed before its first result (a slip in a box) is no obstacle.
            overwrite = earlier.get("status") == "failed" and not earlier.get("frames")
        if path.is_dir() and any(path.iterdir()) and not overwrite and not resume:
            raise InputError(
                f"{path} holds results already; give --overwrite to replace them, --resume to "
                "continue that run, or another --out"
            )
        self._replace = overwrite and path.is_dir()

    def begin(self) -> None:
        """Make the folder, and clear away what is to be replaced: only now, when all else is well.

        Raises:
            SinkError: when it cannot be written to.
        """
        try:
            if self._replace:
                self._clear()
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise SinkError(
                f"{self.path} cannot be written to ({error.strerror}); give another --out"
            ) from error

    @property
    def snapshot(self) -> Path | None:
        """The newest whole snapshot."""
        found = [(int(match[1]), entry) for entry, match in self._snapshots()]
        return max(found)[1] if found else None

    def frames_done(self) -> int:
        """Frames the newest snapshot has behind it; 0 without one."""
        return max((int(match[1]) for _, match in self._snapshots()), default=0)

    def progress(self) -> dict[str, Any]:
        """What ``take_snapshot`` was told with the newest snapshot."""
        place = self.snapshot
        if place is None:
            return {}
        try:
            content = json.loads((place / _PROGRESS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{place} is damaged ({error}); run again with --overwrite") from error
        return dict(content)

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
            names.append(entry.name + ("/" if entry.is_dir() else ""))
        return names

    def _snapshots(self) -> Iterable[tuple[Path, re.Match[str]]]:
        if not self.path.is_dir():
            return []
        matches = ((entry, _SNAPSHOT.fullmatch(entry.name)) for entry in self.path.iterdir())
        return [(entry, match) for entry, match in matches if match]

    @staticmethod
    def _is_snapshot(entry: Path) -> bool:
        return entry.is_dir() and _SNAPSHOT.fullmatch(entry.stem) is not None

    def _read_record(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.path / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def _clear(self) -> None:
        named = self._read_record().get("files", [])
        for name in [*named, RECORD]:
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
