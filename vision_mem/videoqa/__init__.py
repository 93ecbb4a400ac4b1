"""Remember a stream in tokens that mean something, and answer questions about now and long ago."""

from __future__ import annotations

from vision_mem.videoqa.answering import AnswerStream, Conversation, GateHistory
from vision_mem.videoqa.config import VideoQaConfig
from vision_mem.videoqa.memory import TokenMemory
from vision_mem.videoqa.records import Answer, GridEntry, Moment, VideoUsage, WatchResult
from vision_mem.videoqa.session import VideoMemorySession

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
