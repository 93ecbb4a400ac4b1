"""Train the learned reconstruction on generated clips.

    python scripts/train/train_reconstruction.py --out runs/mem4d                          # nano-48
    python scripts/train/train_reconstruction.py --out runs/mem4d --minutes 90 --resume    # go on
    python scripts/train/train_reconstruction.py --out runs/mem4d --export mem4d.safetensors
    python scripts/train/train_reconstruction.py --out runs/big --config nano-64 --batch 32
    python scripts/train/train_reconstruction.py --out runs/rows --variant all   # for the ablation

Stage A: short clips of scenes in which nothing moves. Then the gate: unless the position error on
held-out clips is below half of that of a camera that never moves, training stops. Stage B: things
move. Stage C: long clips, memories of drawn sizes. Step n learns from the same clips in every run
with the same plan, wherever it was interrupted; ctrl-C or SIGTERM saves first. More: docs/mem4d.md.

``--variant all`` trains one set of weights under all memories of ``reconstruction_variants`` in
turn and writes OUT/shared.safetensors; ``--init FILE`` starts from such weights or from any others.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reconstruction_clips import SHARD, Shelf, varied
from reconstruction_lessons import KINDS, Lesson, check, draw_lesson, lesson_loss, stage_at
from reconstruction_variants import ALL, AllRows, varied_config
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
from vision_mem.models.checkpoint import read_checkpoint
from vision_mem.models.device import choose_device
from vision_mem.models.mem4d.config import Mem4DConfig, config_to_text, named_config
from vision_mem.models.mem4d.load import SETTINGS
from vision_mem.models.mem4d.network import Mem4DNetwork
from vision_mem.runs.signals import StopSignals

MOST_BYTES = 14 * 1000 * 1000
_GOLDEN = (math.sqrt(5) - 1) / 2
GATE = 0.5
"""Position error, as a share of that of a camera that never moves, from which on it goes on."""


@dataclass(frozen=True)
class Plan:
    """What a run computes; a resumed run must have the same.

    Attributes:
        config: size of the model.
        variant: what is different about it, see ``reconstruction_variants``; ``all``: each in turn.
        init: weights to start from; what they lack begins at random.
        steps_a, steps_b, steps_c: of the stages.
        clips_a, clips_b, clips_c: different clips of the stages.
        batch: clips a step; half as many in stage C.
        lr: of AdamW; decay: of weights; warm_up: steps; clip_norm: of the gradient; average:
            decay of the EMA.
        seed: of data and weights.
    """

    config: str = "nano-48"
    variant: str = "dual"
    init: str = ""
    steps_a: int = 4_000
    steps_b: int = 12_000
    steps_c: int = 4_000
    clips_a: int = 8_192
    clips_b: int = 4_096
    clips_c: int = 2_048
    batch: int = 8
    lr: float = 6e-4
    decay: float = 0.05
    warm_up: int = 500
    clip_norm: float = 1.0
    average: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        self.network_config()

    def network_config(self) -> Mem4DConfig:
        """What is trained; of ``all``, what is exported."""
        variant = "dual" if self.variant == ALL else self.variant
        return varied_config(named_config(self.config), variant)

    @property
    def parts(self) -> tuple[int, int, int]:
        """Steps of the stages."""
        return self.steps_a, self.steps_b, self.steps_c

    @property
    def steps(self) -> int:
        """In all."""
        return sum(self.parts)


def plan_of(content: dict[str, Any]) -> Plan:
    """The plan that a checkpoint was made with."""
    return Plan(**{f.name: content["plan"].get(f.name, f.default) for f in fields(Plan)})


class Lessons(torch.utils.data.Dataset):
    """The clips of each step.

    Seeds begin at different places. Clips are taken in a new order each time that all of them were
    seen; from the second time on they are varied.
    """

    def __init__(self, plan: Plan, cache: Path, side: int) -> None:
        self._plan, self._side = plan, side
        counts = {"A": plan.clips_a, "B": plan.clips_b, "C": plan.clips_c}
        self._shelves = {
            name: Shelf(cache, make(side), counts[name], "train") for name, make in KINDS.items()
        }

    def __getitem__(self, step: int) -> Lesson:
        plan = self._plan
        stage = stage_at(step, plan.parts, self._side)
        shelf = self._shelves[stage.name]
        batch = max(1, plan.batch // 2) if stage.name == "C" else plan.batch
        begin = {"A": 0, "B": plan.steps_a, "C": plan.steps_a + plan.steps_b}[stage.name]
        rng = np.random.default_rng((plan.seed, step))
        which, seen = [], (step - begin) * batch
        # The golden ratio spreads the first clips of any number of seeds; by whole shards.
        offset = int(plan.seed * _GOLDEN % 1 * shelf.count / SHARD) * SHARD
        for n in range(seen, seen + batch):
            turn = n // shelf.count
            # The first time in the order in which they are kept, so that few shards are opened.
            place = (n + offset) % shelf.count
            if turn:
                order = np.random.default_rng((plan.seed, turn, 5)).permutation(shelf.count)
                place = int(order[n % shelf.count])
            which.append(place)
        clips = shelf.take(which)
        if seen >= shelf.count:
            clips = varied(clips, rng)
        first = int(rng.integers(shelf.kind.frames - stage.frames + 1))
        clips = clips.of(slice(None), slice(first, first + stage.frames))
        return draw_lesson(clips, stage, rng)


def make_network(plan: Plan) -> Any:
    """Untrained, or with what ``plan.init`` holds.

    Raises:
        ModelError: for a file that is missing or damaged.
        InputError: for weights of another model.
    """
    torch.manual_seed(plan.seed)
    config = plan.network_config()
    network = AllRows(config) if plan.variant == ALL else Mem4DNetwork(config)
    if plan.init:
        start_from(weights_of(network), read_checkpoint(Path(plan.init)), plan.init)
    return network


def weights_of(network: Any) -> dict[str, torch.Tensor]:
    """Weights by name, as ``--init`` takes them."""
    return network.tensors() if isinstance(network, AllRows) else dict(network.state_dict())


@torch.no_grad()
def start_from(own: dict[str, torch.Tensor], given: dict[str, torch.Tensor], where: str) -> None:
    """Copy weights by name into ``own``; says what begins at random, for memories differ.

    Raises:
        InputError: when shapes differ, or less than half of the names are known.
    """
    known = own.keys() & given.keys()
    other = sorted(name for name in known if own[name].shape != given[name].shape)
    if other or 2 * len(known) < min(len(own), len(given)):
        why = f"{other[0]} has another shape" if other else f"{len(known)} of {len(own)} names fit"
        raise InputError(f"{where} holds weights of another model: {why}; expected those that this "
                         "script wrote with the same --config")  # fmt: skip
    for name in known:
        own[name].copy_(given[name])
    fresh = sorted(own.keys() - known)
    if fresh:
        parts = ", ".join(sorted({".".join(name.split(".")[:2]) for name in fresh}))
        print(f"{where}: {len(known)} tensors; {len(fresh)} begin at random ({parts})", flush=True)


def make_optimizer(network: Any, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; no decay for biases, norms and single tokens."""
    groups: dict[bool, list[Any]] = {True: [], False: []}
    for value in network.parameters():
        groups[value.ndim >= 2 and value.shape[0] > 1].append(value)
    made = [
        {"params": groups[True], "weight_decay": plan.decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(made, lr=plan.lr, betas=(0.9, 0.95), fused=True)


def learn(learner: Learner, lesson: Lesson, step: int, half: bool) -> dict[str, float]:
    """One step; returns the parts of the loss. A step that is not finite changes nothing."""
    plan, network, optimizer = learner.plan, learner.network, learner.optimizer
    seen = network.row(plan.seed, step) if isinstance(network, AllRows) else network
    torch.manual_seed(plan.seed * 1_000_003 + step)  # nothing to save, nothing to restore
    for group in optimizer.param_groups:
        group["lr"] = plan.lr * half_cosine(step, plan.steps, plan.warm_up)
    with torch.autocast(network.device.type, torch.bfloat16, enabled=half):
        loss, parts = lesson_loss(seen, lesson)
    if not torch.isfinite(loss):
        return {"loss": math.nan, **parts}
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm)
    if torch.isfinite(norm):
        optimizer.step()
    return {"loss": float(loss.detach()), **parts, "norm": float(norm)}


def export(network: Any, plan: Plan, path: Path) -> int:
    """Write weights as fp16 with their settings, as ``load_mem4d`` opens them; returns the bytes.

    Of all rows that is ``dual``; all weights lie beside it.

    Raises:
        InputError: when there are more bytes than a package may carry.
    """
    from safetensors.torch import save_file

    if isinstance(network, AllRows):
        whole = path.with_name("shared.safetensors")
        partial = whole.with_name(f".{whole.name}")
        told = {k: v.detach().cpu().contiguous().clone() for k, v in weights_of(network).items()}
        save_file(told, partial)
        partial.replace(whole)
        network = network.dual
    state = {
        name: value.detach().cpu().half().contiguous().clone()
        for name, value in network.state_dict().items()
    }
    size = sum(value.numel() * value.element_size() for value in state.values())
    if size > MOST_BYTES:
        raise InputError(f"{size:,} bytes of weights are too many; expected {MOST_BYTES:,} at most")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    save_file(state, partial, metadata={SETTINGS: config_to_text(plan.network_config())})
    partial.chmod(0o644)  # safetensors writes for the owner alone
    partial.replace(path)
    return size


def draw_curve(out: Path, curve: Table, checks: Table) -> None:
    """``curve.png``: loss, and errors on held-out clips beside a camera that never moves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4))
    rows = [row for row in curve.rows if row.get("loss")]
    left.plot([int(r["step"]) for r in rows], [float(r["loss"]) for r in rows], linewidth=0.8)
    left.set(xlabel="step", ylabel="loss", title="training loss")
    for axis, names, unit in ((middle, ("position", "prior position", "still position"), "m"),
                              (right, ("mismatch", "right", "abs rel", "mask"), "")):  # fmt: skip
        for name in names:
            points = [(int(r["step"]), float(r[name])) for r in checks.rows if r.get(name)]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", label=name)
        axis.set(xlabel="step", ylabel=unit, title="held-out clips")
        if axis.lines:
            axis.legend()
    figure.tight_layout()
    figure.savefig(out / "curve.png", dpi=110)
    pyplot.close(figure)


def train(args: argparse.Namespace, plan: Plan, signals: StopSignals) -> tuple[int, float]:
    """Train; returns the step reached, and the ratio at the gate if it closed, else 0."""
    device = choose_device(args.device)
    half = use_half(args, device)
    use_threads(args.threads)
    keep_memory()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    network = make_network(plan).to(device).train()
    learner = Learner(plan, network, Average(network, plan.average), make_optimizer(network, plan))
    start, seconds = learner.restore(load(out)) if args.resume else (0, 0.0)
    side, cache = plan.network_config().size, args.cache or out / "clips"
    held_out = {
        name: Shelf(cache, make(side), args.check_clips, "check") for name, make in KINDS.items()
    }
    closed = [0.0]

    def look(step: int) -> dict[str, float]:
        if not args.check_clips:
            return {}
        stage = stage_at(max(step - 1, 0), plan.parts, side).name
        average: Any = learner.average.network
        judged = average.dual if isinstance(average, AllRows) else average
        scores = check(judged, held_out[stage].everything())
        if step == plan.steps_a and not args.past_gate and not scores["ratio"] < GATE:
            closed[0] = scores["ratio"]
        return scores

    if start == plan.steps_a and start > 0 and not args.past_gate:
        look(start)  # a gate that closed stays closed
        if closed[0]:
            return start, closed[0]
    step = run(
        args, signals, learner, Lessons(plan, cache, side),
        lambda lesson, n: learn(learner, lesson, n, half), look,
        lambda curve, checks: _after_saving(learner, out, curve, checks), start, seconds,
        enough=lambda n: n == plan.steps_a and bool(args.check_clips) and not args.past_gate
        and _gate_closes(look, n, closed),
    )  # fmt: skip
    return step, closed[0]


def _gate_closes(look: Any, step: int, closed: list[float]) -> bool:
    look(step)
    return closed[0] > 0


def _after_saving(learner: Learner, out: Path, curve: Table, checks: Table) -> None:
    export(learner.average.network, learner.plan, out / "mem4d.safetensors")
    draw_curve(out, curve, checks)


def main(words: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_flags(parser, check_clips=64)
    parser.add_argument("--cache", type=Path, help="generated clips go here [OUT/clips]")
    parser.add_argument(
        "--past-gate", action="store_true", help="go on after stage A whatever the checks say"
    )
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the weights, and stop")
    add_plan_flags(parser, Plan)
    args = parser.parse_args(words)
    try:
        plan = plan_from(args, Plan)
        if args.export is not None:
            content = load(args.out)
            told = plan_of(content)
            network = make_network(replace(told, init=""))
            network.load_state_dict(content["average"])
            size = export(network, told, args.export)
            print(f"{args.export}: step {content['step']}, {size:,} bytes")
            return 0
        with StopSignals() as signals:
            step, closed = train(args, plan, signals)
    except VisionMemError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if closed:
        print(
            f"error: stopped at the gate: held-out position error is {closed:.2f} of that of a "
            f"camera that never moves; expected below {GATE}; see {args.out / 'checks.csv'}",
            file=sys.stderr,
        )
        return 1
    print(f"step {step} of {plan.steps}; weights in {args.out / 'mem4d.safetensors'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
