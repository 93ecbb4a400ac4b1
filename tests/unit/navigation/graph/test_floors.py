"""Which level surface is the floor: rooms with tables, beds, counters, storeys, holes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vision_mem.errors import NotFoundError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.geometry.poses import make_pose
from vision_mem.navigation import NavigationConfig, NavigationSession, Observation
from vision_mem.navigation.backprojection import cloud
from vision_mem.navigation.export import levels_of
from vision_mem.navigation.graph.path_planning import (
    FloorPlan,
    PlanningConfig,
    floor_plan,
    shortest_walk,
)
from vision_mem.navigation.gravity import Levels
from vision_mem.synthetic.furnished_room import FURNITURE, Furniture, Room

GREY = (120, 120, 120)


def box(low, high):
    return Furniture("box", low, high, GREY)


COUNTERS = (
    box((0.0, 0.0, 0.0), (6.0, 0.65, 0.9)),
    box((0.0, 4.3, 0.0), (4.5, 5.0, 0.9)),
    box((2.2, 1.8, 0.0), (4.2, 3.2, 0.9)),  # an island, wider than the floor beside it
)
BEDS = (
    box((0.1, 0.3, 0.0), (1.5, 2.2, 0.5)),
    box((2.3, 1.9, 0.0), (4.1, 3.3, 0.55)),
    box((4.4, 3.9, 0.0), (5.9, 4.9, 0.5)),
)
TABLES = (
    box((2.2, 1.7, 0.70), (4.2, 3.3, 0.75)),  # a top without legs: floor is seen below it
    box((0.0, 0.0, 0.70), (1.2, 3.0, 0.75)),
)


def mapped(frames, **planning):
    config = NavigationConfig(planning=PlanningConfig(up="+z", **planning))
    session = NavigationSession(config=config)
    for frame in frames:
        points = cloud(frame.image, frame.depth, frame.camera, 2)
        session.step(Observation(frame.time_s, frame.pose, *points))
    return session


def filmed(room, count=None):
    return [frame for frame, _ in room.film(0, count)]


def small(**more):
    return Room(width=64, height=48, frames=12, **more)


def plan_of(session, **more):
    observers = session.state.topology.positions()[1]
    return floor_plan(session.state.octree, session.config.planning, observers, **more)


@pytest.mark.parametrize(
    "furniture", [FURNITURE, COUNTERS, BEDS, TABLES], ids=["usual", "counters", "beds", "tables"]
)
def test_the_floor_is_found_and_no_open_cell_has_anything_above_it(furniture):
    frames = filmed(small(furniture=furniture))
    with mapped(frames) as session:
        plan = plan_of(session)
        (floor,) = plan.levels.floors
        assert abs(floor.height) <= 0.11
        assert 1.2 < floor.below < 1.5
    assert plan.open.sum() > 50
    for frame in frames:
        pixels = frame.camera.unproject(frame.depth)[frame.depth > 0]
        points = pixels @ frame.pose[:3, :3].T + frame.pose[:3, 3]
        standing = points[(points[:, 2] > 0.25) & (points[:, 2] < 1.8)]
        cells = np.floor((standing[:, :2] - plan.low) / plan.size).astype(int)
        cells = cells[((cells >= 0) & (cells < plan.open.shape)).all(axis=1)]
        assert not plan.open[tuple(cells.T)].any()


def looking_down(height, top, size):
    """Frames of a camera over a level square of ``size`` metres, and nothing else."""
    camera = Pinhole.from_field_of_view(75.0, 64, 48)
    for number in range(4):
        at = np.array([0.1 * number, 0.0, height])
        turn = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
        spots = at + camera.rays() @ turn.T * (height - top)
        depth = np.where((np.abs(spots[..., :2]) < size / 2).all(axis=-1), height - top, 0.0)
        image = np.full((48, 64, 3), 90, np.uint8)
        yield RgbdFrame(
            number, number / 10, image, depth.astype(np.float32), camera, make_pose(turn, at)
        )


@pytest.mark.parametrize(
    ("height", "known"), [(0.65, False), (1.4, True)], ids=["over a table", "over a floor"]
)
def test_a_table_that_is_all_there_is_to_see_is_no_floor(height, known):
    with mapped(looking_down(height, 0.0, 1.5)) as session:
        levels = levels_of(session)
        assert bool(levels.floors) == known
        if known:
            return
        assert "may be a table" in levels.words()[0] and "--floor-height" in levels.words()[0]
        assert not plan_of(session).open.any()
        with pytest.raises(NotFoundError, match="may be a table"):
            session.route((0.2, 0.2, 0.0), (0.0, 0.0, 0.0))
        config = session.config
        given = dataclasses.replace(config.planning, floor=0.0)
        session.config = session.state.config = dataclasses.replace(config, planning=given)
        assert plan_of(session).open.any()
        assert "as given" in levels_of(session).words()[0]


def test_each_storey_has_its_floor_and_no_way_leads_through_the_ceiling():
    room = small(storeys=2)
    with mapped(filmed(room, 24)) as session:
        low, high = levels_of(session).floors
        assert abs(low.height) <= 0.11 and abs(high.height - room.floor(1)) <= 0.11
        upper = plan_of(session, at=np.array([3.0, 1.0, room.floor(1) + 1.4]))
        assert upper.floor == high.height
        for x in (5.2, 5.4, 5.6):  # the hole for the stairs
            assert not upper.open[tuple(upper.cell(np.array([x, 2.5, room.floor(1)])))]
        assert session.route((4.4, 1.2, 0.1), (1.6, 2.4, 0.1)).on == "floor"
        with pytest.raises(NotFoundError, match="another floor"):
            session.route((4.4, 1.2, room.floor(1)), (1.6, 2.4, 0.1))


def test_a_way_ends_at_what_can_be_reached_not_inside_a_cupboard():
    free = np.ones((12, 8), bool)
    free[7:, 3:] = False
    free[9, 5] = True  # inside of the cupboard
    none, levels = np.zeros_like(free), Levels()
    plan = FloorPlan(
        free, ~free, free, np.zeros(2), 0.1, (0, 1), (2, 1), 0.0, free, levels, none,
    )  # fmt: skip
    inside = np.array([0.95, 0.55, 0.5])
    way = shortest_walk(plan, np.array([0.15, 0.65, 0.0]), inside, 0.5)
    assert way is not None and plan.open[tuple(plan.cell(way[-1]))]
    assert np.linalg.norm(way[-1][:2] - inside[:2]) < 0.36 and len(way) >= 2
    assert shortest_walk(plan, np.array([0.15, 0.65, 0.0]), inside, 0.15) is None
