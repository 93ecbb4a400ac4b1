"""Binary PLY files of points and meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
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
