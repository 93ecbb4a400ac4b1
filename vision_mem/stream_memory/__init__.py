"""One stream, all memories: what is followed, what can be asked, the scene and its map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names

if TYPE_CHECKING:
    from vision_mem.stream_memory.budget import Share as Share
    from vision_mem.stream_memory.budget import fitted as fitted
    from vision_mem.stream_memory.budget import split_budget as split_budget
    from vision_mem.stream_memory.session import EntityPlace as EntityPlace
    from vision_mem.stream_memory.session import StreamMemory as StreamMemory
    from vision_mem.stream_memory.session import StreamResult as StreamResult

__getattr__, __dir__, __all__ = lazy_names(__name__)
