"""Rebuild a moving scene from pictures alone: a network, a ring of recent frames, a bank."""

from __future__ import annotations

from vision_mem.reconstruction.learned.segments import SegmentConfig, SegmentedSession
from vision_mem.reconstruction.learned.session import LearnedConfig, LearnedResult, LearnedSession

__all__ = [
    "LearnedConfig",
    "LearnedResult",
    "LearnedSession",
    "SegmentConfig",
    "SegmentedSession",
]
