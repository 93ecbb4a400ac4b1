"""From oriented points to a smooth surface, as points and as a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from vision_mem.reconstruction.voxel_grid import StaticMap

_NEIGHBOURS = 16
_AT_ONCE = 200_000
_BLOCK = 48
"""Cells along the edge of what is meshed at once: bounds memory, whatever the size of the map."""


@dataclass(frozen=True)
class Mesh:
    """Triangles.

    Attributes:
        vertices: ``(V, 3)`` float32 metres.
        normals: ``(V, 3)`` float32 of length 1.
        colours: ``(V, 3)`` uint8 RGB.
        faces: ``(F, 3)`` int32 of vertices, counter-clockwise when seen from where the surface
            was seen.
    """

    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    colours: NDArray[np.uint8]
    faces: NDArray[np.int32]


def smoothed_map(found: StaticMap) -> StaticMap:
    """Move points along their normals onto the surface that they and their neighbours agree on.

    Small errors of the poses leave a surface in two layers of voxels; this makes them one.

    Args:
        found: the map; points without a normal stay.

    Returns:
        A map with as many points.
    """
    if len(found.points) < 2:
        return found
    tree = cKDTree(found.points)
    points = found.points.copy()
    reach = 2.0 * found.voxel
    for first in range(0, len(points), _AT_ONCE):
        own = slice(first, first + _AT_ONCE)
        near, place, normal = found.points[own], found.points, found.normals[own]
        many = min(_NEIGHBOURS, len(place))
        distance, index = tree.query(near, k=many, distance_upper_bound=reach)
        there = np.isfinite(distance)
        index = np.where(there, index, 0)
        away = place[index] - near[:, None]
        height = np.einsum("nki,ni->nk", away, normal)
        aside = np.maximum(distance**2 - height**2, 0, where=there, out=np.zeros_like(distance))
        facing = np.einsum("nki,ni->nk", found.normals[index], normal)
        weight = found.hits[index] * np.exp(-aside / found.voxel**2)
        weight *= there & (facing > 0.7)
        total = weight.sum(axis=1)
        shift = np.where(total > 0, (weight * height).sum(axis=1) / np.maximum(total, 1e-9), 0)
        points[own] = near + normal * shift[:, None].astype(np.float32)
    return replace(found, points=points)


def mesh_of(found: StaticMap) -> Mesh:
    """Triangles through the points of a map, by marching cubes.

    The signed distance to the surface is the weighted mean of the distances to the tangent planes
    of the points around; it exists within two voxels of them, and so does the mesh.

    Args:
        found: the map; points without a normal are left out.

    Returns:
        The mesh; without triangles for an empty map.
    """
    known = found.normals.any(axis=1)
    points = found.points[known].astype(np.float64)
    normals, colours = found.normals[known], found.colours[known]
    pieces = list(_blocks(points, normals, colours, found.voxel)) if len(points) else []
    if not pieces:
        nothing = np.zeros((0, 3), np.float32)
        return Mesh(nothing, nothing, nothing.astype(np.uint8), np.zeros((0, 3), np.int32))
    counts = np.cumsum([0] + [len(vertices) for vertices, _, _ in pieces])
    vertices = np.concatenate([piece[0] for piece in pieces])
    faces = np.concatenate([piece[2] + n for piece, n in zip(pieces, counts, strict=False)])
    tints = np.concatenate([piece[1] for piece in pieces])
    # Neighbouring blocks made the same vertices twice.
    keys = np.round(vertices / (found.voxel * 1e-3)).astype(np.int64)
    _, first, back = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    faces = back.reshape(-1)[faces]
    proper = (
        (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    )
    faces, vertices = faces[proper].astype(np.int32), vertices[first].astype(np.float32)
    return Mesh(vertices, _vertex_normals(vertices, faces), tints[first], faces)


def _blocks(
    points: NDArray[np.float64],
    normals: NDArray[np.float32],
    colours: NDArray[np.uint8],
    voxel: float,
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.int64]]]:
    """Vertices, colours and faces, block by block."""
    from skimage.measure import marching_cubes

    node = np.round(points / voxel).astype(np.int64)
    block = node // _BLOCK
    # A point reaches two nodes into the blocks around it.
    places = np.unique(block, axis=0)
    around = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    places = np.unique((places[:, None] + around).reshape(-1, 3), axis=0)
    reach = np.stack(np.meshgrid(*[range(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    side = _BLOCK + 1  # nodes; the last ones are the first ones of the next block
    order = np.lexsort(block.T)
    for place in places:
        low = place * _BLOCK
        inside = _between(node, low - 2, low + side + 2, order)
        if not len(inside):
            continue
        total, weight = np.zeros(side**3), np.zeros(side**3)
        tint = np.zeros((side**3, 3))
        for offset in reach:
            at = node[inside] + offset - low
            fits = ((at >= 0) & (at < side)).all(axis=1)
            rows, which = at[fits], inside[fits]
            if not len(which):
                continue
            away = (rows + low) * voxel - points[which]
            near = np.exp(-(away**2).sum(axis=1) / voxel**2)
            flat = (rows[:, 0] * side + rows[:, 1]) * side + rows[:, 2]
            distance = (away * normals[which]).sum(axis=1)
            np.add.at(total, flat, near * distance)
            np.add.at(weight, flat, near)
            np.add.at(tint, flat, near[:, None] * colours[which])
        known = (weight > 1e-3).reshape(side, side, side)
        value = np.where(weight > 1e-3, total / np.maximum(weight, 1e-9), voxel)
        volume = value.reshape(known.shape)
        if not (volume[known] < 0).any() or not (volume[known] > 0).any():
            continue
        corners, triangles, _, _ = marching_cubes(volume, 0.0, gradient_direction="descent")
        corners, triangles = corners.astype(np.float64), triangles.astype(np.int64)
        down, up = np.floor(corners).astype(int), np.ceil(corners).astype(int)
        good = known[tuple(down.T)] & known[tuple(up.T)]
        triangles = triangles[good[triangles].all(axis=1)]
        if not len(triangles):
            continue
        used, back = np.unique(triangles, return_inverse=True)
        nearest = np.round(corners[used]).astype(int)
        nearest = np.where(known[tuple(nearest.T)][:, None], nearest, down[used])
        flat = (nearest[:, 0] * side + nearest[:, 1]) * side + nearest[:, 2]
        shade = tint[flat] / np.maximum(weight[flat], 1e-9)[:, None]
        yield (corners[used] + low) * voxel, shade.round().astype(np.uint8), back.reshape(-1, 3)


def _between(
    node: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    order: NDArray[np.int64],
) -> NDArray[np.int64]:
    return order[((node[order] >= low) & (node[order] < high)).all(axis=1)]


def _vertex_normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, faces[:, k], normal)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(np.divide(total, length, out=np.zeros_like(total), where=length > 0))
