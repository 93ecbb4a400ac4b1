"""Where a stream's frames come from, and how far back they can be had again.

A file gives any frame again by seeking. What is live is kept in a ring of JPEGs within a budget;
the pictures that are followed are those JPEGs decoded again, so that a frame of the ring is to the
bit the frame that was followed, and the page is sent the same bytes.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, VisionMemError
from vision_mem.sources.open import StreamSource, open_source
from vision_mem.sources.pixels import fit_image
from vision_mem.types import Frame, SourceInfo

Item = TypeVar("Item")

_LIVE_QUALITY, _PAGE_QUALITY = 92, 82
_LARGEST_SIDE = 4096
_LARGEST_JPEG = 8 << 20
_CHUNK = 32
"""Frames of a file that are held at a time when it is read backwards."""


def encode_jpeg(image: NDArray[np.uint8], quality: int = _PAGE_QUALITY) -> bytes:
    """An RGB image ``(H, W, 3)`` as a JPEG."""
    turned = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return content.tobytes()


def check_jpeg(content: bytes) -> tuple[int, int]:
    """Width and height of a JPEG that a stranger may have made, before memory is asked for.

    Raises:
        InputError: when it is no JPEG by its head, or too large.
    """
    if not content.startswith(b"\xff\xd8") or len(content) > _LARGEST_JPEG:
        raise InputError(f"a picture is no JPEG of at most {_LARGEST_JPEG >> 20} MB")
    width, height = _jpeg_size(content)
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise InputError(f"a picture has no size from 1 to {_LARGEST_SIDE} pixels a side")
    return width, height


def decode_jpeg(content: bytes) -> NDArray[np.uint8]:
    """The RGB image of a JPEG.

    Raises:
        InputError: as ``check_jpeg``, and for a damaged one.
    """
    check_jpeg(content)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        raise InputError("a picture is damaged and cannot be decoded; send it again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Width and height as its head says; (0, 0) without one."""
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(content[at + n : at + n + 2], "big") for n in (5, 7))
            return width, height
        at += 2 + length
    return 0, 0


