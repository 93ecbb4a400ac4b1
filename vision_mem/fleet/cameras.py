"""The list of a fleet's cameras: one YAML file, and every mistake in it with its line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_mem.config import nearest
from vision_mem.errors import InputError, SourceError
from vision_mem.sources.selection import check_exists, is_url
from vision_mem.text import parse_yaml, read_text, short, shown

MOST_CAMERAS = 256
KINDS = ("track", "mots")
"""Commands that a camera can run."""
_LARGEST_LIST = 4_000_000  # bytes
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")

WordsOf = Callable[[str, str, Any], list[str]]
"""Command, option and value to words of its line; raises InputError for what it does not take."""


@dataclass(frozen=True)
class CameraEntry:
    """One stream of a fleet.

    Attributes:
        name: of its folder.
        source: file, folder, camera number, address or ``module:function``.
        command: ``track`` or ``mots``.
        words: options of the command.
        paced: a file is played at its own speed, and late frames are left out, as of a camera.
        weight: its share of a device, against those of the others.
        delay_ms: from a frame's arrival to its results on disk, at most.
        memory_mb: that its session may hold.
        min_fps: frames a second below which pictures are made smaller, and objects fewer.
        device: where it runs; None for the one with the fewest.
    """

    name: str
    source: str
    command: str = "track"
    words: tuple[str, ...] = ()
    paced: bool = False
    weight: float = 1.0
    delay_ms: float = 1000.0
    memory_mb: float = 256.0
    min_fps: float = 1.0
    device: str | None = None

    @property
    def line(self) -> tuple[str, ...]:
        """What makes its results what they are; another line is another run."""
        return (self.command, self.source, *(["paced"] if self.paced else []), *self.words)


_NUMBERS = {
    "weight": "a number above 0",
    "delay_ms": "milliseconds above 0",
    "memory_mb": "megabytes above 0",
    "min_fps": "frames a second above 0",
}
FIELDS = ("source", "command", "paced", *_NUMBERS, "device")
"""Fields of a camera that are no options of its command."""


@dataclass(frozen=True)
class _Field:
    """A value, where it stands, and whether it is one of ``defaults``."""

    value: Any
    line: int
    shared: bool = False


def read_cameras(path: Path, words_of: WordsOf) -> tuple[tuple[CameraEntry, ...], tuple[str, ...]]:
    """Read a list of cameras.

    Args:
        path: of the YAML file: ``cameras``, each under its name, and ``defaults`` for all.
        words_of: checks the options of commands.

    Returns:
        The cameras, and a line for each mistake: where there are some, nothing is to be begun.

    Raises:
        InputError: for a file that cannot be read or is no YAML; one line.
    """
    text = read_text(path, _LARGEST_LIST)
    try:
        found = parse_yaml(text, str(path))
    except InputError as error:
        raise InputError(f"{error}{_where_twice(text, str(error))}") from None
    reader = _Reader(path, text, words_of)
    return reader.cameras(found), tuple(dict.fromkeys(reader.mistakes))


def _where_twice(text: str, said: str) -> str:
    """The line on which a key stands for the second time."""
    key = re.search(r"'(.*)' is given twice", said)
    if key is None:
        return ""
    begins = re.compile(rf"\s*['\"]?{re.escape(key[1])}['\"]?\s*:")
    lines = [number for number, line in enumerate(text.split("\n"), 1) if begins.match(line)]
    return f" (line {lines[1]})" if len(lines) == 2 else ""


class _Reader:
    def __init__(self, path: Path, text: str, words_of: WordsOf) -> None:
        import yaml

        self._path, self._words_of = path, words_of
        self.mistakes: list[str] = []
        self._lines: dict[tuple[str, ...], int] = {}
        if (root := yaml.compose(text, yaml.SafeLoader)) is not None:
            self._number(root, ())

    def _number(self, node: Any, place: tuple[str, ...]) -> None:
        self._lines[place] = node.start_mark.line + 1
        if node.id == "mapping" and len(place) < 3:
            for key, value in node.value:
                below = (*place, str(key.value))
                self._number(value, below)
                self._lines[below] = key.start_mark.line + 1

    def _wrong(self, line: int, camera: str, field: str, said: str) -> None:
        where = "".join([f", camera {camera}" if camera else "", f", {field}" if field else ""])
        self.mistakes.append(f"{self._path} line {line}{where}: {said}")

    def cameras(self, found: Any) -> tuple[CameraEntry, ...]:
        if not isinstance(found, dict):
            self._wrong(1, "", "", "expected cameras:, and each under its name")
            return ()
        for key in found:
            if key not in ("cameras", "defaults"):
                near = nearest(str(key), ["cameras", "defaults"])
                said = f"no such part{near or '; expected cameras or defaults'}"
                self._wrong(self._lines.get((str(key),), 1), "", short(str(key)), said)
        shared = self._fields(found.get("defaults"), ("defaults",), shared=True)
        listed = found.get("cameras")
        if not isinstance(listed, dict):
            line = self._lines.get(("cameras",), 1)
            self._wrong(line, "", "cameras", "expected cameras, each under its name")
            return ()
        if len(listed) > MOST_CAMERAS:
            said = f"{len(listed)} are more than {MOST_CAMERAS}; give the rest to another fleet"
            self._wrong(self._lines[("cameras",)], "", "cameras", said)
            return ()
        made = [self._camera(str(name), fields, shared) for name, fields in listed.items()]
        return tuple(camera for camera in made if camera is not None)

    def _fields(
        self, values: Any, place: tuple[str, ...], *, shared: bool = False
    ) -> dict[str, _Field]:
        line = self._lines.get(place, 1)
        if values is None and shared:
            return {}
        if not isinstance(values, dict):
            camera = "" if shared else place[-1]
            self._wrong(line, camera, "defaults" if shared else "", "expected fields, as source:")
            return {}
        made = {}
        for key, value in values.items():
            at = self._lines.get((*place, str(key)), line)
            made[str(key).replace("-", "_")] = _Field(value, at, shared)
        return made

    def _camera(self, name: str, values: Any, shared: Mapping[str, _Field]) -> CameraEntry | None:
        line = self._lines.get(("cameras", name), 1)
        before = len(self.mistakes)
        if not _NAME.fullmatch(name):
            said = "expected a name of letters, digits, - and _, as front-door"
            self._wrong(line, short(name), "", said)
        own = self._fields(values, ("cameras", name))
        if not own:
            return None
        fields = {**shared, **own}
        if "source" not in fields:
            self._wrong(line, name, "source", "is missing; expected a file, an address or a number")
            return None
        command = fields.get("command", _Field("track", line))
        if command.value not in KINDS:
            near = nearest(str(command.value), KINDS)
            said = f"is {shown(command.value)}{near or '; expected track or mots'}"
            self._wrong(command.line, name, "command", said)
            return None
        made: dict[str, Any] = {"command": command.value}
        words: list[str] = []
        for key, field in fields.items():
            where = "" if field.shared else name  # a mistake in defaults is one, not one a camera
            try:
                if key in FIELDS:
                    made[key] = self._own(key, field.value)
                else:
                    words += self._words_of(str(command.value), key, field.value)
            except InputError as error:
                said = str(error).removeprefix(f"{key} ").removeprefix(f"--{key} ")
                self._wrong(field.line, where, short(key), said)
        if len(self.mistakes) > before:
            return None
        return CameraEntry(name, words=tuple(words), **made)

    def _own(self, key: str, value: Any) -> Any:
        if key in _NUMBERS:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not (0 < value < math.inf):
                raise InputError(f"is {shown(value)}; expected {_NUMBERS[key]}")
            return float(value)
        if key == "paced":
            if not isinstance(value, bool):
                raise InputError(f"is {shown(value)}; expected true or false")
            return value
        if isinstance(value, int) and not isinstance(value, bool) and key == "source":
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"is {shown(value)}; expected a text")
        return self._source(value.strip()) if key == "source" else value.strip()

    def _source(self, source: str) -> str:
        """A file beside the list is meant, where there is one."""
        if source.isdecimal() or is_url(source) or re.fullmatch(r"[\w.]+:\w+", source):
            return source
        beside = self._path.parent / source
        if not Path(source).is_absolute() and beside.exists():
            return str(beside.absolute())
        try:
            check_exists(source)
        except SourceError as error:
            raise InputError(str(error)) from None
        return str(Path(source).expanduser().absolute())


def changes(
    before: Sequence[CameraEntry], now: Sequence[CameraEntry]
) -> tuple[list[CameraEntry], list[CameraEntry], list[CameraEntry]]:
    """What a new list means for those that run: to end, to begin, to be told new budgets."""
    old, new = ({one.name: one for one in some} for some in (before, now))
    ended = [one for name, one in old.items() if name not in new or _restarts(one, new[name])]
    begun = [one for name, one in new.items() if name not in old or _restarts(old[name], one)]
    told = [
        one for name, one in new.items()
        if name in old and one != old[name] and not _restarts(old[name], one)
    ]  # fmt: skip
    return ended, begun, told


def _restarts(before: CameraEntry, now: CameraEntry) -> bool:
    return before.line != now.line or before.device != now.device
