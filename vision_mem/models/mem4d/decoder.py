"""The decoder that reads two memories in alternation, and what makes memories readable.

Source: specs/mem4d.md sections 2.4 to 2.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_mem.geometry.pointmaps import moved, rigid_inverse
from vision_mem.models.mem4d.config import Mem4DConfig
from vision_mem.models.mem4d.encoder import PatchEmbed
from vision_mem.models.mem4d.layers import NORM_EPS, AttentionRecord, DecoderBlock, Mlp
from vision_mem.models.mem4d.protocol import MemoryReader, Read, Tokens

PERSISTENT, TRANSIENT = "persistent", "transient"
_FREQUENCIES = 10
_ABSENT = -1e9


def waves(points: Tensor) -> Tensor:
    """Fourier features of places: ``(..., 3)`` to ``(..., 60)``."""
    speed = math.pi * 2.0 ** torch.arange(-3, _FREQUENCIES - 3, device=points.device)
    angle = points[..., None].float() * speed
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def seen_from(places: Tensor, valid: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
    """Places in a camera's axes, and how far they are in the middle.

    Args:
        places: ``(B, N, 3)`` in the world.
        valid: ``(B, N)`` bool.
        pose: ``(B, 4, 4)`` camera-to-world.

    Returns:
        ``(B, N, 3)``, 0 where not valid, and ``(B, 1, 1)`` the median depth, 1 without places.
    """
    here = torch.where(valid[..., None], moved(places, rigid_inverse(pose)), 0.0)
    depth = torch.where(valid & (here[..., 2] > 0), here[..., 2], torch.nan)
    middle = depth.detach().nanmedian(dim=1).values.nan_to_num(1.0).clamp(min=0.05)
    return here, middle[:, None, None]


class Writer(nn.Module):
    """A frame's patches as keys and values (spec 2.4, entry of frame t)."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.key = nn.Linear(2 * width, width)
        self.key_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.points = PatchEmbed(patch, 3, width)
        self.mlp = Mlp(4 * width, width, width)
        self.value = nn.Linear(width, width)

    def forward(
        self, tokens: Tensor, motion: Tensor, decoded: Tensor, points: Tensor, pose: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Keys and values.

        Args:
            tokens: ``(B, P, D)`` embedded.
            motion: ``(B, P, D)`` what moved.
            decoded: ``(B, P, D)`` last decoder tokens.
            points: ``(B, 3, H, W)`` in the world; no gradient goes back through them.
            pose: ``(B, 1, D)`` decoded pose token.
        """
        keys = self.key_norm(self.key(torch.cat([tokens, motion], dim=-1)))
        told = [decoded, motion, self.points(points.detach()), pose.expand_as(decoded)]
        values = self.value(self.mlp(torch.cat(told, dim=-1)))
        return keys, values


class TransientRead(nn.Module):
    """Weights of the ring of recent frames."""

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        width = config.decoder.width
        self.writer = Writer(width, config.patch)
        self.age = nn.Parameter(0.02 * torch.randn(config.transient.ages, width))
        self.null = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.lean = nn.Parameter(torch.zeros(()))

    def read(self, tokens: Tokens | None, batch: int, pose: Tensor) -> Read:
        """The ring as a decoder layer sees it, with a token for "nothing"."""
        null = self.null.expand(batch, -1, -1)
        nowhere = null.new_zeros(batch, 1, 2)
        if tokens is None or tokens.ages is None or tokens.positions is None:
            return Read(null, null, nowhere, None, 0.0, null.new_zeros(batch, 1, 3))
        age = self.age[tokens.ages.clamp(1, len(self.age)) - 1]
        bias = self.lean * (1 - tokens.static)
        bias = torch.where(tokens.valid, bias, _ABSENT)
        here, middle = seen_from(tokens.centroids, tokens.valid, pose)
        positions = torch.cat([nowhere, tokens.positions], dim=1)
        keys = tokens.keys + age
        return _after_nothing(null, keys, tokens.values, positions, bias, 0.0, here / middle)


class BankRead(nn.Module):
    """Weights of the bank of tokens: no grid, so places are told by waves."""

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        width = config.decoder.width
        self.writer = Writer(width, config.patch)
        self.place = nn.Linear(6 * _FREQUENCIES, width)
        self.null = nn.Parameter(0.02 * torch.randn(1, 1, width))

    def read(self, tokens: Tokens | None, batch: int, pose: Tensor, floor: float) -> Read:
        """The bank as a decoder layer sees it, with a token for "nothing"."""
        null = self.null.expand(batch, -1, -1)
        if tokens is None:
            return Read(null, null, None, None, 0.0, null.new_zeros(batch, 1, 3))
        here, middle = seen_from(tokens.centroids, tokens.valid, pose)
        keys = tokens.keys + self.place(waves(here / middle).to(tokens.keys.dtype))
        bias = torch.where(tokens.valid, 0.0, _ABSENT).to(keys.dtype)
        return _after_nothing(null, keys, tokens.values, None, bias, floor, here / middle)


def _after_nothing(
    null: Tensor, keys: Tensor, values: Tensor, positions: Tensor | None, bias: Tensor,
    floor: float, places: Tensor,
) -> Read:  # fmt: skip
    """A memory behind the token for "nothing", whose position is among those given."""
    return Read(
        torch.cat([null, keys], dim=1), torch.cat([null, values], dim=1), positions,
        F.pad(bias, (1, 0)), floor, F.pad(places, (0, 0, 1, 0)),
    )  # fmt: skip


@dataclass(frozen=True)
class Fixed:
    """A reader of a memory that is the same for all layers."""

    seen: Read

    def read(self, layer: int, tokens: Tensor, positions: Tensor) -> Read:
        """The same for each layer."""
        return self.seen


class Decoder(nn.Module):
    """Self-attention, one memory, MLP; layer after layer, the memories taking turns."""

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        settings = config.decoder
        self.settings = settings
        self.single = TRANSIENT if config.persistent.kind == "none" else PERSISTENT
        self.embed = nn.Linear(config.encoder.width, settings.width)
        self.first = nn.Parameter(torch.zeros(2, settings.width))  # other frames, first frame
        self.blocks = nn.ModuleList(
            DecoderBlock(settings.width, settings.heads, config.rope)
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.width, eps=NORM_EPS)
        if settings.coordinates:
            self.place = nn.ModuleList(nn.Linear(4, settings.width) for _ in range(settings.layers))

    def memories(self, layer: int) -> tuple[str, ...]:
        """Which memories a layer reads."""
        mode = self.settings.mode
        if mode == "single":
            return (self.single,)
        if mode in ("parallel", "concat"):
            return (PERSISTENT, TRANSIENT)
        turn = layer + (self.settings.order == "transient_first")
        return (TRANSIENT,) if turn % 2 else (PERSISTENT,)

    def forward(
        self, tokens: Tensor, positions: Tensor, readers: dict[str, MemoryReader]
    ) -> tuple[list[Tensor], dict[str, list[AttentionRecord]]]:
        """All layers.

        Args:
            tokens: ``(B, 1 + P, D)``, the pose token first.
            positions: ``(1, 1 + P, 2)``; the pose token stands at (-1, -1).
            readers: of the memories, both.

        Returns:
            Tokens after each layer, the last ones normed, and what was looked at by memory.
        """
        levels: list[Tensor] = []
        looked: dict[str, list[AttentionRecord]] = {name: [] for name in readers}
        for layer, block in enumerate(self.blocks):
            offers = {n: r.read(layer, tokens, positions) for n, r in readers.items()}
            names = self.memories(layer)
            reads = [offers[name] for name in names]
            if self.settings.mode == "concat":
                reads = [_joined(reads)]
            tokens, seen = block(tokens, reads, positions)
            if self.settings.mode == "concat":
                sizes = [offers[name].keys.shape[1] for name in names]
                for name, weights, scores in zip(
                    names, seen[0].weights.split(sizes, -1), seen[0].scores.split(sizes, -1),
                    strict=True,
                ):  # fmt: skip
                    looked[name].append(AttentionRecord(weights, scores))
            else:
                for name, one in zip(names, seen, strict=True):
                    looked[name].append(one)
            if self.settings.coordinates:
                tokens = tokens + self.place[layer](_where(seen, reads).to(tokens.dtype))
            levels.append(tokens)
        levels[-1] = self.norm(levels[-1])
        return levels, looked


def _where(seen: list[AttentionRecord], reads: list[Read]) -> Tensor:
    """``(B, Q, 4)`` mean place of what was read, and the share that was somewhere at all."""
    parts = []
    for one, read in zip(seen, reads, strict=True):
        if read.centroids is None:
            continue
        share = one.weights.mean(dim=1)  # (B, Q, N)
        real = 1 - share[..., :1]  # the first token is "nothing"
        parts.append(torch.cat([share @ read.centroids.to(share.dtype), real], dim=-1))
    if not parts:
        weights = seen[0].weights
        return weights.new_zeros(weights.shape[0], weights.shape[2], 4)
    return torch.stack(parts).sum(dim=0)


def _joined(reads: list[Read]) -> Read:
    """Both memories as one; places on the grid do not go together with those without one."""
    bias = [
        torch.zeros_like(r.keys[..., 0]) if r.bias is None else r.bias.to(r.keys.dtype)
        for r in reads
    ]
    centroids = None
    if all(r.centroids is not None for r in reads):
        centroids = torch.cat([r.centroids for r in reads if r.centroids is not None], dim=1)
    return Read(
        torch.cat([r.keys for r in reads], dim=1),
        torch.cat([r.values for r in reads], dim=1),
        None,
        torch.cat(bias, dim=1),
        max(r.floor for r in reads),
        centroids,
    )
