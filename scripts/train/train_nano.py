"""Train ``nano``: a network of SAM 2.1's shape, small enough to come with the package.

    python scripts/train/train_nano.py --out runs/nano                            # our own pictures
    python scripts/train/train_nano.py --out runs/nano --minutes 90 --resume       # go on
    python scripts/train/train_nano.py --out runs/nano --export nano.safetensors  # the weights
    python scripts/train/train_nano.py --out runs/nano --cutouts DIR --backgrounds DIR --videos DIR

First single frames, then clips of 4 with memory, at the end of 8. Step n sees the same clips in
every run with the same seed and pictures, wherever it was interrupted; ctrl-C or SIGTERM saves
first. What ``OUT`` gets and more: docs/nano.md.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nano_checks import check, check_set, draw_curve
from nano_clips import render_clip
from nano_lessons import PROMPTS, Batch, clip_loss, collate, run_clip
from nano_pack import add_picture_flags, pictures_from
from nano_pictures import Pictures
from nano_pseudo import PseudoClips
from training_loop import (
    Average,
    Learner,
    Table,
    add_plan_flags,
    add_run_flags,
    half_cosine,
    keep_memory,
    load,
    plan_from,
    run,
    use_half,
)

from vision_mem.errors import InputError, VisionMemError
from vision_mem.models import use_threads
from vision_mem.models.checkpoint import fit_weights, read_checkpoint
from vision_mem.models.device import choose_device
from vision_mem.models.segmenters.sam2.load import build_network, read_config
from vision_mem.models.segmenters.sam2.nano_trunk import NanoTrunk
from vision_mem.runs.signals import StopSignals

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


# -- the run -----------------------------------------------------------------------------------


def train(args: argparse.Namespace, plan: Plan, signals: StopSignals) -> int:
    """Train until the plan is done, the time is up or a signal came; returns the step reached."""
    device = choose_device(args.device)
    half = use_half(args, device)
    use_threads(args.threads)
    keep_memory()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    pictures = pictures_from(args)
    network = make_network(plan).to(device)
    optimizer = make_optimizer(network, plan)
    learner = Learner(plan, network, Average(network, plan.average), optimizer)
    start, seconds = learner.restore(load(out)) if args.resume else (0, 0.0)
    side = int(network.image_size)
    clips = check_set(pictures, args.check_clips, side)
    average = learner.average.network

    def kept(curve: Table, checks: Table) -> None:
        export(average, out / "nano.safetensors")
        draw_curve(out, curve, checks)

    return run(
        args, signals, learner, Stream(plan, pictures, args.pseudo, side),
        lambda batch, n: learn(network, optimizer, batch.to(device), plan, n, half),
        lambda step: check(average, clips, device) if clips else {}, kept, start, seconds,
    )  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_flags(parser, check_clips=24)
    add_picture_flags(parser)
    parser.add_argument("--pseudo", type=Path, metavar="DIR", help="labelled clips, DAVIS layout")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the weights, and stop")
    add_plan_flags(parser, Plan)
    args = parser.parse_args(words)
    plan = plan_from(args, Plan)
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
