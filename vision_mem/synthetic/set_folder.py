"""Generated sets on disk: written where there are none, whole or not at all, and never mixed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError
from vision_mem.formats.text import sink_error, write_file
from vision_mem.text import read_json


def prepare_set(
    root: str | Path,
    series: Any,
    default: Any,
    write: Callable[[Path, Any], object],
    *,
    what: str,
    record: str,
    option: str,
    foreign: str | None = None,
) -> dict[str, Any]:
    """Write a generated set where there is none yet; several programs may do so at a time.

    The folder appears when all of it is there.

    Args:
        root: the set's folder.
        series: a dataclass that says what to make; None: whatever is there, or ``default``.
        default: the same, for an empty place.
        write: writes the set to a folder.
        what: a word for it, for messages.
        record: name of the file that says what the set was made of.
        option: of the command line that asks for a series.
        foreign: a file that is there when the set was written without a record.

    Returns:
        What the set is made of, JSON-ready; empty when the folder does not say.

    Raises:
        InputError: when the folder holds other things, or a set of another ``series``.
        SinkError: when it cannot be written.
    """
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise InputError(f"--root {root} is a file; expected a folder for generated {what}")
    if not root.is_dir() or not any(root.iterdir()):
        _write_whole(root, default if series is None else series, write, record)
    made = _recorded(root, what, record, foreign)
    asked = {} if series is None else asdict(series)
    other = [key for key, value in asked.items() if made.get(key) != value]
    if other:
        wanted = ", ".join(f"{key}={asked[key]}" for key in other)
        there = ", ".join(f"{key}={made[key]}" for key in other if key in made) or "others"
        raise InputError(
            f"{option} asks for {wanted}, and the {what} in {root} are made with {there}; leave "
            f"out {option} to use them as they are, or give another --root to have new ones written"
        )
    return made


def _write_whole(
    root: Path, series: Any, write: Callable[[Path, Any], object], record: str
) -> None:
    partial = root.with_name(f".{root.name}.partial-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        write(partial, series)
        write_file(partial / record, (json.dumps(asdict(series), indent=2) + "\n").encode())
        if root.is_dir():
            root.rmdir()  # it is empty, and not every system moves a folder onto one
        partial.rename(root)
    except OSError as error:
        if not (root / record).is_file():  # else another program was faster, with the same
            raise sink_error(root, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _recorded(root: Path, what: str, record: str, foreign: str | None) -> dict[str, Any]:
    if not (root / record).exists():
        if foreign is not None and (root / foreign).is_file():
            return {}
        raise InputError(f"{root} holds other things than {what}; give another --root")
    made = read_json(root / record)
    return made if isinstance(made, dict) else {}
