"""J, F, GOT-10k's overlap and VOT's regions, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.evaluation.sot.metrics.davis import (
    ObjectScore,
    boundary_f,
    davis_measures,
    jaccard,
    statistics,
    true_labels,
)
from vision_mem.evaluation.sot.metrics.got10k import clipped_iou, counted_iou, got10k_measures
from vision_mem.evaluation.sot.metrics.vot import RunScore, run_measures, score_anchors, score_run
from vision_mem.evaluation.sot.vot_regions import (
    VotRegion,
    code,
    mask,
    parse_region,
    parse_regions,
    rectangle,
    region_overlap,
)


def square(top, left, side, size=(60, 80)):
    image = np.zeros(size, bool)
    image[top : top + side, left : left + side] = True
    return image


def test_jaccard_of_several_objects():
    truth = np.array([[1, 1, 2, 2, 0, 0]], np.uint8)
    predicted = np.array([[1, 2, 2, 2, 3, 0]], np.uint8)
    # Object 3 is in the truth nowhere; object 4 in neither image.
    np.testing.assert_allclose(jaccard(predicted, truth, 4), [1 / 2, 2 / 3, 0, 1])


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (square(10, 10, 20), square(10, 10, 20), 1.0),
        (square(10, 10, 20), square(10, 11, 20), 1.0),  # within one pixel: ceil(0.8)
        (square(10, 10, 4), square(40, 60, 4), 0.0),
        (square(0, 0, 0), square(0, 0, 0), 1.0),
        (square(0, 0, 0), square(10, 10, 5), 0.0),
        (square(10, 10, 5), square(0, 0, 0), 0.0),
        (np.ones((60, 80), bool), square(0, 0, 0), 1.0),  # no boundary in a full image
    ],
)
def test_boundaries(ours, theirs, expected):
    assert boundary_f(ours, theirs) == pytest.approx(expected)


def test_boundary_of_a_square_shifted_too_far():
    # Two pixels to the right at one pixel's tolerance: its left and right sides are lost.
    found = boundary_f(square(10, 10, 20), square(10, 12, 20))
    assert 0.4 < found < 0.6


def test_statistics_over_frames():
    values = np.array([1.0, 0.9, 0.7, 0.8, 0.6, 0.5, 0.3, 0.0])
    mean, recall, decay = statistics(values)
    # Quarters share their edges: frames 1 to 3 and 6 to 8 (linspace 1, 2.75, 4.5, 6.25, 8).
    assert (mean, recall) == (pytest.approx(0.6), pytest.approx(5 / 8))
    assert decay == pytest.approx(np.mean([1.0, 0.9, 0.7]) - np.mean([0.5, 0.3, 0.0]))
    # 1, 2.5, 4, 5.5, 7: halves go up.
    assert statistics(values[:7])[2] == pytest.approx(np.mean([1, 0.9, 0.7]) - np.mean([0.5, 0.3]))
    assert np.isnan(statistics(np.zeros(0))).all()


def test_objects_count_the_same():
    one = ObjectScore(1, np.full(4, 0.8), np.full(4, 0.6))
    other = ObjectScore(2, np.full(400, 0.2), np.full(400, 0.4))
    found = davis_measures([one, other])
    assert found["J"] == pytest.approx(0.5)
    assert found["F"] == pytest.approx(0.5)
    assert found["J&F"] == pytest.approx(0.5)
    assert found["J_recall"] == 0.5


def test_void_is_background_but_in_merged_truth():
    image = np.array([[0, 1, 2, 255]], np.uint8)
    np.testing.assert_array_equal(true_labels(image, merge=False), [[0, 1, 2, 0]])
    np.testing.assert_array_equal(true_labels(image, merge=True), [[0, 1, 1, 1]])


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([0, 0, 50, 40], 1.0),
        ([0, 0, 25, 40], 0.5),
        ([-10, 0, 50, 40], 1.0),  # moved in, as wide as before
        ([0, 0, 500, 400], 2000 / (100 * 80)),  # cut at the image
        ([0, 0, 0, 0], 0.0),
        ([10, 10, -5, 5], 0.0),
        ([200, 10, 50, 40], 0.0),
    ],
)
def test_got10k_clips_boxes(predicted, expected):
    truth = np.array([[0.0, 0, 50, 40]])
    found = clipped_iou(np.array([predicted], float), truth, (80, 100))
    assert found[0] == pytest.approx(expected)


def test_got10k_counts_frames_that_show_something():
    boxes = np.array([[0.0, 0, 10, 10]] * 5)
    ours = boxes.copy()
    ours[3] = 0
    visible = np.array([True, True, False, True, True])
    iou = counted_iou(ours, boxes, (50, 50), visible)
    np.testing.assert_allclose(iou, [1, 0, 1])  # not the first, not the third
    assert got10k_measures(iou)["AO"] == pytest.approx(2 / 3)
    assert got10k_measures(np.array([0.5, 0.75, 0.76]))["SR75"] == pytest.approx(1 / 3)
    assert np.isnan(got10k_measures(np.zeros(0))["AO"])


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ("0,0,10,10", "0,0,10,10", 1.0),
        ("0,0,10,10", "5,0,10,10", 1 / 3),
        ("0,0,10,10", "0,0,9,0,9,9,0,9", 1.0),  # corners are pixels that belong to it
        ("0,0,10,10", "m0,0,10,10,0,50", 0.5),
        # A U as the toolkit draws it: of its top row, all but one pixel.
        ("0,0,2,0,2,6,7,6,7,0,9,0,9,9,0,9", "0,0,10,10", 0.75),
        ("-5,0,10,10", "0,0,5,10", 1.0),  # outside the image nothing counts
        ("0,0,10,10", "0", 0.0),
        ("0", "1", 1.0),  # nothing and nothing
        ("nan,nan,nan,nan", "0", 1.0),
        ("70,50,5,5", "0,0,5,5", 0.0),
    ],
)
def test_regions_overlap(first, second, overlap):
    pair = [parse_region(text, "here") for text in (first, second)]
    assert region_overlap(*pair, (60, 80)) == pytest.approx(overlap)
    assert region_overlap(*pair[::-1], (60, 80)) == pytest.approx(overlap)


@pytest.mark.parametrize(
    "line",
    [
        "", "a,b,c,d", "1,2", "1,2,3", "1,2,3,4,5", "1,2,3,4,5,6,7", "1e30,0,5,5", "inf,0,1,1",
        "m", "m1,2", "m0,0,2,2,9", "m0,0,2,2,-1,3", "m0,0,99999,99999,5", "m0,0,-4,-4,1",
        "m0,0,2,2,1.5",
    ],
)  # fmt: skip
def test_lines_that_are_no_region(line):
    with pytest.raises(InputError, match=r"file\.txt"):
        parse_region(line, "file.txt, line 3")


def test_a_mask_keeps_its_place():
    image = np.zeros((20, 30), np.uint8)
    image[5:9, 10:14] = 7
    region = mask(image, (100, 200))
    assert (region.offset, region.shape, region.is_empty) == ((110, 205), (4, 4), False)
    assert region.pixels.all()
    assert mask(np.zeros((4, 4), np.uint8)).is_empty


def test_binary_files_of_the_toolkit():
    import struct

    data = struct.pack("<hI", 1, 4) + struct.pack("<BI", 0, 1)
    data += struct.pack("<B4f", 1, 1, 2, 30, 40)
    data += struct.pack("<BH8f", 2, 4, 0, 0, 9, 0, 9, 9, 0, 9)
    data += struct.pack("<BhhHHH2H", 3, 5, 6, 4, 2, 2, 3, 5)
    started, box, corners, drawn = parse_regions(data, "run.bin")
    assert started.is_code(1)
    np.testing.assert_array_equal(box.data, [1, 2, 30, 40])
    assert corners.data.shape == (4, 2)
    np.testing.assert_array_equal(drawn.pixels.ravel(), [0, 0, 0, 1, 1, 1, 1, 1])
    for cut in (data[:-1], data[:7], data[:2], b"\x01\x00\xff\xff\xff\xff\x09"):
        with pytest.raises(InputError, match=r"run\.bin"):
            parse_regions(cut, "run.bin")


def boxes(*rows):
    return [row if isinstance(row, VotRegion) else rectangle(row) for row in rows]


def test_one_run_counts():
    here, gone = [10, 10, 20, 20], [0, 0, 0, 0]
    truth = boxes(here, here, here, here, gone, gone, [np.nan] * 4)
    ours = boxes(here, [50, 40, 9, 9], code(0), [10, 10, 20, 10], code(0), here, here)
    run = score_run(ours, truth, (60, 80))
    assert (run.tracked, run.failed, run.missed) == (2, 1, 1)
    assert (run.noticed, run.invented) == (1, 1)
    assert run.accuracy == pytest.approx((1 + 0.5) / 2)
    assert run.quality == pytest.approx((1 + 0 + 0 + 0.5 + 1 + 0) / 6)  # not the unknown one


def test_absence_is_judged_where_there_is_enough_of_it():
    def run(noticed, invented):
        return RunScore(0.5, 0.5, 10, 0, 0, invented=invented, noticed=noticed)

    assert run_measures([run(6, 6), run(10, 0)])["ADQ"] == 0.5
    assert np.isnan(run_measures([run(10, 0)])["ADQ"])


def test_a_run_from_an_anchor_ends_where_it_is_lost():
    truth = boxes(*[[10, 10, 20, 20]] * 40)
    lost = boxes(*[[10, 10, 20, 20]] * 15, *[[60, 40, 9, 9]] * 25)
    score = score_anchors([(0, lost), (39, truth)], truth, (60, 80))
    assert score.progress == (15, 40)
    assert score.overlaps[0].sum() == 15
    with pytest.raises(InputError, match="25"):
        score_anchors([(30, truth[:25])], truth, (60, 80))
