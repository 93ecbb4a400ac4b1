"""Train ``nano``: a network of SAM 2.1's shape, small enough to come with the package.

    python scripts/train_nano.py --out runs/nano                             # packaged pictures
    python scripts/train_nano.py --out runs/nano --minutes 90 --resume       # go on
    python scripts/train_nano.py --out runs/nano --export nano.safetensors   # write the weights
    python scripts/train_nano.py --out runs/nano --cutouts DIR --backgrounds DIR --videos DIR

First single frames, then clips of 4 with memory, at the end of 8. Step n sees the same clips in
every run with the same seed and pictures, wherever it was interrupted; ctrl-C or SIGTERM saves
first. What ``OUT`` gets and more: docs/nano.md.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning_run import Average, Table, half_cosine, keep_memory, one_thread, words_of
from nano_checks import check, check_set, draw_curve
from nano_clips import render_clip
from nano_learning import PROMPTS, Batch, clip_loss, collate, run_clip
from nano_pack import add_picture_flags, pictures_from
from nano_pictures import Pictures
from nano_pseudo import PseudoClips

from vision_mem.errors import InputError, VisionMemError
from vision_mem.interrupt import StopSignals
from vision_mem.models import use_threads
from vision_mem.models.nano_trunk import NanoTrunk
from vision_mem.models.sam2_config import build_network, read_config
from vision_mem.models.weights import choose_device, fit_weights, read_checkpoint

MOST_PARAMETERS, MOST_BYTES = 8_000_000, 16 * 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """What a run computes; a resumed run must have the same.

    Attributes:
        config: configuration of the network.
        init: weights to start from, or empty.
        steps: in all.
        box_share, image_share: of the steps, on single frames with exact boxes, which are learned
            soonest, and on single frames in all.
        long_share: of the steps, at the end, on clips of 8.
        frames: in a batch: so many images, a quarter as many clips of 4, an eighth of 8.
        objects: followed in each clip, at most.
        lr, trunk_lr: of AdamW; the trunk is frozen at 0.
        decay: of weights; warm_up: steps; clip_norm: of the gradient; average: decay of the EMA.
        pseudo_share: of the clips, where pseudo-labels are given.
        seed: of data and weights.
    """

    config: str = "nano"
    init: str = ""
    steps: int = 30_000
    box_share: float = 0.04
    image_share: float = 0.35
    long_share: float = 0.1
    frames: int = 16
    objects: int = 3
    lr: float = 8e-4
    trunk_lr: float = 0.0
    decay: float = 0.05
    warm_up: int = 300
    clip_norm: float = 1.0
    average: float = 0.998
    pseudo_share: float = 0.25
    seed: int = 0

    def length(self, step: int) -> int:
        """Frames in a clip at this step."""
        if step < self.steps * self.image_share:
            return 1
        return 8 if step >= self.steps * (1 - self.long_share) else 4

    def prompts(self, step: int) -> dict[str, float]:
        """Kinds of prompts at this step, and how often each is drawn."""
        if self.length(step) > 1:
            return PROMPTS["clip"]
        return PROMPTS["first" if step < self.steps * self.box_share else "image"]

    def rate(self, step: int) -> float:
        """Factor on the learning rates: up in a line, down in half a cosine to a hundredth."""
        return half_cosine(step, self.steps, self.warm_up)


class Stream(torch.utils.data.Dataset):
    """The batch of each step."""

    def __init__(self, plan: Plan, pictures: Path, pseudo: Path | None, side: int) -> None:
        self._plan, self._folder, self._side = plan, pictures, side
        self._pseudo = PseudoClips(pseudo) if pseudo else None
        self._pictures: Pictures | None = None  # opened by each worker for itself

    def __getitem__(self, step: int) -> Batch:
        if self._pictures is None:
            self._pictures = Pictures(self._folder, "train")
        plan, length, clips = self._plan, self._plan.length(step), []
        rng = np.random.default_rng((plan.seed, step))
        while len(clips) < max(1, plan.frames // length):
            if self._pseudo is not None and rng.random() < plan.pseudo_share:
                clip = self._pseudo.draw(rng, length, self._side)
            else:
                clip = render_clip(self._pictures, rng, length, self._side)
            if clip.targets:
                clips.append((clip.images, clip.ids, clip.targets))
        return collate(clips, rng, plan.prompts(step), plan.objects)


# -- the network -------------------------------------------------------------------------------


def make_network(plan: Plan) -> Any:
    """The untrained network, its trunk with ImageNet weights, or what ``plan.init`` holds."""
    torch.manual_seed(plan.seed)
    network = build_network(read_config(plan.config))
    trunk = network.image_encoder.trunk
    if isinstance(trunk, NanoTrunk):
        trunk.load_state_dict(NanoTrunk.load_packaged().state_dict())
    if plan.init:
        fit_weights(network, read_checkpoint(Path(plan.init)), plan.init, plan.config)
    network.requires_grad_(True)
    trunk.requires_grad_(plan.trunk_lr > 0)
    return network.train()


def make_optimizer(network: Any, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; no decay for biases, norms and embeddings."""
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, value in network.named_parameters():
        if value.requires_grad:
            plain = value.ndim < 2 or "embed" in name or "token" in name or name.startswith("no_")
            rate = plan.trunk_lr if ".trunk." in name else plan.lr
            groups.setdefault((rate, 0.0 if plain else plan.decay), []).append(value)
    made = [
        {"params": values, "lr": rate, "rate": rate, "weight_decay": decay}
        for (rate, decay), values in sorted(groups.items())
    ]
    return torch.optim.AdamW(made, lr=plan.lr, betas=(0.9, 0.98), fused=True)


