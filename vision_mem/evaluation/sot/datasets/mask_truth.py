"""Truth as masks, one indexed PNG a frame."""

from __future__ import annotations

from collections.abc import Sequence as Listing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.sot.records import Sequence


def read_labels(path: Path) -> NDArray[np.uint8]:
    """The values of an indexed, grey or one-bit picture, as they stand in the file.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        InputError: when it cannot be read, has colours instead of an index, or values above 255.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L", "1") and not picture.mode.startswith("I"):
                raise InputError(
                    f"{path} is a picture of kind {picture.mode}; expected an indexed or grey PNG "
                    "whose values are object numbers"
                )
            values = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read as a mask: {reason}") from None
    if values.size and int(values.max()) > 255:
        raise InputError(f"{path} has values above 255; expected object numbers from 1 to 255")
    return values.astype(np.uint8)


def mask_sequence(
    name: str,
    frames: tuple[Path, ...],
    masks: tuple[Path, ...],
    *,
    merge: bool | None,
    notes: list[str],
) -> Sequence:
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
    return Sequence(
        name, frames, np.empty((0, 4)), masks=paired, merge_objects=merge, size=labels.shape[:2]
    )


def boxes_around(masks: Listing[Path | None]) -> NDArray[np.float64]:
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
