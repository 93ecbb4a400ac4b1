"""A rebuilt scene seen from outside: from above, around, and along the camera's path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.camera import Pinhole
from vision_mem.visualization.bev import Thing, TopDown
from vision_mem.visualization.splatting import look_at, splat

_PATH, _MOST_CELLS = (230, 60, 60), 1 << 20
_ABOVE_FLOOR, _HEADROOM, _WALL = 0.15, 0.4, 1.4
_TILT, _FEWEST = 50.0, 200
_TRIED = 6000


class StillPoints(Protocol):
    """What stays; see ``reconstruction.StaticMap``."""

    @property
    def points(self) -> NDArray[np.float32]:
        """``(N, 3)`` metres."""

    @property
    def normals(self) -> NDArray[np.float32]:
        """``(N, 3)``, zero where unknown."""

    @property
    def colours(self) -> NDArray[np.uint8]:
        """``(N, 3)`` RGB."""

    @property
    def voxel(self) -> float:
        """Metres between neighbours, about."""


@dataclass(frozen=True, eq=False)
class CameraPath:
    """Some places of the camera, in order.

    Attributes:
        places: ``(n, 3)`` metres in the world.
        axes: ``(n, 3, 3)``: rows are the camera's axes right, down and forward.
    """

    places: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[float]]) -> CameraPath:
        """From ``SceneTally.places``."""
        table = np.asarray(rows, np.float64).reshape(-1, 13)
        return cls(table[:, 1:4], table[:, 4:].reshape(-1, 3, 3))

    @property
    def up(self) -> NDArray[np.float64]:
        """``(3,)`` of length 1: what the camera held up, on average."""
        mean = -self.axes[:, 1].sum(axis=0) if len(self.axes) else np.zeros(3)
        length = float(np.linalg.norm(mean))
        return np.asarray(mean / length) if length > 1e-6 else np.array([0.0, -1.0, 0.0])


def upright(found: StillPoints, path: CameraPath) -> NDArray[np.float64]:
    """``(3,)`` of length 1: up, from floors and table tops where there are any.

    A camera that looks down holds up what is not quite up; the surfaces that nearly face that way
    agree better among each other.
    """
    up = path.up
    normals = np.asarray(found.normals, np.float64)
    near = normals[normals @ up > np.cos(np.radians(_TILT))]
    if len(near) < _FEWEST:
        return up
    some = near[:: max(len(near) // 500, 1)]
    votes = (some @ near.T > np.cos(np.radians(8))).sum(axis=1)
    up = some[int(votes.argmax())]
    for _ in range(3):
        mean = near[near @ up > np.cos(np.radians(8))].mean(axis=0)
        up = mean / np.linalg.norm(mean)
    return np.asarray(up)


def from_above(
    found: StillPoints, path: CameraPath, things: Sequence[tuple[str, Sequence[float]]], title: str
) -> TopDown:
    """The map from above: where something stands at the camera's height or below.

    Args:
        found: what stays.
        path: of the camera.
        things: names and places ``(3,)`` of moving objects.
        title: one line above the picture.
    """
    up = upright(found, path)
    forward = path.axes[0, 2] if len(path.axes) else np.array([0.0, 0.0, 1.0])
    north = forward - up * (forward @ up)
    if np.linalg.norm(north) < 1e-6:
        north = np.roll(up, 1) - up * (np.roll(up, 1) @ up)
    north = north / np.linalg.norm(north)
    plane = np.stack([np.cross(north, up), north])  # right, then ahead
    points = np.asarray(found.points, np.float64)
    way = path.places @ plane.T
    named = [
        Thing(name, (float(x), float(y)))
        for name, (x, y) in ((n, plane @ np.asarray(p, np.float64)) for n, p in things)
    ]
    if not len(points):
        return TopDown(path=way, things=named, title=title)
    flat, height = points @ plane.T, points @ up
    floor = float(np.percentile(height, 2))
    eye = float(np.max(path.places @ up)) if len(path.places) else float(height.max())
    low = flat.min(axis=0)
    span = flat.max(axis=0) - low
    # Cells a little larger than voxels leave no gaps; far points must not cost memory.
    size = max(1.5 * found.voxel, float(np.sqrt(span[0] * span[1] / _MOST_CELLS)), 1e-3)
    size = max(size, float(span.max()) / 8192)
    cells = np.floor((flat - low) / size).astype(np.int64)
    shape = tuple((cells.max(axis=0) + 1).tolist())
    seen, standing = np.zeros(shape, bool), np.zeros(shape, bool)
    below = height < eye + _HEADROOM
    seen[cells[below, 0], cells[below, 1]] = True
    tall = below & (height > floor + _ABOVE_FLOOR)
    standing[cells[tall, 0], cells[tall, 1]] = True
    high = np.zeros(shape, bool)
    wall = below & (height > floor + _WALL)
    high[cells[wall, 0], cells[wall, 1]] = True
    corner = float(low[0]), float(low[1])
    return TopDown(corner, size, standing, seen, named, path=way, title=title, tall=high)


def around(
    found: StillPoints, path: CameraPath, turn: float, width: int, height: int
) -> NDArray[np.uint8]:
    """The scene from outside and above, walls nearest to the eye left out.

    Args:
        found: what stays.
        path: of the camera, drawn as a line of points.
        turn: share of a whole turn around the scene, [0, 1].
        width: pixels.
        height: pixels.
    """
    camera = Pinhole.from_field_of_view(50, width, height)
    up = upright(found, path)
    low, high = _bounds(found, path)
    middle, reach = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    side = np.cross(up, (1.0, 0.0, 0.0) if abs(up[0]) < 0.9 else (0.0, 0.0, 1.0))
    side /= np.linalg.norm(side)
    angle = 2 * np.pi * turn
    away = np.cos(angle) * side + np.sin(angle) * np.cross(up, side)
    eye = middle + 2.5 * reach * (0.75 * away + 0.66 * up)
    return _picture(found, path, camera, look_at(eye, middle, up))


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """Where one looks from.

    Attributes:
        eye, target, up: ``(3,)`` metres; the last one of length 1.
    """

    eye: NDArray[np.float64]
    target: NDArray[np.float64]
    up: NDArray[np.float64]


def first_view(found: StillPoints, path: CameraPath) -> Viewpoint:
    """A view of a scene from outside that shows most of it, and not the backs of its walls.

    Several are tried small; the camera's own side of the scene is where surfaces face.

    Args:
        found: what stays.
        path: of the camera.
    """
    up = upright(found, path)
    points, normals = (np.asarray(each, np.float64) for each in (found.points, found.normals))
    if not len(points):
        return Viewpoint(np.array([0.0, 0.0, -1.0]), np.zeros(3), up)
    low, high = np.percentile(points, [4, 96], axis=0)
    middle = np.median(points, axis=0)
    reach = max(float(np.linalg.norm(high - low)) / 2, 0.1)
    some = np.random.default_rng(0).permutation(len(points))[:_TRIED]
    points, normals = points[some], normals[some]
    paint = np.zeros((len(points), 3), np.uint8)
    side = np.cross(up, (1.0, 0.0, 0.0) if abs(up[0]) < 0.9 else (0.0, 0.0, 1.0))
    side /= np.linalg.norm(side)
    camera = Pinhole.from_field_of_view(50, 96, 60)
    own = path.places.mean(axis=0) - middle if len(path.places) else np.zeros(3)
    own -= up * (own @ up)
    size = 2.2 * reach / np.sqrt(len(points))
    best, most = Viewpoint(middle + 2 * reach * up, middle, up), -np.inf
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
        away = np.cos(angle) * side + np.sin(angle) * np.cross(up, side)
        for height in (0.35, 0.6, 0.9):
            eye = middle + 1.9 * reach * (np.sqrt(1 - height**2) * away + height * up)
            pose = look_at(eye, middle, up)
            drawn = splat(points, paint, camera, pose, size=size, normals=normals)
            filled = float((drawn.max(axis=2) < 128).mean())
            behind = float(away @ own) / max(float(np.linalg.norm(own)), 1e-9)
            worth = filled + 0.12 * behind - 0.1 * abs(height - 0.5)
            if worth > most:
                best, most = Viewpoint(eye, middle, up), worth
    return best


def view_from(
    found: StillPoints, path: CameraPath, view: Viewpoint, width: int, height: int
) -> NDArray[np.uint8]:
    """The scene from a viewpoint, with the camera's path."""
    camera = Pinhole.from_field_of_view(50 * width / height / 1.4, width, height)
    pose = look_at(view.eye, view.target, view.up)
    picture = _picture(found, path, camera, pose, line=False)
    where, _ = camera.project((path.places - pose[:3, 3]) @ pose[:3, :3])
    for start, end in pairwise(where):  # thin: near the eye a line of points would be a wall
        if np.abs(np.nan_to_num([start, end], nan=1e9)).max() < 1e5:
            ends = [tuple(np.rint(each).astype(int).tolist()) for each in (start, end)]
            cv2.line(picture, ends[0], ends[1], _PATH, 2, cv2.LINE_AA)
    return picture


