"""Cameras and network streams: they come at their own pace, and they break."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.sources.pixels import to_rgb
from vision_mem.sources.selection import Selection, file_name, without_password
from vision_mem.sources.video import DEFAULT_FPS, frame_to_rgb
from vision_mem.types import Frame, SourceInfo

log = logging.getLogger(__name__)

# Undecodable packets in a row after which a connection counts as broken.
_BAD_PACKETS = 100


class StopRun(Exception):
    """A person asked to stop (q, Esc or the window's close button): end the run cleanly."""


@dataclass(frozen=True)
class Reconnect:
    """When a live source breaks, how often and how fast to try again.

    Attributes:
        limit: tries in a row without a frame; 0 gives up at once.
        first_delay_s: seconds before the first try; each further delay is twice as long.
        longest_delay_s: but not longer than this.
    """

    limit: int = 5
    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0

    def __post_init__(self) -> None:
        if self.limit < 0 or self.first_delay_s < 0 or self.longest_delay_s < 0:
            raise InputError(f"{self} holds a negative number; expected 0 or more")

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait before try ``attempt``, counted from 0."""
        return float(min(self.first_delay_s * 2 ** min(attempt, 30), self.longest_delay_s))


class Connection(Protocol):
    """One opened camera or stream."""

    width: int
    height: int
    fps: float

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """RGB images until it breaks, which ends the iterator or raises SourceError."""

    def close(self) -> None:
        """Free the device or socket."""


class LiveReader:
    """Reader for anything live: frames carry wall-clock (Unix) time of arrival.

    Args:
        name: address or device, fit for messages.
        connect: opens it; raises SourceError when that fails. Called once now and again after
            each break.
        selection: which frames, counted on the frames received.
        reconnect: what to do after a break.

    Raises:
        SourceError: when the first connection fails.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        selection: Selection,
        reconnect: Reconnect,
    ) -> None:
        self._name = name
        self._connect = connect
        self._selection = selection
        self._reconnect = reconnect
        self._closed = threading.Event()
        self._connection: Connection | None = connect()
        opened = self._connection
        fps = opened.fps if 0.5 <= opened.fps <= 1000 else DEFAULT_FPS
        self.info = SourceInfo(
            file_name(name), opened.width, opened.height, fps, frame_count=None, live=True
        )

    def frames(self) -> Iterator[Frame]:
        """Frames for ever, or until too many tries in a row brought none."""
        index = 0
        attempt = 0
        reason = "it ended"
        try:
            while not self._closed.is_set():
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                        log.warning("%s: connected again", self._name)
                    for image in self._connection.images():
                        attempt = 0
                        if self._selection.past(index) or self._closed.is_set():
                            return
                        if self._selection.wants(index):
                            yield Frame(index, time.time(), image)
                        index += 1
                    reason = "no more frames"
                except SourceError as error:
                    reason = str(error)
                self._disconnect()
                if self._closed.is_set():
                    return
                if attempt >= self._reconnect.limit:
                    raise SourceError(
                        f"{self._name} broke after {index} frames and {attempt} tries to reconnect "
                        f"({reason}); results so far are kept: check it and start again"
                    )
                delay_s = self._reconnect.delay_s(attempt)
                attempt += 1
                log.warning(
                    "%s: %s; try %d of %d in %.1f s",
                    *(self._name, reason, attempt, self._reconnect.limit, delay_s),
                )
                self._closed.wait(delay_s)
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """Make ``frames`` end soon; may be called from any thread."""
        self._closed.set()

    def close(self) -> None:
        """Free the device or socket."""
        self.stop()
        self._disconnect()


class Camera:
    """A connection to a camera through OpenCV.

    Args:
        index: 0 for the first camera.
        newest_only: ask the driver to queue a single frame.

    Raises:
        SourceError: when there is no such camera or it gives no picture.
    """

    def __init__(self, index: int | str, *, newest_only: bool = True) -> None:
        import cv2

        self._name = f"camera {index}"
        self._capture = cv2.VideoCapture(index)
        if newest_only:
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        ok, first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not ok or first is None:
            self._capture.release()
            raise SourceError(
                f"{self._name} cannot be opened; check that it is plugged in, that no other "
                "program uses it, and that its number (0, 1, ...) is right"
            )
        self._first: Any = first
        self.height, self.width = first.shape[:2]
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS))

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """RGB images until the camera gives no more."""
        image, self._first = self._first, None
        while image is not None:
            yield _bgr_to_rgb(image)
            ok, image = self._capture.read()
            if not ok:
                return

    def close(self) -> None:
        """Free the camera."""
        self._capture.release()


def _bgr_to_rgb(image: Any) -> NDArray[np.uint8]:
    if image.ndim == 2:
        return to_rgb(image)
    return np.ascontiguousarray(image[..., 2::-1])


class NetworkStream:
    """A connection to rtsp, rtmp, udp, http(s) (MJPEG, HLS, ...) through FFmpeg.

    Args:
        url: the address.
        timeout_s: seconds to wait for the connection and for each piece of data.
        options: FFmpeg's demuxer options, over the defaults (RTSP over TCP, low delay).

    Raises:
        SourceError: when it cannot be reached or sends no picture in time.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 10.0, options: Mapping[str, str] | None = None
    ) -> None:
        import av

        self._name = without_password(url)
        low_delay = {"fflags": "nobuffer", "flags": "low_delay"}
        rtsp = {"rtsp_transport": "tcp"} if url.lower().startswith("rtsp") else {}
        try:
            self._container = av.open(
                url, timeout=timeout_s, options={**low_delay, **rtsp, **(options or {})}
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(
                f"{self._name} cannot be reached ({_reason(error)}); check the address, the "
                "network and the password"
            ) from None
        try:
            if not self._container.streams.video:
                raise SourceError(f"{self._name} carries no video")
            self._stream = self._container.streams.video[0]
            self._stream.thread_type = "SLICE"  # frame threads would hold frames back
            rate = self._stream.average_rate or self._stream.guessed_rate
            self.fps = float(rate) if rate else DEFAULT_FPS
            self._images = self._decode()
            self._first: NDArray[np.uint8] | None = next(self._images, None)
            if self._first is None:
                raise SourceError(f"{self._name} sent no picture; check the stream")
        except BaseException:
            self._container.close()
            raise
        self.height, self.width = self._first.shape[:2]

    @property
    def duration_s(self) -> float | None:
        """Length of a finite video; None for a true stream."""
        return self._container.duration / 1e6 if self._container.duration else None

    def _decode(self) -> Iterator[NDArray[np.uint8]]:
        import av

        bad = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                raise SourceError(f"{self._name} stopped sending ({_reason(error)})") from None
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                bad += 1
                if bad >= _BAD_PACKETS:
                    raise SourceError(
                        f"{self._name}: {bad} packets in a row cannot be decoded"
                    ) from error
                continue
            for frame in frames:
                bad = 0
                yield frame_to_rgb(frame)

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """RGB images until the stream breaks."""
        first, self._first = self._first, None
        if first is not None:
            yield first
        yield from self._images

    def close(self) -> None:
        """Close the socket."""
        self._container.close()


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "ExitError":
        return "timed out"
    return getattr(error, "strerror", None) or type(error).__name__
