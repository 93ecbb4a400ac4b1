"""What the outputs of an exported detector mean, told from their shapes, names and first values.

Exports of YOLO v5 to v12 have one array: a row an anchor with centre, size, perhaps an objectness,
and class scores (v5 to v7), the same on its side (v8, v9, v11, v12), or finished boxes (v10, and
exports with their suppression inside). RT-DETR, D-FINE and RF-DETR have boxes and class scores of
queries, or boxes, labels and scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import ModelError

Array = NDArray[np.float32]

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's eighty classes, in the order in which networks have them."""

_NOT_USED = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Of COCO's numbers 0 to 90; networks with 91 classes have places for them."""

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32))
_NORMAL = 2.0
"""Boxes up to here are shares of the picture; in pixels some are larger."""
_TASKS = ("detect", "segment", "pose", "")


def coco_names(count: int) -> dict[int, str]:
    """COCO's words for a network of 80 classes, or of 91; nothing for other counts."""
    if count == len(COCO):
        return dict(enumerate(COCO))
    if count in (91, 92):  # the last of 92 says that nothing is there
        return dict(zip((n for n in range(91) if n not in _NOT_USED), COCO, strict=True))
    return {}


@dataclass(frozen=True)
class OutputLayout:
    """Which output is what.

    Attributes:
        kind: ``anchors`` (centre, size, objectness, classes), ``columns`` and ``rows`` (centre,
            size, classes; an anchor a column or a row), ``finished`` (corners, score, class),
            ``batched`` (number of the picture, corners, class, score), ``queries`` (boxes, and
            class scores apart), ``listed`` (boxes, labels and scores apart).
        classes: how many there are; None where outputs do not tell.
        boxes, labels, scores, amount: numbers of outputs; -1 for none.
        shares: boxes are shares of the picture, not pixels.
        centred: boxes are centre and size, not corners.
        swapped: y comes before x.
        chances: how class scores become chances: ``as they are``, ``sigmoid`` or ``softmax``.
        suppress: boxes of one object overlap, and the best is to be chosen.
    """

    kind: str
    classes: int | None = None
    boxes: int = 0
    labels: int = -1
    scores: int = -1
    amount: int = -1
    shares: bool = False
    centred: bool = True
    swapped: bool = False
    chances: str = "as they are"
    suppress: bool = False


def find_layout(
    names: Sequence[str],
    outputs: Sequence[NDArray[np.generic]],
    size: tuple[int, int],
    count: int | None,
    notes: Mapping[str, str],
) -> OutputLayout:
    """Say what the outputs are.

    Args:
        names: of the outputs.
        outputs: for one picture.
        size: ``(height, width)`` of the picture that went in.
        count: classes that the file names; None when it names none.
        notes: of the file: ``task`` and ``end2end`` of Ultralytics' exports.

    Raises:
        ModelError: for a network that is no detector, or one that is not known.
    """
    task = notes.get("task", "").strip().lower()
    if task not in _TASKS:
        what = {"classify": "says what a whole picture shows", "obb": "gives rotated boxes"}
        raise ModelError(
            f"is a network of kind {task!r}, which {what.get(task, 'is no detector')}; expected "
            "one that gives boxes: export a model of detection"
        )
    apart = _apart(names, outputs, count)
    if apart is not None:
        return apart
    tall = [k for k, out in enumerate(outputs) if out.ndim == 3 and out.shape[0] == 1]
    if tall:
        wrong: ModelError | None = None
        for kind, classes in _together(outputs[tall[0]], size, count, notes):
            try:
                return _checked(kind, outputs, tall[0], classes)
            except ModelError as error:
                wrong = wrong or error
        if wrong is not None:
            raise wrong
    flat = outputs[0]
    if len(outputs) == 1 and flat.ndim == 2 and flat.shape[1] in (6, 7) and flat.shape[0] != 1:
        kind = "finished" if flat.shape[1] == 6 else "batched"
        return OutputLayout(kind, centred=False)
    shapes = ", ".join(
        f"{name} {'x'.join(map(str, out.shape))}" for name, out in zip(names, outputs, strict=True)
    )
    if len(outputs) == 1 and flat.ndim == 2:
        raise ModelError(
            f"says what a whole picture shows ({flat.shape[1]} scores), not where; expected a "
            "detector"
        )
    known = "" if count is None else f" for the {count} classes that it names"
    raise ModelError(
        f"has outputs ({shapes[:200]}) that are none of a detector known here{known}; expected an "
        "export of YOLO v5 to v12, RT-DETR, D-FINE or RF-DETR"
    )


