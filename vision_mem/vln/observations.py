"""Sights, the landmarks they pool into, and what an agent asks of a memory of streets.

Source: mem4nav specification, section 1.2.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError


@dataclass(frozen=True)
class Sight:
    """One thing seen.

    Attributes:
        vector: ``(D,)`` float, unit length: what it looks like.
        position: ``(2,)`` metres east and north, where it seems to be.
        word: a name, where the source gave one.
    """

    vector: NDArray[np.floating]
    position: NDArray[np.float64]
    word: str = ""


@dataclass(frozen=True)
class Visit:
    """What an agent writes when it reaches a place.

    Attributes:
        position: ``(2,)`` metres.
        exits: headings of the ways that leave, degrees.
        sights: things seen there.
        came_by: heading of the way walked from the place visited before; None after a jump.
        source: where what was seen is to be found, such as a panorama's id; or "".
    """

    position: NDArray[np.float64]
    exits: tuple[float, ...]
    sights: tuple[Sight, ...]
    came_by: float | None = None
    source: str = ""


@dataclass(frozen=True)
class LandmarkHit:
    """A remembered landmark that answers a query.

    Attributes:
        score: cosine between query and what is remembered, in [-1, 1].
        position: ``(2,)`` metres.
        looks: how many sights it pools.
    """

    score: float
    position: NDArray[np.float64]
    looks: int


class StreetMemory(Protocol):
    """What the agents need of a memory; any store with these three can be plugged in."""

    def write(self, visit: Visit) -> object:
        """Remember a visit; what it returns is nobody's business here."""

    def find(
        self,
        vector: NDArray[np.floating],
        near: NDArray[np.float64] | None = None,
        radius: float = np.inf,
        k: int = 3,
    ) -> list[LandmarkHit]:
        """Landmarks most like a vector, best first, within ``radius`` metres of ``near``."""


class WayMemory(StreetMemory, Protocol):
    """A memory that also knows places and the ways that were walked between them."""

    def place_at(self, position: NDArray[np.float64], radius: float = 4.0) -> int | None:
        """The remembered place nearest to a position, None when there is none within metres."""

    def place_position(self, place: int) -> NDArray[np.float64]:
        """``(2,)`` metres."""

    def exits_of(self, place: int) -> tuple[float, ...]:
        """Headings of the ways seen to leave a place, walked or not."""

    def ways_from(self, place: int) -> list[tuple[float, int]]:
        """``(heading, place)`` of each way that was walked from here."""

    def places_near(self, position: NDArray[np.float64], radius: float) -> list[int]:
        """Places within ``radius`` metres, nearest first."""

    def ahead(self, place: int, heading: float, limit: int = 60) -> list[int]:
        """Places met by walking straight on over remembered ways, the start left out."""

    def path(self, start: int, goals: Sequence[int]) -> list[int]:
        """Shortest remembered way to the nearest of some places; empty when there is none."""


