"""From rows of numbers to boxes, polygons, flags and attributes of a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.number_rows import read_rows

ATTRIBUTES: Mapping[str, str] = {
    "ARC": "Aspect Ratio Change",
    "BC": "Background Clutter",
    "CM": "Camera Motion",
    "DEF": "Deformation",
    "FM": "Fast Motion",
    "FOC": "Full Occlusion",
    "IPR": "In-Plane Rotation",
    "IV": "Illumination Variation",
    "LR": "Low Resolution",
    "MB": "Motion Blur",
    "OCC": "Occlusion",
    "OPR": "Out-of-Plane Rotation",
    "OV": "Out-of-View",
    "POC": "Partial Occlusion",
    "ROT": "Rotation",
    "SOB": "Similar Object",
    "SV": "Scale Variation",
    "VC": "Viewpoint Change",
}
"""What the letters mean that OTB, UAV123 and LaSOT call their attributes by."""

BOX_WIDTHS = (4, 8)
"""Numbers in a row of truth: x, y, width, height; or four corners of a polygon."""


def read_boxes(
    text: str, where: str | Path, widths: Sequence[int] = BOX_WIDTHS
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Truth as boxes.

    Args:
        text: rows of 4 numbers (x, y, width, height) or 8 (corners of a polygon).
        where: the file, for messages.
        widths: row lengths that are allowed.

    Returns:
        ``(T, 4)`` boxes; and ``(T, 8)`` corners when any row was a polygon, else None.

    Raises:
        InputError: an empty file or a bad line.
    """
    rows = read_rows(text, where, widths)
    if not len(rows):
        raise InputError(f"{where} is empty; expected one box a line: x,y,width,height")
    if rows.shape[1] <= 4:
        return rows, None
    # A file may mix both; what stands as a box has NaN behind it.
    boxed = np.isnan(rows[:, 4:]).all(axis=1)
    corners = rows.copy()
    corners[boxed, :8] = corners_of(rows[boxed, :4])
    return bounds(corners), corners


def corners_of(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(T, 8)`` corners, clockwise from the top left, of ``(T, 4)`` x, y, width, height."""
    x, y, w, h = boxes.T
    return np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1)


def bounds(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(T, 4)`` boxes x, y, width, height around ``(T, 2 n)`` corners; NaN where any is NaN."""
    xs, ys = corners[:, 0::2], corners[:, 1::2]
    left, top = xs.min(axis=1), ys.min(axis=1)
    return np.stack([left, top, xs.max(axis=1) - left, ys.max(axis=1) - top], axis=1)


def check_first(boxes: NDArray[np.float64], where: str | Path, line: int = 1) -> None:
    """Refuse truth whose first frame has no box: there is nothing to start a tracker from.

    Args:
        boxes: ``(T, 4)``.
        where: the file, for messages.
        line: the line of the file that the first box stands on.

    Raises:
        InputError: when the first box is NaN or has no area.
    """
    first = boxes[0]
    if not (np.isfinite(first).all() and first[2] > 0 and first[3] > 0):
        shown = ",".join(f"{value:g}" for value in first)
        raise InputError(
            f"{where}, line {line}: the first frame has no box ({shown}); expected x,y,width,"
            "height of the object to follow"
        )


def read_flags(text: str, where: str | Path) -> NDArray[np.bool_]:
    """Flags, one a frame: all in one row, or one a line; above 0 means yes.

    Raises:
        InputError: a line that is no number, or rows and columns at once.
    """
    rows = read_rows(text, where)
    if min(rows.shape) > 1:
        raise InputError(
            f"{where} has {rows.shape[0]} lines of {rows.shape[1]} numbers; expected one flag a "
            "line or all in one line"
        )
    return np.asarray(rows.ravel() > 0)  # false for NaN


def fit_flags(
    flags: NDArray[np.bool_], length: int, name: str, what: str, notes: list[str]
) -> NDArray[np.bool_]:
    """Flags cut or filled up with False to ``length``, with a note when that was needed."""
    if len(flags) == length:
        return flags
    notes.append(f"{name}: {len(flags)} flags of {what} for {length} rows of truth")
    fitted = np.zeros(length, dtype=bool)
    fitted[: len(flags)] = flags[:length]
    return fitted


def compare_counts(name: str, frames: int, rows: int, notes: list[str]) -> None:
    """Note when there are images and truth, and not equally many; one row is a first box only."""
    if frames and frames != rows and rows > 1:
        notes.append(f"{name}: {frames} images but {rows} rows of truth")


def flagged_names(
    text: str, codes: Sequence[str], where: str | Path, notes: list[str]
) -> tuple[str, ...]:
    """Attributes of a sequence from a row of 0 and 1, one for each of ``codes``.

    Args:
        text: what the attribute file holds.
        codes: letters as in ``ATTRIBUTES``, in the order of the flags.
        where: the file, for messages.
        notes: gets a line when the row has another length; no attributes then.
    """
    flags = read_flags(text, where)
    if len(flags) != len(codes):
        notes.append(f"{where}: {len(flags)} attributes, expected {len(codes)}; left out")
        return ()
    return tuple(ATTRIBUTES[code] for code, on in zip(codes, flags, strict=True) if on)
