"""The video people look at: frames with results drawn on, as MP4 that browsers play."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import SinkError
from vision_mem.formats.text import make_folder, sink_error
from vision_mem.results import Shown
from vision_mem.sources.pixels import fit_image
from vision_mem.types import Frame, SourceInfo
from vision_mem.visualization.draw import Painter

log = logging.getLogger(__name__)

# Units of time stamps in the file: those of MPEG, which hold all usual rates; milliseconds where
# hours may lie between frames, since FFmpeg takes no more than 2**31 units for one.
_TICKS, _SLOW_TICKS = 90_000, 1000
_LONGEST = 2**30
_HD_LINES = 720
_BT709, _BT601, _LIMITED = 1, 6, 1
"""Codes of ITU-T H.273: primaries, transfer and matrix of HD and of older video; 16 to 235."""


class AnnotatedVideo:
    """H.264 MP4 of the frames with masks, boxes and names.

    While it runs the file is ``<stem>.partial.mp4``, written in fragments of about a second: after
    a crash or ``kill -9`` it plays up to the last fragment. ``close`` turns it into ``<stem>.mp4``
    with its index in front. The video has the size of the first frame, grown to even numbers, and
    its shape on screen where pixels are not square; frames of another size are fitted in with
    black bars. Each frame is shown at its own time; where time goes back, at the source's rate.
    Colours are tagged: BT.709 from 720 lines on, BT.601 below.

    Args:
        path: the ``.mp4`` to end with.
        painter: what to draw; the default draws all but trails.
        append: keep an earlier video (finished from its fragments if need be) and write
            ``<stem>.part2.mp4``, ``.part3.mp4`` and so on.
        quality: x264's constant rate factor, 0 (lossless) to 51; about 23 looks good.
        threads: encoder threads.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        painter: Painter | None = None,
        append: bool = False,
        quality: int = 23,
        threads: int = 2,
    ) -> None:
        self.path = Path(path)
        self._painter = painter or Painter()
        self._append = append
        self._quality = quality
        self._threads = threads
        self._container: Any = None
        self._stream: Any = None
        self._info: SourceInfo | None = None
        self._size = (0, 0)
        self._ticks = _TICKS
        self._time_s: float | None = None
        self._begin_s = 0.0
        self._pts = 0

    @property
    def partial(self) -> Path:
        """The file while it is being written."""
        return self.path.with_suffix(".partial.mp4")

    def open(self, info: SourceInfo) -> None:
        """Refuse early what could not be written; the encoder starts with the first frame."""
        make_folder(self.path.parent)
        if self.path.is_dir():
            raise SinkError(f"{self.path} cannot be written: a folder is in the way of a file")
        if self._append:
            self._next_part()
        try:
            self.partial.touch()
            self.partial.unlink()
        except OSError as error:
            raise sink_error(self.path, error) from None
        self._info = info

    def _next_part(self) -> None:
        base, number = self.path, 1
        while self.path.exists() or self.partial.exists():
            if self.partial.exists():
                _finish(self.partial, self.path)
            number += 1
            self.path = base.with_name(f"{base.stem}.part{number}{base.suffix}")

    def _start(self, image: NDArray[np.uint8]) -> None:
        import av

        assert self._info is not None, "open() comes first"
        # A hint for the encoder; frames are shown at their own times.
        rate = Fraction(min(max(self._info.fps, 1.0), 240.0)).limit_denominator(1001)
        height, width = image.shape[:2]
        self._size = height + height % 2, width + width % 2
        fragments = "frag_keyframe+empty_moov+default_base_moof"
        try:
            self._container = av.open(
                str(self.partial), "w", format="mp4",
                options={"movflags": fragments, "flush_packets": "1"},
            )  # fmt: skip
            stream = self._container.add_stream("libx264", rate=rate)
        except ValueError as error:
            self._drop()
            if not isinstance(error, OSError):  # FFmpeg without x264
                raise SinkError(
                    f"{self.path} cannot be written: this PyAV has no H.264 encoder; reinstall the "
                    "wheel with: pip install --force-reinstall av"
                ) from None
            raise sink_error(self.partial, error) from None
        except OSError as error:
            self._drop()
            raise sink_error(self.partial, error) from None
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        stream.thread_count = self._threads
        slow = self._info.live or self._info.fps < 1
        self._ticks = _SLOW_TICKS if slow else _TICKS
        stream.codec_context.time_base = Fraction(1, self._ticks)
        aspect = Fraction(self._info.pixel_aspect).limit_denominator(1000)
        stream.codec_context.sample_aspect_ratio = aspect
        standard = _BT709 if height >= _HD_LINES else _BT601
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = standard
        context.color_range = _LIMITED
        # No look-ahead and no B-frames: what was written is soon in the file.
        stream.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "crf": str(self._quality),
            "g": str(max(1, round(min(self._info.fps, 60)))),
        }
        self._stream = stream

    def write(self, frame: Frame, result: Shown) -> None:
        """Draw, encode and write one frame."""
        import av

        image = self._painter.draw(frame.image, result)
        if self._stream is None:
            self._start(image)
        picture = av.VideoFrame.from_ndarray(fit_image(image, *self._size), format="rgb24")
        matrix = "itu709" if self._stream.codec_context.colorspace == _BT709 else "itu601"
        picture = picture.reformat(format="yuv420p", dst_colorspace=matrix)
        picture.pts = self._next_pts(frame)
        picture.time_base = Fraction(1, self._ticks)
        try:
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise sink_error(self.partial, error) from None

    def _next_pts(self, frame: Frame) -> int:
        """When a frame is shown; always later than the one before it."""
        assert self._info is not None
        before, self._time_s = self._time_s, frame.time_s
        if before is None:
            self._begin_s = frame.time_s
            return 0
        step_s = frame.time_s - before
        if step_s < 0:  # joined recordings, a clock that was set
            self._begin_s -= 1.0 / self._info.fps - step_s
        elif step_s * self._ticks > _LONGEST:
            self._begin_s += step_s - _LONGEST / self._ticks
        self._pts = max(self._pts + 1, round((frame.time_s - self._begin_s) * self._ticks))
        return self._pts

    def _drop(self) -> None:
        """Let go of a container that never got a stream."""
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(OSError, ValueError):
                container.close()

    def close(self) -> None:
        """Finish the file. Safe to call twice; also after a failed write."""
        import av

        container, stream = self._container, self._stream
        self._container = self._stream = None
        if container is None:
            return
        failure: BaseException | None = None
        try:
            for packet in stream.encode():
                container.mux(packet)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            failure = error
        try:
            container.close()
        except (av.error.FFmpegError, OSError) as error:
            failure = failure or error
        _finish(self.partial, self.path)
        if failure is not None:
            raise sink_error(self.path, failure)


