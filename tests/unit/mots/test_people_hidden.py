"""Crowds: objects hidden by others of their kind, weak detections, and more tracks than allowed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mots_samples import NOTHING, answer, config, kinds, run, scene, two

from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsSession, reid
from vision_mem.mots.birth import BirthConfig, is_new, worth_a_look
from vision_mem.mots.regions import (
    margins_of,
    owned,
    owners,
    region_of,
    share_borders,
    with_margins,
)
from vision_mem.types import Detections

BACK, FRONT = (40, 20, 64, 60), (46, 22, 72, 64)


def box(*corners):
    return np.array(corners, np.float32)


def mask(x1, y1, x2, y2):
    found = np.zeros((100, 160), bool)
    found[y1:y2, x1:x2] = True
    return found


@pytest.mark.parametrize(
    ("score", "free", "overlap", "sure", "new"),
    [
        (0.95, 0.0, 0.0, False, False),
        (0.95, 0.9, 0.84, True, True),
        (0.95, 0.9, 0.85, True, False),
        (0.95, 0.1, 0.0, True, False),  # a track that nothing was detected of covers it
    ],
)
def test_a_sure_detection_is_new_beside_others_of_its_kind(score, free, overlap, sure, new):
    assert (is_new(BirthConfig(), score, "person", free, overlap, sure) is None) == new


@pytest.mark.parametrize(
    ("scores", "absence", "looked"),
    [((0.95, 0.95), True, 2), ((0.95, 0.8), True, 1), ((0.95, 0.95), False, 1)],
)
def test_two_sure_detections_may_overlap_by_more(scores, absence, looked):
    boxes = np.stack([box(0, 0, 20, 40), box(0, 0, 20, 50)])  # IoU 0.8
    found = worth_a_look(BirthConfig(), boxes, scores, [0, 0], (100, 160), absence)
    assert len(found) == looked


def hidden_scene(t, scores=(1.0, 1.0)):
    """Somebody stands behind somebody else, and both are detected whole."""
    frame, _ = scene(t, [BACK, FRONT])
    return frame, Detections(np.array([BACK, FRONT], np.float32), scores)


def test_who_is_hidden_is_followed_with_the_detectors_box():
    results = [MotsSession(FakeSegmenter()).step(*hidden_scene(0))]
    session = MotsSession(FakeSegmenter())
    results = [session.step(*hidden_scene(t)) for t in range(12)]
    for result in results:
        assert [one.object_id for one in result.shown] == [1, 2]
        np.testing.assert_array_equal([one.box for one in result.shown], [BACK, FRONT])
        first, second = result.shown
        assert not (first.mask & second.mask).any()
    assert all(one.state != "lost" for one in results[-1].tracks)


@pytest.mark.parametrize("change", ["birth.sure_score=1.01", "official"])
def test_the_rule_can_be_left_out(change):
    rules = config("rules=official") if change == "official" else config(change)
    session = MotsSession(FakeSegmenter(), rules)
    tight = np.array([(40, 20, 64, 60), (41, 20, 65, 58)], np.float32)
    frame, _ = scene(0, [BACK])
    session.step(*scene(0, [BACK]))
    later = session.step(scene(1, [BACK])[0], Detections(tight, (0.95, 0.95)))
    assert frame.size and len(later.tracks) == 1


def test_motion_detectors_are_never_sure():
    session = MotsSession(FakeSegmenter())
    results = [session.step(*hidden_scene(t), reports_absence=False) for t in range(3)]
    assert len(results[-1].tracks) == 1 or results[-1].shown[0].box.tolist() != list(BACK)


def test_between_detections_the_box_goes_on_as_the_detector_draws_it():
    """The detector's boxes have a margin of four pixels around what is to be seen."""
    session, margin = MotsSession(FakeSegmenter()), np.array([-4, -4, 4, 4], np.float32)
    for t in range(12):
        frame, found = two(t)
        given = None if t in (8, 9) else Detections(found.boxes + margin)
        result = session.step(frame, given)
        boxes = np.stack([one.box for one in result.shown])
        np.testing.assert_allclose(boxes, found.boxes + margin, atol=1e-4 if given else 4)


def test_a_weak_detection_keeps_a_track_and_makes_none():
    session = MotsSession(FakeSegmenter())
    run(session, range(4))
    frame, found = two(4)
    weak = np.concatenate([found.boxes, box(100, 10, 120, 40)[None]])
    result = session.step(frame, Detections(weak, (0.3, 0.3, 0.3)))
    assert [one.detection for one in result.tracks] == [0, 1]


def test_a_weak_detection_does_not_take_a_track_from_a_sure_one():
    session = MotsSession(FakeSegmenter())
    run(session, range(4))
    frame, found = two(4)
    moved = found.boxes + np.array([5, 0, 5, 0], np.float32)
    both = Detections(np.concatenate([found.boxes, moved]), (0.3, 0.3, 0.9, 0.9))
    assert [one.detection for one in session.step(frame, both).tracks] == [2, 3]


def test_who_is_swallowed_shares_a_border():
    regions = [region_of(mask(20, 20, 60, 80)), region_of(mask(22, 22, 58, 78))]
    owner = owners(regions, [0, 1], (100, 160))
    assert not owned(owner, regions)[1].any()
    boxes = [box(10, 20, 45, 80), box(40, 20, 75, 80)]
    left, right = owned(share_borders(owner, regions, boxes), regions)
    assert left[50, 25] and right[50, 55] and not (left & right).any()
    alone = share_borders(owner, regions, [boxes[0], None])
    np.testing.assert_array_equal(alone, owner)
    behind = share_borders(owner, regions, [box(20, 20, 60, 80), box(30, 20, 65, 80)])
    np.testing.assert_array_equal(behind, owner)


