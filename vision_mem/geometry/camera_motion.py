"""How the picture of a still world moves between two frames, and whether one can tell.

Corners are followed by optical flow, forwards and back; what most of them agree on, as a
homography, is the camera. It holds exactly for a camera that turns, or looks at something flat. A
camera that travels makes near things run away from one point faster than far ones (parallax):
then no homography is right everywhere, and what is left over says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CORNERS = 400
"""Most corners that are followed."""

LEAST_CELLS, LEAST_AGREEING = 8, 0.55
"""Parts of the picture and share of corners that must agree before a motion is the camera's."""
MOVES = 0.00125
"""Shift a frame, in shares of the longer side, of a camera that moves."""

SIDE = 320
"""Longest side, in pixels, of the pictures that are compared."""

_LEAST = 16  # corners that agree, below which nothing is said
_AGREES = 1.0  # pixels of a reduced picture
_LEFT_OVER = 0.8  # pixels from which on a corner is held to move against the picture
_CELLS = (4, 6)  # rows and columns in which corners are counted
_WINDOW, _LEVELS = (15, 15), 3  # of optical flow
_RADIAL = 0.94  # cosine: within 20 degrees of the line from the point that all run from


@dataclass(frozen=True)
class ViewMotion:
    """What two pictures say of the camera.

    Attributes:
        matrix: float64 ``(3, 3)``: from ``(x, y, 1)`` in the earlier picture to the later one, in
            pixels of the pictures that were compared, up to scale.
        agreeing: share of the followed corners that it explains, [0, 1].
        cells: parts of the picture, of 24, with corners that it explains.
        parallax: how much the picture runs from, or to, one point beyond that: the share of
            parts with corners that it does not explain, times the share of those corners that
            move on lines through one point; [0, 1]. A camera on a car gives about 0.5, things
            that move before a camera that turns 0.3 at most.
        shift: how far the picture's corners and middle move, mean, in shares of its longer side.
    """

    matrix: NDArray[np.float64]
    agreeing: float
    cells: int
    parallax: float
    shift: float

    @property
    def agreed(self) -> bool:
        """Whether enough of the picture moves so that it is the camera."""
        return self.cells >= LEAST_CELLS and self.agreeing >= LEAST_AGREEING

    @property
    def sure(self) -> bool:
        """Whether the camera moved at all, and that is agreed."""
        return self.agreed and self.shift > MOVES

    def scaled(self, factor: float) -> NDArray[np.float64]:
        """The matrix for pictures that are ``factor`` times as large as those compared."""
        scale = np.diag([factor, factor, 1.0])
        return np.asarray(scale @ self.matrix @ np.linalg.inv(scale))


def reduced(image: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """A grey picture for ``camera_motion``.

    Args:
        image: ``(H, W, 3)`` RGB.
        side: longest side in pixels; smaller pictures keep their size.

    Returns:
        ``(h, w)`` uint8.
    """
    import cv2  # seconds with what it brings; settings are read without it

    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    scale = side / max(grey.shape)
    if scale < 1:
        size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def camera_motion(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> ViewMotion | None:
    """Estimate the camera's motion between two grey pictures.

    Args:
        before: ``(h, w)`` uint8, see ``reduced``.
        after: ``(h, w)`` uint8.

    Returns:
        None where it cannot be told: another size, too few corners, a cut.
    """
    import cv2

    if before.shape != after.shape:
        return None
    first, second = _followed(before, after)
    if len(first) < _LEAST:
        return None
    # OpenCV draws the same samples every time.
    matrix, agrees = cv2.findHomography(first, second, cv2.RANSAC, _AGREES)
    if matrix is None or agrees.sum() < _LEAST:
        return None
    height, width = before.shape
    agrees = agrees.ravel() > 0
    rest = second - cv2.perspectiveTransform(first[:, None], matrix)[:, 0]
    cell = (first[:, 1] * _CELLS[0] // height).astype(int) * _CELLS[1]
    cell += (first[:, 0] * _CELLS[1] // width).astype(int)
    loose = np.linalg.norm(rest, axis=1) > _LEFT_OVER
    spread = len(set(cell[loose])) / len(set(cell))
    marks = [[0, 0], [width, 0], [0, height], [width, height], [width / 2, height / 2]]
    places = np.array(marks, np.float64)[:, None]
    moved = cv2.perspectiveTransform(places, matrix) - places
    shift = float(np.linalg.norm(moved, axis=-1).mean()) / max(before.shape)
    if not np.isfinite(shift) or shift > 1:
        return None
    return ViewMotion(
        np.asarray(matrix, np.float64),
        float(agrees.mean()),
        len(set(cell[agrees])),
        spread * _radial_share(first[loose], rest[loose]),
        shift,
    )


def carried_box(box: ArrayLike, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a camera's motion takes a box ``(4,)``: its middle is carried, its size scaled.

    Args:
        box: ``(x1, y1, x2, y2)`` pixels of the earlier picture.
        matrix: ``(3, 3)``, in pixels of the same size.

    Returns:
        float64 ``(4,)``.
    """
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    middle, turn = carried_point((x1 + x2) / 2, (y1 + y2) / 2, matrix)
    half = np.array([x2 - x1, y2 - y1]) / 2 * np.sqrt(abs(np.linalg.det(turn)))
    return np.concatenate([middle - half, middle + half])


def carried_point(
    x: float, y: float, matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a camera's motion takes a point, ``(2,)``, and small steps there, ``(2, 2)``."""
    u, v, w = matrix @ np.array([x, y, 1.0])
    there = np.array([u, v]) / w
    return there, (matrix[:2, :2] - np.outer(there, matrix[2, :2])) / w


def _followed(
    before: NDArray[np.uint8], after: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Corners ``(n, 2)`` of the earlier picture, and where they are in the later one."""
    import cv2

    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.005, 5)
    if corners is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, corners, None, winSize=_WINDOW, maxLevel=_LEVELS
    )
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(
        after, before, there, None, winSize=_WINDOW, maxLevel=_LEVELS
    )
    sure = (found.ravel() > 0) & (found_back.ravel() > 0)
    sure &= np.abs(back - corners).max(axis=(1, 2)) < 0.5
    return corners[sure].reshape(-1, 2), there[sure].reshape(-1, 2)


def _radial_share(places: NDArray[np.float32], steps: NDArray[np.float32]) -> float:
    """Largest share of steps that lead away from, or all towards, one point."""
    if len(places) < 8:
        return 0.0
    along = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    offset = (normal * places).sum(axis=1)
    dice, best = np.random.default_rng(0), 0.0
    for one, other in dice.integers(0, len(places), (60, 2)):
        lines = normal[[one, other]]
        if abs(np.linalg.det(lines)) < 0.1:  # all but parallel
            continue
        away = places - np.linalg.solve(lines, offset[[one, other]])
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
        cosine = (away * along).sum(axis=1)
        best = max(best, float((cosine > _RADIAL).mean()), float((cosine < -_RADIAL).mean()))
    return best
