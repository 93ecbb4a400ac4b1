"""What says that a pixel moves: places that were seen empty before, and the masks of others.

Source: specs/mem4d.md section 4.4, item 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.reconstruction.config import EvidenceConfig
from vision_mem.reconstruction.kernels.dispatch import VoxelKernels
from vision_mem.reconstruction.working_size import WorkingFrame

_FAR = np.float32(1e9)


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
        self._pose = np.zeros((config.key_frames, 3, 4))
        self._times = np.full(config.key_frames, -np.inf)
        self._written = 0
        self._since = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in (self._depth, self._nearest, self._pose, self._times))

    def fits(self, camera: NDArray[np.float64], size: tuple[int, int]) -> bool:
        """Whether frames of this camera can be compared with those held."""
        return size == self.size and bool(np.array_equal(camera, self.camera))

    def judge(self, points: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
        """Compare a frame with the key frames.

        Args:
            points: ``(H, W, 3)`` in the world, NaN where there is none.

        Returns:
            ``(H, W)`` bool, whether the place was seen empty; and ``(H, W)`` int8, 1 where the
            surface was already there a moment ago, -1 where it was not, 0 where that is unknown.
        """
        count = min(self._written, self.config.key_frames)
        empty, agreed = np.zeros(self.size, np.int16), np.zeros(self.size, np.int8)
        if count and self.config.free_space:
            newest = (self._written - 1) % self.config.key_frames
            held = (each[:count] for each in (self._nearest, self._depth, self._pose))
            self.kernels.votes(
                points.reshape(-1, 3), *held, self.camera, self.config.base, self.config.slope,
                newest, self.config.close, empty.reshape(-1), agreed.reshape(-1),
            )  # fmt: skip
        return empty >= self.config.votes, agreed

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
        return made | {"written": self._written, "since": self._since}

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
        made._pose[:] = state["pose"].numpy()
        times = state["times"].numpy()
        made._times[:] = np.where(times > -1e299, times, -np.inf)
        made._written, made._since = int(state["written"]), int(state["since"])
        return made
