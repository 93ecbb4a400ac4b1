"""The graph, and how agents move on it."""

from __future__ import annotations

import numpy as np
import pytest
from street_samples import cross, graph_of, walk

from vision_mem.errors import InputError
from vision_mem.formats.graphs import to_degrees, to_metres
from vision_mem.formats.touchdown import StreetRoute
from vision_mem.vln.action_spaces import follow_path, make_navigator
from vision_mem.vln.graph import (
    StreetGraph,
    nearest_heading,
    turn_between,
)


@pytest.mark.parametrize(
    ("heading", "other", "turn"),
    [(0, 90, 90), (90, 0, -90), (350, 10, 20), (10, 350, -20), (0, 180, 180), (180, 0, 180)],
)
def test_turns(heading: float, other: float, turn: float) -> None:
    assert turn_between(heading, other) == turn


def test_the_first_heading_wins_a_tie() -> None:
    assert nearest_heading(90, [0, 180]) == 0
    assert nearest_heading(90, [180, 0]) == 180
    assert nearest_heading(359, [20, 340, 1]) == 1


def test_metres_and_degrees() -> None:
    at = np.array([[0.0, 0.0], [1000.0, -2000.0], [-1000.0, 2000.0]])
    back = to_metres(*to_degrees(at, (40.73, -73.99)), (40.73, -73.99))
    assert np.abs(back - at).max() < 0.01


def test_distances_by_hand() -> None:
    graph = cross()
    hops = graph.distances(graph.number("e2"), hops=True)
    assert {name: hops[graph.number(name)] for name in ("e2", "e1", "x", "w2", "n1")} == {
        "e2": 0, "e1": 1, "x": 2, "w2": 4, "n1": 3,
    }  # fmt: skip
    metres = graph.distances(graph.number("e2"))
    assert metres[graph.number("w2")] == pytest.approx(40.0, abs=0.01)
    table, cut = graph.distance_table(walk(graph, "e2 e2 x"), walk(graph, "w2 n1"), hops=True)
    assert table.tolist() == [[4, 3], [4, 3], [2, 1]]
    assert not cut
    assert graph.diameter(hops=True) == 4
    assert graph.shortest_path(*walk(graph, "e2 n1")) == walk(graph, "e2 e1 x n1")
    assert graph.neighbours(graph.number("e1")) == set(walk(graph, "x e2"))


def test_where_no_way_leads_the_diameter_stands_in() -> None:
    graph = graph_of(
        {"a": (0, 0), "b": (10, 0), "c": (500, 0), "d": (510, 0)}, [("a", "b"), ("c", "d")]
    )
    table, cut = graph.distance_table(walk(graph, "a"), walk(graph, "b c"), hops=True)
    assert cut
    assert table.tolist() == [[1, 1]]
    with pytest.raises(InputError, match="no way leads from a to d"):
        graph.shortest_path(*walk(graph, "a d"))


