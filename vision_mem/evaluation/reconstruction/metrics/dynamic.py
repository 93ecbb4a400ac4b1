"""What a moving scene asks beside depth: masks, split errors, ghosts, places seen again.

Source: specs/mem4d.md section 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.evaluation.scores import Counts

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

GHOST_M = 0.1
"""Metres from every surface that stands still beyond which a point of the map is a ghost."""
REVISIT_FRAMES = 48
_CELL_M = 0.2


@dataclass(frozen=True)
class MaskCounts(Counts):
    """Pixels of masks of what moves against the truth.

    Attributes:
        hit: said to move, and moving.
        wrong: said to move, and still.
        missed: moving, and not said to.
    """

    hit: int = 0
    wrong: int = 0
    missed: int = 0

    @classmethod
    def of(cls, found: Mask, true: Mask, known: Mask | None = None) -> MaskCounts:
        """Count the pixels of a frame.

        Args:
            found: ``(H, W)`` what is said to move.
            true: ``(H, W)`` what moves.
            known: ``(H, W)`` pixels that count; None for all.
        """
        counts = np.ones(true.shape, bool) if known is None else known
        return cls(
            int((found & true & counts).sum()), int((found & ~true & counts).sum()),
            int((~found & true & counts).sum()),
        )  # fmt: skip

    @property
    def measures(self) -> dict[str, float]:
        """IoU, F1, precision and recall; NaN where there is nothing to divide by."""
        hit, wrong, missed = self.hit, self.wrong, self.missed
        return {
            "mask_iou": _share(hit, hit + wrong + missed),
            "mask_f1": _share(2 * hit, 2 * hit + wrong + missed),
            "mask_precision": _share(hit, hit + wrong),
            "mask_recall": _share(hit, hit + missed),
        }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def ghost_share(distances: Array, limit: float = GHOST_M) -> float:
    """Share of a map's points that lie farther than ``limit`` from what stands still; NaN of none.

    Args:
        distances: ``(N,)`` metres to the nearest surface that stands still.
        limit: metres.
    """
    return float((np.asarray(distances) > limit).mean()) if len(distances) else float("nan")


def seen_again(
    places: Sequence[Array],
    numbers: Sequence[int] | None = None,
    gap: int = REVISIT_FRAMES,
    cell: float = _CELL_M,
) -> list[Mask]:
    """Which points were seen before, and not lately.

    A place is a cube of space. It is seen again on a frame when the last frame on which it was
    seen lies at least ``gap`` frames back.

    Args:
        places: true points ``(N, 3)`` of each frame, of what stands still.
        numbers: of the frames, rising; from 0 when left out.
        gap: frames.
        cell: metres, size of a cube.

    Returns:
        ``(N,)`` for each frame.
    """
    last: dict[tuple[int, int, int], int] = {}
    found = []
    for frame, points in zip(numbers or range(len(places)), places, strict=True):
        cubes = np.floor(np.asarray(points, np.float64) / cell).astype(np.int64)
        unique, which = np.unique(cubes, axis=0, return_inverse=True)
        again = np.zeros(len(unique), bool)
        for k, cube in enumerate(map(tuple, unique.tolist())):
            again[k] = cube in last and frame - last[cube] >= gap
            last[cube] = frame
        found.append(again[which.reshape(-1)] if len(unique) else np.zeros(len(points), bool))
    return found
