"""How the learned reconstruction learns: stages, teaching, one pass over a clip, and the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from reconstruction_clips import Clips, Kind
from reconstruction_losses import ClipTruth, clip_loss, match_loss
from torch import Tensor

from vision_mem.models.mem4d.protocol import Decoded, EncodedFrame
from vision_mem.reconstruction.learned.stream import LearnedState, Look, Taught, advance

FORGET = 0.1
"""Share of the looks at a memory that find nothing, in training."""
BACK = 8
"""Frames through which gradients flow back."""


@dataclass(frozen=True)
class Stage:
    """One part of the training (spec 4.2).

    Attributes:
        name: ``A``, ``B`` or ``C``.
        kind: of the clips.
        done: share of the stage that is done, in [0, 1).
        frames: seen of each clip at this step.
        taught: share of the streams that write true centroids.
        vary: whether the sizes of the memories are drawn.
    """

    name: str
    kind: Kind
    done: float
    frames: int
    taught: float
    vary: bool = False


def stage_at(step: int, steps: tuple[int, int, int], side: int) -> Stage:
    """The stage of a step; ``steps`` are those of A, B and C."""
    first, second, _ = steps
    if step < first:
        done = step / first
        frames = 2 + min(int(done * 4), 2)
        taught = 1 - 0.6 * done
        return Stage("A", KINDS["A"](side), done, frames, taught)
    if step < first + second:
        done = (step - first) / second
        frames = 8 if done < 0.5 else 12
        return Stage("B", KINDS["B"](side), done, frames, max(0.4 - 0.4 * done, 0.2))
    done = (step - first - second) / max(steps[2], 1)
    return Stage("C", KINDS["C"](side), done, 24, 0.0, True)


KINDS = {
    # Steps from a tenth of a second to a whole one: a camera that moves a hand's breadth in four
    # frames moves a fraction of a patch, and standing still is hard to beat.
    "A": lambda side: Kind("still", 4, (0, 0), (0.1, 1.0), side=side),
    "B": lambda side: Kind("moving", 12, (1, 4), (0.1, 0.3), side=side),
    "C": lambda side: Kind("long", 24, (2, 4), (0.1, 0.3), side=side),
}


@dataclass
class Lesson:
    """Clips of a step and what chance decides about them.

    Attributes:
        clips: B of them.
        stage: of the training.
        taught: ``(B,)`` bool: streams that write the truth.
        given: ``(B,)`` bool: streams whose intrinsics are known.
        noise: of true centroids, as a share of the depth.
        forget: ``(T, 2, B)`` bool: rows that find nothing, by memory.
        frames, capacity: sizes of the memories, as a share of the usual ones.
    """

    clips: Clips
    stage: Stage
    taught: Tensor
    given: Tensor
    noise: float
    forget: Tensor
    frames: float = 1.0
    capacity: float = 1.0


def draw_lesson(clips: Clips, stage: Stage, rng: np.random.Generator) -> Lesson:
    """Decide the rest of a step."""
    batch, length = len(clips), clips.images.shape[1]
    lesson = Lesson(
        clips,
        stage,
        torch.from_numpy(rng.random(batch) < stage.taught),
        torch.from_numpy(rng.random(batch) < 0.5),
        float(rng.uniform(0.02, 0.05)),
        torch.from_numpy(rng.random((length, 2, batch)) < FORGET),
    )
    if stage.vary:
        lesson.frames = float(rng.uniform(0.3, 1.3))
        lesson.capacity = float(rng.choice([0.5, 1.0]))
    return lesson


def sized(config: Any, frames: float, capacity: float) -> Any:
    """A configuration with other sizes of the memories."""
    ring, bank = config.transient, config.persistent
    if ring.frames:
        ring = replace(ring, frames=max(1, round(ring.frames * frames)))
    if bank.kind == "bank":
        bank = replace(bank, capacity=max(8, round(bank.capacity * capacity)))
    return replace(config, transient=ring, persistent=bank)


def run_clip(
    network: Any, clips: Clips, truth: ClipTruth, *, given: Tensor | None = None,
    lesson: Lesson | None = None, oracle: bool = False, frames: slice = slice(None),
) -> list[Decoded]:  # fmt: skip
    """Look at clips frame by frame, as a session does; with a lesson, as training does.

    Args:
        network: to run.
        clips: B of T frames.
        truth: of them.
        given: ``(B,)`` bool: whose intrinsics are told; None for all.
        lesson: what is taught, forgotten and drawn.
        oracle: hand the true mask to gates that ask for it.
        frames: of the clips.
    """
    patch = network.config.patch
    pictures, rays = clips.pictures(), clips.rays()
    state = LearnedState.start(network, len(clips))
    _, places, moving, _ = truth.patches(patch)
    depth = truth.points_self[..., 2].mean(dim=(2, 3))
    prepared = prepare(network, pictures, rays, given) if lesson is not None else None
    out = []
    for t in range(*frames.indices(pictures.shape[1])):
        look, taught = Look(), None
        if lesson is not None:
            mask = lesson.forget[t].to(rays.device)
            look = Look(soft=True, forget={"persistent": mask[0], "transient": mask[1]})
            shift = torch.randn_like(places[:, t]) * lesson.noise * depth[:, t, None, None]
            taught = Taught(places[:, t] + shift, moving[:, t], lesson.taught.to(rays.device))
        elif oracle:
            no = torch.zeros(len(clips), dtype=torch.bool, device=rays.device)
            taught = Taught(places[:, t], moving[:, t], no)
        decoded, state = advance(
            network,
            state,
            pictures[:, t],
            rays,
            given,
            look=look,
            taught=taught,
            prepared=None if prepared is None else prepared[t],
        )
        if lesson is not None and (t + 1) % BACK == 0:
            state = detached(state)
        out.append(decoded)
    return out


def lesson_loss(network: Any, lesson: Lesson) -> tuple[Tensor, dict[str, float]]:
    """Loss of a step and its parts."""
    device = network.device
    clips = lesson.clips.to(device)
    with torch.autocast(device.type, enabled=False):
        truth = clips.truth()
    config = network.config
    network.config = sized(config, lesson.frames, lesson.capacity)
    try:
        frames = run_clip(network, clips, truth, given=lesson.given.to(device), lesson=lesson)
    finally:
        network.config = config
    with torch.autocast(device.type, enabled=False):
        return clip_loss(frames, truth, config.loss, config.patch, config.match.reach)


# -- checks ------------------------------------------------------------------------------------


@torch.no_grad()
def check(network: Any, clips: Clips, *, batch: int = 16) -> dict[str, float]:
    """Run held-out clips as a session would: nothing is taught, nothing is soft.

    Returns:
        ``position`` and ``still`` position error in metres, of the network and of a camera that
        never moves, their ``ratio``; ``turn`` and ``still turn`` in degrees; ``abs rel`` of the
        depth; ``world`` error of points in metres; ``mismatch`` and ``right`` of the matching.
    """
    rows: dict[str, list[Tensor]] = {}
    for first in range(0, len(clips), batch):
        some = clips.of(slice(first, first + batch)).to(network.device)
        truth = some.truth()
        frames = run_clip(network, some, truth)
        for name, value in _scores(network, frames, truth).items():
            rows.setdefault(name, []).append(value.cpu())
    found = {name: float(torch.cat(values).mean()) for name, values in rows.items()}
    found["ratio"] = found["position"] / max(found["still position"], 1e-9)
    return found


def _scores(network: Any, frames: Sequence[Decoded], truth: ClipTruth) -> dict[str, Tensor]:
    pose = torch.stack([f.pose for f in frames], dim=1)[:, 1:]
    goal = truth.pose[:, 1:]
    prior = [f.prior for f in frames[1:] if f.prior is not None]
    depth = truth.points_self[..., 2]
    own = torch.stack([f.points_self for f in frames], dim=1)[..., 2]
    world = torch.stack([f.points_world for f in frames], dim=1)
    out = {
        "position": (pose[..., :3, 3] - goal[..., :3, 3]).norm(dim=-1).flatten(),
        "still position": goal[..., :3, 3].norm(dim=-1).flatten(),
        "turn": degrees(pose[..., :3, :3], goal[..., :3, :3]).flatten(),
        "still turn": degrees(torch.eye(3, device=goal.device), goal[..., :3, :3]).flatten(),
        "abs rel": ((own - depth).abs() / depth.clamp(min=1e-3)).mean(dim=(2, 3)).flatten(),
        "world": (world - truth.points_world).norm(dim=-1)[:, 1:].mean(dim=(2, 3)).flatten(),
    }
    if prior:
        both = torch.stack(prior, dim=1)
        out["prior position"] = (both[..., :3, 3] - goal[..., :3, 3]).norm(dim=-1).flatten()
        _, places, moving, known = truth.patches(network.config.patch)
        pairs = [
            match_loss(f, places[:, t], known[:, t] & (moving[:, t] < 0.5),
                       network.config.match.reach)
            for t, f in enumerate(frames) if t > 0
        ]  # fmt: skip
        out["mismatch"] = torch.stack([loss for loss, _ in pairs])
        out["right"] = torch.stack([right for _, right in pairs])
    return out


def degrees(one: Tensor, other: Tensor) -> Tensor:
    """Angle between rotations ``(..., 3, 3)``."""
    between = one.transpose(-1, -2) @ other
    cosine = (between.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def prepare(
    network: Any, images: Tensor, rays: Tensor | None = None, given: Tensor | None = None
) -> list[tuple[EncodedFrame, Tensor]]:
    """What memory has no part in, for whole clips at once.

    Args:
        network: a ``Mem4DNetwork``.
        images: ``(B, T, 3, H, W)`` in [-1, 1]; the first frames define their worlds.
        rays: ``(B, H, W, 2)`` or None.
        given: ``(B,)`` bool: whose rays count.

    Returns:
        T times a frame and its motion, for ``advance``.
    """
    batch, length = images.shape[:2]
    first = torch.zeros(batch, length, dtype=torch.bool, device=images.device)
    first[:, 0] = True
    every = network.encode(
        images.flatten(0, 1),
        first.flatten(),
        None if rays is None else rays.repeat_interleave(length, dim=0),
        None if given is None else given.repeat_interleave(length, dim=0),
    )
    features = every.features.unflatten(0, (batch, length))
    before = torch.cat([features[:, :1], features[:, :-1]], dim=1).flatten(0, 1)
    motion = network.move(every, before, ~first.flatten()).unflatten(0, (batch, length))
    tokens = every.tokens.unflatten(0, (batch, length))
    told = None
    if rays is not None:
        told = torch.ones_like(first[:, 0]) if given is None else given
    return [
        (
            replace(
                every, features=features[:, t], tokens=tokens[:, t], rays=rays, given=told,
                first=first[:, t],
            ),
            motion[:, t],
        )
        for t in range(length)
    ]  # fmt: skip


def detached(memory: Any) -> Any:
    """A state of streams without gradients, its memories too, for long clips."""
    changed = {}
    for name, value in vars(memory).items():
        if isinstance(value, Tensor):
            changed[name] = value.detach()
        elif name in ("ring", "store") and value is not None:
            changed[name] = detached(value)
    return replace(memory, **changed)
