"""Where the camera is: each frame against the structure known so far.

Point-to-plane ICP with projective association, from coarse to fine. Directions that the visible
structure leaves open (a flat wall leaves three) keep the prior's word. When too little fits, the
frame is *lost*.

Source: specs/mem4d.md section 4.4, item 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.poses import exponential, inverse, make_pose
from vision_mem.reconstruction.kernels.dispatch import VoxelKernels

Matrix = NDArray[np.float64]

STAGES = ((8, 0.25, 8), (4, 0.12, 6), (1, 0.06, 4))
"""Every how many model points, gate in metres, steps."""


@dataclass(frozen=True)
class OdometryConfig:
    """How poses are found.

    Attributes:
        model_points: points of the structure that are looked at.
        angle: degrees by which normals of a pair may differ.
        huber: metres from which on a residual counts linearly.
        least_inliers: share of the visible structure that must fit.
        least_pairs: pairs below which a frame is lost.
        conditioning: a direction is open when its eigenvalue is below this share of the mean.
        leaning: the same when the images say how the camera moved: what structure holds loosely is
            left to them.
        most_open: directions that may be open then, when the images hold them firmly and the world
            is not a single plane; corners alone are trusted with two at most. Without images, none
            may be open.
        colour: whether images are asked.
        places: places that are remembered, by their features, for finding a lost camera again; 0
            for none. They never take more than 3 % of the budget.
    """

    model_points: int = 8_000
    angle: float = 30.0
    huber: float = 0.03
    least_inliers: float = 0.3
    least_pairs: int = 100
    conditioning: float = 0.01
    leaning: float = 0.05
    most_open: int = 3
    colour: bool = True
    places: int = 64

    def __post_init__(self) -> None:
        if self.model_points < 100 or self.least_pairs < 6:
            raise InputError(
                f"model_points is {self.model_points} and least_pairs {self.least_pairs}; expected "
                "at least 100 and 6"
            )
        if self.places < 0:
            raise InputError(f"places is {self.places}; expected 0 or more")


@dataclass(frozen=True)
class Alignment:
    """What ICP says.

    Attributes:
        pose: ``(4, 4)`` camera-to-world; the prior when lost.
        lost: whether it is not to be believed.
        inliers: share of the visible structure that fits, [0, 1].
        open: directions of motion, of 6, that the structure leaves open.
        reason: why it is lost; empty when it is not.
    """

    pose: Matrix
    lost: bool
    inliers: float
    open: int = 0
    reason: str = ""


def align(
    kernels: VoxelKernels,
    config: OdometryConfig,
    model: tuple[NDArray[np.float32], NDArray[np.float32]],
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    camera: Matrix,
    prior: Matrix,
    *,
    conditioning: float,
    most_open: int,
) -> Alignment:
    """Find the pose of one frame.

    Args:
        kernels: loops.
        config: settings.
        model: points ``(n, 3)`` and normals ``(n, 3)`` of the structure that may be in view.
        points: ``(H, W, 3)`` of the frame, in the camera; z is 0 where nothing is to be aligned.
        normals: ``(H, W, 3)`` of the frame, in the camera.
        camera: ``(4,)`` fx, fy, cx, cy.
        prior: ``(4, 4)`` where the camera is believed to be.
        conditioning: share of the mean eigenvalue below which a direction is open.
        most_open: directions that may stay as the prior has them.
    """
    if len(model[0]) < config.least_pairs:
        return Alignment(prior, True, 0.0, 0, "there is too little structure in view")
    pose = prior.copy()
    middle = model[0].mean(axis=0, dtype=np.float64)
    system, cross = np.zeros((7, 7)), np.zeros((6, 6))
    cosine = float(np.cos(np.radians(config.angle)))
    free, inliers = 0, 0.0
    for every, gate, steps in STAGES:
        some = np.ascontiguousarray(model[0][::every]), np.ascontiguousarray(model[1][::every])
        for _ in range(steps):
            seen, paired, fitting = kernels.normal_equations(
                *some, points, normals, pose, middle, camera, gate, cosine, config.huber,
                system, cross,
            )  # fmt: skip
            inliers = fitting / max(seen, 1)
            if paired * every < config.least_pairs:
                return Alignment(prior, True, inliers, 0, "too little of the structure fits")
            update, free = solve(system, cross, pose, middle, conditioning)
            if free > most_open:
                reason = f"the structure in view leaves {free} of 6 directions open"
                return Alignment(prior, True, inliers, free, reason)
            shift = make_pose(np.eye(3), middle)
            pose = shift @ exponential(update) @ inverse(shift) @ pose
            if np.abs(update).max() < 5e-5:
                break
    if inliers < config.least_inliers:
        reason = f"only {inliers:.0%} of the structure in view fits"
        return Alignment(prior, True, inliers, free, reason)
    return Alignment(pose, False, inliers, free)


def solve(
    system: Matrix, cross: Matrix, pose: Matrix, middle: Matrix, conditioning: float
) -> tuple[Matrix, int]:
    """One step in the directions that the structure holds.

    Noise in the normals makes every direction look held a little. It does not when each pair
    brings two normals whose noises are independent: ``cross`` says which directions are held.

    Args:
        system: ``(7, 7)`` of ``normal_equations``.
        cross: ``(6, 6)`` of it.
        pose: ``(4, 4)`` now.
        middle: ``(3,)`` what the rows turn about.
        conditioning: share of the mean eigenvalue below which a direction is open.

    Returns:
        Twist ``(6,)`` about ``middle``, and the number of open directions.
    """
    # One radian counts as much as a shift by the distance to the scene.
    reach = max(0.3, float(np.linalg.norm(middle - pose[:3, 3])))
    scale = np.array([1 / reach] * 3 + [1.0] * 3)
    scaled = system[:6, :6] * np.outer(scale, scale)
    twins = (cross + cross.T) / 2 * np.outer(scale, scale)
    values, vectors = np.linalg.eigh(twins)
    held = vectors[:, values > conditioning * max(float(values.mean()), 1e-12)]
    if not held.shape[1]:
        return np.zeros(6), 6
    inner = held.T @ scaled @ held
    inner += 1e-5 * np.trace(inner) / len(inner) * np.eye(len(inner))
    step = -held @ np.linalg.solve(inner, held.T @ (system[:6, 6] * scale)) * scale
    # No step may leave the neighbourhood in which the pairs mean something.
    longest = max(np.linalg.norm(step[:3]) / 0.2, np.linalg.norm(step[3:]) / 0.3, 1.0)
    return step / longest, 6 - held.shape[1]
