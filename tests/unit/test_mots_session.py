"""A multi-object session on generated frames: what it follows, keeps, forgets and lets edit."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from vision_mem.config import load_config, preset_names, read_preset
from vision_mem.errors import InputError, ModelError
from vision_mem.models.fakes import FakeSegmenter
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.mots.own_rules import OwnRules
from vision_mem.types import Detections, Frame, Prompt

COLOURS = [(220, 40, 30), (30, 60, 220), (40, 200, 60), (230, 220, 30), (200, 40, 210)]
SIZE = (120, 160)
NOTHING = Detections()


def config(*changes, preset="default"):
    return load_config(MotsConfig, preset, changes, folder="mots")


def scene(t, boxes, *, seen=None, colours=COLOURS, **fields):
    """A frame with a coloured square in each box, and detections of all, or of some."""
    image = np.full((*SIZE, 3), 110, np.uint8)
    image[::7] += 6
    for (x1, y1, x2, y2), colour in zip(boxes, colours, strict=False):
        image[max(y1, 0) : y2, max(x1, 0) : x2] = colour
    shown = boxes if seen is None else [boxes[n] for n in seen]
    found = Detections(np.array(shown, np.float32).reshape(-1, 4), **fields)
    return Frame(t, t / 10.0, image), found


def two(t, **fields):
    return scene(t, [(10 + t, 10, 34 + t, 36), (100 - t, 70, 126 - t, 96)], **fields)


def run(session, frames, make=two, **fields):
    return [session.step(*make(t, **fields)) for t in frames]


def kinds(results, object_id=None):
    return [
        (result.frame_index, event.kind)
        for result in results
        for event in result.events
        if object_id in (None, event.object_id)
    ]


def answer(result):
    tracks = [
        (o.object_id, o.name, o.state, o.present, o.mask.tobytes(), o.box.tolist(), o.score)
        for o in result.tracks
    ]
    return tracks, [(event.kind, event.object_id) for event in result.events]


def same(first, second):
    """Whether two states are equal, tensors bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def test_births_are_shown_at_once_and_confirmed_after_three_hits():
    session = MotsSession(FakeSegmenter())
    results = run(session, range(4), labels=[3, 5], names={3: "car"})
    assert kinds(results) == [(0, "born")] * 2 + [(2, "confirmed")] * 2
    assert [len(result.shown) for result in results] == [2] * 4
    first, second = results[3].tracks
    assert (first.object_id, first.label, first.class_name, first.state) == (
        1,
        3,
        "car",
        "confirmed",
    )
    assert (second.label, second.class_name, second.detection) == (5, "class-5", 1)
    np.testing.assert_allclose(first.box, (13, 10, 37, 36), atol=6)
    assert not (first.mask & second.mask).any()


def test_tentative_tracks_can_be_kept_back():
    results = run(MotsSession(FakeSegmenter(), config("emit_tentative=false")), range(4))
    assert [len(result.shown) for result in results] == [0, 0, 2, 2]


def test_a_hundred_empty_frames_then_objects():
    session = MotsSession(FakeSegmenter())
    for t in range(100):
        result = session.step(scene(t, [])[0], NOTHING if t % 2 else None)
        assert result.tracks == () and result.events == ()
    assert session.usage().bytes == 0
    assert [o.object_id for o in session.step(*two(100)).shown] == [1, 2]


def test_duplicate_detections_give_one_track():
    frame, found = two(0)
    near = found.boxes + np.array([2, 0, 2, 0], np.float32)
    twice = Detections(np.concatenate([found.boxes, near]), [0.9, 0.8, 0.7, 0.95])
    assert len(MotsSession(FakeSegmenter()).step(frame, twice).shown) == 2
    off = config("birth.nms_iou=1", "birth.max_overlap=1", "birth.free_share=0")
    assert len(MotsSession(FakeSegmenter(), off).step(frame, twice).tracks) > 2


def test_a_ghost_is_removed_and_its_id_is_not_given_again():
    session = MotsSession(FakeSegmenter())
    ghost = scene(0, [(110, 10, 134, 36)], colours=[(110, 110, 110)])
    session.step(*ghost)
    results = run(session, range(1, 6))
    assert (3, "removed") in kinds(results, 1)
    assert [o.object_id for o in results[-1].shown] == [2, 3]


def test_tracks_go_on_when_the_detector_is_silent_and_not_for_ever_when_it_denies():
    silent, denied = MotsSession(FakeSegmenter()), MotsSession(FakeSegmenter())
    still = [(10, 10, 34, 36)]
    for session, word in ((silent, None), (denied, NOTHING)):
        for t in range(3):
            session.step(*scene(t, still))
        states = [session.step(scene(t, still)[0], word).tracks for t in range(3, 40)]
        lost = [t for t, tracks in enumerate(states) if tracks[0].state == "lost"]
        assert lost[:1] == ([] if word is None else [29])
    motion = MotsSession(FakeSegmenter())
    for t in range(3):
        motion.step(*scene(t, still))
    for t in range(3, 60):
        result = motion.step(scene(t, still)[0], NOTHING, reports_absence=False)
    assert result.tracks[0].present


