from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from vision_mem.geometry import masks
from vision_mem.geometry.masks import (
    draw_outlines,
    joined_contour,
    joined_outline,
    largest_part,
    mask_outlines,
)


def drawn(*pixels, size=(6, 8)):
    mask = np.zeros(size, dtype=bool)
    for y, x in pixels:
        mask[y, x] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (drawn(), (0, 0, 0, 0)),
        (drawn((0, 0)), (0, 0, 1, 1)),
        (drawn((5, 7)), (7, 5, 8, 6)),
        (drawn((1, 2), (4, 6)), (2, 1, 7, 5)),
        (np.ones((6, 8), bool), (0, 0, 8, 6)),
    ],
)
def test_bounds_of_masks(mask, box):
    np.testing.assert_array_equal(masks.mask_to_box(mask), box)
    extents = masks.mask_extents(torch.from_numpy(np.stack([mask, mask])))
    expected = np.array(box) - (np.array([0, 0, 1, 1]) if mask.any() else 0)
    np.testing.assert_array_equal(extents.numpy(), [expected, expected])


def test_batched_bounds_agree_with_plain_ones():
    some = np.random.default_rng(3).random((4, 3, 20, 30)) > 0.99
    extents = masks.mask_extents(torch.from_numpy(some)).numpy()
    for b in range(4):
        for m in range(3):
            own = masks.mask_to_box(some[b, m])
            own[2:] -= some[b, m].any()
            np.testing.assert_array_equal(extents[b, m], own)


def test_small_holes_are_filled_and_large_ones_stay():
    logits = torch.full((2, 1, 12, 12), 3.0)
    logits[0, 0, 1:3, 1:3] = -2.0  # 4 pixels
    logits[0, 0, 3, 3] = -1.0  # joined over a corner: 5 pixels
    logits[0, 0, 6:10, 6:9] = -2.0  # 12 pixels
    logits[1, 0, 0, 0] = 0.0  # a hole at the border counts; 0 is background
    given = logits.clone()
    filled = masks.fill_holes(logits, 8)
    assert torch.equal(logits, given)
    assert (filled[0, 0, 1:3, 1:3] == torch.tensor(0.1)).all() and filled[0, 0, 3, 3] > 0
    assert (filled[0, 0, 6:10, 6:9] == -2.0).all()
    assert filled[1, 0, 0, 0] == torch.tensor(0.1)
    assert masks.fill_holes(logits, 0) is logits
    assert masks.fill_holes(logits, 4)[0, 0, 1, 1] == -2.0


@pytest.mark.parametrize("max_area", [1, 4, 16])
@pytest.mark.parametrize("density", [0.02, 0.5, 0.97])
def test_holes_are_those_of_the_whole_picture(max_area, density):
    """The plain rule, on the picture as a whole, for dots, noise and sieves in a corner or all."""
    rng = np.random.default_rng(7)
    for corner in (slice(None), slice(0, 9), slice(-6, None)):
        on = np.zeros((40, 30), bool)
        on[corner, corner] = rng.random(on[corner, corner].shape) < density
        logits = torch.from_numpy(np.where(on, 2.0, -2.0).astype("f4"))[None, None]
        _, labels, stats, _ = cv2.connectedComponentsWithStats((~on).astype("u1"), connectivity=8)
        small = stats[:, cv2.CC_STAT_AREA] <= max_area
        small[0] = False
        wanted = on | small[labels]
        filled = masks.fill_holes(logits, max_area)[0, 0].numpy() > 0
        np.testing.assert_array_equal(filled, wanted)


def test_nothing_to_fill_gives_the_same_tensor():
    full, empty = torch.ones(1, 1, 5, 5), -torch.ones(1, 1, 5, 5)
    assert masks.fill_holes(full, 8) is full
    assert masks.fill_holes(empty, 8) is empty
    tiny = torch.ones(1, 1, 2, 2)  # all foreground, fewer pixels than a hole may have
    assert masks.fill_holes(tiny, 8) is tiny


def test_largest_part_and_alternatives():
    mask = drawn((0, 0), (1, 1), (2, 2), (0, 6), (0, 7))
    np.testing.assert_array_equal(masks.largest_part(mask), drawn((0, 0), (1, 1), (2, 2)))
    assert not masks.largest_part(drawn()).any()
    chosen = np.zeros((10, 10), bool)
    chosen[2:6, 2:6] = True
    wider = chosen.copy()
    wider[2:6, 8:10] = True
    overlaps = masks.alternative_overlaps(np.stack([chosen, chosen, wider]), 0)
    np.testing.assert_allclose(overlaps, [1.0, 16 / 32])


def test_outlines_far_outside_do_no_harm() -> None:
    far = np.array([[-1e30, -1e30], [1e30, -1e30], [0, 1e30]], np.float32)
    assert draw_outlines([far], (20, 30)).shape == (20, 30)
    assert not draw_outlines([np.full((3, 2), np.nan, np.float32)], (20, 30)).any()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_outlines_are_the_mask_again():
    from pycocotools import mask as coco

    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width = (int(n) for n in rng.integers(3, 40, 2))
        noise = cv2.GaussianBlur(rng.random((height, width)), (0, 0), rng.uniform(0.3, 3))
        mask = noise > np.quantile(noise, rng.uniform(0.2, 0.9))
        for outlines in (mask_outlines(mask), [joined_outline(mask)]):
            runs = coco.frPyObjects([each.ravel().tolist() for each in outlines], height, width)
            assert np.array_equal(coco.decode(coco.merge(runs)).astype(bool), mask)
        part = largest_part(mask)
        canvas = np.zeros(mask.shape, np.uint8)
        cv2.fillPoly(canvas, [joined_contour(part).astype(np.int32)], 1)
        assert (canvas.astype(bool) >= part).all()
    assert mask_outlines(np.zeros((4, 4), bool)) == []
