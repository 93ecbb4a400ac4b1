"""A slow sink behind the run: order, errors, and that nothing is left over."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from vision_mem.errors import SinkError
from vision_mem.sinks.video import WriteBehind
from vision_mem.types import Frame, SourceInfo

INFO = SourceInfo("street", 8, 6, 10.0)


def frame(index):
    return Frame(index, index / 10, np.zeros((6, 8, 3), np.uint8))


class Slow:
    """Writes down what it is told; fails at one frame if asked to."""

    def __init__(self, seconds=0.0, fails_at=None):
        self.seconds, self.fails_at = seconds, fails_at
        self.told, self.closed, self.threads = [], 0, set()

    def open(self, info):
        self.info = info

    def write(self, frame, result):
        time.sleep(self.seconds)
        self.threads.add(threading.current_thread().name)
        if frame.index == self.fails_at:
            raise SinkError("the disk is full")
        self.told.append((frame.index, result))

    def close(self):
        self.closed += 1


def test_all_frames_in_order_before_close_returns():
    slow = Slow(0.005)
    behind = WriteBehind(slow, depth=3)
    behind.open(INFO)
    assert slow.info is INFO
    for index in range(20):
        behind.write(frame(index), f"result {index}")
    behind.close()
    assert slow.told == [(index, f"result {index}") for index in range(20)]
    assert slow.threads == {"vision-mem-write-behind"} and slow.closed == 1
    assert "vision-mem-write-behind" not in {thread.name for thread in threading.enumerate()}


def test_waits_when_too_far_behind():
    gate = threading.Event()
    slow = Slow()
    slow.write = lambda frame, result: gate.wait(5)
    behind = WriteBehind(slow, depth=2)
    behind.open(INFO)
    done = threading.Event()

    def push():
        for index in range(4):  # one at work, two waiting, one too many
            behind.write(frame(index), None)
        done.set()

    pusher = threading.Thread(target=push)
    pusher.start()
    assert not done.wait(0.2)
    gate.set()
    assert done.wait(5)
    pusher.join()
    behind.close()


def test_an_error_comes_to_light_once_and_ends_the_writing():
    slow = Slow(fails_at=2)
    behind = WriteBehind(slow)
    behind.open(INFO)
    with pytest.raises(SinkError, match="disk is full"):
        for index in range(500):
            behind.write(frame(index), None)
            time.sleep(0.001)
    behind.close()
    assert [index for index, _ in slow.told] == [0, 1] and slow.closed == 1


def test_an_error_of_the_last_frame_comes_with_close():
    slow = Slow(0.01, fails_at=1)
    behind = WriteBehind(slow)
    behind.open(INFO)
    behind.write(frame(0), None)
    behind.write(frame(1), None)
    with pytest.raises(SinkError, match="disk is full"):
        behind.close()
    assert slow.closed == 1
    behind.close()


def test_closing_what_never_began():
    slow = Slow()
    behind = WriteBehind(slow)
    behind.open(INFO)
    behind.close()
    assert slow.closed == 1 and not slow.threads
