"""Recordings that are tilted, that lack poses, or that are taken in by parts."""

from __future__ import annotations

import json

import numpy as np

from vision_mem.cli import main
from vision_mem.geometry.poses import make_pose, rotation_from
from vision_mem.io.rgbdwriting import write_seven_scenes
from vision_mem.navigation import Key, NavigationSession
from vision_mem.navigation.rooms import Room

FAST = ("--set", "octree.kernels=numpy", "--pixels", "2")
SOFA = ("--landmark", "red sofa=0.6,2.1,0.5")


def navigate(*words: object) -> int:
    return main(["navigate", *map(str, words)])


def answer(capsys, *words: object) -> dict:
    capsys.readouterr()
    assert navigate(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def leaves(path) -> dict[int, float]:
    with NavigationSession(path, mode="r") as session:
        found = session.state.octree.level(0)
    return dict(zip(found.codes.tolist(), found.log_odds.tolist(), strict=True))


def test_a_tilted_recording_is_made_level(tmp_path, capsys) -> None:
    """Turned by 25 degrees, as recordings are that count from a camera that looked down."""
    room = Room(frames=24)
    tilt = make_pose(rotation_from(np.radians([25.0, 0.0, 0.0])), (0, 0, 0))
    tilted = []
    for frame, _ in room.film():
        tilted.append(type(frame)(frame.index, frame.time_s, frame.image, frame.depth,
                                  frame.camera, tilt @ frame.pose))  # fmt: skip
    write_seven_scenes(tmp_path / "room", tilted)
    path = tmp_path / "m.map"
    assert navigate("build", tmp_path / "room", "--map", path, *FAST, *SOFA) == 0
    assert "turned by 25" in (shown := capsys.readouterr().out) and "+z is up" in shown
    value = answer(capsys, "route", "--map", path, "--from=0.6,2.1,0.5", "--to=5,4,0")
    assert value["on"] == "floor" and abs(value["points"][0][2]) < 0.25
    # As recorded, on demand.
    words = ("build", tmp_path / "room", "--map", path, *FAST, "--up", "+z", "--overwrite")
    assert navigate(*words, "--max-frames", 1) == 0
    assert "turned by" not in capsys.readouterr().out
    with NavigationSession(path, mode="r") as session:
        memory = session.recall(Key("place", 1))[0]
        np.testing.assert_allclose(memory.pose, tilt @ room.pose(0), atol=1e-6)


def test_missing_poses_are_found_also_in_two_runs(tmp_path, capsys) -> None:
    room = Room(frames=240, width=80, height=60)
    filmed = [frame for frame, _ in room.film(count=10)]
    write_seven_scenes(tmp_path / "room", [frame.without_pose() for frame in filmed])
    one, two = tmp_path / "one.map", tmp_path / "two.map"
    words = ("build", tmp_path / "room", *FAST, "--quiet", "--map")
    assert navigate(*words, one) == 1
    assert "--find-poses where poses are missing" in capsys.readouterr().err
    assert navigate(*words, one, "--find-poses") == 0
    for frames in (4, 10):
        assert navigate(*words, two, "--find-poses", "--max-frames", frames) == 0
    assert leaves(one) == leaves(two)
    with NavigationSession(one, mode="r") as session:
        last = session.recall(Key("place", session.state.topology.current), limit=1)[0]
    true = np.linalg.inv(filmed[0].pose) @ filmed[-1].pose
    assert last.source.endswith("#9")
    np.testing.assert_allclose(last.pose[:3, 3], true[:3, 3], atol=0.05)


def test_parts_and_another_recording_are_added_in_the_order_of_time(tmp_path, capsys) -> None:
    room, path = Room(frames=36, width=80, height=60), tmp_path / "m.map"
    for name in ("a", "b"):
        write_seven_scenes(tmp_path / name, [frame for frame, _ in room.film(count=8)])
    words = ("build", tmp_path / "a", "--map", path, *FAST, "--quiet")
    assert navigate(*words, "--end", 3) == 0
    assert navigate(*words, "--start", 5, "--max-frames", 2) == 0
    assert navigate("build", tmp_path / "b", "--map", path, "--stride", 4, "--quiet") == 0
    assert navigate("build", tmp_path / "b", "--map", path, "--stride", 4, "--quiet") == 0
    with NavigationSession(path, mode="r") as session:
        rows = [m for p in session.state.topology.places for m in session.recall(Key("place", p))]
    rows.sort(key=lambda memory: memory.frame)
    taken = [memory.source.rpartition("/")[2] for memory in rows]
    assert taken == ["a#0", "a#1", "a#2", "a#5", "a#6", "b#0", "b#4"]
    times = [memory.time_s for memory in rows]
    assert times == sorted(times) and len(set(times)) == 7
    np.testing.assert_allclose(times[6] - times[5], 4 / 30)
