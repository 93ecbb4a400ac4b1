"""Detections from a file, made beforehand by any detector, or recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.errors import InputError
from vision_mem.formats.rle import MaskRuns
from vision_mem.geometry.masks import draw_outlines
from vision_mem.models.detectors.coercion import Vocabulary, told
from vision_mem.models.detectors.file_formats import (
    BOX_FORMATS,
    FORMATS,
    SCORES,
    FileDetection,
    Reading,
    fields_of,
    lines_of,
    read_jsonl,
)
from vision_mem.models.detectors.recording import Recorded, from_line
from vision_mem.text import parse_json, read_text, shown
from vision_mem.types import Detections, Frame

log = logging.getLogger(__name__)


class FileDetector:
    """Answers with what a file says of each frame; nothing where it has no line for it.

    A frame that a recording leaves out has no answer; in the other formats it has no objects.

    Args:
        path: the file; all of it is read now, masks stay packed.
        format: a name in ``FORMATS``, or ``"auto"`` to tell it from the contents.
        box_format: ``"xyxy"`` (corners) or ``"xywh"`` (left, top, width, height), where the file is
            not as its format says: the MOTS "tracking only" detections have TrackR-CNN's columns
            with ``"xywh"``.
        first_frame: number the file gives to the video's first frame, likewise.
        scores: ``"unit"`` (0 to 1), ``"percent"``, or ``"sigmoid"`` for logits.
        frame_count: frames of the whole video; later ones are left out with a warning, or refused
            where there is no other, or just one frame too many.
        size: ``(height, width)`` of the video; masks of another size are refused.
        strict: refuse boxes that are not finite or have no size instead of leaving them out with
            a warning. Corners the wrong way round are refused in any case.

    Raises:
        InputError: one line, with the line number, for a file that is missing, damaged, of another
            format or of another video.
    """

    stateful = False

    def __init__(
        self,
        path: str | Path,
        format: str = "auto",
        *,
        box_format: str | None = None,
        first_frame: int | None = None,
        scores: str = "unit",
        frame_count: int | None = None,
        size: tuple[int, int] | None = None,
        strict: bool = False,
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = self.path.name
        if format == "auto":
            format = guess_format(self.path)
            log.info("%s is read as %s", self.path, format)
        for what, value, known in (
            ("format", format, tuple(FORMATS)),
            ("box_format", box_format or BOX_FORMATS[0], BOX_FORMATS),
            ("scores", scores, tuple(SCORES)),
        ):
            if value not in known:
                raise InputError(f"{what} is {value!r}; expected one of {', '.join(known)}")
        self.format = format
        known_as = FORMATS[format]
        first = known_as.first_frame if first_frame is None else first_frame
        self._reading = Reading(
            self.path, box_format or known_as.box_format, first, scores, strict,
            vocabulary=Vocabulary(known_as.names), size=size,
        )  # fmt: skip
        self._found: dict[int, list[FileDetection]] = {}
        self._recorded: dict[int, Recorded] = {}
        self._read(frame_count, size)
        self._absence = True

    @property
    def reports_absence(self) -> bool:
        return self._absence

    @property
    def classes(self) -> dict[int, str]:
        """Words of the classes of its format or in it, by their numbers; empty for none."""
        recorded = [each.found.names for each in self._recorded.values() if each.found is not None]
        words = {word: None for names in recorded for word in names.values()}
        return dict(enumerate(words)) if words else dict(self._reading.vocabulary.names)

    @property
    def frames(self) -> list[int]:
        """Numbers, from 0, of the frames that the file speaks of, in order."""
        return sorted({*self._found, *self._recorded})

    def _read(self, frame_count: int | None, size: tuple[int, int] | None) -> None:
        reading = self._reading
        last, first_late = -1, (0, 0)
        for frame, line, found in self._items():
            if frame_count is not None and frame >= frame_count:
                first_late = first_late if last >= 0 else (frame, line)
                last = max(last, frame)
                continue
            for each in [found] if isinstance(found, FileDetection) else []:
                self._check_size(each.mask, line, size)
                self._found.setdefault(frame, []).append(each)
            if isinstance(found, Recorded):
                for runs in found.runs or ():
                    self._check_size(runs, line, size)
                self._recorded[frame] = found
        if frame_count is not None and last >= 0:
            self._check_end(frame_count, last, *first_late)
        if reading.dropped:
            log.warning("%s: %s", self.path, told(reading.dropped))
        if not self._found and not self._recorded:
            log.warning("%s holds no detections", self.path)

    def _check_end(self, frame_count: int, last: int, frame: int, line: int) -> None:
        """Refuse files of other videos; of a video that was cut the rest is left out."""
        reading = self._reading
        origin, end = reading.first_frame, frame_count - 1 + reading.first_frame
        # One too many is what counting from the other number makes.
        if last == frame_count or not (self._found or self._recorded):
            raise reading.fail(
                line,
                f"frame {frame + origin}, but the video has {frame_count} frames ({origin} to "
                f"{end}); are these detections of another video, or counted from "
                f"{1 - min(origin, 1)}?",
            )
        log.warning(
            "%s goes on to frame %d, the video ends with %d: later ones are left out",
            self.path, last + origin, end,
        )  # fmt: skip

    def _items(self) -> Iterator[tuple[int, int, FileDetection | Recorded | None]]:
        """Frame, line, and what is there, in the order of the file."""
        reading = self._reading
        if self.format != "jsonl":
            for found in FORMATS[self.format].read(reading):
                yield found.frame, found.line, found
            return
        known: dict[int, str] = {}
        for frame, line, content, objects in read_jsonl(reading):
            if "boxes" in content or "answer" in content:
                recorded = self._from_recording(content, known, line)
                known = known if recorded.found is None else dict(recorded.found.names)
                yield frame, line, recorded
            for found in objects:
                yield frame, line, found

    def _from_recording(self, content: Any, known: dict[int, str], line: int) -> Recorded:
        try:
            with np.errstate(over="ignore"):
                return from_line(content, known)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            reason = " ".join(str(error).split())[:100]
            raise self._reading.fail(line, f"not a line of a recording: {reason}") from None

    def _check_size(self, mask: Any, line: int, size: tuple[int, int] | None) -> None:
        if isinstance(mask, MaskRuns) and size is not None and mask.size != size:
            raise self._reading.fail(
                line,
                f"a mask of {mask.size[1]}x{mask.size[0]} pixels, but the video has "
                f"{size[1]}x{size[0]}; are these detections of another video?",
            )

    def detect(self, frame: Frame) -> Detections | None:
        if frame.index in self._recorded:
            recorded = self._recorded[frame.index]
            self._absence = recorded.reports_absence
            for runs in recorded.runs or ():
                self._check_size(runs, 0, frame.size)
            return recorded.answer()
        if self._recorded:
            return None
        found = self._found.get(frame.index, [])
        n = len(found)
        masks = None
        if any(each.mask is not None for each in found):
            masks = np.zeros((n, *frame.size), bool)
            for mask, each in zip(masks, found, strict=True):
                self._check_size(each.mask, each.line, frame.size)
                if isinstance(each.mask, MaskRuns):
                    mask[:] = each.mask.mask(0)
                elif each.mask is not None:
                    mask[:] = draw_outlines(each.mask, frame.size)
        widths = {0 if each.embedding is None else len(each.embedding) for each in found}
        embeddings = None
        if len(widths) == 1 and widths != {0}:
            embeddings = np.stack([each.embedding for each in found if each.embedding is not None])
        return Detections(
            np.array([each.box for each in found], np.float32).reshape(n, 4),
            np.array([each.score for each in found], np.float32),
            np.array([each.label for each in found], np.int64),
            masks=masks,
            embeddings=embeddings,
            names=dict(self._reading.vocabulary.names),
        )

    def reset(self) -> None:
        self._absence = True

    def close(self) -> None:
        """Nothing stays open."""


def guess_format(path: Path) -> str:
    """Tell a file's format from its name and first line.

    ``kitti`` is taken for all text with TrackR-CNN's columns, whatever its boxes are, and of two
    formats that differ only in the number of the first frame the one of KITTI. It is a name in
    ``FORMATS``.

    Raises:
        InputError: no such file, or one that looks like none of them.
    """
    suffix = path.suffix.lower()
    if path.is_dir() and next(path.glob("*.txt"), None) is not None:
        return "yolo"
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if suffix in (".xml", ".parquet"):
        return "cvat" if suffix == ".xml" else "parquet"
    _, first = next(lines_of(path), (0, ""))
    if suffix == ".json" or first[:1] in ("[", "{"):
        if _is_object(first):
            return "jsonl"
        return "labelstudio" if "videorectangle" in read_text(path, most=1 << 30) else "coco"
    fields = fields_of(first)
    if not first:
        return "mot"  # an empty file is the same in all of them
    if "," in first and len(fields) >= 7:
        return "mot"
    if len(fields) >= 10 and fields[2].replace("_", "").isalpha():
        return "label"
    if len(fields) == 6 and not _is_number(fields[5]):
        return "mots"
    if len(fields) == 10 and all(map(_is_number, fields)):  # MOT's, parted by spaces
        return "mot"
    if len(fields) >= 7 and all(map(_is_number, fields[:7])):
        return "kitti"
    raise InputError(
        f"{path}: the format cannot be told from {shown(first)}; name it, as in "
        f"file:{path}:mot (one of {', '.join(FORMATS)})"
    )


def _is_object(line: str) -> bool:
    """Whether this line alone is a JSON object of one frame."""
    try:
        content = parse_json(line, "", nan=True, unique=False)
    except ValueError:
        return False
    return isinstance(content, dict) and not {"images", "annotations"} & set(content)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
