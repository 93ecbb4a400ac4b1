"""Score result files on a benchmark by the rules of its field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from vision_mem.errors import InputError
from vision_mem.evaluation.sot.metrics.success import ABSENT
from vision_mem.evaluation.sot.records import Benchmark, SotSequence
from vision_mem.evaluation.sot.results import ResultSet
from vision_mem.evaluation.sot.scoring import PROTOCOLS, Curve, Rules

_NAMED = 5  # missing sequences in a message
_EXPECTED = {
    "boxes": "{0}.txt or {0}/{0}_001.txt",
    "regions": "{0}/{0}_001.txt, {0}/{0}_001.bin or {0}.txt",
    "images": "{0}/00000.png",
}


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
        protocol = PROTOCOLS[self.protocol]
        return protocol.curves([each.part for each in self.sequences if each.part is not None])

    def pictures(self) -> dict[str, list[list[str]]]:
        """The set's plots by their title: rows of names of curves, each to be a panel."""
        return {name: [[name]] for name in self.curves()}

    def _measures(self, sequences: Iterable[SequenceScore]) -> dict[str, float]:
        protocol = PROTOCOLS[self.protocol]
        return protocol.measures([each.part for each in sequences if each.part is not None])


def score_benchmark(
    benchmark: Benchmark,
    results: ResultSet,
    *,
    strict: bool = False,
    absent: str = "miss",
    partial: bool = False,
    repair: bool = False,
    on_sequence: Callable[[str], None] = lambda name: None,
) -> BenchmarkScore:
    """Score the results of one tracker.

    Args:
        benchmark: with the truth of its sequences.
        results: where the result files are.
        strict: see ``Rules``.
        absent: see ``Rules``.
        partial: see ``Rules``.
        repair: see ``Rules``.
        on_sequence: called with each name when it is done.

    Raises:
        InputError: when the truth is not there, results are missing (without ``partial``), or a
            file is damaged, too short (without ``partial``) or holds boxes that are none.
    """
    protocol = PROTOCOLS.get(benchmark.protocol)
    if protocol is None:
        raise InputError(
            f"the truth of {benchmark.title} is kept by its organisers; send the results to their "
            "server, which scores them"
        )
    if absent != "miss" and benchmark.protocol != "success":
        raise InputError(
            f"--absent {absent} is for sets scored by success and precision; {benchmark.title} has "
            "a rule of its own for frames without target; leave it out"
        )
    if absent not in ABSENT:
        raise InputError(f"--absent is {absent!r}; expected one of {', '.join(ABSENT)}")
    rules = Rules(strict, absent, partial, repair)
    here, missing = _present(benchmark, results, partial)
    notes = _about_flags(here) if benchmark.tag == "lasot" and absent == "miss" else []
    scores = []
    for sequence in here:
        parts = protocol.score(sequence, results, benchmark.tag, rules, notes)
        part = protocol.merge(parts) if parts else None
        values = protocol.measures([part]) if part is not None else {}
        scores.append(SequenceScore(sequence.name, values, sequence.attributes, len(parts), part))
        on_sequence(sequence.name)
    left_out = [each.name for each in scores if each.part is None]
    if left_out:
        notes.append(f"no frame counts in {_listed(left_out)}: left out of the means")
    if len(left_out) == len(scores):
        raise InputError(f"{benchmark.title}: in no sequence is there a frame that counts")
    return BenchmarkScore(
        benchmark.key, benchmark.title, benchmark.protocol, results.name, tuple(scores),
        tuple(missing), tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _about_flags(sequences: list[SotSequence]) -> list[str]:
    """Say that LaSOT's success is not pytracking's where its flags and boxes disagree."""
    flagged = sum(
        int(np.count_nonzero(~each.visible & (each.boxes[:, 2:] > 0).all(axis=1)))
        for each in sequences
        if each.visible is not None
    )
    if not flagged:
        return []
    return [
        f"{flagged} frames flagged as absent have a truth box, and their overlap counts; "
        "with --absent pytracking they are missed, with --absent skip left out"
    ]


def _present(
    benchmark: Benchmark, results: ResultSet, partial: bool
) -> tuple[list[SotSequence], list[str]]:
    kind = PROTOCOLS[benchmark.protocol].kind
    here = [each for each in benchmark.sequences if results.holds(each.name, kind)]
    present = {each.name for each in here}
    missing = [each.name for each in benchmark.sequences if each.name not in present]
    count = len(benchmark.sequences)
    if not count:
        raise InputError(f"{benchmark.title} has no sequences to be scored")
    if not here:
        raise InputError(
            f"{results.path} holds no result of {benchmark.title}'s {count} sequences; expected "
            f"{_EXPECTED[kind].format(benchmark.sequences[0].name)} and so on"
        )
    if missing and not partial:
        raise InputError(
            f"{results.path} lacks {len(missing)} of {benchmark.title}'s {count} sequences: "
            f"{_listed(missing)}; --partial scores those that are there"
        )
    return here, missing


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
