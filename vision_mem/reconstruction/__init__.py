"""Rebuild a moving scene in 3D: what stays and what moves, in two memories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names

if TYPE_CHECKING:
    from vision_mem.reconstruction.config import ReconstructionConfig as ReconstructionConfig
    from vision_mem.reconstruction.records import ReconstructionResult as ReconstructionResult
    from vision_mem.reconstruction.session import ReconstructionSession as ReconstructionSession
    from vision_mem.reconstruction.voxel_grid import StaticMap as StaticMap

__getattr__, __dir__, __all__ = lazy_names(__name__)
