"""Street graphs and routes from files: what is read, and one clear line for what cannot be."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.formats.street_words import read_route_landmarks, read_sight_words
from vision_mem.formats.touchdown import (
    find_street_files,
    read_routes,
    read_street_files,
    write_street_files,
)

NODES = "a,117,40.7,-73.9\nb,0,40.8,-73.8\nc,359,40.9,-73.7\n"
LINKS = "a,10,b\nb,190.5,a\nb,360,c\n"


def write(folder: Path, nodes: str | bytes = NODES, links: str | bytes = LINKS) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in (("nodes.txt", nodes), ("links.txt", links)):
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def test_a_graph_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    write(tmp_path / "graph")
    for root in (tmp_path, tmp_path / "graph"):
        files = read_street_files(root)
        assert files.ids == ("a", "b", "c")
        assert files.yaw.tolist() == [117, 0, 359]
        assert files.latitude.tolist() == [40.7, 40.8, 40.9]
        assert files.start.tolist() == [0, 1, 1]
        assert files.end.tolist() == [1, 0, 2]
        assert files.heading.tolist() == [10.0, 190.5, 0.0]


@pytest.mark.parametrize(
    ("case", "nodes"),
    [
        ("windows line ends", NODES.replace("\n", "\r\n")),
        ("a byte order mark", "\ufeff" + NODES),
        ("no line end at the end, empty lines", "\n" + NODES.strip()),
        ("a fifth column, as VELMA has", NODES.replace("\n", ",seen\n")),
        ("no yaw, as Map2Seq's own layout", "a,40.7,-73.9\nb,40.8,-73.8\nc,40.9,-73.7\n"),
    ],
)
def test_forms_of_nodes_that_are_read(case: str, nodes: str, tmp_path: Path) -> None:
    files = read_street_files(write(tmp_path, nodes))
    assert files.ids == ("a", "b", "c")
    assert files.longitude.tolist() == [-73.9, -73.8, -73.7]


@pytest.mark.parametrize(
    ("case", "nodes", "links", "message"),
    [
        ("a short line", NODES + "d,1\n", LINKS, r"nodes.txt line 4: 'd,1'; expected panorama"),
        ("no number", "a,117,north,-73\n", LINKS, r"nodes.txt line 1: 'a,117,north,-73'"),
        ("not finite", NODES + "d,1,nan,3\n", LINKS, "line 4: yaw 1, latitude nan"),
        ("out of range", NODES + "d,1,91,3\n", LINKS, "latitude 91.*expected degrees"),
        ("no id", ",1,2,3\n", LINKS, "nodes.txt line 1"),
        (
            "an id twice",
            NODES + "b,1,2,3\n",
            LINKS,
            "line 4: panorama b is there already, in line 2",
        ),
        ("empty", "\n", LINKS, "nodes.txt is empty"),
        ("binary", b"\xff\xfe\x00\x81", LINKS, "no text file"),
        ("a short link", NODES, "a,10\n", r"links.txt line 1: 'a,10'; expected start id"),
        ("a heading that is none", NODES, "a,inf,b\n", "links.txt line 1"),
        (
            "a missing node",
            NODES,
            "a,10,b\na,20,z\n",
            "links.txt line 2: panorama z is not in nodes",
        ),
        ("to itself", NODES, "a,10,a\n", "a link of panorama a to itself"),
        (
            "a heading twice",
            NODES,
            "a,10,b\na,370,c\n",
            "a second link of panorama a at heading 10",
        ),
        ("a very long line", NODES, "a" * 100_000, r"links.txt line 1: 'a{37}\.\.\.'"),
    ],
)
def test_damaged_graphs_get_one_line(
    case: str, nodes: str, links: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_street_files(write(tmp_path, nodes, links))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_random_damage_never_gets_another_error(tmp_path: Path) -> None:
    chance = random.Random(0)
    for _ in range(200):
        damaged = []
        for text in (NODES, LINKS):
            raw = bytearray(text.encode())
            for _ in range(chance.randrange(1, 4)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            damaged.append(bytes(raw))
        try:
            files = read_street_files(write(tmp_path, *damaged))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert np.isfinite(files.heading).all()
            assert np.isfinite(files.latitude).all()


def test_a_folder_without_a_graph(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no street graph; expected nodes\.txt"):
        find_street_files(tmp_path)


TOUCHDOWN = {
    "route_id": 7, "route_panoids": ["a", "b"], "navigation_text": "Go.", "start_heading": 0.0,
}  # fmt: skip
MAP2SEQ = {
    "id": 5, "instructions_id": 9, "route_panoids": ["a", "b"], "navigation_text": "Go.",
    "start_heading": 22,
}  # fmt: skip
RELEASE = {
    "route": {"pano_path": ["a", "b"], "initial_heading": 22}, "instructions": "Go.",
    "instructions_id": 9,
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "name", "kind", "heading"),
    [
        (TOUCHDOWN, "7", "touchdown", 0.0),
        (MAP2SEQ, "9", "map2seq", 22.0),
        (RELEASE, "9", "map2seq", 22.0),
    ],
)
def test_routes_of_each_layout(row: dict, name: str, kind: str, heading: float, tmp_path) -> None:
    for text in (json.dumps(row) + "\n", json.dumps([row])):
        path = tmp_path / "dev.json"
        path.write_text(text)
        (route,) = read_routes(path)
        assert (route.route_id, route.kind, route.start_heading) == (name, kind, heading)
        assert (route.panoramas, route.text) == (("a", "b"), "Go.")


@pytest.mark.parametrize(
    ("case", "text", "message"),
    [
        ("cut short", json.dumps(TOUCHDOWN)[:30], "line 1 is not JSON"),
        ("second line damaged", json.dumps(TOUCHDOWN) + "\n{", "line 2 is not JSON"),
        ("no object", "3\n", "line 1: not a JSON object"),
        ("empty", "", "holds no routes"),
        ("an empty list", "[]", "holds no routes"),
        ("a list cut short", "[{}", "is not JSON"),
        ("no path", json.dumps({**TOUCHDOWN, "route_panoids": []}), "no list of panorama ids"),
        (
            "a path of numbers",
            json.dumps({**TOUCHDOWN, "route_panoids": [1]}),
            "no list of panorama",
        ),
        ("no text", json.dumps({**TOUCHDOWN, "navigation_text": None}), "no instruction text"),
        ("no id", json.dumps({**TOUCHDOWN, "route_id": None}), "no id; expected route_id"),
        (
            "no heading",
            json.dumps({**TOUCHDOWN, "start_heading": "N"}),
            "start_heading is no number",
        ),
        (
            "infinite",
            json.dumps({**TOUCHDOWN, "start_heading": 1e400}),
            "Infinity is no JSON number",
        ),
        ("twice", f"{json.dumps(TOUCHDOWN)}\n{json.dumps(TOUCHDOWN)}", "line 2: route 7 is there"),
        ("deep", "[" * 100_000, "is not JSON"),
    ],
)
def test_damaged_routes_get_one_line(case: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_routes(path)
    assert "\n" not in str(caught.value)


def test_two_instructions_for_one_route_are_two_routes(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    other = {**TOUCHDOWN, "navigation_text": "Walk."}
    path.write_text(f"{json.dumps(TOUCHDOWN)}\n{json.dumps(other)}\n")
    assert [(r.route_id, r.text) for r in read_routes(path)] == [("7", "Go."), ("7-2", "Walk.")]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    files = read_street_files(write(tmp_path, links="a,10,b\nb,190,a\n"))
    source = tmp_path / "dev.json"
    source.write_text("\n".join(json.dumps(row) for row in (TOUCHDOWN, MAP2SEQ)))
    routes = read_routes(source)
    write_street_files(tmp_path / "new", files, {"dev": routes})
    again = read_street_files(tmp_path / "new")
    assert again.ids == files.ids
    assert again.heading.tolist() == files.heading.tolist()
    assert np.allclose(again.latitude, files.latitude, atol=1e-7)
    assert read_routes(tmp_path / "new" / "data" / "dev.json") == routes


def test_landmark_words_and_sights(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"instances": {"7": {"unfiltered": ["a red awning"]}}}))
    assert read_route_landmarks(path) == {"7": ("a red awning",)}
    sight = {"panorama": "a", "sights": [{"word": "tree", "bearing": 370}]}
    path.write_text(json.dumps(sight))
    assert read_sight_words(path) == {"a": (("tree", 10.0, 10.0),)}
    for text, read in (
        ('{"instances": [1]}', read_route_landmarks),
        ("{", read_route_landmarks),
        ('{"panorama": "a", "sights": [{"word": "x", "bearing": NaN}]}', read_sight_words),
        ('{"panorama": 3, "sights": []}', read_sight_words),
        (f"{json.dumps(sight)}\n{json.dumps(sight)}", read_sight_words),
    ):
        path.write_text(text)
        with pytest.raises(InputError):
            read(path)
