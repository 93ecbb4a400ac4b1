"""Match, then align: which remembered places a frame sees, and the pose that follows.

Queries and keys are made by one projection, so what looks the same matches from the start; a
match hands back where the remembered token is, and the pose is that of a camera which sees those
places where the patches are.

Source: specs/mem4d.md section 2.6, coordinate read-out. There the pose brings guessed points onto
remembered ones; ours needs no guess of depths (docs/mem4d.md has what each of them reaches).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_mem.geometry.pointmaps import moved, rigid_inverse, weighted_resection
from vision_mem.models.mem4d.config import Mem4DConfig
from vision_mem.models.mem4d.decoder import waves
from vision_mem.models.mem4d.layers import Mlp
from vision_mem.models.mem4d.protocol import EncodedFrame, Tokens

FIELD_OF_VIEW = 62.5
"""Degrees, horizontal, where nothing is known of a camera."""
_ABSENT = -1e9
_HASTE = 5.0
"""How much faster than others the pull towards the last position is learned."""


@dataclass(frozen=True)
class Matched:
    """What matching found.

    Attributes:
        logits: ``(B, P, N)``.
        centroids: ``(B, N, 3)`` of the tokens matched against, in the world.
        found: ``(B, P, 3)`` expected place of each patch, in the world.
        weights: ``(B, P)`` how far it is believed, in (0, 1).
        points: ``(B, P, 3)`` first guess of the patches in the camera.
        prior: ``(B, 4, 4)`` pose from which the places are seen where the patches are.
        aligned: ``(B,)`` bool: there was enough to align.
        told: ``(B, P, D)`` for the decoder's tokens.
        pose_told: ``(B, 1, D)`` for its pose token.
    """

    logits: Tensor
    centroids: Tensor
    found: Tensor
    weights: Tensor
    points: Tensor
    prior: Tensor
    aligned: Tensor
    told: Tensor
    pose_told: Tensor


class Matching(nn.Module):
    """Weights of the matching."""

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        width, out = config.encoder.width, config.decoder.width
        self.patch = config.patch
        self.proj = nn.Linear(width, config.match.width)
        self.temperature = nn.Parameter(torch.tensor(math.log(10.0)))
        self.stay = nn.Parameter(torch.tensor(-1.2))  # a pull of 0.0025 a square metre
        self.points = Mlp(width, width, 3)
        self.trust = Mlp(out + 2, out, 1)
        self.told = nn.Linear(63, out)
        self.pose = nn.Linear(13, out)

    def describe(self, features: Tensor) -> Tensor:
        """``(B, P, C)`` to descriptors ``(B, P, d)`` of length 1."""
        return F.normalize(self.proj(features).float(), dim=-1)

    def first_points(self, encoded: EncodedFrame) -> Tensor:
        """``(B, P, 3)`` where the middle of each patch may be, in the camera."""
        raw = self.points(encoded.features).float()
        rays = patch_rays(encoded, self.patch)
        if encoded.rays is None or encoded.given is None:
            rays = rays + 0.1 * raw[..., 1:]
        else:
            rays = rays + torch.where(encoded.given[:, None, None], 0.0, 0.1 * raw[..., 1:])
        depth = 2 * raw[..., :1].clamp(-3, 3).exp()
        return torch.cat([rays * depth, depth], dim=-1)

    def forward(
        self, encoded: EncodedFrame, described: Tensor, memories: list[Tokens], previous: Tensor
    ) -> Matched:
        """Match a frame against what is remembered.

        Args:
            encoded: the frame.
            described: ``(B, P, d)`` its descriptors.
            memories: those with places.
            previous: ``(B, 4, 4)`` pose of the frame before.
        """
        single = replace(encoded, features=encoded.features.float(), tokens=encoded.tokens.float())
        with torch.autocast(described.device.type, enabled=False):  # metres and logarithms
            return self._matched(single, described.float(), memories, previous)

    def _matched(
        self, encoded: EncodedFrame, described: Tensor, memories: list[Tokens], previous: Tensor
    ) -> Matched:
        points = self.first_points(encoded)
        logits, centroids = self._logits(described, memories)
        chance = logits.softmax(dim=-1)
        known = (logits > 0.5 * _ABSENT).any(dim=-1)  # (B, P)
        found = chance @ centroids
        entropy = -(chance * chance.clamp(min=1e-9).log()).sum(-1, keepdim=True)
        best = chance.max(dim=-1, keepdim=True).values
        told = torch.cat([encoded.tokens.float(), entropy, best], dim=-1)
        weights = self.trust(told)[..., 0].sigmoid() * known
        aligned = (known.sum(dim=1) >= 3) & (weights.sum(dim=1) > 1e-3)
        prior = self.align(points, found, weights, aligned, previous)
        inverse = rigid_inverse(previous)
        here = torch.where(known[..., None], moved(found, inverse), 0.0)
        detail = torch.cat([waves(here / 2), here - points], dim=-1) * weights[..., None]
        step = (inverse @ prior)[:, :3].flatten(1)
        asked = torch.cat([step, aligned[:, None].to(step.dtype)], dim=-1)
        return Matched(
            logits, centroids, found, weights, points, prior, aligned,
            self.told(detail), self.pose(asked)[:, None],
        )  # fmt: skip

    def align(
        self, points: Tensor, found: Tensor, weights: Tensor, aligned: Tensor, previous: Tensor
    ) -> Tensor:
        """The pose of a camera that sees places in the directions of points.

        Args:
            points: ``(B, P, 3)`` in the camera; their distances do not matter.
            found: ``(B, P, 3)`` in the world.
            weights: ``(B, P)``.
            aligned: ``(B,)`` bool: there is enough to align; the others keep ``previous``.
            previous: ``(B, 4, 4)``; a camera that could be anywhere is where it was.
        """
        rays = points[..., :2] / points[..., 2:].clamp(min=1e-3)
        pose = weighted_resection(found, rays, weights, previous, (_HASTE * self.stay).exp())
        return torch.where(aligned[:, None, None], pose, previous)

    def _logits(self, described: Tensor, memories: list[Tokens]) -> tuple[Tensor, Tensor]:
        batch, patches = described.shape[:2]
        if not memories:
            nowhere = described.new_zeros(batch, 1, 3)
            return described.new_full((batch, patches, 1), _ABSENT), nowhere
        keys = torch.cat([m.match for m in memories], dim=1).float()
        centroids = torch.cat([m.centroids for m in memories], dim=1).float()
        static = torch.cat([m.static for m in memories], dim=1).float()
        valid = torch.cat([m.valid for m in memories], dim=1)
        logits = self.temperature.exp() * described @ keys.transpose(1, 2)
        logits = logits + static.clamp(min=1e-3).log()[:, None]
        return logits.masked_fill(~valid[:, None], _ABSENT), centroids


def patch_rays(encoded: EncodedFrame, patch: int) -> Tensor:
    """``(B, P, 2)`` x/z and y/z of the middles of patches, as given or as is common."""
    h, w = encoded.grid
    usual = usual_rays(h * patch, w * patch, encoded.features.device).expand(
        len(encoded.features), -1, -1, -1
    )
    rays = usual
    if encoded.rays is not None:
        rays = encoded.rays
        if encoded.given is not None:
            rays = torch.where(encoded.given[:, None, None, None], rays, usual)
    return F.avg_pool2d(rays.permute(0, 3, 1, 2).float(), patch).flatten(2).transpose(1, 2)


def usual_rays(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """``(1, H, W, 2)`` x/z and y/z of pixels of a common camera."""
    focal = 0.5 * max(width, height) / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    y, x = torch.meshgrid(
        torch.arange(height, device=device) + 0.5 - height / 2,
        torch.arange(width, device=device) + 0.5 - width / 2,
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1)[None] / focal