class StreetLandmarks:
    """Sights pooled into landmarks.

    A sight joins the landmark most like it within ``radius``; without one it founds another.

    Args:
        radius: metres between a sight and its landmark (spec 1.2: 8 on streets).
        likeness: least cosine between a sight and its landmark (spec 1.2: 0.35).
    """

    def __init__(self, radius: float = 8.0, likeness: float = 0.35) -> None:
        self.radius, self.likeness = radius, likeness
        self.total = np.zeros((0, 0))
        self.mean = np.zeros((0, 0))
        self.position = np.zeros((0, 2))
        self.looks = np.zeros(0, np.int64)
        self.count = 0

    def add(self, sight: Sight) -> None:
        """Pool one sight.

        Raises:
            InputError: for a vector of another width than before, or one that is not finite.
        """
        vector, at = np.asarray(sight.vector, np.float64), np.asarray(sight.position, np.float64)
        size = float(np.linalg.norm(vector))
        if not (np.isfinite(at).all() and np.isfinite(size) and size > 0):
            raise InputError("a sight without finite position and vector; leave it out")
        vector = vector / size
        self._make_room(len(vector))
        n = self.count
        apart = self.position[:n] - at
        near = np.flatnonzero(apart[:, 0] ** 2 + apart[:, 1] ** 2 <= self.radius**2)
        if len(near):
            alike = self.mean[near] @ vector
            best = int(np.argmax(alike))
            if alike[best] >= self.likeness:
                self._join(int(near[best]), vector, at)
                return
        self.total[n], self.mean[n], self.position[n], self.looks[n] = vector, vector, at, 1
        self.count += 1

    def _join(self, row: int, vector: NDArray[np.float64], at: NDArray[np.float64]) -> None:
        self.looks[row] += 1
        self.total[row] += vector
        self.mean[row] = self.total[row] / max(float(np.linalg.norm(self.total[row])), 1e-12)
        self.position[row] += (at - self.position[row]) / self.looks[row]

    def _make_room(self, width: int) -> None:
        if self.count and self.total.shape[1] != width:
            raise InputError(
                f"a sight of {width} numbers; this memory holds vectors of {self.total.shape[1]}: "
                "one map, one encoder"
            )
        if self.count == 0 and self.total.shape[1] != width:
            self.total, self.mean = np.zeros((0, width)), np.zeros((0, width))
            self.position, self.looks = np.zeros((0, 2)), np.zeros(0, np.int64)
        if self.count == len(self.looks):
            more = max(32, self.count)
            self.total = np.concatenate([self.total, np.zeros((more, width))])
            self.mean = np.concatenate([self.mean, np.zeros((more, width))])
            self.position = np.concatenate([self.position, np.zeros((more, 2))])
            self.looks = np.concatenate([self.looks, np.zeros(more, np.int64)])

    def find(
        self,
        vector: NDArray[np.floating],
        near: NDArray[np.float64] | None = None,
        radius: float = np.inf,
        k: int = 3,
    ) -> list[LandmarkHit]:
        """Best matches, best first; an empty list when nothing is there."""
        n = self.count
        if n == 0 or k <= 0:
            return []
        rows = np.arange(n)
        if near is not None and np.isfinite(radius):
            apart = self.position[:n] - near
            rows = np.flatnonzero(apart[:, 0] ** 2 + apart[:, 1] ** 2 <= radius**2)
            if not len(rows):
                return []
        if len(vector) != self.total.shape[1]:
            raise InputError(
                f"a query of {len(vector)} numbers; this memory holds vectors of "
                f"{self.total.shape[1]}: one map, one encoder"
            )
        scores = self.mean[rows] @ np.asarray(vector, np.float64)
        order = np.argsort(-scores, kind="stable")[:k]
        return [
            LandmarkHit(float(scores[i]), self.position[rows[i]].copy(), int(self.looks[rows[i]]))
            for i in order
        ]


WIDTH = 64
ENCODER = f"names#{WIDTH}"
"""Names the space of ``word_vector``, for maps."""
_SILENT = frozenset({"the", "a", "an", "of", "on", "in", "at", "with", "your", "and"})


def word_vector(text: str, width: int = WIDTH) -> NDArray[np.float32]:
    """Unit vector of a name, float32 ``(width,)``; zeros for text without words.

    The order of words, capitals, and words such as "the" do not count.
    """
    return _vector(" ".join(sorted(words_of(text))), width).copy()


def words_of(text: str) -> set[str]:
    """The words that count, in small letters, plurals without their s."""
    found = re.findall(r"[a-z0-9']+", text.lower())
    kept = [word for word in found if word not in _SILENT]
    return {w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w for w in kept}


@lru_cache(maxsize=4096)
def _vector(words: str, width: int) -> NDArray[np.float32]:
    total = np.zeros(width)
    for word in words.split():
        # Seeded by the word itself, so that every process agrees.
        one = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(width)
        total += one / np.linalg.norm(one)
    size = np.linalg.norm(total)
    return np.asarray(total / size if size else total, np.float32)
