"""Points and meshes as files: binary PLY, and the PLY and npz files of other programs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.text import make_folder, write_file

_PARTS = (
    ("points", ("x", "y", "z"), "float", "<f4"),
    ("normals", ("nx", "ny", "nz"), "float", "<f4"),
    ("colours", ("red", "green", "blue"), "uchar", "u1"),
)


def write_ply(
    path: str | Path,
    points: ArrayLike,
    *,
    normals: ArrayLike | None = None,
    colours: ArrayLike | None = None,
    faces: ArrayLike | None = None,
    track_ids: ArrayLike | None = None,
    comment: str = "",
) -> None:
    """Write points, or a mesh, as a little-endian binary PLY; whole or not at all.

    Args:
        path: the file; its folder is made.
        points: ``(N, 3)`` metres.
        normals: ``(N, 3)``.
        colours: ``(N, 3)`` uint8 RGB.
        faces: ``(F, 3)`` triangles as numbers of points, from 0.
        track_ids: ``(N,)`` whole numbers, written as the property ``track``.
        comment: one line for the header.

    Raises:
        InputError: for arrays whose lengths do not fit, or faces of points that are not there.
        SinkError: when the file cannot be written.
    """
    given = {"points": points, "normals": normals, "colours": colours}
    count = len(np.asarray(points))
    fields: list[tuple[str, str, str, NDArray[np.generic]]] = []
    for name, axes, kind, stored in _PARTS:
        if given[name] is None:
            continue
        array = np.asarray(given[name])
        if array.shape != (count, 3):
            raise InputError(f"{name} have shape {array.shape}; expected {(count, 3)}")
        columns = array.astype(stored)
        fields += [(axis, kind, stored, columns[:, k]) for k, axis in enumerate(axes)]
    if track_ids is not None:
        numbers = np.asarray(track_ids)
        if numbers.shape != (count,):
            raise InputError(f"track_ids have shape {numbers.shape}; expected {(count,)}")
        fields.append(("track", "int", "<i4", numbers.astype("<i4")))
    rows = np.empty(count, dtype=[(name, stored) for name, _, stored, _ in fields])
    for name, _, _, column in fields:
        rows[name] = column
    header = ["ply", "format binary_little_endian 1.0"]
    if comment:
        header.append("comment " + " ".join(comment.split()))
    header.append(f"element vertex {count}")
    header += [f"property {kind} {name}" for name, kind, _, _ in fields]
    body = rows.tobytes()
    if faces is not None:
        triangles = np.asarray(faces).reshape(-1, 3)
        if len(triangles) and not 0 <= triangles.min() <= triangles.max() < count:
            raise InputError(f"faces speak of points that are not there; there are {count}")
        header += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
        packed = np.empty(len(triangles), dtype=[("n", "u1"), ("corners", "<i4", (3,))])
        packed["n"], packed["corners"] = 3, triangles
        body += packed.tobytes()
    make_folder(Path(path).parent)
    text = "\n".join([*header, "end_header", ""])
    write_file(Path(path), text.encode("ascii", "replace") + body)


_LARGEST = 1 << 31
_MOST_POINTS = 100_000_000
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_FORMS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


def read_points(path: str | Path) -> NDArray[np.float32]:
    """Read the vertices of a PLY file.

    Args:
        path: the file: text or binary, of either byte order. What comes after the vertices
            (faces) and other properties of them are passed over.

    Returns:
        ``(N, 3)``; rows that are not finite are left out.

    Raises:
        SourceError: one line for a file that is missing, damaged, or holds no vertices.
    """
    path = Path(path)
    content = read_bytes(path)
    end = content.find(b"end_header")
    if not content.startswith(b"ply") or end < 0:
        raise SourceError(f"{path} is no PLY file; expected one that begins with 'ply'")
    start = content.find(b"\n", end) + 1
    form, count, fields = _header(path, content[:end].decode("ascii", "replace"))
    names = [name for name, _ in fields]
    if not {"x", "y", "z"} <= set(names):
        raise SourceError(f"{path} has vertices without x, y and z; expected a cloud of points")
    if form == "ascii":
        places = _from_text(path, content[start:], count, names)
    else:
        row = np.dtype([(name, _FORMS[form] + kind) for name, kind in fields])
        if len(content) - start < count * row.itemsize:
            raise SourceError(f"{path} ends before its {count} vertices do; copy the file again")
        rows = np.frombuffer(content, row, count, offset=start)
        places = np.stack([rows[axis].astype(np.float64) for axis in "xyz"], axis=1)
    good = np.isfinite(places).all(axis=1)
    return places[good].astype(np.float32)


def _header(path: Path, text: str) -> tuple[str, int, list[tuple[str, str]]]:
    form, count, element = "", -1, ""
    fields: list[tuple[str, str]] = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) >= 2 and words[0] == "format":
            form = words[1]
        elif len(words) == 3 and words[0] == "element":
            element = words[1]
            if element == "vertex" and words[2].isdigit():
                count = int(words[2])
            elif count < 0:
                raise SourceError(f"{path} has {element!r} before its vertices; cannot be read")
        elif words[:1] == ["property"] and element == "vertex":
            if len(words) != 3 or words[1] not in _TYPES:
                raise SourceError(f"{path} has the property {' '.join(words[1:])!r} of vertices")
            fields.append((words[2], _TYPES[words[1]]))
    if form not in _FORMS or not 0 <= count <= _MOST_POINTS or len(dict(fields)) != len(fields):
        raise SourceError(f"{path} has a header that says no format or number of vertices")
    return form, count, fields


def _from_text(path: Path, content: bytes, count: int, names: list[str]) -> NDArray[np.float64]:
    rows = content.splitlines()[:count]
    try:
        values = np.array([row.split()[: len(names)] for row in rows], np.float64)
    except ValueError:
        values = np.zeros((0, 0))
    if values.shape != (count, len(names)):
        raise SourceError(f"{path} lacks numbers in its {count} vertices; copy the file again")
    return values[:, [names.index(axis) for axis in "xyz"]]


def read_arrays(path: str | Path, most: int = _LARGEST) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz file; numbers and flags only.

    Args:
        path: the file.
        most: bytes that the arrays may take in all.

    Raises:
        SourceError: one line for a file that is missing, damaged or hostile.
    """
    path = Path(path)
    content = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = sum(info.file_size for info in archive.infolist())
        if sizes > most:
            raise SourceError(f"{path} unpacks to {sizes >> 20} MiB; expected {most >> 20} at most")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name]) for name in arrays.files}
    except SourceError:
        raise
    except Exception as error:  # zip and npy readers raise many kinds for damaged files
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise SourceError(f"{path} cannot be read as npz ({reason})") from None
    if wrong := [name for name, array in found.items() if array.dtype.kind not in "buif"]:
        raise SourceError(f"{path} holds {wrong[0]!r}, which is no array of numbers")
    return found


def read_bytes(path: Path) -> bytes:
    """What a file holds.

    Raises:
        SourceError: when it is missing, not readable, or larger than 2 GiB.
    """
    try:
        size = path.stat().st_size
        if size <= _LARGEST:
            return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    raise SourceError(f"{path} has {size >> 20} MiB; expected {_LARGEST >> 20} at most")
