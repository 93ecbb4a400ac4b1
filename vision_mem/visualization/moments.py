"""Small pictures of moments, and sheets of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import ModelError
from vision_mem.visualization.contact_sheet import contact_sheet
from vision_mem.visualization.draw import draw_tag

_HEIGHT = 216
_WIDEST = 4 * _HEIGHT
_QUALITY = 82


def shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture for people, 216 pixels high or less; ``(H, W, 3)`` uint8 RGB."""
    height, width = image.shape[:2]
    scale = min(1.0, _HEIGHT / height, _WIDEST / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def to_jpeg(image: NDArray[np.uint8]) -> bytes:
    """A picture as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(content)


def from_jpeg(content: bytes) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 RGB of a JPEG.

    Raises:
        ModelError: when it is damaged.
    """
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ModelError("a picture in the memory file is damaged")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def evidence_sheet(
    path: str | Path, title: str, tiles: Sequence[tuple[NDArray[np.uint8], str]]
) -> None:
    """Write the pictures of an answer, best first, each with its time and score.

    Args:
        path: the PNG.
        title: the question, written on the first picture's foot.
        tiles: ``(H, W, 3)`` uint8 RGB and a caption each; at least one.

    Raises:
        SinkError: when it cannot be written.
    """
    width = 384
    drawn = []
    for number, (image, caption) in enumerate(tiles):
        height = max(1, round(width * image.shape[0] / image.shape[1]))
        tile = np.ascontiguousarray(cv2.resize(image, (width, height)), dtype=np.uint8)
        draw_tag(tile, f"{number + 1}.  {caption}", (0, 0), above=False)
        if number == 0:
            draw_tag(tile, title, (0, height), above=True)
        drawn.append(tile)
    contact_sheet(path, drawn, columns=min(3, len(drawn)), width=width)
