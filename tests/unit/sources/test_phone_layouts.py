"""What apps of phones and programs of depth cameras write: layouts, axes, confidence, times."""

from __future__ import annotations

import itertools
import json
import struct
import zipfile

import cv2
import numpy as np
import pytest

from vision_mem.errors import SourceError
from vision_mem.geometry.poses import exponential, inverse, quaternion_from, rotation_vector
from vision_mem.sources.rgbd import open_rgbd
from vision_mem.visualization.contact_sheet import write_video

COUNT, WIDTH, HEIGHT, TIMES = 4, 32, 24, 2
BACK = np.diag([1.0, -1.0, -1.0, 1.0])  # ARKit's camera looks along -z, y up
POSES = [exponential([0.02 * k, 0.05 * k, 0.01, 0.1 * k, 0, -0.05 * k]) for k in range(COUNT)]
K = (60.0, 60.0, 31.5, 23.5)  # of the colour, twice as large as the depth


def metres(k):
    return np.full((HEIGHT, WIDTH), 1.5 + 0.1 * k, np.float32)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def colour(path, k, times=TIMES):
    save(path, np.full((HEIGHT * times, WIDTH * times, 3), 30 * k, np.uint8))


def depth(path, k):
    save(path, np.round(metres(k) * 1000).astype(np.uint16))


def trust(path):
    """The first rows are not trusted."""
    mask = np.full((HEIGHT, WIDTH), 2, np.uint8)
    mask[:5] = 0
    save(path, mask)


def record3d(folder, archive=False):
    poses = []
    for k, pose in enumerate(POSES):
        w, x, y, z = quaternion_from((pose @ BACK)[:3, :3]).tolist()
        poses.append([x, y, z, w, *pose[:3, 3].tolist()])
        colour(folder / f"rgbd/{k}.jpg", k)
        raw = metres(k).tobytes()
        packed = b"bvx-" + struct.pack("<I", len(raw)) + raw + b"bvx$"
        (folder / f"rgbd/{k}.depth").write_bytes(packed)
    fx, fy, cx, cy = K
    about = {"w": 64, "h": 48, "dw": WIDTH, "dh": HEIGHT, "fps": 30, "poses": poses,
             "K": [fx, 0, 0, 0, fy, 0, cx, cy, 1]}  # fmt: skip
    (folder / "metadata").write_text(json.dumps(about))
    if not archive:
        return folder
    with zipfile.ZipFile(folder.parent / "scan.r3d", "w") as file:
        for path in folder.rglob("*"):
            if path.is_file():
                file.write(path, str(path.relative_to(folder)))
    return folder.parent / "scan.r3d"


def r3d(folder):
    return record3d(folder, archive=True)


def polycam(folder):
    for k, pose in enumerate(POSES):
        stem, arkit = 34_000_000 + 500_000 * k, pose @ BACK
        colour(folder / f"keyframes/images/{stem}.jpg", k)
        depth(folder / f"keyframes/depth/{stem}.png", k)
        trust(folder / f"keyframes/confidence/{stem}.png")
        about = {f"t_{r}{c}": arkit[r, c] for r in range(3) for c in range(4)}
        about |= dict(zip(("fx", "fy", "cx", "cy"), K, strict=True)) | {"width": 64, "height": 48}
        place = folder / f"keyframes/cameras/{stem}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(about))
    return folder


def arkitscenes(folder):
    rows = []
    for k, pose in enumerate(POSES):
        stem, seen = f"4100_{10 + 0.1 * k:.3f}", inverse(pose)
        colour(folder / f"lowres_wide/{stem}.png", k, 1)
        depth(folder / f"lowres_depth/{stem}.png", k)
        trust(folder / f"confidence/{stem}.png")
        place = folder / f"lowres_wide_intrinsics/{stem}.pincam"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"{WIDTH} {HEIGHT} 30 30 15.5 11.5")
        numbers = [10 + 0.1 * k, *rotation_vector(seen[:3, :3]), *seen[:3, 3]]
        rows.append(" ".join(f"{n:.9f}" for n in numbers))
    (folder / "lowres_wide.traj").write_text("\n".join(rows))
    return folder


def stray(folder):
    rows = ["timestamp, frame, x, y, z, qx, qy, qz, qw"]
    images = []
    for k, pose in enumerate(POSES):
        w, x, y, z = quaternion_from(pose[:3, :3]).tolist()
        images.append(np.full((48, 64, 3), 30 * k, np.uint8))
        depth(folder / f"depth/{k:06d}.png", k)
        trust(folder / f"confidence/{k:06d}.png")
        rows.append(", ".join(map(str, [5 + k / 60, f"{k:06d}", *pose[:3, 3], x, y, z, w])))
    write_video(folder / "rgb.mp4", images, 60)
    (folder / "odometry.csv").write_text("\n".join(rows))
    (folder / "camera_matrix.csv").write_text("60,0,31.5\n0,60,23.5\n0,0,1\n")
    return folder


