"""Things with identities beside the tokens: who was there from when to when, where, and moved.

What ``track`` or ``mots`` says of each frame becomes rows of the same memory file: identities,
stays (from when to when each was to be seen), places (whenever one is elsewhere than before), what
happened (moved, and events of zones and lines), and a small picture of each. Of a stream only the
latest state of what is in view is held in main memory.

    ledger = EntityLedger(file)         # a MemoryFile; or EntityLedger() without one
    ledger.write(frame, result)         # before the frame goes to the session of the tokens

Rows wait until the tokens are saved and go with them, all or nothing.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.models.vlm.window_search import COLOURS, colour_shares
from vision_mem.text import shown
from vision_mem.types import Frame, ZoneEvent
from vision_mem.videoqa.records import real, whole
from vision_mem.videoqa.store import MemoryFile
from vision_mem.visualization.contact_sheet import shrink, to_jpeg

Place = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the picture's sides."""

GAP_S = 1.0
"""Seconds out of sight that do not end a stay."""
LEAST_STEPS = 3
"""Frames on which something has to be seen to count as a thing."""
_REST_S = 0.6
"""Seconds without motion after which something stands."""
_OFF_REST = 0.35
"""Distance from its place, in sizes of the thing, from which on it is being moved."""
_OUTSIDE = 0.2
"""How far it then has to reach beyond where it stood, in widths or heights."""
_STILL = 0.08
"""Distance a look, in sizes, below which it stands still: the size of a jitter of boxes."""
_SURE_STEPS = 3
"""Frames in a row off its place."""
_ELSEWHERE = 0.04
"""A place is written down when a side has gone by so much of the picture, or of the thing."""
_BETTER = 1.3
"""How much better a view has to be to become the picture of a thing."""
_MOST_TOLD = 12
_MARGIN = 0.12
_MOST_HELD = 256
"""Identities of which the state is held, present or not."""
_PIXELS = 1024

_TABLES = """
CREATE TABLE IF NOT EXISTS entities (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, given INTEGER NOT NULL, class_name TEXT NOT NULL,
    colours TEXT NOT NULL, steps INTEGER NOT NULL, view REAL NOT NULL, origin TEXT NOT NULL,
    view_s REAL NOT NULL, picture BLOB
);
CREATE TABLE IF NOT EXISTS stays (
    id INTEGER PRIMARY KEY, entity INTEGER NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, at_edge INTEGER NOT NULL, open INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS places (
    entity INTEGER NOT NULL, time_s REAL NOT NULL, x1 REAL NOT NULL, y1 REAL NOT NULL,
    x2 REAL NOT NULL, y2 REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS happenings (
    entity INTEGER NOT NULL, kind TEXT NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL,
    frame INTEGER NOT NULL, zone TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS places_of ON places (entity, time_s);
CREATE INDEX IF NOT EXISTS entities_by_name ON entities (name);
CREATE INDEX IF NOT EXISTS entities_by_origin ON entities (origin)
"""
_NOBODY = 0
"""Whose happening it is that a stream begins to be followed."""
_AUTOMATIC = re.compile(r"object-\d+$")


@dataclass(frozen=True)
class Stay:
    """From when to when something was to be seen.

    Attributes:
        start_s, end_s: seconds of the memory's clock; it ends with the frame after the last.
        first, last: the memory's numbers of its first and last frame.
        at_edge: whether it was last seen at the picture's edge, so that it left and is not hidden.
        open: whether it was still there on the latest frame.
    """

    start_s: float
    end_s: float
    first: int
    last: int
    at_edge: bool
    open: bool


@dataclass(frozen=True)
class Happening:
    """Something that one thing did: ``moved``, or ``entered``, ``left``, ``in``, ``out`` of a zone.

    Attributes:
        kind: which.
        start_s, end_s: seconds; the same where it is a moment.
        frame: the memory's number of its first frame.
        zone: name of the zone or line; "" of ``moved``.
    """

    kind: str
    start_s: float
    end_s: float
    frame: int
    zone: str = ""


