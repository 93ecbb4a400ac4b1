"""Score result files of any tracker on a benchmark, several trackers side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vision_mem.config import nearest
from vision_mem.errors import InputError
from vision_mem.evaluation import report
from vision_mem.evaluation.mots import (
    MOT_BENCHMARKS,
    MotBenchmark,
    MotResults,
    open_mot_benchmark,
    score_tracks,
)
from vision_mem.evaluation.protocols import Rules
from vision_mem.evaluation.records import Benchmark
from vision_mem.evaluation.results import ResultSet
from vision_mem.evaluation.scores import BenchmarkScore, score_benchmark
from vision_mem.evaluation.selection import choose_sequences
from vision_mem.evaluation.sets import BENCHMARKS, open_benchmark

_DATASETS = (*BENCHMARKS, *MOT_BENCHMARKS)


def main(
    dataset: Annotated[str, typer.Argument(help=f"One of {', '.join(_DATASETS)}.")],
    root: Annotated[
        Path, typer.Option(help="The benchmark's folder; its truth suffices, images are not read.")
    ],
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[RESULTS]...", help="As --results.")
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Folder, ZIP, or folder in a ZIP with a tracker's result files."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Of the tracker, once for each --results.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Without the official scorers' quirks.")
    ] = False,
    absent: Annotated[
        str, typer.Option(help="Frames without target: miss (default), skip, or pytracking.")
    ] = "miss",
    partial: Annotated[
        bool, typer.Option("--partial", help="Score what is there of incomplete results.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take the box before for NaN and negative sizes.")
    ] = False,
    sequences: Annotated[
        str | None, typer.Option(help="Names or patterns, comma-separated: car-1,bird-*.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write CSV, JSON and plots to this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> int:
    """Score result files of any tracker on a benchmark, by the rules of its official scorer.

    Give --results once for each tracker. Files are found by the names of the sequences, wherever
    they lie below. What the numbers mean is said in docs/scoring.md.
    """
    rules = Rules(strict, absent, partial, repair)
    places = [*(results or []), *(more or [])]
    if not places:
        raise InputError("no results to score; give --results FOLDER, once for each tracker")
    names: list[str | None] = list(name) if name else [None] * len(places)
    if len(names) != len(places):
        raise InputError(f"{len(names)} --name for {len(places)} --results; expected one for each")
    benchmark = _open(dataset, root, sequences, rules)
    chosen = benchmark.sequences
    scores: list[BenchmarkScore] = []
    for path, given in zip(places, names, strict=True):
        taken = [score.tracker for score in scores]
        with _results(path, benchmark, given) as found:
            found.name = _unique(found, taken)
            with _progress(found.name, len(chosen)) as advance:
                scores.append(_score(benchmark, found, rules, advance))
    files = [] if out is None else report.write_report(out, scores, rules, benchmark.notes)
    if as_json:
        print(json.dumps(report.record(scores, rules, benchmark.notes), allow_nan=False))
        return 0
    print(f"{benchmark.title}: {len(chosen)} sequences{_how(rules)}\n")
    print(report.table(scores))
    if attributes := report.attribute_table(scores):
        print(f"\n{attributes}")
    for line in report.notes(scores, benchmark.notes):
        print(f"note: {line}")
    if files:
        print(f"written to {out}: {', '.join(path.name for path in files)}")
    return 0


def _open(
    dataset: str, root: Path, sequences: str | None, rules: Rules
) -> Benchmark | MotBenchmark:
    """The benchmark, or the chosen part of it."""
    if dataset not in MOT_BENCHMARKS:
        if dataset not in BENCHMARKS:
            hint = nearest(dataset, _DATASETS)
            raise InputError(
                f"no benchmark {dataset!r}; expected one of {', '.join(_DATASETS)}{hint}"
            )
        one = open_benchmark(dataset, root, need_frames=False)
        return replace(one, sequences=tuple(choose_sequences(one.sequences, names=sequences)))
    if replace(rules, partial=False) != Rules():
        raise InputError(f"{dataset} has many objects; leave out --strict, --absent and --repair")
    many = open_mot_benchmark(dataset, root, need_frames=False)
    return replace(many, sequences=tuple(choose_sequences(many.sequences, names=sequences)))


def _results(
    path: Path, benchmark: Benchmark | MotBenchmark, name: str | None
) -> ResultSet | MotResults:
    if isinstance(benchmark, MotBenchmark):
        return MotResults(path, benchmark, name)
    return ResultSet(path, name)


def _score(
    benchmark: Benchmark | MotBenchmark,
    results: ResultSet | MotResults,
    rules: Rules,
    on_sequence: Callable[[str], None],
) -> BenchmarkScore:
    if isinstance(benchmark, MotBenchmark):
        assert isinstance(results, MotResults)
        return score_tracks(benchmark, results, partial=rules.partial, on_sequence=on_sequence)
    assert isinstance(results, ResultSet)
    return score_benchmark(benchmark, results, **vars(rules), on_sequence=on_sequence)


def _unique(results: ResultSet | MotResults, taken: list[str]) -> str:
    """The tracker's name, told apart from those before it by its folder."""
    if results.name not in taken:
        return results.name
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
def _progress(title: str, count: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error where somebody watches; masks take a while."""
    if not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=count)
        yield lambda name: bar.advance(task)
