"""The work of one frame, between the segmenter's seams: look, choose, correct, remember, show.

Nothing here belongs to a stream. Objects come in as values and go out as values, so a frame that
fails half-way has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.geometry.masks import alternative_overlaps, fill_holes, mask_extents, mask_to_box
from vision_mem.models.device import cores
from vision_mem.models.segmenters.protocol import (
    Candidates,
    ImageFeatures,
    MemoryEntry,
    MemoryRead,
    Segmenter,
)
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.mask_selection import (
    CandidateScores,
    Choice,
    ChoiceState,
    choose_candidate,
    choose_prompted,
)
from vision_mem.tracking.memory_bank import MaskMemory, describe_read
from vision_mem.tracking.objects import Outcome, TrackedObject
from vision_mem.tracking.parallel import mapped
from vision_mem.tracking.policies.protocol import FrameRecord, MemoryLimits
from vision_mem.tracking.prompts import describe_prompt
from vision_mem.types import ObjectResult, Prompt


def scores_to_host(made: Candidates, grid: torch.Tensor) -> list[CandidateScores]:
    """Everything the policy must know of B candidates, in one transfer for all of them.

    Whole numbers are exact in float32 up to 2**24: areas of grids up to 4096 x 4096. ``grid``,
    ``(B, M, gh, gw)``, are their logits on it.
    """
    logit = made.object_logit.float().view(-1, 1, 1).expand(-1, grid.shape[1], 1)
    columns = [made.iou.float().unsqueeze(-1), logit, _areas_and_extents(grid)]
    table = torch.cat(columns, dim=-1).cpu().numpy()  # (B, M, 7)
    extents, areas = table[..., 3:].astype(np.float64), table[..., 2].astype(np.int64)
    return [
        CandidateScores(row[:, 0], float(row[0, 1]), some, area)
        for row, some, area in zip(table, extents, areas, strict=True)
    ]


def _areas_and_extents(grid: torch.Tensor) -> torch.Tensor:
    """``(B, M, 5)`` float32: pixels above 0, and their inclusive extent."""
    if grid.device.type != "cpu":
        on = grid > 0
        area = on.flatten(-2).sum(dim=-1, dtype=torch.int32).to(torch.float32)
        return torch.cat([area.unsqueeze(-1), mask_extents(on)], dim=-1)
    # Mask by mask, each of which fits a core's cache: a quarter of the time of whole tensors.
    table = np.zeros((*grid.shape[:2], 5), np.float32)
    for row, logits in zip(table.reshape(-1, 5), grid.float().flatten(0, 1).numpy(), strict=True):
        on_here = logits > 0
        row[0] = np.count_nonzero(on_here)
        row[1:] = mask_to_box(on_here)
        row[3:] -= row[0] > 0
    return torch.from_numpy(table)


_RENDERED_TOGETHER = 8
"""Masks brought to the frame's size at once: bounds the peak memory of many objects."""


@dataclass(frozen=True)
class Draft:
    """An outcome whose mask has not been turned into a memory yet."""

    after: TrackedObject
    before: TrackedObject | None
    logits: torch.Tensor  # (1, 1, h, w), holes filled
    grid: torch.Tensor  # (1, 1, gh, gw), what becomes a memory
    pointer: torch.Tensor
    object_logit: torch.Tensor  # (1,)
    record: FrameRecord
    anchor: bool
    diary: dict[str, Any]


