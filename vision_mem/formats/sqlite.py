"""Databases that come from strangers: maps and memory files are passed from hand to hand."""

from __future__ import annotations

import sqlite3
import time

from vision_mem.errors import DamagedFileError
from vision_mem.text import short

_STEPS, _MOST = 10_000_000, 100
"""Steps of SQLite's machine between two looks, and looks that one statement may take."""
_PAUSE_S = 1.0
"""Looks further apart belong to different statements: one that is repeated is not counted up."""
_CODE = (
    # Only views and virtual tables have no page of their own.
    "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger') "
    "OR (type = 'table' AND coalesce(rootpage, 0) = 0)",
    "SELECT m.name FROM sqlite_master AS m JOIN pragma_table_xinfo(m.name) AS x "
    "WHERE m.type = 'table' AND x.hidden > 0",
)


def distrust(database: sqlite3.Connection, where: str) -> None:
    """Make a connection to a file from strangers harmless: no code in it, no endless statements.

    From here on, a statement that takes more than a thousand million steps is interrupted
    (``sqlite3.OperationalError``); reading millions of rows takes far fewer.

    Raises:
        DamagedFileError: when the file holds views, triggers, virtual tables or columns that are
            computed; ours never do.
    """
    looks, latest = 0, 0.0

    def is_enough() -> bool:
        nonlocal looks, latest
        now = time.monotonic()
        looks, latest = (looks + 1 if now - latest < _PAUSE_S else 1), now
        return looks > _MOST

    database.set_progress_handler(is_enough, _STEPS)
    database.execute("PRAGMA trusted_schema=OFF")
    for asked in _CODE:
        if (found := database.execute(asked).fetchone()) is not None:
            raise DamagedFileError(
                f"{where} holds {short(str(found[0]))!r}, which no program of ours makes; not "
                "opened"
            )
