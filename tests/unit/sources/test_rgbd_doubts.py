"""Recordings whose poses, intrinsics or depth are not what they seem: said, and kept as doubts."""

from __future__ import annotations

import json
import logging
import shutil

import cv2
import numpy as np
import pytest

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.depth import read_depth
from vision_mem.formats.rgbd_folders import write_tum
from vision_mem.formats.trajectory import read_trajectory
from vision_mem.geometry.poses import inverse, make_pose, quaternion_from
from vision_mem.sources.posed import PosedSource
from vision_mem.sources.rgbd import open_rgbd
from vision_mem.synthetic.rgbd_scene import SyntheticStream

COUNT = 40


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doubts") / "room"
    write_tum(folder, (true.frame for true in SyntheticStream(2_000_108, COUNT, 160, 120)))
    return folder


@pytest.fixture
def copy(room, tmp_path):
    return shutil.copytree(room, tmp_path / "copy")


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def line(time_s, pose, order="xyzw", scale=1.0):
    turn = dict(zip("wxyz", quaternion_from(pose[:3, :3]), strict=True))
    numbers = (time_s, *(pose[:3, 3] * scale), *(turn[axis] for axis in order))
    return " ".join(f"{number:.7f}" for number in numbers)


JUMP = np.array([50.0, 0, 0])
WAYS = {
    "as they are": (lambda t, p: line(t, p), ""),
    "real first": (lambda t, p: line(t, p, "wxyz"), "real part first"),
    "world to camera": (lambda t, p: line(t, inverse(p)), "world-to-camera instead"),
    "both": (lambda t, p: line(t, inverse(p), "wxyz"), "world-to-camera, quaternions as w x y z"),
    "y up": (lambda t, p: line(t, p @ np.diag([1, -1, -1, 1.0])), "y up and z backwards"),
    "millimetres": (lambda t, p: line(t, p, scale=1000), "positions in millimetres"),
    "a jump": (
        lambda t, p: line(t, p if t < 2 else make_pose(p[:3, :3], p[:3, 3] + JUMP)),
        "jumps by 50.0 m before frame 20 (1 jumps in all)",
    ),
    "other clock": (lambda t, p: line(t + 100, p), "row by row, as there are as many"),
    "numbers": (lambda t, p: line(round(10 * t), p), "taken for numbers of frames"),
}


@pytest.mark.parametrize("name", WAYS)
def test_poses_are_doubted_aloud(room, tmp_path, caplog, name):
    make, says = WAYS[name]
    true = read_trajectory(room / "groundtruth.txt")
    rows = [make(t, p) for t, p in zip(true.times, true.poses, strict=True)]
    (tmp_path / "path.txt").write_text("\n".join(rows) + "\n")
    source = open_rgbd(room, poses=tmp_path / "path.txt")
    assert said(caplog) == source.doubts and len(source.doubts) == bool(says)
    assert says in " ".join(source.doubts)
    assert source.posed and len(list(source.poses())) == COUNT
    caplog.clear()
    open_rgbd(room, poses=tmp_path / "path.txt", tell=False)
    assert not caplog.records, "what is opened once more repeats nothing"


def test_times_decide_though_counts_are_equal(room, tmp_path, caplog):
    """Two poses more at the front and two fewer at the end: rows would all be wrong."""
    true = read_trajectory(room / "groundtruth.txt")
    early = [line(t, true.poses[0]) for t in (-0.2, -0.1)]
    rows = early + [line(t, p) for t, p in zip(true.times[:-2], true.poses[:-2], strict=True)]
    (tmp_path / "path.txt").write_text("\n".join(rows) + "\n")
    frames = list(open_rgbd(room, poses=tmp_path / "path.txt"))
    for frame, pose in zip(frames[:-2], true.poses[:-2], strict=True):
        assert np.allclose(frame.pose, pose, atol=1e-5)
    assert frames[-1].pose is None and "2 of 40 frames have no pose" in said(caplog)[0]


def test_tolerance_and_offset(room, tmp_path, caplog):
    true = read_trajectory(room / "groundtruth.txt")
    rows = [line(t + 7.04, p) for t, p in zip(true.times, true.poses, strict=True)]
    path = tmp_path / "path.txt"
    path.write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(SourceError, match=r"39 poses for 40 frames.*--pose-offset"):
        open_rgbd(room, poses=path)
    for options in ({"pose_offset": -7.04}, {"pose_offset": -7.0, "pose_tolerance": 0.045}):
        found = dict((k, p) for k, _, p in open_rgbd(room, poses=path, **options).poses())
        assert np.allclose(found[5], true.poses[5], atol=1e-5)
    with pytest.raises(InputError, match="expected seconds"):
        open_rgbd(room, pose_tolerance=-1)


