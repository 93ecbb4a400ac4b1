"""Tables, CSV, JSON and plots of scores."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_mem.errors import SinkError
from vision_mem.evaluation import report
from vision_mem.evaluation.report import draw_plot
from vision_mem.evaluation.scores import Curve, Rules
from vision_mem.evaluation.sot.records import Benchmark, SotSequence
from vision_mem.evaluation.sot.results import ResultSet
from vision_mem.evaluation.sot.scores import score_benchmark


@pytest.fixture
def scores(tmp_path):
    truth = np.array([[10.0, 20, 30, 40]] * 4)
    set_ = Benchmark(
        "set", "A set", "success", "otb",
        (SotSequence("a", (), truth, attributes=("fast",)), SotSequence("b", (), truth)),
    )  # fmt: skip
    found = []
    for name, off in (("poor", 25), ("good", 1), ("fair", 9)):
        folder = tmp_path / name
        folder.mkdir()
        for sequence in "ab":
            text = "10,20,30,40\n" + f"{10 + off},20,30,40\n" * 3
            (folder / f"{sequence}.txt").write_text(text)
        found.append(score_benchmark(set_, ResultSet(folder)))
    return found


def test_the_best_stands_first(scores):
    lines = report.table(scores).splitlines()
    assert lines[0].split() == ["tracker", "AUC", "OP50", "OP75", "P", "P_norm", "sequences"]
    assert [line.split()[0] for line in lines[2:]] == ["good", "fair", "poor"]
    assert len({len(line) for line in lines}) == 1  # columns are aligned
    rows = report.attribute_table(scores).splitlines()
    assert rows[0].split() == ["AUC", "by", "attribute", "good", "fair", "poor", "sequences"]
    assert rows[2].startswith("fast")


def test_files(scores, tmp_path):
    out = tmp_path / "out" / "deep"
    paths = report.write_report(out, scores, Rules(), ["odd copy"])
    assert sorted(path.name for path in paths) == sorted(path.name for path in out.iterdir())
    assert {"success.png", "precision.png", "normalised_precision.png"} <= {p.name for p in paths}

    def table(name):
        return list(csv.DictReader((out / name).read_text().splitlines()))

    rows = table("summary.csv")
    assert [row["tracker"] for row in rows] == ["good", "fair", "poor"]
    assert float(rows[0]["AUC"]) == pytest.approx(scores[1].summary()["AUC"], abs=1e-6)
    assert len(table("sequences.csv")) == 6
    assert len(table("attributes.csv")) == 3
    held = json.loads((out / "scores.json").read_text())
    assert held["trackers"][0]["summary"] == pytest.approx(scores[1].summary())
    assert held["notes"] == ["odd copy"]
    assert len(held["trackers"][2]["curves"]["Success"]["y"]) == 21
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert (image.width, image.height) == (960, 720)
    report.write_report(out, scores, Rules())  # again, over it


def test_a_place_that_cannot_be_written(scores, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="file"):
        report.write_report(tmp_path / "file", scores, Rules())


def test_notes_are_said_once(scores):
    lines = report.notes(scores, ["of the set"])
    assert lines == ["of the set"]


def test_a_plot_leaves_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    curve = Curve(np.linspace(0, 1, 21), np.linspace(1, 0, 21), 0.5)
    names = ["_under", "a $formula$ ^{", "x" * 80, *(f"tracker {n}" for n in range(30))]
    data = draw_plot(
        "Many [trackers] at $once", [["Success"]], [(name, {"Success": curve}) for name in names]
    )
    with Image.open(io.BytesIO(data)) as image:
        assert image.width > 1000  # the legend stands beside
    assert dict(matplotlib.rcParams) == before


def test_each_curve_of_a_picture_has_its_panel():
    """Where a picture changes when one of its curves does."""
    rows = [["HOTA, car", "DetA, car", "AssA, car"], ["HOTA, bus", "DetA, bus", "AssA, bus"]]
    x = np.linspace(0.05, 0.95, 19)

    def pixels(high=""):
        heights = {name: 0.7 if name == high else 0.5 for row in rows for name in row}
        curves = {name: Curve(x, np.full(19, y), y) for name, y in heights.items()}
        with Image.open(io.BytesIO(draw_plot("A", rows, [("mine", curves)]))) as image:
            return np.asarray(image)

    plain = pixels()
    assert plain.shape[:2] == (1050, 1890)  # two rows, three columns
    for row, column in ((0, 2), (1, 0)):
        down, across = (pixels(rows[row][column]) != plain).any(axis=2).nonzero()
        assert len(down) > 1000
        assert set(down // 525) == {row} and set(across // 630) == {column}


def test_plots_do_without_pyplot():
    code = (
        "import sys, numpy; from vision_mem.evaluation.report import draw_plot; "
        "from vision_mem.evaluation.scores import Curve; x = numpy.arange(3.0); "
        "draw_plot('A', [['Precision']], [('a', {'Precision': Curve(x, x / 2, 1.0)})]); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["False"]


def test_every_name_of_a_measure_is_explained(root: Path) -> None:
    from vision_mem.evaluation.mots import scores as mots
    from vision_mem.evaluation.reconstruction import scores as scenes
    from vision_mem.evaluation.reconstruction.metrics.dynamic import MaskCounts
    from vision_mem.evaluation.sot.metrics import davis, got10k, success, vot
    from vision_mem.evaluation.vln.metrics import FAMILIES

    zeros = success.SuccessCurves(*(np.zeros(n) for n in (21, 51, 51)))
    rules = scenes.SceneRules()
    names = {
        *success.success_measures(zeros), *got10k.got10k_measures(np.empty(0)),
        *davis.davis_measures([]), *vot.run_measures([]), "EAO", *mots._ORDER,
        *(n for of in scenes._MEASURES.values() for n in of([], [], rules)),
        *MaskCounts().measures, "rpe_t_5m", "rpe_r_5m",
        *(name for family in FAMILIES.values() for name in family),
        "overall", "rt+bt", "all questions", "strict", "official", "per item", "correct", "nulls",
    }  # fmt: skip
    text = (root / "docs" / "scoring.md").read_text(encoding="utf-8")
    lacking = [n for n in sorted(names) if not re.search(rf"(?<!\w){re.escape(n)}(?!\w)", text)]
    assert len(names) > 70 and lacking == []
