"""A detector in its own thread: the newest frame only, stamps, errors, an end."""

from __future__ import annotations

import gc
import logging
import threading
import time

import numpy as np
import pytest

from vision_mem.errors import ModelError
from vision_mem.models.detectors import Guarded, LatestOnly
from vision_mem.types import Detections, Frame

WAIT_S = 10.0


def frame(index):
    return Frame(index, index / 10, np.zeros((4, 6, 3), np.uint8))


class Slow:
    """Works on a frame until it is let go on."""

    name, stateful, reports_absence = "slow", True, False

    def __init__(self):
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.looked, self.resets, self.closed = [], [], False
        self.error = None

    def detect(self, frame):
        assert threading.current_thread() is not threading.main_thread()
        self.looked.append(frame.index)
        self.begun.release()
        assert self.go.acquire(timeout=WAIT_S)
        if self.error is not None:
            raise self.error
        return Detections(np.array([[0, 0, frame.index + 1, 1]]))

    def reset(self):
        self.resets.append(len(self.looked))

    def close(self):
        self.closed = True


def finish(slow, detector):
    """Let the frame in hand, and the one that waits behind it, be done."""
    slow.go.release(2)
    assert detector.wait(WAIT_S)


def threads():
    return [t for t in threading.enumerate() if t.name == "vision-mem-detect"]


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def detector(slow):
    made = LatestOnly(slow)
    yield made
    slow.go.release(1000)
    made.close()
    assert not threads()


def test_only_the_newest_frame_is_looked_at_and_answers_say_of_which(slow, detector) -> None:
    assert detector.detect(frame(0)) is None
    assert slow.begun.acquire(timeout=WAIT_S)  # it is at work on the first frame
    for index in range(1, 6):
        assert detector.detect(frame(index)) is None
    slow.go.release()
    assert slow.begun.acquire(timeout=WAIT_S)  # it went on with the newest
    found = detector.detect(frame(6))
    assert (found.frame_index, found.time_s, found.boxes[0, 2]) == (0, 0.0, 1)
    assert detector.detect(frame(7)) is None  # given out once
    finish(slow, detector)
    found = detector.detect(frame(8))
    assert (found.frame_index, found.time_s) == (7, 0.7)
    assert slow.looked[:3] == [0, 5, 7]
    assert detector.skipped == 5  # 1, 2, 3, 4 and 6
    assert not detector.reports_absence


def test_a_detector_as_quick_as_the_stream_misses_nothing() -> None:
    class Quick(Slow):
        def detect(self, frame):
            self.looked.append(frame.index)
            return Detections() if frame.index % 2 else None

    detector = LatestOnly(Quick())
    given = []
    for index in range(20):
        found = detector.detect(frame(index))
        given += [] if found is None else [found.frame_index]
        assert detector.wait(WAIT_S)
    assert given == list(range(1, 18, 2))  # the answer to the last one is still there
    assert detector.skipped == 0
    detector.close()


def test_errors_are_told_and_counted_not_lost(slow, detector, caplog) -> None:
    slow.error = ValueError("one bad frame")
    with caplog.at_level(logging.WARNING):
        for index in range(3):
            assert detector.detect(frame(index)) is None
            finish(slow, detector)
    (told,) = [record.message for record in caplog.records]
    assert "slow failed on frame 0: ValueError: one bad frame" in told
    assert detector.detector.errors == {"ValueError": 3}
    slow.error = None
    detector.detect(frame(3))
    finish(slow, detector)
    assert detector.detect(frame(4)).frame_index == 3


def test_what_ends_the_thread_is_raised_to_the_caller(slow) -> None:
    slow.error = ValueError("never works")
    slow.go.release(1000)
    detector = LatestOnly(Guarded(slow, give_up_after=2))
    detector.detect(frame(0))
    assert detector.wait(WAIT_S)
    detector.detect(frame(1))
    assert detector.wait(WAIT_S)
    for _ in range(2):
        with pytest.raises(ModelError, match="never works"):
            detector.detect(frame(2))
    assert detector.wait(WAIT_S)
    detector.close()
    assert not threads()


def test_reset_throws_away_what_belongs_to_the_stream_before(slow, detector) -> None:
    detector.detect(frame(0))
    assert slow.begun.acquire(timeout=WAIT_S)
    detector.detect(frame(1))
    detector.reset()  # while frame 0 is at work and frame 1 waits
    slow.go.release()
    assert detector.wait(WAIT_S)
    assert detector.detect(frame(100)) is None  # the answer to frame 0 is gone
    finish(slow, detector)
    assert detector.detect(frame(101)).frame_index == 100
    assert slow.looked[:2] == [0, 100]
    assert slow.resets == [1]  # in the thread, before the first frame of the new stream


def test_close_ends_the_thread_and_the_detector(slow) -> None:
    detector = LatestOnly(slow)
    detector.detect(frame(0))
    assert slow.begun.acquire(timeout=WAIT_S)
    slow.go.release()
    detector.close()
    detector.close()
    assert slow.closed
    assert not threads()
    detector.detect(frame(1))  # harmless
    assert slow.looked == [0]


def test_close_does_not_wait_for_ever(slow, caplog) -> None:
    detector = LatestOnly(slow)
    detector.detect(frame(0))
    assert slow.begun.acquire(timeout=WAIT_S)
    detector.close(timeout_s=0.05)
    assert "still at work" in caplog.text
    assert not slow.closed
    slow.go.release()
    threads_left(0)


def threads_left(count):
    until = time.monotonic() + WAIT_S
    while len(threads()) != count and time.monotonic() < until:
        time.sleep(0.01)
    assert len(threads()) == count


def test_a_forgotten_detector_takes_its_thread_along(slow) -> None:
    detector = LatestOnly(slow)
    slow.go.release(1000)
    detector.detect(frame(0))
    assert detector.wait(WAIT_S)
    assert len(threads()) == 1
    del detector
    gc.collect()
    threads_left(0)


def test_no_thread_before_the_first_frame() -> None:
    detector = LatestOnly(Slow())
    assert not threads()
    detector.close()
    assert not threads()
