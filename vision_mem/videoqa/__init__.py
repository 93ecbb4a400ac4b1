"""Remember a stream in tokens that mean something, and answer questions about now and long ago.

Names are loaded on first use: settings are read without waiting for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Answer": "vision_mem.videoqa.records",
    "AnswerStream": "vision_mem.videoqa.answering",
    "Conversation": "vision_mem.videoqa.answering",
    "GateHistory": "vision_mem.videoqa.answering",
    "GridEntry": "vision_mem.videoqa.records",
    "Moment": "vision_mem.videoqa.records",
    "TokenMemory": "vision_mem.videoqa.memory",
    "VideoMemorySession": "vision_mem.videoqa.session",
    "VideoQaConfig": "vision_mem.videoqa.config",
    "VideoUsage": "vision_mem.videoqa.records",
    "WatchResult": "vision_mem.videoqa.records",
}

__all__ = [
    "Answer",
    "AnswerStream",
    "Conversation",
    "GateHistory",
    "GridEntry",
    "Moment",
    "TokenMemory",
    "VideoMemorySession",
    "VideoQaConfig",
    "VideoUsage",
    "WatchResult",
]

if TYPE_CHECKING:
    from vision_mem.videoqa.answering import AnswerStream, Conversation, GateHistory
    from vision_mem.videoqa.config import VideoQaConfig
    from vision_mem.videoqa.memory import TokenMemory
    from vision_mem.videoqa.records import Answer, GridEntry, Moment, VideoUsage, WatchResult
    from vision_mem.videoqa.session import VideoMemorySession
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)
