"""HOTA: how well objects are found, kept apart and outlined, in one number.

Source:
    Luiten et al., "HOTA: a higher order metric for evaluating multi-object tracking", IJCV 2021;
    where the paper leaves room, TrackEval 1.3.0 decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.evaluation.mots.metrics.comparison import EPSILON, Comparison
from vision_mem.evaluation.scores import Counts

ALPHAS: NDArray[np.float64] = np.arange(0.05, 0.99, 0.05)
"""Overlaps from which on a pair counts as found; HOTA is the mean over them."""

_TINY = 1e-10

Values = NDArray[np.float64]


@dataclass(frozen=True)
class HotaCounts(Counts):
    """Sums from which HOTA is made; sums of several sequences or classes add up.

    Attributes:
        tp: ``(19,)`` pairs found, at each of ``ALPHAS``.
        fn: ``(19,)`` truth not found.
        fp: ``(19,)`` results that find nothing.
        together: ``(19,)`` sum over pairs found of how much their identities coincide.
        recalled: ``(19,)`` the same as a share of the truth's identity.
        precise: ``(19,)`` the same as a share of the result's identity.
        overlap: ``(19,)`` sum of the pairs' overlaps.
    """

    tp: Values
    fn: Values
    fp: Values
    together: Values
    recalled: Values
    precise: Values
    overlap: Values

    def curves(self) -> dict[str, Values]:
        """Each measure over ``ALPHAS``, ``(19,)`` in [0, 1]."""
        found = np.maximum(1, self.tp)
        detected = self.tp / np.maximum(1, self.tp + self.fn + self.fp)
        associated = self.together / found
        return {
            "HOTA": np.sqrt(detected * associated),
            "DetA": detected,
            "AssA": associated,
            "DetRe": self.tp / np.maximum(1, self.tp + self.fn),
            "DetPr": self.tp / np.maximum(1, self.tp + self.fp),
            "AssRe": self.recalled / found,
            "AssPr": self.precise / found,
            # 1 where nothing is found, as TrackEval has it.
            "LocA": np.maximum(_TINY, self.overlap) / np.maximum(_TINY, self.tp),
        }

    def measures(self) -> dict[str, float]:
        """Each measure, the mean over ``ALPHAS``."""
        return {name: float(curve.mean()) for name, curve in self.curves().items()}


def count_hota(comparison: Comparison) -> HotaCounts:
    """Match truth and results in a sequence, and count.

    One matching serves all thresholds: it prefers pairs whose identities agree best over the whole
    sequence, then those that overlap more.
    """
    from scipy.optimize import linear_sum_assignment

    agreement = _agreement(comparison)
    truth, result, overlap = [], [], []
    for truth_ids, result_ids, similarity in comparison.frames():
        if not similarity.size:
            continue
        score = agreement[truth_ids[:, None], result_ids] * similarity
        rows, columns = linear_sum_assignment(-score)
        truth.append(truth_ids[rows])
        result.append(result_ids[columns])
        overlap.append(similarity[rows, columns])
    return _counted(
        comparison,
        np.concatenate([np.empty(0, np.int64), *truth]),
        np.concatenate([np.empty(0, np.int64), *result]),
        np.concatenate([np.empty(0), *overlap]),
    )


def _agreement(comparison: Comparison) -> Values:
    """``(truth_tracks, result_tracks)`` how much two identities coincide, before any matching."""
    shared = np.zeros((comparison.truth_tracks, comparison.result_tracks))
    for truth_ids, result_ids, similarity in comparison.frames():
        if not similarity.size:
            continue
        # An overlap counts less where there are rivals for it.
        rivals = similarity.sum(0) + similarity.sum(1)[:, None] - similarity
        share = np.divide(similarity, rivals, out=np.zeros_like(similarity), where=rivals > EPSILON)
        shared[truth_ids[:, None], result_ids] += share
    either = comparison.truth_counts[:, None] + comparison.result_counts - shared
    return np.asarray(shared / either)


def _counted(
    comparison: Comparison, truth: NDArray[np.int64], result: NDArray[np.int64], overlap: Values
) -> HotaCounts:
    pairs, which = np.unique(truth * comparison.result_tracks + result, return_inverse=True)
    which = which.ravel()
    own = comparison.truth_counts[pairs // max(comparison.result_tracks, 1)]
    others = comparison.result_counts[pairs % max(comparison.result_tracks, 1)]
    sums = np.zeros((7, len(ALPHAS)))
    for index, alpha in enumerate(ALPHAS):
        found = overlap >= alpha - EPSILON
        matches = np.bincount(which[found], minlength=len(pairs))
        tp = int(found.sum())
        sums[:, index] = (
            tp,
            comparison.truth_counts.sum() - tp,
            comparison.result_counts.sum() - tp,
            (matches * (matches / np.maximum(1, own + others - matches))).sum(),
            (matches * (matches / np.maximum(1, own))).sum(),
            (matches * (matches / np.maximum(1, others))).sum(),
            overlap[found].sum(),
        )
    return HotaCounts(*sums)
