"""``vision-mem watch``: equal to each command alone, within its budget, and on after any stop."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from vision_mem.cli import main
from vision_mem.formats.rgbd_folders import write_tum
from vision_mem.synthetic.furnished_room import Room

FAKE = ("--model", "vision_mem.models.segmenters.fake:FakeSegmenter")
COLOURS = ("--ask-model", "fake")
BOX = "thing=20,12,24,20"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated room of 14 frames with depth and poses, as TUM keeps them."""
    folder = tmp_path_factory.mktemp("rooms") / "room"
    write_tum(folder, (frame for frame, _ in Room(frames=60, width=64, height=48).film(0, 14)))
    return folder


@pytest.fixture(scope="module")
def unposed(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same room, of which nobody knows where the camera was."""
    folder = tmp_path_factory.mktemp("unposed") / "room"
    frames = (frame for frame, _ in Room(frames=200, width=64, height=48).film(0, 8))
    write_tum(folder, (replace(frame, pose=None) for frame in frames))
    (folder / "groundtruth.txt").unlink(missing_ok=True)
    return folder


def run(command: str, source: Path, *words: str) -> int:
    return main([command, str(source), *words, "--quiet"])


def tables(path: Path, *without: str) -> dict[str, list[tuple]]:
    """All rows of a database by table."""
    with closing(sqlite3.connect(path)) as sql:
        names = [row[0] for row in sql.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {
            name: sorted(sql.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name in names if name not in without
        }  # fmt: skip


def contents(folder: Path, name: str) -> dict[str, bytes]:
    """Files of a folder by name, the source's name taken out of it."""
    return {
        str(path.relative_to(folder)).replace(name, "*"): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json" and "snapshot-" not in str(path)
    }


def record(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


def test_of_a_video_track_and_ask_say_what_they_say_alone(small_clip: Path, tmp_path: Path) -> None:
    words = ("--box", "cup=30,30,40,40", *FAKE)
    assert run("watch", small_clip, "--out", str(tmp_path / "w"), *words, *COLOURS, "--save",
               "lasot,diary,events", "--fps", "8") == 0  # fmt: skip
    assert run("track", small_clip, "--out", str(tmp_path / "t"), *words, "--save",
               "lasot,diary,events") == 0  # fmt: skip
    memory = str(tmp_path / "a.vmem")
    assert run("ask", small_clip, "--out", str(tmp_path / "a"), "--memory", memory,
               "--model", "fake", "--fps", "8") == 0  # fmt: skip
    assert contents(tmp_path / "w" / "track", "cup") == contents(tmp_path / "t", "cup")
    assert tables(tmp_path / "w" / "cup.vmem") == tables(Path(memory))
    made = record(tmp_path / "w")
    assert made["budget"]["total"] == 1_000_000_000
    assert made["budget"]["shares"] == {"track": 600_000_000, "ask": 400_000_000}
    assert all(made["most"][part] <= made["budget"]["shares"][part] for part in made["most"])
    assert sorted(made["files"]) == ["cup.vmem", "track/"]


def test_of_a_video_mots_says_what_it_says_alone(small_clip: Path, tmp_path: Path) -> None:
    saved = ("--save", "mot,events,tracks,diary", *FAKE)
    out = tmp_path / "w"
    assert run("watch", small_clip, "--out", str(out), "--mots", "motion", *saved,
               "--without", "ask") == 0  # fmt: skip
    assert run("mots", small_clip, "--out", str(tmp_path / "m"), "--detect", "motion", *saved) == 0
    assert contents(out / "mots", "cup") == contents(tmp_path / "m", "cup")
    assert "confirmed" in (out / "mots" / "cup.events.jsonl").read_text()


def test_of_a_room_scene_and_map_are_those_of_their_own_commands(
    room: Path, tmp_path: Path
) -> None:
    out, scene = tmp_path / "w", "trajectory,map,events,tracks"
    assert run("watch", room, "--out", str(out), "--without", "ask") == 0
    assert run("reconstruct", room, "--out", str(tmp_path / "r"), "--save", scene) == 0
    assert contents(out / "reconstruct", "room") == contents(tmp_path / "r", "room")
    ram = record(out)["config"]["navigate"]["store"]["ram"]
    own = tmp_path / "own.map"
    words = ("--map", str(own), "--ram", repr(ram), "--quiet")
    assert main(["navigate", "build", str(room), *words]) == 0
    assert tables(out / "room.map") == tables(own)
    assert len(tables(own)["memory"]) == 14


def test_of_a_room_without_poses_too(unposed: Path, tmp_path: Path) -> None:
    out = tmp_path / "w"
    assert run("watch", unposed, "--out", str(out), "--without", "ask", "--save-scene",
               "trajectory") == 0  # fmt: skip
    assert run("reconstruct", unposed, "--out", str(tmp_path / "r"), "--save", "trajectory") == 0
    assert contents(out / "reconstruct", "room") == contents(tmp_path / "r", "room")
    ram = repr(record(out)["config"]["navigate"]["store"]["ram"])
    own = tmp_path / "own.map"
    words = ("--map", str(own), "--ram", ram, "--track-poses", "--quiet")
    assert main(["navigate", "build", str(unposed), *words]) == 0
    assert tables(out / "room.map") == tables(own)


def test_what_is_followed_in_a_room_is_found_by_where(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "w"
    words = (
        "--out",
        str(out),
        "--box",
        BOX,
        *FAKE,
        "--save",
        "lasot",
        "--save-scene",
        "map",
        *COLOURS,
    )
    assert run("watch", room, *words) == 0
    assert run("track", room / "rgb", "--out", str(tmp_path / "t"), "--box", BOX, *FAKE,
               "--save", "lasot") == 0  # fmt: skip
    ours = (out / "track" / "lasot" / "room.txt").read_bytes()
    assert ours == next((tmp_path / "t" / "lasot").glob("*.txt")).read_bytes()
    capsys.readouterr()
    assert main(["navigate", "where", "thing", "--map", str(out / "room.map"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[0])
    assert "thing" in json.dumps(found)
    assert main(["ask", str(out / "room.vmem"), "where was it red?", "--out", str(tmp_path / "a"),
                 "--model", "fake", "--quiet"]) == 0  # fmt: skip
    assert "red" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "1"], "expected a size as 1GB"),
        (["--budget", "10KB"], "less than 1 MiB"),
        (["--without", "asks"], "did you mean 'ask'?"),
        (["--without", "ask"], "nothing is left to remember"),
        (["--mots", "motion", "--box", BOX], "leave out --box"),
        (["--only", "car"], "--only is for --mots"),
        (["--track-poses"], "--track-poses is for recordings with depth"),
        (["--set", "fps=2"], "names no system"),
        (["--set", "ask.fsp=2"], "fps"),
        (["--set", "navigate.octree.leaf=0.1"], "this run is without"),
        (["--without", "ask", "--box", BOX, "--fps", "2"], "--fps is for ask"),
        (["--preset", "ask=searhc"], "search"),
        (["--save", "vdeo"], "video"),
        (["--budget", "1.1MB", "--box", BOX], "ask has"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    small_clip: Path, tmp_path: Path, words: list[str], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["watch", str(small_clip), "--out", str(tmp_path / "w"), *words, *FAKE]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and said in lines[0]
    assert not (tmp_path / "w" / "run.json").exists()


def same(one: Path, other: Path) -> None:
    """Results and memories of two runs are equal."""
    for part in ("track", "reconstruct"):
        assert contents(one / part, "room") == contents(other / part, "room")
    assert tables(one / "room.vmem") == tables(other / "room.vmem")
    assert tables(one / "room.map") == tables(other / "room.map")


def test_a_run_that_is_continued_ends_as_one_that_was_not(room: Path, tmp_path: Path) -> None:
    words = ("--box", BOX, *FAKE, "--save", "lasot,diary", "--fps", "5", "--snapshot-every", "4",
             *COLOURS)  # fmt: skip
    assert run("watch", room, "--out", str(tmp_path / "a"), *words) == 0
    first = ("--out", str(tmp_path / "b"), *words, "--max-frames", "6")
    assert run("watch", room, *first) == 0
    # As after kill -9: the files are ahead of the latest snapshot.
    assert run("watch", room, "--out", str(tmp_path / "b"), "--resume", "--max-frames", "9") == 0
    newest = max((tmp_path / "b").glob("snapshot-*"))
    assert newest.name == "snapshot-00000009"
    for name in ("room.vmem", "room.map"):
        ahead = tmp_path / "a" / name
        (tmp_path / "b" / name).write_bytes(ahead.read_bytes())
    assert run("watch", room, "--out", str(tmp_path / "b"), "--resume", "--max-frames", "14") == 0
    same(tmp_path / "a", tmp_path / "b")
    assert run("watch", room, "--out", str(tmp_path / "b"), "--resume") == 0  # nothing is left
    same(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_killed_goes_on(room: Path, tmp_path: Path, by: signal.Signals) -> None:
    words = ["--box", BOX, *FAKE, "--save", "lasot,diary", "--fps", "5", "--snapshot-every", "2",
             *COLOURS]  # fmt: skip
    assert run("watch", room, "--out", str(tmp_path / "a"), *words) == 0
    out = tmp_path / "b"
    command = [sys.executable, "-m", "vision_mem", "watch", str(room), "--out", str(out), *words]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("snapshot-*[2468]")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, by)
    assert child.wait() in (-9, 130, 0)
    assert run("watch", room, "--out", str(out), "--resume") == 0
    same(tmp_path / "a", out)
