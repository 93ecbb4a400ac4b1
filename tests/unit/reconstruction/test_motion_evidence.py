"""What is evidence of motion, and what is not: noise, holes, poses that are off, more in view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reconstruction_scenes import room

from vision_mem.geometry.poses import exponential
from vision_mem.reconstruction import ReconstructionSession
from vision_mem.reconstruction.dynamic_objects import travelled
from vision_mem.reconstruction.motion_segmentation import nearest_around

BOXES = [(-0.4, 0.3, 0.25, 1.8), (0.5, -0.1, 0.2, 2.2)]
CROSSING = [None] * 6 + list(np.linspace(-0.8, 0.6, 15))


@pytest.mark.parametrize(
    ("hole", "says"),
    [((), 1.5), (((4, 4),), 1.5), (tuple((y, x) for y in (3, 4, 5) for x in (3, 4, 5)), 0.0)],
    ids=["no hole", "one pixel", "a hole"],
)
def test_the_nearest_around_knows_nothing_of_holes(hole, says):
    depth = np.full((9, 9), 2.0, np.float32)
    depth[6, 4] = 1.5
    for pixel in hole:
        depth[pixel] = 0
    found = nearest_around(depth, 2)
    assert found[4, 4] == says
    assert found[0, 0] == 2.0


@pytest.mark.parametrize(
    ("low", "high", "metres"),
    [
        ((0.3, 0, 0), (0.3, 0, 0), 0.3),
        ((0.0, 0, 0), (0.5, 0, 0), 0.0),  # more of it comes into view
        ((-0.2, 0, 0), (0.2, 0, 0), 0.0),
        ((0.3, 0.4, 0), (0.9, 0.4, 0), 0.5),
    ],
)
def test_only_what_goes_as_a_whole_has_travelled(low, high, metres):
    before = np.array([[0.0, 0, 0], [1.0, 1, 1]])
    assert travelled(before, before + np.array([low, high])) == pytest.approx(metres)


def pose_of(t, metres=0.0, degrees=0.0):
    """A camera that turns slowly, off by so much, another way on each frame."""
    random = np.random.default_rng(100 + t)
    turn = np.radians(degrees * random.uniform(-1, 1, 3) + (0, 0.5 * t, 0))
    return exponential([*turn, *(metres * random.uniform(-1, 1, 3) + (0.005 * t, 0, 0))])


@pytest.mark.parametrize(
    ("metres", "degrees", "noise", "holes"),
    [
        (0, 0, 0.02, 0),
        (0.02, 0.4, 0.005, 0),
        (0, 0, 0.005, 0.05),
        (0.01, 0.3, 0.01, 0.02),
    ],
    ids=["noise", "poses", "holes", "all"],
)
def test_nothing_moves_surely_where_nothing_moves(metres, degrees, noise, holes):
    session, surely, tracks = ReconstructionSession(), [], set()
    for t in range(24):
        frame, _ = room(t, BOXES, pose=pose_of(t), noise=noise)
        frame = replace(frame, pose=pose_of(t, metres, degrees))
        gone = np.random.default_rng(t).random(frame.depth.shape) < holes
        frame.depth[gone] = 0
        result = session.step(frame)
        surely.append(result.dynamic.mean())
        tracks |= {track.track_id for track in result.tracks}
    assert np.mean(surely) < 0.001
    assert not tracks


def test_what_moves_is_sure_though_poses_are_off():
    session, hit, of = ReconstructionSession(), 0, 0
    for t, x in enumerate(CROSSING):
        boxes = BOXES[1:] if x is None else [*BOXES[1:], (x, 0.3, 0.3, 1.6)]
        frame, painted = room(t, boxes, pose=pose_of(t), noise=0.005)
        result = session.step(replace(frame, pose=pose_of(t, 0.01, 0.2)))
        if t > 8:
            hit, of = hit + int((result.dynamic & painted).sum()), of + int(painted.sum())
    assert hit / of > 0.6
    (track,) = result.tracks
    assert track.sure and track.speed == pytest.approx(1.0, abs=0.4)
    assert 0 < track.speed_error < 1
