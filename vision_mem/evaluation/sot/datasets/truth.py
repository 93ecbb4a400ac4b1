"""From rows of numbers, or indexed PNG masks, to the truth of a sequence."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.number_rows import read_rows
from vision_mem.evaluation.sot.records import SotSequence

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


def boxes_from(path: Path) -> NDArray[np.float64]:
    """Truth as boxes ``(T, 4)``, see ``read_boxes`` and ``check_first``."""
    boxes, _ = read_boxes(read_text(path), path)
    check_first(boxes, path)
    return boxes


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

    Rows of another length have none, which ``notes`` is told.
    """
    flags = read_flags(text, where)
    if len(flags) != len(codes):
        notes.append(f"{where}: {len(flags)} attributes, expected {len(codes)}; left out")
        return ()
    return tuple(ATTRIBUTES[code] for code, on in zip(codes, flags, strict=True) if on)


def read_labels(where: str | Path, data: bytes | None = None) -> NDArray[np.uint8]:
    """A mask image as a label image: its values as stored, not its colours.

    Args:
        where: PNG with a palette, or grey.
        data: what it holds, when it is no file of its own; ``where`` is for messages then.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        InputError: for anything else.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(where if data is None else io.BytesIO(data)) as picture:
            mode = picture.mode
            values: NDArray[Any] = np.asarray(picture)
    except UnidentifiedImageError:
        raise InputError(f"{where} is no image; expected an indexed PNG") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where} cannot be read as an image: {reason}") from None
    if values.ndim != 2:
        colours = values[..., :3]
        if (colours != colours[..., :1]).any() or mode in ("LA", "PA"):
            raise InputError(
                f"{where} holds colours ({mode}); expected an indexed or grey PNG with the number "
                "of an object in each pixel"
            )
        values = colours[..., 0]
    if values.size and int(values.max()) > 255:
        raise InputError(f"{where} has values up to {values.max()}; expected at most 255")
    return values.astype(np.uint8)


def mask_sequence(
    name: str,
    frames: tuple[Path, ...],
    masks: tuple[Path, ...],
    *,
    merge: bool | None,
    notes: list[str],
) -> SotSequence:
    """A sequence with mask truth; masks belong to frames of the same stem.

    Args:
        name: of the sequence.
        frames: its images; may be empty, the masks then stand alone.
        masks: its PNG files, in order.
        merge: everything marked is one object; None: so where the first mask has just 0 and 255.
        notes: gets a line for frames without mask and masks without frame.

    Raises:
        InputError: when the first frame has no mask, or a mask without objects.
    """
    paired: tuple[Path | None, ...] = masks
    if frames:
        by_stem = {path.stem: path for path in masks}
        paired = tuple(by_stem.get(path.stem) for path in frames)
        if not any(paired) and len(masks) == len(frames):
            paired = masks  # numbered otherwise, but as many
        bare = sum(path is None for path in paired)
        if bare:
            notes.append(f"{name}: {bare} of {len(frames)} frames have no mask")
        if bare + len(masks) > len(frames):
            notes.append(f"{name}: {bare + len(masks) - len(frames)} masks belong to no frame")
    first = paired[0]
    if first is None:
        raise InputError(
            f"{masks[0].parent} has no mask for the first frame {frames[0].name}; expected "
            f"{frames[0].stem}.png"
        )
    labels = read_labels(first)
    values = np.unique(labels)
    if not values.any():
        raise InputError(f"{first}, the first mask, shows no object: all its pixels are 0")
    if merge is None:
        merge = set(values.tolist()) <= {0, 255}
    return SotSequence(
        name, frames, np.empty((0, 4)), masks=paired, merge_objects=merge, size=labels.shape[:2]
    )


def boxes_around(masks: Sequence[Path | None]) -> NDArray[np.float64]:
    """Boxes around whatever is marked in each mask.

    Args:
        masks: PNG files; None where a frame has none.

    Returns:
        ``(T, 4)`` x, y, width, height in pixels from 0; NaN where there is no mask, zeros where
        it is empty.
    """
    boxes = np.full((len(masks), 4), np.nan)
    for index, path in enumerate(masks):
        if path is None:
            continue
        marked = read_labels(path) > 0
        columns, rows = np.flatnonzero(marked.any(axis=0)), np.flatnonzero(marked.any(axis=1))
        if len(rows):
            left, top = columns[0], rows[0]
            boxes[index] = left, top, columns[-1] + 1 - left, rows[-1] + 1 - top
        else:
            boxes[index] = 0.0
    return boxes
