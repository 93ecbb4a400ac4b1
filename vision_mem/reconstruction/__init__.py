"""Rebuild a moving scene in 3D: what stays and what moves, in two memories."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Sessions take torch, which takes seconds: settings and mistakes in them must not wait for it.
_HOME = {
    "ReconstructionConfig": "vision_mem.reconstruction.config",
    "ReconstructionResult": "vision_mem.reconstruction.records",
    "ReconstructionSession": "vision_mem.reconstruction.session",
    "StaticMap": "vision_mem.reconstruction.voxel_grid",
}
__all__ = ["ReconstructionConfig", "ReconstructionResult", "ReconstructionSession", "StaticMap"]

if TYPE_CHECKING:
    from vision_mem.reconstruction.config import ReconstructionConfig
    from vision_mem.reconstruction.records import ReconstructionResult
    from vision_mem.reconstruction.session import ReconstructionSession
    from vision_mem.reconstruction.voxel_grid import StaticMap


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