def flight(
    found: StillPoints, path: CameraPath, width: int, height: int, *, frames: int
) -> Iterator[NDArray[np.uint8]]:
    """Pictures of a flight: two thirds around the scene, one third along the camera's path.

    Args:
        found: what stays.
        path: of the camera.
        width: pixels, even.
        height: pixels, even.
        frames: pictures in all.
    """
    circling = frames * 2 // 3 if len(path.places) > 1 else frames
    for k in range(circling):
        yield around(found, path, k / circling, width, height)
    camera = Pinhole.from_field_of_view(75, width, height)
    share = np.linspace(0, len(path.places) - 1, max(frames - circling, 0))
    count = len(path.places)
    spread = max(count / 24, 1.0)
    for at in share:
        # A walking camera trembles; weights over neighbours make the flight smooth.
        weight = np.exp(-0.5 * ((np.arange(count) - at) / spread) ** 2)
        weight /= weight.sum()
        forward, eye = weight @ path.axes[:, 2], weight @ path.places
        # A step back, so that one sees what the camera passed.
        eye = eye - 0.3 * forward / max(float(np.linalg.norm(forward)), 1e-9)
        yield _picture(found, path, camera, look_at(eye, eye + forward, path.up), line=False)


def _picture(
    found: StillPoints, path: CameraPath, camera: Pinhole, pose: NDArray[np.float64],
    *, line: bool = True,
) -> NDArray[np.uint8]:  # fmt: skip
    points, colours, normals = found.points, found.colours, found.normals
    if line and len(path.places) > 1:
        at = np.linspace(0, len(path.places) - 1, min(40 * len(path.places), 4000))
        grid = np.arange(len(path.places))
        dots = np.stack([np.interp(at, grid, path.places[:, k]) for k in range(3)], axis=1)
        points = np.concatenate([points, dots.astype(np.float32)])
        red = np.broadcast_to(np.array(_PATH, np.uint8), dots.shape)
        colours = np.concatenate([colours, red])
        normals = np.concatenate([normals, np.zeros(dots.shape, np.float32)])
    size = max(1.3 * found.voxel, 0.01)
    return splat(points, colours, camera, pose, size=size, normals=normals)


def _bounds(
    found: StillPoints, path: CameraPath
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.asarray(found.points, np.float64)
    if not len(points):
        points = path.places if len(path.places) else np.zeros((1, 3))
    low, high = np.percentile(points, [1, 99], axis=0)  # stray points must not shrink the rest
    if len(path.places):
        low = np.minimum(low, path.places.min(axis=0))
        high = np.maximum(high, path.places.max(axis=0))
    return np.asarray(low), np.maximum(high, low + 0.1)
