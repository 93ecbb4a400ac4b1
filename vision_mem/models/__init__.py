"""Foreign networks behind our protocols. Nothing heavy is imported until it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision_mem.models.device import use_threads as use_threads
    from vision_mem.models.segmenters.load import load_segmenter as load_segmenter

_HOME = {
    "load_segmenter": "vision_mem.models.segmenters.load",
    "use_threads": "vision_mem.models.device",
}

__all__ = ["load_segmenter", "use_threads"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vision_mem.models' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
