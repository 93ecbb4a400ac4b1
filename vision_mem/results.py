"""What drawings, progress and files need of a result, whichever system it comes from.

The functions turn one into what other programs take: JSON, COCO, supervision, pandas.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import MissingExtra
from vision_mem.formats.rle import encode_mask
from vision_mem.geometry.boxes import box_to_xywh
from vision_mem.types import Event


class ShownObject(Protocol):
    """One object on one frame; see ``types.ObjectResult``."""

    @property
    def object_id(self) -> int:
        """Its id, for ever."""

    @property
    def name(self) -> str:
        """A word for people."""

    @property
    def present(self) -> bool:
        """Whether it is to be seen."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``(H, W)`` at the frame's size."""

    @property
    def box(self) -> NDArray[np.float32]:
        """``(4,)`` pixels, right and bottom exclusive; zeros when absent."""

    @property
    def score(self) -> float:
        """Estimated IoU of the mask, in [0, 1]."""

    @property
    def state(self) -> str:
        """``sure``, ``unsure`` or ``lost``; of a track, what became of it."""

    @property
    def diary(self) -> Mapping[str, Any]:
        """Why it came out this way; JSON-ready."""


class ShownTrack(ShownObject, Protocol):
    """One track on one frame; see ``mots.TrackResult``."""

    @property
    def class_name(self) -> str:
        """The word for its class."""

    @property
    def state(self) -> str:
        """``tentative``, ``confirmed``, ``weak`` or ``lost``."""

    @property
    def detection(self) -> int | None:
        """Which detection of the frame it is; None when it was not detected."""


class Seen(Protocol):
    """What is said of one frame, whatever it is about."""

    @property
    def frame_index(self) -> int:
        """Number of the frame in its source."""

    @property
    def time_s(self) -> float:
        """Seconds."""

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the frame."""

    @property
    def events(self) -> Sequence[Event]:
        """What happened on the frame."""


class Shown(Seen, Protocol):
    """What is said of the objects of one frame."""

    @property
    def objects(self) -> Sequence[ShownObject]:
        """Everything that is followed, to be seen or not."""


class ShownTracks(Shown, Protocol):
    """What is said of the tracks of one frame."""

    @property
    def objects(self) -> Sequence[ShownTrack]:
        """Every track that is followed, to be seen or not."""


# -- a result for other programs ---------------------------------------------------------------


def object_row(each: ShownObject) -> dict[str, Any]:
    """One object as JSON-ready values; what only tracks or only objects say is left out.

    ``box`` is ``[x1, y1, x2, y2]``, ``area`` pixels of the mask; both are None when absent.
    """
    row: dict[str, Any] = {"object_id": int(each.object_id), "name": each.name}
    for key in ("class_name", "state"):
        if hasattr(each, key):
            row[key] = getattr(each, key)
    seen = bool(each.present)
    return row | {
        "present": seen,
        "score": round(float(each.score), 5),
        "box": [round(float(value), 3) for value in each.box] if seen else None,
        "area": int(np.count_nonzero(each.mask)) if seen else None,
    }


def as_dict(result: Shown) -> dict[str, Any]:
    """``ResultViews.to_dict``."""
    objects = []
    for each in result.objects:
        mask = {"size": list(each.mask.shape), "counts": encode_mask(each.mask)}
        objects.append(object_row(each) | {"segmentation": mask if each.present else None})
    return {
        "frame_index": result.frame_index,
        "time_s": result.time_s,
        "size": list(result.size),
        "objects": objects,
        "events": [asdict(event) for event in result.events],
    }


def as_coco(result: Shown) -> list[dict[str, Any]]:
    """``ResultViews.to_coco``."""
    return [
        {
            "image_id": result.frame_index,
            "category_id": int(getattr(each, "label", each.object_id)),
            "track_id": int(each.object_id),
            "bbox": [round(float(value), 3) for value in box_to_xywh(each.box)],
            "area": int(np.count_nonzero(each.mask)),
            "segmentation": {"size": list(each.mask.shape), "counts": encode_mask(each.mask)},
            "iscrowd": 0,
            "score": round(float(each.score), 5),
            "attributes": {"name": each.name},
        }
        for each in result.objects if each.present
    ]  # fmt: skip


def as_supervision(result: Shown) -> Any:
    """``ResultViews.to_supervision``."""
    supervision = needed("supervision", "to_supervision")
    shown = [each for each in result.objects if each.present]
    count = len(shown)
    masks = np.zeros((count, *result.size), bool)
    for row, each in enumerate(shown):
        masks[row] = each.mask
    ids = np.array([each.object_id for each in shown], int)
    words = [str(getattr(each, "class_name", each.name)) for each in shown]
    return supervision.Detections(
        xyxy=np.array([each.box for each in shown], np.float32).reshape(count, 4),
        mask=masks,
        confidence=np.array([each.score for each in shown], np.float32),
        class_id=np.array([getattr(each, "label", each.object_id) for each in shown], int),
        tracker_id=ids,
        data={
            "class_name": np.array(words, dtype=np.str_),
            "name": np.array([each.name for each in shown], dtype=np.str_),
        },
    )


def as_table(results: Iterable[Shown]) -> Any:
    """A ``pandas.DataFrame``, one row an object and frame; see ``api.ResultList.to_pandas``.

    Raises:
        MissingExtra: when pandas is not installed.
    """
    pandas = needed("pandas", "to_pandas")
    rows = []
    for result in results:
        for each in result.objects:
            row = {"frame": result.frame_index, "time_s": result.time_s} | object_row(each)
            corners = row.pop("box") or [None] * 4
            rows.append(row | dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True)))
    columns = ["frame", "time_s", "object_id", "name", "present", "score", "area"]
    table = pandas.DataFrame(rows, columns=None if rows else [*columns, "x1", "y1", "x2", "y2"])
    numbers = dict.fromkeys(("area", "x1", "y1", "x2", "y2"), "float64")
    return table.astype(numbers)


def needed(package: str, what: str) -> Any:
    """A package of the extra ``interop``.

    Raises:
        MissingExtra: when it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtra(
            f"{what} needs {package}, which is not installed: pip install 'vision-mem[interop]'"
        ) from None
