"""Several objects at a time: the same results, the same errors, the same order."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from vision_mem.models.device import cores
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.mots import MotsSession
from vision_mem.tracking.parallel import mapped
from vision_mem.types import Detections, Frame


def test_results_come_in_order_from_several_threads() -> None:
    seen: set[str] = set()

    def work(number: int) -> int:
        seen.add(threading.current_thread().name)
        time.sleep(0.02 if number == 0 else 0.002)
        return number * number

    assert mapped(work, range(8), 3) == [n * n for n in range(8)]
    assert len(seen) > 1
    assert threading.current_thread().name not in seen
    assert 1 <= cores() <= 4096


def test_one_thread_is_the_callers_own() -> None:
    name = threading.current_thread().name
    assert mapped(lambda _: threading.current_thread().name, [1, 2, 3], 1) == [name] * 3
    assert mapped(lambda _: threading.current_thread().name, [1], 4) == [name]


def test_inference_mode_goes_along() -> None:
    with torch.inference_mode():
        assert mapped(lambda _: torch.is_inference_mode_enabled(), [1, 2], 2) == [True, True]
    assert mapped(lambda _: torch.is_inference_mode_enabled(), [1, 2], 2) == [False, False]


def test_errors_are_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        mapped(lambda n: 1 // n, [1, 0, 2], 2)


def test_many_objects_come_out_the_same_with_any_number_of_threads() -> None:
    segmenter = EmbeddedSegmenter.load("cpu", "fp32")
    sessions = [MotsSession(segmenter, threads=count) for count in (1, 3)]
    assert [session._engine.threads for session in sessions] == [1, 3]
    random = np.random.default_rng(0)
    ground = random.integers(80, 150, (120, 160, 3), np.uint8)
    colours = random.integers(0, 256, (4, 3))
    for t in range(6):
        image, boxes = ground.copy(), []
        for number, colour in enumerate(colours):
            x, y = 8 + 36 * number + t, 10 + 24 * number
            image[y : y + 22, x : x + 26] = colour
            boxes.append((x, y, x + 26, y + 22))
        found = Detections(np.array(boxes, np.float32))
        one, other = (session.step(Frame(t, t / 10, image), found) for session in sessions)
        assert len(one.tracks) == len(other.tracks) == 4
        for a, b in zip(one.tracks, other.tracks, strict=True):
            assert (a.object_id, a.state, a.score) == (b.object_id, b.state, b.score)
            assert np.array_equal(a.mask, b.mask)
