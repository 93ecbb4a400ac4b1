"""What a stream gives up when a device cannot do all of it: frames, then detail, then objects.

The order is fixed. Frames are left out by themselves, since a stream takes the newest one when
its turn comes; the rule here says when that is not enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from vision_mem.models.segmenters.protocol import Candidates, ImageFeatures, Segmenter
from vision_mem.types import Frame, Prompt

LEVELS = ("all", "frames left out", "smaller picture", "fewer objects")
_SMALLER, _FEWER = 2, 3
_ROOM = 1.5
"""So much more than the least rate there must be before something is given back."""


@dataclass(frozen=True)
class StreamBudget:
    """What a stream may take.

    Attributes:
        delay_s: from a frame's arrival to its results, at most.
        bytes: that its session may hold.
        min_fps: rate below which more than frames is given up.
    """

    delay_s: float
    bytes: int
    min_fps: float


@dataclass(frozen=True)
class StreamLoad:
    """How a stream did over the last seconds.

    Attributes:
        delay_s: the largest.
        bytes: held now.
        fps: frames a second that were followed.
        left_out: frames that were not.
    """

    delay_s: float
    bytes: int
    fps: float
    left_out: int


def next_level(level: int, load: StreamLoad, budget: StreamBudget) -> int:
    """Index in ``LEVELS`` from now on; one step at a time, memory straight to the last."""
    if load.bytes > budget.bytes:
        return _FEWER
    starved = load.left_out > 0 and load.fps < budget.min_fps
    if load.delay_s > budget.delay_s or starved:
        return min(level + 1, _FEWER)
    roomy = load.left_out == 0 or load.fps > _ROOM * budget.min_fps
    if level >= _SMALLER and not (roomy and load.delay_s < budget.delay_s / 2):
        return level
    if level > _SMALLER and load.bytes > budget.bytes * 0.8:
        return level
    return level - 1 if level >= _SMALLER else int(load.left_out > 0)


class CameraSegmenter:
    """One stream's view of the segmenter that all share: it may be shown smaller pictures.

    Masks keep the frame's size, and memories the grid, so nothing begins anew. Where the grid
    would follow the picture, the picture stays as it is.

    Args:
        segmenter: shared.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.traits, self.device = segmenter.traits, segmenter.device
        self.smaller = False
        self._grid: tuple[int, int] | None = None
        self._small: tuple[Any, tuple[int, int]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segmenter, name)

    def encode_image(self, frame: Frame) -> ImageFeatures:
        """Encode a frame, or its half."""
        self._small = None
        if self.smaller and self._grid is not None and min(frame.size) >= 64:
            height, width = (side // 2 for side in frame.size)
            image = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
            features = self._segmenter.encode_image(
                replace(frame, image=np.asarray(image, np.uint8), model_image=None)
            )
            if features.grid_size == self._grid:
                self._small = features.payload, (height, width)
                return replace(features, video_size=frame.size)
        features = self._segmenter.encode_image(frame)
        self._grid = features.grid_size
        return features

    def decode_prompt(self, features: ImageFeatures, prompt: Prompt, **options: Any) -> Candidates:
        """Segment what is pointed at in pixels of the frame, on the picture that was encoded."""
        if self._small is not None and features.payload is self._small[0]:
            prompt = _scaled(prompt, features.video_size, self._small[1])
            features = replace(features, video_size=self._small[1])
        return self._segmenter.decode_prompt(features, prompt, **options)


def _scaled(prompt: Prompt, size: tuple[int, int], to: tuple[int, int]) -> Prompt:
    """A prompt in pixels of another size; both are ``(height, width)``."""
    scale = np.array([to[1] / size[1], to[0] / size[0]], np.float32)
    if prompt.mask is not None:
        whole = prompt.mask.astype(np.float32)
        cover = cv2.resize(whole, (to[1], to[0]), interpolation=cv2.INTER_AREA)
        return replace(prompt, mask=cover > 0.5 if (cover > 0.5).any() else cover > 0)
    box = None if prompt.box is None else prompt.box * np.tile(scale, 2)
    points = None if prompt.points is None else prompt.points * scale
    return replace(prompt, box=box, points=points)


def give_up_one(session: Any, result: Any) -> bool:
    """Let the object go that is least sure (of equals the newest), and none take its place.

    Args:
        session: of ``track`` or ``mots``, with whatever stands around it.
        result: of the last frame.

    Returns:
        Whether there was one; the last one stays.
    """
    inner = _session_with(session, "remove", "delete")
    ids: tuple[int, ...] = getattr(inner, "object_ids", ()) or getattr(inner, "track_ids", ())
    there = set(ids)
    shown = {one.object_id: one for one in getattr(result, "objects", ())}
    if inner is None or len(there) < 2:
        return False

    def worth(object_id: int) -> tuple[bool, float, int]:
        one = shown.get(object_id)
        return (
            one is not None and bool(one.present),
            0.0 if one is None else float(one.score),
            -object_id,
        )

    drop: Callable[[int], Any] = getattr(inner, "remove", None) or inner.delete
    drop(min(there, key=worth))
    if hasattr(inner, "limit_tracks"):
        inner.limit_tracks(len(there) - 1)
    return True


def allow_all(session: Any) -> None:
    """Let as many new objects come as the settings allow."""
    inner = _session_with(session, "limit_tracks")
    if inner is not None:
        inner.limit_tracks(None)


def _session_with(session: Any, *names: str) -> Any:
    """The innermost session that has one of these; None where there is none."""
    while session is not None and not any(hasattr(type(session), name) for name in names):
        inside = vars(session)
        session = inside.get("_session", inside.get("session"))
    return session
