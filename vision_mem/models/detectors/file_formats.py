"""Detections in files: JSON (COCO, lines), KITTI, TrackR-CNN, MOTChallenge and MOTS text.

All that is wrong with a file is an ``InputError`` that names it, and its line where there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from natsort import natsorted
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.annotation_rows import AnnotationRow, filled
from vision_mem.formats.cvat import read_cvat
from vision_mem.formats.labelstudio import is_labelstudio, labelstudio_rows
from vision_mem.formats.parquet import read_parquet
from vision_mem.formats.rle import MaskRuns, read_mask
from vision_mem.formats.yolo import class_names, frame_number
from vision_mem.models.detectors.coercion import Vocabulary
from vision_mem.text import parse_json, read_text, shown

MOST_LINE = 1 << 26
"""Characters; a longer line is no detection's."""

BOX_FORMATS = ("xyxy", "xywh")
SCORES: Mapping[str, Callable[[float], float]] = {
    "unit": lambda score: score,
    "percent": lambda score: score / 100.0,
    "sigmoid": lambda score: float(1.0 / (1.0 + np.exp(-np.clip(score, -60.0, 60.0)))),
}
"""What a file's scores are, and how they become 0 to 1."""


@dataclass(frozen=True)
class FileDetection:
    """One object on one frame, as a file says it.

    Attributes:
        frame: from 0.
        line: of the file, from 1; 0 where the format has no lines.
        box: ``(x1, y1, x2, y2)`` pixels, finite, with a size.
        score: 0 to 1.
        label: class number.
        mask: run lengths; or outlines ``(k, 2)`` in pixels, to be drawn at the frame's size.
        embedding: ``(d,)`` or None.
    """

    frame: int
    line: int
    box: tuple[float, float, float, float]
    score: float = 1.0
    label: int = 0
    mask: MaskRuns | tuple[NDArray[np.float32], ...] | None = None
    embedding: NDArray[np.float32] | None = None


