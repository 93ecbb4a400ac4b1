"""Tensors of DUSt3R and CUT3R checkpoints: reading, where each goes in our network, conversion.

Pure functions over names. A name leads to one of ours, to None where the network has no use for
it, or is unknown.

Source: specs/mem4d.md section 2.11.
"""

from __future__ import annotations

import argparse
import ast
import collections
import functools
import logging
import math
import pickle
import re
import sys
import types
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vision_mem.errors import InputError, ModelError, VisionMemError
from vision_mem.models.checkpoint import check_file, named_tensors, read_content

log = logging.getLogger(__name__)

COMMAND = "python -m vision_mem.models.mem4d.convert"
LICENCE = (
    "Tensors of a checkpoint by other authors, under the licence it was published with; those of "
    "DUSt3R and CUT3R are for non-commercial use only (CC BY-NC-SA 4.0)."
)
_BUILDERS = ("ARCroco3DStereo(", "AsymmetricCroCo3DStereo(")


@dataclass(frozen=True)
class WeightFile:
    """What a checkpoint holds that is of use.

    Attributes:
        tensors: by name, without a leading ``module.``.
        told: settings of the network that the file names, such as ``dec_num_heads``.
    """

    tensors: dict[str, Tensor]
    told: dict[str, Any] = field(default_factory=dict)


def read_weight_file(path: str | Path) -> WeightFile:
    """Read a checkpoint; nothing stored in it is ever run.

    Args:
        path: a ``.safetensors`` file, or what ``torch.save`` wrote: tensors by name, or the same
            under ``model`` with plain settings under ``args``.

    Raises:
        ModelError: one line for a file that is missing, empty, damaged, of another kind, or that
            holds objects; the last one names the command that converts it.
    """
    path = Path(path).expanduser()
    _check(path)
    advice = (
        f"If you know where it is from, make a tensors-only file of it: {COMMAND} {path} --trust"
    )
    mapped = path.suffix != ".safetensors"
    content, note = read_content(path, allowed=[argparse.Namespace], advice=advice, mapped=mapped)
    found = _sorted_out(content, path)
    return found if mapped else WeightFile(found.tensors, _told_by(note))


def convert(
    path: str | Path, out: str | Path | None = None, *, trust: bool = False
) -> tuple[Path, list[str]]:
    """Make a tensors-only file of a checkpoint.

    Args:
        path: what ``torch.save`` wrote.
        out: file to write [beside ``path``, ending in ``.safetensors``]; never an existing one.
        trust: take the tensors also of files that hold other objects. Those are not made.

    Returns:
        The file written, and the kinds of objects that were left out.

    Raises:
        ModelError: for a file that cannot be read, or holds objects and is not trusted.
        InputError: when ``out`` exists.
    """
    from safetensors.torch import save_file

    path = Path(path).expanduser()
    target = Path(out).expanduser() if out else path.with_suffix(".safetensors")
    if target.exists():
        raise InputError(f"{target} exists; name another file: --out")
    foreign: list[str] = []
    if not trust:
        found = read_weight_file(path)
    else:
        _check(path)
        try:
            found, foreign = _read_inert(path)
        except VisionMemError:
            raise
        except Exception as error:  # a hostile file can provoke any kind
            text = " ".join(str(error).split())[:80]
            raise ModelError(f"checkpoint {path} is damaged ({text}); download it again") from error
    tensors, kept = {}, set[int]()
    for name, tensor in found.tensors.items():
        # Tensors saved under two names share memory, which the format does not allow.
        shared = tensor.untyped_storage().data_ptr() in kept
        kept.add(tensor.untyped_storage().data_ptr())
        tensors[name] = tensor.clone() if shared else tensor.contiguous()
    note = {"licence": LICENCE, "told": repr(found.told)}
    try:
        save_file(tensors, target, metadata=note)
    except OSError as error:
        raise ModelError(
            f"{target} could not be written: {error.strerror}; check folder and space"
        ) from error
    return target, foreign


def _check(path: Path) -> None:
    """Refuse what ``check_file`` does, and torch files of other kinds: these are mapped."""
    check_file(path)
    if path.suffix == ".safetensors":
        return
    with path.open("rb") as stream:
        if stream.read(2) != b"PK":
            raise ModelError(
                f"checkpoint {path} is of torch's format from before 2020; save it again with a "
                "newer torch"
            )
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"checkpoint {path} is damaged; download it again") from error
    if "data.pkl" not in names or "constants.pkl" in names:
        raise ModelError(
            f"checkpoint {path} is another kind of archive; expected what torch.save writes"
        )


