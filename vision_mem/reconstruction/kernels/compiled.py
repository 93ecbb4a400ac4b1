"""Loops over pixels and voxels, written for a compiler; ``plain`` says the same in numpy.

Nothing here is called directly: ``kernels.choose`` compiles them with numba, or takes ``plain``.
Cameras are passed as float64 ``(4,)`` fx, fy, cx, cy with pixels counted from the image's corner,
poses as float64 ``(3, 4)``.
"""

# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import math

import numpy as np

EMPTY = -1


def surface(depth, smooth, camera, jump, points, normals):
    """Points of a depth map, and normals of a smoothed one.

    Normals are 0 where a neighbour is missing or far.
    """
    height, width = depth.shape
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    for v in range(height):
        y = (v + 0.5 - cy) / fy
        for u in range(width):
            z = depth[v, u]
            points[v, u, 0] = z * (u + 0.5 - cx) / fx
            points[v, u, 1] = z * y
            points[v, u, 2] = z
    normals[:] = 0.0
    for v in range(height):
        for u in range(width):
            z = depth[v, u]
            if z <= 0.0 or u == 0 or v == 0 or u == width - 1 or v == height - 1:
                continue
            left, right = depth[v, u - 1], depth[v, u + 1]
            up, down = depth[v - 1, u], depth[v + 1, u]
            most = jump * z
            if left <= 0.0 or right <= 0.0 or up <= 0.0 or down <= 0.0:
                continue
            if max(abs(left - z), abs(right - z)) > most or max(abs(up - z), abs(down - z)) > most:
                continue
            # Differences of the smoothed points to the right and left, below and above.
            left, right = smooth[v, u - 1], smooth[v, u + 1]
            up, down = smooth[v - 1, u], smooth[v + 1, u]
            ax = (right * (u + 1.5 - cx) - left * (u - 0.5 - cx)) / fx
            ay = (right - left) * (v + 0.5 - cy) / fy
            az = right - left
            bx = (down - up) * (u + 0.5 - cx) / fx
            by = (down * (v + 1.5 - cy) - up * (v - 0.5 - cy)) / fy
            bz = down - up
            nx, ny, nz = by * az - bz * ay, bz * ax - bx * az, bx * ay - by * ax
            length = math.sqrt(nx * nx + ny * ny + nz * nz)
            if length > 0.0:
                normals[v, u, 0] = nx / length
                normals[v, u, 1] = ny / length
                normals[v, u, 2] = nz / length


def votes(
    points, nearest, depths, poses, camera, base, slope, reference, close, seen_empty, agreed
):
    """How many key frames saw the place of a point empty, and whether one agrees with it."""
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    count, height, width = nearest.shape
    for i in range(points.shape[0]):
        seen_empty[i] = 0
        agreed[i] = 0
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        if not math.isfinite(x):
            continue
        for k in range(count):
            w = poses[k, 2, 0] * x + poses[k, 2, 1] * y + poses[k, 2, 2] * z + poses[k, 2, 3]
            if w < 0.05:
                continue
            a = poses[k, 0, 0] * x + poses[k, 0, 1] * y + poses[k, 0, 2] * z + poses[k, 0, 3]
            b = poses[k, 1, 0] * x + poses[k, 1, 1] * y + poses[k, 1, 2] * z + poses[k, 1, 3]
            u = math.floor(fx * a / w + cx)
            v = math.floor(fy * b / w + cy)
            if u < 0.0 or v < 0.0 or u >= width or v >= height:
                continue
            m = nearest[k, int(v), int(u)]
            if m > 0.0 and w < m - (base + slope * m):
                seen_empty[i] += 1
            if k == reference:
                low, high = np.inf, 0.0
                for r in range(max(int(v) - 1, 0), min(int(v) + 2, height)):
                    for c in range(max(int(u) - 1, 0), min(int(u) + 2, width)):
                        d = depths[k, r, c]
                        if d > 0.0:
                            low = min(low, d)
                            high = max(high, d)
                if high > 0.0:
                    limit = close * (1.0 + w)
                    if w < low - limit:
                        agreed[i] = -1
                    elif w <= high + limit:
                        agreed[i] = 1


def add(keys, table, first, stop):
    """Enter the keys of slots ``first`` to ``stop`` into an open-addressing table."""
    mask = table.shape[0] - 1
    for slot in range(first, stop):
        place = _hashed(keys[slot]) & mask
        while table[place] != EMPTY:
            place = (place + 1) & mask
        table[place] = slot


