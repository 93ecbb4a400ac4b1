"""Benchmarks of one object, or of a few masks, given on the first frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vision_mem.config import load_config
from vision_mem.evaluation.options import (
    ADVANCED,
    INPUT,
    PARTIAL,
    STRICT,
    Option,
    ScoreOptions,
    SegmenterOptions,
    place_of,
    preset_option,
)
from vision_mem.evaluation.registry import Family, chosen_part
from vision_mem.evaluation.sot.datasets import BENCHMARKS, open_benchmark
from vision_mem.models.segmenters.load import check_model

if TYPE_CHECKING:
    from vision_mem.evaluation.engine.folder import EvaluationFolder
    from vision_mem.evaluation.engine.run import EvaluationPlan
    from vision_mem.evaluation.sot.records import Benchmark
    from vision_mem.tracking import TrackingConfig, TrackingSession


@dataclass(frozen=True)
class SotRunOptions(SegmenterOptions):
    """What a run on such a set may be told."""

    preset: Annotated[str, preset_option("tracking")] = "samurai"
    init: Annotated[
        str, Option("auto: masks or polygons where the set has them; box: always boxes.", INPUT)
    ] = "auto"


@dataclass(frozen=True)
class SotScoreOptions(ScoreOptions):
    """How results on such a set are scored."""

    strict: STRICT = False
    partial: PARTIAL = False
    absent: Annotated[
        str, Option("Frames without target: miss, skip, or pytracking.", ADVANCED)
    ] = "miss"
    repair: Annotated[bool, Option("Take the box before for NaN and negative sizes.", ADVANCED)] = (
        False
    )


@dataclass(frozen=True)
class MakeTracker:
    """Loads the model on a device and makes a session; travels to other processes."""

    options: SotRunOptions
    config: TrackingConfig

    def __call__(self, device: str) -> TrackingSession:
        """A session with the model on ``device``."""
        from vision_mem.tracking import TrackingSession

        return TrackingSession(self.options.load_on(device), self.config)


class SotFamily(Family):
    """Single objects; sets of one's own are named by the function that opens them.

    ``vision-mem eval my_sets:open_mine --root DIR`` calls ``my_sets.open_mine(root, need_frames=
    True)``, which returns a ``Benchmark`` (``sot/records.py``); ``my_sets.py`` lies in the working
    folder or is installed. From Python, a row in ``BENCHMARKS`` gives the set a word.
    """

    line = "one object, or a few, given on the first frame"
    datasets = BENCHMARKS

    def opens(self, word: str) -> bool:
        """Whether a word may be the function that opens a set."""
        module, _, name = word.partition(":")
        return name.isidentifier() and all(map(str.isidentifier, module.split(".")))

    def options(self, dataset: str) -> type[SotRunOptions]:
        """What a run may be told."""
        return SotRunOptions

    def plan(
        self, dataset: str, options: SotRunOptions, say: Callable[[str], None]
    ) -> EvaluationPlan:
        """What is to be run, see ``registry.Family``."""
        options.check(options.preset, "tracking", options.model, check_model)
        root = place_of(options.root, dataset)
        # torch takes seconds to import; slips of the pen are told before.
        from vision_mem.evaluation.engine.run import EvaluationPlan
        from vision_mem.evaluation.sot.job import PromptedJob
        from vision_mem.evaluation.sot.result_files import layout_of
        from vision_mem.tracking import TrackingConfig

        changes = options.changes or ()
        config = load_config(TrackingConfig, options.preset, changes, folder="tracking")
        benchmark = open_benchmark(dataset, root)
        jobs = [
            PromptedJob(sequence, layout_of(benchmark, sequence), options.init, options.strict)
            for sequence in options.choose(benchmark.sequences)
        ]
        return EvaluationPlan(
            benchmark.key, benchmark.title, benchmark.notes, options.preset, changes,
            {**options.model_identity, "init": options.init, **asdict(config)}, jobs,
            MakeTracker(options, config),
            partial(self.sum_up, benchmark, SotScoreOptions(partial=True)),
            f"{Path(options.preset).stem} {Path(options.model).name}", options.workplace,
        )  # fmt: skip

    def scoring(self, dataset: str) -> type[SotScoreOptions]:
        """How results may be scored."""
        return SotScoreOptions

    def open(self, dataset: str, options: SotScoreOptions) -> Benchmark:
        """The set, or the chosen part of it."""
        one = open_benchmark(dataset, place_of(options.root, dataset), need_frames=False)
        return chosen_part(one, options.sequences)

    def results(self, path: Path, benchmark: Any, options: Any, name: str | None) -> Any:
        """The files of one tracker."""
        from vision_mem.evaluation.sot.results import ResultSet

        return ResultSet(path, name)

    def score(
        self, benchmark: Any, results: Any, options: Any, on_sequence: Callable[[str], None]
    ) -> Any:
        """Their score."""
        from vision_mem.evaluation.sot.scores import score_benchmark

        return score_benchmark(benchmark, results, **vars(options.rules), on_sequence=on_sequence)

    def sum_up(
        self, benchmark: Any, options: Any, folder: EvaluationFolder, tracker: str
    ) -> list[str]:
        """Score what is there, see ``Family``; or pack it for the server that keeps the truth."""
        from vision_mem.evaluation.sot.result_files import (
            SERVERS,
            missing_results,
            write_submission,
        )

        if benchmark.key not in SERVERS:
            return super().sum_up(benchmark, options, folder, tracker)
        if missing := missing_results(benchmark, folder.results):
            return [f"no submission yet: {len(missing)} sequences to go, the first is {missing[0]}"]
        notes = write_submission(benchmark, folder.results, folder.submission)
        return [f"submission: {folder.submission}", *notes]


FAMILY = SotFamily()
