"""A folder of images, in natural order, as a stream."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.sources.pixels import to_rgb
from vision_mem.sources.selection import Selection, sequence_name
from vision_mem.types import Frame, SourceInfo

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read one image file, upright (EXIF orientation applied).

    Args:
        path: a JPEG, PNG, BMP, WebP or TIFF file; grey, palette, alpha and 16-bit ones too.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        SourceError: when the file is missing, damaged or no image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16-bit grey; "I" is what older Pillow makes of it
                wide = np.asarray(image).astype(np.int64)
                return to_rgb(np.clip(wide, 0, 65535).astype(np.uint16))
            if image.mode == "F":
                return to_rgb(np.asarray(image))
            # Bits, grey and palettes (transparent ones too) lose nothing through Pillow's RGB.
            return to_rgb(np.asarray(image.convert("RGB")))
    except InputError as error:
        raise SourceError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise SourceError(f"{path}: no such image; check the path") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(
            f"{path} cannot be read as an image ({reason}); replace or remove it"
        ) from None


class ImageFolder:
    """Reader for a folder of images, or for one image file.

    The index of a frame is the image's place in natural order (``img2`` before ``img10``), so a
    damaged image leaves a gap. Images may differ in size. Hidden files are left out.

    Args:
        path: the folder or image.
        selection: which images.
        fps: images a second, for time stamps.
        strict: stop at a damaged image instead of skipping it with a warning.

    Raises:
        SourceError: when there is no readable image.
        InputError: when the selection starts behind the last image.
    """

    def __init__(self, path: Path, selection: Selection, *, fps: float, strict: bool) -> None:
        from natsort import natsorted

        if path.is_dir():
            names = [
                entry.name
                for entry in path.iterdir()
                if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
            ]
            if not names:
                kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
                raise SourceError(f"{path} holds no images; expected files of type {kinds}")
            self._paths = [path / name for name in natsorted(names)]
        else:
            self._paths = [path]
        selection.check(str(path), len(self._paths))
        self._selection = selection
        self._strict = strict
        self._fps = fps
        self._first: tuple[int, NDArray[np.uint8]] | None = None
        for index, image in self._images():
            self._first = index, image
            break
        if self._first is None:
            raise SourceError(f"{path}: none of the wanted images can be read; see the warnings")
        height, width = self._first[1].shape[:2]
        count = selection.count(len(self._paths))
        self.info = SourceInfo(sequence_name(path), width, height, fps, count)

    def _images(self, from_index: int = 0) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for index in range(from_index, len(self._paths)):
            if self._selection.past(index):
                return
            if not self._selection.wants(index):
                continue
            try:
                yield index, read_image(self._paths[index])
            except SourceError as error:
                if self._strict:
                    raise
                log.warning("image skipped: %s", error)

    def frames(self) -> Iterator[Frame]:
        """The wanted images as frames."""
        assert self._first is not None
        index, image = self._first
        self._first = None
        yield Frame(index, index / self._fps, image)
        for later, image in self._images(index + 1):
            yield Frame(later, later / self._fps, image)

    def close(self) -> None:
        """Nothing stays open between images."""