@dataclass
class Reading:
    """One pass over a file: how to read it, and what was left out.

    Attributes:
        path: the file.
        box_format: ``"xyxy"`` or ``"xywh"``: what the four numbers of a box are.
        first_frame: number that the file gives to the video's first frame.
        scores: see ``SCORES``.
        strict: refuse unusable boxes instead of leaving them out.
        dropped: boxes left out, by reason.
        vocabulary: words for class numbers; those that the file says are added.
        size: ``(height, width)`` of the video, for formats that speak of parts of it.
    """

    path: Path
    box_format: str
    first_frame: int
    scores: str = "unit"
    strict: bool = False
    dropped: Counter[str] = field(default_factory=Counter)
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    size: tuple[int, int] | None = None

    def fail(self, line: int, what: str) -> InputError:
        """The error for a line, or for the whole file (0)."""
        return InputError(f"{self.path}{f', line {line}' if line else ''}: {what}")

    def number(self, text: Any, line: int, what: str) -> float:
        """A number, NaN and infinity included."""
        try:
            # float() also takes "1_000" and digits of other scripts, which no tool writes.
            odd = isinstance(text, str) and (not text.isascii() or "_" in text)
            if odd or isinstance(text, bool):
                raise ValueError
            return float(text)
        except (TypeError, ValueError, OverflowError):
            raise self.fail(line, f"{shown(text)} is not a number; expected {what}") from None

    def whole(self, text: Any, line: int, what: str) -> int:
        """A whole number, as 3 or 3.0."""
        value = self.number(text, line, what)
        if not (abs(value) < 1e15 and value == round(value)):
            raise self.fail(line, f"{shown(text)} is not a whole number; expected {what}")
        return int(value)

    def frame(self, text: Any, line: int) -> int:
        """A frame number, counted from 0; it must not lie before the first frame."""
        number = self.whole(text, line, "a frame number")
        if number < self.first_frame:
            other = f"; if the file counts from {number}, say first={number}" if number >= 0 else ""
            raise self.fail(
                line,
                f"frame {number}, but frames are counted from {self.first_frame} here{other}",
            )
        return number - self.first_frame

    def box(self, values: Any, line: int) -> tuple[float, float, float, float] | None:
        """Corners of a box; None for one that is left out. The wrong way round is an error."""
        a, b, c, d = (self.number(v, line, "four numbers for a box") for v in values)
        if self.box_format == "xywh":
            c, d = a + c, b + d
        with np.errstate(over="ignore"):  # judged as it will be kept, in single precision
            kept = np.array((a, b, c, d)).astype(np.float32)
        if not np.isfinite(kept).all():
            self._leave_out("not finite", line, values)
            return None
        if kept[2] > kept[0] and kept[3] > kept[1]:
            return a, b, c, d
        if self.box_format == "xyxy":
            raise self.fail(
                line,
                f"box {a:g} {b:g} {c:g} {d:g} has its right or bottom edge before its left or top "
                "one; expected x1 y1 x2 y2. If the columns are left, top, width and height, say "
                "box=xywh",
            )
        self._leave_out("without size", line, values)
        return None

    def _leave_out(self, reason: str, line: int, values: Any) -> None:
        if self.strict:
            raise self.fail(line, f"box {' '.join(map(str, values))} is {reason}")
        self.dropped[reason] += 1

    def score(self, text: Any, line: int) -> float:
        """A score, 0 to 1; the error for another one says what may help."""
        value = self.number(text, line, "a score")
        score = SCORES[self.scores](value)
        if not -1e-3 <= score <= 1 + 1e-3:  # NaN fails too
            raise self.fail(
                line,
                f"score {value:g}; expected 0 to 1. For percentages say scores=percent, for "
                "logits scores=sigmoid",
            )
        return min(max(score, 0.0), 1.0)


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    """What the system says of a file that cannot be read, in our words."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path of the detections") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; expected a file of detections") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}") from None


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1.

    UTF-8, or UTF-16 where it says so; other bytes become replacement signs.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is a device or a pipe; expected a file of detections")
    with _opened(path):
        with path.open("rb") as file:
            # Files written by "> file" in some shells of Windows are UTF-16.
            wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
        encoding = "utf-16" if wide else "utf-8-sig"
        with path.open(encoding=encoding, errors="replace") as text:
            number = 0
            while line := text.readline(MOST_LINE):
                number += 1
                if len(line) == MOST_LINE:
                    raise InputError(f"{path}, line {number}: too long for a file of detections")
                if line.strip():
                    yield number, line.strip()


def fields_of(text: str) -> list[str]:
    """What commas, or else spaces, separate."""
    return [each.strip() for each in text.split(",")] if "," in text else text.split()


def _rows(reading: Reading, wanted: str) -> Iterator[tuple[int, list[str]]]:
    """Numbers and fields of the lines of a text file, as many fields as ``wanted`` or more."""
    least = len(fields_of(wanted))
    for line, text in lines_of(reading.path):
        fields = fields_of(text) if "," in wanted else text.split()
        if len(fields) < least:
            count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
            found = f"{count} in {shown(' '.join(fields))}"
            raise reading.fail(line, f"{found}; expected {least}: {wanted}")
        yield line, fields


_MOST_BYTES = 1 << 30


def read_coco(reading: Reading) -> Iterator[FileDetection]:
    """COCO JSON: annotations with their images and categories, or a list of results.

    With ``images``, frames are their ``frame_id`` or ``frame_index`` where they have one, else
    their place in the order of their file names. In a list of results ``image_id`` is the frame's
    number. Crowd regions are passed over; scores are 1 where there are none.
    """
    content = _load(reading)
    frames = None
    if isinstance(content, Mapping):
        frames = _frames(reading, content.get("images"))
        for each in _objects(reading, content.get("categories", []), "categories"):
            number = reading.whole(each.get("id"), 0, "a category's id")
            reading.vocabulary.add(number, str(each.get("name", number)))
        content = content.get("annotations")
    for index, each in enumerate(_objects(reading, content, "annotations")):
        if each.get("iscrowd"):
            continue
        if frames is None:
            frame = reading.frame(each.get("image_id"), 0)
        else:
            image = each.get("image_id")
            try:
                frame = frames[image]
            except (KeyError, TypeError):
                problem = f"annotation {index} belongs to image {shown(image)}, which is not there"
                raise reading.fail(0, problem) from None
        found = _found(reading, each, frame, 0)
        if found is not None:
            yield found


def _load(reading: Reading) -> Any:
    text = read_text(reading.path, most=_MOST_BYTES)
    return parse_json(text, str(reading.path), nan=True, unique=False)


def _objects(reading: Reading, content: Any, what: str) -> Sequence[Mapping[str, Any]]:
    if isinstance(content, list) and all(isinstance(each, Mapping) for each in content):
        return content
    raise reading.fail(0, f"{what} are {shown(content)}; expected a list of objects, as COCO has")


def _frames(reading: Reading, images: Any) -> dict[Any, int]:
    """Frame, from 0, of each image's id."""
    known = list(_objects(reading, images, "images"))
    for key in ("frame_id", "frame_index"):
        if known and all(key in image for image in known):
            return {_key(image): reading.frame(image[key], 0) for image in known}
    if all("file_name" in image for image in known):
        known = natsorted(known, key=lambda image: str(image["file_name"]))
    return {_key(image): place for place, image in enumerate(known)}


