"""Recordings that are tilted, that lack poses, or that are taken in by parts."""

from __future__ import annotations

import json

import numpy as np

from vision_mem.cli import main
from vision_mem.formats.rgbd_folders import write_seven_scenes
from vision_mem.geometry.poses import make_pose, rotation_from
from vision_mem.navigation import Key, NavigationSession, Observation
from vision_mem.navigation.backprojection import cloud, lift
from vision_mem.reconstruction import ReconstructionSession
from vision_mem.synthetic.furnished_room import FURNITURE, Furniture, Room

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
    assert "--track-poses where poses are missing" in capsys.readouterr().err
    assert navigate(*words, one, "--track-poses") == 0
    for frames in (4, 10):
        assert navigate(*words, two, "--track-poses", "--max-frames", frames) == 0
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


def test_no_way_leads_from_one_recording_to_another(tmp_path) -> None:
    path = tmp_path / "m.map"
    for name, far in (("a", 0.0), ("b", 50.0)):
        lines = [
            {"t": float(i), "position": [far + 2.0 * i, 0, 0], "quaternion": [0, 0, 0, 1]}
            for i in range(3)
        ]
        source = tmp_path / f"{name}.jsonl"
        source.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert navigate("build", source, "--map", path, "--up", "+z", "--quiet") == 0
    with NavigationSession(path, mode="r") as session:
        places = sorted(session.state.topology.places)
        assert set(session.state.topology.ways) == {
            pair for a, b in ((0, 1), (1, 2), (3, 4), (4, 5))
            for pair in ((places[a], places[b]), (places[b], places[a]))
        }  # fmt: skip


def test_results_of_reconstruct_are_a_source(tmp_path, capsys) -> None:
    room = Room(frames=240, width=80, height=60)
    write_seven_scenes(tmp_path / "room", [f.without_pose() for f, _ in room.film(count=8)])
    out, path = tmp_path / "out", tmp_path / "m.map"
    words = ["reconstruct", tmp_path / "room", "--out", out, "--save", "trajectory", "--quiet"]
    assert main([*map(str, words)]) == 0
    capsys.readouterr()
    assert navigate("build", out, "--map", path, *FAST) == 0
    assert "8 frames taken in" in (shown := capsys.readouterr()).out and "no pose" not in shown.err
    with NavigationSession(path, mode="r") as session:
        last = session.recall(Key("place", session.state.topology.current), limit=1)[0]
    true = np.linalg.inv(room.pose(0)) @ room.pose(7)
    np.testing.assert_allclose(last.pose[:3, 3], true[:3, 3], atol=0.05)
    (tmp_path / "room").rename(tmp_path / "elsewhere")
    assert navigate("build", out, "--map", path) == 2
    assert "is no folder here; give the recording itself, with --poses" in capsys.readouterr().err


def test_a_live_reconstruction_feeds_a_map_and_what_moves_is_left_out() -> None:
    finder, with_it, without = ReconstructionSession(), NavigationSession(), NavigationSession()
    for number in range(32):
        low = 1.8 + 0.07 * number
        passer = Furniture("somebody", (low, 2.2, 0.0), (low + 0.5, 2.7, 1.5), (250, 0, 250))
        room = Room(frames=360, width=96, height=72, furniture=(*FURNITURE, passer))
        ((frame, found),) = room.film(250 + number, 1)
        result = finder.step(frame.without_pose())
        assert not result.lost
        pose = room.pose(250) @ result.pose
        for session, moving in ((without, result.dynamic), (with_it, None)):
            seen = cloud(frame.image, frame.depth, frame.camera, moving=moving)
            things = lift(found, frame.depth, frame.camera)
            session.step(Observation(frame.time_s, pose, *seen, sightings=things))
    assert np.linalg.norm(pose[:3, 3] - room.pose(281)[:3, 3]) < 0.05
    (table,) = (hit for hit in without.where("dining table", k=1))
    truth = next(each.middle for each in FURNITURE if each.name == "dining table")
    assert np.linalg.norm(table.position[:2] - truth[:2]) < 0.8
    behind = [
        int(each.state.octree.box((1.8, 2.2, 0.2), (4.0, 2.7, 1.5)).occupied.sum())
        for each in (without, with_it)
    ]
    assert 3 * behind[0] < behind[1]


def test_a_limit_of_memory_changes_nothing_but_memory(tmp_path) -> None:
    room = Room(frames=24, width=80, height=60)
    write_seven_scenes(tmp_path / "room", [frame for frame, _ in room.film()])
    low, high = tmp_path / "low.map", tmp_path / "high.map"
    for path, more in ((high, ()), (low, ("--ram", "0.8"))):
        assert navigate("build", tmp_path / "room", "--map", path, *FAST, *more, "--quiet") == 0
    assert leaves(low) == leaves(high)
    with NavigationSession(low) as session:
        assert session.config.store.ram == 0.8
        session.state.octree.radius((1.0, 1.0, 1.0), 0.5)
        assert 0 < session.usage().detail["space"] <= 0.8e6
        assert len(session.state.octree.bricks.away) > 0
