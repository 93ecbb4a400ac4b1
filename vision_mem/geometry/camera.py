"""A pinhole camera: pixels to rays and back.

Axes are OpenCV's: x right, y down, z forward. The top left corner of the image is (0, 0) and the
centre of the first pixel (0.5, 0.5), so that resizing only multiplies. Most data sets count
pixels from their centres instead: ``Pinhole.from_centres`` takes their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.poses import is_rigid, made_rigid


@dataclass(frozen=True)
class Pinhole:
    """Intrinsics of an image of a certain size; no lens distortion.

    Attributes:
        fx, fy: focal lengths in pixels, > 0.
        cx, cy: principal point in pixels from the image's top left corner.
        width, height: pixels of the image.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not np.isfinite(numbers).all() or self.fx <= 0 or self.fy <= 0:
            raise InputError(
                f"intrinsics are fx, fy, cx, cy = {', '.join(f'{n:g}' for n in numbers)}; expected "
                "finite pixels with fx and fy above 0"
            )
        if self.width < 1 or self.height < 1:
            raise InputError(f"intrinsics are of an image of {self.width} x {self.height} pixels")

    @classmethod
    def from_centres(
        cls, fx: float, fy: float, cx: float, cy: float, width: int, height: int
    ) -> Pinhole:
        """From numbers that count pixels from their centres (TUM, 7-Scenes, ScanNet, OpenCV)."""
        return cls(fx, fy, cx + 0.5, cy + 0.5, width, height)

    @classmethod
    def from_field_of_view(cls, degrees: float, width: int, height: int) -> Pinhole:
        """With square pixels and the principal point in the middle.

        Args:
            degrees: horizontal field of view, in (0, 180).
            width: pixels of the image.
            height: pixels of the image.
        """
        focal = 0.5 * width / np.tan(np.radians(degrees) / 2)
        return cls(float(focal), float(focal), width / 2, height / 2, width, height)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """``(3, 3)`` for pixels counted from the image's corner."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def numbers(self) -> NDArray[np.float64]:
        """``(4,)`` fx, fy, cx, cy."""
        return np.array([self.fx, self.fy, self.cx, self.cy])

    def resized(self, width: int, height: int) -> Pinhole:
        """Of the same image at another size."""
        x, y = width / self.width, height / self.height
        return Pinhole(self.fx * x, self.fy * y, self.cx * x, self.cy * y, width, height)

    def every(self, stride: int) -> Pinhole:
        """Of the image ``image[stride // 2 :: stride, stride // 2 :: stride]``."""
        first = stride // 2
        return Pinhole(
            self.fx / stride,
            self.fy / stride,
            (self.cx - first - 0.5) / stride + 0.5,
            (self.cy - first - 0.5) / stride + 0.5,
            len(range(first, self.width, stride)),
            len(range(first, self.height, stride)),
        )

    def rays(self) -> NDArray[np.float64]:
        """``(H, W, 3)`` direction of each pixel's centre, with z = 1."""
        x = (np.arange(self.width) + 0.5 - self.cx) / self.fx
        y = (np.arange(self.height) + 0.5 - self.cy) / self.fy
        grid = np.ones((self.height, self.width, 3))
        grid[..., 0], grid[..., 1] = x[None, :], y[:, None]
        return grid

    def unproject(self, depth: ArrayLike) -> NDArray[np.float64]:
        """Points of a depth map.

        Args:
            depth: ``(H, W)`` z in metres; what is not above 0 gives a point at the camera.

        Returns:
            ``(H, W, 3)`` in the camera's axes.

        Raises:
            InputError: when the map is not of this camera's size.
        """
        z = np.asarray(depth, dtype=np.float64)
        if z.shape != (self.height, self.width):
            raise InputError(
                f"depth has shape {z.shape}; the intrinsics are of {(self.height, self.width)}"
            )
        return self.rays() * np.where(np.isfinite(z) & (z > 0), z, 0.0)[..., None]

    def project(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where points are seen.

        Args:
            points: ``(..., 3)`` in the camera's axes.

        Returns:
            ``(..., 2)`` x and y in pixels from the corner, NaN for points that are not in front
            of the camera, and ``(...)`` their z.
        """
        where = np.asarray(points, dtype=np.float64)
        z = where[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead = np.where(z > 0, z, np.nan)
            x = self.fx * where[..., 0] / ahead + self.cx
            y = self.fy * where[..., 1] / ahead + self.cy
        return np.stack([x, y], axis=-1), z


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


def colour_seen(
    image: NDArray[np.uint8],
    depth: NDArray[np.float32],
    camera: Pinhole,
    *,
    other: Pinhole,
    pose: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Colour at the pixels of a depth map that another camera measured.

    Where there is no reading, colour is looked up as if far away.

    Args:
        image: ``(H, W, 3)`` RGB of the colour camera.
        depth: ``(h, w)`` metres.
        camera: of the depth.
        other: of the colour.
        pose: ``(4, 4)`` from the depth camera's axes to the colour camera's.

    Returns:
        ``(h, w, 3)``; black where the colour camera does not look.
    """
    far = np.where(np.isfinite(depth) & (depth > 0), depth, 1e3)
    points = camera.unproject(far) @ pose[:3, :3].T + pose[:3, 3]
    where, _ = other.resized(image.shape[1], image.shape[0]).project(points)
    inside = (where >= 0).all(axis=-1) & (where < (image.shape[1], image.shape[0])).all(axis=-1)
    found = np.zeros((*depth.shape, 3), np.uint8)
    columns, rows = np.floor(where[inside]).astype(np.int64).T
    found[inside] = image[rows, columns]
    return found
