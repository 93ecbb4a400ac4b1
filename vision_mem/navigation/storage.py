"""One map in one file: an SQLite database that survives being killed at any moment.

Everything a step changes is written in one transaction, in write-ahead mode: after a crash the
file holds the map as of the last transaction. One process writes (a lock file beside the map
says which), others read at the same time.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.errors import DamagedFileError, InputError, NotUsable, SinkError, VisionMemError
from vision_mem.formats.sqlite import distrust, limit_steps
from vision_mem.runs.lock import FileLock
from vision_mem.text import short

FORMAT = "vision-mem-map"
VERSION = 2
_OLDEST = 1
"""Versions from here on are read as they are, and brought up to date before they are written."""
MEMORY = ":memory:"
_ID = 0x764D656D
"""SQLite's "application id" of our files: tells them from other databases."""

_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE frame(frame INTEGER PRIMARY KEY, pose BLOB NOT NULL, relative BLOB NOT NULL,
  source TEXT NOT NULL);
CREATE TABLE memory(seq INTEGER PRIMARY KEY, t REAL NOT NULL, frame INTEGER NOT NULL,
  place INTEGER NOT NULL, landmark INTEGER, leaf INTEGER,
  position BLOB, embedding BLOB, label TEXT NOT NULL, score REAL NOT NULL,
  track TEXT NOT NULL, note TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE INDEX memory_place ON memory(place, seq);
CREATE INDEX memory_landmark ON memory(landmark, seq) WHERE landmark IS NOT NULL;
CREATE INDEX memory_leaf ON memory(leaf, seq) WHERE leaf IS NOT NULL;
CREATE INDEX memory_time ON memory(t);
CREATE TABLE brick(code INTEGER PRIMARY KEY, fields BLOB NOT NULL);
CREATE TABLE look(seq INTEGER PRIMARY KEY, anchor INTEGER NOT NULL, change BLOB NOT NULL);
CREATE TABLE vector(page INTEGER PRIMARY KEY, numbers BLOB NOT NULL);
CREATE TABLE place(id INTEGER PRIMARY KEY, pose BLOB NOT NULL, descriptor BLOB, visits INTEGER
  NOT NULL, first_s REAL NOT NULL, last_s REAL NOT NULL);
CREATE TABLE way(a INTEGER, b INTEGER, traversed INTEGER NOT NULL, last_s REAL NOT NULL,
  blocked INTEGER NOT NULL, PRIMARY KEY(a, b)) WITHOUT ROWID;
CREATE TABLE landmark(id INTEGER PRIMARY KEY, fields TEXT NOT NULL, numbers BLOB NOT NULL);
CREATE TABLE view(landmark INTEGER, place INTEGER, numbers BLOB NOT NULL,
  PRIMARY KEY(landmark, place)) WITHOUT ROWID;
CREATE TABLE short(slot INTEGER PRIMARY KEY, fields TEXT NOT NULL, numbers BLOB NOT NULL);
CREATE TABLE event(seq INTEGER PRIMARY KEY, t REAL NOT NULL, kind TEXT NOT NULL,
  fields TEXT NOT NULL);
"""
_STEPS = (
    _TABLES,
    """
CREATE TABLE exit(place INTEGER, number INTEGER, heading REAL NOT NULL, leads_to INTEGER NOT NULL,
  PRIMARY KEY(place, number)) WITHOUT ROWID;
""",
)
"""What makes each version of a file of the one before."""
_MADE = {" ".join(each.split()) for step in _STEPS for each in step.split(";")}
BROKEN = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError,
    MemoryError, zlib.error, np.linalg.LinAlgError,
)  # fmt: skip
"""What Python and numpy say of values that are not those that were written."""


class MapFile:
    """An open map file.

    Args:
        path: the file; ``:memory:`` for a map that ends with the process.
        mode: ``w`` to write, making the file when there is none; ``r`` to read only.
        durable: whether a transaction also outlives a power cut, at the price of a flush each.

    Raises:
        InputError: for a mode that does not exist, or a file to read that does not.
        ModelError: for a file that is no map, damaged, or of another version.
        SinkError: for a file that cannot be written, or that another process writes.
    """

    def __init__(self, path: str | Path, mode: str = "w", *, durable: bool = False) -> None:
        self._lock: FileLock | None = None
        self._sql: sqlite3.Connection | None = None
        if mode not in ("r", "w"):
            raise InputError(f"mode is {mode!r}; expected 'w' to write or 'r' to read")
        self.path = Path(path)
        self.mode = mode
        self._log = Path(f"{self.path}-wal")
        self.in_memory = str(path) == MEMORY
        if not self.path.name:
            raise InputError(f"map {str(path)!r} has no name; expected that of a file")
        if mode == "r" and not self.path.is_file():
            raise InputError(f"no map file {self.path}; build one first")
        try:
            if mode == "w" and not self.in_memory:
                self._lock = FileLock(self.path, f"map {self.path}", "or open with mode 'r'")
            self._open(durable)
        except BaseException:
            self.close()
            raise

    def _open(self, durable: bool) -> None:
        with self.told():
            address = str(self.path)
            if self.mode == "r":
                # Without a log and without the right to make one, the file alone is the map.
                fixed = not self._log.exists() and not os.access(self.path.parent, os.W_OK)
                address = f"{self.path.resolve().as_uri()}?mode=ro" + "&immutable=1" * fixed
            # Whoever calls keeps two threads from writing at once.
            self._sql = sqlite3.connect(
                address, 5.0, isolation_level=None, check_same_thread=False, uri=self.mode == "r"
            )
            self._limit()
            sql = self._sql
            identity = sql.execute("PRAGMA application_id").fetchone()[0]
            tables = sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if identity != _ID and (tables or self.mode == "r"):
                raise DamagedFileError(f"{self.path} is a database, but no map of this program")
            distrust(sql, f"map {self.path}")
            foreign = (
                "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'"
            )
            for name, text in sql.execute(foreign):
                # A column that computes, or an index on one, would run while the map is read.
                if " ".join(str(text).split()) not in _MADE:
                    raise DamagedFileError(
                        f"map {self.path} holds {short(name)!r} as no program of ours makes it; "
                        "not opened"
                    )
            version = sql.execute("PRAGMA user_version").fetchone()[0]
            if tables and not _OLDEST <= version <= VERSION:
                raise DamagedFileError(
                    f"map {self.path} has version {version}; this program reads {_OLDEST} to "
                    f"{VERSION}: use the program that wrote it, or build the map anew"
                )
            if self.mode == "w":
                sql.execute("PRAGMA journal_mode=WAL")
                sql.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                sql.execute("PRAGMA secure_delete=FAST")
                self._bring_up_to_date(version if tables else 0)

    def _bring_up_to_date(self, version: int) -> None:
        """Make the tables that a file of an older version lacks; 0 for a new file."""
        if version == VERSION:
            return
        steps = "".join(_STEPS[each] for each in range(version, VERSION))
        script = f"BEGIN IMMEDIATE; PRAGMA application_id={_ID}; PRAGMA user_version={VERSION};"
        self.sql.executescript(f"{script} {steps} COMMIT;")

    def __del__(self) -> None:
        # A map in memory that nobody closed ends quietly; every step was committed already.
        with contextlib.suppress(Exception):
            self.close()

    @property
    def sql(self) -> sqlite3.Connection:
        """The connection.

        Raises:
            InputError: when the map was closed.
        """
        if self._sql is None:
            raise InputError(f"map {self.path} is closed; open it again")
        return self._sql

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, in one line; a question that never ends is stopped."""
        self._limit()
        try:
            yield
        except sqlite3.Error as error:
            raise _ours(self.path, error) from error
        except UnicodeDecodeError as error:  # text of a damaged file, also in SQLite's own words
            raise DamagedFileError(f"map {self.path} is damaged or no map: broken text") from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: a transaction, undone when something goes wrong in it."""
        if self.mode == "r":
            raise InputError(f"map {self.path} is open for reading only; open it with mode 'w'")
        with self.told():
            self.sql.execute("BEGIN IMMEDIATE")
            try:
                yield self.sql
                self.sql.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                    self.sql.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the map, whatever is written meanwhile."""
        with self.told():
            inside = self.sql.in_transaction
            if not inside:
                self.sql.execute("BEGIN")
            try:
                yield self.sql
            finally:
                if not inside:
                    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                        self.sql.execute("ROLLBACK")

    def version_seen(self) -> int:
        """A number that changes when another process has written."""
        with self.told():
            return int(self.sql.execute("PRAGMA data_version").fetchone()[0])

    def check(self) -> None:
        """Have SQLite look through the whole file.

        Raises:
            ModelError: when something is broken.
        """
        with self.told():
            said = self.sql.execute("PRAGMA integrity_check").fetchone()[0]
        if said != "ok":
            raise DamagedFileError(f"map {self.path} is damaged: {str(said).splitlines()[0]}")

    def file_bytes(self) -> int:
        """Bytes of the file, what is in its log folded in, as it is on closing; 0 in memory."""
        if self.in_memory:
            return 0
        with self.told():
            asked = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            return int(self.sql.execute(asked).fetchone()[0])

    def _limit(self) -> None:
        if self._sql is not None and not self.in_memory:
            limit_steps(self._sql, self.path)

    def content(self) -> bytes:
        """The whole map as the bytes of a file."""
        import tempfile

        with self.told(), tempfile.TemporaryDirectory() as folder:
            copy = sqlite3.connect(Path(folder) / "map")
            self.sql.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            copy.close()
            return (Path(folder) / "map").read_bytes()

    def replace(self, content: bytes) -> None:
        """Become the map whose ``content`` this is.

        Raises:
            ModelError: when it is no map of this program.
        """
        import tempfile

        with self.told(), tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "map").write_bytes(content)
            MapFile(Path(folder) / "map", "r").close()
            copy = sqlite3.connect(Path(folder) / "map")
            version = int(copy.execute("PRAGMA user_version").fetchone()[0])
            copy.backup(self.sql)
            copy.close()
            self._bring_up_to_date(version)

    def clear(self) -> None:
        """Drop all rows of all tables."""
        with self.writing() as sql:
            names = sql.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
            for (name,) in names:
                sql.execute(f"DELETE FROM {name}")

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        if self._sql is not None:
            with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                if self.mode == "w":
                    self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    # Without a log, those who read later need no files of their own beside it,
                    # which they may not remove. While others read, it stays as it is.
                    self._sql.execute("PRAGMA busy_timeout=0")
                    self._sql.execute("PRAGMA journal_mode=DELETE")
            self._sql.close()
            self._sql = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def discard_map(path: Path) -> None:
    """Take a map's files away; nothing where there is none.

    Raises:
        ModelError: for a file that is no map.
        SinkError: for a map that somebody writes.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    with contextlib.closing(MapFile(path)) as old:
        old.clear()
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


def get_meta(sql: sqlite3.Connection) -> dict[str, str]:
    """What the map says of itself."""
    return {str(key): str(value) for key, value in sql.execute("SELECT key, value FROM meta")}


def put_meta(sql: sqlite3.Connection, values: dict[str, Any]) -> None:
    """Say something of the map."""
    rows = [(key, str(value)) for key, value in values.items()]
    sql.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", rows)


_REMEDIES = {
    "readonly": "is read-only; check permissions, or open with mode 'r'",
    "read-only": "is read-only; check permissions, or open with mode 'r'",
    "locked": "is locked by another program; close it there",
    "busy": "is locked by another program; close it there",
    "full": "could not be written: no space left; free some",
    "unable to open": "cannot be opened; check folder and permissions",
}


def _ours(path: Path, error: sqlite3.Error) -> VisionMemError:
    said = " ".join(str(error).split())
    for words, remedy in _REMEDIES.items():
        if isinstance(error, sqlite3.OperationalError) and words in said:
            wrong_place = words in ("readonly", "read-only", "unable to open")
            return (NotUsable if wrong_place else SinkError)(f"map {path} {remedy}")
    if said == "interrupted":
        return DamagedFileError(f"map {path} is damaged: it takes more steps than its size can")
    if isinstance(error, sqlite3.ProgrammingError):
        return InputError(f"map {path}: {said}")
    return DamagedFileError(f"map {path} is damaged or no map: {short(said, 200)}")


def whole(meta: Mapping[str, str], key: str, usual: int = 0) -> int:
    """A whole number from 0 that the map says of itself.

    Raises:
        DamagedFileError: for anything else.
    """
    text = meta.get(key, str(usual))
    if not re.fullmatch("[0-9]{1,18}", text):
        raise DamagedFileError(f"the map is damaged: {key} is {short(text)!r}, no whole number")
    return int(text)


def inflate(packed: bytes, most: int) -> bytes:
    """Unpack what zlib packed, up to so many bytes.

    Raises:
        ValueError: for more; ``zlib.error`` for bytes that are damaged.
    """
    tool = zlib.decompressobj()
    raw = tool.decompress(packed, most)
    if not tool.eof:
        raise ValueError("it is larger than it can be")
    return raw
