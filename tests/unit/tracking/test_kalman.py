"""The box filter on a hand-checked trajectory (SAMURAI's noise model, five boxes)."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.tracking import kalman

BOXES = [
    (100, 200, 180, 320),
    (104, 202, 184, 322),
    (109, 204, 189, 326),
    (113, 207, 193, 327),
    (118, 210, 199, 331),
]


def test_trajectory():
    state = kalman.start(BOXES[0])
    np.testing.assert_allclose(state.mean, (140, 260, 2 / 3, 120, 0, 0, 0, 0))
    variances = (144, 144, 1e-4, 144, 56.25, 56.25, 1e-10, 56.25)
    np.testing.assert_allclose(np.diag(state.covariance), variances)
    overlaps = []
    for number, box in enumerate(BOXES[1:], start=1):
        ahead = kalman.predict(state)
        overlaps.append(float(kalman.motion_ious(ahead, [box])[0]))
        state = kalman.update(ahead, box)
        if number == 1:
            expected = (143.471074, 261.735537, 0.666667, 120, 0.826446, 0.413223, 0, 0)
            np.testing.assert_allclose(state.mean, expected, atol=5e-7)
    np.testing.assert_allclose(overlaps, (0.876466, 0.850207, 0.916056, 0.894769), atol=5e-7)
    expected = (157.689739, 269.940923, 0.666502, 120.895829, 3.683816, 2.110672, 0, 0.149625)
    np.testing.assert_allclose(state.mean, expected, atol=5e-7)


def test_states_are_values():
    state = kalman.start(BOXES[0])
    mean, covariance = state.mean.copy(), state.covariance.copy()
    ahead = kalman.predict(state)
    before = ahead.mean.copy()
    kalman.update(ahead, BOXES[1])
    np.testing.assert_array_equal(state.mean, mean)
    np.testing.assert_array_equal(state.covariance, covariance)
    np.testing.assert_array_equal(ahead.mean, before)
    assert kalman.predict(ahead).spread > ahead.spread > state.spread


def test_odd_boxes():
    np.testing.assert_array_equal(kalman.measure((0, 0, 0, 0)), (0, 0, 0, 1))
    np.testing.assert_array_equal(kalman.measure((4, 7, 9, 7)), (6.5, 7, 5, 1))
    ahead = kalman.predict(kalman.start(BOXES[0]))
    assert kalman.motion_ious(ahead, [(0, 0, 0, 0)])[0] == 0.0
    assert kalman.start(BOXES[0]).box == pytest.approx(BOXES[0])
