"""Held-out clips for the comparison of memories, and what is measured on them.

Source: specs/mem4d.md sections 3.4 and 4.3.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reconstruction_clips import SEEDS, Clips, Kind, kept_clips, make_clips
from reconstruction_lessons import run_clip
from reconstruction_losses import ClipTruth

from vision_mem.errors import InputError
from vision_mem.geometry.trajectory_errors import path_errors
from vision_mem.models.mem4d.protocol import Decoded

AWAY = 48
"""Frames that a camera must be away for what it sees again to count as a revisit."""
_NEAR_M, _NEAR_DEG, _FAR_DEG = 0.4, 25.0, 50.0
_LEAST_MOVING = 0.35
_GHOST_M = 0.1
_MAP_POINTS = 4000


@dataclass(frozen=True)
class Suite:
    """Clips of one sort.

    Attributes:
        name: ``motion``, ``revisit`` or ``clutter``.
        kind: what they show.
        batch: clips looked at at a time.
        away: frames that a camera must be away for what it sees again to count as a revisit.
    """

    name: str
    kind: Kind
    batch: int
    away: int = AWAY


def suites(side: int, *, short: bool = False) -> list[Suite]:
    """S1 to S3 of the spec; ``short`` for trying the comparison out, not for results."""
    lengths = (6, 12, 6) if short else (16, 96, 64)
    away = 4 if short else AWAY
    return [
        Suite("motion", Kind("S1", lengths[0], (3, 3), (0.1, 0.1), "tour", side, "always"), 16),
        Suite("revisit", Kind("S2", lengths[1], (1, 3), (0.1, 0.1), "tour", side), 16, away),
        Suite("clutter", Kind("S3", lengths[2], (8, 12), (0.05, 0.05), "", side, "always"), 16),
    ]


def returns(poses: NDArray[np.float64], away: int = AWAY) -> NDArray[np.bool_]:
    """``(T,)`` bool: frames that see the first view again ``away`` frames after it was left.

    Args:
        poses: ``(T, 4, 4)`` camera-to-world.
        away: frames.
    """
    shift = np.linalg.norm(poses[:, :3, 3] - poses[0, :3, 3], axis=1)
    turn = _angles(poses[0, :3, :3], poses[:, :3, :3])
    near = (shift < _NEAR_M) & (turn < _NEAR_DEG)
    far = (turn > _FAR_DEG) | (shift > 3 * _NEAR_M)
    left = np.flatnonzero(~near)
    if not len(left) or not far.any():
        return np.zeros(len(poses), bool)
    return np.asarray(near & (np.arange(len(poses)) >= left[0] + away))


def _angles(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    cosine = (np.einsum("ij,tij->t", one, others) - 1) / 2
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def suitable_seeds(suite: Suite, count: int, folder: Path) -> list[int]:
    """Seeds of scenes that are what the suite is about, kept in a file once they are found.

    Raises:
        InputError: when there are too few of them.
    """
    kind = suite.kind
    path = folder / f"{suite.name}-{kind.frames}-{count}.txt"
    if path.is_file():
        found = [int(word) for word in path.read_text().split()]
        if len(found) == count:
            return found
    found = []
    for seed in range(SEEDS["test"], SEEDS["test"] + 200 * count):
        if _suits(suite, seed):
            found.append(seed)
        if len(found) == count:
            break
    if len(found) < count:
        raise InputError(f"suite {suite.name}: {len(found)} of {count} scenes found; ask for fewer")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(str, found)) + "\n")
    return found


def _suits(suite: Suite, seed: int) -> bool:
    kind = suite.kind
    if suite.name == "revisit":
        return bool(returns(kind.scenery(seed).poses, suite.away).any())
    if suite.name == "clutter":
        small = Kind(kind.name, kind.frames, kind.bodies, kind.time_step, kind.camera, 12,
                     kind.phase)  # fmt: skip
        return float(make_clips(small, [seed]).dynamic.float().mean()) >= _LEAST_MOVING
    return True


def suite_clips(suite: Suite, seeds: Sequence[int], folder: Path) -> Clips:
    """The clips of some seeds, kept in the folder: all rows look at the same."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = suite.kind
    path = folder / f"{kind.name}-{kind.frames}-{kind.side}-test-{seeds[0]}-{len(seeds)}.pt"
    return kept_clips(path, kind, list(seeds))


@torch.no_grad()
def measure(network: Any, suite: Suite, seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    """All columns of the table for one suite: means over clips, which are kept in the folder.

    ``each`` has the columns of every clip, NaN where a clip has nothing to measure.
    """
    rows: list[dict[str, float]] = []
    for first in range(0, len(seeds), suite.batch):
        some = list(seeds[first : first + suite.batch])
        clips = suite_clips(suite, some, folder).to(network.device)
        truth = clips.truth()
        began = time.perf_counter()
        frames = run_clip(network, clips, truth, oracle=True)
        spent = 1e3 * (time.perf_counter() - began) / (len(some) * len(frames))
        for n, seed in enumerate(some):
            rows.append({**_clip_scores(frames, truth, n, suite, seed, clips), "ms": spent})
    each = {name: [row[name] for row in rows] for name in rows[0]}
    means = {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        for name, values in each.items()
    }
    return {**means, "each": each}


def _clip_scores(
    frames: Sequence[Decoded], truth: ClipTruth, n: int, suite: Suite, seed: int, clips: Clips
) -> dict[str, float]:
    depth = truth.points_self[n, ..., 2]
    own = torch.stack([f.points_self[n, ..., 2] for f in frames])
    world = torch.stack([f.points_world[n] for f in frames])
    said = torch.stack([f.dynamic_logit[n] for f in frames]) > 0
    moving = truth.dynamic[n]
    rel = (own - depth).abs() / depth.clamp(min=1e-3)
    epe = (world - truth.points_world[n]).norm(dim=-1)
    found = torch.stack([f.pose[n] for f in frames]).double().cpu().numpy()
    goal = truth.pose[n].double().cpu().numpy()
    errors = path_errors(found, goal, align="none")
    later = torch.arange(len(frames)) > 0
    again = torch.from_numpy(returns(goal, suite.away)).to(moving.device)
    union = (said | moving).sum()
    return {
        "abs rel": _mean(rel),
        "abs rel static": _mean(rel[~moving]),
        "abs rel moving": _mean(rel[moving]),
        "world static": _mean(epe[later][~moving[later]]),
        "world moving": _mean(epe[later][moving[later]]),
        "ate": errors.ate,
        "rpe r": errors.rpe_rotation,
        "mask iou": float((said & moving).sum() / union) if union else float("nan"),
        "revisit": _mean(epe[again][~moving[again]]),
        "ghost": _ghosts(world, said, suite, seed, clips.pose[n, 0]),
    }


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if values.numel() else float("nan")


def _ghosts(
    world: torch.Tensor, said: torch.Tensor, suite: Suite, seed: int, first: torch.Tensor
) -> float:
    """Percent of the points called static that are off all static surfaces by over 0.1 m.

    Where the map itself is off, all points are: the camera's own error is taken out by nothing.
    """
    points = world[~said].double().cpu().numpy()
    if not len(points):
        return float("nan")
    step = max(1, len(points) // _MAP_POINTS)
    pose = first.double().cpu().numpy()
    there = points[::step] @ pose[:3, :3].T + pose[:3, 3]
    return float(100 * np.mean(suite.kind.scenery(seed).distance(there) > _GHOST_M))
