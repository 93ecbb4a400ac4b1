"""The memory of what stays: a bounded bank of tokens with places.

Source: specs/mem4d.md section 2.5 (A).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_mem.models.mem4d.config import PersistentConfig
from vision_mem.models.mem4d.protocol import BankEntry, Decoded, MemoryReader, Tokens

_SOFT_LEAST = 0.05
_TOKEN = ("keys", "values", "match", "centroids", "directions", "static", "confidence")


@dataclass(frozen=True)
class Bank:
    """N places for tokens of B streams. A value: writing makes another one.

    Attributes:
        settings: rules.
        keys, values: ``(B, N, D)``.
        match: ``(B, N, d)``.
        centroids, directions: ``(B, N, 3)`` in the world; the direction they were seen in.
        static, confidence: ``(B, N)`` when they were written.
        hits: ``(B, N)`` times that frames agreed.
        usage: ``(B, N)`` attention so far.
        born, hit: ``(B, N)`` int64 frame that wrote the token, and that agreed last.
        anchor, valid: ``(B, N)`` bool.
        frame: ``(B,)`` int64 frames seen.
        depth: ``(B,)`` running median depth in metres; 0 before the first frame.
        soft: weights are used as they are and gradients flow through them, as in training.
    """

    settings: PersistentConfig
    keys: Tensor
    values: Tensor
    match: Tensor
    centroids: Tensor
    directions: Tensor
    static: Tensor
    confidence: Tensor
    hits: Tensor
    usage: Tensor
    born: Tensor
    hit: Tensor
    anchor: Tensor
    valid: Tensor
    frame: Tensor
    depth: Tensor
    soft: bool = False

    @classmethod
    def empty(cls, settings: PersistentConfig, entry: BankEntry, *, soft: bool = False) -> Bank:
        """A bank without tokens, of the widths of an entry."""
        batch, places = len(entry.keys), settings.capacity

        def room(*shape: int) -> Tensor:
            return entry.keys.new_zeros(batch, places, *shape, dtype=torch.float32)

        whole = torch.zeros(batch, places, dtype=torch.int64, device=entry.keys.device)
        no = whole.bool()
        return cls(
            settings, room(entry.keys.shape[2]), room(entry.values.shape[2]),
            room(entry.match.shape[2]), room(3), room(3), room(), room(), room(), room(),
            whole, whole, no, no, whole[:, 0], room()[:, 0], soft,
        )  # fmt: skip

    def tokens(self) -> Tokens:
        """All tokens as a network reads them."""
        return Tokens(self.keys, self.values, self.match, self.centroids, self.static, self.valid)

    def write(self, entry: BankEntry, decoded: Decoded, reader: MemoryReader) -> Bank:
        """The bank after a frame: gate, pool, compare, merge or insert, prune.

        Args:
            entry: what the frame has to say.
            decoded: how it was read; the attention counts as usage.
            reader: not needed; slots do.
        """
        used = decoded.mass.get("persistent")
        bank = self
        if used is not None and used.shape[1] == self.valid.shape[1] + 1:
            bank = replace(bank, usage=self.usage + used[:, 1:].float() * self.valid)
        new, weights, median = bank._candidates(entry)
        first = bank.frame == 0
        depth = torch.where(bank.depth > 0, 0.9 * bank.depth + 0.1 * median, median)
        bank = replace(bank, depth=depth)
        good = weights >= (_SOFT_LEAST if self.soft else self.settings.least)
        bank, rest = bank._merge(new, good)
        bank = bank._insert(new, rest & good)
        if self.settings.anchor:
            fresh = bank.valid & first[:, None]
            most = math.ceil(self.settings.capacity / 4)
            if bool(first.any()):
                kept = farthest_points(bank.centroids, fresh, most)
                bank = replace(bank, anchor=torch.where(first[:, None], kept, bank.anchor))
        return replace(bank, frame=bank.frame + 1)

    def _candidates(self, entry: BankEntry) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        weights = static_weights(entry, self.settings)
        median = entry.depth.detach().median(dim=1).values
        values = {
            "keys": entry.keys, "values": entry.values, "match": entry.match,
            "centroids": entry.centroids, "directions": entry.directions,
            "confidence": entry.confidence.detach(), "depth": entry.depth.detach(),
        }  # fmt: skip
        values = {name: value.float() for name, value in values.items()}
        if self.soft:
            values["values"] = values["values"] * weights[..., None]
        else:
            weights = torch.where(weights < self.settings.least, 0.0, weights)
        if self.settings.pool:
            values, weights = pooled(values, weights, entry.grid, self.settings)
            for name in ("match", "directions"):
                values[name] = F.normalize(values[name], dim=-1)
        weights = weights.detach()
        values["static"] = weights
        if weights.shape[1] > self.settings.capacity:
            best = weights.topk(self.settings.capacity, dim=1).indices
            values = {name: _picked(value, best) for name, value in values.items()}
            weights = values["static"]
        return values, weights, median

    def _merge(self, new: dict[str, Tensor], good: Tensor) -> tuple[Bank, Tensor]:
        """Known surfaces keep the more confident token; also which candidates are left."""
        rules = self.settings
        if rules.merge == "none" or not bool(self.valid.any()):
            return self, good
        voxel = (
            torch.full_like(self.depth, rules.voxel) if rules.voxel else
            (rules.voxel_share * self.depth).clamp(min=1e-3)
        )  # fmt: skip
        with torch.no_grad():
            unlike, near = novelty(
                new["centroids"], new["keys"], self.centroids, self.keys, voxel, rules.unlike
            )
            absent = ~self.valid[:, None]
            unlike = unlike.masked_fill(absent, torch.inf)
            gap, which = unlike.min(dim=2)  # (B, M)
            crowd = ((near < 1) & ~absent).sum(dim=2) >= rules.crowd
            along = (new["directions"] * _picked(self.directions, which)).sum(dim=-1)
            turned = along < math.cos(math.radians(rules.turned))
            merged = good & (gap < 1) & (~turned | crowd)
            target = torch.zeros_like(unlike, dtype=torch.bool).scatter(
                2, which[..., None], merged[..., None]
            )  # (B, M, N)
            votes = target.sum(dim=1)
            sure = torch.where(target, new["confidence"][..., None], -1.0)
            most, winner = sure.max(dim=1)  # (B, N)
            better = (votes > 0) & (most > self.confidence)
        changed: dict[str, Any] = {}
        for name in _TOKEN:
            held: Tensor = getattr(self, name)
            if rules.merge == "average":
                count = self.hits.view(*self.hits.shape, *[1] * (held.ndim - 2)).clamp(min=1)
                flat = new[name].flatten(2) if held.ndim > 2 else new[name][..., None]
                total = (target.float().transpose(1, 2) @ flat).view(held.shape)
                more = votes.view(count.shape)
                changed[name] = torch.where(more > 0, (held * count + total) / (count + more), held)
            else:
                mask = better.view(*better.shape, *[1] * (held.ndim - 2))
                changed[name] = torch.where(mask, _picked(new[name], winner), held)
        hit = torch.where(votes > 0, self.frame[:, None], self.hit)
        bank = replace(self, **changed, hits=self.hits + votes, hit=hit)
        return bank, good & ~merged

    def _insert(self, new: dict[str, Tensor], wanted: Tensor) -> Bank:
        """Put candidates ``(B, M)`` bool where the least valuable tokens are."""
        number = wanted.shape[1]
        with torch.no_grad():
            age = (self.frame[:, None] - self.born).float()
            score = keep_scores(self.usage, age, self.static, self.hits, self.settings.young)
            score = torch.where(self.valid, score, -1.0)
            score = torch.where(self.anchor, torch.inf, score)
            worst, victims = (-score).topk(number, dim=1)  # the least valuable first
            order = torch.where(wanted, new["static"], -1.0).argsort(
                dim=1, descending=True, stable=True
            )
            allowed = wanted.gather(1, order) & (worst > -torch.inf)
            source = torch.zeros_like(self.born).scatter(1, victims, order)
            put = torch.zeros_like(self.valid).scatter(1, victims, allowed)
        changed: dict[str, Any] = {}
        for name in _TOKEN:
            held: Tensor = getattr(self, name)
            mask = put.view(*put.shape, *[1] * (held.ndim - 2))
            changed[name] = torch.where(mask, _picked(new[name], source), held)
        now = self.frame[:, None]
        return replace(
            self,
            **changed,
            hits=torch.where(put, 1.0, self.hits),
            usage=torch.where(put, 0.0, self.usage),
            born=torch.where(put, now, self.born),
            hit=torch.where(put, now, self.hit),
            valid=self.valid | put,
        )

    @property
    def count(self) -> int:
        """Tokens in use, of the fullest stream."""
        return int(self.valid.sum(dim=1).max())

    @property
    def nbytes(self) -> int:
        """Held between frames; the same from the first frame on."""
        return sum(t.numel() * t.element_size() for t in self._tensors().values())

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _PLAIN}

    def state(self) -> dict[str, Any]:
        """Tensors by name."""
        return {name: value.detach().clone() for name, value in self._tensors().items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: PersistentConfig) -> Bank:
        """What ``state`` gave.

        Raises:
            ValueError: when the tensors do not fit each other or the settings.
        """
        names = [f.name for f in fields(cls) if f.name not in _PLAIN]
        tensors = {name: state[name].clone() for name in names}
        places = (len(tensors["frame"]), settings.capacity)
        for name, value in tensors.items():
            want = places[:1] if name in ("frame", "depth") else places
            inner = value.shape[len(want) :]
            sound = value.shape[: len(want)] == want and value.dtype == _KINDS.get(
                name, torch.float32
            )
            sound &= len(inner) == (name in ("keys", "values", "match", *_PLACES))
            if not sound or (name in _PLACES and inner != (3,)):
                raise ValueError(f"{name} has shape {tuple(value.shape)} and type {value.dtype}")
        if tensors["keys"].shape != tensors["values"].shape:
            raise ValueError("keys and values differ in shape")
        return cls(settings=settings, **tensors)


_PLAIN = ("settings", "soft")
_PLACES = ("centroids", "directions")
_KINDS = {
    **dict.fromkeys(("born", "hit", "frame"), torch.int64),
    **dict.fromkeys(("anchor", "valid"), torch.bool),
}


def _picked(values: Tensor, which: Tensor) -> Tensor:
    """Rows ``which (B, K)`` of ``values (B, M, ...)``."""
    index = which.view(*which.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)


ALONE = 1e4
"""Score of a token that may not give way yet; anchors have no end of it."""


def static_weights(entry: BankEntry, settings: PersistentConfig) -> Tensor:
    """``(B, P)`` how far each patch may be written, in [0, 1]."""
    if settings.gate == "none":
        return torch.ones_like(entry.dynamic)
    if settings.gate == "truth" and entry.truth is not None:
        return 1 - entry.truth
    weights = 1 - entry.dynamic
    if settings.confident > 1:
        sure = (entry.confidence.detach() - 1) / (settings.confident - 1)
        weights = weights * sure.clamp(0, 1)
    return weights


def pooled(
    values: dict[str, Tensor], weights: Tensor, grid: tuple[int, int], settings: PersistentConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Blocks of 2x2 patches as one token each; at depth edges the best of the four.

    Args:
        values: ``(B, P, ...)`` by name; ``centroids (B, P, 3)`` and ``depth (B, P)`` are needed.
        weights: ``(B, P)``; patches with 0 do not count.
        grid: ``(h, w)`` patches; odd sides are filled up with patches that do not count.
        settings: when to pool.

    Returns:
        ``(B, M, ...)`` by name and weights ``(B, M)``, with M a quarter of the patches.
    """
    blocks = {name: _blocks(value, grid) for name, value in values.items()}  # (B, M, 4, ...)
    share = _blocks(weights, grid)  # (B, M, 4)
    total = share.sum(dim=2)
    mean = share / total.clamp(min=1e-8)[..., None]
    middle = (mean[..., None] * blocks["centroids"]).sum(dim=2)
    away = (blocks["centroids"] - middle[:, :, None]).norm(dim=-1)
    spread = torch.where(share > 0, away, 0.0).amax(dim=2)
    depth = (mean * blocks["depth"]).sum(dim=2)
    edge = spread > settings.spread * depth
    best = F.one_hot(share.argmax(dim=2), 4).to(mean.dtype)
    mean = torch.where(edge[..., None], best, mean)
    out = {
        name: (mean.view(*mean.shape, *[1] * (value.ndim - 3)) * value).sum(dim=2)
        for name, value in blocks.items()
    }
    return out, (mean * share).sum(dim=2)


