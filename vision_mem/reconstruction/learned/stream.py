"""One frame of B streams through the network and both memories.

Training and sessions call the same function; training hands it the truth to write.

Source: specs/mem4d.md sections 2.4 to 2.6 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vision_mem.geometry.pointmaps import moved
from vision_mem.models.mem4d.config import Mem4DConfig
from vision_mem.models.mem4d.network import Mem4DNetwork
from vision_mem.models.mem4d.protocol import (
    BankEntry,
    Decoded,
    EncodedFrame,
    Tokens,
)
from vision_mem.reconstruction.learned.frame_ring import Ring
from vision_mem.reconstruction.learned.recurrent_state import SlotStore
from vision_mem.reconstruction.learned.structure_bank import Bank

PERSISTENT, TRANSIENT = "persistent", "transient"
_SURE = 20.0
"""Logit of what is known to move."""


@dataclass(frozen=True)
class Taught:
    """Truth for memories, in training and comparisons.

    Attributes:
        centroids: ``(B, P, 3)`` true centroids of patches in the world.
        dynamic: ``(B, P)`` true share that moves.
        rows: ``(B,)`` bool: streams that write the truth; the others write what was decoded.
    """

    centroids: Tensor
    dynamic: Tensor
    rows: Tensor


@dataclass(frozen=True)
class LearnedState:
    """All that B streams leave behind.

    Attributes:
        frame: ``(B,)`` int64 frames so far.
        pose: ``(B, 4, 4)`` of the last frame.
        pose_state: of the network's ``pose.memory``.
        features: ``(B, P, C)`` of the last frame, or None.
        grid: ``(h, w)`` patches of the last frame.
        ring: what just happened; None where there is no such memory, or nothing in it yet.
        store: what stays; likewise.
    """

    frame: Tensor
    pose: Tensor
    pose_state: Tensor
    features: Tensor | None = None
    grid: tuple[int, int] = (0, 0)
    ring: Ring | None = None
    store: Bank | SlotStore | None = None

    @classmethod
    def start(cls, network: Any, batch: int) -> LearnedState:
        """B streams that have seen nothing."""
        device = network.device
        pose = torch.eye(4, device=device).expand(batch, 4, 4)
        frame = torch.zeros(batch, dtype=torch.int64, device=device)
        store = None
        if network.config.persistent.kind == "slots":
            store = SlotStore.empty(network.config, batch, device, torch.float32, network)
        return cls(frame, pose, network.pose.memory.start(batch), store=store)


@dataclass(frozen=True)
class Look:
    """How a frame is looked at.

    Attributes:
        update: whether memories change.
        soft: training: soft weights, all attention, gradients through what is written.
        forget: ``(B,)`` bool by memory: rows that may not read it on this frame.
        flow: ``(B, P, 2)`` displacement to the frame before, in patches, or None.
        pose: ``(B, 4, 4)`` known camera-to-world, or None.
        moving: ``(B, H, W)`` bool: pixels that are known to move, or None.
    """

    update: bool = True
    soft: bool = False
    forget: dict[str, Tensor] | None = None
    flow: Tensor | None = None
    pose: Tensor | None = None
    moving: Tensor | None = None


def advance(
    network: Any,
    state: LearnedState,
    images: Tensor,
    rays: Tensor | None = None,
    given: Tensor | None = None,
    *,
    look: Look = Look(),
    taught: Taught | None = None,
    prepared: tuple[EncodedFrame, Tensor] | None = None,
) -> tuple[Decoded, LearnedState]:
    """Look at the next frame of each stream.

    Args:
        network: a ``Mem4DNetwork``.
        state: what the streams left behind.
        images: ``(B, 3, H, W)`` in [-1, 1].
        rays: ``(B, H, W, 2)`` x/z and y/z of pixels, or None.
        given: ``(B,)`` bool: whose rays count.
        look: how.
        taught: truth to write, or None.
        prepared: this frame encoded and its motion, in place of encoding it here.

    Returns:
        What is seen, and the new state; the old one where ``look.update`` is False. Rows whose
        answer is not finite write nothing.
    """
    config: Mem4DConfig = network.config
    first = state.frame == 0
    ring, store, features = state.ring, state.store, state.features
    if prepared is not None:
        encoded, motion = prepared
    else:
        encoded = network.encode(images, first, rays, given)
        if features is not None and encoded.grid != state.grid:
            ring = features = None  # another size: what is told by patches does not fit any more
        motion = network.move(encoded, features, None if features is None else ~first, look.flow)
    if store is None and config.persistent.kind == "slots":
        device = network.device
        store = SlotStore.empty(config, len(images), device, torch.float32, network)
    memories, readers = _readers(network, encoded, state, ring, store, look)
    token = network.pose.token.expand(len(images), -1, -1)
    token = torch.where(
        first[:, None, None], token, network.pose.memory.ask(state.pose_state, encoded)
    )
    decoded = network.decode(encoded, motion, readers, memories, token, state.pose)
    decoded = _told(decoded, look)
    if not look.update:
        return decoded, state
    entries = network.entries(encoded, motion, decoded)
    if taught is not None:
        entries = {name: _taught(entry, taught) for name, entry in entries.items()}
    sound = _finite(decoded)
    if config.transient.frames:
        entry = entries[TRANSIENT]
        held = ring or Ring.empty(entry, config.transient.frames)
        ring = held.write(entry, torch.where(sound, state.frame, -1), config.transient)
    if store is not None:
        before = store
        told = entries.get(PERSISTENT) or entries[TRANSIENT]
        store = store.write(told, decoded, readers[PERSISTENT])
        if not bool(sound.all()):
            store = _chosen(sound, store, before)
    elif config.persistent.kind == "bank":
        entry = entries[PERSISTENT]
        empty = Bank.empty(config.persistent, entry, soft=look.soft)
        store = empty.write(entry, decoded, readers[PERSISTENT])
    pose = torch.where(sound[:, None, None], decoded.pose, state.pose).detach()
    carried = network.pose.memory.write(state.pose_state, encoded, decoded.pose_token)
    return decoded, LearnedState(
        state.frame + 1,
        pose,
        torch.where(sound[:, None, None], carried, state.pose_state),
        encoded.features,
        encoded.grid,
        ring,
        store,
    )


def _readers(
    network: Any,
    encoded: EncodedFrame,
    state: LearnedState,
    ring: Ring | None,
    store: Bank | SlotStore | None,
    look: Look,
) -> tuple[list[Tokens], dict[str, Any]]:
    """Tokens that may be matched, and readers of both memories."""
    config: Mem4DConfig = network.config
    memories: list[Tokens] = []
    recent = None
    if ring is not None:
        h, w = encoded.grid
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        places = torch.stack([rows, columns], dim=-1).flatten(0, 1)[None].float()
        recent = _kept(ring.tokens(state.frame, places.to(network.device)), look, TRANSIENT)
        memories.append(recent)
    floor = 0.0 if look.soft else config.persistent.floor
    if isinstance(store, Bank):
        lasting = _kept(store.tokens(), look, PERSISTENT)
        memories.append(lasting)
        reader = network.read_bank(lasting, encoded, state.pose, floor)
    elif store is not None:
        reader = store.reader(network, encoded)
    else:
        reader = network.read_bank(None, encoded, state.pose)
    readers = {
        PERSISTENT: reader,
        TRANSIENT: network.read_transient(recent, encoded, state.pose),
    }
    return memories, readers


def _kept(tokens: Tokens, look: Look, name: str) -> Tokens:
    if look.forget is None or name not in look.forget:
        return tokens
    return replace(tokens, valid=tokens.valid & ~look.forget[name][:, None])


def _taught(entry: BankEntry, taught: Taught) -> BankEntry:
    return replace(
        entry,
        centroids=torch.where(taught.rows[:, None, None], taught.centroids, entry.centroids),
        dynamic=torch.where(taught.rows[:, None], taught.dynamic, entry.dynamic),
        truth=taught.dynamic,
    )


def _finite(decoded: Decoded) -> Tensor:
    """``(B,)`` bool: rows without NaN or infinity."""
    parts = (decoded.points_world, decoded.conf_world, decoded.pose, decoded.tokens)
    rows = [part.detach().flatten(1).isfinite().all(dim=1) for part in parts]
    return torch.stack(rows).all(dim=0)


def _told(decoded: Decoded, look: Look) -> Decoded:
    """With what the caller knows better."""
    if look.pose is not None:
        world = moved(decoded.points_self, look.pose)
        decoded = replace(decoded, pose=look.pose, points_world=world)
    if look.moving is not None:
        logit = torch.where(look.moving, _SURE, decoded.dynamic_logit)
        decoded = replace(decoded, dynamic_logit=logit)
    return decoded


def _chosen(rows: Tensor, one: Any, other: Any) -> Any:
    """Rows of one memory, the others of another."""
    changed = {
        name: torch.where(rows.view(-1, *[1] * (value.ndim - 1)), value, getattr(other, name))
        for name, value in vars(one).items()
        if isinstance(value, Tensor)
    }
    return replace(one, **changed)


def stream_state(state: LearnedState) -> dict[str, Any]:
    """Tensors and plain values, copied."""
    features = state.features
    return {
        "frame": state.frame.clone(),
        "pose": state.pose.detach().clone(),
        "pose_state": state.pose_state.detach().clone(),
        "features": None if features is None else features.detach().clone(),
        "grid": list(state.grid),
        "ring": None if state.ring is None else state.ring.state(),
        "store": None if state.store is None else state.store.state(),
    }


def stream_from_state(state: Mapping[str, Any], network: Mem4DNetwork) -> LearnedState:
    """What ``stream_state`` gave, on the network's device.

    Raises:
        ValueError: when it does not fit the network. KeyError, TypeError: when parts are missing.
    """
    config = network.config

    def here(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(network.device)
        if isinstance(value, Mapping):
            return {name: here(part) for name, part in value.items()}
        return value

    told = here(state)
    fresh = LearnedState.start(network, 1)
    for name in ("frame", "pose", "pose_state"):
        if told[name].shape != getattr(fresh, name).shape:
            raise ValueError(f"{name} has shape {tuple(told[name].shape)}")
    store: Bank | SlotStore | None = None
    if told["store"] is not None:
        if config.persistent.kind == "bank":
            store = Bank.from_state(told["store"], config.persistent)
        elif config.persistent.kind == "slots":
            store = SlotStore.from_state(told["store"], config)
        else:
            raise ValueError("it has a persistent memory; the model has none")
    ring = None if told["ring"] is None else Ring.from_state(told["ring"])
    for name, held in (("ring", ring), ("bank", store)):
        if isinstance(held, Ring | Bank):
            found = (len(held.keys), held.keys.shape[-1], held.match.shape[-1])
            if found != (1, config.decoder.width, config.match.width):
                raise ValueError(f"the {name} is of streams and widths {found}")
    if isinstance(ring, Ring) and ring.written.shape[1] != config.transient.frames:
        raise ValueError(f"the ring has room for {ring.written.shape[1]} frames")
    h, w = (int(n) for n in told["grid"])
    features = told["features"]
    if features is not None and features.shape != (1, h * w, config.encoder.width):
        raise ValueError(f"features have shape {tuple(features.shape)}")
    return LearnedState(
        told["frame"].clone(), told["pose"].clone(), told["pose_state"].clone(), features, (h, w),
        ring, store,
    )  # fmt: skip
