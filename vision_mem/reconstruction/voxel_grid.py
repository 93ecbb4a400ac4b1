"""What structure is made of, how much of it fits, and how it is handed out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError

_VOXEL_BYTES = 8 + 12 + 12 + 6 + 4 + 4 + 4 + 4 + 4
_TABLE_SHARE = 8  # the table has 2 to 4 places of 4 bytes a voxel; capacity makes it 2


@dataclass(frozen=True)
class StructureConfig:
    """What becomes structure, and what stops being so.

    Attributes:
        voxel: edge in metres; 0 takes twice what a pixel of the first frame covers, within
            0.02 to 0.08.
        probation: hits from different frames that make a voxel trusted.
        most_hits: hits counted at most: it bounds how long a thing that left is remembered.
        most_weight: frames that a running mean remembers.
        violations: least violations that a trusted voxel dies of.
        violation_share: share of its hits that the violations must exceed too.
        carving: whether frames that look through voxels violate them.
    """

    voxel: float = 0.0
    probation: int = 2
    most_hits: int = 40
    most_weight: float = 200.0
    violations: int = 2
    violation_share: float = 0.25
    carving: bool = True

    def __post_init__(self) -> None:
        if not (self.voxel == 0 or 0.001 <= self.voxel <= 10):
            raise InputError(f"voxel is {self.voxel}; expected 0 (automatic) or 0.001 to 10 metres")
        if not 1 <= self.probation <= self.most_hits:
            raise InputError(
                f"probation is {self.probation} and most_hits {self.most_hits}; expected 1 or "
                "more, and no more than most_hits"
            )


@dataclass(frozen=True)
class StaticMap:
    """Trusted structure as points.

    Attributes:
        points: ``(N, 3)`` float32 metres in the world.
        normals: ``(N, 3)`` float32 of length 1, towards where they were seen from; 0 if unknown.
        colours: ``(N, 3)`` uint8 RGB.
        hits: ``(N,)`` int32 frames that saw the point, as far as they are counted.
        voxel: metres between neighbours, about.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    colours: NDArray[np.uint8]
    hits: NDArray[np.int32]
    voxel: float


def capacity_for(budget: int) -> int:
    """Voxels that a number of bytes is enough for, table included."""
    return max(0, budget) // (_VOXEL_BYTES + _TABLE_SHARE)
