"""Benchmarks of streets: results that go on where they were cut off, one table a family."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from navigation_scenes import same

from vision_mem.errors import InputError
from vision_mem.evaluation.vln.job import AGENTS, StreetRequest, evaluate_street, find_routes
from vision_mem.formats.street_words import read_panorama_features, read_sight_words
from vision_mem.formats.touchdown import read_routes
from vision_mem.synthetic.city import CityConfig, make_city
from vision_mem.synthetic.city_routes import make_routes, write_city
from vision_mem.vln.action_spaces import make_navigator
from vision_mem.vln.baselines import ReplayAgent
from vision_mem.vln.environment import FeatureWorld, StreetTask, run_episode
from vision_mem.vln.graph import StreetGraph
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.observations import word_vector
from vision_mem.vln.rule_agent import FollowerConfig, RuleFollower


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    city = make_city(5, CityConfig(blocks=5))
    routes = make_routes(city, 8, 0, turns=(1, 2), longest=30)
    write_city(city, root, {"dev": routes, "test": routes[:2]})
    rows = [
        {"id": 1, "instructions_id": 100 + n, "route_panoids": list(r.panoramas),
         "navigation_text": r.text, "start_heading": r.start_heading}
        for n, r in enumerate(routes)
    ]  # fmt: skip
    (root / "map2seq.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sights = []
    for place, name in enumerate(city.graph.ids):
        near = [
            {"word": m.name, "bearing": bearing(m.position - city.graph.position[place]),
             "range": float(((m.position - city.graph.position[place]) ** 2).sum() ** 0.5)}
            for m in city.near(city.graph.position[place], 15.0)
        ]  # fmt: skip
        sights.append(json.dumps({"panorama": name, "sights": near}))
    (root / "sights.jsonl").write_text("\n".join(sights))
    return root


def bearing(offset) -> float:
    from vision_mem.vln.graph import bearing_of

    return bearing_of(offset)


@pytest.mark.parametrize("navigator", ["touchdown", "velma"])
@pytest.mark.parametrize(("dataset", "split"), [("touchdown", "dev"), ("map2seq", "map2seq")])
def test_gold_is_perfect(streets: Path, tmp_path, navigator: str, dataset: str, split: str) -> None:
    request = StreetRequest(
        dataset, streets, split, "gold", navigator=navigator, families=("outdoor", "paper")
    )
    report = evaluate_street(request, tmp_path / "out")
    assert (report.done, report.left) == (8, 0)
    assert report.scores["outdoor"].values["SPD"] == 0
    rates = {k: v for k, v in report.scores["outdoor"].values.items() if k != "SPD"}
    assert set(rates.values()) == {1.0}
    text = (tmp_path / "out" / "scores-outdoor.txt").read_text()
    assert "outdoor (hops; TC within one link)" in text
    assert "SPL" not in text  # each family has its own table
    assert "SPL" in (tmp_path / "out" / "scores-paper.txt").read_text()
    value = json.loads((tmp_path / "out" / "scores-outdoor.json").read_text())
    assert value["scores"]["TC"] == 100
    assert len(value["walks"]) == 8


def test_a_step_that_is_no_link_is_said_and_a_missing_place_refused(streets, tmp_path) -> None:
    lines = (streets / "data" / "dev.json").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    del rows[0]["route_panoids"][2]
    path = tmp_path / "gap.json"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    report = evaluate_street(StreetRequest("touchdown", streets, str(path), "gold"), tmp_path / "a")
    assert report.lines[0] == "1 route with steps that are no links: route-0, ..."
    assert report.scores["outdoor"].values["TC"] == 7 / 8
    rows[1]["route_panoids"][1] = "nowhere"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(InputError, match="route route-1: panorama 'nowhere' is not in the street"):
        evaluate_street(StreetRequest("touchdown", streets, str(path), "gold"), tmp_path / "b")


def test_of_a_merged_file_the_routes_of_the_benchmark_are_walked(streets, tmp_path) -> None:
    path = tmp_path / "merged.json"
    path.write_text(
        (streets / "map2seq.json").read_text() + (streets / "data/dev.json").read_text()
    )
    for dataset in ("touchdown", "map2seq"):
        request = StreetRequest(dataset, streets, str(path), "gold", routes=3)
        report = evaluate_street(request, tmp_path / dataset)
        assert report.lines[0].startswith("8 routes of another benchmark") and report.done == 3
        assert report.scores["outdoor"].values["TC"] == 1


def test_seeing_agents_beat_blind_ones(streets: Path, tmp_path) -> None:
    found = {}
    for agent in ("rules", "forward", "random"):
        request = StreetRequest("touchdown", streets, agent=agent, sights=streets / "sights.jsonl")
        found[agent] = evaluate_street(request, tmp_path / agent).scores["outdoor"].values["TC"]
    assert found["rules"] >= 0.8
    assert max(found["forward"], found["random"]) <= 0.4


@pytest.mark.parametrize(
    ("memory", "navigator", "dataset", "split"),
    [
        ("none", "touchdown", "touchdown", "dev"),
        ("short", "touchdown", "touchdown", "dev"),
        ("long", "touchdown", "touchdown", "dev"),
        ("long", "velma", "map2seq", "map2seq"),
    ],
)
def test_a_run_goes_on_where_it_was_cut_off(
    streets: Path, tmp_path, memory: str, navigator: str, dataset: str, split: str
) -> None:
    request = StreetRequest(
        dataset, streets, split, memory=memory, navigator=navigator,
        sights=streets / "sights.jsonl", limit=20,
    )  # fmt: skip
    whole = evaluate_street(request, tmp_path / "whole")
    asked = iter([False] * 3)
    part = evaluate_street(request, tmp_path / "cut", should_stop=lambda: next(asked, True))
    assert (part.done, part.left) == (3, 5)
    path = tmp_path / "cut" / "episodes.jsonl"
    path.write_bytes(path.read_bytes()[:-20])  # killed within a line
    steps: list[tuple[int, int]] = []
    rest = evaluate_street(request, tmp_path / "cut", say=lambda *at: steps.append(at))
    assert steps == [(n, 8) for n in range(3, 9)]
    assert rest.scores == whole.scores
    assert path.read_bytes() == (tmp_path / "whole" / "episodes.jsonl").read_bytes()
    more = evaluate_street(request, tmp_path / "cut", say=lambda *at: steps.append(at))
    assert len(steps) == 6  # nothing is walked twice
    assert more.scores == whole.scores


def test_results_of_another_run_are_kept(streets: Path, tmp_path) -> None:
    evaluate_street(StreetRequest("touchdown", streets, agent="forward"), tmp_path)
    other = StreetRequest("touchdown", streets, agent="random", seed=3)
    with pytest.raises(InputError, match=r"another run \(agent, seed differ\); give another"):
        evaluate_street(other, tmp_path)
    (tmp_path / "episodes.jsonl").write_text("something else\n")
    with pytest.raises(InputError, match="another run"):
        evaluate_street(other, tmp_path)
    assert (tmp_path / "episodes.jsonl").read_text() == "something else\n"
    assert evaluate_street(other, tmp_path, overwrite=True).done == 8


def test_a_model_is_a_function(streets: Path, tmp_path) -> None:
    report = evaluate_street(
        StreetRequest("touchdown", streets, "test", "model"),
        tmp_path,
        complete=lambda prompt: "stop" if prompt.count("forward\n") > 3 else "forward",
    )
    assert report.done == 2
    lines = (tmp_path / "episodes.jsonl").read_text().splitlines()
    assert json.loads(lines[1])["actions"][-1] == "stop"
    with pytest.raises(InputError, match="agent 'model' and a function"):
        evaluate_street(StreetRequest("touchdown", streets, agent="model"), tmp_path / "b")


def test_splits_are_found(streets: Path, tmp_path) -> None:
    assert find_routes(streets, "dev") == streets / "data" / "dev.json"
    assert find_routes(streets, "map2seq") == streets / "map2seq.json"
    assert find_routes(streets / "graph", "dev") == streets / "data" / "dev.json"
    assert find_routes(tmp_path, str(streets / "map2seq.json")) == streets / "map2seq.json"
    with pytest.raises(InputError, match=r"no routes 'train' below .*; there are dev, map2seq"):
        find_routes(streets, "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "r2r"}, "no dataset 'r2r'; there are touchdown, map2seq"),
        ({"agent": "golden"}, "no agent 'golden'.*did you mean 'gold'"),
        ({"memory": "all"}, "no memory 'all'"),
        ({"navigator": "vlema"}, "no navigator 'vlema'.*did you mean 'velma'"),
        ({"families": ("outdor",)}, "no family of measures 'outdor'"),
        ({"families": ()}, "no family of measures; expected"),
        ({"limit": 0}, "must be 1 or more"),
        ({"dataset": "map2seq"}, "route route-0 is of touchdown, not of map2seq"),
        ({"sights": Path("absent.jsonl")}, "absent.jsonl cannot be read"),
    ],
)
def test_wrong_requests(changes: dict, message: str, streets: Path, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_street(
            StreetRequest(**{"dataset": "touchdown", "root": streets, **changes}), tmp_path
        )


def test_the_agents_named_are_the_agents_there_are(streets: Path, tmp_path) -> None:
    for agent in AGENTS:
        complete = (lambda prompt: "stop") if agent == "model" else None
        request = StreetRequest("touchdown", streets, agent=agent, routes=1)
        assert evaluate_street(request, tmp_path / agent, complete=complete).done == 1


def test_a_relived_walk_leaves_the_same_memory(streets: Path, tmp_path) -> None:
    """Through features that depend on where one looks, and with walks that ran out of steps."""
    graph = StreetGraph.read(streets)
    route = read_routes(streets / "map2seq.json")[0]
    world = FeatureWorld(graph, read_panorama_features(features_of(streets)))
    for navigator, limit, forced in (("touchdown", 60, False), ("velma", 9, True)):
        memories = [LongMemory(), LongMemory()]
        agent = RuleFollower(FollowerConfig(learn=True), memories[0])
        actions: tuple[str, ...] = ()
        for each in (agent, None):
            doing = each or ReplayAgent(actions, memories[1])
            episode = run_episode(
                doing, make_navigator(navigator, graph), StreetTask("t", route.text),
                (graph.number(route.panoramas[0]), route.start_heading), world,
                limit=limit, first_forward=forced,
            )  # fmt: skip
            assert each or episode.actions == actions
            actions = episode.actions
        same(*(memory.session for memory in memories))
        assert len(memories[0].session.state.landmarks) > 0


def features_of(streets: Path) -> Path:
    """The words of the sights as features of views to the eight winds."""
    path = streets / "features.npz"
    words = read_sight_words(streets / "sights.jsonl")
    features = np.zeros((len(words), 8, 64), np.float32)
    for row, several in enumerate(words.values()):
        for word, towards, _ in several:
            features[row, round(towards / 45.0) % 8] += word_vector(word)
    np.savez(path, ids=np.array(list(words)), features=features, bearings=np.arange(8) * 45.0)
    return path


def test_features_of_panoramas(streets: Path, tmp_path) -> None:
    request = StreetRequest("touchdown", streets, sights=features_of(streets))
    report = evaluate_street(request, tmp_path / "a", encode=word_vector)
    assert report.scores["outdoor"].values["TC"] >= 0.6
    with pytest.raises(InputError, match="a function that encodes words go together"):
        evaluate_street(request, tmp_path / "b")
    # What was remembered in one space is not asked in another, of the same width or not.
    LongMemory(tmp_path / "other.map", encoder="clip").close()
    words = StreetRequest("touchdown", streets, memory="long", map=tmp_path / "other.map")
    with pytest.raises(InputError, match="holds embeddings of 'clip', not of 'names#64'"):
        evaluate_street(words, tmp_path / "c")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((2, 8))}, "holds no features of panoramas; expected"),
        ({"ids": np.array(["a"])}, "holds no features"),
        ({"ids": np.array(["a", "a"])}, "panorama a comes twice"),
        ({"bearings": np.zeros(3)}, "holds no features"),
        ({"bearings": np.array([0.0, np.nan])}, "not finite"),
        ({"ids": np.array([{}, {}], dtype=object)}, "holds no features"),
    ],
)
def test_damaged_features(changes: dict, message: str, tmp_path) -> None:
    good = {"ids": np.array(["a", "b"]), "features": np.ones((2, 2, 4)), "bearings": np.zeros(2)}
    path = tmp_path / "f.npz"
    np.savez(path, **good)
    assert read_panorama_features(path).bearings.shape == (2, 2)
    np.savez(path, **{**good, **changes})
    with pytest.raises(InputError, match=message):
        read_panorama_features(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="holds no features"):
        read_panorama_features(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_panorama_features(tmp_path / "absent.npz")
