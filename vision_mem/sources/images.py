"""A folder of images, in natural order, as a stream."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, NotThere, SourceError
from vision_mem.sources.pixels import check_size, to_rgb
from vision_mem.sources.selection import Selection, sequence_name
from vision_mem.types import Frame, SourceInfo

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm"}
)
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".ts", ".mpg", ".wmv"})
_MASK_MARKS = ("_mask", "-mask", ".mask", "_gt", "_label", "_seg")
_MAY_HOLD_MANY = frozenset({".tif", ".tiff", ".gif", ".webp", ".png"})


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read one image file, upright (EXIF orientation applied).

    Args:
        path: a JPEG, PNG, BMP, WebP or TIFF file; grey, palette, alpha and 16-bit ones too.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        SourceError: when the file is missing, damaged or no image.
    """
    return next(read_pictures(path))[1]


def read_pictures(path: str | Path) -> Iterator[tuple[float | None, NDArray[np.uint8]]]:
    """Read all pictures of one image file: animated ones, stacks of pages; most hold just one.

    Args:
        path: as for ``read_image``, or a GIF, PPM or PGM.

    Yields:
        Seconds for which a picture is shown, None where the file does not say it; and the picture,
        ``(H, W, 3)`` uint8 RGB, upright.

    Raises:
        SourceError: when the file is missing, damaged or no image.
    """
    from PIL import Image, ImageSequence

    try:
        with Image.open(path) as opened:
            for page in ImageSequence.Iterator(opened):
                check_size(str(path), *page.size)  # pages may differ
                page.load()
                shown_ms = float(page.info.get("duration") or 0.0)
                yield (shown_ms / 1000.0 if shown_ms > 0 else None), _picture(page)
    except InputError as error:
        raise SourceError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise NotThere(f"{path}: no such image; check the path") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            reason = "it says it has more pixels than fit into memory"
        else:
            said = getattr(error, "strerror", None) or str(error)
            reason = " ".join(said.split()) or "it is damaged"
        raise SourceError(
            f"{path} cannot be read as an image ({reason}); replace or remove it"
        ) from None


def picture_count(path: Path) -> int:
    """How many pictures an image file holds; 1 where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return int(getattr(opened, "n_frames", 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1


def _picture(page: Any) -> NDArray[np.uint8]:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(page)
    if image.mode.startswith("I"):  # 16-bit grey; "I" is what older Pillow makes of it
        wide = np.asarray(image).astype(np.int64)
        return to_rgb(np.clip(wide, 0, 65535).astype(np.uint16))
    if image.mode == "F":
        return to_rgb(np.asarray(image))
    # Bits, grey and palettes (transparent ones too) lose nothing through Pillow's RGB.
    return to_rgb(np.asarray(image.convert("RGB")))


class ImageStack:
    """Reader for one image file with many pictures: TIFF pages, animated GIF, WebP and PNG.

    Times are those of the animation; stacks without times get ``fps``.

    Args:
        path: the file.
        selection: which pictures.
        fps: pictures a second where the file does not say it.
        strict: stop at a damaged picture instead of ending there with a warning.

    Raises:
        SourceError: when there is no readable picture.
        InputError: when the selection starts behind the last picture.
    """

    def __init__(self, path: Path, selection: Selection, *, fps: float, strict: bool) -> None:
        self._path, self._selection, self._strict, self._fps = path, selection, strict, fps
        count = picture_count(path)
        selection.check(str(path), count)
        shown_s, image = next(read_pictures(path))
        height, width = image.shape[:2]
        rate = 1.0 / shown_s if shown_s else fps
        self.info = SourceInfo(sequence_name(path), width, height, rate, selection.count(count))

    def frames(self) -> Iterator[Frame]:
        """The wanted pictures as frames."""
        time_s, pictures = 0.0, enumerate(read_pictures(self._path))
        while True:
            try:
                index, (shown_s, image) = next(pictures)
            except StopIteration:
                return
            except SourceError as error:
                if self._strict:
                    raise
                log.warning("%s", error)
                return
            if self._selection.past(index):
                return
            if self._selection.wants(index):
                yield Frame(index, time_s, image)
            time_s += shown_s or 1.0 / self._fps

    def close(self) -> None:
        """Nothing stays open between pictures."""


def _wanted_files(folder: Path) -> list[Path]:
    """Images of a folder in natural order, or one line that says what else to give."""
    from natsort import natsorted, ns

    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    images = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES]
    videos = sorted(entry.name for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES)
    if len(images) > len(videos):
        return list(natsorted(images, key=lambda path: path.name, alg=ns.FLOAT | ns.UNSIGNED))
    kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
    below = sorted(
        entry.name
        for entry in entries
        if entry.is_dir() and any(p.suffix.lower() in IMAGE_SUFFIXES for p in entry.iterdir())
    )
    for names, what in ((below, "folders of images"), (videos, "videos")):
        if names:
            raise SourceError(
                f"{folder} holds {'' if images else 'no images but '}{what} ({', '.join(names[:4])}"
                f"{', ...' if len(names) > 4 else ''}); give one of them, as {folder / names[0]}"
            )
    raise SourceError(f"{folder} holds no images; expected files of type {kinds}")


def _tell_masks(folder: Path, paths: Sequence[Path]) -> None:
    """Say that a folder seems to mix pictures with masks: all would be frames alike."""
    stems = {path.stem for path in paths}
    photos = {path.stem for path in paths if path.suffix.lower() in (".jpg", ".jpeg")}
    for path in paths:
        marked = any(path.stem.endswith(m) and path.stem[: -len(m)] in stems for m in _MASK_MARKS)
        if marked or (path.suffix.lower() == ".png" and path.stem in photos):
            log.warning(
                "%s seems to hold masks beside pictures (%s), and all are taken as frames; move "
                "the masks into a folder of their own",
                *(folder, path.name),
            )
            return


class ImageFolder:
    """Reader for a folder of images, or for one image file.

    The index of a frame is the image's place in natural order (``img2`` before ``img10``, ``0.5``
    before ``1.25``), so a damaged image leaves a gap. Hidden files are left out; of a file with
    several pictures in a folder the first is taken, and it is said.

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
        self._paths = [path]
        self._stacks = 0
        if path.is_dir():
            self._paths = _wanted_files(path)
            _tell_masks(path, self._paths)
        selection.check(str(path), len(self._paths))
        self._selection = selection
        self._strict = strict or not path.is_dir()  # nothing is left where the only one is bad
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
            self._tell_stack(self._paths[index])
            try:
                yield index, read_image(self._paths[index])
            except SourceError as error:
                if self._strict:
                    raise
                log.warning("image skipped: %s", error)

    def _tell_stack(self, path: Path) -> None:
        if path.suffix.lower() not in _MAY_HOLD_MANY or self._stacks:
            return
        if (held := picture_count(path)) > 1:
            self._stacks += 1
            log.warning(
                "%s holds %d pictures and only the first is taken of such files in a folder; give "
                "the file alone for all of them",
                *(path, held),
            )

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
