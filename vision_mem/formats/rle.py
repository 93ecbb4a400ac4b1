"""Masks as COCO run lengths: read without trust, and compared without drawing their pixels.

Pixels are counted column by column. A *stretch* is a run of pixels that belong to a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.masks import mask_to_box

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
    long = groups > _MOST_GROUPS
    shift = np.minimum(np.arange(len(bits)) - np.repeat(first, groups), _MOST_GROUPS - 1) * 5
    numbers = np.bitwise_or.reduceat((bits & 31).astype(np.int64) << shift, first)
    groups[long] = _MOST_GROUPS
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


MAX_SIDE = 1 << 15
"""Images wider or higher than this are refused; with it all sums here fit into 64 bits."""

MAX_PIXELS = 1 << 28
"""A mask larger than this is no video's; ``read_mask`` refuses it."""

_CHUNK = 1 << 16  # characters decoded at a time: fits a processor's cache, and bounds memory


@dataclass(frozen=True)
class MaskRuns:
    """Masks of one size, as the stretches they cover.

    Attributes:
        size: ``(height, width)`` pixels.
        rows: ``(K,)`` int64, which mask a stretch belongs to; never falling.
        starts: ``(K,)`` int64, its first pixel, ``x * height + y``; rising within a mask.
        stops: ``(K,)`` int64, behind its last pixel.
        areas: ``(N,)`` int64, pixels of each of the N masks.
    """

    size: tuple[int, int]
    rows: Rows
    starts: Rows
    stops: Rows
    areas: Rows

    def __len__(self) -> int:
        return len(self.areas)

    def mask(self, row: int) -> NDArray[np.bool_]:
        """One mask as ``(height, width)`` bool."""
        height, width = self.size
        lengths = self._lengths(row)
        flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        return np.ascontiguousarray(flat.reshape(width, height).T)

    def boxes(self) -> NDArray[np.float64]:
        """Bounds of all masks, ``(N, 4)`` x1, y1, x2, y2, right and bottom exclusive.

        Zeros where a mask is empty.
        """
        height = self.size[0]
        left, right = self.starts // max(height, 1), (self.stops - 1) // max(height, 1) + 1
        wraps = right - left > 1  # from one column into the next: over the whole height
        top = np.where(wraps, 0, self.starts - left * height)
        bottom = np.where(wraps, height, self.stops - left * height)
        boxes = np.zeros((len(self), 4))
        if len(self.rows):
            heads = np.flatnonzero(np.diff(self.rows, prepend=-1))
            low, high = np.minimum.reduceat, np.maximum.reduceat
            found = low(left, heads), low(top, heads), high(right, heads), high(bottom, heads)
            boxes[self.rows[heads]] = np.stack(found, axis=1)
        return boxes

    def text(self, row: int) -> str:
        """One mask as COCO's compressed string."""
        from pycocotools import mask as coco

        counts = self._lengths(row).tolist()
        if len(counts) > 1 and not counts[-1]:
            counts.pop()  # the mask ends with the image
        runs = coco.frPyObjects({"size": list(self.size), "counts": counts}, *self.size)
        return str(runs["counts"].decode())

    def _lengths(self, row: int) -> Rows:
        """Run lengths of one mask, background first and last; they fill the image."""
        first, last = np.searchsorted(self.rows, [row, row + 1])
        edges = np.stack([self.starts[first:last], self.stops[first:last]], axis=1).ravel()
        return np.diff(edges, prepend=0, append=self.size[0] * self.size[1])


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """A mask as COCO's compressed string.

    Args:
        mask: ``(H, W)`` bool.
    """
    from pycocotools import mask as coco

    return str(coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode())


