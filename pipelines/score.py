"""Score result files of any tracker on a benchmark, several trackers side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Protocol

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
from vision_mem.evaluation.reconstruction.datasets.open import SCENE_KEYS
from vision_mem.evaluation.scores import BenchmarkScore, score_benchmark
from vision_mem.evaluation.selection import choose_sequences
from vision_mem.evaluation.sot.datasets.open import BENCHMARKS, open_benchmark
from vision_mem.evaluation.sot.records import Benchmark
from vision_mem.evaluation.sot.results import ResultSet
from vision_mem.evaluation.sot.scoring import Rules
from vision_mem.evaluation.videoqa import (
    VIDEOQA_SETS,
    VideoQaBenchmark,
    VideoQaResults,
    open_videoqa_benchmark,
    score_answers,
)
from vision_mem.runs.tally import count

from .options import AsJson
from .scenes import SceneFamily, is_scene_key

_DATASETS = (*BENCHMARKS, *MOT_BENCHMARKS, *VIDEOQA_SETS, *SCENE_KEYS)


def main(
    dataset: Annotated[str, typer.Argument(help=f"One of {', '.join(_DATASETS)}.")],
    root: Annotated[
        Path | None,
        typer.Option(
            help="The benchmark's folder; its truth suffices, images are not read. Sets of "
            "questions do without."
        ),
    ] = None,
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
        str | None,
        typer.Option(help="Names or patterns, comma-separated: car-1,bird-*; of questions: tasks."),
    ] = None,
    scene: Annotated[
        list[str] | None,
        typer.Option(
            help="Depth, poses, points: key=value, as align=scale+metric, compat=adam, "
            "unit=0.0002, cloud=world, frames=500, stride=1."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write CSV, JSON and plots to this folder.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Score result files of any tracker or model, by the rules of the benchmark's official scorer.

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
    family = _family(dataset, scene or ())
    benchmark = family.open(dataset, root, sequences, rules)
    scores: list[BenchmarkScore] = []
    for path, given in zip(places, names, strict=True):
        taken = [score.tracker for score in scores]
        with family.results(path, benchmark, given) as found:
            found.name = _unique(found, taken)
            with _progress(found.name, family.count(benchmark)) as advance:
                scores.append(family.score(benchmark, found, rules, advance))
    files = [] if out is None else report.write_report(out, scores, rules, benchmark.notes)
    if as_json:
        print(json.dumps(report.record(scores, rules, benchmark.notes), allow_nan=False))
        return 0
    known = family.count(benchmark) or max(len(score.sequences) for score in scores)
    print(f"{benchmark.title}: {count(known, scores[0].unit)}{_how(rules)}\n")
    print(report.table(scores))
    if attributes := report.attribute_table(scores):
        print(f"\n{attributes}")
    for line in report.notes(scores, benchmark.notes):
        print(f"note: {line}")
    if files:
        print(f"written to {out}: {', '.join(path.name for path in files)}")
    return 0


class _Family(Protocol):
    """A kind of benchmark: how it is opened, where its results are, how they are scored."""

    def open(self, key: str, root: Path | None, chosen: str | None, rules: Rules) -> Any:
        """The benchmark, or the chosen part of it."""

    def count(self, benchmark: Any) -> int:
        """How much there is to score; 0 where results alone say it."""

    def results(self, path: Path, benchmark: Any, name: str | None) -> Any:
        """The files of one tracker."""

    def score(
        self, benchmark: Any, results: Any, rules: Rules, on_sequence: Callable[[str], None]
    ) -> BenchmarkScore:
        """Their score."""


class _OneObject:
    """Sets of one object, or of a few given on the first frame."""

    def open(self, key: str, root: Path | None, chosen: str | None, rules: Rules) -> Benchmark:
        one = open_benchmark(key, _needed(key, root), need_frames=False)
        return replace(one, sequences=tuple(choose_sequences(one.sequences, names=chosen)))

    def count(self, benchmark: Benchmark) -> int:
        return len(benchmark.sequences)

    def results(self, path: Path, benchmark: Benchmark, name: str | None) -> ResultSet:
        return ResultSet(path, name)

    def score(
        self,
        benchmark: Benchmark,
        results: ResultSet,
        rules: Rules,
        on_sequence: Callable[[str], None],
    ) -> BenchmarkScore:
        return score_benchmark(benchmark, results, **vars(rules), on_sequence=on_sequence)


class _ManyObjects:
    """Sets of many objects with identities."""

    def open(self, key: str, root: Path | None, chosen: str | None, rules: Rules) -> MotBenchmark:
        if replace(rules, partial=False) != Rules():
            raise InputError(f"{key} has many objects; leave out --strict, --absent and --repair")
        many = open_mot_benchmark(key, _needed(key, root), need_frames=False)
        return replace(many, sequences=tuple(choose_sequences(many.sequences, names=chosen)))

    def count(self, benchmark: MotBenchmark) -> int:
        return len(benchmark.sequences)

    def results(self, path: Path, benchmark: MotBenchmark, name: str | None) -> MotResults:
        return MotResults(path, benchmark, name)

    def score(
        self,
        benchmark: MotBenchmark,
        results: MotResults,
        rules: Rules,
        on_sequence: Callable[[str], None],
    ) -> BenchmarkScore:
        return score_tracks(benchmark, results, partial=rules.partial, on_sequence=on_sequence)


class _Questions:
    """Sets of questions about videos."""

    def open(
        self, key: str, root: Path | None, chosen: str | None, rules: Rules
    ) -> VideoQaBenchmark:
        if replace(rules, strict=False) != Rules():
            raise InputError(
                f"{key} asks questions; leave out --absent, --partial and --repair: what is there "
                "is scored"
            )
        return open_videoqa_benchmark(key, root, tasks=chosen)

    def count(self, benchmark: VideoQaBenchmark) -> int:
        return len(benchmark.queries)

    def results(self, path: Path, benchmark: VideoQaBenchmark, name: str | None) -> VideoQaResults:
        return VideoQaResults(path, benchmark, name)

    def score(
        self,
        benchmark: VideoQaBenchmark,
        results: VideoQaResults,
        rules: Rules,
        on_sequence: Callable[[str], None],
    ) -> BenchmarkScore:
        return score_answers(benchmark, results, strict=rules.strict, on_sequence=on_sequence)


def _family(dataset: str, scene: Sequence[str]) -> _Family:
    """The kind of a benchmark; other kinds bring their keys here."""
    if is_scene_key(dataset):
        return SceneFamily.from_words(scene)
    if scene:
        raise InputError(f"{dataset} has no depth and no poses; leave out --scene")
    families: dict[str, _Family] = dict.fromkeys(BENCHMARKS, _OneObject())
    families |= dict.fromkeys(MOT_BENCHMARKS, _ManyObjects())
    families |= dict.fromkeys(VIDEOQA_SETS, _Questions())
    if dataset not in families:
        hint = nearest(dataset, _DATASETS)
        raise InputError(f"no benchmark {dataset!r}; expected one of {', '.join(_DATASETS)}{hint}")
    return families[dataset]


def _needed(dataset: str, root: Path | None) -> Path:
    if root is None:
        raise InputError(f"missing option --root: the folder of {dataset}")
    return root


def _unique(results: ResultSet | MotResults | VideoQaResults, taken: list[str]) -> str:
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
def _progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error where somebody watches; masks take a while."""
    if not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total or None)
        yield lambda name: bar.advance(task)
