"""Means of directions: sums of unit vectors with their counts, so that merging is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError

PAGE = 256
"""Rows stored together."""


def unit(vector: ArrayLike) -> NDArray[np.float32]:
    """A vector ``(d,)`` made 1 long.

    Raises:
        InputError: for one that is not finite or has no direction.
    """
    array = np.asarray(vector, np.float32)
    length = float(np.linalg.norm(array.astype(np.float64))) if array.ndim == 1 else 0.0
    if not (0 < length < np.inf):
        raise InputError(
            f"an embedding of shape {array.shape} is not finite or has no direction; expected (d,) "
            "finite numbers, not all 0"
        )
    return np.asarray(array / length, np.float32)


def row_dots(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """``(n,)`` dot products of rows ``(n, d)`` with rows, or with one ``(d,)``.

    Each is summed as that of two vectors alone would be: equal to the bit, however many there are.
    """
    return np.asarray(np.matmul(one[:, None, :], other[..., None])[:, 0, 0])


class UnitSums:
    """A store of sums of unit vectors, all of one width. Row 0 is never given.

    Attributes:
        sums: float32 ``(room, d)``.
        count: uint32 ``(room,)``.
        used: rows given so far, row 0 included.
    """

    def __init__(self) -> None:
        self.sums = np.zeros((1, 0), np.float32)
        self.count = np.zeros(1, np.uint32)
        self.used = 1
        self._dirty: set[int] = set()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.sums.nbytes + self.count.nbytes

    def new(self, count: int, width: int) -> NDArray[np.int64]:
        """Give rows of zeros for vectors of a width, which the first call decides.

        Raises:
            InputError: for another width than before.
        """
        if self.used == 1 and self.sums.shape[1] != width:
            self.sums = np.zeros((1, width), np.float32)
        if self.sums.shape[1] != width:
            raise InputError(
                f"embeddings have {width} numbers; this map's have {self.sums.shape[1]}: use the "
                "same encoder, or a new map"
            )
        rows = np.arange(self.used, self.used + count)
        self.used += count
        if self.used > len(self.sums):
            room = max(self.used, 2 * len(self.sums))
            sums, counts = np.zeros((room, width), np.float32), np.zeros(room, np.uint32)
            sums[: len(self.sums)], counts[: len(self.count)] = self.sums, self.count
            self.sums, self.count = sums, counts
        return rows

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add unit vectors ``(n, d)`` to rows without repeats."""
        self.sums[rows] += vectors
        self.count[rows] += 1
        self.touch(rows)

    def clear(self, rows: NDArray[np.int64]) -> None:
        """Make rows zero."""
        self.sums[rows] = 0
        self.count[rows] = 0
        self.touch(rows)

    def touch(self, rows: NDArray[np.int64]) -> None:
        """Rows were changed from outside and have to be stored."""
        self._dirty.update(np.unique(rows // PAGE).tolist())

    def mean(self, row: int) -> NDArray[np.float32]:
        """Mean direction, float32 ``(d,)`` of length 1; zeros where nothing was added."""
        return np.asarray(self.means(np.array([row]))[0])

    def means(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The same of several rows, ``(n, d)``."""
        sums = self.sums[rows]
        lengths = np.sqrt(row_dots(sums, sums))
        return np.asarray(sums / np.where(lengths, lengths, 1)[:, None], np.float32)

    # -- storing -------------------------------------------------------------------------------

    def pages(self) -> list[tuple[int, bytes]]:
        """Numbers and bytes of the pages that changed since ``clean`` was last called."""
        out = []
        for page in sorted(self._dirty):
            rows = slice(page * PAGE, min((page + 1) * PAGE, self.used))
            count = self.count[rows].astype("<u4").tobytes()
            out.append((page, count + self.sums[rows].astype("<f4").tobytes()))
        return out

    def clean(self) -> None:
        """All pages are stored."""
        self._dirty.clear()

    def load(self, page: int, raw: bytes, width: int, used: int) -> None:
        """Put a page back that ``pages`` gave, of a store that has so many rows in all.

        Raises:
            ValueError: when the lengths do not fit.
        """
        if self.used < used:
            self.new(used - self.used, width)
        n = len(raw) // (4 + 4 * width)
        place = page * PAGE
        if page < 0 or n * (4 + 4 * width) != len(raw) or place + n > self.used:
            raise ValueError
        self.count[place : place + n] = np.frombuffer(raw[: 4 * n], "<u4")
        self.sums[place : place + n] = np.frombuffer(raw[4 * n :], "<f4").reshape(n, width)
