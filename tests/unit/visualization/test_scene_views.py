"""Splats, views, sums of a run and drawings of a rebuilt scene, on cases worked out by hand."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.geometry.camera import Pinhole
from vision_mem.sinks.scene_table import SceneTally, moving_table
from vision_mem.visualization.scene_overlay import coloured_depth
from vision_mem.visualization.scene_views import CameraPath, around, flight, from_above, upright
from vision_mem.visualization.splatting import BACKGROUND, look_at, splat

CAMERA = Pinhole(10.0, 10.0, 8.0, 8.0, 16, 16)
RED, BLUE = (200, 0, 0), (0, 0, 200)


def test_the_nearest_point_hides_the_others():
    points = [(0, 0, 2.0), (0, 0, 1.0), (0, 0, 3.0)]
    picture = splat(points, [RED, BLUE, RED], CAMERA, np.eye(4), size=0.01)
    assert tuple(picture[8, 8]) == BLUE
    assert (picture.reshape(-1, 3) == BACKGROUND).all(axis=1).sum() == 255


def test_points_cover_what_they_are_large():
    picture = splat([(0, 0, 2.0)], [RED], CAMERA, np.eye(4), size=1.0)  # 5 pixels wide
    painted = (picture == RED).all(axis=2)
    assert np.array_equal(np.argwhere(painted).min(axis=0), (6, 6))
    assert painted.sum() == 25


def test_what_turns_away_or_lies_behind_is_not_drawn():
    points = [(-0.5, 0, 2.0), (0, 0, 2.0), (0.5, 0, 2.0), (0, 0, -2.0), (np.nan, 0, 2)]
    normals = [(0, 0, -1), (0, 0, 1), (0, 0, 0), (0, 0, 1), (0, 0, -1)]
    picture = splat(points, [RED] * 5, CAMERA, np.eye(4), size=0.01, normals=normals)
    assert [tuple(p) for p in np.argwhere((picture == RED).all(axis=2))] == [(8, 5), (8, 10)]


def test_no_points_and_wrong_ones():
    assert (splat(np.zeros((0, 3)), [], CAMERA, np.eye(4), size=1) == BACKGROUND).all()
    with pytest.raises(InputError, match="one colour each"):
        splat(np.zeros((2, 3)), [RED], CAMERA, np.eye(4), size=1)


@pytest.mark.parametrize("target", [(1, 0, 0), (0, 0, 5), (0, -3, 0), (0, 3, 0)])
def test_a_camera_looks_where_it_should(target):
    pose = look_at((0, 0, 0), target, (0, -1, 0))
    assert np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3))
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert np.allclose(pose[:3, 2] * np.linalg.norm(target), target)
    if not target[1]:
        assert np.allclose(pose[:3, 1], (0, 1, 0)), "the picture's down is down"


def scene(tilt=0.0):
    """A floor of 4 x 4 m at y = 1 and a wall of 2 m at z = 2; the camera looks down a bit."""
    grid = np.arange(-2, 2, 0.05)
    x, z = (a.ravel() for a in np.meshgrid(grid, grid))
    floor = np.stack([x, np.ones_like(x), z], axis=1)
    x, y = (a.ravel() for a in np.meshgrid(grid, np.arange(-1, 1, 0.05)))
    wall = np.stack([x, y, np.full_like(x, 2.0)], axis=1)
    points = np.concatenate([floor, wall]).astype(np.float32)
    normals = np.zeros_like(points)
    normals[: len(floor), 1], normals[len(floor) :, 2] = -1, -1
    colours = np.full(points.shape, 90, np.uint8)
    found = SimpleNamespace(points=points, normals=normals, colours=colours, voxel=0.05)
    c, s = np.cos(tilt), np.sin(tilt)
    axes = [1, 0, 0, 0, c, -s, 0, s, c]
    rows = [[k, 0.1 * k, 0, -1 + 0.1 * k, *axes] for k in range(8)]
    return found, CameraPath.from_rows(rows)


def test_up_is_that_of_the_floor_not_of_the_camera():
    found, path = scene(tilt=0.4)
    assert path.up @ (0, -1, 0) == pytest.approx(np.cos(0.4))
    assert np.allclose(upright(found, path), (0, -1, 0), atol=1e-6)
    bare = SimpleNamespace(points=found.points[:5], normals=found.normals[:5], voxel=0.05)
    assert np.allclose(upright(bare, path), path.up)


def test_from_above_the_floor_is_free_and_the_wall_is_not():
    found, path = scene(tilt=0.4)
    above = from_above(found, path, [("object-1", (1.0, 0.5, 0.5))], "room")
    share = above.obstacle.sum() / above.seen.sum()
    assert 0 < share < 0.06, "one row of cells"
    assert above.obstacle[:, -1].mean() > 0.9
    assert not above.obstacle[:, :-3].any()
    assert np.allclose(above.things[0].position, (1.0, 0.5))
    assert np.allclose(np.asarray(above.path)[-1], (0.7, -0.3))


def test_pictures_from_outside_show_the_scene():
    found, path = scene()
    views = [around(found, path, turn, 64, 48) for turn in (0.0, 0.5)]
    for view in views:
        assert 0.02 < (view != BACKGROUND).any(axis=2).mean() < 0.9
    assert not np.array_equal(*views)
    pictures = list(flight(found, path, 64, 48, frames=9))
    assert len(pictures) == 9
    assert {p.shape for p in pictures} == {(48, 64, 3)}
    nothing = SimpleNamespace(
        points=np.zeros((0, 3), np.float32), normals=np.zeros((0, 3), np.float32),
        colours=np.zeros((0, 3), np.uint8), voxel=0.05,
    )  # fmt: skip
    assert len(list(flight(nothing, CameraPath.from_rows([]), 64, 48, frames=3))) == 3
    assert from_above(nothing, CameraPath.from_rows([]), [], "").seen.size == 0


def test_colours_of_depth():
    depth = np.array([[0.3, 8.0, 0.0, np.nan, -1.0, 20.0]], np.float32)
    near, far, *holes, farther = coloured_depth(depth)[0].astype(int)
    assert near[0] > near[2]
    assert far[2] > far[0] - 1
    assert (np.array(holes) == 0).all()
    assert np.array_equal(far, farther)


def result(index, *, place=(0.0, 0.0, 0.0), tracks=(), uncertain=(), lost=False, events=()):
    pose = np.eye(4)
    pose[:3, 3] = place
    found = SimpleNamespace(
        frame_index=index, time_s=index / 10, pose=pose, lost=lost, tracks=tracks,
        uncertain=uncertain, events=events, stage_ms={"pose": 2.0},
    )  # fmt: skip
    return SimpleNamespace(found=found)


def track(number, x, state="moving", seen=True):
    return SimpleNamespace(
        track_id=number, state=state, seen=seen, centre=np.array([x, 0.0, 0.0]),
        velocity=np.array([0.0, 3.0, 4.0]), extent=np.array([1.0, 2.0, x]),
        speed_error=0.25,
    )  # fmt: skip


def test_sums_of_a_run():
    tally = SceneTally()
    tally.add(result(0))
    tally.add(result(1, place=(3, 4, 0), tracks=(track(1, 1.0),)))
    tally.add(result(2, place=(9, 9, 9), tracks=(track(1, 9.0),), lost=True))
    tally.add(result(3, place=(3, 4, 1), tracks=(track(1, 3.0, "parked"), track(2, 0.0))))
    assert (tally.frames, tally.lost, tally.objects) == (4, 1, 2)
    assert tally.path_m == pytest.approx(6), "lost poses do not count"
    sums = tally.tracks[1]
    assert (sums.frames, sums.parked, sums.first_frame, sums.last_frame) == (2, 1, 1, 3)
    assert (sums.path, sums.fastest, sums.extent) == (2, 5, [1, 2, 3])
    again = SceneTally.resumed(tally.as_dict())
    for each in (tally, again):
        each.add(result(4, place=(3, 4, 2), tracks=(track(2, 1.0),)))
    assert again.as_dict() == tally.as_dict()
    assert list(again.tracks) == [2]


def test_what_may_have_moved_has_a_table_of_its_own(tmp_path):
    tally = SceneTally()
    tally.table = moving_table(tmp_path / "a.tracks.csv")
    tally.maybe = moving_table(tmp_path / "a.maybe.csv")
    tally.add(result(0, uncertain=(track(1, 1.0), track(2, 1.0), track(3, 2.0))))
    tally.add(result(1, tracks=(track(1, 2.0),), uncertain=(track(3, 2.0),)))
    assert (tally.objects, tally.doubtful) == (1, 2)
    assert tally.lines()[-1] == "1 moving object, 2 more may have moved, which is not sure"
    again = SceneTally.resumed(tally.as_dict())
    assert again.as_dict() == tally.as_dict() and again.uncertain.keys() == {3}
    tally.finish()
    for name, ids in (("tracks", ["1"]), ("maybe", ["2", "3"])):
        with (tmp_path / f"a.{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == ids
        assert rows[0]["speed_error_m_s"] == "0.25" and rows[0]["fastest_m_s"] == "5.0"


def test_places_stay_few_however_long_the_run():
    tally = SceneTally()
    for index in range(5000):
        tally.add(result(index, place=(index, 0, 0)))
    assert 256 < len(tally.places) <= 1024
    assert tally.path_m == pytest.approx(4999)
    numbers = np.array([row[0] for row in tally.places])
    assert (np.diff(numbers) == tally.spacing).all()
    assert numbers[-1] > 4900
