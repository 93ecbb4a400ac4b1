"""Masks as COCO run lengths or outlines, from files that nobody vouches for.

Run lengths count pixels down the columns, first background, then object, and so on; they are a
list of numbers or COCO's compressed text. Everything is checked before memory is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_PIXELS = 1 << 28
"""A mask larger than this is no video's."""
_MOST_GROUPS = 8  # five bits each: no count needs more


@dataclass(frozen=True, eq=False)
class Runs:
    """A mask, checked.

    Attributes:
        lengths: int64 run lengths, background first, that fill the mask exactly.
        size: ``(height, width)`` pixels.
    """

    lengths: NDArray[np.int64]
    size: tuple[int, int]

    def mask(self) -> NDArray[np.bool_]:
        """``(H, W)`` bool."""
        on = np.arange(len(self.lengths)) % 2 == 1
        return np.repeat(on, self.lengths).reshape(self.size[::-1]).T

    def box(self) -> NDArray[np.float32]:
        """Bounds ``(x1, y1, x2, y2)``, right and bottom exclusive; zeros when nothing is on."""
        height = self.size[0]
        ends = np.cumsum(self.lengths)
        first, last = (ends - self.lengths)[1::2], ends[1::2] - 1
        first, last = first[last >= first], last[last >= first]
        if len(first) == 0:
            return np.zeros(4, np.float32)
        top, bottom = first % height, last % height
        if (first // height != last // height).any():  # a run that goes on in the next column
            top, bottom = np.array([0]), np.array([height - 1])
        x1, x2 = first[0] // height, last[-1] // height
        return np.array([x1, top.min(), x2 + 1, bottom.max() + 1], np.float32)


def read_runs(counts: str | bytes | Sequence[int], height: int, width: int) -> Runs:
    """Check run lengths.

    Args:
        counts: COCO's compressed text, or the numbers.
        height: pixels of the mask.
        width: pixels of the mask.

    Raises:
        ValueError: in a few words, when they are not those of such a mask.
    """
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"a mask of {width}x{height} pixels")
    if isinstance(counts, (str, bytes)):
        lengths = _uncompressed(counts)
    else:
        lengths = np.asarray(counts)
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
            raise ValueError("run lengths that are not whole numbers")
        lengths = lengths.astype(np.int64)
    if (lengths < 0).any() or (lengths > height * width).any():
        raise ValueError("a run length outside the mask")
    if int(lengths.sum()) != height * width:
        raise ValueError(
            f"run lengths of {int(lengths.sum())} pixels for a mask of {width}x{height}"
        )
    return Runs(lengths, (height, width))


def _uncompressed(text: str | bytes) -> NDArray[np.int64]:
    """COCO's text: five bits a character, low ones first, bit 5 set when more follow."""
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError:
        raise ValueError("characters that run lengths do not have") from None
    codes = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or (codes < 0).any() or (codes > 63).any():
        raise ValueError("characters that run lengths do not have")
    ends = np.flatnonzero((codes & 32) == 0)
    if len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise ValueError("run lengths that are cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    groups = ends - starts + 1
    if groups.max() > _MOST_GROUPS:
        raise ValueError("a run length outside the mask")
    place = np.arange(len(codes)) - np.repeat(starts, groups)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = (codes[ends] & 16) != 0
    numbers = np.where(negative, numbers - (1 << (5 * groups)), numbers)
    # From the fourth run on, the difference to the run two before is stored.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def draw_outlines(
    outlines: Iterable[NDArray[np.float32]], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Fill polygons.

    Args:
        outlines: ``(k, 2)`` corners in pixels each; those without three finite ones are left out.
        size: ``(height, width)`` pixels.

    Returns:
        ``(H, W)`` bool.
    """
    canvas = np.zeros(size, np.uint8)
    limit = 4.0 * max(size)  # OpenCV counts in 32 bits, with some of them for fractions
    for outline in outlines:
        if len(outline) >= 3 and np.isfinite(outline).all():
            corners = np.clip(np.round(outline), -limit, limit).astype(np.int32)
            cv2.fillPoly(canvas, [corners.reshape(-1, 1, 2)], 1)
    return canvas.astype(bool)
