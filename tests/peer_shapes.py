"""Names and shapes of all tensors in DUSt3R's and CUT3R's checkpoints, real and miniature."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Numbers of a network; those of the published ones are the defaults."""

    head: str = "dpt"
    patch: int = 16
    encoder: int = 1024
    encoder_layers: int = 24
    encoder_heads: int = 16
    decoder: int = 768
    decoder_layers: int = 12
    decoder_heads: int = 12
    slots: int = 768
    slot_heads: int = 16
    pose_memory: int = 256
    ray_heads: int = 16
    levels: tuple[int, ...] = (96, 192, 384, 768)
    features: int = 256
    last: int = 128
    rgb: bool = True


REAL = Sizes()
MINI = Sizes(
    encoder=64, encoder_layers=2, encoder_heads=4, decoder=48, decoder_layers=4, decoder_heads=4,
    slots=10, slot_heads=3, pose_memory=5, levels=(6, 12, 24, 48), features=16, last=8,
)  # fmt: skip
MINI_LINEAR = replace(MINI, head="linear", patch=8)

_LAST = ("head.4.weight", "proj.fc2.weight", "pose_head.mlp.fc2.weight", "head1.proj.weight")

Shapes = dict[str, tuple[int, ...]]


def _linear(name: str, inside: int, outside: int) -> Shapes:
    return {f"{name}.weight": (outside, inside), f"{name}.bias": (outside,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _conv(name: str, inside: int, outside: int, side: int, bias: bool = True) -> Shapes:
    weight = {f"{name}.weight": (outside, inside, side, side)}
    return weight | ({f"{name}.bias": (outside,)} if bias else {})


def _mlp(name: str, inside: int, outside: int) -> Shapes:
    return _linear(f"{name}.fc1", inside, 4 * inside) | _linear(f"{name}.fc2", 4 * inside, outside)


def _block(name: str, width: int) -> Shapes:
    return (
        _norm(f"{name}.norm1", width)
        | _linear(f"{name}.attn.qkv", width, 3 * width)
        | _linear(f"{name}.attn.proj", width, width)
        | _norm(f"{name}.norm2", width)
        | _mlp(f"{name}.mlp", width, width)
    )


def _decoder_block(name: str, width: int) -> Shapes:
    shapes = _block(name, width) | _norm(f"{name}.norm3", width) | _norm(f"{name}.norm_y", width)
    for part in ("projq", "projk", "projv", "proj"):
        shapes |= _linear(f"{name}.cross_attn.{part}", width, width)
    return shapes


def _condition(name: str, width: int) -> Shapes:
    shapes = _block(name, width)
    for norm in ("norm1", "norm2"):
        del shapes[f"{name}.{norm}.weight"], shapes[f"{name}.{norm}.bias"]
        shapes |= _norm(f"{name}.{norm}.norm", width)
        shapes |= _linear(f"{name}.{norm}.mlp.1", width, 2 * width)
    return shapes


def _dpt(name: str, s: Sizes, channels: int) -> Shapes:
    shapes: Shapes = {}
    for level, (width, out) in enumerate(
        zip((s.encoder, s.decoder, s.decoder, s.decoder), s.levels, strict=True)
    ):
        shapes |= _conv(f"{name}.act_postprocess.{level}.0", width, out, 1)
        if level != 2:
            side = {0: 4, 1: 2, 3: 3}[level]
            shapes |= _conv(f"{name}.act_postprocess.{level}.1", out, out, side)
        # One tensor under two names.
        shapes |= _conv(f"{name}.scratch.layer{level + 1}_rn", out, s.features, 3, bias=False)
        shapes |= _conv(f"{name}.scratch.layer_rn.{level}", out, s.features, 3, bias=False)
        fuse = f"{name}.scratch.refinenet{level + 1}"
        shapes |= _conv(f"{fuse}.out_conv", s.features, s.features, 1)
        for unit in (1, 2):
            for conv in (1, 2):
                shapes |= _conv(f"{fuse}.resConfUnit{unit}.conv{conv}", s.features, s.features, 3)
    shapes |= _conv(f"{name}.head.0", s.features, s.features // 2, 3)
    shapes |= _conv(f"{name}.head.2", s.features // 2, s.last, 3)
    return shapes | _conv(f"{name}.head.4", s.last, channels, 1)


def _trunk(s: Sizes) -> Shapes:
    shapes = _conv("patch_embed.proj", 3, s.encoder, s.patch)
    for i in range(s.encoder_layers):
        shapes |= _block(f"enc_blocks.{i}", s.encoder)
    shapes |= _norm("enc_norm", s.encoder) | _linear("decoder_embed", s.encoder, s.decoder)
    for i in range(s.decoder_layers):
        shapes |= _decoder_block(f"dec_blocks.{i}", s.decoder)
    return shapes | _norm("dec_norm", s.decoder)


def dust3r_shapes(s: Sizes = REAL) -> Shapes:
    """Name and shape of every tensor of a DUSt3R checkpoint."""
    shapes = _trunk(s) | {"mask_token": (1, 1, s.decoder)}
    for i in range(s.decoder_layers):
        shapes |= _decoder_block(f"dec_blocks2.{i}", s.decoder)
    for number in (1, 2):
        head = f"downstream_head{number}"
        if s.head == "dpt":
            shapes |= _dpt(f"{head}.dpt", s, 4)
        else:
            shapes |= _linear(f"{head}.proj", s.decoder, 4 * s.patch**2)
    return shapes


def cut3r_shapes(s: Sizes = REAL) -> Shapes:
    """Name and shape of every tensor of a CUT3R checkpoint."""
    width = s.decoder
    shapes = _trunk(s) | _conv("patch_embed_ray_map.proj", 6, s.encoder, s.patch)
    for i in range(2):
        shapes |= _block(f"enc_blocks_ray_map.{i}", s.encoder)
    shapes |= _norm("enc_norm_ray_map", s.encoder)
    shapes |= {"masked_img_token": (1, s.encoder), "masked_ray_map_token": (1, s.encoder)}
    shapes |= {"register_tokens.weight": (s.slots, s.encoder), "pose_token": (1, 1, width)}
    shapes |= _linear("decoder_embed_state", s.encoder, width)
    for i in range(s.decoder_layers):
        shapes |= _decoder_block(f"dec_blocks_state.{i}", width)
    shapes |= _norm("dec_norm_state", width)
    shapes |= _linear("pose_retriever.proj_q", s.encoder, width)
    shapes["pose_retriever.masked_token"] = (1, 1, width)
    shapes["pose_retriever.mem"] = (1, s.pose_memory, 2 * width)
    for part in ("write_blocks", "read_blocks"):
        for i in range(2):
            shapes |= _decoder_block(f"pose_retriever.{part}.{i}", 2 * width)
    head = "downstream_head"
    shapes |= _mlp(f"{head}.pose_head.mlp", width, 7)
    for i in range(2):
        shapes |= _condition(f"{head}.final_transform.{i}", width)
    if s.head == "dpt":
        shapes |= _dpt(f"{head}.dpt_self", s, 4) | _dpt(f"{head}.dpt_cross", s, 4)
        return shapes | (_dpt(f"{head}.dpt_rgb", s, 3) if s.rgb else {})
    shapes |= _mlp(f"{head}.proj", width, 4 * s.patch**2)
    shapes |= _mlp(f"{head}.cross_proj", width, 4 * s.patch**2)
    return shapes | (_mlp(f"{head}.rgb_proj", width, 3 * s.patch**2) if s.rgb else {})


def random_state(shapes: Shapes, seed: int = 0) -> State:
    """Seeded tensors that keep signals alive through the depth; shared tensors are shared."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in shapes.items():
        twin = name.replace(".scratch.layer_rn.", ".scratch.layer")
        if twin != name:
            level = int(name.split(".layer_rn.")[1].split(".")[0])
            state[name] = state[
                name.replace(f".scratch.layer_rn.{level}.", f".scratch.layer{level + 1}_rn.")
            ]
            continue
        values = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            values = 0.1 * values + (1.0 if name.endswith(".weight") else 0.0)
        elif name.endswith(".weight") and "register" not in name:
            values = values / (values[0].numel() ** 0.5)
        if name.endswith(_LAST):
            values = values / 8  # lengths that are raised to a power of e
        state[name] = values
    return state


def meta_state(shapes: Shapes) -> State:
    """Tensors without memory."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
