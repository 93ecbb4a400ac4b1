"""A model on a set for depth, poses or points: means over sequences, curves, what to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import said
from vision_mem.evaluation.reconstruction.datasets import DEPTH, POINTS, POSE
from vision_mem.evaluation.reconstruction.metrics.dynamic import MaskCounts
from vision_mem.evaluation.reconstruction.records import SceneSet
from vision_mem.evaluation.reconstruction.results import SceneResults, expected
from vision_mem.evaluation.reconstruction.sequence_scores import (
    DepthPart,
    PathPart,
    PointsPart,
    SceneRules,
    score_depth,
    score_path,
    score_points,
)
from vision_mem.evaluation.scores import BenchmarkScore, Curve, SequenceScore, sequences_here
from vision_mem.runs.tally import count

_NAN = float("nan")
_NEAR_M, _WITHIN = 0.05, 1.25


@dataclass(frozen=True)
class SceneScore(BenchmarkScore):
    """A model on a set for depth, poses or points.

    Attributes:
        rules: it was compared by.
    """

    entrant: ClassVar[str] = "model"
    falling: ClassVar[bool] = True

    rules: SceneRules

    def curves(self) -> dict[str, Curve]:
        """Mean over sequences of the shares that are right up to a factor or a distance."""
        parts = self._counted(self.sequences)
        if not parts:
            return {}
        if self.protocol == DEPTH:
            lines = {"Depth within a factor": [part.line for part in parts]}
            at = _WITHIN
        elif self.protocol == POSE:
            lines, at = {"Positions within": [part.line for part in parts]}, _NEAR_M
        else:
            errors = [part.errors for part in parts]
            lines, at = {
                "Points within": [(each.reach, each.precise) for each in errors],
                "True points within": [(each.reach, each.complete) for each in errors],
            }, _NEAR_M  # fmt: skip
        found = {}
        for name, some in lines.items():
            x, y = some[0][0], np.mean([line[1] for line in some], axis=0)
            found[name] = Curve(x, y, float(np.interp(at, x, y)))
        return found

    def _counted(self, sequences: Iterable[SequenceScore]) -> list[Any]:
        """Parts that go into means: of paths not those that cannot be aligned in one way only."""
        parts = [each.part for each in sequences if each.part is not None]
        if self.protocol != POSE:
            return parts
        return [
            part for part in parts
            if part.errors is not None and (self.rules.strict or not part.errors.degenerate)
        ]  # fmt: skip

    def _measures(self, sequences: Iterable[SequenceScore]) -> dict[str, float]:
        some = list(sequences)
        every = [each.part for each in some if each.part is not None]
        return _MEASURES[self.protocol](self._counted(some), every, self.rules)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else _NAN


def _weighed(pairs: Iterable[tuple[float, int]]) -> float:
    known = [pair for pair in pairs if pair[1]]
    if not known:
        return _NAN
    return float(np.average([value for value, _ in known], weights=[n for _, n in known]))


def _depth_measures(
    parts: list[DepthPart], every: list[DepthPart], rules: SceneRules
) -> dict[str, float]:
    """Means weighted by pixels. RMSE: of the sequences' own, or strictly over all pixels."""
    found: dict[str, float] = {}
    names = ("abs_rel", "delta", "sq_rel", "rmse", "log_rmse")
    for place, align in enumerate(rules.align):
        errors = [part.errors[align] for part in parts]
        mark = f" {align}" if place else ""
        for name in names:
            values = [(float(getattr(each, name)), each.pixels) for each in errors]
            if rules.strict and name in ("rmse", "log_rmse"):
                squares = _weighed((value * value, n) for value, n in values)
                found[name + mark] = float(np.sqrt(squares))
            else:
                found[name + mark] = _weighed(values)
    if any(part.split for part in parts):
        for word in ("static", "moving"):
            split = [part.split[word] for part in parts if word in part.split]
            found[f"abs_rel_{word}"] = _weighed(split)
    masks = [part.masks for part in parts if part.masks is not None]
    if masks:
        found |= sum(masks, MaskCounts()).measures
    if any(part.known < 1 for part in parts):
        found["known"] = _mean(part.known for part in parts)
    return found