def learn(
    network: Any, optimizer: torch.optim.Optimizer, batch: Batch, plan: Plan, step: int, half: bool
) -> dict[str, float]:
    """One step; returns the parts of the loss. A loss that is not finite changes nothing."""
    torch.manual_seed(plan.seed * 1_000_003 + step)  # nothing to save, nothing to restore
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * plan.rate(step)
    kind = batch.images.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=half):
        guesses = run_clip(network, batch, frozen_trunk=plan.trunk_lr == 0)
    loss, parts = clip_loss(guesses, batch.masks)
    if not torch.isfinite(loss):
        return {"loss": math.nan, **parts}
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    learned = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(learned, plan.clip_norm)
    if torch.isfinite(norm):
        optimizer.step()
    return {"loss": float(loss.detach()), **parts, "norm": float(norm)}


def export(network: Any, path: Path) -> None:
    """Write weights as fp16: ``.safetensors`` for us, ``.pt`` for the ``sam2`` package.

    Raises:
        InputError: when there are more parameters or bytes than a package may carry.
    """
    from safetensors.torch import save_file

    count = sum(p.numel() for p in network.parameters())
    state = {
        name: value.detach().cpu().half().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    size = sum(value.numel() * value.element_size() for value in state.values())
    if count > MOST_PARAMETERS or size > MOST_BYTES:
        raise InputError(f"{count:,} parameters in {size:,} bytes are too many for the package")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    if path.suffix == ".safetensors":
        save_file(state, partial)
    else:
        torch.save({"model": state}, partial)
    partial.chmod(0o644)  # safetensors writes for the owner alone
    partial.replace(path)


# -- files -------------------------------------------------------------------------------------


def save(out: Path, plan: Plan, step: int, seconds: float, network: Any, average: Average,
         optimizer: torch.optim.Optimizer) -> None:  # fmt: skip
    """Write the checkpoint, whole or not at all, and the weights."""
    content = {
        "plan": asdict(plan), "step": step, "seconds": seconds, "network": network.state_dict(),
        "average": average.network.state_dict(), "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    partial = out / ".checkpoint.pt"
    torch.save(content, partial)
    partial.replace(out / "checkpoint.pt")
    export(average.network, out / "nano.safetensors")


def load(out: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors and plain values only."""
    path = out / "checkpoint.pt"
    if not path.is_file():
        raise InputError(f"no checkpoint in {out}; train first, or leave --resume out")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


# -- the run -----------------------------------------------------------------------------------


def train(args: argparse.Namespace, plan: Plan, signals: StopSignals) -> int:
    """Train until the plan is done, the time is up or a signal came; returns the step reached."""
    device = choose_device(args.device)
    half = device.type == "cuda" if args.precision == "auto" else args.precision == "bf16"
    use_threads(args.threads)
    keep_memory()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    pictures = pictures_from(args)
    network = make_network(plan).to(device)
    optimizer = make_optimizer(network, plan)
    average = Average(network, plan.average)
    start, seconds = 0, 0.0
    if args.resume:
        start, seconds = restore(load(out), plan, network, average, optimizer)
    side = int(network.image_size)
    clips = check_set(pictures, args.check_clips, side)
    curve, checks = Table(out / "curve.csv", start), Table(out / "checks.csv", start)

    def look(step: int) -> None:
        if clips:
            scores = check(average.network, clips, device)
            checks.add(step=step, **scores)
            print(f"step {step}: {words_of(scores)}", flush=True)

    def keep(step: int, seconds: float) -> None:
        save(out, plan, step, seconds, network, average, optimizer)
        draw_curve(out, curve, checks)

    if start == 0:
        look(0)
    began = kept = reported = time.monotonic()
    checked, step, sums, count = start, start, {}, 0
    for step, batch in enumerate(batches(args, plan, pictures, start, side), start + 1):
        parts = learn(network, optimizer, batch.to(device), plan, step - 1, half)
        average.update(step)
        if math.isfinite(parts["loss"]):
            sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
            count += 1
        now = time.monotonic()
        if step % args.report_every == 0:
            pace = args.report_every / (now - reported)
            row = {name: value / max(count, 1) for name, value in sums.items()}
            curve.add(step=step, seconds=seconds + now - began, steps_s=pace, **row)
            left = (plan.steps - step) / pace / 3600
            print(
                f"step {step}: {words_of(row)}; {pace:.2f} steps/s, {left:.1f} h left", flush=True
            )
            sums, count, reported = {}, 0, now
        if args.check_every and step % args.check_every == 0:
            look(step)
            checked, reported = step, time.monotonic()
        if signals.received is not None or 0 < 60 * args.minutes < now - began:
            break
        if now - kept > 60 * args.save_minutes:
            keep(step, seconds + now - began)
            kept = time.monotonic()
    if checked < step and signals.received is None:
        look(step)
    keep(step, seconds + time.monotonic() - began)
    return step


def batches(
    args: argparse.Namespace, plan: Plan, pictures: Path, start: int, side: int
) -> torch.utils.data.DataLoader:
    """Batches of the steps that are left, made by worker processes or in this one."""
    return torch.utils.data.DataLoader(
        Stream(plan, pictures, args.pseudo, side),
        batch_size=None,
        sampler=range(start, plan.steps),
        num_workers=args.workers,
        worker_init_fn=one_thread,
        prefetch_factor=4 if args.workers else None,
    )


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
            "another --out (with --init to start from its weights)"
        )
    network.load_state_dict(content["network"])
    average.network.load_state_dict(content["average"])
    optimizer.load_state_dict(content["optimizer"])
    return int(content["step"]), float(content["seconds"])


def main(words: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    add_picture_flags(parser)
    parser.add_argument("--pseudo", type=Path, metavar="DIR", help="labelled clips, DAVIS layout")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long; 0: never")
    parser.add_argument("--save-minutes", type=float, default=10.0)
    parser.add_argument("--report-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--check-every", type=int, default=1000, metavar="STEPS")
    parser.add_argument("--check-clips", type=int, default=24)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, help="of the network on a CPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that make clips")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the weights, and stop")
    for f in fields(Plan):
        flag = f"--{f.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(f.default), default=f.default, help="[%(default)s]")
    args = parser.parse_args(words)
    plan = Plan(**{f.name: getattr(args, f.name) for f in fields(Plan)})
    try:
        if args.export is not None:
            content = load(args.out)
            network = build_network(read_config(content["plan"]["config"]))
            network.load_state_dict(content["average"])
            export(network, args.export)
            print(f"{args.export}: step {content['step']}, {args.export.stat().st_size:,} bytes")
            return 0
        with StopSignals() as signals:
            step = train(args, plan, signals)
    except VisionMemError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"step {step} of {plan.steps}; weights in {args.out / 'nano.safetensors'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
