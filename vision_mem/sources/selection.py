"""What every reader behind ``open_source`` offers, and which frames of it are wanted."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

from vision_mem.config import near_file
from vision_mem.errors import InputError, NotThere, NotUsable, SourceError
from vision_mem.text import shown

if TYPE_CHECKING:
    from vision_mem.types import Frame, SourceInfo


class Reader(Protocol):
    """One opened input. ``frames`` runs in the prefetch thread, everything else outside it."""

    @property
    def info(self) -> SourceInfo:
        """Name, size, rate and length."""

    def frames(self) -> Iterator[Frame]:
        """The wanted frames, once."""

    def close(self) -> None:
        """Free the input; called after ``frames`` has ended, or to make it end."""


@dataclass(frozen=True)
class Selection:
    """Which frames of a source are wanted, counted on the source's own frame index.

    Attributes:
        start: first frame, from 0.
        end: first frame no longer wanted; None for the last one of the source.
        stride: every how many frames, from ``start``.
        max_frames: how many at most.
    """

    start: int = 0
    end: int | None = None
    stride: int = 1
    max_frames: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            if not whole and (value is not None or name in ("start", "stride")):
                raise InputError(f"{name} is {shown(value)}; expected a whole number of frames")
        if self.start < 0:
            raise InputError(f"start is {self.start}; expected a frame number from 0")
        if self.stride < 1:
            raise InputError(f"stride is {self.stride}; expected 1 or more")
        if self.end is not None and self.end <= self.start:
            raise InputError(f"end is {self.end}; expected a frame number above start {self.start}")
        if self.max_frames is not None and self.max_frames < 1:
            raise InputError(f"max_frames is {self.max_frames}; expected 1 or more frames")

    def wants(self, index: int) -> bool:
        """Whether frame ``index`` is to be handed out."""
        return (
            index >= self.start and not self.past(index) and (index - self.start) % self.stride == 0
        )

    def past(self, index: int) -> bool:
        """Whether no frame from ``index`` on is wanted."""
        return self.end is not None and index >= self.end

    def count(self, total: int | None) -> int | None:
        """Frames to come out of ``total``; None when that cannot be known."""
        if total is None:
            return None
        stop = total if self.end is None else min(total, self.end)
        count = len(range(self.start, stop, self.stride))
        return count if self.max_frames is None else min(count, self.max_frames)

    def check(self, name: str, total: int | None) -> None:
        """Refuse a start behind the last frame.

        Raises:
            InputError: when ``total`` is known and not above ``start``.
        """
        if total is not None and self.start >= total:
            raise InputError(
                f"start is {self.start} but {name} has {total} frames; choose 0 to {total - 1}"
            )


@contextmanager
def named_by_user() -> Iterator[None]:
    """What cannot be read at once of a file or folder that was named is wrong use.

    A camera that is in use, a server that is away or a file that breaks later are failed runs.

    Raises:
        NotUsable: in place of ``SourceError``, with its text, where that is not wrong use already.
    """
    try:
        yield
    except SourceError as error:
        if error.exit_code == NotUsable.exit_code:
            raise
        raise NotUsable(str(error)) from error


def check_exists(text: str) -> None:
    """Refuse a path to nothing, and say what to give in place of what looks like something else.

    Raises:
        NotThere: in one line.
        NotUsable: for what is neither file, folder nor camera.
    """
    try:
        path = Path(text).expanduser()
        there = bool(text) and path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long for a name, no such user
        said = getattr(error, "strerror", None) or str(error)
        raise NotThere(f"{shown(text)} cannot be a file: {said}") from None
    if there:
        if path.is_fifo() or path.is_socket() or path.is_block_device():
            kind = "pipe" if path.is_fifo() else "socket" if path.is_socket() else "disk"
            raise NotUsable(
                f"{text} is a {kind}, and videos are opened more than once; give a file, or send "
                "it to an address such as udp://127.0.0.1:5000"
            )
        return
    if not text.strip():
        raise NotThere(
            "the source is an empty text; expected a video, a folder of images, a camera number or "
            "an address such as rtsp://host/stream"
        )
    if text == "-":
        raise NotThere("- is no video source; give a file, or an address to read from")
    host = re.match(r"[a-z\d-]+(\.[a-z\d-]+)+(?=(:\d+)?/)", text, re.IGNORECASE)
    if host and not Path(host[0]).exists():
        raise NotThere(
            f"{text!r}: no such file or folder; if it is an address, begin it as https:// or rtsp://"
        )
    if re.search(r"%0?\d*d|[*?]", text):
        folder = next(str(p) for p in path.parents if not re.search(r"%0?\d*d|[*?]", str(p)))
        raise NotThere(f"{text!r} is a pattern; give the folder of the images, as {folder!r}")
    if near := near_file(text, _SUFFIXES):
        raise NotThere(f"{text!r}: no such file or folder; did you mean {near!r}?")
    raise NotThere(
        f"{text!r}: no such file or folder; expected a video, a folder of images, a camera number "
        "or an address such as rtsp://host/stream"
    )


_SUFFIXES = (
    "", ".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg",
    ".flv", ".wmv", ".asf", ".ogv", ".3gp", ".y4m", ".png", ".jpg", ".jpeg", ".gif", ".webp",
    ".tif", ".tiff", ".bmp", ".ppm", ".pgm",
)  # fmt: skip
"""How names of videos, pictures and folders end: among them a slip in a name is looked for."""
_LONGEST_NAME = 180
"""Bytes of a name, of the 255 that file systems take."""


def is_url(text: str) -> bool:
    """Whether ``text`` is an address such as rtsp://host/stream rather than a path."""
    return re.match(r"^[a-zA-Z][a-zA-Z0-9+.-]+://", text) is not None


