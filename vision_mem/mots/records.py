"""What a multi-object session keeps of a track, and what it says of a frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.mots.gallery import Known, Looks
from vision_mem.mots.lifecycle import CONFIRMED, STATES, Life
from vision_mem.tracking.kalman import BoxMotion
from vision_mem.tracking.memory_bank import MaskMemory
from vision_mem.tracking.objects import TrackedObject, UsedIds, motion_of, motion_state
from vision_mem.types import Event, MemoryUsage, ResultViews, ZoneCounts, object_text

if TYPE_CHECKING:
    from vision_mem.types import Pixels

Place = tuple[float, float, float, float]


@dataclass(frozen=True)
class Track:
    """One identity that is followed now.

    Attributes:
        object: what the tracking engine knows of it; its id and name too.
        life: what the rules know of it.
        label: class number, that of its first detection.
        class_name: the word for it.
        looks: what it looks like; None before a good view.
        box: pixels where it was last seen.
        seen_index, seen_s: when that was.
        proven: whether it was ever confirmed.
        hidden: never shown (the object that Seg2Track-SAM2 invents on an empty first frame).
        tries: bad frames so far, for the ``official`` rules.
        path: how its box moves, frame pixels; None before it was seen.
        blind: frames since that was corrected by something seen.
        cut: whether its prompts so far show only what the picture's edge left of it.
        boxed: whether its latest detection was a box that is reported as it is.
        margins: how far that box reached beyond the bounds of the mask, left, top, right and
            bottom, in widths and heights of those; None where the two had little in common.
        cutout: ``(h, w)`` bool, the latest mask within its bounds; None where each frame makes one.
        carried: frames in a row on which the mask went along with boxes.
    """

    object: TrackedObject
    life: Life
    label: int
    class_name: str
    looks: Looks | None = None
    box: Place = (0.0, 0.0, 0.0, 0.0)
    seen_index: int = 0
    seen_s: float = 0.0
    proven: bool = False
    hidden: bool = False
    tries: int = 0
    path: BoxMotion | None = None
    blind: int = 0
    cut: bool = False
    boxed: bool = False
    margins: Place | None = None
    cutout: NDArray[np.bool_] | None = None
    carried: int = 0

    @property
    def object_id(self) -> int:
        """Its id, for ever."""
        return self.object.object_id

    def living(self, life: Life) -> Track:
        """The track with another life."""
        return replace(self, life=life, proven=self.proven or life.state == CONFIRMED)

    def known(self, size: tuple[int, int]) -> Known | None:
        """What a gallery keeps of it; None when it was never seen well.

        Args:
            size: ``(height, width)`` of the frames.
        """
        if self.looks is None:
            return None
        return Known(
            self.object_id, self.object.name, self.label, self.class_name, self.looks,
            self.box, self.life.area, size, self.seen_index, self.seen_s,
        )  # fmt: skip

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """All tensors held with the kind of each; shared ones come up more than once."""
        yield from self.object.memory.tensors()
        if self.looks is not None:
            for tensor in self.looks.tensors():
                yield "looks", tensor
        if self.path is not None:
            yield "paths", torch.from_numpy(self.path.mean)
            yield "paths", torch.from_numpy(self.path.covariance)
        if self.cutout is not None:
            yield "masks", torch.from_numpy(self.cutout)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        looks = self.looks
        return {
            "object": self.object.state_dict(),
            "life": asdict(self.life),
            "label": self.label,
            "class_name": self.class_name,
            "colours": None if looks is None else looks.colours,
            "embedding": None if looks is None else looks.embedding,
            "box": list(self.box),
            "seen_index": self.seen_index,
            "seen_s": self.seen_s,
            "proven": self.proven,
            "hidden": self.hidden,
            "tries": self.tries,
            **motion_state(self.path),
            "blind": self.blind,
            "cut": self.cut,
            "boxed": self.boxed,
            "margins": None if self.margins is None else list(self.margins),
            "cutout": None if self.cutout is None else torch.from_numpy(self.cutout),
            "carried": self.carried,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], blank: MaskMemory, device: torch.device) -> Track:
        """Rebuild from ``state_dict``; see ``TrackedObject``."""
        life = Life(**state["life"])
        if life.state not in STATES:
            raise ValueError(f"unknown state {life.state!r}")
        x1, y1, x2, y2 = (float(value) for value in state["box"])
        looks = None
        if state["colours"] is not None:
            looks = Looks(state["colours"].cpu(), state["embedding"].cpu())
        kinds: dict[str, Any] = {
            "label": int,
            "class_name": str,
            "seen_index": int,
            "seen_s": float,
        }
        kinds |= {"proven": bool, "hidden": bool, "tries": int, "blind": int, "cut": bool}
        return cls(
            TrackedObject.from_state(state["object"], blank, device),
            life,
            looks=looks,
            box=(x1, y1, x2, y2),
            path=motion_of(state),
            boxed=bool(state.get("boxed", False)),
            margins=_place_or_none(state.get("margins")),
            cutout=None if state.get("cutout") is None else state["cutout"].cpu().numpy(),
            carried=int(state.get("carried", 0)),
            **{name: kind(state[name]) for name, kind in kinds.items()},
        )


@dataclass(frozen=True)
class MotsState:
    """Everything about one stream that outlives a frame. Replaced, never changed.

    Attributes:
        tracks: by id, in the order they were born.
        gallery: removed tracks, oldest first.
        ids: ever given.
        steps: frames seen.
        size: ``(height, width)`` of the latest frame.
        grid_size: of the segmenter on it.
        frame_index, time_s: of the latest frame.
        events: of edits since then.
        counts: of what is worth a remark when the run ends, see ``Making.counts``.
        view: ``(h, w)`` uint8, the latest frame reduced, from which the camera's motion to the
            next one is told; None where nobody asks for it.
    """

    tracks: Mapping[int, Track] = field(default_factory=dict)
    gallery: tuple[Known, ...] = ()
    ids: UsedIds = UsedIds()
    steps: int = 0
    size: tuple[int, int] | None = None
    grid_size: tuple[int, int] | None = None
    frame_index: int | None = None
    time_s: float = 0.0
    events: tuple[Event, ...] = ()
    view: NDArray[np.uint8] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {
            "counts": dict(self.counts),
            "view": None if self.view is None else torch.from_numpy(self.view),
            "tracks": [track.state_dict() for track in self.tracks.values()],
            "gallery": [known.state_dict() for known in self.gallery],
            "used_ids": [list(span) for span in self.ids.ranges],
            "steps": self.steps,
            "size": None if self.size is None else list(self.size),
            "grid_size": None if self.grid_size is None else list(self.grid_size),
            "frame_index": self.frame_index,
            "time_s": self.time_s,
            "events": [asdict(event) for event in self.events],
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], blank: MaskMemory, device: torch.device
    ) -> MotsState:
        """Rebuild from ``state_dict``; see ``TrackedObject``."""
        tracks = [Track.from_state(one, blank, device) for one in state["tracks"]]
        index = state["frame_index"]
        return cls(
            tracks={track.object_id: track for track in tracks},
            gallery=tuple(Known.from_state(one) for one in state["gallery"]),
            ids=UsedIds.of(state["used_ids"]),
            steps=int(state["steps"]),
            size=pair_of(state["size"]),
            grid_size=pair_of(state["grid_size"]),
            frame_index=None if index is None else int(index),
            time_s=float(state["time_s"]),
            events=tuple(Event(**event) for event in state["events"]),
            view=None if state.get("view") is None else state["view"].cpu().numpy(),
            counts={str(k): int(v) for k, v in state.get("counts", {}).items()},
        )


def _place_or_none(value: Any) -> Place | None:
    if value is None:
        return None
    x1, y1, x2, y2 = (float(one) for one in value)
    return x1, y1, x2, y2


def pair_of(value: Any) -> tuple[int, int] | None:
    """Two whole numbers of a ``state_dict``, or None."""
    return None if value is None else (int(value[0]), int(value[1]))


@dataclass(frozen=True)
class TrackResult:
    """One track on one frame.

    Attributes:
        object_id: its id, for ever.
        name: a word for people.
        label: class number of the detection it was born from.
        class_name: the word for the class.
        state: ``tentative``, ``confirmed``, ``weak`` or ``lost``.
        present: whether it is to be shown: in view, with a mask or a detection.
        mask: ``(H, W)`` bool at the frame's size; masks of a frame do not overlap. Empty where a
            detection is sure and others hide all of it, as far as can be told.
        box: float32 ``(4,)`` pixels, right and bottom exclusive; zeros when absent.
        score: estimated IoU of the mask with the truth, or the detector's where the mask is empty;
            0 when absent; [0, 1].
        detection: which detection of this frame it is, as a position in what was given; None.
        diary: why it came out this way. JSON-ready values only.
        identity: who it is across cameras, where sessions share a gallery and it is known.
    """

    object_id: int
    name: str
    label: int
    class_name: str
    state: str
    present: bool
    mask: NDArray[np.bool_]
    box: NDArray[np.float32]
    score: float
    detection: int | None = None
    diary: Mapping[str, Any] = field(default_factory=dict)
    identity: int | None = None

    def __repr__(self) -> str:
        return object_text(self)


@dataclass(frozen=True, repr=False)
class MotsResult(ResultViews):
    """What a multi-object session says about one frame.

    ``result[3]`` and ``result["car-3"]`` are the track of that id or name.

    Attributes:
        frame_index, time_s: those of the frame.
        size: ``(height, width)`` of the frame.
        tracks: every track that is followed, by the order of birth.
        events: born, confirmed, weak, lost, found, removed, merged, split, corrected, renamed.
        pixels: the frame's image, or what gets it, for ``image`` and ``plot``; None without.
        zones: zones and lines with their counts, where a ``ZoneCounter`` watches.
    """

    frame_index: int
    time_s: float
    size: tuple[int, int]
    tracks: tuple[TrackResult, ...]
    events: tuple[Event, ...] = ()
    pixels: Pixels = field(default=None, repr=False, compare=False)
    zones: tuple[ZoneCounts, ...] = ()

    @property
    def objects(self) -> tuple[TrackResult, ...]:
        """The tracks, under the name that drawings and files know."""
        return self.tracks

    @property
    def shown(self) -> tuple[TrackResult, ...]:
        """The tracks that are to be seen."""
        return tuple(track for track in self.tracks if track.present)

    def __getitem__(self, who: int | str) -> TrackResult:
        for track in self.tracks:
            if who in (track.object_id, track.name):
                return track
        known = [f"{track.object_id} ({track.name})" for track in self.tracks]
        raise KeyError(f"no track {who} on frame {self.frame_index}; known: {', '.join(known)}")


@dataclass(frozen=True)
class MotsUsage(MemoryUsage):
    """What a session's memory holds, in all and of each track.

    Attributes:
        tracks: bytes by id; what tracks share counts for each of them, but once in ``bytes``.
    """

    tracks: Mapping[int, int] = field(default_factory=dict)
