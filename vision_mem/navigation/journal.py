"""Long memory: a journal of everything observed, only ever added to.

What was written comes back byte for byte, with a checksum to prove it. All that ranking uses is
summed up from the journal and can be rebuilt from it (specification 1.3). Only ``forget`` takes
rows out, on purpose.
"""

from __future__ import annotations

import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import DamagedFileError, InputError
from vision_mem.navigation.storage import BROKEN, get_meta, whole
from vision_mem.text import short

KINDS = ("leaf", "place", "landmark")
DTYPES = ("float32", "float16")
_COLUMNS = (
    "seq, t, frame, place, landmark, leaf, position, embedding, label, score, track, note, crc"
)
_SELECT = (
    f"SELECT memory.{_COLUMNS.replace(', ', ', memory.')}, frame.pose, frame.relative, "
    "frame.source FROM memory JOIN frame ON frame.frame = memory.frame"
)


@dataclass(frozen=True)
class Key:
    """What a memory is filed under: ``leaf:CODE``, ``place:ID`` or ``landmark:ID``.

    Attributes:
        kind: one of the three; a code and an id of the same number are different keys.
        number: the Morton code, or the id.
    """

    kind: str
    number: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not 0 <= self.number < 1 << 63:
            raise InputError(
                f"key {self.kind}:{self.number} is not possible; expected one of "
                f"{', '.join(KINDS)} and a number from 0"
            )

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read ``kind:number``.

        Raises:
            InputError: for anything else.
        """
        found = re.fullmatch(r"\s*([a-z]+):(\d{1,19})\s*", text)
        if not found:
            raise InputError(f"key {short(text)!r}: expected leaf:CODE, place:ID or landmark:ID")
        return cls(found[1], int(found[2]))

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"


@dataclass(frozen=True, eq=False)
class Memory:
    """One observation as it was written.

    Attributes:
        seq: journal id, from 1; 0 before it is written.
        time_s: seconds.
        frame: number of the observation it came with.
        place: where the observer was.
        landmark: what it is of; None for a look at the place itself.
        leaf: Morton code of the position, or of the observer; None beyond the range.
        pose: float64 ``(4, 4)`` camera-to-world as given then, before later corrections.
        relative: float64 ``(4, 4)`` camera-to-place then; with the place's pose of today it tells
            where the camera was in the map of today.
        position: float64 ``(3,)`` metres and ``(3, 3)`` covariance row by row, in the camera's
            frame: 12 numbers; None for a look at the place itself.
        embedding: bytes of the vector in the map's number format, or None.
        label: a name, or "".
        score: in [0, 1].
        track: an outer identity, or "".
        source: where the frame is to be found, or "".
        note: anything more, as JSON, or "".
    """

    time_s: float
    frame: int
    place: int
    landmark: int | None
    leaf: int | None
    pose: NDArray[np.float64]
    relative: NDArray[np.float64]
    position: NDArray[np.float64] | None = None
    embedding: bytes | None = None
    label: str = ""
    score: float = 1.0
    track: str = ""
    source: str = ""
    note: str = ""
    seq: int = 0

    def crc(self) -> int:
        """CRC-32 of everything that was observed."""
        pose = _raw(self.pose) + _raw(self.relative)
        position = b"" if self.position is None else _raw(self.position)
        texts = "\0".join([self.label, self.track, self.source, self.note]).encode()
        numbers = np.array([self.time_s, self.score], "<f8").tobytes()
        return zlib.crc32(b"\1".join([pose, position, self.embedding or b"", texts, numbers]))

    def vector(self, dtype: str) -> NDArray[np.float32] | None:
        """The embedding as float32 ``(d,)``, written in the map's number format; None for none."""
        if self.embedding is None:
            return None
        kind = np.dtype(dtype).newbyteorder("<")
        if len(self.embedding) % kind.itemsize:
            raise DamagedFileError(f"memory {self.seq} of the map is damaged: half a number")
        return np.frombuffer(self.embedding, kind).astype(np.float32)


