"""Generated streams for tests of video memory sessions: a square that drifts and changes colour."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch

from vision_mem.config import load_config
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

RED, GREEN, BLUE = (220, 40, 40), (40, 200, 60), (40, 60, 220)
SMALL = {"fps": None, "memory.short_frames": 4, "memory.mid_frames": 16, "memory.budget": 160}


def config(*changes, preset="default", **more):
    return load_config(VideoQaConfig, preset, {**SMALL, **dict(changes), **more}, folder="videoqa")


def frame(t, colours=None, size=(80, 120), every_s=1.0):
    """A grey picture with a square that drifts: red, then green for 8 to 11, else blue."""
    image = np.full((*size, 3), 110, np.uint8)
    colour = (colours or {}).get(t) or (GREEN if 8 <= t < 12 else RED if t < 8 else BLUE)
    x = (7 * t) % (size[1] - 40)
    image[20:60, x : x + 40] = colour
    return Frame(t, t * every_s, image)


def session(*changes, model=None, preset="default", **more):
    return VideoMemorySession(model or FakeVideoModel(), config(*changes, preset=preset, **more))


def watch(one, frames, **fields):
    return [one.step(frame(t, **fields)) for t in frames]


def same(one, other):
    """Whether two states are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def plain(answer):
    return asdict(answer)
