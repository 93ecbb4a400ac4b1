"""Open weights of the learned reconstruction: our own training's, DUSt3R's or CUT3R's.

CUT3R's network is one setting of ours: slots as the only memory, followed all the way. With its
weights and the defaults here, what is computed is what it computes. DUSt3R compares two images
and remembers nothing; its weights are a start for training.

Source: specs/mem4d.md sections 2.11 and 4.5.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vision_mem.errors import InputError, ModelError
from vision_mem.models.checkpoint import few, fingerprint, fit_weights, read_checkpoint
from vision_mem.models.device import choose_device
from vision_mem.models.mem4d.config import (
    SLOT_GATES,
    DecoderConfig,
    EncoderConfig,
    FrameMotionConfig,
    HeadsConfig,
    Mem4DConfig,
    PersistentConfig,
    TransientConfig,
    config_from_text,
    named_config,
)
from vision_mem.models.mem4d.convert import (
    CUT3R,
    DUST3R,
    WeightFile,
    WeightPlan,
    depth_of,
    family_of,
    plan,
    read_weight_file,
)
from vision_mem.models.mem4d.network import Mem4DNetwork

SETTINGS = "vision-mem-mem4d"
"""Name of the settings in the header of a weight file."""
_RANDOM = "random:"
_MOST = 2_000_000_000


def load_mem4d(source: str | Path, device: str = "auto") -> Mem4DNetwork:
    """A network, ready for sessions.

    Args:
        source: a ``.safetensors`` file of ``scripts/train/train_reconstruction.py``, or
            ``random:NAME`` with a size of ``mem4d.config.SIZES``: random weights, for trials.
        device: see ``choose_device``.

    Raises:
        ModelError: for a file that is missing, damaged, or of another model; one line.
        InputError: for an unknown size or device.
    """
    place = choose_device(device)
    if str(source).startswith(_RANDOM):
        name = str(source).removeprefix(_RANDOM)
        config = named_config(name)
        torch.manual_seed(0)
        network = Mem4DNetwork(config)
        network.model_id = f"mem4d-random-{name}"
        return network.to(place).eval().requires_grad_(False)
    path = Path(source)
    state = read_checkpoint(path)
    config = config_from_text(_settings_of(path))
    if config.encoder.layers + config.decoder.layers > 200 or config.size > 4096:
        raise ModelError(f"{path} describes a model of no sensible size")
    with torch.device("meta"):
        network = Mem4DNetwork(config)
    if sum(math.prod(p.shape) for p in network.parameters()) > _MOST:
        raise ModelError(f"{path} describes a model of no sensible size")
    network = network.to_empty(device="cpu")
    fit_weights(network, {k: v.float() for k, v in state.items()}, f"{path}", "its settings")
    network.model_id = f"mem4d-{config.fingerprint}#{fingerprint(network, whole=True)}"
    return network.to(place).eval().requires_grad_(False)


def _settings_of(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    text = None
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as stored:
                text = (stored.metadata() or {}).get(SETTINGS)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is damaged ({type(error).__name__}); get it again") from error
    if text is None:
        raise ModelError(
            f"{path} does not say what it is; expected a .safetensors file written by "
            "scripts/train/train_reconstruction.py (for CUT3R's and DUSt3R's: from_checkpoint)"
        )
    return text


log = logging.getLogger(__name__)

MEMORIES = ("slots", "bank")
_HEAD_WIDTH, _SLOT_HEADS, _LARGEST = 64, 16, 4096
_RING = TransientConfig().frames
_SEED = 20260622

# Parts that checkpoints do not have; they start as they are made. Where a family has some of them,
# all must be there.
_NEW = ("motion.", "tdm.", "psm.bank.", "heads.mask.", "match.", "decoder.first", "decoder.place")
_NEW_TO_DUST3R = (
    "psm.slots.init", "psm.slots.embed.", "psm.slots.norm.", "pose.", "heads.pose.",
    "heads.world.condition.", "heads.rgb.",
)  # fmt: skip


@dataclass(frozen=True)
class LoadReport:
    """What a checkpoint was used for.

    Attributes:
        family: ``DUSt3R`` or ``CUT3R``.
        loaded: parameters that got their values from it.
        new: parameters that it does not have; they are as a new network has them.
        unneeded: names in it that a network of these settings has no use for.
        unknown: names in it that no checkpoint of its family has; empty unless they were allowed.
    """

    family: str
    loaded: tuple[str, ...]
    new: tuple[str, ...]
    unneeded: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.family} checkpoint: {len(self.loaded)} parameters loaded"]
        for word, names in (("new", self.new), ("not needed", self.unneeded)):
            if names:
                parts.append(f"{len(names)} {word}{few(names)}")
        if self.unknown:
            parts.append(f"{len(self.unknown)} unknown{few(self.unknown)}")
        return ", ".join(parts)


def from_checkpoint(
    path: str | Path,
    *,
    memory: str = "slots",
    gate: str | None = None,
    frames: int | None = None,
    mask: bool | None = None,
    rgb: bool = False,
    strict: bool = True,
    device: str = "auto",
) -> tuple[Mem4DNetwork, LoadReport]:
    """Load a DUSt3R or CUT3R checkpoint.

    The file's numbers of heads are used where it names them; else 64 channels a head are taken,
    and 16 heads for slots, as published ones have.

    Args:
        path: ``.pth`` or ``.safetensors``.
        memory: what stays is kept in ``slots`` or in a ``bank``; CUT3R was trained with slots.
        gate: how far slots follow a frame: ``one`` as CUT3R, ``attention`` as TTT3R, ``static``
            as attention to what does not move. [``one`` for CUT3R, ``static`` for DUSt3R]
        frames: of the ring of recent frames. [0 for CUT3R with slots, else 5]
        mask: predict what moves; that head is new, so it means nothing before it is trained.
            [only where there is a ring]
        rgb: predict colours too, where the file has weights for it.
        strict: refuse files with unknown names; otherwise they are reported.
        device: ``auto``, or a torch device.

    Returns:
        The network, ready to predict, and what became of each name.

    Raises:
        ModelError: one line for a file that is missing, damaged, hostile, or of another network.
        InputError: for an unknown memory, gate or device.
    """
    if memory not in MEMORIES:
        raise InputError(f"memory is {memory!r}; expected one of {', '.join(MEMORIES)}")
    if gate is not None and gate not in SLOT_GATES:
        raise InputError(f"gate is {gate!r}; expected one of {', '.join(SLOT_GATES)}")
    place = choose_device(device)
    path = Path(path).expanduser()
    file = read_weight_file(path)
    config, sorted_names = inspect(file, path, memory=memory, rgb=rgb, strict=strict)
    alone = config.init == "cut3r" and memory == "slots"
    frames = (0 if alone else _RING) if frames is None else frames
    mask = frames > 0 if mask is None else mask
    config = replace(
        config,
        motion=FrameMotionConfig(kind="correlation" if frames else "none"),
        transient=TransientConfig(frames=frames),
        persistent=replace(
            config.persistent, slot_gate=gate or ("one" if alone else "static")
        ),
        decoder=replace(config.decoder, mode="alternate" if frames else "single"),
        heads=replace(config.heads, mask=mask),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)  # what is new must be the same when a run is continued
        network = Mem4DNetwork(config)
    report = fill(network, file.tensors, sorted_names, path)
    network.model_id = f"{path.stem}-{config.fingerprint}#{fingerprint(network, report.loaded)}"
    log.info("loaded %s: %s", network.model_id, report)
    return network.eval().requires_grad_(False).to(place), report


def load_network(model: str, *, gate: str | None = None, device: str = "auto") -> Mem4DNetwork:
    """Load a network by whatever a user names.

    Args:
        model: weights of ``scripts/train/train_reconstruction.py``, ``random:NAME`` for a size of
            ours with random weights, or a checkpoint of DUSt3R or CUT3R.
        gate: of slots, as ``from_checkpoint``; for the last kind only.
        device: ``auto``, or a torch device.

    Raises:
        ModelError: one line for a file that is none of these.
        InputError: for an unknown size, gate or device.
    """
    if not (model.startswith("random:") or _is_ours(Path(model).expanduser())):
        return from_checkpoint(model, gate=gate, device=device)[0]
    if gate is not None:
        raise InputError(f"model {model!r} has no slots that a gate could hold back; leave it out")

    return load_mem4d(model, device)


def _is_ours(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as opened:
            return "encoder.patch_embed.proj.weight" in opened.keys()  # noqa: SIM118
    except (SafetensorError, OSError):
        return False


def inspect(
    file: WeightFile, path: Path, *, memory: str = "slots", rgb: bool = False, strict: bool = True
) -> tuple[Mem4DConfig, WeightPlan]:
    """Tell from a checkpoint's names and shapes what network it is of.

    Args:
        file: its content; tensors without memory (device ``meta``) will do.
        path: for messages.
        memory: as ``from_checkpoint``.
        rgb: as ``from_checkpoint``.
        strict: as ``from_checkpoint``.

    Returns:
        Settings, and what goes where.

    Raises:
        ModelError: when it is of another network.
    """
    state = file.tensors
    family = family_of(state)
    if family is None:
        raise ModelError(
            f"checkpoint {path} is not of DUSt3R or CUT3R (its first names: "
            f"{', '.join(sorted(state)[:3])}); expected patch_embed, enc_blocks, dec_blocks and "
            "their heads"
        )
    found = plan(state, family)
    if found.unknown and strict:
        raise ModelError(
            f"checkpoint {path} has {len(found.unknown)} names that {family}'s network does not "
            f"have{few(found.unknown)}; it is of another network. strict=False leaves them out"
        )
    try:
        config = _config_of(file, family, memory, rgb)
    except (KeyError, IndexError, InputError) as error:
        raise ModelError(
            f"checkpoint {path} is not a whole {family} network: {_reason(error)}; get it again"
        ) from error
    return config, found


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return "a tensor has too few dimensions" if isinstance(error, IndexError) else str(error)


def _config_of(file: WeightFile, family: str, memory: str, rgb: bool) -> Mem4DConfig:
    state, told = file.tensors, file.told
    width, _, _, patch = _shape(state, "patch_embed.proj.weight", 4)
    decoder = _shape(state, "decoder_embed.weight", 2)[0]
    kind, channels = _head_kind(state, family)
    layers = depth_of(state, "dec_blocks.")
    heads = _told(told, "dec_num_heads", max(1, decoder // _HEAD_WIDTH))
    capacity, rows = 768, 256
    slot_heads = heads
    if family == CUT3R:
        capacity = _shape(state, "register_tokens.weight", 2)[0]
        rows = _shape(state, "pose_retriever.mem", 3)[1]
        slot_heads = _told(told, "state_dec_num_heads", _SLOT_HEADS)
    if slot_heads < 1 or decoder % (4 * slot_heads):
        raise InputError(
            f"slots have width {decoder} and {slot_heads} heads; expected a width that is a "
            "multiple of 4 times the heads"
        )
    if told.get("state_pe", "2d") != "2d":
        raise InputError("its slots stand on no grid; only those of the published networks do here")
    return Mem4DConfig(
        size=_side(told, 512 if kind == "dpt" else 224),
        square=kind != "dpt",
        patch=patch,
        init=family.lower(),
        encoder=EncoderConfig(
            width,
            depth_of(state, "enc_blocks."),
            _told(told, "enc_num_heads", max(1, width // _HEAD_WIDTH)),
        ),
        persistent=PersistentConfig(
            kind=memory, capacity=capacity if memory == "slots" else 4096, slot_heads=slot_heads
        ),
        decoder=DecoderConfig(decoder, layers, heads),
        heads=HeadsConfig(kind=kind, rgb=rgb and _has_rgb(state), channels=channels),
        rope=_rope(told),
        pose_rows=rows,
    )


def _side(told: Mapping[str, Any], usual: int) -> int:
    """Pixels of the longer side that the network was trained at."""
    size = told.get("img_size")
    sides = size if isinstance(size, tuple) and len(size) == 2 else (usual,)
    good = all(isinstance(side, int) and 16 <= side <= _LARGEST for side in sides)
    return max(sides) if good else usual


def _rope(told: Mapping[str, Any]) -> float:
    """Base of its rotary positions."""
    kind = str(told.get("pos_embed", "RoPE100"))
    base = kind.removeprefix("RoPE")
    if not (kind.startswith("RoPE") and base.isdecimal() and 1 < len(base) < 7):
        raise InputError(f"its positions are {kind[:20]!r}; expected RoPE100 or another base")
    return float(base)


def _head_kind(state: Mapping[str, Tensor], family: str) -> tuple[str, int]:
    """Kind of head, and channels of a DPT one."""
    dpt = "downstream_head1.dpt" if family == DUST3R else "downstream_head.dpt_self"
    if any(name.startswith(f"{dpt}.") for name in state):
        return "dpt", _shape(state, f"{dpt}.head.0.weight", 4)[1]
    if family == DUST3R:
        _shape(state, "downstream_head1.proj.weight", 2)
        return "linear", HeadsConfig.channels
    _shape(state, "downstream_head.proj.fc1.weight", 2)
    return "deep", HeadsConfig.channels


def _has_rgb(state: Mapping[str, Tensor]) -> bool:
    starts = ("downstream_head.dpt_rgb.", "downstream_head.rgb_proj.")
    return any(name.startswith(starts) for name in state)


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    shape = tuple(state[name].shape)
    if len(shape) != dimensions:
        raise IndexError
    return shape


def _told(told: Mapping[str, Any], name: str, usual: int) -> int:
    value = told.get(name, usual)
    return value if isinstance(value, int) and not isinstance(value, bool) else usual


def fill(
    network: Mem4DNetwork, state: Mapping[str, Tensor], found: WeightPlan, path: Path
) -> LoadReport:
    """Give a network the values of a checkpoint, all or nothing.

    Args:
        network: of the settings that ``inspect`` found; changed in place. On the device ``meta``
            names and shapes are checked and nothing is copied.
        state: the checkpoint's tensors.
        found: what goes where, from ``inspect``.
        path: for messages.

    Raises:
        ModelError: when tensors are missing, of another shape, or saved twice with two values.
    """
    own = network.state_dict()
    family = DUST3R if network.config.init == "dust3r" else CUT3R
    unneeded = list(found.unneeded)
    chosen: dict[str, str] = {}
    for name, keys in found.taken.items():
        if name in own:
            chosen[name] = keys[0]
        else:
            unneeded += keys
    fresh = _NEW + (_NEW_TO_DUST3R if family == DUST3R else ())
    missing = sorted(n for n in own if n not in chosen and not n.startswith(fresh))
    wrong = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[name].shape)}"
        for name in chosen
        for key in found.taken[name]
        if state[key].shape != own[name].shape
    ]
    if missing or wrong:
        raise ModelError(
            f"checkpoint {path} does not fit {family}'s network: {len(missing)} tensors missing"
            f"{few(missing)}, {len(wrong)} of another shape{few(wrong)}; get it again, or give "
            "the one that its authors published"
        )
    real = not next(iter(own.values())).is_meta
    if real:
        _check_twins(state, found, path)
        for name, key in chosen.items():
            own[name].copy_(state[key])  # the network's own tensors: they share memory
    new = tuple(sorted(set(own) - set(chosen)))
    return LoadReport(
        family, tuple(sorted(chosen)), new, tuple(sorted(unneeded)), tuple(found.unknown)
    )


def _check_twins(state: Mapping[str, Tensor], found: WeightPlan, path: Path) -> None:
    for keys in found.taken.values():
        for key in keys[1:]:
            if not torch.equal(state[keys[0]], state[key]):
                raise ModelError(
                    f"checkpoint {path} holds two values for one tensor ({keys[0]} and {key}); "
                    "expected them to be equal"
                )
