"""Writers for many objects, frame by frame: MOTS text and PNG, KITTI labels, MOTChallenge lines.

Each is opened, gets the records of one frame after the other, and is closed. What was written is
on disk when ``write`` returns. With ``append`` a writer goes on after an interrupted run: what was
written of frames that come again is dropped.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.mots import (
    CLASS_STEP,
    IGNORED_CLASS,
    IGNORED_ID,
    KITTI_MOTS,
    MotsLayout,
    mots_id,
)
from vision_mem.formats.rle import encode_mask
from vision_mem.formats.track_rows import TrackRecord
from vision_mem.geometry.boxes import box_to_xywh, is_empty
from vision_mem.geometry.masks import mask_to_box
from vision_mem.results import Shown, ShownObject, ShownTracks
from vision_mem.sinks.boxes import counts_pixels, short_number
from vision_mem.sinks.masks import FrameLines, JsonLines, MaskRle, NumberedFiles, event_rows
from vision_mem.types import Frame, SourceInfo

KITTI_TYPES: Mapping[int, str] = {1: "Car", 2: "Pedestrian"}
"""What KITTI labels call the classes of KITTI MOTS."""

# What KITTI writes where a label says nothing: angle, size, place and turn in the world.
_NO_ANGLE, _NO_WORLD = "-10", "-1 -1 -1 -1000 -1000 -1000 -10"


class _TextSink(FrameLines):
    """Lines of one file; the frame is the first number of a line."""

    separator = " "
    first_frame = 0

    def _frame_of(self, line: str) -> int:
        return int(line.split(self.separator, 1)[0])

    def write(self, frame_index: int, records: Sequence[TrackRecord]) -> None:
        """Add the lines of one frame.

        Args:
            frame_index: from 0, rising.
            records: what is to be seen there; may be none.

        Raises:
            InputError: for what the format cannot say; nothing of the frame is written then.
            SinkError: when it cannot be written.
        """
        number = frame_index + self.first_frame
        file = self._resume(number)
        _check_ids(frame_index, records)
        lines = self._lines(number, records)
        if lines:
            file.write(*lines)

    @abstractmethod
    def _lines(self, number: int, records: Sequence[TrackRecord]) -> list[str]:
        """One line a record."""


class MotsText(_TextSink):
    """``frame id class height width rle``; see ``mots_id`` for ids. Empty masks have no line.

    Args:
        path: the file.
        layout: from which number frames count.
        append: go on after an interrupted run.
    """

    def __init__(
        self, path: str | Path, layout: MotsLayout = KITTI_MOTS, *, append: bool = False
    ) -> None:
        super().__init__(path, append=append)
        self.first_frame = layout.first_frame

    def write(
        self,
        frame_index: int,
        records: Sequence[TrackRecord],
        ignored: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add the lines of one frame.

        Args:
            frame_index: from 0, rising.
            records: what is to be seen there; may be none.
            ignored: ``(H, W)`` bool, where nothing is counted; for truth.

        Raises:
            InputError: for what the format cannot say; nothing of the frame is written then.
            SinkError: when it cannot be written.
        """
        super().write(frame_index, records)
        if ignored is not None and ignored.any() and self._file is not None:
            height, width = ignored.shape
            self._file.write(
                f"{frame_index + self.first_frame} {IGNORED_ID} {IGNORED_CLASS} {height} {width} "
                f"{encode_mask(ignored)}"
            )

    def _lines(self, number: int, records: Sequence[TrackRecord]) -> list[str]:
        lines = []
        for each, mask in _disjoint(number, records):
            identity = mots_id(each.object_id, each.class_id)
            height, width = mask.shape
            lines.append(
                f"{number} {identity} {each.class_id} {height} {width} {encode_mask(mask)}"
            )
        return lines


