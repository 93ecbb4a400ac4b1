"""``vision-mem reconstruct`` as users run it, on small generated rooms."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from reconstruct_samples import FRAMES, film, lines, ply, reconstruct

from vision_mem.cli import main
from vision_mem.formats.rgbd_folders import write_tum
from vision_mem.formats.trajectory import read_trajectory
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.reconstruction import ReconstructionSession

SAVES = "trajectory,kitti,depth,depth-npz,dynamic,video,events,tracks,map,mesh,topdown,report"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "room"
    assert write_tum(folder, (true.frame for true in film())) == FRAMES
    return folder


@pytest.fixture(scope="module")
def whole(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run that was not disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert reconstruct(room, out, "--save", SAVES) == 0
    return out


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


def _json(path: Path) -> list[dict]:
    return [json.loads(line) for line in lines(path)]


def _decoded(path: Path) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_recording_is_read_back_as_it_was_written(room: Path) -> None:
    from vision_mem.sources.rgbd import open_rgbd

    for true, read in zip(film(), open_rgbd(room), strict=True):
        assert np.array_equal(read.image, true.frame.image)
        assert np.abs(read.depth - true.frame.depth).max() < 1.01e-4
        assert np.allclose(read.pose, true.frame.pose, atol=1e-6)
        assert read.camera.numbers == pytest.approx(true.frame.camera.numbers, rel=1e-6)
        assert read.time_s == pytest.approx(true.frame.time_s)


def test_every_output_says_what_the_session_said(room: Path, whole: Path) -> None:
    from vision_mem.sources.rgbd import open_rgbd

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
    head, size = ply(whole / "room.map.ply")
    assert f"element vertex {len(points.points)}" in head
    assert size == len(points.points) * 27
    head, _ = ply(whole / "room.mesh.ply")
    assert f"element face {len(session.mesh().faces)}" in head
    for k in (0, 20, 59):
        head, _ = ply(whole / "dynamic" / f"{k:06d}.ply")
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
    while not (path.exists() and len(lines(path)) > 25):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(lines(path)) < FRAMES
    assert not (out / "room.map.ply").exists()
    assert reconstruct(room, out, "--resume") == 0
    assert _results(out) == _results(whole)
    assert len(_decoded(out / "room_scene.mp4")) == FRAMES
    assert reconstruct(room, out, "--resume") == 0, "nothing left is no error"
    assert _results(out) == _results(whole)


def test_sigterm_leaves_whole_results_that_continue(
    room: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vision_mem", "reconstruct", str(room), "--out", str(out)]
    process = subprocess.Popen([*command, "--save", SAVES], stdout=subprocess.PIPE, text=True)
    path = out / "room.tum.txt"
    end = time.monotonic() + 120
    while not (path.exists() and len(lines(path)) > 5):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)
    process.terminate()
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped; results so far" in said
    assert (out / "room.map.ply").is_file(), "the map so far"
    assert reconstruct(room, out, "--resume") == 0
    assert _results(out) == _results(whole)


def test_a_run_killed_at_its_very_end_gets_its_map(room: Path, tmp_path: Path) -> None:
    words = ["--save", "trajectory,map", "--max-frames", "12", "--snapshot-every", "6"]
    assert reconstruct(room, tmp_path / "out", *words) == 0
    out = tmp_path / "out"
    expected = _results(out)
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"status": "running"}))
    (out / "room.map.ply").unlink()
    short = tmp_path / "room"  # the same recording, without more frames to come
    shutil.copytree(room, short)
    for name in ("rgb.txt", "depth.txt"):
        (short / name).write_text("\n".join(lines(room / name)[:12]) + "\n")
    assert reconstruct(short, out, "--resume") == 0
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
    assert len(lines(out / "wall.tum.txt")) == 1, "lost poses are not handed out as found"
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
    out = tmp_path / "runs" / "reconstruct" / "generated_7"
    said = capsys.readouterr().out
    assert "moving pixels against the truth: precision" in said
    record = json.loads((out / "run.json").read_text())
    assert record["truth"]["ghosts_percent"] <= 1.5
    assert main(["reconstruct", "generated:7", "--quiet", *words]) == 0
    assert (out.parent / "generated_7-2" / "run.json").is_file()
    assert main(["reconstruct", "generated:7", "--overwrite", "--quiet", *words]) == 0
    assert len(list(out.parent.iterdir())) == 2
    assert main(["reconstruct", "generated:x"]) == 2
    assert "generated:SEED" in capsys.readouterr().err


def test_rerun_is_an_extra_that_is_asked_for(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.util import find_spec

    words = ["--save", "rerun", "--max-frames", "3"]
    code = reconstruct(room, tmp_path / "out", *words)
    if find_spec("rerun") is None:
        assert code == 1
        assert "pip install 'vision-mem[viewer]'" in capsys.readouterr().err
    else:
        assert code == 0
        assert (tmp_path / "out" / "room.rrd").stat().st_size > 1000
