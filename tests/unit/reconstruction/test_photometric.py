"""Motion of a camera from the brightness of two images, against the course it really took."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.geometry.poses import exponential, inverse, rotation_angle
from vision_mem.reconstruction import ReconstructionSession
from vision_mem.reconstruction.config import ReconstructionConfig
from vision_mem.reconstruction.photometric import left_over, likeness, motion_of_brightness
from vision_mem.reconstruction.working_size import thin
from vision_mem.synthetic.rgbd_bodies import SceneryConfig
from vision_mem.synthetic.rgbd_scene import SyntheticStream

CAMERA = Pinhole.from_field_of_view(60, 160, 120)
DEPTH = np.full((120, 160), 2.0, np.float32)


def painted(seed=0, blur=3.0):
    """A wall with paint that is smooth: no corners to follow."""
    random = np.random.default_rng(seed)
    wall = cv2.GaussianBlur(random.uniform(0, 255, (120, 160)).astype(np.float32), (0, 0), blur)
    return cv2.normalize(wall, None, 20, 220, cv2.NORM_MINMAX).astype(np.uint8)


def seen_from(image, pose, depth=2.0):
    """The wall ``depth`` metres away as a camera at ``pose`` sees it, by its homography."""
    fx, fy, cx, cy = CAMERA.numbers
    inner = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
    back = inverse(pose)
    plane = back[:3, :3] + np.outer(back[:3, 3], (0, 0, 1 / depth))
    moved = inner @ plane @ np.linalg.inv(inner)
    return cv2.warpPerspective(image, moved, (160, 120), borderMode=cv2.BORDER_REFLECT)


def off(found, pose):
    """Metres and degrees between two poses."""
    rest = inverse(pose) @ found
    return np.linalg.norm(rest[:3, 3]), np.degrees(rotation_angle(rest[:3, :3]))


def moved(before, after, depth=DEPTH, starts=None):
    return motion_of_brightness(before, after, depth, CAMERA.numbers, starts or [np.eye(4)])


TWISTS = {
    "still": (0, 0, 0, 0, 0, 0),
    "along": (0, 0, 0, 0.06, -0.03, 0),
    "ahead": (0, 0, 0, 0, 0, 0.08),
    "roll": (0, 0, 0.05, 0, 0, 0),
    "all at once": (0.01, -0.02, 0.02, 0.03, 0.02, -0.05),
}


@pytest.mark.parametrize("twist", TWISTS.values(), ids=TWISTS)
def test_motion_before_a_painted_wall(twist):
    pose = exponential(twist)
    image = painted()
    found = moved(image, seen_from(image, pose))
    shift, turn = off(found.pose, pose)
    assert shift < 0.01 and turn < 0.25
    assert found.sure


def test_exposure_may_change():
    pose = exponential(TWISTS["all at once"])
    image = painted()
    darker = (0.7 * seen_from(image, pose) + 12).astype(np.uint8)
    shift, turn = off(moved(image, darker).pose, pose)
    assert shift < 0.012 and turn < 0.3


def test_something_that_moves_does_not_carry_the_camera_away():
    pose = exponential(TWISTS["along"])
    image = painted()
    after = seen_from(image, pose)
    after[40:80, 100:150] = painted(5)[40:80, 100:150]
    shift, turn = off(moved(image, after).pose, pose)
    assert shift < 0.012 and turn < 0.3


def test_a_good_start_reaches_where_a_bad_one_does_not():
    pose = exponential((0, 0, 0, 0.5, 0, 0))
    image = painted(blur=2.0)
    after = seen_from(image, pose)
    near = exponential((0, 0, 0, 0.46, 0.01, 0))
    shift, _ = off(moved(image, after, starts=(np.eye(4), near)).pose, pose)
    assert shift < 0.02
    alone = moved(image, after)
    assert alone is None or off(alone.pose, pose)[0] > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_noise_moves_nothing(seed):
    random = np.random.default_rng(seed)

    def noise():
        return random.integers(80, 100, (120, 160)).astype(np.uint8)

    assert moved(noise(), noise()) is None


@pytest.mark.parametrize(
    ("image", "depth"),
    [
        (np.full((120, 160), 90, np.uint8), DEPTH),
        (painted(), np.zeros_like(DEPTH)),
        (painted(), np.where(np.indices(DEPTH.shape).sum(0) % 2, DEPTH, 0).astype(np.float32)),
        (painted()[:20, :20], DEPTH[:20, :20]),
    ],
    ids=["plain", "no depth", "depth in single pixels", "tiny"],
)
def test_too_little_is_said(image, depth):
    assert moved(image, image, depth) is None


def test_another_size_says_nothing():
    assert moved(painted(), painted()[:100]) is None


@pytest.mark.parametrize("noise", [0, 3])
def test_stripes_leave_a_direction_open_and_are_not_relied_on(noise):
    stripes = np.tile(127 + 100 * np.sin(np.arange(160) / 5), (120, 1))
    random = np.random.default_rng(0)
    one, two = (
        np.clip(stripes + noise * random.standard_normal((120, 160)), 0, 255).astype(np.uint8)
        for _ in range(2)
    )
    found = moved(one, two)
    assert found.alike > 0.95 and not found.firm
    assert found.deviation[4] > 10 * found.deviation[3]


def wall_of(colours):
    """Points of a wall and their colours, ``(120, 160, 3)`` each."""
    y, x = np.mgrid[:120, :160] + 0.5
    fx, fy, cx, cy = CAMERA.numbers
    points = np.stack([(x - cx) / fx * 2, (y - cy) / fy * 2, np.full(x.shape, 2.0)], axis=-1)
    return points.reshape(-1, 3).astype(np.float32), colours.reshape(-1, 3).astype(np.float32)


@pytest.mark.parametrize(
    ("image", "depth", "low", "high"),
    [
        (np.stack([painted()] * 3, -1), DEPTH, 0.99, 1.0),
        (np.stack([painted() // 2 + 30] * 3, -1), DEPTH, 0.99, 1.0),
        (np.stack([painted(9)] * 3, -1), DEPTH, -0.3, 0.3),
        (np.stack([painted()] * 3, -1), DEPTH + 1, -1.0, -1.0),
        (np.full((120, 160, 3), 90, np.uint8), DEPTH, -0.01, 0.01),
    ],
    ids=["same", "darker", "other", "nothing there", "plain"],
)
def test_likeness(image, depth, low, high):
    known = wall_of(np.stack([painted()] * 3, -1))
    assert low <= likeness(*known, image, depth, CAMERA.numbers) <= high + 1e-6


@pytest.mark.parametrize(("level", "expected"), [(95, 1.0), (200, -1.0)])
def test_likeness_of_plain_walls(level, expected):
    known = wall_of(np.full((120, 160, 3), 90.0))
    image = np.full((120, 160, 3), level, np.uint8)
    assert likeness(*known, image, DEPTH, CAMERA.numbers) == expected


def test_generated_rooms_are_followed_where_corners_fail():
    scenery = SceneryConfig(camera="tour", time_step=0.1)
    stream = SyntheticStream(1_000_001, 100, 160, 120, config=scenery)
    frames = [true.frame for true in itertools.islice(stream, 25)]
    small = [thin(frame, ReconstructionConfig()) for frame in frames]
    errors = []
    for (a, b), (one, two) in zip(
        itertools.pairwise(frames), itertools.pairwise(small), strict=True
    ):
        found = motion_of_brightness(one.grey, two.grey, one.depth, one.camera.numbers, [np.eye(4)])
        assert found is not None
        errors.append(off(found.pose, inverse(a.pose) @ b.pose)[0])
        assert found.alike > 0.95
    assert np.median(errors) < 0.01  # corners: 0.09


def test_images_speak_against_another_motion_than_theirs():
    pose = exponential(TWISTS["along"])
    image = painted()
    found = moved(image, seen_from(image, pose))
    assert found.against(found.pose) == pytest.approx(1)
    assert found.against(pose) < 1.5
    assert found.against(exponential((0, 0, 0, 0.1, 0, 0))) > 3
    assert found.against(exponential((0, 3, 0, 0, 0, 0))) == np.inf  # it looks away


def with_ball(image, column, radius=26):
    """A ball before the wall, with paint of its own: image and depth."""
    y, x = np.mgrid[-radius:radius, -radius:radius] + 0.5
    inside = x**2 + y**2 < radius**2
    image, depth = image.copy(), DEPTH.copy()
    rows, columns = slice(30, 30 + 2 * radius), slice(column, column + 2 * radius)
    coat = painted(1)[: 2 * radius, : 2 * radius]
    image[rows, columns][inside] = coat[inside]
    bulge = 0.35 * np.sqrt(np.maximum(1 - (x**2 + y**2) / radius**2, 0))
    depth[rows, columns][inside] = (1.5 - bulge)[inside]
    return image, depth


def test_what_moves_is_left_over():
    before, first = with_ball(painted(), 40)
    after, second = with_ball(painted(), 44)
    odd = left_over(before, after, (first, second), CAMERA.numbers, np.eye(4))
    ball = second < 1.9
    assert odd[ball].mean() > 0.98
    assert odd[~ball].mean() < 0.15
    still = left_over(before, before, (first, first), CAMERA.numbers, np.eye(4))
    assert still.mean() < 0.02


def test_what_is_not_shown_before_is_left_over():
    before, first = with_ball(painted(), 40)
    first = np.where(first < 1.9, np.float32(0), first)  # known to move
    odd = left_over(before, before, (first, DEPTH), CAMERA.numbers, np.eye(4))
    assert odd[first == 0].mean() > 0.9


@pytest.mark.parametrize("step, radius", [(2, 36), (3, 26), (4, 20)])
def test_a_ball_that_rolls_by_does_not_take_the_camera_along(step, radius):
    # By its shape the wall lets itself be slid along, and the ball holds what is left.
    session = ReconstructionSession()
    for index in range(10):
        image, depth = with_ball(painted(), 10 + step * index, radius)
        colour = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        result = session.step(RgbdFrame(index, index / 10, colour, depth, CAMERA))
        assert np.linalg.norm(result.pose[:3, 3]) < 0.01
