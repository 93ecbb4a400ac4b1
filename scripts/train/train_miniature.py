"""Teach the miniature: a Qwen2.5-VL of 2 M parameters that answers questions about our streams.

    python scripts/train/train_miniature.py --out runs/miniature                   # from the start
    python scripts/train/train_miniature.py --out runs/miniature --minutes 90 --resume  # go on
    python scripts/train/train_miniature.py --out runs/miniature --export FOLDER   # write the model

First the vision tower alone, told what each token shows; then the language model, on tokens of a
pool of streams that the tower made once: short stretches with questions about now, then whole
streams through all memories, with questions about before too. Step n sees the same in every run
with the same seed, wherever it was interrupted; ctrl-C or SIGTERM saves first. What ``OUT`` gets
and more: docs/miniature.md.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from miniature_checks import check, check_scenes, check_watches, draw_curve
from miniature_course import Course, Lessons, Plan
from miniature_vision import see
from training_loop import (
    Learner,
    Table,
    add_plan_flags,
    add_run_flags,
    keep_memory,
    load,
    plan_from,
    run,
    words_of,
)

from vision_mem.errors import InputError, VisionMemError
from vision_mem.models import use_threads
from vision_mem.models.device import choose_device
from vision_mem.models.vlm.miniature import miniature_network, miniature_tokenizer
from vision_mem.runs.signals import StopSignals

_JUDGED = 10_000  # number of the first stream for the last judgement; checks take the first ones
MOST_PARAMETERS, MOST_BYTES = 10_000_000, 20 * 1024 * 1024


def export(network: Any, folder: Path) -> int:
    """Write the model as fp16, as ``load_video_model`` opens it; returns the bytes of the weights.

    Raises:
        InputError: when there are more parameters or bytes than a package may carry, or the
            folder holds other things.
    """
    from transformers.utils import logging as library_words

    known = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
             "tokenizer_config.json", "special_tokens_map.json"}  # fmt: skip
    if folder.is_file() or (folder.is_dir() and {p.name for p in folder.iterdir()} - known):
        raise InputError(f"{folder} holds other things than a model; give another folder")
    count = sum(p.numel() for p in network.parameters())
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    library_words.disable_progress_bar()  # it would write one for a file of 8 MB
    copy.deepcopy(network).half().save_pretrained(partial)
    miniature_tokenizer().save_pretrained(partial)
    size = sum(path.stat().st_size for path in partial.iterdir())
    if count > MOST_PARAMETERS or size > MOST_BYTES:
        shutil.rmtree(partial)
        raise InputError(f"{count:,} parameters in {size:,} bytes are too many for the package")
    for path in partial.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return size


def train(args: argparse.Namespace, plan: Plan, signals: StopSignals) -> int:
    """Train until the plan is done, the time is up or a signal came; returns the step reached."""
    device = choose_device(args.device)
    half = args.precision in ("auto", "bf16")
    use_threads(args.threads)
    keep_memory()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    course = Course(plan, out, device)
    learner = Learner(
        plan, course.pupil.network, course.average, course.optimizer, {"readers": course.readers}
    )
    start, seconds = learner.restore(load(out)) if args.resume else (0, 0.0)
    scenes = check_scenes(args.check_clips)
    watches = check_watches(args.check_clips)

    def learn(lesson: Any, step: int) -> dict[str, float]:
        if step == plan.seeing:
            course.begin_second()
        return course.learn(lesson, step, half)

    def look(step: int) -> dict[str, float]:
        if not watches or not step:
            return {}
        if step > plan.seeing:
            return check(course.judged, watches, course.checked)
        with torch.no_grad():
            return see(course.judged, course.readers, scenes)[1]

    def kept(curve: Table, checks: Table) -> None:
        export(course.average.network, out / "model")
        draw_curve(out, curve, checks)

    return run(args, signals, learner, Lessons(plan), learn, look, kept, start, seconds)


def judge(args: argparse.Namespace, plan: Plan) -> dict[str, float]:
    """Scores of the average, as ``check`` gives them, on streams that no check has asked about."""
    use_threads(args.threads)
    content = load(args.out)
    course = Course(plan, args.out, choose_device(args.device))
    course.average.network.load_state_dict(content["average"])
    print(f"step {content['step']}, {args.judge} streams")
    return check(course.judged, check_watches(args.judge, _JUDGED), course.checked)


def main(words: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_flags(parser, check_clips=16)
    parser.set_defaults(save_minutes=5.0, check_every=400)
    parser.add_argument(
        "--judge",
        type=int,
        default=0,
        metavar="STREAMS",
        help="ask it about fresh streams, and stop",
    )
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write the model, and stop")
    add_plan_flags(parser, Plan)
    args = parser.parse_args(words)
    try:
        plan = plan_from(args, Plan)
        if args.export is not None:
            content = load(args.out)
            network = miniature_network()
            network.load_state_dict(content["average"])
            size = export(network, args.export)
            print(f"{args.export}: step {content['step']}, {size:,} bytes")
            return 0
        if args.judge:
            print(words_of(judge(args, plan)))
            return 0
        with StopSignals() as signals:
            step = train(args, plan, signals)
    except VisionMemError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"step {step} of {plan.steps}; the model is in {args.out / 'model'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
