"""Prompts in video pixels as SAM 2's network wants them: in pixels of its own square."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vision_mem.types import Prompt


def square_mask(mask: NDArray[np.bool_], side: int) -> torch.Tensor:
    """``(H, W)`` bool to ``(1, 1, side, side)`` float 0 or 1."""
    given = torch.from_numpy(mask.astype(np.float32))[None, None]
    if mask.shape == (side, side):
        return given
    scaled = F.interpolate(
        given, size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )
    return (scaled >= 0.5).float()


def points_of(
    prompt: Prompt, size: tuple[int, int], side: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Box corners (labels 2 and 3), then points.

    Args:
        prompt: in video pixels.
        size: ``(H, W)`` of the video.
        side: of the network's square.

    Returns:
        ``(1, n, 2)`` places and ``(1, n)`` labels; None for a prompt without box and points.
    """
    if prompt.box is None and prompt.points is None:
        return None
    places = np.zeros((0, 2), np.float32) if prompt.points is None else prompt.points
    labels = np.zeros(0, np.int32) if prompt.labels is None else prompt.labels
    if prompt.box is not None:
        places = np.concatenate([prompt.box.reshape(2, 2), places])
        labels = np.concatenate([np.array([2, 3], np.int32), labels])
    scaled = torch.from_numpy(places)[None] / torch.tensor([size[1], size[0]])
    return scaled * side, torch.from_numpy(labels)[None]
