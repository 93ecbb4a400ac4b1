"""Recordings with depth: every layout, and what is wrong with real ones."""

from __future__ import annotations

import json
import logging
import shutil

import cv2
import numpy as np
import pytest
from scene_samples import write_trajectory

from vision_mem.errors import InputError, SourceError
from vision_mem.geometry.camera import RgbdFrame
from vision_mem.geometry.poses import exponential, make_pose
from vision_mem.sources.rgbd import open_rgbd
from vision_mem.visualization.contact_sheet import write_video

COUNT, WIDTH, HEIGHT = 5, 64, 48
MATRIX = "60 0 32\n0 60 24\n0 0 1\n"
# The camera turns about its axis and goes back, away from the wall that it looks at.
POSES = [
    make_pose(exponential([0, 0, 0.1 * k, 0, 0, 0])[:3, :3], (0.05 * k, 0, -0.1 * k))
    for k in range(COUNT)
]


def colour(k):
    return np.full((HEIGHT, WIDTH, 3), (40 * k, 90, 200), np.uint8)


def metres(k):
    depth = np.full((HEIGHT, WIDTH), 1.5 + 0.1 * k)
    depth[:4] = 0
    return depth


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def save_depth(path, k, per_metre=1000):
    save(path, np.round(metres(k) * per_metre).astype(np.uint16))


def tum(folder):
    rows = {"rgb": [], "depth": []}
    for k in range(COUNT):
        save(folder / f"rgb/{k}.png", colour(k))
        save_depth(folder / f"depth/{k}.png", k, 5000)
        rows["rgb"].append(f"{100 + 0.1 * k:.4f} rgb/{k}.png")
        rows["depth"].append(f"{100.005 + 0.1 * k:.4f} depth/{k}.png")
    for name, lines in rows.items():
        (folder / f"{name}.txt").write_text("# time file\n" + "\n".join(lines) + "\n")
    write_trajectory(folder / "groundtruth.txt", POSES, [100.001 + 0.1 * k for k in range(COUNT)])


def seven(folder):
    for k in range(COUNT):
        save(folder / f"frame-{k:06d}.color.png", colour(k))
        save_depth(folder / f"frame-{k:06d}.depth.png", k)
        np.savetxt(folder / f"frame-{k:06d}.pose.txt", POSES[k])
    (folder / "camera-intrinsics.txt").write_text(MATRIX)


def scannet(folder):
    for k in range(COUNT):
        save(folder / f"color/{k}.jpg", cv2.resize(colour(k), (2 * WIDTH, 2 * HEIGHT)))
        save_depth(folder / f"depth/{k}.png", k)
        (folder / "pose").mkdir(exist_ok=True)
        np.savetxt(folder / f"pose/{k}.txt", POSES[k])
    (folder / "intrinsic").mkdir()
    wide = np.eye(4)
    wide[:3, :3] = np.array(MATRIX.split(), float).reshape(3, 3)
    np.savetxt(folder / "intrinsic/intrinsic_depth.txt", wide)


def realsense(folder):
    write_video(folder / "color.mp4", [colour(k) for k in range(COUNT)], fps=30)
    (folder / "depth").mkdir()
    for k in range(COUNT):
        np.savez(folder / f"depth/{k:04d}.npz", depth=metres(k).astype(np.float32))
    said = {"fx": 60, "fy": 60, "ppx": 32, "ppy": 24}
    (folder / "intrinsics.json").write_text(json.dumps(said))
    write_trajectory(folder / "poses.txt", POSES, form="kitti")


MAKERS = {"tum": tum, "7scenes": seven, "scannet": scannet, "folder": realsense}


@pytest.fixture(params=MAKERS)
def recording(request, tmp_path):
    folder = tmp_path / "recording"
    folder.mkdir()
    MAKERS[request.param](folder)
    return request.param, folder


