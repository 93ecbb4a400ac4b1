"""Background subtraction on generated scenes with a camera that stands still."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.geometry.boxes import box_iou
from vision_mem.models.detectors.motion import (
    MotionConfig,
    MotionDetector,
    coarse_frames,
    merge_parts,
)
from vision_mem.types import Frame

HEIGHT, WIDTH = 120, 200
TALL, WIDE = 50, 30


def background(seed=0):
    coarse = np.random.default_rng(seed).integers(60, 180, (HEIGHT // 10, WIDTH // 10, 3))
    return coarse.repeat(10, 0).repeat(10, 1).astype(np.float32)


def scene(index, *boxes, light=0.0, colour=(230, 40, 40)):
    """One noisy frame with plain rectangles on it."""
    image = background() + light
    for x1, y1, x2, y2 in boxes:
        image[max(0, int(y1)) : int(y2), max(0, int(x1)) : int(x2)] = np.array(colour) + light
    image += np.random.default_rng((9, index)).normal(0, 2.0, image.shape)
    return Frame(index, index / 25, np.clip(image, 0, 255).astype(np.uint8))


def walker(index, speed=4.0, y=40):
    x = -WIDE + speed * (index % ((WIDTH + 2 * WIDE) / speed))
    return (x, y, x + WIDE, y + TALL)


def visible(box):
    x1, y1, x2, y2 = box
    return np.array([max(0, x1), y1, min(WIDTH, x2), y2])


def learned(count=60, **config):
    detector = MotionDetector(MotionConfig(**config))
    detector.learn(scene(index) for index in range(count))
    return detector


@pytest.mark.parametrize("method", ["mog2", "knn"])
def test_a_moving_object_is_found_whole_with_its_mask(method) -> None:
    detector = learned(method=method)
    for index in range(60, 100):
        box = (20 + 4 * (index - 60), 40, 50 + 4 * (index - 60), 90)
        found = detector.detect(scene(index, box))
        assert len(found) == 1
        truth = np.zeros((HEIGHT, WIDTH), bool)
        truth[40:90, int(box[0]) : int(box[2])] = True
        overlap = (found.masks[0] & truth).sum() / (found.masks[0] | truth).sum()
        assert box_iou(found.boxes[0], visible(box)) > 0.8
        assert overlap > 0.8
        assert 0.5 <= found.scores[0] <= 0.95
        assert found.name_of(0) == "moving"


def test_nothing_is_answered_during_the_warm_up_and_empty_is_not_no_answer() -> None:
    detector = MotionDetector(MotionConfig(warm_up=12))
    answers = [detector.detect(scene(index)) for index in range(16)]
    assert answers[:12] == [None] * 12
    assert [len(each) for each in answers[12:]] == [0] * 4
    assert answers[-1].masks.shape == (0, HEIGHT, WIDTH)
    assert not detector.reports_absence
    assert detector.stateful


def test_the_trap_a_quick_rate_eats_a_plain_object_from_behind() -> None:
    """With OpenCV's own rate all the way, only the leading part of a large object is found."""
    wide = 60
    quick = cv2.createBackgroundSubtractorMOG2(500, 16, True)
    ours = learned()
    for index in range(24):
        x = 10 + 3 * index
        frame = scene(index, (x, 30, x + wide, 90))
        eaten = quick.apply(frame.image, learningRate=-1) == 255
        found = ours.detect(frame)
        if index >= 16:
            columns = eaten[30:90].mean(axis=0) > 0.5
            assert columns.sum() < 0.6 * wide  # the trap is real
            assert columns[x : x + wide // 3].mean() < 0.1  # and eats from behind
            widths = found.boxes[:, 2] - found.boxes[:, 0]
            assert len(found) == 1
            assert widths[0] >= 0.9 * wide


def test_a_switched_light_starts_the_background_anew() -> None:
    detector = learned(warm_up=10)
    assert detector.detect(scene(60)) is not None
    answers = [detector.detect(scene(index, light=60.0)) for index in range(61, 85)]
    assert detector.restarts == 1
    assert answers[:10] == [None] * 10
    assert all(len(each) == 0 for each in answers[10:])
    box = (80, 40, 110, 90)
    found = detector.detect(scene(90, box, light=60.0))
    assert box_iou(found.boxes[0], np.array(box)) > 0.8


def test_a_camera_that_moves_is_told_once(caplog) -> None:
    detector = MotionDetector()
    rng = np.random.default_rng(3)
    with caplog.at_level(logging.WARNING):
        for index in range(120):
            image = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
            assert detector.detect(Frame(index, 0.0, image)) is None
    assert [r.message for r in caplog.records].count(caplog.records[0].message) == 1
    assert "stands still" in caplog.text
    assert detector.restarts > 10


@pytest.fixture(scope="module")
def wall():
    """A texture that a camera can look around on."""
    noise = np.random.default_rng(4).integers(60, 200, (80, 130, 3), dtype=np.uint8)
    return cv2.resize(noise, (650, 400), interpolation=cv2.INTER_CUBIC)


def filmed(wall, index, box=None, zoom=1.0):
    """A camera that turns by two pixels a frame; ``box`` is on the picture."""
    sway = 100 + 2.0 * index
    shift = np.array([[zoom, 0, -sway], [0, zoom, -60 - 0.5 * index]])
    image = cv2.warpAffine(wall, shift, (WIDTH, HEIGHT))
    if box is not None:
        image[box[1] : box[3], box[0] : box[2]] = (230, 30, 30)
    return Frame(index, index / 25, image)


def test_before_a_camera_that_turns_what_moves_by_itself_is_found(wall, caplog) -> None:
    detector = MotionDetector()
    hits = 0
    with caplog.at_level(logging.WARNING):
        for index in range(70):
            x = 10 + 2 * index
            box = (x, 40, x + 30, 90)
            found = detector.detect(filmed(wall, index, box))
            if index < 20:
                continue
            assert found is not None and len(found) <= 2
            hits += any(box_iou(each, np.array(box)) > 0.5 for each in found.boxes)
    assert hits >= 45
    assert coarse_frames(detector) >= 50
    assert caplog.text.count("the camera moves; what moves is now told") == 1


def test_a_camera_that_turns_past_what_stands_still_finds_nothing(wall) -> None:
    detector = MotionDetector()
    answers = [detector.detect(filmed(wall, index)) for index in range(60)]
    assert sum(len(each) for each in answers[10:] if each is not None) == 0
    assert sum(each is not None for each in answers[10:]) >= 48


def test_where_it_cannot_tell_it_says_so_once_and_answers_nothing(wall, caplog) -> None:
    """A picture that moves, and is plain but for a strip: that may be the camera, or the strip."""
    detector = MotionDetector()
    with caplog.at_level(logging.WARNING):
        for index in range(40):
            frame = filmed(wall, index)
            frame.image[:, 30:] = 120
            found = detector.detect(frame)
            assert index < 12 or found is None
    assert caplog.text.count("cannot be told there") == 1
    assert "--detect dfine" in caplog.text


def test_a_camera_said_to_stand_still_is_not_looked_at(wall) -> None:
    detector = MotionDetector(MotionConfig(camera="still", warm_up=2))
    assert [detector.detect(filmed(wall, index)) for index in range(3)][:2] == [None, None]
    assert not detector._camera.moves
    with pytest.raises(InputError, match="camera is 'shaky'; expected one of auto, still"):
        MotionConfig(camera="shaky")


def test_a_stopped_object_fades_into_the_background() -> None:
    detector = learned(40, history=200)
    counts = []
    for index in range(40, 120):
        x = min(20 + 8 * (index - 40), 100)
        counts.append(len(detector.detect(scene(index, (x, 40, x + 30, 90)))))
    assert counts[:12] == [1] * 12  # moving, and just stopped
    assert counts[-1] == 0
    # What was there before it is remembered beside it: nothing is found where it has left.
    assert len(detector.detect(scene(121))) == 0


def test_shadows_are_left_out() -> None:
    detector = learned()
    index, shadow = 60, np.s_[40:90, 120:160]
    frame = scene(index, (80, 40, 110, 90))
    image = frame.image.copy()
    image[shadow] = (image[shadow] * 0.7).astype(np.uint8)
    found = detector.detect(Frame(index, 0.0, image))
    assert len(found) == 1
    assert found.boxes[0, 2] < 118


def test_specks_and_small_things_are_left_out() -> None:
    detector = learned(min_area=0.01)
    assert len(detector.detect(scene(60, (80, 40, 90, 50)))) == 0  # 100 of 24,000 pixels
    assert len(detector.detect(scene(61, (80, 40, 100, 60)))) == 1
    dots = [(x, y, x + 1, y + 1) for x in range(5, 190, 20) for y in range(5, 110, 20)]
    assert len(learned(min_area=0.0).detect(scene(60, *dots))) == 0


def test_only_the_largest_are_kept_where_there_are_too_many() -> None:
    boxes = [(10 + 30 * k, 20, 22 + 30 * k + k, 60) for k in range(6)]
    assert len(learned().detect(scene(60, *boxes))) == 6
    found = learned(most=2).detect(scene(60, *boxes))
    np.testing.assert_allclose(found.boxes, np.array(boxes[4:], np.float32), atol=3)


def test_large_frames_are_looked_at_smaller_and_answered_in_their_own_pixels() -> None:
    detector = learned(max_side=100)
    found = detector.detect(scene(60, (80, 40, 120, 100)))
    assert found.masks.shape == (1, HEIGHT, WIDTH)
    assert box_iou(found.boxes[0], np.array([80, 40, 120, 100])) > 0.8
    assert found.masks[0, 60, 100]
    assert not found.masks[0, 20, 100]


def test_reset_is_a_new_detector_and_a_new_size_starts_anew(caplog) -> None:
    frames = [scene(index, walker(index)) for index in range(40)]

    def run(detector):
        return [detector.detect(frame) for frame in frames]

    used = MotionDetector()
    first = run(used)
    used.reset()
    for one, two, three in zip(first, run(used), run(MotionDetector()), strict=True):
        assert (one is None) == (two is None) == (three is None)
        if one is not None:
            np.testing.assert_array_equal(one.masks, two.masks)
            np.testing.assert_array_equal(one.masks, three.masks)
    small = Frame(40, 0.0, np.zeros((60, 80, 3), np.uint8))
    assert used.detect(small) is None
    assert "size changed" in caplog.text


@pytest.mark.parametrize(
    ("boxes", "how", "groups"),
    [
        ([], "near", []),
        ([[0, 0, 10, 10]], "near", [[0]]),
        ([[0, 0, 10, 10], [17, 0, 30, 10]], "near", [[0, 1]]),  # 7 apart
        ([[0, 0, 10, 10], [18, 0, 30, 10]], "near", [[0], [1]]),  # 8 apart
        ([[0, 0, 10, 10], [17, 18, 30, 30]], "near", [[0], [1]]),
        # A chain of three, and a fourth that is near only to what all of them span.
        (
            [[0, 0, 9, 9], [40, 40, 50, 50], [14, 14, 35, 35], [0, 44, 9, 50]],
            "near",
            [[0, 1, 2, 3]],
        ),
        ([[0, 0, 10, 40], [14, 0, 24, 40]], "above", [[0], [1]]),  # side by side
        ([[0, 0, 10, 20], [2, 24, 12, 40]], "above", [[0, 1]]),  # head and legs
        ([[0, 0, 10, 20], [8, 24, 18, 40]], "above", [[0], [1]]),
        ([[0, 0, 30, 40], [10, 10, 12, 12]], "above", [[0, 1]]),  # within
    ],
)  # fmt: skip
def test_parts_are_merged(boxes, how, groups) -> None:
    assert merge_parts(np.array(boxes), 8.0, how) == groups


def test_people_side_by_side_stay_apart_in_the_upright_setting() -> None:
    pair = [(60, 40, 80, 90), (86, 40, 106, 90)]
    counts = {}
    for name, config in (("square", MotionConfig()), ("upright", MotionConfig.upright())):
        detector = MotionDetector(config)
        detector.learn(scene(index) for index in range(60))
        counts[name] = len(detector.detect(scene(60, *pair)))
    assert counts == {"square": 1, "upright": 2}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"method": "gmg"}, "one of mog2, knn"),
        ({"merge": "all"}, "near, above"),
        ({"close": (0, 3)}, "height and a width"),
        ({"history": 0}, "1 or more"),
        ({"warm_up": -1}, "0 or more"),
        ({"flood": 1.5}, "0 to 1"),
    ],
)
def test_settings_that_cannot_be(setting, words) -> None:
    with pytest.raises(InputError, match=words):
        MotionConfig(**setting)
