"""Metrics of many objects on cases small enough for a pencil, and what each set leaves out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.evaluation import report
from vision_mem.evaluation.mots.metrics.clear import count_clear
from vision_mem.evaluation.mots.metrics.comparison import make_comparison
from vision_mem.evaluation.mots.preprocessing import compare
from vision_mem.evaluation.mots.records import RULES, MotBenchmark, MotSequence
from vision_mem.evaluation.mots.results import MotResults
from vision_mem.evaluation.mots.scores import averaged, count, score_tracks
from vision_mem.evaluation.scores import Rules
from vision_mem.formats.mot import read_kitti_labels, read_mot_text
from vision_mem.formats.mots import read_mots_text
from vision_mem.formats.rle import encode_mask

SIZE = (60, 100)


def square(x, y, side=20):
    mask = np.zeros(SIZE, bool)
    mask[max(y, 0) : y + side, max(x, 0) : x + side] = True
    return mask


def mots(*rows):
    """Rows of (frame, id, mask); the class is in the id."""
    lines = [f"{t} {i} {i // 1000} 60 100 {encode_mask(mask)}" for t, i, mask in rows]
    return read_mots_text("\n".join(lines), "f.txt")


def test_the_toy_of_the_specification():
    """One switch in the middle, one miss, overlap 0.9048."""
    truth = [(t, 2001, square(10 + 2 * t, 20)) for t in range(10)]
    found = [(t, 2001 if t < 5 else 2002, square(10 + 2 * t, 21)) for t in range(10) if t != 7]
    compared = compare(RULES["kitti-mots"], mots(*truth), mots(*found), 10)
    assert list(compared) == ["car", "pedestrian"]
    measures = count(compared["pedestrian"], masks=True).measures()
    wanted = {
        "HOTA": 0.6066, "DetA": 0.8526, "AssA": 0.4316, "MOTSA": 0.8, "sMOTSA": 0.7143,
        "IDF1": 0.5263, "IDS": 1, "FP": 0, "FN": 1, "Frag": 0, "MT": 1, "GT": 1,
        "MOTSP": 19 / 21, "Rcll": 0.9, "Prcn": 1.0,
    }  # fmt: skip
    assert {name: measures[name] for name in wanted} == pytest.approx(wanted, abs=5e-5)
    nothing = count(compared["car"], masks=True).measures()
    assert (nothing["HOTA"], nothing["LocA"], nothing["MOTSA"], nothing["GT"]) == (0, 1, 0, 0)


def made(frames):
    """From ``{(truth id, result id): overlap}`` a frame; None stands for nobody."""
    truth, result, tables = [], [], []
    for pairs in frames:
        rows = list(dict.fromkeys(a for a, _ in pairs if a is not None))
        columns = list(dict.fromkeys(b for _, b in pairs if b is not None))
        table = np.zeros((len(rows), len(columns)))
        for (a, b), value in pairs.items():
            if a is not None and b is not None:
                table[rows.index(a), columns.index(b)] = value
        truth.append(np.array(rows, np.int64))
        result.append(np.array(columns, np.int64))
        tables.append(table)
    return make_comparison(truth, result, tables)


BOTH = {(1, 7): 0.9, (2, 8): 0.8}
SWAPPED = {(1, 8): 0.9, (2, 7): 0.8}
CASES = {
    "all well": ([BOTH] * 4, {"MOTA": 1, "IDF1": 1, "IDS": 0, "MT": 2, "Frag": 0, "AssA": 18 / 19}),
    "two objects change names": (
        [BOTH] * 2 + [SWAPPED] * 2, {"MOTA": 0.75, "IDF1": 0.5, "IDS": 2, "MT": 2, "Frag": 0},
    ),
    "below the threshold": ([{(1, 7): 0.49}] * 4, {"MOTA": -1, "IDF1": 0, "FP": 4, "FN": 4}),
    "on the threshold": ([{(1, 7): 0.5}] * 4, {"MOTA": 1, "IDF1": 1, "MOTP": 0.5, "sMOTA": 0.5}),
    "who was followed stays, though another is nearer": (
        [{(1, 7): 0.9}, {(1, 7): 0.6, (1, 8): 0.9}], {"IDS": 0, "FP": 1, "MOTP": 0.75},
    ),
    "nothing found": ([{(1, None): 0}] * 3, {"MOTA": 0, "IDF1": 0, "ML": 1, "FN": 3, "LocA": 1}),
    "everything made up": ([{(None, 7): 0}] * 3, {"MOTA": 0, "FP": 3, "IDF1": 0, "GT": 0}),
    "nothing at all": ([{}] * 3, {"MOTA": 0, "HOTA": 0, "FP": 0, "FN": 0}),
    "no frame": ([], {"MOTA": 0, "HOTA": 0, "GT": 0}),
    "lost twice": (
        [{(1, 7): 0.9}, {(1, None): 0, (None, 8): 0}] * 3, {"Frag": 2, "IDS": 0, "FN": 3, "PT": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_small_cases(name):
    frames, wanted = CASES[name]
    measures = count(made(frames)).measures()
    assert {key: measures[key] for key in wanted} == pytest.approx(wanted)


GAP = [{(1, 7): 0.9}, {(1, None): 0, (None, 9): 0}, {(1, 7): 0.6, (1, 8): 0.9}]
LEAVES = [{(1, 7): 0.9, (2, 8): 0.9}, {(2, 8): 0.9}, {(1, 7): 0.9, (2, 8): 0.9}]


EIGHTY = [{(1, 7): 0.9}] * 4 + [{(1, None): 0}]


@pytest.mark.parametrize(
    ("frames", "measure", "as_trackeval", "as_motmetrics"),
    [
        pytest.param(GAP, "IDS", 1, 0, id="a match is kept over a gap"),
        pytest.param(LEAVES, "Frag", 1, 0, id="to leave is not to be lost"),
        pytest.param(EIGHTY, "MT", 0, 1, id="80 percent are most"),
    ],
)
def test_where_the_definitions_differ(frames, measure, as_trackeval, as_motmetrics):
    assert count_clear(made(frames)).measures()[measure] == as_trackeval
    assert count_clear(made(frames), "motmetrics").measures()[measure] == as_motmetrics


def test_motmetrics_takes_as_many_pairs_as_there_are():
    frame = {(1, 7): 1.0, (1, 8): 0.5, (2, 7): 0.5, (2, 9): 0.0, (3, 9): 0.0}
    assert count_clear(made([frame]), "motmetrics").tp == 2
    with pytest.raises(InputError, match="definition is 'other'; expected one of trackeval"):
        count_clear(made([frame]), "other")


def test_counts_of_sequences_add_up():
    one, two = made([BOTH] * 4), made([SWAPPED, {(1, None): 0}, {(None, 7): 0}])
    total = (count(one) + count(two)).measures()
    for name in ("FP", "FN", "IDS", "MT", "ML", "GT"):
        assert total[name] == count(one).measures()[name] + count(two).measures()[name]
    assert total["MOTA"] == pytest.approx((10 - 1) / 11)
    mean = averaged([count(one), count(two)])
    assert mean["FP"] == 1
    assert mean["MOTA"] == pytest.approx((1 + (3 - 1 - 1) / 3) / 2)


def test_too_many_identities_are_refused():
    ids = [np.arange(20_000)]
    with pytest.raises(InputError, match="20000 identities for 20000 in the truth: too many"):
        make_comparison(ids, ids, [np.zeros((20_000, 1))])


def wrong(rules, truth, results, name, length=1):
    """False positives and misses of a class."""
    counts = count_clear(compare(rules, truth, results, length)[name])
    return counts.fp, counts.fn


def test_masks_inside_ignored_regions_are_no_errors():
    rules = RULES["kitti-mots"]
    region = np.zeros(SIZE, bool)
    region[:, 50:] = True
    truth = mots((0, 1001, square(0, 0)), (0, 10000, region))
    # Half of it inside is not enough; a match counts wherever it lies.
    for x, kept in ((60, 0), (41, 0), (40, 1), (30, 1)):
        assert wrong(rules, truth, mots((0, 1001, square(x, 30))), "car") == (kept, 1)
        assert wrong(replace(rules, ignored=0), truth, mots((0, 1, square(x, 30))), "car") == (0, 1)
    assert wrong(rules, truth, mots((0, 1005, square(0, 0))), "car") == (0, 0)
    # Two regions count together.
    halves = [region & (np.arange(100) < 60), region & (np.arange(100) >= 60)]
    truth = mots((0, 10000, halves[0]), (0, 10000, halves[1]))
    assert wrong(rules, truth, mots((0, 1001, square(50, 30))), "car") == (0, 0)


def test_masks_of_another_size_are_refused():
    small = read_mots_text(f"0 1001 1 10 10 {encode_mask(np.ones((10, 10), bool))}", "f.txt")
    with pytest.raises(InputError, match=r"masks are 10x10 and the truth's 60x100"):
        compare(RULES["kitti-mots"], mots((0, 1001, square(0, 0))), small, 1)


def kitti(*rows):
    """Rows of (type, truncated, occluded, box)."""
    lines = [
        f"0 {n} {kind} {cut} {hidden} -10 {' '.join(map(str, box))} 1 1 1 1 1 1 1"
        for n, (kind, cut, hidden, box) in enumerate(rows)
    ]
    return read_kitti_labels("\n".join(lines), "f.txt")


BOX, FAR = (0, 0, 40, 40), (200, 0, 240, 40)


@pytest.mark.parametrize(
    ("truth", "found", "wanted"),
    [
        (("Car", 0, 0, BOX), ("Car", 0, 0, BOX), (0, 0)),
        (("Car", 0, 0, BOX), ("Car", 0, 0, FAR), (1, 1)),
        (("Van", 0, 0, BOX), ("Car", 0, 0, BOX), (0, 0)),
        (("Truck", 0, 0, BOX), ("Car", 0, 0, BOX), (1, 0)),
        (("Car", 0, 3, BOX), ("Car", 0, 0, BOX), (0, 0)),
        (("Car", 0, 2, BOX), ("Car", 0, 0, FAR), (1, 1)),
        (("Car", 1, 0, BOX), ("Car", 0, 0, BOX), (0, 0)),
        (("Car", 1, 0, BOX), ("Car", 0, 0, FAR), (1, 0)),
        (("Car", 0, 0, BOX), ("Car", 0, 0, (200, 0, 240, 25)), (0, 1)),
        (("Car", 0, 0, BOX), ("Car", 0, 0, (200, 0, 240, 26)), (1, 1)),
        (("DontCare", 0, 0, (190, 0, 221, 40)), ("Car", 0, 0, FAR), (0, 0)),
        (("DontCare", 0, 0, (190, 0, 220, 40)), ("Car", 0, 0, FAR), (1, 0)),
        (("Car", 0, 0, BOX), ("Pedestrian", 0, 0, BOX), (0, 1)),
    ],
)
def test_what_kitti_does_not_count(truth, found, wanted):
    assert wrong(RULES["kitti-mot"], kitti(truth), kitti(found), "car") == wanted


@pytest.mark.parametrize(
    ("key", "truth", "wanted"),
    [
        ("mot17", "1,1,0,0,40,40,1,1,1", (0, 0)),
        ("mot17", "1,1,0,0,40,40,0,1,1", (1, 0)),
        ("mot17", "1,1,0,0,40,40,0,8,1", (0, 0)),
        ("mot17", "1,1,0,0,40,40,1,7,1", (0, 0)),
        ("mot17", "1,1,0,0,40,40,0,3,1", (1, 0)),
        ("mot17", "1,1,0,0,40,40,0,6,1", (1, 0)),
        ("mot20", "1,1,0,0,40,40,0,6,1", (0, 0)),
        ("mot15", "1,1,0,0,40,40,1,-1,-1,-1", (0, 0)),
        ("mot15", "1,1,0,0,40,40,0,-1,-1,-1", (1, 0)),
    ],
)
def test_what_motchallenge_does_not_count(key, truth, wanted):
    rules = RULES[key]
    rows = read_mot_text(truth, "gt.txt", rules.layout, truth=True)
    found = read_mot_text("1,5,0,0,40,40,1,-1,-1,-1", "f.txt", rules.layout)
    assert wrong(rules, rows, found, "pedestrian") == wanted


@pytest.fixture
def benchmark(tmp_path):
    """Two sequences in the files of KITTI MOTS."""
    sequences = []
    for name, length in (("0000", 3), ("0001", 2)):
        path = tmp_path / "gt" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        lines = [
            f"{t} {i} {i // 1000} 60 100 {encode_mask(square(x + 2 * t, 5))}\n"
            for t in range(length)
            for i, x in ((1001, 0), (2001, 40))
        ]
        path.write_text("".join(lines))
        sequences.append(MotSequence(name, length, (), path))
    rules = RULES["kitti-mots"]
    return MotBenchmark("kitti-mots", "KITTI MOTS", rules, tuple(sequences))


def test_a_score_and_its_tables(benchmark, tmp_path):
    names = []
    with MotResults(tmp_path / "gt", benchmark, "truth") as results:
        score = score_tracks(benchmark, results, on_sequence=names.append)
    assert names == ["0000", "0001"]
    assert score.main == "HOTA" and score.summary()["HOTA"] == 1
    assert score.by_class()["car"]["GT"] == 2
    assert score.sequences[1].part["pedestrian"].measures()["MOTSA"] == 1
    assert score.pooled()["IDF1"] == 1
    assert score.curves()["AssA, car"].score == 1
    assert "sMOTSA" in report.table([score]) and "truth" in report.table([score])
    assert "pedestrian" in report.attribute_table([score])
    assert any("mean of each measure" in line for line in report.notes([score]))
    files = report.write_report(tmp_path / "out", [score], Rules())
    assert {path.name for path in files} >= {"summary.csv", "scores.json", "hota.png"}


def test_curves_are_those_of_the_numbers_in_the_table(benchmark, tmp_path):
    (tmp_path / "r").mkdir()
    for name in ("0000", "0001"):  # pedestrians are lost, and cars change their identity
        lines = (tmp_path / "gt" / f"{name}.txt").read_text().splitlines()
        kept = [line.replace(" 1001 ", f" {1001 + n} ") for n, line in enumerate(lines[::2])]
        (tmp_path / "r" / f"{name}.txt").write_text("\n".join([*kept, lines[1]]))
    score = score_tracks(benchmark, MotResults(tmp_path / "r", benchmark))
    curves = score.curves()
    ((rows),) = score.pictures().values()
    assert [name for row in rows for name in row] == list(curves)
    assert [row[0] for row in rows] == ["HOTA, mean of classes", "HOTA, car", "HOTA, pedestrian"]
    tables = {"mean of classes": score.summary(), **score.by_class()}
    for name, curve in curves.items():
        measure, _, of = name.partition(", ")
        assert curve.score == pytest.approx(tables[of][measure], abs=1e-12)
        assert curve.y.mean() == pytest.approx(curve.score, abs=1e-12)
        assert (curve.x[0], curve.x[-1]) == pytest.approx((0.05, 0.95))
    assert curves["DetA, car"].score == 1 > curves["AssA, car"].score
    assert 0 < curves["DetA, pedestrian"].score < 1
    one = replace(score, classes=("car",))
    assert list(one.curves()) == ["HOTA, car", "DetA, car", "AssA, car"]
    assert one.pictures() == {"HOTA": [["HOTA, car", "DetA, car", "AssA, car"]]}


def test_results_that_are_missing_or_refused(benchmark, tmp_path):
    (tmp_path / "r").mkdir()
    text = (tmp_path / "gt" / "0000.txt").read_text()
    with pytest.raises(InputError, match=r"holds no result of KITTI MOTS.*; exp"):
        score_tracks(benchmark, MotResults(tmp_path / "r", benchmark))
    (tmp_path / "r" / "0000.txt").write_text(text)
    with pytest.raises(InputError, match=r"lacks 1 of .*2 sequences: 0001; expected"):
        score_tracks(benchmark, MotResults(tmp_path / "r", benchmark))
    partly = score_tracks(benchmark, MotResults(tmp_path / "r", benchmark), partial=True)
    assert (partly.missing, len(partly.sequences)) == (("0001",), 1)
    # A file of another video: its frames are not there.
    (tmp_path / "r" / "0001.txt").write_text(text)
    with pytest.raises(InputError, match=r"0001\.txt, line 5: frame 2 is not in the sequence"):
        score_tracks(benchmark, MotResults(tmp_path / "r", benchmark))
    (tmp_path / "r" / "0001.txt").write_text(text.replace(" 60 100 ", " 100 60 "))
    with pytest.raises(InputError, match=r"line 1: the mask is 100x60; expected 60x100"):
        score_tracks(benchmark, MotResults(tmp_path / "r", benchmark))
    (tmp_path / "r" / "0001.txt").write_text("")
    empty = score_tracks(benchmark, MotResults(tmp_path / "r", benchmark))
    assert empty.sequences[1].part["car"].clear.fn == 2
    with pytest.raises(InputError, match="KITTI MOTS has no sequences to be scored"):
        score_tracks(replace(benchmark, sequences=()), MotResults(tmp_path / "r", benchmark))
