"""A limit to what a map holds in memory: the file grows, the memory does not, the answers agree."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from navigation_scenes import ROUGH, pose, said, same, scan, sightings

from vision_mem.errors import ModelError
from vision_mem.navigation import NavigationConfig, NavigationSession, Observation
from vision_mem.navigation.config import StoreConfig

LIMIT = 0.8  # megabytes


def config(ram: float) -> NavigationConfig:
    return NavigationConfig(octree=ROUGH.octree, store=StoreConfig(ram=ram, fold_every=7))


def stroll(session: NavigationSession, numbers: range) -> int:
    """Down a corridor of rooms, two metres a step, and back; the most bytes after any step."""
    most, points = 0, scan(pose())
    for number in numbers:
        along = 2.0 * (number if number < 40 else 80 - number)
        colours = np.full(points.shape, number, np.uint8)
        seen = sightings(pose()) if number % 10 == 0 else None
        session.step(Observation(number, pose(along), points, colours, sightings=seen))
        most = max(most, session.usage().detail["space"])
    return most


def test_memory_stays_below_its_limit_and_the_map_is_the_same(tmp_path) -> None:
    with (
        NavigationSession(tmp_path / "low.map", config(LIMIT)) as low,
        NavigationSession(tmp_path / "high.map", config(0)) as high,
    ):
        most, all_ = stroll(low, range(60)), stroll(high, range(60))
        assert most <= LIMIT * 1e6 < all_ / 2.5
        assert len(low.state.octree.bricks.away) > len(low.state.octree.bricks)
        for ask in (
            lambda octree: octree.box((-3, -2, -2), (90, 2, 5)).colours,
            lambda octree: octree.radius((11.0, 0.0, 2.0), 3.0).codes,
            lambda octree: octree.level(2).hits,
            lambda octree: octree.log_odds([[0.0, 0.0, 1.0], [2.9, 0.5, 1.0], [70.0, 0.9, 2.0]]),
            lambda octree: np.array(octree.ray((0, 0, 0), (1, 0, 0.2), 200.0).position),
        ):
            one, other = (ask(each.state.octree) for each in (low, high))
            np.testing.assert_array_equal(one, other)
            assert low.state.octree.nbytes <= LIMIT * 1e6
        assert low.forget(region=([20, -5, -5], [30, 5, 5])) == (
            high.forget(region=([20, -5, -5], [30, 5, 5]))
        )
        place = max(high.state.topology.places)
        moved = high.state.topology.places[place].pose @ pose(0.5, turn=0.2)
        assert low.correct({place: moved}) == high.correct({place: moved})
        same(low, high)
        file = low.usage().file_bytes
    with NavigationSession(tmp_path / "low.map") as again:
        assert len(again.state.octree.bricks) == 0  # nothing is read before it is needed
        assert stroll(again, range(60, 75)) <= LIMIT * 1e6
        assert again.usage().file_bytes > file / 2
    with (
        NavigationSession(tmp_path / "high.map") as high,
        NavigationSession(tmp_path / "low.map", mode="r") as low,
    ):
        stroll(high, range(60, 75))
        same(low, high)
        assert low.check() == high.check()


def test_a_brick_that_cannot_be_read_is_not_written_over(tmp_path) -> None:
    path = tmp_path / "m.map"
    with NavigationSession(path, config(LIMIT)) as session:
        stroll(session, range(3))
        session.commit(fold=True)
    with sqlite3.connect(path) as sql:
        sql.execute("UPDATE brick SET fields=x'00'")
    sql.close()
    with NavigationSession(path) as session:
        points = scan(pose())
        for _ in range(2):
            with pytest.raises(ModelError, match=r"brick \d+ of the map is damaged"):
                session.state.octree.log_odds(points)
        with pytest.raises(ModelError, match=r"brick \d+ of the map is damaged"):
            stroll(session, range(3, 4))
        assert session.state.frame == 3


@pytest.mark.parametrize("ram", [-1.0, float("nan"), float("inf")])
def test_limits_that_are_none(ram: float) -> None:
    assert "store.ram is" in said(lambda: StoreConfig(ram=ram))
