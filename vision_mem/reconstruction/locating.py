"""Which pose a frame gets: the given one, the first one, or one that is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.geometry.poses import exponential, inverse, logarithm, make_pose, rotation_from
from vision_mem.io.rgbdframe import RgbdFrame
from vision_mem.reconstruction.kernels import Kernels
from vision_mem.reconstruction.odometry import Alignment, OdometryConfig, align, best_of
from vision_mem.reconstruction.records import FIRST, GIVEN, ICP, LOST
from vision_mem.reconstruction.structure import StructureMemory
from vision_mem.reconstruction.thinned import Thinned

Matrix = NDArray[np.float64]

_GOOD = 0.5
"""Inliers from which on no second opinion is asked for."""


@dataclass(frozen=True)
class Location:
    """Where a frame is.

    Attributes:
        pose: ``(4, 4)`` camera-to-world.
        source: ``given``, ``first``, ``icp`` or ``lost``.
        inliers: share of the visible structure that fits, [0, 1].
        reason: why it is lost.
        just_lost, found_again: whether this is the first lost frame, or the first after some.
    """

    pose: Matrix
    source: str
    inliers: float
    reason: str = ""
    just_lost: bool = False
    found_again: bool = False


class Locator:
    """Gives each frame its pose, and remembers what that takes.

    Given poses define the world. When the first ones are missing, the first frame does, and the
    given ones are carried over to it.

    Args:
        kernels: loops.
        config: settings.
    """

    def __init__(self, kernels: Kernels, config: OdometryConfig) -> None:
        self.kernels, self.config = kernels, config
        self.pose: Matrix | None = None
        self.guess: Matrix = np.eye(4)
        self.velocity = np.zeros(6)
        self.time_s = 0.0
        self.lost_frames = 0
        self.anchor: Matrix | None = None
        self.grey = np.zeros((0, 0), np.uint8)
        self.depth = np.zeros((0, 0), np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the last frame."""
        return self.grey.nbytes + self.depth.nbytes

    def locate(
        self,
        frame: RgbdFrame,
        small: Thinned,
        points: NDArray[np.float32],
        normals: NDArray[np.float32],
        structure: StructureMemory,
        told: NDArray[np.bool_] | None,
    ) -> Location:
        """Find the pose of a frame.

        Args:
            frame: the frame.
            small: how it is worked on.
            points: ``(h, w, 3)`` in the camera.
            normals: ``(h, w, 3)`` in the camera.
            structure: what is known.
            told: ``(h, w)`` pixels that are known to move, or None.
        """
        if frame.pose is not None and self.pose is None:
            self.anchor = np.eye(4)
        if frame.pose is not None and self.anchor is not None:
            return self._accept(frame, small, self.anchor @ frame.pose, GIVEN, 1.0)
        if structure.count == 0:
            # Nothing to compare with: the world begins here.
            start = np.eye(4) if self.pose is None else self.pose
            if frame.pose is not None:
                self.anchor = start @ inverse(frame.pose)
            return self._accept(frame, small, start, FIRST, 1.0)
        if told is not None:
            points = points.copy()
            points[told] = 0
        seen = None
        if self.config.colour:
            seen = motion_of_features(self.grey, small.grey, self.depth, small.camera.numbers)
        found = self._found(frame, small, points, normals, structure, seen)
        if found.lost:
            # Features may lead back to where structure is known; nothing is claimed meanwhile.
            self.lost_frames += 1
            self.velocity = np.zeros(6)
            if seen is not None:
                self.guess = self.guess @ seen
            self._keep(frame, small)
            assert self.pose is not None
            just = self.lost_frames == 1
            return Location(self.pose, LOST, found.inliers, found.reason, just_lost=just)
        if frame.pose is not None:
            # The first given pose after missing ones says how its world lies in this one.
            self.anchor = found.pose @ inverse(frame.pose)
            return self._accept(frame, small, found.pose, GIVEN, found.inliers)
        return self._accept(frame, small, found.pose, ICP, found.inliers)

    def _accept(
        self, frame: RgbdFrame, small: Thinned, pose: Matrix, source: str, inliers: float
    ) -> Location:
        again = self.lost_frames > 0
        seconds = frame.time_s - self.time_s
        if self.pose is not None and not again and seconds > 0:
            self.velocity = logarithm(inverse(self.pose) @ pose) / seconds
        else:
            self.velocity = np.zeros(6)
        self.pose, self.guess, self.lost_frames = pose, pose, 0
        self._keep(frame, small)
        return Location(pose, source, inliers, found_again=again)

    def _keep(self, frame: RgbdFrame, small: Thinned) -> None:
        self.time_s = frame.time_s
        if self.config.colour:
            self.grey, self.depth = small.grey, small.depth

    def _found(
        self,
        frame: RgbdFrame,
        small: Thinned,
        points: NDArray[np.float32],
        normals: NDArray[np.float32],
        structure: StructureMemory,
        seen: Matrix | None,
    ) -> Alignment:
        camera = small.camera.numbers
        size = small.size

        def attempt(prior: Matrix, with_features: bool = False) -> Alignment:
            view = np.ascontiguousarray(inverse(prior)[:3])
            model = structure.read_view((view, camera, size), self.config.model_points)
            config = self.config
            return align(
                self.kernels,
                config,
                model,
                points,
                normals,
                camera,
                prior,
                conditioning=config.leaning if with_features else config.conditioning,
                most_open=config.most_open if with_features else 0,
            )

        tried = []
        if seen is not None:
            tried.append(attempt(self.guess @ seen, with_features=True))
        if not tried or tried[0].lost or tried[0].inliers < _GOOD:
            seconds = min(frame.time_s - self.time_s, 1.0)
            tried.append(attempt(self.guess @ exponential(self.velocity * seconds)))
        if all(one.lost for one in tried) and self.velocity.any():
            tried.append(attempt(self.guess))
        return best_of(tried)

    def hide(self, moving: NDArray[np.bool_]) -> None:
        """Say which pixels of the frame just accepted move: they tell nothing of the camera."""
        if self.depth.shape == moving.shape and moving.any():
            self.depth = np.where(moving, np.float32(0), self.depth)

    # -- keeping -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {
            "pose": None if self.pose is None else torch.from_numpy(self.pose.copy()),
            "anchor": None if self.anchor is None else torch.from_numpy(self.anchor.copy()),
            "guess": torch.from_numpy(self.guess.copy()),
            "velocity": torch.from_numpy(self.velocity.copy()),
            "time_s": self.time_s,
            "lost_frames": self.lost_frames,
            "grey": torch.from_numpy(self.grey.copy()),
            "depth": torch.from_numpy(self.depth.copy()),
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], kernels: Kernels, config: OdometryConfig
    ) -> Locator:
        """What ``state_dict`` gave.

        Raises:
            ValueError, KeyError, AttributeError: for a state that is not whole.
        """
        made = cls(kernels, config)
        for name in ("pose", "anchor", "guess"):
            if state[name] is not None:
                matrix = state[name].numpy().copy()
                if matrix.shape != (4, 4):
                    raise ValueError(f"{name} has shape {matrix.shape}")
                setattr(made, name, matrix)
        made.velocity = state["velocity"].numpy().copy()
        made.time_s, made.lost_frames = float(state["time_s"]), int(state["lost_frames"])
        made.grey, made.depth = state["grey"].numpy().copy(), state["depth"].numpy().copy()
        return made


