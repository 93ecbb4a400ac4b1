"""Checkpoint files as DUSt3R's and CUT3R's authors publish them, with miniature random tensors."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from peer_shapes import MINI, Sizes, State, cut3r_shapes, dust3r_shapes, random_state
from torch import Tensor

_CUT3R = (
    "ARCroco3DStereo(ARCroco3DStereoConfig(freeze='encoder', state_size={s.slots}, state_pe='2d', "
    "pos_embed='RoPE100', rgb_head=True, pose_head=True, patch_embed_cls='ManyAR_PatchEmbed', "
    "img_size=({side}, {side}), head_type='{s.head}', output_mode='pts3d+pose', "
    "depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), pose_mode=('exp', -inf, inf), "
    "enc_embed_dim={s.encoder}, enc_depth={s.encoder_layers}, enc_num_heads={s.encoder_heads}, "
    "dec_embed_dim={s.decoder}, dec_depth={s.decoder_layers}, dec_num_heads={s.decoder_heads}, "
    "state_dec_num_heads={s.slot_heads}))"
)
_DUST3R = (
    "AsymmetricCroCo3DStereo(pos_embed='RoPE100', patch_embed_cls='ManyAR_PatchEmbed', "
    "img_size=({side}, {side}), head_type='{s.head}', output_mode='pts3d', depth_mode=('exp', "
    "-inf, inf), conf_mode=('exp', 1, inf), enc_embed_dim={s.encoder}, "
    "enc_depth={s.encoder_layers}, enc_num_heads={s.encoder_heads}, dec_embed_dim={s.decoder}, "
    "dec_depth={s.decoder_layers}, dec_num_heads={s.decoder_heads})"
)
SIDE = 64


def builder(sizes: Sizes, family: str = "cut3r") -> str:
    """The line in a file that says how its network is built."""
    return (_CUT3R if family == "cut3r" else _DUST3R).format(s=sizes, side=SIDE)


def peer_state(sizes: Sizes = MINI, family: str = "cut3r", seed: int = 0) -> State:
    """Random tensors under the published names."""
    shapes = cut3r_shapes(sizes) if family == "cut3r" else dust3r_shapes(sizes)
    return random_state(shapes, seed)


def write_peer(path: Path, state: State, sizes: Sizes = MINI, family: str = "cut3r") -> Path:
    """A file with tensors, settings and what else a training run leaves."""
    settings = argparse.Namespace(model=builder(sizes, family), lr=5e-5, epochs=10)
    torch.save({"model": state, "args": settings, "epoch": 9, "best_so_far": 0.5}, path)
    return path


def pictures(count: int, height: int = 48, width: int = 64, seed: int = 3) -> list[Tensor]:
    """Images ``(1, 3, H, W)`` in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.rand(1, 3, height, width, generator=generator) - 1 for _ in range(count)]
