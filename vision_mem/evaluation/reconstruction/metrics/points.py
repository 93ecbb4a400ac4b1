"""Points against true points: bringing them together, and how far apart they stay.

The rules are those of Spann3R and CUT3R, their quirks included; ``strict`` has them corrected,
see docs/scoring.md.

Source: specs/mem4d.md section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from vision_mem.errors import InputError
from vision_mem.evaluation.reconstruction.metrics.depth import lower_median
from vision_mem.geometry.poses import aligned, transform

Array = NDArray[np.float64]

CLOSE_M = 0.1
"""Metres within which points may belong together while two clouds are brought onto each other."""
_ROUNDS, _SETTLED = 30, 1e-6
_NEIGHBOURS = 30
_SLICE = 1 << 15
_LEAST_SCALE, _MOST_SCALE = 1e-3, 1e3


@dataclass(frozen=True)
class CloudErrors:
    """A cloud of points against the true one; lengths in metres.

    Attributes:
        accuracy, accuracy_median: from each point found to the nearest true one.
        completeness, completeness_median: from each true point to the nearest one found.
        normals, normals_median: how well the directions of surfaces agree at those nearest
            points, both ways, in [0, 1].
        found, true: points compared.
        reach: ``(M,)`` metres, and the shares of found points (``precise``) and of true points
            (``complete``) that are nearer than them.
    """

    accuracy: float
    accuracy_median: float
    completeness: float
    completeness_median: float
    normals: float
    normals_median: float
    found: int
    true: int
    reach: Array
    precise: Array
    complete: Array


def cloud_errors(found: Array, true: Array) -> CloudErrors:
    """Compare two clouds.

    Args:
        found: ``(N, 3)``, N >= 3.
        true: ``(M, 3)`` in the same axes, M >= 3.

    Raises:
        InputError: when one of them has too few points.
    """
    if min(len(found), len(true)) < 3:
        raise InputError(
            f"{len(found)} points and {len(true)} true ones cannot be compared; expected 3 or more"
        )
    of_found, of_true = cKDTree(found), cKDTree(true)
    facing, truly = surface_normals(found, of_found), surface_normals(true, of_true)
    to_true, nearest_true = of_true.query(found)
    to_found, nearest_found = of_found.query(true)
    forth = np.abs((truly[nearest_true] * facing).sum(axis=1))
    back = np.abs((facing[nearest_found] * truly).sum(axis=1))
    reach = np.linspace(0.0, 0.2, 81)
    return CloudErrors(
        accuracy=float(to_true.mean()), accuracy_median=float(np.median(to_true)),
        completeness=float(to_found.mean()), completeness_median=float(np.median(to_found)),
        normals=float(forth.mean() + back.mean()) / 2,
        normals_median=float(np.median(forth) + np.median(back)) / 2,
        found=len(found), true=len(true), reach=reach,
        precise=np.searchsorted(np.sort(to_true), reach) / len(found),
        complete=np.searchsorted(np.sort(to_found), reach) / len(true),
    )  # fmt: skip


def surface_normals(points: Array, tree: cKDTree | None = None) -> Array:
    """Direction of the surface at each point: the flattest one of its 30 nearest, itself included.

    Args:
        points: ``(N, 3)``, N >= 3.
        tree: of the points.

    Returns:
        ``(N, 3)`` of length 1; the sign says nothing.
    """
    tree = cKDTree(points) if tree is None else tree
    count = min(_NEIGHBOURS, len(points))
    normals = np.empty_like(points, dtype=np.float64)
    for start in range(0, len(points), _SLICE):
        part = slice(start, start + _SLICE)
        near = points[tree.query(points[part], k=count)[1]]
        near = near - near.mean(axis=1, keepdims=True)
        spread = np.einsum("nki,nkj->nij", near, near)
        normals[part] = np.linalg.eigh(spread)[1][:, :, 0]
    return normals


def settle(found: Array, true: Array, most_apart: float = CLOSE_M) -> Array:
    """The rigid motion that brings a cloud onto another from where it is: point-to-point ICP.

    Args:
        found: ``(N, 3)``.
        true: ``(M, 3)``.
        most_apart: metres; points farther from all true ones do not pull.

    Returns:
        ``(4, 4)``, so that ``transform(it, found)`` lies on ``true``.
    """
    tree, motion = cKDTree(true), np.eye(4)
    moved = np.asarray(found, np.float64)
    before = (-1.0, np.inf)
    for _ in range(_ROUNDS):
        apart, nearest = tree.query(moved, distance_upper_bound=most_apart)
        near = np.isfinite(apart)
        if near.sum() < 3:
            break
        fit = (float(near.mean()), float(np.sqrt((apart[near] ** 2).mean())))
        if abs(fit[0] - before[0]) < _SETTLED and abs(fit[1] - before[1]) < _SETTLED:
            break
        before = fit
        _, step = aligned(moved[near], true[nearest[near]])
        moved, motion = transform(step, moved), step @ motion
    return motion


@dataclass(frozen=True)
class Fit:
    """How points were brought onto the true ones before they were compared.

    Attributes:
        scale: that they were multiplied by.
        motion: ``(4, 4)``, applied to the scaled points; in the axes of the first camera.
    """

    scale: float
    motion: Array

    def __call__(self, points: Array) -> Array:
        """Bring points ``(..., 3)`` there."""
        return transform(self.motion, self.scale * np.asarray(points, np.float64))


def fit_points(found: Array, true: Array, *, strict: bool = False) -> Fit:
    """Scale and motion that bring points onto those that belong to them.

    The peers' rule shifts both clouds along the first camera's axis to a median depth of 0 and
    takes the ratio of the median distances from the clouds' middles as the scale: no rotation,
    nothing sideways. Strictly it is the similarity of least squares.

    Args:
        found: ``(N, 3)`` in the axes of the first camera, N >= 3.
        true: ``(N, 3)`` in those of the true first camera, pixel by pixel.
        strict: without the peers' quirks.

    Raises:
        InputError: for too few points, or points that are all one.
    """
    if len(found) < 3 or found.shape != true.shape:
        raise InputError(
            f"{len(found)} points belong to {len(true)} true ones; expected 3 or more, pixel by "
            "pixel"
        )
    ours, truth = np.asarray(found, np.float64), np.asarray(true, np.float64)
    if strict:
        scale, motion = aligned(ours, truth, with_scale=True)
        return Fit(scale, motion)
    depths = lower_median(ours[:, 2]), lower_median(truth[:, 2])
    sizes = []
    for cloud, depth in zip((ours, truth), depths, strict=True):
        shifted = cloud - (0.0, 0.0, depth)
        middle = np.array([lower_median(column) for column in shifted.T])
        sizes.append(lower_median(np.linalg.norm(shifted - middle, axis=1)))
    if not sizes[0] > 0:
        raise InputError("the points found are all one; they have no scale")
    scale = sizes[1] / float(np.clip(sizes[0], _LEAST_SCALE, _MOST_SCALE))
    motion = np.eye(4)
    motion[2, 3] = depths[1] - scale * depths[0]
    return Fit(scale, motion)
