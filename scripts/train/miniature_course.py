"""The course of lessons of the miniature: what each step sees and asks, and what it changes."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from miniature_pictures import Scene, make_scene
from miniature_pool import Pool
from miniature_pupil import Pupil, hear
from miniature_questions import (
    CHECK_SEEDS,
    CROWDED,
    TRAIN_SEEDS,
    Watch,
    make_now,
    make_watch,
    stream_of,
)
from miniature_vision import Readers, see
from training_loop import Average

from vision_mem.errors import InputError
from vision_mem.models.vlm.miniature import miniature_network


@dataclass(frozen=True)
class Plan:
    """What a run computes; a resumed run must have the same.

    Attributes:
        seeing: steps of the vision tower.
        now: steps on short stretches, all tokens kept.
        steps: in all; the others are on remembered streams, short stretches mixed in.
        scenes: grids a step of the tower.
        stretches: short ones a step.
        streams: remembered ones a step.
        moments: at which each of these is asked.
        asked: questions at a moment, at most.
        pool: streams whose tokens are made.
        crowded: crowded streams, beside these.
        crowd: share of what is watched that is of the crowded ones.
        place: weight of rows and columns.
        look: weight of looking at what a question is about, and at the word that names it.
        lr: of AdamW; decay: of weights; warm_up: steps, at the start of each half; clip_norm: of
            the gradient; average: decay of the EMA.
        seed: of data and weights.
    """

    seeing: int = 1000
    now: int = 2600
    steps: int = 8600
    scenes: int = 16
    stretches: int = 10
    streams: int = 3
    moments: int = 2
    asked: int = 14
    pool: int = 310
    crowded: int = 90
    crowd: float = 0.4
    place: float = 0.3
    look: float = 0.3
    lr: float = 2.5e-3
    decay: float = 0.02
    warm_up: int = 40
    clip_norm: float = 1.0
    average: float = 0.995
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seeing <= self.seeing + self.now <= self.steps:
            raise InputError(
                f"{self.steps} steps cannot have {self.seeing} of the tower and {self.now} on "
                "short stretches; expected steps no fewer than both together"
            )

    def rate(self, step: int) -> float:
        """Factor on the learning rate: up in a line, down in half a cosine; for each half anew."""
        first, last = (0, self.seeing) if step < self.seeing else (self.seeing, self.steps)
        step, length = step - first, last - first
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(length - self.warm_up, 1)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class Lessons(torch.utils.data.Dataset):
    """What is seen and asked at each step."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __getitem__(self, step: int) -> list[Scene] | list[Watch]:
        plan = self._plan
        rng = np.random.default_rng((plan.seed, step))
        if step < plan.seeing:
            return [make_scene(rng) for _ in range(plan.scenes)]
        long = plan.streams if step >= plan.seeing + plan.now else 0
        short = plan.stretches if not long else plan.streams
        made = []
        for place in range(long + short):
            number = int(rng.integers(plan.pool))
            if rng.random() < plan.crowd:
                number = CROWDED + int(rng.integers(plan.crowded))
            stream = stream_of(TRAIN_SEEDS + number)
            if place < long:
                made.append(make_watch(number, stream, rng, plan.asked, plan.moments))
            else:
                made.append(make_now(number, stream, rng, plan.asked))
        return [watch for watch in made if any(asked for _, asked in watch.moments)]


class Course:
    """Network, readers, average and optimizer, and what a step does with them."""

    def __init__(self, plan: Plan, out: Path, device: torch.device) -> None:
        self.plan = plan
        self.pupil = Pupil(miniature_network(plan.seed).to(device))
        network = self.pupil.network
        vision = network.config.vision_config
        # Frames of generated streams have 6 x 8 tokens.
        self.readers = Readers(vision.out_hidden_size, 6, 8, plan.seed).to(device)
        self.optimizer = make_optimizer(network, self.readers, plan)
        self.average = Average(network, plan.average)
        self.judged = Pupil(self.average.network)
        self.judged.network.requires_grad_(False)
        self.pool = Pool(out / "tokens", self.judged, TRAIN_SEEDS)
        self.checked = Pool(out / "tokens-checks", self.judged, CHECK_SEEDS)

    def begin_second(self) -> None:
        """The tower as it is on the average, for good; language begins with its words."""
        self.pupil.network.load_state_dict(self.average.network.state_dict())
        for pool in (self.pool, self.checked):
            shutil.rmtree(pool.folder, ignore_errors=True)

    def learn(self, lesson: list[Any], step: int, half: bool) -> dict[str, float]:
        """One step; returns the parts of the loss. A loss that is not finite changes nothing."""
        plan, network = self.plan, self.pupil.network
        for group in self.optimizer.param_groups:
            group["lr"] = plan.lr * plan.rate(step)
        seeing = step < plan.seeing
        network.model.visual.requires_grad_(seeing)
        with torch.autocast(self.pupil.device.type, torch.bfloat16, enabled=half):
            if seeing:
                loss, parts = see(self.pupil, self.readers, lesson)
            else:
                weights = plan.place, plan.look
                loss, parts = hear(self.pupil, self.readers, lesson, self.pool, *weights)
        if not torch.isfinite(loss):
            return {"loss": math.nan, **parts}
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        table = network.get_input_embeddings().weight
        if not seeing:  # the words that tokens were drawn to stay where they are
            table.grad[self.pupil.spoken_ids] = 0
        norm = torch.nn.utils.clip_grad_norm_(
            [*network.parameters(), *self.readers.parameters()], plan.clip_norm
        )
        if torch.isfinite(norm):
            self.optimizer.step()
        return {"loss": float(loss.detach()), **parts, "norm": float(norm)}


def make_optimizer(network: Any, readers: Readers, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; no decay for biases, norms and tables of words."""
    groups: dict[bool, list[Any]] = {True: [], False: []}
    for name, value in [*network.named_parameters(), *readers.named_parameters()]:
        groups[value.ndim >= 2 and "embed_tokens" not in name].append(value)
    made = [
        {"params": groups[True], "weight_decay": plan.decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(made, lr=plan.lr, betas=(0.9, 0.98), fused=True)
