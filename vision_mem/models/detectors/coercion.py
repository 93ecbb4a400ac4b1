"""Whatever detectors return, as ``Detections``: arrays, dicts, lists of tuples, others' results.

Boxes that cannot be used (not a number, no size, upside down) are left out and counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.masks import draw_outlines, mask_to_box
from vision_mem.types import Detections


def is_supervision(answer: Any) -> bool:
    """Whether this looks like ``supervision.Detections``."""
    return all(hasattr(answer, name) for name in ("xyxy", "confidence", "class_id"))


def read_supervision(answer: Any) -> Mapping[str, Any]:
    """The parts of ``supervision.Detections``, by name."""
    words = (getattr(answer, "data", None) or {}).get("class_name")
    labels, names = answer.class_id, None
    if words is not None and labels is not None:
        names = {int(n): str(w) for n, w in zip(labels, words, strict=False)}
    elif words is not None:
        labels = [str(word) for word in words]
    parts = {"boxes": answer.xyxy, "scores": answer.confidence, "labels": labels}
    return parts | {"masks": getattr(answer, "mask", None), "names": names}


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


log = logging.getLogger(__name__)

_EXPECTED = (
    "expected Detections, an array (n, 4), (n, 5) or (n, 6) of x1, y1, x2, y2, score, label, a "
    "dict with boxes, scores and labels, a list of tuples, or a result of supervision or "
    "Ultralytics"
)
# Rounding may carry a probability this far over 1; anything farther is another scale.
_SLACK = 1e-3

_NOT_FINITE, _NO_SIZE, _NO_SCORE = "not finite", "without size", "without score or label"


class Vocabulary:
    """Numbers for words, given in the order of first use; the same word keeps its number.

    Args:
        names: class number to word, known beforehand.
    """

    def __init__(self, names: Mapping[int, str] | None = None) -> None:
        self.names: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        for number, word in (names or {}).items():
            self.add(number, word)

    def add(self, number: int, word: str) -> None:
        """Take over a number and its word, unless the number has one."""
        self.names.setdefault(number, word)
        self._numbers.setdefault(self.names[number], number)

    def number(self, word: str, wish: int | None = None) -> int:
        """The number of a word; a new one when it has none: ``wish`` where that is free."""
        if word not in self._numbers:
            new = max(self.names, default=-1) + 1
            self.add(new if wish is None or wish in self.names else wish, word)
        return self._numbers[word]


def coerce(
    answer: Any,
    size: tuple[int, int] | None = None,
    *,
    vocabulary: Vocabulary | None = None,
    strict: bool = False,
    dropped: Counter[str] | None = None,
) -> Detections | None:
    """Turn what a detector returned into ``Detections``.

    Args:
        answer: ``Detections``; an array or tensor ``(n, 4)``, ``(n, 5)`` or ``(n, 6)`` of x1, y1,
            x2, y2, score, label; a dict with ``boxes`` and, if any, ``scores``, ``labels``,
            ``masks`` (as torchvision's models and transformers' post-processing give); a list of
            rows, of ``(box, score, label)`` or of dicts with ``box``, ``score``, ``label``;
            results of supervision or Ultralytics; None for "no answer". Labels may be words.
        size: ``(height, width)`` of the frame, which masks must have.
        vocabulary: gives words their numbers; keep one for all frames of a stream.
        strict: refuse boxes that cannot be used instead of leaving them out.
        dropped: counts what was left out, by reason; without it a warning is logged.

    Returns:
        The detections, or None for None.

    Raises:
        InputError: for anything else; scores outside 0 to 1; masks of another size; with
            ``strict``, for boxes that are not finite or have no size.
    """
    if answer is None:
        return None
    if isinstance(answer, Detections):
        _check_masks(answer.masks, size)
        return answer
    vocabulary = Vocabulary() if vocabulary is None else vocabulary
    found = _read(answer, size)
    for number, word in dict(found.get("names") or {}).items():
        vocabulary.add(int(number), str(word))
    masks = _masks(found.get("masks"), size)
    boxes = _boxes(found.get("boxes"), masks)
    n = len(boxes)
    scores = _column(found.get("scores"), n, "scores", 1.0)
    labels = _labels(found.get("labels"), n, vocabulary)
    embeddings = found.get("embeddings")
    good = _usable(boxes, scores, labels, strict, dropped)
    if ((scores[good] < -_SLACK) | (scores[good] > 1 + _SLACK)).any():
        worst = scores[good][np.abs(scores[good] - 0.5).argmax()]
        raise InputError(
            f"a score is {worst:g}; expected 0 to 1: divide percentages by 100, take the sigmoid "
            "of logits"
        )
    return Detections(
        boxes[good],
        np.clip(scores[good], 0.0, 1.0).astype(np.float32),
        labels[good].astype(np.int64),
        masks=None if masks is None else masks[good],
        embeddings=None if embeddings is None else as_numpy(embeddings)[good],
        names=dict(vocabulary.names),
    )


def as_numpy(value: Any) -> NDArray[Any]:
    """An array, tensor (of any device and precision) or nested list as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)


