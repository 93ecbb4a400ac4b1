"""The ``official`` rules against what Seg2Track-SAM2's code does, on scripted objects."""

from __future__ import annotations

import numpy as np
import pytest
from mots_script import Script, ScriptedSegmenter, detections, frame

from vision_mem.config import load_config
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.mots.config import OfficialConfig
from vision_mem.mots.seg2track import judge, pair_padded, split_detections
from vision_mem.types import Detections

A, B = (0, 0, 20, 20), (40, 0, 60, 20)
CAR, PERSON = 1, 2
SURE_AGAIN = 0.9


def play(scripts, found, frames, **changes):
    segmenter = ScriptedSegmenter(*scripts)
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    config = load_config(MotsConfig, "official", changes, folder="mots")
    session = MotsSession(segmenter, config)
    results = [session.step(frame(t), found.get(t, Detections())) for t in range(frames)]
    return results, segmenter.log, session


def ids(result):
    return [track.object_id for track in result.shown]


def test_ids_start_at_zero_and_the_first_frame_has_no_overlap_test():
    results, _, _ = play([Script(A)], {0: detections((A, 0.9, CAR), (A, 0.8, CAR))}, 2)
    assert ids(results[0]) == [0, 1] and ids(results[1]) == [0, 1]


def test_the_frame_of_a_birth_is_not_reported_but_the_first_one_is():
    found = {0: detections((A, 0.9, CAR)), 2: detections((B, 0.9, CAR))}
    results, _, _ = play([Script(A), Script(B)], found, 4)
    assert [ids(result) for result in results] == [[0], [0], [0], [0, 1]]
    assert [e.kind for e in results[2].events] == ["born"]


@pytest.mark.parametrize(
    ("box", "label", "born"),
    [
        ((8, 0, 28, 20), CAR, False),  # 40 % free
        ((12, 0, 32, 20), CAR, False),  # exactly 60 %: must be more
        ((13, 0, 33, 20), CAR, True),
        ((16, 0, 36, 20), PERSON, False),  # 80 %, people need 85 %
        ((18, 0, 38, 20), PERSON, True),
        ((12.9, 0, 32.9, 20), CAR, False),  # corners are cut to whole numbers
    ],
)
def test_births_by_free_share(box, label, born):
    found = {0: detections((A, 0.9, CAR)), 1: detections((box, 0.9, label))}
    _, log, _ = play([Script(A), Script(box)], found, 2)
    assert (sum(what[1] == "prompt" for what in log) == 2) is born


def test_free_space_is_not_refreshed_between_two_births():
    found = {0: detections((A, 0.9, CAR)), 1: detections((B, 0.9, CAR), (B, 0.8, CAR))}
    results, _, _ = play([Script(A), Script(B)], found, 3)
    assert ids(results[2]) == [0, 1, 2]


def test_without_detections_at_first_an_object_is_invented_and_hidden():
    results, log, session = play([Script(B)], {2: detections((B, 0.9, CAR))}, 4)
    assert log[0] == (0, "prompt", (0, 0, 0, 0)) and (1, "track", -1) in log
    assert [ids(result) for result in results] == [[], [], [], [1]]
    assert session.track_ids == (0, 1)


def test_bad_frames_are_counted_in_all_and_the_fifth_removes():
    bad = {5: 0.05, 6: SURE_AGAIN, 9: 0.05, 10: SURE_AGAIN, 20: 0.09, 21: 0.9, 30: 0.05, 31: 0.9}
    script = Script(A, score={**bad, 40: 0.0999, 41: 0.9})
    results, _, session = play([script], {0: detections((A, 0.9, CAR))}, 44)
    gone = [
        t for t, result in enumerate(results) if any(e.kind == "removed" for e in result.events)
    ]
    assert gone == [40]
    assert ids(results[40]) == [0] and ids(results[41]) == []  # shown on its last frame
    assert session.track_ids == ()


def test_ids_are_not_given_again():
    found = {0: detections((A, 0.9, CAR)), 9: detections((B, 0.9, CAR))}
    results, _, _ = play([Script(A, score={1: 0.0}), Script(B)], found, 12)
    assert ids(results[11]) == [1]


def test_any_pairing_reprompts_that_without_overlap_too():
    """A detection over object B, which is sure; object A is weak and elsewhere."""
    scripts = [Script(A, score={2: 0.5, 4: 0.9}), Script(B)]
    found = {
        0: detections((A, 0.9, CAR), (B, 0.9, CAR)),
        2: detections((B, 0.9, CAR), (B, 0.9, CAR)),
    }
    _, log, _ = play(scripts, found, 4)
    assert [what for what in log if what[1] == "again"] == [(2, "again", 0, B)]


