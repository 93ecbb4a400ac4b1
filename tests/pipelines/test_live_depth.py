"""Depth that still comes in, through the commands: folders and lines that grow, live cameras."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from reconstruct_samples import film, lines, reconstruct

from vision_mem.cli import main
from vision_mem.formats.rgbd_folders import write_seven_scenes
from vision_mem.navigation import NavigationSession

COUNT = 6


@pytest.fixture(scope="module")
def frames():
    return [true.frame for true in film()[:COUNT]]


def test_a_folder_is_rebuilt_while_it_is_written(frames, tmp_path):
    place = tmp_path / "room"
    write_seven_scenes(place, frames[:1])

    def fill():
        for frame in frames[1:]:
            time.sleep(0.05)
            write_seven_scenes(place, [frame])

    writer = threading.Thread(target=fill)
    writer.start()
    words = ["--follow-for", "1", "--save", "trajectory,colmap,map"]
    assert reconstruct(place, tmp_path / "out", *words) == 0
    writer.join()
    assert len(lines(tmp_path / "out" / "room.tum.txt")) == COUNT
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "finished" and record["frames"] == COUNT
    # What was taken as it came can be gone on with when all is there.
    assert reconstruct(place, tmp_path / "out", "--resume") == 0


CAMERA = """
import numpy as np

from reconstruct_samples import film


def frames():
    for true in film()[:{count}]:
        frame = true.frame
        yield {{"image": frame.image, "depth": frame.depth, "camera": frame.camera,
               "pose": frame.pose, "time_s": frame.time_s}}
"""


def test_a_function_is_a_live_camera(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_camera.py").write_text(CAMERA.format(count=COUNT))
    monkeypatch.chdir(tmp_path)
    assert reconstruct("own_camera:frames", "out", "--save", "trajectory") == 0
    assert len(lines(tmp_path / "out" / "frames.tum.txt")) == COUNT
    words = ["navigate", "build", "own_camera:frames", "--map", "m.map", "--pixels", "4", "--quiet"]
    assert main(words) == 0
    with NavigationSession(tmp_path / "m.map", mode="r") as session:
        assert session.state.frame == COUNT
    capsys.readouterr()
    assert reconstruct("own_camera:frames", "out", "--resume") == 2
    assert "is live: what it gave is gone" in capsys.readouterr().err


def test_lines_are_taken_into_a_map_while_they_are_written(tmp_path):
    path = tmp_path / "robot.jsonl"

    def row(k):
        pose = np.eye(4)
        pose[0, 3] = 0.1 * k
        points = [[0.1 * j, 0.2, 2.0] for j in range(8)]
        return json.dumps({"t": k, "pose": pose.tolist(), "points": points}) + "\n"

    path.write_text(row(0) + row(1))

    def fill():
        for k in range(2, COUNT):
            half = len(row(k)) // 2
            with path.open("a") as file:
                file.write(row(k)[:half])
                file.flush()
                time.sleep(0.05)
                file.write(row(k)[half:])

    writer = threading.Thread(target=fill)
    writer.start()
    words = ["navigate", "build", str(path), "--map", str(tmp_path / "m.map"), "--quiet"]
    assert main([*words, "--follow-for", "0.8"]) == 0
    writer.join()
    with NavigationSession(tmp_path / "m.map", mode="r") as session:
        assert session.state.frame == COUNT
