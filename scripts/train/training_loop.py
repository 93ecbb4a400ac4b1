"""The run that all training scripts share: flags, checkpoints, tables, the loop over steps.

A run is a plan (what is computed) and a folder. Step n computes the same in every run with the
same plan, wherever it was interrupted: chance follows from seed and step alone.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import ctypes
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from vision_mem.errors import InputError
from vision_mem.runs.signals import StopSignals


def keep_memory() -> None:
    """Tell glibc to keep freed memory: getting it anew at each step took half of a CPU's time."""
    with contextlib.suppress(OSError, AttributeError):  # other C libraries
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(-4, 0)  # M_MMAP_MAX
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def one_thread(_: int) -> None:
    """For worker processes."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def words_of(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def half_cosine(step: int, steps: int, warm_up: int) -> float:
    """Factor on learning rates: up in a line, down in half a cosine to a hundredth."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(steps - warm_up, 1)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


# -- what a run learns and is judged by --------------------------------------------------------


class Average:
    """A network whose weights are the moving average of another's.

    Args:
        network: followed from its present weights on.
        decay: share kept at each step; less at the beginning, so that it forgets the start.
    """

    def __init__(self, network: Any, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._pairs = [
            (own, other)
            for own, other in zip(self.network.parameters(), network.parameters(), strict=True)
            if other.requires_grad
        ]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the followed network; ``step`` counts from 1."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        mine, theirs = zip(*self._pairs, strict=True)
        torch._foreach_lerp_(mine, theirs, share)


class Table:
    """Rows of a CSV file; rows from ``start`` on are dropped, as a resumed run makes them anew."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []
        if start > 0 and path.is_file():
            with path.open(newline="") as stream:
                self.rows = [row for row in csv.DictReader(stream) if int(row["step"]) <= start]
        self._write()

    def add(self, **row: float) -> None:
        self.rows.append(
            {k: f"{v:.5g}" if isinstance(v, float) else str(v) for k, v in row.items()}
        )
        self._write()

    def _write(self) -> None:
        if self.rows:
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            partial = self.path.with_name(f".{self.path.name}")
            with partial.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, names, restval="")
                writer.writeheader()
                writer.writerows(self.rows)
            partial.replace(self.path)


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


# -- files -------------------------------------------------------------------------------------


@dataclass
class Learner:
    """What changes in a run.

    Attributes:
        plan: what is computed.
        network: that learns.
        average: of its weights.
        optimizer: of them.
        more: what else learns, by name in the checkpoint.
    """

    plan: Any
    network: Any
    average: Average
    optimizer: torch.optim.Optimizer
    more: dict[str, torch.nn.Module] = field(default_factory=dict)

    def save(self, out: Path, step: int, seconds: float) -> None:
        """Write the checkpoint, whole or not at all."""
        content = {
            "plan": asdict(self.plan), "step": step, "seconds": seconds,
            "network": self.network.state_dict(), "average": self.average.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: module.state_dict() for name, module in self.more.items()},
        }  # fmt: skip
        partial = out / ".checkpoint.pt"
        torch.save(content, partial)
        partial.replace(out / "checkpoint.pt")

    def restore(self, content: dict[str, Any]) -> tuple[int, float]:
        """Put a checkpoint back; returns its step and the seconds spent so far.

        Raises:
            InputError: when it was made by another plan.
        """
        told, plan = content["plan"], self.plan
        other = [
            f.name for f in fields(plan) if told.get(f.name, f.default) != getattr(plan, f.name)
        ]
        if other:
            raise InputError(
                f"the checkpoint was made with other values of {', '.join(other)}; give the same, "
                "or another --out"
            )
        self.network.load_state_dict(content["network"])
        self.average.network.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        for name, module in self.more.items():
            module.load_state_dict(content[name])
        return int(content["step"]), float(content["seconds"])


def load(out: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors and plain values only."""
    path = out / "checkpoint.pt"
    if not path.is_file():
        raise InputError(f"no checkpoint in {out}; train first, or leave --resume out")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


# -- flags -------------------------------------------------------------------------------------


def add_run_flags(parser: argparse.ArgumentParser, check_clips: int) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long; 0: never")
    parser.add_argument("--save-minutes", type=float, default=10.0)
    parser.add_argument("--report-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--check-every", type=int, default=1000, metavar="STEPS")
    parser.add_argument("--check-clips", type=int, default=check_clips)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, help="of the network on a CPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that make clips")