def motion_of_features(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    depth: NDArray[np.float32],
    camera: Matrix,
) -> Matrix | None:
    """Motion of the camera between two images, from corners that are followed.

    Args:
        before: ``(h, w)`` uint8.
        after: ``(h, w)`` uint8 of the same size.
        depth: ``(h, w)`` of the first.
        camera: ``(4,)``.

    Returns:
        ``(4, 4)`` pose of the second camera in the first one's axes; None when too few agree.
    """
    if before.shape != after.shape or min(before.shape) < 32:
        return None
    corners = cv2.goodFeaturesToTrack(before, 400, 0.01, 5)
    if corners is None or len(corners) < 12:
        return None
    there, good, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15))
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, winSize=(15, 15))
    corners, there, back = (a.reshape(-1, 2) for a in (corners, there, back))
    kept = (good.ravel() > 0) & (again.ravel() > 0)
    kept &= np.linalg.norm(corners - back, axis=1) < 1.0
    at = np.clip(np.round(corners).astype(int), 0, np.array(before.shape[::-1]) - 1)
    z = depth[at[:, 1], at[:, 0]].astype(np.float64)
    kept &= z > 0
    if kept.sum() < 12:
        return None
    fx, fy, cx, cy = camera
    x, y = (corners[kept] + 0.5).T.astype(np.float64)
    points = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], axis=1) * z[kept][:, None]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    done, turn, shift, inliers = cv2.solvePnPRansac(
        points,
        (there[kept] + 0.5).astype(np.float64),
        matrix,
        None,
        iterationsCount=200,
        reprojectionError=2.0,
        flags=cv2.SOLVEPNP_EPNP,
    )
    if not done or inliers is None or len(inliers) < max(10, 0.3 * kept.sum()):
        return None
    return inverse(make_pose(rotation_from(turn.ravel()), shift.ravel()))
