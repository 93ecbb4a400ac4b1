"""Settings: a preset's name or a YAML file, plus ``key=value`` changes, to a frozen dataclass.

Defaults live in the dataclass alone. A preset holds only what makes it itself; anything it does
not know is an error that names the nearest key, so that a slip of the pen never passes silently.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from vision_mem.errors import InputError

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
            raise InputError(f"no preset file {path}; expected a YAML file")
        try:
            return _parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"preset {path} cannot be read as text: {error}") from error
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
    changes: list[tuple[str, dict[str, Any]]] = []
    if preset is not None:
        changes = [(f"preset {preset}", read_preset(preset, folder))]
    items = overrides.items() if isinstance(overrides, Mapping) else map(_split, overrides)
    changes += [(f"setting {key}", _nest(key, value)) for key, value in items]
    for where, change in changes:
        _refuse_unknown(change, schema, where)
    # A tenth of a second to load: slips in names are told before.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    merged = OmegaConf.structured(schema)
    _unlock(merged)
    for where, change in changes:
        try:
            merged = OmegaConf.merge(merged, OmegaConf.create(change))
            OmegaConf.resolve(merged)
        except OmegaConfBaseException as error:
            # Only the first line is meant for people; the rest describes OmegaConf's tree.
            raise InputError(f"{where}: {str(error).splitlines()[0]}") from error
    try:
        return _build(schema, OmegaConf.to_container(merged, throw_on_missing=True))
    except (OmegaConfBaseException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"settings: {str(error).splitlines()[0]}") from error


def nearest(word: str, known: Sequence[str]) -> str:
    """Say ``; did you mean 'x'?`` when something known is spelled much like ``word``."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


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


def _fields(schema: type) -> dict[str, Any]:
    hints = typing.get_type_hints(schema)
    return {f.name: hints[f.name] for f in dataclasses.fields(schema) if f.init}


def _all_keys(schema: type, prefix: str = "") -> Iterator[str]:
    for name, kind in _fields(schema).items():
        yield prefix + name
        if dataclasses.is_dataclass(kind):
            yield from _all_keys(typing.cast(type, kind), f"{prefix}{name}.")


def _refuse_unknown(
    change: Mapping[str, Any], schema: type, where: str, prefix: str = "", root: type | None = None
) -> None:
    root = root or schema
    known = _fields(schema)
    for key, value in change.items():
        full = f"{prefix}{key}"
        if key not in known:
            hint = nearest(full, list(_all_keys(root)))
            if not hint:
                hint = f"; known here: {', '.join(sorted(known))}"
            raise InputError(f"{where}: there is no setting {full!r}{hint}")
        kind = known[key]
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            _refuse_unknown(value, typing.cast(type, kind), where, f"{full}.", root)


def _unlock(node: Any) -> None:
    """Frozen dataclasses arrive read-only, level by level; the merge has to write."""
    from omegaconf import DictConfig, OmegaConf

    if isinstance(node, DictConfig):
        OmegaConf.set_readonly(node, False)
        if not (node._is_none() or node._is_missing()):
            for key in node:
                if not OmegaConf.is_missing(node, key):
                    _unlock(node._get_node(key))


def _build(schema: type[Schema], values: Any) -> Schema:
    given = {}
    for name, kind in _fields(schema).items():
        value = values[name]
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            value = _build(typing.cast(type, kind), value)
        elif isinstance(value, list):
            value = tuple(value)  # settings do not change, and can be hashed
        given[name] = value
    return schema(**given)
