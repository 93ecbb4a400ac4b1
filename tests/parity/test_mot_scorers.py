"""Our scores of many objects against TrackEval's and motmetrics' on the same generated files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mot_inputs as inputs
import numpy as np
import pytest

from vision_mem.evaluation.mots.datasets import open_mot_benchmark
from vision_mem.evaluation.mots.metrics.comparison import make_comparison
from vision_mem.evaluation.mots.results import MotResults
from vision_mem.evaluation.mots.scores import count, score_tracks

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "mots"
EXACT = 1e-9  # sums in another order; a single pair more or less would be 1e-4 and above
ALL = "COMBINED_SEQ"

# Ours by TrackEval's name.
NAMES = {
    "HOTA": "HOTA", "DetA": "DetA", "AssA": "AssA", "DetRe": "DetRe", "DetPr": "DetPr",
    "AssRe": "AssRe", "AssPr": "AssPr", "LocA": "LocA", "MOTA": "MOTA", "MOTP": "MOTP",
    "sMOTA": "sMOTA", "CLR_Re": "Rcll", "CLR_Pr": "Prcn", "CLR_FN": "FN", "CLR_FP": "FP",
    "IDSW": "IDS", "MT": "MT", "PT": "PT", "ML": "ML", "Frag": "Frag", "IDF1": "IDF1",
    "IDR": "IDR", "IDP": "IDP",
}  # fmt: skip


@pytest.fixture(scope="module")
def trackeval():
    return json.loads((GOLDENS / "trackeval.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=inputs.SETS)
def scored(request, trackeval, tmp_path_factory):
    """What TrackEval says of a set, and what we say."""
    write, truth, results = inputs.SETS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write(folder)
    recorded = trackeval["sets"][request.param]
    if recorded["inputs"] != inputs.fingerprint(folder):
        pytest.fail("the inputs are not those the numbers were recorded with")
    benchmark = open_mot_benchmark(request.param, folder / truth, need_frames=False)
    with MotResults(folder / results, benchmark) as found:
        return recorded["scores"], score_tracks(benchmark, found)


def same(ours, recorded):
    theirs = {NAMES[name]: value for name, value in recorded.items() if name in NAMES}
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=0, abs=EXACT)


def test_every_sequence_and_class(scored):
    recorded, score = scored
    assert {s.name for s in score.sequences} == set(recorded) - {ALL}
    for sequence in score.sequences:
        found = {kind: counts.measures() for kind, counts in sequence.part.items()}
        assert list(found) == list(recorded[sequence.name])
        for kind, measures in found.items():
            same(measures, recorded[sequence.name][kind])


def test_all_sequences_together(scored):
    recorded, score = scored
    for kind, measures in score.by_class().items():
        same(measures, recorded[ALL][kind])
        curve = score.curves()[f"HOTA, {kind}"]
        np.testing.assert_allclose(curve.y, recorded[ALL][kind]["curve"], rtol=0, atol=EXACT)
    same(score.averaged(), recorded[ALL]["averaged"])
    same(score.pooled(), recorded[ALL]["pooled"])


def test_the_recorded_sets_are_neither_easy_nor_hopeless(trackeval):
    for recorded in trackeval["sets"].values():
        for kind, found in recorded["scores"][ALL].items():
            assert 0.2 < found["HOTA"] < 0.8, kind
            assert min(found["IDSW"], found["Frag"], found["CLR_FP"], found["PT"]) > 0


def compared(seed):
    frames = inputs.frame_tables(seed)
    truth, result, overlap = (list(part) for part in zip(*frames, strict=True))
    return make_comparison(truth, result, overlap)


@pytest.mark.parametrize("seed", range(8))
def test_tables_as_trackeval(trackeval, seed):
    same(count(compared(seed)).measures(), trackeval["tables"][str(seed)])


@pytest.mark.parametrize("seed", range(8))
def test_tables_as_motmetrics(seed):
    recorded = json.loads((GOLDENS / "motmetrics.json").read_text(encoding="utf-8"))
    found = recorded["tables"][str(seed)]
    ours = count(compared(seed), definition="motmetrics").measures()
    names = {
        "mota": "MOTA", "idf1": "IDF1", "idp": "IDP", "idr": "IDR", "recall": "Rcll",
        "precision": "Prcn", "num_switches": "IDS", "num_false_positives": "FP",
        "num_misses": "FN", "num_fragmentations": "Frag", "mostly_tracked": "MT",
        "partially_tracked": "PT", "mostly_lost": "ML", "num_unique_objects": "GT",
    }  # fmt: skip
    theirs = {names[name]: value for name, value in found.items() if name in names}
    theirs["MOTP"] = 1 - found["motp"]  # a mean distance there
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=0, abs=EXACT)


def test_the_two_definitions_differ_on_the_tables():
    differ = 0
    for seed in range(8):
        one, other = (
            count(compared(seed), definition=name).measures()
            for name in ("trackeval", "motmetrics")
        )
        differ += any(one[name] != other[name] for name in ("IDS", "Frag", "MT", "MOTP"))
    assert differ >= 3


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("kitti-mots", {"ignored": 0}),
        ("mots-challenge", {"ignored": 0}),
        ("kitti-mot", {"ignored": 0}),
        ("kitti-mot", {"distractors": {}}),
        ("kitti-mot", {"least_height": 0}),
        ("kitti-mot", {"most_occluded": None}),
        ("kitti-mot", {"most_truncated": None}),
        ("mot17", {"distractors": {}}),
        ("mot17", {"all_classes": False}),
    ],
)
def test_each_rule_shows_in_the_numbers(trackeval, tmp_path, key, change):
    """Without it the recorded numbers are missed: the inputs put every rule to the test."""
    write, truth, results = inputs.SETS[key]
    write(tmp_path)
    benchmark = open_mot_benchmark(key, tmp_path / truth, need_frames=False)
    other = replace(benchmark, rules=replace(benchmark.rules, **change))
    with MotResults(tmp_path / results, other) as found:
        ours = score_tracks(other, found).pooled()
    recorded = trackeval["sets"][key]["scores"][ALL]["pooled"]
    assert abs(ours["HOTA"] - recorded["HOTA"]) > 1e-4
