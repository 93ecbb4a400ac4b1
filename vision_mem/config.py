"""Settings: a preset's name or a YAML file, plus ``key=value`` changes, to a frozen dataclass.

Defaults live in the dataclass alone. A preset holds only what makes it itself; anything it does
not know is an error that names the nearest key, so that a slip of the pen never passes silently.
Values are what they say: nothing is looked up in the environment or elsewhere.

A field whose metadata has ``kinds`` holds an object of one of several classes. Its setting
``name`` chooses the class, from a table or as ``module:Class`` (``load_object``); the others are
that class's own. A schema with a static method ``upgrade`` brings settings of earlier versions
into today's shape.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import itertools
import logging
import math
import operator
import re
import sys
import traceback
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from vision_mem.errors import InputError
from vision_mem.text import parse_yaml, read_text, shown, trimmed

log = logging.getLogger(__name__)

Schema = TypeVar("Schema")


def preset_names(folder: str) -> list[str]:
    """Names of the presets that ship in a folder of ``vision_mem.configs``, sorted."""
    place = files("vision_mem.configs").joinpath(folder)
    if not place.is_dir():
        return []
    return sorted(f.name[: -len(".yaml")] for f in place.iterdir() if f.name.endswith(".yaml"))


def read_preset(preset: str | Path, folder: str) -> dict[str, Any]:
    """Read what a preset says, and nothing else.

    Args:
        preset: a name as ``samurai`` or ``tracking/samurai``, or the path of a YAML file.
        folder: where names are looked up.

    Returns:
        Nested dicts of plain values; a new copy each time.

    Raises:
        InputError: when there is no such preset, or it is not a YAML mapping.
    """
    name = str(preset)
    if name.endswith((".yaml", ".yml")):
        path = Path(preset).expanduser()
        if not path.exists():
            near = near_file(path, (".yaml", ".yml"))
            meant = f"did you mean {near!r}?" if near else "expected a YAML file"
            raise InputError(f"no preset file {path}; {meant}")
        content = _parse(read_text(path, most=100_000), f"preset {path}")
        if not content:
            log.warning("preset %s is empty; all settings are the usual ones", path)
        return content
    named = name.removeprefix(f"{folder}/")
    known = preset_names(folder)
    if named not in known:
        raise InputError(
            f"no preset named {shown(name)}; there are {', '.join(known)}, or give the path of a "
            f".yaml file{nearest(named, known)}"
        )
    text = files("vision_mem.configs").joinpath(folder, f"{named}.yaml").read_text("utf-8")
    return _parse(text, f"preset {named}")


def load_config(
    schema: type[Schema],
    preset: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    folder: str,
) -> Schema:
    """Build a frozen settings object from a preset and changes to it.

    Args:
        schema: a dataclass; nested dataclasses become nested mappings in YAML.
        preset: a name or a path, see ``read_preset``; None for the defaults alone.
        overrides: ``["motion.weight=0.2", ...]`` or ``{"motion.weight": 0.2, ...}``; they win
            over the preset, and later ones over earlier ones.
        folder: where preset names are looked up.

    Returns:
        An instance of ``schema``.

    Raises:
        InputError: for an unknown preset or key, or a value of the wrong type.
    """
    items = overrides.items() if isinstance(overrides, Mapping) else map(_split, overrides)
    changes = [(f"setting {key}", _upgraded(schema, _nest(key, value))) for key, value in items]
    choices = list(_choices(schema))
    # A class comes before its settings, in whatever order they were given.
    changes.sort(key=lambda change: not any(_named(change[1], path) for path, _, _ in choices))
    place = None
    if preset is not None:
        changes.insert(0, (f"preset {preset}", _upgraded(schema, read_preset(preset, folder))))
        place = Path(preset).expanduser().resolve().parent

    default = schema()
    values = _values(default)
    kinds = {base: type(functools.reduce(getattr, path, default)) for path, base, _ in choices}
    said: dict[str, str] = {}
    for where, change in changes:
        for path, base, find in choices:
            if name := _named(change, path):
                kinds[base] = find(name, place)
                _switch(values, path, kinds[base])
        _merge(values, change, schema, _Place(schema, kinds, where, said))
    try:
        return _build(schema, values, kinds)
    except ValueError as error:
        # What was set last is named, where the words begin with a setting that was.
        text = trimmed(str(error), 400)
        key = text.partition(" ")[0].rstrip(":")
        where = said.get(key, "settings")
        raise InputError(
            f"setting {text}" if where == f"setting {key}" else f"{where}: {text}"
        ) from error


def nearest(word: str, known: Sequence[str]) -> str:
    """Say ``; did you mean 'x'?`` when something known is spelled much like ``word``."""
    spelled = {name.lower(): name for name in reversed(known)}
    # Names may be long: who says sam3 knows how they begin.
    begun = {re.split(r"[-.:_/ ]", name.lower())[0]: name for name in reversed(known)}
    for table, cutoff in ((spelled, 0.6), (begun, 0.7)):
        if close := difflib.get_close_matches(word.lower(), table, n=1, cutoff=cutoff):
            return f"; did you mean {table[close[0]]!r}?"
    return ""


def near_file(path: str | Path, suffixes: Collection[str] = (), cutoff: float = 0.6) -> str:
    """What stands in the folder of a path and is called much like it; empty for nothing.

    Args:
        path: to something that is not there.
        suffixes: that its name may have, as ``.yaml``; any when empty.
        cutoff: how much alike names must be, 1 for the same.

    Returns:
        Its path.
    """
    with suppress(OSError, ValueError, RuntimeError):  # no such folder, or no name at all
        typed = Path(path).expanduser()
        there = [Path(each.name) for each in itertools.islice(typed.parent.iterdir(), _MOST_NAMES)]
        known = {  # all videos end alike, which says nothing
            (each.stem if typed.suffix else each.name).lower(): each.name
            for each in sorted(there, key=lambda each: each.suffix == typed.suffix)
            if each.name != typed.name and (not suffixes or each.suffix.lower() in suffixes)
        }
        word = (typed.stem if typed.suffix else typed.name).lower()
        if close := difflib.get_close_matches(word, known, n=1, cutoff=cutoff):
            return str(typed.with_name(known[close[0]]))
        for name in known.values():
            if _changes(name, typed.name) == 1:
                return str(typed.with_name(name))
    return ""


def _changes(one: str, other: str) -> int:
    """Letters that differ, are missing or are too many, about."""
    same = difflib.SequenceMatcher(None, one, other).get_matching_blocks()
    return max(len(one), len(other)) - sum(block.size for block in same)


_MOST_NAMES = 2_000
"""Of a folder that are looked at for a hint."""


def is_object_name(word: str) -> bool:
    """Whether a word has the shape of ``module:Name``: identifiers with dots, no spaces."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", word) is not None