def test_layouts_are_found_and_read(recording, caplog):
    name, folder = recording
    source = open_rgbd(folder)
    assert (source.info.width, source.info.height, source.info.frame_count) == (64, 48, COUNT)
    assert source.posed
    for _ in range(2):  # it can be gone through again
        frames = list(source)
        assert [f.index for f in frames] == list(range(COUNT))
        for k, frame in enumerate(frames):
            assert np.allclose(frame.depth, metres(k), atol=0.001)
            assert np.allclose(frame.pose, POSES[k], atol=1e-5)
            assert np.abs(frame.image.astype(int) - colour(k)).mean() < 12  # lossy video
            known = [60, 60, 32.5, 24.5] if name != "tum" else [52.5, 52.5, 32, 24]
            assert frame.camera.numbers.tolist() == known
        assert (np.diff([f.time_s for f in frames]) > 0).all()
    said = " ".join(warnings(caplog))
    assert len(warnings(caplog)) == len(source.doubts) == (name == "tum")
    assert ("TUM's usual ones, 525, 525, 319.5, 239.5 of 640 x 480" in said) == (name == "tum")
    assert [f.index for f in open_rgbd(folder, start=1, stride=2, max_frames=1)] == [1]
    assert open_rgbd(folder, layout=name).info == source.info


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def one_line(text):
    return "\n" not in text and len(text) < 400


def test_missing_and_broken_poses(tmp_path, caplog):
    seven(tmp_path)
    (tmp_path / "frame-000001.pose.txt").unlink()
    np.savetxt(tmp_path / "frame-000003.pose.txt", np.full((4, 4), -np.inf))
    frames = list(open_rgbd(tmp_path))
    assert [f.pose is None for f in frames] == [False, True, False, True, False]
    assert len(warnings(caplog)) == 2
    assert "1 of 5 poses are no rigid motion (frame 3 is the first)" in warnings(caplog)[0]
    assert "1 of 5 frames have no pose" in warnings(caplog)[1]


def test_lists_out_of_order_and_apart(tmp_path, caplog):
    tum(tmp_path)
    rows = (tmp_path / "rgb.txt").read_text().splitlines()
    rows = [rows[0], rows[3], rows[1], rows[2], rows[4], rows[5], rows[5]]
    (tmp_path / "rgb.txt").write_text("\n".join(rows))
    rows = (tmp_path / "depth.txt").read_text().splitlines()
    (tmp_path / "depth.txt").write_text("\n".join(rows[:-1]))
    frames = list(open_rgbd(tmp_path))
    assert len(frames) == 4
    assert (np.diff([f.time_s for f in frames]) > 0).all()
    assert np.allclose(frames[2].depth, metres(2), atol=0.001)
    said = " ".join(warnings(caplog))
    assert "out of order; sorted" in said
    assert "come twice" in said
    assert "1 of 5 colour frames have no depth" in said


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(1.0, "millimetres read as metres"), (1e-6, "metres scaled down"), (0.001, None)],
)
def test_wrong_scales_are_told(tmp_path, caplog, scale, expected):
    seven(tmp_path)
    list(open_rgbd(tmp_path, depth_scale=scale))
    if expected is None:
        assert not warnings(caplog)
    else:
        (said,) = warnings(caplog)
        assert expected in said
        assert "depth_scale" in said


def test_holes_are_zero(tmp_path, caplog):
    realsense(tmp_path)
    odd = metres(0)
    odd[10, :5] = (np.nan, np.inf, -1, -np.inf, 0)
    np.savez(tmp_path / "depth/0000.npz", depth=odd)
    save(tmp_path / "unused.png", colour(0))
    frame = next(iter(open_rgbd(tmp_path)))
    assert (frame.depth[10, :5] == 0).all()
    assert np.isfinite(frame.depth).all()
    shutil.rmtree(tmp_path / "depth")
    for k in range(COUNT):
        save(tmp_path / f"depth/{k}.png", np.full((HEIGHT, WIDTH), 65535, np.uint16))
    assert not next(iter(open_rgbd(tmp_path))).depth.any()
    assert "no reading at all" in warnings(caplog)[0]


def test_damaged_frames_are_skipped_or_refused(tmp_path, caplog):
    seven(tmp_path)
    (tmp_path / "frame-000002.depth.png").write_bytes(b"\x89PNG no")
    (tmp_path / "frame-000003.color.png").write_bytes(b"")
    assert [f.index for f in open_rgbd(tmp_path)] == [0, 1, 4]
    assert len(warnings(caplog)) == 2
    with pytest.raises(SourceError, match="frame-000002"):
        list(open_rgbd(tmp_path, strict=True))


