"""Regions as VOT has them: rectangles, polygons, masks and codes; text, files, overlaps.

Overlaps are counted in pixels after every region is drawn on the same grid, by the rules of
``vot-toolkit`` 0.9.0 (``region/raster.py``), so that the numbers are its numbers.
"""

from __future__ import annotations

import math
import struct
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.text import shown

_MOST_PIXELS = 1 << 26
"""A mask, or a grid to draw on, larger than this is no image's."""
_MOST_BYTES = 1 << 30
_FARTHEST = 1e6
"""No pixel is as far from the image's corner."""

Bounds = tuple[int, int, int, int]


class Kind(Enum):
    """What a region is made of."""

    CODE = "code"
    RECTANGLE = "rectangle"
    POLYGON = "polygon"
    MASK = "mask"


class VotRegion(NamedTuple):
    """One object in one frame.

    Attributes:
        kind: says what ``data`` is.
        data: a code: ``(1,)``; a rectangle: ``(4,)`` float32 x, y, width, height; a polygon:
            ``(N, 2)`` float32 corners; a mask: its pixels row by row, eight in a byte.
        offset: x and y of a mask's top left pixel in the image.
        shape: ``(height, width)`` of a mask.
    """

    kind: Kind
    data: NDArray[Any]
    offset: tuple[int, int] = (0, 0)
    shape: tuple[int, int] = (0, 0)

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """A mask as ``(h, w)`` bool."""
        height, width = self.shape
        flat = np.unpackbits(self.data, count=height * width)
        return flat.reshape(self.shape).astype(bool)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be seen, as the toolkit says it.

        A mask one pixel high or wide is empty to it, and so is every code.
        """
        if self.kind is Kind.CODE:
            return True
        if self.kind is Kind.RECTANGLE:
            return not bool(self.data[2] > 0 and self.data[3] > 0)
        if self.kind is Kind.POLYGON:
            return bool((np.ptp(self.data, axis=0) == 0).any())
        *_, right, bottom = mask_bounds(self.pixels)
        return right == 0 or bottom == 0

    def is_code(self, code: int) -> bool:
        """Whether this is that code: 0 unknown, 1 the tracker was started here, 2 it failed."""
        return self.kind is Kind.CODE and int(self.data[0]) == code


UNKNOWN, STARTED, FAILED = 0, 1, 2


def code(value: float) -> VotRegion:
    """A region that is a code."""
    return VotRegion(Kind.CODE, np.array([value]))


def rectangle(box: ArrayLike) -> VotRegion:
    """A region from x, y, width, height; unknown when one of them is NaN."""
    return _shape(Kind.RECTANGLE, np.asarray(box, dtype=np.float64))


def polygon(corners: ArrayLike) -> VotRegion:
    """A region from x1, y1, x2, y2, ...; unknown when one of them is NaN."""
    return _shape(Kind.POLYGON, np.asarray(corners, dtype=np.float64).reshape(-1, 2))


def _shape(kind: Kind, data: NDArray[np.float64]) -> VotRegion:
    if np.isnan(data).any():
        return code(UNKNOWN)
    if (np.abs(data) > _FARTHEST).any():
        raise InputError(f"a {kind.value} with {np.abs(data).max():g}; expected pixels of an image")
    return VotRegion(kind, data.astype(np.float32))


def mask(image: NDArray[Any], offset: tuple[int, int] = (0, 0)) -> VotRegion:
    """A region from an image, its empty margin cut off.

    Args:
        image: ``(h, w)``; the object is where it is not 0.
        offset: x and y of the image's top left pixel.
    """
    on = np.asarray(image != 0)
    left, top, right, bottom = mask_bounds(on)
    if right == 0:  # the toolkit's test for "nothing there"
        return _whole_mask(on[:0, :0], (0, 0))
    cut = on[top : bottom + 1, left : right + 1]
    return _whole_mask(cut, (left + offset[0], top + offset[1]))


def _whole_mask(on: NDArray[np.bool_], offset: tuple[int, int]) -> VotRegion:
    return VotRegion(Kind.MASK, np.packbits(on), offset, (on.shape[0], on.shape[1]))


def parse_region(line: str, where: str) -> VotRegion:
    """Read a line of a VOT file.

    Args:
        line: one number: a code; four: x, y, width, height; six or more: corners; ``m`` and
            numbers: a mask as x, y, width, height and run lengths, zeros first.
        where: file and line, for messages.

    Raises:
        InputError: for anything else.
    """
    text = line.strip()
    if text[:1] == "m":
        return _parse_mask(text[1:], where)
    try:
        numbers = [float(field) for field in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if not numbers or any(abs(number) > _FARTHEST for number in numbers):
        raise InputError(f"{where}: {shown(line)} is no region; expected pixels, or m...")
    if len(numbers) == 1:
        return code(UNKNOWN if math.isnan(numbers[0]) else numbers[0])
    if len(numbers) == 4:
        return rectangle(numbers)
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        return polygon(numbers)
    raise InputError(
        f"{where}: {len(numbers)} numbers; expected 1 (a code), 4 (x,y,w,h) or three corners and "
        "more (x1,y1,x2,y2,...)"
    )


def _parse_mask(text: str, where: str) -> VotRegion:
    try:
        numbers = [int(field) for field in text.split(",")]
        x, y, width, height, *runs = numbers
    except ValueError:
        raise InputError(f"{where}: no mask; expected mX,Y,WIDTH,HEIGHT,RUN,RUN,...") from None
    return mask(unroll(runs, width, height, where), (x, y))


def unroll(runs: list[int], width: int, height: int, where: str) -> NDArray[np.bool_]:
    """``(height, width)`` bool of run lengths row by row, those outside the object first.

    Raises:
        InputError: for sizes of no image, or runs that do not fit.
    """
    if width < 0 or height < 0 or width * height > _MOST_PIXELS:
        raise InputError(f"{where}: a mask of {width}x{height}; expected the size of an image")
    if max(runs, default=0) > _MOST_PIXELS:
        raise InputError(f"{where}: the runs of its mask do not fit {width}x{height} pixels")
    lengths = np.array(runs, dtype=np.int64)
    if (lengths < 0).any() or int(lengths.sum()) > width * height:
        raise InputError(f"{where}: the runs of its mask do not fit {width}x{height} pixels")
    flat = np.zeros(width * height, dtype=bool)
    values = np.arange(len(lengths)) % 2 == 1
    flat[: int(lengths.sum())] = np.repeat(values, lengths)
    return flat.reshape(height, width)


def parse_regions(data: bytes, where: str) -> list[VotRegion]:
    """Read a result file of the toolkit, text or binary.

    Args:
        data: all of the file.
        where: the file, for messages.

    Raises:
        InputError: for a file that is neither.
    """
    if data[:2] == b"\x01\x00":
        try:
            return _parse_binary(data, where)
        except struct.error:
            raise InputError(f"{where} is cut short or no result file of the VOT toolkit") from None
    lines = data.decode("utf-8-sig", errors="replace").rstrip().splitlines()
    regions: list[VotRegion] = []
    for number, line in enumerate(lines, start=1):
        _keep(regions, parse_region(line, f"{where}, line {number}"), where)
    return regions


def _keep(regions: list[VotRegion], region: VotRegion, where: str) -> None:
    """Add a region, unless a small file has unrolled to more than any sequence holds."""
    regions.append(region)
    if len(regions) % 64 == 0 and sum(each.data.nbytes for each in regions) > _MOST_BYTES:
        raise InputError(f"{where}: its masks would take over {_MOST_BYTES >> 20} MB")


def _parse_binary(data: bytes, where: str) -> list[VotRegion]:
    at = 0

    def take(form: str) -> tuple[int | float, ...]:
        nonlocal at
        values = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        return values

    _, length = take("<hI")
    regions: list[VotRegion] = []
    for _ in range(int(length)):
        (kind,) = take("<B")
        if kind == 0:
            _keep(regions, code(*take("<I")), where)
        elif kind == 1:
            _keep(regions, rectangle(take("<4f")), where)
        elif kind == 2:
            (corners,) = take("<H")
            _keep(regions, polygon(take(f"<{2 * int(corners)}f")), where)
        elif kind == 3:
            x, y, width, height, count = (int(value) for value in take("<hhHHH"))
            runs = [int(value) for value in take(f"<{count}H")]
            _keep(regions, _whole_mask(unroll(runs, width, height, where), (x, y)), where)
        else:
            raise InputError(f"{where} holds regions of kind {kind}; expected 0 to 3")
    return regions


def region_overlap(first: VotRegion, second: VotRegion, size: tuple[int, int] | None) -> float:
    """Pixels in both regions over pixels in either.

    Args:
        first: a region.
        second: a region.
        size: ``(height, width)`` of the image, outside of which nothing counts; None: no limit.

    Returns:
        In [0, 1]. 1 when both are empty, or lie on one and the same row or column of pixels.

    Raises:
        InputError: when they would need a grid larger than any image.
    """
    a, b = _round(first), _round(second)
    bounds_a, bounds_b = _bounds(a), _bounds(b)
    left, top = min(bounds_a[0], bounds_b[0]), min(bounds_a[1], bounds_b[1])
    right, bottom = max(bounds_a[2], bounds_b[2]), max(bounds_a[3], bounds_b[3])
    if left >= right or top >= bottom:
        return 1.0
    if size is not None:
        left, top = max(0, left), max(0, top)
        right, bottom = min(size[1] - 1, right), min(size[0] - 1, bottom)
        if left >= right or top >= bottom:
            return 0.0
    if (right - left + 1) * (bottom - top + 1) > _MOST_PIXELS:
        raise InputError(
            f"regions from {left},{top} to {right},{bottom} are too large to be compared; "
            "expected positions in an image"
        )
    grid = (left, top, right, bottom)
    ours, theirs = _draw(a, grid), _draw(b, grid)
    union = np.count_nonzero(ours | theirs)
    return float(np.count_nonzero(ours & theirs) / union) if union else 0.0


def _round(region: VotRegion) -> VotRegion:
    if region.kind in (Kind.RECTANGLE, Kind.POLYGON):
        return region._replace(data=np.round(region.data))
    return region


def _bounds(region: VotRegion) -> Bounds:
    """First and last column and row, inclusive; zeros for codes and empty masks."""
    data = region.data
    if region.kind is Kind.RECTANGLE:
        x, y, width, height = data
        return round(float(x)), round(float(y)), int(x + width - 1), int(y + height - 1)
    if region.kind is Kind.POLYGON:
        low, high = data.min(axis=0), data.max(axis=0)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])
    if region.kind is Kind.MASK:
        left, top, right, bottom = mask_bounds(region.pixels)
        x, y = region.offset
        return left + x, top + y, right + x, bottom + y
    return 0, 0, 0, 0


def mask_bounds(image: NDArray[Any]) -> Bounds:
    """First and last column and row of what is not 0, inclusive; zeros where all is."""
    on = image != 0
    rows = np.flatnonzero(on.any(axis=1)) if on.size else np.zeros(0, int)
    if not rows.size:
        return 0, 0, 0, 0
    columns = np.flatnonzero(on.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _draw(region: VotRegion, grid: Bounds) -> NDArray[np.bool_]:
    left, top, right, bottom = grid
    canvas = np.zeros((bottom - top + 1, right - left + 1), dtype=bool)
    if region.kind is Kind.RECTANGLE:
        x, y, width, height = (int(value) for value in region.data)
        columns = slice(max(0, x - left), max(0, x + width - left))
        canvas[max(0, y - top) : max(0, y + height - top), columns] = True
    elif region.kind is Kind.POLYGON:
        _fill(canvas, region.data.astype(np.float64) - (left, top))
    elif region.kind is Kind.MASK:
        x, y = region.offset[0] - left, region.offset[1] - top
        height, width = region.shape
        target = canvas[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
        source = region.pixels[max(0, -y) :, max(0, -x) :]
        target[:] = source[: target.shape[0], : target.shape[1]]
    return canvas


def _fill(canvas: NDArray[np.bool_], corners: NDArray[np.float64]) -> None:
    """Fill a polygon row by row, between pairs of crossings with its edges."""
    height, width = canvas.shape
    rows = np.arange(height, dtype=np.float64)[:, None]
    (x, y), (before_x, before_y) = corners.T, np.roll(corners, 1, axis=0).T
    # An edge meets a row also where it only begins or ends there, or lies in it.
    meets = (np.minimum(y, before_y) <= rows) & (rows <= np.maximum(y, before_y))
    rise = before_y - y
    share = (rows - y) / np.where(rise == 0, 1.0, rise)
    crossings = np.where(rise == 0, x, x + share * (before_x - x))
    nodes = np.where(meets, np.trunc(crossings), np.inf)
    nodes.sort(axis=1)
    counts = meets.sum(axis=1)
    columns = np.arange(width)
    plain = counts == 2
    canvas[plain] = (columns >= nodes[plain, :1]) & (columns <= nodes[plain, 1:2])
    for row in np.flatnonzero(counts > 2):
        _fill_row(canvas[row], nodes[row, : counts[row]])


def _fill_row(row: NDArray[np.bool_], nodes: NDArray[np.float64]) -> None:
    at = 0
    while at < len(nodes) - 1 and nodes[at] < len(row):
        # A corner gives the same node twice; the first is passed over, but not at the end.
        if nodes[at] == nodes[at + 1] and at < len(nodes) - 2:
            at += 1
            continue
        if nodes[at + 1] >= 0:
            row[max(0, int(nodes[at])) : int(nodes[at + 1]) + 1] = True
        at += 2
