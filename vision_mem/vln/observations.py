"""Sights, the landmarks they pool into, and what an agent asks of a memory of streets.

Source: mem4nav specification, section 1.2.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError

Vector = NDArray[np.floating]


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
        self, vector: Vector, near: Vector | None = None, radius: float = np.inf, k: int = 3
    ) -> list[LandmarkHit]:
        """Landmarks most like a vector, best first, within ``radius`` metres of ``near``."""


class StreetLandmarks:
    """Sights pooled into landmarks.

    A sight joins the landmark most like it within ``radius``; without one it founds another.

    Args:
        radius: metres between a sight and its landmark (spec 1.2: 8 on streets).
        likeness: least cosine between a sight and its landmark (spec 1.2: 0.35).
    """

    def __init__(self, radius: float = 8.0, likeness: float = 0.35) -> None:
        self.radius, self.likeness = radius, likeness
        self._total: list[NDArray[np.float64]] = []
        self._mean: list[NDArray[np.float64]] = []
        self._position: list[NDArray[np.float64]] = []
        self._looks: list[int] = []

    @property
    def count(self) -> int:
        """How many landmarks there are."""
        return len(self._looks)

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
        self._same_width(vector, "sight")
        near = self._near(at, self.radius)
        alike = np.array(self._mean)[near] @ vector if len(near) else np.array([-np.inf])
        best = int(np.argmax(alike))
        if alike[best] < self.likeness:
            self._total.append(vector)
            self._mean.append(vector)
            self._position.append(at)
            self._looks.append(1)
            return
        row = int(near[best])
        self._looks[row] += 1
        self._total[row] = self._total[row] + vector
        self._mean[row] = self._total[row] / max(float(np.linalg.norm(self._total[row])), 1e-12)
        self._position[row] = self._position[row] + (at - self._position[row]) / self._looks[row]

    def _near(self, at: Vector, radius: float) -> NDArray[np.intp]:
        apart = np.reshape(self._position, (-1, 2)) - at
        return np.flatnonzero(apart[:, 0] ** 2 + apart[:, 1] ** 2 <= radius**2)

    def _same_width(self, vector: Vector, what: str) -> None:
        if self._mean and len(vector) != len(self._mean[0]):
            raise InputError(
                f"a {what} of {len(vector)} numbers; this memory holds vectors of "
                f"{len(self._mean[0])}: one map, one encoder"
            )

    def find(
        self, vector: Vector, near: Vector | None = None, radius: float = np.inf, k: int = 3
    ) -> list[LandmarkHit]:
        """Best matches, best first; an empty list when nothing is there."""
        if not self._mean or k <= 0:
            return []
        rows = np.arange(self.count)
        if near is not None and np.isfinite(radius):
            rows = self._near(near, radius)
            if not len(rows):
                return []
        self._same_width(vector, "query")
        scores = np.array(self._mean)[rows] @ np.asarray(vector, np.float64)
        return [
            LandmarkHit(float(scores[i]), self._position[rows[i]].copy(), self._looks[rows[i]])
            for i in np.argsort(-scores, kind="stable")[:k].tolist()
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
