"""Who comes: new tracks, and old ones that are recognised; and who goes, into the gallery."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.boxes import box_iou
from vision_mem.mots.birth import BirthConfig, is_new
from vision_mem.mots.config import MotsConfig
from vision_mem.mots.gallery import GalleryConfig, Known, remembered
from vision_mem.mots.lifecycle import CONFIRMED, LOST, TENTATIVE, TrackEvidence, newborn
from vision_mem.mots.records import Track
from vision_mem.mots.regions import Region, free_share
from vision_mem.mots.reid import first_looks, recalled, recognise_later, recognised
from vision_mem.mots.step import Answers, FoundObject, Making
from vision_mem.mots.truncation import at_edge
from vision_mem.tracking.engine import Draft
from vision_mem.tracking.kalman import start
from vision_mem.types import Prompt

log = logging.getLogger(__name__)

_FILLED = 0.35  # a mask that fills less of its box is a sliver: the box says more


def births(config: MotsConfig, making: Making, answers: Answers) -> None:
    """Let detections that no track claims become tracks, the surest first."""
    recognise_later(config, making, answers)
    left = answers.left()
    if not left:
        return
    room = _Room.of(making, answers)
    drafts = _decoded(config, making, answers, room)
    for n in left:
        each = answers.found[n]
        if not room.lets(config, answers, each):
            continue
        new = _bear(config, making, answers, each, drafts.get(n))
        if new is not None:
            room.accepted.append(each)
            answers.born.add(new)
            answers.pairs[n] = new
            _take(room.taken, making.regions[new])


@dataclass
class _Room:
    """Where there is room for new tracks on a frame.

    Attributes:
        taken: ``(H, W)`` bool: what any track covers.
        idle: the same of tracks in view that have no detection; who has one elsewhere may well
            hide others.
        matched: detections of tracks.
        accepted: detections that became tracks on this frame.
    """

    taken: NDArray[np.bool_]
    idle: NDArray[np.bool_]
    matched: list[FoundObject]
    accepted: list[FoundObject] = field(default_factory=list)

    @classmethod
    def of(cls, making: Making, answers: Answers) -> _Room:
        """What there is before the first birth."""
        taken = np.zeros(making.frame.size, dtype=bool)
        idle = np.zeros_like(taken)
        claimed = set(answers.pairs.values())
        for object_id, region in making.regions.items():
            if object_id in claimed:
                _take(taken, region)
            elif making.tracks[object_id].life.state != LOST:
                _take(taken, region)
                _take(idle, region)
        return cls(taken, idle, [answers.found[n] for n in answers.pairs])

    def lets(self, config: MotsConfig, answers: Answers, each: FoundObject) -> bool:
        """Whether a detection without a track may become one."""
        sure = config.birth.sure(each.score, answers.absence_counts)
        near = [*self.matched * sure, *self.accepted]
        boxes = [one.box for one in near if one.label == each.label or not sure]
        overlap = float(box_iou(each.box, np.stack(boxes)).max()) if boxes else 0.0
        free = free_share(self.idle if sure else self.taken, each.box)
        return is_new(config.birth, each.score, each.class_name, free, overlap, sure) is None


def detection_prompt(config: BirthConfig, each: FoundObject, name: str | None) -> Prompt:
    """What a detection shows the segmenter: its mask or its box."""
    mask, box = each.region.mask, each.region.box
    sliver = each.region.area < _FILLED * float(np.prod(box[2:] - box[:2]))
    if mask is None or config.prompt == "box" or (config.prompt == "auto" and sliver):
        return Prompt(box=each.box, name=name)
    return Prompt(mask=mask, name=name)


def retire(config: GalleryConfig, making: Making, track: Track) -> None:
    """Remove a track; who was ever confirmed is kept in the gallery."""
    making.tracks.pop(track.object_id)
    known = track.known(making.frame.size) if track.proven else None
    if known is not None:
        making.gallery = remembered(config, making.gallery, known)
    making.report("removed", track.object_id, track.object.name)


def _name(each: FoundObject, object_id: int) -> str | None:
    """``car-3``; None, for the usual word, where the class has no word of its own."""
    return None if each.class_name == f"class-{each.label}" else f"{each.class_name}-{object_id}"


def _take(taken: NDArray[np.bool_], region: Region) -> None:
    if region.area and region.mask is not None:
        taken[region.window] |= region.mask[region.window]


def _decoded(config: MotsConfig, making: Making, answers: Answers, room: _Room) -> dict[int, Draft]:
    """All that may be born on this frame, shown to the segmenter at once; by position.

    Who is accepted first may leave no room for others: those were shown in vain.
    """
    likely = [n for n in answers.left() if room.lets(config, answers, answers.found[n])]
    prompts = {n: detection_prompt(config.birth, answers.found[n], None) for n in likely}
    return making.decode_together(prompts)


def _bear(
    config: MotsConfig, making: Making, answers: Answers, each: FoundObject, draft: Draft | None
) -> int | None:
    """Start a track, or bring one back; its id, or None when it could not be."""
    object_id = making.ids.next()
    name = _name(each, object_id)
    if draft is not None:
        making.take(object_id, draft, name or f"object-{object_id}")
    elif not making.prompt(object_id, detection_prompt(config.birth, each, name)):
        return None
    region = making.regions[object_id] if making.regions[object_id].area else each.region
    looks = first_looks(making, object_id, each)
    who = recognised(config, making, each.label, region, looks, answers.pairs.values())
    back = who is not None and who.object_id in making.tracks
    if not back and not _make_room(config, making, answers, each):
        making.forget(object_id)
        return None
    if who is not None:
        making.forget(object_id)
        object_id = who.object_id
        _bring_back(config, making, each, who)
    making.ids = making.ids.add(object_id)
    draft = making.drafts[object_id]
    seen = TrackEvidence(
        making.frame.time_s, score=making.score(object_id), area=making.regions[object_id].area,
        matched=True, detector_score=each.score, prompted=True,
    )  # fmt: skip
    life = newborn(config.lifecycle, config.existence, seen)
    label, word = each.label, each.class_name
    if who is not None:
        life = recalled(config, life)
        label, word = who.label, who.class_name
    path = start(each.box)
    looks = looks if who is None else who.looks
    cut = at_edge(each.box, making.frame.size).any()
    boxed = answers.boxed(each)
    track = Track(draft.after, life, label, word, looks, path=path, cut=bool(cut), boxed=boxed)
    track = track.living(life)
    making.tracks[object_id] = track
    making.report("born" if who is None else "found", object_id, draft.after.name)
    if who is None and life.state == CONFIRMED:
        making.report("confirmed", object_id, draft.after.name)
    return object_id


def _bring_back(config: MotsConfig, making: Making, each: FoundObject, who: Known) -> None:
    """Show a lost or removed track to the segmenter; a lost one still has its memory."""
    known = None
    if who.object_id in making.tracks:
        known = making.look_again(who.object_id)
    prompt = detection_prompt(config.birth, each, who.name)
    making.prompt(who.object_id, prompt, known, checked=False)
    making.gallery = tuple(k for k in making.gallery if k.object_id != who.object_id)


def _make_room(config: MotsConfig, making: Making, answers: Answers, each: FoundObject) -> bool:
    """Whether one more track may be; see ``EvictionConfig.max_tracks`` for who makes room."""
    most = config.memory.max_tracks
    if len(making.tracks) < most:
        return True
    lost = [track for track in making.tracks.values() if track.life.state == LOST]
    if lost:
        retire(config.gallery, making, max(lost, key=lambda track: track.life.lost_frames))
        return True
    claimed = set(answers.pairs.values())
    weaker = [
        track
        for track in making.tracks.values()
        if track.life.state == TENTATIVE
        and track.object_id not in claimed
        and track.life.score < each.score
    ]
    if weaker:
        making.count("replaced")
        retire(config.gallery, making, min(weaker, key=lambda track: track.life.score))
        return True
    making.count("refused")
    if making.counts["refused"] == 1:  # how often is said when the run ends
        log.warning(
            "frame %d: there are %d tracks, as many as memory.max_tracks allows; new ones are "
            "refused while none can make room", making.frame.index, most,
        )  # fmt: skip
    return False
