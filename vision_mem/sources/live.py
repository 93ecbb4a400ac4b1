"""Cameras and network streams: they come at their own pace, and they break."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.text import scratch_prefix
from vision_mem.sources.pixels import to_rgb
from vision_mem.sources.selection import Selection, file_name, without_password
from vision_mem.sources.video import DEFAULT_FPS, UNSAID_END, frame_rate, frame_to_rgb
from vision_mem.types import Frame, SourceInfo

log = logging.getLogger(__name__)

# Undecodable packets in a row after which a connection counts as broken.
_BAD_PACKETS = 100
# A connection that lasted so long was a good one: after its break delays start small again.
_STEADY_S = 5.0
_STREAM_FORMATS = frozenset({"hls", "dash", "rtsp", "sdp", "rtp", "mpjpeg", "flv", "live_flv"})
"""FFmpeg's names of formats whose length or size, if they state one, is not that of the video."""
_FILE_FORMATS = frozenset({"matroska", "webm", "mov", "mp4", "avi", "ogg", "asf"})
"""Formats of files: when one ends without an error, it has come to its end."""
_PIECE = 1 << 20
_LARGEST_COPY = 4 << 30
"""Bytes of a file that is fetched as a whole."""


class StopRun(Exception):
    """A person asked to stop (q, Esc or the window's close button): end the run cleanly."""


@dataclass(frozen=True)
class Reconnect:
    """When a live source breaks, how often and how fast to try again.

    Attributes:
        limit: tries in a row without a frame; 0 gives up at once, None tries for ever.
        first_delay_s: seconds before the first try; each further delay is twice as long.
        longest_delay_s: but not longer than this.
    """

    limit: int | None = None
    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0

    def __post_init__(self) -> None:
        if (self.limit or 0) < 0 or self.first_delay_s < 0 or self.longest_delay_s < 0:
            raise InputError(f"{self} holds a negative number; expected 0 or more")

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait before try ``attempt``, counted from 0."""
        return float(min(self.first_delay_s * 2 ** min(attempt, 30), self.longest_delay_s))


class Connection(Protocol):
    """One opened camera or stream."""

    width: int
    height: int
    fps: float
    ends: bool
    """Whether the end of ``images`` is the end of the source, not a break."""

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """RGB images until it breaks, which ends the iterator or raises SourceError."""

    def close(self) -> None:
        """Free the device or socket."""


class LiveReader:
    """Reader for anything live: frames carry the time of arrival, as Unix time.

    Times never go back: the wall clock is read once, and a steady clock counts on from there.

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
        self._epoch_s = time.time() - time.monotonic()
        self.reconnects = 0
        self._connection: Connection | None = connect()
        opened = self._connection
        fps = opened.fps if 0.5 <= opened.fps <= 1000 else DEFAULT_FPS
        self.info = SourceInfo(
            file_name(name), opened.width, opened.height, fps, frame_count=None, live=True
        )

    def frames(self) -> Iterator[Frame]:
        """Frames until the source ends, or until too many tries in a row brought none."""
        index = 0
        attempt = 0  # since the last frame
        breaks = 0  # since the last connection that lasted
        reason = "it ended"
        try:
            while not self._closed.is_set():
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                        self.reconnects += 1
                        log.warning("%s: connected again", self._name)
                    since = time.monotonic()
                    for image in self._connection.images():
                        attempt = 0
                        if self._selection.past(index) or self._closed.is_set():
                            return
                        if self._selection.wants(index):
                            yield Frame(index, self._epoch_s + time.monotonic(), image)
                        index += 1
                        if breaks and time.monotonic() - since > _STEADY_S:
                            breaks = 0
                    if self._connection.ends:
                        return
                    reason = "no more frames"
                except SourceError as error:
                    reason = str(error).removeprefix(self._name).lstrip(": ")
                self._disconnect()
                if self._closed.is_set():
                    return
                limit = self._reconnect.limit
                if limit is not None and attempt >= limit:
                    raise SourceError(
                        f"{self._name} broke after {index} frames and {attempt} tries to reconnect "
                        f"({reason}); results so far are kept: check it and start again"
                    )
                delay_s = self._reconnect.delay_s(breaks)
                attempt, breaks = attempt + 1, breaks + 1
                tries = f"try {attempt}" if limit is None else f"try {attempt} of {limit}"
                log.warning("%s: %s; %s in %.1f s", self._name, reason, tries, delay_s)
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

    ends = False

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
        rtsp = {"rtsp_transport": "tcp"} if url.lower().startswith("rtsp") else {}
        try:
            # Nothing that lowers delay: it costs the first pictures while the stream is probed,
            # and whoever wants the newest frame drops what waits.
            self._container = av.open(url, timeout=timeout_s, options={**rtsp, **(options or {})})
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
            self.fps = frame_rate(self._stream) or DEFAULT_FPS
        except BaseException:
            self._container.close()
            raise
        formats = set(self._container.format.name.split(","))
        known = bool(self._container.duration) or (self._container.size or 0) > 0
        self.is_file = known and not formats & _STREAM_FORMATS
        """Whether this is a file on a server: its length or its size is known."""
        if "hls" in formats or "dash" in formats:
            self.is_file = bool(self._container.duration)
        self.ends = self.is_file or bool(formats & _FILE_FORMATS)
        self._images = self._decode()
        self._first: NDArray[np.uint8] | None = None

    def start(self) -> NetworkStream:
        """Wait for the first picture, which tells the size.

        Raises:
            SourceError: when none comes.
        """
        try:
            self._first = next(self._images, None)
            if self._first is None:
                raise SourceError(f"{self._name} sent no picture; check the stream")
        except BaseException:
            self._container.close()
            raise
        self.height, self.width = self._first.shape[:2]
        return self

    def _decode(self) -> Iterator[NDArray[np.uint8]]:
        import av

        bad = 0
        packets = self._container.demux(self._stream)
        if self._stream.codec_context is None:  # PyAV before 18 crashes at the first packet
            raise SourceError(f"{self._name} sends what there is no decoder for")
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                if self.ends and (self._container.size or 0) <= 0 and _reason(error) != "timed out":
                    log.warning(UNSAID_END, self._name)
                    yield from map(frame_to_rgb, self._stream.codec_context.decode(None))
                    return
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


