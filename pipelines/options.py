"""Options of a run that can be continued: what was given, the rest as recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from vision_mem.errors import InputError

Options = TypeVar("Options")


def take_options(
    kind: type[Options], given: Mapping[str, Any], recorded: Mapping[str, Any] | None
) -> Options:
    """The options of a run; it does not change its nature when it is continued.

    Args:
        kind: a dataclass with all defaults.
        given: values by name, None for what was not given; may hold other names too.
        recorded: of the run that is continued, None for a new one.

    Raises:
        InputError: for an option that is given another value than in the run to continue.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    chosen = {name: given[name] for name in known if given[name] is not None}
    if recorded is None:
        return kind(**chosen)
    for name, value in chosen.items():
        if name in recorded and recorded[name] != value:
            raise InputError(
                f"--{name.replace('_', '-')} is {value!r} but was {recorded[name]!r} in the run to "
                "continue; leave it out, or start anew with --overwrite"
            )
    return kind(**{name: recorded[name] for name in known if name in recorded})
