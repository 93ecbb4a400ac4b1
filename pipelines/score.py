"""Score result files of any tracker on a benchmark, several trackers side by side.

Each set is a command of its own, as of ``eval``, with the rules that its scorers know.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from vision_mem.errors import InputError
from vision_mem.evaluation.options import ScoreOptions
from vision_mem.evaluation.registry import family_of
from vision_mem.runs.progress import start_bar
from vision_mem.runs.tally import count

from .evaluate import benchmark_app
from .options import INPUT, OUTPUT, AsJson

if TYPE_CHECKING:
    from vision_mem.evaluation.scores import BenchmarkScore, Rules


@dataclass(frozen=True)
class Trackers:
    """What is scored."""

    heading: ClassVar[str] = INPUT

    more: Annotated[list[Path] | None, typer.Argument(metavar="RESULTS", help="As --results.")] = (
        None
    )
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Folder, ZIP, or folder in a ZIP with a tracker's result files."),
    ] = None
    name: Annotated[
        list[str] | None, typer.Option(help="Of the tracker, once for each --results.")
    ] = None

    def named(self) -> list[tuple[Path, str | None]]:
        """Places and their trackers' names.

        Raises:
            InputError: when there is none, or not a name for each.
        """
        places = [*(self.results or []), *(self.more or [])]
        if not places:
            raise InputError("no results to score; give --results FOLDER, once for each tracker")
        names: list[str | None] = list(self.name) if self.name else [None] * len(places)
        if len(names) != len(places):
            raise InputError(
                f"{len(names)} --name for {len(places)} --results; expected one for each"
            )
        return list(zip(places, names, strict=True))


@dataclass(frozen=True)
class ScoreOutput:
    """Where the numbers go."""

    heading: ClassVar[str] = OUTPUT

    out: Annotated[Path | None, typer.Option(help="Write CSV, JSON and plots to this folder.")] = (
        None
    )
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the scores in --out.")] = (
        False
    )
    as_json: AsJson = False


def score(dataset: str, options: ScoreOptions, trackers: Trackers, output: ScoreOutput) -> int:
    """Score result files, print them side by side, and say the exit code.

    Raises:
        InputError: for results that are missing or damaged.
        SinkError: when numbers cannot be written.
    """
    named = trackers.named()
    if output.out is not None and (output.out / "scores.json").exists() and not output.overwrite:
        raise InputError(
            f"{output.out} holds scores already; give --overwrite to replace them, or another --out"
        )
    from vision_mem.evaluation import report

    family, rules = family_of(dataset), options.rules
    benchmark = family.open(dataset, options)
    known = family.count(benchmark)
    scores: list[BenchmarkScore] = []
    for path, given in named:
        taken = [each.tracker for each in scores]
        with family.results(path, benchmark, options, given) as found:
            found.name = _unique(found, taken)
            with _progress(found.name, known) as advance:
                scores.append(family.score(benchmark, found, options, advance))
    notes, out = benchmark.notes, output.out
    files = [] if out is None else report.write_report(out, scores, rules, notes)
    if output.as_json:
        print(json.dumps(report.record(scores, rules, notes), allow_nan=False))
        return 0
    known = known or max(len(each.sequences) for each in scores)
    print(f"{benchmark.title}: {count(known, scores[0].unit)}{_how(rules)}\n")
    attributes = report.attribute_table(scores)
    lines = [report.table(scores), *([f"\n{attributes}"] if attributes else [])]
    print("\n".join([*lines, *(f"note: {each}" for each in report.notes(scores, notes))]))
    if files:
        print(f"written to {out}: {', '.join(path.name for path in files)}")
    return 0


app = benchmark_app(
    "Score result files of any tracker or model, by the rules of the benchmark's official scorer."
    "\n\nGive --results once for each tracker. Files are found by the names of the sequences, "
    "wherever they lie below. What the numbers mean is said in docs/scoring.md.",
    lambda family, dataset: family.scoring(dataset), score, trackers=Trackers, output=ScoreOutput,
)  # fmt: skip


def _unique(results: Any, taken: list[str]) -> str:
    """The tracker's name, told apart from those before it by its folder."""
    if results.name not in taken:
        return str(results.name)
    longer = f"{results.path.resolve().parent.name}/{results.name}"
    count = 2
    while longer in taken:
        longer, count = f"{results.name} ({count})", count + 1
    return longer


def _how(rules: Rules) -> str:
    said = ["strict"] if rules.strict else []
    said += {"skip": ["frames without target left out"], "pytracking": ["as pytracking"]}.get(
        rules.absent, []
    )
    return f" ({', '.join(said)})" if said else ""


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error where somebody watches; masks take a while."""
    if not sys.stderr.isatty():
        yield lambda name: None
        return
    bar, task = start_bar(title, total or None)
    try:
        yield lambda name: bar.advance(task)
    finally:
        bar.update(task, visible=False)
        bar.stop()
