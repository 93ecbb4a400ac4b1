"""Intrinsics of a camera from the usual files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import SourceError

Numbers = tuple[float, float, float, float]

_NAMES = (
    "camera-intrinsics.txt",
    "intrinsics.txt",
    "intrinsic.txt",
    "intrinsics.json",
    "camera_intrinsic.json",
    "intrinsic/intrinsic_depth.txt",
    "intrinsic_depth.txt",
)


def find_intrinsics(path: Path) -> Numbers | None:
    """From one of the usual files, in the folder or the one above; None without any."""
    for place in (path, path.resolve().parent):
        for name in _NAMES:
            if (place / name).is_file():
                return read_intrinsics(place / name)
    return None


def read_intrinsics(path: Path) -> Numbers:
    """fx, fy, cx, cy of a file.

    Args:
        path: text with a 3x3 or 4x4 matrix or four numbers; or JSON with ``fx, fy, cx, cy``,
            ``ppx, ppy`` for the last two, or ``intrinsic_matrix`` (nine numbers by column, as
            Open3D writes it).

    Raises:
        SourceError: for a file that says none of that.
    """
    if path.suffix.lower() == ".json":
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            if "intrinsic_matrix" in said:
                m = [float(v) for v in said["intrinsic_matrix"]]
                return m[0], m[4], m[6], m[7]
            middle = (said.get("cx", said.get("ppx")), said.get("cy", said.get("ppy")))
            return float(said["fx"]), float(said["fy"]), float(middle[0]), float(middle[1])
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise SourceError(f"{path} says no intrinsics; expected fx, fy, cx, cy") from None
    matrix = read_matrix(path, [(3, 3), (4, 4), (1, 4)])
    if matrix.shape == (1, 4):
        fx, fy, cx, cy = matrix[0]
    else:
        fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    return float(fx), float(fy), float(cx), float(cy)


def read_matrix(path: Path, shapes: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """A matrix of numbers from a text file.

    Raises:
        SourceError: when it is none of the given shapes.
    """
    try:
        words = path.read_text(encoding="utf-8-sig").replace(",", " ").split()
        values = np.array([float(word) for word in words[:1000]])
    except (OSError, UnicodeDecodeError, ValueError):
        raise SourceError(f"{path} cannot be read as a matrix of numbers") from None
    for shape in shapes:
        if len(values) == shape[0] * shape[1]:
            return values.reshape(shape)
    expected = " or ".join(f"{rows}x{columns}" for rows, columns in shapes)
    raise SourceError(f"{path} holds {len(values)} numbers; expected a {expected} matrix")
