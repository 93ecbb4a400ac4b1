"""Spatial memory on filmed depth: things are found again, routes keep clear, maps go on."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from vision_mem.navigation import NavigationConfig, NavigationSession, Observation, Sighting
from vision_mem.navigation.config import OctreeConfig
from vision_mem.navigation.graph.path_planning import PlanningConfig
from vision_mem.navigation.space.octree import OCCUPIED, Octree

pytestmark = pytest.mark.data

PIXELS = {"cup": (320, 240), "board": (150, 300), "cupboard": (500, 200), "tap": (260, 130)}


@pytest.fixture(scope="module")
def frames(data):
    """(pose, depth in metres) of the 40 frames."""
    folder = data / "rgbd" / "7scenes_redkitchen"
    if not folder.is_dir():
        pytest.skip(f"7-Scenes frames not found in {folder}")
    found = []
    for path in sorted(folder.glob("*.depth.png")):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 1000.0
        depth[(depth <= 0) | (depth > 60)] = np.nan
        found.append((np.loadtxt(str(path).replace(".depth.png", ".pose.txt")), depth))
    return found


def lifted(u, v, z):
    return np.stack([(u - 320) / 585 * z, (v - 240) / 585 * z, z], axis=-1)


def cloud(depth, step=4):
    v, u = np.mgrid[0:480:step, 0:640:step]
    return lifted(u, v, depth[v, u]).reshape(-1, 3)


def things(frames):
    """Where the named pixels of the first frame are, in the map."""
    pose, depth = frames[0]
    found = {}
    for name, (u, v) in PIXELS.items():
        z = np.nanmedian(depth[v - 2 : v + 3, u - 2 : u + 3])
        assert np.isfinite(z)
        found[name] = pose[:3, :3] @ lifted(u, v, z) + pose[:3, 3]
    return found


def measured(frame, position):
    """The same thing by another frame's own depth, in its camera's frame; None where hidden.

    Only the distance is measured anew: its pixel is where the first frame's position projects to.
    """
    pose, depth = frame
    x, y, z = pose[:3, :3].T @ (position - pose[:3, 3])
    u, v = round(x / z * 585 + 320), round(y / z * 585 + 240)
    if z <= 0 or not (4 <= u < 636 and 4 <= v < 476):
        return None
    around = depth[v - 2 : v + 3, u - 2 : u + 3]
    seen = float(np.nanmedian(around)) if np.isfinite(around).any() else np.inf
    return lifted(u, v, np.float64(seen)) if abs(seen - z) < 0.15 else None


def observed(frames, numbers, named):
    for number in numbers:
        pose, depth = frames[number]
        spots = {name: measured(frames[number], at) for name, at in named.items()}
        seen = [Sighting(p, name, 0.03) for name, p in spots.items() if p is not None]
        yield Observation(number / 6.0, pose, points=cloud(depth), sightings=seen)


def test_named_things_are_found_in_a_map_that_goes_on(frames, tmp_path) -> None:
    named, path = things(frames), tmp_path / "kitchen.vmem"
    for part in (range(0, 20, 2), range(20, 40, 2)):  # two runs on one file
        with NavigationSession(path) as session:
            for observation in observed(frames, part, named):
                session.step(observation)
    with NavigationSession(path, mode="r") as session:
        assert session.state.frame == 20 and session.check() == session.usage().memories
        for name in named:
            # Truth is what the other half of the frames measured.
            spots = [(frames[n][0], measured(frames[n], named[name])) for n in range(1, 40, 2)]
            others = [p[:3, :3] @ at + p[:3, 3] for p, at in spots if at is not None]
            (hit, *_) = session.where(name)
            error = float(np.linalg.norm(hit.position - np.mean(others, axis=0)))
            print(f"{name}: {100 * error:.1f} cm from {len(others)} other looks, {hit.count} own")
            assert len(others) >= 3 and error < 0.3
        stored = session.state.octree.level(0)
    straight = Octree(OctreeConfig())
    for number in (*range(0, 20, 2), *range(20, 40, 2)):
        pose, depth = frames[number]
        straight.insert(pose[:3, 3], cloud(depth) @ pose[:3, :3].T + pose[:3, 3])
    once = straight.level(0)
    assert (once.codes == stored.codes).all() and (once.log_odds == stored.log_odds).all()


def test_routes_avoid_what_was_filmed(frames) -> None:
    poses = np.array([pose for pose, _ in frames])
    up = -poses[:, :3, 1].mean(axis=0)
    axis = int(np.abs(up).argmax())
    # The floor is not in view: the traveller flies, in a band about the camera.
    height = float(np.median(poses[:, axis, 3])) * np.sign(up[axis])
    plan = PlanningConfig(
        up=("+" if up[axis] > 0 else "-") + "xyz"[axis], floor=height, lowest=-0.3, highest=0.3,
        radius=0.15, optimistic=True,
    )  # fmt: skip
    with NavigationSession(config=NavigationConfig(planning=plan)) as session:
        for observation in observed(frames, range(40), {}):
            session.step(observation)
        ends = poses[[0, -1], :3, 3]
        route = session.route(ends[1], start=ends[0])
        steps = np.linspace(route.points[:-1], route.points[1:], 100).reshape(-1, 3)
        assert route.on == "floor" and len(steps)
        for shift in np.arange(-0.25, 0.3, 0.1):
            along = steps.copy()
            along[:, axis] += shift
            assert (session.state.octree.state(along) != OCCUPIED).all()
        print(f"{route.length:.2f} m, {len(route.points)} points: {route.directions}")


def test_occupancy_agrees_with_octomap_and_comes_faster(frames) -> None:
    pyoctomap = pytest.importorskip("pyoctomap", reason="compares with OctoMap: pip pyoctomap")
    pytest.importorskip("numba", reason="it is the compiled kernels that are compared")
    ours, theirs = Octree(OctreeConfig(kernels="numba", max_range=0.0)), pyoctomap.OcTree(0.1)
    for setter, odds in (("setProbHit", 0.85), ("setProbMiss", -0.4),
                         ("setClampingThresMin", -2.0), ("setClampingThresMax", 3.5)):  # fmt: skip
        getattr(theirs, setter)(1 / (1 + np.exp(-odds)))
    looks = []
    for pose, depth in frames:
        points = cloud(depth, 2)
        points = points[np.isfinite(points).all(axis=1)]
        looks.append((pose[:3, 3], np.ascontiguousarray(points @ pose[:3, :3].T + pose[:3, 3])))
    Octree(OctreeConfig(kernels="numba", max_range=0.0)).insert(*looks[0])  # compiles
    spent = np.zeros(2)
    for sensor, points in looks:
        begun = time.perf_counter()
        ours.insert(sensor, points)
        between = time.perf_counter()
        theirs.insertPointCloud(points, sensor, -1.0, False, True)
        spent += (between - begun, time.perf_counter() - between)
    found = ours.level(0)
    nodes = [theirs.search(centre.tolist()) for centre in found.centres]
    unknown = sum(node is None for node in nodes)
    other = sum(
        node is not None and bool(theirs.isNodeOccupied(node)) != bool(full)
        for node, full in zip(nodes, found.occupied, strict=True)
    )
    print(f"{len(found)} cells: {unknown} unknown to OctoMap, {other} otherwise; "
          f"OctoMap takes {spent[1] / spent[0]:.1f} times as long")  # fmt: skip
    assert len(found) > 5000 and unknown + other <= 0.005 * len(found)
    assert spent[0] < spent[1]
