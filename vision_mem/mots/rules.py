"""One frame by our own rules: associate, correct, let be born, judge, show, remember.

Order of a frame: all tracks in view are propagated, lost ones now and then; detections find
their tracks; tracks that need it are corrected by theirs; what nobody claims is new, or somebody
who was here before; each track's state moves on; contested pixels get one owner; good masks are
remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    WEAK,
    TrackEvidence,
    advance,
    event_kind,
    is_due,
    is_hidden,
    should_reprompt,
)
from vision_mem.mots.records import MotsState, Track, TrackResult
from vision_mem.mots.regions import (
    Region,
    bounds_ious,
    front_to_back,
    ious,
    margins_of,
    owned,
    owners,
    placed,
    region_of_box,
    share_borders,
    share_inside,
    with_margins,
    without_margins,
)
from vision_mem.mots.reid import is_itself, slipped, undecided
from vision_mem.mots.step import Answers, FoundObject, Making, found_in
from vision_mem.mots.truncation import at_edge, edge_fit
from vision_mem.tracking.engine import Draft, Engine
from vision_mem.tracking.kalman import start, update
from vision_mem.types import Detections, Frame

_LOOK_EVERY = 5  # frames between two updates of a track's looks
_ALONE = 0.1  # share of a mask that others may cover when its looks are taken
_STEADY = 0.7  # box IoU of a detection and where motion led to
_STEADY_MASK = 0.5  # box IoU of a detection and the mask that goes along with it
_BEHIND = 0.3  # share of a box inside that of another from which on it may hide it
_COASTED = 10  # frames for which a box goes on by motion alone


def show(config: MotsConfig, making: Making, answers: Answers) -> list[TrackResult]:
    """Give each pixel to one track, write memories, and say what is to be seen, by birth."""
    matched = {object_id: answers.found[n] for n, object_id in answers.pairs.items()}
    parts = {answers.pairs[n] for n in answers.parts}
    own, covered = _parts(config, making, answers, matched)
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
        if making.in_sight(object_id) and object_id not in answers.born:
            alone = covered.get(object_id, 0.0) < _ALONE
            whole = None if object_id in parts else each
            track = _described(config, making, track, whole, alone)
        if each is not None:
            track = replace(track, boxed=answers.boxed(each))
        making.tracks[object_id] = _with_cutout(config, making, track)
        mask = own.get(object_id, empty)
        box = mask_to_box(mask)
        score = making.score(object_id) if box.any() else 0.0
        hidden = not box.any()
        if object_id in own or (hidden and _goes_on_hidden(config, making, track, answers)):
            instead = _box_instead(config, track, each, hidden=hidden)
            if instead is not None:
                score = each.score if hidden and each is not None else score
                box = instead
        present = bool(box.any())
        results.append(
            TrackResult(
                object_id, track.object.name, track.label, track.class_name, track.life.state,
                present, mask, box, score if present else 0.0,
                detection=None if each is None else each.number,
                diary=making.diaries.get(object_id, {}),
            )
        )  # fmt: skip
    return results


def _behind(making: Making, track: Track, answers: Answers) -> bool:
    """Whether a track's motion leads behind others that are detected."""
    if not track.boxed or track.path is None or not answers.pairs:
        return False
    size = making.frame.size
    here = region_of_box(np.asarray(track.path.box, np.float32), size)
    others = [
        region_of_box(answers.found[n].box, size)
        for n, object_id in answers.pairs.items()
        if object_id != track.object_id
    ]
    return bool(here.area) and float(share_inside([here], others).max(initial=0.0)) >= _BEHIND


def _goes_on_hidden(config: MotsConfig, making: Making, track: Track, answers: Answers) -> bool:
    """Whether a track is shown where its motion leads, behind others, though nothing is seen."""
    if track.life.state not in (CONFIRMED, WEAK) or not is_hidden(config.lifecycle, track.life):
        return False
    return _behind(making, track, answers)


def _box_instead(
    config: MotsConfig, track: Track, each: FoundObject | None, *, hidden: bool
) -> NDArray[np.float32] | None:
    """What is reported as a track's box in place of that of its mask; None for that.

    Args:
        config: settings.
        track: as it is after the frame.
        each: its detection.
        hidden: whether nothing is left of its mask.
    """
    if config.box == "mask" or (config.box == "detection" and (hidden or each is None)):
        return None
    if each is not None:
        return each.box.copy() if track.boxed or config.box == "detection" else None
    if not track.boxed or track.path is None or track.blind > _COASTED:
        return None
    return np.asarray(track.path.box, np.float32)


