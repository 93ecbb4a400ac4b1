"""One gallery for several sessions: who was seen by one camera is known to the others.

Tracks keep the ids of their sessions. What several tracks share is an identity of the gallery,
which is told a track's looks now and then, and says who that is. Times of all cameras are taken
for those of one clock.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vision_mem.config import check_range
from vision_mem.errors import ModelError
from vision_mem.formats.snapshot import load_snapshot, save_snapshot
from vision_mem.mots.gallery import Looks, alike, blended, looks_of
from vision_mem.mots.lifecycle import CONFIRMED
from vision_mem.mots.records import MotsResult, MotsState
from vision_mem.mots.regions import region_of
from vision_mem.mots.truncation import at_edge
from vision_mem.types import MemoryUsage

KIND = "shared-gallery"
_RECORD = 1024
"""Bytes counted for the plain values of an identity, beside those of its looks."""
_LOOK_EVERY = 5  # frames between two looks at a track
_WHOLE = 0.6  # share of its usual area that a track shows when its looks are taken
_VIEWS = 4  # cameras whose looks of an identity are kept
_TRACKS = 16  # tracks that an identity remembers


@dataclass(frozen=True)
class SharedGalleryConfig:
    """How identities are told apart.

    Attributes:
        budget_mb: MiB that all identities may hold; the one not seen longest is forgotten first.
        min_similarity: alikeness needed for two tracks to be one, [0, 1].
        margin: by how much the best must beat the second best.
        max_age_s: seconds since an identity was last seen; 0 for ever.
        looks: of a track until it is decided who it is; earlier looks may be put right.
    """

    budget_mb: float = 16.0
    min_similarity: float = 0.86
    margin: float = 0.03
    max_age_s: float = 0.0
    looks: int = 3

    def __post_init__(self) -> None:
        check_range(self, ("min_similarity", "margin"), 0, 1)
        check_range(self, ("budget_mb", "max_age_s"), 0)
        check_range(self, ("looks",), 1)


@dataclass(frozen=True)
class SharedIdentity:
    """Somebody whom one or several cameras saw.

    Attributes:
        identity: its number, from 1, for ever.
        class_name: the word for its class.
        views: looks by camera, the latest camera last.
        tracks: ``(camera, object id)`` of its tracks, the latest last.
        seen_s: when it was last seen, by camera.
    """

    identity: int
    class_name: str
    views: Mapping[str, Looks]
    tracks: tuple[tuple[str, int], ...]
    seen_s: Mapping[str, float]

    @property
    def latest_s(self) -> float:
        """When it was last seen by any camera."""
        return max(self.seen_s.values())

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {
            "identity": self.identity,
            "class_name": self.class_name,
            "views": [
                {"camera": camera, "colours": looks.colours, "embedding": looks.embedding}
                for camera, looks in self.views.items()
            ],
            "tracks": [list(track) for track in self.tracks],
            "seen_s": dict(self.seen_s),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SharedIdentity:
        """Rebuild from ``state_dict``."""
        views = {
            str(one["camera"]): Looks(one["colours"].cpu(), one["embedding"].cpu())
            for one in state["views"]
        }
        tracks = tuple((str(camera), int(track)) for camera, track in state["tracks"])
        seen = {str(camera): float(at) for camera, at in state["seen_s"].items()}
        if not views or not seen:
            raise ValueError("an identity without looks")
        return cls(int(state["identity"]), str(state["class_name"]), views, tracks, seen)


@dataclass
class _Counts:
    """What the gallery counts up: the next number, and looks at each track that is undecided."""

    number: int = 1
    looks: dict[tuple[str, int], int] = field(default_factory=dict)


class SharedGallery:
    """Who is who across cameras; any number of sessions may share it, from threads of their own.

    ``MotsSession.share`` connects a session; ``TrackResult.identity`` is what it is told.

    Args:
        config: settings.
    """

    def __init__(self, config: SharedGalleryConfig | None = None) -> None:
        self.config = config or SharedGalleryConfig()
        self._known: dict[int, SharedIdentity] = {}
        self._owner: dict[tuple[str, int], int] = {}
        self._counts = _Counts()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def identities(self) -> tuple[SharedIdentity, ...]:
        """All who are known, the one not seen longest first."""
        with self._lock:
            return tuple(self._known.values())

    def identity_of(self, camera: str, object_id: int) -> int | None:
        """The identity of a track; None while it is not known, or forgotten."""
        return self._owner.get((camera, object_id))

    def see(self, camera: str, object_id: int, class_name: str, looks: Looks, time_s: float) -> int:
        """Take in the looks of a track, and say who it is.

        Args:
            camera: whose track it is.
            object_id: of the track.
            class_name: only those of one class are compared.
            looks: what it looks like now.
            time_s: now, by the clock of all cameras.

        Returns:
            The identity. Within the first ``config.looks`` looks it may still change.
        """
        key = (camera, object_id)
        with self._lock:
            own = self._owner.get(key)
            count = self._counts.looks.get(key, 0) if own is not None else 0
            if own is None or count < self.config.looks:
                other = self._recognised(key, class_name, looks, time_s, own)
                if other is not None and own is not None:
                    self._leave(own, key)
                own = other if other is not None else own
                self._counts.looks[key] = count + 1
            if own is None:
                own, self._counts.number = self._counts.number, self._counts.number + 1
                self._known[own] = SharedIdentity(own, class_name, {}, (), {})
            self._owner[key] = own
            self._note(own, key, looks, time_s)
            self._fit(own)
            return own

    def release(self, camera: str) -> None:
        """Forget which tracks of a camera are who, as when its ids begin anew; all stay known."""
        with self._lock:
            for key in [key for key in self._owner if key[0] == camera]:
                own = self._known[self._owner.pop(key)]
                tracks = tuple(one for one in own.tracks if one != key)
                self._known[own.identity] = replace(own, tracks=tracks)
                self._counts.looks.pop(key, None)

    def usage(self) -> MemoryUsage:
        """What is held, in bytes: looks, and a kilobyte for the plain values of each identity."""
        with self._lock:
            looks = sum(_bytes(one) - _RECORD for one in self._known.values())
            plain = _RECORD * len(self._known)
        return MemoryUsage(len(self._known), looks + plain, {"looks": looks, "records": plain})

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        with self._lock:
            return {
                "number": self._counts.number,
                "known": [one.state_dict() for one in self._known.values()],
                "looks": [[*key, n] for key, n in self._counts.looks.items()],
            }

    def save(self, path: str | Path) -> None:
        """Write everything to one file, whole or not at all.

        Raises:
            SinkError: when it cannot be written.
        """
        save_snapshot(path, self.state_dict(), {"kind": KIND, "config": asdict(self.config)})

    @classmethod
    def load(cls, path: str | Path, config: SharedGalleryConfig | None = None) -> SharedGallery:
        """Read what ``save`` wrote.

        Args:
            path: the file.
            config: other settings than it was made with; what is over their budget is forgotten.

        Raises:
            ModelError: for a file that is missing, damaged, or of something else; one line.
        """
        state, header = load_snapshot(path)
        if header.get("kind") != KIND:
            raise ModelError(f"{path} is no gallery of several cameras; expected one from save()")
        try:
            made = cls(config or SharedGalleryConfig(**header["config"]))
            for one in map(SharedIdentity.from_state, state["known"]):
                made._known[one.identity] = one
                made._owner.update(dict.fromkeys(one.tracks, one.identity))
            counted = {(str(camera), int(key)): int(n) for camera, key, n in state["looks"]}
            made._counts = _Counts(int(state["number"]), counted)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{path} is damaged, or of another version of the gallery") from error
        made._fit(None)
        return made

    def _recognised(
        self, key: tuple[str, int], class_name: str, looks: Looks, time_s: float, own: int | None
    ) -> int | None:
        """Whose looks these are; None for nobody, or nobody surely."""
        config, camera = self.config, key[0]
        found = []
        for one in self._known.values():
            if one.identity == own or one.class_name != class_name or not one.views:
                continue
            if 0 < config.max_age_s < time_s - one.latest_s:
                continue
            # Who is before this camera as another track now, or nearly so, is somebody else.
            there = any(c == camera and k != key[1] for c, k in one.tracks)
            if there and time_s - one.seen_s.get(camera, -np.inf) < 1.0:
                continue
            found.append((max(alike(view, looks) for view in one.views.values()), one.identity))
        found.sort(reverse=True)
        if not found or found[0][0] < config.min_similarity:
            return None
        if len(found) > 1 and found[0][0] - found[1][0] < config.margin:
            return None
        return found[0][1]

    def _note(self, own: int, key: tuple[str, int], looks: Looks, time_s: float) -> None:
        one, camera = self._known.pop(own), key[0]  # the latest goes last
        views = dict(one.views)
        views[camera] = blended(views.pop(camera, None), looks, 0.2)
        views = dict(list(views.items())[-_VIEWS:])
        tracks = (*(track for track in one.tracks if track != key), key)
        for gone in tracks[:-_TRACKS]:
            self._owner.pop(gone, None)
            self._counts.looks.pop(gone, None)
        seen = {name: at for name, at in one.seen_s.items() if name in views} | {camera: time_s}
        self._known[own] = replace(one, views=views, tracks=tracks[-_TRACKS:], seen_s=seen)

    def _leave(self, own: int, key: tuple[str, int]) -> None:
        """A track turns out to be somebody else; who was only this track is no one."""
        one = self._known[own]
        rest = tuple(track for track in one.tracks if track != key)
        if rest:
            self._known[own] = replace(one, tracks=rest)
        else:
            del self._known[own]

    def _fit(self, own: int | None) -> None:
        """Forget who was not seen longest until the budget holds; never the one just seen."""
        budget = int(self.config.budget_mb * 2**20)
        held = sum(map(_bytes, self._known.values()))
        while held > budget:
            oldest = next((one for one in self._known.values() if one.identity != own), None)
            if oldest is None:
                return
            held -= _bytes(oldest)
            del self._known[oldest.identity]
            for key in oldest.tracks:
                self._owner.pop(key, None)
                self._counts.looks.pop(key, None)


def _bytes(one: SharedIdentity) -> int:
    tensors: Sequence[torch.Tensor] = [t for view in one.views.values() for t in view.tensors()]
    return _RECORD + sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def with_identities(
    gallery: SharedGallery, camera: str, state: MotsState, result: MotsResult
) -> MotsResult:
    """A result whose tracks have the identities of a gallery, which is told what they look like.

    Args:
        gallery: of all cameras.
        camera: this one.
        state: of its session after the frame.
        result: of the frame, with its image.
    """
    image = result.image
    tracks = []
    for each in result.tracks:
        own, track = gallery.identity_of(camera, each.object_id), state.tracks.get(each.object_id)
        due = own is None or track is None or track.life.frames % _LOOK_EVERY == 0
        if (
            due and image is not None and track is not None and track.looks is not None
            and each.present and track.life.state == CONFIRMED
            and not at_edge(each.box, result.size).any()
        ):  # fmt: skip
            region = region_of(each.mask)
            if region.area >= max(_WHOLE * track.life.area, 1.0):
                vector = track.looks.embedding.numpy()
                looks = looks_of(image, region, vector if len(vector) else None)
                own = gallery.see(camera, each.object_id, each.class_name, looks, result.time_s)
        tracks.append(replace(each, identity=own))
    return replace(result, tracks=tuple(tracks))
