"""Words become objects on the frame on which a detector first finds them."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.formats.prompts import PromptPlan
from vision_mem.models.detectors import open_detector
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.tracking.prompts import SoughtObjects
from vision_mem.tracking.session import PromptedSession, TrackingSession
from vision_mem.types import Detections, Frame, Prompt

NAMES = {0: "red car", 1: "dog"}
CAR, OTHER, DOG = (5.0, 5, 20, 20), (30.0, 5, 45, 20), (40.0, 30, 300, 60)


def found(*rows: tuple[tuple[float, ...], float, int], masks: bool = False) -> Detections:
    boxes = np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4)
    drawn = np.zeros((len(rows), 48, 64), bool)
    for mask, (x1, y1, x2, y2) in zip(drawn, boxes.astype(int), strict=True):
        mask[y1 : y2 - 5, x1:x2] = True
    return Detections(
        boxes, np.array([score for _, score, _ in rows]), np.array([k for _, _, k in rows]),
        drawn if masks else None, names=NAMES,
    )  # fmt: skip


def sought(answers: list[Detections | None]) -> tuple[SoughtObjects, list[int]]:
    seen: list[int] = []

    class Scripted:
        def detect(self, frame: Frame) -> Detections | None:
            seen.append(frame.index)
            return answers[frame.index]

    return SoughtObjects(open_detector(Scripted()), list(NAMES.values()), 0.3), seen


def frame(t: int) -> Frame:
    image = np.full((48, 64, 3), 90, np.uint8)
    image[5:20, 5:20] = (200, 30, 30)
    return Frame(t, t / 25, image)


@pytest.mark.parametrize("masks", [False, True])
def test_the_surest_find_is_meant_and_looked_for_once(masks: bool) -> None:
    answers = [
        found((CAR, 0.2, 0)),
        found((OTHER, 0.5, 0), (CAR, 0.8, 0), masks=masks),
        None,
        found((CAR, 0.9, 0), (DOG, 0.31, 1)),
        found((CAR, 0.9, 0)),
    ]
    words, seen = sought(answers)
    session = PromptedSession(TrackingSession(FakeSegmenter()), PromptPlan(), None, [words])
    names = []
    for t in range(5):
        result = session.step(frame(t))
        names.append([each.name for each in result.objects])
    assert names == [[], ["red car"], ["red car"], ["red car", "dog"], ["red car", "dog"]]
    assert seen == [0, 1, 2, 3]  # both are found: nobody looks any more
    assert words.missing == ()


def test_prompts_are_masks_or_boxes_inside_the_frame() -> None:
    words, _ = sought([found((CAR, 0.8, 0), (DOG, 0.9, 1)), found((CAR, 0.8, 0), masks=True)])
    dog, car = words.prompts(frame(0), ())
    assert (dog.name, car.name) == ("dog", "red car")
    assert dog.box is not None and dog.box.tolist() == [40, 30, 64, 48] and dog.mask is None
    words, _ = sought([found((CAR, 0.8, 0), masks=True)])
    (car,) = words.prompts(frame(0), ())
    assert car.mask is not None and car.mask.sum() == 15 * 10


def test_a_name_that_is_followed_is_not_looked_for() -> None:
    words, seen = sought([found((CAR, 0.8, 0)), found((CAR, 0.8, 0), (DOG, 0.8, 1))])
    plan = PromptPlan({0: (Prompt(box=OTHER, name="red car"),)})
    session = PromptedSession(TrackingSession(FakeSegmenter()), plan, None, [words])
    session.step(frame(0))
    result = session.step(frame(1))
    assert [each.name for each in result.objects] == ["red car", "dog"]
    assert seen == [0, 1]
