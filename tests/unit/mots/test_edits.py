"""Prompts, names, merges and splits in a multi-object session."""

from __future__ import annotations

import numpy as np
import pytest
from mots_samples import COLOURS, config, kinds, run, scene, two

from vision_mem.errors import InputError
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsSession
from vision_mem.types import Detections, Prompt


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
