"""Which decoder reads a video file: PyAV, or decord or OpenCV by choice or where PyAV cannot.

OpenCV has parsers of its own beside FFmpeg's (AVI with MJPEG among them), so it opens a few files
that FFmpeg refuses. decord stops at the first damaged packet and is here for those who want to
compare with programs that use it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import SourceError
from vision_mem.sources.pixels import check_size, to_rgb
from vision_mem.sources.selection import Reader, Selection, sequence_name
from vision_mem.sources.video import (
    DEFAULT_FPS,
    Decord,
    Presentation,
    VideoFile,
    check_file,
    mirrored,
    presentation,
)
from vision_mem.types import Frame, SourceInfo

log = logging.getLogger(__name__)

DECODERS = ("auto", "pyav", "decord", "opencv")


def open_video(
    path: str,
    selection: Selection,
    *,
    decoder: str = "auto",
    strict: bool = False,
    model_size: int | None = None,
) -> Reader:
    """Open a video file.

    Args:
        path: the file.
        selection: which frames.
        decoder: one of ``DECODERS``; ``auto`` takes PyAV, and OpenCV for a file
            of which PyAV cannot decode a single frame.
        strict: stop at the first damaged frame.
        model_size: also give ``Frame.model_image`` of this width and height.

    Returns:
        A reader of it.

    Raises:
        SourceError: when it cannot be read.
        InputError: when the selection starts behind the last frame.
    """
    check_file(path)
    if decoder == "decord":
        try:
            images = Decord(path)
        except ImportError:
            raise SourceError(
                f"{path} is to be read by decord, which is not installed; pip install decord, or "
                "choose another decoder"
            ) from None
        return PlainVideo(path, images, selection, strict=strict, model_size=model_size)
    if decoder == "opencv":
        return PlainVideo(path, _OpenCV(path), selection, strict=strict, model_size=model_size)
    try:
        return VideoFile(path, selection, strict=strict, model_size=model_size)
    except SourceError as error:
        if decoder == "pyav":
            raise
        refusal = error
    try:
        other = PlainVideo(path, _OpenCV(path), selection, strict=strict, model_size=model_size)
    except SourceError:
        raise SourceError(f"{refusal} (tried: PyAV, OpenCV)") from None
    log.warning("%s: PyAV cannot decode a frame of it; reading it with OpenCV", path)
    return other


class Images(Protocol):
    """A decoder at work: images in order of presentation, one at a time."""

    name: str
    fps: float
    count: int | None
    slack: int

    def skip(self) -> bool:
        """Pass over one image; False at the end."""

    def next(self) -> tuple[float | None, NDArray[np.uint8]] | None:
        """Time in seconds, when it is known, and the RGB image; None at the end."""

    def close(self) -> None:
        """Free the file."""


class PlainVideo:
    """Reader of a video file through decord or OpenCV.

    Args:
        path: the file.
        images: the decoder; owned by the reader from now on.
        selection: which frames.
        strict: an early end is an error, not a warning.
        model_size: also give ``Frame.model_image``.

    Raises:
        SourceError: when there is no frame to decode.
        InputError: when the selection starts behind the last frame.
    """

    def __init__(
        self,
        path: str,
        images: Images,
        selection: Selection,
        *,
        strict: bool = False,
        model_size: int | None = None,
    ) -> None:
        self._path, self._images, self._strict = path, images, strict
        self._selection = selection
        self._model_size = model_size
        self._small: Decord | None = None
        try:
            self._first = images.next()
            if self._first is None:
                raise SourceError(
                    f"{path} has no frame that {images.name} can decode; try another decoder, or "
                    "copy or record it again"
                )
            selection.check(path, images.count)
            if model_size is not None:
                try:
                    self._small = Decord(path, model_size)
                except (SourceError, ImportError):
                    self._without_decord()
        except BaseException:
            images.close()
            raise
        height, width = self._first[1].shape[:2]
        self.info = SourceInfo(
            sequence_name(Path(path)), width, height, images.fps, selection.count(images.count)
        )

    def _without_decord(self) -> None:
        self._small = None
        log.warning(
            "%s: decord cannot go on; images for the model are resized by OpenCV from here on",
            self._path,
        )

    def frames(self) -> Iterator[Frame]:
        """The wanted frames in order of presentation."""
        index, last = 0, -np.inf
        item, self._first = self._first, None
        while item is not None:
            if self._selection.past(index):
                return
            if self._selection.wants(index):
                time_s, image = item
                if time_s is None or time_s <= last:
                    time_s = index / self._images.fps
                last = time_s
                yield Frame(index, float(time_s), image, self._model_image(index, image))
            index += 1
            while not self._selection.wants(index) and not self._selection.past(index):
                if not self._images.skip():
                    self._report_end(index)
                    return
                index += 1
            if self._selection.past(index):
                return
            item = self._images.next()
        self._report_end(index)

    def _model_image(self, index: int, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        import cv2

        size = self._model_size
        if size is None:
            return None
        if self._small is not None:
            item = self._small.at(index)
            if item is not None:
                return item
            self._without_decord()
        return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR))

    def _report_end(self, reached: int) -> None:
        announced = self._images.count
        if announced is None or reached + self._images.slack >= announced:
            return
        message = f"{self._path}: it announces {announced} frames but ends after {reached}"
        if self._strict:
            raise SourceError(f"{message}; the file is cut off or damaged: copy it again")
        log.warning("%s; the file is cut off or damaged", message)

    def close(self) -> None:
        """Free the file."""
        if self._small is not None:
            self._small.close()
        self._images.close()


class _OpenCV:
    """OpenCV, whichever of its parsers takes the file."""

    name = "OpenCV"
    # Where a file does not say it, OpenCV computes the count from length and rate.
    slack = 1

    def __init__(self, path: str) -> None:
        import cv2

        self._capture = cv2.VideoCapture(path)
        if not self._capture.isOpened():
            raise SourceError(f"{path} cannot be opened by OpenCV; try another decoder")
        sides = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
        check_size(path, *(int(self._capture.get(side)) for side in sides))
        # Its other parsers give the time behind a frame, or none.
        self._timed = self._capture.getBackendName() == "FFMPEG"
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        about = presentation(path)
        if about is None:
            about = Presentation(
                fps=rate if 0.1 <= rate <= 1000 else None,
                shown=count if 0 < count < 2**31 - 1 else None,
            )
        self._matrix, self.count = about.matrix, about.shown
        self.fps = about.fps or DEFAULT_FPS

    def skip(self) -> bool:
        return bool(self._capture.grab())

    def next(self) -> tuple[float | None, NDArray[np.uint8]] | None:
        import cv2

        ok, image = self._capture.read()
        if not ok or image is None:
            return None
        stamp = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0
        if image.ndim == 3 and image.shape[2] == 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        known = self._timed and np.isfinite(stamp) and stamp >= 0
        return (stamp if known else None), mirrored(to_rgb(image), self._matrix)

    def close(self) -> None:
        self._capture.release()
