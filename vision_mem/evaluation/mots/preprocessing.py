"""What counts and what does not, before anything is counted: each set's own rules.

For one class: results are matched with the truth at an overlap of 0.5. Who matched a distractor,
or truth too hidden to be asked for, is taken out; so is who matched nothing and lies in a region
where nothing is counted, or is too small to be asked for. Then such truth is taken out too.

Source:
    TrackEval 1.3.0; its order of steps and its comparisons at the limits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vision_mem.evaluation.mots.metrics.comparison import (
    EPSILON,
    Comparison,
    Ids,
    Similarity,
    make_comparison,
    overlaps,
    share_ignored,
)
from vision_mem.evaluation.mots.records import MotRules
from vision_mem.formats.track_rows import TrackRows

_MATCH = 0.5
_INSIDE = 0.5

Flags = NDArray[np.bool_]


def compare(
    rules: MotRules, truth: TrackRows, results: TrackRows, length: int
) -> dict[str, Comparison]:
    """Truth and results of a sequence, class by class of the rules, ready to be counted.

    Raises:
        InputError: when masks of one side have another size than those of the other.
    """
    truth_at, results_at = truth.by_frame(length), results.by_frame(length)
    similarity = overlaps(truth, results, truth_at, results_at)
    away = share_ignored(truth, results, rules.ignored) > _INSIDE + EPSILON
    if rules.least_height:
        away |= results.boxes[:, 3] - results.boxes[:, 1] <= rules.least_height + EPSILON
    return {
        name: _one_class(rules, name, truth, results, truth_at, results_at, similarity, away)
        for name in rules.classes
    }


def _one_class(
    rules: MotRules,
    name: str,
    truth: TrackRows,
    results: TrackRows,
    truth_at: list[Ids],
    results_at: list[Ids],
    similarity: list[Similarity],
    away: Flags,
) -> Comparison:
    matched, takes_out, counts = _roles(rules, name, truth)
    number = rules.classes[name]
    asked = np.ones(len(results), dtype=bool) if rules.all_classes else results.classes == number
    cleans = bool(takes_out.any() or away.any())
    truth_ids, result_ids, tables = [], [], []
    for rows, columns, table in zip(truth_at, results_at, similarity, strict=True):
        across = asked[columns]
        columns = columns[across]
        table = table[:, across]
        if cleans and len(columns):
            kept = _kept(
                table[matched[rows]], takes_out[rows[matched[rows]]], away[columns],
                full=rules.masks,
            )  # fmt: skip
            columns, table = columns[kept], table[:, kept]
        up = counts[rows]
        truth_ids.append(truth.ids[rows[up]])
        result_ids.append(results.ids[columns])
        tables.append(table[up])
    return make_comparison(truth_ids, result_ids, tables)


def _roles(rules: MotRules, name: str, truth: TrackRows) -> tuple[Flags, Flags, Flags]:
    """Which truth is matched beforehand; who matches which is taken out; which is counted."""
    number = rules.classes[name]
    alike = np.isin(truth.classes, rules.distractors.get(name, ()))
    own = truth.classes == number
    if rules.files == "mot":
        # What the truth marks with 0 is not counted, yet who finds it is not let off.
        marked = truth.scores.astype(np.int64) != 0
        if not rules.all_classes:
            none = np.zeros(len(truth), dtype=bool)
            return none, none, marked
        return np.ones(len(truth), dtype=bool), alike, own & marked
    hidden = np.zeros(len(truth), dtype=bool)
    if rules.most_occluded is not None:
        hidden |= truth.occluded > rules.most_occluded
    if rules.most_truncated is not None:
        hidden |= truth.truncated > rules.most_truncated
    return own | alike, alike | hidden, own & ~hidden


def _kept(table: Similarity, takes_out: Flags, away: Flags, *, full: bool) -> Flags:
    """Which results of a frame stay, from ``(g, r)`` overlaps with the truth matched beforehand.

    Who matches ``takes_out`` goes, and who is ``away`` and matches nothing. ``full``: as many
    matches as can be had, rather than the most overlap; the scorers differ.
    """
    from scipy.optimize import linear_sum_assignment

    free = np.ones(table.shape[1], dtype=bool)
    kept = np.ones(table.shape[1], dtype=bool)
    near = table >= _MATCH - EPSILON
    if near.any():
        rows, columns = linear_sum_assignment(-np.where(near, table, -10000.0 if full else 0.0))
        good = near[rows, columns]
        free[columns[good]] = False
        kept[columns[good]] = ~takes_out[rows[good]]
    kept &= ~(free & away)
    return kept
