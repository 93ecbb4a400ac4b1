"""Many boxes shown to the segmenter at once: births and corrections of one frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vision_mem.models.segmenters.protocol import ImageFeatures
from vision_mem.tracking.engine import Draft, Engine
from vision_mem.types import Prompt


def can_go_together(engine: Engine, prompts: Sequence[Prompt]) -> bool:
    """Whether prompts go through the network together.

    Several boxes do, when objects do (``TrackingConfig.batch_objects``) and the segmenter has
    ``decode_boxes``; the embedded one has not, it cuts each box out by itself.
    """
    boxes = all(p.box is not None and p.points is None and p.mask is None for p in prompts)
    return (
        engine.together and boxes and len(prompts) > 1 and hasattr(engine.segmenter, "decode_boxes")
    )


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
        previous = torch.cat([engine.previous_logits(known[key]) for key in prompts])
    made = segmenter.decode_boxes(
        features,
        list(prompts.values()),
        reads=reads,
        previous=previous,
        appear_threshold=engine.config.policy.appear_threshold,
    )
    return {
        key: engine.prompted(
            features, prompt, [], key, None if known is None else known[key], made.of(row)
        )
        for row, (key, prompt) in enumerate(prompts.items())
    }
