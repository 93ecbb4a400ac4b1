"""Two memories on scenes whose course is known: what stays, what moves, what left."""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import pytest
from reconstruction_scenes import CAMERA, room

from vision_mem.config import load_config
from vision_mem.errors import InputError, ModelError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession
from vision_mem.reconstruction.records import PARKED, STATIC, UNKNOWN
from vision_mem.reconstruction.working_size import thin
from vision_mem.synthetic.rgbd_bodies import SceneryConfig
from vision_mem.synthetic.rgbd_scene import SyntheticStream


def config(**changes):
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(ReconstructionConfig, None, overrides, folder="reconstruction")


def walk(session, positions, *, first=0, half=0.3, z=2.0, **more):
    """Steps with a box at each x; None for no box. Gives results and where the box is painted."""
    found = []
    for t, x in enumerate(positions, start=first):
        frame, painted = room(t, [] if x is None else [(x, 0.2, half, z)], **more)
        found.append((session.step(frame), painted))
    return found


def share(mask, of):
    return float(mask[of].mean())


def near(points, x, z=2.0, y=0.2, radius=0.25):
    """Points of a map on the front of a box at ``x``."""
    away = np.abs(points - (x, y, z)) < (radius, radius, 0.05)
    return int(away.all(axis=1).sum())


MOVES = [None] * 6 + list(np.linspace(-0.8, 0.6, 15))


def test_a_thing_that_crosses_is_dynamic_and_leaves_nothing_behind():
    session = ReconstructionSession(config())
    found = walk(session, MOVES, noise=0.003)
    for result, painted in found[7:]:
        assert share(result.dynamic, painted) > 0.9
        assert share(result.static, ~painted) > 0.9
    last = found[-1][0]
    (track,) = last.tracks
    assert track.velocity[0] == pytest.approx(1.0, abs=0.2)  # 0.1 m a frame, 10 frames a second
    assert abs(track.centre[0] - 0.6) < 0.1
    points = session.static_map().points
    assert sum(near(points, x) for x in MOVES[6:]) == 0
    assert len(points) > 500
    assert [e.kind for r, _ in found for e in r.events] == ["appeared"]
    everything = ReconstructionSession(
        load_config(ReconstructionConfig, "fuse-everything", folder="reconstruction")
    )
    walk(everything, MOVES, noise=0.003)
    assert near(everything.static_map().points, -0.8) > 20


def test_a_thing_that_stops_is_parked_then_settles():
    session = ReconstructionSession(config())
    found = walk(session, MOVES + [0.6] * 60, noise=0.003)
    events = [(e.kind, e.frame_index) for r, _ in found for e in r.events]
    assert [kind for kind, _ in events][:2] == ["appeared", "parked"]
    parked = dict(events)["parked"]
    assert 21 < parked <= 21 + 10
    result, painted = found[parked + 3]
    assert share(result.labels == PARKED, painted) > 0.9
    assert near(session.static_map().points, 0.6) > 20
    result, painted = found[-1]
    assert share(result.static, painted) > 0.9


def test_a_thing_that_starts_and_leaves_is_taken_out_of_the_map():
    session = ReconstructionSession(config())
    walk(session, [0.0] * 20, noise=0.003)
    assert near(session.static_map().points, 0.0) > 50
    leaving = list(np.linspace(0.0, 2.4, 20))
    found = walk(session, leaving + [None] * 12, first=20, noise=0.003)
    assert near(session.static_map().points, 0.0) == 0
    assert any(e.kind == "demoted" for r, _ in found for e in r.events)
    result, painted = found[9]
    assert share(result.dynamic, painted) > 0.8


def test_known_masks_are_believed():
    plain, told = ReconstructionSession(config()), ReconstructionSession(config())
    for t in range(8):
        frame, painted = room(t, [(0.0, 0.2, 0.3, 2.0)])
        unaware = plain.step(frame)
        result = told.step(frame, painted)
        assert not unaware.dynamic.any()
        assert share(result.dynamic, painted) == 1.0
        assert not result.dynamic[~painted].all()
    assert near(plain.static_map().points, 0.0) > 50
    assert near(told.static_map().points, 0.0) == 0
    frame, painted = room(8, [(0.0, 0.2, 0.3, 2.0)])
    stacked = told.step(frame, [painted, np.zeros_like(painted)])
    assert share(stacked.dynamic, painted) == 1.0
    with pytest.raises(InputError, match="dynamic masks"):
        told.step(room(9)[0], painted[:-1])


