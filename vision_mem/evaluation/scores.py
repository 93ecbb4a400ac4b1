"""What every scorer of a family of benchmarks gives: numbers by sequence, curves, notes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import said
from vision_mem.evaluation.selection import Some
from vision_mem.runs.tally import count


@dataclass(frozen=True)
class Rules:
    """How to score.

    Attributes:
        strict: without the quirks of the official scorers, see ``docs/scoring.md``.
        absent: of sets scored by success and precision, one of ``success.ABSENT``: ``miss`` counts
            frames without target as missed, ``skip`` leaves them out; ``pytracking`` is ``miss``,
            but on LaSOT frames that are flagged are missed although their truth has a box.
        partial: score what is there; frames a file lacks are missed.
        repair: a box that is NaN or has a negative size is taken to be the one before.
    """

    strict: bool = False
    absent: str = "miss"
    partial: bool = False
    repair: bool = False


def sequences_here(
    sequences: Sequence[Some],
    holds: Callable[[Some], bool],
    where: Path,
    title: str,
    expected: Callable[[str], str],
    *,
    partial: bool,
) -> tuple[list[Some], tuple[str, ...]]:
    """Sequences of a set that have results, and the names of those that have none.

    ``where``, ``title`` and ``expected`` (what results of a name are called) are for messages.

    Raises:
        InputError: when there is none, or some are missing without ``partial``.
    """
    if not sequences:
        raise InputError(f"{title} has no sequences to be scored")
    here = [each for each in sequences if holds(each)]
    there = {each.name for each in here}
    missing = tuple(name for each in sequences if (name := each.name) not in there)
    if not here:
        raise InputError(
            f"{where} holds no result of {title}'s {count(len(sequences), 'sequence')}; expected "
            f"{expected(sequences[0].name)} and so on"
        )
    if missing and not partial:
        raise InputError(
            f"{where} lacks {len(missing)} of {title}'s {len(sequences)} sequences: "
            f"{said(missing)}; expected {expected(missing[0])}; --partial scores those that are "
            "there"
        )
    return here, missing


class Counts:
    """Counts, a dataclass of numbers or arrays: those of several sequences or classes add up."""

    def __add__(self: SomeCounts, other: SomeCounts) -> SomeCounts:
        made: Any = type(self)
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        summed: SomeCounts = made(*(mine + yours for mine, yours in pairs))
        return summed


SomeCounts = TypeVar("SomeCounts", bound=Counts)


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        x: ``(N,)`` thresholds.
        y: ``(N,)`` shares of frames.
        score: the number that stands for the curve.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    score: float


@dataclass(frozen=True)
class SequenceScore:
    """One sequence.

    Attributes:
        name: of the sequence.
        values: the set's own measures, over this sequence alone.
        attributes: what makes it hard.
        runs: how many repetitions were averaged.
        part: what the measures of several sequences are made from.
    """

    name: str
    values: Mapping[str, float]
    attributes: tuple[str, ...]
    runs: int
    part: Any = field(repr=False)


@dataclass(frozen=True)
class BenchmarkScore:
    """A tracker on a benchmark.

    Attributes:
        benchmark: key of the set.
        title: as papers write it.
        protocol: of the set.
        tracker: name of the results.
        sequences: those scored, in the order of the set.
        missing: names of those without results.
        notes: what the reader of the numbers should know, one line each.
        unit: what tables call a sequence, in the singular.
        trait: what they call an attribute.
        entrant: what they call who is scored.
        falling: the smaller the main measure, the better.
    """

    unit: ClassVar[str] = "sequence"
    trait: ClassVar[str] = "attribute"
    entrant: ClassVar[str] = "tracker"
    falling: ClassVar[bool] = False

    benchmark: str
    title: str
    protocol: str
    tracker: str
    sequences: tuple[SequenceScore, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def main(self) -> str:
        """The measure by which the set ranks trackers."""
        return next(iter(self.summary()))

    def summary(self) -> dict[str, float]:
        """The set's measures over all sequences, the most important first, in [0, 1]."""
        return self._measures(self.sequences)

    def by_attribute(self) -> dict[str, tuple[int, dict[str, float]]]:
        """Number of sequences, and the measures over them, for each attribute of the set."""
        counted = [each for each in self.sequences if each.part is not None]
        names = dict.fromkeys(name for each in counted for name in each.attributes)
        grouped = {n: [each for each in counted if n in each.attributes] for n in names}
        return {name: (len(some), self._measures(some)) for name, some in grouped.items()}

    def curves(self) -> dict[str, Curve]:
        """Lines for the set's plots, by name; none for sets that are not plotted."""
        return {}

    def pictures(self) -> dict[str, list[list[str]]]:
        """The set's plots by their title: rows of names of curves, each to be a panel."""
        return {name: [[name]] for name in self.curves()}

    def _measures(self, sequences: Iterable[SequenceScore]) -> dict[str, float]:
        """The measures over some sequences; each family has its own."""
        raise NotImplementedError
