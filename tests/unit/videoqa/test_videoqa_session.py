"""A video memory session on generated frames: what it looks at, forgets and keeps; settings."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from videoqa_streams import GREEN, frame, plain, same, session, watch

from vision_mem.config import load_config, preset_names, read_preset
from vision_mem.errors import InputError, ModelError
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

# -- watching --------------------------------------------------------------------------------------


def test_two_frames_make_a_grid():
    one = session()
    assert one.seen is None
    results = watch(one, range(5))
    assert one.seen == (4, 4.0)
    assert [r.wrote for r in results] == [(), (0,), (), (1,), ()]
    assert [r.tokens for r in results] == [0, 24, 24, 48, 48]
    assert [e.frames for e in one.memory.entries] == [(0, 1), (2, 3)]
    assert [(e.start_s, e.end_s) for e in one.memory.entries] == [(0.0, 1.0), (2.0, 3.0)]
    usage = one.usage()
    assert usage.entries == 3
    assert usage.detail["waiting frames"] == 80 * 120 * 3
    assert usage.tokens == {"short": 48, "mid": 0, "long": 0}


def test_a_model_with_a_frame_a_grid():
    one = session(model=FakeVideoModel(frames_per_grid=1))
    assert [r.wrote for r in watch(one, range(3))] == [(0,), (1,), (2,)]
    assert one.memory.short_grids == 4
    assert one.ask("red?").grids_read == 3


@pytest.mark.parametrize(
    ("what", "fps", "times", "looked"),
    [
        ("25 fps", 1.0, [t / 25 for t in range(76)], [0, 25, 50, 75]),
        ("29.97 fps", 1.0, [t / 29.97 for t in range(91)], [0, 30, 60, 90]),
        ("twice a second of 3", 2.0, [t / 3 for t in range(7)], [0, 2, 3, 5, 6]),
        ("slower than asked", 1.0, [0, 3, 6, 9], [0, 1, 2, 3]),
        ("a gap", 1.0, [0, 0.5, 7.9, 8.0, 8.5, 9.0], [0, 2, 3, 5]),
        ("wall-clock time", 1.0, [1.7e9, 1.7e9 + 0.4, 1.7e9 + 1], [0, 2]),
        ("every frame", None, [0, 0.04, 0.08], [0, 1, 2]),
        ("a clock set back a little", None, [0, 1, 0.5, 2], [0, 1, 2, 3]),
    ],
)
def test_which_frames_are_looked_at(what, fps, times, looked):
    one = session(fps=fps)
    blank = np.zeros((40, 40, 3), np.uint8)
    results = [one.step(Frame(t, float(time), blank)) for t, time in enumerate(times)]
    assert [r.frame_index for r in results if r.looked] == looked, what
    starts = [e.start_s for e in one.memory.entries]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("what", "bad", "says"),
    [
        ("the same frame", (3, 3.0), "frame 3 comes twice"),
        ("time runs back", (4, 1.9), "comes after 3 s; time cannot run back"),
        ("no time", (4, float("nan")), "frame 4 has time nan"),
    ],
)
def test_frames_that_are_refused_change_nothing(what, bad, says):
    one = session()
    watch(one, range(4))
    state = one.state_dict()
    with pytest.raises(InputError, match=says) as error:
        one.step(replace(frame(0), index=bad[0], time_s=bad[1]))
    assert "\n" not in str(error.value)
    assert same(one.state_dict(), state), what


def test_a_grid_beyond_the_budget_loses_nothing():
    one = session(("memory.budget", 30))
    watch(one, range(3))
    one.step(frame(3, size=(160, 160)))
    state = one.state_dict()
    with pytest.raises(InputError, match=r"64 tokens, more than memory.budget 30"):
        one.step(frame(4, size=(160, 160)))
    assert same(one.state_dict(), state)
    assert one.memory.entries[-1].frames == (2,), "the waiting frame became a grid before"


def test_another_frame_size_begins_a_segment_and_loses_no_frame():
    one = session()
    results = [*watch(one, range(3)), *watch(one, range(3, 8), size=(120, 80))]
    assert [r.segment for r in results] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert [r.wrote for r in results] == [(), (0,), (), (1,), (2,), (), (3,), ()]
    held = one.memory.entries
    assert [e.frames for e in held] == [(0, 1), (2,), (3, 4), (5, 6)]
    assert [e.size for e in held] == [(4, 6), (4, 6), (6, 4), (6, 4)]
    assert one.ask("red").grids_read == 4, "of the first nothing is left: the next shows it all"


def test_a_model_that_fails_loses_nothing():
    class Failing(FakeVideoModel):
        fails = False

        def encode_grid(self, frames):
            if self.fails:
                raise RuntimeError("out of memory")
            return super().encode_grid(frames)

    model = Failing()
    one, fine = session(model=model), session()
    watch(one, range(7))
    model.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        one.step(frame(7))
    model.fails = False
    watch(one, range(7, 20))
    watch(fine, range(20))
    assert same(one.state_dict(), fine.state_dict())


# -- keeping and forgetting ------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 5])
@pytest.mark.parametrize("preset", sorted({*preset_names("videoqa")} - {"card"}))  # for files
def test_any_chunks_with_questions_between_equal_the_whole_clip(chunk, preset):
    model = FakeVideoModel()
    whole = session(model=model, preset=preset)
    watch(whole, range(20))
    one = session(model=model, preset=preset)
    for first in range(0, 20, chunk):
        watch(one, range(first, min(first + chunk, 20)))
        one.ask("green")
        again = session(model=model, preset=preset)
        again.load_state_dict(one.state_dict())
        one = again
    assert same(one.state_dict(), whole.state_dict())
    assert plain(one.ask("green")) == plain(whole.ask("green"))


def test_two_streams_on_one_model_do_not_meet():
    model = FakeVideoModel()
    one, other, alone = (session(model=model) for _ in range(3))
    for t in range(24):
        one.step(frame(t))
        other.step(frame(t, size=(100, 60), colours=dict.fromkeys(range(24), GREEN)))
        if t % 5 == 4:
            other.ask("green")
    watch(alone, range(24))
    assert same(one.state_dict(), alone.state_dict())
    assert plain(one.ask("green")) == plain(alone.ask("green"))


def test_forget_a_span_for_good(tmp_path):
    one = session()
    watch(one, range(25))
    assert one.forget(8.0, 11.0) > 0
    assert one.forget(24.0, 24.0) == 1, "a waiting frame is forgotten too"
    assert one.usage().detail["waiting frames"] == 0
    assert all(not 8 <= m.start_s < 12 for m in one.ask("green", scope="all").evidence)
    one.forget(0, 100)
    with pytest.raises(InputError, match="everything was forgotten"):
        one.ask("green")
    watch(one, range(25, 28))
    assert one.ask("blue").evidence


def test_snapshot_and_resume(tmp_path):
    model = FakeVideoModel()
    one = session(("retrieval.gate", "stream"), ("fps", 2.0), model=model)
    watch(one, range(17), every_s=0.3)
    path = tmp_path / "one.safetensors"
    one.snapshot(path)
    again = VideoMemorySession.resume(path, model)
    assert again.config == one.config
    assert same(again.state_dict(), one.state_dict())
    for made in (one, again):
        watch(made, range(17, 30), every_s=0.3)
    assert plain(one.ask("green")) == plain(again.ask("green"))
    with pytest.raises(ModelError, match="cannot continue on 'other'"):
        VideoMemorySession.resume(path, FakeVideoModel("other"))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match="damaged"):
        VideoMemorySession.resume(path, model)


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.pop("memory"),
        lambda s: s["memory"].update(entries=[{}]),
        lambda s: s["memory"]["motion"].update(speed=1),
        lambda s: s.update(pending=[{"index": 1, "time_s": 2.0, "image": torch.zeros(3)}]),
        lambda s: s.update(pending=s["pending"] * 2),
        lambda s: s.update(size="big"),
        lambda s: s.update(carried=[]),
        lambda s: s["memory"]["entries"][0].update(features=torch.zeros(24, 5)),
    ],
)
def test_a_damaged_state_changes_nothing(damage):
    one = session()
    watch(one, range(5))
    state = one.state_dict()
    damage(state)
    fresh = session()
    watch(fresh, range(3))
    before = fresh.state_dict()
    with pytest.raises(ModelError, match="not a whole state of a video memory") as error:
        fresh.load_state_dict(state)
    assert "\n" not in str(error.value)
    assert same(fresh.state_dict(), before)


# -- settings --------------------------------------------------------------------------------------


RIVALS = ("fifo", "full", "official", "recent-only", "similarity-only", "uniform")


def test_presets_are_these_and_say_no_default_twice():
    names = sorted(["card", "default", "search", *RIVALS])
    assert preset_names("videoqa") == names
    default = asdict(VideoQaConfig())
    for name in names:
        load_config(VideoQaConfig, name, folder="videoqa")
        for key, value in read_preset(name, "videoqa").items():
            for inner, number in value.items() if isinstance(value, dict) else ():
                assert default[key][inner] != number, f"{name}: {key}.{inner}"


def test_rivals_have_the_same_budget():
    budgets = {
        load_config(VideoQaConfig, name, folder="videoqa").memory.budget
        for name in ("default", *RIVALS)
    }
    assert budgets == {2048}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("fps=0", "fps is 0.*expected a number above 0"),
        ("memory.rules=lru", "memory.rules is 'lru'; expected one of tiers"),
        ("memory.budget=0", "memory.budget is 0; expected 1 or more"),
        ("memory.short_frames=0", "expected 1 or more"),
        ("memory.short_share=1.5", "memory.short_share is 1.5; expected a number from 0 to 1"),
        ("memory.drop_similarity=nan", "expected a number"),
        ("memory.fixed_distance=3", "from 0 to 2"),
        ("retrieval.gate=oracle", "expected one of best, stream, carried, off"),
        ("retrieval.low_spread=0.4", "expected the low one below the high one"),
        ("positions.mode=relative", "expected one of absolute, rebase, compact"),
        ("salience.questions=[]", "expected one text or more"),
        ("salience.questions=['a',' ']", "none empty"),
        ("evidence=0", "evidence is 0; expected 1 or more"),
        ("memory.buget=5", "did you mean 'memory.budget'"),
    ],
)
def test_settings_that_cannot_be_used(change, says):
    with pytest.raises(InputError, match=says):
        load_config(VideoQaConfig, "default", [change], folder="videoqa")
