"""What the votes of one window say of one object: candidates with an estimate of their IoU each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.mask_quality import (
    NOTHING,
    candidate_evidence,
    estimated_iou,
)
from vision_mem.models.segmenters.embedded.windows import Window, keep_parts

_OUTSIDE = -6.9


@dataclass(frozen=True)
class Candidate:
    """One reading of one frame for one object.

    Attributes:
        logits: ``(s, s)`` float32 in its window.
        window: where it was looked for.
        score: estimated IoU with the truth, (0, 1).
    """

    logits: NDArray[np.float32]
    window: Window
    score: float


def read_window(
    config: EmbeddedConfig,
    said: NDArray[np.float32],
    logits: NDArray[np.float32],
    window: Window,
    expected: NDArray[np.float32] | None,
    extent: float,
    area: float,
) -> tuple[Candidate, Candidate, Candidate]:
    """Turn votes into candidates.

    Args:
        config: constants.
        said: ``(2, t, t)`` float32 votes of all memories and of prompted ones alone, [0, 1].
        logits: ``(s, s)`` float32, the object's outline.
        window: where it was looked for.
        expected: ``(s, s)`` previous mask moved along the optical flow, or None.
        extent: longer side of the object, video pixels.
        area: its expected area, video pixels.

    Returns:
        The object's parts, the best part alone, all parts.
    """
    side = config.window
    plain, first = (cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) for one in said)
    kept, single = keep_parts(logits, expected, extent / window.side / 2, config.part_overlap)
    made: dict[int, Candidate] = {}
    for some in (kept, single, logits):
        if id(some) in made:  # one part in view is the usual case, and then all three are one
            continue
        evidence = candidate_evidence(
            some, plain, first, expected, window, area, config.no_prior_agreement
        )
        score = NOTHING if evidence is None else estimated_iou(evidence, config.weights)
        made[id(some)] = Candidate(some, window, score)
    main, alone, loose = (made[id(some)] for some in (kept, single, logits))
    return main, replace(alone, score=max(alone.score - config.alone, NOTHING)), loose


def lay_out(candidates: Sequence[Candidate], rows: NDArray[np.float32], scale: float) -> None:
    """Lay candidates out on the grid on which masks live; what is the same, once.

    Args:
        candidates: M of them.
        rows: ``(M, gh, gw)`` logits, written.
        scale: grid / video.
    """
    for n, one in enumerate(candidates):
        for row, before in zip(rows[:n], candidates, strict=False):
            if before.logits is one.logits and before.window == one.window:
                np.copyto(rows[n], row)
                break
        else:
            one.window.onto_grid(one.logits, rows[n], scale, _OUTSIDE)
