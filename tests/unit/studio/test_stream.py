"""The stream actor without any web: late prompts, corrections, undo, replay, budget, files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio_streams import BLUE, RED, Filed, Scripted, ScriptedFrames, picture, state, wait

from vision_mem.errors import InputError
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.sources.open import open_source
from vision_mem.studio.commands import prompt_json, read_log
from vision_mem.studio.frames import LiveFrames, decode_jpeg, encode_jpeg
from vision_mem.studio.object_sessions import ReplaySession
from vision_mem.studio.results_store import Row
from vision_mem.studio.stream import LOG, FrameMessage, read_frame_message
from vision_mem.studio.stream_memory import StreamMemory
from vision_mem.tracking.config import TrackingConfig
from vision_mem.types import Detections, Frame
from vision_mem.videoqa.evidence import ThumbnailSession, open_session


@contextmanager
def scripted(folder: Path, **options: Any) -> Iterator[Scripted]:
    made = Scripted(folder, **options)
    try:
        yield made
    finally:
        made.close()


def _run(folder: Path, lag: int, end: int = 86, correct: bool = True) -> dict[int, list[Any]]:
    """Two objects and a correction of the first, each ``lag`` frames after what the user saw."""
    with scripted(folder) as stream:
        stream.until(10 + lag).do("prompt", frame=10, name="red", **RED)
        stream.do("prompt", frame=10, name="blue", **BLUE)
        if correct:
            stream.until(20 + lag)
            stream.do("prompt", frame=20, object=1, points=[[35, 40], [5, 5]], labels=[1, 0])
        stream.until(end)
        return {number: stream.rows(number) for number in (1, 2)}


# At 30 frames a second.
@pytest.mark.parametrize("lag", [2, 15, 60], ids=["50ms", "500ms", "2000ms"])
def test_a_late_prompt_ends_as_one_in_time(tmp_path: Path, lag: int) -> None:
    late, in_time = _run(tmp_path / "late", lag), _run(tmp_path / "in time", 0)
    assert late == in_time
    assert len(late[1]) == 77 and any("corrected" in row[7] for row in late[1])
    # The other object does not know of the correction, not even in the last bit.
    assert late[2] == _run(tmp_path / "without", lag, correct=False)[2]


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
    budget = 600_000
    with scripted(tmp_path, budget=budget) as stream:
        stream.until(5).do("prompt", frame=5, **RED)
        most = 0
        for end in range(20, 400, 20):
            stream.until(end)
            wait(lambda: stream.actor.held() <= budget, stream.actor)
            most = max(most, stream.actor.held())
        assert budget / 4 < most <= budget
        low, high = stream.actor.ring.span
        assert 0 < low < high == 380
        with pytest.raises(InputError, match=f"frame 3 can no longer .* from {low} to {high}"):
            stream.do("prompt", frame=3, object=1, **RED)
        assert stream.do("prompt", frame=high - 30, object=1, points=[[30, 40]])["object"] == 1
        assert [row[1] for row in stream.rows(1)] == list(range(5, 381))


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


def _head(message: FrameMessage) -> dict[str, Any]:
    head, content = read_frame_message(message.content())
    assert content.startswith(b"\xff\xd8")
    return head


def _texts(messages: list[FrameMessage | str]) -> list[str]:
    return [message for message in messages if isinstance(message, str)]


class Squares:
    """A detector that sees the two squares on every frame, and counts."""

    name, stateful, reports_absence = "squares", False, True

    def __init__(self) -> None:
        self.looks = self.closed = 0

    def detect(self, frame: Frame) -> Detections:
        self.looks += 1
        t = frame.index
        x, y = 10 + t % 110, 10 + t % 60
        boxes = [[x, 30, x + 24, 54], [130, y, 150, y + 20], [1, 1, 4, 4]]
        labels = np.array([1, 2, 3])
        return Detections(np.array(boxes, np.float32), labels=labels, names={1: "red", 2: "blue"})

    def reset(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


def test_everything_is_followed_once_and_stays_a_users_to_change(tmp_path: Path) -> None:
    seen = Squares()
    with scripted(tmp_path, detect=lambda word, classes: seen) as stream:
        stream.until(5).do("prompt", frame=5, name="mine", **RED)
        stream.do("detect", on=True, detector="squares")
        stream.until(40)
        plan = stream.actor.history.plan.objects
        assert [one.name for one in plan.values()] == ["mine", "blue 1"]
        assert len(stream.rows(2)) == 41 - plan[2].first
        stream.do("undo")  # the user's own, not the detector's
        assert [one.name for one in stream.actor.history.plan.objects.values()] == ["blue 1"]
        stream.until(50)
        names = [one.name for one in stream.actor.history.plan.objects.values()]
        assert names == ["blue 1", "red 2"]
        stream.do("detect", on=False)
        looks = seen.looks
        stream.until(60)
        assert seen.looks == looks and seen.closed == 1
        found = stream.rows(2)
    # What a detector began is in the log, and needs no detector to come again.
    plan_again = read_log(tmp_path / LOG).plan.objects
    for number, one in stream.actor.history.plan.objects.items():
        assert plan_again[number].name == one.name
        told = [
            [(n, prompt_json(p)) for n, p in each.prompts] for each in (one, plan_again[number])
        ]
        assert told[0] == told[1]
    assert len(found) > 10


def test_a_memory_beside_the_stream_is_asked(tmp_path: Path) -> None:
    def open_memory() -> ThumbnailSession:
        return ThumbnailSession(open_session(FakeVideoModel(), None, ["fps=10"]))

    memory = StreamMemory(open_memory)
    with scripted(tmp_path, watch=memory.look) as stream:
        with pytest.raises(InputError, match="nothing was seen"):
            memory.ask("red?")
        for end in (10, 20, 30):
            stream.until(end)
            wait(lambda end=end: memory._session.session.seen == (end, end / 30))  # type: ignore[union-attr, misc]
        answer = memory.ask("red?")
        assert answer["evidence"] and answer["evidence"][0]["picture"][:2] == b"\xff\xd8"
        assert 0 <= answer["evidence"][0]["frame"] <= 30
        with pytest.raises(InputError, match="empty"):
            memory.ask(" ")
    memory.close()
    broken = StreamMemory(lambda: (_ for _ in ()).throw(InputError("no such model")))
    with pytest.raises(InputError, match="no such model"):
        broken.ask("red?")
    broken.close()


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

    from vision_mem.studio.stream import StreamActor

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
