"""Depth that is still coming in: frames of a Python iterator, files and folders that grow."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.sources.pixels import to_rgb
from vision_mem.sources.selection import Selection
from vision_mem.types import SourceInfo

LOOK_EVERY_S = 0.2
"""Seconds between two looks at what grows."""
PATIENCE_S = 2.0
"""Seconds for which a half-written picture, or a pose that is late, holds up what comes after."""

_EXPECTED = (
    "expected an RgbdFrame, (image, depth), (image, depth, pose) or a dict with image, depth and "
    "any of pose, time_s, camera"
)


def rgbd_frames(
    items: Iterable[Any],
    *,
    intrinsics: Sequence[float] | None = None,
    depth_scale: float | None = None,
    fps: float = 30.0,
) -> Iterator[RgbdFrame]:
    """Frames with depth of whatever a depth camera's program hands out, one by one.

    Args:
        items: ``RgbdFrame`` as they are; or ``(image, depth)``, ``(image, depth, pose)``, or
            dicts with ``image``, ``depth`` and any of ``pose`` (4x4 camera-to-world, metres),
            ``time_s`` and ``camera``. ``image`` as ``to_rgb`` takes it, ``depth`` ``(H, W)``; an
            image of another size is brought to the depth's.
        intrinsics: fx, fy, cx, cy of the depth map, pixels counted from their centres; needed
            where items have no camera.
        depth_scale: metres of one unit; by default 0.001 for whole numbers and 1 for floats.
        fps: frames a second, where items have no times.

    Yields:
        Frames, numbered from 0.

    Raises:
        InputError: for an item that is none of these, which is named by its number.
    """
    if intrinsics is not None and len(intrinsics) != 4:
        raise InputError(f"intrinsics are {list(intrinsics)}; expected fx, fy, cx, cy")
    for index, item in enumerate(items):
        if isinstance(item, RgbdFrame):
            yield item
            continue
        parts = item if isinstance(item, dict) else _named(item, index)
        unknown = [key for key in parts if key not in _PARTS]
        if unknown or parts.get("image") is None or parts.get("depth") is None:
            raise InputError(f"frame {index} has {', '.join(map(str, parts))}; {_EXPECTED}")
        stored = np.asarray(parts["depth"])
        if stored.ndim != 2 or stored.dtype.kind not in "uif":
            raise InputError(
                f"frame {index} has depth of shape {stored.shape} and type {stored.dtype}; "
                "expected (H, W) of numbers"
            )
        scale = depth_scale or (0.001 if stored.dtype.kind in "ui" else 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            depth = stored.astype(np.float64) * scale
            depth[~(np.isfinite(depth) & (depth > 0) & (depth < 1e6))] = 0
        camera = parts.get("camera")
        if camera is None and intrinsics is None:
            raise InputError(
                f"frame {index} comes without a camera; give intrinsics, fx, fy, cx, cy"
            )
        if camera is None:
            fx, fy, cx, cy = (float(n) for n in intrinsics or ())
            camera = Pinhole.from_centres(fx, fy, cx, cy, depth.shape[1], depth.shape[0])
        image = to_rgb(parts["image"])
        if image.shape[:2] != depth.shape:
            size = (depth.shape[1], depth.shape[0])
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        pose, stamp = parts.get("pose"), parts.get("time_s")
        yield RgbdFrame(
            index, index / fps if stamp is None else float(stamp), image,
            depth.astype(np.float32), camera,
            None if pose is None else np.asarray(pose, np.float64),
        )  # fmt: skip


_PARTS = ("image", "depth", "pose", "time_s", "camera")


def _named(item: Any, index: int) -> dict[str, Any]:
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        kind = "nothing" if item is None else f"a {type(item).__name__}"
        raise InputError(f"frame {index} is {kind}; {_EXPECTED}")
    return dict(zip(_PARTS, item, strict=False))


class LiveRgbd:
    """Frames of an iterator as a source; it can be gone through once.

    The first frame is taken at once, for its size.

    Args:
        frames: with depth.
        selection: which of them.
        name: of the source.

    Attributes:
        info, camera, posed, doubts: as of ``RgbdSource``; whether frames have poses is that of the
            first one.
        first: the first frame, until it is handed out.

    Raises:
        SourceError: when there is no frame.
    """

    def __init__(self, frames: Iterable[RgbdFrame], selection: Selection, name: str) -> None:
        self._frames, self._selection = iter(frames), selection
        self.first = next(self._frames, None)
        if self.first is None:
            raise SourceError(f"{name} gave no frame; expected frames with depth")
        self.camera = self.first.camera
        self.posed, self.doubts = self.first.pose is not None, list[str]()
        width, height = self.camera.width, self.camera.height
        self.info = SourceInfo(name, width, height, 30.0, None, live=True)
        self._poses: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def __iter__(self) -> Iterator[RgbdFrame]:
        return islice(self._wanted(), self._selection.max_frames)

    def _wanted(self) -> Iterator[RgbdFrame]:
        first, self.first = self.first, None
        last = -np.inf
        for index, frame in enumerate([] if first is None else _chained(first, self._frames)):
            if self._selection.past(index):
                return
            if not self._selection.wants(index):
                continue
            if frame.time_s <= last:  # a camera whose clock stands still, or was set back
                frame = replace(frame, time_s=last + 1e-3)
            last = frame.time_s
            if frame.index != index:
                frame = replace(frame, index=index)
            if frame.pose is not None:
                self._poses[index] = (frame.time_s, frame.pose)
            yield frame

    def poses(self) -> Iterator[tuple[int, float, NDArray[np.float64]]]:
        """Number, time and ``(4, 4)`` pose of each frame so far that came with one."""
        for index, (time_s, pose) in self._poses.items():
            yield index, time_s, pose

    def close(self) -> None:
        """End the iterator, where it can be ended."""
        if (close := getattr(self._frames, "close", None)) is not None:
            close()


def _chained(first: RgbdFrame, others: Iterator[RgbdFrame]) -> Iterator[RgbdFrame]:
    yield first
    yield from others


class Patience:
    """Looks again and again at what grows, until there was no news for a while.

    Args:
        wait_s: seconds without news after which it is over.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait, self._news = wait_s, time.monotonic()

    def renew(self) -> None:
        """There was news."""
        self._news = time.monotonic()

    def ends(self, pause_s: float = LOOK_EVERY_S) -> bool:
        """Wait for a moment, or say that it is over."""
        left = self._news + self._wait - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, pause_s))
        return False


