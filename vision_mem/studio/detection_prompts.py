"""Follow everything: detections become prompts by the rules by which ``mots`` lets tracks live.

A detection that nobody claims is a candidate; once seen often enough it is confirmed and becomes an
object, from the frame on which it was seen first. Objects that are weak are shown to the segmenter
again by their detection; those that are lost for good end where they were lost. Each of these is a
command like a user's, so that the log replays without a detector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import load_config
from vision_mem.geometry.assignment import assign
from vision_mem.geometry.boxes import box_iou
from vision_mem.mots.association import compatible, match_by_overlap
from vision_mem.mots.birth import is_new, worth_a_look
from vision_mem.mots.config import MotsConfig, usual_preset
from vision_mem.mots.initiation import detection_prompt
from vision_mem.mots.lifecycle import (
    CONFIRMED,
    LOST,
    REMOVED,
    Life,
    TrackEvidence,
    advance,
    newborn,
    should_reprompt,
)
from vision_mem.mots.regions import (
    Region,
    bounds_ious,
    free_share,
    ious,
    region_of,
    region_of_box,
    share_inside,
)
from vision_mem.mots.step import FoundObject, found_in
from vision_mem.studio.commands import LONGEST_NAME, StudioCommand
from vision_mem.studio.results_store import Row
from vision_mem.types import Frame

_LEAST_SIDE = 8.0
"""Pixels; smaller things cannot be pointed at on the page, to correct or remove them."""
_ANY = -1
"""Class of what a user pointed at: it may be any detection."""


@dataclass(frozen=True)
class BirthCandidate:
    """Something that was detected and is no object yet.

    Attributes:
        frame: on which it was seen first.
        first: how it was seen then.
        latest: how it was seen last.
        life: what the rules know of it.
        unwanted: a user removed it; it is not to come again for as long as it is seen.
    """

    frame: int
    first: FoundObject
    latest: FoundObject
    life: Life
    unwanted: bool = False


@dataclass
class DetectedObject:
    """An object that a detector began and no user has touched since.

    Attributes:
        latest: its latest detection.
        life: what the rules know of it.
        lost_at: the frame on which it was lost; of no meaning in other states.
    """

    latest: FoundObject
    life: Life
    lost_at: int = 0


@dataclass
class _Sight:
    """One answer of the detector, and the objects on the frame it speaks of."""

    frame: int
    time_s: float
    size: tuple[int, int]
    found: list[FoundObject]
    regions: dict[int, Region]
    pairs: dict[int, int] = field(default_factory=dict)  # position of a detection to object
    iou: dict[int, float] = field(default_factory=dict)  # of the object with its detection


class DetectionPrompts:
    """A detector, and what it made of a stream so far.

    Args:
        detector: see ``models.detectors.Detector``.
        word: its name for people; says which rules of ``mots`` are the usual ones.
        config: other rules.
    """

    def __init__(self, detector: Any, word: str, config: MotsConfig | None = None) -> None:
        self.word, self._detector = word, detector
        self.config = config or load_config(MotsConfig, usual_preset([word]), folder="mots")
        self._candidates: list[BirthCandidate] = []
        self._asked: list[
            BirthCandidate
        ] = []  # in the order of the commands that they were made into
        self._detected: dict[int, DetectedObject] = {}
        self._count = 0

    def look(
        self, frame: Frame, objects: Callable[[int], Mapping[int, Row | None]]
    ) -> list[StudioCommand]:
        """Commands that add what is new, correct what is weak, and let go of what is gone.

        Args:
            frame: the next frame.
            objects: gives, of a frame that was seen, the objects that are followed there and what
                was found of them; None where it is still to be computed.
        """
        found = self._detector.detect(frame)
        at = frame.index if found is None or found.frame_index is None else found.frame_index
        rows = objects(at)
        for object_id in self._detected.keys() - rows.keys():
            del self._detected[object_id]
        sight = _Sight(at, frame.time_s, frame.size, [], {})
        for object_id, row in rows.items():
            if (region := self._region(object_id, row, frame.size)) is not None:
                sight.regions[object_id] = region
        if found is not None:
            which = worth_a_look(
                self.config.birth, found.boxes, found.scores, found.labels, frame.size
            )
            sides = found.boxes[:, 2:] - found.boxes[:, :2]
            which = [n for n in which if sides[n].min() >= _LEAST_SIDE]
            sight.found = found_in(found, which, frame.size)
        self._associate(sight)
        commands = self._judge(sight, rows, found is not None)
        self._asked = []
        return commands + (self._births(sight) if found is not None else [])

    def _region(self, object_id: int, row: Row | None, size: tuple[int, int]) -> Region | None:
        """Where an object is; what still catches up is where it was detected last."""
        if row is not None:
            return region_of(row.pixels()) if row.present else None
        known = self._detected.get(object_id)
        return None if known is None else region_of_box(known.latest.box, size)

    def _associate(self, sight: _Sight) -> None:
        ids = list(sight.regions)
        if not ids or not sight.found:
            return
        here, there = [one.region for one in sight.found], list(sight.regions.values())
        iou = np.maximum(ious(here, there), bounds_ious(here, there))
        labels = [self._label(object_id) for object_id in ids]
        config = self.config.association
        allowed = compatible([one.label for one in sight.found], labels, config.same_class)
        allowed |= np.array(labels)[None] == _ANY
        for place, column in match_by_overlap(config, iou, allowed, [False] * len(ids)).items():
            sight.pairs[place] = ids[column]
            sight.iou[ids[column]] = float(iou[place, column])

    def _label(self, object_id: int) -> int:
        known = self._detected.get(object_id)
        return _ANY if known is None else known.latest.label

    def _judge(
        self, sight: _Sight, rows: Mapping[int, Row | None], answered: bool
    ) -> list[StudioCommand]:
        """Move the life of each object of ours on by a frame."""
        config, commands = self.config, list[StudioCommand]()
        matched = {object_id: sight.found[n] for n, object_id in sight.pairs.items()}
        covered = self._covered(sight)
        for object_id, known in list(self._detected.items()):
            row, each = rows[object_id], matched.get(object_id)
            region = sight.regions.get(object_id) if row is not None else None
            elder, share = covered.get(object_id, (-1, 0.0))
            score = row.score if row is not None and row.present else 0.0
            seen = TrackEvidence(
                sight.time_s, looked=row is not None, score=score,
                area=0 if region is None else region.area, matched=each is not None,
                detector_score=0.0 if each is None else each.score, answered=answered,
                absence_counts=self._detector.reports_absence, covered=share,
                apart=each is not None and elder in matched,
            )  # fmt: skip
            before, life = (
                known.life,
                advance(config.lifecycle, config.existence, known.life, seen),
            )
            if life.state == LOST and before.state != LOST:
                known.lost_at = sight.frame
            known.life, known.latest = life, each or known.latest
            if life.state == REMOVED:
                del self._detected[object_id]
                commands.append(StudioCommand("remove", known.lost_at, object_id, by="detector"))
            elif each is not None and region is not None and should_reprompt(
                config.reprompt, before, weak_now=score < config.lifecycle.good_score,
                detector_score=each.score, iou=sight.iou[object_id],
                box_iou=float(box_iou(each.box, region.box)),
            ):  # fmt: skip
                prompt = detection_prompt(config.birth, each, None)
                commands.append(
                    StudioCommand("prompt", sight.frame, object_id, None, prompt, by="detector")
                )
        return commands

    def _covered(self, sight: _Sight) -> dict[int, tuple[int, float]]:
        """For each object: the older one that covers most of it, and how much."""
        ids, regions = list(sight.regions), list(sight.regions.values())
        inside = share_inside(regions, regions)
        found = {}
        for row, object_id in enumerate(ids):
            elders = [(float(inside[row, n]), key) for n, key in enumerate(ids) if key < object_id]
            if elders:
                share, elder = max(elders)
                found[object_id] = (elder, share)
        return found

    def _births(self, sight: _Sight) -> list[StudioCommand]:
        """Candidates, and those of them that are confirmed by now."""
        config = self.config
        left = [one for n, one in enumerate(sight.found) if n not in sight.pairs]
        pairs = self._recognised(left)
        known, self._candidates = self._candidates, []
        for place, candidate in enumerate(known):
            each = pairs.get(place)
            seen = TrackEvidence(
                sight.time_s, score=1.0, area=1, matched=each is not None,
                detector_score=0.0 if each is None else each.score,
            )  # fmt: skip
            moved = replace(candidate, latest=each or candidate.latest)
            if candidate.unwanted:
                misses = 0 if each is not None else candidate.life.misses + 1
                moved = replace(moved, life=replace(candidate.life, misses=misses))
                if misses <= config.lifecycle.max_misses:
                    self._candidates.append(moved)
                continue
            life = advance(config.lifecycle, config.existence, candidate.life, seen)
            if life.state != REMOVED:
                self._candidates.append(replace(moved, life=life))
        taken = self._taken(sight)
        accepted: list[NDArray[np.float32]] = []
        for each in left:
            if any(each is one for one in pairs.values()):
                continue
            overlap = float(box_iou(each.box, np.stack(accepted)).max()) if accepted else 0.0
            free = free_share(taken, each.box)
            if is_new(config.birth, each.score, each.class_name, free, overlap) is None:
                accepted.append(each.box)
                seen = TrackEvidence(
                    sight.time_s, score=1.0, area=1, matched=True, detector_score=each.score
                )
                life = newborn(config.lifecycle, config.existence, seen)
                self._candidates.append(BirthCandidate(sight.frame, each, each, life))
        return [self._prompted(one) for one in self._confirmed(taken)]

    def _recognised(self, left: list[FoundObject]) -> dict[int, FoundObject]:
        """The candidates that are seen again, by position."""
        if not left or not self._candidates:
            return {}
        known = [one.latest for one in self._candidates]
        iou = box_iou(
            np.stack([one.box for one in known])[:, None], np.stack([one.box for one in left])[None]
        )
        same = compatible(
            [one.label for one in known], [one.label for one in left],
            self.config.association.same_class,
        )  # fmt: skip
        fits = same & (iou >= self.config.association.min_iou)
        return {row: left[column] for row, column in assign(np.where(fits, 1.0 - iou, np.inf))}

    def _taken(self, sight: _Sight) -> NDArray[np.bool_]:
        taken = np.zeros(sight.size, dtype=bool)
        for region in sight.regions.values():
            if region.mask is None:
                taken[region.window] = True
            else:
                taken[region.window] |= region.mask[region.window]
        return taken

    def _confirmed(self, taken: NDArray[np.bool_]) -> list[BirthCandidate]:
        """Those that become objects now; a user may have pointed at one of them meanwhile."""
        ready = [n for n in self._candidates if n.life.state == CONFIRMED and not n.unwanted]
        self._candidates = [n for n in self._candidates if n not in ready]
        return [
            one for one in ready
            if is_new(
                self.config.birth, one.latest.score, one.latest.class_name,
                free_share(taken, one.latest.box), 0.0,
            ) is None
        ]  # fmt: skip

    def _prompted(self, candidate: BirthCandidate) -> StudioCommand:
        self._count += 1
        self._asked.append(candidate)
        name = f"{candidate.first.class_name[: LONGEST_NAME - 8]} {self._count}"
        prompt = detection_prompt(self.config.birth, candidate.first, None)
        return StudioCommand("prompt", candidate.frame, name=name, prompt=prompt, by="detector")

    def refused(self, command: StudioCommand) -> None:
        """A command of ours was not taken in."""
        if command.kind == "prompt" and command.object_id is None:
            self._asked.pop(0)

    def applied(self, command: StudioCommand) -> None:
        """A command was taken in: one of ours, or of a user, who has the last word."""
        object_id = command.object_id
        if command.by == "detector":
            if command.kind == "prompt" and object_id is not None:
                known = self._detected.get(object_id)
                if known is not None:
                    known.life = replace(known.life, since_prompt=0)
                elif self._asked:
                    new = self._asked.pop(0)
                    self._detected[object_id] = DetectedObject(new.latest, new.life)
            return
        known = None if object_id is None else self._detected.pop(object_id, None)
        if known is not None and command.kind == "remove":
            self._candidates.append(
                BirthCandidate(0, known.latest, known.latest, known.life, unwanted=True)
            )

    def close(self) -> None:
        """Let go of the detector."""
        self._detector.close()
