"""What a memory is worth: right answers about generated streams, at equal budgets of tokens.

    python scripts/bench/videoqa_worth.py --model runs/miniature/model
    python scripts/bench/videoqa_worth.py --model random:qwen2.5-vl-tiny --videos 1 --seeds 1

Each seed makes a set of streams and questions in the files of OVO-Bench. Each preset watches each
stream once from its beginning, one frame a second, and is asked as ``vision-mem eval streams``
asks. All presets have the same budget but two: ``full`` keeps everything, ``recent-only`` four
frames; ``tokens`` is what was read for a question, on the average. Numbers are percent by the
strict rules, mean over tasks; ``+-`` is the standard deviation over seeds. ``chance`` guesses.

``--answers words`` (default) puts each question without its options and takes the option that the
model would most likely say, word for word (its log-likelihood, the end of the answer included);
``--answers letters`` puts the options into the prompt and reads the letter off the answer.

Below the table is what is expected of ``default``: ahead of every other bounded preset by 5 points
on backward questions, and at most 1 point behind on real-time ones. It is printed whatever it says.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.config import load_config
from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.engine.runner import Failed, run_job
from vision_mem.evaluation.videoqa.datasets.open import open_videoqa_benchmark
from vision_mem.evaluation.videoqa.datasets.ovobench import GROUPS
from vision_mem.evaluation.videoqa.job import QuestionRun, VideoQaWorker, plan_questions
from vision_mem.evaluation.videoqa.results import VideoQaResults
from vision_mem.evaluation.videoqa.scores import score_answers
from vision_mem.models import use_threads
from vision_mem.models.vlm.load import load_video_model
from vision_mem.models.vlm.option_scores import ByLikelihood
from vision_mem.synthetic.qa_sets import StreamSeries, prepare_streams
from vision_mem.videoqa import VideoQaConfig

PRESETS = ("default", "fifo", "uniform", "recent-only", "similarity-only", "full")
ASKED = ("backward", "realtime")
AHEAD, BEHIND = 5.0, 1.0  # points
_APART = 10_000  # between the first streams of two seeds; far below those of training


def run_preset(
    model: Any, preset: str, budget: int, plan: QuestionRun, folder: Path
) -> dict[str, float]:
    """Percent by group, and the tokens read for a question."""
    config = load_config(VideoQaConfig, preset, {"memory.budget": budget}, folder="videoqa")
    worker = VideoQaWorker.around(model, replace(config, max_answer_tokens=8))
    read: list[int] = []
    for job in plan.jobs:
        done = run_job(job, worker, lambda advanced: None)
        if isinstance(done, Failed):
            raise InputError(f"{preset}: {done.sequence}: {done.reason}")
        for name, content in done.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        read += [one["tokens_read"] for one in done.log["questions"] if "tokens_read" in one]
    with VideoQaResults(folder, plan.benchmark, preset) as results:
        score = score_answers(plan.benchmark, results, strict=True)
    found = {group: 100 * score.group(group, "strict") for group in ASKED}
    tasks = {
        task: 100 * values["overall"]
        for task, (_, values) in score.by_attribute().items()
        if task in GROUPS["backward"]
    }
    return {**found, "tokens": float(np.mean(read)) if read else 0.0, **tasks}


def chance(plan: QuestionRun) -> dict[str, float]:
    """Percent that guessing reaches."""
    found = {}
    for group in ASKED:
        tasks: dict[str, list[float]] = {}
        for query in plan.benchmark.queries:
            if query.group == group:
                tasks.setdefault(query.task, []).append(1 / len(query.question.options))
        found[group] = 100 * float(np.mean([np.mean(some) for some in tasks.values()]))
    return {**found, "tokens": 0.0}


def verdict(rows: dict[str, list[dict[str, float]]]) -> list[str]:
    """What is expected of ``default``, preset by preset."""
    means = {name: _means(values) for name, values in rows.items()}
    if "default" not in means:
        return []
    lines, own = [], means["default"]
    for name in ("fifo", "uniform", "recent-only", "similarity-only"):
        if name not in means:
            continue
        ahead = own["backward"] - means[name]["backward"]
        behind = means[name]["realtime"] - own["realtime"]
        met = "met" if ahead >= AHEAD and behind <= BEHIND else "not met"
        lines.append(
            f"default and {name}: backward {ahead:+.1f} (expected {AHEAD:+.0f} or more), real-time "
            f"{-behind:+.1f} (expected {-BEHIND:+.0f} or more): {met}"
        )
    return lines


def _means(values: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of what all seeds have."""
    names = [name for name in values[0] if all(name in one for one in values)]
    return {name: float(np.mean([one[name] for one in values])) for name in names}