def runs_of_masks(masks: Sequence[NDArray[np.bool_]], size: tuple[int, int]) -> MaskRuns:
    """Stretches of masks given as pixels.

    Args:
        masks: ``(H, W)`` bool each, all of one size.
        size: ``(height, width)``, for when there are none.
    """
    parts = []
    for mask in masks:
        # Columns outside its bounds cannot hold a stretch.
        x1, _, x2, _ = mask_to_box(mask).astype(int)
        flat = mask[:, x1:x2].T.ravel().astype(np.int8)
        edges = np.flatnonzero(np.diff(flat, prepend=0, append=0)) + x1 * size[0]
        rows = np.zeros(len(edges) // 2, np.int64)
        parts.append(_gathered(size, 1, rows, edges[::2], edges[1::2]))
    return joined(parts, size)


def runs_of_labels(labels: NDArray[Any]) -> tuple[NDArray[np.int64], MaskRuns]:
    """Values of a label image in rising order, 0 left out, and where each is.

    Args:
        labels: ``(H, W)`` of whole numbers.
    """
    flat = labels.T.ravel()
    if not flat.size:
        return np.empty(0, np.int64), joined([], (labels.shape[0], labels.shape[1]))
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    held = flat[edges[:-1]]
    order = np.argsort(held, kind="stable")
    order = order[held[order] != 0]
    values, rows = np.unique(held[order], return_inverse=True)
    starts, stops = edges[:-1][order], edges[1:][order]
    runs = _gathered(labels.shape, len(values), rows.ravel(), starts, stops)
    return values.astype(np.int64), runs


def parse_runs(texts: Sequence[str], size: tuple[int, int]) -> tuple[MaskRuns, dict[int, str]]:
    """Read COCO's compressed strings.

    Args:
        texts: one a mask; anything may be in them.
        size: ``(height, width)`` of all masks, each at most ``MAX_SIDE``.

    Returns:
        The masks, and for each that cannot be read (it then is empty) what is wrong with it.
    """
    parts, wrong = [], {}
    begin = 0
    while begin < len(texts):
        end, room = begin, _CHUNK
        while end < len(texts) and (end == begin or len(texts[end]) <= room):
            room -= len(texts[end])
            end += 1
        rows, starts, stops, bad = decode(texts[begin:end], size[0] * size[1])
        parts.append(_gathered(size, end - begin, rows, starts, stops))
        wrong.update({row + begin: reason for row, reason in bad.items()})
        begin = end
    return joined(parts, size), wrong


def read_mask(counts: str | bytes | Sequence[int], size: tuple[int, int]) -> MaskRuns:
    """Read one mask, checked before memory is asked for.

    Args:
        counts: COCO's compressed string, or its run lengths as numbers, background first.
        size: ``(height, width)`` of the mask.

    Returns:
        Masks of which it is the only one.

    Raises:
        ValueError: in a few words, when this is no mask of that size.
    """
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"a mask of {width}x{height} pixels")
    of = f" (a mask of {width}x{height})"
    if isinstance(counts, (str, bytes)):
        # What is no ASCII is refused as a foreign character, whatever it would be in UTF-8.
        text = counts if isinstance(counts, str) else counts.decode("latin-1")
        runs, wrong = parse_runs([text], size)
        if wrong:
            raise ValueError(f"{wrong[0]}{of}")
        return runs
    lengths = np.asarray(counts)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise ValueError("run lengths that are not whole numbers")
    lengths = lengths.astype(np.int64)
    if (lengths < 0).any() or (lengths > height * width).any():
        raise ValueError(f"a run length is out of range{of}")
    if int(lengths.sum()) != height * width:
        raise ValueError(f"the run lengths cover {lengths.sum()} of {height * width} pixels{of}")
    stops = np.cumsum(lengths)
    filled = np.arange(len(lengths)) % 2 == 1
    filled &= lengths > 0
    rows = np.zeros(np.count_nonzero(filled), np.int64)
    return _gathered(size, 1, rows, (stops - lengths)[filled], stops[filled])


def joined(parts: Sequence[MaskRuns], size: tuple[int, int]) -> MaskRuns:
    """The masks of all parts, in order.

    Args:
        parts: masks of one size.
        size: ``(height, width)``, for when there are none.
    """
    empty = np.empty(0, np.int64)
    shift = np.cumsum([0, *map(len, parts)])
    rows = np.concatenate([empty, *(part.rows + n for part, n in zip(parts, shift, strict=False))])
    starts, stops, areas = (
        np.concatenate([empty, *(getattr(part, name) for part in parts)])
        for name in ("starts", "stops", "areas")
    )
    return MaskRuns(size, rows, starts, stops, areas)


