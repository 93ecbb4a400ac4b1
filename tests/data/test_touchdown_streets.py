"""The street graph of Manhattan and a hundred public routes of Touchdown."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vision_mem.evaluation.vln.job import StreetRequest, evaluate_street
from vision_mem.evaluation.vln.metrics import MeasureFamily, average
from vision_mem.formats.touchdown import read_routes
from vision_mem.vln.action_spaces import follow_path, make_navigator
from vision_mem.vln.graph import StreetGraph, bearing_of, nearest_heading, turn_between

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def folder(data):
    found = data / "maps" / "touchdown"
    if not (found / "nodes.txt").is_file():
        pytest.skip(f"Touchdown's street graph not found in {found}")
    return found


@pytest.fixture(scope="module")
def graph(folder) -> StreetGraph:
    return StreetGraph.read(folder)


@pytest.fixture(scope="module")
def routes(folder):
    return read_routes(folder / "routes_sample.jsonl")


def test_the_graph_loads_in_two_seconds(folder) -> None:
    begun = time.perf_counter()
    graph = StreetGraph.read(folder)
    seconds = time.perf_counter() - begun
    print(f"loaded in {seconds:.2f} s")
    assert seconds < 2.0
    assert (len(graph), graph.links) == (29_641, 61_319)


def test_the_graph_is_as_measured(graph) -> None:
    """Mem4nav specification, section 2.1."""
    size = np.ptp(graph.position, axis=0)
    assert size == pytest.approx([2390, 6420], rel=0.01)
    metres = graph.link_metres
    assert metres.mean() == pytest.approx(9.47, abs=0.01)
    assert np.median(metres) == pytest.approx(9.98, abs=0.01)
    degree = np.bincount([len(exits) for exits in graph.exits], minlength=6)
    assert degree.tolist() == [0, 214, 28_056, 496, 870, 5]
    off = [
        abs(turn_between(heading, bearing_of(graph.position[end] - graph.position[place])))
        for place in range(0, len(graph), 7)
        for heading, end in graph.exits[place]
    ]
    assert np.median(off) == pytest.approx(1.3, abs=0.2)


def test_distances_from_a_place_take_ten_milliseconds(graph) -> None:
    graph.distances(0)  # makes the matrix
    for hops in (False, True):
        taken = []
        for place in range(0, 2000, 100):
            begun = time.perf_counter()
            found = graph.distances(place, hops=hops)
            taken.append(time.perf_counter() - begun)
        print(f"{'hops' if hops else 'metres'}: median {1e3 * np.median(taken):.1f} ms")
        assert np.median(taken) < 0.010
        assert np.isfinite(found).mean() > 0.9


@pytest.mark.parametrize("navigator", ["touchdown", "velma"])
def test_gold_reproduces_the_public_routes(graph, routes, navigator) -> None:
    """Touchdown: 99.9 % of 800 routes in the specification, 36.9 actions on average."""
    assert len(routes) == 100
    same, actions = 0, []
    moving = make_navigator(navigator, graph)
    for route in routes:
        path = graph.path_of(route)
        headings = [heading for heading, _ in graph.exits[path[0]]]
        moving.begin(path[0], nearest_heading(route.start_heading, headings))
        same += follow_path(moving, path) == path
        actions.append(len(moving.taken))
    assert same >= 99
    assert 33 < np.mean(actions) < 40


def test_gold_scores_a_hundred(folder, tmp_path) -> None:
    request = StreetRequest(
        "touchdown", folder, "routes_sample", "gold", families=("outdoor", "paper", "ilharco")
    )
    report = evaluate_street(request, tmp_path)
    values = dict(report.scores["outdoor"].values)
    assert values.pop("SPD") == 0
    assert set(values.values()) == {1.0}
    for family in ("paper", "ilharco"):
        assert report.scores[family].values["TC"] == 1.0
        assert report.scores[family].values["nDTW"] == 1.0


def test_text_and_graph_alone_beat_walking_on(folder, tmp_path) -> None:
    found = {}
    for agent in ("rules", "forward", "random"):
        request = StreetRequest("touchdown", folder, "routes_sample", agent)
        found[agent] = evaluate_street(request, tmp_path / agent).scores["outdoor"].values
        print(agent, {k: round(v, 3) for k, v in found[agent].items()})
    assert found["rules"]["nDTW"] > found["forward"]["nDTW"] > found["random"]["nDTW"]
    assert found["rules"]["KPA"] > found["forward"]["KPA"]


def test_other_routes_score_nothing(graph, routes) -> None:
    paths = [graph.path_of(route) for route in routes[:10]]
    family = MeasureFamily("outdoor")
    shifted = zip(paths, paths[1:] + paths[:1], strict=True)
    score = average([family.score(graph, walk, reference) for walk, reference in shifted])
    assert score.values["TC"] == 0
    assert score.values["SPD"] > 20
