"""What a frame may write into the memory of what stays, and which token gives way.

Pure functions on tensors with a batch of B streams in front.

Source: specs/mem4d.md section 2.5 (A).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_mem.models.mem4d.config import PersistentConfig
from vision_mem.models.mem4d.protocol import BankEntry

ALONE = 1e4
"""Score of a token that may not give way yet; anchors have no end of it."""


def static_weights(entry: BankEntry, settings: PersistentConfig) -> Tensor:
    """``(B, P)`` how far each patch may be written, in [0, 1]."""
    if settings.gate == "none":
        return torch.ones_like(entry.dynamic)
    if settings.gate == "truth" and entry.truth is not None:
        return 1 - entry.truth
    weights = 1 - entry.dynamic
    if settings.confident > 1:
        sure = (entry.confidence.detach() - 1) / (settings.confident - 1)
        weights = weights * sure.clamp(0, 1)
    return weights


def pooled(
    values: dict[str, Tensor], weights: Tensor, grid: tuple[int, int], settings: PersistentConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Blocks of 2x2 patches as one token each; at depth edges the best of the four.

    Args:
        values: ``(B, P, ...)`` by name; ``centroids (B, P, 3)`` and ``depth (B, P)`` are needed.
        weights: ``(B, P)``; patches with 0 do not count.
        grid: ``(h, w)`` patches; odd sides are filled up with patches that do not count.
        settings: when to pool.

    Returns:
        ``(B, M, ...)`` by name and weights ``(B, M)``, with M a quarter of the patches.
    """
    blocks = {name: _blocks(value, grid) for name, value in values.items()}  # (B, M, 4, ...)
    share = _blocks(weights, grid)  # (B, M, 4)
    total = share.sum(dim=2)
    mean = share / total.clamp(min=1e-8)[..., None]
    middle = (mean[..., None] * blocks["centroids"]).sum(dim=2)
    away = (blocks["centroids"] - middle[:, :, None]).norm(dim=-1)
    spread = torch.where(share > 0, away, 0.0).amax(dim=2)
    depth = (mean * blocks["depth"]).sum(dim=2)
    edge = spread > settings.spread * depth
    best = F.one_hot(share.argmax(dim=2), 4).to(mean.dtype)
    mean = torch.where(edge[..., None], best, mean)
    out = {
        name: (mean.view(*mean.shape, *[1] * (value.ndim - 3)) * value).sum(dim=2)
        for name, value in blocks.items()
    }
    return out, (mean * share).sum(dim=2)


def _blocks(value: Tensor, grid: tuple[int, int]) -> Tensor:
    """``(B, h * w, ...)`` to ``(B, M, 4, ...)``."""
    h, w = grid
    flat = value.view(value.shape[0], h, w, -1)
    flat = F.pad(flat, (0, 0, 0, w % 2, 0, h % 2))
    b, h, w, c = flat.shape
    parts = flat.view(b, h // 2, 2, w // 2, 2, c).transpose(2, 3)
    return parts.reshape(b, h * w // 4, 4, *value.shape[2:])


def novelty(
    centroids: Tensor, keys: Tensor, held: Tensor, held_keys: Tensor, voxel: Tensor, unlike: float
) -> tuple[Tensor, Tensor]:
    """How far candidates are from what is held: below 1 is the same surface.

    Args:
        centroids: ``(B, M, 3)``.
        keys: ``(B, M, D)``.
        held: ``(B, N, 3)``.
        held_keys: ``(B, N, D)``.
        voxel: ``(B,)`` metres.
        unlike: weight of 1 - cosine.

    Returns:
        ``(B, M, N)``, and the distance in voxels alone.
    """
    near = torch.cdist(centroids, held) / voxel[:, None, None]
    alike = F.normalize(keys, dim=-1) @ F.normalize(held_keys, dim=-1).transpose(1, 2)
    return near + unlike * (1 - alike), near


def keep_scores(usage: Tensor, age: Tensor, static: Tensor, count: Tensor, young: int) -> Tensor:
    """What a token is worth: used, lately, static, seen often; ``(B, N)`` each.

    Tokens younger than ``young`` frames are kept before all others.
    """
    worth = (usage + 1e-3) / (age + 1) * static * count.clamp(min=1) ** 0.25
    return torch.where(age < young, worth + ALONE, worth)


def farthest_points(points: Tensor, valid: Tensor, count: int) -> Tensor:
    """``(B, N)`` bool: up to ``count`` valid points that lie far from each other.

    Args:
        points: ``(B, N, 3)``.
        valid: ``(B, N)`` bool.
        count: how many.
    """
    if points.shape[1] <= count:
        return valid
    chosen = torch.zeros_like(valid)
    rows = torch.arange(len(points), device=points.device)
    far = torch.where(valid, torch.inf, -1.0)
    for _ in range(count):
        pick = far.argmax(dim=1)
        chosen[rows, pick] |= far[rows, pick] > 0
        gap = (points - points[rows, pick][:, None]).norm(dim=-1)
        far = torch.minimum(far, torch.where(valid & ~chosen, gap, -1.0))
    return chosen
