"""Pictures in messages of robots: raw, JPEG and PNG, and depth packed by ``compressedDepth``."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import SourceError

_CHANNELS: dict[str, tuple[int, str]] = {
    "rgb8": (3, ""), "bgr8": (3, "bgr"), "rgba8": (4, ""), "bgra8": (4, "bgr"),
    "8uc3": (3, "bgr"), "8uc4": (4, "bgr"), "mono8": (1, ""), "8uc1": (1, ""),
}  # fmt: skip
_WIDE = {"16uc1": "u2", "mono16": "u2", "16sc1": "i2", "z16": "u2", "32fc1": "f4"}
_CODES = {
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB, "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB, "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY, "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2, "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}  # fmt: skip
_HEAD = 12
_MOST_PIXELS = 1 << 27


def holds_depth(encoding: str) -> bool:
    """Whether an encoding, or the format of a packed picture, is that of depth.

    ``mono16`` may be infrared as well; the topic's name has to tell.
    """
    word = encoding.lower()
    return "compresseddepth" in word or word.split(";")[0].strip() in _WIDE


def raw_picture(message: Any) -> NDArray[np.generic]:
    """The picture of a ``sensor_msgs/Image``.

    Returns:
        ``(H, W)`` uint16, int16 or float32 for depth, ``(H, W, 3)`` uint8 RGB for colour.

    Raises:
        SourceError: for an encoding that is not known, or too few bytes.
    """
    word, height, width = str(message.encoding).lower(), int(message.height), int(message.width)
    content = np.asarray(message.data, np.uint8)
    two = word in _CODES and not word.startswith("bayer")
    of_one = 2 if two else int(_WIDE[word][1]) if word in _WIDE else _CHANNELS.get(word, (1,))[0]
    step = int(message.step) or width * of_one
    if not (0 < height * width <= _MOST_PIXELS) or step < width * of_one:
        raise SourceError(f"a picture of {width} x {height} pixels in rows of {step} bytes")
    if len(content) < step * (height - 1) + width * of_one:
        raise SourceError(f"a picture of {width} x {height} {word} has only {len(content)} bytes")
    padded = np.zeros(step * height, np.uint8)
    padded[: min(len(content), len(padded))] = content[: len(padded)]
    rows = padded.reshape(height, step)[:, : width * of_one]
    if word in _WIDE:
        order = ">" if message.is_bigendian else "<"
        found = np.ascontiguousarray(rows).view(f"{order}{_WIDE[word]}")
        return found.astype(found.dtype.newbyteorder("="))
    if word in _CODES:
        shape = (height, width, 2) if two else (height, width)
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows).reshape(shape), _CODES[word]))
    if word not in _CHANNELS:
        known = ", ".join([*_CHANNELS, *_WIDE, *_CODES])
        raise SourceError(f"pictures are encoded as {word[:40]!r}; expected one of {known}")
    count, order = _CHANNELS[word]
    image = rows.reshape(height, width, count)[..., :3]
    image = image[..., ::-1] if order else np.repeat(image, 3, axis=2) if count == 1 else image
    return np.ascontiguousarray(image)


def packed_picture(message: Any) -> NDArray[np.generic]:
    """The picture of a ``sensor_msgs/CompressedImage``; as ``raw_picture``.

    Depth by ``compressedDepth``: PNG or RVL behind a head of twelve bytes; where the format names
    32FC1, it holds inverse depth of which the head has the two numbers.
    """
    content, word = np.asarray(message.data, np.uint8).tobytes(), str(message.format).lower()
    if "compresseddepth" not in word:
        found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None:
            raise SourceError(f"a picture packed as {word[:40]!r} cannot be unpacked")
        if found.ndim == 2:
            return np.asarray(found if found.dtype != np.uint8 else np.stack([found] * 3, axis=-1))
        return np.ascontiguousarray(found[..., 2::-1])
    if len(content) <= _HEAD:
        raise SourceError("a packed depth map is empty")
    _, scale, shift = struct.unpack("<iff", content[:_HEAD])
    body = content[_HEAD:]
    stored = _from_rvl(body) if "rvl" in word else cv2.imdecode(
        np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED
    )  # fmt: skip
    if stored is None or stored.ndim != 2:
        raise SourceError("a packed depth map cannot be unpacked as PNG of one channel")
    if not word.startswith("32fc1"):
        return np.asarray(stored)
    metres = np.zeros(stored.shape, np.float32)
    known = stored > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        metres[known] = scale / (stored[known].astype(np.float32) - shift)
    return metres


def _from_rvl(content: bytes) -> NDArray[np.uint16]:
    """Depth packed by RVL: runs of zeros and of differences, as nibbles of variable length."""
    if len(content) < 8:
        raise SourceError("a depth map packed by RVL is empty")
    width, height = struct.unpack("<ii", content[:8])
    if not 0 < width * height <= _MOST_PIXELS:
        raise SourceError(f"a depth map packed by RVL says it has {width} x {height} pixels")
    words = np.frombuffer(content[8 : 8 + (len(content) - 8) // 4 * 4], "<u4")
    nibbles = ((words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15).ravel()
    last = nibbles < 8  # the last nibble of a number
    if not last.any():
        raise SourceError("a depth map packed by RVL is cut off")
    begins = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1]).astype(np.int64)
    place = np.arange(len(nibbles)) - np.repeat(begins, np.diff([*begins, len(nibbles)]))
    part = (nibbles & 7).astype(np.int64) << (3 * np.minimum(place, 12))
    numbers = np.add.reduceat(part, begins)
    out, at, here, before = np.zeros(width * height, np.int64), 0, 0, 0
    while here < len(out) and at + 1 < len(numbers):
        here, count = here + int(numbers[at]), int(numbers[at + 1])
        coded = numbers[at + 2 : at + 2 + count]
        if here + count > len(out) or len(coded) < count:
            raise SourceError("a depth map packed by RVL is cut off")
        if count:
            steps = (coded >> 1) ^ -(coded & 1)
            out[here : here + count] = before + np.cumsum(steps)
            before = int(out[here + count - 1])
        here, at = here + count, at + 2 + count
    return out.reshape(height, width).astype(np.uint16)
