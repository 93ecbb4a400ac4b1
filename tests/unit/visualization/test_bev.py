"""A map from above, by its pixels; and the files that other programs read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.formats.graphs import Origin, Shape, write_geojson, write_graphml
from vision_mem.navigation.export import Above, direction_words
from vision_mem.sources.images import read_image
from vision_mem.visualization.bev import (
    GONE,
    OBSTACLE,
    PATH,
    PLACE,
    SEEN,
    TALL,
    THING,
    UNSEEN,
    Thing,
    TopDown,
    draw_topdown,
    write_topdown,
)


def scene(**more) -> TopDown:
    """Four by two cells of a metre; the lower left one is an obstacle, the upper right unknown."""
    obstacle, seen = np.zeros((4, 2), bool), np.ones((4, 2), bool)
    obstacle[0, 0], seen[3, 1] = True, False
    return TopDown(**{"low": (10.0, -5.0), "size": 1.0, "obstacle": obstacle, "seen": seen, **more})


def pixel(picture, x: float, y: float):
    """Of metres: 400 pixels are four metres, from the margin of 24 on."""
    return tuple(picture[picture.shape[0] - 24 - round((y + 5) * 100), 24 + round((x - 10) * 100)])


def test_cells_lie_where_they_belong() -> None:
    picture = draw_topdown(scene(), 400)
    assert picture.shape == (200 + 48 + 20, 400 + 48, 3) and picture.dtype == np.uint8
    wanted = {(10.5, -4.5): TALL, (10.5, -3.5): SEEN, (13.5, -3.5): UNSEEN, (13.5, -4.5): SEEN}
    for spot, colour in wanted.items():
        assert pixel(picture, *spot) == colour
    # A cell is a whole metre of one colour, to the edge.
    assert pixel(picture, 10.98, -4.02) == TALL and pixel(picture, 11.02, -4.02) == SEEN


def test_path_places_and_things_are_drawn_on_top() -> None:
    shown = scene(
        path=[(10.5, -4.5), (12.5, -4.5)], places=[(12.5, -3.5)],
        things=[Thing("cup", (11.5, -3.5)), Thing("", (13.5, -4.5), gone=True)],
    )  # fmt: skip
    picture = draw_topdown(shown, 400)
    assert pixel(picture, 11.5, -4.5) == PATH and pixel(picture, 12.5, -3.5) == PLACE
    assert pixel(picture, 11.5, -3.5) == THING and pixel(picture, 13.5, -4.5) == GONE
    without = draw_topdown(scene(things=[Thing("", (11.5, -3.5))]), 400)
    named = draw_topdown(scene(things=[Thing("cup", (11.5, -3.5))]), 400)
    changed = np.argwhere((without != named).any(axis=-1))
    assert len(changed) and (changed[:, 1] > 24 + 150).all()  # to the right of it


def test_names_are_not_written_over_each_other() -> None:
    spots = {"kettle": (11.5, -3.5), "cup": (11.7, -3.5), "table": (11.5, -3.42), "a": (11.6, -3.6)}
    bare = [Thing("", spot) for spot in spots.values()]
    before, covered = draw_topdown(scene(things=bare), 400), np.zeros((268, 448), bool)
    for number, (name, spot) in enumerate(spots.items()):
        shown = [Thing(n, s) for n, s in list(spots.items())[: number + 1]]
        after = draw_topdown(scene(things=[*shown, *bare[number + 1 :]]), 400)
        changed = (before != after).any(axis=-1)
        assert changed.any(), name
        assert not (changed & covered).any(), name
        covered |= changed
        before = after
        for other in spots.values():
            assert pixel(after, *other) == THING  # nor over things
        assert spot in spots.values()


def test_furniture_is_told_from_walls_and_steps_are_listed() -> None:
    tall = np.zeros((4, 2), bool)
    assert pixel(draw_topdown(scene(tall=tall), 400), 10.5, -4.4) == OBSTACLE
    path = [(10.5, -3.5), (12.5, -3.5), (12.5, -4.5)]
    steps = [(path[0], "go 2.0 m"), (path[1], "turn right and go 1.0 m")]
    plain, listed = (draw_topdown(scene(path=path, steps=s), 400) for s in ((), steps))
    assert len(listed) > len(plain) and listed.shape[1] == plain.shape[1]
    assert (listed[len(plain) :] < 100).any()  # words are there
    assert (listed[: len(plain)] != plain).any()


def test_no_name_is_left_out_or_written_over_another() -> None:
    things = [Thing(f"thing {k}", (12.0 + 0.02 * k, -4.0)) for k in range(8)]
    before = draw_topdown(scene(things=[Thing("", each.position) for each in things]), 400)
    with_names = draw_topdown(scene(things=things), 400)
    one = draw_topdown(scene(things=things[:1]), 400)
    alone = (one != draw_topdown(scene(things=[Thing("", things[0].position)]), 400)).any(axis=2)
    changed = (with_names != before).any(axis=2)
    assert changed.sum() > 7 * alone.sum()  # eight names, none on top of another


@pytest.mark.parametrize(
    "shown",
    [
        TopDown(),
        TopDown(things=[Thing("one", (3.0, 4.0))]),
        TopDown(things=[Thing("far", (float("nan"), 0.0), float("inf"))]),
        TopDown(places=[(0, 0), (0, 0)], path=[(1e7, 1e7)]),
        scene(things=[Thing("Tür ☃\n" * 30, (13.9, -3.1), 50.0)], title="x" * 500),
    ],
)
def test_odd_scenes_are_drawn(shown, tmp_path) -> None:
    write_topdown(tmp_path / "deep" / "map.png", shown, 100)
    assert read_image(tmp_path / "deep" / "map.png").ndim == 3


def test_slips_are_told(tmp_path) -> None:
    with pytest.raises(InputError, match=r"\.png"):
        write_topdown(tmp_path / "map.jpg", scene())
    with pytest.raises(InputError, match="64 to 8192"):
        draw_topdown(scene(), 10)
    with pytest.raises(InputError, match="other shapes"):
        draw_topdown(TopDown(seen=np.ones((2, 2), bool)))


@pytest.mark.parametrize(
    ("up", "right", "ahead"),
    [("+z", (1, 0, 0), (0, 1, 0)), ("-y", (1, 0, 0), (0, 0, 1)), ("+y", (1, 0, 0), (0, 0, -1)),
     ("-z", (1, 0, 0), (0, -1, 0)), ("+x", (0, 1, 0), (0, 0, 1)), ("-x", (0, 1, 0), (0, 0, -1))],
)  # fmt: skip
def test_nothing_is_mirrored(up, right, ahead) -> None:
    above = Above.of(up)
    np.testing.assert_array_equal(above.flat([right, ahead]), [[1, 0], [0, 1]])
    axis = np.eye(3)["xyz".index(up[1])] * (1 if up[0] == "+" else -1)
    np.testing.assert_array_equal(np.cross(right, ahead), axis)
    np.testing.assert_array_equal(above.surveyed([axis])[0], [0, 0, 1])


@pytest.mark.parametrize(
    ("position", "said"),
    [((0, 0, 2), "2.0 m away, ahead"), ((1, 0, 1), "1.4 m away, ahead on the right"),
     ((-1, 0, 0), "1.0 m away, to the left"), ((-1, 0, -1), "1.4 m away, behind on the left"),
     ((0, 0, -3), "3.0 m away, behind"), ((0, 2, 0.1), "2.0 m away, below"),
     ((0, 0, 0), "right here")],
)  # fmt: skip
def test_directions_are_those_of_who_stands_there(position, said) -> None:
    assert direction_words(np.eye(4), position) == said


def test_geojson_in_metres_and_in_degrees(tmp_path) -> None:
    path = tmp_path / "m.geojson"
    shapes = [Shape([[0, 0, 1]], {"name": "Tür"}), Shape([[0, 0, 0], [100, 0, 0]], {})]
    write_geojson(path, shapes)
    value = json.loads(path.read_text(encoding="utf-8"))
    assert value["coordinates_are"] and value["features"][0]["properties"]["name"] == "Tür"
    assert value["features"][0]["geometry"] == {"type": "Point", "coordinates": [0, 0, 1]}
    assert value["features"][1]["geometry"]["type"] == "LineString"
    for heading, east, north in ((0, 100, 0), (90, 0, -100)):
        write_geojson(path, shapes, Origin(60.0, 10.0, heading))
        line = json.loads(path.read_text())["features"][1]["geometry"]["coordinates"]
        metres = np.subtract(line[1], line[0])[:2] * 111_195 * np.array([0.5, 1.0])
        np.testing.assert_allclose(metres, (east, north), atol=0.1)
    for wrong in ((91, 0), (0, 181), (float("nan"), 0), (0, 0, float("inf"))):
        with pytest.raises(InputError):
            Origin(*wrong)


def test_graphml_holds_any_name(tmp_path) -> None:
    import networkx as nx

    path = tmp_path / "m.graphml"
    nodes = [("a", {"name": "<b>&\x00\x1b Tür", "x": 1.5}), ("b", {"gone": True})]
    write_graphml(path, nodes, [("a", "b", {"metres": 2.0, "traversed": 3})])
    graph = nx.read_graphml(path)
    assert graph.nodes["a"]["name"] == "<b>&\ufffd\ufffd Tür" and graph.nodes["b"]["gone"] is True
    assert graph.edges["a", "b"] == {"metres": 2.0, "traversed": 3}
