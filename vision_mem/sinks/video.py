"""The video people look at: frames with results drawn on, as MP4 that browsers play."""

from __future__ import annotations

import contextlib
import heapq
import json
import logging
import math
import queue
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SinkError
from vision_mem.formats.text import make_folder, sink_error, write_file
from vision_mem.results import Shown
from vision_mem.runs.folder import without_secret
from vision_mem.sources.pixels import fit_image
from vision_mem.sources.selection import is_url
from vision_mem.text import read_json
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
_FRAGMENTS = "frag_every_frame+empty_moov+default_base_moof"
_MP4_SOUND = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "libopus", "flac"})
"""FFmpeg's names of sound that MP4 holds and players know."""


class AnnotatedVideo:
    """H.264 MP4 of the frames with masks, boxes and names.

    While it runs the file is ``<stem>.partial.mp4``, written in fragments of one frame: after a
    crash or ``kill -9`` it plays up to the last frame or the one before. ``close`` turns it into
    ``<stem>.mp4`` with its index in front. The video has the size of the first frame, grown to even
    numbers, and its shape on screen where pixels are not square; frames of another size are fitted
    in with black bars. Each frame is shown at its own time; where time goes back, at the source's
    rate. The last one is shown as long as in the source; where frames are left out, as long as the
    one before it. Colours are tagged: BT.709 from 720 lines on, BT.601 below.

    Args:
        path: the ``.mp4`` to end with.
        painter: what to draw; the default draws all but trails.
        append: go on with an earlier video, whole or cut short, without encoding it again.
        frames: of the earlier video that stay; None: those before the time of the first new one.
        sound: file whose sound goes into the finished video; None for none.
        quality: x264's constant rate factor, 0 (lossless) to 51; about 23 looks good.
        threads: encoder threads.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        painter: Painter | None = None,
        append: bool = False,
        frames: int | None = None,
        sound: str | None = None,
        quality: int = 23,
        threads: int = 2,
    ) -> None:
        self.path = Path(path)
        self._painter = painter or Painter()
        self._append, self._frames = append, frames
        self._sound = sound
        self._quality = quality
        self._threads = threads
        self._container: Any = None
        self._stream: Any = None
        self._last: Any = None
        self._info: SourceInfo | None = None
        self._size = (0, 0)
        self._ticks = _TICKS
        self._before: tuple[int, float] | None = None  # number and time of the latest frame
        self._begin_s = 0.0
        self._offset = self._pts = 0

    @property
    def partial(self) -> Path:
        """The file while it is being written."""
        return self.path.with_suffix(".partial.mp4")

    def open(self, info: SourceInfo) -> None:
        """Refuse early what could not be written; the encoder starts with the first frame."""
        make_folder(self.path.parent)
        if self.path.is_dir():
            raise SinkError(f"{self.path} cannot be written: a folder is in the way of a file")
        try:
            self.partial.open("ab").close()
            if not self._append or not self.partial.stat().st_size:
                self.partial.unlink()
        except OSError as error:
            raise sink_error(self.path, error) from None
        self._info = info

    def _start(self, image: NDArray[np.uint8], frame: Frame) -> None:
        import av

        assert self._info is not None, "open() comes first"
        slow = self._info.live or self._info.fps < 1
        self._ticks = _SLOW_TICKS if slow else _TICKS
        height, width = image.shape[:2]
        self._size, self._begin_s = (height + height % 2, width + width % 2), frame.time_s
        if self._append:
            if (self.path.exists() or self.partial.exists()) and not _finish(
                [self.path, self.partial], self._frames, frame.time_s
            ):
                raise SinkError(f"{self.path} cannot be continued; free some space, and try again")
            self._go_on(frame)
        # A hint for the encoder; frames are shown at their own times.
        rate = Fraction(min(max(self._info.fps, 1.0), 240.0)).limit_denominator(1001)
        try:
            self._container = av.open(
                str(self.partial), "w", format="mp4",
                options={"movflags": _FRAGMENTS, "flush_packets": "1"},
            )  # fmt: skip
            place = f", from {Fraction(self._offset, self._ticks)} s on" if self._offset else ""
            self._container.metadata["comment"] = f"begins at {self._begin_s!r} s of source{place}"
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
        context = stream.codec_context
        context.time_base = Fraction(1, self._ticks)
        context.sample_aspect_ratio = Fraction(self._info.pixel_aspect).limit_denominator(1000)
        standard = _BT709 if height >= _HD_LINES else _BT601
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

    def _go_on(self, frame: Frame) -> None:
        """Take size and time from the earlier video."""
        import av

        assert self._info is not None
        if not self.path.exists():
            return
        with av.open(str(self.path)) as earlier:
            stream = earlier.streams.video[0]
            self._size = stream.height, stream.width
            stamps = [p.pts for p in earlier.demux(stream) if p.pts is not None]
            last = round(max(stamps) * stream.time_base * self._ticks)
            begin_s = _said(earlier)[0]
        self._begin_s = frame.time_s if begin_s is None else begin_s
        self._offset = round((frame.time_s - self._begin_s) * self._ticks)
        if self._offset <= last:  # time goes back, or an earlier version wrote it
            self._offset = last + max(1, round(self._ticks / self._info.fps))
            self._begin_s = frame.time_s - self._offset / self._ticks
        self._pts = self._offset

    def write(self, frame: Frame, result: Shown) -> None:
        """Draw, encode and write one frame."""
        import av

        image = self._painter.draw(frame.image, result)
        if self._stream is None:
            self._start(image, frame)
        picture = av.VideoFrame.from_ndarray(fit_image(image, *self._size), format="rgb24")
        matrix = "itu709" if self._stream.codec_context.colorspace == _BT709 else "itu601"
        picture = picture.reformat(format="yuv420p", dst_colorspace=matrix)
        picture.pts = self._next_pts(frame) - self._offset
        picture.time_base = Fraction(1, self._ticks)
        length_s = self._length_s(frame)
        self._before = frame.index, frame.time_s
        try:
            for packet in self._stream.encode(picture):
                # Of all but the last one the next begins where it ends.
                packet.duration = round(length_s / packet.time_base)
                self._container.mux(packet)
                self._last = packet
        except (av.error.FFmpegError, OSError) as error:
            raise sink_error(self.partial, error) from None

    def _next_pts(self, frame: Frame) -> int:
        """When a frame is shown; always later than the one before it."""
        assert self._info is not None
        if self._before is None:
            return self._pts
        step_s = frame.time_s - self._before[1]
        if step_s < 0:  # joined recordings, a clock that was set
            self._begin_s -= 1.0 / self._info.fps - step_s
        elif step_s * self._ticks > _LONGEST:
            self._begin_s += step_s - _LONGEST / self._ticks
        self._pts = max(self._pts + 1, round((frame.time_s - self._begin_s) * self._ticks))
        return self._pts

    def _length_s(self, frame: Frame) -> float:
        """Seconds that a frame is shown when none follows."""
        assert self._info is not None
        # Frames with depth do not say how long they last.
        length_s, before = getattr(frame, "duration_s", None), self._before
        skips = before is not None and frame.index > before[0] + 1
        if before is not None and (length_s is None or skips):
            length_s = frame.time_s - before[1]  # as long as the one before it
        if length_s is None or length_s <= 0:
            length_s = 1.0 / self._info.fps
        return min(length_s, _LONGEST / self._ticks)

    def flush(self) -> None:
        """Have every frame on disk, whatever happens to the program from here on.

        FFmpeg keeps a frame back until it knows how long that is shown; it goes into ``.tail``.
        """
        packet = self._last
        if packet is not None and self._container is not None:
            head = f"{packet.pts * packet.time_base} {int(packet.is_keyframe)}\n".encode()
            write_file(_tail(self.partial), head + bytes(packet), durable=False)

    def keep(self, place: Path) -> None:
        """Write what drawings remember into the folder of a snapshot."""
        if trails := getattr(self._painter, "trails", None):  # not every drawing has some
            content = json.dumps(trails).encode()
            write_file(place / f"{self.path.stem}.trails.json", content, durable=False)

    def recall(self, place: Path) -> None:
        """Draw on from what ``keep`` wrote; without it, trails begin anew."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, InputError):
            self._painter.go_on(read_json(place / f"{self.path.stem}.trails.json"))

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
        failure: BaseException | None = None
        if container is not None:
            try:
                for packet in stream.encode():
                    container.mux(packet)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                failure = error
            try:
                container.close()
            except (av.error.FFmpegError, OSError) as error:
                failure = failure or error
        if self._info is not None and self.partial.exists():
            earlier = [self.path] if self._append else []
            _finish([*earlier, self.partial], sound=self._sound)
        self._info = None
        if failure is not None:
            raise sink_error(self.path, failure)


