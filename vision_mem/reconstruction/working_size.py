"""Frames at the size that is worked on: every n-th pixel, and answers brought back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.reconstruction.config import ReconstructionConfig

Kind = TypeVar("Kind", bound=np.generic)

_SPARSE, _FINE = 0.7, 0.4
"""Share of the pixels with a reading below which depth may be sparse; and the share of its holes
that have to lie within reach of readings for it to be so. Shadows and windows are no such holes."""

_REACH = 3
"""Pixels, as they are worked on, over which holes of sparse depth are filled."""

_SAME_SURFACE = 0.05
"""Share of the nearest reading by which others may be farther and still count as its surface."""


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
    """Take every n-th pixel, and only readings that can be used.

    Where depth is sparse (a grid of readings, single points), holes between readings are filled.
    """
    stride = max(1, -(-max(frame.size) // config.max_side))
    stride = min(stride, *frame.size)
    depth = _usable(_some(frame.depth, stride), config)
    if np.count_nonzero(depth) < _SPARSE * depth.size:
        depth = _closed(frame.depth, depth, stride, config)
    return WorkingFrame(
        _some(frame.image, stride), depth, frame.camera.every(stride), stride, frame.size
    )


def _usable(depth: NDArray[np.float32], config: ReconstructionConfig) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):
        usable = (depth > config.near) & (depth <= config.far)  # NaN is neither
    return np.where(usable, depth, np.float32(0))


def _closed(
    whole: NDArray[np.float32],
    depth: NDArray[np.float32],
    stride: int,
    config: ReconstructionConfig,
) -> NDArray[np.float32]:
    """``depth`` without the holes of sparse depth; as it is when it has others.

    Args:
        whole: ``(H, W)`` all readings.
        depth: ``(h, w)`` every ``stride``-th of them.
        stride: see there.
        config: settings.
    """
    height, width = depth.shape
    blocks = [depth]
    for row in range(stride):
        for column in range(stride):
            # The last rows and columns may have no whole block.
            part = np.zeros_like(depth)
            some = whole[row::stride, column::stride][:height, :width]
            part[: some.shape[0], : some.shape[1]] = _usable(some, config)
            blocks.append(part)
    filled = np.where(depth > 0, depth, _of_nearest(blocks))
    # Holes are closed, outlines are not widened.
    square = np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)
    inside = cv2.morphologyEx((filled > 0).astype(np.uint8), cv2.MORPH_CLOSE, square) > 0
    for _ in range(_REACH):
        if (filled[inside] > 0).all():
            break
        rim = np.pad(filled, 1)
        around = [rim[r : r + height, c : c + width] for r in range(3) for c in range(3)]
        filled = np.where(inside & (filled <= 0), _of_nearest(around), filled)
    holes = depth <= 0
    fine = np.count_nonzero(holes & (filled > 0)) >= _FINE * np.count_nonzero(holes)
    return filled if fine else depth


def _of_nearest(readings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean of those ``(h, w)`` readings that lie on the nearest surface; 0 where there is none."""
    stack = np.stack(readings)
    nearest = np.where(stack > 0, stack, np.float32(np.inf)).min(axis=0)
    near = (stack > 0) & (stack <= nearest * np.float32(1 + _SAME_SURFACE))
    total = np.where(near, stack, np.float32(0)).sum(axis=0)
    mean: NDArray[np.float32] = (total / np.maximum(near.sum(axis=0), 1)).astype(np.float32)
    return mean


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