def table(rows: dict[str, list[dict[str, float]]]) -> list[str]:
    """One line a preset; behind the groups, each backward task."""
    known = _means(next(iter(rows.values())))
    tasks = [name for name in GROUPS["backward"] if name in known]
    heads = "".join(f"{task:>7}" for task in tasks)
    lines = [f"{'preset':<16} {'backward':>15} {'real-time':>15} {'tokens':>8}{heads}"]
    for name, values in rows.items():
        spread = {group: float(np.std([one[group] for one in values])) for group in ASKED}
        mean = _means(values)
        cells = " ".join(f"{mean[group]:7.1f} +- {spread[group]:4.1f}" for group in ASKED)
        each = "".join(f"{mean[task]:7.1f}" for task in tasks if task in mean)
        lines.append(f"{name:<16} {cells} {mean['tokens']:8.0f}{each}")
    return lines


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="miniature", help="a folder or name [%(default)s]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--answers", choices=("words", "letters"), default="words")
    parser.add_argument("--budget", type=int, default=384, help="tokens [%(default)s]")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--seeds", type=int, default=3, help="how many [%(default)s]")
    parser.add_argument("--videos", type=int, default=12, help="of each seed [%(default)s]")
    parser.add_argument("--seconds", type=int, default=64, help="of each video [%(default)s]")
    parser.add_argument("--objects", type=int, default=3, help="at a time, at most [%(default)s]")
    parser.add_argument(
        "--scene-beats", type=int, default=6,
        help="beats of 4 s after which the background changes, on the average [%(default)s]",
    )  # fmt: skip
    parser.add_argument("--per-task", type=int, default=4, help="questions [%(default)s]")
    parser.add_argument("--root", type=Path, help="keeps streams and answers here")
    parser.add_argument("--out", type=Path, help="writes all numbers as JSON")
    args = parser.parse_args(words)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            rows = measure(args, args.root or Path(temporary))
    except VisionMemError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    said = [*table(rows), "", *verdict(rows)]
    print("\n".join(said))
    if args.out is not None:
        settings = {name: str(value) for name, value in vars(args).items()}
        args.out.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")
    return 0


def measure(args: argparse.Namespace, root: Path) -> dict[str, list[dict[str, float]]]:
    use_threads(args.threads)
    model: Any = load_video_model(args.model, device=args.device)
    model = model.model if isinstance(model, ByLikelihood) else model
    model = ByLikelihood(model) if args.answers == "words" else model
    if args.model.startswith("random:"):
        print("the weights are random: the numbers say nothing about any memory")
    print(
        f"{model.traits.model_id}; budget {args.budget} tokens; {args.seeds} seeds of "
        f"{args.videos} streams of {args.seconds} s; answers in {args.answers}"
    )
    presets = args.presets.split(",")
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in [*presets, "chance"]}
    for seed in range(args.seeds):
        streams = root / f"streams-{seed}"
        series = StreamSeries(
            videos=args.videos, seconds=args.seconds, objects=args.objects,
            scene_beats=args.scene_beats, per_task=args.per_task, seed=1 + _APART * (seed + 1),
        )  # fmt: skip
        prepare_streams(streams, series)
        there = {query.task for query in open_videoqa_benchmark("streams", streams).queries}
        tasks = [task for group in ASKED for task in GROUPS[group] if task in there]
        plan = plan_questions("streams", streams, tasks=",".join(tasks))
        rows["chance"].append(chance(plan))
        for name in presets:
            began = time.monotonic()
            answers = root / f"answers-{seed}" / name
            rows[name].append(run_preset(model, name, args.budget, plan, answers))
            print(f"seed {seed}, {name}: {time.monotonic() - began:.0f} s", flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
