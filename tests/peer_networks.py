"""DUSt3R's and CUT3R's networks written a second time: a plain forward.

Nothing of ``vision_mem`` is used here. Every function takes a dictionary of tensors with the
published names, so that what the library computes has something to be compared with.
"""

from __future__ import annotations

import torch
from peer_shapes import Sizes, State
from torch import Tensor
from torch.nn import functional as F


def norm(p: State, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / spread * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p: State, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def mlp(p: State, name: str, x: Tensor) -> Tensor:
    return linear(p, f"{name}.fc2", F.gelu(linear(p, f"{name}.fc1", x)))


def turn(x: Tensor, positions: Tensor | None) -> Tensor:
    """Rotary position: pairs of numbers as complex ones, multiplied by a phase."""
    if positions is None:
        return x
    parts = []
    for axis, half in enumerate(x.chunk(2, dim=-1)):
        real, imaginary = half.chunk(2, dim=-1)
        pairs = real.shape[-1]
        speed = 100.0 ** (-torch.arange(pairs) / pairs)
        angle = positions[:, axis, None].float() * speed
        turned = torch.complex(real, imaginary) * torch.exp(1j * angle)
        parts += [turned.real, turned.imag]
    return torch.cat(parts, dim=-1)


def attend(
    q: Tensor, k: Tensor, v: Tensor, heads: int, at_q: Tensor | None, at_k: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mixed values and scores before the softmax."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = turn(q, at_q) @ turn(k, at_k).transpose(-1, -2) / q.shape[-1] ** 0.5
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2), scores


def self_attention(p: State, name: str, x: Tensor, heads: int, at: Tensor | None) -> Tensor:
    q, k, v = linear(p, f"{name}.qkv", x).chunk(3, dim=-1)
    return linear(p, f"{name}.proj", attend(q, k, v, heads, at, at)[0])


def block(p: State, name: str, x: Tensor, heads: int, at: Tensor) -> Tensor:
    x = x + self_attention(p, f"{name}.attn", norm(p, f"{name}.norm1", x), heads, at)
    return x + mlp(p, f"{name}.mlp", norm(p, f"{name}.norm2", x))


def decoder_block(
    p: State,
    name: str,
    x: Tensor,
    other: Tensor,
    heads: int,
    at: Tensor | None = None,
    other_at: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    x = x + self_attention(p, f"{name}.attn", norm(p, f"{name}.norm1", x), heads, at)
    seen, cross = norm(p, f"{name}.norm_y", other), f"{name}.cross_attn"
    mixed, scores = attend(
        linear(p, f"{cross}.projq", norm(p, f"{name}.norm2", x)),
        linear(p, f"{cross}.projk", seen),
        linear(p, f"{cross}.projv", seen),
        heads,
        at,
        other_at,
    )
    x = x + linear(p, f"{cross}.proj", mixed)
    return x + mlp(p, f"{name}.mlp", norm(p, f"{name}.norm3", x)), scores


def encode(p: State, s: Sizes, image: Tensor) -> tuple[Tensor, Tensor]:
    """``(B, P, C)`` tokens of ``(B, 3, H, W)`` in [-1, 1], and their ``(P, 2)`` rows, columns."""
    weight, bias = p["patch_embed.proj.weight"], p["patch_embed.proj.bias"]
    x = F.conv2d(image, weight, bias, stride=s.patch)
    rows, columns = x.shape[-2:]
    at = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    x = x.flatten(2).transpose(1, 2)
    for i in range(s.encoder_layers):
        x = block(p, f"enc_blocks.{i}", x, s.encoder_heads, at)
    return norm(p, "enc_norm", x), at


def residual(p: State, name: str, x: Tensor) -> Tensor:
    y = x
    for conv in (1, 2):
        weight, bias = p[f"{name}.conv{conv}.weight"], p[f"{name}.conv{conv}.bias"]
        y = F.conv2d(y.clamp(min=0), weight, bias, padding=1)
    return x + y


def dpt(p: State, name: str, levels: list[Tensor], grid: tuple[int, int]) -> Tensor:
    maps = []
    for i, tokens in enumerate(levels):
        x = tokens.transpose(1, 2).unflatten(2, grid)
        step = f"{name}.act_postprocess.{i}"
        x = F.conv2d(x, p[f"{step}.0.weight"], p[f"{step}.0.bias"])
        if i < 2:
            stride = 4 if i == 0 else 2
            x = F.conv_transpose2d(x, p[f"{step}.1.weight"], p[f"{step}.1.bias"], stride=stride)
        elif i == 3:
            x = F.conv2d(x, p[f"{step}.1.weight"], p[f"{step}.1.bias"], stride=2, padding=1)
        maps.append(F.conv2d(x, p[f"{name}.scratch.layer{i + 1}_rn.weight"], padding=1))
    path = None
    for i in (3, 2, 1, 0):
        fuse = f"{name}.scratch.refinenet{i + 1}"
        skip = maps[i]
        path = skip if path is None else path + residual(p, f"{fuse}.resConfUnit1", skip)
        path = residual(p, f"{fuse}.resConfUnit2", path)
        path = F.interpolate(path, scale_factor=2, mode="bilinear", align_corners=True)
        path = F.conv2d(path, p[f"{fuse}.out_conv.weight"], p[f"{fuse}.out_conv.bias"])
        if i == 3:
            path = path[..., : maps[2].shape[2], : maps[2].shape[3]]
    x = F.conv2d(path, p[f"{name}.head.0.weight"], p[f"{name}.head.0.bias"], padding=1)
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    x = F.conv2d(x, p[f"{name}.head.2.weight"], p[f"{name}.head.2.bias"], padding=1)
    return F.conv2d(x.clamp(min=0), p[f"{name}.head.4.weight"], p[f"{name}.head.4.bias"])


def pixels(raw: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """``(B, P, c * p * p)`` to ``(B, c, H, W)``."""
    count, (rows, columns) = raw.shape[0], grid
    x = raw.reshape(count, rows, columns, -1, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(count, -1, rows * patch, columns * patch)


def points(raw: Tensor, forward: bool = False) -> tuple[Tensor, Tensor]:
    """Points ``(B, H, W, 3)`` and confidence ``(B, H, W)`` of raw ``(B, 4, H, W)``."""
    xyz = raw[:, :3].permute(0, 2, 3, 1)
    if forward:
        xyz = xyz * xyz[..., 2:].sign()
    far = xyz.norm(dim=-1, keepdim=True)
    return xyz / far.clamp(min=1e-8) * torch.expm1(far), 1 + raw[:, 3].exp()


def pose_numbers(raw: Tensor) -> Tensor:
    """``(B, 7)``: where the camera is and its quaternion, real part first and not negative."""
    far = raw[:, :3].norm(dim=-1, keepdim=True)
    where = raw[:, :3] * torch.expm1(far) / far.clamp(min=1e-8)
    quaternion = raw[:, 3:] / raw[:, 3:].norm(dim=-1, keepdim=True)
    return torch.cat([where, torch.where(quaternion[:, :1] < 0, -quaternion, quaternion)], dim=-1)


def condition(p: State, name: str, x: Tensor, token: Tensor, heads: int, at: Tensor) -> Tensor:
    def modulated(which: str, x: Tensor) -> Tensor:
        told = linear(p, f"{name}.{which}.mlp.1", F.silu(token))
        shift, scale = told[:, None].chunk(2, dim=-1)
        return norm(p, f"{name}.{which}.norm", x) * (1 + scale) + shift

    x = x + self_attention(p, f"{name}.attn", modulated("norm1", x), heads, at)
    return x + mlp(p, f"{name}.mlp", modulated("norm2", x))


class Cut3r:
    """CUT3R on one stream, a frame at a time."""

    def __init__(self, p: State, s: Sizes, gate: str = "one") -> None:
        self.p, self.s, self.gate = p, s, gate
        side = int(s.slots**0.5)
        side += side % 2
        self.slots_at = torch.tensor([[i // side, i % side] for i in range(s.slots)])
        self.slots = linear(p, "decoder_embed_state", p["register_tokens.weight"])[None]
        self.memory = p["pose_retriever.mem"]
        self.frames = 0

    def step(self, image: Tensor, moving: Tensor | None = None) -> dict[str, Tensor]:
        """One frame ``(1, 3, H, W)``; in the gate patches count as far as not ``moving (1, P)``."""
        p, s = self.p, self.s
        seen, at = encode(p, s, image)
        grid = (image.shape[2] // s.patch, image.shape[3] // s.patch)
        key = linear(p, "pose_retriever.proj_q", seen.mean(1, keepdim=True))
        token = p["pose_token"]
        if self.frames:
            token = torch.cat([key, p["pose_retriever.masked_token"]], dim=-1)
            for i in range(2):
                name = f"pose_retriever.read_blocks.{i}"
                token, _ = decoder_block(p, name, token, self.memory, s.decoder_heads)
            token = token[..., s.decoder :]
        x, state = torch.cat([token, linear(p, "decoder_embed", seen)], dim=1), self.slots
        x_at = torch.cat([torch.tensor([[-1, -1]]), at])
        layers, logits = [], []
        for i in range(s.decoder_layers):
            after, scores = decoder_block(
                p, f"dec_blocks_state.{i}", state, x, s.slot_heads, self.slots_at, x_at
            )
            name = f"dec_blocks.{i}"
            x, _ = decoder_block(p, name, x, state, s.decoder_heads, x_at, self.slots_at)
            state = after
            layers.append(x)
            logits.append(scores)
        x, state = norm(p, "dec_norm", x), norm(p, "dec_norm_state", state)
        written = torch.cat([key, x[:, :1]], dim=-1)
        for i in range(2):
            name = f"pose_retriever.write_blocks.{i}"
            self.memory, _ = decoder_block(p, name, self.memory, written, s.decoder_heads)
        if self.gate == "one" or not self.frames:
            self.slots = state
        else:
            score = torch.stack(logits).mean(dim=(0, 2))  # B, slot, token
            weight = torch.ones(score.shape[-1])
            weight[1:] = 1.0 if moving is None else 1 - moving[0]
            share = ((score * weight).sum(-1) / weight.sum()).sigmoid()[..., None]
            share = share * weight[1:].mean()
            self.slots = self.slots + share * (state - self.slots)
        self.frames += 1
        depth = s.decoder_layers
        middle = [layers[depth * 2 // 4 - 1][:, 1:], layers[depth * 3 // 4 - 1][:, 1:]]
        return self._answer([seen, *middle, x[:, 1:]], x[:, 0], at, grid)

    def _answer(
        self, levels: list[Tensor], token: Tensor, at: Tensor, grid: tuple[int, int]
    ) -> dict[str, Tensor]:
        p, s, head = self.p, self.s, "downstream_head"
        told = levels[-1]
        for i in range(2):
            told = condition(p, f"{head}.final_transform.{i}", told, token, s.decoder_heads, at)
        if s.head == "dpt":
            mine = points(dpt(p, f"{head}.dpt_self", levels, grid))
            world = points(dpt(p, f"{head}.dpt_cross", [*levels[:-1], told], grid))
        else:
            raw = pixels(mlp(p, f"{head}.proj", levels[-1]), s.patch, grid)
            mine = points(raw, forward=True)
            world = points(pixels(mlp(p, f"{head}.cross_proj", told), s.patch, grid))
        return {
            "points": mine[0],
            "confidence": mine[1],
            "world": world[0],
            "world_confidence": world[1],
            "pose": pose_numbers(mlp(p, f"{head}.pose_head.mlp", token)),
        }


def dust3r_pair(p: State, s: Sizes, first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """DUSt3R on two images: both pointmaps in the first one's frame."""
    a0, at = encode(p, s, first)
    b0, _ = encode(p, s, second)
    a, b = linear(p, "decoder_embed", a0), linear(p, "decoder_embed", b0)
    grid = (first.shape[2] // s.patch, first.shape[3] // s.patch)
    kept: list[list[Tensor]] = [[a0], [b0]]
    for i in range(s.decoder_layers):
        after, _ = decoder_block(p, f"dec_blocks.{i}", a, b, s.decoder_heads, at, at)
        b, _ = decoder_block(p, f"dec_blocks2.{i}", b, a, s.decoder_heads, at, at)
        a = after
        if i + 1 in (s.decoder_layers * 2 // 4, s.decoder_layers * 3 // 4):
            kept[0].append(a)
            kept[1].append(b)
    answer = {}
    for number, (levels, last) in enumerate(zip(kept, (a, b), strict=True), 1):
        levels.append(norm(p, "dec_norm", last))
        head = f"downstream_head{number}"
        raw = (
            dpt(p, f"{head}.dpt", levels, grid)
            if s.head == "dpt"
            else pixels(linear(p, f"{head}.proj", levels[-1]), s.patch, grid)
        )
        answer[f"points{number}"], answer[f"confidence{number}"] = points(raw)
    return answer
