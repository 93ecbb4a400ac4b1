"""Foreign networks behind our protocols. Nothing heavy is imported until it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names

if TYPE_CHECKING:
    from vision_mem.models.device import use_threads as use_threads
    from vision_mem.models.segmenters.load import load_segmenter as load_segmenter

__getattr__, __dir__, __all__ = lazy_names(__name__)