def _tail(partial: Path) -> Path:
    return partial.with_suffix(".tail")


def _said(container: Any) -> tuple[float | None, Fraction]:
    """Seconds of the source at which a video begins, and where in it this part lies."""
    comment = str(container.metadata.get("comment", ""))
    said = re.match(r"begins at (\S+) s of source(?:, from (\S+) s on)?$", comment)
    try:
        return (float(said[1]), Fraction(said[2] or 0)) if said else (None, Fraction(0))
    except ValueError:
        return None, Fraction(0)


def _packets(parts: Sequence[Path]) -> Iterator[tuple[Fraction, Any]]:
    """Frames of parts that follow one another, as they are stored, with their seconds."""
    import av

    for part in parts:
        with av.open(str(part)) as source:
            stream, last = source.streams.video[0], Fraction(-1)
            stream.thread_type = "NONE"  # a decoder must hold no frame back
            _, offset = _said(source)
            with contextlib.suppress(av.error.FFmpegError):  # killed while it was written
                for packet in source.demux(stream):
                    if packet.is_corrupt:  # the disk was full in the middle of it
                        break
                    if packet.dts is not None:
                        last = packet.pts * stream.time_base
                        yield offset + last, packet
            if _tail(part).exists():
                head, _, content = _tail(part).read_bytes().partition(b"\n")
                seconds, _, key = head.decode().partition(" ")
                if Fraction(seconds) > last:
                    # MP4 has lengths where a stream has marks.
                    units = re.split(rb"\x00\x00\x00?\x01", content)[1:]
                    packet = av.Packet(b"".join(len(u).to_bytes(4, "big") + u for u in units))
                    packet.time_base, packet.is_keyframe = stream.time_base, key == "1"
                    packet.pts = packet.dts = round(Fraction(seconds) / stream.time_base)
                    packet.stream = stream
                    yield offset + Fraction(seconds), packet


