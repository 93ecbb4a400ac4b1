"""Follow objects through a stream with a bounded, motion-aware memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names

if TYPE_CHECKING:
    from vision_mem.tracking.config import TrackingConfig as TrackingConfig
    from vision_mem.tracking.mask_selection import MaskSelectionConfig as MaskSelectionConfig
    from vision_mem.tracking.policies.protocol import MemoryPolicy as MemoryPolicy
    from vision_mem.tracking.session import TrackingSession as TrackingSession

__getattr__, __dir__, __all__ = lazy_names(__name__)
