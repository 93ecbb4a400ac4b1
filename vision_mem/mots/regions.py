"""Masks with their bounds, how they overlap, and one owner for each contested pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.boxes import box_iou, clip_box
from vision_mem.geometry.masks import mask_to_box
from vision_mem.types import Detections

Box = NDArray[np.float32]

_COMMON = 0.3  # box IoU from which on a box and a mask speak of one thing
_LEFT = 0.3  # share of its mask that a neighbour leaves to somebody who is not swallowed


@dataclass(frozen=True)
class Region:
    """Where something is on a frame.

    Attributes:
        box: ``(4,)`` pixels, inside the frame; zeros when there is nothing.
        mask: ``(H, W)`` bool; None stands for the filled box.
        area: pixels of the mask, or of the box.
    """

    box: Box
    mask: NDArray[np.bool_] | None
    area: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The pixels inside the box, as rows and columns."""
        return window(self.box)

    @property
    def middle(self) -> tuple[float, float]:
        """``(x, y)`` middle of the mask, or of the filled box; pixels."""
        x1, y1, x2, y2 = (float(value) for value in self.box)
        if self.mask is None or not self.area:
            return (x1 + x2) / 2, (y1 + y2) / 2
        rows, columns = np.nonzero(self.mask[self.window])
        return x1 + float(columns.mean()), y1 + float(rows.mean())


def window(box: Box) -> tuple[slice, slice]:
    """Whole pixels of a box, corners rounded down; as rows and columns."""
    x1, y1, x2, y2 = (max(int(value), 0) for value in box)
    return slice(y1, max(y2, y1)), slice(x1, max(x2, x1))


def region_of(mask: NDArray[np.bool_]) -> Region:
    """A region from its mask, ``(H, W)`` bool."""
    box = mask_to_box(mask)
    return Region(box, mask, int(np.count_nonzero(mask[window(box)])))


def region_of_box(box: Box, size: tuple[int, int]) -> Region:
    """A region that is a filled box, cut at the borders of a frame of ``(height, width)``."""
    inside = clip_box(box, *size)
    rows, columns = window(inside)
    return Region(inside, None, (rows.stop - rows.start) * (columns.stop - columns.start))


def detected(detections: Detections, size: tuple[int, int]) -> list[Region]:
    """Regions of detections: their masks where they have some, else their boxes."""
    found = []
    for number, box in enumerate(detections.boxes):
        mask = detections.mask_of(number)
        usable = mask is not None and mask.shape == size
        found.append(region_of(mask) if mask is not None and usable else region_of_box(box, size))
    return found


def overlap_area(first: Region, second: Region) -> int:
    """Pixels two regions share."""
    rows, columns = first.window
    others = second.window
    y1, y2 = max(rows.start, others[0].start), min(rows.stop, others[0].stop)
    x1, x2 = max(columns.start, others[1].start), min(columns.stop, others[1].stop)
    if y2 <= y1 or x2 <= x1:
        return 0
    inside = slice(y1, y2), slice(x1, x2)
    if first.mask is None and second.mask is None:
        return int((y2 - y1) * (x2 - x1))
    if first.mask is None or second.mask is None:
        mask = second.mask if first.mask is None else first.mask
        assert mask is not None
        return int(np.count_nonzero(mask[inside]))
    return int(np.count_nonzero(first.mask[inside] & second.mask[inside]))


def overlaps(first: Sequence[Region], second: Sequence[Region]) -> NDArray[np.int64]:
    """``(n, m)`` pixels that each of one list shares with each of another."""
    table = np.zeros((len(first), len(second)), np.int64)
    if not first or not second:
        return table
    # Most pairs lie apart, and boxes tell so at once.
    a = np.stack([one.box for one in first])[:, None]
    b = np.stack([one.box for one in second])[None]
    close = np.minimum(a[..., 2:], b[..., 2:]) > np.maximum(a[..., :2], b[..., :2])
    for row, column in np.argwhere(close.all(axis=-1)):
        table[row, column] = overlap_area(first[row], second[column])
    return table


