"""Teach the miniature: a Qwen2.5-VL of 4 M parameters that answers questions about our streams.

    python scripts/train_miniature.py --out runs/miniature                        # from the start
    python scripts/train_miniature.py --out runs/miniature --minutes 90 --resume  # go on
    python scripts/train_miniature.py --out runs/miniature --export FOLDER        # write the model

First clips of two frames, then short clips, both with questions about now; then streams through
the default memory, with all questions. Step n sees the same clips in every run with the same seed,
wherever it was interrupted; ctrl-C or SIGTERM saves first. What ``OUT`` gets and more:
docs/miniature.md.
"""

from __future__ import annotations

import argparse
import copy
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from miniature_checks import check, check_set, draw_curve
from miniature_learning import Pupil, lesson
from miniature_questions import REALTIME, TRAIN_SEEDS, Clip, Wanted, make_clip
from nano_checks import Table
from nano_learning import Average
from train_nano import keep_memory, words_of

from vision_mem.errors import InputError, VisionMemError
from vision_mem.interrupt import StopSignals
from vision_mem.models import use_threads
from vision_mem.models.miniature import miniature_network, miniature_tokenizer
from vision_mem.models.weights import choose_device

MOST_PARAMETERS, MOST_BYTES = 10_000_000, 20 * 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """What a run computes; a resumed run must have the same.

    Attributes:
        steps: in all.
        first_share, present_share: of the steps, on clips of two frames, and on short clips in
            all; the others are on remembered streams.
        clips: short ones a step.
        streams: remembered ones a step; present ones are mixed in, half as many.
        seconds: of a remembered stream, at most.
        asked: questions at a moment, at most.
        letters: share of the choices that are asked for a letter.
        tasks: of the questions about short clips, with commas; empty for all that are about now.
        practice: questions at a moment that need no looking; picking letters is learned from them.
        taught: grids of a remembered stream through which the vision tower learns.
        align: weight of the words for what tokens show.
        lr: of AdamW; decay: of weights; warm_up: steps; clip_norm: of the gradient; average:
            decay of the EMA.
        seed: of data and weights.
    """

    steps: int = 24_000
    first_share: float = 0.3
    present_share: float = 0.6
    clips: int = 8
    streams: int = 2
    seconds: int = 64
    asked: int = 8
    letters: float = 0.6
    tasks: str = ""
    practice: int = 2
    taught: int = 12
    align: float = 0.5
    lr: float = 1e-3
    decay: float = 0.05
    warm_up: int = 200
    clip_norm: float = 1.0
    average: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = set(filter(None, self.tasks.split(","))) - set(REALTIME)
        if unknown:
            raise InputError(
                f"tasks has {sorted(unknown)[0]!r}; expected some of {', '.join(REALTIME)}"
            )

    def wanted(self, step: int) -> list[Wanted]:
        """Kinds of clips at this step, one an entry."""
        tasks = tuple(self.tasks.split(",")) if self.tasks else REALTIME
        short = Wanted(asked=self.asked, letters=self.letters, tasks=tasks, practice=self.practice)
        if step < self.steps * self.first_share:
            return [replace(short, frames=2)] * self.clips
        if step < self.steps * self.present_share:
            return [short] * self.clips
        long = replace(short, remembered=True, seconds=self.seconds, taught=self.taught)
        return [long] * self.streams + [short] * ((self.streams + 1) // 2)

    def rate(self, step: int) -> float:
        """Factor on the learning rate: up in a line, down in half a cosine to a hundredth."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class Lessons(torch.utils.data.Dataset):
    """The clips of each step."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __getitem__(self, step: int) -> list[Clip]:
        rng = np.random.default_rng((self._plan.seed, step))
        return [
            make_clip(int(rng.integers(TRAIN_SEEDS, 2**31)), rng, wanted)
            for wanted in self._plan.wanted(step)
        ]


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


# -- the network -------------------------------------------------------------------------------


def make_optimizer(network: Any, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; no decay for biases, norms and tables of words."""
    groups: dict[bool, list[Any]] = {True: [], False: []}
    for name, value in network.named_parameters():
        groups[value.ndim >= 2 and "embed_tokens" not in name].append(value)
    made = [
        {"params": groups[True], "weight_decay": plan.decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(made, lr=plan.lr, betas=(0.9, 0.98), fused=True)


def learn(
    pupil: Pupil,
    optimizer: torch.optim.Optimizer,
    clips: list[Clip],
    plan: Plan,
    step: int,
    half: bool,
) -> dict[str, float]:
    """One step; returns the parts of the loss. A loss that is not finite changes nothing."""
    for group in optimizer.param_groups:
        group["lr"] = plan.lr * plan.rate(step)
    with torch.autocast(pupil.device.type, torch.bfloat16, enabled=half):
        loss, parts = lesson(pupil, clips, plan.align)
    if not torch.isfinite(loss):
        return {"loss": math.nan, **parts}
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(pupil.network.parameters(), plan.clip_norm)
    if torch.isfinite(norm):
        optimizer.step()
    return {"loss": float(loss.detach()), **parts, "norm": float(norm)}


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


def save(out: Path, plan: Plan, step: int, seconds: float, pupil: Pupil, average: Average,
         optimizer: torch.optim.Optimizer) -> None:  # fmt: skip
    """Write the checkpoint, whole or not at all, and the model."""
    content = {
        "plan": asdict(plan), "step": step, "seconds": seconds,
        "network": pupil.network.state_dict(), "average": average.network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    partial = out / ".checkpoint.pt"
    torch.save(content, partial)
    partial.replace(out / "checkpoint.pt")
    export(average.network, out / "model")


def load(out: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors and plain values only."""
    path = out / "checkpoint.pt"
    if not path.is_file():
        raise InputError(f"no checkpoint in {out}; train first, or leave --resume out")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def restore(
    content: dict[str, Any],
    plan: Plan,
    network: Any,
    average: Average,
    optimizer: torch.optim.Optimizer,
) -> tuple[int, float]:
    """Put a checkpoint back; returns its step and the seconds spent so far.

    Raises:
        InputError: when it was made by another plan.
    """
    other = [f.name for f in fields(plan) if content["plan"].get(f.name) != getattr(plan, f.name)]
    if other:
        raise InputError(
            f"the checkpoint was made with other values of {', '.join(other)}; give the same, or "
            "another --out"
        )
    network.load_state_dict(content["network"])
    average.network.load_state_dict(content["average"])
    optimizer.load_state_dict(content["optimizer"])
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
    half = device.type == "cuda" if args.precision == "auto" else args.precision == "bf16"
    use_threads(args.threads)
    keep_memory()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    pupil = Pupil(miniature_network(plan.seed).to(device))
    optimizer = make_optimizer(pupil.network, plan)
    average = Average(pupil.network, plan.average)
    judged = Pupil(average.network)
    judged.network.requires_grad_(False)
    start, seconds = 0, 0.0
    if args.resume:
        start, seconds = restore(load(out), plan, pupil.network, average, optimizer)
    clips = check_set(args.check_clips, remembered=plan.present_share < 1)
    curve, checks, means = (
        Table(out / "curve.csv", start),
        Table(out / "checks.csv", start),
        Means(),
    )

    def look(step: int) -> None:
        if clips:
            scores = check(judged, clips)
            checks.add(step=step, **scores)
            print(f"step {step}: {words_of(scores)}", flush=True)

    def keep(step: int, seconds: float) -> None:
        save(out, plan, step, seconds, pupil, average, optimizer)
        draw_curve(out, curve, checks)

    if start == 0:
        look(0)
    began = kept = reported = time.monotonic()
    checked, step, told = start, start, start
    for step, lessons in enumerate(batches(args, plan, start), start + 1):
        means.add(learn(pupil, optimizer, lessons, plan, step - 1, half))
        average.update(step)
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
    parser.add_argument("--save-minutes", type=float, default=10.0)
    parser.add_argument("--report-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--check-every", type=int, default=1000, metavar="STEPS")
    parser.add_argument("--check-clips", type=int, default=40)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, help="of the network on a CPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that make clips")
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
        with StopSignals() as signals:
            step = train(args, plan, signals)
    except VisionMemError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"step {step} of {plan.steps}; the model is in {args.out / 'model'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
