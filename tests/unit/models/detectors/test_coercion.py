"""Detections, and whatever detectors return turned into them."""

from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vision_mem.errors import InputError
from vision_mem.models.detectors import CallableDetector, Detector, as_detector, coerce
from vision_mem.models.detectors.coercion import Vocabulary
from vision_mem.types import Detections, Frame

SIZE = (48, 64)
BOXES = [[1.0, 2.0, 30.0, 40.0], [5.0, 6.0, 7.5, 8.0]]
SCORES, LABELS = [0.5, 0.25], [3, 1]
FRAME = Frame(7, 0.28, np.full((*SIZE, 3), (200, 100, 0), np.uint8))


def check(found, scores=SCORES, labels=LABELS):
    np.testing.assert_array_equal(found.boxes, np.array(BOXES, np.float32))
    np.testing.assert_array_equal(found.scores, np.array(scores, np.float32))
    np.testing.assert_array_equal(found.labels, labels)
    kinds = found.boxes.dtype, found.scores.dtype, found.labels.dtype
    assert kinds == (np.float32, np.float32, np.int64)


def test_empty_detections_have_shapes_and_are_not_none() -> None:
    empty = Detections()
    assert (empty.boxes.shape, empty.scores.shape, empty.labels.shape) == ((0, 4), (0,), (0,))
    assert len(empty) == 0
    check(Detections(np.array(BOXES)), [1, 1], [0, 0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"boxes": np.zeros((2, 3))}, r"boxes have shape \(2, 3\)"),
        ({"boxes": np.zeros(4)}, r"expected \(n, 4\)"),
        ({"boxes": np.array([[0, 0, np.nan, 1]])}, "not finite"),
        ({"boxes": np.array([[5, 5, 5, 9]])}, "no size"),
        ({"boxes": np.array(BOXES), "scores": np.ones(3)}, r"scores have shape \(3,\)"),
        ({"boxes": np.array(BOXES), "scores": np.array([0.5, 1.5])}, "outside 0 to 1"),
        ({"boxes": np.array(BOXES), "scores": np.array([0.5, np.nan])}, "outside 0 to 1"),
        ({"boxes": np.array(BOXES), "labels": np.ones((2, 1))}, "labels have shape"),
        ({"boxes": np.array(BOXES), "masks": np.ones((1, *SIZE))}, r"expected \(2, H, W\)"),
        ({"boxes": np.array(BOXES), "masks": np.ones(SIZE)}, "masks have shape"),
        ({"boxes": np.array(BOXES), "embeddings": np.ones(2)}, r"expected \(2, d\)"),
    ],
)
def test_detections_refuse_what_does_not_fit(given, words) -> None:
    with pytest.raises(InputError, match=words):
        Detections(**given)


def test_some_of_the_detections() -> None:
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 4, 4] = True
    found = Detections(
        np.array(BOXES), np.array(SCORES), np.array(LABELS), masks, np.eye(2), {3: "dog"}, 9, 0.3
    )
    one = found.take([1])
    assert (len(one), one.name_of(0), one.frame_index, one.time_s) == (1, "class-1", 9, 0.3)
    assert one.embeddings.tolist() == [[0, 1]]
    assert one.mask_of(0) is None  # an empty mask stands for "only a box"
    assert found.mask_of(0).sum() == 1
    assert found.name_of(0) == "dog"
    assert found.take(found.scores > 0.3).labels.tolist() == [3]
    assert len(found.take(np.zeros(2, bool))) == 0


MASKS = np.zeros((2, *SIZE), bool)
MASKS[0, 2:40, 1:30] = True
MASKS[1, 6:8, 5:8] = True
TENSORS = {
    "boxes": torch.tensor(BOXES),
    "scores": torch.tensor(SCORES),
    "labels": torch.tensor(LABELS),
}
ROWS = np.concatenate([BOXES, np.array([SCORES, LABELS]).T], axis=1)


