"""A lost camera comes back where it has been, and nowhere else."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import inverse
from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession
from vision_mem.reconstruction.relocalization import (
    BYTES_A_PLACE,
    Places,
    distance,
    features,
    redundant,
)
from vision_mem.synthetic.rgbd_bodies import SceneryConfig
from vision_mem.synthetic.rgbd_scene import SyntheticStream

CAMERA = Pinhole.from_field_of_view(60, 160, 120)
FIRST, AGAIN = 30, slice(2, 14)
"""Frames of a tour, and those of its beginning that the camera then jumps back to."""


def config(**changes):
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(ReconstructionConfig, None, overrides, folder="reconstruction")


def renumbered(frames):
    return [dataclasses.replace(f, index=i, time_s=i / 10) for i, f in enumerate(frames)]


def unposed(frames):
    return [frame.without_pose() for frame in renumbered(frames)]


def walk_through(seed, frames, of=100):
    scenery = SceneryConfig(camera="tour", time_step=0.1)
    stream = SyntheticStream(seed, of, 160, 120, config=scenery)
    return [true.frame for true in itertools.islice(stream, frames)]


@pytest.fixture(scope="module")
def tour():
    return walk_through(1_000_008, FIRST)


@pytest.fixture(scope="module")
def jumps(tour):
    return renumbered(tour + tour[AGAIN])


def covered(frames, from_, to):
    nothing = {"depth": np.zeros_like(frames[0].depth), "image": np.zeros_like(frames[0].image)}
    return [
        dataclasses.replace(f, **nothing) if from_ <= f.index < to else f
        for f in renumbered(frames)
    ]


def errors(frames, results):
    """Metres between true and found places of the camera, seen from the first frame."""
    start = inverse(frames[0].pose)
    return [
        float(np.linalg.norm(r.pose[:3, 3] - (start @ f.pose)[:3, 3]))
        for f, r in zip(frames, results, strict=True)
    ]


def run(frames, session=None):
    session = session or ReconstructionSession()
    return [session.step(frame) for frame in unposed(frames)]


def pose(x=0.0, degrees=0.0):
    angle = np.radians(degrees)
    made = np.eye(4)
    made[0, 3] = x
    made[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    return made


def speckled(seed, size=(120, 160)):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (size[0] // 4, size[1] // 4)).astype(np.uint8)
    return np.kron(coarse, np.ones((4, 4), np.uint8))


def flat(z=2.0):
    return np.full((120, 160), z, np.float32)


# -- in a session ---------------------------------------------------------------------------------


def test_a_jump_back_to_a_place_already_seen_is_noticed_at_once(jumps):
    results = run(jumps)
    assert not any(r.lost for r in results)
    assert max(errors(jumps, results)) < 0.03
    without = run(jumps, ReconstructionSession(config(odometry__places=0)))
    assert all(r.lost for r in without[FIRST:])


def test_a_covered_lens_is_survived(jumps):
    hidden = covered(jumps, 20, FIRST)
    results = run(hidden)
    assert [r.lost for r in results] == [20 <= i < FIRST for i in range(len(jumps))]
    assert all(np.array_equal(r.pose, results[19].pose) for r in results[20:FIRST])
    assert max(e for e, r in zip(errors(jumps, results), results, strict=True) if not r.lost) < 0.03
    events = [(e.kind, e.frame_index) for r in results for e in r.events]
    assert ("lost", 20) in events and ("found", FIRST) in events


def test_another_room_is_never_taken_for_this_one():
    # Corners of both rooms are alike: by depth alone the second would be found in the first.
    here, there = walk_through(1_000_008, 100), walk_through(1_000_009, 12)
    session = ReconstructionSession()
    run(here, session)
    known = len(session.static_map().points)
    for frame in renumbered(here + there)[100:]:
        assert session.step(frame.without_pose()).lost
    assert len(session.static_map().points) == known


def test_motion_is_not_added_up_over_a_jump():
    # Seen from where the camera was last, walls elsewhere would fit where they are not.
    frames = walk_through(2_000_201, 60, of=60)
    jumped = renumbered(frames + frames[:12])
    results = run(jumped)
    off = errors(jumped, results)
    assert max(e for e, r in zip(off, results, strict=True) if not r.lost) < 0.3


def test_a_wall_that_nobody_knows_is_no_place(tour):
    session = ReconstructionSession()
    run(tour, session)
    image = np.repeat(speckled(3)[..., None], 3, axis=2)
    for t in range(FIRST, FIRST + 8):
        wall = dataclasses.replace(tour[0], index=t, time_s=t / 10, image=image, depth=flat())
        assert session.step(wall.without_pose()).lost


@pytest.mark.parametrize("at", [10, 24, FIRST + 1])
def test_resumed_while_lost_it_finds_the_same_way_back(jumps, tmp_path, at):
    frames = unposed(covered(jumps, 20, FIRST))
    whole, session = ReconstructionSession(), ReconstructionSession()
    expected = [whole.step(frame) for frame in frames]
    for frame in frames[:at]:
        session.step(frame)
    session.snapshot(tmp_path / "memory.safetensors")
    resumed = ReconstructionSession.resume(tmp_path / "memory.safetensors")
    for frame, result in zip(frames[at:], expected[at:], strict=True):
        again = resumed.step(frame)
        assert again.pose.tobytes() == result.pose.tobytes()
        assert (again.lost, again.reason) == (result.lost, result.reason)
    assert resumed.usage() == whole.usage()


def test_a_snapshot_from_before_there_were_places_opens(jumps):
    session = ReconstructionSession()
    run(jumps[:10], session)
    state = session.state_dict()
    del state["locator"]["places"]
    other = ReconstructionSession()
    other.load_state_dict(state)
    assert other.usage().detail["places"] == 0
    assert not other.step(jumps[10].without_pose()).lost


def test_places_are_counted_and_given_poses_need_none(tour):
    found, given = ReconstructionSession(), ReconstructionSession()
    run(tour, found)
    for frame in tour:
        given.step(frame)
    assert 0 < found.usage().detail["places"] <= 64 * BYTES_A_PLACE
    assert given.usage().detail["places"] == 0


def test_a_small_budget_has_room_for_few():
    assert config(budget_mb=256).most_places == 64
    few = config(budget_mb=2)
    assert 0 < few.most_places * BYTES_A_PLACE <= few.budget / 32
    with pytest.raises(InputError, match="places is -1"):
        config(odometry__places=-1)


# -- alone ----------------------------------------------------------------------------------------


def test_a_place_is_known_again_from_where_it_was_seen():
    places = Places(4)
    for k in range(3):
        assert places.consider(speckled(k), flat(), CAMERA, pose(k), least=0.5)
    again = places.recall(speckled(1), CAMERA)
    assert np.allclose(again, pose(1.0), atol=0.02)
    assert places.recall(speckled(7), CAMERA) is None
    assert places.recall(np.zeros((120, 160), np.uint8), CAMERA) is None
    assert places.recall(speckled(1)[:20, :20], CAMERA) is None


@pytest.mark.parametrize(
    ("grey", "depth", "kept"),
    [
        (speckled(0), flat(), True),
        (speckled(0), flat(0.0), False),
        (np.full((120, 160), 90, np.uint8), flat(), False),
    ],
    ids=["whole", "no depth", "nothing to see"],
)
def test_what_says_too_little_is_not_kept(grey, depth, kept):
    assert Places(2).consider(grey, depth, CAMERA, pose()) is kept


def test_a_thousand_places_leave_an_even_few():
    places = Places(8)
    for k in range(1000):
        places.consider(speckled(k), flat(), CAMERA, pose(0.01 * k))
        assert places.nbytes <= 8 * BYTES_A_PLACE
    x = np.array([place.pose[0, 3] for place in places.held])
    assert 4 < len(x) <= 8
    assert np.diff(x).max() < 3 * np.diff(x).min()
    assert x[0] == 0 and x[-1] > 7.5


def test_one_that_is_wanted_in_any_case_takes_the_room_of_the_most_redundant():
    places = Places(3)
    for k, x in enumerate((0.0, 1.0, 1.2)):
        assert places.consider(speckled(k), flat(), CAMERA, pose(x), least=0.5)
    assert not places.consider(speckled(3), flat(), CAMERA, pose(1.25), least=0.5)
    assert places.consider(speckled(3), flat(), CAMERA, pose(2.0), least=0.5)
    assert [round(place.pose[0, 3], 2) for place in places.held] in ([0, 1, 2], [0, 1.2, 2])
    assert places.spread == 1.0


def test_none_are_kept_where_none_are_wanted():
    places = Places(0)
    assert not places.consider(speckled(0), flat(), CAMERA, pose())
    assert places.recall(speckled(0), CAMERA) is None


@pytest.mark.parametrize(
    ("x", "degrees", "expected"), [(0, 0, 0), (0.2, 0, 1), (0, 10, 1), (0.6, 40, 5)]
)
def test_distance(x, degrees, expected):
    assert distance(pose(), pose(x, degrees)) == pytest.approx(expected)


def test_redundant_is_the_one_in_the_crowd():
    assert redundant([pose(0.0), pose(1.0), pose(1.1), pose(1.3), pose(3.0)]) == 2


def test_features_are_spread_and_inside():
    grey = speckled(0)
    pixels, descriptors = features(grey, 100)
    assert descriptors.shape == (len(pixels), 32) and len(pixels) == 100
    assert (pixels > 0).all() and (pixels < (160, 120)).all()
    quarters = {(x > 80, y > 60) for x, y in pixels}
    assert len(quarters) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.update(poses=s["poses"][:1]),
        lambda s: s.update(points=s["points"][:-1]),
        lambda s: s.update(descriptors=s["descriptors"][:, :16]),
        lambda s: s.update(counts=-s["counts"]),
        lambda s: s.pop("rest"),
    ],
)
def test_states(damage):
    places = Places(4)
    for k in range(3):
        places.consider(speckled(k), flat(), CAMERA, pose(k), least=0.5)
    state = places.state_dict()
    same = Places.from_state(state, 4)
    assert same.nbytes == places.nbytes
    assert np.array_equal(same.recall(speckled(2), CAMERA), places.recall(speckled(2), CAMERA))
    with pytest.raises(ValueError, match="places"):
        Places.from_state(state, 2)
    damage(state)
    with pytest.raises((ValueError, KeyError)):
        Places.from_state(state, 4)
