"""The loops of ``compiled``, in numpy alone: slower, and what the compiled ones are tested against.

The open-addressing table is not used here; a search in sorted keys takes its place, and slots are
given out in the same order.
"""

# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import cv2
import numpy as np


def surface(depth, smooth, camera, jump, points, normals):
    """See ``compiled.surface``."""
    fx, fy, cx, cy = camera
    height, width = depth.shape
    x, y = (np.arange(width) + 0.5 - cx) / fx, ((np.arange(height) + 0.5 - cy) / fy)[:, None]
    points[..., 0], points[..., 1], points[..., 2] = depth * x, depth * y, depth
    normals[...] = 0
    if height < 3 or width < 3:
        return
    z = depth[1:-1, 1:-1]
    sides = (depth[1:-1, :-2], depth[1:-1, 2:], depth[:-2, 1:-1], depth[2:, 1:-1])
    good = z > 0
    for side in sides:
        good &= (side > 0) & ~(np.abs(side - z) > jump * z)
    even = np.stack([smooth * x, smooth * y, smooth], axis=-1)
    across = even[1:-1, 2:] - even[1:-1, :-2]
    down = even[2:, 1:-1] - even[:-2, 1:-1]
    normal = np.cross(down, across)
    length = np.sqrt((normal**2).sum(axis=-1, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        normals[1:-1, 1:-1] = np.where(good[..., None] & (length > 0), normal / length, 0)


def _seen(points, pose, camera, size):
    """Which of ``points (n, 3)`` fall into the image, their pixels, and their z."""
    fx, fy, cx, cy = camera
    local = np.asarray(points, np.float64) @ pose[:, :3].T + pose[:, 3]
    w = local[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.floor(fx * local[:, 0] / w + cx)
        v = np.floor(fy * local[:, 1] / w + cy)
        inside = (w >= 0.05) & (u >= 0) & (v >= 0) & (u < size[1]) & (v < size[0])
    which = np.flatnonzero(inside)
    return which, v[which].astype(np.int64), u[which].astype(np.int64), w[which]


def votes(
    points, nearest, depths, poses, camera, base, slope, reference, close, seen_empty, agreed
):
    """See ``compiled.votes``."""
    seen_empty[:] = 0
    agreed[:] = 0
    for k in range(len(nearest)):
        which, v, u, w = _seen(points, poses[k], camera, nearest.shape[1:])
        m = nearest[k, v, u].astype(np.float64)
        seen_empty[which] += (m > 0) & (w < m - (base + slope * m))
        if k == reference:
            around = np.ones((3, 3), np.uint8)
            low = cv2.erode(np.where(depths[k] > 0, depths[k], np.float32(np.inf)), around)
            high = cv2.dilate(depths[k], around)
            low, high = low[v, u].astype(np.float64), high[v, u].astype(np.float64)
            limit = close * (1.0 + w)
            says = np.where(w < low - limit, -1, np.where(w <= high + limit, 1, 0))
            agreed[which] = np.where(high > 0, says, 0)


def add(keys, table, first, stop):
    """Nothing to do: there is no table."""


def fuse(points, normals, colours, weights, voxel, frame, caps, table, count, voxels):
    """See ``compiled.fuse``."""
    keys, position, normal, colour, weight, hits, violations, first, last = voxels
    cell = np.floor(np.asarray(points, np.float64) / voxel).astype(np.int64) + 1048576
    fits = ((cell >= 0) & (cell <= 2097151)).all(axis=1)
    refused = int((~fits).sum())
    code = (cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2]
    code, kept = code[fits], np.flatnonzero(fits)
    unique, begin, group = np.unique(code, return_index=True, return_inverse=True)
    by_key = np.argsort(keys[:count], kind="stable")
    sorted_keys = keys[:count][by_key]
    at = np.searchsorted(sorted_keys, unique)
    at_safe = np.minimum(at, max(count - 1, 0))
    known = sorted_keys[at_safe] == unique if count else np.zeros(len(unique), bool)
    slots = np.full(len(unique), -1, np.int64)
    slots[known] = by_key[at_safe[known]]
    # New voxels get their slots in the order of their first pixel.
    new = np.flatnonzero(~known)
    new = new[np.argsort(begin[new], kind="stable")][: max(0, len(keys) - count)]
    slots[new] = count + np.arange(len(new))
    fresh = slots[new]
    keys[fresh] = unique[new]
    weight[fresh], hits[fresh], violations[fresh] = 0, 0, 0
    first[fresh], last[fresh] = frame, -1
    count += len(new)
    stored = slots[group] >= 0
    refused += int((~stored).sum())
    kept, group = kept[stored], group[stored]
    w = weights[kept].astype(np.float64)
    length = len(unique)
    total = np.bincount(group, w, length)
    columns = [
        np.asarray(a, np.float64)[kept, c] for a in (points, normals, colours) for c in range(3)
    ]
    sums = np.stack([np.bincount(group, w * column, length) for column in columns], axis=1)
    there = np.flatnonzero(slots >= 0)
    slot, total, sums = slots[there], total[there], sums[there]
    first[slot] = np.where(hits[slot] == 0, frame, first[slot])
    last[slot] = frame
    share = np.minimum(1.0, total)
    old = weight[slot].astype(np.float64)
    part = (share / (old + share))[:, None]
    mean = sums / total[:, None]
    before = old[:, None] > 0
    position[slot] = np.where(
        before, position[slot] + part * (mean[:, :3] - position[slot]), mean[:, :3]
    )
    mixed = np.where(
        before,
        old[:, None] * normal[slot] + share[:, None] * sums[:, 3:6] / total[:, None],
        sums[:, 3:6],
    )
    size = np.sqrt((mixed**2).sum(axis=1, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        normal[slot] = np.where(size > 0, mixed / size, 0)
    shade = mean[:, 6:9] * 256.0
    was = np.where(before, colour[slot].astype(np.float64), shade)
    colour[slot] = (was + part * (shade - was) + 0.5).astype(np.int64)
    weight[slot] = np.minimum(old + share, caps[0])
    hits[slot] = np.minimum(hits[slot].astype(np.int64) + 1, int(caps[1]))
    violations[slot] = np.maximum(violations[slot].astype(np.int64) - 1, 0)
    return count, len(slot), refused


def carve(
    nearest, pose, camera, base, slope, start, step, count, rules, position, hits, violations
):
    """See ``compiled.carve``."""
    some = np.arange(start, count, step)
    some = some[hits[some] > 0]
    which, v, u, w = _seen(position[some], pose, camera, nearest.shape)
    m = nearest[v, u].astype(np.float64)
    through = (m > 0) & (w < m - (base + slope * m))
    slot = some[which[through]]
    violations[slot] = np.minimum(violations[slot].astype(np.int64) + 1, 60000)
    h, bad = hits[slot].astype(np.float64), violations[slot]
    trusted = h >= rules[0]
    dies = ~trusted | ((bad >= rules[1]) & (bad > rules[2] * h))
    hits[slot[dies]] = 0
    return int(dies.sum()), int((dies & trusted).sum())


def visible(pose, camera, size, start, step, count, least, position, hits, out):
    """See ``compiled.visible``."""
    some = np.arange(start, count, step)
    some = some[hits[some] >= least]
    which = some[_seen(position[some], pose, camera, size)[0]]
    out[: len(which)] = which
    return len(which)


def normal_equations(
    model, model_normals, points, normals, pose, middle, camera, gate, cosine, robust, system, cross
):
    """See ``compiled.normal_equations``."""
    turn, shift = pose[:3, :3], pose[:3, 3]
    back = np.concatenate([turn.T, -(turn.T @ shift)[:, None]], axis=1)
    which, v, u, w = _seen(model, back, camera, points.shape[:2])
    local = points[v, u].astype(np.float64)
    facing = normals[v, u].astype(np.float64)
    counted = (local[:, 2] > 0) & ~(local[:, 2] < w - 4.0 * gate - 0.1 * w)
    counted &= facing.any(axis=1)
    seen = int(counted.sum())
    which, local, facing = which[counted], local[counted], facing[counted]
    n = model_normals[which].astype(np.float64)
    facing = facing @ turn.T
    good = ~((n * facing).sum(axis=1) < cosine)
    world = local @ turn.T + shift
    apart = world - model[which]
    good &= ~((apart**2).sum(axis=1) > gate * gate)
    n, world, apart, z = n[good], world[good], apart[good], local[good, 2]
    facing = facing[good]
    residual = (n * apart).sum(axis=1)
    size = np.abs(residual)
    noise = (1.0 + robust[2] * z * z) / (1.0 + 4.0 * robust[2])
    weight = 1.0 / noise**2
    loose = size > robust[0] * noise
    weight[loose] *= robust[0] * noise[loose] / size[loose]
    rows = np.concatenate([np.cross(world - middle, n), n, residual[:, None]], axis=1)
    twins = np.concatenate([np.cross(world - middle, facing), facing], axis=1)
    system[:] = rows.T @ (weight[:, None] * rows)
    cross[:] = rows[:, :6].T @ (weight[:, None] * twins)
    return seen, len(n), int((size <= robust[1]).sum())
