"""Files of many objects' masks: MOTS text and MOTS PNG, as KITTI MOTS and MOTS Challenge have them.

A text line is ``frame id class height width rle``; a pixel of a 16-bit PNG is class * 1000 +
instance. ``read_*`` refuse a file that official scorers refuse, naming the line; ``check_*``
list everything that is wrong with it.

Source:
    MOTS (arXiv 1902.03604) and its tools; TrackEval 1.3.0 for what is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.rle import (
    MAX_SIDE,
    MaskRuns,
    joined,
    overlapping,
    parse_runs,
    runs_of_labels,
)
from vision_mem.formats.track_rows import (
    Findings,
    TrackRows,
    check_duplicates,
    check_frames,
    lister,
    track_rows,
    whole,
)
from vision_mem.text import shown

CLASS_STEP = 1000
"""Ids of a class begin here: class 2 has 2000 to 2999."""

WIDE_STEP = 1_000_000
"""The same for instances that do not fit below ``CLASS_STEP``; in text files only."""

IGNORED_CLASS, IGNORED_ID = 10, 10_000
"""What marks regions where nothing is counted."""

_FIELDS = "frame id class height width rle"
_PLAIN = re.compile(r"(\d{1,15}) (\d{1,15}) (\d{1,15}) (\d{1,6}) (\d{1,6}) (\S+)$", re.ASCII)


@dataclass(frozen=True)
class MotsLayout:
    """Where benchmarks of masks differ.

    Attributes:
        title: as people call the set.
        first_frame: number of the first frame in its files.
        classes: those that are scored, by number.
    """

    title: str
    first_frame: int
    classes: Mapping[int, str] = field(default_factory=dict)


KITTI_MOTS = MotsLayout("KITTI MOTS", 0, {1: "car", 2: "pedestrian"})
MOTS_CHALLENGE = MotsLayout("MOTS Challenge", 1, {2: "pedestrian"})


def mots_id(object_id: int, class_id: int) -> int:
    """The id of an object in MOTS files, from its own number alone.

    Instances below 1000 give ``class * 1000 + instance`` as the benchmarks have it. Larger ones
    would run into the ids of the next class; they give ``class * 1000000 + instance``, which text
    files can hold and scorers take, since these read the class from its own column.

    Raises:
        InputError: for numbers outside 0 to 999999, or classes outside 1 to 64 and the class of
            ignored regions.
    """
    if not 0 <= object_id < WIDE_STEP:
        raise InputError(
            f"object id {object_id} does not fit into MOTS files; expected 0 to 999999"
        )
    if not 1 <= class_id <= 64 or class_id == IGNORED_CLASS:
        raise InputError(
            f"class {class_id} does not fit into MOTS files; expected 1 to 64, and not "
            f"{IGNORED_CLASS}, which marks ignored regions"
        )
    step = CLASS_STEP if object_id < CLASS_STEP else WIDE_STEP
    return class_id * step + object_id


def read_mots_text(
    text: str,
    where: str | Path,
    layout: MotsLayout = KITTI_MOTS,
    *,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> TrackRows:
    """Read a MOTS text file.

    Args:
        text: what it holds.
        where: the file, for messages.
        layout: which benchmark's.
        frames: how many the sequence has; None: any.
        size: ``(height, width)`` of its images; None: that of the first line, if all agree.

    Raises:
        InputError: for what official scorers refuse (lines that cannot be read, frames that are
            not there, ids that stand twice in a frame, masks that overlap), and for masks of
            another size; with the line.
    """
    found = Findings(str(where))
    rows = _parse(text, found, layout, frames, size)
    found.refuse()
    return rows


def read_mots_pngs(
    images: Sequence[tuple[int, Path]],
    where: str | Path,
    layout: MotsLayout = KITTI_MOTS,
    *,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> TrackRows:
    """Read a sequence of MOTS PNG images.

    Args:
        images: number as in the file's name, and the file, of each.
        where: their folder, for messages.
        layout: which benchmark's.
        frames: how many the sequence has; None: any.
        size: ``(height, width)`` of its images; None: that of the first, if all agree.

    Raises:
        InputError: for images that cannot be read, are no 16-bit grey ones, differ in size or
            belong to no frame; the file is named.
    """
    found = Findings(str(where))
    rows = _parse_images(images, found, layout, frames, size)
    found.refuse()
    return rows


def _parse(
    text: str,
    found: Findings,
    layout: MotsLayout = KITTI_MOTS,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> TrackRows:
    columns: list[tuple[int, int, int, int]] = []
    lengths: list[str] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not line.strip():
            continue
        row = _row(line, number, found, layout)
        if row is None:
            continue
        own = row[3], row[4]
        if size is None:
            size = own
        if own != size:
            found.add(
                number, "size",
                f"the mask is {_size(own)}; expected {_size(size)} (height x width) as the "
                "sequence's other masks",
            )  # fmt: skip
            continue
        columns.append((row[0], row[1], row[2], number))
        lengths.append(row[5])
    masks, wrong = parse_runs(lengths, size or (0, 0))
    for index, reason in wrong.items():
        found.add(columns[index][3], "rle", f"{reason}; expected COCO's compressed run lengths")
    rows = track_rows(np.array(columns, np.int64).reshape(-1, 4), masks=masks)
    readable = np.ones(len(rows), dtype=bool)
    readable[list(wrong)] = False
    _check(found, rows, masks, layout, frames, readable)
    return rows


def _row(
    line: str, number: int, found: Findings, layout: MotsLayout
) -> tuple[int, int, int, int, int, str] | None:
    plain = _PLAIN.match(line)
    if plain is not None:
        # Nearly every line; the rest says what is wrong with the others.
        numbers = [int(text) for text in plain.groups()[:5]]
        frame, identity, kind, height, width = numbers
        if 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE:
            return frame - layout.first_frame, identity, kind, height, width, plain[6]
    fields = line.split()
    if len(fields) != 6:
        found.add(
            number, "format",
            f"{len(fields)} fields in {shown(line)}; expected 6: {_FIELDS}",
        )  # fmt: skip
        return None
    values = {name: whole(text) for name, text in zip(_FIELDS.split(), fields[:5], strict=False)}
    known = [value for value in values.values() if value is not None]
    if len(known) < len(values):
        named = ", ".join(name for name, value in values.items() if value is None)
        found.add(number, "format", f"{named} is no whole number in {shown(line)}")
        return None
    frame, identity, kind, height, width = known
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        found.add(
            number, "size",
            f"the mask is {_size((height, width))}; expected sides of 1 to {MAX_SIDE} pixels",
        )  # fmt: skip
        return None
    if identity < 0 or kind < 0:
        found.add(number, "id", f"id {identity} of class {kind} is negative")
        return None
    return frame - layout.first_frame, identity, kind, height, width, fields[5]


def _parse_images(
    images: Sequence[tuple[int, Path]],
    found: Findings,
    layout: MotsLayout = KITTI_MOTS,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> TrackRows:
    columns = []
    parts: list[MaskRuns] = []
    for number, path in images:
        frame = number - layout.first_frame
        if frame < 0 or (frames is not None and frame >= frames):
            found.add(0, "frame", f"frame {number} is not in the sequence", where=str(path))
            continue
        try:
            labels = read_mots_labels(path)
        except InputError as error:
            found.add(0, "format", str(error).removeprefix(f"{path} "), where=str(path))
            continue
        if size is None:
            size = labels.shape
        if labels.shape != size:
            found.add(
                0, "size", f"the image is {_size(labels.shape)}; expected {_size(size)} "
                "(height x width) as the sequence's others", where=str(path),
            )  # fmt: skip
            continue
        values, runs = runs_of_labels(labels)
        for value in values[values < CLASS_STEP]:
            found.add(
                0, "id", f"value {value} tells no class; expected class * 1000 + instance",
                where=str(path),
            )  # fmt: skip
        columns += [(frame, value, value // CLASS_STEP, 0) for value in values.tolist()]
        parts.append(runs)
    masks = joined(parts, size or (0, 0))
    rows = track_rows(np.array(columns, np.int64).reshape(-1, 4), masks=masks)
    _note_classes(found, rows, layout)
    return rows


check_mots_text, check_mots_pngs = lister(_parse), lister(_parse_images)
"""What is wrong with MOTS text, and with PNG images; arguments as of ``read_*``.