def test_margins_carry_a_detectors_box():
    bounds, given = box(10, 10, 30, 50), box(8, 6, 33, 54)
    margins = margins_of(given, bounds)
    np.testing.assert_allclose(with_margins(bounds, margins), given, atol=1e-4)
    twice = with_margins(bounds * 2, margins)
    np.testing.assert_allclose(twice, given * 2, atol=1e-4)
    assert margins_of(box(80, 80, 90, 90), bounds) is None and with_margins(bounds, None) is None


def test_too_many_are_counted_and_said_once(caplog):
    session = MotsSession(FakeSegmenter(), config("memory.max_tracks=1"))
    run(session, range(5))
    assert session.remarks == ("memory.max_tracks allows 1 tracks: 5 detections became no track",)
    assert sum("max_tracks" in line for line in caplog.messages) == 1


def test_an_unconfirmed_track_makes_room_for_a_surer_one():
    session = MotsSession(FakeSegmenter(), config("memory.max_tracks=1"))
    frame, found = two(0)
    session.step(frame, Detections(found.boxes[:1], [0.6]))
    session._state.tracks[1].life.__dict__["score"] = 0.2
    result = session.step(two(1)[0], Detections(two(1)[1].boxes[1:], [0.95]))
    assert kinds([result]) == [(1, "removed"), (1, "born")]
    assert "took the place" in session.remarks[0]


def test_boxes_over_the_edge_are_counted_not_repeated(caplog):
    session = MotsSession(FakeSegmenter())
    for t in range(4):
        frame, _ = scene(t, [(0, 10, 24, 36)])
        session.step(frame, Detections(np.array([(-6, 10, 24, 36)], np.float32)))
    assert not caplog.messages
    assert session.remarks == (
        "1 detection reached over the picture's edge and counted as far as inside",
    )
    loaded = MotsSession(FakeSegmenter())
    loaded._restore(session.state_dict())
    assert loaded.remarks == session.remarks


def test_nothing_to_remark():
    session = MotsSession(FakeSegmenter())
    session.step(scene(0, [])[0], NOTHING)
    assert session.remarks == ()


def counted_looks(monkeypatch, session):
    looked = []
    original = session._engine.track
    monkeypatch.setattr(
        session._engine,
        "track",
        lambda features, objects, *among: (
            looked.append(len(objects)) or original(features, objects, *among)
        ),
    )
    return looked


def test_masks_go_along_with_boxes_where_nobody_is_near(monkeypatch):
    session = MotsSession(FakeSegmenter(), config("mask_every=3"))
    plain = MotsSession(FakeSegmenter())
    looked = counted_looks(monkeypatch, session)
    for t in range(12):
        result, usual = session.step(*two(t)), plain.step(*two(t))
        for one, other in zip(result.shown, usual.shown, strict=True):
            np.testing.assert_array_equal(one.box, other.box)
            assert np.count_nonzero(one.mask ^ other.mask) < 0.5 * np.count_nonzero(other.mask)
            assert one.state == other.state and one.score > 0.5
    assert sum(looked[4:]) <= 8 < 16 == sum([2] * 8)
    assert "masks" in session.usage().detail
    loaded = MotsSession(FakeSegmenter(), config("mask_every=3"))
    loaded._restore(session.state_dict())
    for t in range(12, 15):
        assert answer(session.step(*two(t))) == answer(loaded.step(*two(t)))


def test_who_is_recognised_while_its_mask_goes_along(monkeypatch):
    session = MotsSession(FakeSegmenter(), config("mask_every=9"))
    looked = counted_looks(monkeypatch, session)
    run(session, range(6), two)
    looked.clear()

    def somebody(config, making, label, region, looks, taken):
        known = making.tracks[1].known(making.frame.size) if 1 in making.tracks else None
        return None if known is None or 1 not in making.carried else replace(known, object_id=9)

    monkeypatch.setattr(reid, "recognised", somebody)
    results = run(session, range(6, 12), two)
    assert any(n == 1 for n in looked)  # of the two, the one that was recognised
    assert "found" in [kind for _, kind in kinds(results, 9)] and 9 in session.track_ids


@pytest.mark.parametrize("why", ["near", "undetected", "motion"])
def test_masks_are_made_where_that_is_not_so(monkeypatch, why):
    session = MotsSession(FakeSegmenter(), config("mask_every=3"))
    looked = counted_looks(monkeypatch, session)
    boxes = [BACK, FRONT] if why == "near" else [BACK, (100, 70, 126, 96)]
    for t in range(10):
        frame, found = scene(t, boxes)
        given = None if why == "undetected" and t > 3 else found
        session.step(frame, given, reports_absence=why != "motion")
    assert looked[4:] == [2] * 6


@pytest.mark.parametrize("there", [True, False])
def test_who_goes_behind_somebody_is_hidden_not_lost(there):
    """A still one in front; the other passes behind it, and is not detected there."""
    front = (60, 10, 92, 60)
    session = MotsSession(FakeSegmenter())
    for t in range(11):
        other = (20 + 4 * t, 18, 40 + 4 * t, 54)
        boxes = [other, front] if there else [other]
        colours = [(30, 60, 220), (220, 40, 30)]
        if t < 10:
            result = session.step(*scene(t, boxes, colours=colours))
        else:
            frame, found = scene(t, boxes[1:], colours=colours[1:])
            result = session.step(frame, found)
    who = result.tracks[0]
    assert who.present == there and (who.state == "lost") == (not there)
    if there:
        np.testing.assert_allclose(who.box, other, atol=4)
