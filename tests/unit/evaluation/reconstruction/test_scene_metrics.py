"""Depth, points and masks against closed forms, brute force and other solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.spatial.transform import Rotation

from vision_mem.errors import InputError
from vision_mem.evaluation.reconstruction.metrics.depth import (
    depth_errors,
    fit_depth,
    pixel_errors,
    ratio_curve,
)
from vision_mem.evaluation.reconstruction.metrics.dynamic import MaskCounts, ghost_share, seen_again
from vision_mem.evaluation.reconstruction.metrics.points import (
    cloud_errors,
    fit_points,
    settle,
    surface_normals,
)
from vision_mem.geometry.poses import exponential, inverse, transform


def depths(count=400, seed=0):
    random = np.random.default_rng(seed)
    g = random.uniform(1, 9, count).astype(np.float32)
    p = (g / 2.5 - 0.2 + random.laplace(0, 0.1, count)).astype(np.float32)
    return p, g


# -- depth -------------------------------------------------------------------------------------


def test_the_strict_scale_has_the_least_sum_of_errors():
    p, g = depths()
    scale, _ = fit_depth(p, g, "scale", strict=True)
    tried = np.linspace(0.5, 5, 20001)
    sums = [np.abs(s * p.astype(float) - g).sum() for s in tried]
    assert scale == pytest.approx(tried[int(np.argmin(sums))], abs=3e-4)
    # Ten rounds of weights come near it, and no nearer.
    usual, _ = fit_depth(p, g, "scale")
    assert usual == pytest.approx(scale, rel=0.01)
    assert np.abs(usual * p.astype(float) - g).sum() >= min(sums)


def test_scale_and_shift_are_those_of_linear_programming():
    p, g = depths(60)
    scale, shift = fit_depth(p, g, "scale&shift")
    # Least sum of u with -u <= s p + t - g <= u.
    count, one = len(p), np.ones(len(p))
    eye = np.eye(count)
    rows = np.block([[p[:, None], one[:, None], -eye], [-p[:, None], -one[:, None], -eye]])
    bounds = [(None, None)] * 2 + [(0, None)] * count
    best = linprog(np.r_[0, 0, one], rows, np.r_[g, -g], bounds=bounds)
    assert np.abs(scale * p.astype(float) + shift - g).sum() == pytest.approx(best.fun, rel=1e-4)
    assert (scale, shift) == pytest.approx(tuple(best.x[:2]), abs=0.02)


def test_adam_walks_as_torch_does(monkeypatch):
    from vision_mem.evaluation.reconstruction.metrics import depth

    monkeypatch.setattr(depth, "_STEPS", 300)
    p, g = depths(200)
    found = fit_depth(p, g, "scale&shift", solver="adam")
    start = float(torch.tensor(g).median() / torch.tensor(p).median())
    s = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    steps, before = torch.optim.Adam([s, t], lr=1e-4), None
    for _ in range(300):
        steps.zero_grad()
        loss = (s * torch.tensor(p).double() + t - torch.tensor(g).double()).abs().sum()
        loss.backward()
        steps.step()
        if before is not None and abs(before - loss.item()) < 1e-6:
            break
        before = loss.item()
    assert found == pytest.approx((s.item(), t.item()), abs=1e-6)
    # It stays where it begins: the exact solver is far better.
    exact = fit_depth(p, g, "scale&shift")
    sums = [np.abs(a * p.astype(float) + b - g).sum() for a, b in (found, exact)]
    assert sums[1] < 0.98 * sums[0] and abs(found[0] - start) < 0.11


@pytest.mark.parametrize(
    ("strict", "scale"), [(False, 2.0), (True, 2.5)], ids=["lower middle", "between"]
)
def test_the_median_of_an_even_number(strict, scale):
    p, g = np.float32([1, 1]), np.float32([2, 3])
    assert fit_depth(p, g, "median", strict=strict) == (scale, 0)


def test_what_lies_beyond_is_cut_off_unless_strict():
    p, g = [[100.0, 10.0]], [[50.0, 10.0]]
    options = {"align": "metric", "farthest": 70.0}
    assert depth_errors(p, g, **options).abs_rel == pytest.approx(0.4 / 2)
    assert depth_errors(p, g, **options, clip=False).abs_rel == pytest.approx(1.0 / 2)
    assert depth_errors(p, g, **options, strict=True).abs_rel == pytest.approx(1.0 / 2)
    # Depth below 0 counts with all of its error, and only ratios take a small number for it.
    errors = depth_errors([[-1.0, 1.0]], [[1.0, 1.0]], align="metric")
    assert errors.abs_rel == pytest.approx(1.0) and errors.delta == 0.5


def test_slices_add_up(monkeypatch):
    from vision_mem.evaluation.reconstruction.metrics import depth

    p, g = depths(1001)
    whole = [fit_depth(p, g, "scale&shift"), pixel_errors(p, g, 2, 0.1), ratio_curve(p, g, 2, 0.1)]
    monkeypatch.setattr(depth, "_SLICE", 64)
    parts = [fit_depth(p, g, "scale&shift"), pixel_errors(p, g, 2, 0.1), ratio_curve(p, g, 2, 0.1)]
    assert parts[0] == pytest.approx(whole[0], rel=1e-4)
    assert parts[1].abs_rel == pytest.approx(whole[1].abs_rel, rel=1e-9)
    assert np.allclose(parts[2][1], whole[2][1])
    at = int(np.argmin(np.abs(whole[2][0] - 1.25)))
    assert whole[2][1][at] == pytest.approx(whole[1].delta)


# -- points ------------------------------------------------------------------------------------


def blob(count=300, seed=1):
    random = np.random.default_rng(seed)
    return random.normal(0, 1, (count, 3)) * (1.0, 0.6, 0.3) + (0.3, -0.2, 4.0)


def test_clouds_against_all_distances():
    one, other = blob(200), blob(150, seed=2)
    errors = cloud_errors(one, other)
    table = np.linalg.norm(one[:, None] - other[None], axis=2)
    assert errors.accuracy == pytest.approx(table.min(axis=1).mean())
    assert errors.accuracy_median == pytest.approx(np.median(table.min(axis=1)))
    assert errors.completeness == pytest.approx(table.min(axis=0).mean())
    assert errors.completeness_median == pytest.approx(np.median(table.min(axis=0)))
    facing, truly = surface_normals(one), surface_normals(other)
    forth = np.abs((facing * truly[table.argmin(axis=1)]).sum(axis=1))
    back = np.abs((truly * facing[table.argmin(axis=0)]).sum(axis=1))
    assert errors.normals == pytest.approx((forth.mean() + back.mean()) / 2)
    assert errors.precise[-1] == pytest.approx((table.min(axis=1) < 0.2).mean())
    with pytest.raises(InputError, match="3 or more"):
        cloud_errors(one[:2], other)


def test_normals_of_a_ball_point_outwards():
    random = np.random.default_rng(3)
    way = random.normal(0, 1, (4000, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    agree = np.abs((surface_normals(5 * way + 1) * way).sum(axis=1))
    assert np.median(agree) > 0.999 and agree.min() > 0.95


def test_a_cloud_settles_where_it_belongs_and_strays_do_not_pull():
    random = np.random.default_rng(4)
    # Three sides of a box hold a cloud in all directions.
    sides = [np.insert(random.uniform(0, 1, (1200, 2)), axis, 0.0, axis=1) for axis in range(3)]
    true = np.concatenate(sides)
    shift = exponential((0.01, -0.015, 0.01, 0.01, -0.008, 0.012))
    stray = random.uniform(3, 4, (300, 3))
    found = np.concatenate([transform(inverse(shift), true), stray])
    motion = settle(found, true)
    assert np.abs(transform(motion, found[:-300]) - true).mean() < 2e-3
    assert np.allclose(settle(true + 10, true), np.eye(4))  # all too far away


@pytest.mark.parametrize(
    ("scale", "twist", "strict", "right"),
    [
        (2.5, (0, 0, 0, 0, 0, 0.7), False, True),
        (2.5, (0, 0, 0, 0, 0, 0.7), True, True),
        # Nothing sideways and no turn, by the peers' rule.
        (0.5, (0, 0, 0, 0.4, 0, 0), False, False),
        (0.5, (0, 0, 0, 0.4, 0, 0), True, True),
        (1.0, (0, 0.3, 0, 0, 0, 0), False, False),
        (1.0, (0, 0.3, 0, 0, 0, 0), True, True),
    ],
)
def test_points_are_fitted_by_scale_and_depth_or_strictly_by_all(scale, twist, strict, right):
    true = blob()
    found = transform(inverse(exponential(twist)), true) / scale
    fit = fit_points(found, true, strict=strict)
    off = np.linalg.norm(fit(found) - true, axis=1).max()
    assert (off < 1e-9) == right
    if right:
        assert fit.scale == pytest.approx(scale)


def test_points_that_cannot_be_fitted():
    with pytest.raises(InputError, match="pixel by pixel"):
        fit_points(blob(5), blob(4))
    with pytest.raises(InputError, match="no scale"):
        fit_points(np.ones((9, 3)), blob(9))


# -- what moves --------------------------------------------------------------------------------


def test_masks_by_hand():
    found = np.array([[1, 1, 0, 0]], bool)
    true = np.array([[1, 0, 1, 0]], bool)
    counts = MaskCounts.of(found, true) + MaskCounts.of(found, true, np.array([[1, 0, 0, 0]], bool))
    assert (counts.hit, counts.wrong, counts.missed) == (2, 1, 1)
    assert counts.measures == pytest.approx(
        {"mask_iou": 0.5, "mask_f1": 2 / 3, "mask_precision": 2 / 3, "mask_recall": 2 / 3}
    )
    assert all(np.isnan(value) for value in MaskCounts().measures.values())


def test_ghosts_by_hand():
    assert ghost_share(np.array([0.0, 0.1, 0.11, 3.0])) == 0.5
    assert np.isnan(ghost_share(np.zeros(0)))


def test_places_that_are_seen_again():
    here, there = np.array([[0.5, 0.5, 0.5]]), np.array([[5.0, 0.5, 0.5]])
    both = np.concatenate([here, there])
    places = [here, both, there, here, np.zeros((0, 3)), here]
    again = seen_again(places, gap=2)
    assert [each.tolist() for each in again] == [[False], [False] * 2, [False], [True], [], [True]]
    # Their numbers count, not their places in the list.
    assert seen_again([here, here], [0, 47], gap=48)[1].tolist() == [False]
    assert seen_again([here, here], [0, 48], gap=48)[1].tolist() == [True]


def test_rotations_do_not_matter_for_clouds():
    one, other = blob(80), blob(80, seed=5)
    turn = Rotation.from_euler("xyz", (0.3, 1, -2)).as_matrix()
    straight, turned = cloud_errors(one, other), cloud_errors(one @ turn.T, other @ turn.T)
    assert turned.accuracy == pytest.approx(straight.accuracy)
    assert turned.normals == pytest.approx(straight.normals, abs=1e-6)
