"""One moment of a depth camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import is_rigid, made_rigid


@dataclass(frozen=True)
class RgbdFrame:
    """Colour and depth of the same pixels.

    Attributes:
        index: position in the source, from 0; gaps say that frames were skipped.
        time_s: seconds; rises from frame to frame.
        image: ``(H, W, 3)`` uint8 RGB.
        depth: ``(H, W)`` float32 z in metres; 0, NaN, infinite and negative are "no reading".
        camera: intrinsics of this image.
        pose: ``(4, 4)`` float64 camera-to-world, metres; None where it is not known.

    Raises:
        InputError: for shapes that do not fit, or a pose that is no rigid motion.
    """

    index: int
    time_s: float
    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    camera: Pinhole
    pose: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        if self.image.shape != (*size, 3) or self.image.dtype != np.uint8:
            raise InputError(
                f"frame {self.index} has colour of shape {self.image.shape} and type "
                f"{self.image.dtype}; expected {(*size, 3)} uint8 RGB as its intrinsics say"
            )
        if self.depth.shape != size:
            raise InputError(
                f"frame {self.index} has depth of shape {self.depth.shape}; expected {size}, that "
                "of its colour: resize one of them, depth by nearest neighbours"
            )
        if not np.isfinite(self.time_s):
            raise InputError(f"frame {self.index} has time {self.time_s}; expected seconds")
        if self.depth.dtype != np.float32:
            with np.errstate(over="ignore", invalid="ignore"):
                object.__setattr__(self, "depth", np.asarray(self.depth, dtype=np.float32))
        if self.pose is not None:
            if not is_rigid(self.pose):
                raise InputError(
                    f"frame {self.index} has a pose that is no rigid motion; expected a (4, 4) "
                    "camera-to-world matrix, or None where the pose is not known"
                )
            object.__setattr__(self, "pose", made_rigid(self.pose))

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.camera.height, self.camera.width

    def without_pose(self) -> RgbdFrame:
        """The same frame for a session that is to find the pose itself."""
        return replace(self, pose=None)
