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


RULES = ("score", "area", "creation", "none")


def front_to_back(
    rule: str, scores: Sequence[float], areas: Sequence[int], ids: Sequence[int]
) -> list[int]:
    """Who wins contested pixels, as positions, first the one in front.

    Args:
        rule: ``score`` (the surest mask), ``area`` (the smallest), ``creation`` (the oldest, as
            Seg2Track-SAM2) or ``none`` (in the order given).
        scores: of the masks, [0, 1].
        areas: pixels.
        ids: of the tracks; an older one has a lower id, and wins where all else is equal.
    """
    order = list(range(len(ids)))
    if rule == "score":
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