Besides what is refused there: classes that are not scored, ids that do not tell their class,
empty masks.
"""


def read_mots_labels(path: Path) -> NDArray[np.uint16]:
    """Values of a MOTS PNG, ``(H, W)`` uint16.

    Raises:
        InputError: when it cannot be read, or is no 16-bit grey image.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            mode = picture.mode
            if max(picture.size) > MAX_SIDE:
                raise InputError(f"{path} has a side of more than {MAX_SIDE} pixels")
            values: NDArray[Any] = np.asarray(picture)
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read as an image: {reason}") from None
    if not mode.startswith("I") or values.ndim != 2 or (values.size and values.max() > 0xFFFF):
        raise InputError(
            f"{path} is an image of kind {mode}; expected 16-bit grey: class * 1000 + instance"
        )
    return values.astype(np.uint16)


def _check(
    found: Findings,
    rows: TrackRows,
    masks: MaskRuns,
    layout: MotsLayout,
    frames: int | None,
    readable: NDArray[np.bool_],
) -> None:
    check_frames(found, rows, layout.first_frame, frames)
    ignored = rows.classes == IGNORED_CLASS
    check_duplicates(found, rows, layout.first_frame, ~ignored)
    # A frame far outside would make the count through all frames run over.
    _, place = np.unique(rows.frames, return_inverse=True)
    for one, other in overlapping(masks, place.ravel().astype(np.int64)):
        if ignored[one] and ignored[other]:
            continue  # several regions may make up what is ignored
        found.add(
            max(rows.lines[one], rows.lines[other]), "overlap",
            f"the mask of id {rows.ids[other]} shares pixels with that of id {rows.ids[one]} in "
            f"frame {rows.frames[one] + layout.first_frame}, line "
            f"{min(rows.lines[one], rows.lines[other])}; each pixel belongs to one object",
        )  # fmt: skip
    for row in np.flatnonzero((masks.areas == 0) & readable):
        found.add(rows.lines[row], "empty", "the mask is empty: a miss, and an error", fatal=False)
    steps = np.stack([rows.ids // CLASS_STEP, rows.ids // WIDE_STEP])
    for row in np.flatnonzero((steps != rows.classes).all(axis=0)):
        kind, identity = rows.classes[row], rows.ids[row]
        found.add(
            rows.lines[row], "id", f"id {identity} does not tell its class {kind}; expected "
            f"{kind} * 1000 + instance", fatal=False,
        )  # fmt: skip
    _note_classes(found, rows, layout)


def _note_classes(found: Findings, rows: TrackRows, layout: MotsLayout) -> None:
    known = (*layout.classes, IGNORED_CLASS)
    for kind in np.unique(rows.classes[~np.isin(rows.classes, known)]):
        first = int(np.flatnonzero(rows.classes == kind)[0])
        named = ", ".join(f"{number} ({name})" for number, name in layout.classes.items())
        found.add(
            rows.lines[first], "class",
            f"class {kind} is not scored in {layout.title}; expected {named}", fatal=False,
        )  # fmt: skip


def _size(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]}"