def _blocks(value: Tensor, grid: tuple[int, int]) -> Tensor:
    """``(B, h * w, ...)`` to ``(B, M, 4, ...)``."""
    h, w = grid
    flat = value.view(value.shape[0], h, w, -1)
    flat = F.pad(flat, (0, 0, 0, w % 2, 0, h % 2))
    b, h, w, c = flat.shape
    parts = flat.view(b, h // 2, 2, w // 2, 2, c).transpose(2, 3)
    return parts.reshape(b, h * w // 4, 4, *value.shape[2:])


def novelty(
    centroids: Tensor, keys: Tensor, held: Tensor, held_keys: Tensor, voxel: Tensor, unlike: float
) -> tuple[Tensor, Tensor]:
    """How far candidates are from what is held: below 1 is the same surface.

    Args:
        centroids: ``(B, M, 3)``.
        keys: ``(B, M, D)``.
        held: ``(B, N, 3)``.
        held_keys: ``(B, N, D)``.
        voxel: ``(B,)`` metres.
        unlike: weight of 1 - cosine.

    Returns:
        ``(B, M, N)``, and the distance in voxels alone.
    """
    near = torch.cdist(centroids, held) / voxel[:, None, None]
    alike = F.normalize(keys, dim=-1) @ F.normalize(held_keys, dim=-1).transpose(1, 2)
    return near + unlike * (1 - alike), near


def keep_scores(usage: Tensor, age: Tensor, static: Tensor, count: Tensor, young: int) -> Tensor:
    """What a token is worth: used, lately, static, seen often; ``(B, N)`` each.

    Tokens younger than ``young`` frames are kept before all others.
    """
    worth = (usage + 1e-3) / (age + 1) * static * count.clamp(min=1) ** 0.25
    return torch.where(age < young, worth + ALONE, worth)


def farthest_points(points: Tensor, valid: Tensor, count: int) -> Tensor:
    """``(B, N)`` bool: up to ``count`` valid points that lie far from each other.

    Args:
        points: ``(B, N, 3)``.
        valid: ``(B, N)`` bool.
        count: how many.
    """
    if points.shape[1] <= count:
        return valid
    chosen = torch.zeros_like(valid)
    rows = torch.arange(len(points), device=points.device)
    far = torch.where(valid, torch.inf, -1.0)
    for _ in range(count):
        pick = far.argmax(dim=1)
        chosen[rows, pick] |= far[rows, pick] > 0
        gap = (points - points[rows, pick][:, None]).norm(dim=-1)
        far = torch.minimum(far, torch.where(valid & ~chosen, gap, -1.0))
    return chosen
