"""CLEAR MOT: what is missed, made up and mixed up; MOTA and, on masks, MOTSA and sMOTSA.

Scorers of the field differ in small things; both ways are here:

=====================  ==============================  =======================================
what                   ``trackeval``                   ``motmetrics`` (and MOTChallenge's kit)
=====================  ==============================  =======================================
pairs kept first       of the frame before             of each object's last match, any gap
the others             most overlap, together with     most pairs, then most overlap, after
                       the kept ones                   the kept ones are taken out
mostly tracked         more than 80 % of frames        80 % or more
a fragment begins      found now, and not in the       found now, and missed where it last
                       frame before                    stood, after being found earlier
=====================  ==============================  =======================================

The frame before is, for ``trackeval``, the last one in which both truth and results had anything.

Source:
    Bernardin and Stiefelhagen 2008; MOTS (arXiv 1902.03604), section 5; TrackEval 1.3.0;
    motmetrics 1.4.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.mots.metrics.comparison import EPSILON, Comparison, Ids, Similarity

THRESHOLD = 0.5
DEFINITIONS = ("trackeval", "motmetrics")

_KEPT = 1000  # outweighs all overlaps of a frame
_NONE = -1


@dataclass(frozen=True)
class ClearCounts:
    """Counts of a sequence; those of several sequences or classes add up.

    Attributes:
        tp, fn, fp: pairs found, truth missed, results that find nothing.
        switches: how often an object was found under another identity than before.
        mostly, partly, hardly: objects by the share of their frames in which they are found.
        fragments: how often an object was found anew after being lost.
        overlap: sum over the pairs found.
        undefined: one sequence without any truth, where TrackEval calls MOTA 0.
    """

    tp: int
    fn: int
    fp: int
    switches: int
    mostly: int
    partly: int
    hardly: int
    fragments: int
    overlap: float
    undefined: bool = False

    def __add__(self, other: ClearCounts) -> ClearCounts:
        mine, yours = list(vars(self).values())[:-1], list(vars(other).values())[:-1]
        return ClearCounts(*(a + b for a, b in zip(mine, yours, strict=True)))

    def measures(self) -> dict[str, float]:
        """MOTA, MOTP (mean overlap) and sMOTA, recall and precision, then counts."""
        truth = max(1.0, self.tp + self.fn)
        wrong = 0 if self.undefined else self.fp + self.switches
        return {
            "MOTA": (self.tp - wrong) / truth,
            "MOTP": self.overlap / max(1.0, self.tp),
            "sMOTA": (self.overlap - wrong) / truth,
            "Rcll": self.tp / truth,
            "Prcn": self.tp / max(1.0, self.tp + self.fp),
            "IDS": self.switches,
            "FP": self.fp,
            "FN": self.fn,
            "GT": self.mostly + self.partly + self.hardly,
            "MT": self.mostly,
            "PT": self.partly,
            "ML": self.hardly,
            "Frag": self.fragments,
        }


def count_clear(comparison: Comparison, definition: str = "trackeval") -> ClearCounts:
    """Match truth and results of one class in one sequence, and count.

    Raises:
        InputError: for a definition that is none of ``DEFINITIONS``.
    """
    if definition not in DEFINITIONS:
        raise InputError(f"definition is {definition!r}; expected one of {', '.join(DEFINITIONS)}")
    if definition == "trackeval":
        seen, switches, fragments, overlap = _as_trackeval(comparison)
    else:
        seen, switches, fragments, overlap = _as_motmetrics(comparison)
    share = seen / comparison.truth_counts
    enough = share > 0.8 if definition == "trackeval" else share >= 0.8
    mostly = int(enough.sum())
    partly = int((share >= 0.2).sum()) - mostly
    tp, truth = int(seen.sum()), int(comparison.truth_counts.sum())
    return ClearCounts(
        tp, truth - tp, int(comparison.result_counts.sum()) - tp, switches,
        mostly, partly, comparison.truth_tracks - mostly - partly, fragments, overlap,
        undefined=truth == 0,
    )  # fmt: skip


def _as_trackeval(comparison: Comparison) -> tuple[Ids, int, int, float]:
    """Frames found of each object; switches, fragments, sum of overlaps."""
    from scipy.optimize import linear_sum_assignment

    count = comparison.truth_tracks
    seen, starts = np.zeros(count, np.int64), np.zeros(count, np.int64)
    ever = np.full(count, _NONE)
    before = np.full(count, _NONE)  # in the last frame
    switches, overlap = 0, 0.0
    for truth_ids, result_ids, similarity in comparison.frames():
        if not similarity.size:
            continue
        score = _KEPT * (result_ids == before[truth_ids, None]) + similarity
        score[similarity < THRESHOLD - EPSILON] = 0
        rows, columns = linear_sum_assignment(-score)
        good = score[rows, columns] > EPSILON
        rows, columns = rows[good], columns[good]
        found, under = truth_ids[rows], result_ids[columns]
        switches += int(((ever[found] != _NONE) & (ever[found] != under)).sum())
        starts[found[before[found] == _NONE]] += 1
        seen[found] += 1
        ever[found] = under
        before[:] = _NONE
        before[found] = under
        overlap += float(similarity[rows, columns].sum())
    return seen, switches, int(np.maximum(starts - 1, 0).sum()), overlap


def _as_motmetrics(comparison: Comparison) -> tuple[Ids, int, int, float]:
    """Frames found of each object; switches, fragments, sum of overlaps."""
    count = comparison.truth_tracks
    seen = np.zeros(count, np.int64)
    ever = np.full(count, _NONE)
    missed = np.zeros(count, dtype=bool)  # where it last stood, after being found
    switches, fragments, overlap = 0, 0, 0.0
    for truth_ids, result_ids, similarity in comparison.frames():
        rows, columns = _kept_then_others(truth_ids, result_ids, similarity, ever)
        found, under = truth_ids[rows], result_ids[columns]
        switches += int(((ever[found] != _NONE) & (ever[found] != under)).sum())
        fragments += int(missed[found].sum())
        missed[truth_ids] |= ever[truth_ids] != _NONE
        missed[found] = False
        seen[found] += 1
        ever[found] = under
        overlap += float(similarity[rows, columns].sum())
    return seen, switches, fragments, overlap


def _kept_then_others(
    truth_ids: Ids, result_ids: Ids, similarity: Similarity, ever: NDArray[np.int64]
) -> tuple[Ids, Ids]:
    """Rows and columns of the pairs of a frame."""
    from scipy.optimize import linear_sum_assignment

    near = 1 - similarity <= 1 - THRESHOLD
    rows, columns = [], []
    for row, last in enumerate(ever[truth_ids].tolist()):
        place = np.flatnonzero(result_ids == last)
        if len(place) and near[row, place[0]]:
            rows.append(row)
            columns.append(int(place[0]))
            near[row] = False
            near[:, place[0]] = False
    if near.any():
        # As many pairs as can be had: a forbidden one costs more than all others together.
        distance = 1 - similarity
        forbidden = 2 * min(near.shape) * (distance[near].max() + 1) + 1
        more = linear_sum_assignment(np.where(near, distance, forbidden))
        good = near[more]
        rows += more[0][good].tolist()
        columns += more[1][good].tolist()
    return np.array(rows, np.int64), np.array(columns, np.int64)
