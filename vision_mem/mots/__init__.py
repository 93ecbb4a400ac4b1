"""Follow everything a detector finds, with stable identities, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names

if TYPE_CHECKING:
    from vision_mem.mots.config import MotsConfig as MotsConfig
    from vision_mem.mots.records import MotsResult as MotsResult
    from vision_mem.mots.records import MotsUsage as MotsUsage
    from vision_mem.mots.records import TrackResult as TrackResult
    from vision_mem.mots.session import MotsSession as MotsSession

__getattr__, __dir__, __all__ = lazy_names(__name__)
