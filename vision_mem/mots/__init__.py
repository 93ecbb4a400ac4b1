"""Follow everything a detector finds, with stable identities, in bounded memory.

Names are loaded on first use: settings are read without waiting for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "MotsConfig": "vision_mem.mots.config",
    "MotsResult": "vision_mem.mots.records",
    "MotsSession": "vision_mem.mots.session",
    "MotsUsage": "vision_mem.mots.records",
    "TrackResult": "vision_mem.mots.records",
}

__all__ = ["MotsConfig", "MotsResult", "MotsSession", "MotsUsage", "TrackResult"]

if TYPE_CHECKING:
    from vision_mem.mots.config import MotsConfig
    from vision_mem.mots.records import MotsResult, MotsUsage, TrackResult
    from vision_mem.mots.session import MotsSession
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)
