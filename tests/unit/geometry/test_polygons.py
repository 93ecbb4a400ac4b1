"""Polygons: inside or on the edge, area, edges that cross."""

from __future__ import annotations

import pytest

from vision_mem.geometry.polygons import crossing_edges, points_covered, polygon_area

SQUARE = [(0, 0), (10, 0), (10, 10), (0, 10)]
NOTCHED = [(0, 0), (10, 0), (10, 10), (5, 5), (0, 10)]


@pytest.mark.parametrize(
    ("corners", "point", "covered"),
    [
        (SQUARE, (5, 5), True),
        (SQUARE, (0, 0), True),
        (SQUARE, (10, 10), True),
        (SQUARE, (10, 4), True),
        (SQUARE, (10.001, 4), False),
        (SQUARE, (5, -0.001), False),
        (NOTCHED, (5, 8), False),
        (NOTCHED, (5, 5), True),
        (NOTCHED, (2, 7.9), True),
    ],
)
def test_points_covered(corners: list[tuple[float, float]], point: tuple, covered: bool) -> None:
    assert points_covered([point], corners).tolist() == [covered]
    assert points_covered([point, point], corners[::-1]).tolist() == [covered, covered]


@pytest.mark.parametrize(
    ("corners", "edges"),
    [
        (SQUARE, None),
        (NOTCHED, None),
        ([(0, 0), (10, 10), (10, 0), (0, 10)], (0, 2)),
        ([(0, 0), (10, 0), (10, 10), (5, 0), (0, 10)], (0, 2)),
        ([(0, 0), (10, 0), (4, 0), (4, 10)], (0, 1)),
        ([(0, 0), (10, 0), (20, 0), (10, 10)], None),
    ],
    ids=["square", "notched", "bow tie", "touches", "goes back", "a corner that is none"],
)
def test_crossing_edges(corners: list, edges: tuple[int, int] | None) -> None:
    assert crossing_edges(corners) == edges


def test_area() -> None:
    assert polygon_area(SQUARE) == polygon_area(SQUARE[::-1]) == 100
    assert polygon_area(NOTCHED) == 75
