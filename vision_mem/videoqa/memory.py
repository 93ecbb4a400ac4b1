"""What is remembered of one stream: a bounded value that is replaced, never changed.

Each grid comes into the short tier whole, and there meets the grid before and the grid after.
Leaving it, a grid drops what those show as well; leaving the middle tier, it keeps the tokens
that mean most, or merges those that are alike. Nothing looks further than one grid back and
forth, so a stream that is fed grid by grid leaves exactly what the whole clip would.

Since writing returns a new memory, a step that fails half-way has changed nothing, and a question
may add a grid for itself alone. Entries that a write does not touch stay the same objects: who
stores a memory elsewhere finds by identity what has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from vision_mem.errors import InputError
from vision_mem.videoqa import tiers
from vision_mem.videoqa.compression import is_scene_change, token_salience
from vision_mem.videoqa.config import MemoryConfig
from vision_mem.videoqa.records import LONG, MID, SHORT, TIERS, GridEntry, VideoUsage, numbers


@dataclass(frozen=True)
class GridCounts:
    """What became of everything that came, in grids and tokens, since the stream began.

    Attributes:
        grids, tokens: that came.
        pruned: tokens that a grid next to theirs showed as well.
        unselected: tokens that meant less than others of their grid.
        merged: tokens that went into a neighbour.
        rewritten: tokens that took neighbours in.
        over_budget: tokens dropped to keep the budget.
        forgotten: tokens forgotten on request.
    """

    grids: int = 0
    tokens: int = 0
    pruned: int = 0
    unselected: int = 0
    merged: int = 0
    rewritten: int = 0
    over_budget: int = 0
    forgotten: int = 0


@dataclass(frozen=True)
class GridMotion:
    """How much grids differ from those before them: sum and number of mean distances.

    It starts anew with each segment.
    """

    total: float = 0.0
    grids: int = 0

    @property
    def mean(self) -> float:
        """Mean distance; 0 before there is one."""
        return self.total / self.grids if self.grids else 0.0

    def after(self, distance: float) -> GridMotion:
        """With one grid more."""
        return GridMotion(self.total + distance, self.grids + 1)


@dataclass(frozen=True, eq=False)
class TokenMemory:
    """The memory of one stream.

    Attributes:
        config: the rules.
        frames_per_grid: of the model.
        bank: float32 ``(m, D)`` unit vectors that salience is measured by, or None.
        short, mid, long: the tiers, each oldest first; all of ``long`` is older than ``mid``,
            and all of ``mid`` older than ``short``. Memories of whole grids use ``short`` alone.
        motion: of the present segment.
        counts: what became of everything.
    """

    config: MemoryConfig
    frames_per_grid: int = 2
    bank: torch.Tensor | None = None
    short: tuple[GridEntry, ...] = ()
    mid: tuple[GridEntry, ...] = ()
    long: tuple[GridEntry, ...] = ()
    motion: GridMotion = GridMotion()
    counts: GridCounts = GridCounts()

    @property
    def short_grids(self) -> int:
        """Grids that the short tier holds, 1 at least."""
        return max(1, self.config.short_frames // self.frames_per_grid)

    @property
    def mid_grids(self) -> int:
        """Grids that the middle tier holds; also those count of which nothing is left."""
        return self.config.mid_frames // self.frames_per_grid

    @property
    def entries(self) -> tuple[GridEntry, ...]:
        """Everything held, in time order."""
        return (*self.long, *self.mid, *self.short)

    @property
    def tokens(self) -> int:
        """Tokens held."""
        return tiers.tokens_of(self.entries)

    # -- writing -------------------------------------------------------------------------------

    def write(self, entry: GridEntry) -> TokenMemory:
        """Remember a grid.

        Args:
            entry: a new, whole grid; its index is larger than all that are held.

        Returns:
            The memory after it.

        Raises:
            InputError: for a grid that is larger than the whole budget, of another width than
                the bank, or older than what is held.
        """
        self._check(entry)
        counts = replace(
            self.counts, grids=self.counts.grids + 1, tokens=self.counts.tokens + len(entry)
        )
        memory = replace(self, counts=counts)
        if self.config.rules != "tiers":
            keep = tiers.WHOLE[self.config.rules]
            kept = keep((*self.short, entry), self.short_grids, self.config.budget)
            lost = self.tokens + len(entry) - tiers.tokens_of(kept)
            return replace(memory, short=kept)._counted(over_budget=lost)
        memory = memory._append(entry)
        while len(memory.short) > self.short_grids:
            memory = memory._age_short()
            while len(memory.mid) > self.mid_grids:
                memory = memory._age_mid()
        return memory._within_budget() if self.config.budget_over == "all" else memory

    def _check(self, entry: GridEntry) -> None:
        if self.bank is not None and self.bank.shape[1] != entry.features.shape[1]:
            raise InputError(
                f"a grid has tokens of width {entry.features.shape[1]} and the question bank "
                f"{self.bank.shape[1]}; embed both with the same model"
            )
        newest = self.short[-1].index if self.short else -1
        if entry.index <= newest:
            raise InputError(
                f"grid {entry.index} comes after grid {newest}; write grids in time order"
            )
        bounded = self.config.rules != "full" and self.config.budget_over == "all"
        if bounded and len(entry) > self.config.budget:
            raise InputError(
                f"grid {entry.index} has {len(entry)} tokens, more than memory.budget "
                f"{self.config.budget} allows in all; raise the budget or make frames smaller"
            )

    def _append(self, entry: GridEntry) -> TokenMemory:
        if self.bank is not None:
            entry = replace(entry, salience=token_salience(entry.features, self.bank))
        previous = self.short[-1] if self.short else None
        if previous is None or previous.segment != entry.segment:
            return replace(self, short=(*self.short, entry), motion=GridMotion())
        previous, entry = tiers.meet(previous, entry)
        distance = tiers.mean_distance(entry)
        changes = is_scene_change(distance, self.motion.mean, self.config.scene_factor)
        entry = replace(entry, scene_change=changes)
        short = (*self.short[:-1], previous, entry)
        return replace(self, short=short, motion=self.motion.after(distance))

    def _age_short(self) -> TokenMemory:
        """The oldest grid of the short tier moves on."""
        old = self.short[0]
        new = tiers.leave_short(old, self.config)
        memory = replace(self, short=self.short[1:], mid=(*self.mid, new))
        return memory._counted(pruned=len(old) - len(new))

    def _age_mid(self) -> TokenMemory:
        """The oldest grid of the middle tier moves on; one of which nothing is left goes."""
        old = self.mid[0]
        new, rewritten = tiers.leave_mid(old, self.config)
        lost = len(old) - len(new)
        long = (*self.long, new) if len(new) else self.long
        memory = replace(self, mid=self.mid[1:], long=long)._counted(
            rewritten=rewritten,
            merged=lost if rewritten else 0,
            unselected=0 if rewritten else lost,
        )
        if self.config.budget_over == "all":
            return memory
        held = tiers.tokens_of(memory.long)
        over = tiers.tokens_of(memory.mid) + held - self.config.budget
        return memory._thin_long(min(over, held))

    def _within_budget(self) -> TokenMemory:
        """Older grids move on early where they are too large for their share, then tokens go."""
        memory, budget = self, self.config.budget
        most = self.config.short_share * budget
        while len(memory.short) > 1 and tiers.tokens_of(memory.short) > most:
            memory = memory._age_short()
        short, mid = tiers.tokens_of(memory.short), tiers.tokens_of(memory.mid)
        over = short + mid + tiers.tokens_of(memory.long) - budget
        while over > 0 and memory.mid and mid > self.config.mid_share * (budget - short):
            old = len(memory.mid[0])
            memory = memory._age_mid()
            new = len(memory.long[-1]) if old else 0
            mid, over = mid - old, over - (old - new)
        # The short tier fits, and the middle tier fits what it leaves: the rest is in the long.
        return memory._thin_long(over)

    def _thin_long(self, excess: int) -> TokenMemory:
        """Without ``excess`` tokens of the long tier, which has so many."""
        if excess <= 0:
            return self
        return replace(self, long=tiers.thin(self.long, excess))._counted(over_budget=excess)

    def _counted(self, **more: int) -> TokenMemory:
        sums = {n: getattr(self.counts, n) + count for n, count in more.items() if count}
        return self if not sums else replace(self, counts=replace(self.counts, **sums))

    # -- reading and forgetting ----------------------------------------------------------------

    def read(self, until_s: float | None = None) -> tuple[GridEntry, ...]:
        """What is held, in time order, of which something is left; what began by ``until_s``."""
        return tuple(
            entry
            for entry in self.entries
            if len(entry) and (until_s is None or entry.start_s <= until_s)
        )

    def forget(self, start_s: float, end_s: float) -> TokenMemory:
        """The memory without all grids that touch a span of time: seconds, both ends inclusive.

        Raises:
            InputError: when the span ends before it starts.
        """
        if not start_s <= end_s:
            raise InputError(f"cannot forget from {start_s} s to {end_s} s; expected start <= end")

        def rest(entries: tuple[GridEntry, ...]) -> tuple[GridEntry, ...]:
            return tuple(e for e in entries if e.end_s < start_s or e.start_s > end_s)

        left = replace(self, short=rest(self.short), mid=rest(self.mid), long=rest(self.long))
        return left._counted(forgotten=self.tokens - left.tokens)

    def usage(self) -> VideoUsage:
        """Grids, tokens and bytes by tier, and bytes of the bank."""
        held = {SHORT: self.short, MID: self.mid, LONG: self.long}
        detail = {
            tier: bytes_of(t for e in group for t in e.tensors()) for tier, group in held.items()
        }
        if self.bank is not None:
            detail["question bank"] = bytes_of([self.bank])
        return VideoUsage(
            entries=len(self.entries),
            bytes=sum(detail.values()),
            detail=detail,
            tokens={tier: tiers.tokens_of(group) for tier, group in held.items()},
            grids={tier: len(group) for tier, group in held.items()},
        )

    # -- keeping -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that is held, as nested dicts and lists of tensors and plain values."""
        return {
            "entries": [entry.state_dict() for entry in self.entries],
            "bank": self.bank,
            "motion": asdict(self.motion),
            "counts": asdict(self.counts),
        }

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        config: MemoryConfig,
        frames_per_grid: int,
        device: torch.device | str,
    ) -> TokenMemory:
        """Rebuild a memory from ``state_dict``, on a device.

        Raises:
            KeyError, TypeError, ValueError: when the state is not one of a memory.
        """
        entries = [GridEntry.from_state(one, device) for one in state["entries"]]
        indices = [entry.index for entry in entries]
        if indices != sorted(set(indices)):
            raise ValueError("grids are not in time order")
        bank = state["bank"]
        first, second, third = (tuple(e for e in entries if e.tier == tier) for tier in TIERS)
        return cls(
            config,
            frames_per_grid,
            None if bank is None else bank.to(device),
            first,
            second,
            third,
            motion=GridMotion(**numbers(state["motion"], "total")),
            counts=GridCounts(**numbers(state["counts"])),
        )


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes that stay allocated because of some tensors; shared storage counts once."""
    sizes = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.nbytes():
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())