def ious(first: Sequence[Region], second: Sequence[Region]) -> NDArray[np.float64]:
    """``(n, m)`` intersection over union; 0 where a union is empty."""
    shared = overlaps(first, second)
    areas = np.array([one.area for one in first])[:, None] + np.array([r.area for r in second])
    union = np.maximum(areas - shared, 1)
    return np.asarray(shared / union, np.float64)


def bounds_ious(first: Sequence[Region], second: Sequence[Region]) -> NDArray[np.float64]:
    """``(n, m)`` intersection over union of the boxes around regions."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    a, b = np.stack([r.box for r in first]), np.stack([r.box for r in second])
    return box_iou(a[:, None], b[None])


def share_inside(of: Sequence[Region], others: Sequence[Region]) -> NDArray[np.float64]:
    """``(n, m)`` what part of each region lies in each of the others; 0 for empty regions."""
    areas = np.array([max(one.area, 1) for one in of], dtype=np.float64).reshape(-1, 1)
    return np.asarray(overlaps(of, others) / areas, np.float64)


def free_share(taken: NDArray[np.bool_], box: Box) -> float:
    """What part of a box, cut at the borders, no pixel of ``taken`` ``(H, W)`` covers; in [0, 1].

    Source:
        Seg2Track-SAM2, new-object test of its main loop.
    """
    inside = taken[window(clip_box(box, *taken.shape))]
    return 1.0 - float(np.count_nonzero(inside)) / inside.size if inside.size else 0.0


def margins_of(box: Box, bounds: Box) -> tuple[float, float, float, float] | None:
    """How far a detector's box reaches beyond the bounds of a mask, in widths and heights of it.

    Args:
        box: ``(4,)`` pixels, of the detector.
        bounds: ``(4,)`` pixels, of the mask.

    Returns:
        Left, top, right, bottom, outwards; None where the two have little in common.
    """
    if box_iou(box, bounds) < _COMMON:
        return None
    width, height = (float(v) for v in bounds[2:] - bounds[:2])
    left, top, right, bottom = (float(v) for v in box - bounds)
    return -left / width, -top / height, right / width, bottom / height


def without_margins(box: Box, margins: tuple[float, float, float, float]) -> Box:
    """The bounds of the mask that go with a detector's box; the other way round."""
    left, top, right, bottom = margins
    width = (box[2] - box[0]) / (1 + left + right)
    height = (box[3] - box[1]) / (1 + top + bottom)
    x1, y1 = box[0] + left * width, box[1] + top * height
    return np.array([x1, y1, x1 + width, y1 + height], np.float32)


def placed(cutout: NDArray[np.bool_], bounds: Box, size: tuple[int, int]) -> Region:
    """A mask given within its bounds, brought to other bounds.

    Args:
        cutout: ``(h, w)`` bool.
        bounds: ``(4,)`` pixels where it is now; cut at the borders.
        size: ``(height, width)`` of the frame.
    """
    x1, y1, x2, y2 = (round(float(value)) for value in bounds)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    rows = np.arange(max(y1, 0), min(y2, size[0]))
    columns = np.arange(max(x1, 0), min(x2, size[1]))
    mask = np.zeros(size, dtype=bool)
    if len(rows) and len(columns):
        down = (rows - y1) * cutout.shape[0] // (y2 - y1)
        across = (columns - x1) * cutout.shape[1] // (x2 - x1)
        mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = cutout[np.ix_(down, across)]
    return region_of(mask)


def with_margins(bounds: Box, margins: tuple[float, float, float, float] | None) -> Box | None:
    """The box of a detector that would go with a mask of these bounds; None without margins."""
    if margins is None:
        return None
    sides = np.tile(bounds[2:] - bounds[:2], 2)
    return np.asarray(bounds + np.array(margins) * (-1, -1, 1, 1) * sides, np.float32)


