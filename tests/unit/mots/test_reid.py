"""Who comes in over the picture's edge is recognised when all of it is seen, and shown anew."""

from __future__ import annotations

import numpy as np
import pytest
from mots_samples import COLOURS, config, kinds, run, scene

from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsSession

STAYS = (100, 70, 126, 96)


def entering(t, first, colour):
    """A square that comes in from the left, twelve pixels a frame; the other one stays."""
    right = min(12 * (t - first + 1), 60)
    return scene(t, [(right - 26, 10, right, 36), STAYS], colours=[colour, COLOURS[1]])


def seen(t, *args):
    frame, found = entering(t, *args)
    boxes = np.clip(found.boxes, 0, None)
    return frame, type(found)(boxes)


def away(*changes, frames=90):
    """A session whose first track has been gone for long."""
    session = MotsSession(FakeSegmenter(), config(*changes))
    run(session, range(10), lambda t: scene(t, [(40, 10, 66, 36), STAYS]))
    run(session, range(10, frames), lambda t: scene(t, [STAYS], colours=COLOURS[1:]))
    assert session.track_ids == (2,)
    return session


def test_somebody_known_comes_in_as_a_sliver():
    session = away()
    results = run(session, range(90, 102), lambda t: seen(t, 90, COLOURS[0]))
    assert sorted(session.track_ids) == [1, 2]
    found = [t for t, kind in kinds(results, 1) if kind == "found"]
    assert len(found) == 1
    young = {o.object_id for r in results for o in r.tracks} - {1, 2}
    assert len(young) == 1
    assert (found[0], "merged") in kinds(results, young.pop())


def test_nobody_sees_the_identity_change():
    """Held back until it is known, a newcomer is never shown under two ids; nor for long."""
    for hold, ids in ((6, {1, 2}), (0, {1, 2, 3})):
        session = away(f"gallery.hold_frames={hold}")
        results = run(session, range(90, 102), lambda t: seen(t, 90, COLOURS[0]))
        assert {o.object_id for r in results for o in r.shown} == ids


def test_somebody_new_who_could_have_been_known_is_shown_soon():
    session = away()
    results = run(session, range(90, 102), lambda t: seen(t, 90, COLOURS[2]))
    shown = [t for t, r in enumerate(results) if any(o.object_id == 3 for o in r.shown)]
    assert 0 < shown[0] <= 6 and shown[-1] == 11
    assert sorted(session.track_ids) == [2, 3]


def test_without_anybody_to_recognise_newcomers_are_shown_at_once():
    session = MotsSession(FakeSegmenter())
    assert len(session.step(*seen(0, 0, COLOURS[0])).shown) == 2


def test_it_is_shown_anew_when_all_of_it_is_seen():
    """Only the view of the whole object stays in memory."""
    ages = {}
    for again in ("true", "false"):
        session = MotsSession(FakeSegmenter(), config(f"reprompt.whole_again={again}"))
        run(session, range(8), lambda t: seen(t, 0, COLOURS[0]))
        ages[again] = session._state.tracks[1].object.age
    assert ages == {"true": 5, "false": 7}


@pytest.mark.parametrize("least", [0.5, 0.0])
def test_a_lost_track_is_not_found_by_somebody_else(least):
    """Another one turns up where the lost one was; only without looks it takes the identity."""
    session = MotsSession(
        FakeSegmenter(), config(f"gallery.slip_similarity={least}", "gallery.enabled=true")
    )
    box = (40, 10, 66, 36)
    run(session, range(10), lambda t: scene(t, [box]))
    run(session, range(10, 14), lambda t: scene(t, []))
    results = run(session, range(14, 24), lambda t: scene(t, [box], colours=[COLOURS[2]]))
    assert ("found" in [kind for _, kind in kinds(results, 1)]) == (least == 0)
    assert (2 in session.track_ids) == (least > 0)
