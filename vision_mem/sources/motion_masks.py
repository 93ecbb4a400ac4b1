"""Masks of what moves: a folder of PNG images, or the masks that ``track`` and ``mots`` write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.text import parse_json

_LONGEST = 64 << 20
_TOLERANCE = 0.02
"""By which the proportions of a mask and its frame may differ."""


class MovingMasks:
    """Masks by the number of their frame, gone through once from the first frame to the last.

    Args:
        path: a folder of single-channel or indexed PNG images whose names hold the number of the
            frame (``000012.png``; what is not 0 moves), or a file of JSON lines as ``track`` and
            ``mots`` write with ``--save rle`` (all objects in it move).

    Raises:
        InputError: one line for a path that is neither.

    Attributes:
        used: frames for which there was a mask.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.used = 0
        self._images: dict[int, Path] = {}
        self._file: BinaryIO | None = None
        self._next: tuple[int, dict[str, Any]] | None = None
        self._line = 0
        if self.path.is_dir():
            self._images = _numbered(self.path)
        elif self.path.is_file():
            try:
                self._file = self.path.open("rb")
            except OSError as error:
                raise InputError(f"masks {path} cannot be read: {error.strerror}") from None
            self._next = self._read_line()
            if self._next is None:
                self.close()
                raise InputError(f"masks {path} is empty; expected one JSON line a frame")
        else:
            raise InputError(f"masks {path}: no such file or folder; check the path")

    def at(self, index: int, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """What moves on a frame.

        Args:
            index: of the frame; not below that of the call before.
            size: ``(height, width)`` of the frame; masks of other sizes are scaled to it.

        Returns:
            ``(H, W)``, or None when nothing is said of this frame.

        Raises:
            SourceError: for a damaged mask, or one of other proportions than the frame.
        """
        mask = self._from_image(index) if self._file is None else self._from_lines(index)
        if mask is None:
            return None
        self.used += 1
        if mask.shape == size:
            return mask
        if abs(mask.shape[1] * size[0] / (mask.shape[0] * size[1]) - 1) > _TOLERANCE:
            raise SourceError(
                f"masks {self.path}: that of frame {index} has {mask.shape[1]} x {mask.shape[0]} "
                f"pixels, the frame {size[1]} x {size[0]}; expected the same proportions"
            )
        scaled = cv2.resize(
            mask.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST
        )
        return np.asarray(scaled, bool)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file is not None:
            self._file.close()

    def _from_image(self, index: int) -> NDArray[np.bool_] | None:
        path = self._images.get(index)
        if path is None:
            return None
        from PIL import Image

        try:
            with Image.open(path) as image:
                # The numbers of indexed images, not their colours: 0 is "nothing" in both.
                values = np.asarray(image if image.mode in ("P", "L", "1", "I;16", "I") else
                                    image.convert("L"))  # fmt: skip
        except Exception as error:  # Pillow raises many kinds for damaged files
            raise SourceError(
                f"mask {path} cannot be read ({type(error).__name__}); replace or remove it"
            ) from None
        return np.asarray(values != 0)

    def _from_lines(self, index: int) -> NDArray[np.bool_] | None:
        while self._next is not None and self._next[0] < index:
            self._next = self._read_line()
        if self._next is None or self._next[0] != index:
            return None
        from pycocotools import mask as coco

        found: NDArray[np.bool_] | None = None
        try:
            content = self._next[1]
            if not content["objects"]:
                height, width = (int(v) for v in content["size"])
                return np.zeros((height, width), bool)
            for each in content["objects"]:
                runs = dict(each["segmentation"])
                height, width = (int(v) for v in runs["size"])
                if not 0 < height * width <= 1 << 27:
                    raise ValueError(f"size {height} x {width}")
                runs = {"size": [height, width], "counts": str(runs["counts"]).encode()}
                one = np.asarray(coco.decode(runs), bool)
                found = one if found is None else found | one
        except Exception as error:  # damaged run lengths end in many kinds
            said = " ".join(str(error).split())[:60]
            raise SourceError(
                f"masks {self.path}, frame {index}: no masks as run lengths ({said}); write them "
                "anew with --save rle"
            ) from None
        return found

    def _read_line(self) -> tuple[int, dict[str, Any]] | None:
        assert self._file is not None
        before = -1 if self._next is None else self._next[0]
        line = self._file.readline(_LONGEST)
        while line and not line.strip():
            line = self._file.readline(_LONGEST)
            self._line += 1
        if not line:
            return None
        self._line += 1
        try:
            content = parse_json(line, "", nan=True)
            number = int(content["frame"])
            if number <= before or not isinstance(content["objects"], list):
                raise ValueError
        except (ValueError, KeyError, TypeError, OverflowError):
            raise InputError(
                f"masks {self.path}, line {self._line}: expected a JSON object with frame (rising) "
                "and objects, as track and mots write with --save rle"
            ) from None
        return number, content


def _numbered(folder: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path, number in _numbers(folder):
        if number in found:
            raise InputError(
                f"masks {folder}: {found[number].name} and {path.name} are both of frame {number}; "
                "expected one PNG a frame"
            )
        found[number] = path
    if not found:
        raise InputError(
            f"masks {folder}: no PNG with a number in its name; expected 000000.png, 000001.png ..."
        )
    return found


def _numbers(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted(folder.iterdir()):
        digits = re.findall(r"\d+", path.stem)
        if path.suffix.lower() == ".png" and digits and not path.name.startswith("."):
            yield path, int(digits[-1])
