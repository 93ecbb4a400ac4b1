"""All settings of the learned reconstruction model, and its sizes by name.

What the paper leaves open is a switch with a name here, so that another choice is another value
and not another program: ``init``, ``motion.kind``, ``transient.frames``, ``persistent.kind``,
``persistent.capacity``, ``decoder.order`` and ``decoder.mode``, ``loss.*``, ``heads.mask``.

Source: specs/mem4d.md sections 0 and 2.1.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any

from vision_mem.errors import InputError, ModelError
from vision_mem.text import parse_json

INITS = ("random", "dust3r", "cut3r")
MOTION_KINDS = ("correlation", "difference", "none")
PERSISTENT_KINDS = ("bank", "slots", "none")
GATES = ("static", "none", "truth")
SLOT_GATES = ("attention", "static", "one")
MERGES = ("replace", "average", "none")
ORDERS = ("persistent_first", "transient_first")
MODES = ("alternate", "parallel", "concat", "single")
HEAD_KINDS = ("linear", "deep", "dpt")
ROTATIONS = ("matrix", "quaternion")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(known)}")


@dataclass(frozen=True)
class FrameMotionConfig:
    """How motion is seen (spec 2.3).

    Attributes:
        kind: ``correlation`` with the frame before, its ``difference`` alone, or ``none``.
        radius: patches to each side that are compared.
        width: channels that are compared, at most.
    """

    kind: str = "correlation"
    radius: int = 4
    width: int = 128

    def __post_init__(self) -> None:
        _one_of("motion.kind", self.kind, MOTION_KINDS)
        if self.radius < 1 or self.width < 1:
            raise InputError("motion.radius and motion.width must be 1 or more")


@dataclass(frozen=True)
class TransientConfig:
    """The ring of recent frames (spec 2.4).

    Attributes:
        frames: held at most; 0 for no such memory.
        ages: that are told apart; older ones count as the oldest.
        same: mean cosine of keys from which a frame replaces the newest one.
        still: share of moving patches below which it may.
        motion: whether entries hold what the motion encoder says.
    """

    frames: int = 5
    ages: int = 16
    same: float = 0.95
    still: float = 0.01
    motion: bool = True

    def __post_init__(self) -> None:
        if self.frames < 0 or self.ages < 1:
            raise InputError("transient.frames must be 0 or more, transient.ages 1 or more")


@dataclass(frozen=True)
class PersistentConfig:
    """The memory of what stays (spec 2.5).

    Attributes:
        kind: ``bank`` of compressed tokens, recurrent ``slots``, or ``none``.
        capacity: tokens or slots.
        gate: what may be written: by the predicted mask (``static``), everything (``none``), or
            by the true mask (``truth``, for comparisons).
        slot_gate: how far slots follow their proposal: by ``attention``, by attention to what is
            ``static``, or all the way (``one``).
        slot_heads: attention heads of the slots' own stack.
        pool: whether 2x2 patches become one token.
        merge: what happens to a surface that is known already: ``replace`` by the more confident
            token, ``average``, or ``none`` (it is inserted).
        anchor: whether the first frame's tokens are protected, up to a quarter of the capacity.
        least: static weight below which nothing is written.
        confident: confidence at which a point counts fully; 1 where confidence does not count.
        voxel: metres within which tokens are one surface; 0 takes ``voxel_share`` of the median
            depth.
        voxel_share: see there.
        unlike: weight of 1 - cosine of keys beside the distance in voxels.
        turned: degrees between views above which a surface gets another token.
        crowd: tokens a voxel, at most.
        young: frames for which a token is protected.
        spread: of centroids within 2x2 patches, as a share of the depth, above which they are
            not pooled.
        floor: attention below which a token is not read; not in training.
    """

    kind: str = "bank"
    capacity: int = 4096
    gate: str = "static"
    slot_gate: str = "static"
    slot_heads: int = 16
    pool: bool = True
    merge: str = "replace"
    anchor: bool = True
    least: float = 0.5
    confident: float = 3.0
    voxel: float = 0.0
    voxel_share: float = 0.04
    unlike: float = 1.0
    turned: float = 20.0
    crowd: int = 3
    young: int = 10
    spread: float = 0.1
    floor: float = 5e-4

    def __post_init__(self) -> None:
        _one_of("persistent.kind", self.kind, PERSISTENT_KINDS)
        _one_of("persistent.gate", self.gate, GATES)
        _one_of("persistent.slot_gate", self.slot_gate, SLOT_GATES)
        _one_of("persistent.merge", self.merge, MERGES)
        if self.kind != "none" and self.capacity < 4:
            raise InputError(f"persistent.capacity is {self.capacity}; expected 4 or more tokens")


@dataclass(frozen=True)
class EncoderConfig:
    """The image encoder (spec 2.2): channels, layers, heads."""

    width: int = 1024
    layers: int = 24
    heads: int = 16


@dataclass(frozen=True)
class DecoderConfig:
    """The alternating decoder (spec 2.6).

    Attributes:
        width, layers, heads: of the stack.
        order: which memory the first layer reads.
        mode: ``alternate``, both in ``parallel``, ``concat`` (one attention over both), or
            ``single`` (the persistent memory, or the ring where there is none, in each layer).
        coordinates: whether reading layers also hand on where what they read is.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    order: str = "persistent_first"
    mode: str = "alternate"
    coordinates: bool = False

    def __post_init__(self) -> None:
        _one_of("decoder.order", self.order, ORDERS)
        _one_of("decoder.mode", self.mode, MODES)


