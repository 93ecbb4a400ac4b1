"""Forty frames of 7-Scenes' red kitchen: a map is built, asked, walked over, and gone on with."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from vision_mem.geometry.poses import transform
from vision_mem.navigation import NavigationSession
from vision_mem.navigation.backprojection import lift_pixel
from vision_mem.navigation.graph.path_planning import floor_plan
from vision_mem.navigation.gravity import turned
from vision_mem.navigation.observer import turn_of
from vision_mem.sources.rgbd import open_rgbd

pytestmark = pytest.mark.data

# Column and row, found by eye, of the same things on frames far apart.
THINGS = {
    "white mug": {0: (383, 183), 12: (508, 191), 39: (397, 422)},
    "purple book": {0: (456, 55), 12: (569, 45), 39: (432, 180)},
    "wooden chair": {0: (239, 141), 12: (342, 136), 24: (554, 261)},
}


@pytest.fixture(scope="module")
def kitchen(data):
    found = data / "rgbd" / "7scenes_redkitchen"
    if not found.is_dir():
        pytest.skip(f"7-Scenes' red kitchen not found in {found}")
    return found


@pytest.fixture(scope="module")
def built(kitchen, vision_mem, tmp_path_factory):
    """Half of the frames in one process, the others in a second one on the reopened file."""
    path = tmp_path_factory.mktemp("kitchen") / "kitchen.map"
    named = []
    for name, spots in THINGS.items():
        u, v = spots[0]
        named += ["--landmark", f"{name}={u},{v}@0"]
    for number in (20, 40):
        done = vision_mem("navigate", "build", kitchen, "--map", path, *named,
                          "--max-frames", number)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "20 frames taken in" in done.stdout
    assert "after 20 frames before" in done.stdout
    return path


def test_what_was_named_is_where_later_frames_see_it(kitchen, built, vision_mem) -> None:
    with open_rgbd(kitchen) as source:
        frames = {frame.index: frame for frame in source}
    with NavigationSession(built, mode="r") as session:
        turn = turn_of(session)
    assert 25 < np.degrees(np.linalg.norm(turn)) < 29
    for name, spots in THINGS.items():
        done = vision_mem("navigate", "where", name, "--map", built, "--json")
        hit = json.loads(done.stdout)["hits"][0]
        assert hit["label"] == name
        for index in sorted(spots)[1:]:
            frame = frames[index]
            pose = turned(frame.pose, turn)
            there = transform(pose, lift_pixel(frame.depth, frame.camera, *spots[index]))
            off = float(np.linalg.norm(there - hit["position"]))
            print(f"{name}, frame {index}: {off:.3f} m")
            assert off < 0.3


@pytest.mark.parametrize("goal", ["purple book", None])
def test_a_route_keeps_off_what_stands_there(built, vision_mem, goal) -> None:
    with NavigationSession(built, mode="r") as session:
        observers = session.state.topology.positions()[1]
        plan = floor_plan(session.state.octree, session.config.planning, observers)
        goal = goal or ",".join(f"{v:.2f}" for v in observers[0])
    # The camera was carried at about 1.3 m; the recording itself is tilted by 27 degrees.
    assert 1.1 < observers[0, 1] * -1 - plan.floor < 1.7
    # Between chair and cupboards there are 42 cm: too narrow for somebody of 40 cm, in cells.
    words = ("--from", "wooden chair", f"--to={goal}", "--json", "--set", "planning.radius=0.1")
    done = vision_mem("navigate", "route", "--map", built, *words)
    assert done.returncode == 0, done.stderr
    route = json.loads(done.stdout)
    assert route["on"] == "floor" and route["length_m"] > 0.5
    points = np.array(route["points"])
    for begin, end in pairwise(points):
        for share in np.linspace(0, 1, 50):
            cell = tuple(plan.cell(begin + share * (end - begin)))
            assert plan.seen[cell] and not plan.obstacle[cell]


def test_what_is_too_narrow_is_one_line(built, vision_mem) -> None:
    words = ("--from", "wooden chair", "--to", "place:1", "--set", "planning.snap=0.2")
    done = vision_mem("navigate", "route", "--map", built, *words)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stdout + done.stderr
    assert "no way over the known floor leads to place:1" in done.stderr
    done = vision_mem("navigate", "route", "--map", built, *words[:-2])
    assert done.returncode == 0 and "m from wooden chair: no open floor is nearer" in done.stdout


def test_the_map_in_two_runs_is_that_of_one(kitchen, built, vision_mem, tmp_path) -> None:
    whole = tmp_path / "whole.map"
    named = [word for name, spots in THINGS.items()
             for word in ("--landmark", f"{name}={spots[0][0]},{spots[0][1]}@0")]  # fmt: skip
    assert vision_mem("navigate", "build", kitchen, "--map", whole, *named).returncode == 0
    with NavigationSession(built, mode="r") as two, NavigationSession(whole, mode="r") as one:
        a, b = two.state.octree.level(0), one.state.octree.level(0)
        order, other = np.argsort(a.codes), np.argsort(b.codes)
        np.testing.assert_array_equal(a.codes[order], b.codes[other])
        np.testing.assert_array_equal(a.log_odds[order], b.log_odds[other])
        assert two.state.topology.places.keys() == one.state.topology.places.keys()
        assert two.state.frame == one.state.frame == 40
