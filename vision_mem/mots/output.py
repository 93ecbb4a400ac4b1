"""What a frame shows of its tracks, and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.masks import mask_to_box
from vision_mem.mots.config import MotsConfig
from vision_mem.mots.eviction import withheld
from vision_mem.mots.gallery import blended, looks_of
from vision_mem.mots.lifecycle import CONFIRMED, LOST, SHOWN, TENTATIVE
from vision_mem.mots.overlap import front_to_back, owned, owners
from vision_mem.mots.records import Track, TrackResult
from vision_mem.mots.reid import undecided
from vision_mem.mots.step import Answers, Found, Making
from vision_mem.mots.truncation import at_edge
from vision_mem.tracking.kalman import start, update

_LOOK_EVERY = 5  # frames between two updates of a track's looks
_ALONE = 0.1  # share of a mask that others may cover when its looks are taken


def show(config: MotsConfig, making: Making, answers: Answers) -> list[TrackResult]:
    """Give each pixel to one track, write memories, and say what is to be seen.

    Args:
        config: settings.
        making: the frame; its tracks get their new memories, looks and places.
        answers: of the detector.

    Returns:
        One result a track, by birth.
    """
    matched = {object_id: answers.found[n] for n, object_id in answers.pairs.items()}
    parts = {answers.pairs[n] for n in answers.parts}
    own, covered = _parts(config, making, set(matched))
    refused = {}
    for object_id, track in making.tracks.items():
        if object_id in making.drafts:
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
                object_id=object_id,
                name=track.object.name,
                label=track.label,
                class_name=track.class_name,
                state=track.life.state,
                present=present,
                mask=mask,
                box=box,
                score=making.score(object_id) if present else 0.0,
                detection=None if each is None else each.number,
                diary=making.diaries.get(object_id, {}),
            )
        )
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
    if making.drafts[object_id].record.prompted:
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
    config: MotsConfig, making: Making, track: Track, each: Found | None, alone: bool
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
