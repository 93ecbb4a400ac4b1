"""Detectors made of detectors, by tables and small scripts."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from vision_mem.errors import InputError, ModelError
from vision_mem.geometry.polygons import points_inside
from vision_mem.models.detectors import (
    CallableDetector,
    Chosen,
    Detector,
    Ensemble,
    EveryNth,
    Guarded,
    NonMaximum,
    Within,
    non_maximum,
)
from vision_mem.models.detectors.filters import known_classes, renamed
from vision_mem.models.detectors.motion import MotionDetector
from vision_mem.types import Detections, Frame

NAMES = {0: "person", 2: "car", 7: "truck"}


def frame(index, height=60, width=80):
    return Frame(index, index / 10, np.full((height, width, 3), index % 256, np.uint8))


def seen(*rows, names=NAMES, **more):
    """Detections from rows of x1, y1, x2, y2, score, label."""
    table = np.array(rows, float).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5], names=names, **more)


class Script:
    """Answers with what it was given, frame by frame; an exception is raised."""

    name, stateful, reports_absence = "script", False, True

    def __init__(self, answers, **about):
        self.answers = answers
        self.looked, self.resets, self.closes = [], 0, 0
        for key, value in about.items():
            setattr(self, key, value)

    def detect(self, frame):
        self.looked.append(frame.index)
        answer = self.answers(frame) if callable(self.answers) else self.answers
        if isinstance(answer, Exception):
            raise answer
        return answer

    def reset(self):
        self.resets += 1

    def close(self):
        self.closes += 1


MANY = seen((0, 0, 10, 10, 0.9, 0), (20, 0, 40, 10, 0.4, 2), (50, 0, 70, 20, 0.6, 7))


@pytest.mark.parametrize(
    "wrap",
    [
        Guarded,
        lambda d: EveryNth(d, 1),
        Chosen,
        NonMaximum,
        lambda d: Within(d, (0, 0, 80, 60)),
        lambda d: Ensemble([d]),
    ],
)
def test_what_is_around_a_detector_is_a_detector(wrap) -> None:
    script = Script(MANY, stateful=True, reports_absence=False)
    around = wrap(script)
    assert isinstance(around, Detector)
    assert (around.name, around.stateful, around.reports_absence) == ("script", True, False)
    found = around.detect(frame(0))
    assert found.boxes.tolist() == MANY.boxes.tolist()
    assert found.labels.tolist() == [0, 2, 7]
    around.reset()
    around.close()
    assert (script.resets, script.closes) == (1, 1)
    script.answers = None
    assert around.detect(frame(1)) is None


def test_an_error_on_one_frame_is_no_answer_and_told_once(caplog) -> None:
    script = Script(lambda f: ValueError("bad\nframe") if f.index % 3 == 1 else MANY)
    guarded = Guarded(script, give_up_after=2)
    with caplog.at_level(logging.WARNING):
        answers = [guarded.detect(frame(k)) for k in range(30)]
    assert [k for k, found in enumerate(answers) if found is None] == list(range(1, 30, 3))
    assert guarded.errors == {"ValueError": 10}
    (told,) = [record.message for record in caplog.records]
    assert "script failed on frame 1: ValueError: bad frame" in told
    script.answers = KeyError("another kind")
    with caplog.at_level(logging.WARNING):
        assert guarded.detect(frame(30)) is None
    assert len(caplog.records) == 2


def test_a_detector_that_never_worked_ends_the_run() -> None:
    guarded = Guarded(Script(RuntimeError("no such operator")), give_up_after=5)
    assert [guarded.detect(frame(k)) for k in range(4)] == [None] * 4
    with pytest.raises(ModelError, match="each of the first 5 frames: RuntimeError: no such op"):
        guarded.detect(frame(4))


@pytest.mark.parametrize(
    ("every", "indices", "looked"),
    [
        (1, range(5), [0, 1, 2, 3, 4]),
        (3, range(8), [0, 3, 6]),
        (3, [5, 6, 7, 8, 9], [5, 8]),
        (3, [0, 2, 4, 9, 10], [0, 4, 9]),  # frames that a source left out
        (10, [0, 50, 51], [0, 50]),
    ],
)
def test_every_kth_frame(every, indices, looked) -> None:
    script = Script(MANY)
    detector = EveryNth(script, every)
    answered = [k for k in indices if detector.detect(frame(k)) is not None]
    assert answered == script.looked == looked
    detector.reset()
    assert detector.detect(frame(1)) is not None


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({}, [0, 2, 7]),
        ({"min_score": 0.5}, [0, 7]),
        ({"min_score": 0.4}, [0, 2, 7]),  # 0.4 in single precision is not below 0.4
        ({"classes": ["car", " Truck "]}, [2, 7]),
        ({"classes": [0, "truck"]}, [0, 7]),
        ({"classes": []}, []),
        ({"classes": ["car"], "min_score": 0.5}, []),
    ],
)
def test_scores_and_classes_are_chosen(options, labels) -> None:
    assert Chosen(Script(MANY), **options).detect(frame(0)).labels.tolist() == labels


def test_a_class_that_is_not_there_is_told_once(caplog) -> None:
    chosen = Chosen(Script(MANY), classes=["pedestrian", "car"])
    assert [len(chosen.detect(frame(k))) for k in range(3)] == [1, 1, 1]
    (told,) = [record.message for record in caplog.records]
    assert "has no class pedestrian" in told
    assert "person, car, truck" in told


class Knowing(Script):
    """Knows its classes before it looks."""

    classes = {0: "person", 2: "car"}  # noqa: RUF012


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda: Script(MANY), None),
        (lambda: Knowing(MANY), {0: "person", 2: "car"}),
        (lambda: Guarded(EveryNth(Knowing(MANY), 2)), {0: "person", 2: "car"}),
        (lambda: Ensemble([Knowing(MANY), MotionDetector()]), {0: "person", 1: "car", 2: "moving"}),
        (lambda: Ensemble([Knowing(MANY), Script(MANY)]), None),
    ],
)
def test_classes_may_be_known_before_anything_is_seen(make, known) -> None:
    assert known_classes(make()) == known


def test_classes_that_cannot_come_are_told_at_once(caplog) -> None:
    Chosen(Knowing(MANY), classes=["2", "bus"])
    assert [record.message for record in caplog.records] == [
        f"detector {Knowing(MANY).name} has no class bus; it has person, car"
    ]
    with pytest.raises(InputError, match="has no class persn; it has person, car; did you mean 'p"):
        Chosen(Knowing(MANY), classes=["persn"])
    with pytest.raises(InputError, match="cannot tell what it is, so no car; leave"):
        Chosen(MotionDetector(), classes=["car"])


def test_classes_are_renamed_and_united() -> None:
    rename = {"Car": "vehicle", 7: "vehicle", "person": "pedestrian"}
    found = Chosen(Script(MANY), rename=rename).detect(frame(0))
    assert [found.name_of(k) for k in range(3)] == ["pedestrian", "vehicle", "vehicle"]
    assert found.labels.tolist() == [0, 2, 2]
    nameless = renamed(seen((0, 0, 1, 1, 1, 4), names={}), {4: "dog"})
    assert (nameless.labels.tolist(), nameless.names) == ([4], {4: "dog"})


BOXES = [[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [2, 0, 12, 10]]


@pytest.mark.parametrize(
    ("scores", "labels", "iou", "kept"),
    [
        ([0.5, 0.9, 0.7, 0.1], None, 0.5, [1, 2]),
        ([0.9, 0.5, 0.7, 0.1], None, 0.7, [0, 2, 3]),  # a chain: the last meets only the middle
        ([0.5, 0.9, 0.7, 0.1], [0, 1, 0, 0], 0.5, [1, 2, 0]),
        ([0.5, 0.5, 0.5, 0.5], None, 0.5, [0, 2]),  # the earlier of equals
        ([0.5, 0.9, 0.7, 0.1], None, 1.0, [1, 2, 0, 3]),
        ([0.5, 0.9, 0.7, 0.1], None, 0.0, [1, 2]),
    ],
)
def test_of_boxes_that_overlap_the_best_stays(scores, labels, iou, kept) -> None:
    assert non_maximum(BOXES, scores, labels, iou).tolist() == kept


def test_no_maximum_of_nothing_and_against_a_plain_twin() -> None:
    assert non_maximum(np.empty((0, 4)), []).tolist() == []
    rng = np.random.default_rng(1)
    for _ in range(20):
        corner = rng.uniform(0, 50, (40, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 30, (40, 2))], axis=1)
        scores, labels = rng.permutation(40) / 40, rng.integers(0, 3, 40)
        kept: list[int] = []
        for k in np.argsort(-scores):
            if all(labels[k] != labels[j] or _iou(boxes[k], boxes[j]) <= 0.4 for j in kept):
                kept.append(int(k))
        assert non_maximum(boxes, scores, labels, 0.4).tolist() == kept


def _iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area - shared)


def test_doubles_are_left_out_in_the_order_they_came() -> None:
    rows = [
        (*box, s, k) for box, s, k in zip(BOXES, [0.5, 0.9, 0.7, 0.1], [0, 2, 0, 0], strict=True)
    ]
    thinned = NonMaximum(Script(seen(*rows)), 0.5).detect(frame(0))
    assert thinned.boxes[:, 0].tolist() == [0, 1, 20]
    across = NonMaximum(Script(seen(*rows)), 0.5, per_class=False).detect(frame(0))
    assert across.boxes[:, 0].tolist() == [1, 20]


L_SHAPE = [(0, 0), (40, 0), (40, 20), (20, 20), (20, 40), (0, 40)]


@pytest.mark.parametrize(
    ("point", "corners", "inside"),
    [
        ((10, 10), L_SHAPE, True),
        ((30, 30), L_SHAPE, False),
        ((10, 35), L_SHAPE, True),
        ((35, 10), L_SHAPE, True),
        ((-1, 10), L_SHAPE, False),
        ((10, 20), L_SHAPE, True),  # at the height of a corner
        ((30, 5), [(0, 0), (60, 0), (30, 10)], True),
        ((5, 5), [(0, 0), (60, 0), (30, 10)], False),
    ],
)
def test_points_in_polygons(point, corners, inside) -> None:
    assert points_inside([point], corners).tolist() == [inside]
    assert points_inside([point], corners[::-1]).tolist() == [inside]


@pytest.mark.parametrize(
    ("region", "anchor", "kept"),
    [
        ((0, 0, 45, 30), "centre", [0, 2]),
        ((0, 0, 45, 8), "centre", [0, 2]),
        ((0, 0, 45, 8), "foot", []),
        ((0, 0, 80, 60), "foot", [0, 2, 7]),
        ([(45, 0), (80, 0), (80, 60)], "centre", [7]),
    ],
)
def test_a_region_keeps_what_lies_in_it(region, anchor, kept) -> None:
    found = Within(Script(MANY), region, anchor=anchor).detect(frame(0))
    assert found.labels.tolist() == kept


def test_a_cropped_region_is_all_the_detector_sees() -> None:
    def look(image):
        assert image.shape == (20, 31, 3)
        assert image.flags.c_contiguous
        masks = np.ones((1, 20, 31), bool)
        return {"boxes": [[1, 2, 5, 8]], "masks": masks}

    detector = Within(CallableDetector(look), (9.5, 20, 40, 40), crop=True)
    found = detector.detect(frame(3))
    assert found.boxes.tolist() == [[10, 22, 14, 28]]
    assert found.masks.shape == (1, 60, 80)
    assert found.masks[0, 20:40, 9:40].all()
    assert found.masks.sum() == 20 * 31
    with pytest.raises(InputError, match="outside the picture of 80x60"):
        Within(Script(MANY), (100, 0, 120, 20), crop=True).detect(frame(0))


def test_several_detectors_are_united_by_their_words() -> None:
    first = Script(seen((0, 0, 9, 9, 0.5, 1), names={1: "car", 2: "person"}))
    second = Script(
        seen((0, 0, 5, 5, 0.7, 0), (1, 1, 5, 5, 0.6, 2), names={0: "person", 2: "dog"},
             masks=np.ones((2, 60, 80), bool))
    )  # fmt: skip
    union = Ensemble([first, second, Script(seen((0, 0, 3, 3, 0.1, 5), names={}))])
    found = union.detect(frame(0))
    assert [found.name_of(k) for k in range(4)] == ["car", "person", "dog", "class-5"]
    assert found.labels.tolist() == [1, 2, 3, 5]  # the third person's dog could not stay 2
    assert found.masks.any(axis=(1, 2)).tolist() == [False, True, True, False]
    assert found.mask_of(0) is None
    assert union.name == "script + script + script"


@pytest.mark.parametrize(
    ("answers", "absences", "count", "reports"),
    [
        ((MANY, MANY), (True, True), 6, True),
        ((MANY, None), (True, True), 3, False),  # the second one did not look
        ((MANY, MANY), (True, False), 6, False),
        ((Detections(), Detections()), (True, True), 0, True),
        ((None, None), (True, True), None, False),
    ],
)
def test_a_union_answers_when_any_does(answers, absences, count, reports) -> None:
    parts = [Script(a, reports_absence=b) for a, b in zip(answers, absences, strict=True)]
    union = Ensemble(parts)
    found = union.detect(frame(0))
    assert (None if found is None else len(found)) == count
    assert union.reports_absence == reports


def test_a_union_is_as_old_as_its_oldest_part() -> None:
    late = seen((0, 0, 9, 9, 0.5, 1), frame_index=4, time_s=0.4)
    assert Ensemble([Script(MANY), Script(late)]).detect(frame(9)).frame_index == 4
    assert Ensemble([Script(MANY), Script(late)]).detect(frame(9)).time_s == 0.4
    assert Ensemble([Script(MANY), Script(MANY)]).detect(frame(9)).frame_index is None


def test_embeddings_of_a_union() -> None:
    one = seen((0, 0, 9, 9, 0.5, 1), embeddings=np.ones((1, 3)))
    assert Ensemble([Script(one), Script(one)]).detect(frame(0)).embeddings.shape == (2, 3)
    assert Ensemble([Script(one), Script(MANY)]).detect(frame(0)).embeddings is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EveryNth(Script(MANY), 0), "1 or more"),
        (lambda: Chosen(Script(MANY), min_score=2), "0 to 1"),
        (lambda: NonMaximum(Script(MANY), -0.1), "0 to 1"),
        (lambda: Within(Script(MANY), (0, 0, 0, 10)), "span an area"),
        (lambda: Within(Script(MANY), [(0, 0), (1, 1)]), "three or more corners"),
        (lambda: Within(Script(MANY), (0, 0, 5, np.nan)), "span an area"),
        (lambda: Within(Script(MANY), (0, 0, 5, 5), anchor="top"), "centre or foot"),
        (lambda: Ensemble([]), "no detectors"),
    ],
)
def test_what_cannot_be_combined(make, words) -> None:
    with pytest.raises(InputError, match=words):
        make()
