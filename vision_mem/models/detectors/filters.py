"""Detectors around detectors: guarded, at every k-th frame, chosen, renamed, thinned out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.config import nearest
from vision_mem.errors import InputError, ModelError
from vision_mem.geometry.boxes import box_iou
from vision_mem.geometry.polygons import points_inside
from vision_mem.models.detectors.protocol import Detector
from vision_mem.types import Detections, Frame

log = logging.getLogger(__name__)


class Around:
    """A detector around another one, which it owns; here nothing is changed."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    @property
    def name(self) -> str:
        return self.detector.name

    @property
    def stateful(self) -> bool:
        return self.detector.stateful

    @property
    def reports_absence(self) -> bool:
        return self.detector.reports_absence

    def detect(self, frame: Frame) -> Detections | None:
        return self.detector.detect(frame)

    def reset(self) -> None:
        self.detector.reset()

    def close(self) -> None:
        self.detector.close()


class Guarded(Around):
    """Turns errors into "no answer": each kind is logged once, and counted.

    Args:
        detector: the one that may raise.
        give_up_after: frames; a detector that failed on all of the first so many never worked.

    Raises:
        ModelError: from ``detect``, then, with the error it failed with.
    """

    def __init__(self, detector: Detector, give_up_after: int = 30) -> None:
        super().__init__(detector)
        self.errors: Counter[str] = Counter()
        """Errors so far, by kind."""
        self._give_up_after = give_up_after
        self._worked = False

    def detect(self, frame: Frame) -> Detections | None:
        try:
            found = self.detector.detect(frame)
        except ModelError:
            raise  # one inside has given up, and says why
        except Exception as error:
            self._note(error, frame.index)
            return None
        self._worked = True
        return found

    def _note(self, error: Exception, index: int) -> None:
        kind = type(error).__name__
        reason = " ".join(str(error).split())[:300]
        if kind not in self.errors:
            log.warning(
                "detector %s failed on frame %d: %s: %s; such frames have no detections, and "
                "more errors of this kind are only counted",
                self.name, index, kind, reason,
            )  # fmt: skip
            log.debug("detector %s", self.name, exc_info=error)
        self.errors[kind] += 1
        if not self._worked and self.errors.total() >= self._give_up_after:
            many = self._give_up_after
            when = "at once" if many == 1 else f"on each of the first {many} frames"
            gets = getattr(self.detector, "gets", "")
            text = f"detector {self.name} failed {when}: {kind}: {reason}{gets}"
            raise ModelError(text) from error

    def reset(self) -> None:
        super().reset()
        self.errors.clear()
        self._worked = False


class EveryNth(Around):
    """Looks at a frame only when ``every`` frames have gone by since it last did.

    Args:
        detector: the one that looks.
        every: frames of the source, >= 1; frames that a source left out count too.
        last: the frame it last looked at, in a run that is continued.
    """

    def __init__(self, detector: Detector, every: int, *, last: int | None = None) -> None:
        if every < 1:
            raise InputError(f"every is {every}; expected 1 or more frames")
        super().__init__(detector)
        self._every = every
        self._last = last

    def detect(self, frame: Frame) -> Detections | None:
        if self._last is not None and frame.index - self._last < self._every:
            return None
        self._last = frame.index
        return self.detector.detect(frame)

    def reset(self) -> None:
        super().reset()
        self._last = None


def looked_at(indices: Iterable[int], every: int) -> list[int]:
    """The frames that a detector with ``every`` looks at, of those that come by."""
    seen: list[int] = []
    for index in indices:
        if not seen or index - seen[-1] >= every:
            seen.append(index)
    return seen


