"""What a person may change between two frames: pure functions from state to state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.models.segmenters.protocol import ImageFeatures
from vision_mem.mots.config import MotsConfig
from vision_mem.mots.gallery import Known, looks_of
from vision_mem.mots.lifecycle import CONFIRMED, SHOWN, Life
from vision_mem.mots.records import MotsState, Track
from vision_mem.mots.regions import Region, placed, region_of, window
from vision_mem.tracking.engine import Engine
from vision_mem.tracking.objects import Outcome
from vision_mem.tracking.policies.protocol import FrameRecord
from vision_mem.tracking.prompts import check_prompt
from vision_mem.types import Event, Frame, Prompt


@dataclass(frozen=True)
class Latest:
    """The latest frame, for as long as nothing newer came.

    Attributes:
        frame: it.
        features: of it.
        logits: ``(1, 1, h, w)`` low-resolution masks by track.
    """

    frame: Frame
    features: ImageFeatures
    logits: dict[int, torch.Tensor]


def followed(state: MotsState, track_id: int) -> Track:
    """A track that is followed; an ``InputError`` when there is none with this id."""
    if track_id in state.tracks:
        return state.tracks[track_id]
    known = ", ".join(map(str, state.tracks)) or "none"
    if track_id in state.ids:
        problem = f"track {track_id} is gone; followed now: {known}; ids are never given twice"
        raise InputError(problem)
    raise InputError(f"no track {track_id!r}; followed now: {known}")


def prompt(
    engine: Engine,
    config: MotsConfig,
    state: MotsState,
    latest: Latest,
    track_id: int | None,
    given: Prompt,
) -> tuple[MotsState, int]:
    """See ``MotsSession.prompt``; the new mask is put into the latest frame's ``logits``."""
    checked, notes = check_prompt(given, latest.frame)
    track = None if track_id is None else state.tracks.get(track_id)
    known = None
    if track is None and track_id is not None:
        known = _in_gallery(state, track_id)
    if track is None and len(state.tracks) >= config.memory.max_tracks:
        raise InputError(
            f"there are {len(state.tracks)} tracks, as many as memory.max_tracks allows; delete "
            "one first"
        )
    new = track_id if track_id is not None else state.ids.next()
    if known is not None and checked.name is None:
        checked = replace(checked, name=known.name)
    before = None if track is None else _rewound(track, latest.logits.get(new))
    draft = engine.apply_prompt(latest.features, checked, notes, new, before)
    outcome = engine.remember(latest.features, {new: draft})[new]
    mask = next(iter(engine.masks(latest.features, [outcome.logits])))
    region = region_of(mask)
    score = min(max(outcome.record.iou, 0.0), 1.0) if region.area else 0.0
    life = Life(score=score, area=float(region.area)) if track is None else track.life
    life = replace(life, state=CONFIRMED, misses=0, duplicate=0, lost_frames=0, existence=1.0)
    label, word = (track.label, track.class_name) if track is not None else (0, "object")
    if known is not None:
        label, word = known.label, known.class_name
    after = replace(outcome.after, present=region.area > 0)
    base = track or Track(after, life, label, word)
    looks = looks_of(latest.frame.image, region) if region.area else base.looks
    made = replace(
        base, object=after, life=life, proven=True, looks=looks, box=_place(region, base),
        seen_index=latest.frame.index, seen_s=latest.frame.time_s, margins=None, cutout=None,
    )  # fmt: skip
    latest.logits[new] = outcome.logits
    kind = "born" if track is None and known is None else "corrected"
    kind = "found" if known is not None else kind
    event = Event(kind, new, latest.frame.index, latest.frame.time_s, after.name)
    state = replace(
        state, tracks={**state.tracks, new: made}, gallery=_others(state, new),
        ids=state.ids.add(new), events=(*state.events, event),
    )  # fmt: skip
    return state, new


