"""Follow everything a detector finds, with stable identities, in bounded memory.

The package can be called: ``vision_mem.mots("street.mp4", detect="dfine")``, see ``api.mots``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vision_mem._lazy import distant, lazy_names

if TYPE_CHECKING:
    from vision_mem.mots.config import MotsConfig as MotsConfig
    from vision_mem.mots.records import MotsResult as MotsResult
    from vision_mem.mots.records import MotsUsage as MotsUsage
    from vision_mem.mots.records import TrackResult as TrackResult
    from vision_mem.mots.session import MotsSession as MotsSession
    from vision_mem.mots.shared_gallery import SharedGallery as SharedGallery
    from vision_mem.mots.shared_gallery import SharedGalleryConfig as SharedGalleryConfig

__getattr__, __dir__, __all__ = lazy_names(__name__)


class CalledPackage(ModuleType):
    """``vision_mem.mots`` is a package, and beside ``track`` and ``ask`` the name of a function."""

    def __call__(self, source: Any, detect: Any = "motion", **options: Any) -> Any:
        """See ``api.mots``."""
        return distant("vision_mem.api:mots")(source, detect, **options)


sys.modules[__name__].__class__ = CalledPackage