class Chosen(Around):
    """Keeps some classes and scores, and renames classes.

    Args:
        detector: the one that looks.
        min_score: lower scores are left out.
        classes: words (in any case) or numbers to keep; all when left out.
        rename: word or number to a new word; several may share one. Done after the choice.

    Raises:
        InputError: when the detector knows its classes, and none of those is wanted.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        min_score: float = 0.0,
        classes: Iterable[str | int] | None = None,
        rename: Mapping[Any, str] | None = None,
    ) -> None:
        if not 0 <= min_score <= 1:
            raise InputError(f"min_score is {min_score}; expected 0 to 1")
        super().__init__(detector)
        self._min_score = min_score
        self._classes = None if classes is None else {_folded(each) for each in classes}
        self._rename = {_folded(old): new for old, new in (rename or {}).items()}
        self._told = self._looked = False
        if (known := known_classes(detector)) is not None:
            self._check(known)

    def detect(self, frame: Frame) -> Detections | None:
        found = self.detector.detect(frame)
        if found is None:
            return None
        keep = found.scores >= self._min_score
        self._looked = True
        if self._classes is not None:
            self._check(found.names)
            keep &= np.array([self._wants(found, k) for k in range(len(found))], bool)
        found = found.take(keep)
        return renamed(found, self._rename) if self._rename else found

    def _wants(self, found: Detections, index: int) -> bool:
        assert self._classes is not None
        label = int(found.labels[index])
        return label in self._classes or _folded(found.names.get(label, label)) in self._classes

    def _check(self, names: Mapping[int, str]) -> None:
        """Say once when a class that is wanted is none that the detector knows."""
        if self._told or not names or not self._classes:
            return
        at_once, self._told = not self._looked, True
        known = {*map(_folded, names.values()), *names}
        unknown = sorted(str(each) for each in self._classes - known)
        if not unknown:
            return
        some = ", ".join(list(names.values())[:8]) + (", ..." if len(names) > 8 else "")
        so_far = "" if at_once else " so far"
        near = nearest(unknown[0], list(names.values()))
        text = (
            f"detector {self.name} has no class {', '.join(unknown)}{so_far}; it has {some}{near}"
        )
        if self.name.startswith("motion ") and [*names.values()] == ["moving"]:
            text = (
                f"--detect motion finds what moves and cannot tell what it is, so no "
                f"{', '.join(unknown)}; leave that out, or give a detector that knows classes, as "
                "--detect dfine"
            )
        if at_once and len(unknown) == len(self._classes):
            raise InputError(text)
        log.warning("%s", text)


def known_classes(detector: Any) -> dict[int, str] | None:
    """Words of the classes of a detector, where it knows them before it looks."""
    while hasattr(detector, "detector"):
        detector = detector.detector
    if not hasattr(detector, "detectors"):
        classes: Mapping[int, str] | None = getattr(detector, "classes", None)
        return dict(classes) if classes else None
    parts = [known_classes(each) for each in detector.detectors]
    if None in parts:
        return None
    return dict(enumerate(dict.fromkeys(word for part in parts for word in (part or {}).values())))


def _folded(name: Any) -> Any:
    """A word in lower case; a number as one, also when it was typed."""
    if not isinstance(name, str):
        return name
    name = name.strip().casefold()
    return int(name) if name.isascii() and name.isdecimal() else name


def renamed(found: Detections, rename: Mapping[Any, str]) -> Detections:
    """Give classes other words; those that get the same word become the first of them.

    ``rename`` leads from a word in lower case, or a number, to the new word.
    """
    given = {int(label) for label in found.labels}
    names = {**{label: f"class-{label}" for label in given}, **found.names}
    words = {n: rename.get(n, rename.get(_folded(word), word)) for n, word in names.items()}
    first: dict[str, int] = {}
    for label in sorted(words):
        first.setdefault(words[label], label)
    labels = np.array([first[words[int(label)]] for label in found.labels], np.int64)
    return replace(found, labels=labels, names={label: word for word, label in first.items()})


def non_maximum(
    boxes: ArrayLike, scores: ArrayLike, labels: ArrayLike | None = None, iou: float = 0.7
) -> NDArray[np.intp]:
    """Which boxes stay when of two that overlap the one with the lower score goes.

    Args:
        boxes: ``(n, 4)`` pixels.
        scores: ``(n,)``; of equal ones the earlier box stays.
        labels: ``(n,)``: only boxes of one class suppress each other; None: all do.
        iou: overlaps above it suppress, 0 to 1.

    Returns:
        Indices of the boxes that stay, by falling score.
    """
    b, s = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64)
    kinds = np.zeros(len(b)) if labels is None else np.asarray(labels)
    order = np.argsort(-s, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        over = (box_iou(b[best], b[order]) > iou) & (kinds[order] == kinds[best])
        order = order[~over]
    return np.array(kept, np.intp)


class NonMaximum(Around):
    """Leaves out boxes that overlap a better one of their class.

    Args:
        detector: the one that looks.
        iou: overlaps above it count as the same object, 0 to 1.
        per_class: False compares boxes of different classes too.
    """

    def __init__(self, detector: Detector, iou: float = 0.7, *, per_class: bool = True) -> None:
        if not 0 <= iou <= 1:
            raise InputError(f"iou is {iou}; expected 0 to 1")
        super().__init__(detector)
        self._iou, self._per_class = iou, per_class

    def detect(self, frame: Frame) -> Detections | None:
        found = self.detector.detect(frame)
        if found is None:
            return None
        labels = found.labels if self._per_class else None
        # In the order they came, as if the others had not been there.
        return found.take(np.sort(non_maximum(found.boxes, found.scores, labels, self._iou)))


class Within(Around):
    """Keeps objects whose anchor lies in a region of the picture.

    Args:
        detector: the one that looks, at the whole picture or at a part of it.
        region: ``(4,)`` box x1, y1, x2, y2, or ``(k, 2)`` corners of a polygon, pixels.
        anchor: ``"centre"`` of the box, or ``"foot"``, the middle of its lower edge.
        crop: show the detector only the bounds of the region: quicker for some, and small objects
            are then larger to a network. Objects are cut off at those bounds.
    """

    def __init__(
        self, detector: Detector, region: ArrayLike, *, anchor: str = "centre", crop: bool = False
    ) -> None:
        if anchor not in ("centre", "foot"):
            raise InputError(f"anchor is {anchor!r}; expected centre or foot")
        super().__init__(detector)
        self._corners = _corners(region)
        self._anchor, self._crop = anchor, crop

    def detect(self, frame: Frame) -> Detections | None:
        if not self._crop:
            found = self.detector.detect(frame)
            return None if found is None else found.take(self._inside(found.boxes, frame.size))
        x1, y1, x2, y2 = self._bounds(frame)
        part = replace(
            frame, image=np.ascontiguousarray(frame.image[y1:y2, x1:x2]), model_image=None
        )
        found = self.detector.detect(part)
        if found is None:
            return None
        masks = None
        if found.masks is not None:
            masks = np.zeros((len(found), *frame.size), bool)
            masks[:, y1:y2, x1:x2] = found.masks
        shift = np.array([x1, y1, x1, y1], np.float32)
        found = replace(found, boxes=found.boxes + shift, masks=masks)
        return found.take(self._inside(found.boxes, frame.size))

    def _bounds(self, frame: Frame) -> tuple[int, int, int, int]:
        height, width = frame.size
        low = np.floor(self._corners.min(axis=0)).clip(0).astype(int)
        high = np.minimum(np.ceil(self._corners.max(axis=0)), [width, height]).astype(int)
        if (high <= low).any():
            raise InputError(
                f"the region {self._corners.tolist()} lies outside the picture of {width}x{height}"
            )
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def _inside(self, boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
        y = boxes[:, 3] if self._anchor == "foot" else (boxes[:, 1] + boxes[:, 3]) / 2
        return points_inside(np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, y], axis=1), self._corners)


def _corners(region: ArrayLike) -> NDArray[np.float64]:
    corners = np.asarray(region, np.float64)
    if corners.shape == (4,):
        x1, y1, x2, y2 = corners
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    good = corners.ndim == 2 and corners.shape[1] == 2 and len(corners) >= 3
    if not good or not np.isfinite(corners).all() or (np.ptp(corners, axis=0) <= 0).any():
        raise InputError(
            f"region has shape {np.shape(region)}; expected a box x1, y1, x2, y2 or three or more "
            "corners (x, y) that span an area"
        )
    return corners


def parts_of(detector: Detector) -> Iterator[Detector]:
    """The detectors that really look, below combinations of them."""
    inner = getattr(detector, "detector", None)
    several = getattr(detector, "detectors", (inner,) if inner is not None else ())
    if not several:
        yield detector
    for each in several:
        yield from parts_of(each)
