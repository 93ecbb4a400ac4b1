"""The state of a stream as plain values and tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vision_mem.models.mem4d.protocol import PersistentStore, PointNetwork
from vision_mem.reconstruction.learned.frame_ring import Ring
from vision_mem.reconstruction.learned.recurrent_state import SlotStore
from vision_mem.reconstruction.learned.stream import StreamState
from vision_mem.reconstruction.learned.structure_bank import Bank


def stream_state(state: StreamState) -> dict[str, Any]:
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


def stream_from_state(state: Mapping[str, Any], network: PointNetwork) -> StreamState:
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
    fresh = StreamState.start(network, 1)
    for name in ("frame", "pose", "pose_state"):
        if told[name].shape != getattr(fresh, name).shape:
            raise ValueError(f"{name} has shape {tuple(told[name].shape)}")
    store: PersistentStore | None = None
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
    return StreamState(
        told["frame"].clone(), told["pose"].clone(), told["pose_state"].clone(), features, (h, w),
        ring, store,
    )  # fmt: skip
