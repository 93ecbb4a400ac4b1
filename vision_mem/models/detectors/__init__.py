"""Detectors: what finds objects on single frames, and what can be built around one."""

from vision_mem.models.detectors.asynchronous import LatestOnly, skipped_frames
from vision_mem.models.detectors.callable import CallableDetector, as_detector
from vision_mem.models.detectors.coercion import coerce
from vision_mem.models.detectors.ensemble import Ensemble
from vision_mem.models.detectors.files import FORMATS, FileDetector
from vision_mem.models.detectors.filters import (
    Chosen,
    EveryNth,
    Guarded,
    NonMaximum,
    Within,
    looked_at,
    non_maximum,
)
from vision_mem.models.detectors.motion import MotionConfig, MotionDetector, learn_background
from vision_mem.models.detectors.open import HOW, make_detector, open_detector, parse_region
from vision_mem.models.detectors.protocol import Detector
from vision_mem.models.detectors.recording import Recorder

__all__ = [
    "FORMATS",
    "HOW",
    "CallableDetector",
    "Chosen",
    "Detector",
    "Ensemble",
    "EveryNth",
    "FileDetector",
    "Guarded",
    "LatestOnly",
    "MotionConfig",
    "MotionDetector",
    "NonMaximum",
    "Recorder",
    "Within",
    "as_detector",
    "coerce",
    "learn_background",
    "looked_at",
    "make_detector",
    "non_maximum",
    "open_detector",
    "parse_region",
    "skipped_frames",
]
