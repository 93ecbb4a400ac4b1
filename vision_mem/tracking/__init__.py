"""Follow objects through a stream with a bounded, motion-aware memory."""

from __future__ import annotations

from vision_mem.tracking.policy import PolicyConfig
from vision_mem.tracking.session import TrackingConfig, TrackingSession

__all__ = ["PolicyConfig", "TrackingConfig", "TrackingSession"]
