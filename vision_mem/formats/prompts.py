"""What a user points at, as words and files: boxes, points, masks and first-line text files.

The grammar is ``[NAME=]WHAT[@FRAME]``: ``10,20,30,40``, ``dog=10,20,30,40``,
``dog=10,20,30,40@25``. Prompts of one name belong to one object; without a frame they go with
the first frame of the stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import near_file
from vision_mem.errors import InputError
from vision_mem.formats.annotation_rows import AnnotationRow
from vision_mem.formats.coco import coco_rows, fill_outlines, is_coco
from vision_mem.formats.cvat import read_cvat
from vision_mem.formats.labelstudio import is_labelstudio
from vision_mem.formats.parquet import read_parquet
from vision_mem.formats.rle import read_mask as read_runs
from vision_mem.text import decoded, one_line, parse_json, shown
from vision_mem.types import Prompt

FIRST = -1  # "the first frame of the stream, whatever its number"

HOW = (
    "say what to follow: --box x,y,w,h (left, top, width, height in pixels), --point x,y, "
    "--mask FILE.png, --init FILE or --text WORDS; for example --box dog=120,80,60,90"
)

_MOST_BYTES = 1 << 24
"""Of a file of prompts; a larger one is something else."""
_MOST_ANNOTATIONS = 1 << 28
"""Bytes of a file of annotations."""

# More grey levels than this in a mask file mean soft edges, not objects.
_MOST_OBJECTS = 64


@dataclass(frozen=True)
class PromptPlan:
    """Which prompts go with which frame.

    Attributes:
        by_frame: frame number of the source, or ``FIRST``, to its prompts.
        typed: boxes that were typed as x,y,w,h: frame, text, and the four numbers. Some people
            mean corners, which shows when the frame's size is known.
    """

    by_frame: Mapping[int, tuple[Prompt, ...]] = field(default_factory=dict)
    typed: tuple[tuple[int, str, tuple[float, ...]], ...] = ()

    def __bool__(self) -> bool:
        return any(self.by_frame.values())

    @property
    def frames(self) -> list[int]:
        """Frame numbers that were asked for, in order, ``FIRST`` left out."""
        return sorted(frame for frame in self.by_frame if frame != FIRST)

    def of_parts(self) -> PromptPlan:
        """The same, its clicks without a box meaning parts of things.

        Raises:
            InputError: when there are no such clicks.
        """

        def meant(prompt: Prompt) -> Prompt:
            alone = prompt.points is not None and prompt.box is None
            return replace(prompt, part=True) if alone else prompt

        made = {frame: tuple(map(meant, some)) for frame, some in self.by_frame.items()}
        if not any(prompt.part for some in made.values() for prompt in some):
            raise InputError("--part says what a --point means; give a --point without a box")
        return PromptPlan(made)

    def at(self, index: int, previous: int | None) -> tuple[Prompt, ...]:
        """Prompts due on frame ``index``.

        Args:
            index: number of the frame in hand.
            previous: number of the frame before it, None on the first one. Prompts of frames in
                between, which the source left out, are due now.

        Returns:
            Prompts in the order of their frames.
        """
        due = list(self.by_frame.get(FIRST, ())) if previous is None else []
        for frame in self.frames:
            if frame <= index and (previous is None or frame > previous):
                due += self.by_frame[frame]
        return tuple(due)


def plan_prompts(
    *,
    boxes: Sequence[str] = (),
    points: Sequence[str] = (),
    not_points: Sequence[str] = (),
    masks: Sequence[str] = (),
    init: str | Path | None = None,
) -> PromptPlan:
    """Read everything a user pointed at.

    Args:
        boxes: ``[NAME=]x,y,w,h[@FRAME]``; x and y are the left top corner in pixels. Or two
            corners, ``[NAME=]xyxy:x1,y1,x2,y2[@FRAME]``.
        points: ``[NAME=]x,y[@FRAME]``, each on the object.
        not_points: the same, each off the object.
        masks: ``[NAME=]FILE[@FRAME]``; every value but 0 in the picture is an object.
        init: a file, see ``read_init``.

    Returns:
        The plan. Points join the box or the other points of their name and frame; points
        without a name join the one box without a name, or each other.

    Raises:
        InputError: for anything that cannot be read.
    """
    found: list[tuple[int, Prompt]] = []
    typed: list[tuple[int, str, tuple[float, ...]]] = []
    for text in boxes:
        name, what, frame = _parts(text, "box")
        where = f"--box {_brief(text)}"
        found.append((frame, Prompt(box=box_of(what, where), name=name)))
        if not what.strip().lower().startswith("xyxy:"):
            typed.append((frame, _brief(text), tuple(_numbers(what, 4, where))))
    clicks: dict[tuple[int, str | None], list[tuple[float, float, int]]] = {}
    for texts, label, option in ((points, 1, "point"), (not_points, 0, "not-point")):
        for text in texts:
            name, what, frame = _parts(text, option)
            x, y = _numbers(what, 2, f"--{option} {_brief(text)}")
            clicks.setdefault((frame, name), []).append((x, y, label))
    for (frame, name), clicked in clicks.items():
        _join(found, frame, name, clicked)
    for text in masks:
        found += _read_mask(text)
    if init is not None:
        found += read_init(init)
    return PromptPlan(number_objects(found), tuple(typed))


def read_init(path: str | Path) -> list[tuple[int, Prompt]]:
    """Read the first box of a benchmark's text file, prompts from JSON, or annotations.

    Args:
        path: text whose first line is ``x,y,w,h`` (commas, tabs or spaces; LaSOT, GOT-10k and
            OTB files), or the one after the names of columns; or JSON: a list, or lines, of
            ``{"name", "frame", "box": [x, y, w, h], "points": [[x, y], ...], "labels",
            "mask": "file.png"}``, all but one of box, points and mask optional; ``xyxy`` with two
            corners may stand for the box. At most 16 MB. Or a file of annotations: COCO's JSON,
            CVAT's XML, a table of Parquet; each object is prompted where it is first to be seen,
            with its mask where there is one.

    Returns:
        ``(frame, prompt)`` pairs; frame is ``FIRST`` when none was named.

    Raises:
        InputError: when it cannot be read.
    """
    path = Path(path).expanduser()
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"--init {path} is a device or a pipe; expected a text file")
        if path.suffix.lower() in (".parquet", ".xml") and path.is_file():
            return _first_seen(path)
        most = _MOST_ANNOTATIONS if path.suffix.lower() == ".json" else _MOST_BYTES
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise InputError(
                f"--init {path} is larger than {most >> 20} MB; expected x,y,w,h, JSON prompts or "
                "annotations"
            )
        text = decoded(content).strip()
    except UnicodeDecodeError as error:
        raise InputError(f"--init {path} is not text; expected x,y,w,h or JSON prompts") from error
    except OSError as error:
        raise InputError(
            f"--init {path} cannot be read as text: {_reason(error)}{_instead(path)}"
        ) from error
    if text.startswith(("[", "{")):
        return _read_json(path, text)
    lines = text.splitlines() or [""]
    # Tables of people's own begin with the names of their columns.
    line = lines[1] if len(lines) > 1 and re.fullmatch(r"[A-Za-z_,;\s\"]+", lines[0]) else lines[0]
    where = f"--init {path}, first line {_brief(line)!r}"
    return [(FIRST, Prompt(box=_corners(_numbers(line, 4, where), where)))]


def _read_json(path: Path, text: str) -> list[tuple[int, Prompt]]:
    rows = text.splitlines()
    if len(rows) > 1 and all(row.startswith("{") and row.endswith("}") for row in rows if row):
        text = f"[{','.join(row for row in rows if row)}]"  # JSON lines
    items = parse_json(text, f"--init {path}")
    if is_coco(items):
        return _first_seen(path, items)
    if is_labelstudio(items):
        raise InputError(
            f"--init {path} is of Label Studio, whose boxes are parts of a frame of unknown size; "
            "export COCO or CVAT there, or use it with mots --detect file:"
        )
    items = items.get("prompts", [items]) if isinstance(items, dict) else items
    if not isinstance(items, list):
        raise InputError(f"--init {path}: prompts are {shown(items)}; expected a list")
    found: list[tuple[int, Prompt]] = []
    for number, item in enumerate(items):
        where = f"--init {path}, prompt {number}"
        if not isinstance(item, dict) or (odd := sorted(set(item) - set(_INIT_KEYS))):
            key = f"has the key {shown(odd[0])}" if isinstance(item, dict) else ""
            raise InputError(f"{where} {key or f'is {shown(item)}'}; expected {_INIT_EXAMPLE}")
        frame, name = item.get("frame", FIRST), item.get("name")
        if not isinstance(frame, int) or isinstance(frame, bool) or frame < FIRST:
            raise InputError(f"{where}: frame is {shown(frame)}; expected a number from 0")
        if name is not None and not (isinstance(name, str) and name.strip()):
            raise InputError(f"{where}: name is {shown(name)}; expected a word")
        name = name and one_line(name)
        if "mask" in item:
            mask = path.parent / str(item["mask"])
            found += [(frame, prompt) for prompt in read_mask(mask, name, f"{where}: mask {mask}")]
            continue
        box, points, labels = item.get("box"), item.get("points"), item.get("labels")
        if "xyxy" in item and box is not None:
            raise InputError(f"{where}: it has box and xyxy; expected one of them")
        order, box = ("xyxy:", item["xyxy"]) if "xyxy" in item else ("", box)
        if box is not None:
            flat = isinstance(box, list) and all(type(v) in (int, float) for v in box)
            box = ",".join(map(repr, box)) if flat and len(box) == 4 else _brief(repr(box))
            box = box_of(f"{order}{box}", f"{where}: box {_brief(box)}")
        try:
            prompt = Prompt(box=box, points=points, labels=labels, name=name)
        except InputError as error:
            raise InputError(f"{where}: {_brief(str(error), 200)}") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{where}: points or labels hold no numbers; expected {_INIT_EXAMPLE}"
            ) from error
        found.append((frame, prompt))
    return found


def _first_seen(path: Path, content: Any = None) -> list[tuple[int, Prompt]]:
    """A prompt for each object of a file of annotations, where it is first to be seen."""
    found: dict[int, tuple[AnnotationRow, NDArray[np.bool_] | None]] = {}
    names: dict[str, int] = {}
    for row, outline in _annotated(path, content):
        if row.outside or (row.object_id in found and found[row.object_id][0].frame <= row.frame):
            continue
        found[row.object_id] = row, _drawn(row, outline, path)
    if not found:
        raise InputError(f"--init {path} holds no object; expected one annotation or more")
    prompts = []
    for row, mask in sorted(found.values(), key=lambda pair: pair[0].frame):
        # Cars are all called car in some files: here one name is one object.
        count = names[row.name] = names.get(row.name, 0) + 1
        name = one_line(row.name if count == 1 else f"{row.name}-{count}")
        if mask is not None and mask.any():
            prompts.append((row.frame, Prompt(mask=mask, name=name)))
        elif row.box[2] > row.box[0] and row.box[3] > row.box[1]:
            prompts.append((row.frame, Prompt(box=np.array(row.box, np.float32), name=name)))
        else:
            raise InputError(f"--init {path}: {name!r} has a box without area on frame {row.frame}")
    return prompts


def _annotated(path: Path, content: Any) -> Iterator[tuple[AnnotationRow, Any]]:
    if content is None:
        rows = read_parquet(path) if path.suffix.lower() == ".parquet" else read_cvat(path)
        for row in rows:
            yield row, row.counts
        return
    try:
        yield from coco_rows(content)
    except (KeyError, TypeError, ValueError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else _brief(str(error), 120)
        raise InputError(f"--init {path} is not as COCO has it: {said}") from None


def _drawn(row: AnnotationRow, outline: Any, path: Path) -> NDArray[np.bool_] | None:
    """The mask of a row, where its file says one: run lengths, or COCO's outlines."""
    if not outline or not all(row.size) or (isinstance(outline, str) and ";" in outline):
        return None
    try:
        if isinstance(outline, str):
            return read_runs(outline, row.size).mask(0)
        if isinstance(outline, Mapping):
            height, width = outline["size"]
            return read_runs(outline["counts"], (int(height), int(width))).mask(0)
        # Edges of pixels: the middle of a pixel is what counts as in it.
        corners = [np.reshape(np.asarray(each, np.float32), (-1, 2)) for each in outline]
        return fill_outlines(corners, row.size)
    except (KeyError, TypeError, ValueError) as error:
        said = _brief(str(error), 120)
        raise InputError(f"--init {path}: a mask cannot be read ({said})") from None


