"""Prompts, events, corrections, identities and snapshots of a tracking session."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vision_mem.config import load_config, preset_names, read_preset
from vision_mem.errors import InputError, ModelError, SinkError
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.tracking import MaskSelectionConfig, TrackingConfig, TrackingSession
from vision_mem.tracking.policies.recent import RecentFrames
from vision_mem.types import Frame, Prompt

RED = (20, 40, 54, 70)


def frame(t=0, hidden=False, size=(120, 160)):
    image = np.full((*size, 3), 110, np.uint8)
    if not hidden:
        image[40:70, 20 + 2 * t : 54 + 2 * t] = (220, 40, 30)
    image[80:110, 100:130] = (30, 60, 220)
    return Frame(index=t, time_s=t / 25, image=image)


def answers(session, frames):
    return [[(o.object_id, o.mask.tobytes()) for o in session.step(f).objects] for f in frames]


def test_follows_a_box_and_reports_events():
    session = TrackingSession(FakeSegmenter())
    result = session.step(frame(), [Prompt(box=RED, name="red")])
    assert [(e.kind, e.object_id, e.name) for e in result.events] == [("added", 1, "red")]
    kinds = {}
    for t in range(1, 30):
        result = session.step(frame(t, hidden=12 <= t < 15))
        kinds.update((t, e.kind) for e in result.events)
    assert kinds == {12: "lost", 15: "found"}
    assert result[1].present
    np.testing.assert_allclose(result[1].box, (78, 40, 112, 70), atol=6)
    event = session.remove(1)
    result = session.step(frame(30))
    assert event.kind == "removed" and result.events == (event,) and not result.objects


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (Prompt(box=(10, 10, 10, 40)), "no area"),
        (Prompt(box=(50, 40, 20, 70)), "two corners"),
        (Prompt(box=(170, 10, 190, 20)), "outside the frame; the frame is 160 x 120"),
        (Prompt(points=[(160, 5)]), "point (160, 5) lies outside"),
        (Prompt(mask=np.ones((5, 7), bool)), "mask is 7 x 5"),
        (Prompt(mask=np.zeros((120, 160), bool)), "marks no pixel"),
        (Prompt(object_id=-1, box=RED), "negative"),
    ],
)
def test_bad_prompts_are_refused_and_lose_nothing(prompt, words):
    session = TrackingSession(FakeSegmenter())
    session.step(frame(), [Prompt(box=RED)])
    before = session.state_dict()
    with pytest.raises(InputError) as caught:
        session.step(frame(1), [Prompt(box=(100, 80, 130, 110)), prompt])
    assert words in str(caught.value) and "\n" not in str(caught.value)
    same(session.state_dict(), before)
    other = TrackingSession(FakeSegmenter())
    other.step(frame(), [Prompt(box=RED)])
    assert answers(session, map(frame, range(1, 5))) == answers(other, map(frame, range(1, 5)))


def test_a_segmenter_that_fails_loses_nothing(monkeypatch):
    session = TrackingSession(FakeSegmenter())
    session.step(frame(), [Prompt(box=RED)])
    before = session.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(session.segmenter, "encode_memory", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.step(frame(1), [Prompt(points=[(110, 90)])])
    same(session.state_dict(), before)
    assert [e.kind for e in session.step(frame(1), [Prompt(points=[(110, 90)])]).events] == [
        "added"
    ]


def test_box_partly_outside_is_cut_and_noted(caplog):
    session = TrackingSession(FakeSegmenter())
    result = session.step(frame(), [Prompt(box=(-10, 40, 54, 70))])
    assert "cut at the frame's borders" in result[1].diary["notes"][0]
    assert "cut at the frame's borders" in caplog.text


def test_ids_are_given_once():
    session = TrackingSession(FakeSegmenter())
    session.step(frame(), [Prompt(object_id=5, box=RED), Prompt(object_id=2, box=RED)])
    assert session.object_ids == (5, 2)
    session.remove(5)
    with pytest.raises(InputError, match="removed"):
        session.step(frame(1), [Prompt(object_id=5, box=RED)])
    session.step(frame(1), [Prompt(box=RED), Prompt(object_id=3, box=RED)])
    assert session.object_ids == (2, 6, 3)
    with pytest.raises(InputError, match="no object 5"):
        session.remove(5)


def test_correction_on_the_same_frame_touches_only_its_object():
    session, other = TrackingSession(FakeSegmenter()), TrackingSession(FakeSegmenter())
    both = [Prompt(box=RED), Prompt(box=(100, 80, 130, 110))]
    for one in (session, other):
        one.step(frame(), both)
        one.step(frame(1))
    again = session.step(frame(1), [Prompt(object_id=1, box=(22, 40, 40, 55))])
    assert [e.kind for e in again.events] == ["corrected"]
    other.step(frame(1))  # a look without prompts changes nothing
    same(session.state_dict()["outcomes"][1], other.state_dict()["outcomes"][1])
    assert again[1].mask.sum() < other.step(frame(1))[1].mask.sum()
    assert again[1].diary["age"] == 1 and again[1].diary["prompt"] == "box"
    in_one_go = TrackingSession(FakeSegmenter())
    in_one_go.step(frame(), both)
    in_one_go.step(frame(1), [Prompt(object_id=1, box=(22, 40, 40, 55))])
    same(session.state_dict(), in_one_go.state_dict())
    with pytest.raises(InputError, match="two different images"):
        session.step(replace(frame(2), index=1))


def test_frame_size_may_change_and_memory_stays():
    session = TrackingSession(FakeSegmenter())
    session.step(frame(), [Prompt(box=RED)])
    half = Frame(1, 0.04, np.ascontiguousarray(frame(1).image[::2, ::2]))
    result = session.step(half)
    assert result[1].mask.shape == (60, 80) and result[1].present


def test_a_grid_that_follows_the_frame_cannot_change():
    class Follows(FakeSegmenter):
        def encode_image(self, given):
            return replace(super().encode_image(given), grid_size=given.size)

    session = TrackingSession(Follows())
    session.step(frame(), [Prompt(box=RED)])
    before = session.state_dict()
    with pytest.raises(InputError, match="unlike those before"):
        session.step(frame(1, size=(140, 160)))
    same(session.state_dict(), before)


def test_diary_is_json_ready_and_hint_follows_motion():
    hints = []

    class Curious(FakeSegmenter):
        def decode(self, features, reads, **options):
            hints.extend(read.hint for read in reads)
            return super().decode(features, reads, **options)

    plain = TrackingConfig(policy=RecentFrames(), selection=MaskSelectionConfig(choice="iou"))
    for config in (TrackingConfig(), plain):
        hints.clear()
        session = TrackingSession(Curious(), config)
        session.step(frame(), [Prompt(box=RED)])
        for t in range(1, 25):
            result = session.step(frame(t, hidden=t > 20))
            diary = json.loads(json.dumps(result[1].diary, allow_nan=False))
            assert {"chosen", "state", "stable", "ious", "memory", "read"} <= set(diary)
        assert all(hint is not None and hint.spread > 0 for hint in hints)
        assert [hint.missing for hint in hints[-4:]] == [0, 1, 2, 3]
        assert hints[-1].spread > hints[-4].spread
        if config.selection.choice == "motion":
            assert hints[-1].box[0] > hints[-4].box[0]  # it coasts on, to the right


def test_empty_session_and_empty_frames():
    session = TrackingSession(FakeSegmenter())
    assert session.step(frame()).objects == ()
    assert session.usage().bytes == 0
    with pytest.raises(InputError):
        Frame(0, 0.0, np.zeros((0, 4, 3), np.uint8))


# -- snapshots -------------------------------------------------------------------------------------


def started(frames=8):
    session = TrackingSession(FakeSegmenter())
    session.step(frame(), [Prompt(box=RED), Prompt(points=[(110, 90)], name="blue")])
    for t in range(1, frames):
        session.step(frame(t))
    return session


def test_snapshot_round_trip(tmp_path):
    session = started()
    session.remove(2)
    path = tmp_path / "here.safetensors"
    session.snapshot(path)
    session.snapshot(path)  # over an old one
    assert [p.name for p in tmp_path.iterdir()] == ["here.safetensors"]
    resumed = TrackingSession.resume(path, FakeSegmenter())
    same(resumed.state_dict(), session.state_dict())
    assert resumed.usage() == session.usage()
    rest = [frame(t) for t in range(8, 16)]
    assert answers(resumed, rest) == answers(session, rest)


def test_snapshot_of_another_model_is_refused(tmp_path):
    started().snapshot(tmp_path / "a")
    with pytest.raises(ModelError, match="made with model 'fake' and cannot continue on 'other'"):
        TrackingSession.resume(tmp_path / "a", FakeSegmenter("other"))


def test_snapshot_where_it_cannot_be_written(tmp_path):
    with pytest.raises(SinkError, match="cannot be written"):
        started().snapshot(tmp_path / "no" / "folder" / "a")


def damaged_files(tmp_path):
    started().snapshot(tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    yield "no snapshot file", None
    yield "damaged", b""
    yield "damaged", good[: len(good) // 2]
    yield "damaged", good[:100]
    yield "damaged", b"\x80\x04cposix\nsystem\n."
    yield "damaged", b"\xff" * 200
    save_file({"a": torch.zeros(2)}, tmp_path / "plain")
    yield "no snapshot of a session", (tmp_path / "plain").read_bytes()
    notes = [
        ("not a whole state", {"state": {}}),
        ("not a whole state", {"state": {"outcomes": 3}}),
        ("damaged", {"state": {"x": {"__tensor__": "t99999"}}}),
        ("damaged", {"state": []}),
        ("version 99", {"version": 99}),
        ("of a 'chat' session", {"header": {"kind": "chat"}}),
        ("settings", {"header": {"kind": "tracking", "model_id": "fake", "config": {"a": 1}}}),
    ]
    config = json.loads(json.dumps(header_config()))
    base = {
        "format": "vision-mem-snapshot",
        "version": 1,
        "header": {"kind": "tracking", "model_id": "fake", "config": config},
        "state": {},
    }
    for words, change in notes:
        note = json.dumps({**base, **change})
        save_file({"t0": torch.zeros(2)}, tmp_path / "made", {"vision-mem-snapshot": note})
        yield words, (tmp_path / "made").read_bytes()
    deep = json.dumps(base)[:-3] + "[" * 90000 + "]" * 90000 + "}"
    save_file({"t0": torch.zeros(2)}, tmp_path / "made", {"vision-mem-snapshot": deep})
    yield "damaged", (tmp_path / "made").read_bytes()


def header_config():
    from dataclasses import asdict

    return asdict(TrackingConfig())


def test_damaged_and_hostile_snapshots_give_one_line(tmp_path):
    for number, (words, content) in enumerate(damaged_files(tmp_path)):
        path = tmp_path / f"file{number}"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            TrackingSession.resume(path, FakeSegmenter())
        assert words in str(caught.value), (number, str(caught.value))
        assert "\n" not in str(caught.value)


# -- presets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", preset_names("tracking"))
def test_presets_load_and_repeat_no_default(name):
    load_config(TrackingConfig, name, folder="tracking")
    default = TrackingConfig()
    for key, value in read_preset(name, "tracking").items():
        for inner, setting in value.items() if isinstance(value, dict) else [(None, value)]:
            owner = default if inner is None else getattr(default, key)
            assert getattr(owner, inner or key) != setting, f"{key}.{inner} repeats the default"


@pytest.mark.parametrize(
    "changes",
    [
        {"policy.choice": "best"},
        {"policy.motion_weight": 1.5},
        {"policy.stable_frames": 0},
        {"policy.max_prompts": 0},
        {"batch_objects": "maybe"},
        {"fill_hole_area": -1},
        {"num_frames_hint": 0},
    ],
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(InputError, match="expected"):
        load_config(TrackingConfig, "samurai", changes, folder="tracking")


def same(a, b):
    """Equal to the bit, tensors included."""
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a == b