def load_object(word: str, what: str, place: Path | None = None) -> Any:
    """Import what ``module:Name`` names: a class or function of the user's own.

    The module is one that is installed, or a file ``module.py`` in ``place`` or in the current
    folder. Importing runs it, so names must come from the user and never from a file of results.

    Args:
        word: the name; see ``is_object_name``.
        what: what it is to be, for messages: ``memory policy``.
        place: folder to look in first.

    Raises:
        InputError: when there is no such module or name, or the module cannot be imported.
    """
    module, _, name = word.partition(":")
    folders = [each for each in (place, Path.cwd()) if each is not None]
    for folder in map(str, folders):
        if folder not in sys.path:
            sys.path.append(folder)  # last: a file of the user's must not hide a library
    importlib.invalidate_caches()
    try:
        imported = importlib.import_module(module)
    except Exception as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            files_there = {path.stem for folder in folders for path in folder.glob("*.py")}
            raise InputError(
                f"{what} {word!r}: there is no module {module!r} in {folders[0]} or among the "
                f"installed ones{nearest(module, sorted(files_there))}"
            ) from error
        raise InputError(
            f"{what} {word!r}: module {module} cannot be imported ({problem})"
        ) from error
    if not hasattr(imported, name):
        known = [each for each in vars(imported) if not each.startswith("_")]
        raise InputError(
            f"{what} {word!r}: module {imported.__file__ or module} has no {name!r}"
            f"{nearest(name, known)}"
        )
    if not module.startswith("vision_mem."):
        _own[imported.__file__ or module] = f"{what} {word}"
    return getattr(imported, name)


