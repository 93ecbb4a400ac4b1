"""Benchmarks of questions about videos."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.evaluation.options import (
    CHANGES,
    INPUT,
    MODEL,
    PRECISION,
    STRICT,
    Option,
    RunOptions,
    ScoreOptions,
    Words,
    made_set,
    pairs_of,
    place_of,
    preset_option,
)
from vision_mem.evaluation.registry import Family
from vision_mem.evaluation.videoqa.datasets import DATASETS
from vision_mem.models.vlm import check_video_model
from vision_mem.runs.tally import count

if TYPE_CHECKING:
    from vision_mem.evaluation.engine.run import EvaluationPlan
    from vision_mem.evaluation.videoqa.job import VideoQaWorker
    from vision_mem.evaluation.videoqa.records import VideoQaBenchmark
    from vision_mem.videoqa import VideoQaConfig

GENERATED = "streams"
STREAMS = Path("runs/streams")
"""Where generated streams lie when --root is not given."""


@dataclass(frozen=True)
class QuestionRunOptions(RunOptions):
    """What a run on such a set may be told; its sequences are videos."""

    tasks: Annotated[str | None, Option("Only these: EPM,STU,... or patterns of them.", INPUT)] = (
        None
    )
    ask: Annotated[
        Words, Option("key=value, as mode=stream, window_s=256, fps=1, scope=auto.", INPUT)
    ] = None
    model: Annotated[
        str | None, Option("qwen2.5-vl-7b, a folder, or another that ask takes.", MODEL)
    ] = None
    preset: Annotated[str, preset_option("videoqa")] = "default"
    changes: CHANGES = None
    precision: PRECISION = "auto"


@dataclass(frozen=True)
class StreamRunOptions(QuestionRunOptions):
    """The same for streams, which are made where there are none."""

    stream: Annotated[
        Words, Option("key=value, as videos=4, seconds=64, objects=3, seed=1.", INPUT)
    ] = None


@dataclass(frozen=True)
class QuestionScoreOptions(ScoreOptions):
    """How answers are scored; ``sequences`` are tasks."""

    strict: STRICT = False


@dataclass(frozen=True)
class MakeWatcher:
    """Loads the model on a device and makes a session; travels to other processes."""

    options: QuestionRunOptions
    config: VideoQaConfig

    def __call__(self, device: str) -> VideoQaWorker:
        """A session with the model on ``device``."""
        from vision_mem.evaluation.videoqa.job import VideoQaWorker
        from vision_mem.models import use_threads
        from vision_mem.models.vlm.load import load_video_model

        use_threads(self.options.threads)
        model = load_video_model(
            str(self.options.model), device=device, precision=self.options.precision
        )
        return VideoQaWorker.around(model, self.config)


class VideoQaFamily(Family):
    """Questions about videos."""

    line = "questions about videos"
    datasets = DATASETS

    def options(self, dataset: str) -> type[QuestionRunOptions]:
        """What a run may be told."""
        return StreamRunOptions if dataset == GENERATED else QuestionRunOptions

    def plan(
        self, dataset: str, options: QuestionRunOptions, say: Callable[[str], None]
    ) -> EvaluationPlan:
        """What is to be run, see ``registry.Family``."""
        if options.model in (None, "embedded"):
            raise InputError(
                f"{dataset} needs a model that talks; give --model qwen2.5-vl-7b, a folder, or "
                "another that vision-mem ask takes"
            )
        options.check(options.preset, "videoqa", str(options.model), check_video_model)
        streams = isinstance(options, StreamRunOptions)
        root = options.root or STREAMS if streams else place_of(options.root, dataset)
        # torch takes seconds to import; slips of the pen are told before.
        from vision_mem.evaluation.engine.run import EvaluationPlan
        from vision_mem.evaluation.videoqa.frame_protocol import FrameProtocol
        from vision_mem.evaluation.videoqa.job import plan_questions, usual_protocol
        from vision_mem.videoqa import VideoQaConfig

        changes = options.changes or ()
        config = load_config(VideoQaConfig, options.preset, changes, folder="videoqa")
        # How often it looks is the protocol's business here.
        usual = asdict(replace(usual_protocol(dataset), fps=config.fps or 1.0))
        asked = [
            re.sub("^window_s=(none|all)$", "window_s=null", pair) for pair in pairs_of(options.ask)
        ]
        words = [f"{key}={'null' if value is None else value}" for key, value in usual.items()]
        protocol = load_config(FrameProtocol, None, [*words, *asked], folder="protocols")
        series = _streams(root, options, say) if isinstance(options, StreamRunOptions) else {}
        run = plan_questions(
            dataset, root, tasks=options.tasks, videos=options.sequences,
            limit=options.max_sequences, shard=options.share, protocol=protocol,
        )  # fmt: skip
        model = Path(str(options.model)).name
        identity = {
            "model_name": model, "precision": options.precision, **run.identity,
            "series": series, **asdict(config),
        }  # fmt: skip
        return EvaluationPlan(
            run.benchmark.key, run.benchmark.title, run.benchmark.notes, options.preset, changes,
            identity, run.jobs, MakeWatcher(options, config), run.sum_up,
            f"{Path(options.preset).stem} {model}", options.workplace,
            "reading files and answering",
        )  # fmt: skip

    def scoring(self, dataset: str) -> type[QuestionScoreOptions]:
        """How results may be scored."""
        return QuestionScoreOptions

    def open(self, dataset: str, options: QuestionScoreOptions) -> VideoQaBenchmark:
        """The set, or its tasks that are chosen; without a root what the results say of it."""
        from vision_mem.evaluation.videoqa.datasets.open import open_videoqa_benchmark

        return open_videoqa_benchmark(dataset, options.root, tasks=options.sequences)

    def count(self, benchmark: VideoQaBenchmark) -> int:
        """Questions."""
        return len(benchmark.queries)

    def results(self, path: Path, benchmark: Any, options: Any, name: str | None) -> Any:
        """The files of one model."""
        from vision_mem.evaluation.videoqa.results import VideoQaResults

        return VideoQaResults(path, benchmark, name)

    def score(
        self, benchmark: Any, results: Any, options: Any, on_sequence: Callable[[str], None]
    ) -> Any:
        """Their score."""
        from vision_mem.evaluation.videoqa.scores import score_answers

        return score_answers(benchmark, results, strict=options.strict, on_sequence=on_sequence)


def _streams(root: Path, options: StreamRunOptions, say: Callable[[str], None]) -> dict[str, Any]:
    from vision_mem.synthetic.qa_sets import StreamSeries, prepare_streams

    return made_set(
        root, StreamSeries, options.stream, prepare_streams, say,
        lambda some: f"{count(some.videos, 'generated video')} of {some.seconds} s",
    )  # fmt: skip


FAMILY = VideoQaFamily()
