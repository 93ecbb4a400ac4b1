"""What moves by itself: background subtraction, no weights.

Each pixel's colours are learned as a mixture; what does not fit is foreground. Shadows are left
out, specks are opened away, gaps are closed, and each connected part is one object. An object
that stops fades into the background within about a tenth of ``history`` frames.

When the camera turns, the background turns with it: a mean picture is carried along by the
camera's motion, and what differs from it moves by itself. When the camera travels through the
scene, or there is too little to tell its motion by, there is no answer, and that is said once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.config import check_choice, check_range
from vision_mem.errors import InputError
from vision_mem.geometry.camera_motion import (
    LEAST_AGREEING,
    MOVES,
    SIDE,
    ViewMotion,
    camera_motion,
    reduced,
)
from vision_mem.models.detectors.filters import parts_of
from vision_mem.models.detectors.protocol import Detector
from vision_mem.types import Detections, Frame

log = logging.getLogger(__name__)

_FOREGROUND = 255  # OpenCV marks shadows with 127
_SPECK = np.ones((3, 3), np.uint8)
# Until then everything may be foreground: there is nothing yet to compare a frame with.
_BLIND = {"mog2": 3, "knn": 12}
_MERGES = ("near", "above")
# Changes of the whole picture without a pause, after which the detector gives up.
_RESTLESS = 10
_CAMERAS = ("auto", "still")
_RESTS = 0.0006  # median shift a frame below which a camera that moved stands still again
_VIEWS = 10  # frames that say whether the camera moves
_TRAVELS, _TURNS = 0.36, 0.24  # mean parallax: the camera travels from, and no more below
_TURNED_SIDE = 480  # pixels of the longer side in which a turned background is kept
_TURNED_AREA = 0.001  # smallest object then, as a share of the frame
_LAG = 3  # frames ago against which what is uncovered has not changed
_NEAR = np.ones((9, 9), np.uint8)  # how far inside what moves may look unchanged
_TURNED_FLOOD = 0.25  # share of the picture that differs from which on nothing is believed
_INSTEAD = "use --detect dfine, onnx:FILE or file:FILE, or words, instead"
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
        camera: ``"auto"`` looks whether the camera moves; ``"still"`` takes for granted that it
            does not.
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
    camera: str = "auto"

    def __post_init__(self) -> None:
        check_choice(self, "method", tuple(_BLIND))
        check_choice(self, "merge", _MERGES)
        check_choice(self, "camera", _CAMERAS)
        if len(self.close) != 2 or min(self.close) < 1:
            raise InputError(f"close is {self.close!r}; expected a height and a width, 1 or more")
        check_range(self, ("history", "most", "max_side"), 1)
        check_range(self, ("warm_up",), 0)
        check_range(self, ("min_area", "flood"), 0, 1)

    @classmethod
    def upright(cls) -> MotionConfig:
        """For people and other things that are higher than wide and stand side by side."""
        return cls(close=(9, 5), merge="above")


class CameraWatch:
    """Whether the camera moves, from the last frames; ``latest`` is its motion to the newest."""

    def __init__(self) -> None:
        self.moves = False
        self.latest: ViewMotion | None = None
        self.travels = False
        """Whether near things run past far ones: then a homography explains too little."""
        self._view: NDArray[np.uint8] | None = None
        self._shifts: deque[float] = deque(maxlen=_VIEWS)
        self._parallaxes: deque[float] = deque(maxlen=_VIEWS)

    def step(self, image: NDArray[np.uint8]) -> None:
        """Look at the next frame, ``(H, W, 3)`` RGB."""
        before, self._view = self._view, reduced(image)
        self.latest = None if before is None else camera_motion(before, self._view)
        # A hand that fills the picture moves it too; it does not agree with the rest.
        if self.latest is None or self.latest.agreeing < LEAST_AGREEING:
            return
        self._shifts.append(self.latest.shift)
        self._parallaxes.append(self.latest.parallax)
        middle = float(np.median(self._shifts))
        self.moves = len(self._shifts) >= 5 and middle > (_RESTS if self.moves else MOVES)
        limit = _TURNS if self.travels else _TRAVELS
        self.travels = self.moves and float(np.mean(self._parallaxes)) > limit

    @property
    def tells(self) -> bool:
        """Whether the motion to the newest frame is that of the camera, and all of it."""
        view = self.latest
        return view is not None and not self.travels and view.agreed


class TurnedBackground:
    """A mean picture of what stands still, carried along by a camera that turns.

    It forgets within about ten frames: what is wrong with the camera's motion must not add up.
    What has just been uncovered differs from it too, for a while; it has not changed since a few
    frames ago, though.
    """

    def __init__(self) -> None:
        self._mean: NDArray[np.float32] | None = None
        self._earlier: deque[tuple[NDArray[np.float32], NDArray[np.float64]]] = deque(maxlen=_LAG)

    def step(self, image: NDArray[np.uint8], camera: ViewMotion) -> NDArray[np.uint8]:
        """Which pixels move by themselves, as 0 and 1, at the working size.

        Args:
            image: ``(H, W, 3)`` RGB.
            camera: its motion since the frame before.
        """
        scale = min(1.0, _TURNED_SIDE / max(image.shape[:2]))
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        small = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
        picture = cv2.GaussianBlur(small, (0, 0), 1.0).astype(np.float32)
        if self._mean is None or self._mean.shape != picture.shape:
            self._mean = picture
            self._deviation = np.full(picture.shape[:2], 15, np.float32)
            self._age = np.ones(picture.shape[:2], np.float32)
            return np.zeros(picture.shape[:2], np.uint8)
        compared = min(SIDE, max(image.shape[:2]))  # the longer side, see ``reduced``
        matrix = camera.scaled(max(size) / compared)
        mean = np.asarray(cv2.warpPerspective(self._mean, matrix, size), np.float32)
        deviation = cv2.warpPerspective(self._deviation, matrix, size, borderValue=15)
        age = cv2.warpPerspective(self._age, matrix, size)
        apart = _apart(picture, mean)
        differs = (apart > np.maximum(2.5 * deviation, 12)) & (age > 3)
        self._earlier = deque(
            [(one, matrix @ way) for one, way in self._earlier], maxlen=self._earlier.maxlen
        )
        if self._earlier:
            earlier, way = self._earlier[0]
            carried = np.asarray(cv2.warpPerspective(earlier, way, size), np.float32)
            changed = (_apart(picture, carried) > 12).astype(np.uint8)
            near = cv2.dilate(cv2.morphologyEx(changed, cv2.MORPH_OPEN, _SPECK), _NEAR)
            differs &= near > 0
        self._earlier.append((picture, np.eye(3)))
        rate = np.where(age < 0.5, 1, np.maximum(1 / (age + 1), 0.12)).astype(np.float32)
        self._mean = mean + (picture - mean) * rate[..., None]
        noise = (np.clip(apart, 4, 40) - deviation) * np.minimum(rate, 0.1)
        self._deviation = np.where(differs, deviation, deviation + noise).astype(np.float32)
        self._age = np.minimum(age + 1, 60)
        found = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_CLOSE, _NEAR)
        outlines, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        return np.asarray(cv2.drawContours(found, outlines, -1, 1, cv2.FILLED), np.uint8)


def _apart(picture: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey levels between two pictures, a pixel; an edge that is one pixel off is no motion."""
    low, high = cv2.erode(other, _SPECK), cv2.dilate(other, _SPECK)
    apart = np.maximum(np.maximum(low - picture, picture - high), 0)
    return np.asarray(apart.max(axis=2), np.float32)