_INIT_KEYS = ("name", "frame", "box", "xyxy", "points", "labels", "mask")
_INIT_EXAMPLE = '{"name": "cup", "frame": 0, "box": [x, y, width, height]}, or points, labels, mask'


def read_mask(path: str | Path, name: str | None = None, where: str | None = None) -> list[Prompt]:
    """Read a mask picture: palette, grey or 16-bit, one object for each value but 0.

    Args:
        path: PNG or another lossless picture. One with soft edges (many grey levels) or with
            colours counts as one object, bright against dark.
        name: name of the object; several get ``name-<value>``.
        where: the picture in messages; ``--mask`` and its path when left out.

    Returns:
        One prompt an object, in the order of their values.

    Raises:
        InputError: when it cannot be read or shows no object.
    """
    from PIL import Image

    path = Path(path).expanduser()
    where = where or f"--mask {path}"
    try:
        with Image.open(path) as picture:
            if picture.mode in ("RGB", "RGBA", "CMYK", "LA", "PA", "YCbCr", "HSV"):
                values = np.asarray(picture.convert("RGB")).max(axis=2)
                values = (values > 127).astype(np.int32)
            else:
                values = np.asarray(picture).astype(np.int32)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{where} cannot be read as a picture: {_reason(error)}{_instead(path)}"
        ) from error
    objects = [int(value) for value in np.unique(values) if value != 0]
    if len(objects) > _MOST_OBJECTS:
        values = (values > values.max() / 2).astype(np.int32)
        objects = [1]
    if not objects:
        raise InputError(f"{where} shows no object: all its pixels are 0")
    if len(objects) == 1:
        return [Prompt(mask=values == objects[0], name=name)]
    stem = name or "object"
    return [Prompt(mask=values == value, name=f"{stem}-{value}") for value in objects]


