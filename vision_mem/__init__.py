"""Memory for video streams: follow objects, in constant memory, for as long as the stream runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names
from vision_mem._version import __version__ as __version__

if TYPE_CHECKING:
    from vision_mem import mots as mots  # the package, which can be called
    from vision_mem.api import ResultList as ResultList
    from vision_mem.api import ResultStream as ResultStream
    from vision_mem.api import ask as ask
    from vision_mem.api import track as track
    from vision_mem.config import load_config as load_config
    from vision_mem.errors import InputError as InputError
    from vision_mem.errors import MissingExtra as MissingExtra
    from vision_mem.errors import ModelError as ModelError
    from vision_mem.errors import SinkError as SinkError
    from vision_mem.errors import SourceError as SourceError
    from vision_mem.errors import VisionMemError as VisionMemError
    from vision_mem.models.detectors import open_detector as open_detector
    from vision_mem.models.segmenters.load import load_segmenter as load_segmenter
    from vision_mem.models.vlm.load import load_video_model as load_video_model
    from vision_mem.mots import MotsConfig as MotsConfig
    from vision_mem.mots import MotsSession as MotsSession
    from vision_mem.navigation import NavigationConfig as NavigationConfig
    from vision_mem.navigation import NavigationSession as NavigationSession
    from vision_mem.reconstruction import ReconstructionConfig as ReconstructionConfig
    from vision_mem.reconstruction import ReconstructionSession as ReconstructionSession
    from vision_mem.runs.loop import run as run
    from vision_mem.runs.loop import stream as stream
    from vision_mem.sinks.registry import make_sinks as make_sinks
    from vision_mem.sources.open import open_source as open_source
    from vision_mem.stream_memory import StreamMemory as StreamMemory
    from vision_mem.tracking import TrackingConfig as TrackingConfig
    from vision_mem.tracking import TrackingSession as TrackingSession
    from vision_mem.tracking.zones import Line as Line
    from vision_mem.tracking.zones import Zone as Zone
    from vision_mem.tracking.zones import ZoneCounter as ZoneCounter
    from vision_mem.types import Detections as Detections
    from vision_mem.types import Event as Event
    from vision_mem.types import Frame as Frame
    from vision_mem.types import MemoryUsage as MemoryUsage
    from vision_mem.types import ObjectResult as ObjectResult
    from vision_mem.types import Prompt as Prompt
    from vision_mem.types import SourceInfo as SourceInfo
    from vision_mem.types import TrackingResult as TrackingResult
    from vision_mem.videoqa import VideoMemorySession as VideoMemorySession
    from vision_mem.videoqa import VideoQaConfig as VideoQaConfig

__getattr__, __dir__, _names = lazy_names(__name__)
__all__ = [*_names, "__version__"]
