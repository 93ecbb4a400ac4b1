"""Detectors: what finds objects on single frames, and what can be built around one."""

from vision_mem.models.detectors.asynchronous import LatestOnly
from vision_mem.models.detectors.coercion import coerce
from vision_mem.models.detectors.combine import Chosen, EveryNth, Guarded, Thinned, non_maximum
from vision_mem.models.detectors.duck import CallableDetector, as_detector
from vision_mem.models.detectors.files import FORMATS, FileDetector
from vision_mem.models.detectors.motion import MotionConfig, MotionDetector
from vision_mem.models.detectors.opening import HOW, open_detector
from vision_mem.models.detectors.protocol import Detector
from vision_mem.models.detectors.recording import Recorder
from vision_mem.models.detectors.region import Within
from vision_mem.models.detectors.union import Union

__all__ = [
    "FORMATS",
    "HOW",
    "CallableDetector",
    "Chosen",
    "Detector",
    "EveryNth",
    "FileDetector",
    "Guarded",
    "LatestOnly",
    "MotionConfig",
    "MotionDetector",
    "Recorder",
    "Thinned",
    "Union",
    "Within",
    "as_detector",
    "coerce",
    "non_maximum",
    "open_detector",
]
