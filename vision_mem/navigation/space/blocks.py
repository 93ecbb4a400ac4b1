"""Where leaves are kept: bricks of 8x8x8, one row a brick in a few large arrays.

A leaf that was never looked at has tick 0. Log-odds are whole thousandths, so that they add up
alike on every machine and in every kernel. Colour, label and embedding take room only once they
are first given.

Of a map in a file some bricks may be away: those used least lately, when there is a limit to what
is held in memory. They are read again when somebody asks for them.

Source: specification 1.1, table of the leaf record; section 6, the cap on memory.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import DamagedFileError, ModelError
from vision_mem.navigation.space.morton import BRICK, Codes
from vision_mem.navigation.storage import BROKEN, inflate

LEAVES = BRICK**3
UNIT = 1000
"""Steps of log-odds in 1."""
SHADES = 256
"""Steps of a stored colour in one level of a uint8: a running mean of small changes moves too."""

_KINDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "log_odds": ("<i2", ()),
    "hits": ("<u2", ()),
    "tick": ("<u4", ()),
    "colour": ("<u2", (3,)),
    "label": ("<u2", ()),
    "label_weight": ("u1", ()),
    "embedding": ("<u4", ()),
}
_LARGEST = 73 + LEAVES * sum(
    np.dtype(kind).itemsize * math.prod(more) for kind, more in _KINDS.values()
)
"""Bytes of a brick, unpacked."""
ALWAYS = ("log_odds", "hits", "tick")
Fetch = Callable[[list[int]], list[bytes]]
"""Stored bricks by code."""
NO_CODES: Codes = np.zeros(0, np.uint64)
_KEPT = 0.6
"""Share of the limit that is kept when it is reached, so that it is not reached again at once."""


class Bricks:
    """All bricks of a map.

    Attributes:
        codes: uint64 ``(n,)`` in the order of their making: leaf codes cut by 9 bits.
        log_odds: int16 ``(n, 512)`` thousandths.
        hits: uint16 ``(n, 512)``, stops at 65535.
        tick: uint32 ``(n, 512)`` of the last update; 0 where nothing is known.
        colour: uint16 ``(n, 512, 3)`` in 1/256 levels, or None before any was given.
        label, label_weight: uint16 and uint8 ``(n, 512)``, or None.
        embedding: uint32 ``(n, 512)`` row in the store of embeddings, 0 for none, or None.
        anchor: uint64 ``(n,)`` the place from which the brick was last looked at; 0 for none.
        dirty: bool ``(n,)`` changed since ``dirty`` was last cleared.
        used: int64 ``(n,)`` when last asked for, counted in questions.
        away: uint64 codes, ascending, of bricks that are in the file only.
        limit: bytes of all this in memory; 0 for no limit.
    """

    def __init__(self) -> None:
        # Codes ascending, and the row of each.
        self._sorted, self._row = NO_CODES, np.zeros(0, np.int64)
        self._fetch: Fetch | None = None
        self._damage: ModelError | None = None
        self._clock = 0
        self.away = NO_CODES
        self.limit = 0
        self._count = 0
        self._room = 0
        self._arrays: dict[str, NDArray[np.generic]] = {
            "codes": np.zeros(0, np.uint64),
            "anchor": np.zeros(0, np.uint64),
            "dirty": np.zeros(0, bool),
            "used": np.zeros(0, np.int64),
        }
        for name in ALWAYS:
            self.want(name)

    def __len__(self) -> int:
        return self._count

    def __getattr__(self, name: str) -> NDArray[np.generic] | None:
        if name in _KINDS or name in ("codes", "anchor", "dirty", "used"):
            array = self._arrays.get(name)
            return None if array is None else array[: self._count]
        raise AttributeError(name)

    # For type checkers: given by __getattr__.
    codes: Codes
    anchor: NDArray[np.uint64]
    dirty: NDArray[np.bool_]
    used: NDArray[np.int64]
    log_odds: NDArray[np.int16]
    hits: NDArray[np.uint16]
    tick: NDArray[np.uint32]
    colour: NDArray[np.uint16] | None
    label: NDArray[np.uint16] | None
    label_weight: NDArray[np.uint8] | None
    embedding: NDArray[np.uint32] | None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, their spare room included."""
        arrays = sum(array.nbytes for array in self._arrays.values())
        return self._sorted.nbytes + self._row.nbytes + arrays + self.away.nbytes

    def want(self, name: str) -> None:
        """Make room for a field from now on."""
        if name not in self._arrays:
            kind, more = _KINDS[name]
            self._arrays[name] = np.zeros((self._room, LEAVES, *more), kind)

    def find(self, codes: Codes) -> NDArray[np.int64]:
        """Rows of bricks, -1 where there is none; those that are away are read first.

        Rows hold until the next ``trim``.

        Raises:
            ModelError: when one that was away is damaged, then and from then on: what is left of
                it is not to be written over.
        """
        if self._damage is not None:
            raise self._damage
        found = self._find(codes)
        if len(self.away):
            lacking = np.unique(codes[found < 0])
            self._bring(lacking[np.isin(lacking, self.away)])
            found = self._find(codes)
        if self.limit:
            self._clock += 1
            self.used[found[found >= 0]] = self._clock
        return found

    def _find(self, codes: Codes) -> NDArray[np.int64]:
        place = np.searchsorted(self._sorted, codes)
        there = place < len(self._sorted)
        there[there] = self._sorted[place[there]] == codes[there]
        return np.where(there, np.append(self._row, -1)[place], -1)

    def every(self) -> Codes:
        """Codes of all bricks, ascending, those that are away too."""
        return np.union1d(self.codes, self.away)

    def page(self, fetch: Fetch, limit: int, away: Codes) -> None:
        """From now on keep so many bytes in memory at most; ``fetch`` reads what is ``away``."""
        self._fetch, self.limit, self.away = fetch, limit, np.unique(away)

    @property
    def full(self) -> bool:
        """Whether there is more in memory than the limit allows."""
        return bool(self.limit) and self.nbytes > self.limit

    def trim(self) -> None:
        """Put bricks away, those asked for longest ago first, when the limit is passed.

        What was changed since it was stored stays.
        """
        if not self.full:
            return
        size = sum(array[:1].nbytes for array in self._arrays.values())
        wanted = int(_KEPT * self.limit / max(size, 1))
        order = np.lexsort((-self.used, ~self.dirty))  # changed ones first, then the latest
        kept = np.sort(order[: max(wanted, int(self.dirty.sum()))])
        gone = np.setdiff1d(np.arange(self._count), kept)
        known = self.tick[gone].any(axis=1)  # an empty brick is in no file
        self.away = np.union1d(self.away, self.codes[gone[known]])
        self._arrays = {name: array[kept] for name, array in self._arrays.items()}
        self._count = self._room = len(kept)
        self._row = np.argsort(self.codes)
        self._sorted = self.codes[self._row]

    def _bring(self, codes: Codes) -> None:
        if not len(codes) or self._fetch is None:
            return
        blobs = self._fetch(codes.tolist())
        self.away = np.setdiff1d(self.away, codes, assume_unique=True)
        try:
            self.unpack(codes, blobs)
        except ModelError as error:
            self._damage = error
            raise

    def rows(self, codes: Codes) -> NDArray[np.int64]:
        """Rows of bricks, codes without repeats; made where there was none."""
        found = self.find(codes)
        new = found < 0
        count = int(new.sum())
        if count:
            self._grow(self._count + count)
            rows = np.arange(self._count, self._count + count)
            self._arrays["codes"][rows] = codes[new]
            order = np.argsort(codes[new])
            place = np.searchsorted(self._sorted, codes[new][order])
            self._sorted = np.insert(self._sorted, place, codes[new][order])
            self._row = np.insert(self._row, place, rows[order])
            found[new] = rows
            self._count += count
        return found

    def pack(self, row: int) -> bytes:
        """One brick for storage: which leaves are known, then their fields.

        A field of which nothing but zeros is known takes no room.
        """
        known = self.tick[row] > 0
        names = [name for name in _KINDS if name in self._arrays]
        parts = {name: self._arrays[name][row][known] for name in names}
        kept = [name for name in names if name in ALWAYS or parts[name].any()]
        head = sum(1 << list(_KINDS).index(name) for name in kept)
        anchor = np.uint64(self.anchor[row])
        raw = [bytes([head]), anchor.astype("<u8").tobytes(), np.packbits(known).tobytes()]
        return zlib.compress(b"".join(raw + [parts[name].tobytes() for name in kept]), 1)

    def unpack(self, codes: Codes, blobs: list[bytes]) -> None:
        """Put stored bricks in, in place of those of the same codes.

        Raises:
            ModelError: for bytes that are damaged.
        """
        for code, row, blob in zip(codes.tolist(), self.rows(codes).tolist(), blobs, strict=True):
            try:
                self._unpack(row, inflate(blob, _LARGEST))
            except BROKEN as error:
                raise DamagedFileError(f"brick {code} of the map is damaged") from error

    def _unpack(self, row: int, raw: bytes) -> None:
        head, anchor = raw[0], int.from_bytes(raw[1:9], "little")
        known = np.unpackbits(np.frombuffer(raw[9:73], np.uint8)).astype(bool)
        count, place = int(known.sum()), 73
        self.anchor[row] = anchor
        for bit, (name, (kind, more)) in enumerate(_KINDS.items()):
            if name in self._arrays:
                self._arrays[name][row] = 0
            if not head >> bit & 1:
                continue
            self.want(name)
            size = count * np.dtype(kind).itemsize * int(np.prod(more, initial=1))
            field = np.frombuffer(raw[place : place + size], kind).reshape(count, *more)
            self._arrays[name][row, known] = field
            place += size
        if place != len(raw):
            raise ValueError("its length is wrong")

    def _grow(self, count: int) -> None:
        if count <= self._room:
            return
        self._room = max(64, count, self._room + self._room // 2)
        for name, array in self._arrays.items():
            grown = np.zeros((self._room, *array.shape[1:]), array.dtype)
            grown[: self._count] = array[: self._count]
            self._arrays[name] = grown
