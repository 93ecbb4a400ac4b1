"""COCO's compressed strings of run lengths, read without trust, many at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOST_GROUPS = 7  # of five bits in a number: more than any image has pixels

Rows = NDArray[np.int64]


def decode(texts: Sequence[str], pixels: int) -> tuple[Rows, Rows, Rows, dict[int, str]]:
    """Read all strings at once.

    A number is groups of five bits, the lowest first, one a character from "0" on; bit 5 says
    that another group follows, bit 4 of the last is the sign. From the fourth on a number is the
    difference to the run two before.

    Args:
        texts: one a mask; anything may be in them.
        pixels: of each mask, at most ``2**30``.

    Returns:
        ``(K,)`` each, of the stretches: which string, first pixel, behind the last pixel; and what
        is wrong with a string, which then has no stretch.
    """
    wrong: dict[int, str] = {}
    joined = "".join(texts)
    if not joined.isascii():
        texts = [text if text.isascii() else "\x00" for text in texts]
        joined = "".join(texts)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    for row in np.flatnonzero(lengths == 0):
        wrong[int(row)] = "the run lengths are missing"
    if not joined:
        empty = np.empty(0, np.int64)
        return empty, empty, empty, wrong
    filled = np.flatnonzero(lengths)
    stops = np.cumsum(lengths[filled])
    bits = np.frombuffer(joined.encode("ascii"), np.uint8) - np.uint8(48)  # below "0" wraps
    foreign = np.flatnonzero(bits > 63)
    _blame(wrong, filled, stops, foreign, "the run lengths hold a character COCO has not")
    ends = bits & 32 == 0
    cut = stops[~ends[stops - 1]] - 1
    _blame(wrong, filled, stops, cut, "the run lengths end within a number")
    ends[stops - 1] = True  # a number never reaches into the next string
    final = np.flatnonzero(ends)
    numbers, long = _numbers(bits, final)
    _blame(wrong, filled, stops, final[long], "a run length is far too large")
    counts = np.diff(np.searchsorted(final, stops), prepend=0)
    outside, before, inside, pairs = _runs(numbers, counts)
    odd = (before < 0) | (before > pixels) | (inside < 0) | (inside > pixels)
    for row in np.unique(filled[outside[odd]]).tolist():
        wrong.setdefault(row, "a run length is out of range")
    bad = np.isin(filled, list(wrong))[outside]
    before[bad] = 0
    inside[bad] = 0
    reached = np.cumsum(before + inside)
    last = np.cumsum(pairs) - 1
    reached -= np.repeat(np.concatenate([[0], reached[last[:-1]]]), pairs)
    whole = reached[last] == pixels
    for index in np.flatnonzero(~whole):
        message = f"the run lengths cover {reached[last[index]]} of {pixels} pixels"
        wrong.setdefault(int(filled[index]), message)
    kept = (inside > 0) & whole[outside]
    return filled[outside[kept]], (reached - inside)[kept], reached[kept], wrong


def _blame(wrong: dict[int, str], filled: Rows, stops: Rows, places: Rows, reason: str) -> None:
    """Note what is wrong with the strings that hold these characters."""
    if len(places):
        for index in np.unique(np.searchsorted(stops, places, side="right")).tolist():
            wrong.setdefault(int(filled[index]), reason)


def _numbers(bits: NDArray[np.uint8], final: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Numbers that end at these characters, and which are longer than any can be."""
    first = np.concatenate([[0], final[:-1] + 1])
    groups = final - first + 1
    numbers = (bits[first] & 31).astype(np.int64)
    long = groups > _MOST_GROUPS
    groups[long] = _MOST_GROUPS
    more = np.flatnonzero(groups > 1)
    shift = 5
    while len(more):
        numbers[more] |= (bits[first[more] + shift // 5] & 31).astype(np.int64) << shift
        shift += 5
        more = more[groups[more] > shift // 5]
    negative = np.flatnonzero(bits[final] & 16)
    numbers[negative] -= np.int64(1) << 5 * groups[negative]
    return numbers, long


def _runs(numbers: Rows, counts: Rows) -> tuple[Rows, Rows, Rows, Rows]:
    """From differences to runs, by pairs: one outside the mask, then one inside.

    Args:
        numbers: of all strings.
        counts: how many each string has, at least one.

    Returns:
        String of each pair, its run outside, its run inside, and how many pairs each string has.
    """
    pairs = (counts + 1) // 2
    single = counts % 2 == 1
    # A string that ends outside the mask gets a last run inside of no length.
    shift = np.cumsum(single) - single
    padded = np.zeros(2 * int(pairs.sum()), np.int64)
    padded[np.arange(len(numbers)) + np.repeat(shift, counts)] = numbers
    outside, inside = padded[::2].copy(), padded[1::2].copy()
    heads = np.cumsum(pairs) - pairs
    # Only the runs from the fourth on are differences, so the first stands by itself.
    first = outside[heads]
    outside[heads] = 0
    for runs in (outside, inside):
        start = runs[heads]
        np.cumsum(runs, out=runs)
        runs -= np.repeat(runs[heads] - start, pairs)
    outside[heads] = first
    inside[(heads + pairs - 1)[single]] = 0
    return np.repeat(np.arange(len(counts)), pairs), outside, inside, pairs
