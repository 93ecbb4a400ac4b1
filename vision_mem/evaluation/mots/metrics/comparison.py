"""Truth and results of one class in one sequence, side by side, as every metric wants them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError

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
    """Number identities from 0.

    Args:
        truth_ids: for each frame ``(g,)`` any whole numbers.
        result_ids: for each frame ``(r,)``.
        similarity: for each frame ``(g, r)``.

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
