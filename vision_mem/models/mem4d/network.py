"""The learned reconstruction network: encode a frame, see motion, decode with two memories, write.

The network owns nothing that a stream leaves behind: ``vision_mem.reconstruction.learned`` holds
memories and calls the verbs here. Names of parameters are those of specs/mem4d.md section 2.11.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_mem.geometry.pointmaps import assemble, moved, quaternion_to_matrix
from vision_mem.models.mem4d.config import Mem4DConfig
from vision_mem.models.mem4d.decoder import (
    PERSISTENT,
    TRANSIENT,
    BankRead,
    Decoder,
    Fixed,
    TransientRead,
    Writer,
)
from vision_mem.models.mem4d.encoder import Encoder, MotionEncoder
from vision_mem.models.mem4d.heads import confidence_of, make_heads, points_and_confidence, spread
from vision_mem.models.mem4d.layers import AttentionRecord, grid_positions
from vision_mem.models.mem4d.matching import Matched, Matching, usual_rays
from vision_mem.models.mem4d.protocol import BankEntry, Decoded, EncodedFrame, MemoryReader, Tokens
from vision_mem.models.mem4d.state_tokens import PoseMemory, SlotStack

_STILL = -30.0
"""Logit of what surely stays; of all pixels where no mask is predicted."""


class LastPose(nn.Module):
    """The pose token of the frame before, through one layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.carry = nn.Linear(width, width)

    def start(self, batch: int) -> Tensor:
        """``(B, 1, D)`` zeros."""
        return self.carry.weight.new_zeros(batch, 1, self.width)

    def ask(self, state: Tensor, encoded: EncodedFrame) -> Tensor:
        """``(B, 1, D)``."""
        out: Tensor = self.carry(state)
        return out

    def write(self, state: Tensor, encoded: EncodedFrame, pose_token: Tensor) -> Tensor:
        """The decoded token is the new state."""
        return pose_token


class PoseToken(nn.Module):
    """What the pose token starts from: learned at first, then from ``memory``."""

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, config.decoder.width))
        self.memory: nn.Module
        if config.heads.placed:
            self.memory = LastPose(config.decoder.width)
        else:
            self.memory = PoseMemory(config)


class Persistent(nn.Module):
    """Weights of the persistent memory: of the bank, or of the slots."""

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        if config.persistent.kind == "slots":
            self.slots = SlotStack(config)
        else:
            self.bank = BankRead(config)