class KittiLabels(_TextSink):
    """KITTI tracking labels with a score: 18 columns, frames from 0.

    Args:
        path: the file.
        types: what each class is called; records of other classes are refused.
        append: go on after an interrupted run.
    """

    def __init__(
        self,
        path: str | Path,
        types: Mapping[int, str] = KITTI_TYPES,
        *,
        append: bool = False,
    ) -> None:
        super().__init__(path, append=append)
        self._types = types

    def _lines(self, number: int, records: Sequence[TrackRecord]) -> list[str]:
        lines = []
        for each, corners in _placed(number, records):
            name = self._types.get(each.class_id)
            if name is None:
                known = ", ".join(f"{key} ({value})" for key, value in self._types.items())
                raise InputError(
                    f"class {each.class_id} of object {each.object_id} has no KITTI type; "
                    f"expected one of {known}"
                )
            box = " ".join(f"{value:.3f}" for value in corners.tolist())
            lines.append(
                f"{number} {each.object_id} {name} -1 -1 {_NO_ANGLE} {box} {_NO_WORLD} "
                f"{each.score:.4f}"
            )
        return lines


class MotText(_TextSink):
    """``frame,id,left,top,width,height,score,-1,-1,-1``: frames from 1, pixels from 0.

    Args:
        path: the file.
        convention: how widths are counted, see ``SingleObjectBoxes``.
        short: numbers without zeros at their end, scores with three decimals, as ``track`` does.
        append: go on after an interrupted run.
    """

    separator = ","
    first_frame = 1

    def __init__(
        self,
        path: str | Path,
        *,
        convention: str = "true",
        short: bool = False,
        append: bool = False,
    ) -> None:
        super().__init__(path, append=append)
        self._inclusive, self._short = counts_pixels(convention), short

    def _lines(self, number: int, records: Sequence[TrackRecord]) -> list[str]:
        lines = []
        for each, corners in _placed(number, records):
            xywh = box_to_xywh(corners, inclusive=self._inclusive).tolist()
            place = ",".join(short_number(v) if self._short else f"{v:.3f}" for v in xywh)
            score = short_number(each.score) if self._short else f"{each.score:.4f}"
            lines.append(f"{number},{each.object_id},{place},{score},-1,-1,-1")
        return lines


class MotsPng(NumberedFiles):
    """One 16-bit PNG a frame, class * 1000 + instance: ``<frame, six digits>.png``.

    Frames without objects have an image too. Each file appears whole or not at all.

    Args:
        folder: where to write; numbered PNG files of an earlier run in it are removed.
        layout: from which number frames count.
        append: keep those of frames before the first one written now.
    """

    def __init__(
        self, folder: str | Path, layout: MotsLayout = KITTI_MOTS, *, append: bool = False
    ) -> None:
        super().__init__(folder, ".png", append)
        self._first = layout.first_frame
        self._size = (0, 0)

    def open(self, info: SourceInfo) -> None:
        """Make the folder."""
        self._size = (info.height, info.width)
        super().open(info)

    def write(
        self,
        frame_index: int,
        records: Sequence[TrackRecord],
        ignored: NDArray[np.bool_] | None = None,
    ) -> None:
        """Write one image.

        Args:
            frame_index: from 0.
            records: what is to be seen there.
            ignored: ``(H, W)`` bool, where nothing is counted; for truth.

        Raises:
            InputError: for instances above 999, which such a PNG cannot hold, and masks that
                overlap or have another size.
            SinkError: when it cannot be written.
        """
        from PIL import Image

        number = frame_index + self._first
        _check_ids(frame_index, records)
        labels = np.zeros(self._size, np.uint16)
        if ignored is not None:
            labels[ignored] = IGNORED_ID
        for each, mask in _disjoint(number, records, self._size):
            if each.object_id >= CLASS_STEP:
                raise InputError(
                    f"object id {each.object_id} does not fit into a MOTS PNG, where a class has "
                    "ids to 999; write MOTS text"
                )
            labels[mask] = mots_id(each.object_id, each.class_id)
        self._write_png(number, Image.fromarray(labels))


def _check_ids(frame_index: int, records: Sequence[TrackRecord]) -> None:
    seen: set[int] = set()
    for each in records:
        if each.object_id in seen:
            raise InputError(
                f"object {each.object_id} stands twice in frame {frame_index}; expected each once"
            )
        seen.add(each.object_id)


