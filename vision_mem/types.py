"""The few values that travel between parts.

Conventions, for the whole project:

* images are RGB, uint8, ``(H, W, 3)``; frame indices count from 0; time is in seconds;
* a box is float32 ``(x1, y1, x2, y2)`` in pixels, right and bottom exclusive, top left pixel at 0;
* a mask is bool ``(H, W)``; points are ``(x, y)`` in pixels;
* scores lie in [0, 1]; anything called ``*_logit`` does not;
* an *object id* is given once by its session and never reused; a *slot* is a place in a batch
  and may change from frame to frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError


@dataclass(frozen=True)
class Frame:
    """One image of a stream.

    Attributes:
        index: position in the source, from 0; gaps say that frames were skipped.
        time_s: presentation time in seconds; wall-clock (Unix) time for live sources.
        image: ``(H, W, 3)`` uint8 RGB.
        model_image: the same moment at the size a model asked the decoder for, or None. Only
            sources with ``resize="decord"`` set it (specs: resize modes of SAMURAI 1.2).
    """

    index: int
    time_s: float
    image: NDArray[np.uint8]
    model_image: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise InputError(
                f"frame {self.index} has shape {self.image.shape} and type {self.image.dtype}; "
                "expected (H, W, 3) uint8 RGB; convert it with vision_mem.sources.pixels.to_rgb"
            )
        if self.image.shape[0] == 0 or self.image.shape[1] == 0:
            raise InputError(f"frame {self.index} has no pixels: shape {self.image.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class SourceInfo:
    """What a source knows about itself before its first frame.

    Attributes:
        name: file stem, folder name or address, fit for a file name.
        width, height: pixels of the first frame.
        fps: frames a second, 0 < fps; live sources give their nominal or assumed rate.
        frame_count: frames to come after start, end, stride and maximum; None when unknown.
        live: True for cameras and network streams.
        pixel_aspect: width of a pixel over its height on screen; 1 for square ones.
    """

    name: str
    width: int
    height: int
    fps: float
    frame_count: int | None = None
    live: bool = False
    pixel_aspect: float = 1.0


@dataclass(frozen=True)
class Prompt:
    """What a user points at on one frame.

    Exactly one of ``mask`` or ``box`` and/or ``points`` is given.

    Attributes:
        object_id: the object this speaks of; None lets the session give the next id.
        box: ``(x1, y1, x2, y2)`` pixels.
        points: ``(N, 2)`` pixels.
        labels: ``(N,)`` 1 for "this", 0 for "not this"; all 1 when left out.
        mask: ``(H, W)`` bool, of the frame's size.
        name: a word for people; ``object-<id>`` when left out.
        part: of clicks on something new: the part that was clicked on is meant, not the whole.
    """

    object_id: int | None = None
    box: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None
    labels: NDArray[np.int32] | None = None
    mask: NDArray[np.bool_] | None = None
    name: str | None = None
    part: bool = False

    def __post_init__(self) -> None:
        if self.box is not None:
            object.__setattr__(self, "box", _as_array(self.box, (4,), "box", "x1, y1, x2, y2"))
        if self.points is not None:
            points = np.asarray(self.points, dtype=np.float32)
            if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
                raise InputError(f"points have shape {points.shape}; expected (N, 2) with N >= 1")
            if not np.isfinite(points).all():
                raise InputError("points hold values that are not finite numbers")
            labels = np.ones(len(points)) if self.labels is None else np.asarray(self.labels)
            if labels.shape != (len(points),) or not np.isin(labels, (0, 1)).all():
                raise InputError(
                    f"labels are {labels.tolist()}; expected one 0 (not this) or 1 (this) a point, "
                    f"{len(points)} in all"
                )
            object.__setattr__(self, "points", points)
            object.__setattr__(self, "labels", labels.astype(np.int32))
        elif self.labels is not None:
            raise InputError("labels were given without points; give both")
        if self.mask is not None:
            mask = np.asarray(self.mask)
            if mask.ndim != 2:
                raise InputError(f"mask has shape {mask.shape}; expected (H, W)")
            object.__setattr__(self, "mask", mask.astype(bool))
        if (self.mask is not None) == (self.box is not None or self.points is not None):
            raise InputError("a prompt is either a mask, or a box and/or points: give one of them")


def _as_array(value: Any, shape: tuple[int, ...], what: str, fields: str) -> NDArray[np.float32]:
    array = np.asarray(value, dtype=np.float32)
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(f"{what} is {value!r}; expected {shape[0]} finite numbers: {fields}")
    return array


_LEFT_OUT: NDArray[Any] = np.empty(0)


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found on one frame: n objects, and n may be 0.

    A detector that did not look at a frame answers None instead; "looked, and found nothing" is
    ``Detections()``.

    Attributes:
        boxes: float32 ``(n, 4)`` ``(x1, y1, x2, y2)`` pixels of the frame, finite, x1 < x2 and
            y1 < y2; they may reach over the frame's border.
        scores: float32 ``(n,)`` in [0, 1]; all 1 when left out.
        labels: int64 ``(n,)`` class numbers; all 0 when left out.
        masks: ``(n, H, W)`` bool of the frame's size, or None. A mask without any pixel says that
            this object has only its box.
        embeddings: float32 ``(n, d)`` appearance vectors, or None.
        names: class number to a word for people; may be incomplete.
        frame_index, time_s: the frame they were seen on, where it may be another one than the
            frame they are handed out on (asynchronous detectors); else None.
    """

    boxes: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 4), np.float32))
    scores: NDArray[np.float32] = field(default_factory=lambda: _LEFT_OUT)
    labels: NDArray[np.int64] = field(default_factory=lambda: _LEFT_OUT)
    masks: NDArray[np.bool_] | None = None
    embeddings: NDArray[np.float32] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    frame_index: int | None = None
    time_s: float | None = None

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, dtype=np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InputError(f"boxes have shape {boxes.shape}; expected (n, 4): x1, y1, x2, y2")
        if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
            raise InputError("boxes are not finite or have no size; expected x1 < x2 and y1 < y2")
        n = len(boxes)
        scores = np.ones(n) if self.scores is _LEFT_OUT else np.asarray(self.scores)
        labels = np.zeros(n) if self.labels is _LEFT_OUT else np.asarray(self.labels)
        scores, labels = scores.astype(np.float32), labels.astype(np.int64)
        for what, array in (("scores", scores), ("labels", labels)):
            if array.shape != (n,):
                raise InputError(f"{what} have shape {array.shape}; expected ({n},) as the boxes")
        if not ((scores >= 0) & (scores <= 1)).all():  # NaN is neither
            raise InputError("scores are outside 0 to 1; scale them before they come here")
        for what, axes, kind in (("masks", 3, np.bool_), ("embeddings", 2, np.float32)):
            if getattr(self, what) is not None:
                extra = np.asarray(getattr(self, what)).astype(kind, copy=False)
                if extra.ndim != axes or len(extra) != n:
                    shape = f"({n}, H, W)" if axes == 3 else f"({n}, d)"
                    raise InputError(f"{what} have shape {extra.shape}; expected {shape}")
                object.__setattr__(self, what, extra)
        for name, value in (("boxes", boxes), ("scores", scores), ("labels", labels)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, which: Any) -> Detections:
        """Some of them, in the order of ``which``: ``(n,)`` bool, or indices."""
        arrays = ("boxes", "scores", "labels", "masks", "embeddings")
        some = {k: a[which] for k in arrays if (a := getattr(self, k)) is not None}
        return replace(self, **some)

    def name_of(self, index: int) -> str:
        """The word for the class of object ``index``; ``class-<number>`` when it has none."""
        label = int(self.labels[index])
        return self.names.get(label, f"class-{label}")

    def mask_of(self, index: int) -> NDArray[np.bool_] | None:
        """``(H, W)`` bool of object ``index``; None when it has only its box."""
        mask = None if self.masks is None else self.masks[index]
        return mask if mask is not None and mask.any() else None


