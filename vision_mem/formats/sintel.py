"""Depth and camera files of MPI Sintel: little-endian, each behind a tag.

Source: the set's own description of ``.dpt`` and ``.cam``; specs/mem4d.md section 3.1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.text import make_folder, write_file
from vision_mem.geometry.poses import inverse, is_rigid, made_rigid

TAG = 202021.25
_HEAD = np.dtype([("tag", "<f4"), ("width", "<i4"), ("height", "<i4")])
_CAMERA_BYTES = 4 + 21 * 8
_MOST_PIXELS = 1 << 27


def read_dpt(path: str | Path) -> NDArray[np.float32]:
    """Read a depth map.

    Returns:
        ``(H, W)`` metres.

    Raises:
        SourceError: one line for a file that is missing, damaged, or no depth map.
    """
    path = Path(path)
    content = _content(path)
    if len(content) < _HEAD.itemsize:
        raise SourceError(f"{path} has {len(content)} bytes; expected a depth map of Sintel (.dpt)")
    head = np.frombuffer(content, _HEAD, 1)[0]
    width, height = int(head["width"]), int(head["height"])
    _check_tag(path, float(head["tag"]))
    if width < 1 or height < 1 or width * height > _MOST_PIXELS:
        raise SourceError(f"{path} says {width} x {height} pixels; not a depth map of Sintel")
    wanted = _HEAD.itemsize + 4 * width * height
    if len(content) != wanted:
        raise SourceError(
            f"{path} has {len(content)} bytes; {width} x {height} pixels take {wanted}: copy the "
            "file again"
        )
    return np.frombuffer(content, "<f4", offset=_HEAD.itemsize).reshape(height, width).copy()


def write_dpt(path: str | Path, depth: ArrayLike) -> None:
    """Write a depth map, whole or not at all.

    Args:
        path: the file; its folder is made.
        depth: ``(H, W)`` metres.

    Raises:
        InputError: for another shape.
        SinkError: when the file cannot be written.
    """
    metres = np.asarray(depth, "<f4")
    if metres.ndim != 2:
        raise InputError(f"depth has shape {metres.shape}; expected (H, W)")
    head = np.array([(TAG, metres.shape[1], metres.shape[0])], _HEAD)
    make_folder(Path(path).parent)
    write_file(Path(path), head.tobytes() + metres.tobytes())


def read_cam(path: str | Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read a camera.

    Returns:
        ``(3, 3)`` intrinsics, pixels counted from their centres, and the ``(4, 4)``
        camera-to-world pose: the file's own matrix is world-to-camera.

    Raises:
        SourceError: one line for a file that is missing, damaged, or no camera.
    """
    path = Path(path)
    content = _content(path)
    if len(content) < _CAMERA_BYTES:
        raise SourceError(
            f"{path} has {len(content)} bytes; expected {_CAMERA_BYTES}, a camera of Sintel (.cam)"
        )
    _check_tag(path, float(np.frombuffer(content, "<f4", 1)[0]))
    numbers = np.frombuffer(content, "<f8", 21, offset=4)
    outside = np.vstack([numbers[9:].reshape(3, 4), (0.0, 0.0, 0.0, 1.0)])
    if not np.isfinite(numbers).all() or not is_rigid(outside):
        raise SourceError(f"{path} holds no rigid motion; expected a camera of Sintel (.cam)")
    return numbers[:9].reshape(3, 3).copy(), inverse(made_rigid(outside))


def write_cam(path: str | Path, intrinsics: ArrayLike, pose: ArrayLike) -> None:
    """Write a camera, whole or not at all.

    Args:
        path: the file; its folder is made.
        intrinsics: ``(3, 3)``, pixels counted from their centres.
        pose: ``(4, 4)`` camera-to-world.

    Raises:
        SinkError: when the file cannot be written.
    """
    numbers = np.concatenate(
        [np.asarray(intrinsics, "<f8").ravel(), inverse(pose)[:3].astype("<f8").ravel()]
    )
    make_folder(Path(path).parent)
    write_file(Path(path), np.array([TAG], "<f4").tobytes() + numbers.astype("<f8").tobytes())


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > 4 * _MOST_PIXELS + _HEAD.itemsize:
            raise SourceError(f"{path} is too large for a file of one frame of Sintel")
        return path.read_bytes()
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None


def _check_tag(path: Path, tag: float) -> None:
    if tag != TAG:
        raise SourceError(f"{path} begins with {tag:g}, not with {TAG}; no file of Sintel")
