"""One door for everything that gives frames: files, folders, cameras, streams, arrays."""

from __future__ import annotations

import itertools
import logging
import math
import os
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping, Sized
from numbers import Real
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import is_object_name, load_object
from vision_mem.errors import InputError, SourceError
from vision_mem.sources.decoders import DECODERS, open_video
from vision_mem.sources.images import IMAGE_SUFFIXES, ImageFolder, ImageStack, picture_count
from vision_mem.sources.live import Camera, LiveReader, NetworkStream, Reconnect, fetch_file
from vision_mem.sources.pixels import fit_image, to_rgb
from vision_mem.sources.prefetch import Prefetch
from vision_mem.sources.selection import (
    Reader,
    Selection,
    check_address,
    check_exists,
    is_url,
    named_by_user,
    with_plain_scheme,
    without_password,
)
from vision_mem.sources.video import DEFAULT_FPS, VideoFile, parse_resize
from vision_mem.text import shown
from vision_mem.types import Frame, SourceInfo

log = logging.getLogger(__name__)

DROP_RULES = ("latest", "none")


class StreamSource:
    """Frames of one reader, decoded ahead in a thread; a ``FrameSource``.

    All frames have the size of the first; others are scaled to it between black bars and counted.
    It is one pass over the input: a second ``for`` goes on where the first one stopped.

    Args:
        reader: the opened input; owned by the source from now on.
        prefetch: frames decoded ahead at most, >= 1.
        latest: hold only the newest frame, and count the others in ``dropped``.
        max_frames: frames to hand out at most.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        prefetch: int = 8,
        latest: bool = False,
        max_frames: int | None = None,
    ) -> None:
        if prefetch < 1:
            raise InputError(f"prefetch is {prefetch}; expected 1 or more frames")
        self._reader = reader
        self._left = max_frames
        self._closed = False
        self.fitted = 0
        """Frames of another size than the first, which were fitted to it."""
        # The generator must not hold this source, or a forgotten source would never be freed.
        self._frames = Prefetch(reader.frames, prefetch, latest=latest)
        if isinstance(reader, LiveReader):
            weakref.finalize(self, reader.stop)

    @property
    def info(self) -> SourceInfo:
        """Name, size, rate and length."""
        return self._reader.info

    @property
    def dropped(self) -> int:
        """Live frames thrown away so far because a newer one came first."""
        return self._frames.dropped

    @property
    def reconnects(self) -> int:
        """How often a live source was opened again after a break."""
        return self._reader.reconnects if isinstance(self._reader, LiveReader) else 0

    def __iter__(self) -> Iterator[Frame]:
        if self._closed:
            raise SourceError(f"{self.info.name} is closed; open it again with open_source")
        return self

    def __next__(self) -> Frame:
        if self._left == 0:
            self.close()
            raise StopIteration
        try:
            frame = next(self._frames)
        except BaseException as ended:
            if not isinstance(ended, KeyboardInterrupt):
                self.close()
            raise
        if self._left is not None:
            self._left -= 1
        if frame.size != (self.info.height, self.info.width):
            return self._fitted(frame)
        return frame

    def _fitted(self, frame: Frame) -> Frame:
        """A frame at the size of the first: streams change theirs, folders mix them."""
        if not self.fitted:
            have, want = (f"{w}x{h}" for h, w in (frame.size, (self.info.height, self.info.width)))
            message = "%s: frame %d is %s, not %s as the first; such frames are fitted to it"
            log.warning(message, self.info.name, frame.index, have, want)
        self.fitted += 1
        image = fit_image(frame.image, self.info.height, self.info.width)
        return Frame(frame.index, frame.time_s, image, duration_s=frame.duration_s)

    def close(self) -> None:
        """Stop decoding and free the input; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if isinstance(self._reader, LiveReader):
            self._reader.stop()
        if self._frames.close():
            self._reader.close()
        # Otherwise the thread waits inside the input; closing under it would crash. It frees the
        # input itself when its generator ends.

    def __enter__(self) -> StreamSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ArrayReader:
    """Reader for an iterable of image arrays: a list, a generator, a ``(T, H, W, 3)`` array.

    Args:
        arrays: images that ``to_rgb`` takes.
        selection: which of them.
        fps: images a second, for time stamps.
        name: of the source.

    Raises:
        SourceError: when there is no image.
        InputError: when the first item is no image.
    """

    def __init__(
        self, arrays: Iterable[Any], selection: Selection, *, fps: float, name: str = "array"
    ) -> None:
        total = len(arrays) if isinstance(arrays, Sized) else None
        if isinstance(arrays, np.ndarray):
            _check_stack(arrays)
        if total is not None and total > 0:
            selection.check("the array", total)
        self._arrays = arrays
        self._items = enumerate(arrays)
        self._selection = selection
        self._fps = fps
        first = next(self._items, None)
        if first is None:
            raise SourceError("the iterable holds no images; expected one image array or more")
        image = self._image(first[1])
        self._rest = itertools.chain([(0, image)], self._items)
        height, width = image.shape[:2]
        self.info = SourceInfo(name, width, height, fps, selection.count(total))

    def _image(self, item: Any) -> NDArray[np.uint8]:
        image = to_rgb(item)
        # A generator may fill the same buffer again while older frames wait in the queue.
        return image.copy() if np.may_share_memory(image, np.asarray(item)) else image

    def frames(self) -> Iterator[Frame]:
        """The wanted images as frames."""
        for index, item in self._rest:
            if self._selection.past(index):
                return
            if self._selection.wants(index):
                yield Frame(index, index / self._fps, self._image(item))

    def close(self) -> None:
        """Let go of the iterable, and close it when it is a generator."""
        self._rest = itertools.chain([])
        if isinstance(self._arrays, Generator):
            self._arrays.close()


