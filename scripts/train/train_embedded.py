"""Train the embedded segmenter's mask decoder on generated clips.

    python scripts/train/train_embedded.py --out runs/embedded --pictures runs/nano/pictures.zip
    python scripts/train/train_embedded.py --out runs/embedded ... --resume --minutes 60

The trunk stays frozen. Pictures come as for ``train_nano.py``; those that
``vision_mem.synthetic.clips`` makes its clips of are left out, so that these can judge what
was learned (``bench/sweep.py``).
``OUT`` gets ``checkpoint.pt``, ``curve.csv``, ``checks.csv`` and ``mask_decoder.safetensors``.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from embedded_lessons import Follower, Windows, draw_windows, loss_of
from nano_pack import add_picture_flags, pictures_from
from nano_pictures import PACKAGED, Pictures
from safetensors.torch import save
from training_loop import (
    Average,
    Learner,
    Means,
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
from vision_mem.formats.text import write_file
from vision_mem.models import use_threads
from vision_mem.models.checkpoint import fit_weights, read_checkpoint
from vision_mem.models.device import choose_device
from vision_mem.models.efficientnet import EfficientNetLite0
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.mask_decoder import MaskDecoder
from vision_mem.runs.signals import StopSignals


@dataclass(frozen=True)
class Plan:
    """What a run computes; a resumed run must have the same.

    Attributes:
        steps: in all.
        objects: in a batch, each in a clip of its own.
        later: frames after the first.
        side: of the rendered frames.
        init: weights to start from, or empty.
        lr, mix_lr: of AdamW, and for what makes tokens comparable.
        decay: of weights; warm_up: steps; clip_norm: of the gradient; average: decay of the EMA.
        seed: of data and weights.
    """

    steps: int = 3000
    init: str = ""
    objects: int = 6
    later: int = 4
    side: int = 384
    lr: float = 2e-3
    mix_lr: float = 3e-4
    decay: float = 0.01
    warm_up: int = 50
    clip_norm: float = 1.0
    average: float = 0.995
    seed: int = 0


class Stream(torch.utils.data.Dataset):
    """The batch of each step."""

    def __init__(self, plan: Plan, pictures: Path, split: str = "train") -> None:
        self._plan, self._folder, self._split = plan, pictures, split
        self._pictures: Pictures | None = None  # opened by each worker for itself

    def __getitem__(self, step: int) -> Windows:
        if self._pictures is None:
            self._pictures = Pictures(self._folder, self._split, PACKAGED)
        plan = self._plan
        rng = np.random.default_rng((plan.seed, step))
        return draw_windows(
            self._pictures, rng, plan.objects, plan.later, plan.side, EmbeddedConfig()
        )


def make_optimizer(decoder: MaskDecoder, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; the comparison of tokens starts from none at all, and moves slowly."""
    rest = [value for name, value in decoder.named_parameters() if name != "mix"]
    groups = [
        {"params": rest, "rate": plan.lr, "weight_decay": plan.decay},
        {"params": [decoder.mix], "rate": plan.mix_lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, plan.lr)


def export(decoder: MaskDecoder, path: Path) -> None:
    """Write the weights as fp16."""
    state = decoder.state_dict()
    write_file(path, save({k: v.detach().cpu().half().contiguous() for k, v in state.items()}))


def train(args: argparse.Namespace, plan: Plan, signals: StopSignals) -> int:
    """Train until the plan is done, the time is up or a signal came; returns the step reached."""
    device = choose_device(args.device)
    half = use_half(args, device)
    use_threads(args.threads)
    keep_memory()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    pictures = pictures_from(args)
    left = Pictures(pictures, "train", PACKAGED)
    if not left.cutouts or not left.photographs:
        raise InputError(
            "nothing to learn from but the pictures that the judging clips are made of; expected "
            "--pictures FILE.zip, or --cutouts DIR and --backgrounds DIR or --videos DIR"
        )
    torch.manual_seed(plan.seed)
    decoder = MaskDecoder().to(device, memory_format=torch.channels_last)
    trunk = EfficientNetLite0.load_packaged().to(device, torch.bfloat16)
    config = EmbeddedConfig()
    if plan.init:
        fit_weights(decoder, read_checkpoint(Path(plan.init)), plan.init, "mask decoder")
    optimizer = make_optimizer(decoder, plan)
    learner = Learner(plan, decoder, Average(decoder, plan.average), optimizer)
    start, seconds = learner.restore(load(out)) if args.resume else (0, 0.0)
    follow = Follower(trunk, decoder, config)
    judged = Follower(trunk, learner.average.network, config)
    checks = Stream(plan, pictures, "check")
    count = -(-args.check_clips // plan.objects)
    held_out = [checks[1_000_000_000 + n].to(device) for n in range(count)]

    def learn(batch: Windows, step: int) -> dict[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * half_cosine(step, plan.steps, plan.warm_up)
        batch = batch.to(device)
        loss, parts = loss_of(follow(batch, half), batch)
        if not torch.isfinite(loss):
            return {"loss": math.nan}
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(decoder.parameters(), plan.clip_norm)
        if torch.isfinite(norm):
            optimizer.step()
        return {**parts, "norm": float(norm)}

    @torch.no_grad()
    def look(step: int) -> dict[str, float]:
        means = Means()
        for batch in held_out:
            means.add(loss_of(judged(batch, half), batch)[1])
        return means.taken()

    def kept(curve: Table, scores: Table) -> None:
        export(learner.average.network, out / "mask_decoder.safetensors")

    return run(args, signals, learner, Stream(plan, pictures), learn, look, kept, start, seconds)


def main(argv: list[str] | None = None) -> int:
    """Parse flags and train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_run_flags(parser, check_clips=60)
    add_picture_flags(parser)
    add_plan_flags(parser, Plan)
    args = parser.parse_args(argv)
    plan = plan_from(args, Plan)
    try:
        with StopSignals() as signals:
            step = train(args, plan, signals)
    except VisionMemError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"step {step} of {plan.steps}; weights in {args.out / 'mask_decoder.safetensors'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
