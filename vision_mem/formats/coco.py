"""COCO's JSON for videos: ``videos``, ``images``, ``annotations`` with masks and track ids.

The layout is that of COCO with the keys that video tools add: ``video_id`` and ``frame_id`` of an
image, ``track_id`` of an annotation. Source: cocodataset.org, "data format".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.formats.annotation_rows import AnnotationRow, Frames, VideoAbout
from vision_mem.formats.rle import read_mask
from vision_mem.geometry.masks import mask_outlines


def write_coco(
    write: Callable[[str], Any],
    frames: Frames,
    about: VideoAbout,
    *,
    polygons: bool = False,
) -> None:
    """Write a data set of one video, a frame after the other.

    Args:
        write: takes the next piece of text.
        frames: of the journal; gone through twice.
        about: the video.
        polygons: outlines instead of run lengths; holes are cut open, so that masks stay equal.
    """
    video = {"id": 1, "name": about.name, "width": about.width, "height": about.height}
    write('{"info": ' + _text({"description": about.file, "version": "1.0"}))
    write(', "licenses": [], "videos": [' + _text(video | {"fps": about.fps}) + "],\n")
    write('"images": [')
    _list(write, (image_of(line, number, about) for number, (line, _) in _numbered(frames)))
    write('],\n"annotations": [')
    words: dict[str, int] = {}
    _list(write, _annotations(frames, words, polygons))
    categories = [{"id": number, "name": word} for word, number in words.items()]
    write('],\n"categories": ' + _text(categories) + "}\n")


def _numbered(frames: Frames) -> Iterator[tuple[int, Any]]:
    return enumerate(frames(), 1)


def image_of(line: Mapping[str, Any], number: int, about: VideoAbout) -> dict[str, Any]:
    """The entry of a frame; ``frame_id`` is its number in the source, from 0."""
    height, width = line["size"]
    return {
        "id": number,
        "file_name": f"{about.name}/{line['frame']:06d}.jpg",
        "width": width,
        "height": height,
        "video_id": 1,
        "frame_id": line["frame"],
        "time_s": line["time_s"],
    }


def _annotations(frames: Frames, words: dict[str, int], polygons: bool) -> Iterator[dict[str, Any]]:
    count = 0
    for image, (_, rows) in _numbered(frames):
        for row in rows:
            count += 1
            category = words.setdefault(row.word, len(words) + 1)
            x1, y1, x2, y2 = row.box
            yield {
                "id": count,
                "image_id": image,
                "video_id": 1,
                "track_id": row.object_id,
                "category_id": category,
                "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                "area": row.area,
                "segmentation": segmentation_of(row, polygons),
                "iscrowd": 0,
                "score": row.score,
                "attributes": {"name": row.name, "track_id": row.object_id},
            }


def segmentation_of(row: AnnotationRow, polygons: bool) -> Any:
    """The mask of a row as COCO says it; an empty list where there is none."""
    if row.counts is None:
        return []
    if not polygons:
        return {"size": list(row.size), "counts": row.counts}
    mask = read_mask(row.counts, row.size).mask(0)
    return [outline.ravel().astype(int).tolist() for outline in mask_outlines(mask)]


def fill_outlines(
    outlines: Sequence[NDArray[np.float32]], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """The mask of outlines as COCO's own tools fill them, ``(H, W)``.

    Args:
        outlines: ``(k, 2)`` corners x, y each, along the edges of pixels.
        size: ``(height, width)``.

    Raises:
        ValueError: for outlines without three corners.
    """
    from pycocotools import mask as coco

    if any(len(each) < 3 or not np.isfinite(each).all() for each in outlines):
        raise ValueError("an outline without three finite corners")
    runs = coco.merge(coco.frPyObjects([each.ravel().tolist() for each in outlines], *size))
    return read_mask(runs["counts"], size).mask(0)


def _list(write: Callable[[str], Any], items: Iterator[dict[str, Any]]) -> None:
    separator = "\n"
    for item in items:
        write(separator + _text(item))
        separator = ",\n"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def is_coco(content: Any) -> bool:
    """Whether JSON is a data set of COCO's."""
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)


def coco_rows(content: Mapping[str, Any]) -> Iterator[tuple[AnnotationRow, Any]]:
    """Rows of a data set with their ``segmentation``, in the order of the file.

    Images without ``frame_id`` or ``frame_index`` count by their file names.

    Raises:
        KeyError, TypeError, ValueError: when it is not as COCO has it.
    """
    from natsort import natsorted

    images = list(content["images"])
    key = next((k for k in ("frame_id", "frame_index") if all(k in i for i in images)), None)
    if key is None:
        images = natsorted(images, key=lambda image: str(image.get("file_name", image["id"])))
    frames = {image["id"]: place if key is None else int(image[key])
              for place, image in enumerate(images)}  # fmt: skip
    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in images}
    words = {each["id"]: str(each["name"]) for each in content.get("categories", ())}
    for number, each in enumerate(content["annotations"]):
        if each.get("iscrowd"):
            continue
        x, y, width, height = (float(value) for value in each["bbox"])
        more = each.get("attributes") or {}
        identity = each.get("track_id", each.get("instance_id", more.get("track_id")))
        word = words.get(each["category_id"], f"class-{each['category_id']}")
        row = AnnotationRow(
            frames[each["image_id"]],
            -1 - number if identity is None else int(identity),
            word,
            str(more.get("name", word)),
            (x, y, x + width, y + height),
            score=float(each.get("score", 1.0)),
            size=sizes[each["image_id"]],
        )
        if not np.isfinite(row.box).all():
            raise ValueError(f"annotation {number} has a box that is not finite")
        yield row, each.get("segmentation")