def _together(
    output: NDArray[np.generic],
    size: tuple[int, int],
    count: int | None,
    notes: Mapping[str, str],
) -> list[tuple[str, int | None]]:
    """Kinds and numbers of classes that one array ``(1, a, b)`` may have, likeliest first."""
    a, b = output.shape[1:]
    anchors = {
        n for strides in _STRIDES if (n := sum((size[0] // s) * (size[1] // s) for s in strides))
    }
    thrice = {3 * n for n in anchors}
    if b == 6 and notes.get("end2end", "").strip().lower() == "true":
        return [("finished", None)]
    ways: list[tuple[str, int | None]] = []
    extra = _extra(notes)
    for classes in (count,) if count is not None else (80, 91):
        if a == 4 + classes + extra:
            ways.append(("columns", classes))
        if b == 5 + classes + extra:
            ways.append(("anchors", classes))
        if b == 4 + classes + extra:
            ways.append(("rows", classes))
    if not ways and count is None:
        if b in anchors and a > 4:
            ways.append(("columns", a - 4))
        if a in thrice | anchors and b > 5:
            ways.append(("anchors", b - 5))
    certain = [way for way in ways if (b if way[0] == "columns" else a) in anchors | thrice]
    if b == 6 and not certain and all(way[0] != "columns" for way in ways):
        return [("finished", None)]
    return certain or ways


def _extra(notes: Mapping[str, str]) -> int:
    """Numbers behind the class scores: of masks, or of joints."""
    task = notes.get("task", "").strip().lower()
    if task == "segment":
        return 32
    joints = re.findall(r"\d+", notes.get("kpt_shape", "")) if task == "pose" else []
    return int(joints[0]) * int(joints[1]) if len(joints) == 2 else 0


def _checked(
    kind: str, outputs: Sequence[NDArray[np.generic]], place: int, classes: int | None
) -> OutputLayout:
    """The layout of an array, if its first values bear it out."""
    rows = _rows(np.asarray(outputs[place][0], np.float32), kind)
    layout = OutputLayout(kind, classes, place, centred=kind != "finished")
    if kind == "finished":
        return layout
    if len(rows) and (rows[:, 2:4] < 0).any():
        raise ModelError(
            "gives boxes that are not decoded (as YOLOX does); export it with decoding inside"
        )
    end = None if classes is None else (5 if kind == "anchors" else 4) + classes
    chances = rows[:, 4:end]
    if len(rows) and (chances.min() < -0.01 or chances.max() > 1.01):
        raise ModelError(
            "has an output like a detector's, with scores that are not from 0 to 1; expected an "
            "export of YOLO v5 to v12, RT-DETR, D-FINE or RF-DETR"
        )
    shares = _are_shares(rows[:, :4])
    # Networks of queries say each object once; their boxes are shares of the picture.
    return OutputLayout(
        kind, classes, place, shares=shares, centred=layout.centred,
        suppress=not (shares and kind == "rows"),
    )  # fmt: skip


def _rows(array: Array, kind: str) -> Array:
    return array.T if kind == "columns" else array


def _are_shares(boxes: Array) -> bool:
    return bool(len(boxes)) and 0 < float(np.abs(boxes).max()) <= _NORMAL


def _apart(
    names: Sequence[str], outputs: Sequence[NDArray[np.generic]], count: int | None
) -> OutputLayout | None:
    """Boxes in an output of their own, with scores and perhaps labels in others."""
    if len(outputs) < 2:
        return None
    boxes = [k for k, out in enumerate(outputs) if out.ndim in (2, 3) and out.shape[-1] == 4]
    boxes.sort(key=lambda k: not re.search(r"box|dets", names[k], re.IGNORECASE))
    if not boxes:
        return None
    place = boxes[0]
    number = outputs[place].shape[-2]
    found = np.asarray(outputs[place], np.float32).reshape(-1, 4)
    swapped = names[place].startswith("detection_boxes")  # of TensorFlow
    rest = [k for k in range(len(outputs)) if k != place]
    listed = [k for k in rest if outputs[k].shape in ((number,), (1, number))]
    grids = [k for k in rest if outputs[k].ndim == outputs[place].ndim
             and outputs[k].shape[-2] == number]  # fmt: skip
    amount = next((k for k in rest if outputs[k].size == 1 and k not in grids
                   and re.search("num", names[k], re.IGNORECASE)), -1)  # fmt: skip
    listed = [k for k in listed if k != amount]
    if len(listed) >= 2:
        labels = next((k for k in listed if outputs[k].dtype.kind in "iu"), -1)
        if labels < 0:
            said = [k for k in listed if re.search("label|cls|class", names[k], re.IGNORECASE)]
            labels = said[0] if said else -1
        scores = next((k for k in listed if k != labels), -1)
        if labels >= 0:
            return OutputLayout(
                "listed", None, place, labels, scores, amount, _are_shares(found), False, swapped
            )
    if not grids:
        return None
    scores = grids[0]
    values = np.asarray(outputs[scores], np.float32)
    classes, shares = values.shape[-1], _are_shares(found)
    chances = "as they are"
    if values.size and (values.min() < -1e-3 or values.max() > 1 + 1e-3):
        last = classes == 92 or (count is not None and classes == count + 1)
        chances = "softmax" if last else "sigmoid"
    # Finished queries say each object once; boxes in pixels are those of every anchor.
    return OutputLayout(
        "queries", classes, place, scores=scores, shares=shares, centred=shares, swapped=swapped,
        chances=chances, suppress=not shares,
    )  # fmt: skip


def read_outputs(
    layout: OutputLayout,
    outputs: Sequence[NDArray[np.generic]],
    size: tuple[int, int],
    min_score: float,
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Boxes of one picture.

    Args:
        layout: of these outputs.
        outputs: of the network.
        size: ``(height, width)`` of the picture that went in.
        min_score: boxes below are left out.

    Returns:
        ``(n, 4)`` corners in pixels of that picture, ``(n,)`` scores, ``(n,)`` class numbers.
    """
    given = [np.asarray(out) for out in outputs]
    boxes, scores, labels = _parts(layout, given)
    keep = scores >= min_score
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    if layout.swapped:
        boxes = boxes[:, [1, 0, 3, 2]]
    if layout.shares:
        boxes = boxes * np.array([size[1], size[0]] * 2, np.float32)
    if layout.centred:
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return boxes, scores, labels.astype(np.int64)


def _parts(
    layout: OutputLayout, outputs: Sequence[NDArray[np.generic]]
) -> tuple[Array, Array, NDArray[np.generic]]:
    main = np.asarray(outputs[layout.boxes], np.float32)
    if layout.kind == "listed":
        boxes = main.reshape(-1, 4)
        scores = np.asarray(outputs[layout.scores], np.float32).reshape(-1)
        labels = outputs[layout.labels].reshape(-1)
        if layout.amount >= 0:
            most = int(outputs[layout.amount].reshape(-1)[0])
            boxes, scores, labels = boxes[:most], scores[:most], labels[:most]
        return boxes, scores, labels
    if layout.kind == "queries":
        values = np.asarray(outputs[layout.scores], np.float32)
        return main.reshape(-1, 4), *_best(values.reshape(-1, values.shape[-1]), layout.chances)
    rows = _rows(main.reshape(main.shape[-2:]), layout.kind)
    if layout.kind == "finished":
        return rows[:, :4], rows[:, 4], rows[:, 5]
    if layout.kind == "batched":
        return rows[:, 1:5], rows[:, 6], rows[:, 5]
    assert layout.classes is not None
    first = 5 if layout.kind == "anchors" else 4
    scores, labels = _best(rows[:, first : first + layout.classes], layout.chances)
    if layout.kind == "anchors":
        scores = scores * rows[:, 4]
    return rows[:, :4], scores, labels


def _best(values: Array, chances: str) -> tuple[Array, NDArray[np.int64]]:
    """The best class of each row ``(n, classes)``, with its score."""
    if chances == "softmax":
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values = (values / values.sum(axis=1, keepdims=True))[:, :-1]
    labels = values.argmax(axis=1)
    scores = np.take_along_axis(values, labels[:, None], axis=1)[:, 0]
    if chances == "sigmoid":
        return (1 / (1 + np.exp(-np.clip(scores, -60, 60)))).astype(np.float32), labels
    return scores.astype(np.float32), labels