SURE, UNSURE, LOST = STATES = ("sure", "unsure", "lost")
"""How far an object on a frame is to be believed."""
UNSURE_BELOW = 0.6
"""Score below which a mask is doubtful."""


def state_of(present: bool, score: float) -> str:
    """``sure``, ``unsure`` or ``lost``, of what is said of an object on a frame."""
    if not present:
        return LOST
    return SURE if score >= UNSURE_BELOW else UNSURE


@dataclass(frozen=True)
class ObjectResult:
    """One object on one frame.

    Attributes:
        object_id: the object's id, for ever.
        name: the word given with its first prompt.
        present: whether the model says the object is to be seen and the mask is not empty.
        mask: ``(H, W)`` bool at the frame's size.
        box: float32 ``(4,)`` bounds of the mask, zeros when absent.
        score: how sure one may be of the mask, in [0, 1]: the segmenter's estimate of its IoU with
            the truth, calibrated where the segmenter can do that.
        object_logit: above 0 when the model believes the object is to be seen.
        diary: why it came out this way: candidate chosen, motion state, what memory kept or
            refused and for which reason. JSON-ready values only.
    """

    object_id: int
    name: str
    present: bool
    mask: NDArray[np.bool_]
    box: NDArray[np.float32]
    score: float
    object_logit: float
    diary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``sure``, ``unsure`` or ``lost``."""
        return state_of(self.present, self.score)


@dataclass(frozen=True)
class Event:
    """Something that happened to one object: added, corrected, lost, found or removed."""

    kind: str
    object_id: int
    frame_index: int
    time_s: float
    name: str = ""


@dataclass(frozen=True)
class TrackingResult:
    """What a tracking session says about one frame.

    Attributes:
        frame_index, time_s: those of the frame.
        size: ``(height, width)`` of the frame.
        objects: every object of the session, in the order they were added.
        events: what happened on this frame.
    """

    frame_index: int
    time_s: float
    size: tuple[int, int]
    objects: tuple[ObjectResult, ...]
    events: tuple[Event, ...] = ()

    def __getitem__(self, object_id: int) -> ObjectResult:
        for found in self.objects:
            if found.object_id == object_id:
                return found
        known = [found.object_id for found in self.objects]
        raise KeyError(f"no object {object_id} on frame {self.frame_index}; known ids: {known}")


@dataclass(frozen=True)
class MemoryUsage:
    """What a session's memory holds.

    Attributes:
        entries: things remembered (memory maps and pointers for tracking).
        bytes: sum of the bytes of all distinct tensors and arrays held.
        detail: the same by kind, for people: {"memory maps": bytes, ...}.
    """

    entries: int
    bytes: int
    detail: Mapping[str, int] = field(default_factory=dict)
