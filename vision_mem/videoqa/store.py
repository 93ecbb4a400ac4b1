"""The memory of a stream on disk: grows, shrinks and survives with the stream, grid by grid.

One SQLite file (write-ahead log): a row a grid with its times, its tokens as safetensors and a
small picture, and one row with the rest of the state. ``save`` writes what changed since the last
time, all of it or nothing, so that a program killed at any moment leaves the state of the latest
``save``. The log beside the file is folded into it again and again, so that a copy of the file
alone is never far behind; every grid has a check sum.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vision_mem.errors import InputError, ModelError, NotUsable, SinkError
from vision_mem.formats.snapshot import pack_state, unpack_state
from vision_mem.formats.sqlite import distrust, limit_steps
from vision_mem.formats.text import make_folder
from vision_mem.runs.lock import FileLock
from vision_mem.text import parse_json, short

FORMAT, VERSION = "vision-mem-memory", "1"
_WAIT_S = 5.0
_FOLD_EVERY = 32
"""Saves after which the log is folded into the file."""
_REST = -1
"""Number under which the check sum of the rest of the state is kept."""
_SUMS = "CREATE TABLE IF NOT EXISTS sums (number INTEGER PRIMARY KEY, crc INTEGER NOT NULL)"
_EMPTY_FILE = 8192
"""Bytes of a file whose tables are still in its log."""
_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE grids (
    number INTEGER PRIMARY KEY, start_s REAL NOT NULL, end_s REAL NOT NULL, tier TEXT NOT NULL,
    tokens INTEGER NOT NULL, content BLOB NOT NULL, picture BLOB
);
CREATE TABLE rest (one INTEGER PRIMARY KEY CHECK (one = 1), content BLOB NOT NULL);
"""
_DAMAGE = (sqlite3.DatabaseError, ValueError, KeyError, TypeError, RecursionError, OverflowError)
_PUT = """
INSERT OR REPLACE INTO grids VALUES (
    ?, ?, ?, ?, ?, ?, coalesce((SELECT picture FROM grids WHERE number = ?), ?)
)
"""


