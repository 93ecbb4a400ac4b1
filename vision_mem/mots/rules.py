"""One frame by our own rules: associate, correct, let be born, judge, show, remember.

Order of a frame: all tracks in view are propagated, lost ones now and then; detections find
their tracks; tracks that need it are corrected by theirs; what nobody claims is new, or somebody
who was here before; each track's state moves on; contested pixels get one owner; good masks are
remembered.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.boxes import box_iou, clip_box
from vision_mem.geometry.masks import mask_to_box
from vision_mem.models.segmenters.protocol import ImageFeatures
from vision_mem.mots.association import (
    affinity,
    compatible,
    match_by_cost,
    match_by_overlap,
    match_parts,
    middle_distances,
    modulated_cost,
)
from vision_mem.mots.birth import worth_a_look
from vision_mem.mots.config import MotsConfig
from vision_mem.mots.eviction import withheld
from vision_mem.mots.gallery import blended, looks_of
from vision_mem.mots.initiation import births, detection_prompt, retire
from vision_mem.mots.lifecycle import (
    CONFIRMED,
    LOST,
    REMOVED,
    SHOWN,
    TENTATIVE,
    TrackEvidence,
    advance,
    event_kind,
    is_due,
    should_reprompt,
)
from vision_mem.mots.records import MotsState, Track, TrackResult
from vision_mem.mots.regions import (
    Region,
    bounds_ious,
    front_to_back,
    ious,
    owned,
    owners,
    region_of_box,
    share_inside,
)
from vision_mem.mots.reid import is_itself, slipped, undecided
from vision_mem.mots.step import Answers, FoundObject, Making, found_in
from vision_mem.mots.truncation import at_edge, edge_fit
from vision_mem.tracking.engine import Draft, Engine
from vision_mem.tracking.kalman import start, update
from vision_mem.types import Detections, Frame

_LOOK_EVERY = 5  # frames between two updates of a track's looks
_ALONE = 0.1  # share of a mask that others may cover when its looks are taken


def show(config: MotsConfig, making: Making, answers: Answers) -> list[TrackResult]:
    """Give each pixel to one track, write memories, and say what is to be seen, by birth."""
    matched = {object_id: answers.found[n] for n, object_id in answers.pairs.items()}
    parts = {answers.pairs[n] for n in answers.parts}
    own, covered = _parts(config, making, set(matched))
    refused = {}
    for object_id, track in making.tracks.items():
        why = _why_not(config, making, track, covered.get(object_id, 0.0))
        if why is not None:
            refused[object_id] = why
    making.remember(refused)
    empty = np.zeros(making.frame.size, dtype=bool)
    results = []
    for object_id, track in list(making.tracks.items()):
        each = matched.get(object_id)
        if object_id in making.drafts and object_id not in answers.born:
            alone = covered.get(object_id, 0.0) < _ALONE
            whole = None if object_id in parts else each
            making.tracks[object_id] = _described(config, making, track, whole, alone)
        mask = own.get(object_id, empty)
        box = mask_to_box(mask)
        present = bool(box.any())
        if present and each is not None and config.box == "detection":
            box = each.box.copy()
        results.append(
            TrackResult(
                object_id, track.object.name, track.label, track.class_name, track.life.state,
                present, mask, box, making.score(object_id) if present else 0.0,
                detection=None if each is None else each.number,
                diary=making.diaries.get(object_id, {}),
            )
        )  # fmt: skip
    return results


def _parts(
    config: MotsConfig, making: Making, matched: set[int]
) -> tuple[dict[int, NDArray[np.bool_]], dict[int, float]]:
    """The part of its mask that each shown track has, and the share of it that others have."""
    shown = SHOWN if config.emit_tentative else tuple(s for s in SHOWN if s != TENTATIVE)
    in_view = [
        key
        for key, track in making.tracks.items()
        if key in making.drafts and track.life.state in SHOWN
    ]
    regions = [making.regions[key] for key in in_view]
    scores = [making.score(key) for key in in_view]
    order = front_to_back(config.overlap, scores, [region.area for region in regions], in_view)
    owner = owners(regions, order, making.frame.size)
    masks = owned(owner, regions)
    covered = {
        key: 1.0 - int(np.count_nonzero(mask[region.window])) / region.area
        for key, mask, region in zip(in_view, masks, regions, strict=True)
        if region.area
    }
    own = {
        key: region.mask if config.overlap == "none" and region.mask is not None else mask
        for key, mask, region in zip(in_view, masks, regions, strict=True)
        if making.tracks[key].life.state in shown
        and (key in matched or making.score(key) >= config.shown_score)
        and not undecided(config, making, making.tracks[key])
    }
    return own, covered


def _why_not(config: MotsConfig, making: Making, track: Track, covered: float) -> str | None:
    """Why a mask is not remembered; None when it is."""
    object_id = track.object_id
    if object_id not in making.drafts or making.drafts[object_id].record.prompted:
        return None
    if track.life.state == LOST and config.memory.gate:
        return "the track is lost"
    before = making.state.tracks.get(object_id)
    return withheld(
        config.memory,
        score=making.score(object_id),
        area=making.regions[object_id].area,
        usual_area=0.0 if before is None else before.life.area,
        covered=covered,
    )


def _described(
    config: MotsConfig, making: Making, track: Track, each: FoundObject | None, alone: bool
) -> Track:
    """The track with its looks, path and place brought up to date."""
    region, life, frame = making.regions[track.object_id], track.life, making.frame
    seen = None if each is None else each.box
    if seen is None and alone and life.state == CONFIRMED and region.area:
        seen = region.box
    if seen is not None:
        path = start(seen) if track.path is None else update(track.path, seen)
        track = replace(track, path=path, blind=0)
    if not region.area or life.state not in SHOWN:
        return track
    x1, y1, x2, y2 = (float(value) for value in region.box)
    track = replace(track, box=(x1, y1, x2, y2), seen_index=frame.index, seen_s=frame.time_s)
    good = life.state in (CONFIRMED, TENTATIVE) and alone
    good &= life.frames % _LOOK_EVERY == 0 or track.looks is None
    good &= not at_edge(region.box, frame.size).any() or (
        track.looks is None and life.frames >= config.gallery.decide_frames
    )
    if config.gallery.enabled and good:
        looks = looks_of(frame.image, region, None if each is None else each.embedding)
        track = replace(track, looks=blended(track.looks, looks))
    return track


EDGE_FRAMES = 3
"""Frames for which a track is believed to be about to come in or go out."""
SETTLED = 3
"""Detections from which on a track's motion says where its cut box ends."""