def _check_stack(stack: np.ndarray[Any, Any]) -> None:
    if stack.ndim == 4 or (stack.ndim == 3 and stack.shape[2] not in (1, 3, 4)):
        return
    raise InputError(
        f"an array of shape {stack.shape} is not a stream; expected (T, H, W, 3) or (T, H, W); "
        "put a single image into a list"
    )


def open_source(
    spec: str | os.PathLike[str] | int | Iterable[Any],
    *,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    max_frames: int | None = None,
    prefetch: int = 8,
    resize: tuple[str, int] | None = None,
    strict: bool = False,
    fps: float | None = None,
    drop: str = "latest",
    timeout_s: float = 10.0,
    reconnect: Reconnect | None = None,
    stream_options: Mapping[str, str] | None = None,
    decoder: str = "auto",
) -> StreamSource:
    """Open anything that gives frames.

    Args:
        spec: a video file, an image or a folder of images; a camera number (``0`` or ``"0"``); an
            address (rtsp, rtmp, udp, http, https, ...); an iterable of RGB arrays; or
            ``module:function`` that returns one, such as a generator (``config.load_object``).
        start: first frame, from 0. Live sources count the frames they receive.
        end: first frame no longer wanted.
        stride: every how many frames.
        max_frames: frames to hand out at most.
        prefetch: frames decoded ahead at most; bounds memory.
        resize: ``("decord", S)`` lets video files also give ``Frame.model_image``, resized to
            S x S inside decord as the official SAMURAI reads MP4; other sources leave it None.
        strict: stop at a damaged frame or image instead of skipping it with a warning.
        fps: rate of folders and arrays, 30 when left out; videos and streams know theirs.
        drop: for live sources, ``"latest"`` holds just the newest frame and drops older ones
            (counted in ``dropped``), ``"none"`` keeps all and slows the sender or the driver down.
        timeout_s: network: seconds to wait for a connection or for data.
        reconnect: live sources: what to do after a break.
        stream_options: network: FFmpeg's own options, over the defaults.
        decoder: of video files: ``"pyav"``, ``"decord"``, ``"opencv"``, or ``"auto"`` for PyAV
            and, with a log line, OpenCV where PyAV cannot decode a single frame.

    Returns:
        The source. Use it in a ``with`` block, or call ``close``.

    Raises:
        SourceError: when nothing can be read from ``spec``.
        InputError: when an option or the kind of ``spec`` makes no sense.
    """
    selection = Selection(start, end, stride, max_frames)
    model_size = parse_resize(resize)
    if drop not in DROP_RULES:
        raise InputError(f"drop is {drop!r}; expected one of {', '.join(DROP_RULES)}")
    if decoder not in DECODERS:
        raise InputError(f"decoder is {decoder!r}; expected one of {', '.join(DECODERS)}")
    if fps is not None and not _above_zero(fps):
        raise InputError(f"fps is {shown(fps)}; expected a number above 0")
    if not _above_zero(prefetch) or prefetch < 1:
        raise InputError(f"prefetch is {shown(prefetch)}; expected 1 or more frames")
    if not _above_zero(timeout_s):
        raise InputError(f"timeout_s is {shown(timeout_s)}; expected seconds above 0")
    rate = DEFAULT_FPS if fps is None else fps
    retry = reconnect or Reconnect()
    reader = _open_reader(
        spec, selection, model_size, strict, rate, drop, timeout_s, retry, stream_options, decoder
    )
    latest = drop == "latest" and reader.info.live
    return StreamSource(reader, prefetch=prefetch, latest=latest, max_frames=max_frames)


