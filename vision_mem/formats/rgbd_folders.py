"""Recordings with depth as folders: those of 7-Scenes and TUM are written, intrinsics are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.text import make_folder, write_file
from vision_mem.formats.trajectory import pose_line
from vision_mem.geometry.camera import RgbdFrame
from vision_mem.text import read_json, read_text, shown

Numbers = tuple[float, float, float, float]

_NAMES = (
    "camera-intrinsics.txt",
    "intrinsics.txt",
    "intrinsic.txt",
    "intrinsics.json",
    "intrinsic.json",
    "camera_intrinsic.json",
    "intrinsic/intrinsic_depth.txt",
    "intrinsic_depth.txt",
)


def write_seven_scenes(folder: str | Path, frames: Iterable[RgbdFrame]) -> int:
    """Write colour, depth in millimetres, and pose of each frame; returns how many.

    Args:
        folder: made when it is not there; files of the same names are replaced.
        frames: of one camera. Unknown poses become NaN, as the data set has them.

    Raises:
        SinkError: when it cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    count = 0
    for frame in frames:
        stem = folder / f"frame-{frame.index:06d}"
        camera, known = frame.camera, np.nan_to_num(frame.depth, posinf=0.0, neginf=0.0)
        millimetres = np.clip(np.rint(known * 1000.0), 0, 65534).astype(np.uint16)
        if not count:
            # The data set counts pixels from their centres.
            matrix = camera.matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
            write_file(folder / "camera-intrinsics.txt", _text(matrix))
        for name, picture in (("color", frame.image[..., ::-1]), ("depth", millimetres)):
            good, packed = cv2.imencode(".png", picture)
            if not good:
                raise InputError(f"frame {frame.index} cannot be encoded as PNG")
            write_file(folder / f"{stem.name}.{name}.png", packed.tobytes())
        pose = np.full((4, 4), np.nan) if frame.pose is None else frame.pose
        write_file(folder / f"{stem.name}.pose.txt", _text(pose))
        count += 1
    return count


def write_tum(folder: str | Path, frames: Iterable[RgbdFrame]) -> int:
    """Write a folder as TUM RGB-D has them; returns how many frames.

    ``rgb.txt`` and ``depth.txt`` list the pictures by time, depth in 1/5000 m;
    ``groundtruth.txt`` has the poses that are known; ``camera-intrinsics.txt`` is beside them.

    Args:
        folder: made when it is not there; files of the same names are replaced.
        frames: of one camera.

    Raises:
        SinkError: when it cannot be written.
    """
    folder = Path(folder)
    lists: dict[str, list[str]] = {"rgb": [], "depth": [], "groundtruth": []}
    for name in ("rgb", "depth"):
        make_folder(folder / name)
    count = 0
    for frame in frames:
        known = np.nan_to_num(frame.depth, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64)
        units = np.rint(np.clip(known, 0, None) * 5000.0)
        units[units > 65535] = 0
        if not count:
            matrix = frame.camera.matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
            write_file(folder / "camera-intrinsics.txt", _text(matrix))
        for name, picture in (("rgb", frame.image[..., ::-1]), ("depth", units.astype(np.uint16))):
            good, packed = cv2.imencode(".png", picture)
            if not good:
                raise InputError(f"frame {frame.index} cannot be encoded as PNG")
            file = f"{name}/{frame.index:06d}.png"
            write_file(folder / file, packed.tobytes())
            lists[name].append(f"{frame.time_s:.6f} {file}")
        if frame.pose is not None:
            lists["groundtruth"].append(pose_line(frame.pose, frame.time_s, "tum"))
        count += 1
    for name, lines in lists.items():
        if lines or name != "groundtruth":
            write_file(folder / f"{name}.txt", "".join(f"{line}\n" for line in lines).encode())
    return count