def _finish(partial: Path, final: Path) -> None:
    """Copy the packets into an MP4 with its index in front; keep the fragments if that fails."""
    import av

    if not partial.exists():
        return
    copy = final.with_suffix(".finishing.mp4")
    try:
        with (
            av.open(str(partial)) as source,
            av.open(str(copy), "w", format="mp4", options={"movflags": "faststart"}) as target,
        ):
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.is_corrupt:  # the disk was full in the middle of it
                    break
                if packet.dts is None:
                    continue
                packet.stream = stream
                target.mux(packet)
        copy.replace(final)
        partial.unlink()
    except (av.error.FFmpegError, OSError, IndexError, ValueError) as error:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
        if partial.stat().st_size == 0 or isinstance(error, IndexError):
            log.warning("%s holds no frame; nothing to finish", partial)
            partial.unlink()
            return
        # The fragments play just as well, but for slower seeking.
        log.warning("%s keeps its fragments, copying them failed: %s", final, error)
        partial.replace(final)


class WriteBehind:
    """A sink in a thread of its own, a few frames behind.

    Frames are written in order, and all of them before ``close`` returns. What the sink raises is
    raised by the next ``write``, or by ``close``; nothing is written after that. Meant for sinks
    that promise nothing about the frame just written, as videos do.

    Args:
        sink: a sink; between ``open`` and ``close`` this thread alone uses it.
        depth: frames that may wait; ``write`` blocks when that many do.
    """

    def __init__(self, sink: Any, depth: int = 4) -> None:
        self.sink = sink
        self._waiting: queue.Queue[tuple[Frame, Any] | None] = queue.Queue(depth)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._failed = False

    def open(self, info: SourceInfo) -> None:
        """Open the sink; the thread starts with the first frame."""
        self.sink.open(info)

    def write(self, frame: Frame, result: Any) -> None:
        """Hand a frame over, or raise what an earlier one met."""
        self._raise()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="vision-mem-write-behind", daemon=True
            )
            self._thread.start()
        self._waiting.put((frame, result))

    def close(self) -> None:
        """Write what waits, then close the sink. Safe to call twice."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
        try:
            self.sink.close()
        finally:
            self._raise()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failed:
                continue  # later frames would leave a gap
            try:
                self.sink.write(*item)
            except BaseException as error:
                self._error, self._failed = error, True

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
