"""Success and precision, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.evaluation.sot.metrics.success import (
    carry_forward,
    frame_errors,
    mean_curves,
    success_curves,
    success_measures,
)

BOX = [10.0, 20.0, 40.0, 10.0]
AWAY = [500.0, 500.0, 40.0, 10.0]
NONE = [0.0, 0.0, 0.0, 0.0]
GAP = [np.nan] * 4


def score(predicted, truth, **rules):
    absent = rules.get("absent", "miss")
    errors = frame_errors(np.array(predicted, float), np.array(truth, float), **rules)
    return success_measures(success_curves(errors, absent=absent))


def moved(box, x=0.0, y=0.0):
    return [box[0] + x, box[1] + y, *box[2:]]


@pytest.mark.parametrize(
    ("predicted", "overlap"),
    [
        (BOX, 1.0),
        (moved(BOX, 20), 1 / 3),
        (moved(BOX, 40), 0.0),  # they touch
        (moved(BOX, 39.5), 5 / 795),  # half a pixel column shared
        ([10, 20, 20, 10], 1 / 2),
        ([10, 20, 40, 20], 1 / 2),
        (AWAY, 0.0),
    ],
)
def test_overlap(predicted, overlap):
    errors = frame_errors(np.array([BOX, predicted]), np.array([BOX, BOX]))
    assert errors.overlap[1] == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("predicted", "centre", "normalised"),
    [
        (BOX, 0, 0),
        (moved(BOX, 30, 40), 50, np.hypot(30 / 40, 40 / 10)),
        ([10, 20, 50, 10], 5, 5 / 40),  # the centre of a wider box
    ],
)
def test_centre_errors(predicted, centre, normalised):
    errors = frame_errors(np.array([BOX, predicted]), np.array([BOX, BOX]))
    assert errors.centre[1] == pytest.approx(centre)
    assert errors.normalised[1] == pytest.approx(normalised)


@pytest.mark.parametrize(
    ("boxes", "sources"),
    [
        ([BOX, AWAY, NONE, NONE, BOX, NONE], [0, 1, 1, 1, 4, 4]),
        ([NONE, NONE, BOX, NONE], [0, 0, 2, 2]),  # nothing before the first
        ([BOX, [1, 2, 0, 5], [1, 2, 5, 0], AWAY], [0, 0, 0, 3]),  # one size suffices
        ([BOX, AWAY], [0, 1]),
    ],
)
def test_boxes_without_area_take_the_one_before(boxes, sources):
    boxes = np.array(boxes, float)
    np.testing.assert_array_equal(carry_forward(boxes, np.ones_like(boxes)), boxes[sources])


def test_boxes_stay_where_the_truth_is_unknown():
    boxes = np.array([BOX, AWAY, NONE, NONE, NONE])
    truth = np.array([BOX, BOX, GAP, BOX, BOX])
    # The fourth takes the third, which was left at nothing; the fifth then takes that too.
    np.testing.assert_array_equal(carry_forward(boxes, truth), boxes[[0, 1, 2, 2, 2]])


@pytest.mark.parametrize(
    ("truth", "visible", "rules", "expected"),
    [
        # Two frames hit, two without target. The success counts them as missed for all.
        ([BOX, BOX, NONE, NONE], None, {}, {"OP50": 0.5, "P": 0.5, "P_norm": 1.0}),
        ([BOX, BOX, NONE, NONE], None, {"strict": True}, {"OP50": 0.5, "P": 0.5, "P_norm": 0.5}),
        ([BOX, BOX, GAP, GAP], None, {"tag": "uav"}, {"OP50": 0.5, "P": 1.0, "P_norm": 1.0}),
        (
            [BOX, BOX, GAP, GAP], None, {"tag": "uav", "strict": True},
            {"OP50": 0.5, "P": 0.5, "P_norm": 0.5},
        ),
        # LaSOT's flags keep the normalised precision honest ...
        ([BOX, BOX, NONE, NONE], [1, 1, 0, 0], {"tag": "lasot"}, {"P": 0.5, "P_norm": 0.5}),
        # ... but only where they are set.
        ([BOX, BOX, NONE, NONE], [1, 1, 0, 1], {"tag": "lasot"}, {"P": 0.5, "P_norm": 0.75}),
        # A flagged frame with a box: its overlap counts on LaSOT, nowhere else.
        ([BOX] * 4, [1, 1, 1, 0], {"tag": "lasot"}, {"OP50": 1.0, "P": 0.75, "P_norm": 0.75}),
        (
            [BOX] * 4, [1, 1, 1, 0], {"tag": "lasot", "absent": "pytracking"},
            {"OP50": 0.75, "P": 0.75, "P_norm": 0.75},
        ),
        (
            [BOX] * 4, [1, 1, 1, 0], {"tag": "lasot_extension_subset"},
            {"OP50": 0.75, "P": 0.75, "P_norm": 1.0},
        ),
        # Left out, they neither help nor harm.
        ([BOX, BOX, NONE, GAP], None, {"absent": "skip"}, {"OP50": 1, "P": 1, "P_norm": 1}),
        ([BOX] * 4, [1, 1, 0, 0], {"tag": "lasot", "absent": "skip"}, {"OP50": 1, "P_norm": 1}),
        ([BOX, BOX, GAP, GAP], None, {"tag": "uav", "absent": "skip"}, {"OP50": 1, "P": 1}),
    ],
)  # fmt: skip
def test_frames_without_target(truth, visible, rules, expected):
    flags = None if visible is None else np.array(visible, bool)
    found = score([BOX] * 4, truth, visible=flags, **rules)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_what_the_tracker_says_of_absence():
    # "Absent" while the target is there and moves away counts as staying.
    truth = [BOX, moved(BOX, 1), moved(BOX, 40)]
    assert score([BOX, NONE, NONE], truth)["OP50"] == pytest.approx(2 / 3)


def test_nonsense_is_a_miss():
    assert score([BOX, [1e308, -1e308, 1e308, 1e308]], [BOX, BOX])["P_norm"] == 0.5


def test_the_first_box_is_given():
    assert score([AWAY, BOX], [BOX, BOX])["AUC"] == pytest.approx(20 / 21)
    # But it is the tracker's own that is carried on.
    assert score([AWAY, NONE], [BOX, BOX])["AUC"] == pytest.approx(10 / 21)


@pytest.mark.parametrize(("rows", "share"), [(6, 1.0), (4, 1.0), (3, 0.75), (1, 0.25)])
def test_results_of_another_length(rows, share):
    # Longer ones are cut; what is lacking is missed, even after a box that is absent.
    predicted = [BOX] * rows
    if rows == 3:
        predicted[2] = NONE
    assert score(predicted, [BOX] * 4)["OP50"] == pytest.approx(share)


def test_a_threshold_is_not_above_itself():
    # Overlap exactly 1/2: above 0, 0.05, ..., 0.45. Centre exactly 20 pixels off: within.
    truth = [[0, 0, 80, 10], [0, 0, 80, 10]]
    half = score([truth[0], [0, 0, 40, 10]], truth)
    assert half["AUC"] == pytest.approx((20 + 10) / 2 / 21)
    assert half["OP50"] == 0.5
    assert half["P"] == 1.0


def test_sequences_count_the_same_however_long():
    long = success_curves(frame_errors(np.array([BOX] + [AWAY] * 9), np.array([BOX] * 10)))
    short = success_curves(frame_errors(np.array([BOX]), np.array([BOX])))
    assert success_measures(mean_curves([long, short]))["OP50"] == pytest.approx((0.1 + 1) / 2)


def test_no_frame_may_be_left():
    errors = frame_errors(np.array([BOX]), np.array([GAP]))
    assert success_curves(errors, absent="skip") is None
