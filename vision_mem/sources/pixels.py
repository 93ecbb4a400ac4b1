"""Any image array becomes the one kind the package speaks: RGB, uint8, ``(H, W, 3)``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError

_EXPECTED = (
    "expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with uint8, uint16, bool or floats in "
    "[0, 1], channels in the order RGB(A)"
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