def _finish(
    parts: Sequence[Path],
    keep: int | None = None,
    before_s: float | None = None,
    *,
    sound: str | None = None,
) -> bool:
    """Make one MP4 with its index in front of parts, the last of which is a partial file.

    Args:
        parts: the finished video where there is one, and the partial one.
        keep: frames that stay; None for all.
        before_s: without ``keep``: only frames before this time of the source stay.
        sound: file whose sound goes with it.

    Returns:
        Whether it was done; otherwise the fragments are kept, and it was said why.
    """
    import av

    partial = parts[-1]
    final = partial.with_name(partial.name.replace(".partial.mp4", ".mp4"))
    parts = [part for part in parts if part.exists()]
    copy = final.with_suffix(".finishing.mp4")
    frames = 0
    try:
        with av.open(str(parts[0])) as first:
            begin_s, _ = _said(first)
        if keep is None and None not in (begin_s, before_s):
            until: float = before_s - begin_s - 1e-4  # type: ignore[operator]
        else:
            until = math.inf
        wanted = (
            (at, packet)
            for number, (at, packet) in enumerate(_packets(parts))
            if at < until and (keep is None or number < keep)
        )
        frames = (_encoded if _differ(parts) else _copied)(parts, wanted, copy)
        if not frames:
            raise IndexError
        if sound is not None:
            add_sound(copy, sound, begin_s or 0.0)
        copy.replace(final)
    except (av.error.FFmpegError, OSError, IndexError, ValueError) as error:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
        if not isinstance(error, IndexError) and partial.exists() and partial.stat().st_size:
            # The fragments play just as well, but for slower seeking.
            log.warning("%s keeps its fragments, copying them failed: %s", final, error)
            if final not in parts:
                partial.replace(final)
            return False
        log.warning("%s holds no frame; nothing to finish", partial)
    partial.unlink(missing_ok=True)
    _tail(partial).unlink(missing_ok=True)
    return True


