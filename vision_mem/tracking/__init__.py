"""Follow objects through a stream with a bounded, motion-aware memory.

Names are loaded on first use: settings are read without waiting for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "PolicyConfig": "vision_mem.tracking.policy",
    "TrackingConfig": "vision_mem.tracking.config",
    "TrackingSession": "vision_mem.tracking.session",
}

__all__ = ["PolicyConfig", "TrackingConfig", "TrackingSession"]

if TYPE_CHECKING:
    from vision_mem.tracking.config import TrackingConfig
    from vision_mem.tracking.policy import PolicyConfig
    from vision_mem.tracking.session import TrackingSession
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)