@dataclass(frozen=True)
class MatchConfig:
    """Tied matching and the closed-form pose (spec 2.6); ``width`` 0 for none.

    Attributes:
        width: channels of a descriptor.
        reach: metres within which a remembered token is the right one.
    """

    width: int = 0
    reach: float = 0.35


@dataclass(frozen=True)
class HeadsConfig:
    """What is predicted (spec 2.7).

    Attributes:
        kind: ``linear``, ``deep`` (an MLP in place of one layer) or ``dpt``.
        mask: whether what moves is predicted.
        rgb: whether colours are (CUT3R's weights only).
        placed: world points are remembered coordinates plus corrections, and the first frame's
            pose is the identity; otherwise both come from the heads alone.
        channels: of a DPT head.
        ceiling: of the length of a raw point, so that exp stays finite.
        confidence_ceiling: of a raw confidence.
    """

    kind: str = "dpt"
    mask: bool = True
    rgb: bool = False
    placed: bool = False
    channels: int = 256
    ceiling: float = 8.0
    confidence_ceiling: float = 10.0

    def __post_init__(self) -> None:
        _one_of("heads.kind", self.kind, HEAD_KINDS)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses (spec 2.9).

    Attributes:
        confidence: a in C * error - a * log C.
        pose, relative: of absolute poses, and of those between frames.
        mask: of the moving mask; 0 where none is supervised.
        match: of InfoNCE on the matching.
        still: of points seen twice that must stay where they are.
        rotation: distance of rotations: ``matrix`` (Frobenius) or ``quaternion``.
        metric: compare metres, or each after its own scale.
    """

    confidence: float = 0.2
    pose: float = 1.0
    relative: float = 0.0
    mask: float = 0.3
    match: float = 0.0
    still: float = 0.0
    rotation: str = "quaternion"
    metric: bool = False

    def __post_init__(self) -> None:
        _one_of("loss.rotation", self.rotation, ROTATIONS)


@dataclass(frozen=True)
class Mem4DConfig:
    """The whole model.

    Attributes:
        size: pixels of the longer side.
        square: whether images are cropped to a square of that side.
        patch: pixels of a patch's side.
        rays: 0 for no ray map, or its channels (2: x/z and y/z; 6: origin and direction).
        init: what the weights start from.
        rope: base of the frequencies of rotary positions.
        pose_rows: rows of the memory that pose tokens come from, where there is one.
    """

    size: int = 512
    square: bool = False
    patch: int = 16
    rays: int = 0
    init: str = "random"
    encoder: EncoderConfig = EncoderConfig()
    motion: FrameMotionConfig = FrameMotionConfig()
    transient: TransientConfig = TransientConfig()
    persistent: PersistentConfig = PersistentConfig()
    decoder: DecoderConfig = DecoderConfig()
    match: MatchConfig = MatchConfig()
    heads: HeadsConfig = HeadsConfig()
    loss: LossConfig = LossConfig()
    rope: float = 100.0
    pose_rows: int = 256

    def __post_init__(self) -> None:
        _one_of("init", self.init, INITS)
        if self.patch < 2 or self.size < self.patch or (self.square and self.size % self.patch):
            raise InputError(
                f"size is {self.size} and patch {self.patch}; expected a size of whole patches"
            )
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            if part.layers < 1 or part.heads < 1 or part.width % (4 * part.heads):
                raise InputError(
                    f"{name} has width {part.width}, {part.layers} layers and {part.heads} heads; "
                    "expected a width that is a multiple of 4 times the heads"
                )
        if self.rays not in (0, 2, 6):
            raise InputError(f"rays is {self.rays}; expected 0, 2 or 6 channels")
        if self.heads.placed and not self.match.width:
            raise InputError("heads.placed needs matching: set match.width above 0")

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change when a setting does, losses and init aside."""
        told = asdict(replace(self, loss=LossConfig(), init="random"))
        return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=4).hexdigest()