def moving_camera(t):
    pose = np.eye(4)
    angle = np.radians(1.0) * t
    pose[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    pose[:3, 3] = (0.02 * t, -0.01 * t, 0.01 * t)
    return pose


@pytest.mark.parametrize("kernels", ["auto", "numpy"])
@pytest.mark.parametrize("colour", [True, False])
def test_missing_poses_are_found(kernels, colour):
    session = ReconstructionSession(config(kernels=kernels, odometry__colour=colour))
    boxes = [(-0.4, 0.3, 0.25, 1.8), (0.5, -0.1, 0.2, 2.2)]
    for t in range(12):
        frame, _ = room(t, boxes, pose=moving_camera(t), noise=0.002)
        result = session.step(frame.without_pose())
        assert not result.lost, result.reason
        assert np.linalg.norm(result.pose[:3, 3] - moving_camera(t)[:3, 3]) < 0.03
    assert result.pose_source == "icp"


def grid(depth):
    kept = np.zeros_like(depth)
    kept[::2, ::2] = depth[::2, ::2]
    return kept


def at_random(depth):
    return depth * (np.random.default_rng(0).random(depth.shape) < 0.3)


@pytest.mark.parametrize("holes", [grid, at_random])
def test_sparse_depth_is_tracked_and_no_answer_is_given_in_its_holes(holes):
    session = ReconstructionSession(config())
    boxes = [(-0.4, 0.3, 0.25, 1.8), (0.5, -0.1, 0.2, 2.2)]
    for t in range(8):
        frame, _ = room(t, boxes, pose=moving_camera(t), noise=0.002)
        sparse = dataclasses.replace(frame, depth=holes(frame.depth).astype(np.float32))
        result = session.step(sparse.without_pose())
        assert not result.lost, result.reason
        assert np.linalg.norm(result.pose[:3, 3] - moving_camera(t)[:3, 3]) < 0.03
        assert not result.labels[sparse.depth <= 0].any()


def test_large_holes_stay_and_small_ones_are_filled():
    frame, _ = room(0, [(0.0, 0.2, 0.3, 2.0)])
    depth = frame.depth.copy()
    half, fourth = depth.shape[1] // 2, depth.shape[1] // 4
    depth[:, :half] = 0
    assert np.array_equal(thin(dataclasses.replace(frame, depth=depth), config()).depth, depth)
    sparse = grid(frame.depth)
    sparse[:, :fourth] = 0
    filled = thin(dataclasses.replace(frame, depth=sparse), config()).depth
    assert not filled[:, :fourth].any()
    right = slice(2, -2), slice(fourth + 2, -2)
    assert np.mean(np.abs(filled[right] - frame.depth[right]) < 0.02) > 0.9


def test_given_poses_after_missing_ones_are_carried_over():
    session = ReconstructionSession(config())
    elsewhere = np.eye(4)
    elsewhere[:3, 3] = (5.0, 1.0, -2.0)
    boxes = [(-0.4, 0.3, 0.25, 1.8), (0.5, -0.1, 0.2, 2.2)]
    for t in range(6):
        frame, _ = room(t, boxes, pose=moving_camera(t))
        moved = frame.without_pose()
        if t in (3, 4):
            moved = dataclasses.replace(frame, pose=elsewhere @ moving_camera(t))
        result = session.step(moved)
        assert result.pose_source == ["first", "icp", "icp", "given", "given", "icp"][t]
        assert np.linalg.norm(result.pose[:3, 3] - moving_camera(t)[:3, 3]) < 0.03


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.01])
@pytest.mark.parametrize("speckled", [False, True])
def test_a_flat_wall_is_no_place_to_track(noise, speckled):
    session = ReconstructionSession(config())
    random = np.random.default_rng(0)
    for t in range(8):
        depth = 2.0 * (1 + noise * random.standard_normal((72, 96)))
        image = np.full((72, 96, 3), 90, np.uint8)
        if speckled:
            image = random.integers(0, 255, (72, 96, 3)).astype(np.uint8)
        result = session.step(RgbdFrame(t, t / 10, image, depth.astype(np.float32), CAMERA))
        if t:
            assert result.lost
            assert result.reason
            assert np.array_equal(result.pose, np.eye(4))
            assert (result.labels == UNKNOWN).all()
    points = session.static_map().points
    assert (np.abs(points[:, 2] - 2.0) < 0.1).all()