def test_the_recordings_own_path_on_another_clock_is_said(copy, caplog):
    rows = (copy / "groundtruth.txt").read_text().splitlines()
    shifted = [f"{float(row.split()[0]) + 50:.6f} {row.split(maxsplit=1)[1]}" for row in rows[1:]]
    (copy / "groundtruth.txt").write_text("\n".join(shifted) + "\n")
    source = open_rgbd(copy)
    assert not source.posed and "none used" in source.doubts[0] and len(said(caplog)) == 1


def stored(copy):
    return sorted((copy / "depth").glob("*.png"))


def eight_bits(copy):
    for path in stored(copy):
        cv2.imwrite(str(path), np.clip(read_depth(path) / 5000 * 42, 0, 255).astype(np.uint8))


def millimetres(copy):
    for path in stored(copy):
        cv2.imwrite(str(path), (read_depth(path) / 5).astype(np.uint16))


def a_grid(copy):
    for path in stored(copy):
        depth = read_depth(path).astype(np.uint16)
        depth[1::2], depth[:, 1::2] = 0, 0
        cv2.imwrite(str(path), depth)


def colour(width, height, intrinsics=None):
    def change(copy):
        for path in (copy / "rgb").glob("*.png"):
            cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (width, height)))
        if intrinsics:
            numbers(intrinsics)(copy)

    return change


def numbers(text, name="camera-intrinsics.txt"):
    def change(copy):
        (copy / "camera-intrinsics.txt").unlink()
        (copy / name).write_text(text if isinstance(text, str) else json.dumps(text))

    return change


VGA = "525 0 319.5\n0 525 239.5\n0 0 1\n"
SAID = {"fx": 525, "fy": 525, "cx": 319.5, "cy": 239.5}
OPEN3D = {"width": 640, "height": 480, "intrinsic_matrix": [525, 0, 0, 0, 525, 0, 319.5, 239.5, 1]}
SCALED = [131.25, 131.25, 80, 60]


@pytest.mark.parametrize(
    ("change", "says", "doubted", "camera"),
    [
        (numbers(SAID | {"width": 640, "height": 480}, "intrinsics.json"),
         "is of 640 x 480, the depth of 160 x 120; scaled", 0, SCALED),
        (numbers(OPEN3D, "camera_intrinsic.json"), "of 640 x 480", 0, SCALED),
        (numbers(SAID | {"w": 1280, "h": 480}, "intrinsics.json"), "proportions differ", 1, None),
        (numbers(VGA), "320, 240", 1, None),
        (numbers(SAID, "intrinsics.json"), "far from the middle of 160 x 120", 1, None),
        (colour(640, 480, VGA), "that of the colour's 640 x 480", 1, SCALED),
        (lambda copy: (copy / "camera-intrinsics.txt").unlink(), "TUM's usual ones", 1, SCALED),
        (colour(320, 180), "colour of 320 x 180 is stretched to the depth's 160 x 120", 1, None),
        (eight_bits, "has 8 bits", 1, None),
        (millimetres, "are they millimetres? Then set depth_scale to 0.001", 1, None),
        (a_grid, "depth is sparse, 2", 1, None),
    ],
    ids=["json", "open3d", "other proportions", "text", "json without size", "of the colour",
         "built-in", "colour", "8 bits", "millimetres", "sparse"],
)  # fmt: skip
def test_sizes_and_units_are_told(copy, caplog, change, says, doubted, camera):
    change(copy)
    source = open_rgbd(copy)
    frame = next(iter(source))
    assert len(said(caplog)) == 1 and len(source.doubts) == doubted
    assert says in said(caplog)[0] and "\n" not in said(caplog)[0]
    assert camera is None or frame.camera.numbers.tolist() == camera


def test_published_numbers_go_by_their_name(copy, caplog):
    (copy / "camera-intrinsics.txt").unlink()
    there = copy.rename(copy.with_name("rgbd_dataset_freiburg2_desk"))
    assert open_rgbd(there).camera.fx == pytest.approx(520.9 / 4)
    assert "TUM's of freiburg2" in said(caplog)[0]
    caplog.clear()
    assert open_rgbd(there, intrinsics=(130, 130, 79.5, 59.5)).camera.fx == 130
    assert not caplog.records


def test_a_scale_that_is_given_is_not_doubted(copy, caplog):
    millimetres(copy)
    assert not open_rgbd(copy, depth_scale=0.001).doubts and not caplog.records


def test_maps_are_built_of_the_same_reader(copy, caplog):
    numbers(VGA)(copy)
    source = PosedSource(str(copy), 0)
    source.at(3)
    list(source.excerpt(2))
    assert len(said(caplog)) == 1 and "far from the middle" in said(caplog)[0]
