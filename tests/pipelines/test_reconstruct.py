"""``vision-mem reconstruct`` as users run it, on small generated rooms."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision_mem.cli import main
from vision_mem.geometry.camera import Pinhole
from vision_mem.io.rgbdframe import RgbdFrame
from vision_mem.io.rgbdwriting import write_tum
from vision_mem.io.trajectories import read_trajectory
from vision_mem.reconstruction import ReconstructionSession
from vision_mem.reconstruction.synthetic import SyntheticStream

FRAMES = 60
SAVES = "trajectory,kitti,depth,depth-npz,dynamic,video,events,tracks,map,mesh,topdown,report"


@pytest.fixture(scope="module")
def film() -> list:
    return list(SyntheticStream(2_000_104, FRAMES, 96, 72))


@pytest.fixture(scope="module")
def room(film: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "room"
    assert write_tum(folder, (true.frame for true in film)) == FRAMES
    return folder


@pytest.fixture(scope="module")
def whole(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run that was not disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert _reconstruct(room, out, "--save", SAVES) == 0
    return out


def _reconstruct(source: Path, out: Path, *words: str) -> int:
    return main(["reconstruct", str(source), "--out", str(out), "--quiet", *words])


def _results(out: Path) -> dict[str, bytes]:
    """Everything but videos and what says how long it took."""
    kept = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file() and not name.startswith("snapshot") and path.suffix != ".mp4":
            kept[name] = path.read_bytes()
    for name in ("run.json", "report/index.html"):
        kept.pop(name, None)
    return kept


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _json(path: Path) -> list[dict]:
    return [json.loads(line) for line in _lines(path)]


def _decoded(path: Path) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _ply(path: Path) -> tuple[list[str], int]:
    head, _, body = path.read_bytes().partition(b"end_header\n")
    return head.decode().splitlines(), len(body)


def test_the_recording_is_read_back_as_it_was_written(film: list, room: Path) -> None:
    from vision_mem.io.rgbd import open_rgbd

    for true, read in zip(film, open_rgbd(room), strict=True):
        assert np.array_equal(read.image, true.frame.image)
        assert np.abs(read.depth - true.frame.depth).max() < 1.01e-4
        assert np.allclose(read.pose, true.frame.pose, atol=1e-6)
        assert read.camera.numbers == pytest.approx(true.frame.camera.numbers, rel=1e-6)
        assert read.time_s == pytest.approx(true.frame.time_s)


def test_every_output_says_what_the_session_said(room: Path, whole: Path) -> None:
    from vision_mem.io.rgbd import open_rgbd

    session = ReconstructionSession()
    events, moving = [], []
    for frame in open_rgbd(room):
        found = session.step(frame)
        events += [(e.frame_index, e.kind, e.object_id) for e in found.events]
        moving.append(len(found.moving_points.points))
    said = [(e["frame"], e["kind"], e["id"]) for e in _json(whole / "room.events.jsonl")]
    assert said == events
    assert {"appeared", "parked"} <= {kind for _, kind, _ in said}
    points = session.static_map()
    head, size = _ply(whole / "room.map.ply")
    assert f"element vertex {len(points.points)}" in head
    assert size == len(points.points) * 27
    head, _ = _ply(whole / "room.mesh.ply")
    assert f"element face {len(session.mesh().faces)}" in head
    for k in (0, 20, 59):
        head, _ = _ply(whole / "dynamic" / f"{k:06d}.ply")
        assert f"element vertex {moving[k]}" in head
        assert "property int track" in head
    depth = cv2.imread(str(whole / "depth" / "000030.png"), cv2.IMREAD_UNCHANGED)
    stored = np.load(whole / "depth-npz" / "000030.npz")["depth"]
    assert depth.dtype == np.uint16
    assert np.abs(depth / 1000 - stored).max() < 6e-4
    truth = read_trajectory(room / "groundtruth.txt")
    assert np.allclose(read_trajectory(whole / "room.tum.txt").poses, truth.poses, atol=1e-6)
    assert np.allclose(read_trajectory(whole / "room.kitti.txt").poses, truth.poses, atol=1e-6)


def test_the_video_shows_what_moves_and_the_depth(room: Path, whole: Path) -> None:
    pictures = _decoded(whole / "room_scene.mp4")
    assert len(pictures) == FRAMES
    height, width = pictures[0].shape[:2]
    assert (height, width) == (72 * 5, 2 * 96 * 5 + 4)
    # Frame 20 has an object that moves: tinted, so unlike the recording; depth has other colours.
    plain = cv2.imread(str(room / "rgb" / "000020.png"))[..., ::-1].repeat(5, 0).repeat(5, 1)
    left, right = pictures[20][:, : 96 * 5], pictures[20][:, 96 * 5 + 4 :]
    changed = np.abs(left.astype(int) - plain).max(axis=2) > 40
    assert 0.02 < changed.mean() < 0.6
    assert np.abs(right.astype(int) - plain).mean() > 40


def test_table_and_report_speak_of_the_same_objects(whole: Path) -> None:
    with (whole / "room.tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    record = json.loads((whole / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["frames"] == FRAMES
    assert len(rows) == record["objects"] > 0
    assert [int(r["first_frame"]) <= int(r["last_frame"]) for r in rows] == [True] * len(rows)
    page = (whole / "report" / "index.html").read_text()
    for word in ("camera path", "memory held", "room", *(r["path_m"] for r in rows)):
        assert word in page
    for name in ("topdown.png", "around-0.png", "frame-000000.png", "frame-000059.png"):
        assert f"src='{name}'" in page
        picture = cv2.imread(str(whole / "report" / name))
        assert picture is not None
        assert picture.std() > 5


def test_after_kill_9_the_run_continues(room: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vision_mem", "reconstruct", str(room), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--snapshot-every", "10", "--save", SAVES],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    path = out / "room.tum.txt"
    while not (path.exists() and len(_lines(path)) > 25):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(_lines(path)) < FRAMES
    assert not (out / "room.map.ply").exists()
    assert _reconstruct(room, out, "--resume") == 0
    assert _results(out) == _results(whole)
    assert len(_decoded(out / "room_scene.part2.mp4")) > 0
    assert _reconstruct(room, out, "--resume") == 0, "nothing left is no error"
    assert _results(out) == _results(whole)


def test_sigterm_leaves_whole_results_that_continue(
    room: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vision_mem", "reconstruct", str(room), "--out", str(out)]
    process = subprocess.Popen([*command, "--save", SAVES], stdout=subprocess.PIPE, text=True)
    path = out / "room.tum.txt"
    end = time.monotonic() + 120
    while not (path.exists() and len(_lines(path)) > 5):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)
    process.terminate()
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped; results so far" in said
    assert (out / "room.map.ply").is_file(), "the map so far"
    assert _reconstruct(room, out, "--resume") == 0
    assert _results(out) == _results(whole)


def test_a_run_killed_at_its_very_end_gets_its_map(room: Path, tmp_path: Path) -> None:
    words = ["--save", "trajectory,map", "--max-frames", "12", "--snapshot-every", "6"]
    assert _reconstruct(room, tmp_path / "out", *words) == 0
    out = tmp_path / "out"
    expected = _results(out)
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"status": "running"}))
    (out / "room.map.ply").unlink()
    short = tmp_path / "room"  # the same recording, without more frames to come
    shutil.copytree(room, short)
    for name in ("rgb.txt", "depth.txt"):
        (short / name).write_text("\n".join(_lines(room / name)[:12]) + "\n")
    assert _reconstruct(short, out, "--resume") == 0
    assert _results(out) == expected
    assert json.loads((out / "run.json").read_text())["status"] == "finished"


def test_poses_are_found_on_demand_and_compared(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    memory = tmp_path / "memory.safetensors"
    words = ["--track-poses", "--max-frames", "12", "--save-memory", str(memory)]
    assert main(["reconstruct", str(room), "--out", str(out), *words]) == 0
    found = read_trajectory(out / "room.tum.txt")
    assert np.allclose(found.poses[0], np.eye(4)), "the first camera is the world"
    truth = read_trajectory(room / "groundtruth.txt").poses
    whole = np.linalg.inv(truth[0]) @ truth[: len(found)]
    away = np.linalg.norm(found.poses[:, :3, 3] - whole[:, :3, 3], axis=1)
    assert away.max() < 0.1
    said = capsys.readouterr().out
    assert "against the recorded poses: ATE" in said
    session = ReconstructionSession.resume(memory)
    assert f"map of what stays: {len(session.static_map().points)} points" in said


def _masks(folder: Path, film: list, form: str) -> Path:
    """A still corner of the picture, said to move."""
    mask = np.zeros((72, 96), np.uint8)
    mask[40:, 60:] = 255
    if form == "png":
        folder.mkdir()
        for k in range(0, len(film), 2):
            cv2.imwrite(str(folder / f"{k:05d}.png"), mask)
        return folder
    from pycocotools import mask as coco

    runs = coco.encode(np.asfortranarray(mask > 0, np.uint8))
    part = {"id": 1, "segmentation": {"size": [72, 96], "counts": runs["counts"].decode()}}
    lines = [
        json.dumps({"frame": k, "size": [72, 96], "objects": [part]})
        for k in range(0, len(film), 2)
    ]
    path = folder.with_suffix(".masks.jsonl")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("form", ["png", "jsonl"])
def test_masks_are_believed(form: str, room: Path, film: list, tmp_path: Path) -> None:
    masks = _masks(tmp_path / "masks", film, form)
    words = ["--dynamic-masks", str(masks), "--save", "dynamic,depth-npz", "--max-frames", "4"]
    assert _reconstruct(room, tmp_path / "out", *words) == 0
    for k in range(4):
        head, _ = _ply(tmp_path / "out" / "dynamic" / f"{k:06d}.ply")
        known = np.load(tmp_path / "out" / "depth-npz" / f"{k:06d}.npz")["depth"] > 0
        told = int(known[40:, 60:].sum()) if k % 2 == 0 else 0
        count = next(int(line.split()[-1]) for line in head if "element vertex" in line)
        assert told <= count < told + 1500


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--save", "trajektory"], "did you mean trajectory?"),
        (["--layout", "tmu"], "expected one of tum"),
        (["--preset", "dens"], "did you mean"),
        (["--set", "structure.voxle=1"], "voxel"),
        (["--intrinsics", "1,2"], "expected 4 numbers"),
        (["--intrinsics", "0,1,2,3"], "fx and fy above 0"),
        (["--depth-scale", "-1"], "expected metres above 0"),
        (["--dynamic-masks", "nowhere"], "no such file or folder"),
        (["--poses", "nowhere.txt"], "cannot be read"),
        (["--start", "600"], "600"),
        (["--snapshot-every", "-1"], "expected 0 or more"),
        (["--resume", "--overwrite"], "exclude each other"),
    ],
)
def test_slips_get_one_clear_line(
    room: Path, tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _reconstruct(room, tmp_path / "out", *words) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.count("\n") == 0
    assert not (tmp_path / "out").exists(), "nothing is made for a run that cannot be"


def _bad_masks(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "bad.masks.jsonl"
    part = {"segmentation": {"size": [72, 96], "counts": "no run lengths \x00"}}
    text = {
        "empty": "",
        "no json": "{",
        "no runs": json.dumps({"frame": 0, "objects": [part]}),
        "square": json.dumps({"frame": 0, "size": [50, 50], "objects": []}),
    }
    if kind in text:
        path.write_text(text[kind])
        return path
    folder = tmp_path / "pngs"
    folder.mkdir()
    if kind == "damaged":
        (folder / "000000.png").write_bytes(b"\x89PNG no")
    if kind == "twice":
        for name in ("a_000.png", "b_000.png"):
            cv2.imwrite(str(folder / name), np.zeros((72, 96), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "is empty"), ("no json", "line 1"), ("no runs", "no masks as run lengths"),
        ("square", "the same proportions"), ("damaged", "cannot be read"),
        ("twice", "are both of frame 0"), ("no png", "no PNG with a number"),
    ],
)  # fmt: skip
def test_masks_that_cannot_be_used_get_one_line(
    kind: str, says: str, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = _bad_masks(tmp_path, kind)
    assert _reconstruct(room, tmp_path / "out", "--dynamic-masks", str(masks)) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.count("\n") == 0


def _frames(film: list, count: int = 6) -> list[RgbdFrame]:
    return [true.frame for true in film[:count]]


def _with_holes(folder: Path, frames: list[RgbdFrame]) -> None:
    odd = []
    for frame in frames:
        depth = frame.depth.copy()
        depth[:20, :20] = 0
        depth[30:40] = np.nan
        depth[50, :] = np.inf
        depth[51, :] = -3
        odd.append(replace(frame, depth=depth))
    write_tum(folder, odd)


def _float_holes(folder: Path, frames: list[RgbdFrame]) -> None:
    """Colour beside float depth with NaN, infinity and negative values, no poses."""
    camera = frames[0].camera
    for name in ("color", "depth"):
        (folder / name).mkdir(parents=True)
    for frame in frames:
        depth = frame.depth.copy()
        depth[30:40] = np.nan
        depth[50, :], depth[51, :] = np.inf, -3
        np.savez(folder / "depth" / f"{frame.index}.npz", depth=depth)
        cv2.imwrite(str(folder / "color" / f"{frame.index}.png"), frame.image[..., ::-1])
    numbers = camera.fx, camera.fy, camera.cx - 0.5, camera.cy - 0.5
    (folder / "intrinsics.txt").write_text(" ".join(f"{v:.9g}" for v in numbers))


def _out_of_order(folder: Path, frames: list[RgbdFrame]) -> None:
    write_tum(folder, frames)
    path = folder / "rgb.txt"
    path.write_text("\n".join(reversed(_lines(path))) + "\n")


def _without_some_poses(folder: Path, frames: list[RgbdFrame]) -> None:
    write_tum(folder, frames)
    path = folder / "groundtruth.txt"
    path.write_text("\n".join(_lines(path)[:3]) + "\n")


def _without_depth_of_some(folder: Path, frames: list[RgbdFrame]) -> None:
    write_tum(folder, frames)
    path = folder / "depth.txt"
    path.write_text("\n".join(_lines(path)[:-1]) + "\n")


@pytest.mark.parametrize(
    ("make", "words", "warns", "frames"),
    [
        (_with_holes, [], None, 6),
        (_float_holes, [], None, 6),
        (_float_holes, ["--depth-scale", "1000"], "is it millimetres read as metres?", 6),
        (write_tum, ["--depth-scale", "1"], "is it millimetres read as metres?", 6),
        (_out_of_order, [], "time stamps are out of order; sorted", 6),
        (_without_some_poses, [], "3 of 6 frames have no pose; they are tracked", 6),
        (_without_depth_of_some, [], "1 of 6 colour frames have no depth", 5),
    ],
    ids=["holes", "nan", "nan and a scale", "scale", "order", "poses", "depth"],
)
def test_odd_recordings_are_told_in_one_line_and_gone_through(
    make, words, warns, frames, film: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "odd", _frames(film))
    saves = ["--save", "trajectory,kitti,map"]
    assert _reconstruct(tmp_path / "odd", tmp_path / "out", *saves, *words) == 0
    assert len(_lines(tmp_path / "out" / "odd.kitti.txt")) == frames
    assert np.isfinite(read_trajectory(tmp_path / "out" / "odd.kitti.txt").poses).all()
    error = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    if warns is None:
        assert not error
    else:
        assert len(error) == 1
        assert warns in error[0]


def test_counts_that_differ_and_empty_folders_are_refused(
    film: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _float_holes(tmp_path / "odd", _frames(film))
    (tmp_path / "odd" / "color" / "5.png").unlink()
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("odd", "5 colour and 6 depth frames"), ("empty", "is empty"), ("nowhere", "is no folder")
    ):  # fmt: skip
        assert _reconstruct(tmp_path / name, tmp_path / "out") in (1, 2)
        error = capsys.readouterr().err.strip()
        assert says in error
        assert error.count("\n") == 0


def test_a_flat_wall_is_lost_not_garbage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = Pinhole.from_field_of_view(60, 96, 72)
    image = np.full((72, 96, 3), 128, np.uint8)
    depth = np.full((72, 96), 2.0, np.float32)
    write_tum(tmp_path / "wall", (RgbdFrame(k, k / 10, image, depth, camera) for k in range(8)))
    out = tmp_path / "out"
    saves = "trajectory,kitti,events,map,report,flythrough"
    assert main(["reconstruct", str(tmp_path / "wall"), "--out", str(out), "--save", saves]) == 0
    assert "lost on 7 frames" in capsys.readouterr().out
    assert len(_lines(out / "wall.tum.txt")) == 1, "lost poses are not handed out as found"
    poses = read_trajectory(out / "wall.kitti.txt").poses
    assert np.allclose(poses, np.eye(4)), "where it was believed to be last"
    (event,) = _json(out / "wall.events.jsonl")
    assert event["kind"] == "lost"
    assert event["reason"]
    assert len(_decoded(out / "wall_flythrough.mp4")) == 144


def test_a_generated_room_needs_no_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--max-frames", "16", "--save", "map,report"]
    assert main(["reconstruct", "generated:7", *words]) == 0
    out = tmp_path / "runs" / "generated-7"
    said = capsys.readouterr().out
    assert "moving pixels against the truth: precision" in said
    record = json.loads((out / "run.json").read_text())
    assert record["truth"]["ghosts_percent"] <= 1.5
    assert main(["reconstruct", "generated:7", *words]) == 2
    assert "holds results already" in capsys.readouterr().err
    assert main(["reconstruct", "generated:7", "--overwrite", "--quiet", *words]) == 0
    assert main(["reconstruct", "generated:x"]) == 2
    assert "generated:SEED" in capsys.readouterr().err


def test_rerun_is_an_extra_that_is_asked_for(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.util import find_spec

    words = ["--save", "rerun", "--max-frames", "3"]
    code = _reconstruct(room, tmp_path / "out", *words)
    if find_spec("rerun") is None:
        assert code == 1
        assert "pip install rerun-sdk" in capsys.readouterr().err
    else:
        assert code == 0
        assert (tmp_path / "out" / "room.rrd").stat().st_size > 1000
