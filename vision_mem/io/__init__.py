"""Frames in, results out: files, folders, cameras, streams; videos, boxes, masks, diaries."""

from vision_mem.io.annotated import AnnotatedVideo
from vision_mem.io.boxtext import MotBoxes, SingleObjectBoxes
from vision_mem.io.drawing import Painter, colour_of
from vision_mem.io.images import read_image
from vision_mem.io.live import Reconnect, StopRun
from vision_mem.io.masks import Diary, MaskPng, MaskRle
from vision_mem.io.pixels import to_rgb
from vision_mem.io.sinks import SINKS, TrackingSink, make_sinks
from vision_mem.io.sources import StreamSource, open_source
from vision_mem.io.window import LiveWindow

__all__ = [
    "SINKS",
    "AnnotatedVideo",
    "Diary",
    "LiveWindow",
    "MaskPng",
    "MaskRle",
    "MotBoxes",
    "Painter",
    "Reconnect",
    "SingleObjectBoxes",
    "StopRun",
    "StreamSource",
    "TrackingSink",
    "colour_of",
    "make_sinks",
    "open_source",
    "read_image",
    "to_rgb",
]
