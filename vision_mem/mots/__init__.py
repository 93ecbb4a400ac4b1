"""Follow everything a detector finds, with stable identities, in bounded memory."""

from __future__ import annotations

from vision_mem.mots.config import MotsConfig
from vision_mem.mots.records import MotsResult, MotsUsage, TrackResult
from vision_mem.mots.session import MotsSession

__all__ = ["MotsConfig", "MotsResult", "MotsSession", "MotsUsage", "TrackResult"]
