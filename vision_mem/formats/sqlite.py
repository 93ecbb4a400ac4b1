"""Databases that come from strangers: maps and memory files are passed from hand to hand."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from vision_mem.errors import DamagedFileError, InputError, SinkError
from vision_mem.text import short

_STEP, _PER_BYTE, _LEAST = 10_000, 40, 20_000_000
"""Steps of SQLite's machine between two looks, and those that a question may take: so many a byte
of the file, or at least. Pages of a file from strangers may lead in circles."""
_MAGIC = b"SQLite format 3\0"
_CODE = (
    # Only views and virtual tables have no page of their own.
    "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger') "
    "OR (type = 'table' AND coalesce(rootpage, 0) = 0)",
    "SELECT m.name FROM sqlite_master AS m JOIN pragma_table_xinfo(m.name) AS x "
    "WHERE m.type = 'table' AND x.hidden > 0",
)


def check_database(path: Path, what: str) -> None:
    """Refuse what cannot be a database, from its first bytes; what is not there yet, or empty, can.

    Args:
        path: of the file.
        what: it is to be, with its path, for messages.

    Raises:
        InputError: for a folder, a device, or a file of anything else.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise InputError(f"{what} is {'a folder' if path.is_dir() else 'no file'}; expected a file")
    try:
        with path.open("rb") as file:
            begin = file.read(len(_MAGIC))
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror}") from error
    if begin and begin != _MAGIC:
        raise DamagedFileError(f"{what} is damaged, or a file of another kind; give another name")


def limit_steps(database: sqlite3.Connection, path: Path) -> None:
    """Interrupt what asks without end (``sqlite3.OperationalError``); to be called anew each time.

    Args:
        database: the connection.
        path: of its file; its log, ``<path>-wal``, counts too.
    """
    size = 0
    for part in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):  # its writer may close it just now
            size += part.stat().st_size
    most, looks = max(_LEAST, _PER_BYTE * size), itertools.count(0, _STEP)
    database.set_progress_handler(lambda: next(looks) > most, _STEP)


def distrust(database: sqlite3.Connection, where: str) -> None:
    """Make a connection to a file from strangers harmless: no code runs while it is read.

    Args:
        database: the connection; ``limit_steps`` was called for it.
        where: the file in messages.

    Raises:
        DamagedFileError: when the file holds views, triggers, virtual tables or columns that are
            computed; ours never do.
    """
    database.execute("PRAGMA trusted_schema=OFF")
    for asked in _CODE:
        if (found := database.execute(asked).fetchone()) is not None:
            raise DamagedFileError(
                f"{where} holds {short(str(found[0]))!r}, which no program of ours makes; not "
                "opened"
            )


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is now, what is still in its log too; its writer may go on.

    Raises:
        SinkError: when it cannot be read or written.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
    except sqlite3.Error as error:
        raise SinkError(f"{source} cannot be copied to {target}: {error}") from error


def put_back(copy: Path, place: Path) -> None:
    """Make a database what it was when ``copy`` was made of it.

    Raises:
        SinkError: when it cannot be written.
    """
    try:
        remove_database(place)
        shutil.copyfile(copy, place)
    except OSError as error:
        raise SinkError(f"{place} cannot be put back from {copy}: {error}") from error


def remove_database(place: Path) -> None:
    """Remove a database that nobody has open, with what its writer may have left beside it."""
    for name in (place.name, f"{place.name}-wal", f"{place.name}-shm"):
        place.with_name(name).unlink(missing_ok=True)
