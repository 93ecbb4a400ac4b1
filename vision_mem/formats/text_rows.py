"""Lines of text and of JSON from files that may be damaged or hostile: one clear line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError

_LARGEST = 2_000_000_000  # bytes


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        InputError: when it cannot be read, is no text, or is larger than 2 GB.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is larger than {_LARGEST // 10**9} GB; expected a text file")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text file (not UTF-8); expected lines of text") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and lines that are not empty."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.strip()
        if line:
            yield number, line


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line numbers from 1 and JSON values: one a line, or the items of one list.

    Raises:
        InputError: for a damaged line.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        try:
            items: Iterable[Any] = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(f"{path} is no JSON; expected one list, or an object a line") from None
        yield from enumerate(items, 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(
                f"{path} line {number}: damaged JSON ({short(line.strip())}); expected one "
                "object a line"
            ) from None


def short(text: str, limit: int = 40) -> str:
    """Text on one line, cut where it is long, for messages."""
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