def is_whole(path: Path) -> bool:
    """Whether a picture or depth map has been written to its end, as far as its format says."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(max(size - 64, 0))
            tail = file.read()
    except OSError:
        return False
    suffix = path.suffix.lower()
    if suffix == ".png":
        return b"IEND" in tail
    if suffix in (".jpg", ".jpeg"):
        return b"\xff\xd9" in tail
    if suffix == ".npz":
        return zipfile.is_zipfile(path)
    if suffix == ".npy":
        return _numbers_are_there(path)
    if suffix == ".txt":
        return tail.endswith(b"\n") or size > 0
    return bool(head)


def _numbers_are_there(path: Path) -> bool:
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return True


class GrowingLines:
    """A file that is read line by line while another program writes it.

    Args:
        file: opened for reading bytes.
        wait_s: seconds without a new line after which it is at its end.
    """

    def __init__(self, file: BinaryIO, wait_s: float) -> None:
        self._file, self._wait = file, wait_s

    def readline(self, most: int) -> bytes:
        """The next line, as soon as it is written to its end; what there is at the end."""
        line, patience = b"", Patience(self._wait)
        while len(line) < most:
            more = self._file.readline(most - len(line))
            line += more
            if line.endswith(b"\n") or (not more and patience.ends()):
                break
            if more:
                patience.renew()
        return line
