"""Rows of numbers from the text files of benchmarks and trackers.

Copies of the same benchmark differ: commas, tabs, spaces or semicolons; LF or CRLF; a byte order
mark; ``NaN``, blanks or nothing where the object is absent. All of it is read here, once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.runs.tally import count
from vision_mem.text import shown

_EMPTY_FIELD = re.compile(r"(?:^|[,;])[ \t]*[,;]", re.MULTILINE)
_SEPARATORS = str.maketrans(",;\t", "   ")
_MISSING = frozenset({"nan", "+nan", "-nan", "none", "null", "na", "n/a", "-1.#ind", "1.#qnan"})


def read_rows(text: str, where: str | Path, widths: Sequence[int] = ()) -> NDArray[np.float64]:
    """Rows of numbers, one a line.

    Numbers are separated by commas, semicolons, tabs or spaces, mixed if need be. ``NaN``,
    ``none``, ``null``, ``N/A`` and empty fields become NaN; so do blank lines between others and
    lines with a single such word. Blank lines at the end are dropped.

    Args:
        text: what the file holds.
        where: the file, for messages.
        widths: how many numbers a line may have; empty: any number, but all lines alike.

    Returns:
        ``(T, n)`` float64, n the longest line; shorter lines that ``widths`` allows are filled with
        NaN. ``(0, 0)`` for a file without numbers.

    Raises:
        InputError: a line that is none of this, with file, line number and what was expected.
    """
    # CR CR LF is what a second conversion of line ends makes of CR LF.
    text = text.removeprefix("\ufeff").rstrip().replace("\r\r\n", "\n")
    if not text:
        return np.empty((0, 0))
    rows = _fast_rows(text)
    if rows is not None and (not widths or rows.shape[1] in widths):
        return rows
    return _careful_rows(text, where, widths)


def _fast_rows(text: str) -> NDArray[np.float64] | None:
    """Numpy's own reader; None where it cannot, or must not, be trusted."""
    lines = text.translate(_SEPARATORS).splitlines()
    try:
        rows = np.loadtxt(lines, dtype=np.float64, comments=None, ndmin=2)
    except ValueError:
        return None
    # It passes over blank lines; and it takes infinity for a number.
    if len(rows) != len(lines) or np.isinf(rows).any():
        return None
    # "1,,2" is two numbers to it: three fields, one of them empty.
    if _EMPTY_FIELD.search(text):
        return None
    return rows


def _careful_rows(text: str, where: str | Path, widths: Sequence[int]) -> NDArray[np.float64]:
    """Line by line, slower, with a message for the first line that cannot be read."""
    rows: list[list[float] | None] = []
    width = 0
    for number, line in enumerate(text.splitlines(), start=1):
        row = _row(line, f"{where}, line {number}", widths)
        rows.append(row)
        if row is None:
            continue
        if not widths and width and len(row) != width:
            raise InputError(
                f"{where}, line {number}: {count(len(row), 'number')}; expected {width} as in "
                "other lines"
            )
        width = max(width, len(row))
    table = np.full((len(rows), width or max(widths, default=1)), np.nan)
    for index, row in enumerate(rows):
        if row is not None:
            table[index, : len(row)] = row
    return table


def _row(line: str, where: str, widths: Sequence[int]) -> list[float] | None:
    """The numbers of a line; None where the whole line says that there is nothing."""
    fields = _fields(line)
    values = [_number(field, where, line, widths) for field in fields]
    if len(values) < 2 and all(map(math.isnan, values)) and 1 not in widths:
        return None
    if widths and len(values) not in widths:
        if all(map(math.isnan, values)):
            return None
        raise InputError(
            f"{where}: {count(len(values), 'number')} in {shown(line)}; expected {_wanted(widths)}"
        )
    return values


def _fields(line: str) -> list[str]:
    line = line.replace(";", ",").strip()
    if "," not in line:
        return line.split()
    # Commas part fields; within them spaces and tabs do ("1,2 3"), or stand for nothing (", ").
    fields = [part for piece in line.split(",") for part in (piece.split() or [""])]
    if fields[-1] == "" and any(fields):
        fields.pop()  # a comma at the end of the line
    return fields


def _number(field: str, where: str, line: str, widths: Sequence[int]) -> float:
    if not field or field.lower() in _MISSING:
        return math.nan
    try:
        # float() also takes "1_000" and digits of other scripts, which no tool writes.
        value = float(field) if field.isascii() and "_" not in field else math.inf
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise InputError(f"{where}: {shown(line)} is not {_wanted(widths)}") from None
    return value


def _wanted(widths: Sequence[int]) -> str:
    if not widths:
        return "a row of numbers"
    shown = [str(width) for width in widths if width > 1][:3]
    more = ", ..." if len(widths) > len(shown) + (1 in widths) else ""
    return f"a row of {' or '.join(shown) or '1'}{more} numbers"