def fuse(points, normals, colours, weights, voxel, frame, caps, table, count, voxels):
    """Write points into voxels (``surfel_map``'s arrays), new ones while there is room."""
    keys, position, normal, colour, weight, hits, violations, first, last = voxels
    mask = table.shape[0] - 1
    room = keys.shape[0]
    n = points.shape[0]
    place_of = np.empty(room, np.int32)
    touched = np.empty(n, np.int32)
    sums = np.zeros((n, 10), np.float64)
    found = 0
    refused = 0
    for i in range(n):
        x = math.floor(points[i, 0] / voxel) + 1048576
        y = math.floor(points[i, 1] / voxel) + 1048576
        z = math.floor(points[i, 2] / voxel) + 1048576
        if min(x, y, z) < 0 or max(x, y, z) > 2097151:
            refused += 1
            continue
        key = (x << 42) | (y << 21) | z
        place = _hashed(key) & mask
        while table[place] != EMPTY and keys[table[place]] != key:
            place = (place + 1) & mask
        slot = table[place]
        if slot == EMPTY:
            if count >= room:
                refused += 1
                continue
            slot = count
            count += 1
            table[place] = slot
            keys[slot] = key
            weight[slot] = 0.0
            hits[slot] = 0
            violations[slot] = 0
            first[slot] = frame
            last[slot] = -1
        if last[slot] != frame:
            if hits[slot] == 0:
                first[slot] = frame
            last[slot] = frame
            place_of[slot] = found
            touched[found] = slot
            found += 1
        t = place_of[slot]
        w = weights[i]
        sums[t, 9] += w
        for c in range(3):
            sums[t, c] += w * points[i, c]
            sums[t, 3 + c] += w * normals[i, c]
            sums[t, 6 + c] += w * colours[i, c]
    for t in range(found):
        slot = touched[t]
        new = sums[t, 9]
        # A frame counts once, however many of its pixels fall into the voxel.
        share = min(1.0, new)
        old = np.float64(weight[slot])
        total = old + share
        part = share / total
        for c in range(3):
            position[slot, c] += part * (sums[t, c] / new - position[slot, c]) if old > 0 else 0.0
            if old <= 0:
                position[slot, c] = sums[t, c] / new
        nx = old * normal[slot, 0] + share * sums[t, 3] / new if old > 0 else sums[t, 3]
        ny = old * normal[slot, 1] + share * sums[t, 4] / new if old > 0 else sums[t, 4]
        nz = old * normal[slot, 2] + share * sums[t, 5] / new if old > 0 else sums[t, 5]
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        for c in range(3):
            mean = sums[t, 6 + c] / new * 256.0
            before = float(colour[slot, c]) if old > 0 else mean
            colour[slot, c] = int(before + part * (mean - before) + 0.5)
        normal[slot, 0] = nx / length if length > 0 else 0.0
        normal[slot, 1] = ny / length if length > 0 else 0.0
        normal[slot, 2] = nz / length if length > 0 else 0.0
        weight[slot] = min(total, caps[0])
        hits[slot] = min(hits[slot] + 1, int(caps[1]))
        if violations[slot] > 0:
            violations[slot] -= 1
    return count, found, refused


def carve(
    nearest, pose, camera, base, slope, start, step, count, rules, position, hits, violations
):
    """Voxels that a frame looks through get a violation; those with too many die (hits 0)."""
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    height, width = nearest.shape
    died, trusted_died = 0, 0
    for i in range(start, count, step):
        if hits[i] == 0:
            continue
        x, y, z = position[i, 0], position[i, 1], position[i, 2]
        w = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3]
        if w < 0.05:
            continue
        u = math.floor(
            fx * (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]) / w + cx
        )
        v = math.floor(
            fy * (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]) / w + cy
        )
        if u < 0.0 or v < 0.0 or u >= width or v >= height:
            continue
        m = nearest[int(v), int(u)]
        if m <= 0.0 or w >= m - (base + slope * m):
            continue
        violations[i] = min(violations[i] + 1, 60000)
        trusted = hits[i] >= rules[0]
        if not trusted or (violations[i] >= rules[1] and violations[i] > rules[2] * hits[i]):
            hits[i] = 0
            died += 1
            trusted_died += int(trusted)
    return died, trusted_died


def visible(pose, camera, size, start, step, count, least, position, hits, out):
    """Slots of trusted voxels inside the image."""
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    found = 0
    for i in range(start, count, step):
        if hits[i] < least:
            continue
        x, y, z = position[i, 0], position[i, 1], position[i, 2]
        w = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3]
        if w < 0.05:
            continue
        u = fx * (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]) / w + cx
        v = fy * (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]) / w + cy
        if u >= 0.0 and v >= 0.0 and u < size[1] and v < size[0]:
            out[found] = i
            found += 1
    return found