class Engine:
    """A segmenter and settings; holds nothing that changes.

    Args:
        segmenter: the network.
        config: settings.
        threads: objects looked at at a time, where the segmenter allows it; None for as many as
            leave each of torch's threads a core. Results do not depend on it.
    """

    def __init__(
        self, segmenter: Segmenter, config: TrackingConfig, threads: int | None = 1
    ) -> None:
        self.segmenter = segmenter
        self.config = config
        self.limits = MemoryLimits.of(segmenter.traits, config.policy)
        area = config.fill_hole_area
        self._fill_area = segmenter.traits.fill_hole_area if area is None else area
        on_gpu = segmenter.device.type != "cpu"
        self.together = {"on": True, "off": False, "auto": on_gpu}[config.batch_objects]
        parallel = segmenter.traits.parallel and not on_gpu
        # More threads than cores stand in each other's way, so torch's own count too.
        fitting = max(1, cores() // torch.get_num_threads())
        self.threads = (fitting if threads is None else threads) if parallel else 1

    def track(
        self,
        features: ImageFeatures,
        objects: Sequence[TrackedObject],
        among: int | None = None,
    ) -> dict[int, Draft]:
        """Let objects look into their memories and choose a mask each.

        Args:
            features: the encoded frame.
            objects: as the previous frame left them.
            among: how many are followed, when these are not all of them.

        Returns:
            One draft an object, by id.
        """
        if not objects:
            return {}
        config = self.config
        crowd = len(objects) if among is None else among
        reads = [replace(self._read(one), among=crowd) for one in objects]

        def look(group: list[int]) -> list[Draft]:
            made = self.segmenter.decode(
                features, [reads[n] for n in group], appear_threshold=config.appear_threshold
            )
            grid = self.segmenter.to_grid(made.logits, features)
            drafts = []
            for row, (n, scores) in enumerate(zip(group, scores_to_host(made, grid), strict=True)):
                one = objects[n]
                choice = choose_candidate(config.selection, one.choice, scores)
                diary = {"prompt": None, "read": describe_read(reads[n])}
                own = made.of(row)
                drafts.append(
                    self._draft(one, one, one.age + 1, own, grid[row], scores, choice, diary)
                )
            return drafts

        seen = mapped(look, self._groups(len(reads)), self.threads)
        return {draft.after.object_id: draft for part in seen for draft in part}

    def _groups(self, count: int) -> list[list[int]]:
        """Which of so many objects the segmenter looks for at once; each thread gets as many."""
        numbers = list(range(count))
        if self.together:
            return [numbers]
        rounds = -(-count // (self.threads * self.segmenter.traits.decodes_at_once))
        parts = min(self.threads * rounds, count)
        return [numbers[count * n // parts : count * (n + 1) // parts] for n in range(parts)]

    def _read(self, one: TrackedObject) -> MemoryRead:
        return one.memory.read(
            one.age + 1, hint=one.hint(), num_frames_hint=self.config.num_frames_hint
        )

    def apply_prompt(
        self,
        features: ImageFeatures,
        prompt: Prompt,
        notes: list[str],
        object_id: int,
        known: Draft | Outcome | None,
    ) -> Draft:
        """Add an object (``known`` is None), or correct what this frame made of it."""
        made = self.segmenter.decode_prompt(
            features,
            prompt,
            read=self.read_before(known),
            previous_logits=None if known is None else known.logits,
            appear_threshold=self.config.appear_threshold,
        )
        return self.prompted(features, prompt, notes, object_id, known, made)

    def read_before(self, known: Draft | Outcome | None) -> MemoryRead | None:
        """What a correction of this frame may look at; None for a new object."""
        before = None if known is None else known.before
        return None if before is None else self._read(before)

    def prompted(
        self,
        features: ImageFeatures,
        prompt: Prompt,
        notes: list[str],
        object_id: int,
        known: Draft | Outcome | None,
        made: Candidates,
    ) -> Draft:
        """The draft of an object from what the segmenter made of its prompt."""
        before, read = None if known is None else known.before, self.read_before(known)
        grid = self.segmenter.to_grid(made.logits, features)
        scores = scores_to_host(made, grid)[0]
        state = ChoiceState() if before is None else before.choice
        choice = choose_prompted(self.config.selection, state, scores)
        diary: dict[str, Any] = {
            "prompt": describe_prompt(prompt),
            "read": None if read is None else describe_read(read),
        }
        if notes:
            diary["notes"] = notes
        fresh = TrackedObject(
            object_id=object_id,
            name=prompt.name or (known.after.name if known else f"object-{object_id}"),
            age=0,
            memory=MaskMemory(self.config.policy, self.limits),
        )
        base = fresh if before is None else replace(before, name=prompt.name or before.name)
        age = 0 if before is None else before.age + 1
        draft = self._draft(base, before, age, made, grid[0], scores, choice, diary)
        # Prompted masks are remembered as the user sees them: holes filled.
        return replace(draft, grid=self.segmenter.to_grid(draft.logits, features))

    def _draft(
        self,
        base: TrackedObject,
        before: TrackedObject | None,
        age: int,
        made: Candidates,
        grid: torch.Tensor,
        scores: CandidateScores,
        choice: Choice,
        diary: dict[str, Any],
    ) -> Draft:
        m = choice.chosen
        area = int(scores.areas[m])
        record = FrameRecord(
            age, float(scores.iou[m]), scores.object_logit, choice.motion_iou, area,
            prompted=diary["prompt"] is not None,
            score=None if made.scores is None else float(made.scores[0, m]),
        )  # fmt: skip

        def overlaps() -> Sequence[float]:
            masks = (made.logits[0] > 0).cpu().numpy()
            return [float(value) for value in alternative_overlaps(masks, m)]

        anchor = False
        if before is not None and not record.prompted:
            anchor = before.memory.becomes_anchor(record, overlaps)
        x1, y1, x2, y2 = (float(value) for value in scores.extents[m])
        after = replace(
            base,
            age=age,
            choice=choice.after,
            last_extent=(x1, y1, x2, y2) if area else base.last_extent,
            missing=0 if area else base.missing + 1,
        )
        diary = {
            "age": age,
            "ious": [float(value) for value in scores.iou],
            "iou": record.iou,
            "object_logit": record.object_logit,
            "area": area,
            **choice.diary(),
            **diary,
        }
        return Draft(
            after,
            before,
            # Clones: a view would keep the candidates of the whole batch alive.
            logits=fill_holes(made.logits[:, m : m + 1].clone(), self._fill_area),
            grid=grid[None, m : m + 1],
            pointer=made.pointers[0, m].clone(),
            object_logit=made.object_logit,
            record=record,
            anchor=anchor,
            diary=diary,
        )

    def remember(
        self,
        features: ImageFeatures,
        drafts: Mapping[int, Draft],
        withheld: Mapping[int, str] | None = None,
    ) -> dict[int, Outcome]:
        """Encode the chosen masks and write them into the objects' memories.

        Args:
            features: the encoded frame.
            drafts: by object.
            withheld: objects whose memory stays as it is, and why; time goes on for them too.

        Returns:
            What became of each object, in the order of ``drafts``.
        """
        withheld = withheld or {}
        items = [draft for object_id, draft in drafts.items() if object_id not in withheld]
        groups = [[n] for n in range(len(items))]
        if self.together:
            kinds = (False, True)
            split = [[n for n, d in enumerate(items) if d.record.prompted == k] for k in kinds]
            groups = [group for group in split if group]

        def encode(group: list[int]) -> list[Outcome]:
            made = self.segmenter.encode_memory(
                features,
                torch.cat([items[n].grid for n in group]),
                torch.cat([items[n].object_logit for n in group]),
                from_prompt=items[group[0]].record.prompted,
                no_object_threshold=self.config.no_object_threshold,
                pointers=torch.stack([items[n].pointer for n in group]),
            )
            return [
                self._outcome(items[n], tensors) for n, tensors in zip(group, made, strict=True)
            ]

        stored = mapped(encode, groups, self.threads)
        done = {outcome.after.object_id: outcome for part in stored for outcome in part}
        for object_id, why in withheld.items():
            draft = drafts[object_id]
            verdict = {"kept": False, "why": why}
            done[object_id] = self._settled(draft, draft.after.memory, verdict)
        return {object_id: done[object_id] for object_id in drafts}

    def _outcome(self, draft: Draft, tensors: dict[str, torch.Tensor]) -> Outcome:
        record = draft.record
        entry = MemoryEntry(record.index, tensors, draft.pointer)
        memory = draft.after.memory
        if record.prompted and (draft.before is None or self.config.corrections_are_prompts):
            memory, verdict = memory.write_prompt(entry, record), {"kept": True, "why": "prompted"}
        else:
            memory, why = memory.write(entry, record, anchor=draft.anchor)
            kept = "anchor" if draft.anchor else "accepted"
            verdict = {"kept": why is None, "why": why or kept}
        return self._settled(draft, memory, verdict)

    def _settled(self, draft: Draft, memory: MaskMemory, verdict: dict[str, Any]) -> Outcome:
        after, diary = replace(draft.after, memory=memory), {**draft.diary, "memory": verdict}
        return Outcome(after, draft.before, draft.logits, draft.record, diary)

    def masks(
        self, features: ImageFeatures, logits: Sequence[torch.Tensor]
    ) -> Iterator[NDArray[np.bool_]]:
        """Bring masks to the frame's size, a few at a time.

        Args:
            features: the encoded frame.
            logits: ``(1, 1, h, w)`` each.

        Yields:
            ``(H, W)`` bool, in order.
        """
        for first in range(0, len(logits), _RENDERED_TOGETHER):
            some = torch.cat(list(logits[first : first + _RENDERED_TOGETHER]))
            yield from (self.segmenter.to_video(some, features) > 0)[:, 0].cpu().numpy()

    def render(
        self, features: ImageFeatures, outcomes: dict[int, Outcome]
    ) -> tuple[tuple[ObjectResult, ...], dict[int, Outcome]]:
        """Bring masks to the frame's size.

        Args:
            features: the encoded frame.
            outcomes: of this frame, by object.

        Returns:
            What the user gets, and the outcomes with each object's presence in it.
        """
        kept, objects = dict(outcomes), []
        items = list(outcomes.values())
        masks = self.masks(features, [outcome.logits for outcome in items])
        for outcome, mask in zip(items, masks, strict=True):
            box = mask_to_box(mask)
            logit = outcome.record.object_logit
            iou = outcome.record.iou if outcome.record.score is None else outcome.record.score
            appears = logit > self.config.appear_threshold
            after = replace(outcome.after, present=bool(appears and box.any()))
            kept[after.object_id] = replace(outcome, after=after)
            objects.append(
                ObjectResult(
                    after.object_id, after.name, after.present, mask, box,
                    score=min(max(iou, 0.0), 1.0), object_logit=logit,
                    diary=outcome.diary,
                )
            )  # fmt: skip
        return tuple(objects), kept


def can_go_together(engine: Engine, prompts: Sequence[Prompt]) -> bool:
    """Whether prompts go through the network together.

    Several boxes do, when objects do (``TrackingConfig.batch_objects``) and the segmenter has
    ``decode_boxes``; the embedded one has not, it cuts each box out by itself.
    """
    boxes = all(p.box is not None and p.points is None and p.mask is None for p in prompts)
    several = engine.together and len(prompts) > 1
    return boxes and several and hasattr(engine.segmenter, "decode_boxes")


def apply_boxes(
    engine: Engine,
    features: ImageFeatures,
    prompts: Mapping[int, Prompt],
    known: Mapping[int, Draft] | None = None,
) -> dict[int, Draft]:
    """``Engine.apply_prompt`` for many boxes; ask ``can_go_together`` first.

    Args:
        engine: the segmenter and its memory policy.
        features: the encoded frame.
        prompts: boxes by object.
        known: what tracking made of each object on this frame; None when all are new.

    Returns:
        One draft an object, equal within rounding to those made one by one.
    """
    segmenter: Any = engine.segmenter
    reads = previous = None
    if known is not None:
        reads = [engine.read_before(known[key]) for key in prompts]
        previous = torch.cat([known[key].logits for key in prompts])
    made = segmenter.decode_boxes(
        features,
        list(prompts.values()),
        reads=reads,
        previous=previous,
        appear_threshold=engine.config.appear_threshold,
    )
    return {
        key: engine.prompted(
            features, prompt, [], key, None if known is None else known[key], made.of(row)
        )
        for row, (key, prompt) in enumerate(prompts.items())
    }