def _gathered(size: tuple[int, ...], count: int, rows: Rows, starts: Rows, stops: Rows) -> MaskRuns:
    # Sums of whole numbers below 2**53 are exact in float64.
    areas = np.bincount(rows, weights=stops - starts, minlength=count).astype(np.int64)
    return MaskRuns((int(size[0]), int(size[1])), rows.astype(np.int64), starts, stops, areas)


def shared_pixels(
    first: MaskRuns, first_frames: Rows, second: MaskRuns, second_frames: Rows
) -> tuple[Rows, Rows, Rows]:
    """How many pixels masks of the same frame share, for all frames at once.

    Args:
        first: any masks.
        first_frames: ``(N,)`` the frame of each.
        second: masks of the same size that do not overlap each other within a frame.
        second_frames: ``(M,)`` the frame of each.

    Returns:
        ``(P,)`` each: row in ``first``, row in ``second``, pixels; pairs that share none are left
        out; ordered by rows.
    """
    a1, a2 = _absolute(first, first_frames)
    b1, b2 = _absolute(second, second_frames)
    order = np.argsort(b1, kind="stable")
    from_b = np.searchsorted(b2[order], a1, side="right")
    count = np.maximum(np.searchsorted(b1[order], a2, side="left") - from_b, 0)
    a = np.repeat(np.arange(len(a1)), count)
    within = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
    b = order[np.repeat(from_b, count) + within]
    pixels = np.minimum(a2[a], b2[b]) - np.maximum(a1[a], b1[b])
    width = max(len(second), 1)
    pairs, inverse = np.unique(first.rows[a] * width + second.rows[b], return_inverse=True)
    shared = np.bincount(inverse.ravel(), weights=pixels, minlength=len(pairs))
    return pairs // width, pairs % width, shared.astype(np.int64)


def united(runs: MaskRuns, frames: Rows) -> tuple[MaskRuns, Rows]:
    """One mask a frame that covers all masks of the frame.

    Args:
        runs: masks that may overlap.
        frames: ``(N,)`` the frame of each.

    Returns:
        The masks, and the frame of each, rising.
    """
    starts, stops = _absolute(runs, frames)
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(stops[order])
    pixels = max(runs.size[0] * runs.size[1], 1)
    inside = starts // pixels
    new = np.ones(len(starts), dtype=bool)
    # What ends where the next frame begins does not go on there.
    new[1:] = (starts[1:] > reach[:-1]) | (inside[1:] != inside[:-1])
    heads = np.flatnonzero(new)
    ends = reach[np.append(heads[1:], len(starts)) - 1] if len(heads) else reach
    found, rows = np.unique(inside[heads], return_inverse=True)
    shift = inside[heads] * pixels
    whole = _gathered(runs.size, len(found), rows.ravel(), starts[heads] - shift, ends - shift)
    return whole, found.astype(np.int64)


def overlapping(runs: MaskRuns, frames: Rows) -> list[tuple[int, int]]:
    """Pairs of masks of one frame that share pixels; at least one for each frame with any.

    Args:
        runs: the masks.
        frames: ``(N,)`` the frame of each.

    Returns:
        Pairs of rows, the smaller first, each once, in order.
    """
    starts, stops = _absolute(runs, frames)
    order = np.argsort(starts, kind="stable")
    starts, stops, rows = starts[order], stops[order], runs.rows[order]
    reach = np.maximum.accumulate(stops)
    holder = np.maximum.accumulate(np.where(stops == reach, np.arange(len(stops)), 0))
    hit = np.flatnonzero(starts[1:] < reach[:-1]) + 1
    one, other = rows[hit], rows[holder[hit - 1]]
    pairs = np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)
    return [(int(a), int(b)) for a, b in np.unique(pairs, axis=0)]


def _absolute(runs: MaskRuns, frames: Rows) -> tuple[Rows, Rows]:
    """Starts and stops counted through all frames."""
    shift = frames[runs.rows] * (runs.size[0] * runs.size[1])
    return runs.starts + shift, runs.stops + shift
