"""Memory for video streams: follow objects, in constant memory, for as long as the stream runs.

Names are loaded on first use, so that ``import vision_mem`` costs nothing and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vision_mem._version import __version__ as __version__

_HOME = {
    "Detections": "vision_mem.types",
    "Event": "vision_mem.types",
    "Frame": "vision_mem.types",
    "MemoryUsage": "vision_mem.types",
    "ObjectResult": "vision_mem.types",
    "Prompt": "vision_mem.types",
    "SourceInfo": "vision_mem.types",
    "TrackingResult": "vision_mem.types",
    "InputError": "vision_mem.errors",
    "MissingExtra": "vision_mem.errors",
    "ModelError": "vision_mem.errors",
    "SinkError": "vision_mem.errors",
    "SourceError": "vision_mem.errors",
    "VisionMemError": "vision_mem.errors",
    "MotsConfig": "vision_mem.mots.config",
    "MotsSession": "vision_mem.mots",
    "TrackingConfig": "vision_mem.tracking.config",
    "TrackingSession": "vision_mem.tracking",
    "VideoMemorySession": "vision_mem.videoqa",
    "VideoQaConfig": "vision_mem.videoqa.config",
    "ReconstructionConfig": "vision_mem.reconstruction",
    "ReconstructionSession": "vision_mem.reconstruction",
    "NavigationConfig": "vision_mem.navigation",
    "NavigationSession": "vision_mem.navigation",
    "load_config": "vision_mem.config",
    "load_segmenter": "vision_mem.models.segmenters.load",
    "load_video_model": "vision_mem.models.vlm.load",
    "make_sinks": "vision_mem.sinks.registry",
    "open_detector": "vision_mem.models.detectors",
    "open_source": "vision_mem.sources.open",
    "run": "vision_mem.runs.loop",
    "stream": "vision_mem.runs.loop",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:
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
    from vision_mem.tracking import TrackingConfig as TrackingConfig
    from vision_mem.tracking import TrackingSession as TrackingSession
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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vision_mem' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
