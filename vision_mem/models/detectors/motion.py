"""What moves in front of a camera that stands still: background subtraction, no weights.

Each pixel's colours are learned as a mixture; what does not fit is foreground. Shadows are left
out, specks are opened away, gaps are closed, and each connected part is one object. An object
that stops fades into the background within about a tenth of ``history`` frames.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.config import check_choice, check_range
from vision_mem.errors import InputError
from vision_mem.models.detectors.filters import parts_of
from vision_mem.models.detectors.protocol import Detector
from vision_mem.types import Detections, Frame

log = logging.getLogger(__name__)

_FOREGROUND = 255  # OpenCV marks shadows with 127
_SPECK = np.ones((3, 3), np.uint8)
# Until then everything may be foreground: there is nothing yet to compare a frame with.
_BLIND = {"mog2": 3, "knn": 12}
_MERGES = ("near", "above")
# A camera that moves starts the background anew all the time.
_RESTLESS = 10
_LABEL, _NAME = 0, "moving"


@dataclass(frozen=True)
class MotionConfig:
    """How motion is told from background.

    Attributes:
        method: ``"mog2"`` (mixture of Gaussians) or ``"knn"`` (nearest samples, drawn at random:
            two runs differ a little).
        history: frames remembered; the learning rate after the warm-up is its inverse.
        threshold: squared distance from the background beyond which a pixel is foreground: in
            variances for MOG2 (None: 16), in grey levels for KNN (None: 400).
        warm_up: frames at the beginning that are learned from quickly and not answered. With the
            quick rate a large even object is taken for background, all but its leading edge,
            after a few frames; it must not go on longer.
        min_area: smallest object, as a share of the frame's area.
        close: height and width in pixels of the gaps closed within an object.
        merge: which parts are one object: ``"near"``, those whose boxes are closer than
            ``merge_gap``; ``"above"``, only those of them that lie one above the other.
        merge_gap: pixels.
        flood: share of the frame in the foreground above which the background is learned anew,
            as when lights are switched or the camera moves.
        most: objects a frame; the largest parts win.
        max_side: frames whose longer side is larger are looked at in this size, in pixels.
    """

    method: str = "mog2"
    history: int = 500
    threshold: float | None = None
    warm_up: int = 20
    min_area: float = 0.0005
    close: tuple[int, int] = (9, 9)
    merge: str = "near"
    merge_gap: float = 8.0
    flood: float = 0.5
    most: int = 100
    max_side: int = 1280

    def __post_init__(self) -> None:
        check_choice(self, "method", tuple(_BLIND))
        check_choice(self, "merge", _MERGES)
        if len(self.close) != 2 or min(self.close) < 1:
            raise InputError(f"close is {self.close!r}; expected a height and a width, 1 or more")
        check_range(self, ("history", "most", "max_side"), 1)
        check_range(self, ("warm_up",), 0)
        check_range(self, ("min_area", "flood"), 0, 1)

    @classmethod
    def upright(cls) -> MotionConfig:
        """For people and other things that are higher than wide and stand side by side."""
        return cls(close=(9, 5), merge="above")


class MotionDetector:
    """Finds moving objects, with masks; the camera must stand still.

    Scores are the share of a box that its mask fills, clipped to 0.5 to 0.95. The one class is 0,
    "moving". It answers None while it learns the background: during the warm-up and after a
    change of the whole picture.

    Args:
        config: the defaults when left out.

    Source:
        Z. Zivkovic, "Improved adaptive Gaussian mixture model for background subtraction" (ICPR
        2004) and Zivkovic and van der Heijden (PRL 2006), as OpenCV has them.
    """

    stateful = True
    reports_absence = False

    def __init__(self, config: MotionConfig | None = None) -> None:
        self.config = config or MotionConfig()
        self.name = f"motion ({self.config.method})"
        self.classes = {_LABEL: _NAME}
        self._gap = np.ones(self.config.close, np.uint8)
        self.reset()

    def reset(self) -> None:
        self.restarts = 0
        """Times that the background was learned anew since the first frame."""
        self._without_answer = 0
        self._size: tuple[int, int] | None = None
        self._start()

    def _start(self) -> None:
        c, knn = self.config, self.config.method == "knn"
        distance = (400.0 if knn else 16.0) if c.threshold is None else c.threshold
        name = "createBackgroundSubtractorKNN" if knn else "createBackgroundSubtractorMOG2"
        self._model: Any = getattr(cv2, name)(c.history, distance, True)
        self._seen = 0

    def close(self) -> None:
        """Nothing is held that needs closing."""

    def learn(self, frames: Iterable[Frame]) -> None:
        """Learn the background from frames without answering, from the beginning.

        The first frames of a file can be shown here before all of them are detected on: then
        there is no warm-up without answers.

        Args:
            frames: of the same camera; 50 to 100 are enough.
        """
        self.reset()
        for frame in frames:
            self.detect(frame)
        # Whatever was missing from the warm-up would be missing from the answers.
        self._seen = max(self._seen, self.config.warm_up)

    def detect(self, frame: Frame) -> Detections | None:
        foreground, ready = self._foreground(frame)
        if not ready:
            return None
        opened = cv2.morphologyEx(foreground, cv2.MORPH_OPEN, _SPECK)
        closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, self._gap)
        return self._objects(closed, frame.size)

    def _foreground(self, frame: Frame) -> tuple[NDArray[np.uint8], bool]:
        """Foreground as 0 and 1 at the working size, and whether it can be trusted."""
        if self._size not in (None, frame.size):
            log.warning("the picture's size changed at frame %d: learning anew", frame.index)
            self._restart()
        self._size = frame.size
        image = self._shrunk(frame.image)
        found = self._step(image)
        if self._seen > _BLIND[self.config.method] and found.mean() > self.config.flood:
            log.info("frame %d: everything changed, the background is learned anew", frame.index)
            self._restart()
            found = self._step(image)
        ready = self._seen > self.config.warm_up
        self._without_answer = 0 if ready else self._without_answer
        return found, ready

    def _step(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # -1: OpenCV's own rate, 1/2, 1/4, 1/6, ...; it is still 1/40 at the twentieth frame.
        rate = -1.0 if self._seen < self.config.warm_up else 1.0 / self.config.history
        marks = self._model.apply(image, learningRate=rate)
        self._seen += 1
        return np.asarray(marks == _FOREGROUND, np.uint8)

    def _restart(self) -> None:
        self.restarts += 1
        self._without_answer += 1
        if self._without_answer == _RESTLESS:
            log.warning(
                "the whole picture has changed %d times without a pause; motion detection needs a "
                "camera that stands still: choose another detector, such as --detect dfine",
                _RESTLESS,
            )
        self._start()

    def _shrunk(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        scale = self.config.max_side / max(image.shape[:2])
        if scale >= 1:
            return np.ascontiguousarray(image)
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))

    def _objects(self, foreground: NDArray[np.uint8], size: tuple[int, int]) -> Detections:
        _, parts, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        kept = 1 + np.flatnonzero(areas[1:] >= self.config.min_area * foreground.size)
        if len(kept) > self.config.most:
            kept = np.sort(kept[np.argsort(-areas[kept], kind="stable")[: self.config.most]])
        boxes = stats[kept, :4].astype(np.float64)
        boxes[:, 2:] += boxes[:, :2]
        groups = merge_parts(boxes, self.config.merge_gap, self.config.merge)
        owner = np.zeros(len(stats), np.int32)  # part to object, counted from 1
        spans = np.zeros((len(groups), 4))
        for number, group in enumerate(groups):
            owner[kept[group]] = number + 1
            spans[number, :2] = boxes[group, :2].min(axis=0)
            spans[number, 2:] = boxes[group, 2:].max(axis=0)
        sizes = (spans[:, 2:] - spans[:, :2]).prod(axis=1)
        filled = np.bincount(owner, weights=areas, minlength=len(groups) + 1)[1:]
        objects = owner[parts]
        if objects.shape != size:
            objects = cv2.resize(objects, size[::-1], interpolation=cv2.INTER_NEAREST)
        scale = np.array([size[1] / parts.shape[1], size[0] / parts.shape[0]] * 2)
        return Detections(
            (spans * scale).astype(np.float32),
            np.clip(filled / sizes, 0.5, 0.95).astype(np.float32),
            np.full(len(groups), _LABEL, np.int64),
            masks=objects == np.arange(1, len(groups) + 1)[:, None, None],
            names={_LABEL: _NAME},
        )


def merge_parts(boxes: ArrayLike, gap: float, how: str = "near") -> list[list[int]]:
    """Group the boxes of parts that belong to one object.

    Args:
        boxes: ``(n, 4)`` pixels.
        gap: pixels; parts belong together when they, or what their groups span, are closer than
            this along both axes.
        how: ``"above"`` also asks that half the width of the narrower one lies above or below the
            other; ``"near"`` does not.

    Returns:
        Groups of indices, each in rising order, in the order of their first member.
    """
    from scipy.sparse.csgraph import connected_components  # a third of a second to load

    spans = np.array(boxes, np.float64).reshape(-1, 4)
    groups = [[k] for k in range(len(spans))]
    while len(groups) > 1:
        count, group_of = connected_components(_belong(spans, gap, how), directed=False)
        if count == len(groups):
            break
        members = [np.flatnonzero(group_of == k) for k in range(count)]
        members.sort(key=lambda some: min(groups[k][0] for k in some))
        groups = [sorted(part for k in some for part in groups[k]) for some in members]
        low = [spans[some, :2].min(axis=0) for some in members]
        high = [spans[some, 2:].max(axis=0) for some in members]
        spans = np.concatenate([low, high], axis=1)
    return groups


def _belong(spans: NDArray[np.float64], gap: float, how: str) -> NDArray[np.bool_]:
    """``(n, n)``: which spans are parts of one object with which."""
    a, b = spans[:, None], spans[None]
    apart = np.maximum(a[..., :2], b[..., :2]) - np.minimum(a[..., 2:], b[..., 2:])
    if how == "near":
        return np.asarray((apart < gap).all(axis=-1))
    width = spans[:, 2] - spans[:, 0]
    narrower = np.minimum(width[:, None], width[None])
    return np.asarray((apart[..., 1] < gap) & (-apart[..., 0] >= narrower / 2))


WARM_UP = 100
"""Frames that a motion detector learns the background of a file from before the first answer."""

REPLAY = 3000
"""Frames before a continued run that a motion detector is shown again; its memory fades."""


def learn_background(
    detector: Detector,
    frames: Callable[[int, int], Iterable[Frame]],
    start: int,
    again: Sequence[int],
) -> None:
    """Show motion detectors the background before they are asked; others need nothing.

    Args:
        detector: with all that is around it.
        frames: gives the frames from one number to another (exclusive) of the source.
        start: first frame of the run.
        again: frames that were looked at before, in a run that is continued; shown once more.
    """
    again = again[-REPLAY:]
    for part in parts_of(detector):
        if isinstance(part, MotionDetector):
            part.learn(frames(start, start + WARM_UP))
            wanted = set(again)
            for frame in frames(again[0], again[-1] + 1) if again else ():
                if frame.index in wanted:
                    part.detect(frame)
