"""Meshes, PLY files, trajectories, depth maps, generated scenes."""

from __future__ import annotations

import numpy as np
import pytest
from scene_samples import write_trajectory

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.depth import read_depth, write_depth
from vision_mem.formats.ply import write_ply
from vision_mem.formats.trajectory import TrajectoryFile, read_trajectory
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import (
    aligned,
    exponential,
    inverse,
    logarithm,
    make_pose,
    quaternion_from,
    rotation_of,
    transform,
)
from vision_mem.reconstruction.meshing import mesh_of, smoothed_map
from vision_mem.reconstruction.voxel_grid import StaticMap
from vision_mem.synthetic.rgbd_bodies import SceneryConfig, make_scenery
from vision_mem.synthetic.rgbd_scene import SyntheticStream, render


def ball(radius=1.0, count=20_000, noise=0.0, voxel=0.05):
    random = np.random.default_rng(0)
    normals = random.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = normals * (radius + noise * random.normal(size=(count, 1)))
    colours = np.full((count, 3), (10, 20, 200), np.uint8)
    hits = np.full(count, 3, np.int32)
    return StaticMap(points.astype(np.float32), normals.astype(np.float32), colours, hits, voxel)


def test_a_ball_gets_a_closed_mesh():
    mesh = mesh_of(ball(1.7))  # wider than one block
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, uses = np.unique(edges, axis=0, return_counts=True)
    assert (uses == 2).mean() > 0.999
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1.7).max() < 0.02
    outward = (mesh.normals * mesh.vertices).sum(axis=1) / 1.7
    assert (outward > 0.9).mean() > 0.99
    assert (mesh.colours == (10, 20, 200)).all()


def test_a_patch_stays_open_and_nothing_gives_nothing():
    whole = ball()
    half = whole.points[:, 2] > 0
    patch = StaticMap(
        whole.points[half], whole.normals[half], whole.colours[half], whole.hits[half], 0.05
    )
    assert mesh_of(patch).vertices[:, 2].min() > -0.2
    none = half & False
    empty = StaticMap(
        whole.points[none], whole.normals[none], whole.colours[none], whole.hits[none], 0.05
    )
    assert len(mesh_of(empty).faces) == 0
    assert len(smoothed_map(empty).points) == 0


def test_smoothing_makes_layers_one():
    rough = ball(noise=0.02)
    before = np.abs(np.linalg.norm(rough.points, axis=1) - 1).mean()
    after = np.abs(np.linalg.norm(smoothed_map(rough).points, axis=1) - 1).mean()
    assert after < 0.5 * before


def read_ply(path):
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode().splitlines()
    count = int(next(x for x in lines if x.startswith("element vertex")).split()[-1])
    kinds = {"float": "<f4", "uchar": "u1", "int": "<i4"}
    fields = [
        (x.split()[2], kinds[x.split()[1]])
        for x in lines
        if x.startswith("property") and "list" not in x
    ]
    rows = np.frombuffer(body, dtype=fields, count=count)
    return rows, body[rows.nbytes :], lines


def test_ply_says_what_was_given(tmp_path):
    path = tmp_path / "new" / "mesh.ply"
    points = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0.5)])
    colours = np.array([(1, 2, 3), (4, 5, 6), (7, 8, 255)], np.uint8)
    write_ply(
        path,
        points,
        normals=points,
        colours=colours,
        faces=[(0, 1, 2)],
        track_ids=[4, -1, 7],
        comment="one\nline",
    )
    rows, rest, lines = read_ply(path)
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "comment one line"]
    assert np.allclose([rows["x"], rows["y"], rows["z"]], points.T)
    assert rows["blue"].tolist() == [3, 6, 255]
    assert rows["track"].tolist() == [4, -1, 7]
    assert rest == b"\x03" + np.array([0, 1, 2], "<i4").tobytes()
    for wrong in ({"normals": points[:2]}, {"faces": [(0, 1, 3)]}, {"track_ids": [1]}):
        with pytest.raises(InputError):
            write_ply(path, points, **wrong)


POSES = np.stack([exponential([0.1 * k, 2.9 - k, 0.3, k, -1, 0.5 * k]) for k in range(4)])


@pytest.mark.parametrize("form", ["tum", "kitti"])
def test_trajectories_come_back(tmp_path, form):
    path = tmp_path / "path.txt"
    write_trajectory(path, POSES, [0.5, 1.0, 1.5, 2.0], form)
    found = read_trajectory(path)
    assert np.allclose(found.poses, POSES, atol=1e-6)
    assert found.times.tolist() == ([0.5, 1.0, 1.5, 2.0] if form == "tum" else [0, 1, 2, 3])
    sink = TrajectoryFile(path, form)
    for k, pose in enumerate(POSES):
        sink.write(pose, k)
        assert len(read_trajectory(path)) == k + 1
    sink.close()


