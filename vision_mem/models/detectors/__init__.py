"""Detectors: what finds objects on single frames, and what can be built around one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_mem._lazy import lazy_names

if TYPE_CHECKING:
    from vision_mem.models.detectors.appearance import Described as Described
    from vision_mem.models.detectors.appearance import OnnxEmbedder as OnnxEmbedder
    from vision_mem.models.detectors.appearance import TrunkEmbedder as TrunkEmbedder
    from vision_mem.models.detectors.asynchronous import LatestOnly as LatestOnly
    from vision_mem.models.detectors.asynchronous import skipped_frames as skipped_frames
    from vision_mem.models.detectors.callable import CallableDetector as CallableDetector
    from vision_mem.models.detectors.callable import as_detector as as_detector
    from vision_mem.models.detectors.coercion import coerce as coerce
    from vision_mem.models.detectors.ensemble import Ensemble as Ensemble
    from vision_mem.models.detectors.file_formats import FORMATS as FORMATS
    from vision_mem.models.detectors.files import FileDetector as FileDetector
    from vision_mem.models.detectors.filters import Chosen as Chosen
    from vision_mem.models.detectors.filters import EveryNth as EveryNth
    from vision_mem.models.detectors.filters import Guarded as Guarded
    from vision_mem.models.detectors.filters import NonMaximum as NonMaximum
    from vision_mem.models.detectors.filters import Within as Within
    from vision_mem.models.detectors.filters import looked_at as looked_at
    from vision_mem.models.detectors.filters import non_maximum as non_maximum
    from vision_mem.models.detectors.motion import MotionConfig as MotionConfig
    from vision_mem.models.detectors.motion import MotionDetector as MotionDetector
    from vision_mem.models.detectors.motion import learn_background as learn_background
    from vision_mem.models.detectors.onnx import OnnxDetector as OnnxDetector
    from vision_mem.models.detectors.open import HOW as HOW
    from vision_mem.models.detectors.open import make_detector as make_detector
    from vision_mem.models.detectors.open import open_detector as open_detector
    from vision_mem.models.detectors.open import parse_region as parse_region
    from vision_mem.models.detectors.protocol import Detector as Detector
    from vision_mem.models.detectors.recording import Recorder as Recorder

__getattr__, __dir__, __all__ = lazy_names(__name__)
