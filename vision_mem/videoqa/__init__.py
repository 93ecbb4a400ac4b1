"""Remember a stream in tokens that mean something, and answer questions about now and long ago.

Names are loaded on first use: settings are read without waiting for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "answering": ("AnswerStream", "Conversation", "GateHistory"),
    "config": ("VideoQaConfig",),
    "memory": ("TokenMemory",),
    "records": ("Answer", "GridEntry", "Moment", "VideoUsage", "WatchResult"),
    "session": ("VideoMemorySession",),
}

__all__ = [
    "Answer", "AnswerStream", "Conversation", "GateHistory", "GridEntry", "Moment", "TokenMemory",
    "VideoMemorySession", "VideoQaConfig", "VideoUsage", "WatchResult",
]  # fmt: skip

if TYPE_CHECKING:
    from vision_mem.videoqa.answering import AnswerStream, Conversation, GateHistory
    from vision_mem.videoqa.config import VideoQaConfig
    from vision_mem.videoqa.memory import TokenMemory
    from vision_mem.videoqa.records import Answer, GridEntry, Moment, VideoUsage, WatchResult
    from vision_mem.videoqa.session import VideoMemorySession
else:

    def __getattr__(name: str) -> Any:
        for module, names in _HOME.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