def ultralytics(size=SIZE):
    """What ``ultralytics`` results look like from outside: tensors, and outlines of masks."""
    outlines = [np.array([[1, 2], [29, 2], [29, 39], [1, 39]], np.float32), np.zeros((0, 2))]
    return SimpleNamespace(
        boxes=SimpleNamespace(
            xyxy=torch.tensor(BOXES), conf=torch.tensor(SCORES), cls=torch.tensor([3.0, 1.0])
        ),
        masks=SimpleNamespace(data=torch.ones(2, 32, 32), xy=outlines),
        names={1: "car", 3: "dog"},
        orig_shape=size,
    )


def supervision(**more):
    given = {"xyxy": np.array(BOXES), "confidence": np.array(SCORES), "class_id": np.array(LABELS)}
    extra = {"mask": MASKS, "data": {"class_name": np.array(["dog", "car"])}, "tracker_id": None}
    return SimpleNamespace(**{**given, **extra, **more})


@pytest.mark.parametrize(
    "answer",
    [
        Detections(np.array(BOXES), np.array(SCORES), np.array(LABELS)),
        ROWS,
        ROWS.astype(np.float32),
        torch.tensor(ROWS),
        torch.tensor(ROWS).requires_grad_(),
        torch.tensor(ROWS, dtype=torch.bfloat16),  # these numbers are exact in it
        ROWS.tolist(),
        [tuple(row) for row in ROWS.tolist()],
        [(BOXES[0], 0.5, 3), (np.array(BOXES[1]), 0.25, 1)],
        {"boxes": BOXES, "scores": SCORES, "labels": LABELS},
        TENSORS,
        [TENSORS],
        {"xyxy": BOXES, "confidence": SCORES, "classes": LABELS},
        (np.array(BOXES), np.array(SCORES), np.array(LABELS)),
        [dict(bbox=BOXES[0], score=0.5, label=3), dict(box=BOXES[1], score=0.25, label=1)],
        ultralytics(),
        [ultralytics()],
        supervision(),
    ],
)  # fmt: skip
def test_every_shape_of_answer(answer) -> None:
    check(coerce(answer, SIZE))


@pytest.mark.parametrize(
    ("answer", "scores", "labels"),
    [
        (np.array(BOXES), [1, 1], [0, 0]),
        (ROWS[:, :5], SCORES, [0, 0]),
        ({"boxes": BOXES}, [1, 1], [0, 0]),
        ([tuple(box) for box in BOXES], [1, 1], [0, 0]),
        (supervision(confidence=None), [1, 1], LABELS),
        (supervision(class_id=None), SCORES, [0, 1]),  # by their words
        (supervision(class_id=None, data={}), SCORES, [0, 0]),
    ],
)
def test_what_an_answer_does_not_say(answer, scores, labels) -> None:
    check(coerce(answer, SIZE), scores, labels)


EMPTY = SimpleNamespace(xyxy=np.empty((0, 4)), confidence=np.empty(0), class_id=np.empty(0))


@pytest.mark.parametrize(
    "answer",
    [
        [], (), {"boxes": []}, np.empty((0, 6)), np.empty(0), torch.empty(0, 4), EMPTY,
        {"boxes": torch.empty(0, 4), "scores": torch.empty(0), "labels": torch.empty(0),
         "masks": torch.empty(0, 1, 48, 64)},
        {"boxes": torch.empty(0, 4), "scores": torch.empty(0), "text_labels": [], "labels": []},
    ],
)  # fmt: skip
def test_having_seen_nothing_is_an_answer(answer) -> None:
    found = coerce(answer, SIZE)
    assert found is not None
    assert found.boxes.shape == (0, 4)
    assert coerce(None, SIZE) is None


def test_masks_of_every_kind() -> None:
    probabilities = torch.tensor(MASKS[:, None] * 0.6 + 0.2)  # torchvision: (n, 1, H, W)
    for masks in (MASKS, MASKS.astype(np.uint8), probabilities):
        found = coerce({"boxes": BOXES, "scores": SCORES, "masks": masks}, SIZE)
        np.testing.assert_array_equal(found.masks, MASKS)
    alone = coerce({"masks": MASKS}, SIZE)
    assert alone.boxes.tolist() == [[1, 2, 30, 40], [5, 6, 8, 8]]
    drawn = coerce(ultralytics(), SIZE).masks
    np.testing.assert_array_equal(drawn[0], MASKS[0])
    assert not drawn[1].any()
    with pytest.raises(InputError, match=r"masks are 32x32 pixels but the frame is 64x48"):
        coerce({"boxes": BOXES, "masks": np.ones((2, 32, 32))}, SIZE)
    with pytest.raises(InputError, match="bring them to the frame's size"):
        coerce(Detections(np.array(BOXES), masks=np.ones((2, 32, 32), bool)), SIZE)