def _read_mask(text: str) -> list[tuple[int, Prompt]]:
    if Path(text).expanduser().is_file():  # names of files may hold "=" and "@"
        return [(FIRST, prompt) for prompt in read_mask(text)]
    name, file, frame = _parts(text, "mask")
    return [(frame, prompt) for prompt in read_mask(file, name)]


def _parts(text: str, option: str) -> tuple[str | None, str, int]:
    what, at, after = text.rpartition("@")
    frame = FIRST
    if at and re.fullmatch(r"\s*\d+\s*", after):
        frame = int(after)
    elif at and option != "mask":
        where = f"--{option} {_brief(text)}: {_brief(after)!r}"
        raise InputError(f"{where} is no frame number; expected @25 or so")
    else:
        what = text
    name, equals, value = what.partition("=")
    if not equals:
        return None, what, frame
    if not name.strip():
        raise InputError(f"--{option} {_brief(text)}: the name before '=' is empty")
    return one_line(name.strip()), value, frame


def _numbers(text: str, count: int, where: str, fields: str = "") -> list[float]:
    fields = fields or ("x,y,w,h" if count == 4 else "x,y")
    text = text.strip().removeprefix("xywh:")
    # No four numbers are longer, and a line may be anything.
    text = text.strip()[:1000]
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    if len(parts) != count and ";" in text:  # as tables of countries that write 1,5
        parts = [part.strip().replace(",", ".") for part in text.split(";")]
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < 1e9 for number in numbers):  # nor NaN
        raise InputError(f"{where}: expected {count} numbers {fields}, in pixels")
    return numbers


