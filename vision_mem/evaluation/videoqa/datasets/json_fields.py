"""JSON that others wrote: what is missing or odd becomes one line that names file and place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from vision_mem.errors import InputError
from vision_mem.formats.text import short

_SHOWN = 60  # characters of a wrong value in a message


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text.

    Args:
        text: all of it.
        where: the file, for messages.

    Raises:
        InputError: when it is none, is nested too deeply, or holds NaN or infinity.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise InputError(f"{where} is nested too deeply; that is no file of a benchmark") from None
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}; is it whole?") from None


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def parse_rows(text: str, where: str) -> Iterator[tuple[Any, str]]:
    """Values of a JSON list, or of one JSON value a line, each with its place for messages.

    Raises:
        InputError: as ``parse_json``.
    """
    lines = text.splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("[") or first == "{":  # a list, or one object over several lines
        whole = parse_json(text, where)
        if not isinstance(whole, list):
            raise InputError(f"{where} is one object; expected a list of entries, or one a line")
        for number, value in enumerate(whole, 1):
            yield value, f"{where}, entry {number}"
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{where}, line {number}"
            yield parse_json(line, place), place


class Fields:
    """A JSON object whose fields are asked for with what they should be.

    Args:
        value: of the file.
        where: file and place, for messages.

    Raises:
        InputError: when it is no object.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{where} is {_shown(value)}; expected an object")
        self.values: dict[str, Any] = value
        self.where = where

    def has(self, name: str) -> bool:
        """Whether there is such a field."""
        return name in self.values

    def text(self, name: str) -> str:
        """A string that is not empty, or a whole number as one.

        Raises:
            InputError: when it is none, as for all that follow.
        """
        value = self._known(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            self._wrong(name, value, "text")
        return str(value)

    def whole(self, name: str) -> int:
        """A whole number, or the digits of one as text."""
        value = self._known(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong(name, value, "a whole number")
        return int(value)

    def seconds(self, name: str) -> float:
        """A time: seconds, or ``HH:MM:SS``; 0 or more."""
        value = self._known(name)
        found = seconds_of(value)
        if found is None:
            self._wrong(name, value, "seconds, or HH:MM:SS")
        return found

    def texts(self, name: str) -> list[str]:
        """A list of strings or numbers, as strings."""
        value = self._known(name)
        if not isinstance(value, list) or not all(
            isinstance(each, (str, int, float)) and not isinstance(each, bool) for each in value
        ):
            self._wrong(name, value, "a list of texts")
        return [str(each) for each in value]

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        value = self._known(name)
        if not isinstance(value, list):
            self._wrong(name, value, "a list")
        return [
            Fields(each, f"{self.where}, {name} {number}") for number, each in enumerate(value, 1)
        ]

    def response(self, name: str) -> tuple[str | None, bool]:
        """What a model answered: text or None, and whether it was wrapped in a list.

        Of a list the first element is taken (None of an empty one); a number becomes text.
        """
        value = self._known(name)
        listed = isinstance(value, list)
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            self._wrong(name, value, "text, a list with a text, or null")
        return value, listed

    def _known(self, name: str) -> Any:
        if name not in self.values:
            raise InputError(f"{self.where} has no {name!r}; is it a file of this benchmark?")
        return self.values[name]

    def _wrong(self, name: str, value: Any, expected: str) -> NoReturn:
        raise InputError(f"{self.where}: {name} is {_shown(value)}; expected {expected}")


def seconds_of(value: Any) -> float | None:
    """Seconds of a number or of ``HH:MM:SS`` (also ``MM:SS``); None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, str):
            parts = [float(part) for part in value.strip().split(":")]
            if not 1 <= len(parts) <= 3 or min(parts) < 0:
                return None
            found = sum(part * 60.0**power for power, part in enumerate(reversed(parts)))
        elif isinstance(value, (int, float)):
            found = float(value)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and found >= 0 else None


def _shown(value: Any) -> str:
    return short(json.dumps(value, default=str), _SHOWN)


def safe_path(name: str, where: str) -> str:
    """A path below the set's folder, with forward slashes.

    Raises:
        InputError: when it leads out of it.
    """
    clean = name.replace("\\", "/")
    parts = clean.split("/")
    if clean.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in clean:
        raise InputError(f"{where}: video {_shown(name)} leads out of the set's folder")
    return "/".join(part for part in parts if part not in ("", "."))
