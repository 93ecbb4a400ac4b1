"""Streets at the command line: a graph into a map, questions to it, and instructions followed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vision_mem.cli import main
from vision_mem.synthetic.city import CityConfig, make_city
from vision_mem.synthetic.city_routes import make_routes, write_city
from vision_mem.vln.memory import LongMemory


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    city = make_city(5, CityConfig(blocks=5))
    write_city(city, root, {"dev": make_routes(city, 6, 0, turns=(1, 2), longest=30)})
    return root


@pytest.fixture(scope="module")
def known(streets) -> Path:
    path = streets / "known.map"
    words = ["--sights", str(streets / "sights.jsonl"), "--quiet"]
    assert main(["navigate", "build", str(streets), "--map", str(path), *words]) == 0
    return path


def say(capsys, *words: object, code: int = 0) -> str:
    assert main(["navigate", *map(str, words)]) == code
    shown = capsys.readouterr()
    return shown.err if code == 2 else shown.out


def test_a_graph_becomes_a_map_that_answers(streets, known, tmp_path, capsys) -> None:
    graph = make_city(5, CityConfig(blocks=5)).graph
    shown = json.loads(say(capsys, "show", "--map", known, "--json", "--check"))
    assert shown["places"] == shown["frames"] == len(graph)
    with LongMemory(known, mode="r") as memory:
        assert memory.ways == graph.links
    first = json.loads(say(capsys, "where", "red pharmacy", "--map", known, "--json"))["hits"][0]
    assert first["label"] == "red pharmacy"
    east, north, _ = first["position"]
    marks = make_city(5, CityConfig(blocks=5)).landmarks
    near = [m for m in marks if np.hypot(*(m.position - (east, north))) < 1.0]
    assert [m.name for m in near] == ["red pharmacy"]
    way = json.loads(say(capsys, "route", "--map", known, "--to", "red pharmacy", "--json"))
    assert way["on"] == "places" and len(way["directions"]) < len(way["places"]) / 3
    assert len(way["ends"]) == len(way["directions"])
    said = say(capsys, "recall", "red pharmacy", "--map", known)
    assert said.count("red pharmacy 1.00") == first["seen"] and "#city5-" in said
    out = tmp_path / "m.json"
    say(capsys, "export", "--map", known, "--geojson", out)
    shapes = json.loads(out.read_text())["features"]
    places = [s for s in shapes if s["properties"]["kind"] == "place"]
    spot = places[0]["geometry"]["coordinates"][:2]  # in degrees, without being told where
    assert spot == pytest.approx([graph.files.longitude[0], graph.files.latitude[0]], abs=1e-6)


def test_what_is_forgotten_of_streets_is_gone(streets, tmp_path, capsys) -> None:
    path = tmp_path / "m.map"
    say(capsys, "build", streets, "--map", path, "--sights", streets / "sights.jsonl", "--quiet")
    number = json.loads(say(capsys, "where", "red pharmacy", "--map", path, "--json"))["hits"][0]
    say(capsys, "forget", "--map", path, "--landmark", number["key"])
    found = json.loads(say(capsys, "where", "red pharmacy", "--map", path, "--json"))["hits"]
    assert number["key"] not in [hit["key"] for hit in found]
    assert "0 panoramas taken in" in say(
        capsys, "build", streets, "--map", path, "--sights", streets / "sights.jsonl"
    )


@pytest.mark.parametrize("walk", [[], ["--tour", "600", "--seed", "3"]])
def test_a_killed_build_goes_on_to_the_same_map(streets, tmp_path, walk) -> None:
    paths = [tmp_path / "whole.map", tmp_path / "cut.map"]
    for path in paths:
        words = ["build", str(streets), "--map", str(path), "--quiet", *walk]
        words += ["--sights", str(streets / "sights.jsonl")]
        if path.name == "cut.map":
            code = "import sys; from vision_mem.cli import main; sys.exit(main(sys.argv[1:]))"
            child = subprocess.Popen([sys.executable, "-c", code, "navigate", *words])
            while not path.exists() or _frames(path) < 25:
                assert child.poll() is None
                time.sleep(0.005)
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert 25 <= _frames(path) < (600 if walk else 196)
        assert main(["navigate", *words]) == 0
    memories = [LongMemory(path, mode="r") for path in paths]
    states = [each.session.state for each in memories]
    assert states[0].frame == states[1].frame == (600 if walk else 196)
    assert states[0].topology.ways.keys() == states[1].topology.ways.keys()
    for place in states[0].topology.places:
        assert states[0].exits.known(place) == states[1].exits.known(place)
    marks = [{i: m.position.tolist() for i, m in s.landmarks.by_id.items()} for s in states]
    assert marks[0] == marks[1]
    if walk:  # what was not walked is not known
        assert memories[0].ways < make_city(5, CityConfig(blocks=5)).graph.links
    for each in memories:
        each.close()


def _frames(path: Path) -> int:
    try:
        with LongMemory(path, mode="r") as memory:
            return memory.session.state.frame
    except Exception:  # not made yet
        return 0


def test_a_route_is_followed_step_by_step_and_remembered(streets, tmp_path, capsys) -> None:
    memory = tmp_path / "streets.map"
    words = ["follow", "--graph", streets, "--route", "route-1", "--map", memory]
    words += ["--sights", streets / "sights.jsonl"]
    *steps, end = [json.loads(line) for line in say(capsys, *words).splitlines()]
    assert [each["step"] for each in steps] == list(range(end["steps"]))
    assert steps[-1]["action"] == "stop" and end["stopped"]
    assert set(end["scores"]) >= {"TC", "SPD", "nDTW"} and end["family"].startswith("outdoor")
    places = json.loads(say(capsys, "show", "--map", memory, "--json"))["places"]
    assert places == len({each["panorama"] for each in steps})
    assert steps[0]["panorama"] in say(capsys, "recall", "place:1", "--map", memory)
    # Another instruction from the same place, with what was learned.
    lines = say(capsys, *words, "--text", "go straight and stop", "--max-steps", "5").splitlines()
    assert "scores" not in json.loads(lines[-1])
    assert json.loads(say(capsys, "show", "--map", memory, "--json"))["places"] >= places
    wrong = say(capsys, *words[:3], "--route", "nowhere", code=2)
    assert "no route 'nowhere'" in wrong


def test_with_a_map_a_route_is_followed_blindly(streets, known, tmp_path, capsys) -> None:
    copy = tmp_path / "known.map"
    copy.write_bytes(known.read_bytes())
    ends = []
    for words in (["--map", copy], []):
        said = say(capsys, "follow", "--graph", streets, "--route", "route-0", *words)
        ends.append(json.loads(said.splitlines()[-1])["scores"]["TC"])
    assert ends == [1.0, 0.0]


def test_features_of_panoramas_are_sights(streets, tmp_path, capsys) -> None:
    path, features = tmp_path / "features.map", streets / "features.npz"
    say(capsys, "build", streets, "--map", path, "--sights", features, "--quiet")
    said = say(
        capsys, "follow", "--graph", streets, "--route", "route-0", "--map", path,
        "--sights", features,
    )  # fmt: skip
    assert json.loads(said.splitlines()[-1])["scores"]["TC"] == 1.0
    other = tmp_path / "other.npz"
    with np.load(features) as file:
        np.savez(other, **{**file, "encoder": np.array("clip")})
    wrong = say(capsys, "build", streets, "--map", path, "--sights", other, code=2)
    assert "holds embeddings of 'names#64', not of 'clip'" in wrong
    wrong = say(capsys, "follow", "--graph", streets, "--sights", other, code=2)
    assert "holds features of clip, into which this command cannot put words" in wrong


def test_the_demonstration_follows_by_memory_alone(tmp_path, capsys) -> None:
    shown = say(capsys, "demo", "--streets", "--out", tmp_path, "--quiet")
    assert '"TC": 1.0' in shown and "more steps" in shown
    assert (tmp_path / "city.png").stat().st_size > 10_000
    with LongMemory(tmp_path / "city.map", mode="r") as memory:
        assert memory.session.state.frame > 1500  # the walk, and what was followed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["build", "{root}", "--map", "{map}", "--detect", "chair"], "leave out --detect"),
        (["build", "{other}", "--map", "{map}"], "is of other streets than this graph"),
        (["build", "{root}", "--map", "{map}", "--sights", "no.jsonl"], "no.jsonl cannot be read"),
        (["build", "{root}/data", "--map", "{map}", "--tour", "5"], "leave out --tour"),
        (["follow", "--graph", "{other}", "--map", "{map}"], "is of other streets"),
        (["follow", "--graph", "{root}", "--map", "{room}"], "is of rooms, not of streets"),
        (["follow", "--graph", "{root}", "--map", "{text}"], "damaged or no map"),
        (["route", "--map", "{map}", "--to", "moon"], "goal 'moon' is not known here"),
        (["route", "--map", "{map}", "--to", "9000,0,0"], "m from the nearest place that is known"),
    ],
)
def test_slips_are_one_line(streets, known, tmp_path, capsys, words, says) -> None:
    from vision_mem.navigation import NavigationSession

    other, room, text = (tmp_path / name for name in ("other", "room.map", "text.map"))
    city = make_city(6, CityConfig(blocks=3))
    write_city(city, other, {"dev": make_routes(city, 1, 0, turns=(1, 1), longest=30)})
    NavigationSession(room).close()
    text.write_text("hello")
    names = {"root": streets, "map": known, "other": other, "room": room, "text": text}
    assert main(["navigate", *(word.format(**names) for word in words)]) in (1, 2, 3)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and says in shown


def test_goals_in_degrees(known, capsys) -> None:
    from vision_mem.formats.graphs import to_degrees
    from vision_mem.navigation import NavigationSession

    with NavigationSession(known, mode="r") as session:
        place = max(session.state.topology.places)
        at, origin = session.state.topology.places[place].position, session.state.origin
    latitude, longitude = (float(each[0]) for each in to_degrees(at[None, :2], origin))
    words = ["navigate", "route", "--map", str(known), "--from", "place:1", "--json"]
    ends = []
    for goal in (f"{latitude:.7f},{longitude:.7f}", f"geo:{latitude:.7f},{longitude:.7f}"):
        assert main([*words, "--to", goal]) == 0
        ends.append(json.loads(capsys.readouterr().out)["places"][-1])
    assert ends == [place, place]
    assert main([*words, "--to", f"{longitude:.5f},{latitude:.5f}"]) == 2
    assert "the latitude comes first" in capsys.readouterr().err
    assert main([*words, "--to", "95,200"]) == 2
    assert "expected latitude,longitude in degrees" in capsys.readouterr().err
