"""What of a frame is remembered, and what is forgotten first when memory has a limit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from vision_mem.mots.config import EvictionConfig, MotsConfig
from vision_mem.mots.gallery import Known, remembered
from vision_mem.mots.lifecycle import LOST, TENTATIVE
from vision_mem.mots.records import MotsState, MotsUsage, Track
from vision_mem.tracking.memory_bank import count_usage
from vision_mem.types import Event

log = logging.getLogger(__name__)


def withheld(
    config: EvictionConfig, *, score: float, area: int, usual_area: float, covered: float
) -> str | None:
    """Why a mask is not remembered; None when it is.

    Args:
        config: settings.
        score: of the mask, 0 when the object is not to be seen.
        area: pixels.
        usual_area: running mean of the track's area; 0 when unknown.
        covered: share of the mask that other tracks' masks cover, [0, 1].
    """
    if not config.gate:
        return None
    if area == 0:
        return "there is no mask"
    if score < config.gate_score:
        return f"score {score:.2f} is below {config.gate_score}"
    change = max(area / usual_area, usual_area / area) if usual_area else 1.0
    if change > config.gate_area_change:
        return f"area changed by a factor of {change:.1f}"
    if covered > config.gate_covered:
        return f"{covered:.2f} of it is covered by others"
    return None


@dataclass(frozen=True)
class Holder:
    """A track that holds memory, as far as forgetting cares.

    Attributes:
        object_id: of the track.
        state: see ``lifecycle``.
        lost_frames: frames that it is lost.
        score: running mean of its scores.
    """

    object_id: int
    state: str
    lost_frames: int
    score: float


def forgetting_order(holders: Sequence[Holder]) -> list[tuple[str, int]]:
    """In which order memory is given up until the rest fits: ``("remove" or "thin", object id)``.

    1. lost tracks go, the one lost longest first;
    2. tracks in view are thinned out, tentative ones first, then from the lowest score up, each
       until nothing can be: their oldest tracked frames, then their oldest prompted ones but the
       first;
    3. tracks in view go, in the same order.
    """
    lost = [h for h in holders if h.state == LOST]
    lost.sort(key=lambda h: (-h.lost_frames, h.score, h.object_id))
    rest = [h for h in holders if h.state != LOST]
    rest.sort(key=lambda h: (h.state != TENTATIVE, h.score, -h.object_id))
    return [
        *(("remove", h.object_id) for h in lost),
        *(("thin", h.object_id) for h in rest),
        *(("remove", h.object_id) for h in rest),
    ]


class Ledger:
    """Bytes held by tensors that may share storage: each storage counts once, whole."""

    def __init__(self) -> None:
        self._holders: Counter[int] = Counter()
        self._sizes: dict[int, int] = {}
        self.total = 0

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """Hold tensors; one that is given twice is held twice."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage.data_ptr(), storage.nbytes()
            if not size:
                continue
            if not self._holders[key]:
                self._sizes[key] = size
                self.total += size
            self._holders[key] += 1

    def drop(self, tensors: Iterable[torch.Tensor]) -> None:
        """Let go of tensors that were added."""
        for tensor in tensors:
            key = tensor.untyped_storage().data_ptr()
            if not tensor.untyped_storage().nbytes():
                continue
            self._holders[key] -= 1
            if not self._holders[key]:
                self.total -= self._sizes.pop(key)


def usage_of(state: MotsState, logits: Mapping[int, torch.Tensor]) -> MotsUsage:
    """What a state holds, in all and of each track; with the latest frame's masks by track."""
    every: list[tuple[str, torch.Tensor]] = []
    entries, each = 0, {}
    for object_id, track in state.tracks.items():
        own = list(track.tensors())
        if object_id in logits:
            own.append(("latest masks", logits[object_id]))
        every += own
        entries += track.object.memory.usage().entries
        each[object_id] = count_usage(own, 0).bytes
    every += [("gallery", tensor) for tensor in _looks(state.gallery)]
    if state.view is not None:
        every.append(("camera", torch.from_numpy(state.view)))
    total = count_usage(every, entries)
    return MotsUsage(total.entries, total.bytes, total.detail, each)


def within_budget(
    config: MotsConfig, state: MotsState, logits: dict[int, torch.Tensor]
) -> tuple[MotsState, dict[int, torch.Tensor]]:
    """Forget until a state fits ``memory.budget_mb``; exact, whatever tracks share.

    The masks of the latest frame, by track, go with their tracks. When all tracks are gone the
    gallery follows, oldest first.
    """
    budget = config.memory.budget
    if budget is None:
        return state, logits
    if state.view is not None and 10 * state.view.nbytes > budget:
        state = replace(state, view=None)  # so little is for the tracks
    ledger = Ledger()
    if state.view is not None:
        ledger.add([torch.from_numpy(state.view)])
    for object_id, track in state.tracks.items():
        ledger.add(_held(track, logits, object_id))
    ledger.add(_looks(state.gallery))
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
            ledger.drop(_looks(gallery))
            gallery = remembered(config.gallery, gallery, one)
            ledger.add(_looks(gallery))
        index = state.frame_index or 0
        events.append(Event("removed", object_id, index, state.time_s, track.object.name))
    while gallery and ledger.total > budget:
        ledger.drop(_looks(gallery[:1]))
        gallery = gallery[1:]
    if events:
        log.info(
            "frame %s: %d tracks removed to stay within memory", state.frame_index, len(events)
        )
    counts = dict(state.counts)
    if events:
        counts["evicted"] = counts.get("evicted", 0) + len(events)
    events = [*state.events, *events]
    kept = replace(state, tracks=tracks, gallery=gallery, events=tuple(events), counts=counts)
    return kept, masks


def _looks(gallery: Sequence[Known]) -> list[torch.Tensor]:
    return [tensor for known in gallery for tensor in known.looks.tensors()]


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
