"""Remember places and things over restarts: an octree, a graph of places, short and long memory."""

from __future__ import annotations

from vision_mem.navigation.config import NavigationConfig
from vision_mem.navigation.journal import Key, Memory
from vision_mem.navigation.queries import Target
from vision_mem.navigation.records import (
    NavigationResult,
    NavigationUsage,
    Observation,
    Route,
    Sighting,
)
from vision_mem.navigation.retrieval import Hit
from vision_mem.navigation.session import NavigationSession

__all__ = [
    "Hit",
    "Key",
    "Memory",
    "NavigationConfig",
    "NavigationResult",
    "NavigationSession",
    "NavigationUsage",
    "Observation",
    "Route",
    "Sighting",
    "Target",
]
