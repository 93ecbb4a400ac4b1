"""Rebuild a moving scene from pictures alone: a network, a ring of recent frames, a bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names

if TYPE_CHECKING:
    from vision_mem.reconstruction.learned.segments import SegmentConfig as SegmentConfig
    from vision_mem.reconstruction.learned.segments import SegmentedSession as SegmentedSession
    from vision_mem.reconstruction.learned.session import LearnedConfig as LearnedConfig
    from vision_mem.reconstruction.learned.session import LearnedResult as LearnedResult
    from vision_mem.reconstruction.learned.session import LearnedSession as LearnedSession

__getattr__, __dir__, __all__ = lazy_names(__name__)
