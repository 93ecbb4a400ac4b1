"""A multi-object session on generated frames: whom it follows, loses and finds again."""

from __future__ import annotations

import numpy as np
import pytest
from mots_samples import COLOURS, NOTHING, config, kinds, run, scene, two

from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsSession
from vision_mem.mots.rules import OwnRules
from vision_mem.types import Detections, Prompt


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
    assert held.tracks == {} and set(held.detail) == {"camera", "gallery"}


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