class Journal:
    """The table of memories of one map; ``dtype`` is how embeddings are written."""

    def __init__(self, dtype: str = "float32") -> None:
        if dtype not in DTYPES:
            raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
        self.dtype = dtype
        self._next = 1

    def open(self, sql: sqlite3.Connection) -> None:
        """Go on after the last row ever written."""
        stored = sql.execute("SELECT max(seq) FROM memory").fetchone()[0] or 0
        self._next = max(int(stored) + 1, whole(get_meta(sql), "next_seq", 1))

    @property
    def next_seq(self) -> int:
        """The id of the next memory; ids are not given twice, even after forgetting."""
        return self._next

    def give(self, count: int = 1) -> int:
        """Set ids aside; returns the first."""
        first = self._next
        self._next += count
        return first

    def pack(self, vector: NDArray[np.float32] | None) -> bytes | None:
        """An embedding in the map's number format."""
        if vector is None:
            return None
        with np.errstate(over="raise"):
            try:
                return vector.astype(np.dtype(self.dtype).newbyteorder("<")).tobytes()
            except FloatingPointError as error:
                raise InputError(
                    "an embedding has values too large for float16; make the map with float32"
                ) from error

    def write(self, sql: sqlite3.Connection, memories: Iterable[Memory]) -> None:
        """Add rows, within a transaction."""
        memories = list(memories)
        frames = {m.frame: (m.frame, _raw(m.pose), _raw(m.relative), m.source) for m in memories}
        sql.executemany("INSERT OR IGNORE INTO frame VALUES(?,?,?,?)", frames.values())
        rows = [
            (m.seq, m.time_s, m.frame, m.place, m.landmark, m.leaf,
             None if m.position is None else _raw(m.position),
             m.embedding, m.label, m.score, m.track, m.note, m.crc())
            for m in memories
        ]  # fmt: skip
        sql.executemany(f"INSERT INTO memory({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)

    def recall(
        self, sql: sqlite3.Connection, key: Key, at: float | None = None, limit: int | None = None
    ) -> list[Memory]:
        """The history of a key until ``at`` seconds, oldest first; or the latest of it."""
        latest = "" if limit is None else f"LIMIT {max(int(limit), 0)}"
        rows = sql.execute(
            f"{_SELECT} WHERE {key.kind}=? AND t<=? ORDER BY seq DESC {latest}",
            (key.number, np.inf if at is None else at),
        )
        return [_memory(row) for row in rows][::-1]

    def get(self, sql: sqlite3.Connection, seqs: Sequence[int]) -> list[Memory]:
        """Memories by journal id, in the order asked for; ids that are gone are left out."""
        found = {}
        for seq in seqs:
            row = sql.execute(f"{_SELECT} WHERE seq=?", (seq,)).fetchone()
            if row is not None:
                found[seq] = _memory(row)
        return [found[seq] for seq in seqs if seq in found]

    def all(self, sql: sqlite3.Connection, after: int = 0) -> Iterator[Memory]:
        """Every memory after a journal id, oldest first; each is checked."""
        rows = sql.execute(f"{_SELECT} WHERE seq>? ORDER BY seq", (after,))
        return (_memory(row) for row in rows)

    def count(self, sql: sqlite3.Connection) -> int:
        """How many memories there are."""
        return int(sql.execute("SELECT count(*) FROM memory").fetchone()[0])


def _raw(numbers: NDArray[np.float64]) -> bytes:
    return numbers.astype("<f8").tobytes()


def _memory(row: Sequence[Any]) -> Memory:
    seq, time_s, frame, place, landmark, leaf, position, embedding, *rest = row
    label, score, track, note, crc, pose, relative, source = rest
    try:
        memory = Memory(
            float(time_s), int(frame), int(place), landmark, leaf,
            np.frombuffer(pose, "<f8").reshape(4, 4), np.frombuffer(relative, "<f8").reshape(4, 4),
            None if position is None else np.frombuffer(position, "<f8"), embedding, str(label),
            float(score), str(track), str(source), str(note), int(seq),
        )  # fmt: skip
        finite = bool(np.isfinite(memory.pose + memory.relative).all())
        fits = memory.position is None or memory.position.shape == (12,)
        good = finite and fits and memory.crc() == crc
    except BROKEN:
        good = False
    if not good:
        raise DamagedFileError(f"memory {seq} of the map is damaged: its checksum does not agree")
    return memory