def box_of(text: str, where: str) -> NDArray[np.float32]:
    """A box as people type it, ``x,y,w,h`` or ``xyxy:x1,y1,x2,y2``, as corners.

    Args:
        text: what was typed.
        where: what it was typed for, for errors.

    Returns:
        float32 ``(4,)`` x1, y1, x2, y2.

    Raises:
        InputError: for anything else, and boxes without area.
    """
    order, colon, rest = text.strip().partition(":")
    if not colon or order.lower() == "xywh":
        return _corners(_numbers(rest if colon else text, 4, where), where)
    if order.lower() != "xyxy":
        raise InputError(
            f"{where}: {_brief(order)!r} is no order of numbers; expected xyxy: or xywh:"
        )
    x1, y1, x2, y2 = _numbers(rest, 4, where, "x1,y1,x2,y2")
    if not (x2 > x1 and y2 > y1):
        raise InputError(
            f"{where}: the box has no area; expected xyxy:x1,y1,x2,y2 with x1 < x2 and y1 < y2"
        )
    return np.array([x1, y1, x2, y2], np.float32)


def _corners(box: Sequence[float], where: str) -> NDArray[np.float32]:
    x, y, width, height = box
    if not (width > 0 and height > 0):
        raise InputError(
            f"{where}: the box has no area; expected x,y,w,h with width and height above 0"
        )
    return np.array([x, y, x + width, y + height], np.float32)


