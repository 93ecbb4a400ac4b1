"""Score files of many objects on a benchmark, by the rules of its field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from vision_mem.evaluation.mots.metrics.clear import ClearCounts, count_clear
from vision_mem.evaluation.mots.metrics.comparison import Comparison
from vision_mem.evaluation.mots.metrics.hota import ALPHAS, HotaCounts, count_hota
from vision_mem.evaluation.mots.metrics.identity import IdentityCounts, count_identity
from vision_mem.evaluation.mots.preprocessing import compare
from vision_mem.evaluation.mots.records import MotBenchmark, read_truth
from vision_mem.evaluation.mots.results import MotResults
from vision_mem.evaluation.scores import BenchmarkScore, Curve, SequenceScore, sequences_here

COUNTED = ("IDS", "FP", "FN", "GT", "MT", "PT", "ML", "Frag")
"""Measures that are numbers of things; all others lie in [0, 1], MOTA and its kin below too."""

_PLOTTED = ("HOTA", "DetA", "AssA")
_MEAN = "mean of classes"


@dataclass(frozen=True)
class ClassCounts:
    """Everything counted of one class; of several sequences or classes they add up.

    Attributes:
        hota, clear, identity: see there.
        masks: masks were compared: MOTA, MOTP and sMOTA are MOTSA, MOTSP and sMOTSA too.
    """

    hota: HotaCounts
    clear: ClearCounts
    identity: IdentityCounts
    masks: bool

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(
            self.hota + other.hota,
            self.clear + other.clear,
            self.identity + other.identity,
            self.masks,
        )

    def measures(self) -> dict[str, float]:
        """All measures, HOTA first; what ``COUNTED`` names are whole numbers."""
        found = self.hota.measures() | self.clear.measures()
        if self.masks:
            found |= {
                "sMOTSA": found["sMOTA"], "MOTSA": found["MOTA"], "MOTSP": found["MOTP"],
            }  # fmt: skip
        found |= self.identity.measures()
        return {name: found[name] for name in _ORDER if name in found}


_COUNTS_SHOWN = ("IDF1", "IDS", "FP", "FN", "Frag", "MT", "PT", "ML")
_SHOWN_MASKS = ("HOTA", "DetA", "AssA", "sMOTSA", "MOTSA", "MOTSP", *_COUNTS_SHOWN)
_SHOWN_BOXES = ("HOTA", "DetA", "AssA", "MOTA", "MOTP", *_COUNTS_SHOWN)
_ORDER = (
    "HOTA", "DetA", "AssA", "sMOTSA", "MOTSA", "MOTSP", "MOTA", "MOTP", "sMOTA", "IDF1", "IDS",
    "FP", "FN", "Frag", "MT", "PT", "ML", "GT", "IDP", "IDR", "Rcll", "Prcn", "DetRe", "DetPr",
    "AssRe", "AssPr", "LocA",
)  # fmt: skip


def count(
    comparison: Comparison, *, masks: bool = False, definition: str = "trackeval"
) -> ClassCounts:
    """All counts of one class in one sequence; ``masks``: the overlaps are those of masks."""
    return ClassCounts(
        count_hota(comparison),
        count_clear(comparison, definition),
        count_identity(comparison),
        masks,
    )


def averaged(classes: Iterable[ClassCounts]) -> dict[str, float]:
    """One set of numbers for several classes: each class weighs the same, counts are summed.

    TrackEval calls it ``cls_comb_cls_av``.
    """
    each = [counts.measures() for counts in classes]
    sums = {name: sum(measures[name] for measures in each) for name in each[0]}
    return {name: v if name in COUNTED else v / len(each) for name, v in sums.items()}


@dataclass(frozen=True)
class MotScore(BenchmarkScore):
    """A tracker on a set of many objects. The ``part`` of a sequence is its counts by class.

    Attributes:
        classes: what was scored, in the order of the set.
    """

    classes: tuple[str, ...]

    def by_class(self) -> dict[str, dict[str, float]]:
        """Measures of each class over all sequences."""
        return {name: counts.measures() for name, counts in self._totals().items()}

    def summary(self) -> dict[str, float]:
        """What papers print of ``averaged``, HOTA first: fits a terminal."""
        found = self.averaged()
        shown = _SHOWN_MASKS if "sMOTSA" in found else _SHOWN_BOXES
        return {name: found[name] for name in shown}

    def averaged(self) -> dict[str, float]:
        """All measures over all sequences; of several classes as ``averaged`` makes them one."""
        return averaged(self._totals().values())

    def pooled(self) -> dict[str, float]:
        """Measures over all sequences, all classes counted together: large classes weigh more.

        TrackEval calls it ``cls_comb_det_av``.
        """
        return reduce(add, self._totals().values()).measures()

    def by_attribute(self) -> dict[str, tuple[int, dict[str, float]]]:
        """Number of sequences and measures of each class, where there is more than one."""
        if len(self.classes) < 2:
            return {}
        here = {
            name: sum(s.part[name].clear.tp + s.part[name].clear.fn > 0 for s in self.sequences)
            for name in self.classes
        }
        return {name: (here[name], measures) for name, measures in self.by_class().items()}

    def curves(self) -> dict[str, Curve]:
        """HOTA, DetA and AssA over the overlap from which a pair counts as found.

        Named ``HOTA, car`` and so on, by class; of several classes there is their mean too, whose
        number is that of ``summary``.
        """
        each = {name: counts.hota.curves() for name, counts in self._totals().items()}
        if len(each) > 1:
            mean = {m: np.mean([of[m] for of in each.values()], axis=0) for m in _PLOTTED}
            each = {_MEAN: mean} | each
        return {
            f"{measure}, {name}": Curve(ALPHAS, of[measure], float(of[measure].mean()))
            for name, of in each.items()
            for measure in _PLOTTED
        }

    def pictures(self) -> dict[str, list[list[str]]]:
        """One picture: a row for the mean of the classes, and one a class."""
        rows = [*([_MEAN] if len(self.classes) > 1 else []), *self.classes]
        return {"HOTA": [[f"{measure}, {name}" for measure in _PLOTTED] for name in rows]}

    def _totals(self) -> dict[str, ClassCounts]:
        return {
            name: reduce(add, (sequence.part[name] for sequence in self.sequences))
            for name in self.classes
        }


def score_tracks(
    benchmark: MotBenchmark,
    results: MotResults,
    *,
    partial: bool = False,
    definition: str = "trackeval",
    on_sequence: Callable[[str], None] = lambda name: None,
) -> MotScore:
    """Score the results of one tracker.

    Args:
        benchmark: with the truth of its sequences.
        results: of that tracker.
        partial: score what is there of incomplete results.
        definition: of the CLEAR measures, see ``clear.DEFINITIONS``; ``trackeval`` is what the
            benchmarks' servers use today.
        on_sequence: called with each name when it is done.

    Raises:
        InputError: when the truth is not there, results are missing (without ``partial``), or a
            file is one that official scorers refuse, with the line.
    """
    here, missing = sequences_here(
        benchmark.sequences, results.holds, results.path, benchmark.title, results.expected,
        partial=partial,
    )  # fmt: skip
    rules = benchmark.rules
    scores: list[SequenceScore] = []
    notes: list[str] = []
    for sequence in here:
        truth = read_truth(sequence, rules)
        size = truth.masks.size if truth.masks is not None and len(truth) else sequence.size
        rows = results.read(sequence, size)
        length, there = sequence.length, len(sequence.frames)
        if 0 < there < length and (not len(rows) or rows.frames.max() < there):
            notes.append(f"{sequence.name}: scored on the {there} of {length} frames that are here")
            length = there
        if rules.files == "mot" and size is not None and len(rows):
            beyond = (rows.boxes[:, 2:] > 1.1 * np.array(size[::-1])).any(axis=1).mean()
            if beyond > 0.5:
                notes.append(
                    f"{sequence.name}: {beyond:.0%} of the boxes reach out of the image; expected "
                    "left,top,width,height: are they x1,y1,x2,y2?"
                )
        parts: Mapping[str, ClassCounts] = {
            name: count(comparison, masks=rules.masks, definition=definition)
            for name, comparison in compare(rules, truth, rows, length).items()
        }
        scores.append(SequenceScore(sequence.name, averaged(parts.values()), (), 1, parts))
        on_sequence(sequence.name)
    if len(rules.classes) > 1:
        notes.append("over several classes: the mean of each measure, the sum of each count")
    if definition != "trackeval":
        notes.append(f"MOTA and its kin as {definition} counts them")
    return MotScore(
        benchmark.key, benchmark.title, "tracks", results.name, tuple(scores), missing,
        tuple(notes), tuple(rules.classes),
    )  # fmt: skip
