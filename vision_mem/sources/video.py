"""Video files, decoded one frame at a time through FFmpeg (PyAV).

On sound files PyAV, decord and OpenCV give bit-identical frames at equal speed. PyAV starts
without scanning the whole file, keeps exact time stamps and survives damaged packets, so it is the
decoder here; ``decoders`` knows the others, and decord serves where its own resizing is wanted
(``DecordResize``).
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import shutil
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, NotThere, SourceError
from vision_mem.sources.pixels import check_size
from vision_mem.sources.selection import (
    Selection,
    file_name,
    is_url,
    sequence_name,
    without_password,
)
from vision_mem.types import Frame, SourceInfo

log = logging.getLogger(__name__)

Frames: TypeAlias = Generator[tuple[int, Any], None, None]

DEFAULT_FPS = 30.0
_FASTEST_GUESS = 240
UNSAID_END = "%s ended; its server did not say how long it is, so something may be missing"
# A seek is only worth its bookkeeping beyond this many frames; it aims this much earlier, so that
# frames that lean on pictures before the key frame are never wanted ones.
_SEEK_MARGIN = 64
_DOUBT_FRAMES = 16
_PER_SECOND = 1_000_000  # FFmpeg's unit for whole containers


Matrix: TypeAlias = tuple[int, int, int, int]
"""``(a, b, c, d)`` of a display matrix: ``x' = a x + c y`` and ``y' = b x + d y``."""
AS_STORED: Matrix = (1, 0, 0, 1)


def frame_to_rgb(frame: Any) -> NDArray[np.uint8]:
    """An RGB array of a decoded PyAV frame as a player shows it: turned, mirrored or as stored."""
    check_size("the video", frame.width, frame.height)  # it may grow on the way
    return upright(frame.to_ndarray(format="rgb24"), display_matrix(frame))


def display_matrix(frame: Any) -> Matrix:
    """How a decoded frame is to be shown; phones write rotations, front cameras mirror images.

    Only multiples of a quarter turn and mirror images are taken; a slant is rounded to the nearest.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return AS_STORED
    a, b, _, c, d = np.frombuffer(bytes(data), dtype="=i4")[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)