def test_lost_found_and_removed():
    def blinking(t, gone=range(10, 16)):
        boxes = [(10, 10, 34, 36)]
        return scene(t, [] if t in gone else boxes)

    session = MotsSession(FakeSegmenter())
    results = [session.step(*blinking(t)) for t in range(20)]
    assert kinds(results, 1)[-2:] == [(10, "lost"), (16, "found")]
    assert results[12].tracks[0].state == "lost" and not results[12].shown
    assert session.track_ids == (1,)
    session = MotsSession(FakeSegmenter(), config("lifecycle.max_lost_s=0.35"))
    results = [session.step(*blinking(t, range(10, 90))) for t in range(20)]
    assert kinds(results, 1)[-2:] == [(10, "lost"), (14, "removed")]
    held = session.usage()
    assert held.tracks == {} and set(held.detail) == {"gallery"}


@pytest.mark.parametrize("gone_s", [1, 8])
def test_a_returning_object_gets_its_identity_back(gone_s):
    """After a second it is lost only; after eight it was removed and is known by its looks."""
    boxes = [(10, 10, 34, 36), (100, 70, 126, 96)]
    session, off = (
        MotsSession(FakeSegmenter()),
        MotsSession(FakeSegmenter(), config("gallery.enabled=false")),
    )
    back = 10 + gone_s * 10
    for one in (session, off):
        run(one, range(10), lambda t: scene(t, boxes))
        run(one, range(10, back), lambda t: scene(t, boxes[1:], colours=COLOURS[1:]))
        moved = [(60, 10, 84, 36), boxes[1]]
        run(one, range(back, back + 8), lambda t, moved=moved: scene(t, moved))
    assert session.track_ids == ((1, 2) if gone_s == 1 else (2, 1))
    assert 1 not in off.track_ids or gone_s == 1


def test_somebody_else_does_not_get_it():
    session = MotsSession(FakeSegmenter())
    run(session, range(10), lambda t: scene(t, [(10, 10, 34, 36)]))
    run(session, range(10, 90), lambda t: scene(t, []))
    run(session, range(90, 95), lambda t: scene(t, [(10, 10, 34, 36)], colours=[COLOURS[2]]))
    assert session.track_ids == (2,)


def test_a_detection_without_overlap_never_prompts_again(monkeypatch):
    segmenter = FakeSegmenter()
    session = MotsSession(segmenter)
    run(session, range(6))
    asked = []
    original = segmenter.decode_prompt
    monkeypatch.setattr(
        segmenter,
        "decode_prompt",
        lambda *a, **k: asked.append(k.get("read")) or original(*a, **k),
    )
    monkeypatch.setattr(OwnRules, "_weak", lambda *_: True)
    far = Detections(np.array([(60, 40, 80, 60)], np.float32))
    session.step(two(6)[0], far)
    assert all(read is None for read in asked)  # a birth at most
    session.step(*two(7))
    assert sum(read is not None for read in asked) == 2


