"""One frame in the making: what both sets of rules do to it, and its result.

The working values live for one step only; the session's state is replaced when all is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.boxes import clip_box, is_empty
from vision_mem.geometry.camera_motion import camera_motion, carried_box, reduced
from vision_mem.models.segmenters.protocol import ImageFeatures
from vision_mem.mots.gallery import Known
from vision_mem.mots.records import MotsResult, MotsState, Track, TrackResult
from vision_mem.mots.regions import Region, detected, region_of
from vision_mem.tracking.engine import Draft, Engine, apply_boxes, can_go_together
from vision_mem.tracking.kalman import carried, predict
from vision_mem.tracking.objects import UsedIds
from vision_mem.tracking.parallel import mapped
from vision_mem.tracking.prompts import fit_prompt
from vision_mem.types import Detections, Event, Frame, Prompt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundObject:
    """One detection that is worth a look.

    Attributes:
        number: its position in what was given.
        region: where it is.
        score, label, class_name: of the detector.
        embedding: ``(d,)`` appearance of the detector, or None.
    """

    number: int
    region: Region
    box: NDArray[np.float32]
    score: float
    label: int
    class_name: str
    embedding: NDArray[np.float32] | None


def found_in(
    detections: Detections, which: Sequence[int], size: tuple[int, int]
) -> list[FoundObject]:
    """Some detections of a frame of ``(height, width)``, in the order of ``which``."""
    regions = detected(detections.take(list(which)), size) if len(which) else []
    given = detections.embeddings
    return [
        FoundObject(
            number=n,
            region=region,
            box=detections.boxes[n],
            score=float(detections.scores[n]),
            label=int(detections.labels[n]),
            class_name=detections.name_of(n),
            embedding=None if given is None else given[n],
        )
        for n, region in zip(which, regions, strict=True)
    ]


@dataclass
class Answers:
    """What the detector said of a frame, and whom it meant.

    Attributes:
        found: detections worth a look, from the highest score down.
        answered: whether it answered at all.
        absence_counts: whether not being detected says anything.
        pairs: position in ``found`` to the id of its track.
        iou: overlap by which each of those tracks was matched.
        born: ids of tracks that began, or came back, on this frame.
        parts: positions in ``found`` of what shows a part of its track only.
    """

    found: list[FoundObject]
    answered: bool
    absence_counts: bool
    pairs: dict[int, int] = field(default_factory=dict)
    iou: dict[int, float] = field(default_factory=dict)
    born: set[int] = field(default_factory=set)
    parts: set[int] = field(default_factory=set)

    def boxed(self, each: FoundObject) -> bool:
        """Whether a detection is a box alone, of a detector that reports absence."""
        return self.absence_counts and each.region.mask is None

    def left(self) -> list[int]:
        """Positions of detections without a track."""
        return [n for n in range(len(self.found)) if n not in self.pairs]


@dataclass
class Making:
    """A frame in the making.

    Attributes:
        engine, state, frame, features: given.
        tracks: by id; replaced as rules go on.
        drafts: what the segmenter made of those that were looked for.
        regions: their masks at the frame's size.
        gallery, ids, events: as they become.
        logits: low-resolution masks, for corrections of this frame.
        diaries: why each track came out as it did.
        carried: tracks whose masks went along with boxes: nobody looked, and their scores are
            those of before.
        counts: over the whole run: prompts ``cut`` at the picture's edge, ``unusable`` ones, new
            tracks ``refused`` and tentative ones ``replaced`` because there were too many.
        view: see ``MotsState``.
    """

    engine: Engine
    state: MotsState
    frame: Frame
    features: ImageFeatures
    tracks: dict[int, Track]
    drafts: dict[int, Draft] = field(default_factory=dict)
    regions: dict[int, Region] = field(default_factory=dict)
    gallery: tuple[Known, ...] = ()
    ids: UsedIds = UsedIds()
    events: list[Event] = field(default_factory=list)
    logits: dict[int, torch.Tensor] = field(default_factory=dict)
    diaries: dict[int, dict[str, Any]] = field(default_factory=dict)
    view: NDArray[np.uint8] | None = None
    carried: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        engine: Engine,
        state: MotsState,
        frame: Frame,
        features: ImageFeatures,
        *,
        watch: bool = False,
    ) -> Making:
        """Start from the state as it is; paths lead on to this frame.

        With ``watch``, what was seen before is carried along with the camera.
        """
        view = reduced(frame.image) if watch else None
        if view is not None and state.view is not None and (state.tracks or state.gallery):
            camera = camera_motion(state.view, view)
            if camera is not None and camera.sure:
                factor = max(frame.size) / max(view.shape)
                state = _carried(state, camera.scaled(factor))
        tracks = {
            key: track
            if track.path is None
            else replace(track, path=predict(track.path), blind=track.blind + 1)
            for key, track in state.tracks.items()
        }
        return cls(
            engine, state, frame, features, tracks,
            gallery=state.gallery, ids=state.ids, events=list(state.events),
            view=view, counts=dict(state.counts),
        )  # fmt: skip

    def count(self, what: str, number: int = 1) -> None:
        """Add to what is said when the run ends."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + number

    def look(self, due: Callable[[Track], bool]) -> None:
        """Look for the tracks that are due; time goes on for the others."""
        wanted = [track for track in self.tracks.values() if due(track)]
        objects = [track.object for track in wanted]
        self.drafts = self.engine.track(self.features, objects, len(self.tracks))
        self.show(list(self.drafts))
        coast = self.engine.config.selection.motion_max_coast
        for object_id, track in self.tracks.items():
            if object_id not in self.drafts:
                self.tracks[object_id] = replace(track, object=track.object.skipped(coast))

    def look_again(self, object_id: int) -> Draft:
        """Look for a track that was not due; its draft."""
        if object_id not in self.drafts:
            # As the frame before left it: time went on for it when it was not due.
            before = self.state.tracks[object_id].object
            self.drafts |= self.engine.track(self.features, [before], len(self.tracks))
            self.show([object_id])
        return self.drafts[object_id]

    def carry(self, regions: Mapping[int, Region]) -> None:
        """Take masks of tracks that nobody looked for as they are."""
        self.regions |= regions
        self.carried |= regions.keys()

    def in_sight(self, object_id: int) -> bool:
        """Whether something is known of an object on this frame."""
        return object_id in self.drafts or object_id in self.carried

    def show(self, ids: Sequence[int]) -> None:
        """Bring the masks of some drafts to the frame's size."""
        engine = self.engine

        def render(some: Sequence[int]) -> list[tuple[int, torch.Tensor, Region]]:
            logits = [self.drafts[object_id].logits for object_id in some]
            masks = engine.masks(self.features, logits)
            return [
                (key, low, region_of(mask) if self.appears(key) else nothing(mask))
                for key, low, mask in zip(some, logits, masks, strict=True)
            ]

        groups = [ids] if engine.together else [[object_id] for object_id in ids]
        for made in mapped(render, groups, engine.threads):
            for object_id, low, region in made:
                self.logits[object_id], self.regions[object_id] = low, region

    def appears(self, object_id: int) -> bool:
        """Whether the segmenter believes that a looked-for object is to be seen."""
        logit = self.drafts[object_id].record.object_logit
        return logit > self.engine.config.appear_threshold

    def score(self, object_id: int) -> float:
        """Estimated IoU of a mask; 0 where the object is not to be seen."""
        if object_id not in self.drafts and object_id in self.carried:
            return self.tracks[object_id].life.score
        return self.estimate(object_id) if self.appears(object_id) else 0.0

    def estimate(self, object_id: int) -> float:
        """Estimated IoU of a mask, whether the object is to be seen or not."""
        return min(max(self.drafts[object_id].record.iou, 0.0), 1.0)

    def prompt(
        self, object_id: int, prompt: Prompt, known: Draft | None = None, *, checked: bool = True
    ) -> bool:
        """Show an object to the segmenter; its draft and region are replaced.

        Args:
            object_id: a new one, or one that was looked for.
            prompt: in pixels of the frame.
            known: what tracking made of it on this frame; None for a new one.
            checked: whether what does not lie in the frame is refused.

        Returns:
            Whether it could be done.
        """
        notes: list[str] = []
        if checked:
            try:
                prompt, notes = fit_prompt(prompt, self.frame.size)
            except InputError as error:
                log.info("frame %d: a detection is not used: %s", self.frame.index, error)
                self.count("unusable")
                return False
            self.count("cut", len(notes))
        self.drafts[object_id] = self.engine.apply_prompt(
            self.features, prompt, notes, object_id, known
        )
        self.show([object_id])
        return True

    def decode_together(
        self, prompts: Mapping[int, Prompt], known: Mapping[int, Draft] | None = None
    ) -> dict[int, Draft]:
        """Show several objects to the segmenter at once; nothing is replaced, see ``take``.

        Args:
            prompts: by number.
            known: what tracking made of them on this frame; None when all are new.

        Returns:
            A draft each; none at all when they have to be shown one by one.
        """
        inside = {
            key: replace(one, box=clip_box(one.box, *self.frame.size))
            for key, one in prompts.items()
            if one.box is not None and not is_empty(clip_box(one.box, *self.frame.size))
        }
        if len(inside) < len(prompts) or not can_go_together(self.engine, list(inside.values())):
            return {}
        for key, prompt in inside.items():
            self.count(
                "cut", not np.array_equal(np.asarray(prompt.box), np.asarray(prompts[key].box))
            )
        return apply_boxes(self.engine, self.features, inside, known)

    def take(self, object_id: int, draft: Draft, name: str) -> None:
        """Make a draft that of an object; its region is replaced."""
        after = replace(draft.after, object_id=object_id, name=name)
        self.drafts[object_id] = replace(draft, after=after)
        self.show([object_id])

    def rename(self, old: int, new: int, name: str) -> None:
        """Give what was made of an object on this frame another id."""
        draft = self.drafts.pop(old)
        after = replace(draft.after, object_id=new, name=name)
        self.drafts[new] = replace(draft, after=after)
        self.regions[new] = self.regions.pop(old)
        self.logits[new] = self.logits.pop(old)

    def take_back(self, object_id: int, draft: Draft) -> None:
        """Undo ``prompt``: the object was not there, and is not seen on this frame."""
        self.drafts[object_id] = draft
        self.show([object_id])
        mask = self.regions[object_id].mask
        assert mask is not None, "regions of drafts have masks"
        self.regions[object_id] = nothing(mask)

    def forget(self, object_id: int) -> None:
        """Drop what was made of an object on this frame."""
        del self.drafts[object_id], self.regions[object_id], self.logits[object_id]

    def remember(self, withheld: Mapping[int, str]) -> None:
        """Write what was looked at into the memories of the tracks that are still there."""
        drafts = {key: draft for key, draft in self.drafts.items() if key in self.tracks}
        kept = {key: why for key, why in withheld.items() if key in drafts}
        for object_id, outcome in self.engine.remember(self.features, drafts, kept).items():
            present = self.regions[object_id].area > 0
            after = replace(outcome.after, present=present)
            self.tracks[object_id] = replace(self.tracks[object_id], object=after)
            self.diaries[object_id] = outcome.diary

    def report(self, kind: str, object_id: int, name: str) -> None:
        """Add an event."""
        self.events.append(Event(kind, object_id, self.frame.index, self.frame.time_s, name))

    def finished(self, results: Sequence[TrackResult]) -> tuple[MotsState, MotsResult]:
        """The state after the frame, and its result."""
        frame = self.frame
        state = MotsState(
            self.tracks, self.gallery, self.ids, self.state.steps + 1, frame.size,
            self.features.grid_size, frame.index, frame.time_s,
            view=self.view if self.tracks or self.gallery else None, counts=self.counts,
        )  # fmt: skip
        events = tuple(self.events)
        tracks = tuple(results)
        return state, MotsResult(frame.index, frame.time_s, frame.size, tracks, events, frame.image)


def _carried(state: MotsState, matrix: NDArray[np.float64]) -> MotsState:
    """A state whose paths and places are where a camera's motion takes them."""

    def place(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        x1, y1, x2, y2 = (float(v) for v in carried_box(box, matrix))
        return (x1, y1, x2, y2)

    tracks = {
        key: replace(
            track, box=place(track.box),
            path=None if track.path is None else carried(track.path, matrix),
        )
        for key, track in state.tracks.items()
    }  # fmt: skip
    known = tuple(replace(one, box=place(one.box)) for one in state.gallery)
    return replace(state, tracks=tracks, gallery=known)


def nothing(mask: NDArray[np.bool_]) -> Region:
    """The region of an object that is not to be seen."""
    return Region(np.zeros(4, np.float32), np.zeros_like(mask), 0)
