"""The list of a fleet: what it means, and a line for each mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vision_mem.errors import InputError
from vision_mem.fleet.cameras import CameraEntry, changes, read_cameras
from vision_mem.pipelines.fleet import words_of


def listed(tmp_path: Path, text: str) -> tuple[tuple[CameraEntry, ...], tuple[str, ...]]:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    cameras, mistakes = read_cameras(path, words_of)
    return cameras, tuple(one.removeprefix(f"{path} ") for one in mistakes)


def test_a_list_is_read(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    cameras, mistakes = listed(
        tmp_path,
        """
defaults: {min-fps: 2, snapshot: 1}
cameras:
  gate: {source: rtsp://h/x, command: mots, detect: [motion, "red car"], save: [mot, events]}
  yard:
    source: clip.mp4
    box: ["cup=1,2,3,4", "dog=5,6,7,8"]
    paced: true
    weight: 2
    strict: true
  desk: {source: 0, point: "cup=3,4", delay_ms: 250}
""".replace(", snapshot: 1", ""),
    )
    assert mistakes == ()
    gate, yard, desk = cameras
    assert gate.words == ("--detect", "motion", "--detect", "red car", "--save", "mot,events")
    assert gate.min_fps == yard.min_fps == 2 and (gate.weight, yard.weight) == (1, 2)
    assert yard.source == str(tmp_path / "clip.mp4") and yard.paced
    assert yard.words == ("--box", "cup=1,2,3,4", "--box", "dog=5,6,7,8", "--strict")
    assert (desk.source, desk.delay_ms) == ("0", 250)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("source: nowhere.mp4", "line 3, camera gate, source: 'nowhere.mp4': no such file"),
        ("source: ''", "source: is ''; expected a text"),
        ("source: null", "source: is null; expected a text"),
        ("delay_ms: fast", "delay_ms: is 'fast'; expected milliseconds above 0"),
        ("weight: 0", "weight: is 0; expected a number above 0"),
        ("weight: .nan", "weight: is nan; expected a number above 0"),
        ("memory_mb: true", "memory_mb: is true; expected megabytes above 0"),
        ("paced: 3", "paced: is 3; expected true or false"),
        ("command: mts", "command: is 'mts'; did you mean 'mots'?"),
        ("boxx: 1", "boxx: track has no such option; did you mean 'box'?"),
        ("detect: motion", "detect: track has no such option"),
        ("out: runs", "out: is what the fleet sees to"),
        ("strict: 3", "strict: is 3; expected true or false"),
        ("box: {a: 1}", 'box: is {"a": 1}; expected a word, a number, or a list of them'),
        ("start: soon", "start: is 'soon': "),
        ("save: vidoe", "save: no output is called 'vidoe'"),
        ("box: ''", "box"),
    ],
)
def test_a_mistake_is_a_line(tmp_path: Path, field: str, said: str) -> None:
    source = "" if field.startswith("source") else "    source: 0\n"
    _, mistakes = listed(tmp_path, f"cameras:\n  gate:\n    {field}\n{source}")
    assert len(mistakes) == 1 and said in mistakes[0]
    assert mistakes[0].startswith("line 3, camera gate, ") and "\n" not in mistakes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected cameras:"),
        ("- 1", "line 1: expected cameras:"),
        ("cameras: 3", "line 1, cameras: expected cameras"),
        ("cameras:\n  g:\n    weight: 2", "line 2, camera g, source: is missing"),
        ("cameras:\n  g: rtsp://h", "line 2, camera g: expected fields"),
        ("cameras:\n  a/b: {source: 0}", "line 2, camera a/b: expected a name"),
        ("camera: {}\ncameras: {g: {source: 0}}", "line 1, camera: no such part; did you mean"),
    ],
)
def test_mistakes_of_the_whole(tmp_path: Path, text: str, said: str) -> None:
    mistakes = listed(tmp_path, text)[1]
    assert len(mistakes) == 1 and mistakes[0].startswith(said)


def test_every_mistake_is_told_and_one_of_defaults_once(tmp_path: Path) -> None:
    text = "defaults: {weight: no}\ncameras:\n  a: {source: 0, x: 1}\n  b: {source: 0, y: 1}\n"
    lines = [one.split(":")[0] for one in listed(tmp_path, text)[1]]
    assert lines == ["line 1, weight", "line 3, camera a, x", "line 4, camera b, y"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("cameras: [", "line 1"), ("cameras:\n  a: {source: 0}\n  a: {source: 1}\n", "(line 3)")],
)
def test_no_yaml_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        listed(tmp_path, text)
    assert said in str(caught.value)


def test_what_a_new_list_changes() -> None:
    a, b, c = (CameraEntry(name, "0") for name in "abc")
    heavier, other = replace(a, weight=2), replace(b, words=("--strict",))
    ended, begun, told = changes([a, b, c], [heavier, other, CameraEntry("d", "0")])
    assert [one.name for one in ended] == ["b", "c"]
    assert [one.name for one in begun] == ["b", "d"]
    assert told == [heavier]