class Mem4DNetwork(nn.Module):
    """All weights, cut at the seams; all calls are pure functions of their arguments.

    Args:
        config: settings.

    Attributes:
        model_id: name and, where weights were read, a short hash of them; snapshots record it.
        pose: with the first pose ``token (1, 1, D)`` and ``memory``, what the stream keeps of it.
    """

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        self.config = config
        self.model_id = f"mem4d-{config.fingerprint}"
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.motion = MotionEncoder(config)
        self.tdm = TransientRead(config)
        self.psm = Persistent(config)
        self.pose = PoseToken(config)
        self.heads = make_heads(config)
        if config.match.width:
            self.match = Matching(config)
        if config.heads.placed:
            self.place = nn.Linear(config.decoder.width, 5)  # share of the match, shift, trust
            _start_small(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.embed.weight.device

    def encode(
        self, images: Tensor, first: Tensor, rays: Tensor | None = None,
        given: Tensor | None = None,
    ) -> EncodedFrame:  # fmt: skip
        """Encode frames.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1], whole patches.
            first: ``(B,)`` bool: the frame defines its world.
            rays: ``(B, H, W, 2)`` x/z and y/z of the pixels' middles, or None.
            given: ``(B,)`` bool: whose rays count; None for all.
        """
        maps = None
        if rays is not None:
            maps = rays.permute(0, 3, 1, 2)
            if self.config.rays == 6:  # the camera is the origin of its own rays
                ones = torch.ones_like(maps[:, :1])
                way = F.normalize(torch.cat([maps, ones], dim=1), dim=1)
                maps = torch.cat([torch.zeros_like(way), way], dim=1)
            if given is None:
                given = torch.ones(len(images), dtype=torch.bool, device=images.device)
        features = self.encoder(images, maps, given)
        tokens = self.decoder.embed(features) + self.decoder.first[first.long()][:, None]
        grid = (images.shape[-2] // self.config.patch, images.shape[-1] // self.config.patch)
        return EncodedFrame(features, tokens, rays, given, first, grid)

    def move(
        self, encoded: EncodedFrame, previous: Tensor | None, known: Tensor | None,
        flow: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """``(B, P, D)`` what moved; arguments as of ``MotionEncoder``."""
        out: Tensor = self.motion(encoded.features, previous, known, encoded.grid, flow)
        return out

    def read_transient(
        self, tokens: Tokens | None, encoded: EncodedFrame, pose: Tensor
    ) -> MemoryReader:
        """A reader of the ring; None for an empty one."""
        return Fixed(self.tdm.read(tokens, len(encoded.tokens), pose))

    def read_bank(
        self, tokens: Tokens | None, encoded: EncodedFrame, pose: Tensor, floor: float = 0.0
    ) -> MemoryReader:
        """A reader of the bank; None for an empty one."""
        return Fixed(self.psm.bank.read(tokens, len(encoded.tokens), pose, floor))

    def decode(
        self,
        encoded: EncodedFrame,
        motion: Tensor,
        readers: dict[str, MemoryReader],
        memories: list[Tokens],
        pose_token: Tensor,
        previous: Tensor,
    ) -> Decoded:
        """A frame with what is remembered.

        Args:
            encoded: the frame.
            motion: ``(B, P, D)`` from ``move``.
            readers: of the ``persistent`` and the ``transient`` memory.
            memories: what matching may use.
            pose_token: ``(B, 1, D)`` from ``Pose``.
            previous: ``(B, 4, 4)`` pose of the frame before; the identity for first frames.
        """
        tokens = encoded.tokens + self.motion.weight * motion
        matched = None
        described = encoded.features.new_zeros(*encoded.features.shape[:2], 0)
        if self.config.match.width:
            described = self.match.describe(encoded.features)
            matched = self.match(encoded, described, memories, previous)
            tokens, pose_token = tokens + matched.told, pose_token + matched.pose_told
        positions = grid_positions(encoded.grid, tokens.device)
        positions = torch.cat([positions.new_full((1, 1, 2), -1.0), positions], dim=1)
        start = torch.cat([pose_token, tokens], dim=1)
        levels, looked = self.decoder(start, positions, readers)
        depth = len(levels)
        half, most = levels[depth // 2 - 1], levels[3 * depth // 4 - 1]
        taps = [encoded.features, half[:, 1:], most[:, 1:], levels[-1][:, 1:]]
        decoded = self._heads(encoded, motion, taps, levels[-1][:, :1], matched, previous)
        return replace(
            decoded,
            match=described,
            mass={name: _mass(seen, tokens) for name, seen in looked.items()},
        )

    def _heads(
        self, encoded: EncodedFrame, motion: Tensor, taps: list[Tensor], pose_token: Tensor,
        matched: Matched | None, previous: Tensor,
    ) -> Decoded:  # fmt: skip
        grid, settings = encoded.grid, self.config.heads
        own = self.heads["self"](taps, pose_token, grid)
        world = self.heads["world"](taps, pose_token, grid)
        said = self.heads["pose"](pose_token[:, 0]).float()
        logit = torch.full_like(own[:, 0], _STILL, dtype=torch.float32)
        if settings.mask:
            logit = self.heads["mask"](taps[-1], motion, grid)
        rgb = None
        if settings.rgb:
            rgb = self.heads["rgb"](taps, pose_token, grid).float().permute(0, 2, 3, 1)
        if settings.placed and matched is not None:
            with torch.autocast(said.device.type, enabled=False):  # poses are multiplied
                return self._placed(
                    encoded, taps[-1].float(), pose_token.float(), own.float(), world.float(), said,
                    logit, matched, previous,
                )  # fmt: skip
        # CUT3R's linear heads mirror what lies behind the camera, its DPT heads do not.
        ahead = settings.kind != "dpt"
        points_self, conf_self = points_and_confidence(own, settings, ahead=ahead)
        points_world, conf_world = points_and_confidence(world, settings, ahead=False)
        quaternion = said[:, 3:]
        pose = assemble(quaternion_to_matrix(quaternion), spread(said[:, :3], settings.ceiling))
        m = matched
        told: dict[str, Any] = {} if m is None else {
            "prior": m.prior, "aligned": m.aligned, "match_logits": m.logits,
            "match_centroids": m.centroids, "match_places": m.found, "match_weights": m.weights,
            "patch_points": m.points,
        }  # fmt: skip
        return Decoded(
            points_self, points_world, conf_self, conf_world, logit, pose, taps[-1], pose_token,
            taps[-1][..., :0], rgb=rgb, **told,
        )  # fmt: skip

    def _placed(
        self, encoded: EncodedFrame, tokens: Tensor, pose_token: Tensor, own: Tensor, world: Tensor,
        said: Tensor, logit: Tensor, matched: Matched, previous: Tensor,
    ) -> Decoded:  # fmt: skip
        """World points as remembered places plus corrections, the pose as prior plus correction."""
        settings, patch = self.config.heads, self.config.patch
        points_self = self._ray_points(encoded, own)
        centres = F.avg_pool2d(points_self.permute(0, 3, 1, 2), patch).flatten(2).transpose(1, 2)
        moving = F.avg_pool2d(logit.sigmoid()[:, None], patch).flatten(1)
        # What a match leaves open within a patch, the decoder says: small shifts, and how sure.
        raw = self.place(tokens).float()  # (B, P, 5)
        shift = 0.1 * raw[..., 1:4] @ previous[:, :3, :3].transpose(1, 2)
        places = matched.found + shift
        weights = matched.weights * (1 - moving.detach()) * 2 * raw[..., 4].sigmoid()
        prior = self.match.align(centres, places, weights, matched.aligned, previous)
        turn = quaternion_to_matrix(said[:, 3:] + said.new_tensor([1.0, 0.0, 0.0, 0.0]))
        pose = prior @ assemble(turn, said[:, :3])
        here = torch.eye(4, device=pose.device).expand_as(pose)
        pose = torch.where(encoded.first[:, None, None], here, pose)
        carried = moved(centres, pose)
        share = raw[..., :1].sigmoid() * matched.aligned[:, None, None]
        share = torch.where(encoded.first[:, None, None], 0.0, share)
        middle = share * places + (1 - share) * carried
        offset = (middle - carried).transpose(1, 2).unflatten(2, encoded.grid)
        offset = offset.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        fine = 0.1 * world[:, :3].float()
        points_world = moved(points_self, pose) + (offset + fine).permute(0, 2, 3, 1)
        return Decoded(
            points_self, points_world, confidence_of(own[:, 3], settings),
            confidence_of(world[:, 3], settings), logit, pose, tokens, pose_token,
            tokens[..., :0], prior, matched.aligned, matched.logits, matched.centroids, places,
            matched.weights, matched.points,
        )  # fmt: skip

    def _ray_points(self, encoded: EncodedFrame, own: Tensor) -> Tensor:
        """Depth along rays, given or found, as points ``(B, H, W, 3)``."""
        raw = own.float()
        depth = 2 * raw[:, 0].clamp(-3, 3).exp()
        free = 0.1 * raw[:, 1:3].permute(0, 2, 3, 1)
        rays = usual_rays(raw.shape[-2], raw.shape[-1], raw.device) + free
        if encoded.rays is not None and encoded.given is not None:
            rays = torch.where(encoded.given[:, None, None, None], encoded.rays.float(), rays)
        return torch.cat([rays * depth[..., None], depth[..., None]], dim=-1)

    def entries(
        self, encoded: EncodedFrame, motion: Tensor, decoded: Decoded
    ) -> dict[str, BankEntry]:
        """What a decoded frame has to write, for the ``transient`` and the ``persistent`` memory.

        Args:
            encoded: the frame.
            motion: ``(B, P, D)`` of it.
            decoded: what was made of it.
        """
        patch = self.config.patch
        points = decoded.points_world.permute(0, 3, 1, 2)
        centroids = F.avg_pool2d(points, patch).flatten(2).transpose(1, 2)
        way = centroids - decoded.pose[:, None, :3, 3]
        own = F.avg_pool2d(decoded.points_self[..., 2][:, None], patch).flatten(1)
        dynamic = F.avg_pool2d(decoded.dynamic_logit.sigmoid()[:, None], patch).flatten(1)
        confidence = F.avg_pool2d(decoded.conf_world[:, None], patch).flatten(1)
        made = {}
        for name, writer, motions in (
            (TRANSIENT, self.tdm.writer, self.config.transient.motion),
            (PERSISTENT, getattr(getattr(self.psm, "bank", None), "writer", None), False),
        ):
            if not isinstance(writer, Writer):
                continue
            keys, values = writer(
                encoded.tokens, motion if motions else torch.zeros_like(motion),
                decoded.tokens, points, decoded.pose_token,
            )  # fmt: skip
            made[name] = BankEntry(
                keys, values, decoded.match, centroids, F.normalize(way, dim=-1), own, dynamic,
                confidence, encoded.grid,
            )  # fmt: skip
        return made


def _mass(seen: list[AttentionRecord], tokens: Tensor) -> Tensor:
    """Attention to each token, summed over queries and heads, mean over reading layers."""
    if not seen:
        return tokens.new_zeros(len(tokens), 0)
    weights = torch.stack([one.weights.detach().sum(dim=(1, 2)) for one in seen])
    return weights.mean(dim=0)


def _start_small(network: Mem4DNetwork) -> None:
    """Begin where nothing is corrected: the prior is the pose, depth is 2 m."""
    last: list[Any] = [network.heads["pose"].fc2, network.place]
    for layer in last:
        nn.init.normal_(layer.weight, std=1e-3)
        nn.init.zeros_(layer.bias)
    points: list[Any] = [network.heads[name] for name in ("self", "world")]
    for head in points:
        nn.init.normal_(head.proj.weight, std=0.01)
        nn.init.zeros_(head.proj.bias)