def test_tum_lines_have_the_real_part_last(tmp_path):
    write_trajectory(tmp_path / "a.txt", [make_pose(np.eye(3), (1, 2, 3))], [7.0])
    assert (tmp_path / "a.txt").read_text() == "7.000000 1 2 3 0 0 0 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no poses"),
        ("# only a comment\n", "no poses"),
        ("1 2 3\n", "line 1"),
        ("0 0 0 0 0 0 0 1\nx 0 0 0 0 0 0 1\n", "line 2"),
        ("0 0 0 0 0 0 0 1\n1 0 0 0 0 0 0\n2 0 0 0 0 0 0 1\n", "line 2"),
        ("0 0 0 0 0 0 0 nan\n", "none of its rows"),
        ("nan 0 0 0 0 0 0 1\n", "none of its rows"),
        ("1 0 0 0 0 1 0 0 0 0 9 0\n", "none of its rows"),
        ("0 1e308 0 0 0 0 0 1\n1 0 0 0 1e308 1e308 0 0\n", "none of its rows"),
        ("a b c d e f g h\n", "no poses"),
        ("frame,x,y,z,roll,pitch,yaw\n1,2,3,4,5,6,7\n", "expected a quaternion"),
        ("\xff\xfe".encode("latin-1"), "no text file"),
    ],
)
def test_damaged_trajectories(tmp_path, text, message):
    path = tmp_path / "path.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=message) as caught:
        read_trajectory(path)
    assert "\n" not in str(caught.value)


def test_times_out_of_order_are_sorted(tmp_path, caplog):
    write_trajectory(tmp_path / "a.txt", POSES, [3.0, 1.0, 2.0, 4.0])
    found = read_trajectory(tmp_path / "a.txt")
    assert found.times.tolist() == [1, 2, 3, 4]
    assert np.allclose(found.poses[0], POSES[1], atol=1e-6)
    assert "out of order" in caplog.text


@pytest.mark.parametrize("name", ["d.png", "d.npz"])
def test_depth_maps_come_back(tmp_path, name):
    depth = np.array([[0.5, 1.2345, np.nan], [-1, 70.0, np.inf]], np.float32)
    write_depth(tmp_path / name, depth)
    found = read_depth(tmp_path / name)
    scale = 0.001 if name.endswith("png") else 1.0
    expected = [[0.5, 1.2345, 0], [0, 0 if scale < 1 else 70.0, 0]]
    assert np.allclose(found * scale, expected, atol=0.0006)


def test_geometry_round_trips():
    for pose in POSES:
        assert np.allclose(exponential(logarithm(pose)), pose, atol=1e-9)
        assert np.allclose(rotation_of(quaternion_from(pose[:3, :3])), pose[:3, :3])
        assert quaternion_from(pose[:3, :3])[0] >= 0
        assert np.allclose(inverse(pose) @ pose, np.eye(4))
    points = np.random.default_rng(0).normal(size=(30, 3))
    scale, pose = aligned(points, transform(POSES[1], 1.7 * points), with_scale=True)
    assert scale == pytest.approx(1.7)
    assert np.allclose(pose, POSES[1])
    camera = Pinhole.from_centres(500, 510, 319.5, 239.5, 640, 480)
    depth = np.random.default_rng(1).uniform(1, 3, (480, 640))
    pixels, z = camera.project(camera.unproject(depth))
    assert np.allclose(z, depth)
    assert np.allclose(pixels[0, 0], (0.5, 0.5))
    assert np.allclose(pixels[-1, -1], (639.5, 479.5))
    for stride in (2, 3):
        first = stride // 2
        some = depth[first::stride, first::stride]
        small = camera.every(stride)
        assert (small.height, small.width) == some.shape
        same = camera.unproject(depth)[first::stride, first::stride]
        assert np.allclose(small.unproject(some), same)


def test_generated_truth_is_consistent():
    stream = SyntheticStream(1_000_002, 20, 48, 36, depth_noise=0.0)
    again = list(SyntheticStream(1_000_002, 20, 48, 36, depth_noise=0.0))
    moved = 0
    still = [0, *(n for n, part in enumerate(stream.scenery.parts, 1) if not part.speed.any())]
    for one, other in zip(stream, again, strict=True):
        assert np.array_equal(one.frame.image, other.frame.image)
        assert np.array_equal(one.frame.depth, one.depth)
        world = transform(one.frame.pose, one.frame.camera.unproject(one.depth))
        away = stream.scenery.distance(world.reshape(-1, 3)).reshape(one.depth.shape)
        rests = np.isin(one.instance, still)
        assert away[rests].max() < 1e-4
        assert not (one.dynamic & rests).any()
        moved += int(one.dynamic.sum())
        assert one.depth.min() > 0.2
    assert moved > 200


def test_flow_leads_to_the_same_surface():
    scenery = make_scenery(1_000_002, 12, SceneryConfig(noise=False))
    made = render([scenery], 48, 36)
    camera = Pinhole.from_field_of_view(scenery.field_of_view, 48, 36)
    for t in (2, 7):
        world = transform(scenery.poses[t], camera.unproject(made.depth[0, t].numpy()))
        later = world + made.scene_flow[0, t].numpy()
        pixels, _ = camera.project(transform(inverse(scenery.poses[t + 1]), later))
        centres, _ = camera.project(camera.rays())
        flow = made.flow[0, t].numpy()
        assert np.nanmax(np.abs(pixels - centres - flow)) < 1e-2
        still = ~made.dynamic[0, t].numpy() & ~made.ever_moves[0, t].numpy()
        assert np.abs(made.scene_flow[0, t].numpy()[still]).max() < 1e-6


def test_scenes_of_one_batch_do_not_meet():
    scenes = [make_scenery(seed, 4) for seed in (5, 6, 7)]
    together = render(scenes, 32, 24)
    for k, scene in enumerate(scenes):
        alone = render([scene], 32, 24)
        assert np.allclose(together.depth[k], alone.depth[0], atol=1e-5)
        assert np.array_equal(together.instance[k], alone.instance[0])
        assert np.allclose(together.image[k], alone.image[0], atol=1e-4)