_own: dict[str, str] = {}  # files of the user's own objects, for ``blamed``


def blamed(error: BaseException, text: str) -> str:
    """The text of an unexpected error, with what of the user's own it comes from or came with."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in _own:
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            return f"{_own[frame.filename]} failed ({place}): {text}"
    return f"{text} (with {' and '.join(_own.values())})" if _own else text


def check_range(settings: Any, names: Sequence[str], low: float, high: float | None = None) -> None:
    """Refuse settings that are out of range.

    Args:
        settings: holds them; a value of None is not looked at.
        names: of the attributes.
        low: smallest number allowed.
        high: largest; None for any.

    Raises:
        InputError: for the first that is out of range.
    """
    expected = f"{low} or more" if high is None else f"a number from {low} to {high}"
    for name in names:
        value = getattr(settings, name)
        if value is not None and not low <= value <= (float("inf") if high is None else high):
            raise InputError(f"{name} is {value}; expected {expected}")


def check_choice(settings: Any, name: str, known: Sequence[str]) -> None:
    """Refuse a setting that is none of the words ``known``; raises as ``check_range``."""
    if (value := getattr(settings, name)) not in known:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(known)}")


def _parse(text: str, where: str) -> dict[str, Any]:
    content = parse_yaml(text, where)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{where} holds no settings; expected lines as 'key: value'")
    return {str(key): value for key, value in content.items()}


def _split(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        lacks = "no key before" if equals else "no"
        raise InputError(f"setting {shown(override)} has {lacks} '='; expected key=value")
    return key.strip(), parse_yaml(value, f"setting {shown(override)}: the value")


def _nest(key: str, value: Any) -> dict[str, Any]:
    nested = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return typing.cast("dict[str, Any]", nested)


def _fields(schema: type, kinds: Mapping[Any, type]) -> dict[str, Any]:
    """Settings by name with their types; of a field with ``kinds`` it is the class chosen."""
    hints = typing.get_type_hints(schema)
    found = {f.name: hints[f.name] for f in dataclasses.fields(schema) if f.init}
    return {name: kinds.get(hint, hint) for name, hint in found.items()}


def _choices(
    schema: type, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Fields that hold one of several classes: path, class in common, and what finds a class."""
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        kind, here = hints[field.name], (*path, field.name)
        if "kinds" in field.metadata:
            yield here, kind, field.metadata["kinds"]
        elif dataclasses.is_dataclass(kind):
            yield from _choices(typing.cast(type, kind), here)


def _named(change: Any, path: Sequence[str]) -> str:
    """The class that a change names for a field; empty when it names none."""
    for key in (*path, "name"):
        change = change.get(key) if isinstance(change, Mapping) else None
    return "" if change is None else str(change)


def _values(settings: Any) -> dict[str, Any]:
    """Settings as nested dicts, those of nested dataclasses too."""
    held = {name: getattr(settings, name) for name in _fields(type(settings), {})}
    return {
        name: _values(value) if dataclasses.is_dataclass(value) else value
        for name, value in held.items()
    }


def _switch(values: dict[str, Any], path: Sequence[str], kind: type) -> None:
    """Make a field's settings those of another class; settings that both classes have stay."""
    *outer, key = path
    parent = functools.reduce(operator.getitem, outer, values)
    own = _fields(kind, {})
    try:
        made = kind(**{name: value for name, value in parent[key].items() if name in own})
    except TypeError as error:
        problem = f"{kind.__name__} has settings without a default: {error}"
        raise InputError(problem) from error
    parent[key] = _values(made)


