"""Rigid motions: 4x4 matrices, twists, quaternions, alignment of point sets.

A pose is camera-to-world, ``(4, 4)`` float64: ``world = rotation @ camera + translation``.
Lengths are metres unless a caller says otherwise; angles are radians.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts load when they are named: most callers turn nothing
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def make_pose(rotation: ArrayLike, translation: ArrayLike) -> Matrix:
    """Put a rotation ``(3, 3)`` and a translation ``(3,)`` into one ``(4, 4)`` matrix."""
    pose = np.eye(4)
    pose[:3, :3] = np.asarray(rotation, dtype=np.float64)
    pose[:3, 3] = np.asarray(translation, dtype=np.float64)
    return pose


def inverse(pose: ArrayLike) -> Matrix:
    """The motion back: world-to-camera of a camera-to-world pose, ``(4, 4)``."""
    matrix = np.asarray(pose, dtype=np.float64)
    turned = matrix[:3, :3].T
    return make_pose(turned, -turned @ matrix[:3, 3])


def transform(pose: ArrayLike, points: ArrayLike) -> Matrix:
    """Move points.

    Args:
        pose: ``(4, 4)``.
        points: ``(..., 3)``.

    Returns:
        ``(..., 3)`` float64.
    """
    matrix = np.asarray(pose, dtype=np.float64)
    moved = np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return np.asarray(moved)


def is_rigid(pose: ArrayLike, tolerance: float = 1e-2) -> bool:
    """Whether a ``(4, 4)`` matrix is a rotation and a translation, all of it finite.

    Args:
        pose: the matrix.
        tolerance: largest deviation of ``R^T R`` from the identity, and of the last row.
    """
    matrix = np.asarray(pose, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return False
    rotation = matrix[:3, :3]
    if np.abs(rotation).max() > 2.0:  # before squares can overflow
        return False
    near = np.abs(rotation.T @ rotation - np.eye(3)).max() <= tolerance
    last = np.abs(matrix[3] - (0.0, 0.0, 0.0, 1.0)).max() <= tolerance
    return bool(near and last and np.linalg.det(rotation) > 0)


def made_rigid(pose: ArrayLike) -> Matrix:
    """The nearest pose whose rotation is exact: text files round their numbers."""
    matrix = np.asarray(pose, dtype=np.float64)
    left, _, right = np.linalg.svd(matrix[:3, :3])
    rotation = left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right
    return make_pose(rotation, matrix[:3, 3])


def rotation_from(vector: ArrayLike) -> Matrix:
    """Rotation matrix ``(3, 3)`` about the axis ``vector`` by its length in radians."""
    turned = scipy.spatial.transform.Rotation.from_rotvec(np.asarray(vector, np.float64))
    return np.asarray(turned.as_matrix())


def rotation_vector(rotation: ArrayLike) -> Matrix:
    """Axis times angle ``(3,)`` of a rotation matrix; the angle lies in [0, pi]."""
    turned = scipy.spatial.transform.Rotation.from_matrix(np.asarray(rotation, np.float64))
    return np.asarray(turned.as_rotvec())


def rotation_angle(rotation: ArrayLike) -> float:
    """Angle of a rotation matrix in radians, [0, pi]."""
    return float(np.linalg.norm(rotation_vector(rotation)))


def exponential(twist: ArrayLike) -> Matrix:
    """Pose of a twist: ``(6,)`` rotation vector, then velocity; both act for one unit of time."""
    values = np.asarray(twist, dtype=np.float64)
    turn, shift = values[:3], values[3:]
    angle = float(np.linalg.norm(turn))
    hat = _cross(turn)
    if angle < 1e-6:
        left = np.eye(3) + 0.5 * hat + hat @ hat / 6.0
    else:
        left = (
            np.eye(3)
            + (1.0 - np.cos(angle)) / angle**2 * hat
            + (angle - np.sin(angle)) / angle**3 * hat @ hat
        )
    return make_pose(rotation_from(turn), left @ shift)


def logarithm(pose: ArrayLike) -> Matrix:
    """Twist ``(6,)`` of a pose; ``exponential`` of it is the pose again."""
    matrix = np.asarray(pose, dtype=np.float64)
    turn = rotation_vector(matrix[:3, :3])
    angle = float(np.linalg.norm(turn))
    hat = _cross(turn)
    if angle < 1e-6:
        back = np.eye(3) - 0.5 * hat + hat @ hat / 12.0
    else:
        half = 0.5 * angle
        factor = (1.0 - half / np.tan(half)) / angle**2
        back = np.eye(3) - 0.5 * hat + factor * hat @ hat
    return np.concatenate([turn, back @ matrix[:3, 3]])


def quaternion_from(rotation: ArrayLike) -> Matrix:
    """Unit quaternion ``(4,)`` w, x, y, z with w >= 0 of a rotation matrix."""
    turned = scipy.spatial.transform.Rotation.from_matrix(np.asarray(rotation, np.float64))
    x, y, z, w = turned.as_quat()
    sign = -1.0 if w < 0 else 1.0
    return sign * np.array([w, x, y, z])


def rotation_of(quaternion: ArrayLike) -> Matrix:
    """Rotation matrix ``(3, 3)`` of a quaternion w, x, y, z; its length does not matter.

    Raises:
        ValueError: for a quaternion that is zero or not finite.
    """
    w, x, y, z = np.asarray(quaternion, dtype=np.float64)
    length = float(np.linalg.norm([w, x, y, z]))
    if not (np.isfinite(length) and length > 1e-9):
        raise ValueError(f"quaternion w, x, y, z = {w:g}, {x:g}, {y:g}, {z:g} has no direction")
    return np.asarray(scipy.spatial.transform.Rotation.from_quat([x, y, z, w]).as_matrix())


def aligned(
    source: ArrayLike, target: ArrayLike, *, with_scale: bool = False
) -> tuple[float, Matrix]:
    """Scale and rigid motion that bring one point set onto another, least squares.

    Args:
        source: ``(N, 3)`` points, N >= 3.
        target: ``(N, 3)`` points that belong to them, in the same order.
        with_scale: also look for a scale; else it is 1.

    Returns:
        ``scale`` and ``(4, 4)`` pose, so that ``target ~ transform(pose, scale * source)``.

    Source:
        Umeyama 1991, with the determinant fix; specs/mem4d.md section 3.2.
    """
    here, there = np.asarray(source, np.float64), np.asarray(target, np.float64)
    middle, goal = here.mean(axis=0), there.mean(axis=0)
    here, there = here - middle, there - goal
    left, stretch, right = np.linalg.svd(there.T @ here / len(here))
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right)) or 1.0])
    rotation = (left * flip) @ right
    spread = float((here**2).sum() / len(here))
    scale = float((stretch * flip).sum() / spread) if with_scale and spread > 0 else 1.0
    return scale, make_pose(rotation, goal - scale * rotation @ middle)


def _cross(vector: Matrix) -> Matrix:
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
