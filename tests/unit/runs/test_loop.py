"""The loop that track and demo share: signals, live sources that are resumed, progress, counts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.formats.prompts import plan_prompts
from vision_mem.runs import loop
from vision_mem.runs.progress import Progress, some
from vision_mem.runs.signals import StopSignals
from vision_mem.runs.tally import Tally
from vision_mem.tracking.prompts import check_plan
from vision_mem.types import Event, Frame, MemoryUsage, ObjectResult, SourceInfo, TrackingResult

INFO = SourceInfo("clip", 8, 6, 25.0, 10)
IMAGE = np.zeros((6, 8, 3), np.uint8)


class Source:
    """Ten frames; before frame ``slow`` it waits for long."""

    def __init__(self, slow: int | None = None, info: SourceInfo = INFO) -> None:
        self.info, self.slow, self.closed = info, slow, False

    def __iter__(self) -> Iterator[Frame]:
        for index in range(10):
            if index == self.slow:
                time.sleep(30)
            yield Frame(index, index / 25, IMAGE)

    def close(self) -> None:
        self.closed = True


def _result(index: int, present: bool = True, *events: str) -> TrackingResult:
    found = ObjectResult(1, "dog", present, IMAGE[..., 0] > 0, np.zeros(4, np.float32), 0.9, 1.0)
    happened = tuple(Event(kind, 1, index, index / 25, "dog") for kind in events)
    return TrackingResult(index, index / 25, (6, 8), (found,), happened)


def test_a_signal_between_frames_ends_the_stream_after_the_frame_in_hand() -> None:
    seen = []
    with StopSignals() as signals:
        for frame in signals.watch(Source()):
            if frame.index == 3:
                os.kill(os.getpid(), signal.SIGINT)
            seen.append(frame.index)
    assert seen == [0, 1, 2, 3]
    assert signals.exit_code == 130


def test_a_signal_ends_the_wait_for_a_frame_at_once() -> None:
    begin = time.monotonic()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with StopSignals() as signals:
        seen = [frame.index for frame in signals.watch(Source(slow=4))]
    assert seen == [0, 1, 2, 3]
    assert time.monotonic() - begin < 10
    assert signals.received == signal.SIGINT


def test_a_second_signal_stops_whatever_is_going_on() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals() as signals:
        for _ in signals.watch(Source()):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
    assert signals.exit_code == 0


def test_a_live_source_counts_on_when_resumed() -> None:
    source = Source()
    shifted = loop.ShiftedSource(source, 100)
    assert [frame.index for frame in shifted] == list(range(100, 110))
    assert shifted.info == INFO
    shifted.close()
    assert source.closed


@pytest.mark.parametrize(
    ("frame", "first", "stride", "resumed", "says"),
    [
        (9, 0, 1, False, None),
        (10, 0, 1, False, "the last frame is 9"),
        (3, 4, 1, False, "the first frame is 4"),
        (3, 4, 1, True, None),
        (5, 0, 2, False, "--stride 2 leaves out"),
        (18, 0, 2, False, None),
    ],
)
def test_prompts_on_frames_nobody_will_see(
    frame: int, first: int, stride: int, resumed: bool, says: str | None
) -> None:
    plan = plan_prompts(boxes=[f"1,2,3,3@{frame}"])
    if says is None:
        check_plan(plan, INFO, first, stride, resumed=resumed)
    else:
        with pytest.raises(InputError, match=says):
            check_plan(plan, INFO, first, stride, resumed=resumed)


def test_live_sources_take_late_prompts_on_the_next_frame() -> None:
    live = SourceInfo("camera-0", 8, 6, 25.0, None, live=True)
    check_plan(plan_prompts(boxes=["1,2,3,4@5"]), live, 0, 2)


def test_counts_and_words() -> None:
    tally = Tally()
    for index, (present, events) in enumerate(
        [(True, ("added",)), (False, ("lost",)), (True, ("found",)), (True, ())]
    ):
        tally.add(_result(index * 2, present, *events))
    tally.seconds = 2.0
    again = Tally(**tally.as_dict())
    assert again == tally
    assert again.last_index == 6
    assert again.lines() == [
        "4 frames in 2.0 s (2.0 frames/s)",
        "dog: to be seen in 3 of them, lost 1 time, found 1 time",
    ]


def test_doubt_is_counted_and_told() -> None:
    tally = Tally()
    for index, score in enumerate([0.9, 0.4, 0.8, 0.1]):
        result = _result(index)
        (one,) = result.objects
        doubted = replace(one, score=score)
        tally.add(replace(result, time_s=60.0 + index * 12.44, objects=(doubted,)))
    assert tally.objects["dog"]["unsure"] == 2
    assert Tally(**tally.as_dict()).lines()[1].endswith(", unsure on 2 frames, first at 1:12.4")


def test_progress_is_plain_lines_where_nobody_watches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vision_mem.runs.progress._PLAIN_EVERY_S", 0.0)
    with Progress(INFO, done=5) as progress:
        progress.update(_result(0), MemoryUsage(3, 2_500_000))
        progress.update(_result(1, False), MemoryUsage(3, 2_500_000))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("frame 6/15, ")
    assert "memory 2.5 MB, dog present" in first
    assert second.endswith("dog lost")
    assert progress.frames == 2
    assert some(list("abcd")) == "4 objects"


def test_progress_can_be_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(INFO, show=False) as progress:
        progress.update(_result(0), MemoryUsage(0, 0))
    assert capsys.readouterr().err == ""
    assert progress.rate > 0


def test_of_many_objects_the_summary_shows_ten() -> None:
    counts = {"present": 3, "lost": 0, "found": 0}
    for number, last in (
        (10, "thing-10: to be seen in 3"),
        (50, "and 40 more; all of them are in"),
    ):
        tally = Tally(3, 2, 1.0, {f"thing-{n + 1}": dict(counts) for n in range(number)})
        lines = tally.lines()
        assert len(lines) == (11 if number == 10 else 12) and lines[-1].startswith(last)
