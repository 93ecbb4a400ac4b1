"""Databases that come from strangers: maps and memory files are passed from hand to hand."""

from __future__ import annotations

import sqlite3

from vision_mem.errors import DamagedFileError


def distrust(database: sqlite3.Connection, where: str) -> None:
    """Make a connection to a file from strangers harmless: no code in it, no endless questions.

    Raises:
        DamagedFileError: when the file holds views or triggers; ours never do.
    """
    database.execute("PRAGMA trusted_schema=OFF")
    asked = "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger')"
    if (found := database.execute(asked).fetchone()) is not None:
        raise DamagedFileError(
            f"{where} holds {found[0]!r}, which no program of ours makes; not opened"
        )