class FrameRing:
    """The latest frames, as many as a budget holds; the newest always.

    Args:
        budget: bytes.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.bytes = budget, 0
        self.lost = -1
        """Number of the latest frame that fell out."""
        self._held: OrderedDict[int, tuple[float, bytes | NDArray[np.uint8]]] = OrderedDict()
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._held)

    @property
    def span(self) -> tuple[int, int] | None:
        """Numbers of the oldest and the newest frame held."""
        return (self._order[0], self._order[-1]) if self._order else None

    @property
    def rate(self) -> float | None:
        """Frame numbers a second; None before there are two frames."""
        if len(self._order) < 2:
            return None
        first, last = self._order[0], self._order[-1]
        return (last - first) / max(self._held[last][0] - self._held[first][0], 1e-3)

    def add(self, frame: Frame, content: bytes | None = None) -> None:
        """Keep a frame, as its JPEG where it was made of one."""
        held = frame.image if content is None else content
        self._held[frame.index] = (frame.time_s, held)
        self._order.append(frame.index)
        self.bytes += _size(held)
        while self.bytes > self.budget and len(self._order) > 1:
            self.lost = self._order.pop(0)
            _, gone = self._held.pop(self.lost)
            self.bytes -= _size(gone)

    def get(self, index: int) -> Frame | None:
        """A frame, to the bit as it was; None when it is not held."""
        if (found := self._held.get(index)) is None:
            return None
        time_s, held = found
        return Frame(index, time_s, decode_jpeg(held) if isinstance(held, bytes) else held)

    def jpeg(self, index: int) -> bytes | None:
        """The bytes a frame was made of."""
        found = self._held.get(index)
        return found[1] if found is not None and isinstance(found[1], bytes) else None

    def after(self, index: int) -> int | None:
        """The first frame held behind a number."""
        place = bisect_right(self._order, index)
        return self._order[place] if place < len(self._order) else None

    def before(self, index: int) -> int | None:
        """The last frame held before a number."""
        place = bisect_right(self._order, index - 1)
        return self._order[place - 1] if place else None


def _size(held: bytes | NDArray[np.uint8]) -> int:
    return len(held) if isinstance(held, bytes) else held.nbytes


class Frames(Protocol):
    """Frames of one stream, as its actor asks for them."""

    seekable: bool
    info: SourceInfo
    ended: str | None

    def poll(self) -> tuple[Frame, bytes | None] | None:
        """The next live frame with its JPEG, if there is one; not of files."""

    def counts(self) -> dict[str, Any]:
        """What is to be said of the source."""

    def close(self) -> None:
        """Let go of everything."""


class _Cursor:
    """A place in a file from which it is read on."""

    def __init__(self, spec: str, start: int, options: Mapping[str, Any]) -> None:
        self.source = open_source(spec, start=start, prefetch=4, **options)
        self.next = start

    def read(self, index: int) -> Frame | None:
        """The frame, or the next one where it is damaged; None at the end."""
        for frame in self.source:
            self.next = frame.index + 1
            if frame.index >= index:
                return frame
        return None


class FileFrames:
    """Any frame of a file or folder, by its number; read on without seeking where that will do.

    Args:
        spec: as ``open_source``; no live one.
        options: for ``open_source``.

    Raises:
        VisionMemError: as ``open_source``.
    """

    seekable = True
    ended: str | None = None

    def __init__(self, spec: str, **options: Any) -> None:
        self._spec, self._options = spec, options
        self._cursors = [_Cursor(spec, 0, options)]
        self.info = self._cursors[0].source.info
        self.ends_at = self.info.frame_count
        self._recent: OrderedDict[int, Frame] = OrderedDict()
        self._lock = threading.RLock()  # the page asks for pictures too

    def poll(self) -> tuple[Frame, bytes | None] | None:
        """Files do not come by themselves."""
        return None

    def get(self, index: int) -> Frame | None:
        """A frame; None behind the last one."""
        with self._lock:
            if (found := self._recent.get(index)) is not None:
                self._recent.move_to_end(index)
                return found
            if index < 0 or (self.ends_at is not None and index >= self.ends_at):
                return None
            frame = self._cursor(index)
            if frame is None:
                self.ends_at = index
                return None
            self._recent[frame.index] = frame
            while len(self._recent) > 6:
                self._recent.popitem(last=False)
            return frame

    def _cursor(self, index: int) -> Frame | None:
        near = [one for one in self._cursors if one.next <= index < one.next + 24]
        if near:
            one = max(near, key=lambda each: each.next)
            self._cursors.remove(one)
        else:
            try:
                one = _Cursor(self._spec, index, self._options)
            except InputError:  # behind the end
                return None
            # Playing, catching up, and looking elsewhere: each has a place of its own.
            while len(self._cursors) >= 3:
                self._cursors.pop(0).source.close()
        self._cursors.append(one)
        return one.read(index)

    def backwards(self, first: int) -> Iterator[Frame]:
        """All frames from one on down to the first of the file."""
        return frames_backwards(self._spec, first, **self._options)

    def counts(self) -> dict[str, Any]:
        """Nothing is lost of a file."""
        return {"dropped": 0, "reconnects": 0}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            for one in self._cursors:
                one.source.close()


def frames_backwards(spec: str, first: int, start: int = 0, **options: Any) -> Iterator[Frame]:
    """Frames of a file from one on down to ``start``, a few at a time; options as open_source."""
    span = _CHUNK * options.get("stride", 1)
    end = first + 1
    while end > start:
        # Parts begin on the raster of frames that --stride leaves.
        begin = start + max(0, (end - 1 - start) // span * span)
        with open_source(spec, start=begin, end=end, **options) as source:
            yield from reversed(list(source))
        end = begin


class _Mailbox(Generic[Item]):
    """The newest thing that nobody has taken yet; what came before it is counted and gone."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._lock, self._wake = threading.Lock(), wake
        self._held: Item | None = None
        self.came = self.left_out = 0

    def put(self, item: Item) -> None:
        with self._lock:
            self.came += 1
            self.left_out += self._held is not None
            self._held = item
        self._wake()

    def take(self) -> Item | None:
        with self._lock:
            held, self._held = self._held, None
        return held


