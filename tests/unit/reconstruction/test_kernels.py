"""The compiled loops against numpy alone, and the memories built on them."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError, MissingExtra
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import exponential, inverse
from vision_mem.reconstruction.icp import deviation, open_directions, solve
from vision_mem.reconstruction.kernels import dispatch
from vision_mem.reconstruction.surfel_map import StructureMemory
from vision_mem.reconstruction.voxel_grid import StructureConfig
from vision_mem.reconstruction.working_size import smoothed
from vision_mem.synthetic.rgbd_scene import SyntheticStream

CAMERA = Pinhole.from_field_of_view(62, 48, 36)
SIZE = (36, 48)


@pytest.fixture(scope="module")
def sets():
    pytest.importorskip("numba")
    return dispatch.choose("numba"), dispatch.choose("numpy")


@pytest.fixture(scope="module")
def clip():
    return [true.frame for true in SyntheticStream(1_000_003, 8, 48, 36, holes=0.05)]


def surface(kernel, frame):
    points = np.empty((*frame.size, 3), np.float32)
    normals = np.empty_like(points)
    kernel.surface(frame.depth, smoothed(frame.depth), frame.camera.numbers, 0.05, points, normals)
    return points, normals


def test_surfaces_agree_and_look_at_the_camera(sets, clip):
    for frame in clip[:3]:
        one, other = (surface(kernel, frame) for kernel in sets)
        assert np.allclose(one[0], other[0], atol=1e-6)
        assert np.allclose(one[1], other[1], atol=1e-4)
        known = one[1].any(axis=-1)
        assert known.mean() > 0.3
        assert ((one[1] * one[0]).sum(axis=-1)[known] < 0).mean() > 0.98
        assert np.allclose(np.linalg.norm(one[1][known], axis=-1), 1, atol=1e-5)


def test_votes_agree(sets, clip):
    points = clip[5].camera.unproject(clip[5].depth) @ clip[5].pose[:3, :3].T + clip[5].pose[:3, 3]
    points = points.reshape(-1, 3).astype(np.float32)
    points[::50] = np.nan
    depths = np.stack([f.depth for f in clip[:4]])
    nearest = depths * 0.99
    poses = np.stack([inverse(f.pose)[:3] for f in clip[:4]])
    answers = []
    for kernel in sets:
        empty, agreed = np.zeros(len(points), np.int16), np.zeros(len(points), np.int8)
        kernel.votes(
            points,
            nearest,
            depths,
            poses,
            clip[0].camera.numbers,
            0.06,
            0.03,
            2,
            0.012,
            empty,
            agreed,
        )
        answers.append((empty, agreed))
    assert np.array_equal(answers[0][0], answers[1][0])
    assert np.array_equal(answers[0][1], answers[1][1])
    assert (answers[0][1] == 1).any()


def filled(kernel, clip, capacity=1_500):
    memory = StructureMemory(kernel, StructureConfig(), 0.05, capacity)
    for t, frame in enumerate(clip):
        points, normals = surface(kernel, frame)
        fit = normals.any(axis=-1)
        world = (points[fit] @ frame.pose[:3, :3].T + frame.pose[:3, 3]).astype(np.float32)
        turned = (normals[fit] @ frame.pose[:3, :3].T).astype(np.float32)
        view = (np.ascontiguousarray(inverse(frame.pose)[:3]), frame.camera.numbers, frame.size)
        weights = np.full(len(world), 0.5, np.float32)
        memory.write(t, world, turned, frame.image[fit], weights, view)
        memory.carve(frame.depth, view, 0.01, 0.005)
    return memory, view


def test_voxels_agree(sets, clip):
    (one, view), (other, _) = (filled(kernel, clip) for kernel in sets)
    assert one.count == other.count > 1_000
    assert one.evicted == other.evicted > 0
    for name in ("keys", "hits", "violations", "first", "last"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("position", "normal", "weight"):
        assert np.allclose(getattr(one, name), getattr(other, name), atol=2e-4), name
    assert np.abs(one.colour.astype(int) - other.colour).max() <= 2
    for most in (50, 10_000):
        assert np.array_equal(one.read_view(view, most)[0], other.read_view(view, most)[0])


def test_normal_equations_agree_and_lead_home(sets, clip):
    memory, view = filled(sets[0], clip, 20_000)
    points, normals = surface(sets[0], clip[-1])
    model = memory.read_view(view, 5_000)
    start = clip[-1].pose @ exponential([0.01, -0.01, 0.005, 0.02, 0.01, -0.02])
    middle = model[0].mean(axis=0, dtype=np.float64)
    systems = []
    for kernel in sets:
        system, cross = np.zeros((7, 7)), np.zeros((6, 6))
        counts = kernel.normal_equations(
            *model,
            points,
            normals,
            start,
            middle,
            clip[-1].camera.numbers,
            0.2,
            0.8,
            np.array([0.01, 0.03, 1.0]),
            system,
            cross,
        )
        systems.append((counts, system, cross))
    assert systems[0][0] == systems[1][0]
    assert np.allclose(systems[0][1], systems[1][1], rtol=1e-4, atol=1e-4)
    assert np.allclose(systems[0][2], systems[1][2], rtol=1e-4, atol=1e-4)
    step, held = solve(systems[0][1], systems[0][2], start, middle, 0.01)
    assert held.shape[1] >= 5
    assert np.linalg.norm(step) > 0.005


@pytest.mark.parametrize(
    ("normals", "named"),
    [
        ([(0, 0, -1.0)], {"rolling", "sideways", "up and down"}),
        ([(0, 0, -1.0), (0, -1.0, 0)], {"sideways"}),
        ([(0, 0, -1.0), (0, -1.0, 0), (1.0, 0, 0)], set()),
    ],
    ids=["wall", "corridor", "corner"],
)
def test_what_structure_leaves_open_is_named(normals, named):
    rng = np.random.default_rng(0)
    middle, pose = np.array([0.3, 0.1, 2.0]), np.eye(4)
    rows = []
    for n in np.array(normals):
        points = middle + rng.uniform(-1, 1, (300, 3)) * (n == 0)
        residual = rng.normal(0, 0.005, (300, 1))
        rows.append(np.column_stack([np.cross(points - middle, n), np.tile(n, (300, 1)), residual]))
    system = np.concatenate(rows).T @ np.concatenate(rows)
    _, held = solve(system, system[:6, :6], pose, middle, 0.01)
    assert set(open_directions(held, pose)) == named
    known = deviation(system, held, pose, middle, 300 * len(normals))
    assert np.isinf(known).sum() == len(named)
    assert (known[np.isfinite(known)] < 0.05).all()


def box_memory(kernel, capacity=5_000):
    return StructureMemory(kernel, StructureConfig(voxel=0.1), 0.1, capacity)


VIEW = (np.eye(4)[:3].copy(), CAMERA.numbers, SIZE)


def write(memory, frame, points):
    points = np.asarray(points, np.float32)
    up = np.tile(np.float32((0, 0, -1)), (len(points), 1))
    grey = np.full((len(points), 3), 100, np.uint8)
    return memory.write(frame, points, up, grey, np.ones(len(points), np.float32), VIEW)


@pytest.mark.parametrize("name", ["numpy", "auto"])
def test_probation_and_carving(name):
    memory = box_memory(dispatch.choose(name))
    write(memory, 0, [(0.05, 0.05, 2.05)])
    assert not len(memory.read().points)
    write(memory, 1, [(0.05, 0.05, 2.07)])
    assert np.allclose(memory.read().points, [(0.05, 0.05, 2.06)])
    for frame in range(2, 8):
        write(memory, frame, [(0.05, 0.05, 2.05)])
    far = np.full(SIZE, 3.0, np.float32)
    died = [memory.carve(far, VIEW, 0.06, 0.03)[1] for _ in range(4)]
    assert died == [0, 0, 1, 0]  # 8 hits: three violations are more than a quarter
    assert not len(memory.read().points)
    # What hides it, or is unknown, does not violate it.
    write(memory, 20, [(0.05, 0.05, 2.05)])
    write(memory, 21, [(0.05, 0.05, 2.05)])
    for depth in (1.0, 2.1, 0.0):
        memory.carve(np.full(SIZE, depth, np.float32), VIEW, 0.06, 0.03)
    assert len(memory.read().points) == 1


@pytest.mark.parametrize("name", ["numpy", "auto"])
def test_what_is_out_of_view_makes_room_first(name):
    memory = box_memory(dispatch.choose(name), capacity=2_000)
    grid = np.stack(np.meshgrid(np.arange(30), np.arange(30)), -1).reshape(-1, 2) * 0.1
    behind = np.column_stack([grid, np.full(len(grid), -3.0)]) + 0.05
    often = behind[:300]
    for frame in range(5):
        write(memory, frame, often)
    write(memory, 5, behind)
    for frame in range(6, 12):
        shift = (frame - 6) * 0.5
        write(memory, frame, np.column_stack([grid * 0.2 - 0.3, np.full(len(grid), 2.0 + shift)]))
        write(memory, frame, np.column_stack([grid * 3, np.full(len(grid), 30.0 + shift)]))
    assert memory.count <= 2_000
    assert memory.evicted > 0
    left = memory.position[: memory.count]
    assert (left[:, 2] < 0).sum() < len(behind)
    assert ((left[:, 2] > 0) & (left[:, 2] < 5)).any()


def test_far_away_points_are_refused_without_harm():
    memory = box_memory(dispatch.choose("auto"))
    assert write(memory, 0, [(1e9, 0, 0), (0.05, 0.05, 1.0)]) == 1
    assert memory.count == 1


def test_choosing(monkeypatch):
    with pytest.raises(InputError, match="kernels"):
        dispatch.choose("cuda")

    def missing():
        raise ImportError("no numba")

    monkeypatch.setattr(dispatch, "_compiled", missing)
    assert dispatch.choose("auto").name == "numpy"
    with pytest.raises(MissingExtra, match=r"vision-mem\[recon\]"):
        dispatch.choose("numba")
