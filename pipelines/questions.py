"""What an evaluation of a video memory on a set of questions is to run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mem.config import load_config, nearest
from vision_mem.errors import InputError
from vision_mem.models import use_threads
from vision_mem.runs.tally import count

from .benchmarks import EvaluationPlan, Request, shard_of

if TYPE_CHECKING:
    from vision_mem.evaluation.videoqa.frame_protocol import FrameProtocol
    from vision_mem.evaluation.videoqa.job import VideoQaWorker
    from vision_mem.videoqa import VideoQaConfig

STREAMS = Path("runs/streams")
"""Where generated streams lie when --root is not given."""


@dataclass(frozen=True)
class MakeWatcher:
    """Loads the model on a device and makes a session; travels to other processes."""

    request: Request
    config: VideoQaConfig

    def __call__(self, device: str) -> VideoQaWorker:
        """A session with the model on ``device``."""
        from vision_mem.evaluation.videoqa.job import VideoQaWorker
        from vision_mem.models.vlm.load import load_video_model

        use_threads(self.request.threads)
        model = load_video_model(
            self.request.model, device=device, precision=self.request.precision
        )
        return VideoQaWorker.around(model, self.config)


def plan_answers(request: Request) -> EvaluationPlan:
    """Sets of questions about videos."""
    # torch takes seconds to import; help and misspelled options should not wait for it.
    from vision_mem.evaluation.videoqa.job import plan_questions, usual_protocol
    from vision_mem.videoqa import VideoQaConfig

    request.refuse(
        "questions about videos",
        {
            "--detect": request.detect, "--classes": request.classes, "--split": request.split,
            "--crowd": request.crowd, "--init": request.init != "auto",
            "--strict": request.strict, "--compile": request.compile,
            "--model-config": request.model_config,
        },
    )  # fmt: skip
    generated = request.dataset == "streams"
    if not generated:
        request.refuse("its own videos", {"--stream": request.stream})
    if request.model == "embedded":
        raise InputError(
            f"{request.dataset} needs a model that talks; give --model qwen2.5-vl-7b, a folder, or "
            "another that vision-mem ask takes"
        )
    preset = request.preset or "default"
    config = load_config(VideoQaConfig, preset, request.changes, folder="videoqa")
    # How often it looks is the protocol's business here.
    usual = replace(usual_protocol(request.dataset), fps=config.fps or 1.0)
    protocol = _changed(usual, request.asking)
    series = _prepare(request) if generated else {}
    root = request.root or STREAMS if generated else request.place_of()
    run = plan_questions(
        request.dataset, root, tasks=request.tasks, videos=request.sequences,
        limit=request.limit, shard=shard_of(request), protocol=protocol,
    )  # fmt: skip
    identity = {**run.identity, "series": series, **asdict(config)}
    return EvaluationPlan(
        run.benchmark.key, run.benchmark.title, run.benchmark.notes, preset, identity, run.jobs,
        MakeWatcher(request, config), run.sum_up, f"{Path(preset).stem} {Path(request.model).name}",
        "reading files and answering",
    )  # fmt: skip


def _changed(protocol: FrameProtocol, words: Sequence[str]) -> FrameProtocol:
    """The protocol with what --ask says."""
    known = {each.name: getattr(protocol, each.name) for each in fields(protocol)}
    changes: dict[str, Any] = {}
    for pair in (part.strip() for word in words for part in word.split(",") if part.strip()):
        name, equals, text = (piece.strip() for piece in pair.partition("="))
        if not equals or name not in known:
            raise InputError(
                f"--ask {pair!r}: expected KEY=VALUE with a key of {', '.join(known)}"
                f"{nearest(name, list(known))}"
            )
        changes[name] = _value(name, text, known[name])
    return replace(protocol, **changes)


def _value(name: str, text: str, usual: object) -> object:
    if name == "window_s" and text.lower() in ("none", "all"):
        return None
    try:
        if isinstance(usual, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(usual, str):
            return text
        return int(text) if isinstance(usual, int) else float(text)
    except (ValueError, KeyError):
        raise InputError(f"--ask {name}={text}: expected a value like {usual}") from None


def _prepare(request: Request) -> Mapping[str, Any]:
    """Generated streams on disk, written where there are none."""
    from vision_mem.synthetic.qa_sets import StreamSeries, prepare_streams

    pairs = [pair.strip() for word in request.stream for pair in word.split(",") if pair.strip()]
    series = load_config(StreamSeries, None, pairs, folder="streams")
    root = request.root or STREAMS
    if not request.quiet and not root.is_dir():
        print(
            f"writing {count(series.videos, 'generated video')} of {series.seconds} s to {root}",
            file=sys.stderr,
        )
    return prepare_streams(root, series if request.stream else None)
