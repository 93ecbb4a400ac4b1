"""Detectors exported to ONNX files: YOLO v5 to v12, RT-DETR, D-FINE, RF-DETR and the like."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, ModelError, NotThere
from vision_mem.formats.text import text_lines
from vision_mem.models.detectors.coercion import LeftOut, Vocabulary, coerce
from vision_mem.models.detectors.filters import non_maximum
from vision_mem.models.detectors.onnx_outputs import (
    OutputLayout,
    coco_names,
    find_layout,
    read_outputs,
)
from vision_mem.models.onnx_runtime import open_graph, reason_of
from vision_mem.text import short
from vision_mem.types import Detections, Frame

log = logging.getLogger(__name__)

_USUAL_SIDE, _STRIDE, _PADDING = 640, 32, 114
_MOST_BOXES = 1000
"""The best of so many raw boxes are compared with each other."""
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB
_NAME_NOTES = ("names", "class_names", "classes", "id2label")
_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True)
class _PictureInput:
    """What the network takes a picture as.

    Attributes:
        name: of the input.
        kind: of its numbers.
        height, width: pixels; None where any will do.
        last: the colours are the last axis, not the second.
    """

    name: str
    kind: type[np.generic]
    height: int | None
    width: int | None
    last: bool


class OnnxDetector:
    """A detector from an ONNX file, with ONNX Runtime.

    Pictures are fitted in with their shape kept and a grey border for YOLO, and stretched for
    networks of queries, as both were trained. Where the file names no classes and there are 80
    or 91, they are taken for COCO's, and that is said.

    Args:
        path: the file.
        device: ``auto``, or a torch device: CUDA is used where this ONNX Runtime has it.
        min_score: boxes below are left out.
        iou: overlap above which the lower of two boxes of a class goes; not for exports that have
            done that.
        names: words for the classes; None for those of the file.

    Raises:
        MissingExtra: when ONNX Runtime is not installed.
        ModelError: for a file that is missing, damaged, or no detector's.
    """

    stateful = False
    reports_absence = True

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "auto",
        min_score: float = 0.1,
        iou: float = 0.7,
        names: Mapping[int, str] | None = None,
    ) -> None:
        if not 0 <= min_score <= 1 or not 0 <= iou <= 1:
            raise InputError(f"min_score is {min_score} and iou {iou}; expected 0 to 1")
        place = Path(path).expanduser()
        self._session = _opened(place, device)
        self.name = place.name
        self._min_score, self._iou = min_score, iou
        notes = dict(self._session.get_modelmeta().custom_metadata_map or {})
        self._input, self._sizes_input = _inputs(self._session, place)
        self._outputs = [out.name for out in self._session.get_outputs()]
        self._usual = _usual_side(notes)
        self._stride = (
            max(int(notes["stride"]), 1) if notes.get("stride", "").isdecimal() else _STRIDE
        )
        said = dict(names) if names is not None else _noted_names(notes)
        self._normalize = False
        self._layout = OutputLayout("finished")  # until the first look, which tells
        self._layout = self._first_look(place, len(said) or None, notes)
        self._names = said or coco_names(self._layout.classes or 0)
        self._normalize = self._wants_imagenet()
        self._tell_names(place, bool(said))
        self.dropped = LeftOut()

    def detect(self, frame: Frame) -> Detections | None:
        picture, scale, shift = self._fitted(frame.image)
        size = picture.shape[0], picture.shape[1]
        outputs = self._run(picture)
        boxes, scores, labels = read_outputs(self._layout, outputs, size, self._min_score)
        boxes = np.asarray((boxes - np.tile(shift, 2)) / np.tile(scale, 2), np.float32)
        if self._layout.suppress:
            best = np.argsort(-scores, kind="stable")[:_MOST_BOXES]
            kept = best[non_maximum(boxes[best], scores[best], labels[best], self._iou)]
            boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        height, width = frame.size
        boxes = boxes.clip(0, [width, height, width, height])
        found = {"boxes": boxes, "scores": scores.clip(0, 1), "labels": labels}
        answer = coerce(found, frame.size, vocabulary=Vocabulary(self._names), dropped=self.dropped)
        self.dropped.tell(self.name, frame.index)
        return answer

    def reset(self) -> None:
        self.dropped.clear()

    def close(self) -> None:
        """Nothing is held but weights."""

    def _first_look(self, place: Path, count: int | None, notes: Mapping[str, str]) -> OutputLayout:
        """Show it a grey picture, and see what comes out."""
        height, width = self._input.height or self._usual, self._input.width or self._usual
        grey = np.full((height, width, 3), _PADDING, np.uint8)
        try:
            outputs = self._run(grey)
            return find_layout(self._outputs, outputs, (height, width), count, notes)
        except ModelError as error:
            raise ModelError(f"{place} {error}") from None
        except Exception as error:  # the runtime has a kind of its own for each
            raise ModelError(
                f"{place} cannot look at a picture of {width}x{height}: {reason_of(error)}"
            ) from error

    def _wants_imagenet(self) -> bool:
        """Whether colours are to be centred and scaled: RF-DETR and DETR were trained so."""
        named = "dets" in self._outputs
        return self._layout.kind == "queries" and (named or self._layout.classes in (91, 92))

    def _tell_names(self, place: Path, said: bool) -> None:
        if said:
            return
        if self._names:
            count = self._layout.classes
            log.warning("%s names no classes; its %s are taken for COCO's", place, count)
        else:
            log.warning(
                "%s names no classes: they are class-0, class-1, ...; give words for them with "
                "onnx:%s,names=FILE (a line a class), or names=coco", place, place,
            )  # fmt: skip

    def _fitted(
        self, image: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """The picture at the network's size; pixels are where they were, times scale plus shift."""
        height, width = image.shape[:2]
        stretched = self._layout.kind in ("queries", "listed") or (
            self._layout.kind == "rows" and self._layout.shares
        )
        if stretched:
            tall, wide = self._input.height or self._usual, self._input.width or self._usual
            picture = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR)
            scale = np.array([wide / width, tall / height], np.float32)
            return np.asarray(picture, np.uint8), scale, np.zeros(2, np.float32)
        tall, wide = self._input.height or self._usual, self._input.width or self._usual
        ratio = min(tall / height, wide / width)
        inner = max(round(width * ratio), 1), max(round(height * ratio), 1)
        if self._input.height is None:  # no larger than the strides ask for
            tall = -(-inner[1] // self._stride) * self._stride
        if self._input.width is None:
            wide = -(-inner[0] // self._stride) * self._stride
        left, top = round((wide - inner[0]) / 2 - 0.1), round((tall - inner[1]) / 2 - 0.1)
        picture = np.full((tall, wide, 3), _PADDING, np.uint8)
        small = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
        picture[top : top + inner[1], left : left + inner[0]] = small
        scale = np.array([inner[0] / width, inner[1] / height], np.float32)
        return picture, scale, np.array([left, top], np.float32)

    def _run(self, picture: NDArray[np.uint8]) -> list[NDArray[np.generic]]:
        given: NDArray[Any] = picture[None]
        if self._input.kind != np.uint8:
            given = given.astype(np.float32) / 255.0
            if self._normalize:
                given = (given - np.array(_MEAN, np.float32)) / np.array(_SPREAD, np.float32)
        if not self._input.last:
            given = given.transpose(0, 3, 1, 2)
        feeds = {self._input.name: np.ascontiguousarray(given, dtype=self._input.kind)}
        if self._sizes_input is not None:  # boxes come in pixels of the size that is said
            name, kind = self._sizes_input
            feeds[name] = np.array([[picture.shape[1], picture.shape[0]]], kind)
        return [np.asarray(out) for out in self._session.run(None, feeds)]


def open_onnx(rest: str, device: str) -> OnnxDetector:
    """What ``onnx:FILE[,names=FILE]`` means.

    Raises:
        InputError: for options that are not known.
        VisionMemError: as ``OnnxDetector``.
    """
    path, *options = rest.split(",")
    names: dict[int, str] | None = None
    for option in options:
        key, _, value = option.partition("=")
        if key.strip() != "names" or not value.strip():
            raise InputError(f"option {option!r} of onnx:{path} is not known; expected names=FILE")
        coco = {"coco": 80, "coco80": 80, "coco91": 91}.get(value.strip())
        if coco is not None:
            names = coco_names(coco)
        else:
            lines = text_lines(Path(value.strip()).expanduser())
            names = {number: short(line, 60) for number, (_, line) in enumerate(lines)}
    if not path.strip():
        raise InputError("onnx: without a file; expected onnx:FILE.onnx")
    return OnnxDetector(path.strip(), device=device, names=names)


def _opened(place: Path, device: str) -> Any:
    """A session of the runtime on a file."""
    if not place.exists():
        raise NotThere(f"no such file {place}; expected a detector as an ONNX file")
    if not place.is_file():
        raise InputError(f"{place} is not a file; expected a detector as an ONNX file")
    if place.suffix.lower() in (".pt", ".pth", ".safetensors", ".engine", ".tflite"):
        raise InputError(f"{place} is not an ONNX file; expected one that was exported to ONNX")
    return open_graph(place, device, "detectors in ONNX files")


def _inputs(session: Any, place: Path) -> tuple[_PictureInput, tuple[str, type[np.generic]] | None]:
    """The input for the picture, and the one for its size where there is one."""
    given = session.get_inputs()
    names = ", ".join(one.name for one in given)
    pictures = [one for one in given if len(one.shape) == 4 and one.type in _TYPES]
    rest = [one for one in given if one not in pictures]
    if not pictures:
        raise ModelError(
            f"{place} takes no pictures (its inputs: {short(names, 120)}); expected a detector"
        )
    if len(pictures) > 1 or len(rest) > 1 or (rest and "size" not in rest[0].name):
        raise ModelError(
            f"{place} wants more than a picture (its inputs: {short(names, 120)}); expected a "
            "detector with classes of its own"
        )
    one = pictures[0]
    batch, *sides = (side if isinstance(side, int) and side > 0 else None for side in one.shape)
    last = sides[2] == 3 and sides[0] != 3
    colours, (height, width) = (sides[2], sides[:2]) if last else (sides[0], sides[1:])
    if batch not in (None, 1):
        raise ModelError(f"{place} takes {batch} pictures at a time; export it for one (batch=1)")
    if colours not in (None, 3):
        raise ModelError(f"{place} takes pictures of {colours} channels; expected 3, RGB")
    kind = _TYPES[one.type]
    sizes = (rest[0].name, np.int64 if "int" in rest[0].type else np.float32) if rest else None
    return _PictureInput(one.name, kind, height, width, last), sizes


def _usual_side(notes: Mapping[str, str]) -> int:
    """Pixels of a side where the file takes any: what it was exported with, or 640."""
    try:
        told = json.loads(notes.get("imgsz", ""))
        side = int(max(told) if isinstance(told, list) else told)
    except (ValueError, TypeError):
        return _USUAL_SIDE
    return side if 32 <= side <= 4096 else _USUAL_SIDE


def _noted_names(notes: Mapping[str, str]) -> dict[int, str]:
    """Words for classes that the file holds: a dict or a list, as Python or JSON writes it."""
    for key in _NAME_NOTES:
        text = notes.get(key, "")
        if not text or len(text) > 1_000_000:
            continue
        for read in (ast.literal_eval, json.loads):
            try:
                told = read(text)
                pairs = told.items() if isinstance(told, dict) else enumerate(list(told))
                if not isinstance(told, str):
                    return {int(number): short(str(word), 60) for number, word in pairs}
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue
    return {}
