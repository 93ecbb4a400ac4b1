"""Teach the miniature: a Qwen2.5-VL of 2 M parameters that answers questions about our streams.

    python scripts/train_miniature.py --out runs/miniature                        # from the start
    python scripts/train_miniature.py --out runs/miniature --minutes 90 --resume  # go on
    python scripts/train_miniature.py --out runs/miniature --export FOLDER        # write the model

First the vision tower alone, told what each token shows; then the language model, on tokens of a
pool of streams that the tower made once: short stretches with questions about now, then whole
streams through all memories, with questions about before too. Step n sees the same in every run
with the same seed, wherever it was interrupted; ctrl-C or SIGTERM saves first. What ``OUT`` gets
and more: docs/miniature.md.
"""

from __future__ import annotations

import argparse
import copy
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from miniature_checks import check, check_scenes, check_watches, draw_curve
from miniature_course import Course, Lessons, Plan
from miniature_seeing import see
from nano_checks import Table
from train_nano import keep_memory, words_of

from vision_mem.errors import InputError, VisionMemError
from vision_mem.interrupt import StopSignals
from vision_mem.models import use_threads
from vision_mem.models.miniature import miniature_network, miniature_tokenizer
from vision_mem.models.weights import choose_device

_JUDGED = 10_000  # number of the first stream for the last judgement; checks take the first ones
MOST_PARAMETERS, MOST_BYTES = 10_000_000, 20 * 1024 * 1024


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


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


# -- files -------------------------------------------------------------------------------------


def save(out: Path, course: Course, step: int, seconds: float) -> None:
    """Write the checkpoint, whole or not at all, and the model."""
    content = {
        "plan": asdict(course.plan), "step": step, "seconds": seconds,
        "network": course.pupil.network.state_dict(),
        "average": course.average.network.state_dict(),
        "readers": course.readers.state_dict(), "optimizer": course.optimizer.state_dict(),
    }  # fmt: skip
    partial = out / ".checkpoint.pt"
    torch.save(content, partial)
    partial.replace(out / "checkpoint.pt")
    export(course.average.network, out / "model")


def load(out: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors and plain values only."""
    path = out / "checkpoint.pt"
    if not path.is_file():
        raise InputError(f"no checkpoint in {out}; train first, or leave --resume out")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def restore(content: dict[str, Any], course: Course) -> tuple[int, float]:
    """Put a checkpoint back; returns its step and the seconds spent so far.

    Raises:
        InputError: when it was made by another plan.
    """
    plan = course.plan
    other = [f.name for f in fields(plan) if content["plan"].get(f.name) != getattr(plan, f.name)]
    if other:
        raise InputError(
            f"the checkpoint was made with other values of {', '.join(other)}; give the same, or "
            "another --out"
        )
    course.pupil.network.load_state_dict(content["network"])
    course.average.network.load_state_dict(content["average"])
    course.readers.load_state_dict(content["readers"])
    course.optimizer.load_state_dict(content["optimizer"])
    return int(content["step"]), float(content["seconds"])


# -- the run -----------------------------------------------------------------------------------


class Means:
    """Means of values that are not there at each step."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, parts: dict[str, float]) -> None:
        if math.isfinite(parts["loss"]):
            for name, value in parts.items():
                self._values.setdefault(name, []).append(value)

    def taken(self) -> dict[str, float]:
        """The means so far; then it starts anew."""
        found = {name: float(np.mean(values)) for name, values in self._values.items()}
        self._values = {}
        return found


def train(args: argparse.Namespace, plan: Plan, signals: StopSignals) -> int:
    """Train until the plan is done, the time is up or a signal came; returns the step reached."""
    device = choose_device(args.device)
    half = args.precision in ("auto", "bf16")
    use_threads(args.threads)
    keep_memory()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    course = Course(plan, out, device)
    start, seconds = restore(load(out), course) if args.resume else (0, 0.0)
    curve, checks = Table(out / "curve.csv", start), Table(out / "checks.csv", start)
    means = Means()
    scenes = check_scenes(args.check_clips)
    watches = check_watches(args.check_clips)

    def look(step: int) -> None:
        if not watches:
            return
        if step <= plan.seeing:
            with torch.no_grad():
                scores = see(course.judged, course.readers, scenes)[1]
        else:
            scores = check(course.judged, watches, course.checked)
        checks.add(step=step, **scores)
        print(f"step {step}: {words_of(scores)}", flush=True)

    def keep(step: int, seconds: float) -> None:
        save(out, course, step, seconds)
        draw_curve(out, curve, checks)

    began = kept = reported = time.monotonic()
    checked, step, told = start, start, start
    for step, lesson in enumerate(batches(args, plan, start), start + 1):
        if step == plan.seeing + 1:
            course.begin_second()
        means.add(course.learn(lesson, step - 1, half))
        course.average.update(step)
        now = time.monotonic()
        if step % args.report_every == 0:
            pace = (step - told) / (now - reported)
            row = means.taken()
            curve.add(step=step, seconds=seconds + now - began, steps_s=pace, **row)
            left = (plan.steps - step) / pace / 3600
            print(
                f"step {step}: {words_of(row)}; {pace:.2f} steps/s, {left:.1f} h left", flush=True
            )
            reported, told = now, step
        if args.check_every and step % args.check_every == 0:
            look(step)
            checked, reported, told = step, time.monotonic(), step
        if signals.received is not None or 0 < 60 * args.minutes < now - began:
            break
        if now - kept > 60 * args.save_minutes:
            keep(step, seconds + now - began)
            kept = time.monotonic()
    if checked < step and signals.received is None:
        look(step)
    keep(step, seconds + time.monotonic() - began)
    return step


def judge(args: argparse.Namespace, plan: Plan) -> dict[str, float]:
    """Scores of the average, as ``check`` gives them, on streams that no check has asked about."""
    use_threads(args.threads)
    content = load(args.out)
    course = Course(plan, args.out, choose_device(args.device))
    course.average.network.load_state_dict(content["average"])
    print(f"step {content['step']}, {args.judge} streams")
    return check(course.judged, check_watches(args.judge, _JUDGED), course.checked)


def batches(args: argparse.Namespace, plan: Plan, start: int) -> torch.utils.data.DataLoader:
    """Clips of the steps that are left, made by worker processes or in this one."""
    return torch.utils.data.DataLoader(
        Lessons(plan),
        batch_size=None,
        sampler=range(start, plan.steps),
        num_workers=args.workers,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if args.workers else None,
        collate_fn=_as_it_is,
    )


def _as_it_is(made: Any) -> Any:
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long; 0: never")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--report-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--check-every", type=int, default=400, metavar="STEPS")
    parser.add_argument("--check-clips", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, help="of the network on a CPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that make clips")
    parser.add_argument(
        "--judge",
        type=int,
        default=0,
        metavar="STREAMS",
        help="ask it about fresh streams, and stop",
    )
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write the model, and stop")
    for f in fields(Plan):
        flag = f"--{f.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(f.default), default=f.default, help="[%(default)s]")
    args = parser.parse_args(words)
    try:
        plan = Plan(**{f.name: getattr(args, f.name) for f in fields(Plan)})
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
