from __future__ import annotations

import numpy as np
import pytest

from vision_mem.geometry import boxes


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (30, 30, 40, 40), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
        ((2, 2, 4, 4), (0, 0, 8, 8), 4 / 64),
    ],
)
def test_box_iou(a, b, iou):
    assert boxes.box_iou(a, b) == pytest.approx(iou)
    assert boxes.box_iou(b, a) == pytest.approx(iou)


def test_box_iou_broadcasts():
    many = np.array([[0, 0, 10, 10], [5, 0, 15, 10]])
    table = boxes.box_iou(many[:, None], many[None])
    np.testing.assert_allclose(table, [[1, 1 / 3], [1 / 3, 1]])


@pytest.mark.parametrize(
    ("box", "counted", "official"),
    [
        ((3, 4, 13, 24), (3, 4, 10, 20), (3, 4, 9, 19)),
        ((3, 4, 4, 5), (3, 4, 1, 1), (3, 4, 0, 0)),
        ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_text_conventions(box, counted, official):
    np.testing.assert_array_equal(boxes.box_to_xywh(box), counted)
    np.testing.assert_array_equal(boxes.box_to_xywh(box, inclusive=False), official)
    np.testing.assert_array_equal(boxes.xywh_to_box(counted), box)
    together = boxes.box_to_xywh(np.array([box, box]), inclusive=False)
    np.testing.assert_array_equal(together, [official, official])


def test_clipping():
    np.testing.assert_array_equal(boxes.clip_box((-5, 2, 90, 70), 50, 80), (0, 2, 80, 50))
    assert boxes.is_empty(boxes.clip_box((90, 2, 95, 70), 50, 80))