def _differ(parts: Sequence[Path]) -> bool:
    """Whether parts were encoded in other ways, as by another version of the encoder."""
    import av

    heads = set()
    for part in parts:
        with av.open(str(part)) as source:
            heads.add(bytes(source.streams.video[0].codec_context.extradata or b""))
    return len(heads) > 1


def _target(copy: Path) -> Any:
    import av

    return av.open(str(copy), "w", format="mp4", options={"movflags": "faststart"})


def _copied(parts: Sequence[Path], wanted: Iterable[tuple[Fraction, Any]], copy: Path) -> int:
    """Copy stored frames; how many there were."""
    import av

    frames = 0
    with _target(copy) as target:
        with av.open(str(parts[0])) as first:
            stream = target.add_stream_from_template(first.streams.video[0])
            target.metadata.update(first.metadata)
        for at, packet in wanted:
            packet.pts = packet.dts = round(at / packet.time_base)
            packet.stream = stream
            target.mux(packet)
            frames += 1
    return frames


def _encoded(parts: Sequence[Path], wanted: Iterable[tuple[Fraction, Any]], copy: Path) -> int:
    """Encode stored frames again, as one."""
    import av

    frames = 0
    with av.open(str(parts[0])) as first, _target(copy) as target:
        given = first.streams.video[0]
        stream = target.add_stream("libx264", rate=given.average_rate)
        stream.height, stream.width, stream.pix_fmt = given.height, given.width, "yuv420p"
        stream.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "18"}
        stream.codec_context.time_base = given.time_base
        target.metadata.update(first.metadata)
        for at, packet in wanted:
            for picture in packet.decode():
                picture = picture.reformat(given.width, given.height)
                picture.pts, picture.time_base = round(at / given.time_base), given.time_base
                target.mux(stream.encode(picture))
                frames += 1
        target.mux(stream.encode(None))
    return frames


def add_sound(video: Path, source: str, begin_s: float) -> None:
    """Put the sound of a file into a video, in time with it and no longer than it.

    Sound that MP4 can hold is copied as it is; other sound becomes AAC.

    Args:
        video: an MP4, which is replaced; left as it is where there is no sound to be had.
        source: the file with the sound.
        begin_s: time of the source at which the video begins, seconds.
    """
    import av

    copy = video.with_suffix(".sound.mp4")
    try:
        with av.open(str(video)) as silent, av.open(source) as given, _target(copy) as target:
            target.metadata.update(silent.metadata)
            pictures, heard = silent.streams.video[0], given.streams.audio[0]
            length_s = float(pictures.duration * pictures.time_base)
            shown = target.add_stream_from_template(pictures)
            if kept := heard.codec_context.name in _MP4_SOUND:
                out = target.add_stream_from_template(heard)
            else:
                out = target.add_stream("aac", rate=48_000)  # which every AAC decoder takes
                out.layout = "mono" if heard.codec_context.channels == 1 else "stereo"

            def sound() -> Iterator[Any]:
                for piece in given.demux(heard) if kept else given.decode(heard):
                    if piece.pts is None:
                        continue
                    at = float(piece.pts * piece.time_base) - begin_s
                    if at >= length_s:
                        break
                    long = piece.duration * piece.time_base if kept else piece.samples / piece.rate
                    if at + float(long) <= 0:
                        continue
                    piece.pts = round(at / piece.time_base)
                    if kept:
                        piece.dts, piece.stream = piece.pts, out
                        yield piece
                    else:
                        yield from out.encode(piece)
                if not kept:
                    yield from out.encode(None)

            def images() -> Iterator[Any]:
                for packet in silent.demux(pictures):
                    if packet.dts is not None:
                        packet.stream = shown
                        yield packet

            for packet in heapq.merge(images(), sound(), key=lambda p: p.dts * p.time_base):
                target.mux(packet)
        copy.replace(video)
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        copy.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or "none was found"
        log.warning("the sound of %s cannot be kept (%s)", without_secret(source), reason)


