"""What two images say of the motion between them: by their brightness, and by their corners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.reconstruction.corners_flow import motion_of_features
from vision_mem.reconstruction.photometric import Motion, motion_of_brightness

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What two images say of the motion between them.

    Attributes:
        motion: ``(4, 4)`` of the second camera in the axes of the first; None when unknown.
        sure: whether it may be relied on in all directions.
        same: whether both show the same, so that the camera cannot have gone far.
        brightness: what says so, when it is sure.
    """

    motion: Matrix | None = None
    sure: bool = False
    same: bool = False
    brightness: Motion | None = None


NOTHING_SEEN = Seen()


def see(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    depth: NDArray[np.float32],
    camera: Matrix,
    starts: Sequence[Matrix],
) -> Seen:
    """Motion of the camera between two images.

    Args:
        before: ``(h, w)`` uint8.
        after: ``(h, w)`` uint8.
        depth: ``(h, w)`` metres of the first; 0 where there is no reading or something moves.
        camera: ``(4,)`` fx, fy, cx, cy.
        starts: ``(4, 4)`` each, where the second camera may be in the first one's axes.
    """
    images = before, after, depth, camera
    found = [motion_of_brightness(*images, starts)]
    corners = None
    if found[0] is None or not found[0].sure:
        # Motion that is too large for brightness is seen by corners.
        corners = motion_of_features(*images)
        if corners is not None:
            found.append(motion_of_brightness(*images, [corners]))
    several = [one for one in found if one is not None]
    firm = [one for one in several if one.firm]
    if not firm:
        return Seen(corners, same=any(one.agrees for one in several))
    best = max(firm, key=lambda one: one.alike)
    return Seen(best.pose, best.sure, best.agrees, best if best.sure else None)
