"""How honest a score is, in figures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def script(monkeypatch):
    for folder in ("scripts/bench", "tests/fixtures"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    import calibration

    yield calibration
    for name in ("calibration", "quality"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("scores", "good", "area"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0),
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1], 0.5),
        ([0.1, 0.6, 0.4, 0.9], [0, 0, 1, 1], 0.75),
    ],
)
def test_how_well_scores_tell_good_from_bad(script, scores, good, area):
    assert script.auroc(np.array(scores), np.array(good, bool)) == pytest.approx(area)


def test_a_score_that_says_how_often_it_is_right(script):
    scores = np.array([0.75] * 4 + [0.25] * 4)
    right = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    assert script.calibration_error(scores, right) == pytest.approx(0)
    assert script.calibration_error(scores, ~right) == pytest.approx(0.5)


def test_fitted_weights_are_those_that_made_the_data(script):
    rng = np.random.default_rng(0)
    signs = np.column_stack([np.ones(4000), rng.normal(size=(4000, 2)), np.zeros(4000)])
    true = np.array([0.5, 2.0, -1.0, 0.0])
    good = rng.random(4000) < 1 / (1 + np.exp(-signs @ true))
    assert np.allclose(script.fit_logistic(signs, good), true, atol=0.2)
