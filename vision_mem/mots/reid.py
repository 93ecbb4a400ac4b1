"""Who somebody is: newcomers that were here before, and masks that have slipped onto others.

A newcomer is compared with everybody who is lost or removed when it is first seen well: not at
the picture's edge, where only a part of it shows, and not behind others. Until then it is
somebody new; when it turns out to be somebody known, it takes that identity.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import chain

from vision_mem.mots.config import MotsConfig
from vision_mem.mots.gallery import Known, Looks, alike, looks_of, plausible, recognise
from vision_mem.mots.lifecycle import CONFIRMED, LOST, SHOWN, Life
from vision_mem.mots.records import Track
from vision_mem.mots.regions import Region, share_inside
from vision_mem.mots.step import Answers, FoundObject, Making, nothing
from vision_mem.mots.truncation import at_edge
from vision_mem.tracking.parallel import mapped

_ALONE = 0.1  # share of a region that others may cover when its looks are taken


def seen_well(making: Making, object_id: int, region: Region) -> bool:
    """Whether all of something is to be seen: not cut by the picture's edge, not behind others."""
    if not region.area or at_edge(region.box, making.frame.size).any():
        return False
    others = [
        other
        for key, other in making.regions.items()
        if key != object_id and other.area and making.tracks[key].life.state in SHOWN
    ]
    return float(share_inside([region], others).sum()) < _ALONE


def first_looks(making: Making, object_id: int, each: FoundObject) -> Looks | None:
    """Looks of a newcomer; None when it is not seen well."""
    region = making.regions[object_id] if making.regions[object_id].area else each.region
    if not seen_well(making, object_id, region):
        return None
    return looks_of(making.frame.image, region, each.embedding)


def recognised(
    config: MotsConfig,
    making: Making,
    label: int,
    region: Region,
    looks: Looks | None,
    taken: Collection[int],
) -> Known | None:
    """Who of the lost and the removed this is; None for somebody new."""
    if not config.gallery.enabled or looks is None:
        return None
    lost = [
        track.known(making.frame.size)
        for track in making.tracks.values()
        if track.proven
        and (track.life.state == LOST or not _in_sight(making, track.object_id))
        and track.object_id not in taken
    ]
    here = [
        known
        for known in (*making.gallery, *lost)
        if known is not None
        and (known.label == label or not config.association.same_class)
        and plausible(config.gallery, known, region.box, region.area, making.frame.time_s)
    ]
    who = recognise(config.gallery, [alike(known.looks, looks) for known in here])
    return None if who is None else here[who]


def recognise_later(config: MotsConfig, making: Making, answers: Answers) -> None:
    """Compare newcomers that are seen well for the first time with those who were here."""
    if not config.gallery.enabled:
        return
    places = {object_id: n for n, object_id in answers.pairs.items()}
    for object_id in list(making.tracks):
        if object_id not in making.tracks:
            continue  # another newcomer took its identity
        track = making.tracks[object_id]
        young = track.life.frames < config.gallery.decide_frames and track.life.state in SHOWN
        n = places.get(object_id)
        if not young or n is None or object_id in answers.born or n in answers.parts:
            continue
        each, region = answers.found[n], making.regions.get(object_id)
        if region is None or not seen_well(making, object_id, region):
            continue
        looks = looks_of(making.frame.image, region, each.embedding)
        who = recognised(config, making, track.label, region, looks, places)
        if track.looks is None:
            making.tracks[object_id] = replace(track, looks=looks)
        if who is not None:
            _become(config, making, answers, object_id, n, who)


def _become(
    config: MotsConfig, making: Making, answers: Answers, object_id: int, n: int, who: Known
) -> None:
    """A track turns out to be somebody known and takes that identity."""
    known = who.object_id
    making.look_again(object_id)  # what only went along with boxes has nothing to take over
    track = making.tracks[object_id]
    renamed = replace(track.object, object_id=known, name=who.name)
    mine = replace(
        track, object=renamed, label=who.label, class_name=who.class_name, looks=who.looks,
        proven=True, life=recalled(config, track.life),
    )  # fmt: skip
    making.tracks.pop(known, None)
    making.tracks = {
        (known if key == object_id else key): (mine if key == object_id else one)
        for key, one in making.tracks.items()
    }
    making.rename(object_id, known, who.name)
    making.gallery = tuple(one for one in making.gallery if one.object_id != known)
    answers.pairs[n] = known
    answers.iou[known] = answers.iou.pop(object_id, 0.0)
    making.report("found", known, who.name)
    making.report("merged", object_id, track.object.name)


def recalled(config: MotsConfig, life: Life) -> Life:
    """The life of a newcomer that turned out to be somebody known: no newcomer any more."""
    frames = max(life.frames, config.gallery.decide_frames)
    existence = config.existence.confirm
    return replace(life, state=CONFIRMED, frames=frames, existence=existence)


def is_itself(config: MotsConfig, making: Making, object_id: int) -> bool:
    """Whether a mask looks like its track; yes where that cannot be told."""
    least = config.gallery.slip_similarity
    track, region = making.tracks[object_id], making.regions.get(object_id)
    if least == 0 or region is None or region.mask is None or track.looks is None:
        return True
    if not region.area or at_edge(region.box, making.frame.size).any():
        return True
    looks = looks_of(making.frame.image, region)
    return alike(Looks(track.looks.colours, looks.embedding), looks) >= least


def slipped(config: MotsConfig, making: Making) -> set[int]:
    """Tracks whose mask does not look like them; a lost one has not been found then.

    Returns:
        Ids of tracks in view whose masks have no say in whom they are matched with.
    """
    found = set()
    engine, ids = making.engine, list(making.tracks)
    groups = [ids[n :: engine.threads] for n in range(engine.threads)]

    def strange(group: list[int]) -> list[int]:
        return [key for key in group if not is_itself(config, making, key)]

    for object_id in sorted(chain(*mapped(strange, groups, engine.threads)), key=ids.index):
        track = making.tracks[object_id]
        if track.life.state == LOST:
            mask = making.regions[object_id].mask
            assert mask is not None, "is_itself looked at it"
            making.regions[object_id] = nothing(mask)
        else:
            found.add(object_id)
    return found


def _in_sight(making: Making, object_id: int) -> bool:
    region = making.regions.get(object_id)
    return region is not None and region.area > 0


def undecided(config: MotsConfig, making: Making, track: Track) -> bool:
    """Whether a newcomer may yet turn out to be somebody known, and is not shown until then."""
    gallery = config.gallery
    if not gallery.enabled or gallery.hold_frames == 0 or track.looks is not None:
        return False
    if track.proven or track.life.frames >= gallery.hold_frames:
        return False
    gone = [known for known in making.gallery if known.label == track.label]
    lost = [
        one
        for one in making.tracks.values()
        if one.proven and one.life.state == LOST and one.label == track.label
    ]
    return bool(gone or lost)