def _disjoint(
    number: int, records: Sequence[TrackRecord], size: tuple[int, int] | None = None
) -> list[tuple[TrackRecord, NDArray[np.bool_]]]:
    """Records with their masks, empty ones left out; each pixel may belong to one."""
    found: list[tuple[TrackRecord, NDArray[np.bool_]]] = []
    taken: NDArray[np.bool_] | None = None
    for each in records:
        if each.mask is None:
            raise InputError(f"object {each.object_id} has no mask in frame {number}; give one")
        mask = each.mask
        if mask.ndim != 2 or mask.shape != (size or mask.shape):
            raise InputError(
                f"the mask of object {each.object_id} has shape {mask.shape} in frame {number}; "
                f"expected {size or '(H, W)'} as the other masks"
            )
        size = (mask.shape[0], mask.shape[1])
        x1, y1, x2, y2 = mask_to_box(mask).astype(int)
        if x2 == 0:
            continue
        if taken is None:
            taken = np.zeros(size, dtype=bool)
        inside = (slice(y1, y2), slice(x1, x2))
        if (taken[inside] & mask[inside]).any():
            other = next(r.object_id for r, m in found if (m[inside] & mask[inside]).any())
            raise InputError(
                f"the masks of objects {other} and {each.object_id} overlap in frame {number}; "
                "MOTS files give each pixel to one object"
            )
        taken[inside] |= mask[inside]
        found.append((each, mask))
    return found


def _placed(
    number: int, records: Sequence[TrackRecord]
) -> list[tuple[TrackRecord, NDArray[np.float32]]]:
    """Records with their boxes, those without area left out."""
    found = []
    for each in records:
        if each.box is not None:
            box = np.asarray(each.box, np.float32)
        elif each.mask is not None:
            box = mask_to_box(each.mask)
        else:
            raise InputError(
                f"object {each.object_id} has neither box nor mask in frame {number}; give one"
            )
        if box.shape != (4,) or not np.isfinite(box).all():
            raise InputError(
                f"the box of object {each.object_id} in frame {number} is {box.tolist()}; "
                "expected four finite numbers x1, y1, x2, y2"
            )
        if not is_empty(box):
            found.append((each, box))
    return found


class TrackFile:
    """Tracks, or objects without a class, that are to be seen, as records of a benchmark's file.

    Args:
        writer: of the format.
        number: word of a class to its number in the file; None leaves the track out.
    """

    def __init__(self, writer: Any, number: Callable[[str], int | None]) -> None:
        self.writer = writer
        self._number = number

    def open(self, info: SourceInfo) -> None:
        """Make the file."""
        self.writer.open(info)

    def write(self, frame: Frame, result: ShownTracks) -> None:
        """Add one frame.

        Raises:
            InputError: for what the format cannot say.
            SinkError: when it cannot be written.
        """
        records = [
            TrackRecord(each.object_id, number, each.score, each.box, each.mask)
            for each in result.objects
            if each.present
            and (number := self._number(getattr(each, "class_name", ""))) is not None
        ]
        self.writer.write(result.frame_index, records)

    def close(self) -> None:
        """Finish the file."""
        self.writer.close()


class TrackRle(MaskRle):
    """``MaskRle`` with ``"class"`` and ``"state"`` of each object."""

    def _words(self, each: ShownObject) -> dict[str, Any]:
        return super()._words(each) | _kind(each)


class TrackDiary(JsonLines[ShownTracks]):
    """What became of each track and why, one JSON line a frame.

    ``{"frame", "time_s", "objects": [{"id", "name", "class", "state", "present", "score", "box",
    "detection", "diary"}], "events": [{"kind", "id", "name"}]}``; ``detection`` is the position of
    the track's detection among those of the frame, or null.
    """

    def _entries(self, result: ShownTracks) -> list[dict[str, Any]]:
        objects = [
            {
                "id": each.object_id,
                "name": each.name,
                **_kind(each),
                "present": bool(each.present),
                "score": each.score,
                "box": each.box,
                "detection": each.detection,
                "diary": each.diary,
            }
            for each in result.objects
        ]
        return [{"objects": objects, "events": event_rows(result)}]


class EventLines(JsonLines[Shown]):
    """What happened, one JSON line an event: ``{"frame", "time_s", "kind", "id", "name"}``.

    Zones add ``"zone"``, ``"class"`` and ``"seen"``, ``"dwell_s"`` where somebody left; lines
    ``"direction"``.
    """

    def _entries(self, result: Shown) -> list[dict[str, Any]]:
        return event_rows(result)


def _kind(each: Any) -> dict[str, Any]:
    return {"class": each.class_name, "state": each.state}
