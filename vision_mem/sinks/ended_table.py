"""A CSV that gets a line when something has ended, and grows right after an interrupted run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision_mem.formats.text import LineFile


class EndedTable:
    """CSV whose last column says how a row ended: ``<mark><frame>``, or another word.

    Args:
        path: the file.
        columns: its head.
        mark: what stands before the frame on which something ended.
        append: go on after an interrupted run: rows that ended on frames that come again are
            dropped, and those that had not ended when it stopped.
        after: the last frame that does not come again.

    Raises:
        SinkError: when it cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Sequence[str],
        mark: str,
        *,
        append: bool = False,
        after: int = -1,
    ) -> None:
        self._file = LineFile(Path(path), append=append)

        def stays(number: int, line: str) -> bool:
            # A row that has not ended has no number there, and does not stay either.
            return number == 0 or int(next(csv.reader([line]))[-1].removeprefix(mark)) <= after

        if not self._file.keep(stays):
            self.write([columns])

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows.

        Raises:
            SinkError: when they cannot be written.
        """
        if rows:
            self._file.write(*(_line(row) for row in rows))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue().replace("\n", " ").replace("\r", " ")
