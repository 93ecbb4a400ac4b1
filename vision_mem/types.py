"""The few values that travel between parts.

Conventions, for the whole project:

* images are RGB, uint8, ``(H, W, 3)``; frame indices count from 0; time is in seconds;
* a box is float32 ``(x1, y1, x2, y2)`` in pixels, right and bottom exclusive, top left pixel at 0;
  text files and the command line say ``x,y,w,h`` (left, top, width, height), see
  ``geometry.boxes.xywh_to_box``;
* a mask is bool ``(H, W)``; points are ``(x, y)`` in pixels;
* scores lie in [0, 1]; anything called ``*_logit`` does not;
* an *object id* is given once by its session and never reused; a *slot* is a place in a batch
  and may change from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_mem._lazy import distant
from vision_mem.errors import InputError

if TYPE_CHECKING:
    Pixels = NDArray[np.uint8] | Callable[[], NDArray[np.uint8] | None] | None


@dataclass(frozen=True)
class Frame:
    """One image of a stream.

    Attributes:
        index: position in the source, from 0; gaps say that frames were skipped.
        time_s: presentation time in seconds; wall-clock (Unix) time for live sources.
        image: ``(H, W, 3)`` uint8 RGB.
        model_image: the same moment at the size a model asked the decoder for, or None. Only
            sources with ``resize="decord"`` set it (specs: resize modes of SAMURAI 1.2).
        duration_s: seconds that it is shown in the source; None where that is not known.
    """

    index: int
    time_s: float
    image: NDArray[np.uint8]
    model_image: NDArray[np.uint8] | None = None
    duration_s: float | None = None

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

    def __repr__(self) -> str:
        return f"frame {self.index} at {self.time_s:g} s, {self.size[1]}x{self.size[0]}"


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
        object_id: the object this speaks of; None means the object of that name, or a new one.
        box: ``(x1, y1, x2, y2)`` pixels: two corners, not a corner and a size.
        points: ``(N, 2)`` pixels.
        labels: ``(N,)`` 1 for "this", 0 for "not this"; all 1 when left out.
        mask: ``(H, W)`` bool, of the frame's size.
        name: a word for people, and one object for the session: the same name again corrects it;
            ``object-<id>`` when left out.
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
        whole = isinstance(self.object_id, (int, np.integer)) and not isinstance(
            self.object_id, bool
        )
        if self.object_id is not None and not whole:
            raise InputError(
                f"object_id is {self.object_id!r}; expected a whole number (a box is given as "
                "box=(x1, y1, x2, y2))"
            )
        if self.box is not None:
            object.__setattr__(self, "box", _as_array(self.box, (4,), "box", "x1, y1, x2, y2"))
        if self.points is not None:
            points = _numbers(self.points)
            if points is None:
                raise InputError(f"points are {self.points!r}; expected rows of two numbers: x, y")
            if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
                raise InputError(
                    f"points have shape {points.shape}; expected rows of two numbers, x and y: "
                    "(N, 2) with N >= 1"
                )
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

    def __repr__(self) -> str:
        who = self.name or (
            "a new object" if self.object_id is None else f"object {self.object_id}"
        )
        given = [] if self.box is None else [f"box {box_text(self.box)}"]
        if self.points is not None and self.labels is not None:
            clicks = zip(self.points.tolist(), self.labels.tolist(), strict=True)
            given += [f"{'' if on else 'not '}point {x:g},{y:g}" for (x, y), on in clicks]
        if self.mask is not None:
            given.append(f"mask of {int(self.mask.sum())} pixels")
        return f"{who}: {', '.join(given)}"


def _as_array(value: Any, shape: tuple[int, ...], what: str, fields: str) -> NDArray[np.float32]:
    array = _numbers(value)
    if array is None or array.shape != shape or not np.isfinite(array).all():
        raise InputError(f"{what} is {value!r}; expected {shape[0]} finite numbers: {fields}")
    return array


def _numbers(value: Any) -> NDArray[np.float32] | None:
    """Numbers in rows and columns; None for anything else."""
    try:
        return np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):  # texts, dicts, rows of several lengths
        return None


_LEFT_OUT: NDArray[Any] = np.empty(0)

_MOST_SHOWN = 8
"""Objects that the text of a frame speaks of."""


def box_text(box: NDArray[np.floating]) -> str:
    """Corners of a box, to be read: ``10,20,40,60.5``."""
    return ",".join(f"{round(float(value), 1):g}" for value in box)


def _sure(score: float) -> str:
    """A score with two digits, as ``.76``."""
    return f"{float(score):.2f}".removeprefix("0")


def object_text(each: Any) -> str:
    """An object on a frame in a line: ``dog: present, sure .76, box 10,20,40,60``.

    Args:
        each: ``ObjectResult`` or ``TrackResult``; the box is x1, y1, x2, y2.
    """
    doubt = each.state in STATES  # tracks have a life instead
    life = [] if doubt else [each.state]
    if not each.present:
        return f"{each.name}: {', '.join([*life, 'not to be seen'])}"
    how = f"{each.state if doubt else SURE} {_sure(each.score)}, box {box_text(each.box)}"
    return f"{each.name}: {', '.join([*life, 'present'])}, {how}"


class ResultViews:
    """What the result of a frame can be turned into; see ``TrackingResult`` and ``MotsResult``."""

    if TYPE_CHECKING:
        frame_index: int
        time_s: float
        events: tuple[Event, ...]
        pixels: Pixels

        @property
        def objects(self) -> Sequence[Any]:
            """Everything that is followed."""

    def __repr__(self) -> str:
        said = [object_text(each) for each in self.objects[:_MOST_SHOWN]]
        more = [f"and {len(self.objects) - _MOST_SHOWN} more"] * (len(self.objects) > _MOST_SHOWN)
        return f"frame {self.frame_index} at {self.time_s:g} s: " + (
            "; ".join([*said, *more]) or "nothing is followed"
        )

    @property
    def image(self) -> NDArray[np.uint8] | None:
        """``(H, W, 3)`` RGB of the frame, where it is still at hand; else None."""
        return self.pixels() if callable(self.pixels) else self.pixels

    def plot(self, image: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The frame with masks, boxes and names drawn on it.

        Args:
            image: ``(H, W, 3)`` uint8 RGB to draw on; that of the frame when left out, and a dark
                one where it is not at hand any more.

        Returns:
            A new ``(H, W, 3)`` uint8 RGB image; OpenCV wants it as ``[..., ::-1]``.
        """
        drawn: NDArray[np.uint8] = distant("vision_mem.visualization.draw:plot")(self, image)
        return drawn

    def _repr_png_(self) -> bytes:
        """For notebooks."""
        content: bytes = distant("vision_mem.visualization.draw:plot_png")(self)
        return content

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values: boxes as x1, y1, x2, y2, masks as COCO's run lengths."""
        values: dict[str, Any] = distant("vision_mem.results:as_dict")(self)
        return values

    def to_coco(self) -> list[dict[str, Any]]:
        """The objects to be seen as COCO's annotations, boxes as x, y, width, height.

        ``image_id`` is the frame, ``track_id`` the object; ``category_id`` is the class of a
        detector, and the object where there is none.
        """
        found: list[dict[str, Any]] = distant("vision_mem.results:as_coco")(self)
        return found

    def to_supervision(self) -> Any:
        """The objects to be seen as ``supervision.Detections``, with ids, masks and names.

        Raises:
            MissingExtra: when supervision is not installed.
        """
        return distant("vision_mem.results:as_supervision")(self)


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

    def __repr__(self) -> str:
        said = [
            f"{self.name_of(n)} {_sure(self.scores[n])} ({box_text(self.boxes[n])})"
            for n in range(min(len(self), _MOST_SHOWN))
        ]
        more = [f"and {len(self) - _MOST_SHOWN} more"] * (len(self) > _MOST_SHOWN)
        return f"{len(self)} detection{'' if len(self) == 1 else 's'}" + (
            ": " + ", ".join([*said, *more]) if said else ""
        )

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

    def __repr__(self) -> str:
        return object_text(self)


