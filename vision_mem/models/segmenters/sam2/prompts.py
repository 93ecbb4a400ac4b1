"""Pictures and prompts as SAM 2's network wants them: in pixels of its own square."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from vision_mem.errors import InputError
from vision_mem.types import Frame, Prompt


def square_picture(frame: Frame, side: int, resize: str) -> NDArray[np.uint8]:
    """``(side, side, 3)`` of a frame; ``resize`` as in ``Sam2Segmenter``.

    Raises:
        InputError: when the decoder should have resized it and did not.
    """
    if resize == "decord":
        made = frame.model_image
        if made is None or made.shape != (side, side, 3):
            got = "none" if made is None else f"one of shape {made.shape}"
            raise InputError(
                f"resize 'decord' needs a model image of {side} x {side} with each frame and "
                f"frame {frame.index} has {got}; open the source with resize='decord' and "
                f"model_size={side}, or choose resize='pil_bicubic'"
            )
        return np.array(made)
    if frame.size == (side, side):
        return np.array(frame.image)
    if resize == "cv2":
        shrinking = min(frame.size) >= side
        how = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(frame.image, (side, side), interpolation=how))
    resized = Image.fromarray(frame.image).resize((side, side), Image.Resampling.BICUBIC)
    return np.array(resized)


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


def boxes_of(
    prompts: Sequence[Prompt], size: tuple[int, int], side: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """``points_of`` for B prompts that are boxes: ``(B, 2, 2)`` places and ``(B, 2)`` labels.

    Raises:
        InputError: for a prompt with anything but a box.
    """
    given = [points_of(one, size, side) for one in prompts if one.mask is None]
    made = [one for one in given if one is not None and one[1].shape[1] == 2]
    if len(made) != len(prompts) or not made:
        raise InputError("only boxes can be decoded together; prompt the others one by one")
    places, labels = (torch.cat([one[k] for one in made]).to(device) for k in (0, 1))
    return places, labels