def _path_measures(
    parts: list[PathPart], every: list[PathPart], rules: SceneRules
) -> dict[str, float]:
    errors = [part.errors for part in parts if part.errors is not None]
    degenerate = sum(part.errors is not None and part.errors.degenerate for part in every)
    return {
        "ate": _mean(each.ate for each in errors),
        "rpe_t": _mean(each.rpe_translation for each in errors),
        "rpe_r": _mean(each.rpe_rotation for each in errors),
        **{
            f"rpe_{kind}_{rules.over:g}m": _mean(part.over[k] for part in parts)
            for k, kind in enumerate("tr" if rules.over else "")
        },
        "scale": _mean(each.scale for each in errors),
        "posed": _mean(part.known for part in every),
        "degenerate": float(degenerate),
    }


def _points_measures(
    parts: list[PointsPart], every: list[PointsPart], rules: SceneRules
) -> dict[str, float]:
    errors = [part.errors for part in parts]
    found = {
        "acc": _mean(each.accuracy for each in errors),
        "comp": _mean(each.completeness for each in errors),
        "nc": _mean(each.normals for each in errors),
        "acc_med": _mean(each.accuracy_median for each in errors),
        "comp_med": _mean(each.completeness_median for each in errors),
        "nc_med": _mean(each.normals_median for each in errors),
    }
    words = [word for word in ("static", "moving", "revisit") if any(word in p.off for p in parts)]
    for word in words:
        found[f"epe_{word}"] = _weighed(part.off[word] for part in parts if word in part.off)
    if any(part.ghosts == part.ghosts for part in parts):
        found["ghosts"] = _mean(part.ghosts for part in parts)
    return found


# By task: one sequence to its part; the parts that count and all of them to the set's numbers.
_SCORERS: Mapping[str, Callable[..., Any]] = {
    DEPTH: score_depth, POSE: score_path, POINTS: score_points,
}  # fmt: skip
_MEASURES: Mapping[str, Callable[..., dict[str, float]]] = {
    DEPTH: _depth_measures, POSE: _path_measures, POINTS: _points_measures,
}  # fmt: skip


def score_scenes(
    found: SceneSet,
    results: SceneResults,
    rules: SceneRules | None = None,
    *,
    on_sequence: Callable[[str], None] = lambda name: None,
) -> SceneScore:
    """Score the results of one model.

    Args:
        found: the set, with the sequences that are wanted.
        results: of the model.
        rules: how to compare; ``partial`` also passes over sequences without results.
        on_sequence: called with each name when it is done.

    Raises:
        InputError: when results are missing (without ``partial``) or do not fit the set.
        SourceError: when a file cannot be read.
    """
    rules = rules or SceneRules()
    here, missing = sequences_here(
        found.sequences, results.holds, results.path, found.title,
        lambda name: expected(found, name), partial=rules.partial,
    )  # fmt: skip
    notes: list[str] = []
    scores = []
    for sequence in here:
        try:
            part = _SCORERS[found.task](found, sequence, results, rules, notes)
        except InputError as error:
            if sequence.name in str(error):
                raise
            raise InputError(f"{sequence.name}: {error}") from None
        scores.append(
            SequenceScore(sequence.name, _MEASURES[found.task]([part], [part], rules), (), 1, part)
        )
        on_sequence(sequence.name)
    if found.task == POSE:
        notes += _about_lines(scores, rules)
    if found.task == DEPTH:
        notes.append(f"depth aligned over whole sequences: {', '.join(rules.align)}")
    return SceneScore(
        found.key, found.title, found.task, results.name, tuple(scores), missing,
        tuple(dict.fromkeys(notes)), rules,
    )  # fmt: skip


def _about_lines(scores: list[SequenceScore], rules: SceneRules) -> list[str]:
    """Say which paths can be aligned in more than one way."""
    names = [
        each.name for each in scores
        if each.part.errors is not None and each.part.errors.degenerate
    ]  # fmt: skip
    if not names:
        return []
    how = "counted" if rules.strict else "left out of the means, as by the peers' code"
    return [
        f"in {len(names)} of {count(len(scores), 'sequence')} a camera stands still or goes along "
        f"a line, which no alignment fixes: {said(names)}; {how}"
    ]
