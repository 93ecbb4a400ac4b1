"""What was found, object by object and frame by frame, on disk; a correction replaces its part."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import SinkError
from vision_mem.formats.rle import encode_mask, read_mask
from vision_mem.mots.truncation import at_edge
from vision_mem.sinks.masks import strict_json
from vision_mem.studio.commands import EditPlan
from vision_mem.types import LOST, STATES, UNSURE, Event, ObjectResult, TrackingResult, state_of

_SETTLED = 5
"""Frames in a row in a state after which leaving it for doubt is told: scores flicker."""

_TABLES = """
create table if not exists frames (frame integer primary key, time_s real);
create table if not exists results (
  object integer, frame integer, state integer, score real, logit real, box blob, counts text,
  events text, diary text, primary key (object, frame)) without rowid;
drop index if exists by_frame;
create index if not exists by_frame_and_state on results (frame, object, state);
create table if not exists fronts (object integer primary key, frame integer);
create table if not exists facts (name text primary key, value integer);
"""
_CHANGES = """
create table changes (object integer, frame integer, kinds text, primary key (object, frame))
  without rowid;
insert into changes select object, frame, events from results where events != '';
"""


@dataclass(frozen=True)
class Row:
    """One object on one frame; its name is in the plan.

    Attributes:
        present, score, object_logit, box, diary: as ``types.ObjectResult``.
        size: ``(height, width)`` of the frame.
        counts: the mask as COCO run lengths.
        events: kinds of what happened to it.
        mask: the same as pixels, where they are at hand.
        change: how its state changed, for the timeline: see ``ObjectStatus``.
    """

    present: bool
    score: float
    object_logit: float
    box: NDArray[np.float32]
    size: tuple[int, int]
    counts: str
    events: tuple[str, ...] = ()
    diary: Mapping[str, Any] = field(default_factory=dict)
    mask: NDArray[np.bool_] | None = None
    change: str = ""

    @classmethod
    def of(cls, result: TrackingResult) -> Row:
        """From the result of a session of one object."""
        (one,) = result.objects
        kinds = tuple(event.kind for event in result.events)
        return cls(
            one.present, float(one.score), float(one.object_logit), one.box, result.size,
            encode_mask(one.mask), kinds, one.diary, one.mask,
        )  # fmt: skip

    @property
    def state(self) -> str:
        """How sure it is."""
        return state_of(self.present, self.score)

    def pixels(self) -> NDArray[np.bool_]:
        """The mask, ``(H, W)``."""
        return read_mask(self.counts, self.size).mask(0) if self.mask is None else self.mask

    def result(self, object_id: int, name: str) -> ObjectResult:
        """As sinks and drawings take it."""
        return ObjectResult(
            object_id, name, self.present, self.pixels(), self.box, self.score, self.object_logit,
            self.diary,
        )  # fmt: skip


@dataclass(frozen=True)
class ObjectStatus:
    """How an object stood on its latest frame, to tell what changes on the next.

    Attributes:
        state: of ``STATES``.
        frames: in a row in that state.
        edge: whether it touched the picture's edge.
    """

    state: str
    frames: int
    edge: bool

    @classmethod
    def after(cls, before: ObjectStatus | None, row: Row) -> tuple[ObjectStatus, str]:
        """The status with one more frame, and what changed.

        Returns:
            As a word ``lost``, ``found``, ``unsure``, or, where it went or came over the picture's
            edge, ``left``, ``entered``; empty where nothing is to be told.
        """
        edge = row.present and bool(at_edge(row.box, row.size).any())
        if before is None:
            return cls(row.state, 1, edge), ""
        if row.state == before.state:
            return cls(row.state, before.frames + 1, edge), ""
        if row.state == LOST:
            change = "left" if before.edge else "lost"
        elif before.state == LOST:
            change = "entered" if edge else "found"
        else:
            change = "unsure" if row.state == UNSURE and before.frames >= _SETTLED else ""
        return cls(row.state, 1, edge), change


def assemble(
    frame: int,
    time_s: float,
    size: tuple[int, int],
    rows: Mapping[int, Row],
    plan: EditPlan,
    previous: int | None,
) -> TrackingResult:
    """What is said of one frame, from what was found of each object.

    Args:
        frame: its number.
        time_s: its time.
        size: ``(height, width)``.
        rows: by object; those that the plan does not know are left out.
        plan: has names, and ends.
        previous: number of the frame before; None on the first.
    """
    objects, events = [], []
    for object_id, one in plan.objects.items():
        if (row := rows.get(object_id)) is not None:
            objects.append(row.result(object_id, one.name))
            events += [Event(kind, object_id, frame, time_s, one.name) for kind in row.events]
        if one.end is not None and (-1 if previous is None else previous) < one.end <= frame:
            events.append(Event("removed", object_id, frame, time_s, one.name))
    return TrackingResult(frame, time_s, size, tuple(objects), tuple(events))


class ResultsStore:
    """A file of results. One thread writes; any thread reads what was committed.

    Args:
        path: the file; made when it is not there.

    Raises:
        SinkError: when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._file.execute("pragma journal_mode = wal")
            self._file.execute("pragma synchronous = normal")
            self._file.executescript(_TABLES)
            words = "select count(*) from sqlite_master where name = 'changes'"
            if not self._file.execute(words).fetchone()[0]:
                self._file.executescript(_CHANGES)
            self._file.execute("begin")
        except sqlite3.Error as error:
            raise SinkError(f"{path} cannot be written ({error}); choose another --out") from error
        self._lock = threading.RLock()
        with self._doing() as file:
            facts = dict(file.execute("select name, value from facts"))
        self._size = (int(facts.get("height", 0)), int(facts.get("width", 0)))

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of all frames; zeros before the first."""
        return self._size

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        if size != self._size:
            self._size = size
            with self._doing() as file:
                pairs = zip(("height", "width"), size, strict=True)
                file.executemany("insert or replace into facts values (?, ?)", pairs)

    @contextmanager
    def _doing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._file
            except sqlite3.Error as error:
                raise SinkError(f"{self.path}: {error}; results so far are kept") from error

    def add_frame(self, frame: int, time_s: float) -> None:
        """Note the time of a frame."""
        with self._doing() as file:
            file.execute("insert or replace into frames values (?, ?)", (frame, time_s))

    def put(self, object_id: int, frame: int, row: Row, front: bool = True) -> None:
        """Note what was found, in place of what was there.

        Args:
            object_id: the object.
            frame: the frame.
            row: what was found.
            front: whether the object's results hold up to here.
        """
        values = (
            object_id, frame, STATES.index(row.state), row.score, row.object_logit,
            np.asarray(row.box, np.float32).tobytes(), row.counts, " ".join(row.events),
            json.dumps(strict_json(row.diary)),
        )  # fmt: skip
        with self._doing() as file:
            places = ",".join("?" * len(values))
            file.execute(f"insert or replace into results values ({places})", values)
            # Going over the edge is being lost, or found, as well: the narrower word is told.
            told = [kind for kind in row.events if not row.change or kind not in (LOST, "found")]
            if kinds := " ".join([*told, *([row.change] if row.change else [])]):
                words = "insert or replace into changes values (?, ?, ?)"
                file.execute(words, (object_id, frame, kinds))
            else:
                file.execute(
                    "delete from changes where object = ? and frame = ?", (object_id, frame)
                )
            if front:
                file.execute("insert or replace into fronts values (?, ?)", (object_id, frame))

    def set_front(self, object_id: int, frame: int | None) -> None:
        """Note how far an object's results hold; None for not at all."""
        with self._doing() as file:
            file.execute("delete from fronts where object = ?", (object_id,))
            if frame is not None:
                file.execute("insert into fronts values (?, ?)", (object_id, frame))

    def drop(self, object_id: int, low: int = -1, high: int = 2**60) -> None:
        """Forget an object on frames from ``low`` up to, not with, ``high``."""
        with self._doing() as file:
            for table in ("results", "changes"):
                words = f"delete from {table} where object = ? and frame >= ? and frame < ?"
                file.execute(words, (object_id, low, high))

    def commit(self) -> None:
        """Bring everything to the disk."""
        with self._doing() as file:
            file.execute("commit")
            file.execute("begin")

    def fronts(self) -> dict[int, int]:
        """How far each object's results hold."""
        with self._doing() as file:
            return dict(file.execute("select object, frame from fronts"))

    def last_frame(self) -> int | None:
        """Number of the newest frame that was seen; None before the first."""
        with self._doing() as file:
            number: int | None = file.execute("select max(frame) from frames").fetchone()[0]
        return number

    def frames(self, low: int = 0, high: int = 2**60, most: int = -1) -> list[tuple[int, float]]:
        """Numbers and times of frames that were seen, in order; at most so many."""
        words = (
            "select frame, time_s from frames where frame between ? and ? order by frame limit ?"
        )
        with self._doing() as file:
            return list(file.execute(words, (low, high, most)))

    def rows(self, frame: int, diaries: bool = False) -> dict[int, Row]:
        """Everything that was found on a frame; diaries take longer to read than all the rest."""
        words = (
            "select object, state, score, logit, box, counts, events, diary from results "
            "where frame = ?"
        )
        with self._doing() as file:
            found = file.execute(words, (frame,)).fetchall()
        return {
            object_id: Row(
                STATES[state] != LOST, score, logit, np.frombuffer(box, np.float32), self.size,
                counts, tuple(events.split()), json.loads(diary) if diaries else {},
            )
            for object_id, state, score, logit, box, counts, events, diary in found
        }  # fmt: skip

    def lanes(self, low: int, high: int, bins: int = 240) -> dict[int, list[int]]:
        """A lane an object for the page: in each part of a span the worst state.

        Returns:
            Object to numbers: -1 nothing, 0 sure, 1 unsure, 2 lost.
        """
        width = max(1, high - low + 1)
        bins = min(bins, width)
        words = (
            "select object, (frame - ?) * ? / ?, max(state) from results "
            "where frame between ? and ? group by 1, 2"
        )
        found: dict[int, list[int]] = {}
        with self._doing() as file:
            for object_id, place, state in file.execute(words, (low, bins, width, low, high)):
                lane = found.setdefault(object_id, [-1] * bins)
                lane[place] = state
                # Frames that were left out take the state of the one before.
                back = place - 1
                while back >= 0 and lane[back] == -1:
                    back -= 1
                if back >= 0:
                    lane[back + 1 : place] = [lane[back]] * (place - back - 1)
        return found

    def events(self, low: int, high: int = 2**60, latest: int = 200) -> list[tuple[int, int, str]]:
        """Frame, object and kinds of what happened on some frames, the latest so many."""
        words = (
            "select frame, object, kinds from changes where frame between ? and ? "
            "order by frame desc limit ?"
        )
        with self._doing() as file:
            return list(file.execute(words, (low, high, latest)))[::-1]

    def result(
        self, frame: int, time_s: float, plan: EditPlan, previous: int | None
    ) -> TrackingResult:
        """Everything that was found on a frame, as sinks take it."""
        rows = self.rows(frame, diaries=True)
        return assemble(frame, time_s, self.size, rows, plan, previous)

    def close(self) -> None:
        """Commit and close."""
        with self._lock:
            self._file.execute("commit")
            self._file.close()


def without_mask(row: Row) -> Row:
    """The row without pixels: what may be held for long."""
    return replace(row, mask=None)
