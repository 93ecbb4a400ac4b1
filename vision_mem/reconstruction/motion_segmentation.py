"""What says that a pixel moves: places that were seen empty before, and the masks of others.

Evidence comes in two strengths. A suspicion is enough to keep a pixel out of the map: a key frame
saw its place empty. It is sure where several did, all around the place and without a hole there,
by more than the noise of this stream, and on a frame whose pose fits: edges of depth, grazing
surfaces, holes and poses that are slightly off give suspicions, and nothing more.

Source: specs/mem4d.md section 4.4, item 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.reconstruction.config import EvidenceConfig
from vision_mem.reconstruction.kernels.dispatch import VoxelKernels
from vision_mem.reconstruction.working_size import WorkingFrame

_FAR = np.float32(1e9)
_EVERY, _FEW = 5, 50
"""Every n-th point in rows and columns tells how well a frame fits; so many must say something."""
_MISFIT, _LEAST_MISFIT = 2.0, 0.15
"""A frame that fits so many times worse than the stream does, and worse than a share of the limit,
is no evidence of anything: its pose is off."""
_FORGET = 0.1


@dataclass(frozen=True)
class Emptiness:
    """What key frames say of the places of a frame's points.

    Attributes:
        empty: ``(H, W)`` bool: seen empty, perhaps.
        sure: ``(H, W)`` bool: surely.
        agreed: ``(H, W)`` int8: 1 where the surface was already there a moment ago, -1 where it
            was not, 0 where that is unknown.
    """

    empty: NDArray[np.bool_]
    sure: NDArray[np.bool_]
    agreed: NDArray[np.int8]


def nearest_depth(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least reading of each pixel and its eight neighbours.

    Args:
        depth: ``(H, W)`` metres, 0 where there is none.

    Returns:
        ``(H, W)`` float32; 0 where the pixel itself has no reading.
    """
    filled = np.where(depth > 0, depth, _FAR).astype(np.float32)
    least = cv2.erode(filled, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return np.where(depth > 0, least, 0).astype(np.float32)


def nearest_around(depth: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Least reading within a square of ``2 * radius + 1`` pixels.

    Args:
        depth: ``(H, W)`` metres, 0 where there is none. Holes of a pixel or two are passed over.
        radius: pixels.

    Returns:
        ``(H, W)`` float32; 0 where the square has a hole: what was there, nobody saw.
    """
    filled = cv2.morphologyEx(
        depth, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE
    )
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    least = cv2.erode(np.where(depth > 0, depth, filled), square, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(least, np.float32)


def grown(
    moving: NDArray[np.bool_],
    expected: NDArray[np.bool_],
    surface: NDArray[np.bool_],
    depth: NDArray[np.float32],
    config: EvidenceConfig,
) -> NDArray[np.bool_]:
    """Let whole surfaces move when enough of them does.

    A surface is a region without edges of depth. What covers the place where a body was a moment
    ago, or where nothing was known, cannot be told by free space; the rest of the body can.

    Args:
        moving: ``(H, W)`` pixels that move by other evidence.
        expected: ``(H, W)`` pixels that lie where a moving thing should be by now.
        surface: ``(H, W)`` pixels away from edges of depth.
        depth: ``(H, W)`` metres.
        config: settings.

    Returns:
        ``(H, W)`` bool, at least ``moving``.
    """
    count, label, stats, _ = cv2.connectedComponentsWithStats(
        surface.astype(np.uint8), connectivity=4
    )
    sizes = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    share = np.bincount(label[moving & surface], minlength=count) / sizes
    awaited = np.bincount(label[expected & surface], minlength=count) / sizes
    whole = (share >= config.whole_share) | (awaited >= config.awaited_share)
    whole &= sizes <= config.most_share * moving.size
    whole[0] = False  # no surface
    result = moving | whole[label]
    # Edges belong to the surface that they are nearest to in depth.
    far = np.where(result, depth, 0).astype(np.float32)
    near = np.where(result, depth, _FAR).astype(np.float32)
    around = np.ones((3, 3), np.uint8)
    limit = config.jump * depth
    beside = np.abs(cv2.dilate(far, around) - depth) < limit
    beside |= np.abs(cv2.erode(near, around) - depth) < limit
    return np.asarray(result | (beside & ~surface & (depth > 0)))


def where_seen(
    points: NDArray[np.float32],
    small: WorkingFrame,
    view: NDArray[np.float64],
    config: EvidenceConfig,
) -> NDArray[np.bool_]:
    """Pixels of a frame at which points are seen.

    Args:
        points: ``(n, 3)`` in the world.
        small: the frame.
        view: ``(3, 4)`` world-to-camera.
        config: settings.

    Returns:
        ``(H, W)`` bool; a pixel's neighbours count as well.
    """
    found = np.zeros(small.depth.shape, np.uint8)
    if not len(points):
        return found.astype(bool)
    where, z = small.camera.project(points.astype(np.float64) @ view[:, :3].T + view[:, 3])
    height, width = small.size
    with np.errstate(invalid="ignore"):
        inside = (where >= 0).all(axis=1) & (where < (width, height)).all(axis=1)
    pixels = np.floor(where[inside]).astype(np.int64)
    u, v = pixels[:, 0], pixels[:, 1]
    near = np.abs(small.depth[v, u] - z[inside]) < config.base + config.slope * z[inside]
    found[v[near], u[near]] = 1
    return np.asarray(cv2.dilate(found, np.ones((3, 3), np.uint8)) > 0)


class KeyFrames:
    """Depth of some of the last frames, for asking what was seen where.

    Args:
        kernels: loops.
        config: settings.
        camera: ``(4,)`` fx, fy, cx, cy.
        size: ``(height, width)``.
    """

    def __init__(
        self,
        kernels: VoxelKernels,
        config: EvidenceConfig,
        camera: NDArray[np.float64],
        size: tuple[int, int],
    ) -> None:
        self.kernels, self.config = kernels, config
        self.camera, self.size = camera, size
        shape = (config.key_frames, *size)
        self._depth = np.zeros(shape, np.float32)
        self._nearest = np.zeros(shape, np.float32)
        self._around = np.zeros(shape, np.float32)
        self._radius = round(float(np.tan(np.radians(config.beside)) * camera[0]))
        self._pose = np.zeros((config.key_frames, 3, 4))
        self._times = np.full(config.key_frames, -np.inf)
        self._written = 0
        self._since = 0
        self._noise = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        held = (self._depth, self._nearest, self._around, self._pose, self._times)
        return sum(a.nbytes for a in held)

    def fits(self, camera: NDArray[np.float64], size: tuple[int, int]) -> bool:
        """Whether frames of this camera can be compared with those held."""
        return size == self.size and bool(np.array_equal(camera, self.camera))

    def judge(self, points: NDArray[np.float32], surface: NDArray[np.bool_]) -> Emptiness:
        """Compare a frame with the key frames.

        Args:
            points: ``(H, W, 3)`` in the world, NaN where there is none.
            surface: ``(H, W)`` pixels away from edges of depth.
        """
        rules, count = self.config, min(self._written, self.config.key_frames)
        empty, agreed = np.zeros(self.size, np.int16), np.zeros(self.size, np.int8)
        sure = np.zeros(self.size, bool)
        if not count or not rules.free_space:
            return Emptiness(sure, sure, agreed)
        newest = (self._written - 1) % rules.key_frames
        misfit = self._misfit(points, newest)
        usual = self._noise or misfit
        fits = misfit <= max(_MISFIT * usual, _LEAST_MISFIT)
        self._noise = usual + _FORGET * (min(misfit, _MISFIT * usual) - usual)
        wider = max(1.0, rules.margin * max(self._noise, misfit))
        limits = self.camera, wider * rules.base, wider * rules.slope, newest, rules.close
        nearest, around, depth, pose = (
            each[:count] for each in (self._nearest, self._around, self._depth, self._pose)
        )
        self.kernels.votes(
            points.reshape(-1, 3), nearest, depth, pose, *limits, empty.reshape(-1),
            agreed.reshape(-1),
        )  # fmt: skip
        suspected = empty >= rules.votes
        asked = np.flatnonzero((empty >= rules.sure_votes) & surface) if fits else np.empty(0, int)
        if len(asked):
            times, there = np.zeros(len(asked), np.int16), np.zeros(len(asked), np.int8)
            some = points.reshape(-1, 3)[asked]
            self.kernels.votes(some, around, depth, pose, *limits, times, there)
            sure.ravel()[asked] = times >= rules.sure_votes
        return Emptiness(suspected, sure, agreed)

    def _misfit(self, points: NDArray[np.float32], key: int) -> float:
        """Robust deviation of a frame from a key frame, as a share of the limit; 0: unknown."""
        some = points[::_EVERY, ::_EVERY].reshape(-1, 3)
        some = some[np.isfinite(some[:, 0])].astype(np.float64)
        local = some @ self._pose[key, :, :3].T + self._pose[key, :, 3]
        z = local[:, 2]
        fx, fy, cx, cy = self.camera
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = fx * local[:, 0] / z + cx, fy * local[:, 1] / z + cy
            inside = (z > 0.05) & (u >= 0) & (v >= 0) & (u < self.size[1]) & (v < self.size[0])
        there = self._depth[key, v[inside].astype(np.int64), u[inside].astype(np.int64)]
        known, z = there > 0, z[inside]
        off = np.abs(there - z)[known] / (self.config.base + self.config.slope * z[known])
        return 1.48 * float(np.median(off)) if len(off) >= _FEW else 0.0

    def write(
        self,
        depth: NDArray[np.float32],
        nearest: NDArray[np.float32],
        view: NDArray[np.float64],
        time_s: float,
    ) -> None:
        """Keep a frame if the last one kept is old enough.

        Args:
            depth: ``(H, W)`` metres.
            nearest: ``(H, W)`` of ``nearest_depth``.
            view: ``(3, 4)`` world-to-camera.
            time_s: of the frame.
        """
        self._since += 1
        newest = self._times[(self._written - 1) % self.config.key_frames]
        # A hair less: time stamps are rounded.
        due = time_s - newest >= self.config.every_s - 1e-3
        if self._written and not due and self._since < self.config.every_frames:
            return
        place = self._written % self.config.key_frames
        self._depth[place], self._nearest[place] = depth, nearest
        self._around[place] = nearest_around(depth, self._radius)
        self._pose[place], self._times[place] = view, time_s
        self._written += 1
        self._since = 0

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything held."""
        arrays: dict[str, NDArray[Any]] = {
            "camera": self.camera,
            "depth": self._depth,
            "nearest": self._nearest,
            "pose": self._pose,
            "times": np.where(np.isfinite(self._times), self._times, -1e300),
        }
        made: dict[str, Any] = {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
        return made | {"written": self._written, "since": self._since, "noise": self._noise}

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], kernels: VoxelKernels, config: EvidenceConfig
    ) -> KeyFrames:
        """What ``state_dict`` gave.

        Raises:
            ValueError, KeyError: for a state that is not whole.
        """
        depth = state["depth"].numpy()
        if depth.ndim != 3 or len(depth) != config.key_frames:
            raise ValueError(f"key frames have shape {depth.shape}")
        made = cls(kernels, config, state["camera"].numpy().copy(), depth.shape[1:])
        made._depth[:], made._nearest[:] = depth, state["nearest"].numpy()
        for each, own in zip(made._around, depth, strict=True):
            each[:] = nearest_around(own, made._radius)
        made._pose[:] = state["pose"].numpy()
        times = state["times"].numpy()
        made._times[:] = np.where(times > -1e299, times, -np.inf)
        made._written, made._since = int(state["written"]), int(state["since"])
        made._noise = float(state.get("noise", 0.0))
        return made