@pytest.mark.parametrize(("score", "asked"), [(0.599, False), (0.61, True)])
def test_a_reprompt_needs_the_score_of_the_birth_threshold(score, asked):
    found = {0: detections((A, 0.9, CAR)), 2: detections((A, score, CAR))}
    _, log, _ = play([Script(A, score={2: 0.69, 3: 0.9})], found, 4)
    assert any(what[1] == "again" for what in log) is asked


def test_the_reprompted_mask_is_not_reported_and_there_is_no_cooldown():
    script = Script(A, score={2: 0.5, 5: 0.9}, corrected={2: (0, 0, 5, 5)})
    found = {t: detections((A, 0.9, CAR)) for t in (0, 2, 3, 4)}
    results, log, session = play([script], found, 6)
    assert [what[0] for what in log if what[1] == "again"] == [2, 3, 4]
    assert results[2][0].mask.sum() == 400
    memory = session._state.tracks[0].object.memory
    assert [held.entry.index for held in memory.prompts] == [0]  # corrections are not permanent
    assert 2 in [held.entry.index for held in memory.recents]


def test_kitti_switches_removal_and_reprompts_off():
    found = {t: detections((A, 0.9, CAR)) for t in range(20)}
    off = {"official__removal": False, "official__reprompt": False}
    results, log, _ = play([Script(A, score={1: 0.01})], found, 20, **off)
    assert ids(results[19]) == [0] and not any(what[1] == "again" for what in log)


def test_the_older_track_has_contested_pixels_and_boxes_are_of_whole_masks():
    scripts = [
        Script(A, place={1: (0, 0, 30, 20)}, score={1: 0.75}),
        Script(B, place={1: (10, 0, 40, 20)}),
    ]
    found = {0: detections((A, 0.9, CAR), (B, 0.9, CAR))}
    results, _, _ = play(scripts, found, 2)
    first, second = results[1].tracks
    assert first.mask.sum() == 600 and second.mask.sum() == 200
    assert second.box.tolist() == [10, 0, 40, 20]
    assert not (first.mask & second.mask).any()


def test_an_object_without_a_pixel_left_still_has_its_box():
    scripts = [Script(A), Script(B, place={1: A})]
    results, _, _ = play(scripts, {0: detections((A, 0.9, CAR), (B, 0.9, CAR))}, 2)
    second = results[1].tracks[1]
    assert second.present and not second.mask.any() and second.box.tolist() == list(A)


def test_empty_masks_are_not_shown_but_live_on():
    script = Script(A, place={2: (), 5: A})
    results, _, _ = play([script], {0: detections((A, 0.9, CAR))}, 7)
    assert [bool(ids(result)) for result in results] == [
        True,
        True,
        False,
        False,
        False,
        True,
        True,
    ]


def test_memory_holds_what_can_be_read_of_the_window():
    _, _, session = play([Script(A)], {0: detections((A, 0.9, CAR))}, 40)
    memory = session._state.tracks[0].object.memory
    assert [held.entry.index for held in memory.prompts] == [0]
    assert [held.entry.index for held in memory.recents] == list(range(34, 40))
    assert [pointer.index for pointer in memory.pointers] == list(range(25, 40))


def test_decisions_as_tables():
    config = OfficialConfig()
    assert split_detections(config, [0.61, 0.6, 0.9, 0.0], [1, 1, 2, 1], 3) == ([0, 2], [1, 3])
    assert split_detections(config, [0.0, 0.0], [1, 1], 0) == ([0, 1], [])
    assert pair_padded(np.zeros((2, 1))) in ({0: 0}, {1: 0})
    assert pair_padded(np.array([[0.2, 0.9], [0.1, 0.6]])) == {0: 1, 1: 0}
    assert pair_padded(np.zeros((0, 2))) == {}
    verdict = judge(config, score=0.05, tries=4, label=1, detector_score=0.9)
    assert verdict.removed and not verdict.reprompted
    assert judge(config, score=0.05, tries=0, label=1, detector_score=0.9).reprompted
    assert not judge(config, score=0.05, tries=0, label=2, detector_score=0.85).reprompted
    assert not judge(config, score=0.7, tries=0, label=1, detector_score=0.9).reprompted
