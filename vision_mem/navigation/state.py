"""Everything a map holds, in memory, and how it gets into the file and back.

Space changes in many leaves at each look, so a look is stored as it is, a few kilobytes, and
folded into the bricks now and then: after a crash the looks since the last fold are applied again,
with the same result to the last bit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import DamagedFileError
from vision_mem.navigation.config import NavigationConfig
from vision_mem.navigation.graph.frontiers import Exits
from vision_mem.navigation.graph.topology import Place, Topology, Way
from vision_mem.navigation.journal import Journal, Memory
from vision_mem.navigation.landmarks import Landmark, Landmarks, PlaceView
from vision_mem.navigation.retrieval import Retriever
from vision_mem.navigation.space.octree import Octree, OctreeStats
from vision_mem.navigation.space.raycasting import FrameUpdate
from vision_mem.navigation.storage import BROKEN, get_meta, put_meta, whole
from vision_mem.navigation.working_memory import WorkingMemory
from vision_mem.text import parse_json

_FIELDS: dict[str, type] = {
    "row": int, "votes": dict, "count": int, "existence": float, "first_s": float, "last_s": float,
    "best": float, "best_seq": int, "last": list, "track": str,
}  # fmt: skip
_MOST = 1 << 32
"""Numbers in all embeddings of one kind."""


class SpatialState:
    """The parts of a map.

    Attributes:
        octree, topology, exits, landmarks, short, journal, retriever: the parts.
        next_id: for places and landmarks alike.
        frame: number of the latest observation.
        now_s: its time, seconds.
        dropped: sightings without a place in the grid.
        encoder: what made the embeddings, "" where nobody said.
        origin: latitude and longitude of the map's (0, 0, 0), degrees, or None.
    """

    def __init__(self, config: NavigationConfig, corner: ArrayLike = (0.0, 0.0, 0.0)) -> None:
        self.config = config
        self.octree = Octree(config.octree, corner)
        self.topology = Topology(config.topology)
        self.exits = Exits()
        self.landmarks = Landmarks(config.landmark)
        self.short = WorkingMemory(config.short)
        self.journal = Journal(config.store.dtype)
        self.retriever = Retriever(self.landmarks, self.short, config.retrieval)
        self.next_id = 1
        self.frame = 0
        self.now_s = 0.0
        self.dropped = 0
        self.encoder = ""
        self.origin: tuple[float, float] | None = None
        self.memories: list[Memory] = []
        self.looks: list[tuple[int, int, bytes]] = []
        self.events: list[tuple[float, str, dict[str, Any]]] = []
        self._unfolded = 0
        self._folded = False

    def new_id(self) -> int:
        """A number no place or landmark ever had."""
        self.next_id += 1
        return self.next_id - 1

    def detail(self) -> dict[str, int]:
        """Bytes in memory by kind."""
        waiting = sum(len(look[2]) for look in self.looks)
        waiting += sum(400 + len(each.embedding or b"") for each in self.memories)
        return {
            "space": self.octree.nbytes if len(self.octree.bricks) else 0,
            "places": self.topology.nbytes + self.exits.nbytes,
            "landmarks": self.landmarks.nbytes if len(self.landmarks) else 0,
            "short memory": self.short.nbytes,
            "waiting to be written": waiting,
        }

    # -- into the file -------------------------------------------------------------------------

    def save(self, sql: sqlite3.Connection, *, fold: bool = False) -> None:
        """Write what changed, within a transaction; call ``saved`` once it is committed."""
        self.journal.write(sql, self.memories)
        sql.executemany("INSERT INTO look VALUES(?, ?, ?)", self.looks)
        sql.executemany(
            "INSERT INTO event(t, kind, fields) VALUES(?, ?, ?)",
            [(t, kind, json.dumps(fields)) for t, kind, fields in self.events],
        )
        self._save_places(sql)
        self.exits.save(sql)
        self._save_landmarks(sql)
        _write(sql, "short", ("slot",), self.short.changed, self.short.pack)
        meta: dict[str, Any] = {
            "next_id": self.next_id,
            "next_seq": self.journal.next_seq,
            "frame": self.frame,
            "now_s": repr(self.now_s),
            "dropped": self.dropped,
            "short_step": self.short.step,
            "current": self.topology.current or 0,
            "encoder": self.encoder,
            "origin": json.dumps(self.origin),
            "landmark_vectors": self.landmarks.vectors.used,
            "landmark_width": self.landmarks.vectors.sums.shape[1],
        }
        self._folded = fold or self._unfolded + len(self.looks) >= self.config.store.fold_every
        if self._folded:
            meta |= self._fold(sql)
        put_meta(sql, meta)

    def saved(self) -> None:
        """All that changed is in the file."""
        self._unfolded = 0 if self._folded else self._unfolded + len(self.looks)
        if self._folded:
            self.octree.bricks.dirty[:] = False
            self.octree.bricks.trim()
            self.octree.vectors.clean()
        self.memories, self.looks, self.events = [], [], []
        self.topology.changed_places, self.topology.changed_ways = set(), set()
        self.exits.changed = set()
        self.landmarks.changed, self.landmarks.changed_views = set(), set()
        self.short.changed = set()

    def _fold(self, sql: sqlite3.Connection) -> dict[str, Any]:
        bricks = self.octree.bricks
        rows = {int(bricks.codes[row]): row for row in np.flatnonzero(bricks.dirty).tolist()}
        _write(sql, "brick", ("code",), rows, lambda code: (
            (bricks.pack(rows[code]),) if bricks.tick[rows[code]].any() else None
        ))  # fmt: skip
        sql.executemany("INSERT OR REPLACE INTO vector VALUES(?, ?)", self.octree.vectors.pages())
        sql.execute("DELETE FROM look")
        return {
            "octree": json.dumps(asdict(self.octree.stats)),
            "leaf_vectors": self.octree.vectors.used,
            "leaf_width": self.octree.vectors.sums.shape[1],
        }

    def _save_places(self, sql: sqlite3.Connection) -> None:
        def place_row(place_id: int) -> tuple[Any, ...] | None:
            place = self.topology.places.get(place_id)
            if place is None:
                return None
            looks = None if place.descriptor is None else place.descriptor.astype("<f4").tobytes()
            pose = place.pose.astype("<f8").tobytes()
            return pose, looks, place.visits, place.first_s, place.last_s

        def way_row(pair: tuple[int, int]) -> tuple[Any, ...] | None:
            way = self.topology.ways.get(pair)
            return None if way is None else (way.traversed, way.last_s, int(way.blocked))

        _write(sql, "place", ("id",), self.topology.changed_places, place_row)
        _write(sql, "way", ("a", "b"), self.topology.changed_ways, way_row)

    def _save_landmarks(self, sql: sqlite3.Connection) -> None:
        marks, store = self.landmarks.by_id, self.landmarks.vectors

        def landmark_row(landmark_id: int) -> tuple[Any, ...] | None:
            if (landmark := marks.get(landmark_id)) is None:
                return None
            fields = json.dumps({name: getattr(landmark, name) for name in _FIELDS})
            sums = np.concatenate([landmark.weight.reshape(-1), landmark.pull]).astype("<f8")
            vector = b""
            if landmark.row:
                count = np.array([store.count[landmark.row]], "<u4")
                vector = count.tobytes() + store.sums[landmark.row].astype("<f4").tobytes()
            return fields, sums.tobytes() + vector

        def view_row(pair: tuple[int, int]) -> tuple[Any, ...] | None:
            view = marks[pair[0]].views.get(pair[1]) if pair[0] in marks else None
            if view is None:
                return None
            ends = [view.count, view.bearing, view.distance]
            numbers = np.concatenate([view.weight.reshape(-1), view.pull, ends]).astype("<f8")
            return (numbers.tobytes(),)

        _write(sql, "landmark", ("id",), self.landmarks.changed, landmark_row)
        _write(sql, "view", ("landmark", "place"), self.landmarks.changed_views, view_row)

    # -- out of the file -----------------------------------------------------------------------

    def load(self, sql: sqlite3.Connection) -> None:
        """Take in what a file holds; this state must be new.

        Raises:
            ModelError: for content that is damaged.
        """
        try:
            self._load(sql)
        except BROKEN as error:
            raise DamagedFileError("the map is damaged; restore it from a copy") from error

    def _load(self, sql: sqlite3.Connection) -> None:
        meta = get_meta(sql)
        self.next_id, self.frame = whole(meta, "next_id", 1), whole(meta, "frame")
        (self.now_s,) = _finite([float(meta.get("now_s", 0.0))]).tolist()
        self.dropped = whole(meta, "dropped")
        self.encoder = meta.get("encoder", "")
        if (origin := parse_json(meta.get("origin", "null"), "origin")) is not None:
            latitude, longitude = _finite(origin).tolist()
            self.origin = (latitude, longitude)
        self.journal.open(sql)
        self._load_places(sql)
        current = whole(meta, "current")
        self.topology.current = current if current in self.topology.places else None
        self._load_landmarks(sql, meta)
        for slot, fields, numbers in sql.execute("SELECT slot, fields, numbers FROM short"):
            self.short.unpack(slot, fields, numbers)
        self.short.step = whole(meta, "short_step")
        self._load_space(sql, meta)

    def _load_places(self, sql: sqlite3.Connection) -> None:
        rows = _once(sql.execute("SELECT * FROM place ORDER BY id"), 1)
        for place_id, pose, looks, visits, first_s, last_s in rows:
            matrix = _floats(pose, 16).reshape(4, 4)
            vector = None if looks is None else np.frombuffer(looks, "<f4").astype(np.float32)
            times = _finite([first_s, last_s]).tolist()
            self.topology.put(Place(place_id, matrix, vector, int(visits), *times))
        rows = _once(sql.execute("SELECT * FROM way ORDER BY a, b"), 2)
        for start, end, traversed, last_s, blocked in rows:
            if not {start, end} <= self.topology.places.keys():
                raise _damaged(f"a way leads to place {start} or {end}, which is missing")
            (last,) = _finite([last_s]).tolist()
            self.topology.put_way(Way(start, end, int(traversed), last, bool(blocked)))
        if sql.execute("PRAGMA user_version").fetchone()[0] >= 2:  # an older file, only read
            self.exits.load(sql)

    def _load_landmarks(self, sql: sqlite3.Connection, meta: dict[str, str]) -> None:
        views: dict[int, dict[int, PlaceView]] = {}
        # In the order of the key, so that sums over views do not depend on the file's history.
        rows = _once(sql.execute("SELECT * FROM view ORDER BY landmark, place"), 2)
        for landmark_id, place_id, raw in rows:
            numbers = _floats(raw, 15)
            view = PlaceView(
                int(numbers[12]), numbers[:9].reshape(3, 3), numbers[9:12], *numbers[13:].tolist()
            )
            if place_id not in self.topology.places:
                raise _damaged(f"a landmark was seen from place {place_id}, which is missing")
            views.setdefault(landmark_id, {})[place_id] = view
        store = self.landmarks.vectors
        used, width = _room(meta, "landmark")
        if used > 1:
            store.new(used - 1, width)
        rows = _once(sql.execute("SELECT * FROM landmark ORDER BY id"), 1)
        for landmark_id, text, raw in rows:
            fields = parse_json(text, "landmark")
            kinds = {name: _typed(fields.pop(name), kind) for name, kind in _FIELDS.items()}
            kinds["last"] = tuple(kinds["last"])
            if fields or not 0 <= kinds["row"] < used:
                raise _damaged(f"landmark {landmark_id} cannot be used")
            landmark = Landmark(landmark_id, **kinds, views=views.get(landmark_id, {}))
            sums = _floats(raw[:96], 12)
            landmark.weight, landmark.pull = sums[:9].reshape(3, 3), sums[9:]
            landmark.solve()
            _finite(landmark.position)
            if landmark.row:
                store.count[landmark.row] = np.frombuffer(raw[96:100], "<u4")[0]
                store.sums[landmark.row] = np.frombuffer(raw[100:], "<f4")
            self.landmarks.put(landmark)
        store.clean()

    def _load_space(self, sql: sqlite3.Connection, meta: dict[str, str]) -> None:
        bricks, vectors = self.octree.bricks, self.octree.vectors
        if bricks.limit:
            asked = sql.execute("SELECT code FROM brick ORDER BY code")
            bricks.away = np.array([row[0] for row in _once(asked, 1)], np.uint64)
        else:
            rows = list(_once(sql.execute("SELECT code, fields FROM brick ORDER BY code"), 1))
            bricks.unpack(np.array([row[0] for row in rows], np.uint64), [row[1] for row in rows])
            bricks.dirty[:] = False
        stats = parse_json(meta.get("octree", "{}"), "octree")
        self.octree.stats = OctreeStats(**{name: _typed(each, int) for name, each in stats.items()})
        used, width = _room(meta, "leaf")
        asked = sql.execute("SELECT page, numbers FROM vector ORDER BY page")
        for page, numbers in _once(asked, 1):
            vectors.load(page, numbers, width, used)
        asked = sql.execute("SELECT seq, anchor, change FROM look ORDER BY seq")
        for _, anchor, change in _once(asked, 1):
            self.octree.apply(FrameUpdate.from_bytes(change), anchor)
            self._unfolded += 1


def _write(
    sql: sqlite3.Connection, table: str, keys: Sequence[str], changed: Iterable[Any],
    row_of: Callable[[Any], tuple[Any, ...] | None],
) -> None:  # fmt: skip
    """Put the rows of keys that changed in place of what was there; None takes one out."""
    rows = [(key if isinstance(key, tuple) else (key,), row_of(key)) for key in sorted(changed)]
    where = " AND ".join(f"{key}=?" for key in keys)
    sql.executemany(f"DELETE FROM {table} WHERE {where}", [key for key, row in rows if row is None])
    full = [(*key, *row) for key, row in rows if row is not None]
    if full:
        places = ", ".join("?" * len(full[0]))
        sql.executemany(f"INSERT OR REPLACE INTO {table} VALUES({places})", full)


def _damaged(what: str) -> DamagedFileError:
    return DamagedFileError(f"the map is damaged: {what}")


def _once(rows: Iterable[Sequence[Any]], keys: int) -> Iterator[Sequence[Any]]:
    """Rows in the order of their first columns, each key once: pages may lead in circles."""
    before: Any = None
    for row in rows:
        if before is not None and tuple(row[:keys]) <= before:
            raise _damaged("rows of it come twice")
        before = tuple(row[:keys])
        yield row


def _room(meta: dict[str, str], what: str) -> tuple[int, int]:
    """Rows and width of a store of embeddings."""
    used, width = whole(meta, f"{what}_vectors", 1), whole(meta, f"{what}_width")
    if used < 1 or used * width > _MOST:
        raise _damaged(f"{used} embeddings of {width} numbers are too many")
    return used, width


def _typed(value: Any, kind: type) -> Any:
    """A value from JSON that is of a kind, and no larger than what was ever written."""
    if kind in (list, dict):
        parts = value.values() if kind is dict else value
        good = isinstance(value, kind) and all(_typed(each, float) is each for each in parts)
    elif kind is str:
        good = isinstance(value, str)
    else:
        good = type(value) in (int, kind) and abs(value) < 1 << 63
    if not good:
        raise _damaged("a value of it is of another kind than ours")
    return value


def _finite(values: Any) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise _damaged("a number of it is not finite")
    return array


def _floats(raw: bytes, count: int) -> NDArray[np.float64]:
    numbers = np.frombuffer(raw, "<f8").astype(np.float64)
    if len(numbers) != count:
        raise _damaged(f"{len(numbers)} numbers where {count} belong")
    return _finite(numbers)