def _told_by(note: Mapping[str, str]) -> dict[str, Any]:
    """What ``convert`` wrote into the header."""
    try:
        told = ast.literal_eval(note.get("told", "{}"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        told = {}
    return told if isinstance(told, dict) else {}


def _sorted_out(content: Any, path: Path) -> WeightFile:
    told: dict[str, Any] = {}
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        for text in _texts(content.get("args")):
            told = told or read_builder(text)
    tensors = named_tensors(content, path)
    odd = [name for name, value in tensors.items() if not _is_whole(value)]
    if odd:
        raise ModelError(
            f"checkpoint {path} holds tensors that are not of real numbers, or have fewer of them "
            f"than their shape says (first: {str(odd[0])[:60]!r}); download it again"
        )
    return WeightFile(
        {name.removeprefix("module."): value for name, value in tensors.items()}, told
    )


def _is_whole(tensor: Tensor) -> bool:
    """Whether each number of a tensor is in the file: a few bytes can claim to be terabytes."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return False
    size = tensor.numel() * tensor.element_size()
    return tensor.is_floating_point() and tensor.untyped_storage().nbytes() >= size


def read_builder(text: str) -> dict[str, Any]:
    """Settings from the line that a network was built with; it is read, never run.

    Args:
        text: such as ``"AsymmetricCroCo3DStereo(dec_num_heads=12, img_size=(512, 512))"``.

    Returns:
        Keywords with plain values, of nested calls too; nothing for other texts.
    """
    if not text.startswith(_BUILDERS) or len(text) > 10_000:
        return {}
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return {}
    told: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg:
            try:
                told[node.arg] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return told


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Texts in settings, however deep."""
    if isinstance(value, str):
        yield value
    if depth > 8:
        return
    if isinstance(value, argparse.Namespace | _Inert):
        value = vars(value)
    parts: Sequence[Any] = ()
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = value
    for part in parts[:1000]:
        yield from _texts(part, depth + 1)


# -- reading files that hold objects, without the objects ------------------------------------------


class _Inert:
    """Stands for an object of any class: takes whatever it is given, and does nothing."""

    def __new__(cls, *given: Any, **named: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *given: Any, **named: Any) -> None:
        self.__dict__["items"] = list(given)

    def __call__(self, *given: Any, **named: Any) -> _Inert:
        return _Inert(*given)

    def __setstate__(self, state: Any) -> None:
        self.__dict__["state"] = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__.setdefault("items", []).append(value)

    def append(self, value: Any) -> None:
        """One more part."""
        self.__dict__.setdefault("items", []).append(value)

    add = append

    def extend(self, values: Sequence[Any]) -> None:
        """More parts."""
        self.__dict__.setdefault("items", []).extend(values)


# What a file of tensors is made of; nothing else that a file names is looked up.
_MADE = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("argparse", "Namespace"): argparse.Namespace,
}


def _read_inert(path: Path) -> tuple[WeightFile, list[str]]:
    foreign: dict[str, None] = {}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) in _MADE:
                return _MADE[module, name]
            foreign[f"{module}.{name}"] = None
            return _Inert

    reading = types.ModuleType("inert")
    reading.Unpickler = Unpickler  # type: ignore[attr-defined]
    content = torch.load(
        path, map_location="cpu", pickle_module=reading, weights_only=False, mmap=True
    )
    return _sorted_out(content, path), list(foreign)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Make a tensors-only file of a DUSt3R or CUT3R checkpoint."
    )
    parser.add_argument("checkpoint", help="a .pth file")
    parser.add_argument("--out", help="file to write [beside it, ending in .safetensors]")
    parser.add_argument(
        "--trust", action="store_true", help="also of files with other objects; they are left out"
    )
    given = parser.parse_args(arguments)
    try:
        target, foreign = convert(given.checkpoint, given.out, trust=given.trust)
    except VisionMemError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    size = math.ceil(target.stat().st_size / 2**20)
    left = f"; left out: {', '.join(foreign[:5])}" if foreign else ""
    print(f"wrote {target} ({size} MiB){left}")
    print(LICENCE)
    return 0


if __name__ == "__main__":
    sys.exit(main())


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
_DECODER_PART = (
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
    for pattern, name in _names_of(family):
        if match := pattern.fullmatch(key):
            return name(match)
    raise UnknownKeyError(key)


_Name = Callable[[re.Match[str]], str | None]


@functools.lru_cache
def _names_of(family: str) -> list[tuple[re.Pattern[str], _Name]]:
    """All names of a family, and where each goes."""

    def block(ours: str) -> _Name:
        return lambda m: f"{ours}{m[1]}.{_LOOK.get(m[2], m[2])}.{m[3]}"

    def head(ours: str, told: _Name) -> _Name:
        return lambda m: None if (name := told(m)) is None else ours + name

    def plain(to: str) -> _Name:
        return lambda m: m.expand(to)

    def nowhere(m: re.Match[str]) -> None:
        return None

    table: list[tuple[str, _Name]] = [
        *((rf"{re.escape(s)}(\d+)\.{_DECODER_PART}", block(o)) for s, o in _STACKS[family]),
        *((re.escape(s) + part, head(o, t)) for s, o in _DPTS[family] for part, t in _DPT_PARTS),
        *((pattern, plain(to)) for pattern, to in _PLAIN[family]),
        *((pattern, nowhere) for pattern in _UNNEEDED),
    ]
    return [(re.compile(pattern), name) for pattern, name in table]


@dataclass
class WeightPlan:
    """What goes where.

    Attributes:
        taken: names in the checkpoint by ours; several where it holds one tensor twice.
        unneeded: names in the checkpoint that the network has no use for.
        unknown: names that no checkpoint of the family has.
    """

    taken: dict[str, list[str]] = field(default_factory=dict)
    unneeded: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def plan(keys: Iterable[str], family: str) -> WeightPlan:
    """Sort the names of a checkpoint.

    Args:
        keys: names, without a leading ``module.``.
        family: one of ``FAMILIES``.
    """
    made = WeightPlan()
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
