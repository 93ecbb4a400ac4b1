"""Overlap metrics of the benches, worked by hand."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def bench(root: Path) -> Iterator[ModuleType]:
    path = root / "scripts" / "bench" / "quality.py"
    spec = importlib.util.spec_from_file_location("bench_overlap", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_iou_frame_by_frame(bench):
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0], [5, 5, 5, 9]])
    predicted = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 0, 0], [1, 1, 2, 2], [0, 0, 9, 9]])
    iou = bench.sequence_iou(predicted.astype(float), truth.astype(float))
    np.testing.assert_allclose(iou[:3], [1, 1 / 3, 0])
    assert np.isnan(iou[3:]).all()  # nothing to be found there


def test_lengths_must_agree(bench):
    with pytest.raises(ValueError, match="zip"):
        bench.sequence_iou(np.zeros((2, 4)), np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("iou", "auc"),
    [
        ([0.0, 0.0], 0.0),
        ([1.0], 20 / 21),  # above every threshold but 1 itself: strictly
        ([0.5], 10 / 21),
        ([0.52], 11 / 21),
        ([1.0, 0.0], 10 / 21),
        ([1.0, np.nan], 20 / 21),  # frames without truth are left out
    ],
)
def test_success_auc(iou, auc, bench):
    assert bench.success_auc(np.array(iou)) == pytest.approx(auc)


def test_jaccard_leaves_the_ends_out(bench):
    def row(*on):
        return np.array([[n in on for n in range(4)]])

    predicted = [row(0), row(0, 1), row(), row(2), row(3)]
    truth = [row(3), row(1, 2), row(), row(2, 3), row(0)]
    # 1/3, then nothing of nothing, then 1/2; the wrong first and last frames do not count.
    assert bench.mean_jaccard(predicted, truth) == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
