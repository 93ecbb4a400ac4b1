"""Our scores against those of the official scorers on the same generated results."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import scorer_inputs as inputs

from vision_mem.evaluation.sot.datasets import open_benchmark
from vision_mem.evaluation.sot.metrics import davis, success, vot
from vision_mem.evaluation.sot.metrics.got10k import SUCCESS_THRESHOLDS
from vision_mem.evaluation.sot.results import ResultSet
from vision_mem.evaluation.sot.scores import score_benchmark
from vision_mem.evaluation.sot.vot_regions import parse_region

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "scorers"
EXACT = 1e-12  # sums in another order


@pytest.fixture(scope="module")
def golden():
    def read(part):
        found = json.loads((GOLDENS / f"{part}.json").read_text(encoding="utf-8"))
        if found["made"]["inputs"] != inputs.fingerprint():
            pytest.fail("the inputs are not those the numbers were recorded with")
        return found

    return read


@pytest.mark.parametrize("name", inputs.success_cases())
def test_success_and_precision_as_pytracking(golden, name):
    tag, truth, visible, predicted = inputs.success_cases()[name]
    recorded = golden("pytracking")[name]
    errors = success.frame_errors(predicted, truth, visible=visible, tag=tag, absent="pytracking")
    curves = success.success_curves(errors, absent="pytracking")
    assert errors.valid.sum() == recorded["valid"]
    # Counts of frames: a single frame on the wrong side of a threshold would be 0.01 and more.
    np.testing.assert_allclose(curves.success, recorded["success"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(curves.precision, recorded["precision"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(curves.normalised, recorded["normalised"], rtol=0, atol=EXACT)


def test_the_recorded_cases_tell_the_rules_apart(golden):
    recorded = golden("pytracking")
    assert len(recorded) == 1 + len(inputs.success_cases())
    changed = 0
    for name, (tag, truth, visible, predicted) in inputs.success_cases().items():
        errors = success.frame_errors(predicted, truth, visible=visible, tag=tag, strict=True)
        strict = success.success_curves(errors)
        changed += not np.allclose(strict.normalised, recorded[name]["normalised"])
    assert changed >= 3


def test_success_and_precision_as_the_got10k_toolkit(golden):
    recorded = golden("got10k")["otb"]
    assert len(recorded) >= 3
    for name, (succeeded, precise) in recorded.items():
        _, truth, _, predicted = inputs.success_cases()[name]
        curves = success.success_curves(success.frame_errors(predicted, truth, tag="otb"))
        np.testing.assert_allclose(curves.precision, precise, rtol=0, atol=1e-6)
        np.testing.assert_allclose(curves.success, succeeded, rtol=0, atol=1e-6)


def test_got10k_from_files_as_its_toolkit(golden, tmp_path):
    inputs.write_got10k(tmp_path / "data", tmp_path / "results")
    benchmark = open_benchmark("got10k-val", tmp_path / "data", need_frames=False)
    score = score_benchmark(benchmark, ResultSet(tmp_path / "results"))
    recorded = golden("got10k")
    overall = recorded["overall"]
    summary = score.summary()
    assert summary["AO"] == pytest.approx(overall["ao"], abs=1e-6)
    assert summary["SR50"] == pytest.approx(overall["sr"], abs=1e-6)
    assert summary["SR75"] == pytest.approx(overall["succ_curve"][75], abs=1e-6)
    curve = score.curves()["Success"]
    np.testing.assert_allclose(curve.x, SUCCESS_THRESHOLDS)
    np.testing.assert_allclose(curve.y, overall["succ_curve"], rtol=0, atol=1e-6)
    found = {each.name: each.values["AO"] for each in score.sequences}
    assert found == pytest.approx(recorded["sequences"], abs=1e-6)
    assert {each.runs for each in score.sequences} == {1, 2, 3}


@pytest.mark.parametrize("name", inputs.mask_set())
@pytest.mark.parametrize("merge", [False, True])
def test_masks_as_vos_benchmark(golden, name, merge):
    truth, predicted = inputs.mask_set()[name]
    recorded = golden("davis")[name]
    objects = 1 if merge else int(truth.max())
    for number in range(1, objects + 1):
        theirs = recorded["merged" if merge else str(number)]
        ours = [(t > 0, p > 0) if merge else (t == number, p == number)
                for t, p in zip(truth[1:-1], predicted[1:-1], strict=True)]  # fmt: skip
        j = [davis.jaccard(p.astype(np.uint8), t.astype(np.uint8), 1)[0] for t, p in ours]
        f = [davis.boundary_f(p, t) for t, p in ours]
        # An object that no image showed so far has no entries there yet: it starts later.
        start = len(j) - len(theirs["j"])
        np.testing.assert_allclose(j[start:], theirs["j"], rtol=0, atol=EXACT)
        np.testing.assert_allclose(f[start:], theirs["f"], rtol=0, atol=EXACT)


def _grown_boundary_f(predicted, truth):
    """The definition in davis2017-evaluation, word for word: boundaries grown by a disk."""
    radius = int(np.ceil(0.008 * np.linalg.norm(truth.shape)))
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets[None] ** 2 <= radius**2).astype(np.uint8)

    def boundary(mask):
        east, south, both = (np.zeros_like(mask) for _ in range(3))
        east[:, :-1], south[:-1], both[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
        found = (mask ^ east) | (mask ^ south) | (mask ^ both)
        found[-1] = mask[-1] ^ east[-1]
        found[:, -1] = mask[:, -1] ^ south[:, -1]
        found[-1, -1] = False
        return found

    ours, theirs = boundary(predicted), boundary(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    grown, other = (cv2.dilate(b.astype(np.uint8), disk) > 0 for b in (ours, theirs))
    precision, recall = (ours & other).sum() / ours.sum(), (theirs & grown).sum() / theirs.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(12))
def test_boundaries_by_distance_are_boundaries_grown(seed):
    random = np.random.default_rng(seed)
    size = (int(random.integers(20, 480)), int(random.integers(20, 854)))
    masks = random.random((2, *size)) < (0.02, 0.5, 0.98)[seed % 3]
    if seed % 2:
        masks = [cv2.blur(m.astype(np.float32), (9, 9)) > 0.5 for m in masks]
    masks[0][-1] = masks[1][:, -1] = True  # at the image's edge, too
    assert davis.boundary_f(*masks) == pytest.approx(_grown_boundary_f(*masks), abs=EXACT)


def test_regions_overlap_as_in_the_vot_toolkit(golden):
    recorded = golden("vot")["overlaps"]
    for name, (truth, predicted) in inputs.vot_set().items():
        pair = [[parse_region(line, name) for line in lines] for lines in (predicted, truth)]
        ours = vot.region_overlaps(*pair, inputs.SIZE)
        np.testing.assert_allclose(ours, recorded[name], rtol=0, atol=EXACT)
        assert np.unique(np.round(ours, 6)).size > 15


def _write_vot(root: Path, sets) -> None:
    for name, (truth, _) in sets.items():
        folder = root / "sequences" / name
        folder.mkdir(parents=True)
        (folder / "groundtruth.txt").write_text("\n".join(truth) + "\n")
        height, width = inputs.SIZE
        (folder / "sequence").write_text(f"name={name}\nheight={height}\nwidth={width}\n")
    (root / "sequences" / "list.txt").write_text("\n".join(sets) + "\n")


def test_vot_one_run_from_files(golden, tmp_path):
    sets = inputs.vot_set()
    _write_vot(tmp_path / "data", sets)
    for name, (_, predicted) in sets.items():
        place = tmp_path / "ours" / "baseline" / name
        place.mkdir(parents=True)
        (place / f"{name}_001.txt").write_text("\n".join(predicted) + "\n")
        (place / f"{name}_001_time.value").write_text("0.1\n")
    benchmark = open_benchmark("vot", tmp_path / "data", need_frames=False)
    score = score_benchmark(benchmark, ResultSet(tmp_path / "ours"))
    assert score.summary() == pytest.approx(golden("vot")["one run"], abs=1e-9)
    assert any("EAO" in note for note in score.notes)


def test_vot_runs_from_anchors(golden, tmp_path):
    recorded = golden("vot")["anchors"]
    sets = inputs.vot_set()
    _write_vot(tmp_path / "data", sets)
    for name, runs in inputs.vot_anchors().items():
        place = tmp_path / "ours" / name
        place.mkdir(parents=True)
        for anchor, (_, lines) in runs.items():
            (place / f"{name}_{anchor:08d}.txt").write_text("\n".join(lines) + "\n")
    benchmark = open_benchmark("vot", tmp_path / "data", need_frames=False)
    score = score_benchmark(benchmark, ResultSet(tmp_path / "ours"))
    summary = score.summary()
    assert summary["A"] == pytest.approx(recorded["A"], abs=1e-9)
    assert summary["R"] == pytest.approx(recorded["R"], abs=1e-9)
    curve = vot.eao_curve([each.part for each in score.sequences], len(recorded["curve"]))
    np.testing.assert_allclose(curve, recorded["curve"], rtol=0, atol=1e-9)
    assert re.search(r"115 to 755", " ".join(score.notes))
