"""Plain videos and contact sheets, for demos and reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.formats.text import make_folder, sink_error


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
