"""Follow objects through a stream with a bounded, motion-aware memory.

Names are loaded on first use: settings are read without waiting for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "MaskSelectionConfig": "vision_mem.tracking.mask_selection",
    "MemoryPolicy": "vision_mem.tracking.policies.protocol",
    "TrackingConfig": "vision_mem.tracking.config",
    "TrackingSession": "vision_mem.tracking.session",
}

__all__ = ["MaskSelectionConfig", "MemoryPolicy", "TrackingConfig", "TrackingSession"]

if TYPE_CHECKING:
    from vision_mem.tracking.config import TrackingConfig
    from vision_mem.tracking.mask_selection import MaskSelectionConfig
    from vision_mem.tracking.policies.protocol import MemoryPolicy
    from vision_mem.tracking.session import TrackingSession
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)