def fetch_file(url: str, timeout_s: float) -> Path | None:
    """A copy of a video on a server that sends whole files only; MP4 needs its end first.

    Args:
        url: the address.
        timeout_s: seconds to wait for the connection and for each piece.

    Returns:
        The copy, alone in a temporary folder; None when the address is no such file.
    """
    import urllib.request

    if not url.lower().startswith(("http://", "https://")):
        return None
    size = 0
    folder = Path(tempfile.mkdtemp(prefix=scratch_prefix()))
    path = folder / (Path(urlsplit(without_password(url)).path).name or "video")
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            length = int(answer.headers.get("Content-Length") or 0)
            kind = str(answer.headers.get_content_maintype())
            start = answer.read(12)
            # Servers that name no kind, or no length, send MP4 too; that is known by its begin.
            known = kind in ("video", "application") and length > 0
            if (known or start[4:8] == b"ftyp") and length <= _LARGEST_COPY:
                with path.open("wb") as file:
                    file.write(start)
                    while piece := answer.read(_PIECE):
                        file.write(piece)
                        if (size := file.tell()) > _LARGEST_COPY:
                            raise ValueError("it does not end")
                log.warning(
                    "%s: its server sends whole files only; %.1f MB were fetched first",
                    *(without_password(url), size / 1e6),
                    extra={"at_once": True},  # it took its time
                )
                return path
    except (OSError, ValueError):
        pass  # what kept FFmpeg from it keeps us from it too
    shutil.rmtree(folder, ignore_errors=True)
    return None
