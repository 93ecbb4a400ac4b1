"""Each pixel belongs to one object at most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vision_mem.mots.regions import Region, window

RULES = ("score", "area", "creation", "none")


def front_to_back(
    rule: str, scores: Sequence[float], areas: Sequence[int], ids: Sequence[int]
) -> list[int]:
    """Who wins contested pixels, first the one in front.

    Args:
        rule: ``score`` (the surest mask), ``area`` (the smallest), ``creation`` (the oldest, as
            Seg2Track-SAM2) or ``none`` (in the order given).
        scores: of the masks, [0, 1].
        areas: pixels.
        ids: of the tracks; an older one has a lower id, and wins where all else is equal.

    Returns:
        Positions.
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
    """Give each pixel to the first in ``order`` whose mask has it.

    Args:
        regions: with masks.
        order: positions in ``regions``, front first.
        size: ``(height, width)`` of the frame.

    Returns:
        ``(H, W)``: position + 1 of the owner; 0 where no mask is.
    """
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
