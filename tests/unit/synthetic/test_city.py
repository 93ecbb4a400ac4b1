"""The generated city, its tasks, and the controlled experiment."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from vision_mem.errors import InputError
from vision_mem.evaluation.vln.city_experiment import (
    AGENTS,
    CityExperiment,
    bootstrap_interval,
    run_city_experiment,
)
from vision_mem.formats.touchdown import read_routes
from vision_mem.synthetic.city import CityConfig, CityWorld, DetectorConfig, make_city
from vision_mem.synthetic.city_routes import make_goals, make_routes, write_city
from vision_mem.vln.action_spaces import follow_path, make_navigator
from vision_mem.vln.exploration import explore
from vision_mem.vln.graph import StreetGraph, along, turn_between
from vision_mem.vln.instructions import read_instruction
from vision_mem.vln.observations import word_vector


@pytest.fixture(scope="module")
def city():
    return make_city(0)


@pytest.mark.parametrize("seed", range(4))
def test_streets_are_whole(seed: int) -> None:
    city = make_city(seed)
    graph = city.graph
    assert 500 < len(graph) < 600  # the specification's prototype had 554
    assert 220 < len(city.landmarks) < 280  # and 247
    degree = np.array([len(exits) for exits in graph.exits])
    assert set(degree) == {2, 3, 4}
    assert (degree[len(city.junctions) :] == 2).all()
    assert connected_components(graph._matrix, directed=True, connection="strong")[0] == 1
    # 112 streets of the grid, 15 % taken out.
    assert degree[: len(city.junctions)].sum() == 2 * (112 - 17)
    assert 8 < graph.link_metres.mean() < 12
    names = [mark.name for mark in city.landmarks]
    assert len(set(names)) < len(names)  # names repeat, but not side by side
    for mark in city.landmarks:
        assert [m.name for m in city.near(mark.position, 39.0)].count(mark.name) == 1


def test_one_seed_one_city(city) -> None:
    again = make_city(0)
    assert again.graph.ids == city.graph.ids
    assert np.array_equal(again.graph.position, city.graph.position)
    assert [m.name for m in again.landmarks] == [m.name for m in city.landmarks]
    other = make_city(1)
    assert [m.name for m in other.landmarks] != [m.name for m in city.landmarks]


def test_routes_are_true_to_their_words(city) -> None:
    graph = city.graph
    routes = make_routes(city, 40, 0)
    assert len({route.route_id for route in routes}) == 40
    for route in routes:
        path = graph.path_of(route)
        assert 5 <= len(path) == len(set(path)) <= 45
        steps = read_instruction(route.text)
        assert [step.landmark for step in steps if step.landmark] and steps[-1].action == "stop"
        assert 3 <= len(steps) <= 5
        turns = []
        for before, at, after in zip(path, path[1:], path[2:], strict=False):
            one, other = graph.heading_between(before, at), graph.heading_between(at, after)
            assert one is not None
            assert other is not None
            turn = turn_between(one, other)
            if len(graph.exits[at]) > 2 and abs(turn) > 45:
                turns.append((at, "right" if turn > 0 else "left"))
        assert [side for _, side in turns] == [step.action for step in steps[:-1]]
        for (at, _), step in zip(turns, steps, strict=False):
            assert step.landmark in [m.name for m in city.near(graph.position[at], 14.0)]
        heading = graph.heading_between(path[-2], path[-1])
        marks = city.near(graph.position[path[-1]], 13.0)
        offsets = [
            m.position - graph.position[path[-1]] for m in marks if m.name == steps[-1].landmark
        ]
        assert min(abs(along(heading, offset)) for offset in offsets) <= 5.0


def test_goals_are_unique_and_their_paths_shortest(city) -> None:
    names = [mark.name for mark in city.landmarks]
    for route in make_goals(city, 20, 0):
        (step,) = read_instruction(route.text)
        assert step.action == "find"
        assert names.count(step.landmark) == 1
        path = city.graph.path_of(route)
        assert 10 <= city.graph.distances(path[0], hops=True)[path[-1]] <= len(path) - 1 <= 45


def test_a_written_city_is_read_back(city, tmp_path) -> None:
    routes = make_routes(city, 5, 1)
    write_city(city, tmp_path, {"dev": routes})
    graph = StreetGraph.read(tmp_path)
    assert graph.ids == city.graph.ids
    assert graph.exits == city.graph.exits
    assert np.array_equal(graph.position, city.graph.position)
    assert read_routes(tmp_path / "data" / "dev.json") == routes


@pytest.mark.parametrize("navigator", ["touchdown", "velma"])
def test_a_perfect_follower_reaches_each_goal(city, navigator: str) -> None:
    for route in make_routes(city, 40, 2) + make_goals(city, 20, 2):
        path = city.graph.path_of(route)
        moving = make_navigator(navigator, city.graph)
        moving.begin(path[0], route.start_heading)
        assert follow_path(moving, path) == path


def test_sights_are_as_noisy_as_told(city) -> None:
    detector = DetectorConfig(field=360.0)
    world = CityWorld(city, (3,), detector)
    cosines, offsets, seen, possible = [], [], 0, 0
    for place in range(len(city.graph)):
        near = city.near(city.graph.position[place], detector.reach_m)
        possible += 4 * len(near)
        for visit in range(4):
            for sight in world.sights(place, visit, 0.0):
                seen += 1
                best = min(near, key=lambda m: np.hypot(*(m.position - sight.position)))
                if len(near) == 1:
                    cosines.append(float(word_vector(best.name) @ sight.vector))
                    offsets.append(sight.position - best.position)
    assert seen / possible == pytest.approx(0.65, abs=0.02)
    assert np.mean(cosines) == pytest.approx(0.74, abs=0.01)
    assert np.std(offsets) == pytest.approx(1.5, abs=0.1)


def test_a_visit_sees_anew_and_standing_still_the_same(city) -> None:
    world = CityWorld(city, (3,))
    place = max(city.junctions, key=lambda j: len(city.near(city.graph.position[j], 15.0)))
    first = [world.sights(place, 0, 90.0), world.sights(place, 0, 90.0)]
    assert [s.vector.tolist() for s in first[0]] == [s.vector.tolist() for s in first[1]]
    looks = [world.sights(place, visit, 90.0) for visit in range(6)]
    assert len({repr([s.vector.tolist() for s in look]) for look in looks}) > 1
    for look in looks:  # only what is ahead or to the side
        for sight in look:
            offset = sight.position - city.graph.position[place]
            assert along(90.0, offset) > -15 * np.cos(np.radians(60)) - 4.5
    other = world.again(4)
    assert other.seed == (4,)
    assert world.seed == (3,)


def test_a_tour_remembers_what_it_walked_and_nothing_else(city) -> None:
    world = CityWorld(city, (1,))
    assert explore(city.graph, world, 0, 0).places == 0
    part = explore(city.graph, world, 200, 0)
    whole = explore(city.graph, world, 3000, 0)
    assert 100 < part.places < 201
    assert part.ways <= 199
    assert whole.places == len(city.graph)
    assert whole.ways == city.graph.links
    graph = city.graph
    for place in part.session.state.topology.places:
        true = int(np.argmin(np.hypot(*(graph.position - part.place_position(place)).T)))
        for heading, end in part.ways_from(place):
            reached = next(e for h, e in graph.exits[true] if h == heading)
            assert np.allclose(graph.position[reached], part.place_position(end))
    pharmacy = city.landmarks[0]
    (hit,) = whole.find(word_vector(pharmacy.name), pharmacy.position, 5.0, 1)
    assert hit.score > 0.9
    assert np.hypot(*(hit.position - pharmacy.position)) < 1.5


def test_a_city_changes(city) -> None:
    later = city.changed(np.random.default_rng(0), 0.1)
    gone = len(city.landmarks) - len(later.landmarks)
    before = {tuple(m.position): m.name for m in city.landmarks}
    painted = [m for m in later.landmarks if before[tuple(m.position)] != m.name]
    assert gone == len(painted) == 12
    assert all(before[tuple(m.position)].split()[1] == m.name.split()[1] for m in painted)


def test_the_experiment_in_small() -> None:
    """One city, a few tasks: the memory is ahead, and the controls are not."""
    asked = CityExperiment(cities=1, episodes=12, seeds=1, tour=1500, resamples=500)
    said: list[str] = []
    table = run_city_experiment(asked, say=said.append)
    assert len(said) == 1
    assert len(table.rows) == 2 * len(AGENTS)
    for task in ("routes", "goals"):
        short, long = table.row(task, "short only"), table.row(task, "long")
        assert long.values["TC"] >= short.values["TC"] + 20
        assert long.ahead == pytest.approx(long.values["TC"] - short.values["TC"])
        assert long.ahead_interval[0] <= long.ahead <= long.ahead_interval[1]
        for agent in ("control: another city", "control: shuffled positions"):
            # A dozen tasks: one more or less is 8 points.
            assert table.row(task, agent).values["TC"] <= short.values["TC"] + 17
    text = "\n".join(table.lines())
    assert "routes: 12 tasks, measures: outdoor (hops)" in text
    assert text.count("control: another city") == 4


def test_the_experiment_follows_from_its_numbers() -> None:
    asked = CityExperiment(cities=1, episodes=1, seeds=1, tour=100, resamples=50)
    one, other = (run_city_experiment(asked) for _ in range(2))
    assert [row.as_dict() for row in one.rows] == [row.as_dict() for row in other.rows]


def test_an_empty_memory_is_worth_nothing() -> None:
    """Without a tour the agents with a long memory do exactly what the one without does."""
    asked = CityExperiment(cities=1, episodes=4, seeds=1, tour=0, resamples=50)
    table = run_city_experiment(asked)
    for task in ("routes", "goals"):
        short = table.row(task, "short only").values
        assert all(table.row(task, name).values == short for name, views, *_ in AGENTS if views > 1)


def test_the_interval_is_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(10.0, 4.0, 400)
    low, high = bootstrap_interval(values, np.repeat([0, 1], 200), 2000)
    # 1.96 standard errors to each side.
    assert high - low == pytest.approx(2 * 1.96 * 4 / 20, rel=0.15)
    assert low < values.mean() < high


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CityConfig(blocks=2), "blocks is 2; expected 3 to 60"),
        (lambda: CityConfig(removed=0.9), "removed is 0.9"),
        (lambda: CityConfig(spacing_m=0), "four times spacing_m"),
        (lambda: CityConfig(jitter_m=40), "jitter_m is 40"),
        (lambda: DetectorConfig(cosine=0), "expected missed in"),
        (lambda: CityExperiment(episodes=0), "episodes is too small"),
        (
            lambda: explore(make_city(0).graph, CityWorld(make_city(0), (0,)), -1, 0),
            "a tour of -1 steps",
        ),
        (
            lambda: make_routes(make_city(0, CityConfig(blocks=3)), 1, 0, turns=(9, 9), longest=3),
            "only 0 of",
        ),
        (lambda: run_city_experiment(should_stop=lambda: True), "stopped before the first city"),
    ],
)
def test_wrong_settings(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