RULES = ("shared", "score", "area", "creation", "none")


def front_to_back(
    rule: str, scores: Sequence[float], areas: Sequence[int], ids: Sequence[int]
) -> list[int]:
    """Who wins contested pixels, as positions, first the one in front.

    Args:
        rule: ``score`` and ``shared`` (the surest mask), ``area`` (the smallest), ``creation``
            (the oldest, as Seg2Track-SAM2) or ``none`` (in the order given).
        scores: of the masks, [0, 1].
        areas: pixels.
        ids: of the tracks; an older one has a lower id, and wins where all else is equal.
    """
    order = list(range(len(ids)))
    if rule in ("score", "shared"):
        order.sort(key=lambda n: (-scores[n], ids[n]))
    elif rule == "area":
        order.sort(key=lambda n: (areas[n], ids[n]))
    elif rule == "creation":
        order.sort(key=lambda n: ids[n])
    return order


def owners(
    regions: Sequence[Region], order: Sequence[int], size: tuple[int, int]
) -> NDArray[np.int32]:
    """``(H, W)``: position + 1 of the first in ``order`` whose mask has the pixel; 0 for none."""
    owner = np.zeros(size, np.int32)
    for n in reversed(order):
        region = regions[n]
        mask = region.mask
        if region.area and mask is not None:
            owner[region.window][mask[region.window]] = n + 1
    return owner


def share_borders(
    owner: NDArray[np.int32], regions: Sequence[Region], boxes: Sequence[Box | None]
) -> NDArray[np.int32]:
    """Give neighbours that were detected apart a border where one has swallowed the other.

    Who is left less than ``_LEFT`` of its mask gets the contested pixels whose distance to the
    middle of its box, in sizes of that box, is smaller than to that of its rival's. Not of who
    stands in front of it, or behind: then there is no border, and most of one is hidden.

    Args:
        owner: as from ``owners``; not changed.
        regions: the masks.
        boxes: ``(4,)`` of the detections of this frame; None for who has none, and keeps out.
    """
    owner = owner.copy()
    for n, (region, box) in enumerate(zip(regions, boxes, strict=True)):
        if box is None or region.mask is None or not region.area:
            continue
        inside = region.window
        mask, here = region.mask[inside], owner[inside]
        if np.count_nonzero(here == n + 1) >= _LEFT * region.area:
            continue
        rivals = [int(one) - 1 for one in np.unique(here[mask]) if one not in (0, n + 1)]
        rows, columns = np.mgrid[inside]
        own = _from_middle(box, rows, columns)
        for rival in rivals:
            other = boxes[rival]
            if other is not None and _beside(box, other):
                nearer = own < _from_middle(other, rows, columns)
                here[mask & (here == rival + 1) & nearer] = n + 1
    return owner


def _beside(first: Box, second: Box) -> bool:
    """Whether most of the smaller of two boxes lies outside the other."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    smaller = min(np.prod(first[2:] - first[:2]), np.prod(second[2:] - second[:2]))
    return bool(np.prod(np.maximum(sides, 0)) < 0.5 * smaller)


def _from_middle(
    box: Box, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Squared distance of pixels to the middle of a box, in its half widths and heights."""
    x1, y1, x2, y2 = (float(value) for value in box)
    across = (2 * columns + 1 - x1 - x2) / max(x2 - x1, 1.0)
    down = (2 * rows + 1 - y1 - y2) / max(y2 - y1, 1.0)
    return np.asarray(across**2 + down**2, np.float64)


def owned(owner: NDArray[np.int32], regions: Sequence[Region]) -> list[NDArray[np.bool_]]:
    """The part of each mask that is its own, ``(H, W)`` bool; masks are then disjoint."""
    found = []
    for n, region in enumerate(regions):
        mask = np.zeros(owner.shape, dtype=bool)
        if region.area:
            inside = window(region.box)
            mask[inside] = owner[inside] == n + 1
        found.append(mask)
    return found
