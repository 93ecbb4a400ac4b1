"""Memory policies by name. A new one is a new file and a row of ``POLICIES``, or the user's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vision_mem.config import is_object_name, load_object, nearest
from vision_mem.errors import InputError, ModelError
from vision_mem.tracking.policies.distractor import DistractorFrames
from vision_mem.tracking.policies.protocol import MemoryPolicy
from vision_mem.tracking.policies.recent import PromptsOnly, RecentFrames
from vision_mem.tracking.policies.scored import ScoredFrames

POLICIES: Mapping[str, type[MemoryPolicy]] = {
    kind.name: kind for kind in (RecentFrames, ScoredFrames, DistractorFrames, PromptsOnly)
}
"""What ``policy.name`` may say in a preset."""


def policy_class(name: str, place: Path | None = None) -> type[MemoryPolicy]:
    """The class of a policy.

    Args:
        name: of ``POLICIES``, or ``module:Class`` for one of the user's own, see ``load_object``.
        place: folder in which the module is looked for first.

    Raises:
        InputError: when there is none, or it is no ``MemoryPolicy``.
    """
    if name in POLICIES:
        return POLICIES[name]
    if not is_object_name(name):
        raise InputError(
            f"no memory policy {name!r}; expected one of {', '.join(POLICIES)}, or module:Class"
            f"{nearest(name, list(POLICIES))}"
        )
    found = load_object(name, "memory policy", place)
    if not (isinstance(found, type) and issubclass(found, MemoryPolicy)):
        raise InputError(
            f"memory policy {name!r} is no memory policy; expected a class made from "
            "vision_mem.tracking.MemoryPolicy"
        )
    return found


def check_recorded(policy: Any, path: str | Path) -> None:
    """Refuse a snapshot's policy whose module nobody imported: a file must not have code run.

    Args:
        policy: settings of a policy, as the snapshot has them.
        path: of the snapshot, for the message.

    Raises:
        ModelError: when it names a class of the user's own that is not loaded.
    """
    name = str(policy.get("name", "")) if isinstance(policy, Mapping) else ""
    module, colon, kind = name.partition(":")
    if colon and not hasattr(sys.modules.get(module), kind):
        raise ModelError(
            f"snapshot {path} was made with the memory policy {name}; import it first, or give "
            f"resume(..., policy={kind.rpartition('.')[2]}())"
        )