def test_words_get_numbers_that_stay() -> None:
    vocabulary = Vocabulary({0: "person"})
    rows = [(*BOXES[0], 0.5, "dog"), (*BOXES[1], 0.5, "person")]
    assert coerce(rows, SIZE, vocabulary=vocabulary).labels.tolist() == [1, 0]
    found = coerce({"boxes": BOXES, "text_labels": ["cat", "dog"]}, SIZE, vocabulary=vocabulary)
    assert found.labels.tolist() == [2, 1]
    assert found.names == {0: "person", 1: "dog", 2: "cat"}
    pipeline = [
        {"score": 0.5, "label": "dog", "box": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}}
    ]
    assert coerce(pipeline, SIZE, vocabulary=vocabulary).boxes.tolist() == [[1, 2, 30, 40]]
    assert coerce(supervision(), SIZE).names == {3: "dog", 1: "car"}


BAD = [
    ([np.nan, 0, 5, 5], "not finite"),
    ([0, 0, np.inf, 5], "not finite"),
    ([0, 0, 1e300, 5], "not finite"),
    ([5, 5, 5, 9], "without size"),
    ([9, 5, 5, 9], "without size"),
    ([0, 0, 0, 0], "without size"),
]


@pytest.mark.parametrize(("box", "reason"), BAD)
def test_boxes_that_cannot_be_used_are_left_out_and_counted(box, reason, caplog) -> None:
    answer = {"boxes": [BOXES[0], box, BOXES[1]], "scores": [0.5, 0.9, 0.25], "labels": [3, 9, 1]}
    dropped: Counter[str] = Counter()
    check(coerce(answer, SIZE, dropped=dropped))
    assert dropped == {reason: 1}
    assert not caplog.records
    check(coerce(answer, SIZE))
    assert f"1 box left out: 1 {reason}" in caplog.text
    with pytest.raises(InputError, match=rf"box 1 is .*\({reason}\)"):
        coerce(answer, SIZE, strict=True)


@pytest.mark.parametrize(
    "row",
    [
        (BOXES[0], 0.5, 3),
        (np.array(BOXES[0]), 0.5, 3),
        (torch.tensor(BOXES[0]), torch.tensor(0.5), torch.tensor(3)),
        (*BOXES[0], 0.5, 3),
        {"box": BOXES[0], "score": 0.5, "label": 3},
    ],
)
def test_a_list_of_one_object(row) -> None:
    found = coerce([row], SIZE)
    assert found.boxes.tolist() == BOXES[:1]
    assert (found.scores.tolist(), found.labels.tolist()) == ([0.5], [3])


def test_negative_corners_are_a_box_that_begins_outside_the_picture() -> None:
    assert coerce([[-5, -5, 10, 10]], SIZE).boxes.tolist() == [[-5, -5, 10, 10]]