def config_to_text(config: Mem4DConfig) -> str:
    """All settings as JSON, as weight files carry them."""
    return json.dumps(asdict(config), sort_keys=True)


def config_from_text(text: str) -> Mem4DConfig:
    """What ``config_to_text`` gave.

    Raises:
        ModelError: when it is something else.
    """
    try:
        told = parse_json(text, "the header")
        missing = [name for name in ("encoder", "decoder", "persistent") if name not in told]
        if missing:
            raise KeyError(missing[0])
        made: Mem4DConfig = _taken(told, Mem4DConfig())
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ModelError(
            f"these are not settings of this version ({' '.join(str(error).split())[:80]})"
        ) from error
    return made


def _taken(told: Any, usual: Any) -> Any:
    """What is told as a setting, where it is of the type that is usual for it."""
    if is_dataclass(usual):
        parts = {name: _taken(value, getattr(usual, name)) for name, value in told.items()}
        return replace(usual, **parts)  # type: ignore[type-var]
    if type(told) is not type(usual):
        raise TypeError("a setting of another type")
    return told


_NANO_LOSS = LossConfig(relative=1.0, match=0.5, rotation="matrix", metric=True)


def _nano(
    size: int, patch: int, widths: tuple[int, int], layers: tuple[int, int], heads: int,
    frames: int, capacity: int, channels: int = 32,
) -> Mem4DConfig:  # fmt: skip
    return Mem4DConfig(
        size=size,
        square=True,
        patch=patch,
        rays=2,
        encoder=EncoderConfig(widths[0], layers[0], heads),
        motion=FrameMotionConfig(radius=2, width=min(widths[0], 128)),
        transient=TransientConfig(frames=frames),
        persistent=PersistentConfig(capacity=capacity, confident=1.0, slot_heads=heads),
        decoder=DecoderConfig(widths[1], layers[1], heads, coordinates=True),
        match=MatchConfig(channels),
        heads=HeadsConfig(kind="linear", placed=True),
        loss=_NANO_LOSS,
    )


SIZES: dict[str, Mem4DConfig] = {
    "full-512": Mem4DConfig(),
    "full-224": Mem4DConfig(
        size=224,
        square=True,
        persistent=PersistentConfig(capacity=4000),
        heads=HeadsConfig(kind="linear"),
    ),
    "nano-224": _nano(224, 16, (256, 256), (6, 8), 8, 3, 588),
    "nano-64": _nano(64, 8, (192, 192), (4, 6), 6, 3, 192),
    "nano-48": _nano(48, 8, (96, 96), (3, 4), 4, 2, 54),
}
"""Sizes of spec 2.1, and ``nano-224``."""


def named_config(name: str) -> Mem4DConfig:
    """A size by its name.

    Raises:
        InputError: for a name that is not in ``SIZES``.
    """
    if name not in SIZES:
        raise InputError(f"no model size {name!r}; expected one of {', '.join(SIZES)}")
    return SIZES[name]