class OwnRules:
    """Makes frames by our own rules; holds nothing that changes.

    Args:
        engine: the segmenter and its memory policy.
        config: settings.
    """

    def __init__(self, engine: Engine, config: MotsConfig) -> None:
        self.engine = engine
        self.config = config

    def step(
        self,
        state: MotsState,
        frame: Frame,
        features: ImageFeatures,
        detections: Detections | None,
        absence_counts: bool,
    ) -> tuple[Making, list[TrackResult]]:
        """Make a frame; the module's text says in which order.

        Args:
            state: as the frame before left it; not changed.
            frame: the frame.
            features: of it.
            detections: on it; None when the detector gave no answer.
            absence_counts: whether not being detected says anything.

        Returns:
            The frame as made, and what is reported of each track.
        """
        config = self.config
        making = Making.begin(self.engine, state, frame, features, watch=config.camera == "auto")
        making.look(lambda track: is_due(config.lifecycle, track.life))
        answers = Answers([], detections is not None, absence_counts)
        if detections is not None:
            which = worth_a_look(
                config.birth, detections.boxes, detections.scores, detections.labels, frame.size
            )
            answers.found = found_in(detections, which, frame.size)
        if config.birth.before_association:
            births(config, making, answers)
        self._associate(making, answers, slipped(config, making))
        prompted = self._correct(making, answers)
        if not config.birth.before_association:
            births(config, making, answers)
        self._judge(making, answers, prompted)
        making.refusing &= len(making.tracks) >= config.memory.max_tracks
        return making, show(config, making, answers)

    def _associate(self, making: Making, answers: Answers, slips: set[int]) -> None:
        config = self.config.association
        nowhere = Region(np.zeros(4, np.float32), None, 0)
        ids = [key for key in making.tracks if key not in answers.born]
        regions = [making.regions.get(key, nowhere) for key in ids]
        tracks = [making.tracks[key] for key in ids]
        moving = [t.path is not None and t.blind <= config.motion_frames for t in tracks]
        places = answers.left()
        if not ids or not places:
            return
        found = [answers.found[n] for n in places]
        here = [each.region for each in found]
        allowed = compatible(
            [each.label for each in found], [track.label for track in tracks], config.same_class
        )
        size = making.frame.size
        paths = np.stack(
            [np.zeros(4) if t.path is None else clip_box(t.path.box, *size) for t in tracks]
        )
        boxes = np.stack([clip_box(each.box, *size) for each in found])
        moved = box_iou(boxes[:, None], paths[None])
        seen = np.maximum(ious(here, regions), bounds_ious(here, regions))
        masks = [r.area > 0 and key not in slips for key, r in zip(ids, regions, strict=True)]
        iou = affinity(config, seen, moved, masks, moving)
        if config.edges:
            lately = np.array([t.blind <= EDGE_FRAMES for t in tracks])
            settled = np.array([t.life.hits >= SETTLED for t in tracks])
            cut = np.where(
                settled,
                edge_fit(boxes, paths, size),
                edge_fit(boxes, [r.box for r in regions], size, slivers=True) * np.array(masks),
            )
            iou = np.maximum(iou, cut * lately)
        # Who comes in over the edge is a newcomer until it can be recognised.
        gone = np.array([t.life.state == LOST and t.blind > EDGE_FRAMES for t in tracks])
        entering = at_edge(boxes, size).any(axis=1)
        allowed = allowed & ~(entering.reshape(-1, 1) & gone.reshape(1, -1))
        if config.cost == "modulated":
            distance = middle_distances(
                [region.middle for region in here], [region.area for region in here],
                [region.middle for region in regions], [region.area for region in regions],
            )  # fmt: skip
            scores = [making.score(key) if key in making.drafts else 0.0 for key in ids]
            cost = modulated_cost(config, iou, distance, [each.score for each in found], scores)
            pairs = match_by_cost(config, cost, allowed)
        else:
            lost = [track.life.state == LOST for track in tracks]
            pairs = match_by_overlap(config, iou, allowed, lost)
        rows = [n for n in range(len(found)) if n not in pairs]
        columns = [m for m in range(len(ids)) if m not in pairs.values() and moving[m]]
        if rows and columns and config.part_share:
            free = allowed[np.ix_(rows, columns)]
            for row, column in match_parts(config, boxes[rows], paths[columns], free).items():
                pairs[rows[row]] = columns[column]
                answers.parts.add(places[rows[row]])
        for row, column in pairs.items():
            answers.pairs[places[row]] = ids[column]
            answers.iou[ids[column]] = float(iou[row, column])

    def _correct(self, making: Making, answers: Answers) -> set[int]:
        """Show tracks that need it to the segmenter again; returns whom."""
        config, asked = self.config, {}
        for n, object_id in answers.pairs.items():
            if object_id in answers.born:
                continue
            each, track = answers.found[n], making.tracks[object_id]
            if should_reprompt(
                config.reprompt, track.life, weak_now=self._weak(making, object_id),
                detector_score=each.score, iou=answers.iou[object_id],
                box_iou=self._agreement(making, object_id, each),
                crowded=self._crowded(making, object_id, each),
                whole=track.cut and n not in answers.parts and not self._cut(making, each),
            ):  # fmt: skip
                asked[object_id] = n
        # What is known of a part only is of no use when more is shown.
        anew = {key for key in asked if config.reprompt.whole_again and making.tracks[key].cut}
        looked = {key: making.look_again(key) for key in asked}
        before = {key: None if key in anew else draft for key, draft in looked.items()}
        prompts = {
            key: detection_prompt(config.birth, answers.found[n], making.tracks[key].object.name)
            for key, n in asked.items()
        }
        together: dict[int, Draft] = {}
        for some in (asked.keys() - anew, anew):
            known = {key: draft for key in some if (draft := before[key]) is not None}
            together |= making.decode_together({k: prompts[k] for k in some}, known or None)
        done = set()
        for object_id, n in asked.items():
            if object_id in together:
                making.take(object_id, together[object_id], making.tracks[object_id].object.name)
            elif not making.prompt(object_id, prompts[object_id], before[object_id]):
                continue
            lost = making.tracks[object_id].life.state == LOST
            if lost and not is_itself(config, making, object_id):
                # Somebody else: the detection is free again.
                making.take_back(object_id, looked[object_id])
                del answers.iou[object_id], answers.pairs[n]
                answers.parts.discard(n)
            else:
                done.add(object_id)
                cut = self._cut(making, answers.found[n])
                making.tracks[object_id] = replace(
                    making.tracks[object_id], cut=making.tracks[object_id].cut and cut
                )
        return done

    def _cut(self, making: Making, each: FoundObject) -> bool:
        """Whether a detection reaches the picture's edge."""
        return bool(at_edge(each.box, making.frame.size).any())

    def _weak(self, making: Making, object_id: int) -> bool:
        looked = object_id in making.drafts
        return not looked or making.score(object_id) < self.config.lifecycle.good_score

    def _agreement(self, making: Making, object_id: int, each: FoundObject) -> float:
        """Box IoU of a detection and the bounds of a track's mask."""
        region = making.regions.get(object_id)
        return 0.0 if region is None else float(box_iou(each.box, region.box))

    def _crowded(self, making: Making, object_id: int, each: FoundObject) -> float:
        """Largest share of another track's mask inside the box of a detection."""
        others = [
            region
            for key, region in making.regions.items()
            if key != object_id and region.area and making.tracks[key].life.state in SHOWN
        ]
        whole = region_of_box(each.box, making.frame.size)
        return float(share_inside(others, [whole]).max(initial=0.0))

    def _judge(self, making: Making, answers: Answers, prompted: set[int]) -> None:
        """Move the state of each track on by a frame."""
        config = self.config
        matched = {object_id: n for n, object_id in answers.pairs.items()}
        covered = self._covered(making)
        for object_id, track in list(making.tracks.items()):
            if object_id in answers.born:
                continue
            looked, n = object_id in making.drafts, matched.get(object_id)
            elder, share = covered.get(object_id, (-1, 0.0))
            seen = TrackEvidence(
                making.frame.time_s, looked, score=making.score(object_id) if looked else 0.0,
                area=making.regions[object_id].area if looked else 0, matched=n is not None,
                detector_score=0.0 if n is None else answers.found[n].score,
                answered=answers.answered, absence_counts=answers.absence_counts,
                prompted=object_id in prompted, covered=share,
                apart=n is not None and elder in matched,
                visible=self._visible(making, object_id),
            )  # fmt: skip
            life = advance(config.lifecycle, config.existence, track.life, seen)
            making.tracks[object_id] = track.living(life)
            kind = event_kind(track.life.state, life.state)
            if life.state == REMOVED:
                retire(config.gallery, making, making.tracks[object_id])
            elif kind is not None:
                making.report(kind, object_id, track.object.name)

    def _covered(self, making: Making) -> dict[int, tuple[int, float]]:
        """For each track with a mask: the older one that covers most of it, and how much."""
        ids = [k for k in making.drafts if k in making.tracks and making.regions[k].area]
        regions = [making.regions[key] for key in ids]
        inside = share_inside(regions, regions)
        found = {}
        for row, object_id in enumerate(ids):
            elders = [
                (float(inside[row, n]), key)
                for n, key in enumerate(ids)
                if key < object_id and making.tracks[key].life.state in SHOWN
            ]
            if elders:
                share, elder = max(elders)
                found[object_id] = (elder, share)
        return found

    def _visible(self, making: Making, object_id: int) -> float:
        """Share of a track's bounds that no other track's mask covers."""
        region = making.regions.get(object_id)
        if self.config.lifecycle.validation != "existence" or region is None or not region.area:
            return 1.0
        others = np.zeros(making.frame.size, dtype=bool)[region.window]
        for key, other in making.regions.items():
            if key != object_id and other.mask is not None:
                others |= other.mask[region.window]
        return 1.0 - float(others.mean())
