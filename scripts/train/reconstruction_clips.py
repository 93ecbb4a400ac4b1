"""Clips to train and check the learned reconstruction on: generated, kept in shards, varied.

A shard is made when it is first asked for and kept in the cache folder; what it holds follows
from its kind and number alone. Training draws clips in an order that follows from the seed, so
the first pass sees new clips only; later passes vary colours, mirror, and turn time around.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reconstruction_losses import ClipTruth
from torch import Tensor

from vision_mem.geometry.pointmaps import moved, rigid_inverse
from vision_mem.synthetic.rgbd_bodies import Scenery, SceneryConfig, make_scenery
from vision_mem.synthetic.rgbd_scene import render

SHARD = 32
SEEDS = {"train": 0, "check": 1_000_000, "test": 2_000_000}
_PIECE = 64  # frames that are rendered at a time


@dataclass(frozen=True)
class Kind:
    """A kind of clips.

    Attributes:
        name: of its shards.
        frames: in a clip.
        bodies: least and most moving bodies.
        time_step: least and most seconds between frames.
        camera, phase: of ``SceneryConfig``.
        side: pixels.
    """

    name: str
    frames: int
    bodies: tuple[int, int] = (0, 0)
    time_step: tuple[float, float] = (0.1, 0.3)
    camera: str = ""
    side: int = 48
    phase: str = ""

    def scenery(self, seed: int) -> Scenery:
        """The scene of a seed."""
        step = float(np.random.default_rng((seed, 7)).uniform(*self.time_step))
        config = SceneryConfig(
            bodies=self.bodies, time_step=step, camera=self.camera, phase=self.phase
        )
        return make_scenery(seed, self.frames, config)


@dataclass
class Clips:
    """B clips of T frames.

    Attributes:
        images: ``(B, T, H, W, 3)`` uint8 RGB.
        depth: ``(B, T, H, W)`` float16 metres.
        dynamic: ``(B, T, H, W)`` bool.
        pose: ``(B, T, 4, 4)`` float32 camera-to-world.
        intrinsics: ``(B, 4)`` float32 fx, fy, cx, cy.
        seeds: ``(B,)`` int64 of the scenes.
    """

    images: Tensor
    depth: Tensor
    dynamic: Tensor
    pose: Tensor
    intrinsics: Tensor
    seeds: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def of(self, rows: Any, frames: Any = slice(None)) -> Clips:
        """Some clips, some frames."""
        return Clips(
            self.images[rows][:, frames], self.depth[rows][:, frames],
            self.dynamic[rows][:, frames], self.pose[rows][:, frames], self.intrinsics[rows],
            self.seeds[rows],
        )  # fmt: skip

    def to(self, device: torch.device) -> Clips:
        """The same on another device."""
        return Clips(**{name: value.to(device) for name, value in vars(self).items()})

    def rays(self) -> Tensor:
        """``(B, H, W, 2)`` x/z and y/z of the pixels' middles."""
        h, w = self.images.shape[2:4]
        device = self.images.device
        y, x = torch.meshgrid(torch.arange(h, device=device) + 0.5,
                              torch.arange(w, device=device) + 0.5, indexing="ij")  # fmt: skip
        grid = torch.stack([x, y], dim=-1)
        middle, focal = self.intrinsics[:, None, None, 2:], self.intrinsics[:, None, None, :2]
        return (grid - middle) / focal

    def pictures(self) -> Tensor:
        """``(B, T, 3, H, W)`` in [-1, 1]."""
        return self.images.permute(0, 1, 4, 2, 3).float() / 127.5 - 1

    def truth(self) -> ClipTruth:
        """What they show, in the world of their first frames."""
        depth = self.depth.float()
        rays = self.rays()[:, None].expand(-1, depth.shape[1], -1, -1, -1)
        own = torch.cat([rays * depth[..., None], depth[..., None]], dim=-1)
        pose = rigid_inverse(self.pose[:, 0])[:, None] @ self.pose
        world = moved(own.flatten(0, 1), pose.flatten(0, 1)).view(own.shape)
        return ClipTruth(own, world, depth > 0, pose, self.dynamic)