@dataclass(frozen=True)
class Entity:
    """One identity, with all that is known of it.

    Attributes:
        number: in the file.
        name: one word or more for people, in the file only once.
        given: whether a person named it.
        class_name: the detector's word; "" where there is none.
        colours: shares of ``COLOURS`` in its best view.
        stays: in time order.
        happenings: in time order.
    """

    number: int
    name: str
    given: bool
    class_name: str
    colours: tuple[float, ...]
    stays: tuple[Stay, ...]
    happenings: tuple[Happening, ...] = ()


@dataclass
class _LiveEntity:
    """What is held of one identity while it is followed."""

    number: int
    name: str
    given: bool
    class_name: str
    origin: str
    colours: str = "[]"
    steps: int = 0
    view: float = 0.0
    view_s: float = 0.0
    picture: bytes | None = None
    stay: int = 0
    since: Stay | None = None
    place: Place | None = None
    seen: tuple[float, Place] = (0.0, (0.0, 0.0, 0.0, 0.0))
    rest: tuple[float, float, Place] | None = None
    still: tuple[float, float, float] | None = None
    moving_s: tuple[float, int] | None = None
    off: int = 0


@dataclass
class _Waiting:
    """Rows that are not written yet."""

    entities: dict[int, _LiveEntity] = field(default_factory=dict)
    stays: dict[int, tuple[int, Stay]] = field(default_factory=dict)
    places: list[tuple[Any, ...]] = field(default_factory=list)
    happenings: list[tuple[Any, ...]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.entities or self.stays or self.places or self.happenings)


