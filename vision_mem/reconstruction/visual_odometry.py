"""How a camera moved between two images: from corners that are followed, and from brightness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.poses import inverse, make_pose, rotation_from
from vision_mem.reconstruction.photometric import CameraMotion, motion_of_brightness

Matrix = NDArray[np.float64]


def motion_of_features(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    depth: NDArray[np.float32],
    camera: Matrix,
) -> Matrix | None:
    """Motion of the camera between two images, from corners that are followed.

    Args:
        before: ``(h, w)`` uint8.
        after: ``(h, w)`` uint8 of the same size.
        depth: ``(h, w)`` of the first.
        camera: ``(4,)``.

    Returns:
        ``(4, 4)`` pose of the second camera in the first one's axes; None when too few agree.
    """
    if before.shape != after.shape or min(before.shape) < 32:
        return None
    corners = cv2.goodFeaturesToTrack(before, 400, 0.01, 5)
    if corners is None or len(corners) < 12:
        return None
    there, good, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15))
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, winSize=(15, 15))
    corners, there, back = (a.reshape(-1, 2) for a in (corners, there, back))
    kept = (good.ravel() > 0) & (again.ravel() > 0)
    kept &= np.linalg.norm(corners - back, axis=1) < 1.0
    at = np.clip(np.round(corners).astype(int), 0, np.array(before.shape[::-1]) - 1)
    z = depth[at[:, 1], at[:, 0]].astype(np.float64)
    kept &= z > 0
    if kept.sum() < 12:
        return None
    fx, fy, cx, cy = camera
    x, y = (corners[kept] + 0.5).T.astype(np.float64)
    points = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], axis=1) * z[kept][:, None]
    pixels = (there[kept] + 0.5).astype(np.float64)
    solved = pose_from_points(points, pixels, camera, 2.0)
    if solved is None or len(solved[1]) < max(10, 0.3 * kept.sum()):
        return None
    return solved[0]


def pose_from_points(
    points: Matrix,
    pixels: Matrix,
    camera: Matrix,
    error: float,
    *,
    method: int = cv2.SOLVEPNP_EPNP,
    tries: int = 200,
) -> tuple[Matrix, NDArray[np.int32]] | None:
    """Where points are seen as they are from.

    Args:
        points: ``(n, 3)``, at least 5.
        pixels: ``(n, 2)`` x, y; 0.5 is the middle of the first pixel.
        camera: ``(4,)`` fx, fy, cx, cy.
        error: pixels within which a point agrees.
        method: of OpenCV, for a few points.
        tries: at most.

    Returns:
        ``(4, 4)`` pose of the camera in the axes of the points, and the numbers of those that
        agree; None when there is no such pose. The same input gives the same answer.
    """
    fx, fy, cx, cy = camera
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    done, turn, shift, agreeing = cv2.solvePnPRansac(
        points, pixels, matrix, None, iterationsCount=tries, reprojectionError=error, flags=method
    )
    if not done or agreeing is None or len(agreeing) < 4:
        return None
    few = agreeing.ravel()
    turn, shift = cv2.solvePnPRefineLM(points[few], pixels[few], matrix, None, turn, shift)
    if not np.isfinite(turn).all() or not np.isfinite(shift).all():
        return None
    return inverse(make_pose(rotation_from(turn.ravel()), shift.ravel())), few


@dataclass(frozen=True)
class ImageMotion:
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
    brightness: CameraMotion | None = None


NOTHING_SEEN = ImageMotion()


def see(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    depth: NDArray[np.float32],
    camera: Matrix,
    starts: Sequence[Matrix],
) -> ImageMotion:
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
        return ImageMotion(corners, same=any(one.agrees for one in several))
    best = max(firm, key=lambda one: one.alike)
    return ImageMotion(best.pose, best.sure, best.agrees, best if best.sure else None)
