"""The camera's motion between two pictures, against pictures that were warped on purpose."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vision_mem.geometry.camera_motion import (
    camera_motion,
    carried_box,
    carried_point,
    reduced,
)
from vision_mem.tracking.kalman import carried, start

HEIGHT, WIDTH = 180, 320


@pytest.fixture(scope="module")
def world():
    """A photograph-like texture, larger than the picture."""
    noise = np.random.default_rng(4).integers(0, 255, (60, 100), dtype=np.uint8)
    return cv2.resize(noise, (500, 300), interpolation=cv2.INTER_CUBIC)


def view(world, matrix):
    return cv2.warpPerspective(world, matrix, (WIDTH, HEIGHT))


def moved(x=0.0, y=0.0, zoom=1.0, turn=0.0):
    c, s = np.cos(turn) * zoom, np.sin(turn) * zoom
    middle = np.array([[1, 0, -WIDTH / 2], [0, 1, -HEIGHT / 2], [0, 0, 1.0]])
    return np.linalg.inv(middle) @ np.array([[c, -s, x], [s, c, y], [0, 0, 1.0]]) @ middle


AT = moved(-60, -40)


@pytest.mark.parametrize(
    ("motion", "sure"),
    [
        (moved(), False),
        (moved(6, -2), True),
        (moved(zoom=1.03), True),
        (moved(turn=0.02), True),
        (moved(-9, 4, 0.98, -0.015), True),
    ],
)
def test_a_motion_is_found_to_a_fifth_of_a_pixel(world, motion, sure) -> None:
    found = camera_motion(view(world, AT), view(world, motion @ AT))
    assert found.sure == sure
    assert found.agreeing > 0.9 and found.cells >= 20 and found.parallax < 0.1
    places = np.array([[[20, 20]], [[300, 30]], [[160, 160.0]]])
    wanted, got = (cv2.perspectiveTransform(places, m) for m in (motion, found.matrix))
    assert np.abs(wanted - got).max() < 0.2


def test_what_moves_by_itself_does_not_count(world) -> None:
    before, after = view(world, AT), view(world, moved(5, 0) @ AT)
    before[60:120, 100:160] = world[:60, :60]
    after[50:110, 130:190] = world[:60, :60]
    found = camera_motion(before, after)
    assert found.sure and found.parallax < 0.3
    assert np.allclose(found.matrix[:2, 2] / found.matrix[2, 2], [5, 0], atol=0.3)


def test_a_camera_that_travels_leaves_parallax(world) -> None:
    """Posts before a wall run from one point, faster than the wall."""
    near = np.zeros((HEIGHT, WIDTH), bool)
    near[:, np.arange(WIDTH) % 54 < 9] = True
    wall, post = (lambda t, z: moved(zoom=1 + t * z) @ AT), 0.025

    def picture(t):
        image = view(world, wall(t, 0.004))
        mask = cv2.warpPerspective(near.astype(np.uint8), moved(zoom=1 + post * t), (WIDTH, HEIGHT))
        image[mask > 0] = view(255 - world, wall(t, post))[mask > 0]
        return image

    assert camera_motion(picture(0), picture(1)).parallax > 0.36


@pytest.mark.parametrize("kind", ["plain", "noise", "cut", "size"])
def test_where_it_cannot_be_told_nothing_is_said(world, kind) -> None:
    before = view(world, AT)
    after = {
        "plain": np.full_like(before, 90),
        "noise": np.random.default_rng(1).integers(0, 255, before.shape, dtype=np.uint8),
        "cut": view(world[::-1, ::-1].copy(), AT),
        "size": before[:-2],
    }[kind]
    found = camera_motion(before, after)
    assert found is None or not found.sure


def test_pictures_are_reduced_and_their_motion_is_scaled_back(world) -> None:
    large = [cv2.resize(view(world, m), None, fx=3, fy=3) for m in (AT, moved(6, 3) @ AT)]
    small = [reduced(np.repeat(image[..., None], 3, axis=2)) for image in large]
    assert small[0].shape == (180, 320)
    matrix = camera_motion(*small).scaled(3.0)
    assert np.allclose(matrix[:2, 2] / matrix[2, 2], [18, 9], atol=0.5)


def test_boxes_and_beliefs_go_where_the_camera_takes_them() -> None:
    matrix = moved(10, 4, 1.1)
    box = np.array([40, 50, 80, 110.0])
    there, turn = carried_point(60, 80, matrix)
    after = carried_box(box, matrix)
    assert np.allclose((after[:2] + after[2:]) / 2, there)
    assert np.allclose(after[2:] - after[:2], 1.1 * (box[2:] - box[:2]))
    assert np.allclose(turn, 1.1 * np.eye(2))
    belief = carried(start(box), matrix)
    assert np.allclose(belief.box, after)
    assert np.isclose(belief.spread, 1.1 * start(box).spread)
