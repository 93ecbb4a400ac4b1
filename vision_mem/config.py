"""Settings: a preset's name or a YAML file, plus ``key=value`` changes, to a frozen dataclass.

Defaults live in the dataclass alone. A preset holds only what makes it itself; anything it does
not know is an error that names the nearest key, so that a slip of the pen never passes silently.

A field whose metadata has ``kinds`` holds an object of one of several classes. Its setting
``name`` chooses the class, from a table or as ``module:Class`` (``load_object``); the others are
that class's own. A schema with a static method ``upgrade`` brings settings of earlier versions
into today's shape.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import logging
import re
import sys
import traceback
import typing
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from vision_mem.errors import InputError

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
        if not path.is_file():
            near = nearest(path.stem, preset_names(folder))
            raise InputError(f"no preset file {path}; expected a YAML file{near}")
        try:
            content = _parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"preset {path} cannot be read as text: {error}") from error
        if not content:
            log.warning("preset %s is empty; all settings are the usual ones", path)
        return content
    short = name.removeprefix(f"{folder}/")
    known = preset_names(folder)
    if short not in known:
        raise InputError(
            f"no preset named {name!r}; there are {', '.join(known)}, or give the path of a .yaml "
            f"file{nearest(short, known)}"
        )
    text = files("vision_mem.configs").joinpath(folder, f"{short}.yaml").read_text("utf-8")
    return _parse(text, f"preset {short}")


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
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    items = overrides.items() if isinstance(overrides, Mapping) else map(_split, overrides)
    changes = [(f"setting {key}", _upgraded(schema, _nest(key, value))) for key, value in items]
    choices = list(_choices(schema))
    # A class comes before its settings, in whatever order they were given.
    changes.sort(key=lambda change: not any(_named(change[1], path) for path, _, _ in choices))
    place = None
    if preset is not None:
        changes.insert(0, (f"preset {preset}", _upgraded(schema, read_preset(preset, folder))))
        place = Path(preset).expanduser().resolve().parent

    merged = OmegaConf.structured(schema)
    _unlock(merged)
    kinds: dict[Any, type] = {}
    for path, base, _ in choices:
        held = OmegaConf.select(merged, ".".join(path))
        kinds[base] = typing.cast(type, OmegaConf.get_type(held))
    for where, change in changes:
        try:
            for path, base, find in choices:
                if name := _named(change, path):
                    kinds[base] = find(name, place)
                    _switch(merged, path, kinds[base])
            _refuse_unknown(change, schema, kinds, where)
            merged = OmegaConf.merge(merged, OmegaConf.create(change))
            OmegaConf.resolve(merged)
        except OmegaConfBaseException as error:
            raise InputError(_placed(where, *_worded(error))) from error
    try:
        return _build(schema, OmegaConf.to_container(merged, throw_on_missing=True), kinds)
    except (OmegaConfBaseException, ValueError) as error:
        text = str(error).splitlines()[0]
        key = text.partition(" ")[0].rstrip(":")
        told = (where for where, change in reversed(changes) if _holds(change, key))
        raise InputError(_placed(next(told, "settings"), key, text)) from error


_EXPECTED = {
    "Integer": "a whole number", "Float": "a number", "valid bool": "true or false",
    "to string": "text", "list or tuple": "a list", "None": "a value",
}  # fmt: skip


def _worded(error: Any) -> tuple[str, str]:
    """The setting that OmegaConf found fault with, and the fault in our words."""
    # Only the first line is meant for people; the rest describes OmegaConf's tree.
    text, key = str(error).splitlines()[0], str(error.full_key or "")
    expected = next((said for word, said in _EXPECTED.items() if word in text), None)
    if not key or expected is None:
        return key, f"{key}: {text}" if key else text
    given = "empty" if error.value is None else repr(error.value)[:60]
    return key, f"{key} is {given}; expected {expected}"


def _holds(change: Any, key: str) -> bool:
    for part in key.split("."):
        change = change.get(part) if isinstance(change, Mapping) else None
    return change is not None


def _placed(where: str, key: str, text: str) -> str:
    """A fault with the place it comes from, the setting named once."""
    return f"setting {text}" if where == f"setting {key}" else f"{where}: {text}"


def nearest(word: str, known: Sequence[str]) -> str:
    """Say ``; did you mean 'x'?`` when something known is spelled much like ``word``."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


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
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        content = OmegaConf.create(text)  # its loader refuses a key that is given twice
        plain = OmegaConf.to_container(content, resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{where} is not valid YAML: {problem}") from error
    # OmegaConf turns a text without a colon into {"text": None}.
    if not isinstance(plain, dict) or not (_mapping_like(text) or not plain):
        raise InputError(f"{where} holds no settings; expected lines as 'key: value'")
    return {str(key): value for key, value in plain.items()}


def _mapping_like(text: str) -> bool:
    import yaml

    return isinstance(yaml.safe_load(text), dict)


def _split(override: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"setting {override!r} has no '='; expected key=value")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"setting {override!r}: the value cannot be read as YAML") from error


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


def _switch(merged: Any, path: Sequence[str], kind: type) -> None:
    """Make a field an object of another class; settings that both classes have stay."""
    from omegaconf import OmegaConf

    *outer, key = path
    parent = OmegaConf.select(merged, ".".join(outer)) if outer else merged
    if OmegaConf.get_type(parent, key) is kind:
        return
    held: Any = OmegaConf.to_container(parent[key])
    own = _fields(kind, {})
    try:
        made = kind(**{name: value for name, value in held.items() if name in own})
    except TypeError as error:
        problem = f"{kind.__name__} has settings without a default: {error}"
        raise InputError(problem) from error
    parent[key] = OmegaConf.structured(made)
    _unlock(parent[key])


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


_PLAIN = (bool, int, float, str, list)


def _refuse_unknown(
    change: Mapping[str, Any],
    schema: type,
    kinds: Mapping[Any, type],
    where: str,
    prefix: str = "",
    root: type | None = None,
) -> None:
    root = root or schema
    known = _fields(schema, kinds)
    if schema in kinds.values():
        known["name"] = str
    for key, value in change.items():
        full = f"{prefix}{key}"
        if key not in known:
            everything = list(_all_keys(root, kinds))
            hint = _same_end(full, everything) or nearest(full, everything)
            if not hint:
                hint = f"; known here: {', '.join(sorted(known))}"
            raise InputError(f"{where}: there is no setting {full!r}{hint}")
        kind = known[key]
        if dataclasses.is_dataclass(kind) and (value is None or isinstance(value, _PLAIN)):
            given = "empty" if value is None else repr(value)[:60]
            fault = f"{full} is {given}; expected lines of settings below it"
            raise InputError(_placed(where, full, fault))
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            _refuse_unknown(value, typing.cast(type, kind), kinds, where, f"{full}.", root)


def _same_end(word: str, known: Sequence[str]) -> str:
    """``nearest`` by the last part of names alone: the section may be the wrong one."""
    ends = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(word.rpartition(".")[2], ends, n=1, cutoff=0.6)
    return f"; did you mean {ends[close[0]]!r}?" if close else ""


def _unlock(node: Any) -> None:
    """Frozen dataclasses arrive read-only, level by level; the merge has to write."""
    from omegaconf import DictConfig, OmegaConf

    if isinstance(node, DictConfig):
        OmegaConf.set_readonly(node, False)
        if not (node._is_none() or node._is_missing()):
            for key in node:
                if not OmegaConf.is_missing(node, key):
                    _unlock(node._get_node(key))


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
        elif isinstance(value, list):
            value = tuple(value)  # settings do not change, and can be hashed
        given[name] = value
    return schema(**given)
