"""Frames at the size that is worked on: every n-th pixel, and answers brought back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.reconstruction.config import ReconstructionConfig

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class WorkingFrame:
    """A frame with every ``stride``-th pixel.

    Attributes:
        image: ``(h, w, 3)`` uint8.
        depth: ``(h, w)`` float32 metres, exactly 0 where there is no usable reading.
        camera: of the small image.
        stride: whole number, >= 1.
        full: ``(height, width)`` of the frame.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    camera: Pinhole
    stride: int
    full: tuple[int, int]

    def enlarged(self, values: NDArray[Kind]) -> NDArray[Kind]:
        """``(h, w)`` values at the size of the frame, each pixel taking its block's."""
        if self.stride == 1:
            return values
        rows = np.minimum(np.arange(self.full[0]) // self.stride, values.shape[0] - 1)
        columns = np.minimum(np.arange(self.full[1]) // self.stride, values.shape[1] - 1)
        return np.asarray(values[rows[:, None], columns[None, :]])

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` that is worked on."""
        return self.depth.shape[0], self.depth.shape[1]

    @property
    def grey(self) -> NDArray[np.uint8]:
        """``(h, w)`` brightness."""
        return np.asarray(cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _some(array: NDArray[Any], stride: int) -> NDArray[Any]:
    first = stride // 2
    return np.ascontiguousarray(array[first::stride, first::stride])


def thin(frame: RgbdFrame, config: ReconstructionConfig) -> WorkingFrame:
    """Take every n-th pixel, and only readings that can be used."""
    stride = max(1, -(-max(frame.size) // config.max_side))
    stride = min(stride, *frame.size)
    depth = _some(frame.depth, stride)
    with np.errstate(invalid="ignore"):
        usable = (depth > config.near) & (depth <= config.far)  # NaN is neither
    depth = np.where(usable, depth, np.float32(0))
    return WorkingFrame(
        _some(frame.image, stride), depth, frame.camera.every(stride), stride, frame.size
    )


def thin_masks(
    masks: ArrayLike | Iterable[ArrayLike] | None, size: tuple[int, int], stride: int
) -> NDArray[np.bool_] | None:
    """Union of masks, thinned like the frame; None when there is none.

    Raises:
        InputError: for masks that are not of the frame's size.
    """
    if masks is None:
        return None
    stack = np.asarray(masks if isinstance(masks, np.ndarray) else list(masks))  # type: ignore[arg-type]
    if stack.size == 0:
        return None
    if stack.ndim == 2:
        stack = stack[None]
    if stack.ndim != 3 or stack.shape[1:] != size:
        raise InputError(
            f"dynamic masks have shape {stack.shape}; expected (H, W) or (n, H, W) with the "
            f"frame's {size[0]} x {size[1]} pixels"
        )
    return _some(np.asarray((stack > 0).any(axis=0)), stride)


def smoothed(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the readings around each pixel, for normals: single readings are too noisy.

    Args:
        depth: ``(h, w)`` metres, 0 where there is none.

    Returns:
        ``(h, w)`` float32; 0 where the pixel itself has none.
    """
    there = (depth > 0).astype(np.float32)
    side = (5, 5) if min(depth.shape) >= 200 else (3, 3)
    total = cv2.boxFilter(depth, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    count = cv2.boxFilter(there, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.where(there > 0, total / np.maximum(count, 1), 0).astype(np.float32)