def make_clips(kind: Kind, seeds: list[int]) -> Clips:
    """Film a scene a seed."""
    scenes = [kind.scenery(seed) for seed in seeds]
    made = [
        render(scenes, kind.side, kind.side, frames=slice(k, min(k + _PIECE, kind.frames)))
        for k in range(0, kind.frames, _PIECE)
    ]

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(m, name) for m in made], dim=1)

    return Clips(
        (joined("image") * 255).round().to(torch.uint8), joined("depth").half(),
        joined("dynamic"), joined("pose"), made[0].intrinsics, torch.tensor(seeds),
    )  # fmt: skip


class Shelf:
    """Clips of one kind, in shards on disk.

    Args:
        folder: where shards are kept.
        kind: what they show.
        count: clips in all.
        split: ``train``, ``check`` or ``test``.
    """

    def __init__(self, folder: Path, kind: Kind, count: int, split: str) -> None:
        self.folder, self.kind, self.count, self.split = folder, kind, count, split
        self._open: dict[int, Clips] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, which: list[int]) -> Clips:
        """Clips by number, in [0, count)."""
        taken = []
        for n in which:
            shard = self._shard(n // SHARD)
            taken.append(shard.of(slice(n % SHARD, n % SHARD + 1)))
        return joined_clips(taken)

    def everything(self) -> Clips:
        """All clips."""
        return self.take(list(range(self.count)))

    def _shard(self, number: int) -> Clips:
        if number not in self._open:
            told = [v for v in asdict(self.kind).values() if v != ""]
            words = ["to".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in told]
            name = "-".join(words).replace(" ", "_")
            path = self.folder / f"{name}-{self.split}-{number:05d}.pt"
            first = SEEDS[self.split] + number * SHARD
            self._open[number] = kept_clips(path, self.kind, list(range(first, first + SHARD)))
        return self._open[number]


def kept_clips(path: Path, kind: Kind, seeds: list[int]) -> Clips:
    """The clips of some seeds from a file; where it is missing or damaged it is made first."""
    try:
        found = Clips(**torch.load(path, weights_only=True))
        if found.seeds.tolist() == seeds:
            return found
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError):
        pass
    made = make_clips(kind, seeds)
    partial = path.with_suffix(f".partial{os.getpid()}")  # others may make the same
    torch.save(vars(made), partial)
    partial.replace(path)
    return made


def joined_clips(parts: list[Clips]) -> Clips:
    """Several as one."""
    names = vars(parts[0])
    return Clips(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})


def varied(clips: Clips, rng: np.random.Generator) -> Clips:
    """Other colours, mirrored, time turned around; each clip for itself.

    Mirroring turns x around in images and poses alike, so that the truth stays true.
    """
    rows = []
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    for n in range(len(clips)):
        one = clips.of(slice(n, n + 1))
        order = torch.from_numpy(rng.permutation(3))
        gain = torch.from_numpy(rng.uniform(0.8, 1.25, 3).astype(np.float32))
        lift = float(rng.uniform(-15, 15))
        images = (one.images[..., order].float() * gain + lift).clamp(0, 255).to(torch.uint8)
        one = replace(one, images=images)
        if rng.random() < 0.5:
            intrinsics = one.intrinsics.clone()
            intrinsics[:, 2] = images.shape[3] - intrinsics[:, 2]
            one = replace(one, images=one.images.flip(3), depth=one.depth.flip(3),
                          dynamic=one.dynamic.flip(3), pose=flip @ one.pose @ flip,
                          intrinsics=intrinsics)  # fmt: skip
        if rng.random() < 0.5:
            one = replace(one, images=one.images.flip(1), depth=one.depth.flip(1),
                          dynamic=one.dynamic.flip(1), pose=one.pose.flip(1))  # fmt: skip
        rows.append(one)
    return joined_clips(rows)