@dataclass(frozen=True)
class Event:
    """Something that happened to one object: added, corrected, lost, found or removed."""

    kind: str
    object_id: int
    frame_index: int
    time_s: float
    name: str = ""


@dataclass(frozen=True)
class ZoneEvent(Event):
    """Something that an object did at a zone or a line: entered, left or crossed.

    Attributes:
        zone: name of the zone or line.
        class_name: the word for the object's class; "" where objects have none.
        direction: ``in`` or ``out`` across a line; "" at a zone.
        dwell_s: of ``left``: seconds from the first to the last frame inside; else None.
        seen: whether it was seen on either side; False for what was first seen inside, or was
            given up inside.
    """

    zone: str = ""
    class_name: str = ""
    direction: str = ""
    dwell_s: float | None = None
    seen: bool = True


@dataclass(frozen=True)
class ZoneVisit:
    """An object that is inside a zone now.

    Attributes:
        object_id, name, class_name: which.
        frame_index, time_s: since when.
        last_s: when it was last seen inside.
    """

    object_id: int
    name: str
    class_name: str
    frame_index: int
    time_s: float
    last_s: float


@dataclass(frozen=True)
class ZoneCounts:
    """What has happened at a zone or a line so far.

    Attributes:
        name: of the zone or line.
        points: its corners in pixels; two for a line.
        visits: objects inside now, in the order they came; of lines always none.
        counts: ``entered`` and ``left`` of a zone, ``in`` and ``out`` of a line, by class.
        most: objects inside at once.
        dwell_s: seconds of all visits that have ended.
        longest_s: seconds of the longest visit, also of one that goes on.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    visits: tuple[ZoneVisit, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    most: int = 0
    dwell_s: float = 0.0
    longest_s: float = 0.0

    @property
    def is_line(self) -> bool:
        """Whether it is a line."""
        return len(self.points) == 2

    def total(self, kind: str) -> int:
        """How often ``entered``, ``left``, ``in`` or ``out``, over all classes."""
        return sum(self.counts.get(kind, {}).values())

    def words(self) -> str:
        """The counts in a few words, without the name."""
        if self.is_line:
            return f"{self.total('in')} in, {self.total('out')} out"
        return f"{len(self.visits)} inside, {self.total('entered')} entered"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        kinds = ("in", "out") if self.is_line else ("entered", "left")
        made: dict[str, Any] = {"name": self.name, **{kind: self.total(kind) for kind in kinds}}
        if any(name for kind in kinds for name in self.counts.get(kind, {})):
            made["classes"] = {kind: dict(self.counts.get(kind, {})) for kind in kinds}
        if not self.is_line:
            made |= {
                "inside": len(self.visits), "most": self.most,
                "mean_dwell_s": round(self.mean_dwell_s, 3), "longest_s": round(self.longest_s, 3),
            }  # fmt: skip
        return made

    @property
    def mean_dwell_s(self) -> float:
        """Seconds of a visit, on average over those that have ended; 0 without one."""
        return self.dwell_s / max(self.total("left"), 1)


@dataclass(frozen=True, repr=False)
class TrackingResult(ResultViews):
    """What a tracking session says about one frame.

    ``result[1]`` and ``result["dog"]`` are the object of that id or name.

    Attributes:
        frame_index, time_s: those of the frame.
        size: ``(height, width)`` of the frame.
        objects: every object of the session, in the order they were added.
        events: what happened on this frame.
        pixels: the frame's image, or what gets it, for ``image`` and ``plot``; None without.
        zones: zones and lines with their counts, where a ``ZoneCounter`` watches.
    """

    frame_index: int
    time_s: float
    size: tuple[int, int]
    objects: tuple[ObjectResult, ...]
    events: tuple[Event, ...] = ()
    pixels: Pixels = field(default=None, repr=False, compare=False)
    zones: tuple[ZoneCounts, ...] = ()

    def __getitem__(self, who: int | str) -> ObjectResult:
        for found in self.objects:
            if who in (found.object_id, found.name):
                return found
        known = [f"{found.object_id} ({found.name})" for found in self.objects]
        raise KeyError(f"no object {who} on frame {self.frame_index}; known: {', '.join(known)}")


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
