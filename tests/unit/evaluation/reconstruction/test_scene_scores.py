"""Errors of paths and depth against hand-worked cases, and evo where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from scene_samples import write_trajectory
from scipy.spatial.transform import Rotation

from vision_mem.errors import InputError
from vision_mem.evaluation.reconstruction.metrics.depth import depth_errors
from vision_mem.evaluation.reconstruction.results import score_path_files
from vision_mem.geometry.poses import exponential, make_pose
from vision_mem.geometry.trajectory_errors import associate, path_errors


def path(points, turns=None):
    turns = [0.0] * len(points) if turns is None else turns
    return np.stack(
        [make_pose(Rotation.from_euler("y", t, degrees=True).as_matrix(), p)
         for p, t in zip(points, turns, strict=True)]
    )  # fmt: skip


SQUARE = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]


@pytest.mark.parametrize(
    ("found", "align", "ate", "rpe", "degrees", "scale"),
    [
        (path(SQUARE), "none", 0, 0, 0, 1),
        # One corner 0.4 m off: sqrt(0.16 / 4); two steps of three are 0.4 m off.
        (path([*SQUARE[:2], (1, 1, 0.4), SQUARE[3]]), "none", 0.2, 0.4 * (2 / 3) ** 0.5, 0, 1),
        # Shifted by 3 m: all of it without an alignment, none of it with one.
        (path(np.add(SQUARE, (0, 0, 3))), "none", 3, 0, 0, 1),
        (path(np.add(SQUARE, (0, 0, 3))), "se3", 0, 0, 0, 1),
        # Half as large: half a diagonal is left over with rigid motions, nothing with a scale.
        (path(np.multiply(SQUARE, 0.5)), "se3", 0.5**0.5 / 2, 0.5, 0, 1),
        (path(np.multiply(SQUARE, 0.5)), "sim3", 0, 0, 0, 2),
        # The last camera is turned by 30 degrees: one motion of three is off by them.
        (path(SQUARE, [0, 0, 0, 30]), "none", 0, 0, 30 / 3**0.5, 1),
    ],
    ids=["same", "corner", "shift", "shift aligned", "small", "small scaled", "turned"],
)
def test_paths_by_hand(found, align, ate, rpe, degrees, scale):
    errors = path_errors(found, path(SQUARE), align=align)
    assert errors.ate == pytest.approx(ate, abs=1e-9)
    assert errors.rpe_translation == pytest.approx(rpe, abs=1e-9)
    assert errors.rpe_rotation == pytest.approx(degrees, abs=1e-6)
    assert errors.scale == pytest.approx(scale)
    assert not errors.degenerate
    assert errors.poses == 4


def test_a_line_is_called_degenerate():
    line = path([(k, 0, 0) for k in range(5)])
    assert path_errors(line, line).degenerate
    assert path_errors(np.repeat(line[:1], 5, axis=0), path([*SQUARE, (3, 1, 2)])).degenerate
    assert not path_errors(line, line, align="none").degenerate


@pytest.mark.parametrize(
    ("found", "options", "says"),
    [
        (path(SQUARE[:3]), {}, "expected two equal"),
        (path(SQUARE), {"align": "sim"}, "sim3, se3, none"),
        (path(SQUARE), {"delta": 4}, "expected 1 to 3"),
        (path(SQUARE) * np.nan, {}, "not finite"),
    ],
)
def test_paths_that_cannot_be_compared(found, options, says):
    with pytest.raises(InputError, match=says):
        path_errors(found, path(SQUARE), **options)


def test_moments_are_matched_once_each_and_the_closest_first():
    assert associate([0.0, 1.0, 2.0], [0.01, 0.99, 1.005, 2.03]) == [(0, 0), (1, 2)]
    assert associate([1.0, 1.01], [1.008]) == [(1, 0)]
    assert associate([], [1.0]) == []
    assert associate([0.0], [0.02]) == [(0, 0)]


def wandering(count=60):
    random = np.random.default_rng(5)
    true = [np.eye(4)]
    for _ in range(count - 1):
        true.append(true[-1] @ exponential(random.normal(0, 0.1, 6)))
    off = [pose @ exponential(random.normal(0, 0.02, 6)) for pose in true]
    world = exponential((0.3, 1.2, -0.4, 5.0, 1.0, 2.0))
    found = np.stack([world @ pose for pose in off])
    found[:, :3, 3] *= 0.4
    return found, np.stack(true)


def test_files_are_matched_by_time(tmp_path):
    found, true = wandering()
    times = np.arange(len(true)) / 10
    write_trajectory(tmp_path / "true.txt", true, times)
    write_trajectory(tmp_path / "found.txt", found[5::2], times[5::2] + 0.004)
    errors = score_path_files(tmp_path / "found.txt", tmp_path / "true.txt")
    direct = path_errors(found[5::2], true[5::2])
    assert errors.ate == pytest.approx(direct.ate, rel=1e-4)
    assert errors.rpe_rotation == pytest.approx(direct.rpe_rotation, rel=1e-4)
    write_trajectory(tmp_path / "late.txt", found, times + 100)
    with pytest.raises(InputError, match="share 0 moments"):
        score_path_files(tmp_path / "late.txt", tmp_path / "true.txt")


@pytest.mark.parametrize("align", ["sim3", "se3"])
@pytest.mark.parametrize("delta", [1, 7])
def test_evo_says_the_same(align, delta):
    pytest.importorskip("evo")
    from evo.core import metrics, units
    from evo.core.trajectory import PosePath3D

    found, true = wandering()
    ours = path_errors(found, true, align=align, delta=delta)
    reference, moved = PosePath3D(poses_se3=list(true)), PosePath3D(poses_se3=list(found))
    moved.align(reference, correct_scale=align == "sim3")
    absolute = metrics.APE(metrics.PoseRelation.translation_part)
    absolute.process_data((reference, moved))
    assert ours.ate == pytest.approx(absolute.get_statistic(metrics.StatisticsType.rmse))
    for relation, value in (
        (metrics.PoseRelation.translation_part, ours.rpe_translation),
        (metrics.PoseRelation.rotation_angle_deg, ours.rpe_rotation),
    ):
        relative = metrics.RPE(relation, delta=delta, delta_unit=units.Unit.frames, all_pairs=True)
        relative.process_data((reference, moved))
        assert value == pytest.approx(relative.get_statistic(metrics.StatisticsType.rmse))


TRUE = [[1.0, 2.0], [4.0, 0.0]]  # the last pixel is not known


@pytest.mark.parametrize(
    ("predicted", "align", "abs_rel", "delta", "scale", "shift"),
    [
        ([[1, 2], [4, 9]], "metric", 0, 1, 1, 0),
        # Off by 0.2, 0.2 and 2 metres: (0.2 + 0.1 + 0.5) / 3, the last one beyond 1.25.
        ([[1.2, 2.2], [6, 9]], "metric", 0.8 / 3, 2 / 3, 1, 0),
        ([[0.5, 1], [2, 9]], "median", 0, 1, 2, 0),
        ([[0.5, 1], [2, 9]], "scale", 0, 1, 2, 0),
        # Two of three agree on a factor of 2: the third, 8 for 4, is left as it is.
        ([[0.5, 1], [4, 9]], "median", 1 / 3, 2 / 3, 2, 0),
        ([[2, 2.5], [3.5, 9]], "scale&shift", 0, 1, 2, -3),
    ],
    ids=["same", "metric", "median", "scale", "outlier", "shift"],
)
def test_depth_by_hand(predicted, align, abs_rel, delta, scale, shift):
    errors = depth_errors(predicted, TRUE, align=align)
    assert errors.abs_rel == pytest.approx(abs_rel, abs=1e-6)
    assert errors.delta == pytest.approx(delta)
    assert (errors.scale, errors.shift) == pytest.approx((scale, shift), abs=1e-5)
    assert errors.pixels == 3


def test_other_errors_of_depth_by_hand():
    errors = depth_errors([[2.0, 2.0]], [[1.0, 4.0]], align="metric")
    assert errors.rmse == pytest.approx(((1 + 4) / 2) ** 0.5)
    assert errors.sq_rel == pytest.approx((1 + 1) / 2)
    assert errors.log_rmse == pytest.approx(np.log(2))
    assert errors.delta == 0
    assert depth_errors([[2.0, 9]], [[1.0, 80]], align="metric", farthest=70).pixels == 1


@pytest.mark.parametrize("align", ["scale", "scale&shift"])
def test_alignment_minds_few_that_are_far_off(align):
    random = np.random.default_rng(0)
    true = random.uniform(1, 9, 4000)
    predicted = true / 3 - (0.5 if align == "scale&shift" else 0)
    predicted[:400] *= 4
    errors = depth_errors(predicted, true, align=align)
    assert errors.scale == pytest.approx(3, rel=1e-3)
    assert errors.delta == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    ("predicted", "options", "says"),
    [
        ([[1.0]], {}, "expected one"),
        (np.full((2, 2), np.nan), {}, "nothing can be compared"),
        (np.zeros((2, 2)), {}, "expected more than 0"),
        (np.zeros((2, 2)), {"align": "median"}, "expected more than 0"),
        (np.ones((2, 2)), {"align": "best"}, "metric, median"),
    ],
)
def test_depth_that_cannot_be_compared(predicted, options, says):
    with pytest.raises(InputError, match=says):
        depth_errors(predicted, TRUE, **options)
