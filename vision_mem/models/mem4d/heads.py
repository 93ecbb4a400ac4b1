"""From tokens to points, confidence, pose and what moves.

A head is called as ``head(levels, pose_token, grid, size)``: ``levels`` are the encoder's output
and the decoder's after half, three quarters and all of its layers, ``(B, P, width)`` each, without
the pose token ``(B, 1, D)``; it gives ``(B, channels, H, W)``.

Source: specs/mem4d.md section 2.7.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_mem.models.mem4d.config import HeadsConfig, Mem4DConfig
from vision_mem.models.mem4d.layers import Mlp


class LinearHead(nn.Module):
    """One linear layer a patch, then pixels out of channels."""

    def __init__(self, width: int, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Linear(width, channels * patch * patch)

    def forward(
        self, levels: Sequence[Tensor], pose_token: Tensor, grid: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:  # fmt: skip
        """``(B, channels, H, W)``."""
        maps = self.proj(levels[-1]).transpose(1, 2).unflatten(2, grid)
        out: Tensor = F.pixel_shuffle(maps, self.patch)
        return out


class MaskHead(nn.Module):
    """What moves, from the last tokens and what the motion encoder says."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.mlp = Mlp(2 * width, width, width)
        self.head = LinearHead(width, 1, patch)

    def forward(
        self, tokens: Tensor, motion: Tensor, grid: tuple[int, int], size: tuple[int, int]
    ) -> Tensor:
        """``(B, H, W)`` logits."""
        mixed = self.mlp(torch.cat([tokens, motion], dim=-1))
        out: Tensor = self.head([mixed], mixed[:, :1], grid, size)[:, 0].float()
        return out


def make_heads(config: Mem4DConfig) -> nn.ModuleDict:
    """``self``, ``world``, ``pose``, and where they are wanted ``mask`` and ``rgb``."""
    width, patch, heads = config.decoder.width, config.patch, config.heads
    made: dict[str, nn.Module] = {"pose": Mlp(width, 4 * width, 7)}
    if heads.kind in ("dpt", "deep"):
        from vision_mem.models.mem4d.dpt import DeepHead, DptHead

        kind = DptHead if heads.kind == "dpt" else DeepHead
        made["self"] = kind(config, 4)
        made["world"] = kind(config, 4, conditioned=True)
        if heads.rgb:
            made["rgb"] = kind(config, 3)
    else:
        made["self"] = LinearHead(width, 4, patch)
        made["world"] = LinearHead(width, 4, patch)
        if heads.rgb:
            made["rgb"] = LinearHead(width, 3, patch)
    if heads.mask:
        made["mask"] = MaskHead(width, patch)
    return nn.ModuleDict(made)


def spread(raw: Tensor, ceiling: float) -> Tensor:
    """``y / |y| * (exp(|y|) - 1)`` of the last axis, with |y| at most ``ceiling``."""
    length = raw.norm(dim=-1, keepdim=True)
    reach = torch.expm1(length.clamp(max=ceiling)) / length.clamp(min=1e-6)
    return raw * reach


def points_and_confidence(
    raw: Tensor, settings: HeadsConfig, *, ahead: bool
) -> tuple[Tensor, Tensor]:
    """A head's channels as points.

    Args:
        raw: ``(B, 4, H, W)``.
        settings: ceilings.
        ahead: whether points must lie before the camera; the others are mirrored.

    Returns:
        ``(B, H, W, 3)`` and confidence ``(B, H, W)`` >= 1.
    """
    points = spread(raw[:, :3].float().permute(0, 2, 3, 1), settings.ceiling)
    if ahead:
        points = torch.where(points[..., 2:] < 0, -points, points)
    return points, confidence_of(raw[:, 3], settings)


def confidence_of(raw: Tensor, settings: HeadsConfig) -> Tensor:
    """``1 + exp(raw)``, kept finite."""
    return 1 + raw.float().clamp(max=settings.confidence_ceiling).exp()