def scanner(folder):
    for k, pose in enumerate(POSES):
        colour(folder / f"frame_{k:05d}.jpg", k)
        depth(folder / f"depth_{k:05d}.png", k)
        trust(folder / f"conf_{k:05d}.png")
        about = {"intrinsics": [60, 0, 31.5, 0, 60, 23.5, 0, 0, 1], "time": 3 + k,
                 "cameraPoseARFrame": (pose @ BACK).ravel().tolist()}  # fmt: skip
        (folder / f"frame_{k:05d}.json").write_text(json.dumps(about))
    return folder


def transforms(folder):
    frames = []
    for k, pose in enumerate(POSES):
        colour(folder / f"images/{k}.jpg", k)
        depth(folder / f"depth/{k}.png", k)
        frames.append({"file_path": f"images/{k}.jpg", "depth_file_path": f"depth/{k}.png",
                       "transform_matrix": (pose @ BACK).tolist()})  # fmt: skip
    about = {"fl_x": 60, "fl_y": 60, "cx": 31.5, "cy": 23.5, "w": 64, "h": 48, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("write", [record3d, r3d, polycam, arkitscenes, stray, scanner, transforms])
def test_a_phone_s_layout(tmp_path, write):
    (tmp_path / "scan").mkdir()
    path = write(tmp_path / "scan")
    source = open_rgbd(path)
    frames = list(source)
    assert source.posed and len(frames) == COUNT
    assert (source.camera.fx, source.camera.cx) == (30, pytest.approx(16, abs=0.3))
    for k, (frame, pose) in enumerate(zip(frames, POSES, strict=True)):
        np.testing.assert_allclose(frame.pose, pose, atol=1e-6)
        assert frame.depth[12, 8] == pytest.approx(1.5 + 0.1 * k, abs=1e-3)
        trusted = write in (record3d, r3d, transforms)
        assert bool(frame.depth[2, 8]) == trusted  # what the phone does not trust is no reading
        assert abs(int(frame.image[12, 8, 0]) - 30 * k) < 6
    assert all(b.time_s > a.time_s for a, b in itertools.pairwise(frames))


def test_packed_depth_of_record3d(tmp_path):
    pack = pytest.importorskip("liblzfse", reason="needs pyliblzfse: the extra [phone]")
    (tmp_path / "scan").mkdir()
    folder = record3d(tmp_path / "scan")
    (folder / "rgbd/1.depth").write_bytes(pack.compress(metres(1).tobytes()))
    assert list(open_rgbd(folder))[1].depth[0, 0] == pytest.approx(1.6)


NAMES = {
    "seconds": ("{:.6f}.png", 1.0),
    "milliseconds": ("Color_{:.2f}.png", 1e3),
    "nanoseconds": ("{:.0f}.png", 1e9),
    "sun3d": ("0000001-{:012.0f}.png", 1e6),
}


@pytest.mark.parametrize("name", NAMES)
def test_times_in_names_match_what_came_at_other_times(tmp_path, caplog, name):
    form, unit = NAMES[name]
    begin = 12.0 if name == "sun3d" else 1_700_000_000.0
    for k in range(8):  # colour at 30 frames/s, every second depth map is missing
        colour(tmp_path / "color" / form.format((begin + k / 30 + 0.004) * unit), k, 1)
        if k % 2:
            depth(tmp_path / "depth" / form.format((begin + k / 30) * unit), k)
    (tmp_path / "intrinsic.json").write_text(json.dumps(
        {"width": 64, "height": 48, "intrinsic_matrix": [60, 0, 0, 0, 60, 0, 31.5, 23.5, 1]}
    ))  # fmt: skip
    frames = list(open_rgbd(tmp_path))
    assert [int(frame.image[0, 0, 0]) // 30 for frame in frames] == [1, 3, 5, 7][: len(frames)]
    assert len(frames) == 4 and frames[1].time_s - frames[0].time_s == pytest.approx(
        2 / 30, abs=1e-3
    )
    assert "8 colour and 4 depth frames are matched by the times in their names: 4 pairs, 4 ms" in (
        caplog.text
    )


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "azure.mkv").write_bytes(b"\x1aE\xdf\xa3")
    with pytest.raises(SourceError, match="azure_kinect_mkv_reader"):
        open_rgbd(tmp_path / "azure.mkv")
    (tmp_path / "bad.r3d").write_bytes(b"PK")
    with pytest.raises(SourceError, match="metadata cannot be read"):
        open_rgbd(tmp_path / "bad.r3d")