def _upgraded(schema: type, change: Mapping[str, Any]) -> dict[str, Any]:
    """A change in the shape of today, whatever version it was written for."""
    upgrade = getattr(schema, "upgrade", dict)
    made: dict[str, Any] = upgrade(change)
    for name, kind in _fields(schema, {}).items():
        if dataclasses.is_dataclass(kind) and isinstance(made.get(name), Mapping):
            made[name] = _upgraded(typing.cast(type, kind), made[name])
    return made


def _all_keys(schema: type, kinds: Mapping[Any, type], prefix: str = "") -> Iterator[str]:
    for name, kind in _fields(schema, kinds).items():
        yield prefix + name
        if dataclasses.is_dataclass(kind):
            yield from _all_keys(typing.cast(type, kind), kinds, f"{prefix}{name}.")


class _Place(typing.NamedTuple):
    """Where a change belongs: settings as a whole, classes chosen, its name, who set what last."""

    root: type
    kinds: Mapping[Any, type]
    where: str
    said: dict[str, str]


def _merge(
    values: dict[str, Any], change: Any, schema: type, place: _Place, prefix: str = ""
) -> None:
    """Write a change into values; refuse what there is no setting for, or no such value."""
    known = _fields(schema, place.kinds)
    for key, value in change.items():
        full = f"{prefix}{key}"
        if key == "name" and schema in place.kinds.values():
            continue
        if key not in known:
            everything = list(_all_keys(place.root, place.kinds))
            hint = _same_end(full, everything) or nearest(full, everything)
            if not hint:
                hint = f"; known here: {', '.join(sorted(known))}"
            raise InputError(f"{place.where}: there is no setting {shown(full)}{hint}")
        where = place.where if place.where.endswith(full) else f"{place.where}: {full}"
        place.said[full] = place.where
        kind: Any = known[key]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise InputError(f"{where} is {shown(value)}; expected settings, as {full}.key")
            _merge(values[key], value, typing.cast(type, kind), place, f"{full}.")
        elif typing.get_origin(kind) is dict and isinstance(value, Mapping):
            values[key] = {**values[key], **_converted(value, kind, where)}
        else:
            values[key] = _converted(value, kind, where)


_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_EXPECTED = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a word", tuple: "a list",
    dict: "keys with values",
}  # fmt: skip


def _converted(value: Any, kind: Any, where: str) -> Any:
    """A value as the kind that a setting has.

    Raises:
        InputError: when it is of another kind.
    """
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (kind, *_) = [each for each in inner if each is not type(None)]
        return _converted(value, kind, where)
    try:
        plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        if origin is bool:
            return bool(value) if value in (0, 1) else _WORDS[value.lower()]
        if origin is int and plain and not isinstance(value, float):
            return int(value)
        if origin is float and plain and not math.isnan(number := float(value)):
            return number
        if origin is str and (plain or isinstance(value, bool)):
            return str(value)
        if origin is tuple and isinstance(value, (list, tuple)):
            return tuple(_converted(each, inner[0], where) for each in value)
        if origin is dict and isinstance(value, Mapping):
            return {str(k): _converted(v, inner[1], f"{where}.{k}") for k, v in value.items()}
    except (ValueError, OverflowError, KeyError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
    if origin not in _EXPECTED:
        return value  # a kind of the user's own
    raise InputError(f"{where} is {shown(value)}; expected {_EXPECTED[origin]}")


def _same_end(word: str, known: Sequence[str]) -> str:
    """``nearest`` by the last part of names alone: the section may be the wrong one."""
    ends = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(word.rpartition(".")[2], ends, n=1, cutoff=0.6)
    return f"; did you mean {ends[close[0]]!r}?" if close else ""


def _build(schema: type[Schema], values: Any, kinds: Mapping[Any, type]) -> Schema:
    given = {}
    for name, kind in _fields(schema, kinds).items():
        value = values[name]
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            try:
                value = _build(typing.cast(type, kind), value, kinds)
            except ValueError as error:
                joint = "." if isinstance(error, InputError) else ": "
                raise InputError(f"{name}{joint}{error}") from error
        given[name] = value
    return schema(**given)
