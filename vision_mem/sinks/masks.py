"""Masks and the diary of decisions: JSON lines and indexed PNG images."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import LineFile, make_folder, sink_error, write_file
from vision_mem.results import Seen, Shown, ShownObject
from vision_mem.types import Frame, SourceInfo, TrackingResult, ZoneEvent
from vision_mem.visualization.draw import davis_palette

_LINE_ENDS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""What JSON leaves as it is and some readers take for the end of a line."""

SomeResult = TypeVar("SomeResult", bound=Shown)


def strict_json(value: Any) -> Any:
    """The value with numpy taken out, and None for numbers JSON does not have (NaN, infinity).

    Args:
        value: nested dicts, lists, tuples, numbers, strings, arrays.
    """
    if isinstance(value, Mapping):
        return {str(key): strict_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [strict_json(each) for each in value]
    if isinstance(value, np.ndarray):
        return strict_json(value.tolist())
    if isinstance(value, np.generic):
        return strict_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


class FrameLines(ABC):
    """A text file that grows by the lines of one frame after the other.

    Args:
        path: the file.
        append: go on after an interrupted run: lines of frames that come again are dropped.
    """

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        self._path, self._append = Path(path), append
        self._file: LineFile | None = None

    def open(self, info: SourceInfo) -> None:
        """Make the file."""
        self._file = LineFile(self._path, append=self._append)

    @abstractmethod
    def _frame_of(self, line: str) -> int:
        """The frame that a line is of, as the file counts."""

    def _resume(self, frame: int) -> LineFile:
        """The file; before the first lines, without those of ``frame`` and later ones."""
        assert self._file is not None, "open() comes first"
        if self._append:
            self._append = False
            self._file.keep(lambda _, line: self._frame_of(line) < frame)
        return self._file

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class JsonLines(FrameLines, Generic[SomeResult]):
    """JSON objects, each with its frame index under ``"frame"``; one a frame unless said otherwise.

    Args:
        path: the file.
        append: go on after an interrupted run: lines of frames that come again are dropped.
    """

    def _frame_of(self, line: str) -> int:
        return int(json.loads(line)["frame"])

    def write(self, frame: Frame, result: SomeResult) -> None:
        """Add the lines of one frame."""
        file = self._resume(result.frame_index)
        place = {"frame": result.frame_index, "time_s": result.time_s}
        lines = [
            _LINE_ENDS.sub(
                lambda end: f"\\u{ord(end[0]):04x}",
                json.dumps(strict_json(place | entry), allow_nan=False, ensure_ascii=False),
            )
            for entry in self._entries(result)
        ]
        if lines:
            file.write(*lines)

    @abstractmethod
    def _entries(self, result: SomeResult) -> list[dict[str, Any]]:
        """What each line says besides frame and time."""


class MaskRle(JsonLines[Shown]):
    """Masks as COCO run lengths, one JSON line a frame.

    ``{"frame", "time_s", "size": [h, w], "objects": [{"id", "name", "score",
    "segmentation": {"size": [h, w], "counts": "..."}}]}``; objects that are present only.
    ``pycocotools.mask.decode`` takes ``segmentation`` as it stands.

    Args:
        path: the file.
        append: go on after an interrupted run: lines of frames that come again are dropped.
    """

    def _entries(self, result: Shown) -> list[dict[str, Any]]:
        from pycocotools import mask as coco

        objects = []
        for each in result.objects:
            if not each.present:
                continue
            runs = coco.encode(np.asfortranarray(each.mask, dtype=np.uint8))
            segmentation = {"size": list(each.mask.shape), "counts": runs["counts"].decode()}
            objects.append({**self._words(each), "segmentation": segmentation})
        return [{"size": list(result.size), "objects": objects}]

    def _words(self, each: ShownObject) -> dict[str, Any]:
        """What is said of an object besides its mask."""
        return {"id": each.object_id, "name": each.name, "score": round(float(each.score), 5)}


class Diary(JsonLines[TrackingResult]):
    """What happened and why, one JSON line a frame.

    ``{"frame", "time_s", "objects": [{"id", "name", "present", "state", "score", "object_logit",
    "box": [x1, y1, x2, y2], "diary": {...}}], "events": [{"kind", "id", "name"}]}``. The state is
    ``sure``, ``unsure`` or ``lost``. Numbers that JSON does not have (NaN, infinity) become null.

    Args:
        path: the file.
        append: go on after an interrupted run: lines of frames that come again are dropped.
    """

    def _entries(self, result: TrackingResult) -> list[dict[str, Any]]:
        objects = [
            {
                "id": each.object_id,
                "name": each.name,
                "present": bool(each.present),
                "state": each.state,
                "score": each.score,
                "object_logit": each.object_logit,
                "box": each.box,
                "diary": each.diary,
            }
            for each in result.objects
        ]
        return [{"objects": objects, "events": event_rows(result)}]


def event_rows(result: Seen) -> list[dict[str, Any]]:
    """What happened on a frame, JSON-ready: ``{"kind", "id", "name"}``; at zones more."""
    rows = []
    for each in result.events:
        row: dict[str, Any] = {"kind": each.kind, "id": each.object_id, "name": each.name}
        if isinstance(each, ZoneEvent):
            row |= {"zone": each.zone, "class": each.class_name}
            if each.kind == "crossed":
                row["direction"] = each.direction
            else:
                row["seen"] = each.seen
            if each.dwell_s is not None:
                row["dwell_s"] = round(each.dwell_s, 3)
        rows.append(row)
    return rows


class NumberedFiles:
    """One file a frame, called by its number; those of an earlier run are removed.

    Args:
        folder: where.
        suffix: of the files.
        append: keep the files of frames before the first one written now.
        digits: of the number, at least.
        stem: what stands before the number.
    """

    def __init__(
        self,
        folder: str | Path,
        suffix: str,
        append: bool = False,
        digits: int = 6,
        stem: str = "",
    ) -> None:
        self._folder, self._suffix, self._append = Path(folder), suffix, append
        self._digits, self._stem = digits, stem

    def open(self, info: SourceInfo) -> None:
        """Make the folder."""
        make_folder(self._folder)
        try:
            probe = self._folder / f".partial{self._suffix}"
            probe.touch()
            probe.unlink()
            if not self._append:
                self._drop_from(0)
        except OSError as error:
            raise sink_error(self._folder, error) from None

    def _drop_from(self, number: int) -> None:
        stem, suffix = re.escape(self._stem), re.escape(self._suffix)
        pattern = re.compile(rf"{stem}(\d{{{self._digits},}}){suffix}")
        for path in self._folder.iterdir():
            if (name := pattern.fullmatch(path.name)) and int(name[1]) >= number:
                path.unlink()

    def go_back(self, number: int) -> None:
        """Before the first frame that comes now: remove what an interrupted run had of it on."""
        if self._append:
            self._append = False
            self._drop_from(number)

    def _place(self, number: int) -> Path:
        """The file of a frame."""
        self.go_back(number)
        return self._folder / f"{self._stem}{number:0{self._digits}d}{self._suffix}"

    def _write_png(self, number: int, image: Any) -> None:
        """Write a picture of Pillow's, whole or not at all."""
        content = BytesIO()
        image.save(content, format="PNG", compress_level=3)
        write_file(self._place(number), content.getvalue(), durable=False)

    def close(self) -> None:
        """Nothing stays open between frames."""


class MaskPng(NumberedFiles):
    """One indexed PNG a frame, in DAVIS colours: ``<frame index, five digits>.png``.

    A pixel's value is the id of the object there, 0 for none; of objects that overlap the one added
    last wins. Each file appears whole or not at all.

    Args:
        folder: where to write; numbered PNG files of an earlier run in it are removed.
        append: keep those of frames before the first one written now.
    """

    def __init__(self, folder: str | Path, *, append: bool = False) -> None:
        super().__init__(folder, ".png", append, digits=5)

    def write(self, frame: Frame, result: TrackingResult) -> None:
        """Write one image.

        Raises:
            InputError: for object ids outside 1 to 255, which such a PNG cannot hold.
            SinkError: when it cannot be written.
        """
        from PIL import Image

        image = Image.fromarray(label_image(result), mode=None)
        image.putpalette(davis_palette().reshape(-1).tolist())
        self._write_png(result.frame_index, image)


def label_image(result: TrackingResult) -> NDArray[np.uint8]:
    """``(H, W)`` uint8 of object ids, 0 for none.

    Raises:
        InputError: for ids outside 1 to 255.
    """
    labels = np.zeros(result.size, dtype=np.uint8)
    for each in result.objects:
        if not 1 <= each.object_id <= 255:
            raise InputError(
                f"object id {each.object_id} does not fit into an indexed PNG (1 to 255, 0 is the "
                'background); number objects from 1 or write masks as "rle"'
            )
        if each.present:
            labels[each.mask] = each.object_id
    return labels