def _above_zero(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value) and float(value) > 0


def _open_reader(
    spec: Any,
    selection: Selection,
    model_size: int | None,
    strict: bool,
    fps: float,
    drop: str,
    timeout_s: float,
    reconnect: Reconnect,
    stream_options: Mapping[str, str] | None,
    decoder: str,
) -> Reader:
    if isinstance(spec, (bool, bytes)) or spec is None:
        raise InputError(
            f"a source is given as {spec!r}; expected a path, camera number, address or arrays"
        )
    if isinstance(spec, (int, np.integer)):
        return _open_camera(int(spec), selection, drop, reconnect)
    if isinstance(spec, (str, os.PathLike)):
        text = os.fspath(spec)
        if text.lower().startswith("file://"):
            text = unquote(urlsplit(text).path)
        if text.isdecimal() and not Path(text).exists():
            return _open_camera(int(text), selection, drop, reconnect)
        if is_url(text):
            check_address(text := with_plain_scheme(text))
            return _open_address(text, selection, strict, timeout_s, reconnect, stream_options)
        path = Path(text).expanduser()
        if is_object_name(text) and not path.exists():
            return ArrayReader(_made_by(text), selection, fps=fps, name=text.partition(":")[2])
        check_exists(text)
        if path.is_char_device():  # /dev/video0
            return _open_camera(str(path), selection, drop, reconnect)
        with named_by_user():
            return _open_path(path, selection, model_size, strict, fps, decoder)
    if isinstance(spec, Iterable):
        return ArrayReader(spec, selection, fps=fps)
    raise InputError(
        f"a source is of type {type(spec).__name__}; expected a path, camera number, address or "
        "an iterable of arrays"
    )


def _open_path(
    path: Path, selection: Selection, model_size: int | None, strict: bool, fps: float, decoder: str
) -> Reader:
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and picture_count(path) > 1:
        return ImageStack(path, selection, fps=fps, strict=strict)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFolder(path, selection, fps=fps, strict=strict)
    return open_video(str(path), selection, decoder=decoder, strict=strict, model_size=model_size)


def _made_by(name: str) -> Iterable[Any]:
    make = load_object(name, "source")
    images = make() if callable(make) else make
    if not isinstance(images, Iterable):
        raise InputError(
            f"source {name!r} returns {type(images).__name__}; expected images (H, W, 3), such as "
            "a generator of them"
        )
    return images


def _open_camera(
    index: int | str, selection: Selection, drop: str, reconnect: Reconnect
) -> LiveReader:
    if isinstance(index, int) and index < 0:
        raise InputError(f"camera number is {index}; expected 0 or more")
    newest_only = drop == "latest"
    name = f"camera-{Path(str(index)).name}"
    return LiveReader(name, lambda: Camera(index, newest_only=newest_only), selection, reconnect)


def _open_address(
    url: str,
    selection: Selection,
    strict: bool,
    timeout_s: float,
    reconnect: Reconnect,
    options: Mapping[str, str] | None,
) -> Reader:
    try:
        stream = NetworkStream(url, timeout_s=timeout_s, options=options)
        if stream.is_file:
            # A video on a server: every frame counts, and its end is its end.
            stream.close()
            return VideoFile(url, selection, strict=strict, timeout_s=timeout_s)
    except SourceError:
        if (copy := fetch_file(url, timeout_s)) is None:
            raise
        return VideoFile(str(copy), selection, strict=strict, scratch=True)
    waiting: list[NetworkStream] = [stream.start()]

    def connect() -> NetworkStream:
        if waiting:
            return waiting.pop()
        return NetworkStream(url, timeout_s=timeout_s, options=options).start()

    return LiveReader(without_password(url), connect, selection, reconnect)