def _key(image: Mapping[str, Any]) -> Any:
    identity = image.get("id")
    return identity if isinstance(identity, (int, str)) else shown(identity)


def read_jsonl(
    reading: Reading,
) -> Iterator[tuple[int, int, Mapping[str, Any], list[FileDetection]]]:
    """JSON lines: a frame a line, or an object a line.

    A line with ``boxes`` is a recording's (``Recorder``); one with ``objects`` is of the masks
    that ``vision-mem`` writes; others are single results as COCO has them, with ``frame`` or
    ``image_id``.

    Yields:
        Frame from 0, line number, the line's content, and the objects; a recording's objects are
        left to the caller.
    """
    for line, text in lines_of(reading.path):
        content = parse_json(text, f"{reading.path}, line {line}", nan=True, unique=False)
        if not isinstance(content, Mapping):
            raise reading.fail(line, f"{shown(content)}; expected an object: {{...}}")
        number = content.get("frame", content.get("image_id"))
        if number is None:
            raise reading.fail(line, f"no frame number in {shown(text)}; expected 'frame'")
        frame = reading.frame(number, line)
        found: list[FileDetection | None] = []
        if "objects" in content:
            for each in _objects(reading, content["objects"], f"line {line}: objects"):
                found.append(_found(reading, each, frame, line))
        elif "boxes" not in content and "answer" not in content:
            found.append(_found(reading, content, frame, line))
        yield frame, line, content, [each for each in found if each is not None]


def _found(
    reading: Reading, each: Mapping[str, Any], frame: int, line: int
) -> FileDetection | None:
    """One object as COCO describes it; None when its box cannot be used."""
    mask = _mask(reading, each.get("segmentation"), line)
    given = each.get("bbox", each.get("box"))
    box: tuple[float, float, float, float] | None
    if given is not None:
        if not isinstance(given, list) or len(given) != 4:
            raise reading.fail(line, f"a box is {shown(given)}; expected four numbers")
        box = reading.box(given, line)
    elif isinstance(mask, MaskRuns):
        x1, y1, x2, y2 = (float(edge) for edge in mask.boxes()[0])
        box = (x1, y1, x2, y2) if x2 > x1 else None
    elif mask:
        low = np.concatenate(mask).min(axis=0)
        high = np.concatenate(mask).max(axis=0)
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        box = box if (high > low).all() else None
    else:
        raise reading.fail(line, f"no box in {shown(dict(each))}; expected 'bbox'")
    score = reading.score(each.get("score", 1.0), line)
    word = each.get("category_id", each.get("label", each.get("name", 0)))
    if isinstance(word, str):
        label = reading.vocabulary.number(word)
    else:
        label = reading.whole(word, line, "a class number or word")
    return None if box is None else FileDetection(frame, line, box, score, label, mask)


def _mask(
    reading: Reading, given: Any, line: int
) -> MaskRuns | tuple[NDArray[np.float32], ...] | None:
    """COCO's segmentation: run lengths or outlines."""
    if given is None or given == []:
        return None
    try:
        if isinstance(given, Mapping):
            height, width = given["size"]
            counts = given["counts"]
            if not isinstance(counts, (str, list)):
                raise ValueError("counts that are neither text nor numbers")
            return read_mask(counts, (int(height), int(width)))
        with np.errstate(over="ignore"):
            outlines = tuple(np.array(each, np.float32).reshape(-1, 2) for each in given)
        if any(len(each) < 3 or not np.isfinite(each).all() for each in outlines):
            raise ValueError("an outline without three finite corners")
        return outlines
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise reading.fail(line, f"a mask that cannot be read: {error}") from None


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


def read_kitti(reading: Reading) -> Iterator[FileDetection]:
    """TrackR-CNN's detections, and those of Seg2Track's KITTI form.

    ``frame x1 y1 x2 y2 score class [height width rle [embedding ...]]``, spaces, frames from 0.
    """
    for line, fields in _rows(reading, "frame x1 y1 x2 y2 score class"):
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
        yield FileDetection(frame, line, box, score, label, runs, embedding)


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


