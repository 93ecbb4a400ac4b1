"""Frames with coloured squares, detections of them, and what a session made of them."""

from __future__ import annotations

import numpy as np
import torch

from vision_mem.config import load_config
from vision_mem.mots import MotsConfig
from vision_mem.types import Detections, Frame

COLOURS = [(220, 40, 30), (30, 60, 220), (40, 200, 60), (230, 220, 30), (200, 40, 210)]
SIZE = (120, 160)
NOTHING = Detections()


def config(*changes, preset="default"):
    return load_config(MotsConfig, preset, changes, folder="mots")


def scene(t, boxes, *, seen=None, colours=COLOURS, **fields):
    """A frame with a coloured square in each box, and detections of all, or of some."""
    image = np.full((*SIZE, 3), 110, np.uint8)
    image[::7] += 6
    for (x1, y1, x2, y2), colour in zip(boxes, colours, strict=False):
        image[max(y1, 0) : y2, max(x1, 0) : x2] = colour
    shown = boxes if seen is None else [boxes[n] for n in seen]
    found = Detections(np.array(shown, np.float32).reshape(-1, 4), **fields)
    return Frame(t, t / 10.0, image), found


def two(t, **fields):
    return scene(t, [(10 + t, 10, 34 + t, 36), (100 - t, 70, 126 - t, 96)], **fields)


def run(session, frames, make=two, **fields):
    return [session.step(*make(t, **fields)) for t in frames]


def kinds(results, object_id=None):
    return [
        (result.frame_index, event.kind)
        for result in results
        for event in result.events
        if object_id in (None, event.object_id)
    ]


def answer(result):
    tracks = [
        (o.object_id, o.name, o.state, o.present, o.mask.tobytes(), o.box.tolist(), o.score)
        for o in result.tracks
    ]
    return tracks, [(event.kind, event.object_id) for event in result.events]


def same(first, second):
    """Whether two states are equal, tensors bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