def upright(image: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """An image ``(H, W, ...)`` as its display matrix says; ``(W, H, ...)`` after a quarter turn."""
    if matrix == AS_STORED:
        return image
    a, b, c, d = matrix
    across, down = (a, d) if a else (c, b)
    turned = image if a else np.swapaxes(image, 0, 1)
    return np.ascontiguousarray(turned[::down, ::across])


def mirrored(image: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """As shown, from an image that a decoder turned by the angle in its matrix and no more.

    decord and OpenCV read the angle alone, which makes half a turn of a mirror image.
    """
    a, b, c, d = matrix
    if a == d and b == -c:
        return image
    turns = {(1, 0): 0, (-1, 0): 2, (0, 1): 3, (0, -1): 1}[a, b]
    return upright(np.rot90(image, -turns), matrix)


class VideoFile:
    """Reader for a video file, or for a finite video at an http(s) address.

    Frames that cannot be decoded are skipped with a warning, and so is the missing end of a file
    that was cut off; ``strict`` makes both an error.

    Args:
        path: file or address.
        selection: which frames.
        strict: stop at the first damaged frame.
        model_size: also give ``Frame.model_image`` at this width and height, resized inside
            decord as SAMURAI and SAM 2 read videos; None for no such image.
        timeout_s: for addresses: seconds to wait for data.
        scratch: the file lies in a temporary folder of its own, which ``close`` removes.

    Raises:
        SourceError: when the file is missing, empty, no video, or without a frame to decode.
        InputError: when the selection starts behind the last frame.
    """

    def __init__(
        self,
        path: str,
        selection: Selection,
        *,
        strict: bool = False,
        model_size: int | None = None,
        timeout_s: float = 10.0,
        scratch: bool = False,
    ) -> None:
        self._path = path
        self._scratch = scratch
        self._name = without_password(path) if is_url(path) else path
        self._selection = selection
        self._strict = strict
        self._timeout_s = timeout_s
        self._container = _open(path, self._name, timeout_s)
        try:
            self._prepare(model_size)
        except BaseException:
            self._container.close()
            raise

    def _prepare(self, model_size: int | None) -> None:
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is not None:  # else it has no size, and no decoder
            check_size(self._name, self._stream.width, self._stream.height)
        self._stream.thread_type = "AUTO"
        self._announced = shown_count(self._stream)
        self._fps = frame_rate(self._stream) or self._measured_rate()
        self._damaged = 0
        self._in_doubt = 0
        self._reason = ""
        self._playing = self._warned = False
        self._decoded = self._decode(index=0)
        first = next(self._decoded, None)
        if first is None:
            raise SourceError(
                f"{self._name} has no frame that can be decoded; it is empty, cut off or damaged: "
                "copy or record it again"
            )
        self._playing = True
        if self._damaged:
            self._warn()
        self._selection.check(self._name, self._announced)
        self._first_pts = first[1].pts
        height, width = frame_to_rgb(first[1]).shape[:2]
        if self._selection.start > 4 * _SEEK_MARGIN and self._seek(self._selection.start):
            self._pending: tuple[int, Any] | None = None
        else:
            self._pending = first
        self._resize: DecordResize | None = None
        if model_size is not None:
            hidden = self._announced != (self._stream.frames or None)
            self._resize = DecordResize(self._path, model_size, self._complete(), hidden)
        path = self._path
        name = file_name(path) if is_url(path) else sequence_name(Path(path))
        count = self._selection.count(self._announced)
        aspect = pixel_aspect(self._stream, first[1])
        self.info = SourceInfo(name, width, height, self._fps, count, pixel_aspect=aspect)

    def _index_entries(self) -> Sequence[Any]:
        # PyAV before 17 does not show them: then no far seek, and decord finds out for itself.
        return getattr(self._stream, "index_entries", ())

    def _complete(self) -> bool:
        """Whether all bytes that the container's index speaks of are there."""
        size = self._container.size
        entries = self._index_entries()
        return len(entries) == 0 or all(e.pos + e.size <= size for e in (entries[0], entries[-1]))

    def _measured_rate(self) -> float:
        """The rate of a file that states none, as browsers write them: from its first stamps."""
        with _open(self._path, self._name, self._timeout_s) as again:
            stream = again.streams.video[0]
            stamps = [p.pts for p in itertools.islice(again.demux(stream), 60) if p.pts is not None]
            steps = np.diff(sorted(stamps)) * float(stream.time_base)
        steps = steps[steps > 0]
        return float(1.0 / np.median(steps)) if len(steps) else DEFAULT_FPS

    def _seek(self, target: int) -> bool:
        """Go near frame ``target`` where frames are evenly spaced, so that indices stay exact."""
        entries = [entry for entry in self._index_entries() if not is_hidden(entry)]
        stamps = np.array([entry.timestamp for entry in entries])
        if self._first_pts is None or len(stamps) != self._announced or len(stamps) < 2:
            return False
        steps = np.diff(stamps)
        if steps.min() <= 0 or steps.max() - steps.min() > 1:
            return False
        step = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
        goal = int(self._first_pts + (target - _SEEK_MARGIN) * step)
        self._decoded.close()
        self._container.seek(goal, stream=self._stream)
        self._decoded = self._decode(index=0, step=float(step))
        return True

    def _decode(self, index: int, step: float | None = None) -> Frames:
        """Yield (index, decoded frame); with ``step`` the first index follows from its time."""
        import av

        last_time: float | None = None
        first = True
        packets = self._container.demux(self._stream)
        if self._stream.codec_context is None:  # PyAV before 18 crashes at the first packet
            self._spoiled("there is no decoder for it")
            return
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                if is_url(self._path) and self._playing:
                    if (self._container.size or 0) <= 0:
                        log.warning(UNSAID_END, self._name)
                        waiting = self._stream.codec_context.decode(None)
                        for number, frame in enumerate(waiting, start=index):
                            # PyAV before 18 knows the clock of frames from packets alone.
                            frame.time_base = self._stream.time_base
                            yield number, frame
                        return
                    raise SourceError(
                        f"{self._name}: the connection broke after frame {index - 1} "
                        f"({getattr(error, 'strerror', None) or error}); what was read is kept"
                    ) from None
                self._spoiled(error)
                return
            try:
                decoded = packet.decode()
            except av.error.DecoderNotFoundError as error:
                self._spoiled(error)
                return  # the other packets need it too
            except av.error.FFmpegError as error:
                self._spoiled(error)
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    self._spoiled("a damaged picture")
                    continue
                if first and step is not None:
                    index = round((frame.pts - self._first_pts) / step)
                if self._in_doubt and frame.time is not None and last_time is not None:
                    if frame.time <= last_time:
                        continue  # damage also puts pictures in the wrong order
                    index += self._frames_lost(frame.time - last_time)
                first, last_time = False, frame.time
                yield index, frame
                index += 1

    def _frames_lost(self, step_s: float) -> int:
        """Damaged frames leave a hole in time: keep later indices true to the source.

        One error may cost several frames, and frames are put in order after decoding, so holes are
        looked for in a few frames after each error. Elsewhere a hole is the source's own rhythm.
        """
        self._in_doubt -= 1
        return max(0, round(step_s * self._fps) - 1)

    def _spoiled(self, reason: object) -> None:
        text = getattr(reason, "strerror", None) or str(reason)
        if self._strict:
            raise SourceError(
                f"{self._name} has a damaged frame ({text}); leave out strict to skip such frames"
            )
        self._damaged += 1
        self._in_doubt = _DOUBT_FRAMES
        self._reason = self._reason or text
        # Before the first frame another decoder may still take over: then this is no news.
        if self._playing:
            self._warn()

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            message = "%s: a frame cannot be decoded (%s); skipping such frames"
            log.warning(message, self._name, self._reason)

    def frames(self) -> Iterator[Frame]:
        """The wanted frames in order of presentation."""
        index = -1
        pending, self._pending = self._pending, None
        if pending is not None:
            index = pending[0]
            if self._selection.wants(index):
                yield self._frame(*pending)
        times: list[float] = []
        for index, decoded in self._decoded:
            if self._selection.past(index):
                return
            if decoded.time is not None:
                times = [*times[-1:], decoded.time]
            if self._selection.wants(index):
                yield self._frame(index, decoded)
        self._report_end(index + 1, times)

    def _report_end(self, reached: int, times: Sequence[float]) -> None:
        """Say what is missing, or seems to be.

        Args:
            reached: frames there were.
            times: of the last two, in seconds.
        """
        announced, length_s = self._announced, self._said_length_s()
        step = max(times[-1] - times[0], 1 / self._fps) if times else math.inf
        ended = times[-1] + step if times else math.inf
        if announced is not None and "avi" in self._container.format.name:
            # AVI counts the places of frames that were left out when it was recorded, too.
            announced = None if ended > announced / self._fps - step else announced
        if announced is not None and reached < announced:
            message = f"{self._name}: it announces {announced} frames but ends after {reached}"
            if self._strict:
                raise SourceError(f"{message}; the file is cut off or damaged: copy it again")
            log.warning("%s; the file is cut off or damaged", message)
        elif announced is None and length_s and ended < length_s - max(3 * step, 0.02 * length_s):
            message = "%s: it says that it lasts %.1f s but ends after %.1f s; it may be cut off"
            log.warning(message, self._name, length_s, ended)
        elif self._damaged:
            log.warning("%s: damage in %d places was passed over", self._name, self._damaged)

    def _said_length_s(self) -> float | None:
        """When the video ends, as its container says, in seconds; None where it does not."""
        stream = self._stream
        if stream.duration:
            return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        if said := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):
            hours, minutes, seconds = map(float, said.groups())
            return 3600 * hours + 60 * minutes + seconds
        if self._container.duration and len(self._container.streams) == 1:
            begin = self._container.start_time or 0
            return float(begin + self._container.duration) / _PER_SECOND
        return None

    def _frame(self, index: int, decoded: Any) -> Frame:
        time_s = decoded.time if decoded.time is not None else index / self._fps
        image = frame_to_rgb(decoded)
        length_s = float(decoded.duration * self._stream.time_base) if decoded.duration else None
        model_image = None if self._resize is None else self._resize.at(float(time_s), decoded)
        return Frame(index, float(time_s), image, model_image, length_s)

    def close(self) -> None:
        """Close the file."""
        if self._resize is not None:
            self._resize.close()
        self._container.close()
        if self._scratch:
            shutil.rmtree(Path(self._path).parent, ignore_errors=True)


def pixel_aspect(stream: Any, frame: Any) -> float:
    """Width of a shown pixel over its height; 1 where the container says nothing."""
    stated = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not stated or not 0.05 <= stated <= 20:
        return 1.0
    return float(stated if display_matrix(frame)[0] else 1 / stated)


def is_hidden(entry: Any) -> bool:
    """Whether a packet of the container's index is decoded but never shown (edit lists)."""
    return bool(getattr(entry, "is_discard", False))


def shown_count(stream: Any) -> int | None:
    """Frames that will be shown, by the container's index; None when it does not say.

    A clip that was trimmed without encoding it anew keeps packets that only lead up to its first
    picture; the container counts them too.
    """
    if not stream.frames:
        return None
    return int(stream.frames) - sum(map(is_hidden, getattr(stream, "index_entries", ())))


class Presentation(NamedTuple):
    """What a container says of showing its pictures; decord and OpenCV do not read it.

    Attributes:
        matrix: how pictures are turned and mirrored.
        times: seconds of the pictures that are shown, in order; None when all are shown.
        fps: frames a second; None where the container states none.
        shown: frames that are shown; None where it states none.
    """

    matrix: Matrix = AS_STORED
    times: NDArray[np.float64] | None = None
    fps: float | None = None
    shown: int | None = None


def presentation(path: str) -> Presentation | None:
    """How the pictures of a file are to be shown; None where PyAV cannot read it."""
    import av

    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            frame = next(container.decode(stream), None) if stream.codec_context else None
            matrix = AS_STORED if frame is None else display_matrix(frame)
            count = shown_count(stream)
            if count == (stream.frames or None):
                return Presentation(matrix, None, frame_rate(stream), count)
            container.seek(0)
            stamps = [p.pts for p in container.demux(stream) if not p.is_discard]
            times = np.sort([pts for pts in stamps if pts is not None]) * float(stream.time_base)
            return Presentation(matrix, times, frame_rate(stream), len(times))
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        return None


def frame_rate(stream: Any) -> float | None:
    """Frames a second as the container states them; None where it gives none that can be true.

    Some containers state no rate; FFmpeg then offers the ticks of their clock, 1000 a second.
    """
    rate = stream.average_rate
    if rate is None and stream.guessed_rate is not None and stream.guessed_rate <= _FASTEST_GUESS:
        rate = stream.guessed_rate
    return float(rate) if rate else None


def check_file(path: str) -> None:
    """Refuse what no decoder can help with.

    Raises:
        SourceError: when there is no such file, it is empty, or it may not be read.
    """
    file = Path(path)
    if not file.exists():
        raise NotThere(f"{path}: no such file; check the path")
    if file.is_file() and file.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes); copy or record it again")
    if not os.access(file, os.R_OK):
        raise SourceError(f"{path} may not be read; change its permissions")


