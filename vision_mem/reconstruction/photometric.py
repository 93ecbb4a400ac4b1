"""How a camera moved between two images, from their brightness.

Corners say nothing of smooth paint, and little where they are few. Direct alignment asks of every
pixel with a gradient that it looks the same from the new camera: Gauss-Newton over the six
directions of motion, from coarse to fine, with a gain and an offset for the exposure.

Source: the inverse compositional form of Baker and Matthews, "Lucas-Kanade 20 Years On" (2004), on
the warp of depth images of Steinbruecker et al. (2011), with the robust weights of Kerl et al.
(2013). The checks of what may be believed are this project's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.poses import exponential

Matrix = NDArray[np.float64]

_POINTS = 1500
_CELL = 8
"""Pixels of the squares over which points are spread."""

_LEAST_SIDE = 24
"""Pixels of the shorter side of the coarsest image."""

_STEPS = 12
_LEAST_POINTS = 100
_ALIKE = 0.8
"""Correlation from which on two images are believed to show the same."""

_SURE = 0.95
"""Correlation from which on there is no doubt of it."""

_SHARED = 0.5
"""Share of the pixels of one image that have to be in the other."""

_FIRM = np.array([0.005] * 3 + [0.01] * 3)
"""Radians and metres to which a motion is known that is to be relied on."""

_SMOOTH = 0.03
"""Share of its depth by which a pixel may differ from its neighbours: edges move otherwise."""

_PATCH, _ODD = (7, 7), 0.3
"""Pixels of a patch, and the share of it that has to be odd, or known, to count as such."""

_GAP, _RIM = 21, 9
"""Pixels across: of gaps that are closed in what is odd, and of what its edge grows by."""

_NOISE = 2.0
"""Grey levels that are no difference."""


@dataclass(frozen=True)
class _Level:
    """Pixels of the first image at one size, and how their brightness changes with motion."""

    points: Matrix
    values: Matrix
    jacobian: Matrix
    after: NDArray[np.float32]
    camera: Matrix


@dataclass(frozen=True)
class CameraMotion:
    """What the brightness of two images says.

    Attributes:
        pose: ``(4, 4)`` of the second camera in the axes of the first.
        alike: correlation of the two images after the motion, [-1, 1].
        spread: of what still differs between them, grey levels.
        deviation: ``(6,)`` radians and metres, about and along the axes of the first camera.
    """

    pose: Matrix
    alike: float
    spread: float
    deviation: Matrix
    _finest: _Level = field(repr=False)

    @property
    def firm(self) -> bool:
        """Whether the images hold all six directions."""
        return bool((self.deviation < _FIRM).all())

    @property
    def agrees(self) -> bool:
        """Whether the images show the same beyond doubt."""
        return self.alike >= _SURE

    @property
    def sure(self) -> bool:
        """Whether nothing else need be asked."""
        return self.firm and self.agrees

    def against(self, pose: Matrix) -> float:
        """How many times as far apart the images are after another motion; about 1 for its like."""
        compared = _compared(self._finest, pose)
        return float("inf") if compared is None else compared[2] / self.spread


def motion_of_brightness(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    depth: NDArray[np.float32],
    camera: Matrix,
    starts: Iterable[Matrix],
) -> CameraMotion | None:
    """Motion of the camera between two images, from the brightness of all that is lit evenly.

    Args:
        before: ``(h, w)`` uint8.
        after: ``(h, w)`` uint8 of the same size.
        depth: ``(h, w)`` of the first; 0 where there is no reading or something moves.
        camera: ``(4,)`` fx, fy, cx, cy.
        starts: ``(4, 4)`` each, where the second camera may be in the first one's axes. The one
            that explains the coarse images best is refined.

    Returns:
        None when the images say too little or do not agree.
    """
    if before.shape != after.shape or min(before.shape) < _LEAST_SIDE:
        return None
    levels = _levels(before, after, depth, camera)
    if not levels:
        return None
    found = [_descend(levels[0], start) for start in starts]
    reached = [one for one in found if one is not None]
    if not reached:
        return None
    motion = min(reached, key=lambda one: one[1])[0]
    for level in levels[1:]:
        finer = _descend(level, motion)
        if finer is None:
            return None
        motion = finer[0]
    return _judged(levels[-1], motion)


def likeness(
    points: NDArray[np.float32],
    colours: NDArray[np.float32],
    image: NDArray[np.uint8],
    depth: NDArray[np.float32],
    camera: Matrix,
) -> float:
    """Whether an image shows points in the colours that they are known to have.

    Args:
        points: ``(n, 3)`` in the camera.
        colours: ``(n, 3)`` RGB in [0, 255].
        image: ``(h, w, 3)`` uint8.
        depth: ``(h, w)`` metres; only points that lie on it are compared.
        camera: ``(4,)``.

    Returns:
        Correlation over all channels, [-1, 1]: 1 when nothing but the exposure differs, and for
        two that are both plain and equally bright; -1 when there is too little to compare.
    """
    far = points[:, 2].astype(np.float64)
    u, v = _projected(points.astype(np.float64), camera)
    height, width = depth.shape
    inside = (far > 0) & (u > -0.5) & (v > -0.5) & (u < width - 0.5) & (v < height - 0.5)
    row, column = np.rint(v[inside]).astype(np.int64), np.rint(u[inside]).astype(np.int64)
    on = np.abs(depth[row, column] - far[inside]) < 0.05 + 0.02 * far[inside]
    if on.sum() < _LEAST_POINTS:
        return -1.0
    known = colours[inside][on].astype(np.float64).ravel()
    seen = image[row[on], column[on]].astype(np.float64).ravel()
    if max(known.std(), seen.std()) < 3 * _NOISE:
        return 1.0 if abs(known.mean() - seen.mean()) < 12 * _NOISE else -1.0
    spread = max(float(known.std() * seen.std()), 1e-9)
    return float(np.mean((known - known.mean()) * (seen - seen.mean())) / spread)


def left_over(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    depths: tuple[NDArray[np.float32], NDArray[np.float32]],
    camera: Matrix,
    motion: Matrix,
) -> NDArray[np.bool_]:
    """Where a motion of the camera does not make one image of the other: there things move.

    Args:
        before: ``(h, w)`` uint8.
        after: ``(h, w)`` uint8.
        depths: ``(h, w)`` metres of both; 0 where there is no reading, or what moves is known.
        camera: ``(4,)``.
        motion: ``(4, 4)`` of the second camera in the axes of the first.

    Returns:
        ``(h, w)`` pixels of the second image, whole patches of them; those that the first does not
        show are among them.
    """
    first, second = depths
    rows, columns = np.nonzero(first > 0)
    fx, fy, cx, cy = camera
    z = first[rows, columns].astype(np.float64)
    points = np.column_stack([(columns + 0.5 - cx) / fx * z, (rows + 0.5 - cy) / fy * z, z])
    back = np.linalg.inv(motion)
    moved = points @ back[:3, :3].T + back[:3, 3]
    u, v = _projected(moved, camera)
    here = moved[:, 2] > 0.05
    here &= (u > -0.5) & (v > -0.5) & (u < after.shape[1] - 0.5) & (v < after.shape[0] - 0.5)
    row, column = np.rint(v[here]).astype(np.int64), np.rint(u[here]).astype(np.int64)
    blurred = cv2.GaussianBlur(after, (3, 3), 0).astype(np.float32)
    seen = blurred[row, column]
    known = cv2.GaussianBlur(before, (3, 3), 0).astype(np.float32)[rows[here], columns[here]]
    rest = np.abs(seen - known - np.median(seen - known))
    spread = max(1.4826 * float(np.median(rest)), _NOISE)
    far, found = moved[here, 2], second[row, column]
    # Edges are seen elsewhere by a pixel; patches of several are not.
    odd = (rest > 4 * spread) | ((found > 0) & (np.abs(found - far) > 0.02 + 0.02 * far))
    count, wrong = np.zeros(after.shape, np.float32), np.zeros(after.shape, np.float32)
    np.add.at(count, (row, column), 1)
    np.add.at(wrong, (row, column), odd)
    told = cv2.blur(count, _PATCH)
    share = cv2.blur(wrong, _PATCH) / np.maximum(told, 1e-3)
    # What moved before was taken out of the first depth: of it nothing is told.
    mask = ((share > _ODD) | (told < _ODD)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disc(_GAP))
    return np.asarray(cv2.dilate(mask, _disc(_RIM)) > 0)


def _disc(width: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)), np.uint8)


def _levels(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    depth: NDArray[np.float32],
    camera: Matrix,
) -> list[_Level]:
    """The coarsest first; none where there is too little to see."""
    images = [(cv2.GaussianBlur(before, (3, 3), 0), cv2.GaussianBlur(after, (3, 3), 0))]
    while min(images[-1][0].shape) >= 2 * _LEAST_SIDE and len(images) < 4:
        images.append((cv2.pyrDown(images[-1][0]), cv2.pyrDown(images[-1][1])))
    chosen = _spread(images[0][0], depth)
    if len(chosen) < _LEAST_POINTS:
        return []
    y, x = chosen.T
    fx, fy, cx, cy = camera
    z = depth[y, x].astype(np.float64)
    points = np.column_stack([(x + 0.5 - cx) / fx * z, (y + 0.5 - cy) / fy * z, z])
    made = []
    for k, (first, second) in enumerate(images):
        small = camera / 2**k
        few = points[: max(_LEAST_POINTS * 2, len(points) >> k)]  # the strongest of each square
        grey = first.astype(np.float32)
        across, down = _gradients(grey)
        u, v = _projected(few, small)
        values, du, dv = (_sampled(image, u, v) for image in (grey, across, down))
        made.append(
            _Level(few, values, _jacobian(few, small, du, dv), second.astype(np.float32), small)
        )
    return made[::-1]


def _spread(grey: NDArray[np.uint8], depth: NDArray[np.float32]) -> NDArray[np.int64]:
    """``(n, 2)`` rows and columns of pixels with the strongest gradients of each square."""
    near = cv2.erode(np.where(depth > 0, depth, 0), np.ones((3, 3)))
    far = cv2.dilate(depth, np.ones((3, 3)))
    usable = (near > 0) & (far - near < _SMOOTH * far)
    usable[[0, 1, -2, -1]] = False
    usable[:, [0, 1, -2, -1]] = False
    wide = grey.astype(np.float32)
    strength = np.abs(cv2.Sobel(wide, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(wide, cv2.CV_32F, 0, 1))
    strength = np.where(usable, strength, 0)
    rows, columns = strength.shape[0] // _CELL, strength.shape[1] // _CELL
    inside = strength[: rows * _CELL, : columns * _CELL]
    squares = inside.reshape(rows, _CELL, columns, _CELL).swapaxes(1, 2).reshape(-1, _CELL**2)
    each = min(_CELL**2, -(-_POINTS // max(len(squares), 1)))
    best = np.argsort(-squares, axis=1, kind="stable")[:, :each]
    # The strongest of every square come first, so that the first n are spread as well.
    rank, square = np.divmod(np.arange(best.size), len(squares))
    pixel = best[square, rank]
    kept = squares[square, pixel] > 0
    square, pixel = square[kept], pixel[kept]
    row = square // columns * _CELL + pixel // _CELL
    column = square % columns * _CELL + pixel % _CELL
    return np.column_stack([row, column])[:_POINTS]


def _projected(points: Matrix, camera: Matrix) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Columns and rows as ``cv2.remap`` counts them: 0 is the middle of the first pixel."""
    z = np.maximum(points[:, 2], 1e-6)
    u = points[:, 0] / z * camera[0] + camera[2] - 0.5
    v = points[:, 1] / z * camera[1] + camera[3] - 0.5
    return u.astype(np.float32), v.astype(np.float32)


