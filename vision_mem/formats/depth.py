"""Depth maps as files: 16-bit PNG, npz and npy."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SinkError, SourceError
from vision_mem.formats.text import make_folder, write_file

DEPTH_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".pgm", ".npz", ".npy"})
_LARGEST = 1 << 29
_MOST_PIXELS = 1 << 27


def read_depth(path: str | Path) -> NDArray[np.generic]:
    """Read a depth map as it is stored, without scaling.

    Args:
        path: an image with one channel, ``.npy``, or ``.npz`` with an array ``depth`` or only one.

    Returns:
        ``(H, W)`` of whole numbers or floats.

    Raises:
        SourceError: one line for a file that is missing, damaged, or no depth map.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise SourceError(f"{path} is larger than {_LARGEST >> 20} MiB; not one depth map")
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    if path.suffix.lower() in (".npz", ".npy"):
        found: Any = _from_numpy(path, content)
    else:
        try:
            found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            found = None
        if found is None:
            raise SourceError(f"{path} cannot be read as an image; replace or remove it")
    if found.ndim != 2 or found.size == 0 or found.dtype.kind not in "uif":
        raise SourceError(
            f"{path} has shape {found.shape} and type {found.dtype}; expected depth of one channel "
            "(an image for people to look at is no depth map)"
        )
    return np.asarray(found)


def _from_numpy(path: Path, content: bytes) -> NDArray[np.generic]:
    try:
        if path.suffix.lower() == ".npy":
            _check_header(io.BytesIO(content))
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [n for n in archive.namelist() if n.endswith(".npy")]
            name = "depth.npy" if "depth.npy" in names else names[0] if len(names) == 1 else ""
            if not name:
                raise SourceError(
                    f"{path} holds {', '.join(names)[:60] or 'nothing'}; expected an array 'depth'"
                )
            if archive.getinfo(name).file_size > _LARGEST:
                raise SourceError(f"{path} unpacks to more than {_LARGEST >> 20} MiB")
            unpacked = archive.read(name)
        _check_header(io.BytesIO(unpacked))
        return np.asarray(np.load(io.BytesIO(unpacked), allow_pickle=False))
    except SourceError:
        raise
    except Exception as error:  # zip and npy readers raise many kinds for damaged files
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise SourceError(f"{path} cannot be read as a depth map ({reason})") from None


def _check_header(stream: io.BytesIO) -> None:
    """Refuse a header that speaks of more numbers than a depth map has."""
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape = read[version](stream)[0]
    if int(np.prod([int(n) for n in shape], dtype=object)) > _MOST_PIXELS:
        raise ValueError(f"its header says shape {shape}")


def write_depth(
    path: str | Path, depth: NDArray[np.floating], *, per_metre: float = 1000.0
) -> None:
    """Write a depth map, whole or not at all.

    Args:
        path: ``.png`` for 16 bits, ``.npz`` for float32 metres under the name ``depth``.
        depth: ``(H, W)`` metres; what is not above 0 is written as 0, "no reading".
        per_metre: PNG units in a metre: 1000 for millimetres, 5000 for TUM. What exceeds 65535
            units is written as 0.

    Raises:
        InputError: for another suffix or shape.
        SinkError: when the file cannot be written.
    """
    path = Path(path)
    if depth.ndim != 2:
        raise InputError(f"depth has shape {depth.shape}; expected (H, W)")
    known = np.where(np.isfinite(depth) & (depth > 0), depth, 0)
    if path.suffix.lower() == ".npz":
        stream = io.BytesIO()
        np.savez_compressed(stream, depth=known.astype(np.float32))
        content = stream.getvalue()
    elif path.suffix.lower() == ".png":
        units = np.round(known.astype(np.float64) * per_metre)
        units[units > 65535] = 0
        good, packed = cv2.imencode(".png", units.astype(np.uint16))
        if not good:
            raise SinkError(f"{path} cannot be written: the depth map cannot be packed as PNG")
        content = packed.tobytes()
    else:
        raise InputError(f"depth file {path.name!r} has an unknown kind; expected .png or .npz")
    make_folder(path.parent)
    write_file(path, content)
