"""Remember places and things over restarts: an octree, a graph of places, short and long memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names

if TYPE_CHECKING:
    from vision_mem.navigation.config import NavigationConfig as NavigationConfig
    from vision_mem.navigation.journal import Key as Key
    from vision_mem.navigation.journal import Memory as Memory
    from vision_mem.navigation.queries import Target as Target
    from vision_mem.navigation.records import NavigationResult as NavigationResult
    from vision_mem.navigation.records import NavigationUsage as NavigationUsage
    from vision_mem.navigation.records import Observation as Observation
    from vision_mem.navigation.records import Route as Route
    from vision_mem.navigation.records import Sighting as Sighting
    from vision_mem.navigation.retrieval import Hit as Hit
    from vision_mem.navigation.session import NavigationSession as NavigationSession

__getattr__, __dir__, __all__ = lazy_names(__name__)