def _read(answer: Any, size: tuple[int, int] | None) -> Mapping[str, Any]:
    """The parts of an answer, by name."""
    if isinstance(answer, Mapping):
        return _from_mapping(answer)
    if is_ultralytics(answer):
        return read_ultralytics(answer, size)
    if is_supervision(answer):
        return read_supervision(answer)
    if isinstance(answer, np.ndarray) or hasattr(answer, "detach"):
        return _from_array(as_numpy(answer))
    if isinstance(answer, Sequence) and not isinstance(answer, (str, bytes)):
        return _from_list(answer, size)
    raise InputError(f"a detector returned {_shown(answer)}; {_EXPECTED}")


def _from_mapping(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    # Grounding DINO warns when its "labels" are touched: they are going to change.
    words = answer.get("text_labels")
    return {
        "boxes": _first(answer, "boxes", "bboxes", "xyxy"),
        "scores": _first(answer, "scores", "confidence"),
        "labels": words if words is not None else _first(answer, "labels", "classes"),
        "masks": answer.get("masks"),
        "embeddings": answer.get("embeddings"),
        "names": answer.get("names"),
    }


def _first(answer: Mapping[str, Any], *keys: str) -> Any:
    return next((answer[key] for key in keys if answer.get(key) is not None), None)


def _from_array(rows: NDArray[Any]) -> Mapping[str, Any]:
    if rows.size == 0:
        return {"boxes": np.empty((0, 4))}
    if rows.ndim != 2 or rows.shape[1] not in (4, 5, 6) or rows.dtype.kind not in "fiub":
        raise InputError(
            f"a detector returned an array of shape {rows.shape} and type {rows.dtype}; {_EXPECTED}"
        )
    names = ("scores", "labels")[: rows.shape[1] - 4]
    return {"boxes": rows[:, :4], **{name: rows[:, 4 + k] for k, name in enumerate(names)}}


def _from_list(answer: Sequence[Any], size: tuple[int, int] | None) -> Mapping[str, Any]:
    if len(answer) == 0:
        return {"boxes": np.empty((0, 4))}
    first = answer[0]
    # Models that take batches answer with a list of one.
    if len(answer) == 1 and (is_ultralytics(first) or _is_whole(first)):
        return _read(first, size)
    if isinstance(answer, tuple) and len(answer) in (2, 3) and _axes(first) == 2:
        return dict(zip(("boxes", "scores", "labels"), answer, strict=False))
    rows = [_row(each) for each in answer]
    boxes, scores, labels = zip(*rows, strict=True)
    given = {"boxes": list(boxes)}
    for name, column in (("scores", scores), ("labels", labels)):
        if any(value is not None for value in column):
            given[name] = [np.nan if value is None else value for value in column]
    return given


def _is_whole(answer: Any) -> bool:
    """Whether this is the answer for a whole frame rather than one object."""
    if isinstance(answer, Mapping):
        return any(key in answer for key in ("boxes", "bboxes", "xyxy", "masks"))
    return is_supervision(answer) or _axes(answer) == 2


def _axes(value: Any) -> int:
    """How many axes an array, tensor or even nested list has; 0 for what is none."""
    try:
        return as_numpy(value).ndim
    except (TypeError, ValueError):  # lists of unequal lengths
        return 0


def _row(each: Any) -> tuple[Any, Any, Any]:
    """Box, score and label of one object; None for what it does not say."""
    if isinstance(each, Mapping):
        box = each.get("box", each.get("bbox"))
        if isinstance(box, Mapping):  # transformers' pipelines
            box = [box.get(key, np.nan) for key in ("xmin", "ymin", "xmax", "ymax")]
        return box, each.get("score"), each.get("label")
    row = list(each) if isinstance(each, (Sequence, np.ndarray)) else []
    if row and _axes(row[0]) == 1:
        row = [*as_numpy(row[0]), *row[1:]]
    if len(row) not in (4, 5, 6) or isinstance(each, str):
        raise InputError(f"a detector returned a list with {_shown(each)} in it; {_EXPECTED}")
    row += [None] * (6 - len(row))
    return row[:4], row[4], row[5]


def _boxes(given: Any, masks: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    if given is None and masks is not None:
        given = [mask_to_box(mask) for mask in masks]
    if given is None:
        raise InputError(f"a detector's answer has no boxes; {_EXPECTED}")
    try:
        # 1e300 becomes infinite, and is left out.
        with np.errstate(over="ignore", invalid="ignore"):
            boxes = as_numpy(given).astype(np.float32)
    except (TypeError, ValueError):
        raise InputError(f"boxes are {_shown(given)}; expected (n, 4) numbers") from None
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes have shape {boxes.shape}; expected (n, 4): x1, y1, x2, y2")
    return boxes


def _column(given: Any, n: int, what: str, missing: float) -> NDArray[np.float64]:
    if given is None:
        return np.full(n, missing)
    try:
        column = as_numpy(given).astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} are {_shown(given)}; expected {n} numbers") from None
    if column.shape != (n,):
        raise InputError(f"{what} have shape {column.shape}; expected ({n},) as there are boxes")
    return column


def _labels(given: Any, n: int, vocabulary: Vocabulary) -> NDArray[np.float64]:
    words = [] if given is None or hasattr(given, "detach") else list(given)
    if any(isinstance(word, str) for word in words):
        given = [vocabulary.number(word) if isinstance(word, str) else word for word in words]
    return _column(given, n, "labels", 0.0)


def _masks(given: Any, size: tuple[int, int] | None) -> NDArray[np.bool_] | None:
    if given is None:
        return None
    masks = as_numpy(given)
    if masks.size == 0 and size is not None:
        return np.zeros((len(masks) if masks.ndim == 3 else 0, *size), bool)
    if masks.ndim == 4 and masks.shape[1] == 1:  # torchvision: (n, 1, H, W) probabilities
        masks = masks[:, 0]
    if masks.ndim != 3:
        raise InputError(f"masks have shape {masks.shape}; expected (n, H, W)")
    masks = masks > 0.5 if masks.dtype.kind == "f" else masks.astype(bool)
    _check_masks(masks, size)
    return np.asarray(masks)


def _check_masks(masks: NDArray[np.bool_] | None, size: tuple[int, int] | None) -> None:
    if masks is not None and size is not None and masks.shape[1:] != size:
        raise InputError(
            f"masks are {masks.shape[2]}x{masks.shape[1]} pixels but the frame is "
            f"{size[1]}x{size[0]}; bring them to the frame's size"
        )


def _usable(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float64],
    labels: NDArray[np.float64],
    strict: bool,
    dropped: Counter[str] | None,
) -> NDArray[np.bool_]:
    """``(n,)`` bool: which boxes can be used; the others are refused or counted."""
    finite = np.isfinite(boxes).all(axis=1)
    sized = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    known = np.isfinite(scores) & np.isfinite(labels)
    faults = {_NOT_FINITE: ~finite, _NO_SIZE: finite & ~sized, _NO_SCORE: finite & sized & ~known}
    count = Counter({reason: int(bad.sum()) for reason, bad in faults.items() if bad.any()})
    if count and strict:
        bad = int(np.flatnonzero(~(finite & sized & known))[0])
        raise InputError(
            f"box {bad} is {boxes[bad].tolist()} ({next(iter(count))}); expected finite numbers "
            "with x1 < x2 and y1 < y2, and a score"
        )
    if dropped is not None:
        dropped.update(count)
    elif count:
        log.warning("%s", told(count))
    return np.asarray(finite & sized & known)


class LeftOut(Counter[str]):
    """Counts boxes that were left out, by reason, and says so now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._told = 0

    def tell(self, name: str, frame_index: int) -> None:
        """Warn at the first box, then whenever there are ten times as many as last time."""
        if self.total() > (10 * self._told if self._told else 0):
            self._told = self.total()
            log.warning("detector %s, up to frame %d: %s", name, frame_index, told(self))

    def clear(self) -> None:
        """Begin again."""
        super().clear()
        self._told = 0


def told(dropped: Counter[str]) -> str:
    """A line about boxes that were left out."""
    total = dropped.total()
    reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
    return f"{total} box{'' if total == 1 else 'es'} left out: {reasons}"


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (int, float, str, list, tuple)) else ""
    return text if 0 < len(text) <= 60 else f"a {type(value).__name__}"
