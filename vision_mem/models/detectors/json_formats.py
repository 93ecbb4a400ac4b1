"""Detections as JSON: COCO's files, and lines of them: recordings, masks of a run, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from natsort import natsorted
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.rle import MaskRuns, read_mask
from vision_mem.models.detectors.coercion import Vocabulary
from vision_mem.models.detectors.file_records import Found, Reading, lines_of, shown

_MOST_BYTES = 1 << 30


def read_coco(reading: Reading, vocabulary: Vocabulary) -> Iterator[Found]:
    """COCO JSON: annotations with their images and categories, or a list of results.

    With ``images``, frames are their ``frame_id`` or ``frame_index`` where they have one, else
    their place in the order of their file names. In a list of results ``image_id`` is the frame's
    number. Crowd regions are passed over; scores are 1 where there are none.

    Args:
        reading: how to read the file.
        vocabulary: the categories' words are added.

    Raises:
        InputError: a file that is not JSON, or not COCO's.
    """
    content = _load(reading)
    frames = None
    if isinstance(content, Mapping):
        frames = _frames(reading, content.get("images"))
        for each in _objects(reading, content.get("categories", []), "categories"):
            number = reading.whole(each.get("id"), 0, "a category's id")
            vocabulary.add(number, str(each.get("name", number)))
        content = content.get("annotations")
    for index, each in enumerate(_objects(reading, content, "annotations")):
        if each.get("iscrowd"):
            continue
        place = f"annotation {index}"
        if frames is None:
            frame = reading.frame(each.get("image_id"), 0)
        else:
            try:
                frame = frames[each.get("image_id")]
            except (KeyError, TypeError):
                raise reading.fail(
                    0, f"{place} belongs to image {shown(each.get('image_id'))}, which is not there"
                ) from None
        found = _found(reading, each, frame, 0, vocabulary)
        if found is not None:
            yield found


def _load(reading: Reading) -> Any:
    path = reading.path
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InputError(f"{path} has {size >> 20} MB; expected at most {_MOST_BYTES >> 20}")
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path of the detections") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)[:100]


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
    reading: Reading, vocabulary: Vocabulary
) -> Iterator[tuple[int, int, Mapping[str, Any], list[Found]]]:
    """JSON lines: a frame a line, or an object a line.

    A line with ``boxes`` is a recording's (``Recorder``); one with ``objects`` is of the masks
    that ``vision-mem`` writes; others are single results as COCO has them, with ``frame`` or
    ``image_id``.

    Yields:
        Frame from 0, line number, the line's content, and the objects; a recording's objects are
        left to the caller.

    Raises:
        InputError: with file and line number.
    """
    for line, text in lines_of(reading.path):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise reading.fail(line, f"not JSON: {_reason(error)}") from None
        if not isinstance(content, Mapping):
            raise reading.fail(line, f"{shown(content)}; expected an object: {{...}}")
        number = content.get("frame", content.get("image_id"))
        if number is None:
            raise reading.fail(line, f"no frame number in {shown(text)}; expected 'frame'")
        frame = reading.frame(number, line)
        found: list[Found | None] = []
        if "objects" in content:
            for each in _objects(reading, content["objects"], f"line {line}: objects"):
                found.append(_found(reading, each, frame, line, vocabulary))
        elif "boxes" not in content and "answer" not in content:
            found.append(_found(reading, content, frame, line, vocabulary))
        yield frame, line, content, [each for each in found if each is not None]


def _found(
    reading: Reading, each: Mapping[str, Any], frame: int, line: int, vocabulary: Vocabulary
) -> Found | None:
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
        label = vocabulary.number(word)
    else:
        label = reading.whole(word, line, "a class number or word")
    return None if box is None else Found(frame, line, box, score, label, mask)


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
