"""Results of supervision and Ultralytics, told by their attributes; neither package is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vision_mem.geometry.masks import draw_outlines


def is_supervision(answer: Any) -> bool:
    """Whether this looks like ``supervision.Detections``."""
    return all(hasattr(answer, name) for name in ("xyxy", "confidence", "class_id"))


def read_supervision(answer: Any) -> Mapping[str, Any]:
    """The parts of ``supervision.Detections``, by name."""
    words = (getattr(answer, "data", None) or {}).get("class_name")
    names = None
    if words is not None and answer.class_id is not None:
        names = {int(n): str(w) for n, w in zip(answer.class_id, words, strict=False)}
    labels = answer.class_id
    if labels is None and words is not None:
        labels = [str(word) for word in words]
    return {
        "boxes": answer.xyxy,
        "scores": answer.confidence,
        "labels": labels,
        "masks": getattr(answer, "mask", None),
        "names": names,
    }


def is_ultralytics(answer: Any) -> bool:
    """Whether this looks like one of Ultralytics' ``Results``."""
    return hasattr(getattr(answer, "boxes", None), "xyxy") and hasattr(answer, "names")


def read_ultralytics(answer: Any, size: tuple[int, int] | None) -> Mapping[str, Any]:
    """The parts of one of Ultralytics' ``Results``, by name.

    Its masks are at the network's size, with a border; its outlines (``masks.xy``) are in pixels
    of the image, so those are drawn.
    """
    shape = size or getattr(answer, "orig_shape", None)
    outlines = getattr(getattr(answer, "masks", None), "xy", None)
    masks = None
    if outlines is not None and shape is not None:
        drawn = [draw_outlines([np.asarray(each, np.float32)], shape) for each in outlines]
        masks = np.stack(drawn) if drawn else np.zeros((0, *shape), bool)
    names = answer.names
    return {
        "boxes": answer.boxes.xyxy,
        "scores": answer.boxes.conf,
        "labels": answer.boxes.cls,
        "masks": masks,
        "names": names if isinstance(names, Mapping) else dict(enumerate(names)),
    }
