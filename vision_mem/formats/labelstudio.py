"""Label Studio's JSON for videos: one task, a ``videorectangle`` an object.

Source: Label Studio's guides "task format" and "Video", and the tag ``VideoRectangle``. Frames
count from 1; places are percentages of the frame. The last box before a gap is not ``enabled``,
which is what ends it there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from vision_mem.formats.annotation_rows import (
    AnnotationRow,
    Frames,
    VideoAbout,
    by_object,
    keyframes,
)


def write_labelstudio(write: Callable[[str], Any], frames: Frames, about: VideoAbout) -> None:
    """Write the objects of one video as a task with predictions.

    Args:
        write: takes the next piece of text.
        frames: of the journal; gone through twice.
        about: the video; its file is what the task shows.
    """
    count = 0
    for line, _ in frames():
        count = max(count, line["frame"] + 1)
    write('[{"data": ' + _text({"video": about.file}) + ', "predictions": [{"model_version": ')
    write('"vision-mem", "result": [')
    separator = "\n"
    for object_id, rows in by_object(frames):
        write(separator)
        _write_region(write, object_id, rows, count, about)
        separator = ",\n"
    write("\n]}]}]\n")


def _write_region(
    write: Callable[[str], Any],
    object_id: int,
    rows: Iterator[AnnotationRow],
    count: int,
    about: VideoAbout,
) -> None:
    """One object; its boxes are written as they come."""
    write(
        f'{{"id": "object-{object_id}", "type": "videorectangle", "from_name": "box", '
        f'"to_name": "video", "origin": "prediction", "value": {{"framesCount": {count}, '
        f'"duration": {round(count / about.fps, 3)}, "sequence": ['
    )
    held: AnnotationRow | None = None
    head, total, shown = None, 0.0, 0
    separator = "\n"
    for row, key in keyframes(rows):
        head = head or row
        if not row.outside:
            total, shown = total + row.score, shown + 1
        if not key:
            continue
        if held is not None:
            write(separator + _text(_box(held, about, enabled=not row.outside)))
            separator = ",\n"
        held = None if row.outside else row
    if held is not None:
        write(separator + _text(_box(held, about, enabled=False)))
    word, name = (head.word, head.name) if head is not None else ("object", "object")
    end = {"labels": [word]}
    write("\n], " + _text(end)[1:] + ', "meta": ' + _text({"text": [name]}))
    write(f', "score": {round(total / max(shown, 1), 4)}}}')


def _box(row: AnnotationRow, about: VideoAbout, *, enabled: bool) -> dict[str, Any]:
    x1, y1, x2, y2 = row.box
    return {
        "frame": row.frame + 1,
        "enabled": enabled,
        "rotation": 0,
        "x": round(100 * x1 / about.width, 5),
        "y": round(100 * y1 / about.height, 5),
        "width": round(100 * (x2 - x1) / about.width, 5),
        "height": round(100 * (y2 - y1) / about.height, 5),
        "time": round(row.time_s, 5),
    }


def labeling_config(words: list[str]) -> str:
    """The labeling interface that such tasks need."""
    labels = "".join(f'    <Label value="{escape(word)}"/>\n' for word in words)
    return (
        '<View>\n  <Video name="video" value="$video"/>\n'
        '  <VideoRectangle name="box" toName="video"/>\n'
        f'  <Labels name="videoLabels" toName="video">\n{labels}  </Labels>\n</View>\n'
    )


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def is_labelstudio(content: Any) -> bool:
    """Whether JSON is a list of tasks."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(task, dict) and "data" in task for task in content)
    )


def labelstudio_rows(content: list[Any]) -> Iterator[AnnotationRow]:
    """Keyframes of video rectangles of the first task, by object; people's before predictions.

    Boxes are in parts of the frame, 0 to 1, since the file does not say its size. A row with
    ``outside`` follows each box that is not enabled.

    Raises:
        KeyError, TypeError, ValueError: when it is not as Label Studio has it.
    """
    task = content[0]
    said = task.get("annotations") or task.get("predictions") or [{"result": []}]
    number = 0
    for region in said[0]["result"]:
        if region.get("type") != "videorectangle":
            continue
        number += 1
        value = region["value"]
        word = str((value.get("labels") or ["object"])[0])
        meta = (region.get("meta") or {}).get("text") or [word]
        name = str(meta[0] if isinstance(meta, list) else meta)
        for each in sorted(value["sequence"], key=lambda one: one["frame"]):
            x, y = float(each["x"]) / 100, float(each["y"]) / 100
            right, low = x + float(each["width"]) / 100, y + float(each["height"]) / 100
            frame = int(each["frame"]) - 1
            row = AnnotationRow(frame, number, word, name, (x, y, right, low))
            yield row
            if not each.get("enabled", True):
                yield AnnotationRow(frame + 1, number, word, name, row.box, outside=True)
