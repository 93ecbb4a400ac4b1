"""Tiny copies of the sets for depth, poses and points, each in its own layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vision_mem.formats.sintel import write_cam, write_dpt
from vision_mem.formats.trajectory import write_trajectory
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import exponential, inverse

WIDTH, HEIGHT = 32, 24
CAMERA = Pinhole.from_centres(30.0, 30.0, 15.5, 11.5, WIDTH, HEIGHT)


def poses(count):
    """A camera that goes around a bend, looking at a wall 3 m ahead."""
    return [
        exponential((0.02 * np.sin(0.5 * k), 0.3 * np.sin(0.1 * k), 0,
                     0.04 * k, 0.03 * np.sin(k), 0.02 * k))
        for k in range(count)
    ]  # fmt: skip


def depth_of(pose):
    """``(H, W)`` z of the planes z = 3 and y = 1 of the world."""
    rays = CAMERA.rays() @ pose[:3, :3].T
    wall = (3.0 - pose[2, 3]) / rays[..., 2]
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 1] > 0, (1.0 - pose[1, 3]) / rays[..., 1], np.inf)
    return np.minimum(wall, floor).astype(np.float32)


def image_of(k):
    """Colours that nobody looks at twice."""
    random = np.random.default_rng(k)
    return random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def units(depth, per_metre):
    return np.rint(depth * per_metre).astype(np.uint16)


def write_sintel(root: Path, names=("alley_2", "temple_3"), count=4):
    training = root / "training"
    matrix = CAMERA.matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    for name in names:
        for k, pose in enumerate(poses(count), start=1):
            save(training / f"final/{name}/frame_{k:04d}.png", image_of(k))
            write_dpt(training / f"depth/{name}/frame_{k:04d}.dpt", depth_of(pose))
            write_cam(training / f"camdata_left/{name}/frame_{k:04d}.cam", matrix, pose)


def write_bonn(root: Path, count=34, prepared=False):
    folder = root / "rgbd_bonn_dataset" / "rgbd_bonn_balloon2"
    mark = "_110" if prepared else ""
    for k, pose in enumerate(poses(count)):
        save(folder / f"rgb{mark}/{k / 30:.5f}.png", image_of(k))
        save(folder / f"depth{mark}/{k / 30 + 0.01:.5f}.png", units(depth_of(pose), 5000))


def write_kitti(root: Path, count=3):
    place = root / "depth_selection/val_selection_cropped"
    for k, pose in enumerate(poses(count)):
        save(place / f"image_gathered/2011_02/{k:010d}.png", image_of(k))
        sparse = np.where(np.arange(WIDTH) % 3 == 0, units(depth_of(pose), 256), 0)
        save(place / f"groundtruth_depth_gathered/2011_02/{k:010d}.png", sparse.astype(np.uint16))


TUM_NAME = "rgbd_dataset_freiburg3_walking_xyz"


def write_tum(root: Path, count=14, prepared=False):
    """Poses come at their own times; prepared, the images lie in ``rgb_90``."""
    folder = root / TUM_NAME
    times = 100 + np.arange(count) / 10
    write_trajectory(folder / ("groundtruth_90.txt" if prepared else "groundtruth.txt"),
                     poses(count), times + 0.004)  # fmt: skip
    lists = {"rgb": [], "depth": []}
    for k, pose in enumerate(poses(count)):
        place = "rgb_90" if prepared else "rgb"
        save(folder / f"{place}/{times[k]:.6f}.png", image_of(k))
        late = times[k] + 0.009
        save(folder / f"depth/{late:.6f}.png", units(depth_of(pose), 5000))
        lists["rgb"].append(f"{times[k]:.6f} rgb/{times[k]:.6f}.png")
        lists["depth"].append(f"{late:.6f} depth/{late:.6f}.png")
    if not prepared:
        for name, rows in lists.items():
            (folder / f"{name}.txt").write_text("# made up\n" + "\n".join(rows) + "\n")
    (folder / "intrinsics.txt").write_text("30 30 15.5 11.5\n")


def write_scannet(root: Path, count=9, prepared=False, lost=()):
    folder = root / "scene0707_00"
    mark = "_90" if prepared else ""
    rows = []
    for k, pose in enumerate(poses(count)):
        save(folder / f"color{mark}/{k}.jpg", image_of(k))
        save(folder / f"depth{mark}/{k}.png", units(depth_of(pose), 1000))
        matrix = np.full((4, 4), -np.inf) if k in lost else pose
        rows.append(" ".join(f"{v:.9g}" for v in matrix.ravel()))
        if not prepared:
            (folder / "pose").mkdir(exist_ok=True)
            (folder / f"pose/{k}.txt").write_text(rows[-1].replace(" ", "\n"))
    if prepared:
        (folder / "pose_90.txt").write_text("\n".join(rows) + "\n")
    (folder / "intrinsics.txt").write_text("30 30 15.5 11.5\n")


def write_seven(root: Path, count=5, registered=True):
    scene = root / "chess"
    (scene / "seq-03").mkdir(parents=True)
    (scene / "seq-01").mkdir()
    (scene / "TestSplit.txt").write_text("sequence3\nsequence5\n")
    ending = "depth.proj" if registered else "depth"
    for k, pose in enumerate(poses(count)):
        stem = scene / f"seq-03/frame-{k:06d}"
        save(Path(f"{stem}.color.png"), image_of(k))
        depth = units(depth_of(pose), 1000)
        depth[0, 0] = 65535
        save(Path(f"{stem}.{ending}.png"), depth)
        np.savetxt(f"{stem}.pose.txt", pose)


def write_nrgbd(root: Path, count=5):
    scene = root / "kitchen"
    rows = []
    for k, pose in enumerate(poses(count)):
        save(scene / f"images/img{k}.png", image_of(k))
        save(scene / f"depth/depth{k}.png", units(depth_of(pose), 1000))
        opengl = pose * np.array([1.0, -1, -1, 1])
        rows += [" ".join(f"{v:.9g}" for v in row) for row in opengl]
    (scene / "poses.txt").write_text("\n".join(rows) + "\n")


def first_camera(all_poses):
    """The same path in the axes of its first camera."""
    back = inverse(all_poses[0])
    return [back @ pose for pose in all_poses]