def split(
    engine: Engine,
    config: MotsConfig,
    state: MotsState,
    latest: Latest,
    track_id: int,
    part: NDArray[Any],
    name: str | None,
) -> tuple[MotsState, int]:
    """See ``MotsSession.split``."""
    track = followed(state, track_id)
    whole = np.zeros(latest.frame.size, dtype=bool)
    if track_id in latest.logits:
        whole = next(iter(engine.masks(latest.features, [latest.logits[track_id]])))
    elif track.cutout is not None and track.carried:
        carried = placed(track.cutout, np.array(track.box, np.float32), latest.frame.size).mask
        whole = whole if carried is None else carried
    if part.shape == (4,):
        inside = window(np.asarray(part, np.float32))
        piece = np.zeros_like(whole)
        piece[inside] = whole[inside]
    elif part.shape == whole.shape:
        piece = part.astype(bool)
    else:
        raise InputError(
            f"part has shape {part.shape}; expected a box (4,) or a mask {whole.shape} of the "
            "latest frame"
        )
    rest = whole & ~piece
    if not piece.any() or not rest.any():
        left = "nothing" if not piece.any() else "all"
        raise InputError(
            f"the part holds {left} of track {track_id}'s mask on the latest frame; mark the one "
            "object of the two that is to get a new identity"
        )
    state, new = prompt(engine, config, state, latest, None, Prompt(mask=piece, name=name))
    made = replace(state.tracks[new], label=track.label, class_name=track.class_name)
    state = replace(state, tracks={**state.tracks, new: made})
    state, _ = prompt(engine, config, state, latest, track_id, Prompt(mask=rest))
    events = (*state.events[:-2], replace(state.events[-2], kind="split"))
    return replace(state, events=events), new


def merge(state: MotsState, keep: int, drop: int) -> tuple[MotsState, bool]:
    """See ``MotsSession.merge``; also says whether ``keep`` goes on where ``drop`` was."""
    if keep == drop:
        raise InputError(f"track {keep} cannot be merged with itself; name two tracks")
    gone = followed(state, drop)
    kept = state.tracks.get(keep)
    known = _in_gallery(state, keep) if kept is None else None
    seen = kept is not None and kept.life.state in SHOWN and kept.object.present
    moves = kept is None or (not seen and gone.life.state in SHOWN)
    if moves:
        source = kept or known
        assert source is not None, "one of them is known"
        name = kept.object.name if kept is not None else (known.name if known else "")
        moved = replace(gone.object, object_id=keep, name=name)
        kept = replace(
            gone, object=moved, label=source.label, class_name=source.class_name,
            looks=source.looks or gone.looks, proven=True,
        )  # fmt: skip
    assert kept is not None, "it was made above"
    kept = replace(kept, life=replace(kept.life, state=CONFIRMED, lost_frames=0, misses=0))
    tracks = {key: track for key, track in state.tracks.items() if key != drop}
    tracks[keep] = replace(kept, proven=True)
    index, time_s = state.frame_index or 0, state.time_s
    events = (
        *state.events,
        Event("merged", keep, index, time_s, kept.object.name),
        Event("removed", drop, index, time_s, gone.object.name),
    )
    tracks = dict(sorted(tracks.items()))
    return replace(state, tracks=tracks, gallery=_others(state, keep), events=events), moves


def delete(state: MotsState, track_id: int) -> tuple[MotsState, Event]:
    """Stop following a track, or forget one that was removed."""
    track = state.tracks.get(track_id)
    name = track.object.name if track is not None else _in_gallery(state, track_id).name
    event = Event("removed", track_id, state.frame_index or 0, state.time_s, name)
    tracks = {key: one for key, one in state.tracks.items() if key != track_id}
    gallery, events = _others(state, track_id), (*state.events, event)
    return replace(state, tracks=tracks, gallery=gallery, events=events), event


def rename(state: MotsState, track_id: int, name: str) -> MotsState:
    """Another word for a track."""
    track = followed(state, track_id)
    if not name.strip():
        raise InputError("the name is empty; give a word for people")
    renamed = replace(track, object=replace(track.object, name=name))
    event = Event("renamed", track_id, state.frame_index or 0, state.time_s, name)
    return replace(state, tracks={**state.tracks, track_id: renamed}, events=(*state.events, event))


def _others(state: MotsState, track_id: int) -> tuple[Known, ...]:
    """The gallery without a track."""
    return tuple(one for one in state.gallery if one.object_id != track_id)


def _in_gallery(state: MotsState, track_id: int) -> Known:
    for known in state.gallery:
        if known.object_id == track_id:
            return known
    followed(state, track_id)
    raise AssertionError("followed() says so")


def _rewound(track: Track, logits: torch.Tensor | None) -> Outcome:
    """The track as if the latest frame had not been remembered, so that it can be again."""
    one, before = track.object, None
    if one.age > 0:
        memory = one.memory.without(one.age)
        if memory.prompts:  # else its only prompt was on this very frame
            before = replace(one, age=one.age - 1, memory=memory)
    record = FrameRecord(one.age, 0.0, 0.0, None, 0)
    return Outcome(one, before, logits, record)  # type: ignore[arg-type]


def _place(region: Region, track: Track) -> tuple[float, float, float, float]:
    if not region.area:
        return track.box
    x1, y1, x2, y2 = (float(value) for value in region.box)
    return x1, y1, x2, y2