def with_plain_scheme(url: str) -> str:
    """The address with its scheme in small letters: FFmpeg knows no RTSP:// that phones write."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.lower()}{separator}{rest}"


def check_address(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        InputError: for one that cannot be: without host, with brackets or a port of no use.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
        if host or (parts.scheme.lower() in _WITHOUT_HOST and (parts.path or port)):
            return parts
    except ValueError:
        pass
    scheme = url.partition("://")[0]
    raise InputError(
        f"the address that begins {scheme}:// has no host, or no port from 0 to 65535; expected "
        f"{scheme}://host:port/path"
    )


_WITHOUT_HOST = frozenset({"file", "udp", "rtp", "srt", "tcp", "pipe", "concat"})
_KEY_FOLDERS = frozenset(
    {"app", "hls", "key", "live", "play", "publish", "push", "stream", "token"}
)
"""Folders of addresses in which names are often keys."""
_RANDOM = re.compile(r"(?=.*\d)(?=.*[a-z])[a-z0-9]{16,}|[a-z0-9]{4}(-[a-z0-9]{4}){3,}", re.I)


def without_password(url: str) -> str:
    """The address fit for messages: user, password, query and keys in its path left out.

    Keys are what follows the application of an rtmp address, and elsewhere names that look
    random, say ``key=``, or stand behind ``live`` and the like; ``...`` takes their place.
    """
    parts = check_address(url)
    host = parts.netloc.rsplit("@", 1)[-1]
    folders = parts.path.split(";")[0].split("/")
    for place in range(1, len(folders)):
        name, before = folders[place], folders[place - 1].lower()
        broadcast = parts.scheme.lower().startswith("rtmp") and place > 1
        behind = before in _KEY_FOLDERS and len(name) >= 8 and "." not in name
        random = any(map(_RANDOM.fullmatch, re.split(r"[_.]", name))) or _RANDOM.fullmatch(name)
        if name and (broadcast or behind or random or "=" in name):
            folders[place] = "..."
    return urlunsplit((parts.scheme, host, "/".join(folders), "", ""))


# Benchmarks call their image folders all the same: the folder above has the name.
_GENERIC_FOLDERS = frozenset({"img", "img1", "imgs", "images", "frames", "color"})


def sequence_name(path: Path) -> str:
    """A file name for a video or a folder of images; ``Crossing/img`` is called ``Crossing``.

    Args:
        path: the file or folder, which exists.
    """
    path = path.resolve()
    if not path.is_dir():
        return file_name(path.stem)
    if path.name.lower() in _GENERIC_FOLDERS and path.parent.name:
        path = path.parent
    return file_name(path.name)


def file_name(text: str) -> str:
    """A name that is safe as a file name, made of the stem of a path or of an address.

    File systems take 255 bytes, and results append words of their own: longer names are cut
    between letters and end in a check sum of the whole, so that two of them stay apart.
    """
    if is_url(text):
        parts = urlsplit(without_password(text))
        text = f"{parts.netloc}{parts.path}"
    name = re.sub(r"[^\w.-]+", "_", text).strip("._") or "stream"
    content = name.encode()
    if len(content) <= _LONGEST_NAME:
        return name
    kept = content[: _LONGEST_NAME - 9].decode(errors="ignore")
    return f"{kept}-{zlib.crc32(content):08x}"
