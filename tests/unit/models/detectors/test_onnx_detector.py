"""Detectors in ONNX files: tiny graphs of each shape, with known boxes on a known picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision_mem.errors import InputError, MissingExtra, ModelError
from vision_mem.models.detectors import open_detector
from vision_mem.models.detectors.onnx import OnnxDetector
from vision_mem.models.detectors.onnx_outputs import COCO, coco_names
from vision_mem.types import Frame

NAMES = "{0: 'cat', 1: 'red car', 2: 'dog'}"
ONE_NAME = '["cat"]'
# In a picture of 64x64 that holds one of 128x64 at half its size, 16 grey rows above and below.
BOXES = np.array([[8, 20, 24, 40], [40, 24, 56, 44]], np.float32)
TRUE = [[16, 8, 48, 48], [80, 16, 112, 56]]
SCORES, LABELS = [0.8, 0.6], [1, 2]


@pytest.fixture(autouse=True)
def runtime() -> Any:
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


@pytest.fixture
def graphs() -> Any:
    import onnx_graphs

    return onnx_graphs


def _frame(height: int = 64, width: int = 128) -> Frame:
    """Red is full in the middle, green half, blue nothing."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = 255, 128
    return Frame(0, 0.0, image)


def _centred(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def _chances(classes: int) -> np.ndarray:
    values = np.zeros((2, classes), np.float32)
    values[[0, 1], [min(label, classes - 1) for label in LABELS]] = SCORES
    return values


def _rows(classes: int, *, objectness: bool = False, box_scale: float = 1.0) -> np.ndarray:
    """Rows of centre, size, perhaps objectness, and classes; each box stands there twice."""
    twice = np.concatenate([_centred(BOXES), _centred(BOXES + 1)]) * box_scale
    chances = np.concatenate([_chances(classes), 0.9 * _chances(classes)])
    middle = [np.ones((4, 1), np.float32)] if objectness else []
    return np.concatenate([twice, *middle, chances], axis=1).astype(np.float32)


def _answer(detector: Any, frame: Frame | None = None) -> tuple[Any, ...]:
    found = detector.detect(frame or _frame())
    order = np.argsort(-found.scores)
    names = [found.name_of(int(k)) for k in order]
    return found.boxes[order].tolist(), found.scores[order].tolist(), names


def _check(detector: Any, names: list[str], boxes: Any = TRUE, factor: float = 1.0) -> None:
    found, scores, words = _answer(detector)
    np.testing.assert_allclose(found, boxes, atol=0.51)
    assert scores == pytest.approx([factor * score for score in SCORES], abs=0.01)
    assert words == names


WORDS = ["red car", "dog"]


def _padded(rows: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([rows, np.zeros((count - len(rows), rows.shape[1]), np.float32)])


@pytest.mark.parametrize("count", [84, 7])
def test_v8_to_v12(graphs: Any, tmp_path: Path, count: int) -> None:
    """84 is what 64x64 has with strides 8, 16, 32; a graph of any count is told by its names."""
    output = _padded(_rows(3), count).T[None]
    path = graphs.save(tmp_path / "v8.onnx", {"output0": output}, notes={"names": NAMES})
    _check(open_detector(f"onnx:{path}"), WORDS)


@pytest.mark.parametrize("count", [252, 84, 9])
def test_v5_to_v7(graphs: Any, tmp_path: Path, count: int) -> None:
    output = _padded(_rows(3, objectness=True), count)[None]
    output[..., 4] = 0.5
    path = graphs.save(tmp_path / "v5.onnx", {"output0": output}, notes={"names": NAMES})
    _check(OnnxDetector(path), WORDS, factor=0.5)


def _finished(count: int) -> np.ndarray:
    rows = np.concatenate([BOXES, np.array([SCORES, LABELS], np.float32).T], axis=1)
    return _padded(rows.astype(np.float32), count)[None]


@pytest.mark.parametrize(
    ("classes", "notes"),
    [
        (3, {"names": NAMES}),
        (1, {"names": ONE_NAME}),
        (2, {"names": '["a", "b"]', "end2end": "True"}),
    ],
)
def test_finished_boxes(graphs: Any, tmp_path: Path, classes: int, notes: dict[str, str]) -> None:
    path = graphs.save(tmp_path / "v10.onnx", {"output0": _finished(300)}, notes=notes)
    found, scores, _ = _answer(OnnxDetector(path))
    np.testing.assert_allclose(found, TRUE, atol=0.51)
    assert scores == pytest.approx(SCORES)


def test_one_class_of_v5_is_no_finished_box(graphs: Any, tmp_path: Path) -> None:
    output = _padded(_rows(1, objectness=True), 252)[None]
    path = graphs.save(tmp_path / "v5.onnx", {"output": output}, notes={"names": ONE_NAME})
    _check(OnnxDetector(path), ["cat", "cat"])


def test_v7_with_its_suppression_inside(graphs: Any, tmp_path: Path) -> None:
    rows = np.array([[0, *BOXES[k], LABELS[k], SCORES[k]] for k in (0, 1)], np.float32)
    path = graphs.save(tmp_path / "v7.onnx", {"output": rows}, notes={"names": NAMES})
    _check(OnnxDetector(path), WORDS)


def test_masks_and_joints_behind_the_classes_are_left_alone(graphs: Any, tmp_path: Path) -> None:
    rows = np.concatenate([_rows(3), np.full((4, 32), 5, np.float32)], axis=1)
    outputs = {
        "output0": _padded(rows, 84).T[None],
        "output1": np.zeros((1, 32, 16, 16), np.float32),
    }
    notes = {"names": NAMES, "task": "segment"}
    _check(OnnxDetector(graphs.save(tmp_path / "seg.onnx", outputs, notes=notes)), WORDS)
    rows = np.concatenate([_rows(1), np.full((4, 51), 5, np.float32)], axis=1)
    notes = {"names": "{0: 'person'}", "task": "pose", "kpt_shape": "[17, 3]"}
    path = graphs.save(tmp_path / "pose.onnx", {"o": _padded(rows, 84).T[None]}, notes=notes)
    _check(OnnxDetector(path), ["person", "person"])


SHARES = np.array([[16, 8, 48, 48], [80, 16, 112, 56]], np.float32) / [128, 64, 128, 64]


def _logits(classes: int) -> np.ndarray:
    values = np.full((1, 20, classes), -9, np.float32)
    for query, (score, label) in enumerate(zip(SCORES, LABELS, strict=True)):
        values[0, query, label] = np.log(score / (1 - score))
    return values


def _queries() -> np.ndarray:
    return _padded(_centred(SHARES).astype(np.float32), 20)[None]


@pytest.mark.parametrize(
    ("names", "notes", "classes", "words"),
    [
        (("logits", "pred_boxes"), {"names": NAMES}, 3, WORDS),
        (("labels", "dets"), {"names": NAMES}, 3, WORDS),
        (("logits", "pred_boxes"), {}, 80, ["bicycle", "car"]),
        (("labels", "dets"), {}, 91, ["person", "bicycle"]),
    ],
    ids=["RT-DETR", "RF-DETR", "of COCO", "of COCO with 91"],
)
def test_queries(
    graphs: Any, tmp_path: Path, names: tuple[str, str], notes: Any, classes: int, words: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    outputs = {names[0]: _logits(classes), names[1]: _queries()}
    detector = OnnxDetector(graphs.save(tmp_path / "q.onnx", outputs, notes=notes))
    _check(detector, words)
    assert (f"its {classes} are taken for COCO's" in caplog.text) is not bool(notes)


def test_queries_of_ultralytics_stand_in_one_array(graphs: Any, tmp_path: Path) -> None:
    rows = np.concatenate([_centred(SHARES), _chances(3)], axis=1).astype(np.float32)
    path = graphs.save(
        tmp_path / "r.onnx", {"output0": _padded(rows, 30)[None]}, notes={"names": NAMES}
    )
    _check(OnnxDetector(path), WORDS)


def test_softmax_with_a_class_for_nothing(graphs: Any, tmp_path: Path) -> None:
    values = np.zeros((1, 20, 4), np.float32)
    values[..., 3] = 9
    for query, (score, label) in enumerate(zip(SCORES, LABELS, strict=True)):
        rest = (1 - score) / 3
        values[0, query] = np.log(rest)
        values[0, query, label] = np.log(score)
    outputs = {"logits": values, "pred_boxes": _queries()}
    _check(OnnxDetector(graphs.save(tmp_path / "d.onnx", outputs, notes={"names": NAMES})), WORDS)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("order", ["labels boxes scores", "boxes scores labels"])
def test_boxes_labels_and_scores(graphs: Any, tmp_path: Path, batched: bool, order: str) -> None:
    from onnx import TensorProto

    parts = {
        "labels": _padded(np.array([LABELS]).T, 9)[:, 0].astype(np.int64),
        "boxes": _padded((SHARES * 64).astype(np.float32), 9),
        "scores": _padded(np.array([SCORES], np.float32).T, 9)[:, 0].astype(np.float32),
    }
    outputs = {name: parts[name][None] if batched else parts[name] for name in order.split()}
    path = graphs.save(
        tmp_path / "dfine.onnx", outputs, notes={"names": NAMES},
        more_inputs={"orig_target_sizes": (TensorProto.INT64, (1, 2))} if batched else None,
    )  # fmt: skip
    _check(OnnxDetector(path), WORDS)


@pytest.mark.parametrize(
    ("look", "factor"), [((0, 32, 32), 1.0), ((1, 32, 32), 128 / 255), ((0, 3, 32), 114 / 255)]
)
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8])
def test_colours_scale_and_border(
    graphs: Any, tmp_path: Path, look: Any, factor: float, kind: type
) -> None:
    """Red comes first, a grey border lies above, numbers go from 0 to 1 (or 255 as whole ones)."""
    boxes = _padded(_rows(3), 84).T[None].copy()
    boxes[:, 4:] = 0
    scores = _padded(_rows(3), 84).T[None] * np.float32(1 / 255 if kind == np.uint8 else 1)
    scores[:, :4] = 0
    path = graphs.save(
        tmp_path / "s.onnx", {"o": boxes}, scored={"o": scores}, kind=kind, look=look,
        notes={"names": NAMES},
    )  # fmt: skip
    _check(OnnxDetector(path, min_score=0.05), WORDS, factor=factor)


@pytest.mark.parametrize(
    "shape", [(1, 3, "height", "width"), ("batch", 3, None, None), (1, 64, 64, 3)]
)
def test_any_size_and_colours_last(graphs: Any, tmp_path: Path, shape: Any) -> None:
    notes = {"names": NAMES, "imgsz": "[64, 64]", "stride": "32"}
    path = graphs.save(
        tmp_path / "d.onnx", {"o": _finished(300)}, shape=shape, notes=notes, look=(0, 5, 5)
    )
    # Without a fixed size the picture goes in as 64x32: no border, boxes 16 rows further up.
    fixed = shape[1] == 64
    up = np.array([[0, 0 if fixed else 32, 0, 0 if fixed else 32]])
    height = np.array([128, 64, 128, 64])
    _check(OnnxDetector(path), WORDS, boxes=np.clip(np.array(TRUE) + up, 0, height))


def test_overlaps_go_per_class(graphs: Any, tmp_path: Path) -> None:
    rows = _rows(3)
    path = graphs.save(
        tmp_path / "v8.onnx", {"o": _padded(rows, 84).T[None]}, notes={"names": NAMES}
    )
    assert len(OnnxDetector(path).detect(_frame())) == 2
    assert len(OnnxDetector(path, iou=1.0).detect(_frame())) == 4
    assert len(OnnxDetector(path, min_score=0.7).detect(_frame())) == 2 - 1


def test_names_from_a_file_or_none(
    graphs: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = graphs.save(tmp_path / "v10.onnx", {"o": _finished(300)})
    _check(open_detector(f"onnx:{path}"), ["class-1", "class-2"])
    assert "names no classes: they are class-0" in caplog.text
    _check(open_detector(f"onnx:{path},names=coco"), ["bicycle", "car"])
    words = tmp_path / "words.txt"
    words.write_text("cat\nred car\ndog\n")
    _check(open_detector(f"onnx:{path},names={words}"), WORDS)


def test_coco_has_its_words_at_its_places() -> None:
    assert len(COCO) == len(set(COCO)) == 80
    assert coco_names(80)[79] == coco_names(91)[90] == "toothbrush"
    assert (coco_names(91)[1], coco_names(91)[13], coco_names(91)[44]) == (
        "person", "stop sign", "bottle",
    )  # fmt: skip
    assert coco_names(12) == {}


def _wrong_files(graphs: Any, folder: Path) -> dict[str, tuple[Path, str]]:
    from onnx import TensorProto

    text = folder / "text.onnx"
    text.write_text("hello")
    whole = graphs.save(folder / "whole.onnx", {"o": _finished(300)})
    cut = folder / "cut.onnx"
    cut.write_bytes(whole.read_bytes()[:-200])
    empty = folder / "empty.onnx"
    empty.touch()

    def one(name: str, output: np.ndarray, **more: Any) -> Path:
        path: Path = graphs.save(folder / f"{name}.onnx", {"out": output}, **more)
        return path

    words = {"input_ids": (TensorProto.INT64, (1, "n"))}
    f32 = np.float32
    return {
        "text": (text, "damaged or no ONNX file"),
        "cut": (cut, "damaged or no ONNX file"),
        "empty": (empty, "empty"),
        "pictures": (one("class", np.ones((1, 1000), f32)), "what a whole picture shows (1000"),
        "task": (one("c", np.ones((1, 3), f32), notes={"task": "classify"}), "'classify'"),
        "rotated": (one("r", np.ones((1, 8, 84), f32), notes={"task": "obb"}), "rotated boxes"),
        "segments": (one("s", np.ones((1, 21, 64, 64), f32)), "none of a detector known here"),
        "features": (one("f", np.ones((1, 197, 768), f32)), "none of a detector known here"),
        "names": (one("n", np.ones((1, 9, 84), f32), notes={"names": NAMES}), "3 classes that"),
        "words too": (one("w", np.ones((1, 5, 4), f32), more_inputs=words), "more than a picture"),
        "text model": (graphs.save_text_model(folder / "bert.onnx"), "takes no pictures"),
        "batch": (one("b", _finished(9), shape=(8, 3, 64, 64)), "takes 8 pictures at a time"),
        "grey": (one("g", _finished(9), shape=(1, 1, 64, 64)), "1 channels"),
        "raw": (one("x", -_rows(3)[None].repeat(21, 1), notes={"names": '["a", "b"]'}), "decoded"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "case",
    ["text", "cut", "empty", "pictures", "task", "rotated", "segments", "features", "names",
     "words too", "text model", "batch", "grey", "raw"],
)  # fmt: skip
def test_wrong_files_are_one_line(graphs: Any, tmp_path: Path, case: str) -> None:
    path, says = _wrong_files(graphs, tmp_path)[case]
    with pytest.raises((ModelError, InputError)) as caught:
        OnnxDetector(path)
    text = str(caught.value)
    assert says in text
    assert str(path) in text
    assert "\n" not in text
    assert not any(word in text for word in ("None", "ONNXRuntimeError", "Traceback", "object at"))


def test_without_the_runtime_the_extra_is_named(
    graphs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    path = graphs.save(tmp_path / "v10.onnx", {"o": _finished(300)})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vision-mem\[onnx\]'"):
        OnnxDetector(path)