class EntityLedger:
    """The identities of a stream, in its memory file.

    Args:
        file: the memory; None keeps the ledger for this run alone.

    Raises:
        ModelError: when the file is damaged.
    """

    def __init__(self, file: MemoryFile | None = None) -> None:
        self._file = file
        self._own: sqlite3.Connection | None = None
        self._live: dict[tuple[str, int], _LiveEntity] = {}
        self._waiting = _Waiting()
        self._time_s: float | None = None
        self._next = [1, 1]  # numbers of the next identity and stay
        self._begun, self._run = False, 0
        self._step_s = 0.0
        if file is not None:
            file.join(self._flush)

    # -- writing -------------------------------------------------------------------------------

    def write(self, frame: Frame, result: Any, *, given: bool | None = None) -> None:
        """Take what was found on a frame.

        Args:
            frame: with the memory's number and time, as its session gets it.
            result: of ``track`` or ``mots`` on it.
            given: whether people gave the names; None: those of ``track``, and not those of
                ``mots``. What people named is the same identity in every run.
        """
        if not self._begun:
            self._begin(frame)
        now = frame.time_s
        if self._time_s is not None and now > self._time_s:
            self._step_s = min(now - self._time_s, GAP_S)
        self._time_s = now
        kind = "tracks" if hasattr(result, "tracks") else "objects"
        named = kind == "objects" if given is None else given
        height, width = frame.size
        scale = np.array([width, height, width, height], np.float64)
        here = set()
        for each in result.objects:
            if not each.present or not float(np.ptp(each.box[::2])) > 0:
                continue
            key = (kind, int(each.object_id))
            one = self._live.get(key) or self._meet(key, each, named)
            x1, y1, x2, y2 = (np.asarray(each.box, np.float64) / scale).clip(0, 1).tolist()
            self._seen(one, frame, (x1, y1, x2, y2), each)
            here.add(key)
        self._away([one for key, one in self._live.items() if key[0] == kind and key not in here])
        self._let_go(here)
        for event in result.events:
            known = self._live.get((kind, event.object_id))
            if known is not None and isinstance(event, ZoneEvent):
                what = event.direction or event.kind
                row = (known.number, what, event.time_s, event.time_s, frame.index, event.zone)
                self._waiting.happenings.append(row)

    def _meet(self, key: tuple[str, int], each: Any, named: bool) -> _LiveEntity:
        """A new identity, or one that was there before: of this run, or called so by people."""
        class_name, name = str(getattr(each, "class_name", "")), str(each.name)
        given = named and not _AUTOMATIC.match(name)
        origin = f"{self._run}/{key[0]}/{key[1]}"
        one = self._known("origin", origin) or (self._known("name", name) if given else None)
        if one is None:
            if not given:
                name = f"{class_name or 'object'}-{each.object_id}"
            number = int(each.object_id)
            while self._known("name", name) is not None:
                number += 1
                name = f"{name.rsplit('-', 1)[0]}-{number}"
            one = _LiveEntity(self._next[0], name, given, class_name, origin)
            self._next[0] += 1
        self._live[key] = one
        return one

    def _known(self, column: str, value: str) -> _LiveEntity | None:
        held = [*self._live.values(), *self._waiting.entities.values()]
        for one in held:
            if getattr(one, column) == value:
                return one
        columns = "id, name, given, class_name, origin, colours, steps, view, view_s"
        with self._read() as database:
            row = database.execute(
                f"SELECT {columns} FROM entities WHERE {column} = ?", (value,)
            ).fetchone()
        if row is None:
            return None
        number, name, given, class_name, origin, colours, steps, view, view_s = row
        return _LiveEntity(
            whole(number), str(name), bool(given), str(class_name), str(origin), str(colours),
            whole(steps), real(view), real(view_s),
        )  # fmt: skip

    def _seen(self, one: _LiveEntity, frame: Frame, box: Place, each: Any) -> None:
        now, one.steps = frame.time_s, one.steps + 1
        edge = min(box[0], box[1], 1 - box[2], 1 - box[3]) < 0.012
        end_s = now + self._step_s
        stay = one.since
        if stay is None or now - stay.end_s > GAP_S + 1e-6:
            one.stay, self._next[1] = self._next[1], self._next[1] + 1
            stay = Stay(now, end_s, frame.index, frame.index, edge, True)
            one.place = None
        else:
            stay = replace(stay, end_s=end_s, last=frame.index, at_edge=edge, open=True)
        one.since = stay
        self._waiting.stays[one.stay] = (one.number, stay)
        self._waiting.entities[one.number] = one
        one.seen = (now, box)
        if one.place is None or _elsewhere(one.place, box):
            one.place = box
            self._waiting.places.append((one.number, now, *box))
        self._motion(one, frame, box, edge)
        value = (box[2] - box[0]) * (box[3] - box[1]) * float(each.score) * (0.5 if edge else 1.0)
        if (one.picture is None and one.view == 0.0) or value > _BETTER * one.view:
            one.view, one.view_s = value, now
            one.picture, one.colours = _picture(frame.image, box, each.mask)

    def _motion(self, one: _LiveEntity, frame: Frame, box: Place, edge: bool) -> None:
        """Whether it was moved from where it stood; a stop of a while ends that."""
        now, (height, width) = frame.time_s, frame.size
        x, y = (box[0] + box[2]) / 2 * width, (box[1] + box[3]) / 2 * height
        size = max(1.0, math.sqrt((box[2] - box[0]) * width * (box[3] - box[1]) * height))
        if one.still is None or math.hypot(x - one.still[0], y - one.still[1]) > _STILL * size:
            one.still = (x, y, now)
        stands = now - one.still[2] >= _REST_S
        if one.moving_s is not None:
            if stands:
                self._moved(one, one.still[2])
                one.rest, one.moving_s = (x, y, box), None
            return
        if one.rest is None:
            # What comes in is not moved; it has to stand first.
            if stands and not edge:
                one.rest = (x, y, box)
            return
        before = one.rest[2]
        sides = before[2] - before[0], before[3] - before[1]
        size = max(1.0, math.sqrt(sides[0] * width * sides[1] * height))
        # What is half hidden has its middle elsewhere, and still lies where it was.
        out = max(
            (before[0] - box[0]) / sides[0], (before[1] - box[1]) / sides[1],
            (box[2] - before[2]) / sides[0], (box[3] - before[3]) / sides[1],
        )  # fmt: skip
        off = math.hypot(x - one.rest[0], y - one.rest[1]) > _OFF_REST * size and out > _OUTSIDE
        one.off = one.off + 1 if off else 0
        if one.off >= _SURE_STEPS:
            one.moving_s, one.off = (now - (_SURE_STEPS - 1) * self._step_s, frame.index), 0

    def _moved(self, one: _LiveEntity, end_s: float) -> None:
        assert one.moving_s is not None
        start_s, frame = one.moving_s
        row = (one.number, "moved", start_s, max(start_s, end_s), frame, "")
        self._waiting.happenings.append(row)

    def _away(self, gone: Sequence[_LiveEntity]) -> None:
        """What is not to be seen now; after a while its stay has ended and it is let go."""
        assert self._time_s is not None
        for one in gone:
            stay = one.since
            if stay is None:
                continue
            if stay.open:
                stay = one.since = replace(stay, open=False)
                self._waiting.stays[one.stay] = (one.number, stay)
                self._settle(one)
            if self._time_s - stay.end_s > GAP_S + 1e-6:
                if one.moving_s is not None:  # it was carried away
                    self._moved(one, stay.end_s)
                    one.moving_s = one.rest = None
                one.off = 0

    def _settle(self, one: _LiveEntity) -> None:
        """Write where it was seen last, however near to the place before."""
        time_s, box = one.seen
        if one.place is not None and one.place != box:
            one.place = box
            self._waiting.places.append((one.number, time_s, *box))

    def _let_go(self, here: set[tuple[str, int]]) -> None:
        """Hold only so many identities: who comes back later is read from the file."""
        if len(self._live) <= _MOST_HELD:
            return
        away = [
            (one.since.end_s if one.since else 0.0, key)
            for key, one in self._live.items()
            if key not in here and one.number not in self._waiting.entities
        ]
        for _, key in sorted(away)[: _MOST_HELD // 2]:
            del self._live[key]

    # -- rows ----------------------------------------------------------------------------------

    def _begin(self, frame: Frame) -> None:
        """Go on with what is in the file, under numbers of its own."""
        self._begun = True
        with self._write() as database:
            _make(database)
            # What is as late was written by a run that ended before its tokens were saved.
            late = (frame.time_s,)
            database.execute("DELETE FROM places WHERE time_s >= ?", late)
            database.execute("DELETE FROM happenings WHERE start_s >= ?", late)
            database.execute("DELETE FROM stays WHERE start_s >= ?", late)
            database.execute("UPDATE stays SET end_s = min(end_s, ?)", late)
            runs = [str(origin) for (origin,) in database.execute("SELECT origin FROM entities")]
            self._run = 1 + max((int(origin.split("/")[0]) for origin in runs), default=0)
            for place, table in enumerate(("entities", "stays")):
                top = database.execute(f"SELECT max(id) FROM {table}").fetchone()[0]
                self._next[place] = 1 + (0 if top is None else whole(top))
        begun = (_NOBODY, "begun", frame.time_s, frame.time_s, frame.index, "")
        self._waiting.happenings.append(begun)

    def renew(self) -> None:
        """What is followed from now on is followed anew: of another file, or by other sessions."""
        self.finish()
        self._live, self._begun, self._step_s, self._time_s = {}, False, 0.0, None

    def _flush(self, database: sqlite3.Connection) -> None:
        """Write what waits; called within the transaction that saves the tokens."""
        waiting = self._waiting
        if not waiting:
            return
        _make(database)
        database.executemany(
            "INSERT INTO entities VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET "
            "name = excluded.name, colours = excluded.colours, steps = excluded.steps, "
            "view = excluded.view, view_s = excluded.view_s, "
            "picture = coalesce(excluded.picture, picture)",
            [
                (one.number, one.name, int(one.given), one.class_name, one.colours, one.steps,
                 one.view, one.origin, one.view_s, one.picture)
                for one in waiting.entities.values()
            ],
        )  # fmt: skip
        database.executemany(
            "INSERT OR REPLACE INTO stays VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (number, entity, s.start_s, s.end_s, s.first, s.last, int(s.at_edge), int(s.open))
                for number, (entity, s) in waiting.stays.items()
            ],
        )
        database.executemany("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?)", waiting.places)
        database.executemany("INSERT INTO happenings VALUES (?, ?, ?, ?, ?, ?)", waiting.happenings)
        for one in waiting.entities.values():
            one.picture = None  # it is in the file now
        self._waiting = _Waiting()

    def flush(self) -> None:
        """Write what waits now; before reading, and at the end of a stream."""
        if self._waiting:
            with self._write() as database:
                self._flush(database)

    def finish(self) -> None:
        """The stream has ended: a motion that goes on ends with it."""
        for one in self._live.values():
            self._settle(one)
            if one.moving_s is not None and one.since is not None:
                self._moved(one, one.since.end_s)
                one.moving_s = None
        self.flush()

    def _private(self) -> sqlite3.Connection:
        """The database of a ledger without a file, made when there is something to keep."""
        if self._own is None:
            self._own = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        return self._own

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        if self._file is None:
            yield self._private()
        else:
            with self._file.reading() as database:
                yield database

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        if self._file is None:
            yield self._private()
        else:
            with self._file.writing() as database:
                yield database

    # -- reading -------------------------------------------------------------------------------

    def entities(self) -> list[Entity]:
        """All things that were followed, in the order in which they came.

        Raises:
            ModelError: when the file is damaged.
        """
        self.flush()
        if self._file is None and self._own is None:
            return []
        with self._read() as database:
            if not _there(database):
                return []
            stays: dict[int, list[Stay]] = {}
            for row in database.execute(
                "SELECT entity, start_s, end_s, first, last, at_edge, open FROM stays "
                "ORDER BY start_s, id"
            ):
                stay = Stay(real(row[1]), real(row[2]), whole(row[3]), whole(row[4]),
                            bool(row[5]), bool(row[6]))  # fmt: skip
                stays.setdefault(whole(row[0]), []).append(stay)
            happened: dict[int, list[Happening]] = {}
            for row in database.execute(
                "SELECT entity, kind, start_s, end_s, frame, zone FROM happenings ORDER BY start_s"
            ):
                one = Happening(str(row[1]), real(row[2]), real(row[3]), whole(row[4]), str(row[5]))
                happened.setdefault(whole(row[0]), []).append(one)
            found = [
                Entity(
                    whole(number), str(name), bool(given), str(class_name), _shares(colours),
                    tuple(stays[number]), tuple(happened.get(number, ())),
                )
                for number, name, given, class_name, colours in database.execute(
                    "SELECT id, name, given, class_name, colours FROM entities WHERE steps >= ?",
                    (LEAST_STEPS,),
                )
                if number in stays
            ]  # fmt: skip
        return sorted(found, key=lambda each: (each.stays[0].start_s, each.number))

    def begins(self) -> list[float]:
        """Times at which a stream began to be followed: who is there then has not come then."""
        self.flush()
        with self._read() as database:
            if not _there(database):
                return []
            asked = "SELECT start_s FROM happenings WHERE entity = ? ORDER BY start_s"
            return [real(row[0]) for row in database.execute(asked, (_NOBODY,))]

    def path(self, number: int) -> list[tuple[float, Place]]:
        """From when on a thing was where, in time order; a place holds until the next."""
        asked = "SELECT time_s, x1, y1, x2, y2 FROM places WHERE entity = ? ORDER BY time_s"
        with self._read() as database:
            return [
                (real(row[0]), (real(row[1]), real(row[2]), real(row[3]), real(row[4])))
                for row in database.execute(asked, (number,))
            ]

    def place(self, number: int, time_s: float) -> Place | None:
        """Where a thing was at a time, or last before it; None when it was not there yet."""
        with self._read() as database:
            return _place_of(database, number, time_s)

    def picture(self, number: int) -> bytes | None:
        """The best view of a thing, cut out, as JPEG."""
        with self._read() as database:
            asked = "SELECT picture FROM entities WHERE id = ?"
            row = database.execute(asked, (number,)).fetchone()
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def close(self) -> None:
        """Let go of what is held without a file."""
        if self._own is not None:
            self._own.close()
            self._own = None


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten.

    Attributes:
        spans: first and last second of the memory's clock.
        looks: how many grids went, with their pictures.
        names: of things of which nothing is left.
    """

    spans: tuple[tuple[float, float], ...]
    looks: int
    names: tuple[str, ...]


def forget(file: MemoryFile, what: str | tuple[float, float]) -> Forgotten:
    """Forget a span of time or one thing, so that no byte of it stays in the file or its log.

    With a thing all looks go that were taken while it was to be seen, for their pictures show it,
    and the cut-out views of other things that it reaches into.

    Args:
        file: the memory, not yet loaded.
        what: name of a thing, or first and last second of the memory's clock, both inclusive.

    Raises:
        InputError: for a name that nothing has, and a span that ends before it starts.
        SinkError: when it cannot be written, or another program holds it.
    """
    with file.reading() as database:
        there = _there(database)
    ledger = EntityLedger(file)
    known = ledger.entities() if there else []
    names: tuple[str, ...] = ()
    if isinstance(what, str):
        one = next((e for e in known if e.name.lower() == what.lower()), None)
        if one is None:
            followed = ", ".join(e.name for e in known[:_MOST_TOLD]) or "nothing"
            raise InputError(
                f"--forget {shown(what, 40)}: no such thing, and no span of time as 0:10-0:25; "
                f"followed: {followed}"
            )
        spans = tuple((stay.start_s, stay.end_s) for stay in one.stays)
        names = (one.name,)
    else:
        one = None
        if not what[0] <= what[1]:
            raise InputError("--forget: the span ends before it starts; give 0:10-0:25")
        spans = (what,)
    with file.writing() as database:
        looks = file.forget(database, spans)
        if there and one is not None:
            _forget_thing(database, one)
        elif there:
            names = _forget_span(database, *spans[0])
    file.scrub()
    return Forgotten(spans, looks, names)


def _forget_thing(database: sqlite3.Connection, one: Entity) -> None:
    others = database.execute(
        "SELECT id, view_s FROM entities WHERE id != ? AND picture IS NOT NULL", (one.number,)
    ).fetchall()
    for number, view_s in others:
        seen = any(stay.start_s <= view_s <= stay.end_s for stay in one.stays)
        places = [_place_of(database, each, view_s) for each in (one.number, number)]
        if seen and (None in places or _touch(*places)):  # type: ignore[arg-type]
            _drop_view(database, number)
    database.execute("DELETE FROM entities WHERE id = ?", (one.number,))
    for table in ("stays", "places", "happenings"):
        database.execute(f"DELETE FROM {table} WHERE entity = ?", (one.number,))


def _forget_span(database: sqlite3.Connection, start_s: float, end_s: float) -> tuple[str, ...]:
    """Cut a span out of the ledger; what was there only then goes whole."""
    rows = database.execute(
        "SELECT id, entity, start_s, end_s, first, last, at_edge, open FROM stays "
        "WHERE start_s <= ? AND end_s >= ?", (end_s, start_s),
    ).fetchall()  # fmt: skip
    top = database.execute("SELECT max(id) FROM stays").fetchone()[0] or 0
    for number, entity, begin, end, first, last, edge, is_open in rows:
        # Where it was at the end of the span is where it is found after it.
        after = _place_of(database, entity, end_s)
        database.execute("DELETE FROM stays WHERE id = ?", (number,))
        share = (last - first) / max(end - begin, 1e-9)
        if begin < start_s:
            cut = first + int(share * (start_s - begin))
            values = (number, entity, begin, start_s, first, cut, 0, 0)
            database.execute("INSERT INTO stays VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        if end > end_s:
            top += 1
            cut = first + int(share * (end_s - begin))
            values = (top, entity, end_s, end, cut, last, edge, is_open)
            database.execute("INSERT INTO stays VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            if after is not None:
                row = (entity, end_s + 1e-6, *after)
                database.execute("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?)", row)
    span = (start_s, end_s)
    database.execute("DELETE FROM places WHERE time_s BETWEEN ? AND ?", span)
    database.execute(
        "DELETE FROM happenings WHERE entity != ? AND start_s <= ? AND end_s >= ?",
        (_NOBODY, end_s, start_s),
    )
    for (number,) in database.execute(
        "SELECT id FROM entities WHERE view_s BETWEEN ? AND ?", span
    ).fetchall():
        _drop_view(database, number)
    empty = "FROM entities WHERE id NOT IN (SELECT entity FROM stays)"
    names = tuple(str(name) for (name,) in database.execute(f"SELECT name {empty}"))
    database.execute(f"DELETE {empty}")
    for table in ("places", "happenings"):
        database.execute(
            f"DELETE FROM {table} WHERE entity != ? AND entity NOT IN (SELECT id FROM entities)",
            (_NOBODY,),
        )
    return names


def _drop_view(database: sqlite3.Connection, number: int) -> None:
    asked = "UPDATE entities SET picture = NULL, colours = '[]', view = 0 WHERE id = ?"
    database.execute(asked, (number,))


def _touch(one: Place, other: Place) -> bool:
    """Whether two boxes, with the margin of a cut-out view, have something in common."""
    room = _MARGIN * max(one[2] - one[0], one[3] - one[1], other[2] - other[0], other[3] - other[1])
    return max(one[0], other[0]) < min(one[2], other[2]) + room and (
        max(one[1], other[1]) < min(one[3], other[3]) + room
    )


def _place_of(database: sqlite3.Connection, number: int, time_s: float) -> Place | None:
    asked = (
        "SELECT x1, y1, x2, y2 FROM places WHERE entity = ? AND time_s <= ? "
        "ORDER BY time_s DESC LIMIT 1"
    )
    row = database.execute(asked, (number, time_s + 1e-6)).fetchone()
    return None if row is None else (real(row[0]), real(row[1]), real(row[2]), real(row[3]))


def _make(database: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        database.execute(statement)


def _there(database: sqlite3.Connection) -> bool:
    """Whether a file has a ledger; those of before have none."""
    asked = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN (?, ?, ?, ?)"
    names = ("entities", "stays", "places", "happenings")
    return bool(database.execute(asked, names).fetchone()[0] == len(names))


def _shares(text: Any) -> tuple[float, ...]:
    shares = tuple(real(share) for share in json.loads(str(text)))
    if len(shares) not in (0, len(COLOURS)):
        raise ValueError("colours of a thing are none")
    return shares


def _elsewhere(old: Place, new: Place) -> bool:
    size = max(new[2] - new[0], new[3] - new[1], 1e-6)
    gone = max(abs(a - b) for a, b in zip(old, new, strict=True))
    return gone > min(_ELSEWHERE, 0.25 * size)


def _picture(image: NDArray[np.uint8], box: Place, mask: NDArray[np.bool_]) -> tuple[bytes, str]:
    """The part of a picture that shows a thing, as JPEG, and the thing's colours as JSON."""
    height, width = image.shape[:2]
    wide, high = _MARGIN * (box[2] - box[0]), _MARGIN * (box[3] - box[1])
    left, right = math.floor((box[0] - wide) * width), math.ceil((box[2] + wide) * width)
    top, bottom = math.floor((box[1] - high) * height), math.ceil((box[3] + high) * height)
    part = slice(max(top, 0), max(bottom, 1)), slice(max(left, 0), max(right, 1))
    crop = np.ascontiguousarray(image[part])
    pixels = crop[mask[part]] if mask.shape == image.shape[:2] and mask[part].any() else None
    if pixels is None:
        pixels = crop.reshape(-1, 3)
    side = math.isqrt(_PIXELS)
    some = pixels[np.linspace(0, len(pixels) - 1, side * side).astype(int)].reshape(side, side, 3)
    shares = colour_shares(some, np.array([[0, 0, 1, 1]], np.float32))[0].tolist()
    return to_jpeg(shrink(crop)), json.dumps([round(share, 3) for share in shares])
