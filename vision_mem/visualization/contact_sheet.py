"""Plain videos, small pictures of moments, and sheets of them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import ModelError
from vision_mem.formats.text import make_folder, sink_error
from vision_mem.visualization.draw import colour_of, draw_tag


def write_video(
    path: str | Path, images: Iterable[NDArray[np.uint8]], fps: float, *, quality: int = 18
) -> int:
    """Write images as an H.264 MP4.

    Args:
        path: the ``.mp4``; its folder is made.
        images: ``(H, W, 3)`` uint8 RGB of one size, even in both directions.
        fps: images a second.
        quality: x264's constant rate factor, 0 (lossless) to 51.

    Returns:
        The number of images.

    Raises:
        SinkError: when it cannot be written.
    """
    import av

    path = Path(path)
    make_folder(path.parent)
    number = 0
    try:
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.pix_fmt, stream.options = "yuv420p", {"crf": str(quality)}
            for image in images:
                if number == 0:
                    stream.height, stream.width = image.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                number += 1
            container.mux(stream.encode(None))
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise sink_error(path, error) from error
    return number


def contact_sheet(
    path: str | Path, images: Sequence[NDArray[np.uint8]], *, columns: int = 4, width: int = 320
) -> None:
    """Write images side by side as one picture, left to right and top to bottom.

    Args:
        path: the picture, ``.png`` or ``.jpg``; its folder is made.
        images: ``(H, W, 3)`` uint8 RGB, at least one.
        columns: images in a row.
        width: pixels of each.

    Raises:
        SinkError: when it cannot be written.
    """
    from PIL import Image

    path = Path(path)
    make_folder(path.parent)
    height = round(width * images[0].shape[0] / images[0].shape[1])
    rows = -(-len(images) // columns)
    gap = 4
    sheet = Image.new(
        "RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), (255, 255, 255)
    )
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (column * (width + gap), row * (height + gap)))
    try:
        sheet.save(path)
    except OSError as error:
        raise sink_error(path, error) from error


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
    from PIL import Image

    try:  # a few bytes may speak of thousands of millions of pixels
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as head:
            good = head.width <= _WIDEST and head.height <= _WIDEST
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if good else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, cv2.error):
        image = None
    if image is None:
        raise ModelError("a picture in the memory file is damaged")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def framed(image: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """A copy of a picture ``(H, W, 3)`` with a frame around a part of it.

    Args:
        image: uint8 RGB.
        box: left, top, right, bottom as shares of its sides.
    """
    height, width = image.shape[:2]
    left, right = (round(x * (width - 1)) for x in (box[0], box[2]))
    top, bottom = (round(y * (height - 1)) for y in (box[1], box[3]))
    drawn = np.ascontiguousarray(image).copy()
    for colour, wide in (((0, 0, 0), 4), ((255, 220, 0), 2)):
        cv2.rectangle(drawn, (left, top), (right, bottom), colour, wide)
    return drawn


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


_CELL, _CELL_WIDTH, _STRIP, _SHEET_COLUMNS = 96, 292, 20, 4


def track_sheet(
    tracks: Sequence[tuple[int, str, Sequence[NDArray[np.uint8]]]],
) -> NDArray[np.uint8]:
    """Crops of tracks as one picture: a cell a track, in the colour of its identity.

    Args:
        tracks: id, name, and ``(H, W, 3)`` uint8 RGB crops of each; as many as fit are shown, the
            first at least.

    Returns:
        ``(H, W, 3)`` uint8 RGB; cells from left to right and top to bottom.
    """
    columns = min(_SHEET_COLUMNS, max(len(tracks), 1))
    rows = max(-(-len(tracks) // columns), 1)
    gap, tall = 6, _CELL + _STRIP
    sheet = np.full(
        (rows * (tall + gap) + gap, columns * (_CELL_WIDTH + gap) + gap, 3), 255, np.uint8
    )
    for number, (object_id, name, crops) in enumerate(tracks):
        row, column = divmod(number, columns)
        y, x = gap + row * (tall + gap), gap + column * (_CELL_WIDTH + gap)
        cell = sheet[y : y + tall, x : x + _CELL_WIDTH]
        cell[_STRIP:] = 238
        cell[:_STRIP] = colour_of(object_id)
        label = np.ascontiguousarray(cell[:_STRIP])
        draw_tag(label, name, (0, 0), above=False)
        cell[:_STRIP] = label
        left = 0
        for crop in crops:
            scale = min(_CELL / crop.shape[0], _CELL_WIDTH / crop.shape[1])
            wide, high = (max(1, round(side * scale)) for side in (crop.shape[1], crop.shape[0]))
            if left and left + wide > _CELL_WIDTH:
                break
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            small = cv2.resize(crop, (wide, high), interpolation=how)
            cell[_STRIP : _STRIP + high, left : left + wide] = small[:, : _CELL_WIDTH - left]
            left += wide + 3
    return sheet
