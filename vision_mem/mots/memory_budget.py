"""Keeping a state within its bytes; the order of forgetting is in ``remembering``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch

from vision_mem.mots.config import MotsConfig
from vision_mem.mots.eviction import Holder, Ledger, forgetting_order
from vision_mem.mots.gallery import remembered
from vision_mem.mots.records import MotsState, MotsUsage, Track
from vision_mem.tracking.memory_bank import count_usage
from vision_mem.types import Event

log = logging.getLogger(__name__)


def usage_of(state: MotsState, logits: Mapping[int, torch.Tensor]) -> MotsUsage:
    """What a state holds, in all and of each track.

    Args:
        state: of a session.
        logits: masks of the latest frame, by track.
    """
    every: list[tuple[str, torch.Tensor]] = []
    entries, each = 0, {}
    for object_id, track in state.tracks.items():
        own = list(track.tensors())
        if object_id in logits:
            own.append(("latest masks", logits[object_id]))
        every += own
        entries += track.object.memory.usage().entries
        each[object_id] = count_usage(own, 0).bytes
    every += [("gallery", tensor) for known in state.gallery for tensor in known.looks.tensors()]
    total = count_usage(every, entries)
    return MotsUsage(total.entries, total.bytes, total.detail, each)


def within_budget(
    config: MotsConfig, state: MotsState, logits: dict[int, torch.Tensor]
) -> tuple[MotsState, dict[int, torch.Tensor]]:
    """Forget until a state fits ``memory.budget_mb``; exact, whatever tracks share.

    Args:
        config: settings.
        state: after a frame; not changed.
        logits: masks of the latest frame, by track; not changed.

    Returns:
        Both, as far as they fit. When all tracks are gone the gallery follows, oldest first.
    """
    budget = config.memory.budget
    if budget is None:
        return state, logits
    ledger = Ledger()
    for object_id, track in state.tracks.items():
        ledger.add(_held(track, logits, object_id))
    for known in state.gallery:
        ledger.add(known.looks.tensors())
    if ledger.total <= budget:
        return state, logits
    tracks, masks, gallery = dict(state.tracks), dict(logits), state.gallery
    events: list[Event] = []
    holders = [
        Holder(key, track.life.state, track.life.lost_frames, track.life.score)
        for key, track in tracks.items()
    ]
    for what, object_id in forgetting_order(holders):
        if ledger.total <= budget:
            break
        track = tracks[object_id]
        if what == "thin":
            tracks[object_id] = _thinned(ledger, track, budget)
            continue
        ledger.drop(_held(track, masks, object_id))
        del tracks[object_id]
        masks.pop(object_id, None)
        one = track.known(state.size) if track.proven and state.size is not None else None
        if one is not None:
            for old in gallery:
                ledger.drop(old.looks.tensors())
            gallery = remembered(config.gallery, gallery, one)
            for old in gallery:
                ledger.add(old.looks.tensors())
        index = state.frame_index or 0
        events.append(Event("removed", object_id, index, state.time_s, track.object.name))
    while gallery and ledger.total > budget:
        ledger.drop(gallery[0].looks.tensors())
        gallery = gallery[1:]
    if events:
        log.info(
            "frame %s: %d tracks removed to stay within memory", state.frame_index, len(events)
        )
    kept = replace(state, tracks=tracks, gallery=gallery, events=(*state.events, *events))
    return kept, masks


def _held(track: Track, logits: Mapping[int, torch.Tensor], object_id: int) -> list[torch.Tensor]:
    own = [tensor for _, tensor in track.tensors()]
    return [*own, logits[object_id]] if object_id in logits else own


def _thinned(ledger: Ledger, track: Track, budget: int) -> Track:
    """A track with as many memories less as it takes, or as can be spared."""
    memory = track.object.memory
    while ledger.total > budget:
        smaller = memory.thinned()
        if smaller is None:
            break
        ledger.drop(tensor for _, tensor in memory.tensors())
        ledger.add(tensor for _, tensor in smaller.tensors())
        memory = smaller
    return replace(track, object=replace(track.object, memory=memory))
