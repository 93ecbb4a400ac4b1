"""A spatial memory in one file: ``step`` remembers, ``where``, ``recall`` and ``route`` answer.

Each step ends with a transaction: what it changed is in the file when it returns, whole. Reading
is safe at any time, from other processes too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import DamagedFileError, InputError, ModelError
from vision_mem.navigation import edits, queries
from vision_mem.navigation.config import NavigationConfig, settings, stored_corner
from vision_mem.navigation.journal import Key, Memory
from vision_mem.navigation.queries import Target
from vision_mem.navigation.records import (
    NavigationResult,
    NavigationUsage,
    Observation,
    Route,
    Sighting,
)
from vision_mem.navigation.retrieval import Hit
from vision_mem.navigation.space.blocks import NO_CODES
from vision_mem.navigation.state import SpatialState
from vision_mem.navigation.storage import MEMORY, MapFile, get_meta, put_meta
from vision_mem.navigation.update import observe
from vision_mem.text import short


class NavigationSession:
    """Remembers where things are, in one crash-safe file.

    Args:
        path: the map file, made when there is none; ``:memory:`` for a map that ends with this
            object.
        config: settings; None for those the map was made with, or the defaults for a new one.
        mode: ``w`` to write (one process at a time), ``r`` to read only (any number).
        encoder: what makes the embeddings, such as a model's id; a map takes only one.
        corner: ``(3,)`` metres: middle of the range of a new map; ignored for others.

    Attributes:
        config: settings in use.
        state: the parts of the map, to be read, not changed.

    Raises:
        InputError: for settings or an encoder that are not those of the map.
        ModelError: for a file that is no map, damaged, or of another version.
        SinkError: for a file that cannot be written, or that another process writes.
    """

    def __init__(
        self,
        path: str | Path = MEMORY,
        config: NavigationConfig | None = None,
        *,
        mode: str = "w",
        encoder: str = "",
        corner: ArrayLike = (0.0, 0.0, 0.0),
    ) -> None:
        durable = config is not None and config.store.durable
        self._file = MapFile(path, mode, durable=durable)
        self._lock = threading.RLock()
        try:
            self._open(config, encoder, np.asarray(corner, np.float64))
        except BaseException:
            self._file.close()
            raise

    def _open(
        self, config: NavigationConfig | None, encoder: str, corner: NDArray[np.float64]
    ) -> None:
        with self._file.reading() as sql:
            meta = get_meta(sql)
        self.config = settings(meta, config, self._file.path)
        self._corner = stored_corner(meta.get("corner", "")) if "config" in meta else corner
        state = self._empty()  # refuses a corner that is no position
        if self._file.mode == "w" and "config" not in meta:
            with self._file.writing() as sql:
                put_meta(sql, self._identity())
        self.state = state
        self._load()
        known = self.state.encoder
        if encoder and known and encoder != known:
            raise InputError(
                f"map {self._file.path} holds embeddings of {short(known)!r}, not of {encoder!r}: "
                "their numbers do not compare; use that encoder, or build a new map"
            )
        self.state.encoder = known or encoder
        if self._file.mode == "w" and self.state.encoder != known:
            with self._file.writing() as sql:
                put_meta(sql, {"encoder": encoder})

    def _identity(self) -> dict[str, str]:
        corner = json.dumps(self._corner.tolist())
        return {"config": json.dumps(asdict(self.config)), "corner": corner}

    def _empty(self) -> SpatialState:
        state = SpatialState(self.config, self._corner)
        if self.config.store.ram and self._file.mode == "w":
            state.octree.bricks.page(self._fetch, int(self.config.store.ram * 1e6), NO_CODES)
        return state

    def _fetch(self, codes: list[int]) -> list[bytes]:
        asked = "SELECT fields FROM brick WHERE code=?"
        with self._file.told():
            rows = [self._file.sql.execute(asked, (code,)).fetchone() for code in codes]
        if None in rows:
            raise DamagedFileError(f"map {self.path} is damaged: a brick of it is missing")
        return [row[0] for row in rows]

    def _load(self) -> None:
        with self._file.reading() as sql:
            self.state.load(sql)
        self._seen = self._file.version_seen()

    @property
    def path(self) -> Path:
        """The map file; ``:memory:`` for a map that ends with this object."""
        return self._file.path

    @property
    def mode(self) -> str:
        """``w`` or ``r``."""
        return self._file.mode

    def __enter__(self) -> NavigationSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, observation: Observation) -> NavigationResult:
        """Remember one observation; returns what it changed.

        Raises:
            InputError: for an observation that cannot be used; the map is as before.
            SinkError: when the file cannot be written; what it says is remembered in memory, and
                written with the next step that succeeds.
        """
        with self._lock:
            self._must_write()
            state = self.state
            result = observe(state, observation)
            full = state.octree.bricks.full
            if full or (state.memories and state.frame % self.config.store.commit_every == 0):
                self.commit(fold=full)
            return replace(result, committed=not state.memories)

    def commit(self, *, fold: bool = False) -> None:
        """Write all that is not in the file yet; ``fold`` also folds looks into bricks."""
        with self._lock, self._file.writing() as sql:
            self.state.save(sql, fold=fold)
        self.state.saved()

    def where(
        self,
        query: str | ArrayLike | None = None,
        *,
        near: ArrayLike | None = None,
        at: float | None = None,
        k: int = 5,
        write: bool = False,
    ) -> list[Hit]:
        """Find remembered things.

        Args:
            query: words, or an embedding ``(d,)``; None for whatever is near.
            near: ``(3,)`` metres or a pose ``(4, 4)``: prefer what is near there.
            at: seconds: as it was known then; None for now.
            k: hits at most.
            write: whether being found counts as a use in short memory.

        Returns:
            Hits, best first; empty when nothing is known.

        Raises:
            InputError: for a question that is none, or of another width than the map's embeddings.
        """
        with self._lock:
            self._refresh()
            return queries.where(
                self.state, query, near, at, k, write, lambda key, end: self.recall(key, at=end)
            )

    def resolve(self, what: Any, role: str = "target") -> Target:
        """Where something is, and what it is in this map.

        Args:
            what: a position ``(3,)`` metres or ``"x,y,z"``, a key such as ``landmark:12``, or
                words, of which the best hit is taken; None for where the observer is.
            role: what it is needed for, for messages.

        Raises:
            InputError: when it is not known here.
        """
        with self._lock:
            self._refresh()
            return queries.resolve(self.state, what, role)

    def nearest_words(self, text: str, k: int = 5) -> list[str]:
        """Words of remembered names that are spelled much like those of a question."""
        with self._lock:
            self._refresh()
            return queries.nearest_words(self.state, text, k)

    def recall(
        self, key: Key | str, *, at: float | None = None, limit: int | None = None
    ) -> list[Memory]:
        """The history of a leaf, place or landmark, oldest first, byte for byte.

        Args:
            key: or its text, such as ``landmark:12``, or words, of which the best hit is taken.
            at: seconds; leaves out what came later. None for all.
            limit: only the latest so many; None for all.

        Raises:
            InputError: for words that nothing remembered fits.
        """
        with self._lock:
            self._settle()
            key = queries.key_of(self.state, key) if isinstance(key, str) else key
            with self._file.reading() as sql:
                return self.state.journal.recall(sql, key, at, limit)

    def memories(self, seqs: ArrayLike) -> list[Memory]:
        """Memories by journal id, as hits name them; those forgotten are left out."""
        with self._lock:
            self._settle()
            with self._file.reading() as sql:
                ids = np.atleast_1d(np.asarray(seqs, np.int64)).tolist()
                return self.state.journal.get(sql, ids)

    def plan(self, goal: Any, start: Any = None) -> Route:
        """The shortest way along remembered places.

        Args:
            goal: as ``resolve``: a position ``(3,)`` metres, a key such as ``place:3``, or words.
            start: likewise; None for where the observer is.

        Raises:
            InputError: when either is not known, or no way leads there.
        """
        with self._lock:
            self._refresh()
            return queries.plan(self.state, goal, start)

    def route(self, goal: Any, start: Any = None) -> Route:
        """The shortest way over the floor where space is mapped, else along places, as ``plan``."""
        with self._lock:
            self._refresh()
            return queries.route(self.state, goal, start)

    def correct(self, poses: Mapping[int, ArrayLike]) -> int:
        """Move places, and everything that was seen from them, after a closed loop.

        New ``(4, 4)`` camera-to-world poses by place id are those of ``topology.close_loop``; other
        places follow the nearest of these. Returns how many places moved.
        """
        with self._lock:
            self._must_write()
            moved = edits.correct(self.state, poses)
            self.commit(fold=True)
            return moved

    def relocate(self, landmark_id: int, sighting: Sighting, pose: ArrayLike) -> None:
        """Say that a landmark has moved: it is where it was just seen, and no more where it was.

        What was remembered of it stays.

        Args:
            landmark_id: of a landmark that is there.
            sighting: the latest of it.
            pose: ``(4, 4)`` camera-to-world from which it was made, metres.
        """
        with self._lock:
            self._must_write()
            edits.relocate(self.state, landmark_id, sighting, np.asarray(pose, np.float64))
            self.commit()

    def forget(
        self,
        *,
        region: tuple[ArrayLike, ArrayLike] | None = None,
        landmark: int | str | None = None,
        before: float | None = None,
    ) -> dict[str, int]:
        """Take something out of memory and file for good; exactly one of these.

        Args:
            region: two corners ``(3,)`` metres: space, landmarks and places in that box.
            landmark: its id, ``landmark:ID``, or its exact name.
            before: seconds: memories older than that; landmarks of which none is left go, too.

        Returns:
            How many memories, landmarks, places and leaves went.

        Raises:
            InputError: for a landmark that is not known, or a name that several have.
        """
        if sum(each is not None for each in (region, landmark, before)) != 1:
            raise InputError("forget exactly one of region, landmark and before")
        with self._lock:
            self._must_write()
            number = None if landmark is None else queries.landmark_id(self.state, landmark)
            self.commit()
            with self._file.writing() as sql:
                sql.execute("PRAGMA secure_delete=ON")
                gone = edits.forget(self.state, sql, region, number, before)
                self.state.events.append((self.state.now_s, "forget", dict(gone)))
                self.state.save(sql, fold=True)
            self.state.saved()
            with self._file.told():
                self._file.sql.execute("PRAGMA secure_delete=FAST")
                # The log still holds what was there before.
                self._file.sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return gone

    def rebuild(self) -> int:
        """Work out all landmarks anew from the journal; returns how many there are."""
        with self._lock:
            self._must_write()
            self.commit()
            with self._file.reading() as sql:
                edits.rebuild(self.state, sql)
            self.commit(fold=True)
            return len(self.state.landmarks)

    def check(self) -> int:
        """Look through file and journal; returns how many memories were checked.

        Raises:
            ModelError: for anything that is damaged.
        """
        with self._lock:
            self._settle()
            self._file.check()
            with self._file.reading() as sql:
                return sum(1 for _ in self.state.journal.all(sql))

    def usage(self) -> NavigationUsage:
        """What is held now, in memory and in the file."""
        with self._lock:
            state, detail = self.state, self.state.detail()
            entries = len(state.landmarks) + len(state.topology.places) + len(state.short)
            with self._file.reading() as sql:
                memories = state.journal.count(sql) + len(state.memories)
            return NavigationUsage(
                entries, sum(detail.values()), detail, self._file.file_bytes(), memories
            )

    def reset(self) -> None:
        """Forget everything; equal to a new map with the same settings."""
        with self._lock:
            self._must_write()
            self._file.clear()
            encoder = self.state.encoder
            self.state = self._empty()
            self.state.encoder = encoder
            with self._file.writing() as sql:
                put_meta(sql, {**self._identity(), "encoder": encoder})

    def state_dict(self) -> dict[str, Any]:
        """The whole map as plain values and tensors."""
        import torch  # only here: a map needs no networks

        return {"map": torch.from_numpy(np.frombuffer(self.content(), np.uint8).copy())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken; what was in this map is lost.

        Raises:
            ModelError: for a state of something else.
        """
        import torch

        content = state.get("map")
        if not isinstance(content, torch.Tensor) or content.dtype != torch.uint8:
            raise ModelError("this is no state of a spatial memory: it has no map")
        self.become(content.cpu().numpy().tobytes())

    def content(self) -> bytes:
        """The whole map as the bytes of a file."""
        with self._lock:
            self._settle()
            return self._file.content()

    def become(self, content: bytes) -> None:
        """Continue as the map whose ``content`` this is; raises as ``load_state_dict``."""
        with self._lock:
            self._must_write()
            self._file.replace(content)
            self._open(self.config, "", self._corner)

    def close(self) -> None:
        """Write what is left and let go of the file; safe to call twice."""
        with self._lock:
            try:
                if self._file.mode == "w" and self._file._sql is not None and self.state.memories:
                    self.commit()
            finally:
                self._file.close()

    # -- inside --------------------------------------------------------------------------------

    def _must_write(self) -> None:
        if self._file.mode == "r":
            raise InputError(f"map {self._file.path} is open for reading only; use mode 'w'")
        _ = self._file.sql

    def _settle(self) -> None:
        """Bring file and memory together before the file is read."""
        if self._file.mode == "w" and self.state.memories:
            self.commit()
        self._refresh()

    def _refresh(self) -> None:
        """A reader takes in what the writer wrote meanwhile."""
        if self._file.mode == "r" and self._file.version_seen() != self._seen:
            self.state = self._empty()
            self._load()
