"""Labels of YOLO: a text file a picture, ``class x y width height`` or outlines, in parts of it.

Source: Ultralytics' docs, "detect" and "segment" data set formats. A number of an outline names the
middle of a pixel, so that ``floor(x * width)`` is that pixel again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError
from vision_mem.formats.annotation_rows import AnnotationRow
from vision_mem.formats.rle import read_mask
from vision_mem.geometry.masks import joined_contour
from vision_mem.text import parse_yaml, read_text


def label_lines(
    rows: Iterable[AnnotationRow], numbers: Mapping[str, int], *, segments: bool = False
) -> list[str]:
    """The lines of one picture.

    Args:
        rows: what is to be seen there.
        numbers: of the classes.
        segments: outlines instead of boxes; parts of a mask are joined into one, holes are filled.
    """
    lines = []
    for row in rows:
        height, width = row.size
        if segments and row.counts is not None:
            corners = (joined_contour(read_mask(row.counts, row.size).mask(0)) + 0.5).tolist()
            values = [value for x, y in corners for value in (x / width, y / height)]
        else:
            x1, y1, x2, y2 = row.box
            values = [
                (x1 + x2) / 2 / width, (y1 + y2) / 2 / height,
                (x2 - x1) / width, (y2 - y1) / height,
            ]  # fmt: skip
        lines.append(" ".join([str(numbers[row.word]), *(f"{value:.6f}" for value in values)]))
    return lines


def class_names(folder: Path) -> dict[int, str]:
    """Words for classes, of the ``data.yaml`` or ``classes.txt`` near a folder of labels."""
    for place in (folder, folder.parent, folder.parent.parent):
        if (about := place / "data.yaml").is_file():
            content: Any = parse_yaml(read_text(about), str(about))
            names = (content or {}).get("names", {})
            pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
            return {int(number): str(word) for number, word in pairs}
        if (about := place / "classes.txt").is_file():
            return dict(enumerate(read_text(about).split("\n")))
    return {}


def frame_number(path: Path) -> int:
    """The frame that a file of labels is of: the last number in its name.

    Raises:
        InputError: when there is none.
    """
    found = re.findall(r"\d+", path.stem)
    if not found:
        raise InputError(f"{path} has no frame number in its name; expected NAME_000012.txt")
    return int(found[-1])