def _sampled(image: NDArray[np.float32], u: NDArray[np.float32], v: NDArray[np.float32]) -> Matrix:
    """Values between pixels; NaN outside."""
    outside = cv2.BORDER_CONSTANT
    found = cv2.remap(image, u[:, None], v[:, None], cv2.INTER_LINEAR, None, outside, float("nan"))
    return np.asarray(found, np.float64).ravel()


def _jacobian(points: Matrix, camera: Matrix, du: Matrix, dv: Matrix) -> Matrix:
    """``(n, 6)`` change of brightness with a twist of the points, turn first."""
    x, y, z = points.T
    gx, gy = du * camera[0] / z, dv * camera[1] / z
    gz = -(gx * x + gy * y) / z
    return np.column_stack([gz * y - gy * z, gx * z - gz * x, gy * x - gx * y, gx, gy, gz])


def _compared(level: _Level, motion: Matrix) -> tuple[Matrix, Matrix, float, float] | None:
    """Difference and weight of each pixel, their spread and correlation; None with too few."""
    back = np.linalg.inv(motion)
    moved = level.points @ back[:3, :3].T + back[:3, 3]
    seen = _sampled(level.after, *_projected(moved, level.camera))
    good = np.isfinite(seen) & (moved[:, 2] > 0.05) & np.isfinite(level.jacobian[:, 0])
    good &= np.isfinite(level.values)
    if good.sum() < _LEAST_POINTS:
        return None
    weights = good.astype(np.float64)
    seen, values = np.where(good, seen, 0.0), np.where(good, level.values, 0.0)
    rest = seen - values
    gain = 1.0
    alike = 0.0
    for _ in range(2):
        total = weights.sum()
        a, b = weights @ seen / total, weights @ values / total
        aa = weights @ (seen - a) ** 2
        bb = weights @ (values - b) ** 2
        ab = weights @ ((seen - a) * (values - b))
        # Noise makes a regression too flat: the ratio of the spreads does not suffer from it.
        gain = float(np.clip(np.sqrt(bb / max(aa, 1e-9)), 0.5, 2.0))
        alike = float(ab / max(np.sqrt(aa * bb), 1e-9))
        rest = gain * (seen - a) - (values - b)
        spread = 1.4826 * np.median(np.abs(rest[good]))
        scale = max(spread, _NOISE / 2)
        weights = good / (1 + (rest / (2.0 * scale)) ** 2)
    return rest, weights, float(scale), alike


