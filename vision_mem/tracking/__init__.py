"""Follow objects through a stream with a bounded, motion-aware memory."""

from __future__ import annotations

from vision_mem.tracking.mask_selection import MaskSelectionConfig
from vision_mem.tracking.policies.protocol import MemoryPolicy
from vision_mem.tracking.session import TrackingConfig, TrackingSession

__all__ = ["MaskSelectionConfig", "MemoryPolicy", "TrackingConfig", "TrackingSession"]
