"""One frame as the embedded segmenter prepares it, and the optical flow that leads to it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.windows import Window
from vision_mem.types import Frame

_LEAST_SIDE, _LEAST_HEIGHT = 16, 0.36
"""DIS flow reads beyond its pyramid, and crashes, on pictures with fewer pixels a side, or lower
than that share of their width (opencv/opencv#14554)."""


@dataclass(frozen=True)
class SeenWindow:
    """What the networks have seen of a window.

    Attributes:
        picture: ``(s, s, 3)`` uint8 RGB.
        tokens: ``(N, C)`` unit vectors, as they are compared.
        maps: what the mask decoder looks at, where there is one: ``(1, C, t, t)`` unit tokens as
            the trunk has them, its map at stride 4, and the picture at half its size.
    """

    picture: NDArray[np.uint8]
    tokens: Tensor
    maps: tuple[Tensor, Tensor, Tensor] | None = None


@dataclass
class PreparedFrame:
    """What a frame's parts are computed from; all that changes in it are memos of pure functions.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        grey: ``(h, w)`` uint8, small, tiny and wide ones made taller and wider by repeating their
            edges; memories of all objects share it.
        flow_size: ``(w, h)`` of the part of ``grey`` that is the picture.
        scale: grid / video.
        windows: those looked at.
        ways: optical flow to an earlier frame and the places it leads to, ``(h, w, 2)`` each, by
            the address of that frame's grey picture.
        scene: tokens of the whole picture and their ``(h, w)``, once it was searched.
        lock: held while a memo that all objects share is made, so that it is made once.
    """

    image: NDArray[np.uint8]
    grey: Tensor
    flow_size: tuple[int, int]
    scale: float
    windows: dict[Window, SeenWindow] = field(default_factory=dict)
    ways: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=dict)
    scene: tuple[Tensor, tuple[int, int]] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, frame: Frame, config: EmbeddedConfig) -> tuple[PreparedFrame, tuple[int, int]]:
        """Prepare a frame; also gives the ``(gh, gw)`` of its grid."""
        height, width = frame.size
        scale = min(1.0, config.grid_side / max(height, width))
        grid = (max(1, round(height * scale)), max(1, round(width * scale)))
        shrink = min(1.0, config.flow_side / max(height, width))
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
        grey = _fill(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.BORDER_REPLICATE)
        return cls(frame.image, torch.from_numpy(grey), size, grid[1] / width), grid

    def shrink(self, mask: NDArray[np.float32]) -> Tensor:
        """Bring a mask on the grid, in [0, 1], to what ``carry`` takes on the next frame."""
        small = cv2.resize(mask, self.flow_size, interpolation=cv2.INTER_AREA)
        return torch.from_numpy(_fill(np.round(small * 255).astype(np.uint8), cv2.BORDER_CONSTANT))

    def carry(
        self, grey: Tensor, mask: Tensor
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float64]]:
        """Move a mask of an earlier frame here, along the optical flow.

        Args:
            grey: uint8 ``(h, w)`` of that frame.
            mask: uint8 ``(h, w)``, what ``shrink`` made of the mask on that frame.

        Returns:
            The mask at ``flow_size``, [0, 1] (None for another size), and its way in video pixels.
        """
        if grey.shape != self.grey.shape:
            return None, np.zeros(2)
        key = grey.data_ptr()
        with self.lock:
            if key not in self.ways:
                self.ways[key] = self._way(grey.cpu().numpy())
        flow, places = self.ways[key]
        width, height = self.flow_size
        before = mask.cpu().numpy().astype(np.float32) / 255
        moved = cv2.remap(before, places, None, cv2.INTER_LINEAR)
        on = moved > 0.5
        if np.count_nonzero(on) <= 2:
            return moved, np.zeros(2)
        back = np.median(flow[on], axis=0).astype(np.float64)
        step = self.image.shape[1] / width, self.image.shape[0] / height
        return moved, -back * step

    def _way(self, grey: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        # From now to before: tells each pixel of this frame where it came from.
        flow = np.asarray(dis.calc(self.grey.numpy(), grey, None), np.float32)
        width, height = self.flow_size
        flow = np.ascontiguousarray(flow[:height, :width])
        here = np.meshgrid(np.arange(width), np.arange(height))
        return flow, np.stack(here, axis=-1).astype(np.float32) + flow


def _fill(picture: NDArray[np.uint8], border: int) -> NDArray[np.uint8]:
    """Make tiny and wide pictures large enough for optical flow, to the right and below."""
    height, width = picture.shape
    right = max(0, _LEAST_SIDE - width)
    below = max(0, _LEAST_SIDE - height, int(np.ceil(_LEAST_HEIGHT * (width + right))) - height)
    if right == below == 0:
        return picture
    return np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, right, border), np.uint8)