def _open(path: str, name: str, timeout_s: float) -> Any:
    import av

    if not is_url(path):
        check_file(path)
    try:
        container = av.open(path, timeout=timeout_s if is_url(path) else None)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        if is_url(path):
            raise SourceError(f"{name} cannot be reached or read ({reason})") from None
        if _looks_cut_off(path):
            raise SourceError(
                f"{name} was cut off before its index was written; nothing can be played: "
                "copy or record it again"
            ) from None
        raise SourceError(
            f"{name} is not a video that can be read ({reason}); expected MP4, MKV, AVI, MOV, WebM "
            "or the like, or a folder of images"
        ) from None
    if not container.streams.video:
        kinds = ", ".join(sorted({str(stream.type) for stream in container.streams})) or "nothing"
        container.close()
        raise SourceError(f"{name} holds no video, only {kinds}; give a file with video")
    return container


def _looks_cut_off(path: str) -> bool:
    """Whether an MP4 or MOV begins as it should: then its index at the end is what is missing."""
    with Path(path).open("rb") as file:
        return file.read(12)[4:8] == b"ftyp"


def parse_resize(resize: object) -> int | None:
    """The size S out of ``("decord", S)``; None for None.

    Raises:
        InputError: for anything else.
    """
    if resize is None:
        return None
    if isinstance(resize, tuple) and len(resize) == 2 and resize[0] == "decord":
        size = resize[1]
        if isinstance(size, int) and size > 0:
            return size
    raise InputError(f"resize is {resize!r}; expected None or ('decord', S) with S in pixels")


