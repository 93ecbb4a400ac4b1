"""Truth and results of one class side by side, and their overlaps, computed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.rle import MaskRuns, shared_pixels, united
from vision_mem.formats.track_rows import TrackRows
from vision_mem.geometry.boxes import box_iou

EPSILON = float(np.finfo(float).eps)
"""How far below a threshold an overlap may lie and still reach it, as in TrackEval."""

_MOST_PAIRS = 200_000_000  # of identities: their counts are held as a table

Ids = NDArray[np.int64]
Similarity = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """What is to be counted.

    Attributes:
        truth_ids: for each frame ``(g,)`` int64, identities there, numbered from 0 without gaps.
        result_ids: for each frame ``(r,)``, the same for the results.
        similarity: for each frame ``(g, r)`` float64 in [0, 1], overlap of each pair.
        truth_tracks: identities of the truth.
        result_tracks: identities of the results.
    """

    truth_ids: list[Ids]
    result_ids: list[Ids]
    similarity: list[Similarity]
    truth_tracks: int
    result_tracks: int

    @cached_property
    def truth_counts(self) -> Ids:
        """``(truth_tracks,)`` frames in which each identity of the truth stands."""
        return _counts(self.truth_ids, self.truth_tracks)

    @cached_property
    def result_counts(self) -> Ids:
        """``(result_tracks,)`` frames in which each identity of the results stands."""
        return _counts(self.result_ids, self.result_tracks)

    def frames(self) -> Iterator[tuple[Ids, Ids, Similarity]]:
        """Truth identities, result identities, similarity; of each frame in order."""
        return zip(self.truth_ids, self.result_ids, self.similarity, strict=True)


def make_comparison(
    truth_ids: list[Ids], result_ids: list[Ids], similarity: list[Similarity]
) -> Comparison:
    """Number identities, any whole numbers ``(g,)`` and ``(r,)`` of each frame, from 0.

    Raises:
        InputError: for more identities than can be counted.
    """
    truth, truth_tracks = _renumbered(truth_ids)
    result, result_tracks = _renumbered(result_ids)
    if truth_tracks * result_tracks > _MOST_PAIRS:
        raise InputError(
            f"the results hold {result_tracks} identities for {truth_tracks} in the truth: too "
            "many to be compared; ids are kept from frame to frame"
        )
    return Comparison(truth, result, similarity, truth_tracks, result_tracks)


def _renumbered(ids: list[Ids]) -> tuple[list[Ids], int]:
    lengths = [len(some) for some in ids]
    every = np.concatenate([np.empty(0, np.int64), *ids])
    known, numbers = np.unique(every, return_inverse=True)
    numbers = numbers.ravel().astype(np.int64)
    return np.split(numbers, np.cumsum(lengths)[:-1]) if ids else [], len(known)


def _counts(ids: list[Ids], count: int) -> Ids:
    every = np.concatenate([np.empty(0, np.int64), *ids])
    return np.bincount(every, minlength=count).astype(np.int64)


def overlaps(
    truth: TrackRows, results: TrackRows, truth_at: list[Ids], results_at: list[Ids]
) -> list[Similarity]:
    """IoU of every pair of a frame: of masks where there are masks, else of boxes.

    Args:
        truth: all rows of a sequence.
        results: all rows of a sequence.
        truth_at: for each frame its rows in ``truth``.
        results_at: for each frame its rows in ``results``.

    Returns:
        For each frame ``(g, r)`` float64.

    Raises:
        InputError: when masks of one side have another size than those of the other.
    """
    if truth.masks is None or results.masks is None:
        return [
            box_iou(truth.boxes[rows][:, None], results.boxes[columns][None])
            for rows, columns in zip(truth_at, results_at, strict=True)
        ]
    if len(truth) and len(results) and truth.masks.size != results.masks.size:
        raise InputError(
            f"the results' masks are {_size(results.masks)} and the truth's {_size(truth.masks)} "
            "(height x width); expected the same size"
        )
    tables = [np.zeros((len(a), len(b))) for a, b in zip(truth_at, results_at, strict=True)]
    rows, columns, shared = shared_pixels(truth.masks, truth.frames, results.masks, results.frames)
    either = truth.masks.areas[rows] + results.masks.areas[columns] - shared
    up, across = _places(truth_at, len(truth)), _places(results_at, len(results))
    for frame, row, column, value in zip(
        truth.frames[rows].tolist(), up[rows].tolist(), across[columns].tolist(),
        (shared / either).tolist(), strict=True,
    ):  # fmt: skip
        tables[frame][row, column] = value
    return tables


def share_ignored(truth: TrackRows, results: TrackRows, ignored: int) -> NDArray[np.float64]:
    """How much of each result lies in regions of the class ``ignored``, where nothing is counted.

    Returns:
        ``(N,)`` float64, of masks the share in all regions together, of boxes the largest share in
        one of them; as the sets' scorers have it.
    """
    share = np.zeros(len(results))
    regions = np.flatnonzero(truth.classes == ignored) if ignored else np.empty(0, np.int64)
    if not len(regions) or not len(results):
        return share
    if truth.masks is not None and results.masks is not None:
        kept = np.isin(truth.masks.rows, regions)
        chosen = MaskRuns(
            truth.masks.size, truth.masks.rows[kept], truth.masks.starts[kept],
            truth.masks.stops[kept], truth.masks.areas,
        )  # fmt: skip
        whole, frames = united(chosen, truth.frames)
        rows, _, shared = shared_pixels(results.masks, results.frames, whole, frames)
        share[rows] = shared / results.masks.areas[rows]
        return share
    last = int(max(truth.frames.max(), results.frames.max())) + 1
    inside = truth.frames[regions]
    order = np.argsort(inside, kind="stable")
    edges = np.searchsorted(inside[order], np.arange(last + 1))
    for frame, rows in enumerate(results.by_frame(last)):
        here = regions[order[edges[frame] : edges[frame + 1]]]
        if len(here) and len(rows):
            share[rows] = _covered(results.boxes[rows], truth.boxes[here]).max(axis=1)
    return share


def _covered(boxes: NDArray[np.float64], regions: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n, m)`` share of each box that lies in each region; 0 for boxes without area."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = np.where((sides > 0).all(axis=1), sides.prod(axis=1), np.inf)
    return np.asarray(shared / areas[:, None])


def _places(rows_at: list[Ids], count: int) -> Ids:
    """Where each row stands among those of its frame."""
    places = np.zeros(count, np.int64)
    for rows in rows_at:
        places[rows] = np.arange(len(rows))
    return places


def _size(masks: MaskRuns) -> str:
    return f"{masks.size[0]}x{masks.size[1]}"
