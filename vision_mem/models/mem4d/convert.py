"""Where each tensor of a DUSt3R or CUT3R checkpoint goes in our network.

Pure functions over names. A name leads to one of ours, to None where the network has no use for
it, or is unknown.

Source: specs/mem4d.md section 2.11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

DUST3R, CUT3R = "DUSt3R", "CUT3R"
FAMILIES = (DUST3R, CUT3R)

_BLOCK = r"(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])"
_END = r"(weight|bias)"
_LOOK = {
    "norm_y": "norm_mem",
    "cross_attn.projq": "cross.q",
    "cross_attn.projk": "cross.k",
    "cross_attn.projv": "cross.v",
    "cross_attn.proj": "cross.out",
}
_UNITS = {"1": "side", "2": "main"}
_CONVS = {"1": "first", "2": "second"}
_LAST = {"0": "0", "2": "1", "4": "2"}

# Of a decoder block: "dec_blocks.3." and what follows.
_DECODER_PART = re.compile(
    rf"(norm[123]|norm_y|attn\.qkv|attn\.proj|mlp\.fc[12]|cross_attn\.proj[qkv]?)\.{_END}"
)
# Of a DPT head, with the name it has here.
_DPT_PARTS = (
    (rf"act_postprocess\.([0-3])\.([01])\.{_END}", lambda m: f"levels.{m[1]}.{m[2]}.{m[3]}"),
    # One tensor, saved under two names or either of them.
    (r"scratch\.layer([1-4])_rn\.weight", lambda m: f"narrow.{int(m[1]) - 1}.weight"),
    (r"scratch\.layer_rn\.([0-3])\.weight", lambda m: f"narrow.{m[1]}.weight"),
    (rf"scratch\.refinenet([1-4])\.out_conv\.{_END}", lambda m: f"fuse.{int(m[1]) - 1}.out.{m[2]}"),
    # The coarsest map has no coarser one to be added to: never computed, saved all the same.
    (rf"scratch\.refinenet4\.resConfUnit1\.conv[12]\.{_END}", lambda m: None),
    (
        rf"scratch\.refinenet([1-4])\.resConfUnit([12])\.conv([12])\.{_END}",
        lambda m: f"fuse.{int(m[1]) - 1}.{_UNITS[m[2]]}.{_CONVS[m[3]]}.{m[4]}",
    ),
    (rf"head\.([024])\.{_END}", lambda m: f"head.{_LAST[m[1]]}.{m[2]}"),
)

_TRUNK = (
    (rf"patch_embed\.proj\.{_END}", r"encoder.patch_embed.proj.\1"),
    (rf"enc_blocks\.(\d+)\.{_BLOCK}\.{_END}", r"encoder.blocks.\1.\2.\3"),
    (rf"enc_norm\.{_END}", r"encoder.norm.\1"),
    (rf"decoder_embed\.{_END}", r"decoder.embed.\1"),
    (rf"dec_norm\.{_END}", r"decoder.norm.\1"),
)
_DUST3R = (
    (rf"downstream_head1\.proj\.{_END}", r"heads.self.proj.\1"),
    (rf"downstream_head2\.proj\.{_END}", r"heads.world.proj.\1"),
)
_CUT3R = (
    (rf"decoder_embed_state\.{_END}", r"psm.slots.embed.\1"),
    (r"register_tokens\.weight", r"psm.slots.init"),
    (rf"dec_norm_state\.{_END}", r"psm.slots.norm.\1"),
    (r"pose_token", r"pose.token"),
    (rf"pose_retriever\.proj_q\.{_END}", r"pose.memory.query.\1"),
    (r"pose_retriever\.masked_token", r"pose.memory.unknown"),
    (r"pose_retriever\.mem", r"pose.memory.rows"),
    (rf"downstream_head\.proj\.(fc[12])\.{_END}", r"heads.self.mlp.\1.\2"),
    (rf"downstream_head\.cross_proj\.(fc[12])\.{_END}", r"heads.world.mlp.\1.\2"),
    (rf"downstream_head\.rgb_proj\.(fc[12])\.{_END}", r"heads.rgb.mlp.\1.\2"),
    (rf"downstream_head\.pose_head\.mlp\.(fc[12])\.{_END}", r"heads.pose.\1.\2"),
    (
        rf"downstream_head\.final_transform\.(\d+)\.(attn\.qkv|attn\.proj|mlp\.fc[12])\.{_END}",
        r"heads.world.condition.\1.\2.\3",
    ),
    (
        rf"downstream_head\.final_transform\.(\d+)\.(norm[12])\.norm\.{_END}",
        r"heads.world.condition.\1.\2.norm.\3",
    ),
    (
        rf"downstream_head\.final_transform\.(\d+)\.(norm[12])\.mlp\.1\.{_END}",
        r"heads.world.condition.\1.\2.told.\3",
    ),
)
# Stacks of decoder blocks and DPT heads: what they begin with there, and here.
_STACKS = {
    DUST3R: (("dec_blocks.", "decoder.blocks."), ("dec_blocks2.", "psm.slots.blocks.")),
    CUT3R: (
        ("dec_blocks.", "decoder.blocks."),
        ("dec_blocks_state.", "psm.slots.blocks."),
        ("pose_retriever.write_blocks.", "pose.memory.write_blocks."),
        ("pose_retriever.read_blocks.", "pose.memory.read_blocks."),
    ),
}
_DPTS = {
    DUST3R: (
        ("downstream_head1.dpt.", "heads.self.dpt."),
        ("downstream_head2.dpt.", "heads.world.dpt."),
    ),
    CUT3R: (
        ("downstream_head.dpt_self.", "heads.self.dpt."),
        ("downstream_head.dpt_cross.", "heads.world.dpt."),
        ("downstream_head.dpt_rgb.", "heads.rgb.dpt."),
    ),
}
_PLAIN = {DUST3R: _TRUNK + _DUST3R, CUT3R: _TRUNK + _CUT3R}
# Learned for other tasks: filling in hidden patches, and views that are rays instead of images.
_UNNEEDED = (
    r"mask_token",
    r"masked_img_token",
    r"masked_ray_map_token",
    rf"patch_embed_ray_map\.proj\.{_END}",
    rf"enc_blocks_ray_map\.\d+\.{_BLOCK}\.{_END}",
    rf"enc_norm_ray_map\.{_END}",
)


class UnknownKeyError(KeyError):
    """A name that no checkpoint of the family has."""


def our_name(key: str, family: str) -> str | None:
    """Where a tensor goes.

    Args:
        key: name in the checkpoint, without a leading ``module.``.
        family: one of ``FAMILIES``.

    Returns:
        Name of a parameter of ``Mem4DNetwork``; None when the network has no use for it.

    Raises:
        UnknownKeyError: for any other name.
    """
    for start, ours in _STACKS[family]:
        if key.startswith(start):
            number, _, part = key[len(start) :].partition(".")
            found = _DECODER_PART.fullmatch(part)
            if number.isdecimal() and found:
                return f"{ours}{number}.{_LOOK.get(found[1], found[1])}.{found[2]}"
            raise UnknownKeyError(key)
    for start, ours in _DPTS[family]:
        if key.startswith(start):
            return _dpt_name(key, key[len(start) :], ours)
    for pattern, template in _PLAIN[family]:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(template)
    if any(re.fullmatch(pattern, key) for pattern in _UNNEEDED):
        return None
    raise UnknownKeyError(key)


def _dpt_name(key: str, part: str, start: str) -> str | None:
    for pattern, name in _DPT_PARTS:
        match = re.fullmatch(pattern, part)
        if match:
            found = name(match)
            return None if found is None else start + found
    raise UnknownKeyError(key)


@dataclass
class Plan:
    """What goes where.

    Attributes:
        taken: names in the checkpoint by ours; several where it holds one tensor twice.
        unneeded: names in the checkpoint that the network has no use for.
        unknown: names that no checkpoint of the family has.
    """

    taken: dict[str, list[str]] = field(default_factory=dict)
    unneeded: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def plan(keys: Iterable[str], family: str) -> Plan:
    """Sort the names of a checkpoint.

    Args:
        keys: names, without a leading ``module.``.
        family: one of ``FAMILIES``.
    """
    made = Plan()
    for key in sorted(keys):
        try:
            name = our_name(key, family)
        except UnknownKeyError:
            made.unknown.append(key)
            continue
        if name is None:
            made.unneeded.append(key)
        else:
            made.taken.setdefault(name, []).append(key)
    return made


def family_of(keys: Iterable[str]) -> str | None:
    """Whose checkpoint has such names: one of ``FAMILIES``, or None."""
    starts = {key.split(".")[0] for key in keys}
    if not {"patch_embed", "enc_blocks", "dec_blocks"} <= starts:
        return None
    if {"dec_blocks_state", "register_tokens"} & starts:
        return CUT3R
    return DUST3R if {"dec_blocks2", "downstream_head1"} & starts else None


def depth_of(keys: Iterable[str], start: str) -> int:
    """Layers of a stack: how many numbers follow ``start``.

    Raises:
        KeyError: when one between the first and the last is missing, with its name.
    """
    numbers = {
        int(number)
        for key in keys
        if key.startswith(start)
        and (number := key[len(start) :].split(".")[0]).isdecimal()
        and len(number) < 6
    }
    for layer in range(len(numbers)):
        if layer not in numbers:
            raise KeyError(f"{start}{layer}")
    return len(numbers)