def sound_of(source: str, wanted: bool, live: bool) -> str | None:
    """The file whose sound a video gets; says so when sound is left out.

    Args:
        source: as typed.
        wanted: whether it is to be kept.
        live: whether the source is live: what was heard cannot be had afterwards.
    """
    import av

    if live or not (is_url(source) or Path(source).is_file()):
        has_sound = False
    else:
        try:
            with av.open(source) as container:
                has_sound = bool(container.streams.audio)
        except (av.error.FFmpegError, OSError, ValueError):
            has_sound = False
    if wanted and not has_sound:
        log.warning(
            "%s %s",
            without_secret(source),
            "is live: its sound cannot be kept" if live else "has no sound to keep",
        )
    elif has_sound and not wanted:
        log.warning("the sound of %s is left out; --audio keeps it", without_secret(source))
    return source if wanted and has_sound else None


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

    def flush(self) -> None:
        """Write what waits, and have it on disk."""
        if self._thread is not None:
            self._waiting.join()
            self._raise()
            self.sink.flush()

    def keep(self, place: Path) -> None:
        """As the sink's own, after ``flush``."""
        if (keep := getattr(self.sink, "keep", None)) is not None:
            keep(place)

    def recall(self, place: Path) -> None:
        """As the sink's own, before the first frame."""
        if (recall := getattr(self.sink, "recall", None)) is not None:
            recall(place)

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
            try:
                if not self._failed:  # later frames would leave a gap
                    self.sink.write(*item)
            except BaseException as error:
                self._error, self._failed = error, True
            finally:
                self._waiting.task_done()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


_MP4_CODECS = ("h264", "hevc", "av1", "mpeg4", "vp9", "aac", "mp3", "ac3", "opus")


def copy_part(source: str, start_s: float, end_s: float, path: Path) -> Path:
    """Copy a part of a video into a file of its own, without encoding it anew.

    It begins with the last key frame before the part, so it may begin earlier.

    Args:
        source: the video file.
        start_s: beginning of the part, seconds since the first picture.
        end_s: its end.
        path: the new file, ``.mp4``; ``.mkv`` where MP4 cannot hold what the video has.

    Returns:
        The file that was written.

    Raises:
        SinkError: when it cannot be written, or the video cannot be read.
    """
    import av

    try:
        with av.open(source) as given:
            streams = [given.streams.video[0], *given.streams.audio[:1]]
            if any(stream.codec_context.name not in _MP4_CODECS for stream in streams):
                path = path.with_suffix(".mkv")
            with av.open(str(path), "w") as target:
                outs = {each.index: target.add_stream_from_template(each) for each in streams}
                for packet in _part(given, streams, start_s, end_s):
                    packet.stream = outs[packet.stream.index]
                    target.mux(packet)
    except (OSError, IndexError, ValueError, av.error.FFmpegError) as error:
        raise sink_error(path, error) from error
    return path


def _part(given: Any, streams: Sequence[Any], start_s: float, end_s: float) -> Iterator[Any]:
    """Packets of a part, timed from its first picture."""
    video = streams[0]
    first = next((p.pts for p in given.demux(video) if p.pts is not None), 0)
    origin = float(first * video.time_base)
    given.seek(round((origin + start_s) / video.time_base), stream=video)
    begin = None  # time of the first picture of the part
    for packet in given.demux(*streams):
        picture = packet.stream.index == video.index
        if packet.dts is None or packet.pts is None or (begin is None and not picture):
            continue
        if begin is None:
            begin = packet.dts * packet.time_base
        if picture and float(packet.dts * packet.time_base) - origin >= end_s:
            return
        shift = round(begin / packet.time_base)
        if float(packet.pts * packet.time_base) - origin >= end_s or packet.dts < shift:
            continue
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        yield packet
