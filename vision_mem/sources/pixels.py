"""Any image array becomes the one kind the package speaks: RGB, uint8, ``(H, W, 3)``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.types import Frame

_EXPECTED = (
    "expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with uint8, uint16, bool or floats in "
    "[0, 1], channels in the order RGB(A)"
)


MOST_PIXELS = 178_956_970
"""Of one picture: as many as Pillow takes; beyond it a file means harm, or is damaged."""


def check_size(name: str, width: int, height: int) -> None:
    """Refuse pictures that would take all memory, before they are decoded.

    Raises:
        SourceError: one line.
    """
    if width * height > MOST_PIXELS:
        raise SourceError(
            f"{name} says it holds pictures of {width}x{height} pixels; expected at most "
            f"{MOST_PIXELS // 10**6} million: make them smaller"
        )


def to_rgb(array: Any) -> NDArray[np.uint8]:
    """Convert one image to RGB uint8.

    Arrays from OpenCV are BGR: pass ``array[..., ::-1]``. Alpha is dropped, not blended.

    Args:
        array: ``(H, W)`` or ``(H, W, C)`` with C of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4
            (RGB, alpha); uint8 in [0, 255], uint16 in [0, 65535], bool, or floats in [0, 1].

    Returns:
        ``(H, W, 3)`` uint8, contiguous; the input itself when it already is that.

    Raises:
        InputError: for any other shape, type or range.
    """
    pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4):
        raise InputError(f"an image array has shape {np.shape(array)}; {_EXPECTED}")
    if 0 in pixels.shape:
        raise InputError(f"an image array has no pixels: shape {np.shape(array)}; {_EXPECTED}")
    colours = 1 if pixels.shape[2] <= 2 else 3
    bytes_ = _to_uint8(pixels if pixels.shape[2] == colours else pixels[..., :colours])
    if colours == 1:
        bytes_ = np.repeat(bytes_, 3, axis=2)
    return np.ascontiguousarray(bytes_)


def _to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        # 65535 / 255 = 257: white stays white; 32-bit so that the rounding does not overflow
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if np.issubdtype(pixels.dtype, np.floating):
        low, high = float(pixels.min()), float(pixels.max())
        if low >= 0.0 and high <= 1.0:  # false for NaN, as wanted
            return (pixels.astype(np.float32) * 255.0 + 0.5).astype(np.uint8)
        raise InputError(
            f"a float image holds values from {low:g} to {high:g}; expected [0, 1]; "
            "divide by its maximum (255?) first"
        )
    raise InputError(f"an image array has type {pixels.dtype}; {_EXPECTED}")


ARRAY_FPS = 30.0
"""Frames a second that arrays are taken to come at, where nothing says more."""


def as_frame(image: Any, previous: int | None, time_s: float | None) -> Frame:
    """A frame as it stands, or an image as the next frame after another one.

    Args:
        image: a ``Frame``; or ``(H, W, 3)`` uint8 RGB, and what else ``to_rgb`` takes; or a picture
            of Pillow's. Arrays from OpenCV are BGR: pass ``array[..., ::-1]``.
        previous: number of the frame before it; None for the first.
        time_s: its time, seconds; an image comes 1/30 s later.

    Raises:
        InputError: for anything else.
    """
    if isinstance(image, Frame):
        return image
    if hasattr(image, "convert") and hasattr(image, "getbands"):  # Pillow's, maybe with a palette
        image = np.asarray(image.convert("RGB"))
    if hasattr(image, "detach"):
        image = image.detach().cpu()
    if hasattr(image, "index") and hasattr(image, "image"):
        raise InputError(
            f"a frame is a {type(image).__name__}; expected a Frame, or an image {_PLAIN}"
        )
    if not hasattr(image, "__array__"):
        said = repr(image)[:60] if isinstance(image, (str, int, float)) else ""
        said = said or ("missing" if image is None else f"a {type(image).__name__}")
        raise InputError(
            f"a frame is {said}; expected a Frame, or an image "
            f"{_PLAIN}; vision_mem.open_source reads frames from files"
        )
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4) and pixels.shape[0] in (1, 3, 4):
        raise InputError(
            f"an image array has shape {pixels.shape}, channels first; expected {_PLAIN}: "
            "transpose it with array.transpose(1, 2, 0)"
        )
    index = 0 if previous is None else previous + 1
    return Frame(index, 0.0 if time_s is None else time_s + 1.0 / ARRAY_FPS, to_rgb(pixels))


_PLAIN = "array (H, W, 3) of uint8, RGB (OpenCV's BGR as array[..., ::-1])"


def fit_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bring an image to a size without changing its proportions.

    Args:
        image: ``(H, W, 3)`` uint8.
        height: pixels wanted.
        width: pixels wanted.

    Returns:
        ``(height, width, 3)`` uint8: the image itself, with its last row or column repeated where
        just one is missing, or scaled between black bars.
    """
    import cv2

    have_h, have_w = image.shape[:2]
    if (have_h, have_w) == (height, width):
        return image
    if height - have_h in (0, 1) and width - have_w in (0, 1):
        return np.pad(image, ((0, height - have_h), (0, width - have_w), (0, 0)), mode="edge")
    scale = min(height / have_h, width / have_w)
    new_h, new_w = max(1, round(have_h * scale)), max(1, round(have_w * scale))
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - new_h) // 2, (width - new_w) // 2
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[top : top + new_h, left : left + new_w] = cv2.resize(
        image, (new_w, new_h), interpolation=how
    )
    return canvas