def _text(matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bytes:
    return "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in matrix).encode()


@dataclass(frozen=True)
class StoredCamera:
    """Intrinsics as a recording says them.

    Attributes:
        numbers: fx, fy, cx, cy, pixels counted from their centres.
        source: the file, or whose numbers they are.
        size: ``(width, height)`` of the image that they are of; None where nobody says it.
        built_in: whether they are those of a data set, and not of this recording.
    """

    numbers: Numbers
    source: str
    size: tuple[int, int] | None = None
    built_in: bool = False


def find_intrinsics(path: Path) -> Numbers | None:
    """From one of the usual files, in the folder or the one above; None without any."""
    found = find_camera(path)
    return None if found is None else found.numbers


def find_camera(path: Path) -> StoredCamera | None:
    """As ``find_intrinsics``, with the size of the image where the file says it."""
    for place in (path, path.resolve().parent):
        for name in _NAMES:
            if (place / name).is_file():
                return read_camera(place / name)
    return None


def read_camera(path: Path) -> StoredCamera:
    """Intrinsics of a file.

    Args:
        path: text with a 3x3 or 4x4 matrix or four numbers; or JSON with ``fx, fy, cx, cy``
            (``ppx, ppy``; ``fl_x, fl_y``), or a matrix as ``intrinsic_matrix`` (nine numbers by
            column, as Open3D writes it), ``K`` or ``camera_matrix`` (by row), and ``width,
            height`` (``w, h``) of the image where they are known.

    Raises:
        SourceError: for a file that says none of that.
    """
    if path.suffix.lower() == ".json":
        try:
            said = read_json(path)
            size = tuple(int(said.get(a, said.get(a[0], 0))) for a in ("width", "height"))
            width, height = size
            known = (width, height) if min(size) > 0 else None
            return StoredCamera(_numbers_of(said), str(path), known)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
            raise SourceError(f"{path} says no intrinsics; expected fx, fy, cx, cy") from None
    matrix = read_matrix(path, [(3, 3), (4, 4), (1, 4)])
    numbers = matrix[0] if len(matrix) == 1 else matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    fx, fy, cx, cy = numbers.tolist()
    return StoredCamera((fx, fy, cx, cy), str(path))


def _numbers_of(said: Any) -> Numbers:
    for name in ("intrinsic_matrix", "K", "camera_matrix"):
        if name in said:
            value = said[name].get("data") if isinstance(said[name], dict) else said[name]
            m = np.asarray(value, np.float64).reshape(3, 3)
            m = m.T if name == "intrinsic_matrix" and np.ndim(value) == 1 else m
            return float(m[0, 0]), float(m[1, 1]), float(m[0, 2]), float(m[1, 2])
    names = (("fx", "fl_x"), ("fy", "fl_y"), ("cx", "ppx"), ("cy", "ppy"))
    fx, fy, cx, cy = (float(said[one] if one in said else said[other]) for one, other in names)
    return fx, fy, cx, cy


def read_matrix(path: Path, shapes: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """A matrix of numbers from a text file.

    Raises:
        SourceError: when it is none of the given shapes.
    """
    try:
        words = read_text(path, most=1_000_000).replace(",", " ").split()
        values = np.array([float(word) for word in words[:1000]])
    except ValueError:
        raise SourceError(f"{path} cannot be read as a matrix of numbers") from None
    for shape in shapes:
        if len(values) == shape[0] * shape[1]:
            return values.reshape(shape)
    expected = " or ".join(f"{rows}x{columns}" for rows, columns in shapes)
    raise SourceError(f"{path} holds {len(values)} numbers; expected a {expected} matrix")


def listed_rows(path: Path) -> list[tuple[float, Path]]:
    """Rows ``time file`` of a list, as they stand; ``#`` begins a remark.

    Raises:
        SourceError: for another row.
    """
    rows: list[tuple[float, Path]] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        try:
            stamp = float(words[0])
        except ValueError:
            stamp = np.nan
        if len(words) != 2 or not np.isfinite(stamp):
            raise SourceError(f"{path} line {number} is {shown(line)}; expected time and file name")
        rows.append((stamp, path.parent / words[1].strip()))
    return rows
