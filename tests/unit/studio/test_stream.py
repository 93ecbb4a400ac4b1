"""The stream actor without any web: late prompts, corrections, undo, replay, budget, files."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from studio_streams import BLUE, RED, Filed, Scripted, ScriptedFrames, picture, state, wait

from vision_mem.errors import InputError
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.mots.config import MotsConfig
from vision_mem.mots.lifecycle import LifecycleConfig
from vision_mem.sources.open import open_source
from vision_mem.studio.commands import ObjectPlan, parse_command, prompt_json, read_log
from vision_mem.studio.detection_prompts import DetectionPrompts
from vision_mem.studio.frames import LiveFrames, PushedFrames, decode_jpeg, encode_jpeg
from vision_mem.studio.object_sessions import Lane, ReplaySession
from vision_mem.studio.questions import SEEN_FROM, StreamQuestions
from vision_mem.studio.results_store import ObjectStatus, ResultsStore, Row
from vision_mem.studio.stream import LOG, FrameMessage, StreamActor, read_frame_message
from vision_mem.tracking.config import TrackingConfig
from vision_mem.types import LOST, SURE, UNSURE, Detections, Frame
from vision_mem.videoqa.evidence import ThumbnailSession, open_session


@contextmanager
def scripted(folder: Path, **options: Any) -> Iterator[Scripted]:
    made = Scripted(folder, **options)
    try:
        yield made
    finally:
        made.close()


END = 68


def _run(folder: Path, lag: int, correct: bool = True) -> dict[int, list[Any]]:
    """Two objects and a correction of the first, each ``lag`` frames after what the user saw."""
    with scripted(folder) as stream:
        stream.until(2 + lag).do("prompt", frame=2, name="red", **RED)
        stream.do("prompt", frame=2, name="blue", **BLUE)
        if correct:
            stream.until(7 + lag)
            stream.do("prompt", frame=7, object=1, points=[[22, 40], [5, 5]], labels=[1, 0])
        stream.until(END)
        return {number: stream.rows(number) for number in (1, 2)}


@pytest.fixture(scope="module")
def in_time(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Any]]:
    """What comes of prompts without any delay."""
    return _run(tmp_path_factory.mktemp("in-time"), 0)


# At 30 frames a second.
@pytest.mark.parametrize("lag", [2, 15, 60], ids=["50ms", "500ms", "2000ms"])
def test_a_late_prompt_ends_as_one_in_time(
    tmp_path: Path, in_time: dict[int, list[Any]], lag: int
) -> None:
    assert _run(tmp_path, lag) == in_time
    assert len(in_time[1]) == END - 1 and any("corrected" in row[7] for row in in_time[1])


def test_a_correction_changes_no_other_object(
    tmp_path: Path, in_time: dict[int, list[Any]]
) -> None:
    without = _run(tmp_path, 2, correct=False)
    assert without[2] == in_time[2] and without[1] != in_time[1]  # not even in the last bit


def test_the_log_replayed_gives_the_same(tmp_path: Path) -> None:
    with scripted(tmp_path) as stream:
        stream.until(30).do("prompt", frame=12, name="red", **RED)
        stream.do("prompt", frame=30, **BLUE)
        stream.until(50).do("prompt", frame=20, object=1, points=[[36, 40]])
        stream.do("undo")
        stream.do("remove", frame=45, object=2)
        stream.do("rename", object=1, name="cup")
        found = {number: stream.until(60).rows(number) for number in (1, 2)}
    plan = read_log(tmp_path / LOG).plan
    assert plan.objects[1].name == "cup"
    session = ReplaySession(FakeSegmenter(), TrackingConfig(), plan)
    rows: dict[int, list[Any]] = {1: [], 2: []}
    for index in range(61):
        image = decode_jpeg(encode_jpeg(picture(index), 92))
        result = session.step(Frame(index, index / 30, image))
        for each in result.objects:
            rows[each.object_id].append((index, each.score, each.box.tobytes()))
        removed = [event for event in result.events if event.kind == "removed"]
        assert bool(removed) == (index == 45)
    for number, mine in rows.items():
        assert mine == [(row[1], row[3], row[5]) for row in found[number]]
    assert len(rows[2]) == 15


def test_undo_and_redo_restore_to_the_bit(tmp_path: Path) -> None:
    with scripted(tmp_path) as stream:
        stream.until(20).do("prompt", frame=10, **RED)
        before = stream.rows(1)
        stream.do("prompt", frame=15, object=1, points=[[140, 20], [27, 40]], labels=[1, 0])
        corrected = stream.rows(1)
        assert corrected != before
        stream.do("undo")
        assert stream.rows(1) == before
        stream.do("redo")
        assert stream.rows(1) == corrected
        stream.do("remove", frame=18, object=1)
        assert [row[1] for row in stream.rows(1)] == list(range(10, 18))
        stream.do("undo")
        assert stream.rows(1) == corrected
        stream.do("remove", frame=0, object=1)
        assert stream.rows(1) == []
        stream.do("undo")
        assert stream.rows(1) == corrected
        stream.do("undo"), stream.do("undo")
        assert stream.rows(1) == [] and stream.actor.history.plan.objects == {}
        with pytest.raises(InputError, match="nothing to undo"):
            stream.do("undo")
        # Its number is never given again, also not once it is undone.
        assert stream.do("prompt", frame=20, **RED)["object"] == 2


def test_an_earlier_first_prompt_and_its_undo(tmp_path: Path) -> None:
    with scripted(tmp_path) as stream:
        stream.until(40).do("prompt", frame=30, **RED | {"points": [[50, 42]]})
        alone = stream.rows(1)
        stream.do("prompt", frame=10, object=1, **RED)
        assert [row[1] for row in stream.rows(1)] == list(range(10, 41))
        stream.do("undo")
        assert stream.rows(1) == alone


def test_two_objects_become_one(tmp_path: Path) -> None:
    with scripted(tmp_path) as stream:
        stream.until(30).do("prompt", frame=5, name="one", **RED)
        stream.do("prompt", frame=20, name="two", **BLUE)
        stream.do("merge", object=1, other=2)
        rows = stream.rows(1)
        assert [row[1] for row in rows] == list(range(5, 31)) and stream.rows(2) == []
        assert rows[15][7] == "corrected"
        stream.do("undo")
        assert len(stream.rows(2)) == 11


def test_frames_that_were_left_out_do_not_matter(tmp_path: Path) -> None:
    runs = []
    for lag in (0, 30):
        with scripted(tmp_path / str(lag), gap=3) as stream:
            stream.until(12 + lag).do("prompt", frame=12, **RED)
            runs.append(stream.until(60).rows(1))
            lane = stream.actor.store.lanes(0, 60)[1]
            assert stream.actor.ring.rate == pytest.approx(30)
        assert lane[:12] == [-1] * 12 and -1 not in lane[12:]  # without holes
    assert runs[0] == runs[1] and [row[1] for row in runs[0]] == list(range(12, 61, 3))


def test_memory_stays_in_its_budget_and_says_what_it_lost(tmp_path: Path) -> None:
    budget = 300_000
    with scripted(tmp_path, budget=budget) as stream:
        stream.until(5).do("prompt", frame=5, **RED)
        most = 0
        for end in range(20, 220, 20):
            stream.until(end)
            wait(lambda: stream.actor.held() <= budget, stream.actor)
            most = max(most, stream.actor.held())
        assert budget / 4 < most <= budget
        low, high = stream.actor.ring.span
        assert 0 < low < high == 200
        with pytest.raises(InputError, match=f"frame 3 can no longer .* from {low} to {high}"):
            stream.do("prompt", frame=3, object=1, **RED)
        assert stream.do("prompt", frame=high - 10, object=1, points=[[30, 40]])["object"] == 1
        assert [row[1] for row in stream.rows(1)] == list(range(5, 201))


def test_what_states_hold_is_counted_and_comes_back_whole() -> None:
    plan = ObjectPlan(1, "red", ((0, replace(parse_command(
        {"command": "prompt", "frame": 0, **RED}).prompt, object_id=1)),))  # fmt: skip
    lane = Lane(FakeSegmenter(), TrackingConfig())
    tracemalloc.start()
    try:
        for index in range(40):
            lane.step(Frame(index, index / 30, picture(index)), plan)
            if index == 19:
                before, counted = tracemalloc.get_traced_memory()[0], lane.bytes
        traced = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # Held as they are, states take 27 KB each beside their tensors.
    assert traced < 20 * 16_000 and lane.bytes - counted > traced / 2
    again = lane.back_to(40)
    assert again.bytes == lane.bytes and again.front == 39
    frame = Frame(40, 40 / 30, picture(40))
    one, other = lane.step(frame, plan), again.step(frame, plan)
    assert (one.counts, one.score, one.diary) == (other.counts, other.score, other.diary)
    while lane.thin():
        pass
    lane.forget_before(100)
    ((index, held),) = lane.states.items()
    places = {one.untyped_storage().data_ptr(): one for one in held.tensors}
    numbers = sum(one.untyped_storage().nbytes() for one in places.values())
    assert index == 40 and numbers + len(held.plain) < lane.bytes < again.bytes / 3


def test_a_stream_that_drops_ends_well_and_goes_on(tmp_path: Path) -> None:
    with scripted(tmp_path) as stream:
        stream.until(20).do("prompt", frame=10, name="red", **RED)
        stream.actor.frames.ended = "the source has ended"  # type: ignore[misc]
        assert stream.rows(1)[-1][1] == 20
        wait(lambda: stream.actor.status["ended"] is not None)
    with pytest.raises(InputError, match="closed"):
        stream.do("play")
    with scripted(tmp_path) as again:  # from the same folder: numbers go on
        again.until(30)
        rows = again.rows(1)
        assert [row[1] for row in rows] == list(range(10, 31))
    with scripted(tmp_path / "whole") as whole:
        whole.until(20).do("prompt", frame=10, name="red", **RED)
        assert whole.until(30).rows(1) == rows


def _breaks(monkeypatch: pytest.MonkeyPatch, when: Callable[[Lane, int, ObjectPlan], bool]) -> None:
    """Let steps of lanes fail, as a device that is out of memory does."""
    step = Lane.step

    def failing(self: Lane, frame: Frame, plan: ObjectPlan) -> Row:
        if when(self, frame.index, plan):
            raise RuntimeError("out of memory")
        return step(self, frame, plan)

    monkeypatch.setattr(Lane, "step", failing)


@pytest.mark.parametrize(("bad", "at_once"), [(15, False), (12, True)])
def test_a_correction_that_cannot_be_computed_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int, at_once: bool
) -> None:
    with scripted(tmp_path) as stream:
        stream.until(20).do("prompt", frame=10, name="red", **RED)
        before = stream.rows(1)
        _breaks(monkeypatch, lambda _, n, plan: n == bad and len(plan.prompts) > 1)
        correct = {"frame": 12, "object": 1, "points": [[34, 40]]}
        if at_once:
            with pytest.raises(InputError, match="latest change of red could not be computed"):
                stream.do("prompt", **correct)
        else:
            stream.do("prompt", **correct)
        assert stream.rows(1) == before
        (note,) = stream.actor.status["notes"]
        assert "is undone: unexpected RuntimeError" in note[1]
        assert len(stream.until(24).rows(1)) == len(before) + 4  # the stream goes on
        for plan in (stream.actor.history.plan, read_log(tmp_path / LOG).plan):
            assert [frame for frame, _ in plan.objects[1].prompts] == [10]
        assert stream.actor.history.can()["redo"]


def test_an_object_that_cannot_be_followed_on_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(tmp_path) as stream:
        stream.until(10).do("prompt", frame=10, name="red", **RED)
        stream.do("prompt", frame=10, name="blue", **BLUE)
        _breaks(monkeypatch, lambda _, n, plan: n == 14 and plan.name == "red")
        stream.until(20)
        assert [row[1] for row in stream.rows(1)] == [10, 11, 12, 13]
        assert len(stream.rows(2)) == 11 and stream.actor.problem is None
        assert "red could not be followed on frame 14" in stream.actor.status["notes"][0][1]
        monkeypatch.undo()
        stream.do("undo")  # tries again
        assert len(stream.rows(1)) == 11


def test_a_webcam_that_comes_back_with_other_pictures(tmp_path: Path) -> None:
    def opened() -> StreamActor:
        frames = partial(PushedFrames, "webcam")
        return StreamActor("webcam", frames, FakeSegmenter(), TrackingConfig(), tmp_path).start()

    def push(actor: StreamActor, sizes: list[float]) -> None:
        for scale in sizes:
            image = cv2.resize(picture(4), None, fx=scale, fy=scale)
            before = actor._head
            actor.frames.push(encode_jpeg(image, 92))  # type: ignore[attr-defined]
            wait(lambda before=before: actor._head != before, actor)  # type: ignore[misc]

    first = opened()
    push(first, [1, 1])
    first.submit(parse_command({"command": "prompt", "frame": 1, **RED})).result(20)
    push(first, [1, 2])
    first.close()
    again = opened()
    push(again, [2, 0.5, 1])
    wait(lambda: set(again.store.rows(6)) == {1}, again)
    assert again.problem is None and again.status["notes"] == []
    assert again.store.size == again.store.rows(6)[1].size == (96, 160)
    again.close()


def _row(state: str, edge: bool = False) -> Row:
    box = np.array([0 if edge else 40, 40, 60, 60], np.float32)
    return Row(state != LOST, 0.9 if state == SURE else 0.3, 1.0, box, (96, 160), "")


@pytest.mark.parametrize(
    ("states", "edges", "told"),
    [
        ([SURE] * 6 + [UNSURE, SURE], "", {6: "unsure"}),
        ([SURE, UNSURE, SURE, UNSURE], "", {}),  # a score that flickers
        ([SURE, LOST, LOST, SURE], "", {1: "lost", 3: "found"}),
        ([SURE, SURE, LOST, SURE], "13", {2: "left", 3: "entered"}),
        ([LOST, UNSURE], "", {1: "found"}),
    ],
)
def test_what_is_told_of_a_state(states: list[str], edges: str, told: dict[int, str]) -> None:
    status, found = None, {}
    for n, name in enumerate(states):
        status, change = ObjectStatus.after(status, _row(name, str(n) in edges))
        found |= {n: change} if change else {}
    assert found == told


def test_events_are_kept_replaced_and_taken_over_from_older_folders(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path / "results.sqlite")
    for n, (events, change) in enumerate(
        [(("added",), ""), ((), "unsure"), (("lost",), "left"), (("found", "corrected"), "entered")]
    ):
        store.put(1, n, replace(_row(SURE), events=events, change=change))
    told = [(0, 1, "added"), (1, 1, "unsure"), (2, 1, "left"), (3, 1, "corrected entered")]
    assert store.events(0) == told and store.events(1, 2) == told[1:3]
    store.put(1, 1, _row(SURE))
    store.drop(1, low=3)
    assert [n for n, _, _ in store.events(0)] == [0, 2]
    store._file.execute("drop table changes")
    store.close()
    again = ResultsStore(tmp_path / "results.sqlite")
    assert again.events(0) == [(0, 1, "added"), (2, 1, "lost")]
    again.close()


def test_wrong_commands_change_nothing(tmp_path: Path) -> None:
    with scripted(tmp_path) as stream:
        stream.until(10).do("prompt", frame=5, **RED)
        before, log = stream.rows(1), (tmp_path / LOG).read_bytes()
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"command": "prompt", "frame": 99, **RED}, "no longer"),
            ({"command": "prompt", "frame": 5, "points": [[999, 1]]}, "outside the frame"),
            ({"command": "prompt", "frame": 5, "points": [[9, 1]], "labels": [0]}, "on it"),
            ({"command": "prompt", "frame": 5, "direction": "both", **RED}, "only files"),
            ({"command": "remove", "object": 7}, "no object 7"),
            ({"command": "merge", "object": 1, "other": 1}, "itself"),
            ({"command": "redo"}, "nothing to redo"),
            ({"command": "seek", "frame": -4}, "number from 0"),
            ({"command": "rename", "object": 1, "name": "a\nb"}, "one line"),
            ({"command": "shout"}, "expected prompt"),
            ({"command": "prompt", "frame": 5, "box": [0, 0, 0, 5]}, "above 0"),
            ({"command": "prompt", "frame": 5, "points": "xy"}, "points"),
            ({"command": "prompt", "frame": 5, "mask": {"size": [96, 160], "counts": "~"}}, "mask"),
        ]
        for said, why in wrong:
            with pytest.raises(InputError, match=why):
                stream.do(**said)
        assert stream.rows(1) == before and (tmp_path / LOG).read_bytes() == log


def test_a_file_forwards_backwards_and_from_any_frame(tmp_path: Path, small_clip: Path) -> None:
    whole = Filed(tmp_path / "a", small_clip)
    jumped = Filed(tmp_path / "b", small_clip)
    box = {"box": [80, 45, 40, 40]}
    try:
        whole.until(31).do("prompt", frame=26, direction="both", name="cup", **box)
        rows = whole.rows(1)
        assert [row[1] for row in rows] == list(range(32))
        jumped.do("seek", frame=26)  # nothing is followed: no need to look at what lies between
        assert jumped.do("prompt", frame=26, direction="both", name="cup", **box)["behind"]
        jumped.do("seek", frame=31)
        wait(lambda: jumped.actor._head == 31, jumped.actor)
        assert jumped.rows(1) == rows
        jumped.do("undo")
        assert jumped.rows(1) == []
        jumped.do("redo")
        assert jumped.rows(1) == rows
        with pytest.raises(InputError, match="no frame 40"):
            jumped.do("seek", frame=40)
    finally:
        whole.close()
        jumped.close()
    again = Filed(tmp_path / "b", small_clip)
    try:
        assert again.actor._head == 31 and again.rows(1) == rows
    finally:
        again.close()


def test_a_killed_studio_goes_on(tmp_path: Path, small_clip: Path) -> None:
    running = Filed(tmp_path / "a", small_clip)
    try:
        running.until(8).do("prompt", frame=3, box=[30, 28, 40, 40])
        running.until(20)
        wait(lambda: running.actor.store.fronts().get(1) == running.actor._head, running.actor)
        # What lies on the disk right now is what a kill -9 leaves.
        shutil.copytree(
            tmp_path / "a", tmp_path / "killed", ignore=shutil.ignore_patterns("*.partial")
        )
        whole = running.until(31).rows(1)
    finally:
        running.close()
    again = Filed(tmp_path / "killed", small_clip)
    try:
        assert again.until(31).rows(1) == whole and len(whole) == 29
    finally:
        again.close()


def test_what_a_page_is_sent(tmp_path: Path) -> None:
    messages: list[FrameMessage | str] = []
    with scripted(tmp_path) as stream:
        stop = stream.actor.listen(messages.append)
        stream.until(30)
        stream.do("prompt", frame=10, name="red", **RED)
        wait(lambda: any("preview" in _head(m) for m in messages if not isinstance(m, str)))
        heads = [_head(message) for message in messages if not isinstance(message, str)]
        (preview,) = [head for head in heads if "preview" in head]
        assert preview["frame"] == 10 and preview["objects"][0]["name"] == "red"
        assert {"state", "score", "box", "rle"} < set(preview["objects"][0])
        stream.do("pause")
        stream.until(40)
        assert stream.do("seek", frame=12)["shown"] == 12
        wait(lambda: json.loads(_texts(messages)[-1])["shown"] == 12)
        state = json.loads(_texts(messages)[-1])
        assert state["head"] == 40 and state["objects"][0]["name"] == "red"
        stop()
        stream.do("play")  # whatever was under way has arrived
        count = len(messages)
        stream.until(45)
        assert len(messages) == count


def test_a_frame_is_encoded_once_for_all_pages_and_not_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    encode = "vision_mem.studio.stream.encode_jpeg"
    monkeypatch.setattr(encode, lambda image: made.append(1) or encode_jpeg(image))
    message = FrameMessage({"frame": 3}, picture(3))
    assert made == [] and not message.quick
    assert message.content() is message.content() and made == [1] and message.quick
    assert read_frame_message(message.content())[0] == {"frame": 3}
    ready = FrameMessage({"frame": 3}, encode_jpeg(picture(3)))
    assert ready.quick and read_frame_message(ready.content())[1] == encode_jpeg(picture(3))
    assert made == [1]


def _head(message: FrameMessage) -> dict[str, Any]:
    head, content = read_frame_message(message.content())
    assert content.startswith(b"\xff\xd8")
    return head


def _texts(messages: list[FrameMessage | str]) -> list[str]:
    return [message for message in messages if isinstance(message, str)]


class Squares:
    """A detector that sees the two squares, the blue one until a frame, and counts its looks."""

    name, stateful, reports_absence = "squares", False, True

    def __init__(self, blue_until: int = 10**6, late: int = 0) -> None:
        self.looks = self.closed = 0
        self._blue_until, self._late = blue_until, late

    def detect(self, frame: Frame) -> Detections:
        self.looks += 1
        t = max(0, frame.index - self._late)
        x, y = 10 + t % 110, 10 + t % 60
        boxes = [[x, 30, x + 24, 54], [1, 1, 4, 4], [130, y, 150, y + 20]]
        count = 3 if t < self._blue_until else 2
        return Detections(
            np.array(boxes[:count], np.float32), labels=np.array([1, 3, 2][:count]),
            names={1: "red", 2: "blue"}, frame_index=t if self._late else None,
        )  # fmt: skip

    def reset(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


def _names(stream: Scripted) -> list[str]:
    return [one.name for one in stream.actor.history.plan.objects.values()]


def test_everything_is_followed_once_and_stays_a_users_to_change(tmp_path: Path) -> None:
    seen = Squares()
    with scripted(tmp_path, detect=lambda word, classes: seen) as stream:
        stream.until(5).do("prompt", frame=5, name="mine", **RED)
        stream.do("detect", on=True, detector="squares")
        stream.until(20)
        plan = stream.actor.history.plan.objects
        assert _names(stream) == ["mine", "blue 1"]
        # Followed from where it was seen first, though it took three looks to be believed.
        assert plan[2].first == 6 and len(stream.rows(2)) == 21 - 6
        stream.do("undo")  # the user's own, not the detector's
        assert _names(stream) == ["blue 1"]
        stream.until(26)
        assert _names(stream) == ["blue 1", "red 2"]
        stream.do("remove", frame=0, object=3)
        stream.until(34)
        assert _names(stream) == ["blue 1"]  # what a user removed does not come again
        stream.do("detect", on=False)
        looks = seen.looks
        stream.until(40)
        assert seen.looks == looks and seen.closed == 1
        assert len(stream.rows(2)) > 30
    # What a detector began is in the log, and needs no detector to come again.
    plan_again = read_log(tmp_path / LOG).plan.objects
    for number, one in stream.actor.history.plan.objects.items():
        assert plan_again[number].name == one.name
        told = [
            [(n, prompt_json(p)) for n, p in each.prompts] for each in (one, plan_again[number])
        ]
        assert told[0] == told[1]


def test_what_is_lost_for_good_ends_where_it_was_lost(tmp_path: Path) -> None:
    rules = MotsConfig(lifecycle=LifecycleConfig(max_lost_s=0.2, max_misses=4))
    prompts = DetectionPrompts(Squares(blue_until=8), "squares", rules)
    with scripted(tmp_path) as stream:
        stream.until(0)
        stream.actor._detection = prompts
        stream.until(30)
        stream.rows(2)
        ends = {one.name: one.end for one in stream.actor.history.plan.objects.values()}
        assert ends["red 1"] is None and 8 < (ends["blue 2"] or 0) < 16
        # Ended objects are no load: there is room for as many again.
        assert stream.actor._followed_by(stream.actor.history.plan) == 1


def test_answers_of_a_slow_detector_count_for_the_frame_they_were_made_of(tmp_path: Path) -> None:
    with scripted(tmp_path, detect=lambda word, classes: Squares(late=6)) as stream:
        stream.until(10).do("detect", on=True, detector="squares")
        stream.until(20)
        plan = stream.actor.history.plan.objects
        assert {one.name: one.first for one in plan.values()} == {"red 1": 5, "blue 2": 5}
        assert len(stream.rows(1)) == 16 and stream.actor.status["notes"] == []


def test_a_detector_that_breaks_is_switched_off(tmp_path: Path) -> None:
    seen = Squares()
    seen.detect = lambda frame: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with scripted(tmp_path, detect=lambda word, classes: seen) as stream:
        stream.until(5).do("detect", on=True, detector="squares")
        stream.until(10)
        wait(lambda: stream.actor.status["notes"], stream.actor)
        assert "follow everything is off" in stream.actor.status["notes"][0][1]
        assert seen.closed == 1 and stream.actor.status["detector"] is None


def test_a_memory_beside_the_stream_is_asked(tmp_path: Path) -> None:
    def open_memory() -> ThumbnailSession:
        return ThumbnailSession(open_session(FakeVideoModel(), None, ["fps=10"]))

    memory = StreamQuestions(open_memory)
    with scripted(tmp_path, watch=memory.look) as stream:
        with pytest.raises(InputError, match="nothing was seen"):
            memory.ask("red?")
        for end in (10, 20, 30):
            stream.until(end)
            wait(lambda end=end: memory._session.session.seen == (end, end / 30))  # type: ignore[union-attr, misc]
        answer = memory.ask("red?")
        assert answer["evidence"] and answer["evidence"][0]["picture"][:2] == b"\xff\xd8"
        assert 0 <= answer["evidence"][0]["frame"] <= 30
        assert answer["seen"] and answer["guess"] is None  # it talks
        with pytest.raises(InputError, match="empty"):
            memory.ask(" ")
    memory.close()
    broken = StreamQuestions(lambda: (_ for _ in ()).throw(InputError("no such model")))
    with pytest.raises(InputError, match="no such model"):
        broken.ask("red?")
    broken.close()


@pytest.mark.parametrize(
    ("score", "seen", "word"),
    [(0.81, True, "probably seen"), (SEEN_FROM, True, "probably seen"),
     (0.39, False, "probably not seen")],
)  # fmt: skip
def test_an_answer_by_a_score_is_marked_as_a_guess(
    monkeypatch: pytest.MonkeyPatch, score: float, seen: bool, word: str
) -> None:
    model = FakeVideoModel(speaks=False)
    memory = StreamQuestions(lambda: ThumbnailSession(open_session(model, None, [])))
    memory.look(Frame(0, 0.0, picture(0)))
    wait(lambda: memory._session is not None and memory._session.session.seen is not None)
    moment = SimpleNamespace(start_s=0.0, end_s=1.0, score=score, grid=0)
    monkeypatch.setattr("vision_mem.studio.questions.spans_of", lambda *_: [moment])
    answer = memory.ask("an elephant?")
    memory.close()
    assert answer["seen"] is seen and answer["text"] is None
    assert answer["guess"].startswith(f"{word}: the best moment scores {score:.2f}")
    assert f"from {SEEN_FROM:.2f} on" in answer["guess"]


def test_a_model_that_is_still_loaded_holds_nobody_up() -> None:
    go_on = Event()
    memory = StreamQuestions(lambda: go_on.wait(20) and None)  # type: ignore[arg-type, return-value]
    begin = time.monotonic()
    memory.close()
    assert time.monotonic() - begin < 0.5
    with pytest.raises(InputError, match="still being loaded"):
        memory.ask("red?")
    go_on.set()


def test_what_is_live_is_followed_as_the_picture_that_is_kept() -> None:
    source = open_source([picture(t) for t in range(5)])
    frames = LiveFrames(source, lambda: None, first=40)
    wait(lambda: frames.ended is not None)
    found = frames.poll()
    assert found is not None and frames.poll() is None
    frame, content = found
    assert content is not None and frame.index == 44
    assert np.array_equal(decode_jpeg(content), frame.image)
    assert frames.counts() == {"came": 5, "dropped": 4, "reconnects": 0}
    assert frames.ended == "the source has ended"
    frames.close()


def test_rows_hold_what_a_result_holds(tmp_path: Path) -> None:
    with scripted(tmp_path) as stream:
        stream.until(5).do("prompt", frame=5, **RED)
        stream.rows(1)
        row = stream.actor.store.rows(5, diaries=True)[1]
    assert isinstance(row, Row) and row.events == ("added",) and row.state == "sure"
    result = row.result(1, "red")
    assert result.mask.shape == (96, 160) and result.mask.any() and result.diary["age"] == 0


def test_a_source_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    class Broken(ScriptedFrames):
        def poll(self) -> Any:
            raise RuntimeError("the camera burns")

    actor = StreamActor(
        "x",
        lambda wake, first, size: Broken(wake, first),
        FakeSegmenter(),
        TrackingConfig(),
        tmp_path,
    ).start()
    wait(lambda: actor.status["problem"] is not None)
    assert actor.problem == "the camera burns" and actor.status["problem"] == "the camera burns"
    with pytest.raises(InputError, match="burns"):
        actor.submit(state())