class Decord:
    """decord, one frame at a time, as large as the video or resized in its decoder.

    Args:
        path: the file.
        size: width and height to ask for, pixels; None for those of the video.

    Raises:
        ImportError: when it is not installed; there are no wheels for some machines.
        SourceError: when it cannot open the file.
    """

    name = "decord"
    slack = 0

    def __init__(self, path: str, size: int | None = None) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._errors = (decord.DECORDError, RuntimeError, IndexError, StopIteration)
        shape = {} if size is None else {"width": size, "height": size}
        try:
            self._reader: Any = decord.VideoReader(path, num_threads=1, **shape)
            self.count: int | None = len(self._reader)
            stamps = self._reader.get_frame_timestamp(range(len(self._reader)))
            self.fps = float(self._reader.get_avg_fps()) or DEFAULT_FPS
        except self._errors:
            raise SourceError(f"{path} cannot be opened by decord; try another decoder") from None
        self.times: NDArray[np.float64] = np.asarray(stamps, dtype=np.float64)[:, 0]
        about = presentation(path) or Presentation()
        self._matrix = about.matrix
        # Where pictures are hidden decord counts them, but passes over them when it decodes.
        self._seeks = about.times is None
        if about.times is not None:
            self.times, self.count = about.times, about.shown
        self._position = 0
        self.decoded = 0
        """Behind the last frame that was decoded."""

    def skip(self) -> bool:
        """Pass over one image; False at the end."""
        # Passed over together with the next wanted image: decord then seeks where that is faster.
        self._position += 1
        return self._position <= len(self.times)

    def next(self) -> tuple[float | None, NDArray[np.uint8]] | None:
        """Time in seconds and the RGB image; None at the end."""
        image = self.at(self._position)
        if image is None:
            return None
        time_s = float(self.times[self._position])
        self._position += 1
        return time_s, image

    def at(self, index: int) -> NDArray[np.uint8] | None:
        """Image ``index``, which never comes before that of an earlier call; None past damage."""
        if index >= len(self.times):
            return None
        try:
            ahead = index - self.decoded
            if ahead > 128 and self._seeks:
                self._reader.seek_accurate(index)
            elif ahead > 0:
                self._reader.skip_frames(ahead)
            image: NDArray[np.uint8] = self._reader.next().asnumpy()
        except self._errors:
            return None
        self.decoded = index + 1
        return mirrored(image, self._matrix)

    def close(self) -> None:
        """Free the file."""
        self._reader = None