def _parts(
    config: MotsConfig, making: Making, answers: Answers, matched: Mapping[int, FoundObject]
) -> tuple[dict[int, NDArray[np.bool_]], dict[int, float]]:
    """The part of its mask that each shown track has, and the share of it that others have."""
    shown = SHOWN if config.emit_tentative else tuple(s for s in SHOWN if s != TENTATIVE)
    in_view = [
        key
        for key, track in making.tracks.items()
        if making.in_sight(key) and track.life.state in SHOWN
    ]
    regions = [making.regions[key] for key in in_view]
    scores = [making.score(key) for key in in_view]
    order = front_to_back(config.overlap, scores, [region.area for region in regions], in_view)
    owner = owners(regions, order, making.frame.size)
    if config.overlap == "shared":
        boxes = [
            matched[k].box if k in matched and answers.absence_counts else None for k in in_view
        ]
        owner = share_borders(owner, regions, boxes)
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
    if each is not None:
        track = replace(track, margins=margins_of(each.box, region.box))
    elif alone and life.state == CONFIRMED and region.area:
        # A mask shows what is to be seen, a detector's box often all of the object.
        seen = region.box if not track.boxed else with_margins(region.box, track.margins)
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


def _with_cutout(config: MotsConfig, making: Making, track: Track) -> Track:
    """The track with what its mask needs to go along with boxes on the next frame."""
    if config.rhythm(len(making.tracks)) == 1:
        return track if track.cutout is None else replace(track, cutout=None, carried=0)
    if track.object_id in making.carried and track.object_id not in making.drafts:
        return replace(track, carried=track.carried + 1)
    region = making.regions.get(track.object_id)
    cutout = None
    if track.boxed and region is not None and region.mask is not None and region.area:
        cutout = region.mask[region.window].copy()
    return replace(track, cutout=cutout, carried=0)


def resting(config: MotsConfig, making: Making, answers: Answers) -> dict[int, Region]:
    """Masks that may go along with the detector's boxes, before anybody looks; by id.

    Of confirmed tracks that were detected on the frame before and whose motion leads to one
    detection, which no other detection and no other track's way comes near. Tracks that were born
    together take turns, so that all frames cost alike.
    """
    paths = {key: track.path for key, track in making.tracks.items() if track.path is not None}
    every = config.rhythm(len(making.tracks))
    if every == 1 or not answers.found or not paths:
        return {}
    size = making.frame.size
    boxes = np.stack([each.box for each in answers.found]).astype(np.float64)
    ways = np.stack([path.box for path in paths.values()])
    fits = box_iou(boxes[:, None], ways[None])
    near = (fits > 0).sum(axis=1) == 1
    near &= (box_iou(boxes[:, None], boxes[None]) > 0).sum(axis=1) == 1
    near &= ~at_edge(boxes, size).any(axis=1)
    found = {}
    for column, object_id in enumerate(paths):
        track, n = making.tracks[object_id], int(fits[:, column].argmax())
        each = answers.found[n]
        if (
            track.cutout is not None and track.margins is not None and track.boxed
            and track.life.state == CONFIRMED and track.blind == 1 and not track.cut
            and track.carried < every - 1 and near[n]
            and (making.frame.index + object_id) % every
            and fits[n, column] >= _STEADY and answers.boxed(each)
            and each.label == track.label and each.score >= config.birth.min_score
        ):  # fmt: skip
            bounds = without_margins(each.box, track.margins)
            region = placed(track.cutout, bounds, size)
            if box_iou(each.box, region.box) >= max(config.reprompt.drift_iou, _STEADY_MASK):
                found[object_id] = region
    return found


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
        answers = Answers([], detections is not None, absence_counts)
        if detections is not None:
            which = worth_a_look(
                config.birth, detections.boxes, detections.scores, detections.labels, frame.size,
                absence_counts,
            )  # fmt: skip
            answers.found = found_in(detections, which, frame.size)
        still = resting(config, making, answers)
        making.look(lambda t: t.object_id not in still and is_due(config.lifecycle, t.life))
        making.carry(still)
        if config.birth.before_association:
            births(config, making, answers)
        self._associate(making, answers, slipped(config, making))
        prompted = self._correct(making, answers)
        if not config.birth.before_association:
            births(config, making, answers)
        self._judge(making, answers, prompted)
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
            scores = [making.score(key) if making.in_sight(key) else 0.0 for key in ids]
            cost = modulated_cost(config, iou, distance, [each.score for each in found], scores)
            pairs = match_by_cost(config, cost, allowed)
        else:
            lost = [track.life.state == LOST for track in tracks]
            low = np.array([each.score < self.config.birth.min_score for each in found])
            if not config.low_iou:
                low[:] = False
            pairs = match_by_overlap(config, iou, allowed & ~low[:, None], lost)
            free = np.array([m not in pairs.values() for m in range(len(ids))]) & ~np.array(lost)
            pairs |= match_by_overlap(
                replace(config, min_iou=config.low_iou or 1.0), iou,
                allowed & low[:, None] & free[None], lost,
            )  # fmt: skip
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
        return (
            not making.in_sight(object_id)
            or making.score(object_id) < self.config.lifecycle.good_score
        )

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
                sure=n is not None
                and config.birth.sure(answers.found[n].score, answers.absence_counts),
                behind=n is None and _behind(making, track, answers),
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
