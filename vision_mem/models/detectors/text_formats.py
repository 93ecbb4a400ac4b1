"""Detections in the text formats of KITTI, TrackR-CNN, MOTChallenge and MOTS.

Class numbers are those of KITTI MOTS wherever a format has a car or a pedestrian: 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from vision_mem.errors import InputError
from vision_mem.formats.rle import MaskRuns, read_mask
from vision_mem.models.detectors.file_records import Found, Reading, lines_of, shown

KITTI_NAMES = {1: "car", 2: "pedestrian"}
LABEL_NAMES = {
    **KITTI_NAMES,
    3: "van",
    4: "truck",
    5: "person_sitting",
    6: "cyclist",
    7: "tram",
    8: "misc",
}
MOT_NAMES = {
    **KITTI_NAMES,
    3: "person on vehicle",
    4: "bicycle",
    5: "motorbike",
    6: "non-motorised vehicle",
    7: "static person",
    8: "distractor",
    9: "occluder",
    10: "occluder on the ground",
    11: "occluder full",
    12: "reflection",
    13: "crowd",
}
# MOT16 to MOT20 number them 1 pedestrian, 2 person on vehicle, 3 car; the others as above.
_MOT_CLASS = {1: 2, 2: 3, 3: 1}
_IGNORE = 10
"""Class of the regions in MOTS truth that do not count."""


def _too_few(reading: Reading, line: int, fields: list[str], least: int, wanted: str) -> InputError:
    count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
    return reading.fail(line, f"{count} in {shown(' '.join(fields))}; expected {least}: {wanted}")


def read_kitti(reading: Reading) -> Iterator[Found]:
    """TrackR-CNN's detections, and those of Seg2Track's KITTI form.

    ``frame x1 y1 x2 y2 score class [height width rle [embedding ...]]``, spaces, frames from 0.

    Raises:
        InputError: with file and line number.
    """
    for line, text in lines_of(reading.path):
        fields = text.split()
        if len(fields) < 7:
            wanted = "frame x1 y1 x2 y2 score class"
            raise _too_few(reading, line, fields, 7, wanted)
        frame = reading.frame(fields[0], line)
        box = reading.box(fields[1:5], line)
        score = reading.score(fields[5], line)
        label = reading.whole(fields[6], line, "a class number")
        if box is None:
            continue
        runs = embedding = None
        if len(fields) > 9:
            runs = _runs(reading, line, fields[7:10])
            _check_inside(reading, line, box, runs)
            if len(fields) > 10:
                values = [reading.number(f, line, "an embedding") for f in fields[10:]]
                with np.errstate(over="ignore"):
                    embedding = np.array(values).astype(np.float32)
        yield Found(frame, line, box, score, label, runs, embedding)


def _check_inside(
    reading: Reading, line: int, box: tuple[float, float, float, float], runs: MaskRuns
) -> None:
    """Left, top, width and height often pass for corners, and the other way round."""
    height, width = runs.size
    if box[0] > width or box[1] > height or box[2] > 1.5 * width or box[3] > 1.5 * height:
        other = "xywh" if reading.box_format == "xyxy" else "xyxy"
        raise reading.fail(
            line,
            f"the box reaches to {box[2]:g}, {box[3]:g} in an image of {width}x{height}; read as "
            f"{reading.box_format}: say box={other} if that is what the columns are",
        )


def read_kitti_label(reading: Reading) -> Iterator[Found]:
    """KITTI's tracking labels (``label_02``) and results.

    ``frame id type truncated occluded alpha x1 y1 x2 y2`` and seven numbers of the 3D box, then
    perhaps a score. Regions called ``DontCare`` are passed over.

    Raises:
        InputError: with file and line number.
    """
    numbers = {name: number for number, name in LABEL_NAMES.items()}
    numbers["person"] = numbers["person_sitting"]
    for line, text in lines_of(reading.path):
        fields = text.split()
        if len(fields) < 10:
            wanted = "frame id type truncated occluded alpha x1 y1 x2 y2"
            raise _too_few(reading, line, fields, 10, wanted)
        kind = fields[2].lower()
        if kind == "dontcare":
            continue
        if kind not in numbers:
            expected = ", ".join(name.capitalize() for name in LABEL_NAMES.values())
            raise reading.fail(line, f"type {shown(fields[2])}; expected one of {expected}")
        frame = reading.frame(fields[0], line)
        box = reading.box(fields[6:10], line)
        score = reading.score(fields[17], line) if len(fields) > 17 else 1.0
        if box is not None:
            yield Found(frame, line, box, score, numbers[kind])


def read_mot(reading: Reading) -> Iterator[Found]:
    """MOTChallenge's ``det.txt`` and ``gt.txt``.

    ``frame,id,left,top,width,height,score[,class,visibility | ,x,y,z]``, frames from 1, commas or
    spaces. Identities are not used. Where the seventh field is -1 on every line it says nothing,
    and all scores are 1. In truth of MOT16 to MOT20 (nine fields) lines whose seventh field is 0
    do not count and are passed over.

    Raises:
        InputError: with file and line number.
    """
    rows = []
    for line, text in lines_of(reading.path):
        fields = [field.strip() for field in text.split(",")] if "," in text else text.split()
        if len(fields) < 7:
            wanted = "frame,id,left,top,width,height,score"
            raise _too_few(reading, line, fields, 7, wanted)
        frame = reading.frame(fields[0], line)
        box = reading.box(fields[2:6], line)
        truth = len(fields) == 9 and fields[7] not in ("-1", "-1.0")
        label = reading.whole(fields[7], line, "a class number") if truth else 1
        if box is None or (truth and reading.number(fields[6], line, "0 or 1") == 0):
            continue
        rows.append((line, frame, box, fields[6], _MOT_CLASS.get(label, label)))
    unset = all(score in ("-1", "-1.0") for *_, score, _ in rows)
    for line, frame, box, score, label in rows:
        yield Found(frame, line, box, 1.0 if unset else reading.score(score, line), label)


def read_mots(reading: Reading) -> Iterator[Found]:
    """Truth and results of KITTI MOTS (frames from 0) and MOTS Challenge (frames from 1).

    ``frame id class height width rle``. Boxes are the bounds of the masks; empty masks and regions
    to be ignored (class 10) are passed over.

    Raises:
        InputError: with file and line number.
    """
    for line, text in lines_of(reading.path):
        fields = text.split()
        if len(fields) != 6:
            wanted = "frame id class height width rle"
            raise _too_few(reading, line, fields, 6, wanted)
        frame = reading.frame(fields[0], line)
        label = reading.whole(fields[2], line, "a class number")
        runs = _runs(reading, line, fields[3:])
        x1, y1, x2, y2 = (float(edge) for edge in runs.boxes()[0])
        if label != _IGNORE and x2 > x1:
            yield Found(frame, line, (x1, y1, x2, y2), 1.0, label, runs)


def _runs(reading: Reading, line: int, fields: list[str]) -> MaskRuns:
    height = reading.whole(fields[0], line, "the image's height")
    width = reading.whole(fields[1], line, "the image's width")
    try:
        return read_mask(fields[2], (height, width))
    except ValueError as error:
        raise reading.fail(line, f"a mask that cannot be read: {error}") from None


NAMES: Mapping[str, Mapping[int, str]] = {
    "kitti": KITTI_NAMES,
    "label": LABEL_NAMES,
    "mot": MOT_NAMES,
    "mots": KITTI_NAMES,
    "mots-challenge": KITTI_NAMES,
}
"""Words for the class numbers of each format."""