class DecordResize:
    """A second reader of the same file that gives images of ``size`` x ``size``.

    decord stops at damaged packets, and cannot open files that were cut off. From there on
    FFmpeg's bilinear scaler takes over (mean difference about 0.2 grey levels), with one warning.

    Args:
        path: the video file.
        size: width and height to ask of decord, pixels.
        complete: whether the file has all its bytes; decord is not tried otherwise.
        hidden: whether the file holds pictures that are never shown (an edit list); decord counts
            them, and would give the network pictures that come later than those shown.
    """

    def __init__(self, path: str, size: int, complete: bool, hidden: bool) -> None:
        self._path = path
        self._size = size
        self._reader: Decord | None = None
        reason = "the file is cut off" if not complete else ""
        if hidden:
            reason = reason or "the file was trimmed and decord counts what is hidden"
        if not reason:
            try:
                self._reader = Decord(path, size)
                # Its stamps are float32: after hours they are good to a few milliseconds only.
                self._tolerance = 0.4 / max(self._reader.fps, 1.0)
            except ImportError:
                reason = "it is not installed; run: pip install decord"
            except SourceError:
                reason = "it cannot open the file"
        if reason:
            self._give_up(reason)

    def at(self, time_s: float, decoded: Any) -> NDArray[np.uint8]:
        """The model image of one frame.

        Args:
            time_s: presentation time; ascending from call to call.
            decoded: the PyAV frame of that moment, for when decord cannot help.

        Returns:
            ``(size, size, 3)`` uint8 RGB, upright.
        """
        if self._reader is not None:
            times = self._reader.times
            wanted = int(np.abs(times - time_s).argmin())
            # Otherwise decord does not count this frame.
            if abs(times[wanted] - time_s) <= self._tolerance and wanted >= self._reader.decoded:
                image = self._reader.at(wanted)
                if image is not None:
                    return image
                self._give_up("damaged data")
        scaled = decoded.reformat(
            width=self._size, height=self._size, format="rgb24", interpolation="BILINEAR"
        ).to_ndarray()
        return upright(scaled, display_matrix(decoded))

    def _give_up(self, reason: str) -> None:
        self._reader = None
        log.warning(
            "%s: decord cannot go on (%s); images for the model are resized by FFmpeg from here on",
            self._path,
            reason,
        )

    def close(self) -> None:
        """Let go of decord's reader."""
        self._reader = None
