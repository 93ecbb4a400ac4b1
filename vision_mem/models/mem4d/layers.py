"""Attention with positions, and the blocks of the encoder and the decoder.

Names of parameters are those of specs/mem4d.md section 2.11, so that weights of other models can
be carried over. Positions are turned into queries and keys (rotary embedding, Su et al. 2021), one
half of a head's channels by row, the other half by column, as in CroCo v2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_mem.models.mem4d.protocol import Read

NORM_EPS = 1e-6


def rotate(x: Tensor, positions: Tensor | None, base: float) -> Tensor:
    """Turn the channels of heads by where their tokens are.

    Args:
        x: ``(B, heads, N, d)`` with d a multiple of 4.
        positions: ``(B, N, 2)`` or ``(1, N, 2)`` row and column, any numbers; None leaves ``x``.
        base: of the frequencies.

    Returns:
        ``(B, heads, N, d)``.
    """
    if positions is None:
        return x
    quarter = x.shape[-1] // 4
    speed = base ** (-torch.arange(quarter, device=x.device, dtype=torch.float32) / quarter)
    angle = positions[:, None, :, :, None].float() * speed  # (B, 1, N, 2, d/4)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    cos = torch.stack([cos, cos], dim=-2).flatten(-3)  # (B, 1, N, d)
    sin = torch.stack([-sin, sin], dim=-2).flatten(-3)
    one, other = x.unflatten(-1, (2, 2, quarter)).unbind(-2)  # (B, heads, N, row or column, d/4)
    return x * cos + torch.stack([other, one], dim=-2).flatten(-3) * sin


def grid_positions(grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """``(1, h * w, 2)`` row and column of each patch."""
    rows, columns = torch.meshgrid(
        torch.arange(grid[0], device=device), torch.arange(grid[1], device=device), indexing="ij"
    )
    return torch.stack([rows, columns], dim=-1).flatten(0, 1)[None].float()


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int | None = None, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden or 4 * width)
        self.fc2 = nn.Linear(hidden or 4 * width, out or width)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width)`` to ``(..., out)``."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SelfAttention(nn.Module):
    """Multi-head attention among the tokens of one frame."""

    def __init__(self, width: int, heads: int, rope: float) -> None:
        super().__init__()
        self.heads, self.rope = heads, rope
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, positions: Tensor | None) -> Tensor:
        """``(B, N, width)`` with ``(B or 1, N, 2)`` positions to ``(B, N, width)``."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, positions, self.rope), rotate(k, positions, self.rope)
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))
        return out


@dataclass(frozen=True)
class AttentionRecord:
    """What one reading looked at.

    Attributes:
        weights: ``(B, heads, Q, N)`` attention after softmax.
        scores: ``(B, heads, Q, N)`` scaled products before bias and softmax.
    """

    weights: Tensor
    scores: Tensor


class CrossAttention(nn.Module):
    """Multi-head attention from tokens to what a memory offers."""

    def __init__(self, width: int, heads: int, rope: float) -> None:
        super().__init__()
        self.heads, self.rope = heads, rope
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, read: Read, positions: Tensor | None
    ) -> tuple[Tensor, AttentionRecord]:
        """Look into a memory.

        Args:
            x: ``(B, Q, width)``.
            read: its keys and values, ``(B, N, width)`` each; it has a token at least.
            positions: ``(B or 1, Q, 2)`` of ``x``; used where the memory has positions too.

        Returns:
            ``(B, Q, width)`` and what was looked at.
        """
        q, k, v = (
            layer(values).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, values in ((self.q, x), (self.k, read.keys), (self.v, read.values))
        )
        if read.positions is not None:
            q, k = rotate(q, positions, self.rope), rotate(k, read.positions, self.rope)
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5  # (B, heads, Q, N)
        biased = scores if read.bias is None else scores + read.bias[:, None, None].to(q.dtype)
        weights = biased.float().softmax(dim=-1)
        if read.floor > 0:
            weights = torch.where(weights < read.floor, 0.0, weights)
            weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-8)
        found: Tensor = self.out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(-2))
        return found, AttentionRecord(weights, scores)


class EncoderBlock(nn.Module):
    """Self-attention and MLP, pre-norm, residual."""

    def __init__(self, width: int, heads: int, rope: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = SelfAttention(width, heads, rope)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, positions: Tensor | None) -> Tensor:
        """``(B, N, width)`` to the same."""
        x = x + self.attn(self.norm1(x), positions)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class DecoderBlock(nn.Module):
    """Self-attention, a look into memory, MLP; pre-norm, residual."""

    def __init__(self, width: int, heads: int, rope: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = SelfAttention(width, heads, rope)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.norm_mem = nn.LayerNorm(width, eps=NORM_EPS)
        self.cross = CrossAttention(width, heads, rope)
        self.norm3 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width)

    def forward(
        self, x: Tensor, reads: list[Read], positions: Tensor | None
    ) -> tuple[Tensor, list[AttentionRecord]]:
        """One layer.

        Args:
            x: ``(B, Q, width)``.
            reads: memories; what they give is added up.
            positions: ``(B or 1, Q, 2)``.

        Returns:
            ``(B, Q, width)``, and what was looked at in each memory.
        """
        x = x + self.attn(self.norm1(x), positions)
        looks = []
        for read in reads:
            keys = self.norm_mem(read.keys)
            values = keys if read.values is read.keys else self.norm_mem(read.values)
            normed = replace(read, keys=keys, values=values)
            looks.append(self.cross(self.norm2(x), normed, positions))
        x = x + torch.stack([found for found, _ in looks]).sum(dim=0)
        x = x + self.mlp(self.norm3(x))
        return x, [seen for _, seen in looks]
