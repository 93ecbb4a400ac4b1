"""The rules of Seg2Track-SAM2's code, oddities included, for comparison with it.

Known oddities, kept on purpose: births come before association and are not checked against each
other; any pairing is accepted, that without overlap too; bad frames are counted over a track's
whole life; the frame of a birth and re-prompted masks are not reported; an object is invented
when the first frame has no detection.

Source:
    Seg2Track-SAM2 (github.com/hcmr-lab, commit 17ee19f) as described in sections 1.2 to 1.8 of
    our notes; written from that description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.assignment import assign
from vision_mem.models.segmenters.protocol import ImageFeatures
from vision_mem.mots.config import MotsConfig, OfficialConfig
from vision_mem.mots.lifecycle import CONFIRMED, WEAK, Life
from vision_mem.mots.records import MotsState, Track, TrackResult
from vision_mem.mots.regions import (
    Region,
    free_share,
    front_to_back,
    ious,
    owned,
    owners,
    region_of_box,
)
from vision_mem.mots.step import FoundObject, Making, found_in
from vision_mem.tracking.engine import Engine
from vision_mem.types import Detections, Frame, Prompt

INVENTED_CLASS = 10
"""Class of the object that is invented on an empty first frame."""


def split_detections(
    config: OfficialConfig, free: Sequence[float], labels: Sequence[int], tracks: int
) -> tuple[list[int], list[int]]:
    """Positions of detections that become tracks, and of those left for association.

    Args:
        config: constants.
        free: share of each detection's box that no track covers.
        labels: their class numbers.
        tracks: how many there are; without any, all detections are new.
    """
    new = [n for n, share in enumerate(free) if tracks == 0 or share > config.addition(labels[n])]
    return new, [n for n in range(len(free)) if n not in new]


def pair_padded(iou: NDArray[np.float64]) -> dict[int, int]:
    """Pair tracks with detections; the table is made square with pairs that overlap nowhere.

    Of ``(tracks, detections)`` IoU it gives every pair that is no padding, without overlap too.
    """
    tracks, detections = iou.shape
    side = max(tracks, detections)
    cost = np.ones((side, side))
    cost[:tracks, :detections] = 1.0 - iou
    return {r: c for r, c in assign(cost) if r < tracks and c < detections}


@dataclass(frozen=True)
class Verdict:
    """What happens to a track after its frame was looked at.

    Attributes:
        tries: bad frames so far.
        removed: it is removed.
        reprompted: it is shown to the segmenter again.
    """

    tries: int
    removed: bool = False
    reprompted: bool = False


def judge(
    config: OfficialConfig, *, score: float, tries: int, label: int, detector_score: float | None
) -> Verdict:
    """What happens to a track of a class.

    Its score is the best estimated IoU among its candidates on this frame, ``tries`` are the bad
    frames before, and without a detection it was paired with ``detector_score`` is None.
    """
    if config.removal and score < config.removal_threshold:
        tries += 1
        if tries >= config.removal_tries:
            return Verdict(tries, removed=True)
    asked = config.reprompt and score < config.reprompt_threshold and detector_score is not None
    if asked and detector_score is not None and detector_score > config.addition(label):
        return Verdict(tries, reprompted=True)
    return Verdict(tries)


class OfficialRules:
    """Makes frames as Seg2Track-SAM2's code does; holds nothing that changes.

    Args:
        engine: the segmenter and its memory policy.
        config: settings.
    """

    first_id = 0

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
        """Make a frame; see ``OwnRules.step`` for the arguments."""
        making = Making.begin(self.engine, state, frame, features)
        found: list[FoundObject] = []
        if detections is not None:
            sure = np.flatnonzero(detections.scores >= self.config.official.detection_threshold)
            found = found_in(detections, sure.tolist(), frame.size)
        first = state.steps == 0
        if first:
            self._first(making, found)
        else:
            making.look(lambda track: True)
        snapshot, regions = dict(making.tracks), dict(making.regions)
        scores = {key: making.estimate(key) for key in making.drafts}
        if not first:
            left = self._births(making, found)
            self._judge(making, left, regions, scores)
        making.remember({})
        return making, self._show(making, snapshot, regions, scores)

    def _first(self, making: Making, found: list[FoundObject]) -> None:
        """All detections of the first frame are tracks; without any, one is invented."""
        for each in found:
            self._bear(making, each.box, each.label, each.class_name)
        if not found:
            self._bear(making, np.zeros(4, np.float32), INVENTED_CLASS, "invented")

    def _bear(self, making: Making, box: np.ndarray, label: int, class_name: str) -> None:
        if len(making.tracks) >= self.config.memory.max_tracks:
            making.count("refused")
            return
        spans = making.ids.ranges
        object_id = spans[-1][1] + 1 if spans else self.first_id
        if not making.prompt(object_id, Prompt(box=box), checked=bool(box.any())):
            return
        making.ids = making.ids.add(object_id)
        after = making.drafts[object_id].after
        hidden = label == INVENTED_CLASS
        life = Life(state=CONFIRMED)
        making.tracks[object_id] = Track(after, life, label, class_name, hidden=hidden)
        if not hidden:
            making.report("born", object_id, after.name)

    def _births(self, making: Making, found: list[FoundObject]) -> list[FoundObject]:
        """New tracks, judged by the masks as they were before any of them; who is left."""
        taken = np.zeros(making.frame.size, dtype=bool)
        for region in making.regions.values():
            if region.mask is not None:
                taken |= region.mask
        free = [free_share(taken, each.box) for each in found]
        labels = [each.label for each in found]
        new, left = split_detections(self.config.official, free, labels, len(making.tracks))
        for n in new:
            self._bear(making, found[n].box, found[n].label, found[n].class_name)
        return [found[n] for n in left]

    def _judge(
        self,
        making: Making,
        left: list[FoundObject],
        regions: dict[int, Region],
        scores: dict[int, float],
    ) -> None:
        ids = list(regions)
        boxes = [region_of_box(each.box, making.frame.size) for each in left]
        pairs = pair_padded(ious([regions[key] for key in ids], boxes))
        for row, object_id in enumerate(ids):
            track = making.tracks[object_id]
            each = left[pairs[row]] if row in pairs else None
            verdict = judge(
                self.config.official,
                score=scores[object_id],
                tries=track.tries,
                label=track.label,
                detector_score=None if each is None else each.score,
            )
            if verdict.removed:
                making.tracks.pop(object_id)
                making.report("removed", object_id, track.object.name)
                continue
            weak = scores[object_id] < self.config.official.reprompt_threshold
            life = replace(track.life, state=WEAK if weak else CONFIRMED)
            making.tracks[object_id] = replace(track, tries=verdict.tries, life=life)
            if verdict.reprompted and each is not None:
                prompt = Prompt(box=each.box)
                making.prompt(object_id, prompt, making.drafts[object_id])

    def _show(
        self,
        making: Making,
        snapshot: dict[int, Track],
        regions: dict[int, Region],
        scores: dict[int, float],
    ) -> list[TrackResult]:
        """The masks as they were before births and re-prompts; older tracks win."""
        shown = {key: track for key, track in snapshot.items() if not track.hidden}
        some = [regions[key] for key in shown]
        order = front_to_back("creation", [], [], list(shown))
        masks = owned(owners(some, order, making.frame.size), some)
        results = []
        for (object_id, track), region, mask in zip(shown.items(), some, masks, strict=True):
            now = making.tracks.get(object_id, track)
            results.append(
                TrackResult(
                    object_id, track.object.name, track.label, track.class_name, now.life.state,
                    present=region.area > 0, mask=mask, box=region.box,
                    score=scores[object_id] if region.area else 0.0,
                    diary=making.diaries.get(object_id, {}),
                )
            )  # fmt: skip
        return results
