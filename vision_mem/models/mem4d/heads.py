"""From tokens to points, confidence, pose and what moves: linear heads, and DPT.

A head is called as ``head(levels, pose_token, grid)``: ``levels`` are the encoder's output
and the decoder's after half, three quarters and all of its layers, ``(B, P, width)`` each, without
the pose token ``(B, 1, D)``; it gives ``(B, channels, H, W)``.

Source: specs/mem4d.md section 2.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_mem.models.mem4d.config import HeadsConfig, Mem4DConfig
from vision_mem.models.mem4d.layers import NORM_EPS, Mlp, SelfAttention, grid_positions

_LEVELS = 4


class _Unit(nn.Module):
    """Two convolutions around a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.second(F.relu(self.first(F.relu(x)))))


class _Fuse(nn.Module):
    """Adds a finer map to a coarser one and doubles its size; the coarsest has none to add to."""

    def __init__(self, channels: int, *, coarsest: bool) -> None:
        super().__init__()
        self.side = None if coarsest else _Unit(channels)
        self.main = _Unit(channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, fine: Tensor, coarse: Tensor | None) -> Tensor:
        x = fine
        if self.side is not None and coarse is not None:
            x = coarse + self.side(fine)
        x = F.interpolate(self.main(x), scale_factor=2, mode="bilinear", align_corners=True)
        return cast(Tensor, self.out(x))


