"""Small networks, streams and entries for the tests of the learned reconstruction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from vision_mem.models.mem4d.config import (
    DecoderConfig,
    EncoderConfig,
    Mem4DConfig,
    PersistentConfig,
    TransientConfig,
    named_config,
)
from vision_mem.models.mem4d.losses import ClipTruth
from vision_mem.models.mem4d.network import Mem4DNetwork
from vision_mem.models.mem4d.protocol import BankEntry, Decoded
from vision_mem.types import Frame

SIDE = 32


def small_config(**changed: object) -> Mem4DConfig:
    """``nano-48`` made smaller still: 32 pixels, 16 patches."""
    small = replace(
        named_config("nano-48"),
        size=SIDE,
        encoder=EncoderConfig(32, 1, 2),
        decoder=DecoderConfig(32, 2, 2, coordinates=True),
        transient=TransientConfig(frames=2),
        persistent=PersistentConfig(capacity=12, confident=1.0, slot_heads=2),
    )
    return replace(small, **changed)


def small_network(config: Mem4DConfig | None = None, seed: int = 0) -> Mem4DNetwork:
    """With random weights that differ from zero everywhere."""
    torch.manual_seed(seed)
    network = Mem4DNetwork(config or small_config()).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.05 * torch.randn_like(value))
    return network


def frames(count: int, size: tuple[int, int] = (SIDE, SIDE), seed: int = 0) -> list[Frame]:
    """A textured picture that drifts to the left."""
    random = np.random.default_rng(seed)
    wide = random.integers(0, 255, (size[0], size[1] + 2 * count, 3), dtype=np.uint8)
    wide = wide // 2 + np.roll(wide, 1, axis=1) // 2
    return [
        Frame(t, t / 10, np.ascontiguousarray(wide[:, 2 * t : 2 * t + size[1]]))
        for t in range(count)
    ]


def entry(
    places: torch.Tensor, *, dynamic: float | torch.Tensor = 0.0, confidence: float = 2.0,
    grid: tuple[int, int] = (2, 2), keys: torch.Tensor | None = None,
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0), truth: torch.Tensor | None = None,
) -> BankEntry:  # fmt: skip
    """One frame's tokens at places ``(B, P, 3)``; keys say which patch they are."""
    batch, patches = places.shape[:2]
    if keys is None:
        keys = torch.nn.functional.one_hot(torch.arange(patches), 8).float().expand(batch, -1, -1)
    moving = torch.as_tensor(dynamic).float().expand(batch, patches)
    way = torch.tensor(direction).expand(batch, patches, 3)
    sure = torch.full((batch, patches), confidence)
    return BankEntry(
        keys, keys * confidence, torch.nn.functional.normalize(keys, dim=-1), places, way,
        torch.full((batch, patches), 2.0), moving, sure, grid, truth,
    )  # fmt: skip


def nothing_read(batch: int = 1) -> Decoded:
    """A decoded frame that looked at nothing."""
    none = torch.zeros(batch, 1, 1)
    return Decoded(*[none] * 9)


def perfect(truth: ClipTruth) -> list[Decoded]:
    """What a network without errors would say."""
    out = []
    for t in range(truth.pose.shape[1]):
        sure = torch.full_like(truth.points_self[:, t, ..., 0], 1.2)
        none = torch.zeros(len(sure), 1, 1)
        logit = torch.where(truth.dynamic[:, t], 20.0, -20.0)
        out.append(
            Decoded(truth.points_self[:, t], truth.points_world[:, t], sure, sure, logit,
                    truth.pose[:, t], none, none, none)
        )  # fmt: skip
    return out