def test_a_painted_wall_is_not_drifted_along_when_it_is_all_the_world():
    session = ReconstructionSession(config())
    image = np.random.default_rng(0).integers(0, 255, (72, 96, 3)).astype(np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    for t in range(6):
        frame = RgbdFrame(t, t / 10, image, np.full((72, 96), 2.0, np.float32), CAMERA)
        result = session.step(frame)
        assert result.lost == (t > 0)


def test_a_wall_of_a_known_room_is_followed_by_its_paint():
    scenery = SceneryConfig(camera="tour", time_step=0.1)
    stream = SyntheticStream(1_000_007, 100, 160, 120, config=scenery)
    frames = [true.frame for true in itertools.islice(stream, 16)]
    start = np.linalg.inv(frames[0].pose)
    lost = {}
    for most_open in (2, 3):
        session = ReconstructionSession(config(odometry__most_open=most_open))
        results = [session.step(frame.without_pose()) for frame in frames]
        lost[most_open] = sum(result.lost for result in results)
    assert lost[2] > 2 and lost[3] == 0
    for frame, result in zip(frames, results, strict=True):
        assert np.linalg.norm(result.pose[:3, 3] - (start @ frame.pose)[:3, 3]) < 0.1


def test_lost_and_found_again():
    session = ReconstructionSession(config())
    boxes = [(-0.4, 0.3, 0.25, 1.8), (0.5, -0.1, 0.2, 2.2)]
    events = []
    for t in range(12):
        frame, _ = room(t, boxes)
        if 5 <= t < 8:
            frame = dataclasses.replace(frame, depth=np.zeros_like(frame.depth))
        events += session.step(frame.without_pose()).events
    assert [(e.kind, e.frame_index) for e in events] == [("lost", 5), ("found", 8)]


@pytest.mark.parametrize(
    ("depth", "usable"),
    [(np.nan, False), (0.0, False), (-1.0, False), (np.inf, False), (2000.0, False), (2.0, True)],
)
def test_readings_that_cannot_be_used(depth, usable):
    session = ReconstructionSession(config())
    image = np.full((72, 96, 3), 90, np.uint8)
    for t in range(3):
        frame = RgbdFrame(t, t / 10, image, np.full((72, 96), depth, np.float32), CAMERA, np.eye(4))
        result = session.step(frame)
    assert bool((result.labels == STATIC).any()) == usable
    assert bool(len(session.static_map().points)) == usable


def test_frames_out_of_order_are_refused_and_change_nothing():
    session = ReconstructionSession(config())
    session.step(room(3)[0])
    before = session.usage()
    for frame in (room(3)[0], room(2)[0], dataclasses.replace(room(4)[0], time_s=0.1)):
        with pytest.raises(InputError, match=r"comes after|not after"):
            session.step(frame)
    assert session.usage() == before
    session.step(room(4)[0])


def test_another_size_goes_on():
    session = ReconstructionSession(config())
    walk(session, [None] * 4)
    wide = Pinhole.from_field_of_view(60, 128, 96)
    result = session.step(room(5, camera=wide)[0])
    assert result.labels.shape == (96, 128)
    assert share(result.static, np.ones((96, 128), bool)) > 0.9


def test_large_frames_are_thinned_out_and_answers_brought_back():
    session = ReconstructionSession(config(max_side=48))
    wide = Pinhole.from_field_of_view(60, 97, 71)
    for t, x in enumerate(MOVES):
        boxes = [] if x is None else [(x, 0.2, 0.3, 2.0)]
        frame, painted = room(t, boxes, camera=wide)
        result = session.step(frame)
    assert result.labels.shape == (71, 97)
    assert share(result.dynamic, painted) > 0.8
    assert share(result.static, ~painted) > 0.9


def answers(result):
    return (
        result.pose.tobytes(),
        result.pose_source,
        result.labels.tobytes(),
        result.track_ids.tobytes(),
        [(t.track_id, t.state, t.centre.tobytes(), t.velocity.tobytes()) for t in result.tracks],
        result.moving_points.points.tobytes(),
        result.events,
    )


@pytest.fixture(scope="module")
def generated():
    return [true.frame for true in SyntheticStream(1_000_000, 24, 64, 48)]


@pytest.mark.parametrize("at", [1, 9, 17])
@pytest.mark.parametrize("posed", [True, False])
def test_snapshot_and_resume_continue_identically(generated, tmp_path, at, posed):
    frames = [f if posed else f.without_pose() for f in generated]
    small = config(budget_mb=1.2)  # voxels must make room
    whole, session = ReconstructionSession(small), ReconstructionSession(small)
    expected = [answers(whole.step(frame)) for frame in frames]
    for frame in frames[:at]:
        session.step(frame)
    session.snapshot(tmp_path / "memory.safetensors")
    resumed = ReconstructionSession.resume(tmp_path / "memory.safetensors")
    assert resumed.config == small
    assert [answers(resumed.step(frame)) for frame in frames[at:]] == expected[at:]
    for name in ("points", "normals", "colours", "hits"):
        one, other = getattr(resumed.static_map(), name), getattr(whole.static_map(), name)
        assert np.array_equal(one, other)
    assert resumed.usage().bytes == whole.usage().bytes


def test_broken_states_are_refused(generated, tmp_path):
    session = ReconstructionSession(config())
    for frame in generated[:3]:
        session.step(frame)
    state = session.state_dict()
    damages = {
        "structure": {**state["structure"], "numbers": {}},
        "key_frames": {**state["key_frames"], "depth": state["key_frames"]["depth"][:2]},
        "locator": {},
        "dynamics": {"tracks": [{"track_id": 1}], "next_id": 1, "recent": []},
    }
    for key, damage in damages.items():
        with pytest.raises(ModelError, match="reconstruction session"):
            session.load_state_dict({**state, key: damage})
    path = tmp_path / "memory.safetensors"
    session.snapshot(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged"):
        ReconstructionSession.resume(path)


def test_the_budget_holds(generated):
    budget = 1.0
    session = ReconstructionSession(config(budget_mb=budget, structure__voxel=0.02))
    for t in range(60):
        frame = dataclasses.replace(generated[t % 24], index=t, time_s=t / 10)
        session.step(frame)
        assert session.usage().bytes <= budget * 2**20
    assert session._structure.evicted > 0
    assert len(session.static_map().points) > 700
    with pytest.raises(InputError, match="budget_mb"):
        ReconstructionSession(config(budget_mb=0.05)).step(generated[0])
