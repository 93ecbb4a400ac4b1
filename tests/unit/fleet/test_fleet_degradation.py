"""What a stream gives up, in order, and that a smaller picture is the same scene."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vision_mem.fleet.degradation import (
    LEVELS,
    CameraSegmenter,
    StreamBudget,
    StreamLoad,
    allow_all,
    give_up_one,
    next_level,
)
from vision_mem.fleet.device_host import SharedModels
from vision_mem.geometry.boxes import box_iou
from vision_mem.models.detectors.open import SHARED_DETECTORS, open_detector
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.tracking.session import PromptedSession, TrackingSession
from vision_mem.types import Frame, Prompt

BUDGET = StreamBudget(delay_s=1.0, bytes=1000, min_fps=2.0)


@pytest.mark.parametrize(
    ("level", "delay_s", "held", "fps", "left_out", "after"),
    [
        (0, 0.2, 10, 30, 0, 0),
        (0, 0.2, 10, 9, 21, 1),
        (1, 0.2, 10, 30, 0, 0),
        (1, 0.2, 10, 1.5, 80, 2),  # too few frames a second
        (1, 1.5, 10, 9, 21, 2),  # too late
        (2, 1.5, 10, 9, 21, 3),
        (3, 1.5, 10, 9, 21, 3),
        (3, 0.2, 10, 2.5, 21, 3),  # in time, but there is no room yet
        (3, 0.2, 10, 9, 21, 2),
        (2, 0.2, 10, 9, 21, 1),
        (2, 0.7, 10, 9, 21, 2),
        (0, 0.2, 1001, 30, 0, 3),  # only objects hold memory
        (3, 0.2, 900, 30, 0, 3),
        (3, 0.2, 700, 30, 0, 2),
    ],
)
def test_levels(
    level: int, delay_s: float, held: int, fps: float, left_out: int, after: int
) -> None:
    assert next_level(level, StreamLoad(delay_s, held, fps, left_out), BUDGET) == after
    assert after < len(LEVELS)


def scene(index: int) -> Frame:
    image = np.full((120, 160, 3), 80, np.uint8)
    image[40:80, 40 + index : 80 + index] = (220, 30, 30)
    image[10:30, 100:130] = (30, 220, 30)
    return Frame(index, index / 10, image)


def two_objects() -> list[Prompt]:
    boxes = {"red": (40, 40, 80, 80), "green": (100, 10, 130, 30)}
    return [Prompt(box=np.array(box, np.float32), name=name) for name, box in boxes.items()]


def test_a_smaller_picture_shows_the_same_in_pixels_of_the_frame() -> None:
    view = CameraSegmenter(FakeSegmenter())
    plain, small = TrackingSession(FakeSegmenter()), TrackingSession(view)
    plain.step(scene(0), two_objects()[:1])
    small.step(scene(0), two_objects()[:1])
    view.smaller = True
    asked = two_objects()[1:]
    before, after = plain.step(scene(1), asked), small.step(scene(1), asked)
    assert view._small is not None, "it was shown the half"
    for one, other in zip(before.objects, after.objects, strict=True):
        assert other.present and other.mask.shape == (120, 160)
        assert box_iou(one.box, other.box) > 0.8


def test_the_least_sure_object_goes_and_the_last_one_stays() -> None:
    session = PromptedSession.__new__(PromptedSession)
    session._session = inner = TrackingSession(FakeSegmenter())
    result = inner.step(scene(0), two_objects())
    least = min(result.objects, key=lambda one: (one.score, -one.object_id)).object_id
    assert give_up_one(session, result)
    assert least not in inner.object_ids and len(inner.object_ids) == 1
    assert not give_up_one(session, result)
    assert [e.kind for e in inner.step(scene(1)).events] == ["removed"]
    allow_all(session)  # nothing to allow: no error


def test_networks_of_detectors_are_shared_and_what_remembers_a_stream_is_not() -> None:
    models, made = SharedModels(), []

    def make(stateful: bool) -> SimpleNamespace:
        made.append(SimpleNamespace(stateful=stateful))
        return made[-1]

    network = models.detector(("dfine", "cpu"), lambda: make(False))
    assert models.detector(("dfine", "cpu"), lambda: make(False)) is network
    assert models.detector(("dfine", "cuda"), lambda: make(False)) is not network
    motion = models.detector(("motion",), lambda: make(True))
    assert models.detector(("motion",), lambda: make(True)) is not motion
    assert len(made) == 4
    token = SHARED_DETECTORS.set(models.detector)
    try:
        assert open_detector("motion") is not open_detector("motion")
    finally:
        SHARED_DETECTORS.reset(token)