@pytest.mark.parametrize("column", ["scores", "labels"])
def test_a_score_or_label_that_is_no_number(column) -> None:
    answer = {"boxes": BOXES, "scores": list(SCORES), "labels": list(map(float, LABELS))}
    answer[column][0] = np.nan
    dropped: Counter[str] = Counter()
    assert len(coerce(answer, SIZE, dropped=dropped)) == 1
    assert dropped == {"without score or label": 1}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (3, "returned 3"),
        ("boxes", "returned 'boxes'"),
        (object(), "returned a object"),
        (np.zeros((2, 7)), r"shape \(2, 7\)"),
        (np.zeros((2, 2, 4)), r"shape \(2, 2, 4\)"),
        (np.array([["a"] * 4]), "expected Detections, an array"),
        ([1, 2, 3, 4], "a list with 1 in it"),
        ([(1, 2, 3)], "a list with"),
        (["abcd"], "a list with 'abcd' in it"),
        ({"scores": [1]}, "has no boxes"),
        ({"boxes": [[1, 2, 3]]}, r"boxes have shape \(1, 3\)"),
        ({"boxes": [[1, 2, 3, 4], [1, 2]]}, "expected .n, 4. numbers"),
        ({"boxes": [["a", "b", "c", "d"]]}, "expected .n, 4. numbers"),
        ({"boxes": BOXES, "scores": [0.5]}, r"scores have shape \(1,\)"),
        ({"boxes": BOXES, "scores": ["high", "low"]}, "expected 2 numbers"),
        ({"boxes": BOXES, "scores": [50, 87]}, "a score is 87; expected 0 to 1"),
        ({"boxes": BOXES, "scores": [-3.5, 0.5]}, "a score is -3.5"),
        ({"boxes": BOXES, "masks": np.ones((2, 2))}, "masks have shape"),
    ],
)
def test_answers_nobody_can_read(answer, words) -> None:
    with pytest.raises(InputError, match=words) as caught:
        coerce(answer, SIZE)
    assert "\n" not in str(caught.value)


def test_a_function_becomes_a_detector() -> None:
    seen = []

    def red(image):
        seen.append(image[0, 0].tolist())
        return [(1, 2, 30, 40, 0.5, "red")]

    detector = as_detector(red)
    assert isinstance(detector, Detector)
    assert (detector.name, detector.stateful, detector.reports_absence) == ("red", False, True)
    assert detector.detect(FRAME).name_of(0) == "red"
    assert CallableDetector(red, colours="bgr").detect(FRAME).labels.tolist() == [0]
    assert seen == [[200, 100, 0], [0, 100, 200]]
    frames = CallableDetector(lambda frame: [(0, 0, 1, frame.index)], takes="frame")
    assert frames.detect(FRAME).boxes.tolist() == [[0, 0, 1, 7]]
    assert as_detector(detector) is detector


def test_half_a_detector_is_made_whole() -> None:
    class Half:
        reports_absence = False
        stateful = True
        calls: list[str]

        def __init__(self):
            self.calls = []

        def detect(self, frame):
            return np.array([[0, 0, frame.index, 5, 0.5]])

        def reset(self):
            self.calls.append("reset")

    half = Half()
    detector = as_detector(half)
    assert isinstance(detector, Detector)
    assert detector.detect(FRAME).boxes.tolist() == [[0, 0, 7, 5]]
    assert (detector.name, detector.stateful, detector.reports_absence) == ("Half", True, False)
    detector.reset()
    detector.close()
    assert half.calls == ["reset"]


def test_a_model_of_ultralytics_gets_what_it_wants() -> None:
    class YOLO:
        def __call__(self, image, verbose=True):
            assert not verbose
            assert image[0, 0].tolist() == [0, 100, 200]  # blue first
            assert image.flags.c_contiguous
            return [ultralytics()]

    YOLO.__module__ = "ultralytics.models.yolo.model"
    check(as_detector(YOLO()).detect(FRAME))


def test_left_out_boxes_are_told_now_and_then(caplog) -> None:
    detector = as_detector(lambda image: [(0, 0, 5, 5), (0, 0, 0, 0)])
    with caplog.at_level(logging.WARNING):
        for index in range(120):
            assert len(detector.detect(Frame(index, 0.0, FRAME.image))) == 1
    assert detector.dropped == {"without size": 120}
    told = [record.message for record in caplog.records]
    assert [message.split(": ")[-2:][0].split(" ")[0] for message in told] == ["1", "11", "111"]
    with pytest.raises(InputError, match="without size"):
        CallableDetector(lambda image: [(0, 0, 0, 0)], strict=True).detect(FRAME)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: as_detector(3), "int cannot detect"),
        (lambda: CallableDetector(len, takes="picture"), "image or frame"),
        (lambda: CallableDetector(len, colours="grey"), "rgb or bgr"),
    ],
)
def test_what_cannot_detect(make, words) -> None:
    with pytest.raises(InputError, match=words):
        make()