class MotionDetector:
    """Finds moving objects, with masks, before a camera that stands still or turns.

    Scores are the share of a box that its mask fills, clipped to 0.5 to 0.95. The one class is 0,
    "moving". It answers None while it learns the background: during the warm-up and after a
    change of the whole picture; and where it cannot tell what moves by itself: the camera
    travels, or its motion cannot be told.

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
        self.coarse = 0
        """Frames answered while the camera moved."""
        self.restarts = 0
        """Times that the background was learned anew since the first frame."""
        self._without_answer = 0
        self._size: tuple[int, int] | None = None
        self._camera = CameraWatch()
        self._turned: TurnedBackground | None = None
        self._said: set[str] = set()
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
        self.coarse = 0

    def detect(self, frame: Frame) -> Detections | None:
        if self.config.camera == "auto":
            self._camera.step(frame.image)
        if self._camera.moves:
            found = self._before_turning(frame)
            if found is None:
                return None
            return self._objects(found, frame.size, max(self.config.min_area, _TURNED_AREA))
        if self._turned is not None:  # it stands still again, and looks elsewhere
            self._turned = None
            self._start()
        foreground, ready = self._foreground(frame)
        if not ready:
            return None
        return self._objects(foreground, frame.size, self.config.min_area)

    def _before_turning(self, frame: Frame) -> NDArray[np.uint8] | None:
        """What moves against the camera's own motion, as 0 and 1; None where one cannot tell."""
        if self._turned is None:
            self._turned = TurnedBackground()
        camera = self._camera.latest
        if not self._camera.tells or camera is None:
            self._turned = TurnedBackground()
            reason = "travels through the scene" if self._camera.travels else "moves"
            why = "near things pass far ones" if self._camera.travels else "too little holds still"
            self._say(
                f"frame {frame.index}: the camera {reason} and {why}: what moves by itself cannot "
                f"be told there, and nothing is detected; {_INSTEAD}"
            )
            return None
        found = self._turned.step(frame.image, camera)
        if found.mean() > _TURNED_FLOOD:
            return None
        self._say(
            f"frame {frame.index}: the camera moves; what moves is now told from the camera's own "
            f"motion, which is coarse: to be sure, {_INSTEAD}"
        )
        self.coarse += 1
        return found

    def _say(self, text: str) -> None:
        """Warn once of each kind, whatever frame it is."""
        if (kind := text.partition(": ")[2]) not in self._said:
            self._said.add(kind)
            log.warning("%s", text)

    def _tidy(self, foreground: NDArray[np.uint8]) -> NDArray[np.uint8]:
        opened = cv2.morphologyEx(foreground, cv2.MORPH_OPEN, _SPECK)
        return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, self._gap))

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

    def _objects(
        self, foreground: NDArray[np.uint8], size: tuple[int, int], min_area: float
    ) -> Detections:
        tidy = self._tidy(foreground)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(tidy, connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        kept = 1 + np.flatnonzero(areas[1:] >= min_area * foreground.size)
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


def coarse_frames(detector: Detector) -> int:
    """Frames on which motion was told from a moving camera's own, and may be anything."""
    return sum(part.coarse for part in parts_of(detector) if isinstance(part, MotionDetector))


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