def read_kitti_label(reading: Reading) -> Iterator[FileDetection]:
    """KITTI's tracking labels (``label_02``) and results.

    ``frame id type truncated occluded alpha x1 y1 x2 y2`` and seven numbers of the 3D box, then
    perhaps a score. Regions called ``DontCare`` are passed over.
    """
    numbers = {name: number for number, name in LABEL_NAMES.items()}
    numbers["person"] = numbers["person_sitting"]
    for line, fields in _rows(reading, "frame id type truncated occluded alpha x1 y1 x2 y2"):
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
            yield FileDetection(frame, line, box, score, numbers[kind])


def read_mot(reading: Reading) -> Iterator[FileDetection]:
    """MOTChallenge's ``det.txt`` and ``gt.txt``.

    ``frame,id,left,top,width,height,score[,class,visibility | ,x,y,z]``, frames from 1, commas or
    spaces. Identities are not used. Where the seventh field is -1 on every line it says nothing,
    and all scores are 1. In truth of MOT16 to MOT20 (nine fields) lines whose seventh field is 0
    do not count and are passed over.
    """
    rows = []
    for line, fields in _rows(reading, "frame,id,left,top,width,height,score"):
        frame = reading.frame(fields[0], line)
        box = reading.box(fields[2:6], line)
        truth = len(fields) == 9 and fields[7] not in ("-1", "-1.0")
        label = reading.whole(fields[7], line, "a class number") if truth else 1
        if box is None or (truth and reading.number(fields[6], line, "0 or 1") == 0):
            continue
        rows.append((line, frame, box, fields[6], _MOT_CLASS.get(label, label)))
    unset = all(score in ("-1", "-1.0") for *_, score, _ in rows)
    for line, frame, box, score, label in rows:
        yield FileDetection(frame, line, box, 1.0 if unset else reading.score(score, line), label)


def read_mots(reading: Reading) -> Iterator[FileDetection]:
    """Truth and results of KITTI MOTS (frames from 0) and MOTS Challenge (frames from 1).

    ``frame id class height width rle``. Boxes are the bounds of the masks; empty masks and regions
    to be ignored (class 10) are passed over.
    """
    wanted = "frame id class height width rle"
    for line, fields in _rows(reading, wanted):
        if len(fields) != 6:
            found = f"{len(fields)} fields in {shown(' '.join(fields))}"
            raise reading.fail(line, f"{found}; expected 6: {wanted}")
        frame = reading.frame(fields[0], line)
        label = reading.whole(fields[2], line, "a class number")
        runs = _runs(reading, line, fields[3:])
        x1, y1, x2, y2 = (float(edge) for edge in runs.boxes()[0])
        if label != _IGNORE and x2 > x1:
            yield FileDetection(frame, line, (x1, y1, x2, y2), 1.0, label, runs)


def read_annotations(reading: Reading) -> Iterator[FileDetection]:
    """Objects of annotation files: CVAT's XML, Label Studio's JSON, a table of Parquet.

    Frames between keyframes have boxes on straight lines.
    """
    found: list[AnnotationRow]
    if reading.path.suffix.lower() == ".parquet":
        found = list(read_parquet(reading.path))
    elif reading.path.suffix.lower() == ".json":
        found = _of_tasks(reading)
    else:
        found = list(read_cvat(reading.path))
    found.sort(key=lambda row: (row.object_id, row.frame))
    for _, rows in groupby(found, key=lambda row: row.object_id):
        for row in filled(rows):
            box = reading.box(row.box, 0)
            label = reading.vocabulary.number(row.word)
            mask: MaskRuns | tuple[NDArray[np.float32], ...] | None = None
            if row.counts and ";" in row.counts:  # CVAT's outlines
                pairs = [pair.split(",") for pair in row.counts.split(";")]
                mask = (np.array(pairs, np.float32),)
            elif row.counts and all(row.size):
                mask = _mask(reading, {"size": row.size, "counts": row.counts}, 0)
            if box is not None:
                score = reading.score(row.score, 0)
                yield FileDetection(reading.frame(row.frame, 0), 0, box, score, label, mask)