def test_permuted_detections_permute_results():
    frame, found = two(0)
    masks = []
    for order in ([0, 1], [1, 0]):
        session = MotsSession(FakeSegmenter())
        session.step(frame, found.take(order))
        results = [session.step(two(t)[0], None) for t in range(1, 8)]
        masks.append([[r.tracks[n].mask for n in order] for r in results])
    assert all(
        np.array_equal(a, b) for x, y in zip(*masks, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_adding_and_removing_one_leaves_the_others_as_they_are():
    def masks(act):
        session = MotsSession(FakeSegmenter())
        run(session, range(4))
        act(session)
        results = [session.step(two(t)[0], None) for t in range(4, 10)]
        return [result[1].mask for result in results]

    alone = masks(lambda session: None)
    for act in (
        lambda session: session.delete(2),
        lambda session: session.prompt(None, Prompt(box=(60, 40, 75, 55))),
    ):
        assert all(map(np.array_equal, alone, masks(act)))


def test_too_many_are_refused_with_one_line(caplog):
    session = MotsSession(FakeSegmenter(), config("memory.max_tracks=1"))
    with caplog.at_level(logging.WARNING):
        for t in range(8):
            result = session.step(*two(t))
            assert len(result.tracks) == 1
    assert sum("max_tracks" in line for line in caplog.messages) == 1
    session.delete(result.tracks[0].object_id)
    assert len(session.step(*two(8)).tracks) == 1


def test_the_one_lost_longest_makes_room():
    session = MotsSession(FakeSegmenter(), config("memory.max_tracks=2", "lifecycle.max_lost_s=0"))
    run(session, range(5))
    third = [(10, 80, 30, 110)]
    for t in range(5, 9):
        result = session.step(*scene(t, third, colours=COLOURS[2:]))
    assert 3 in session.track_ids and len(session.track_ids) == 2
    assert result.shown[0].object_id == 3


@pytest.mark.parametrize("budget", [40_000, 20_000, 9_000, 500])
def test_the_budget_is_kept_to_the_byte(budget):
    session = MotsSession(FakeSegmenter(), config(f"memory.budget_mb={budget / 2**20}"))
    for t in range(40):
        session.step(*two(t))
        usage = session.usage()
        assert usage.bytes <= budget
        assert usage.bytes == sum(usage.detail.values())
    free = MotsSession(FakeSegmenter())
    run(free, range(40))
    assert free.usage().bytes > 20_000
    if budget == 40_000:
        assert answer(session.step(*two(40))) == answer(free.step(*two(40)))
    assert budget < 9_000 or session.track_ids


def test_usage_of_a_track_and_in_all():
    session = MotsSession(FakeSegmenter())
    run(session, range(20))
    usage = session.usage()
    assert set(usage.tracks) == {1, 2}
    assert usage.bytes == sum(usage.tracks.values())  # nothing is shared here
    assert session.usage(1).bytes == usage.tracks[1]
    with pytest.raises(InputError, match="no track 9; followed now: 1, 2"):
        session.usage(9)


@pytest.mark.parametrize("preset", ["default", "official", "probabilistic"])
def test_bounded_over_a_thousand_frames_of_comings_and_goings(preset):
    def visits(t):
        boxes, colours = [], []
        for lane in range(4):
            visit, step = divmod(t + 31 * lane, 70)
            if 2 < step < 60 and (visit + lane) % 4:
                boxes.append((2 * step, 4 + 28 * lane, 2 * step + 20, 24 + 28 * lane))
                colours.append(COLOURS[(visit * 3 + lane) % 5])
        return scene(t, boxes, colours=colours)

    changes = ["memory.max_tracks=8", "gallery.size=6"]
    session = MotsSession(FakeSegmenter(), config(*changes, preset=preset))
    sizes, born = [], []
    for t in range(1000):
        result = session.step(*visits(t))
        born += [event.object_id for event in result.events if event.kind == "born"]
        sizes.append(session.usage().bytes)
    assert len(born) == len(set(born)) > 7
    # Maps: 4 prompted and 6 tracked frames of 2 KiB; mask 4 KiB; looks, pointers and path.
    assert max(sizes) <= 8 * (10 * 2048 + 4096 + 3000) + 6 * 2000
    assert max(sizes[600:]) <= 1.1 * max(sizes[300:600])
    assert len(session.track_ids) <= 8


def test_snapshot_and_resume_continue_identically(tmp_path):
    segmenter = FakeSegmenter()
    session = MotsSession(segmenter, config("memory.max_tracks=5", "birth.free_share=0.55"))
    run(session, range(9))
    session.rename(1, "anna")
    session.snapshot(tmp_path / "s.safetensors")
    resumed = MotsSession.resume(tmp_path / "s.safetensors", segmenter)
    assert resumed.config == session.config
    for t in range(9, 30):
        assert answer(session.step(*two(t))) == answer(resumed.step(*two(t)))
    assert same(session.state_dict(), resumed.state_dict())
    with pytest.raises(ModelError, match="cannot continue on 'other'"):
        MotsSession.resume(tmp_path / "s.safetensors", FakeSegmenter("other"))
    with pytest.raises(ModelError, match="not a whole state"):
        session.load_state_dict({"tracks": []})


def test_a_step_that_fails_loses_nothing(monkeypatch):
    segmenter = FakeSegmenter()
    session = MotsSession(segmenter)
    run(session, range(5))
    before = session.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(segmenter, "encode_memory", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.step(*two(5))
    assert same(session.state_dict(), before)
    with pytest.raises(InputError, match="comes twice"):
        session.step(*two(4))
    assert len(session.step(*two(5)).shown) == 2


# -- edits -------------------------------------------------------------------------------------


@pytest.fixture
def edited():
    session = MotsSession(FakeSegmenter())
    run(session, range(5))
    return session


def test_prompts_start_and_correct_tracks(edited):
    new = edited.prompt(None, Prompt(box=(60, 40, 80, 60), name="mine"))
    assert new == 3 and edited.track_ids == (1, 2, 3)
    assert edited.prompt(1, Prompt(box=(16, 12, 36, 34))) == 1
    result = edited.step(two(5)[0], None)
    assert [(e.kind, e.object_id) for e in result.events] == [("born", 3), ("corrected", 1)]
    assert result[3].name == "mine" and result[3].state == "confirmed"
    assert result[1].present
    with pytest.raises(InputError, match="outside the frame"):
        edited.prompt(1, Prompt(box=(900, 900, 950, 950)))
    with pytest.raises(InputError, match="no track 77"):
        edited.prompt(77, Prompt(box=(16, 12, 36, 34)))


def test_delete_is_for_good(edited):
    event = edited.delete(2)
    assert (event.kind, event.object_id) == ("removed", 2)
    with pytest.raises(InputError, match="is gone"):
        edited.prompt(2, Prompt(box=(60, 40, 80, 60)))
    with pytest.raises(InputError, match="is gone"):
        edited.delete(2)
    result = edited.step(*two(5))
    assert result.events[0] == event
    assert [o.object_id for o in result.tracks] == [1, 3]  # it is still detected: somebody new


def test_rename(edited):
    edited.rename(1, "anna")
    result = edited.step(*two(5))
    assert result[1].name == "anna" and kinds([result]) == [(5, "renamed")]
    with pytest.raises(InputError, match="empty"):
        edited.rename(1, " ")


def test_merge_keeps_one_identity_where_the_object_is(edited):
    edited.merge(1, 2)
    result = edited.step(two(5)[0], None)
    assert [(e.frame_index, e.kind) for e in result.events] == [(4, "merged"), (4, "removed")]
    assert [o.object_id for o in result.tracks] == [1] and result[1].box[1] < 40
    for wrong, words in (((1, 1), "itself"), ((1, 2), "gone"), ((9, 1), "no track 9")):
        with pytest.raises(InputError, match=words):
            edited.merge(*wrong)


def test_a_lost_identity_goes_on_where_the_other_one_is():
    session = MotsSession(FakeSegmenter(), config("gallery.enabled=false"))
    run(session, range(6), lambda t: scene(t, [(10, 10, 34, 36)]))
    other = [(100, 70, 126, 96)]
    run(session, range(6, 12), lambda t: scene(t, other, colours=COLOURS[1:]))
    assert session.track_ids == (1, 2)
    session.merge(1, 2)
    result = session.step(*scene(12, other, colours=COLOURS[1:]))
    assert [o.object_id for o in result.shown] == [1] and result[1].box[1] > 40


def test_split_makes_two_of_one():
    both = [(20, 30, 60, 60), (60, 30, 100, 60)]
    red = [COLOURS[0], (215, 45, 35)]
    session = MotsSession(FakeSegmenter())
    whole = Detections(np.array([(20, 30, 100, 60)], np.float32))
    for t in range(4):
        session.step(scene(t, both, colours=red)[0], whole)
    new = session.split(1, np.array((60, 30, 100, 60), np.float32), name="right")
    result = session.step(scene(4, both, colours=red)[0], None)
    assert new == 2 and ("split", 2) in [(e.kind, e.object_id) for e in result.events]
    assert result[2].name == "right"
    for part, words in (((0, 0, 5, 5), "nothing"), ((0, 0, 160, 120), "all"), ((1, 2), "shape")):
        with pytest.raises(InputError, match=words):
            session.split(1, np.array(part, np.float32))


def test_edits_that_need_a_frame_say_so(tmp_path):
    segmenter = FakeSegmenter()
    session = MotsSession(segmenter)
    with pytest.raises(InputError, match="no frame yet"):
        session.prompt(None, Prompt(box=(1, 1, 9, 9)))
    run(session, range(3))
    session.snapshot(tmp_path / "s.safetensors")
    with pytest.raises(InputError, match="no frame yet"):
        MotsSession.resume(tmp_path / "s.safetensors", segmenter).split(1, np.zeros(4))


# -- settings ----------------------------------------------------------------------------------


def test_presets_load_and_say_nothing_that_is_default():
    assert preset_names("mots") == ["default", "motion", "official", "probabilistic"]
    assert config() == MotsConfig()
    for name in preset_names("mots"):
        said = read_preset(name, "mots")

        def changed(given, plain, where):
            for key, value in given.items():
                own = getattr(plain, key)
                if isinstance(value, dict):
                    changed(value, own, f"{where}.{key}")
                else:
                    assert value != own, f"{where}.{key} is the default"

        changed(said, MotsConfig(), name)


def test_unknown_settings_are_errors():
    with pytest.raises(InputError, match="did you mean 'lifecycle"):
        config("lifecycle.lost_evry=2")
    with pytest.raises(InputError, match="own, official"):
        replace(MotsConfig(), rules="theirs")
