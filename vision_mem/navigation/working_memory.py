"""Short memory: what was lately around here, a fixed number of entries.

Positions are kept in the map's frame; where something is relative to the observer is worked out
when it is asked for. What has to make room is in the journal already: nothing is lost.

Source: specification 1.4. Policy ``paper`` follows the formula of the released code of Mem4Nav
(a withdrawn paper) for comparison; ``own`` is ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import DamagedFileError, InputError
from vision_mem.navigation.storage import BROKEN
from vision_mem.text import parse_json

POLICIES = ("own", "paper")


@dataclass(frozen=True)
class ShortConfig:
    """How much is kept and what goes first.

    Attributes:
        capacity: entries, K.
        policy: ``own``: often used and recent ones stay, both on a scale from 0 to 1;
            ``paper``: ``balance * uses - (1 - balance) * age``, age in steps.
        balance: weight of use against age, 0 to 1.
        reach: metres within which entries answer.
        sure: likeness from which on short memory answers alone, -1 to 1.
        lifetimes: seconds that entries of a name last, such as ``{person: 5}``.
    """

    capacity: int = 128
    policy: str = "own"
    balance: float = 0.5
    reach: float = 3.0
    sure: float = 0.7
    lifetimes: dict[str, float] = field(default_factory=lambda: {"person": 5.0, "car": 60.0})

    def __post_init__(self) -> None:
        if (
            not 1 <= self.capacity <= 1_000_000
            or self.policy not in POLICIES
            or not 0 <= self.balance <= 1
        ):
            raise InputError(
                f"short memory: capacity {self.capacity}, policy {self.policy!r}, balance "
                f"{self.balance}; expected 1 to 1,000,000, one of {', '.join(POLICIES)}, 0 to 1"
            )
        if not (self.reach > 0 and all(value > 0 for value in self.lifetimes.values())):
            raise InputError("short memory: reach and lifetimes must be above 0")


@dataclass
class RecentEntry:
    """One thing in short memory.

    Attributes:
        node: id of a landmark or place.
        position: ``(3,)`` metres in the map's frame.
        anchor: the place it was seen from; it moves with corrections of that place.
        embedding: float32 ``(d,)`` of length 1, or None.
        label: a name, or "".
        step: of the latest insertion or, with policy ``own``, use.
        uses: insertions and, with policy ``own``, retrievals.
        time_s: seconds of the latest insertion.
    """

    node: int
    position: NDArray[np.float64]
    anchor: int
    embedding: NDArray[np.float32] | None
    label: str
    step: int
    uses: int
    time_s: float


class WorkingMemory:
    """A fixed number of entries.

    Attributes:
        entries: by slot; None where a slot is free.
        step: steps so far.
        changed: slots to be stored.
    """

    def __init__(self, config: ShortConfig | None = None) -> None:
        self.config = config or ShortConfig()
        self.entries: list[RecentEntry | None] = [None] * self.config.capacity
        self.step = 0
        self.changed: set[int] = set()
        self._slots: dict[int, int] = {}
        self._nodes, self._steps, self._uses = np.zeros((3, self.config.capacity), np.int64)
        self._free = list(range(self.config.capacity))[::-1]

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        """Bytes held, about: 120 an entry, and its embedding."""
        vectors = [each.embedding for each in self.entries if each and each.embedding is not None]
        return 120 * len(self._slots) + sum(vector.nbytes for vector in vectors)

    def advance(self, time_s: float) -> list[int]:
        """Begin a step: what has outlived its name's lifetime goes; returns its nodes."""
        self.step += 1
        lifetimes = self.config.lifetimes
        old = [
            each.node
            for each in self.entries
            if each and time_s - each.time_s > lifetimes.get(each.label, math.inf)
        ]
        for node in old:
            self.drop(node)
        return old

    def insert(
        self,
        node: int,
        position: NDArray[np.float64],
        anchor: int,
        embedding: NDArray[np.float32] | None,
        label: str,
        time_s: float,
    ) -> int | None:
        """Put a node in, or renew it; returns the node that had to make room, if any."""
        gone = None
        slot = self._slots.get(node)
        if slot is None:
            if not self._free:
                gone = self.entries[self._weakest()]
                assert gone is not None
                self.drop(gone.node)
            slot = self._free.pop()
        old = self.entries[slot]
        uses = 1 if old is None else old.uses + 1
        if embedding is None and old is not None:
            embedding = old.embedding
        entry = RecentEntry(
            node, position.copy(), anchor, embedding, label, self.step, uses, time_s
        )
        self._slots[node] = slot
        self._note(slot, entry)
        return None if gone is None else gone.node

    def _weakest(self) -> int:
        """The slot that goes first; all are taken. Equals: the oldest, then the smallest node."""
        age = self.step - self._steps
        score = keep_score(self.config, self._uses, age, int(self._uses.max()))
        return int(np.lexsort((self._nodes, self._steps, score))[0])

    def _note(self, slot: int, entry: RecentEntry) -> None:
        """Keep what eviction looks at in arrays: it is asked at each insertion."""
        self.entries[slot] = entry
        self._nodes[slot], self._steps[slot], self._uses[slot] = entry.node, entry.step, entry.uses
        self.changed.add(slot)

    def drop(self, node: int) -> None:
        """Take a node out, if it is there."""
        slot = self._slots.pop(node, None)
        if slot is not None:
            self.entries[slot] = None
            self._free.append(slot)
            self.changed.add(slot)

    def search(
        self,
        embedding: NDArray[np.float32] | None,
        position: NDArray[np.float64],
        k: int,
        *,
        write: bool = True,
    ) -> list[tuple[int, float, float]]:
        """What is within reach of a position ``(3,)``, by likeness to an embedding, or nearness.

        ``write`` counts being found as a use (policy ``own`` only).

        Returns:
            ``(node, likeness, metres)``, ``k`` at most; without embeddings the likeness is 0.
        """
        near = []
        for each in self.entries:
            if each is None:
                continue
            metres = float(np.linalg.norm(each.position - position))
            if metres > self.config.reach:
                continue
            likeness = 0.0
            if embedding is not None:
                if each.embedding is None or each.embedding.shape != embedding.shape:
                    continue
                likeness = float(each.embedding @ embedding)
            near.append((each.node, likeness, metres))
        near.sort(key=lambda row: (-row[1], row[2], row[0]))
        found = near[:k]
        if write and self.config.policy == "own":
            for node, _, _ in found:
                slot = self._slots[node]
                entry = self.entries[slot]
                assert entry is not None
                entry.uses += 1
                entry.step = self.step
                self._note(slot, entry)
        return found

    def relative(self, node: int, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where an entry is seen from a pose ``(4, 4)``: ``(3,)`` metres right, down, ahead."""
        entry = self.entries[self._slots[node]]
        assert entry is not None
        return np.asarray(pose[:3, :3].T @ (entry.position - pose[:3, 3]))

    def move(self, motions: Mapping[int, NDArray[np.float64]]) -> None:
        """Follow corrections: rigid motions ``(4, 4)`` by the place entries are anchored to."""
        for slot, each in enumerate(self.entries):
            if each and each.anchor in motions:
                motion = motions[each.anchor]
                each.position = motion[:3, :3] @ each.position + motion[:3, 3]
                self.changed.add(slot)

    # -- storing -------------------------------------------------------------------------------

    def pack(self, slot: int) -> tuple[str, bytes] | None:
        """One slot for storage; None where it is free."""
        each = self.entries[slot]
        if each is None:
            return None
        fields = [each.node, each.anchor, each.label, each.step, each.uses, each.time_s]
        vector = b"" if each.embedding is None else each.embedding.astype("<f4").tobytes()
        return json.dumps(fields), each.position.astype("<f8").tobytes() + vector

    def unpack(self, slot: int, fields: str, numbers: bytes) -> None:
        """Put a stored slot back.

        Raises:
            ModelError: when it is damaged.
        """
        try:
            node, anchor, label, step, uses, time_s = parse_json(fields, "its text")
            position = np.frombuffer(numbers[:24], "<f8").astype(np.float64)
            vector = np.frombuffer(numbers[24:], "<f4").astype(np.float32)
            entry = RecentEntry(
                int(node), position, int(anchor), vector if len(vector) else None,
                str(label), int(step), int(uses), float(time_s),
            )  # fmt: skip
            counts = (slot, entry.node, entry.step, entry.uses)
            if position.shape != (3,) or not np.isfinite(position).all() or min(counts) < 0:
                raise ValueError
            np.array(counts, np.int64)
        except BROKEN as error:
            raise DamagedFileError(f"entry {slot} of short memory is damaged") from error
        if slot >= len(self.entries):
            return  # the capacity was made smaller since; the journal has it
        self._note(slot, entry)
        self.changed.discard(slot)
        self._slots[entry.node] = slot
        self._free.remove(slot)


def keep_score(config: ShortConfig, uses: ArrayLike, age: ArrayLike, most_uses: int) -> Any:
    """How much entries deserve to stay, by uses and age in steps; the lowest goes."""
    uses, age = np.asarray(uses), np.asarray(age)
    if config.policy == "paper":
        return config.balance * uses - (1 - config.balance) * age
    use = np.log1p(uses) / math.log1p(most_uses)
    return config.balance * use - (1 - config.balance) * age / config.capacity
