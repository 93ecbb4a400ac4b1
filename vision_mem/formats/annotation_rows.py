"""Rows that annotation files are made of: an object on a frame, and what becomes of it over time.

Writers of ``coco``, ``cvat``, ``labelstudio`` and ``parquet`` read frames one after the other from
a journal, so that none of them holds a whole video; readers give the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from vision_mem.errors import SinkError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class VideoAbout:
    """What annotation files say of their video.

    Attributes:
        name: fit for a file name.
        file: name of the video file, or of what else the frames come from.
        width, height: pixels.
        fps: frames a second.
    """

    name: str
    file: str
    width: int
    height: int
    fps: float


@dataclass(frozen=True)
class AnnotationRow:
    """One object on one frame.

    Attributes:
        frame: number in the source, from 0.
        object_id: its id.
        word: its class; the object's name where there is no class.
        name: its name.
        box: ``(x1, y1, x2, y2)`` pixels.
        time_s: of the frame, seconds.
        score: 0 to 1.
        area: pixels of the mask.
        counts: the mask as COCO's compressed run lengths; None where there is none.
        size: ``(height, width)`` of the frame.
        outside: the object is not to be seen from this frame on; the box is where it was last.
    """

    frame: int
    object_id: int
    word: str
    name: str
    box: Box
    time_s: float = 0.0
    score: float = 1.0
    area: int = 0
    counts: str | None = None
    size: tuple[int, int] = (0, 0)
    outside: bool = False


FrameRows = tuple[Mapping[str, Any], list[AnnotationRow]]
"""A line of the journal (``frame``, ``time_s``, ``size``), and its rows."""
Frames = Callable[[], Iterator[FrameRows]]
"""Gives all frames of a journal, as often as it is called."""


def rows_of(line: Mapping[str, Any]) -> list[AnnotationRow]:
    """The rows of a line of the journal."""
    height, width = line["size"]
    rows = []
    for each in line["objects"]:
        x1, y1, x2, y2 = each["box"]
        rows.append(
            AnnotationRow(
                line["frame"], each["id"], each["class"], each["name"], (x1, y1, x2, y2),
                line["time_s"] or 0.0, each["score"], each["area"], each["counts"], (height, width),
            )
        )  # fmt: skip
    return rows


def by_object(frames: Frames) -> Iterator[tuple[int, Iterator[AnnotationRow]]]:
    """Rows by object, each object's in the order of frames, with one ``outside`` row for each gap.

    They are sorted in a scratch file, so that memory does not grow with the video. Frames that the
    journal leaves out (a stride) are no gap.

    Yields:
        Object id and its rows; take all rows before the next object.
    """
    import sqlite3  # help of the commands does without

    try:
        yield from _sorted(sqlite3.connect(""), frames)
    except sqlite3.Error as error:
        raise SinkError(
            f"annotations cannot be sorted in a scratch file ({error}); free some space in the "
            "folder for temporary files, then --resume"
        ) from None


def _sorted(scratch: Any, frames: Frames) -> Iterator[tuple[int, Iterator[AnnotationRow]]]:
    with closing(scratch):
        scratch.execute("CREATE TABLE rows (object INTEGER, frame INTEGER, content TEXT)")
        seen: dict[int, AnnotationRow] = {}
        for line, rows in frames():
            now = {row.object_id: row for row in rows}
            gone = [
                replace(row, frame=line["frame"], time_s=line["time_s"] or 0.0, outside=True)
                for key, row in seen.items() if key not in now
            ]  # fmt: skip
            scratch.executemany(
                "INSERT INTO rows VALUES (?, ?, ?)",
                [(row.object_id, row.frame, json.dumps(asdict(row))) for row in (*rows, *gone)],
            )
            seen = now
        found = scratch.execute("SELECT object, content FROM rows ORDER BY object, frame")
        for object_id, group in groupby(found, key=lambda pair: int(pair[0])):
            yield object_id, (_row(content) for _, content in group)


def _row(content: str) -> AnnotationRow:
    values = json.loads(content)
    return AnnotationRow(**values | {"box": tuple(values["box"]), "size": tuple(values["size"])})


def keyframes(
    rows: Iterable[AnnotationRow], tolerance: float = 0.5, longest: int = 50
) -> Iterator[tuple[AnnotationRow, bool]]:
    """Which rows an annotator has to see: straight lines between them are near all others.

    Args:
        rows: of one object, in the order of frames.
        tolerance: pixels that an edge may be off the line.
        longest: rows from one keyframe to the next, at most.

    Yields:
        Each row, and whether it is a keyframe. First and last ones, and those beside a gap, are.
    """
    held: list[AnnotationRow] = []  # the latest keyframe, given already, and rows after it
    for row in rows:
        if not held or row.outside or held[-1].outside:
            yield from _settled(held)
            yield row, True
            held = [row]
            continue
        if len(held) > 1 and (len(held) >= longest or not _on_line([*held, row], tolerance)):
            yield from _settled(held)
            held = [held[-1]]
        held.append(row)
    yield from _settled(held)


def _settled(held: list[AnnotationRow]) -> Iterator[tuple[AnnotationRow, bool]]:
    """What is held behind the keyframe at its head; the last is the next keyframe."""
    for row in held[1:-1]:
        yield row, False
    if len(held) > 1:
        yield held[-1], True


def _on_line(rows: list[AnnotationRow], tolerance: float) -> bool:
    at = np.array([row.frame for row in rows], float)
    boxes = np.array([row.box for row in rows])
    share = ((at - at[0]) / (at[-1] - at[0]))[:, None]
    return bool((np.abs(boxes - (boxes[0] + share * (boxes[-1] - boxes[0]))) <= tolerance).all())


def filled(rows: Iterable[AnnotationRow]) -> Iterator[AnnotationRow]:
    """Rows of one object with those between keyframes, on straight lines; ``outside`` ones go.

    Args:
        rows: in the order of frames.
    """
    before: AnnotationRow | None = None
    for row in rows:
        if before is not None and not before.outside:
            for frame in range(before.frame + 1, row.frame):
                share = (frame - before.frame) / (row.frame - before.frame)
                target = before.box if row.outside else row.box
                x1, y1, x2, y2 = (
                    a + share * (b - a) for a, b in zip(before.box, target, strict=True)
                )
                yield replace(before, frame=frame, box=(x1, y1, x2, y2), counts=None)
        if not row.outside:
            yield row
        before = row