class LiveFrames:
    """A camera or an address of the server, read in a thread; the newest frame is kept.

    Args:
        source: opened; owned from now on.
        wake: called when a frame or the end has come.
        first: number of the first frame.
        size: ``(height, width)`` that frames are brought to; zeros for that of the source.
    """

    seekable = False

    def __init__(
        self, source: StreamSource, wake: Callable[[], None], first: int = 0,
        size: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        self._source = source
        self.info = self._source.info
        if size[0]:
            self.info = replace(self.info, height=size[0], width=size[1])
        self._first, self._wake = first, wake
        self._box = _Mailbox[Frame](wake)
        self.ended: str | None = None
        self._thread = threading.Thread(target=self._read, name="studio-source", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        ended = "the source has ended"
        try:
            for frame in self._source:
                moved = replace(frame, index=frame.index + self._first, model_image=None)
                self._box.put(moved)
        except VisionMemError as error:
            ended = " ".join(str(error).split())
        finally:
            self.ended = ended
            with suppress(Exception):
                self._wake()

    def poll(self) -> tuple[Frame, bytes | None] | None:
        """The newest frame, as its own JPEG decoded again, at the size of the first."""
        if (frame := self._box.take()) is None:
            return None
        if not self.info.height:
            self.info = replace(self.info, height=frame.size[0], width=frame.size[1])
        image = fit_image(frame.image, self.info.height, self.info.width)
        content = encode_jpeg(image, _LIVE_QUALITY)
        return replace(frame, image=decode_jpeg(content)), content

    def counts(self) -> dict[str, Any]:
        """Frames that came, that were left out, and breaks."""
        source = self._source
        return {
            "came": self._box.came + source.dropped,
            "dropped": self._box.left_out + source.dropped,
            "reconnects": source.reconnects,
        }

    def close(self) -> None:
        """Close the source; its thread ends soon after."""
        self._source.close()
        self._thread.join(1.0)


class PushedFrames:
    """JPEGs that somebody sends: the webcam of a browser.

    Args:
        name: of the stream.
        wake: called when a frame has come.
        first: number of the first frame.
        size: ``(height, width)`` that pictures are brought to; zeros for that of the first.
    """

    seekable = False
    ended: str | None = None

    def __init__(
        self, name: str, wake: Callable[[], None], first: int = 0, size: tuple[int, int] = (0, 0)
    ) -> None:
        self.info = SourceInfo(name, size[1], size[0], 30.0, None, live=True)
        self._next = first
        self._epoch_s = time.time() - time.monotonic()
        self._box = _Mailbox[tuple[int, float, bytes]](wake)

    def push(self, content: bytes) -> None:
        """Take a picture.

        Raises:
            InputError: when it is none by its head.
        """
        width, height = check_jpeg(content)
        if not self.info.width:
            self.info = replace(self.info, width=width, height=height)
        self._box.put((self._next, self._epoch_s + time.monotonic(), content))
        self._next += 1

    def poll(self) -> tuple[Frame, bytes | None] | None:
        """The newest picture, brought to the size of the first; none where it is damaged."""
        if (found := self._box.take()) is None:
            return None
        index, time_s, content = found
        try:
            image = decode_jpeg(content)
        except InputError:
            return None
        if image.shape[:2] != (self.info.height, self.info.width):
            image = fit_image(image, self.info.height, self.info.width)
            content = encode_jpeg(image, _LIVE_QUALITY)
            image = decode_jpeg(content)
        return Frame(index, time_s, image), content

    def counts(self) -> dict[str, Any]:
        """Pictures that came, and that were left out."""
        return {"came": self._box.came, "dropped": self._box.left_out, "reconnects": 0}

    def close(self) -> None:
        """Nothing is held."""