def add_plan_flags(parser: argparse.ArgumentParser, plan: type[Any]) -> None:
    for f in fields(plan):
        flag = f"--{f.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(f.default), default=f.default, help="[%(default)s]")


def plan_from(args: argparse.Namespace, plan: type[Any]) -> Any:
    return plan(**{f.name: getattr(args, f.name) for f in fields(plan)})


def use_half(args: argparse.Namespace, device: torch.device) -> bool:
    """Whether to compute in bfloat16 where that is safe."""
    return device.type == "cuda" if args.precision == "auto" else bool(args.precision == "bf16")


def batches(dataset: Any, args: argparse.Namespace, start: int, steps: int) -> Iterable[Any]:
    """What each of the steps that are left learns from, made by workers or in this process."""
    return torch.utils.data.DataLoader(
        dataset,
        batch_size=None,
        sampler=range(start, steps),
        num_workers=args.workers,
        worker_init_fn=one_thread,
        prefetch_factor=4 if args.workers else None,
        collate_fn=_as_it_is,
    )


def _as_it_is(made: Any) -> Any:
    return made


# -- the loop ----------------------------------------------------------------------------------


def run(
    args: argparse.Namespace,
    signals: StopSignals,
    learner: Learner,
    dataset: Any,
    learn: Callable[[Any, int], dict[str, float]],
    look: Callable[[int], dict[str, float]],
    kept: Callable[[Table, Table], None],
    start: int = 0,
    seconds: float = 0.0,
    enough: Callable[[int], bool] = lambda step: False,
) -> int:
    """Train until the plan is done, the time is up, a signal came, or it is ``enough``.

    Args:
        args: of ``add_run_flags``.
        signals: that end the run.
        learner: what changes.
        dataset: the batch of each step.
        learn: does step n (from 0) with its batch; returns parts of the loss, ``loss`` among them.
        look: scores of the average so far; empty for none.
        kept: called with both tables after each checkpoint: draws, exports.
        start: steps done already.
        seconds: spent on them.
        enough: asked after each step, with the steps done.

    Returns:
        The step reached.
    """
    out: Path = args.out
    steps = learner.plan.steps
    curve, checks = Table(out / "curve.csv", start), Table(out / "checks.csv", start)
    means = Means()

    def judge(step: int) -> None:
        scores = look(step)
        if scores:
            checks.add(step=step, **scores)
            print(f"step {step}: {words_of(scores)}", flush=True)

    def keep(step: int, spent: float) -> None:
        learner.save(out, step, spent)
        kept(curve, checks)

    if start == 0:
        judge(0)
    began = saved = reported = time.monotonic()
    checked = step = told = start
    for step, batch in enumerate(batches(dataset, args, start, steps), start + 1):
        means.add(learn(batch, step - 1))
        learner.average.update(step)
        now = time.monotonic()
        if step % args.report_every == 0:
            pace = (step - told) / (now - reported)
            row = means.taken()
            curve.add(step=step, seconds=seconds + now - began, steps_s=pace, **row)
            left = (steps - step) / pace / 3600
            print(
                f"step {step}: {words_of(row)}; {pace:.2f} steps/s, {left:.1f} h left", flush=True
            )
            reported, told = now, step
        last = enough(step)
        if last or (args.check_every and step % args.check_every == 0):
            judge(step)
            checked, reported, told = step, time.monotonic(), step
        if last or signals.received is not None or 0 < 60 * args.minutes < now - began:
            break
        if now - saved > 60 * args.save_minutes:
            keep(step, seconds + now - began)
            saved = time.monotonic()
    if checked < step and signals.received is None:
        judge(step)
    keep(step, seconds + time.monotonic() - began)
    return step
