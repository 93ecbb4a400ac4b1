"""Rebuild a moving scene in 3D: what stays and what moves, in two memories."""

from __future__ import annotations

from vision_mem.reconstruction.config import ReconstructionConfig
from vision_mem.reconstruction.records import ReconstructionResult
from vision_mem.reconstruction.session import ReconstructionSession
from vision_mem.reconstruction.voxel_grid import StaticMap

__all__ = ["ReconstructionConfig", "ReconstructionResult", "ReconstructionSession", "StaticMap"]