def normal_equations(
    model, model_normals, points, normals, pose, middle, camera, gate, cosine, robust, system, cross
):
    """One Gauss-Newton step of point-to-plane ICP with projective association.

    ``system`` ``(7, 7)`` gets J^T J, J^T r and r^T r of the rows (turn, shift, residual);
    ``cross`` ``(6, 6)`` the same J^T J with the model's normals on one side and the frame's on
    the other, whose noises do not know of each other. Returns how many model points fall on a
    reading, how many pair up, and how many of these fit. ``robust`` ``(3,)``: metres from which on
    a residual counts linearly at two metres, metres within which a pair fits, and how noise grows
    with the square of the distance: as ``1 + robust[2] * z * z``.
    """
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    height, width = points.shape[:2]
    row = np.zeros(7, np.float64)
    twin = np.zeros(6, np.float64)
    system[:] = 0.0
    cross[:] = 0.0
    seen, paired, fitting = 0, 0, 0
    for i in range(model.shape[0]):
        dx = model[i, 0] - pose[0, 3]
        dy = model[i, 1] - pose[1, 3]
        dz = model[i, 2] - pose[2, 3]
        w = pose[0, 2] * dx + pose[1, 2] * dy + pose[2, 2] * dz
        if w < 0.05:
            continue
        a = pose[0, 0] * dx + pose[1, 0] * dy + pose[2, 0] * dz
        b = pose[0, 1] * dx + pose[1, 1] * dy + pose[2, 1] * dz
        u = math.floor(fx * a / w + cx)
        v = math.floor(fy * b / w + cy)
        if u < 0.0 or v < 0.0 or u >= width or v >= height:
            continue
        p, q = int(v), int(u)
        if points[p, q, 2] <= 0.0:
            continue
        # What hides the model, or is hidden by it, says nothing about the pose.
        if points[p, q, 2] < w - 4.0 * gate - 0.1 * w:
            continue
        seen += 1
        nx, ny, nz = normals[p, q, 0], normals[p, q, 1], normals[p, q, 2]
        if nx == 0.0 and ny == 0.0 and nz == 0.0:
            seen -= 1
            continue
        mx, my, mz = model_normals[i, 0], model_normals[i, 1], model_normals[i, 2]
        gx = pose[0, 0] * nx + pose[0, 1] * ny + pose[0, 2] * nz
        gy = pose[1, 0] * nx + pose[1, 1] * ny + pose[1, 2] * nz
        gz = pose[2, 0] * nx + pose[2, 1] * ny + pose[2, 2] * nz
        if mx * gx + my * gy + mz * gz < cosine:
            continue
        sx, sy, sz = points[p, q, 0], points[p, q, 1], points[p, q, 2]
        x = pose[0, 0] * sx + pose[0, 1] * sy + pose[0, 2] * sz + pose[0, 3]
        y = pose[1, 0] * sx + pose[1, 1] * sy + pose[1, 2] * sz + pose[1, 3]
        z = pose[2, 0] * sx + pose[2, 1] * sy + pose[2, 2] * sz + pose[2, 3]
        ex, ey, ez = x - model[i, 0], y - model[i, 1], z - model[i, 2]
        if ex * ex + ey * ey + ez * ez > gate * gate:
            continue
        residual = mx * ex + my * ey + mz * ez
        size = abs(residual)
        # Depth cameras err with the square of the distance.
        noise = (1.0 + robust[2] * sz * sz) / (1.0 + 4.0 * robust[2])
        weight = 1.0 / (noise * noise)
        if size > robust[0] * noise:
            weight *= robust[0] * noise / size
        if size <= robust[1]:
            fitting += 1
        x -= middle[0]
        y -= middle[1]
        z -= middle[2]
        row[0] = y * mz - z * my
        row[1] = z * mx - x * mz
        row[2] = x * my - y * mx
        row[3], row[4], row[5], row[6] = mx, my, mz, residual
        twin[0] = y * gz - z * gy
        twin[1] = z * gx - x * gz
        twin[2] = x * gy - y * gx
        twin[3], twin[4], twin[5] = gx, gy, gz
        for r in range(7):
            part = weight * row[r]
            for c in range(r, 7):
                system[r, c] += part * row[c]
            if r < 6:
                for c in range(6):
                    cross[r, c] += part * twin[c]
        paired += 1
    for r in range(7):
        for c in range(r):
            system[r, c] = system[c, r]
    return seen, paired, fitting


def _hashed(key):
    """Spread neighbouring keys; at least 0."""
    mixed = (key ^ (key >> 31)) * 7046029254386353131
    mixed = (mixed ^ (mixed >> 29)) * 6364136223846793005
    return (mixed ^ (mixed >> 32)) & 0x7FFFFFFFFFFFFFFF