def without(name):
    def change(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def more_depth(folder):
    np.savez(folder / "depth/0009.npz", depth=metres(0))


def coloured_depth(folder):
    save(folder / "frame-000000.depth.png", colour(1))


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def pictures(folder):
    empty(folder)
    save(folder / "holiday.png", colour(1))


def inside(folder):
    shutil.move(folder, folder.parent / "seq-01")
    folder.mkdir()
    shutil.move(folder.parent / "seq-01", folder / "seq-01")


def pickled(folder):
    np.save(folder / "depth/0000.npy", np.array([{}, None]), allow_pickle=True)
    (folder / "depth/0000.npz").unlink()


def bad_times(folder):
    (folder / "timestamps.txt").write_text("1\n3\n2\n4\n5\n")


def few_times(folder):
    (folder / "timestamps.txt").write_text("1\n3\n")


def wordy(name):
    return lambda folder: (folder / name).write_text("not what you think\n")


@pytest.mark.parametrize(
    ("maker", "change", "message"),
    [
        (seven, empty, "is empty"),
        (seven, pictures, "no known layout"),
        (seven, inside, "open one of its folders: seq-01"),
        (seven, coloured_depth, "one channel"),
        (seven, wordy("camera-intrinsics.txt"), "matrix of numbers"),
        (seven, wordy("frame-000000.pose.txt"), "matrix of numbers"),
        (scannet, without("intrinsic"), "no file of intrinsics"),
        (scannet, without("color"), "no known layout"),
        (realsense, more_depth, "5 colour frames in .* and 6 depth frames"),
        (realsense, without("color.mp4"), "no known layout"),
        (realsense, pickled, "cannot be read as a depth map"),
        (realsense, bad_times, "out of order"),
        (realsense, few_times, "2 rows for 5 frames"),
        (realsense, wordy("intrinsics.json"), "says no intrinsics"),
        (tum, wordy("rgb.txt"), "line 1"),
        (tum, wordy("groundtruth.txt"), "holds no poses"),
    ],
)
def test_one_clear_line_each(tmp_path, maker, change, message):
    folder = tmp_path / "recording"
    folder.mkdir()
    maker(folder)
    change(folder)
    with pytest.raises(SourceError, match=message) as caught:
        list(open_rgbd(folder, strict=True))
    assert one_line(str(caught.value))


def test_images_without_partners(tmp_path, caplog):
    scannet(tmp_path)
    (tmp_path / "color/2.jpg").unlink()
    assert len(list(open_rgbd(tmp_path))) == 4
    assert "4 colour and 5 depth frames" in warnings(caplog)[0]
    shutil.rmtree(tmp_path / "pose")
    (tmp_path / "intrinsics.txt").write_text("60 60 32 24")
    with pytest.raises(SourceError, match="4 colour and 5 depth frames"):
        open_rgbd(tmp_path)


def test_options(tmp_path):
    with pytest.raises(SourceError, match="no folder"):
        open_rgbd(tmp_path / "nothing")
    seven(tmp_path)
    for wrong in (
        {"layout": "kinect"},
        {"depth_scale": 0},
        {"intrinsics": (1, 2, 3)},
        {"start": 9},
        {"stride": 0},
    ):
        with pytest.raises(InputError) as caught:
            open_rgbd(tmp_path, **wrong)
        assert one_line(str(caught.value))
    source = open_rgbd(tmp_path, intrinsics=(50, 51, 30, 20))
    assert source.camera.numbers.tolist() == [50, 51, 30.5, 20.5]
    write_trajectory(tmp_path / "own.txt", [np.eye(4)] * COUNT, form="kitti")
    frames = list(open_rgbd(tmp_path, poses=tmp_path / "own.txt"))
    assert np.array_equal(frames[3].pose, np.eye(4))
    write_trajectory(tmp_path / "few.txt", [np.eye(4)], [77.0])
    with pytest.raises(SourceError, match="1 poses for 5 frames"):
        open_rgbd(tmp_path, poses=tmp_path / "few.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4, 3), np.uint8)}, "has colour of shape"),
        ({"depth": np.zeros((4, 4), np.float32)}, "has depth of shape"),
        ({"time_s": np.nan}, "time"),
        ({"pose": np.zeros((4, 4))}, "no rigid motion"),
        ({"pose": np.full((4, 4), 1e300)}, "no rigid motion"),
    ],
)
def test_frames_check_themselves(tmp_path, change, message):
    seven(tmp_path)
    good = next(iter(open_rgbd(tmp_path)))
    with pytest.raises(InputError, match=message):
        RgbdFrame(**(vars(good) | change))
