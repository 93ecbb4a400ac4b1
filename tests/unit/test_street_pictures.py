"""Painted panoramas of a generated city, and what is read from them."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.synthetic.city import COLOURS, KINDS, City, CityConfig, Landmark, make_city
from vision_mem.synthetic.city_panoramas import PictureWorld, paint_panorama, read_panorama
from vision_mem.synthetic.city_routes import make_routes
from vision_mem.vln.action_spaces import make_navigator
from vision_mem.vln.environment import StreetTask, WordWorld, run_episode
from vision_mem.vln.exploration import explore
from vision_mem.vln.graph import centre_heading, turn_between
from vision_mem.vln.rule_agent import FollowerConfig, RuleFollower


@pytest.fixture(scope="module")
def city() -> City:
    return make_city(0)


def alone(city: City, place: int, name: str, bearing: float, far: float) -> City:
    """The city with one landmark only."""
    radians = np.radians(bearing)
    at = city.graph.position[place] + far * np.array([np.sin(radians), np.cos(radians)])
    return City(city.graph, city.junctions, (Landmark(name, at, -1),))


@pytest.mark.parametrize("bearing", [0.0, 90.0, 200.0, 337.5, 338.0, 359.0])
@pytest.mark.parametrize("far", [8.0, 14.0, 22.0])
def test_a_landmark_is_where_it_is_seen(city: City, bearing: float, far: float) -> None:
    one = alone(city, 70, "red bank", bearing, far)
    (seen,) = read_panorama(paint_panorama(one, 70))
    assert seen.name == "red bank"
    assert abs(turn_between(seen.bearing, bearing)) < 1.0
    assert seen.range_m == pytest.approx(far, abs=1.0)
    # As Touchdown's panoramas: turned to the bearing it is in the middle.
    picture = centre_heading(paint_panorama(one, 70), 0.0, bearing)
    assert (abs(picture[60, 252:260].astype(int) - [205, 40, 40]) < 3).all()
    assert read_panorama(paint_panorama(one, 70, reach_m=far - 1)) == []


def test_each_name_can_be_told_from_the_others(city: City) -> None:
    for colour in COLOURS:
        for kind in KINDS:
            one = alone(city, 70, f"{colour} {kind}", 120.0, 11.0)
            (seen,) = read_panorama(paint_panorama(one, 70, noise=20.0))
            assert seen.name == f"{colour} {kind}"


def test_what_is_read_in_a_whole_city(city: City) -> None:
    right = wrong = possible = 0
    for place in range(0, len(city.graph), 7):
        at = city.graph.position[place]
        near = city.near(at, 25.0)
        possible += len(near)
        for seen in read_panorama(paint_panorama(city, place, noise=20.0, seed=place)):
            radians = np.radians(seen.bearing)
            there = at + seen.range_m * np.array([np.sin(radians), np.cos(radians)])
            found = [m for m in near if np.hypot(*(m.position - there)) < 3.0]
            good = any(m.name == seen.name for m in found)
            right, wrong = right + good, wrong + (not good)
    assert right > 0.7 * possible  # others stand behind nearer ones
    assert wrong < 0.02 * right


def test_an_agent_finds_its_way_by_pictures() -> None:
    city = make_city(1, CityConfig(blocks=4))
    memory = explore(city.graph, PictureWorld(city, noise=0.0), 250, 0)
    agent = RuleFollower(FollowerConfig(threshold=0.8, likeness=1.0, looks=1), memory)
    arrived = 0
    for route in make_routes(city, 5, 0, turns=(1, 2), longest=30):
        path = city.graph.path_of(route)
        episode = run_episode(
            agent, make_navigator("touchdown", city.graph), StreetTask("t", route.text),
            (path[0], route.start_heading), WordWorld(city.graph), limit=60,
        )  # fmt: skip
        arrived += episode.trajectory[-1] in {path[-1], *city.graph.neighbours(path[-1])}
    assert arrived >= 4  # nothing is seen on the way: by what was read from pictures before


def test_pictures_of_another_kind() -> None:
    assert read_panorama(np.zeros((128, 512, 3), np.uint8)) == []
    rng = np.random.default_rng(0)
    assert read_panorama(rng.integers(0, 256, (128, 512, 3), dtype=np.uint8)) == []
    for picture in (np.zeros((64, 512, 3), np.uint8), np.zeros((128, 512, 3))):
        with pytest.raises(InputError, match="expected \\(128, 512, 3\\) uint8"):
            read_panorama(picture)