def _brief(text: str, most: int = 60) -> str:
    """A text of the user's as messages repeat it, cut to a length."""
    return text if len(text) <= most else f"{text[:most]}..."


def _join(
    found: list[tuple[int, Prompt]],
    frame: int,
    name: str | None,
    clicked: Sequence[tuple[float, float, int]],
) -> None:
    points = np.array([click[:2] for click in clicked], np.float32)
    labels = np.array([click[2] for click in clicked], np.int32)
    same = [i for i, (at, p) in enumerate(found) if (at, p.name) == (frame, name)]
    if len(same) > 1:
        raise InputError(
            f"{len(same)} boxes {f'are called {name!r}' if name else 'have no name'}, so it is "
            "not clear which one the points belong to; give each box a name of its own"
        )
    if same:
        found[same[0]] = (frame, replace(found[same[0]][1], points=points, labels=labels))
    elif not labels.any():
        raise InputError(
            f"there are only --not-point clicks{f' for {name!r}' if name else ''}; add a --point "
            "or a --box that is on the object"
        )
    else:
        found.append((frame, Prompt(points=points, labels=labels, name=name)))


def number_objects(found: Sequence[tuple[int, Prompt]]) -> dict[int, tuple[Prompt, ...]]:
    """Give one id to all prompts of one name, counted from 1 in the order of appearance.

    Args:
        found: ``(frame, prompt)`` pairs; ids that they have are replaced.

    Raises:
        InputError: for two prompts of one name on one frame.
    """
    ids: dict[str, int] = {}
    seen: set[tuple[int, str]] = set()
    plan: dict[int, tuple[Prompt, ...]] = {}
    count = 0
    for frame, prompt in sorted(found, key=lambda item: item[0]):
        if prompt.name is None or prompt.name not in ids:
            count += 1
        object_id = count if prompt.name is None else ids.setdefault(prompt.name, count)
        if prompt.name is not None:
            if (frame, prompt.name) in seen:
                raise InputError(
                    f"{prompt.name!r} has two boxes or masks on one frame; give each object a "
                    "name of its own, or another frame with @FRAME"
                )
            seen.add((frame, prompt.name))
        plan[frame] = (*plan.get(frame, ()), replace(prompt, object_id=object_id))
    return plan


def _instead(path: Path) -> str:
    near = "" if path.exists() else near_file(path)
    return f"; did you mean {near!r}?" if near else ""


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return _brief(" ".join(str(text).split()), 200)


def describe(prompt: Prompt) -> dict[str, Any]:
    """A prompt as JSON-ready values, masks as their number of pixels; for run records."""
    box = None if prompt.box is None else [float(v) for v in prompt.box]
    points = None if prompt.points is None else prompt.points.tolist()
    labels = None if prompt.labels is None else prompt.labels.tolist()
    pixels = None if prompt.mask is None else int(prompt.mask.sum())
    values = {"name": prompt.name, "object_id": prompt.object_id, "box_xyxy": box}
    values |= {"points": points, "labels": labels, "mask_pixels": pixels}
    values |= {"part": True if prompt.part else None}
    return {key: value for key, value in values.items() if value is not None}
