"""Images to tokens, and what moved between two of them.

Source: specs/mem4d.md sections 2.2 and 2.3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_mem.models.mem4d.config import Mem4DConfig
from vision_mem.models.mem4d.layers import NORM_EPS, EncoderBlock, Mlp, grid_positions


class PatchEmbed(nn.Module):
    """Patches of an image to tokens."""

    def __init__(self, patch: int, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` to ``(B, P, width)``."""
        out: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return out


class Encoder(nn.Module):
    """A vision transformer with rotary positions.

    ``ray_embed`` takes maps of rays; what it says is added to the image's tokens.
    """

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        width = config.encoder.width
        self.patch = config.patch
        self.patch_embed = PatchEmbed(config.patch, 3, width)
        if config.rays:
            self.ray_embed = PatchEmbed(config.patch, config.rays, width)
            for value in self.ray_embed.parameters():
                nn.init.zeros_(value)  # rays change nothing before they are learned
        self.blocks = nn.ModuleList(
            EncoderBlock(width, config.encoder.heads, config.rope)
            for _ in range(config.encoder.layers)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, images: Tensor, rays: Tensor | None, given: Tensor | None) -> Tensor:
        """Features of images.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1].
            rays: ``(B, channels, H, W)`` or None.
            given: ``(B,)`` bool: where rays count; None for everywhere.

        Returns:
            ``(B, P, C)``.
        """
        x = self.patch_embed(images)
        if rays is not None and hasattr(self, "ray_embed"):
            told = self.ray_embed(rays)
            x = x + (told if given is None else told * given[:, None, None].to(told.dtype))
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        positions = grid_positions(grid, images.device)
        for block in self.blocks:
            x = block(x, positions)
        out: Tensor = self.norm(x)
        return out


class MotionEncoder(nn.Module):
    """What moved since the frame before: local correlation at two levels, and what is left.

    Per level and patch: products with the patches of a window, whether they are in the image, the
    expected displacement, the best product and the entropy. Then the features are warped by the
    displacement and compared.
    """

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        settings, width = config.motion, config.encoder.width
        self.kind, self.radius = settings.kind, settings.radius
        out = config.decoder.width
        self.first = nn.Parameter(torch.zeros(1, 1, out))
        self.weight = nn.Parameter(torch.full((out,), 1.0 if config.init == "random" else 0.0))
        if self.kind == "none":
            return
        channels = min(width, settings.width)
        self.residual = nn.Linear(width, channels)
        window = (2 * self.radius + 1) ** 2
        given = 0
        if self.kind == "correlation":
            self.project = nn.Linear(width, channels)
            self.temperature = nn.Parameter(torch.tensor(0.1).log())
            given = 2 * (2 * window + 4)
        self.mlp = Mlp(given + channels, 2 * out, out)

    def forward(
        self,
        features: Tensor,
        previous: Tensor | None,
        known: Tensor | None,
        grid: tuple[int, int],
        flow: Tensor | None = None,
    ) -> Tensor:
        """Motion of each patch.

        Args:
            features: ``(B, P, C)``.
            previous: the same of the frame before, or None.
            known: ``(B,)`` bool: where there was a frame before; None for everywhere.
            grid: ``(h, w)``.
            flow: ``(B, P, 2)`` where each patch was on the frame before, minus where it is, in
                patches (x, y), in place of what is found here.

        Returns:
            ``(B, P, D)``.
        """
        start = self.first.expand(len(features), features.shape[1], -1)
        if self.kind == "none" or previous is None:
            return start
        parts = []
        shift = features.new_zeros(*features.shape[:2], 2)
        if self.kind == "correlation":
            now = F.normalize(self.project(features), dim=-1)
            before = _as_map(F.normalize(self.project(previous), dim=-1), grid)
            for level in (0, 1):
                seen = before if level == 0 else _half(before)
                parts_of, found = self._correlate(now, seen, grid, 2**level)
                parts.append(parts_of)
                shift = found if level == 0 else shift
        shift = shift if flow is None else flow
        parts.append(self.residual(features - _sampled(previous, shift, grid)))
        out: Tensor = self.mlp(torch.cat(parts, dim=-1))
        return out if known is None else torch.where(known[:, None, None], out, start)

    def _correlate(
        self, now: Tensor, before: Tensor, grid: tuple[int, int], step: int
    ) -> tuple[Tensor, Tensor]:
        """Products ``(B, P, 2 window + 4)`` with a window around each patch, and displacement."""
        r, side = self.radius, 2 * self.radius + 1
        maps = F.pad(before, (r, r, r, r))
        inside = F.pad(torch.ones_like(before[:, :1]), (r, r, r, r))
        h, w = before.shape[-2:]
        windows = F.unfold(maps, side).unflatten(1, (before.shape[1], side * side))
        valid = F.unfold(inside, side)  # (B, window, h w)
        if step > 1:  # each fine patch looks around the coarse one that it is in
            rows = torch.arange(grid[0], device=now.device).div(step, rounding_mode="floor")
            columns = torch.arange(grid[1], device=now.device).div(step, rounding_mode="floor")
            pick = (rows.clamp(max=h - 1)[:, None] * w + columns.clamp(max=w - 1)).flatten()
            windows, valid = windows[..., pick], valid[..., pick]
        products = torch.einsum("bpc,bcwp->bpw", now, windows)
        valid = valid.transpose(1, 2)
        sharp = (products / self.temperature.exp()).masked_fill(valid == 0, -1e4)
        chance = sharp.float().softmax(dim=-1)
        offset = torch.arange(-r, r + 1, device=now.device, dtype=chance.dtype) * step
        shift = torch.stack(
            [chance @ offset.repeat(side), chance @ offset.repeat_interleave(side)], dim=-1
        )
        entropy = -(chance * chance.clamp(min=1e-9).log()).sum(-1, keepdim=True)
        best = sharp.max(dim=-1, keepdim=True).values * self.temperature.exp()
        told = torch.cat([products, valid, shift / r, best, entropy], dim=-1)
        return told.to(now.dtype), shift.to(now.dtype)


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, grid)


def _half(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)


def _sampled(tokens: Tensor, shift: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens ``(B, P, C)`` of a map where ``shift (B, P, 2)`` patches (x, y) lead to."""
    at = grid_positions(grid, tokens.device).flip(-1) + shift.float()
    size = torch.tensor([grid[1], grid[0]], device=tokens.device)
    where = (2 * at + 1) / size - 1
    found = F.grid_sample(
        _as_map(tokens.float(), grid), where[:, None], padding_mode="border", align_corners=False
    )
    return found[:, :, 0].transpose(1, 2).to(tokens.dtype)