def _descend(level: _Level, start: Matrix) -> tuple[Matrix, float] | None:
    """Motion that makes the images alike, and how unlike they still are."""
    motion, best = start.copy(), None
    for _ in range(_STEPS):
        compared = _compared(level, motion)
        if compared is None:
            return best
        rest, weights, scale, _ = compared
        cost = float(weights @ np.minimum(rest**2, (4 * scale) ** 2) / weights.sum())
        if best is not None and cost > best[1] * 0.999:
            return best if cost > best[1] else (motion, cost)
        best = motion, cost
        jacobian = np.where(weights[:, None] > 0, level.jacobian, 0.0)
        # Brightness is compared about its mean, so only changes about the mean count.
        jacobian = jacobian - (weights @ jacobian) / weights.sum()
        system = jacobian.T @ (jacobian * weights[:, None])
        system += 1e-6 * np.trace(system) / 6 * np.eye(6)
        step = np.linalg.solve(system, jacobian.T @ (weights * rest))
        motion = exponential(step) @ motion
        if np.abs(step).max() < 1e-5:
            break
    return best


def _judged(level: _Level, motion: Matrix) -> CameraMotion | None:
    """What is to be believed of a motion; None when the images do not agree."""
    compared = _compared(level, motion)
    if compared is None:
        return None
    _, weights, scale, alike = compared
    if alike < _ALIKE or np.mean(weights > 0) < _SHARED:
        return None
    # Noise in a gradient makes every direction look held. Gradients of both images have noises
    # that are independent, so their products say which directions are.
    back = np.linalg.inv(motion)
    moved = level.points @ back[:3, :3].T + back[:3, 3]
    u, v = _projected(moved, level.camera)
    du, dv = (_sampled(image, u, v) for image in _gradients(level.after))
    known = (weights > 0) & np.isfinite(du) & np.isfinite(dv)
    weights = weights[known]
    both = level.jacobian[known], _jacobian(level.points[known], level.camera, du[known], dv[known])
    first, second = (one - (weights @ one) / weights.sum() for one in both)
    system = first.T @ (second * weights[:, None])
    values, vectors = np.linalg.eigh((system + system.T) / 2 / scale**2)
    # What is not held at all is known to a radian and a metre, say.
    variances = (vectors**2) @ (1 / np.maximum(values, 1.0))
    return CameraMotion(motion, alike, scale, np.sqrt(variances), level)


def _gradients(grey: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Grey levels a pixel, across and down."""
    return cv2.Scharr(grey, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(grey, cv2.CV_32F, 0, 1) / 32
