"""What passes between the learned reconstruction model and its memories.

The network holds weights and nothing about any stream. Memories hold what a stream left behind
and no weights; they live in ``vision_mem.reconstruction.learned``. All tensors carry a batch of B
streams in front.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """What a memory of tokens holds, as the network wants it.

    Attributes:
        keys, values: ``(B, N, D)``.
        match: ``(B, N, d)`` descriptors of length 1; d is 0 without matching.
        centroids: ``(B, N, 3)`` in the world.
        static: ``(B, N)`` 1 for what surely stays, 0 for what surely moves.
        valid: ``(B, N)`` bool: there is a token here.
        positions: ``(B, N, 2)`` row and column of their patches, or None.
        ages: ``(B, N)`` frames since they were written, 1 and up, or None.
    """

    keys: Tensor
    values: Tensor
    match: Tensor
    centroids: Tensor
    static: Tensor
    valid: Tensor
    positions: Tensor | None = None
    ages: Tensor | None = None


@dataclass(frozen=True)
class BankEntry:
    """What one frame has to write, one token a patch, P in all.

    Attributes:
        keys, values: ``(B, P, D)``.
        match: ``(B, P, d)``.
        centroids: ``(B, P, 3)`` in the world.
        directions: ``(B, P, 3)`` from the camera to them, length 1, in the world.
        depth: ``(B, P)`` z in the camera.
        dynamic: ``(B, P)`` share that moves, in [0, 1].
        confidence: ``(B, P)`` >= 1.
        grid: ``(h, w)`` patches.
        truth: ``(B, P)`` true share that moves, for comparisons, or None.
    """

    keys: Tensor
    values: Tensor
    match: Tensor
    centroids: Tensor
    directions: Tensor
    depth: Tensor
    dynamic: Tensor
    confidence: Tensor
    grid: tuple[int, int]
    truth: Tensor | None = None


@dataclass(frozen=True)
class Read:
    """A memory as one decoder layer sees it.

    Attributes:
        keys, values: ``(B, N, D)``, before the layer's norm; the same tensor where a memory does
            not tell them apart.
        positions: ``(B or 1, N, 2)`` for rotary embedding, or None for none.
        bias: ``(B, N)`` added to scores, -inf for what is not there; or None.
        floor: weights below it count as 0.
        centroids: ``(B, N, 3)`` in the camera of the frame before, or None.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor | None = None
    bias: Tensor | None = None
    floor: float = 0.0
    centroids: Tensor | None = None


class MemoryReader(Protocol):
    """How a decoder reads one memory, layer by layer."""

    def read(self, layer: int, tokens: Tensor, positions: Tensor) -> Read:
        """What decoder layer ``layer`` (from 0) sees.

        Called once for each layer, in order, also for those that do not read this memory, with
        the decoder tokens ``(B, 1 + P, D)`` before that layer (the pose token first) and their
        positions. Memories that follow the decoder (slots) take their own step here.
        """


@dataclass(frozen=True)
class EncodedFrame:
    """One frame after the encoder.

    Attributes:
        features: ``(B, P, C)``, after the encoder's norm.
        tokens: ``(B, P, D)``, embedded for the decoder.
        rays: ``(B, H, W, 2)`` x/z and y/z of pixels, as given, or None.
        given: ``(B,)`` bool: where rays are given; None when they are nowhere.
        first: ``(B,)`` bool: frames that define their world.
        grid: ``(h, w)`` patches.
    """

    features: Tensor
    tokens: Tensor
    rays: Tensor | None
    given: Tensor | None
    first: Tensor
    grid: tuple[int, int]


@dataclass(frozen=True)
class Decoded:
    """One frame as the model sees it.

    Attributes:
        points_self, points_world: ``(B, H, W, 3)`` of this moment.
        conf_self, conf_world: ``(B, H, W)`` >= 1.
        dynamic_logit: ``(B, H, W)``; -30 where no mask is predicted.
        pose: ``(B, 4, 4)`` camera-to-world.
        prior: ``(B, 4, 4)`` the closed-form pose, and ``(B,)`` bool ``aligned`` where there was
            enough to align; None without matching.
        tokens: ``(B, P, D)`` of the last layer.
        pose_token: ``(B, 1, D)`` of the last layer.
        match: ``(B, P, d)`` descriptors of this frame.
        match_logits: ``(B, P, N)`` over the tokens of both memories, -inf where there is none;
            None without matching.
        match_centroids: ``(B, N, 3)`` of those tokens, in the world.
        match_places: ``(B, P, 3)`` where in the world the patches are by matching and decoding; or
            None.
        match_weights: ``(B, P)`` how far those are believed, in (0, 1); or None.
        patch_points: ``(B, P, 3)`` first guess of the patches' points in the camera, or None.
        mass: attention that went to each token, ``(B, N)``, by memory.
        rgb: ``(B, H, W, 3)`` in [-1, 1], or None.
    """

    points_self: Tensor
    points_world: Tensor
    conf_self: Tensor
    conf_world: Tensor
    dynamic_logit: Tensor
    pose: Tensor
    tokens: Tensor
    pose_token: Tensor
    match: Tensor
    prior: Tensor | None = None
    aligned: Tensor | None = None
    match_logits: Tensor | None = None
    match_centroids: Tensor | None = None
    match_places: Tensor | None = None
    match_weights: Tensor | None = None
    patch_points: Tensor | None = None
    mass: dict[str, Tensor] = field(default_factory=dict)
    rgb: Tensor | None = None
