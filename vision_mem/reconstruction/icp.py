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

_MOTIONS = ("nodding", "turning", "rolling", "sideways", "up and down", "forwards and back")
"""Turns about and shifts along the axes of a camera."""

_GATE_LINEAR = 12
"""Part of a stage's gate from which on residuals count linearly at the latest."""

_PAIRS_ALIKE = 100
"""Pairs whose errors are taken to be one."""

STAGES = ((8, 0.25, 8), (4, 0.12, 6), (1, 0.06, 4))
"""Every how many model points, gate in metres, steps."""


@dataclass(frozen=True)
class OdometryConfig:
    """How poses are found.

    Attributes:
        model_points: points of the structure that are looked at.
        angle: degrees by which normals of a pair may differ.
        huber: metres from which on a residual counts linearly, at a distance of two metres.
        fits: metres within which a pair fits.
        noise_growth: noise of depth, and with it ``huber``, grows with the distance z in metres as
            ``1 + noise_growth * z**2``.
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
    huber: float = 0.005
    fits: float = 0.03
    noise_growth: float = 1.0
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
        if not (self.huber > 0 and self.fits > 0 and self.noise_growth >= 0):
            raise InputError(
                f"huber is {self.huber:g}, fits {self.fits:g} and noise_growth "
                f"{self.noise_growth:g}; expected metres above 0, and 0 or more"
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
        open: words for the directions of motion, of 6, that the structure leaves open.
        reason: why it is lost; empty when it is not.
        deviation: ``(6,)`` radians and metres, about and along the axes of the camera, to which the
            structure holds it; infinite in directions that are open. Errors of the structure itself
            are not in it.
    """

    pose: Matrix
    lost: bool
    inliers: float
    open: tuple[str, ...] = ()
    reason: str = ""
    deviation: Matrix | None = None


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
        return Alignment(prior, True, 0.0, (), "there is too little structure in view")
    pose = prior.copy()
    middle = model[0].mean(axis=0, dtype=np.float64)
    system, cross = np.zeros((7, 7)), np.zeros((6, 6))
    cosine = float(np.cos(np.radians(config.angle)))
    robust = np.array([config.huber, config.fits, config.noise_growth])
    held: Matrix = np.eye(6)
    inliers, paired = 0.0, 0
    for every, gate, steps in STAGES:
        some = np.ascontiguousarray(model[0][::every]), np.ascontiguousarray(model[1][::every])
        # What is far from home pulls in full while everything still is.
        robust[0] = max(config.huber, gate / _GATE_LINEAR)
        for _ in range(steps):
            seen, paired, fitting = kernels.normal_equations(
                *some, points, normals, pose, middle, camera, gate, cosine, robust,
                system, cross,
            )  # fmt: skip
            inliers = fitting / max(seen, 1)
            if paired * every < config.least_pairs:
                return Alignment(prior, True, inliers, (), "too little of the structure fits")
            update, held = solve(system, cross, pose, middle, conditioning)
            if 6 - held.shape[1] > most_open:
                loose = open_directions(held, pose)
                words = ", ".join(loose)
                reason = f"the structure in view leaves {6 - held.shape[1]} of 6 directions open: "
                return Alignment(prior, True, inliers, loose, reason + words)
            shift = make_pose(np.eye(3), middle)
            pose = shift @ exponential(update) @ inverse(shift) @ pose
            if np.abs(update).max() < 5e-5:
                break
    if inliers < config.least_inliers:
        reason = f"only {inliers:.0%} of the structure in view fits"
        return Alignment(prior, True, inliers, open_directions(held, pose), reason)
    known = deviation(system, held, pose, middle, paired)
    return Alignment(pose, False, inliers, open_directions(held, pose), deviation=known)


def solve(
    system: Matrix, cross: Matrix, pose: Matrix, middle: Matrix, conditioning: float
) -> tuple[Matrix, Matrix]:
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
        Twist ``(6,)`` about ``middle``, and ``(6, n)`` the directions that are held, of twists
        whose turns are multiplied by the distance to the scene.
    """
    scale = _scale(pose, middle)
    scaled = system[:6, :6] * np.outer(scale, scale)
    twins = (cross + cross.T) / 2 * np.outer(scale, scale)
    values, vectors = np.linalg.eigh(twins)
    held = vectors[:, values > conditioning * max(float(values.mean()), 1e-12)]
    if not held.shape[1]:
        return np.zeros(6), held
    inner = held.T @ scaled @ held
    inner += 1e-5 * np.trace(inner) / len(inner) * np.eye(len(inner))
    step = -held @ np.linalg.solve(inner, held.T @ (system[:6, 6] * scale)) * scale
    # No step may leave the neighbourhood in which the pairs mean something.
    turn, shift = (float(np.linalg.norm(part)) for part in (step[:3], step[3:]))
    longest = max(turn / 0.2, shift / 0.3, 1.0)
    return step / longest, held


def _scale(pose: Matrix, middle: Matrix) -> Matrix:
    """``(6,)``: one radian counts as much as a shift by the distance to the scene."""
    reach = max(0.3, float(np.linalg.norm(middle - pose[:3, 3])))
    return np.array([1 / reach] * 3 + [1.0] * 3)


def open_directions(held: Matrix, pose: Matrix) -> tuple[str, ...]:
    """Words for what is not held, as the camera has it.

    Args:
        held: ``(6, n)`` of ``solve``.
        pose: ``(4, 4)``.
    """
    if held.shape[1] == 6:
        return ()
    around = np.kron(np.eye(2), pose[:3, :3].T)
    # How much of each motion of the camera along or about one axis is left over.
    left = 1 - ((around @ held) ** 2).sum(axis=1)
    most = np.sort(np.argsort(-left, kind="stable")[: 6 - held.shape[1]])
    return tuple(_MOTIONS[k] for k in most)


def deviation(system: Matrix, held: Matrix, pose: Matrix, middle: Matrix, paired: int) -> Matrix:
    """How firmly structure holds a camera: one standard deviation by the normal equations.

    Args:
        system: ``(7, 7)`` of ``normal_equations``.
        held: ``(6, n)`` of ``solve``.
        pose: ``(4, 4)``.
        middle: ``(3,)`` what the rows turn about.
        paired: pairs in it.

    Returns:
        ``(6,)`` radians and metres about and along the axes of the camera; infinite where more than
        half of a direction is open.
    """
    scale = _scale(pose, middle)
    inner = held.T @ (system[:6, :6] * np.outer(scale, scale)) @ held
    inner += 1e-9 * max(float(np.trace(inner)), 1e-12) * np.eye(len(inner))
    # Neighbours err alike: many pairs are worth one.
    spread = system[6, 6] * _PAIRS_ALIKE / max(paired, 1)
    twist = scale[:, None] * held
    covariance = spread * twist @ np.linalg.inv(inner) @ twist.T
    x, y, z = pose[:3, 3] - middle
    moved = np.eye(6)
    moved[3:, :3] = [[0, z, -y], [-z, 0, x], [y, -x, 0]]
    around = np.kron(np.eye(2), pose[:3, :3].T) @ moved
    known = np.sqrt(np.maximum(np.diag(around @ covariance @ around.T), 0))
    left = 1 - ((np.kron(np.eye(2), pose[:3, :3].T) @ held) ** 2).sum(axis=1)
    return np.where(left > 0.5, np.inf, known)
