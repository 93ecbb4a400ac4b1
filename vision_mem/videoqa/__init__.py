"""Remember a stream in tokens that mean something, and answer questions about now and long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names

if TYPE_CHECKING:
    from vision_mem.videoqa.answering import AnswerStream as AnswerStream
    from vision_mem.videoqa.answering import Conversation as Conversation
    from vision_mem.videoqa.answering import GateHistory as GateHistory
    from vision_mem.videoqa.config import VideoQaConfig as VideoQaConfig
    from vision_mem.videoqa.memory import TokenMemory as TokenMemory
    from vision_mem.videoqa.records import Answer as Answer
    from vision_mem.videoqa.records import GridEntry as GridEntry
    from vision_mem.videoqa.records import Moment as Moment
    from vision_mem.videoqa.records import VideoUsage as VideoUsage
    from vision_mem.videoqa.records import WatchResult as WatchResult
    from vision_mem.videoqa.session import VideoMemorySession as VideoMemorySession

__getattr__, __dir__, __all__ = lazy_names(__name__)
