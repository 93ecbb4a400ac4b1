"""What a multi-object session holds: tracks, bytes, and no more over a thousand frames."""

from __future__ import annotations

import logging

import pytest
from mots_samples import COLOURS, answer, config, run, scene, two

from vision_mem.errors import InputError
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsSession


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
    shared = usage.detail["camera"]  # the frame before, from which the camera's motion is told
    assert usage.bytes == sum(usage.tracks.values()) + shared
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