class MemoryFile:
    """A memory on disk. One program writes, from its first ``save`` on; others may read meanwhile.

    Args:
        path: the file; made with its folder when it is not there and ``about`` is given.
        about: what the memory belongs to (model, settings), for a new file.

    Raises:
        InputError: when it is not there and ``about`` is not given.
        ModelError: when it is damaged, of another version, or something else.
        SinkError: when it cannot be made or written.
    """

    def __init__(self, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._saved: dict[int, Mapping[str, Any]] = {}
        self._lock: FileLock | None = None
        self._saves = 0
        self._joined: list[Callable[[sqlite3.Connection], None]] = []
        new = not self.path.exists() or self.path.stat().st_size == 0
        if new and about is None:
            found = f"{self.path} is empty" if self.path.exists() else f"no memory file {self.path}"
            raise InputError(f"{found}; make one with --memory {self.path}")
        if self.path.is_dir():
            raise InputError(f"{self.path} is a folder; expected a memory file")
        if new:
            make_folder(self.path.parent)
            self._own()
        with self._errors():
            # An answer may be made in another thread than the one that watches.
            self._database = sqlite3.connect(
                self._address(), uri=True, timeout=_WAIT_S, isolation_level=None,
                check_same_thread=False,
            )  # fmt: skip
            limit_steps(self._database, self.path)
            distrust(self._database, f"memory file {self.path}")
            self._database.execute("PRAGMA secure_delete=ON")
            if new:
                self._make(about or {})
            self.about = self._read_about()
        self._identity = _identity(self.path)

    def _address(self) -> str:
        """How SQLite opens the file: without a log and the right to make one, the file is all."""
        log = self.path.with_name(f"{self.path.name}-wal")
        self._had_log = log.exists()
        writable = os.access(self.path.parent, os.W_OK)
        writable = writable and (not self.path.exists() or os.access(self.path, os.W_OK))
        fixed = "?mode=ro" if self._had_log else "?mode=ro&immutable=1"
        return f"{self.path.resolve().as_uri()}{'' if writable else fixed}"

    def _own(self) -> None:
        if self._lock is None:
            what = f"memory file {self.path}"
            self._lock = FileLock(self.path, what, "or choose another --memory")

    def _make(self, about: Mapping[str, Any]) -> None:
        self._database.execute("PRAGMA journal_mode=WAL")
        rows = [("format", FORMAT), ("version", VERSION), ("about", json.dumps(dict(about)))]
        with self._transaction():
            for statement in _TABLES.split(";"):
                self._database.execute(statement)
            self._database.execute(_SUMS)
            self._database.executemany("INSERT INTO about VALUES (?, ?)", rows)
        self._fold()

    def _fold(self) -> None:
        # Readers may hold a part of the log back; the next time takes it.
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _read_about(self) -> dict[str, Any]:
        asked = "SELECT name, value FROM about WHERE name IN ('format', 'version', 'about')"
        rows = dict(self._database.execute(asked))
        if rows.get("format") != FORMAT:
            raise ModelError(f"{self.path} is a database, but not one of a memory")
        if rows.get("version") != VERSION:
            version = short(str(rows.get("version", "none")))
            raise ModelError(f"{self.path} has version {version}; this program reads {VERSION}")
        about = parse_json(rows["about"], "about", nan=True)
        if not isinstance(about, dict):
            raise ValueError("about")
        return about

    def note(self, **values: Any) -> None:
        """Add to what the memory belongs to.

        Raises:
            SinkError: when it cannot be written.
        """
        self._own()
        self.about = {**self.about, **values}
        with self._errors(), self._transaction():
            asked = "UPDATE about SET value = ? WHERE name = 'about'"
            self._database.execute(asked, (json.dumps(self.about),))

    def save(self, state: Mapping[str, Any], pictures: Mapping[int, bytes] | None = None) -> None:
        """Write what changed since the last call.

        Args:
            state: of a video memory session. Its tensors must not be changed in place.
            pictures: JPEG of new grids by number; those of grids that are gone go with them.

        Raises:
            SinkError: when it cannot be written; the file is as after the last call.
        """
        self._own()
        if _identity(self.path) != self._identity:
            raise SinkError(
                f"memory file {self.path} was moved, removed or replaced while it was written; put "
                "it back, or begin again with another --memory"
            )
        memory = dict(state["memory"])
        grids = {int(entry["index"]): entry for entry in memory.pop("entries")}
        changed = [
            (number, entry)
            for number, entry in grids.items()
            if not _same_value(entry, self._saved.get(number))
        ]
        gone = [(number,) for number in self._saved if number not in grids]
        rows = [
            (
                number, entry["start_s"], entry["end_s"], entry["tier"], len(entry["features"]),
                pack_state(entry), number, (pictures or {}).get(number),
            )
            for number, entry in changed
        ]  # fmt: skip
        rest = pack_state({**state, "memory": memory})
        sums = [(row[0], zlib.crc32(row[5])) for row in rows] + [(_REST, zlib.crc32(rest))]
        with self._errors(), self._transaction():
            self._database.execute(_SUMS)  # files of older versions have none
            for table in ("grids", "sums"):
                self._database.executemany(f"DELETE FROM {table} WHERE number = ?", gone)
            self._database.executemany(_PUT, rows)
            self._database.execute("INSERT OR REPLACE INTO rest VALUES (1, ?)", (rest,))
            self._database.executemany("INSERT OR REPLACE INTO sums VALUES (?, ?)", sums)
            for write in self._joined:
                write(self._database)
        self._saved = grids
        self._saves += 1
        if self._saves % _FOLD_EVERY == 0:
            with self._errors():
                self._fold()

    def load(self) -> dict[str, Any] | None:
        """The state of the latest ``save``; None when there was none.

        Raises:
            ModelError: when it is damaged.
        """
        with self._errors(), self._transaction("DEFERRED"):
            found = self._database.execute("SELECT content FROM rest").fetchone()
            grids = self._database.execute(
                "SELECT number, content FROM grids ORDER BY number"
            ).fetchall()
            summed = self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'sums'")
            sums = dict(
                self._database.execute("SELECT number, crc FROM sums") if summed.fetchone() else ()
            )
        if found is None:
            return None
        where = f"memory file {self.path}"
        for number, content in [(_REST, found[0]), *grids]:
            if not isinstance(content, bytes) or not isinstance(number, int):
                raise ModelError(f"{where} is damaged: it holds no state")
            if number in sums and sums[number] != zlib.crc32(content):
                raise ModelError(
                    f"{where} is damaged ("
                    + ("its state" if number == _REST else f"grid {number}")
                    + " does not fit its check sum); take an older copy, or begin a new one"
                )
        state = unpack_state(found[0], where)
        entries = [unpack_state(content, where) for _, content in grids]
        try:
            state["memory"]["entries"] = entries
            self._saved = {int(entry["index"]): entry for entry in entries}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{where} is damaged: it holds no state") from error
        return state

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take a state that was just loaded from here as saved, with its own tensors."""
        self._saved = {int(entry["index"]): entry for entry in state["memory"]["entries"]}

    def picture(self, number: int) -> bytes | None:
        """The picture of a grid as JPEG."""
        asked = "SELECT picture FROM grids WHERE number = ?"
        with self._errors():
            found = self._database.execute(asked, (number,)).fetchone()
        return found[0] if found is not None and isinstance(found[0], bytes) else None

    def forget(self, database: sqlite3.Connection, spans: Sequence[tuple[float, float]]) -> int:
        """Delete all grids that touch spans of time, and frames that wait there for a partner.

        Args:
            database: within ``writing``; ``scrub`` has to follow. Before ``load``.
            spans: first and last second, both inclusive.

        Returns:
            How many grids went.
        """
        gone = 0
        for start_s, end_s in spans:
            touches = "start_s <= ? AND end_s >= ?"
            database.execute(_SUMS)
            database.execute(
                f"DELETE FROM sums WHERE number IN (SELECT number FROM grids WHERE {touches})",
                (end_s, start_s),
            )
            found = database.execute(f"DELETE FROM grids WHERE {touches}", (end_s, start_s))
            gone += found.rowcount
        row = database.execute("SELECT content FROM rest").fetchone()
        if row is not None:
            state = unpack_state(row[0], f"memory file {self.path}")
            state["pending"] = [
                each
                for each in state["pending"]
                if not any(start_s <= each["time_s"] <= end_s for start_s, end_s in spans)
            ]
            counts = state["memory"].get("counts", {})
            if "forgotten" in counts:
                counts["forgotten"] += gone
            rest = pack_state(state)
            database.execute("INSERT OR REPLACE INTO rest VALUES (1, ?)", (rest,))
            database.execute("INSERT OR REPLACE INTO sums VALUES (?, ?)", (_REST, zlib.crc32(rest)))
        return gone

    def scrub(self) -> None:
        """Write the file anew and empty its log: of what was deleted no byte stays in them.

        Raises:
            SinkError: when another program has the file open; nothing is lost, try again.
        """
        self._own()
        with self._errors():
            self._database.execute("VACUUM")
            busy = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise SinkError(
                f"memory file {self.path}: another program reads it, so what was forgotten still "
                "lies in its log; close that program, and forget again"
            )

    def join(self, write: Callable[[sqlite3.Connection], None]) -> None:
        """Let other tables be written with each ``save``, in the same transaction."""
        self._joined.append(write)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The database, to read other tables; what is wrong with their rows is told as damage."""
        with self._errors():
            yield self._database

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The database in a transaction of its own, to write other tables.

        Raises:
            SinkError: when it cannot be written.
        """
        self._own()
        with self._errors(), self._transaction():
            yield self._database

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._database.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._database.execute(f"BEGIN {kind}")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        if hasattr(self, "_database"):
            limit_steps(self._database, self.path)
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "locked" in text:
                reason = "another program writes to it; wait for it, or choose another file"
            elif "readonly" in text or "unable to open" in text:
                reason = (
                    f"it cannot be written ({text}); check the permissions of it and its folder"
                )
            elif "full" in text:
                reason = "no space left; free some, what was saved before is kept"
            elif "no such table" in text and self._log_is_missing():
                raise ModelError(
                    f"memory file {self.path} is empty: it was copied or moved while it was "
                    f"written, without {self.path.name}-wal beside it; copy both, or after the end"
                ) from error
            elif "no such" in text:
                raise ModelError(f"{self.path} is a database, but not one of a memory") from error
            elif "interrupted" in text:
                raise ModelError(
                    f"memory file {self.path} takes too long to read; not opened"
                ) from error
            else:
                reason = text
            wrong_place = "readonly" in text or "unable to open" in text
            kind = NotUsable if wrong_place else SinkError
            raise kind(f"memory file {self.path}: {reason}") from error
        except _DAMAGE as error:
            said = str(error) if isinstance(error, sqlite3.Error) else "its record cannot be read"
            raise ModelError(
                f"memory file {self.path} is damaged or something else ({short(said, 80)}); take a "
                "copy of it away and begin a new one"
            ) from error

    def _log_is_missing(self) -> bool:
        """Whether the file is one whose content was still in the log beside it."""
        if self._had_log or self.path.stat().st_size > _EMPTY_FILE:
            return False
        return self.path.read_bytes()[18:20] == b"\2\2"  # SQLite's mark of files with a log


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _same_value(value: Any, saved: Any) -> bool:
    """Whether a value is as it was saved; tensors by identity, for they are never changed."""
    if isinstance(value, torch.Tensor) or isinstance(saved, torch.Tensor):
        return value is saved
    if isinstance(value, Mapping) and isinstance(saved, Mapping):
        same = value.keys() == saved.keys()
        return same and all(_same_value(each, saved[name]) for name, each in value.items())
    return bool(value == saved)
