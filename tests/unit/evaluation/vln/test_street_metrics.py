"""Measures of walks, worked out by hand on a small cross of streets, 10 m a link."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from street_samples import cross, graph_of, walk

from vision_mem.errors import InputError
from vision_mem.evaluation.vln import metrics
from vision_mem.evaluation.vln.metrics import FAMILIES, MeasureFamily, average, table_lines

REFERENCE = "w2 w1 x e1 e2"  # five places, four links, 40 m, one junction
ROOT = 2 * math.sqrt(5)

# Walk, then TC, SPD, nDTW, SED, CLS, KPA. Key points: w2-w1, x-e1, and arriving.
OUTDOOR = [
    ("w2 w1 x e1 e2", 1, 0, 1.0, 1.0, 1.0, 1.0),
    # One short of the goal: DTW 1; one place missing of five; PC = (4 + 1/e) / 5.
    ("w2 w1 x e1", 1, 1, math.exp(-1 / ROOT), 0.8, None, 1.0),
    # Turned off: n1 is 2 hops from e1 (DTW 1 + 2 + 3 at n1, n2 and e2 against n2).
    ("w2 w1 x n1 n2", 0, 4, math.exp(-(2 + 4) / ROOT), 0.0, None, 1 / 3),
    # Never left: DTW 0 + 1 + 2 + 3 + 4.
    ("w2", 0, 4, math.exp(-10 / ROOT), 0.0, None, 0.0),
    # There and back and there: DTW 0 but for the detour x-w1, which costs 1 at best each way.
    ("w2 w1 x w1 x e1 e2", 1, 0, math.exp(-1 / ROOT), 1 - 2 / 7, None, 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("names", "tc", "spd", "ndtw", "sed", "cls", "kpa"), OUTDOOR)
def test_outdoor(names, tc, spd, ndtw, sed, cls, kpa) -> None:
    graph = cross()
    score = MeasureFamily("outdoor").score(graph, walk(graph, names), walk(graph, REFERENCE))
    values = dict(score.values)
    length, coverage = len(names.split()), values.pop("CLS")
    assert values == pytest.approx(
        {"TC": tc, "SPD": spd, "nDTW": ndtw, "sDTW": tc * ndtw, "SED": sed, "KPA": kpa}
    )
    hops, _ = graph.distance_table(walk(graph, names), walk(graph, REFERENCE), hops=True)
    share = np.exp(-hops.min(axis=0)).mean()
    expected = share * 5
    assert coverage == pytest.approx(share * expected / (expected + abs(expected - length)))


def test_coverage_by_length_by_hand() -> None:
    # Two of the five places are one and two links away; three places were walked.
    distances = np.array([[0, 1, 2, 3, 4], [1, 0, 1, 2, 3], [2, 1, 0, 1, 2]], float)
    share = (3 + math.exp(-1) + math.exp(-2)) / 5
    assert metrics.coverage_by_length(distances) == pytest.approx(
        share * 5 * share / (5 * share + abs(5 * share - 3))
    )


PAPER = [
    ("w2 w1 x e1 e2", 1, 0, 1.0, 1.0),
    # 10 m from the goal is a failure here, though a success outdoors.
    ("w2 w1 x e1", 0, 10, math.exp(-10 / 40), 0.0),
    ("w2", 0, 40, math.exp(-100 / 40), 0.0),
    # 60 m walked where 40 are shortest; the detour costs 10 m.
    ("w2 w1 x w1 x e1 e2", 1, 0, math.exp(-10 / 40), 40 / 60),
]


@pytest.mark.parametrize(("names", "tc", "spd", "ndtw", "spl"), PAPER)
def test_paper(names, tc, spd, ndtw, spl) -> None:
    graph = cross()
    score = MeasureFamily("paper").score(graph, walk(graph, names), walk(graph, REFERENCE))
    assert dict(score.values) == pytest.approx(
        {"TC": tc, "SPD": spd, "nDTW": ndtw, "SPL": spl}, abs=2e-3
    )


@pytest.mark.parametrize(
    ("names", "threshold", "tc", "ndtw"),
    [
        ("w2 w1 x e1 e2", 3.0, 1, 1.0),
        ("w2 w1 x e1", 3.0, 0, math.exp(-10 / (5 * 3))),
        ("w2 w1 x e1", 15.0, 1, math.exp(-10 / (5 * 15))),
        ("w2", 30.0, 0, math.exp(-100 / (5 * 30))),
    ],
)
def test_ilharco(names, threshold, tc, ndtw) -> None:
    graph = cross()
    score = MeasureFamily("ilharco", threshold).score(
        graph, walk(graph, names), walk(graph, REFERENCE)
    )
    assert dict(score.values) == pytest.approx(
        {"TC": tc, "nDTW": ndtw, "sDTW": tc * ndtw}, abs=1e-3
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("path", [REFERENCE, "w1 x n1", "x", "e1 e2"])
def test_gold_is_perfect_in_each_family(family: str, path: str) -> None:
    graph = cross()
    values = MeasureFamily(family).score(graph, walk(graph, path), walk(graph, path)).values
    assert values == {name: 0.0 if name == "SPD" else 1.0 for name in FAMILIES[family]}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_walk_fails(family: str) -> None:
    graph = cross()
    values = dict(MeasureFamily(family).score(graph, [], walk(graph, REFERENCE)).values)
    assert values.pop("SPD", 4) in (4, pytest.approx(40, abs=0.01))
    assert set(values.values()) == {0.0}
    with pytest.raises(InputError, match="true path is empty"):
        MeasureFamily(family).score(graph, walk(graph, "x"), [])


def test_arriving_against_a_one_way_street_counts() -> None:
    graph = graph_of(
        {"a": (0, 0), "b": (10, 0), "c": (20, 0)},
        [("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("a", "c")],
        one_way=True,
    )
    score = MeasureFamily().score(graph, walk(graph, "a b"), walk(graph, "b a"))
    assert score.values["TC"] == 1
    # c is a neighbour of a because a leads to c, though not back.
    assert MeasureFamily().score(graph, walk(graph, "b c"), walk(graph, "b a")).values["TC"] == 1


def test_an_unreachable_pair_is_flagged() -> None:
    graph = graph_of(
        {"a": (0, 0), "b": (10, 0), "c": (20, 0), "d": (500, 0)}, [("a", "b"), ("b", "c")]
    )
    score = MeasureFamily().score(graph, walk(graph, "d"), walk(graph, "a b c"))
    assert score.unreachable
    assert score.values["SPD"] == 2  # the graph's diameter
    assert average([score]).unreachable


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("", "", 0), ("a", "", 1), ("", "abc", 3), ("abc", "abc", 0), ("abc", "abx", 1),
        ("abc", "acb", 1), ("ca", "abc", 2), ("abcd", "badc", 2), ("kitten", "sitting", 3),
    ],
)  # fmt: skip
def test_edit_distance(first: str, second: str, distance: int) -> None:
    walks = [list(map(ord, text)) for text in (first, second)]
    assert metrics.edit_distance(*walks) == distance
    assert metrics.edit_distance(*walks[::-1]) == distance


def cheapest_by_trying(distances: np.ndarray) -> float:
    """The cheapest alignment among all of them."""
    rows, columns = distances.shape

    def rest(i: int, j: int) -> float:
        if (i, j) == (rows - 1, columns - 1):
            return float(distances[i, j])
        following = [(i + 1, j), (i, j + 1), (i + 1, j + 1)]
        return float(distances[i, j]) + min(
            rest(a, b) for a, b in following if a < rows and b < columns
        )

    return rest(0, 0)


@pytest.mark.parametrize(("rows", "columns"), list(product((1, 2, 4), (1, 3, 5))))
def test_warping_against_all_alignments(rows: int, columns: int) -> None:
    distances = np.random.default_rng(rows * columns).integers(0, 9, (rows, columns)).astype(float)
    assert metrics.warping_cost(distances) == cheapest_by_trying(distances)


@pytest.mark.parametrize(
    ("shape", "cost", "similarity"),
    [((0, 0), 0.0, 1.0), ((0, 3), math.inf, 0.0), ((3, 0), math.inf, 0.0)],
)
def test_warping_of_nothing(shape: tuple[int, int], cost: float, similarity: float) -> None:
    assert metrics.warping_cost(np.zeros(shape)) == cost
    assert metrics.warping_similarity(np.zeros(shape), 1.0) == similarity


@pytest.mark.parametrize(
    ("walked", "arrived", "accuracy"),
    [
        ("w2 w1 x e1 e2", True, 1.0),
        ("w2 w1 x e1", False, 2 / 3),
        ("x e1", True, 2 / 3),  # not the first step
        ("w2 w1 x n1", False, 1 / 3),
        ("", False, 0.0),
    ],
)
def test_key_points(walked: str, arrived: bool, accuracy: float) -> None:
    graph = cross()
    junction = {graph.number("x")}.__contains__
    found = metrics.key_point_accuracy(
        walk(graph, walked), walk(graph, REFERENCE), junction, arrived
    )
    assert found == pytest.approx(accuracy)


def test_families_never_share_a_table() -> None:
    graph = cross()
    gold = walk(graph, REFERENCE)
    scores = {name: MeasureFamily(name).score(graph, gold, gold) for name in FAMILIES}
    with pytest.raises(InputError, match="expected walks of exactly one"):
        average([scores["outdoor"], scores["paper"]])
    with pytest.raises(InputError, match="scores of 3 families"):
        table_lines(scores, "all")
    with pytest.raises(InputError, match="scores of 0 families"):
        average([])
    title, head, row = table_lines({"gold": scores["outdoor"]}, MeasureFamily().title)
    assert title == "outdoor (hops; TC within one link)"
    assert head.split() == ["agent", *FAMILIES["outdoor"]]
    assert row.split() == ["gold", "100.00", "0.00", *["100.00"] * 5]


@pytest.mark.parametrize(
    ("name", "threshold", "message"),
    [
        ("outdoors", 3.0, "no family of measures 'outdoors'.*did you mean 'outdoor'"),
        ("ilharco", 0.0, "threshold is 0.0; expected metres above 0"),
        ("ilharco", math.nan, "threshold is nan"),
    ],
)
def test_wrong_families(name: str, threshold: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MeasureFamily(name, threshold)
