"""The memory of what just happened: all tokens of the last few frames.

Source: specs/mem4d.md section 2.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_mem.models.mem4d.config import TransientConfig
from vision_mem.models.mem4d.protocol import BankEntry, Tokens


@dataclass(frozen=True)
class Ring:
    """The last K frames of B streams. A value: writing makes another one.

    Attributes:
        keys, values: ``(B, K, P, D)``.
        match: ``(B, K, P, d)``.
        centroids: ``(B, K, P, 3)`` in the world.
        static: ``(B, K, P)`` 1 - share that moves.
        written: ``(B, K)`` int64 frame that wrote the place; -1 for none.
        grid: ``(h, w)`` patches.
    """

    keys: Tensor
    values: Tensor
    match: Tensor
    centroids: Tensor
    static: Tensor
    written: Tensor
    grid: tuple[int, int]

    @classmethod
    def empty(cls, entry: BankEntry, frames: int) -> Ring:
        """Room for ``frames`` frames like this one."""
        batch = len(entry.keys)

        def room(like: Tensor) -> Tensor:
            return like.new_zeros(batch, frames, *like.shape[1:])

        written = torch.full((batch, frames), -1, device=entry.keys.device)
        return cls(
            room(entry.keys), room(entry.values), room(entry.match), room(entry.centroids),
            room(entry.dynamic), written, entry.grid,
        )  # fmt: skip

    def write(self, entry: BankEntry, frame: Tensor, settings: TransientConfig) -> Ring:
        """The ring after a frame; the oldest one leaves, or the newest where nothing is new.

        Args:
            entry: what the frame has to say.
            frame: ``(B,)`` number of the frame, from 0; rows below 0 write nothing.
            settings: when a frame is the same as the newest one.
        """
        newest, oldest = self.written.argmax(dim=1), self.written.argmin(dim=1)
        rows = torch.arange(len(newest), device=newest.device)
        alike = F.cosine_similarity(entry.keys, self.keys[rows, newest], dim=-1).mean(dim=1)
        moving = (entry.dynamic > 0.5).float().mean(dim=1)
        held = self.written[rows, newest] >= 0
        same = held & (alike > settings.same) & (moving < settings.still)
        place = torch.where(same, newest, oldest)
        here = F.one_hot(place, self.written.shape[1]).bool() & (frame >= 0)[:, None]

        def put(held: Tensor, new: Tensor) -> Tensor:
            mask = here.view(*here.shape, *[1] * (held.ndim - 2))
            return torch.where(mask, new[:, None].to(held.dtype), held)

        return replace(
            self,
            keys=put(self.keys, entry.keys),
            values=put(self.values, entry.values),
            match=put(self.match, entry.match),
            centroids=put(self.centroids, entry.centroids),
            static=put(self.static, 1 - entry.dynamic),
            written=torch.where(here, frame[:, None], self.written),
        )

    def tokens(self, frame: Tensor, positions: Tensor) -> Tokens:
        """All tokens as a network reads them.

        Args:
            frame: ``(B,)`` number of the frame that asks.
            positions: ``(1, P, 2)`` row and column of patches.
        """
        batch, frames, patches = self.static.shape
        valid = (self.written >= 0)[:, :, None].expand(-1, -1, patches)
        ages = (frame[:, None] - self.written).clamp(min=1)[:, :, None].expand_as(valid)
        return Tokens(
            self.keys.flatten(1, 2), self.values.flatten(1, 2), self.match.flatten(1, 2),
            self.centroids.flatten(1, 2), self.static.flatten(1), valid.flatten(1),
            positions.repeat(batch, frames, 1), ages.flatten(1),
        )  # fmt: skip

    @property
    def count(self) -> int:
        """Tokens in use, of the fullest stream."""
        return int((self.written >= 0).sum(dim=1).max()) * self.static.shape[2]

    @property
    def nbytes(self) -> int:
        """Held between frames."""
        held = (getattr(self, f.name) for f in fields(self) if f.name != "grid")
        return sum(t.numel() * t.element_size() for t in held)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "grid"}
        return {**{k: v.detach().clone() for k, v in told.items()}, "grid": list(self.grid)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Ring:
        """What ``state`` gave."""
        h, w = (int(n) for n in state["grid"])
        told = {f.name: _tensor(state[f.name]) for f in fields(cls) if f.name != "grid"}
        made = cls(**told, grid=(h, w))
        shape = (*made.written.shape, h * w)
        parts = (made.keys, made.values, made.match, made.centroids)
        fits = made.static.shape == shape and made.written.dtype == torch.int64
        fits &= made.keys.shape == made.values.shape and made.centroids.shape[3:] == (3,)
        fits &= all(p.ndim == 4 and p.shape[:3] == shape and p.is_floating_point() for p in parts)
        if not fits:
            raise ValueError("the ring's tensors do not fit each other")
        return made


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError("expected a tensor")
    return value.clone()