class Dpt(nn.Module):
    """Dense prediction from tokens of four depths.

    The four maps have an eighth, a quarter, a half and all of the decoder's channels before they
    are brought to ``heads.channels``, half of which are left before the last convolution; with
    768 and 256 these are the published heads.

    Args:
        config: widths and patch.
        out: channels of the map.
    """

    def __init__(self, config: Mem4DConfig, out: int) -> None:
        super().__init__()
        self.patch = config.patch
        decoder, channels = config.decoder.width, config.heads.channels
        inside = (config.encoder.width, decoder, decoder, decoder)
        levels = (decoder // 8, decoder // 4, decoder // 2, decoder)
        rescale: tuple[nn.Module, ...] = (
            nn.ConvTranspose2d(levels[0], levels[0], 4, stride=4),
            nn.ConvTranspose2d(levels[1], levels[1], 2, stride=2),
            nn.Identity(),
            nn.Conv2d(levels[3], levels[3], 3, stride=2, padding=1),
        )
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inside[i], levels[i], 1), rescale[i]) for i in range(_LEVELS)
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(levels[i], channels, 3, padding=1, bias=False) for i in range(_LEVELS)
        )
        self.fuse = nn.ModuleList(
            _Fuse(channels, coarsest=i == _LEVELS - 1) for i in range(_LEVELS)
        )
        self.head = nn.ModuleList(
            [
                nn.Conv2d(channels, channels // 2, 3, padding=1),
                nn.Conv2d(channels // 2, channels // 2, 3, padding=1),
                nn.Conv2d(channels // 2, out, 1),
            ]
        )

    def forward(self, levels: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Raw values of all pixels.

        Args:
            levels: four of ``(B, P, channels)``: as all heads.
            grid: ``(h, w)`` patches, P in all.

        Returns:
            ``(B, out, h * patch, w * patch)`` float32.
        """
        maps = [
            narrow(level(tokens.float().transpose(1, 2).unflatten(2, grid)))
            for tokens, level, narrow in zip(levels, self.levels, self.narrow, strict=True)
        ]
        path: Tensor | None = None
        for i in reversed(range(_LEVELS)):
            path = self.fuse[i](maps[i], path)
            if i == _LEVELS - 1:  # halving an odd number of patches rounded up
                path = cast(Tensor, path)[..., : maps[2].shape[2], : maps[2].shape[3]]
        size = (grid[0] * self.patch, grid[1] * self.patch)
        x = F.interpolate(self.head[0](path), size=size, mode="bilinear", align_corners=True)
        return cast(Tensor, self.head[2](F.relu(self.head[1](x))))


class _ToldNorm(nn.Module):
    """Layer norm whose scale and shift come from a token (adaptive norm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.told = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        shift, scale = self.told(F.silu(token)).chunk(2, dim=-1)
        return cast(Tensor, self.norm(x) * (1 + scale) + shift)


class ConditionBlock(nn.Module):
    """An encoder block whose norms are told by the pose token: self view to world view."""

    def __init__(self, width: int, heads: int, rope: float) -> None:
        super().__init__()
        self.norm1 = _ToldNorm(width)
        self.attn = SelfAttention(width, heads, rope)
        self.norm2 = _ToldNorm(width)
        self.mlp = Mlp(width)
        for layer in (self.attn.proj, self.mlp.fc2):  # changes nothing until it is taught to
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, token: Tensor, positions: Tensor) -> Tensor:
        """Tokens told where the camera is.

        Args:
            x: ``(B, P, D)``.
            token: ``(B, 1, D)`` decoded pose token.
            positions: ``(B or 1, P, 2)``.

        Returns:
            ``(B, P, D)``.
        """
        x = x + self.attn(self.norm1(x, token), positions)
        return cast(Tensor, x + self.mlp(self.norm2(x, token)))


class _Told(nn.Module):
    """The blocks that turn tokens of the self view into tokens of the world view."""

    def __init__(self, config: Mem4DConfig, blocks: int = 2) -> None:
        super().__init__()
        width, heads = config.decoder.width, config.decoder.heads
        self.condition = nn.ModuleList(
            ConditionBlock(width, heads, config.rope) for _ in range(blocks)
        )

    def told(
        self, levels: Sequence[Tensor], pose_token: Tensor, grid: tuple[int, int]
    ) -> list[Tensor]:
        """The levels, their last one told where the camera is."""
        x, positions = levels[-1], grid_positions(grid, levels[-1].device)
        for block in self.condition:
            x = block(x, pose_token, positions)
        return [*levels[:-1], x]


class DptHead(_Told):
    """DPT as a head; ``conditioned`` on the pose token it sees the world's frame.

    Args:
        config: widths, patch, heads.
        out: channels of the map.
        conditioned: blocks in front that are told the pose token; DUSt3R has none of them.
    """

    def __init__(self, config: Mem4DConfig, out: int, *, conditioned: bool = False) -> None:
        super().__init__(config, 2 if conditioned else 0)
        self.dpt = Dpt(config, out)

    def forward(
        self, levels: Sequence[Tensor], pose_token: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """``(B, out, H, W)``; arguments as all heads."""
        return cast(Tensor, self.dpt(self.told(levels, pose_token, grid), grid))


class DeepHead(_Told):
    """CUT3R's head for 224 pixels: an MLP a patch; arguments as ``DptHead``."""

    def __init__(self, config: Mem4DConfig, out: int, *, conditioned: bool = False) -> None:
        super().__init__(config, 2 if conditioned else 0)
        self.patch = config.patch
        self.mlp = Mlp(config.decoder.width, out=out * config.patch**2)

    def forward(
        self, levels: Sequence[Tensor], pose_token: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """``(B, out, H, W)``; only the last level counts."""
        raw = self.mlp(self.told(levels, pose_token, grid)[-1].float())
        return F.pixel_shuffle(raw.transpose(1, 2).unflatten(2, grid), self.patch)


class LinearHead(nn.Module):
    """One linear layer a patch, then pixels out of channels."""

    def __init__(self, width: int, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Linear(width, channels * patch * patch)

    def forward(
        self, levels: Sequence[Tensor], pose_token: Tensor, grid: tuple[int, int]
    ) -> Tensor:
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

    def forward(self, tokens: Tensor, motion: Tensor, grid: tuple[int, int]) -> Tensor:
        """``(B, H, W)`` logits."""
        mixed = self.mlp(torch.cat([tokens, motion], dim=-1))
        out: Tensor = self.head([mixed], mixed[:, :1], grid)[:, 0].float()
        return out


def make_heads(config: Mem4DConfig) -> nn.ModuleDict:
    """``self``, ``world``, ``pose``, and where they are wanted ``mask`` and ``rgb``."""
    width, patch, heads = config.decoder.width, config.patch, config.heads
    made: dict[str, nn.Module] = {"pose": Mlp(width, 4 * width, 7)}
    for name, channels in (("self", 4), ("world", 4), ("rgb", 3)):
        if name == "rgb" and not heads.rgb:
            continue
        if heads.kind == "linear":
            made[name] = LinearHead(width, channels, patch)
        else:
            kind = DptHead if heads.kind == "dpt" else DeepHead
            made[name] = kind(config, channels, conditioned=name == "world")
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
