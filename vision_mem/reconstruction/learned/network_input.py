"""Frames as a network wants them, and its answers back on the frame's own pixels.

Source: specs/mem4d.md section 1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.camera import Pinhole
from vision_mem.models.mem4d.config import Mem4DConfig


@dataclass(frozen=True)
class Placing:
    """How a picture was made small: first resized, then cropped.

    Attributes:
        source: ``(H, W)`` of the frame.
        resized: ``(H, W)`` after resizing.
        size: ``(h, w)`` after cropping, whole patches.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, source: tuple[int, int], config: Mem4DConfig) -> Placing:
        """For frames of a size.

        Raises:
            InputError: for frames so long and thin that nothing would be left of them.
        """
        height, width = source
        side = min(source) if config.square else max(source)
        scale = config.size / side
        resized = (max(1, round(height * scale)), max(1, round(width * scale)))
        if config.square:
            size = (config.size, config.size)
        else:
            size = (resized[0] // config.patch * config.patch,
                    resized[1] // config.patch * config.patch)  # fmt: skip
        if min(size) < config.patch:
            raise InputError(
                f"frames of {height} x {width} pixels are too long and thin; at a longer side of "
                f"{config.size} the other one needs {config.patch} or more"
            )
        return cls(source, resized, size)

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the crop in the resized picture."""
        return (self.resized[0] - self.size[0]) // 2, (self.resized[1] - self.size[1]) // 2

    def small(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(H, W, 3)`` uint8 RGB to ``(3, h, w)`` in [-1, 1]."""
        shrinks = self.resized[0] < self.source[0]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        made = cv2.resize(image, (self.resized[1], self.resized[0]), interpolation=way)
        made = self._cropped(made).astype(np.float32) / 127.5 - 1
        return np.ascontiguousarray(made.transpose(2, 0, 1))

    def small_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """``(H, W)`` bool to ``(h, w)``: what any of its pixels covers."""
        size = (self.resized[1], self.resized[0])
        share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return np.asarray(self._cropped(share) > 0)

    def camera(self, camera: Pinhole) -> Pinhole:
        """Intrinsics of the small picture."""
        whole = camera.resized(self.resized[1], self.resized[0])
        row, column = self.corner
        return Pinhole(
            whole.fx, whole.fy, whole.cx - column, whole.cy - row, self.size[1], self.size[0]
        )

    def original(self, values: NDArray[np.uint8], fill: int) -> NDArray[np.uint8]:
        """``(h, w)`` labels to ``(H, W)``; ``fill`` outside the crop."""
        whole = np.full(self.resized, fill, values.dtype)
        row, column = self.corner
        whole[row : row + self.size[0], column : column + self.size[1]] = values
        size = (self.source[1], self.source[0])
        return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_NEAREST), np.uint8)

    @property
    def to_original(self) -> NDArray[np.float64]:
        """``(2, 3)`` affine from x, y of the small picture to those of the frame."""
        row, column = self.corner
        x, y = self.source[1] / self.resized[1], self.source[0] / self.resized[0]
        return np.array([[x, 0.0, column * x], [0.0, y, row * y]])

    def _cropped(self, image: NDArray[Any]) -> NDArray[Any]:
        row, column = self.corner
        return image[row : row + self.size[0], column : column + self.size[1]]
