"""IDF1: how much of the truth carries one and the same identity.

Source:
    Ristani et al., "Performance measures and a data set for multi-target, multi-camera tracking",
    2016; TrackEval 1.3.0 and motmetrics 1.4.0 agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vision_mem.evaluation.mots.metrics.comparison import Comparison
from vision_mem.evaluation.scores import Counts

THRESHOLD = 0.5


@dataclass(frozen=True)
class IdentityCounts(Counts):
    """Frames that carry the right identity, that lack it, and that carry a wrong one; they add up.

    Attributes:
        tp, fn, fp: as IDTP, IDFN and IDFP in the paper.
    """

    tp: int
    fn: int
    fp: int

    def measures(self) -> dict[str, float]:
        """IDF1, IDP and IDR in [0, 1]."""
        return {
            "IDF1": self.tp / max(1.0, self.tp + 0.5 * self.fp + 0.5 * self.fn),
            "IDP": self.tp / max(1.0, self.tp + self.fp),
            "IDR": self.tp / max(1.0, self.tp + self.fn),
        }


def count_identity(comparison: Comparison) -> IdentityCounts:
    """Give each identity of the truth at most one of the results, the best way over all frames."""
    from scipy.optimize import linear_sum_assignment

    together = np.zeros((comparison.truth_tracks, comparison.result_tracks))
    for truth_ids, result_ids, similarity in comparison.frames():
        rows, columns = np.nonzero(similarity >= THRESHOLD)
        together[truth_ids[rows], result_ids[columns]] += 1
    # What never meets cannot be paired; leaving it out keeps the assignment small.
    together = together[together.any(axis=1)][:, together.any(axis=0)]
    tp = int(together[linear_sum_assignment(-together)].sum()) if together.size else 0
    truth, results = int(comparison.truth_counts.sum()), int(comparison.result_counts.sum())
    return IdentityCounts(tp, truth - tp, results - tp)