def test_of_two_links_between_two_places_one_counts() -> None:
    graph = graph_of({"a": (0, 0), "b": (10, 0)}, [("a", "b"), ("b", "a")], one_way=True)
    files = graph.files
    doubled = type(files)(
        files.ids, files.yaw, files.latitude, files.longitude,
        np.array([0, 0, 1]), np.array([80.0, 100.0, 270.0]), np.array([1, 1, 0]),
    )  # fmt: skip
    assert type(graph)(doubled).distances(0)[1] == pytest.approx(10.0, abs=0.01)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("e1", "zz"), "route 1: panorama 'zz' is not in the street graph of 9 places"),
        (("e1", "w1"), "route 1: no link leads from e1 to w1"),
    ],
)
def test_routes_that_do_not_fit(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cross().path_of(StreetRoute("1", "", names, 0.0))


@pytest.mark.parametrize(
    ("navigator", "start", "heading", "actions", "expected"),
    [
        ("touchdown", "w1", 0, "", "w1 90"),  # turned to a link, the first one on a tie
        ("touchdown", "w1", 90, "forward", "x 90"),
        ("touchdown", "w1", 90, "forward left", "x 0"),
        ("touchdown", "w1", 90, "forward right", "x 180"),
        ("touchdown", "w1", 90, "forward left left", "x 270"),
        ("touchdown", "w1", 90, "left", "w1 270"),  # on a street, too
        ("touchdown", "w1", 90, "forward forward forward", "e1 90"),  # the end is refused
        ("touchdown", "w1", 270, "forward", "w1 270"),
        ("touchdown", "w1", 90, "stop", "w1 90"),
        ("velma", "w1", 90, "forward left", "x 0"),
        ("velma", "w1", 90, "forward right", "x 180"),
        ("velma", "w1", 90, "left", "x 90"),  # on a street left means on
        ("velma", "w1", 90, "turn_around", "w1 270"),
        ("velma", "w1", 90, "turn_around forward", "w2 270"),  # ends can be reached
        ("velma", "w1", 90, "turn_around forward forward", "w2 270"),  # and there it stops
        ("velma", "w1", 90, "forward forward", "e1 90"),
        ("velma", "w1", 90, "forward left forward", "n1 0"),
        ("velma", "w1", 80, "forward", "x 90"),
    ],
)
def test_navigators_by_hand(
    navigator: str, start: str, heading: float, actions: str, expected: str
) -> None:
    graph = cross()
    moving = make_navigator(navigator, graph)
    moving.begin(graph.number(start), heading)
    for action in actions.split():
        moving.step(action)
    assert f"{graph.ids[moving.state.place]} {moving.state.heading:g}" == expected


def three_ways() -> StreetGraph:
    """At ``j`` one comes from the south; ways lead to north-west, and east."""
    return graph_of(
        {"s": (0, -20), "p": (0, -10), "j": (0, 0), "l": (-6, 8), "r": (10, 0), "r2": (20, 0)},
        [("s", "p"), ("p", "j"), ("j", "l"), ("j", "r"), ("r", "r2")],
    )


def test_left_and_right_at_three_ways_are_first_and_last() -> None:
    graph = three_ways()
    for action, heading in (("left", 323), ("right", 90)):
        moving = make_navigator("velma", graph)
        moving.begin(graph.number("p"), 0)
        moving.step("forward")
        moving.step(action)
        assert moving.state.heading == heading
    moving.begin(graph.number("p"), 0)
    moving.step("forward")
    assert moving.step("forward").place == graph.number("l")  # nearer to ahead


@pytest.mark.parametrize("navigator", ["touchdown", "velma"])
@pytest.mark.parametrize(
    "path", ["w1 x e1", "w1 x n1", "w1 x s1", "w1 x w1", "w1", "e1 x n1 x w1", "n1 x s1"]
)
def test_the_true_path_is_followed(navigator: str, path: str) -> None:
    graph = cross()
    moving = make_navigator(navigator, graph)
    moving.begin(walk(graph, path)[0], 90)
    assert follow_path(moving, walk(graph, path)) == walk(graph, path)
    assert moving.taken[-1] == "stop"


def test_a_path_to_a_dead_end_is_given_up() -> None:
    graph = cross()
    moving = make_navigator("touchdown", graph)
    moving.begin(graph.number("x"), 90)
    assert follow_path(moving, walk(graph, "x e1 e2"), limit=50) == walk(graph, "x e1")
    assert len(moving.taken) == 50


@pytest.mark.parametrize("navigator", ["touchdown", "velma"])
def test_wrong_actions_and_names(navigator: str) -> None:
    moving = make_navigator(navigator, cross())
    with pytest.raises(InputError, match="no action 'fly'; there are forward, left"):
        moving.step("fly")
    with pytest.raises(InputError, match=r"no navigator 'velmo'.*did you mean 'velma'"):
        make_navigator("velmo", cross())
    with pytest.raises(InputError, match="no link leads from x to e2"):
        moving.toward(moving.graph.number("e2"))