def _of_tasks(reading: Reading) -> list[AnnotationRow]:
    height, width = _size_of(reading)
    try:
        content = _load(reading)
        if not is_labelstudio(content):
            raise ValueError("expected a list of tasks with data")
        rows = list(labelstudio_rows(content))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        said = f"no {error}" if isinstance(error, KeyError) else shown(str(error))
        raise reading.fail(0, f"not as Label Studio has it: {said}") from None
    made = []
    for row in rows:
        x1, y1, x2, y2 = row.box
        made.append(replace(row, box=(x1 * width, y1 * height, x2 * width, y2 * height)))
    return made


def _size_of(reading: Reading) -> tuple[int, int]:
    if reading.size is None:
        raise reading.fail(0, "its boxes are parts of the frame; say its size, as size=(480, 640)")
    return reading.size


def read_yolo(reading: Reading) -> Iterator[FileDetection]:
    """A folder of YOLO's labels, a file a frame: ``class x y width height [score]``, or outlines.

    One file will do too. Files are called ``<name>_<frame>.txt``; words are those of a
    ``data.yaml`` near them.
    """
    height, width = _size_of(reading)
    for number, word in class_names(reading.path).items():
        reading.vocabulary.add(number, word)
    files = [reading.path] if reading.path.is_file() else list(reading.path.glob("*.txt"))
    for file in natsorted(files, key=lambda path: path.name):
        if file.name == "classes.txt":
            continue
        part = replace(reading, path=file)
        frame = part.frame(frame_number(file), 0)
        for line, text in lines_of(file):
            fields = [part.number(field, line, "a number") for field in text.split()]
            if len(fields) < 5:
                raise part.fail(line, f"{len(fields)} fields; expected class x y width height")
            label = part.whole(fields[0], line, "a class number")
            outline, score = None, 1.0
            if len(fields) in (5, 6):
                x, y, w, h = fields[1:5]
                corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                score = part.score(fields[5], line) if len(fields) == 6 else 1.0
            else:
                points = np.array(fields[1 : len(fields) // 2 * 2 + 1], np.float64)
                points = points[: len(points) // 2 * 2].reshape(-1, 2) * [width, height]
                outline = (np.floor(points).astype(np.float32),)
                low, high = np.floor(points.min(0)), np.floor(points.max(0)) + 1
                corners = [*(low / [width, height]), *(high / [width, height])]
            box = part.box(np.array(corners) * [width, height, width, height], line)
            if box is not None:
                yield FileDetection(frame, line, box, score, label, outline)


def _runs(reading: Reading, line: int, fields: list[str]) -> MaskRuns:
    height = reading.whole(fields[0], line, "the image's height")
    width = reading.whole(fields[1], line, "the image's width")
    try:
        return read_mask(fields[2], (height, width))
    except ValueError as error:
        raise reading.fail(line, f"a mask that cannot be read: {error}") from None


@dataclass(frozen=True)
class DetectionFormat:
    """A file format.

    Attributes:
        box_format: what the numbers of a box are.
        first_frame: what the first frame is called.
        read: reads a file of it.
        names: words for its class numbers.
    """

    box_format: str
    first_frame: int
    read: Callable[[Reading], Iterator[Any]]
    names: Mapping[int, str] = field(default_factory=dict)


FORMATS = {
    "kitti": DetectionFormat("xyxy", 0, read_kitti, KITTI_NAMES),
    "label": DetectionFormat("xyxy", 0, read_kitti_label, LABEL_NAMES),
    "mot": DetectionFormat("xywh", 1, read_mot, MOT_NAMES),
    "mots": DetectionFormat("xyxy", 0, read_mots, KITTI_NAMES),
    "mots-challenge": DetectionFormat("xyxy", 1, read_mots, KITTI_NAMES),
    "coco": DetectionFormat("xywh", 0, read_coco),
    "jsonl": DetectionFormat("xywh", 0, read_jsonl),
    "cvat": DetectionFormat("xyxy", 0, read_annotations),
    "labelstudio": DetectionFormat("xyxy", 0, read_annotations),
    "parquet": DetectionFormat("xyxy", 0, read_annotations),
    "yolo": DetectionFormat("xyxy", 0, read_yolo),
}
"""Formats by name: TrackR-CNN's and Seg2Track's text, KITTI's ``label_02``, MOTChallenge's
``det.txt``, KITTI MOTS, MOTS Challenge, COCO's JSON, JSON lines (recordings too), CVAT's XML, Label
Studio's JSON, tables of Parquet, folders of YOLO's labels."""
