"""Masks from boxes: what colours alone can do."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.models.segmenters.embedded.grabcut import mask_from_box
from vision_mem.synthetic.clips import Actor, ActorPose, ClipScene, SyntheticClip


def iou(one, two):
    return np.count_nonzero(one & two) / np.count_nonzero(one | two)


def cup(x=160.0, y=100.0, height=80.0, background="gravel", width=320, tall=200):
    scene = ClipScene(
        name="cup",
        background=background,
        target=Actor("cup", lambda t: ActorPose(x=x, y=y, height=height)),
        width=width,
        height=tall,
    )
    return SyntheticClip(scene).render(0)


def square(size=(90, 120), box=(40, 30, 70, 60)):
    """A red square on a blue ground with some grain."""
    image = np.full((*size, 3), (30, 60, 200), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = (220, 40, 30)
    grain = np.random.default_rng(0).integers(-8, 8, image.shape)
    return np.clip(image.astype(int) + grain, 0, 255).astype(np.uint8)


def ellipse(size, box):
    rows, columns = np.mgrid[: size[0], : size[1]]
    x1, y1, x2, y2 = box
    across = (columns + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2)
    down = (rows + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
    return across**2 + down**2 < 1


def test_box_around_a_contrasty_object():
    for rendered in (cup(), cup(x=60, height=150, width=640, tall=360), cup(height=24)):
        mask = mask_from_box(rendered.image, rendered.box)
        assert mask.shape == rendered.mask.shape and mask.dtype == bool
        assert iou(mask, rendered.mask) > 0.8


def test_box_with_square_corners():
    mask = mask_from_box(square(), np.array([40, 30, 70, 60], np.float32))
    truth = np.zeros((90, 120), bool)
    truth[30:60, 40:70] = True
    assert iou(mask, truth) > 0.95


@pytest.mark.parametrize("grey", [0, 127, 255])
def test_flat_pictures_give_the_ellipse(grey):
    image = np.full((90, 120, 3), grey, np.uint8)
    box = np.array([30, 20, 80, 60], np.float32)
    assert iou(mask_from_box(image, box), ellipse((90, 120), box)) > 0.95


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 1, 1),
        (50, 40, 51, 41),
        (119, 89, 120, 90),
        (50.4, 40.4, 50.6, 40.6),
        (0, 0, 120, 90),
        (0, 40, 120, 41),
        (60, 0, 61, 90),
    ],
)
def test_extreme_boxes_give_a_mask_near_them(box):
    mask = mask_from_box(square(), np.array(box, np.float32))
    assert mask.any()
    rows, columns = np.nonzero(mask)
    assert columns.min() >= box[0] - 1 and columns.max() <= box[2] + 1
    assert rows.min() >= box[1] - 1 and rows.max() <= box[3] + 1


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3)])
def test_extreme_pictures(size):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    whole = np.array([0, 0, size[1], size[0]], np.float32)
    assert mask_from_box(image, whole).shape == size


@pytest.mark.parametrize("place", [(0, 0), (90, 0), (0, 60), (90, 60)])
def test_box_at_the_border(place):
    x, y = place
    box = (x, y, x + 30, y + 30)
    mask = mask_from_box(square(box=box), np.array(box, np.float32))
    truth = np.zeros((90, 120), bool)
    truth[y : y + 30, x : x + 30] = True
    assert iou(mask, truth) > 0.9


def test_a_negative_click_in_a_box_removes_a_part():
    image = square(box=(40, 30, 70, 60))
    image[30:60, 70:90] = (20, 180, 40)  # a green neighbour, in the same box
    box = np.array([40, 30, 90, 60], np.float32)
    both = mask_from_box(image, box)
    points, labels = np.array([[80, 45], [50, 45]], np.float32), np.array([0, 1], np.int32)
    less = mask_from_box(image, box, points, labels)
    assert both[45, 80] and not less[45, 80] and less[45, 50]


def test_same_picture_same_mask():
    rendered, other = cup(), square()
    boxed = mask_from_box(rendered.image, rendered.box)
    mask_from_box(other, np.array([40, 30, 70, 60], np.float32))  # k-means has moved on
    np.testing.assert_array_equal(boxed, mask_from_box(rendered.image, rendered.box))
