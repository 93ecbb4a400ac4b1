"""What a reconstruction session says of a frame."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.camera import RgbdFrame
from vision_mem.reconstruction.dynamic_objects import MovingPoints, MovingTrack
from vision_mem.types import Event, Frame

UNKNOWN, STATIC, MOVING, PARKED, MAYBE = 0, 1, 2, 3, 4
"""Values of ``labels``: no reading or no pose; stays; moves now; moved lately and stands still; may
move, which is not sure, and is kept out of the map."""

GIVEN, FIRST, ICP, LOST = "given", "first", "icp", "lost"


@dataclass(frozen=True)
class ReconstructionResult:
    """One frame, taken apart.

    Attributes:
        frame_index, time_s: those of the frame.
        size: ``(height, width)`` of the frame.
        pose: ``(4, 4)`` float64 camera-to-world; on a lost frame the last one that was believed.
        pose_source: ``given``, ``first`` (it defines the world), ``icp`` or ``lost``.
        inliers: share of the visible structure that fits the pose, [0, 1]; 1 for given poses.
        labels: ``(H, W)`` uint8 of ``UNKNOWN``, ``STATIC``, ``MOVING``, ``PARKED``, ``MAYBE``.
        track_ids: ``(H, W)`` int32 of the track of each pixel that moves, is parked or may move,
            else 0.
        tracks: those that surely moved, seen on this frame or lately.
        moving_points: those of this frame, in the world, with colours and tracks; parked ones
            too, those that may move not.
        events: ``lost`` and ``found`` for the camera (object 0), ``demoted`` for structure that
            left (object 0, with the number of voxels), and for tracks ``appeared``, ``parked``,
            ``moved again``, ``left``.
        reason: why the frame is lost; empty when it is not.
        uncertain: tracks of what may move, and may as well be an error of depth or pose.
        stage_ms: milliseconds by stage; not part of the answer.
        open_directions: motions of the camera that the structure in view does not hold, in words
            (``sideways``, ``rolling`` ...); a pose that is found has them from the images.
        pose_deviation: ``(6,)`` radians and metres, about and along the camera's x, y and z, to
            which the structure holds a pose that was found; infinite where it is open, None for
            poses that were not. Drift of the map itself is not in it.
    """

    frame_index: int
    time_s: float
    size: tuple[int, int]
    pose: NDArray[np.float64]
    pose_source: str
    inliers: float
    labels: NDArray[np.uint8]
    track_ids: NDArray[np.int32]
    tracks: tuple[MovingTrack, ...]
    moving_points: MovingPoints
    events: tuple[Event, ...] = ()
    reason: str = ""
    stage_ms: Mapping[str, float] = field(default_factory=dict, compare=False)
    uncertain: tuple[MovingTrack, ...] = ()
    open_directions: tuple[str, ...] = ()
    pose_deviation: NDArray[np.float64] | None = None

    @property
    def lost(self) -> bool:
        """Whether the pose is not to be believed."""
        return self.pose_source == LOST

    @property
    def static(self) -> NDArray[np.bool_]:
        """``(H, W)`` where a surface stays."""
        return np.asarray(self.labels == STATIC)

    @property
    def dynamic(self) -> NDArray[np.bool_]:
        """``(H, W)`` where a surface surely moves now."""
        return np.asarray(self.labels == MOVING)

    @property
    def maybe(self) -> NDArray[np.bool_]:
        """``(H, W)`` where a surface may move or have moved."""
        return np.asarray(self.labels == MAYBE)


def check_order(frame: Frame | RgbdFrame, index: int, time_s: float) -> None:
    """Refuse what is no frame, or does not come after the one with this number and time."""
    if not hasattr(frame, "time_s"):
        raise InputError(
            f"a frame is a {type(frame).__name__}; expected vision_mem.geometry.camera.RgbdFrame: "
            "an image alone has neither depth nor intrinsics"
        )
    if frame.index <= index:
        raise InputError(
            f"frame {frame.index} comes after frame {index}; number frames as they come, or call "
            "reset() before another stream"
        )
    if frame.time_s <= time_s:
        raise InputError(
            f"frame {frame.index} has time {frame.time_s:g} s, not after {time_s:g} s; sort the "
            "frames by time"
        )


class StageClock:
    """Milliseconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the stage ``name``."""
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + 1e3 * (now - self._last)
        self._last = now
