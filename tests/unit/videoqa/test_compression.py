"""The decisions of a video memory, each a pure function, by tables of cases."""

from __future__ import annotations

import math

import pytest
import torch
from videoqa_streams import session, watch

from vision_mem.errors import InputError
from vision_mem.videoqa import compression
from vision_mem.videoqa.compression import (
    is_scene_change,
    keep_changed,
    keep_highest,
    neighbour_best,
    otsu,
    otsu_or_median,
    quadrant_count,
    select_quadrants,
    token_salience,
    touching,
    unit,
)

BIN = 1 / 64


def numbers(*values):
    return torch.tensor(values, dtype=torch.float32)


def full(rows, cols):
    place = torch.arange(rows * cols)
    return place // cols, place % cols


# -- Otsu ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ([0.1, 0.1, 1.0, 1.0], 6.5 * BIN),  # the first split of the gap: the bin of 0.1
        ([0.0, 0.0, 0.0, 2.0], 0.5 * BIN),
        ([0.0, 2.0, 2.0, 2.0], 0.5 * BIN),
        ([1.0, 1.0 + BIN], 64.5 * BIN),
        ([-3.0, -1.0, 5.0, 9.0], 0.5 * BIN),  # counted as 0 and 2
        ([0.2, 0.21, 0.22, 0.9, 1.4, 1.41], 14.5 * BIN),
        ([0.5, 0.5, 0.5], None),
        ([0.5, 0.5 + 1e-7], None),  # variance below 1e-12
        ([0.501, 0.503, 0.505], None),  # one bin: no split has two sides
        ([0.7], None),
        ([], None),
    ],
)
def test_otsu(distances, expected):
    assert otsu(numbers(*distances)) == expected


def test_otsu_is_the_best_of_all_splits():
    random = torch.Generator().manual_seed(1)
    for _ in range(20):
        parts = [torch.rand(30, generator=random) * 0.4, torch.rand(11, generator=random) + 0.7]
        distances = torch.cat(parts)
        counts = torch.histc(distances, 128, 0, 2).tolist()
        centres = [(i + 0.5) * BIN for i in range(128)]

        def variance(i, counts=counts, centres=centres):
            left, right = sum(counts[: i + 1]), sum(counts[i + 1 :])
            if not left or not right:
                return -1.0
            low = sum(n * c for n, c in zip(counts[: i + 1], centres, strict=False)) / left
            high = (
                sum(n * c for n, c in zip(counts[i + 1 :], centres[i + 1 :], strict=True)) / right
            )
            return left * right * (low - high) ** 2

        found = otsu(distances)
        best = max(variance(i) for i in range(128))
        assert variance(round(found / BIN - 0.5)) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ([0.5, 0.5, 0.5], 0.5),
        ([0.501, 0.502, 0.503, 0.504], 0.502),  # the lower median
        ([3.0, 3.0], 2.0),
        ([0.1, 0.1, 1.0, 1.0], 6.5 * BIN),
    ],
)
def test_median_where_nothing_parts(distances, expected):
    assert otsu_or_median(numbers(*distances)) == pytest.approx(expected)


# -- neighbours ------------------------------------------------------------------------------------


def test_best_neighbour_looks_one_step_around_and_both_ways():
    rows, cols = full(3, 4)
    earlier, later = torch.zeros(12, 3), torch.zeros(12, 3)
    earlier[0] = numbers(1, 0, 0)  # (0, 0)
    later[5] = numbers(0.8, 0.6, 0)  # (1, 1): a neighbour
    later[6] = numbers(1, 0, 0)  # (1, 2): two columns away
    forward, backward = neighbour_best(earlier, later, (rows, cols), (rows, cols))
    assert forward[0] == pytest.approx(0.8)
    assert backward[5] == pytest.approx(0.8)
    assert backward[6] == 0.0
    assert forward[1:].abs().max() == 0.0


def test_best_neighbour_equals_all_pairs_on_ragged_grids():
    random = torch.Generator().manual_seed(0)
    some = [torch.randperm(30, generator=random)[:n] for n in (19, 23)]
    a, b = (unit(torch.randn(len(one), 7, generator=random)) for one in some)
    (ra, ca), (rb, cb) = (((one // 6), (one % 6)) for one in some)
    near = ((ra[:, None] - rb).abs() <= 1) & ((ca[:, None] - cb).abs() <= 1)
    table = torch.where(near, a @ b.T, -torch.inf)
    forward, backward = neighbour_best(a, b, (ra, ca), (rb, cb))
    torch.testing.assert_close(forward, table.max(dim=1).values)
    torch.testing.assert_close(backward, table.max(dim=0).values)


def test_a_token_without_neighbours_says_so():
    place = torch.tensor([0])
    forward, _ = neighbour_best(
        torch.ones(1, 2), torch.ones(1, 2), (place, place), (place + 3, place)
    )
    assert forward.tolist() == [-math.inf]


def test_edges_are_the_pairs_that_touch_once_each():
    starts, ends = touching(*full(3, 3)).nonzero(as_tuple=True)
    pairs = {tuple(sorted(pair)) for pair in zip(starts.tolist(), ends.tolist(), strict=True)}
    rows, cols = (x.tolist() for x in full(3, 3))
    expected = {
        (i, j)
        for i in range(9)
        for j in range(i + 1, 9)
        if abs(rows[i] - rows[j]) <= 1 and abs(cols[i] - cols[j]) <= 1
    }
    assert pairs == expected
    assert len(starts) == len(expected) == 20


def test_unit_vectors_keep_their_type_and_zeros():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.bfloat16)
    scaled = unit(vectors)
    assert scaled.dtype == torch.bfloat16
    assert scaled.tolist() == [[pytest.approx(0.6, abs=2e-3), pytest.approx(0.8, abs=2e-3)], [0, 0]]


# -- short to middle -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "distance", "before", "flag"),
    [
        ("twice the usual", 0.4, 0.2, True),
        ("exactly the factor", 0.3, 0.2, False),
        ("nothing before", 0.9, 0.0, False),
        ("a still picture before", 0.9, 1e-6, False),
        ("hardly any motion before", 0.9, 1.1e-6, True),
    ],
)
def test_scene_change(what, distance, before, flag):
    assert is_scene_change(distance, before, 1.5) is flag, what


FAR, NEAR = 0.1, 0.995  # cosines: much changed; less than half a bin of distance


@pytest.mark.parametrize(
    ("what", "previous", "following", "salience", "options", "kept"),
    [
        ("changed since, or changes next", [FAR, NEAR, NEAR], [NEAR, FAR, NEAR], None, {}, "010"),
        ("far from both", [FAR, FAR, NEAR], [FAR, NEAR, NEAR], None, {}, "100"),
        ("nothing is dropped outright", [FAR, NEAR, NEAR], [0.7, 0.7, 0.2], None, {}, "101"),
        ("a scene change keeps", [FAR, NEAR, NEAR], [NEAR, FAR, NEAR], None, {"scene": 1}, "110"),
        ("first of a segment", None, [NEAR, FAR, NEAR], None, {}, "010"),
        ("last of a segment", [FAR, NEAR, NEAR], None, None, {}, "100"),
        ("meaning protects", [FAR, FAR, NEAR], [0.9, 0.9, 0.2], [0.8, 0.0, 0.0], {}, "101"),
        ("meaning below zero exposes", [FAR, FAR, NEAR], [0.7, 0.7, 0.2], [-0.9, 0, 0], {}, "011"),
        ("a fixed distance", [0.5, 0.75, 1.0], [0.5, 0.75, 0.7], None, {"fixed": 0.3}, "101"),
        ("a fixed distance counts", [0.7, 0.75, 1.0], None, None, {"fixed": 0.25}, "110"),
        ("no neighbour at all", [-math.inf, NEAR, FAR], [-math.inf, NEAR, NEAR], None, {}, "100"),
    ],
)
def test_what_leaves_the_short_tier(what, previous, following, salience, options, kept):
    made = [None if x is None else numbers(*x) for x in (previous, following, salience)]
    keep = keep_changed(
        *made,
        scene_change=bool(options.get("scene")),
        drop_similarity=0.8,
        salience_uplift=0.15,
        fixed_distance=options.get("fixed"),
    )
    assert "".join(str(int(k)) for k in keep) == kept, what


# -- middle to long --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "n", "count"),
    [(0.0, 20, 4), (-0.5, 100, 15), (1.0, 100, 40), (7.0, 100, 40), (0.5, 100, 27), (0.2, 40, 8)],
)
def test_how_many_tokens_a_grid_keeps(mean, n, count):
    assert quadrant_count(mean, n, ratio=0.15, gain=0.25, least=4) == count


@pytest.mark.parametrize(
    ("what", "salience", "size", "count", "kept"),
    [
        ("one from each quarter", range(16), (4, 4), 4, [5, 7, 13, 15]),
        ("two from each", range(16), (4, 4), 8, [4, 5, 6, 7, 12, 13, 14, 15]),
        ("the rest from the best", range(16), (4, 4), 6, [5, 7, 12, 13, 14, 15]),
        ("ties: the first", [0] * 16, (4, 4), 4, [0, 2, 8, 10]),
        ("odd sides: the middle belongs up and left", range(9), (3, 3), 4, [4, 5, 7, 8]),
        ("one row has two quarters", range(6), (1, 6), 4, [2, 3, 4, 5]),
        ("all", range(4), (2, 2), 4, [0, 1, 2, 3]),
        ("more than all", range(4), (2, 2), 9, [0, 1, 2, 3]),
    ],
)
def test_quadrants(what, salience, size, count, kept):
    keep = select_quadrants(numbers(*salience), *full(*size), count)
    assert keep.nonzero().squeeze(1).tolist() == kept, what


@pytest.mark.parametrize(
    ("worth", "count", "kept"),
    [
        ([3, 1, 2], 2, [0, 2]),
        ([1, 1, 1, 1], 2, [2, 3]),  # the older go first
        ([1, 2], 5, [0, 1]),
        ([1, 2], 0, []),
        ([], 0, []),
    ],
)
def test_the_budget_takes_the_least_and_the_oldest(worth, count, kept):
    assert keep_highest(numbers(*worth), count).nonzero().squeeze(1).tolist() == kept


def clusters(features, size):
    return compression.find_clusters(features, unit(features), *full(*size))


def test_like_neighbours_become_one_at_the_member_nearest_to_the_mean():
    left, right = numbers(1, 0, 0), numbers(0, 0, 1)
    features = torch.stack([left, 2 * left, right, 6 * left, left, right]).contiguous()
    found = clusters(features, (2, 3))
    assert [(c.anchor, c.members.tolist()) for c in found] == [(1, [0, 1, 3, 4]), (2, [2, 5])]
    merged = compression.merge(features, found)
    assert merged[1].tolist() == [2.5, 0, 0]
    assert merged[2].tolist() == [0, 0, 1]
    assert compression.survivors(6, found, features.device).tolist() == [0, 1, 1, 0, 0, 0]
    assert features[1].tolist() == [2, 0, 0], "what was given is changed"


@pytest.mark.parametrize(
    ("what", "features", "size"),
    [
        ("all alike: nothing parts them", torch.ones(6, 3), (2, 3)),
        ("no two touch", torch.eye(1), (1, 1)),
        ("one edge cannot be parted", torch.eye(2), (1, 2)),
    ],
)
def test_no_threshold_leaves_a_grid_alone(what, features, size):
    assert clusters(features, size) == (), what


def test_tokens_that_do_not_touch_stay_apart_though_alike():
    one, other = numbers(1, 0), numbers(0, 1)
    features = torch.stack([one, one, other, one, one])
    found = clusters(features, (1, 5))
    assert [c.members.tolist() for c in found] == [[0, 1], [3, 4]]


# -- salience --------------------------------------------------------------------------------------


def test_salience_is_the_best_cosine_with_any_word_of_the_bank():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    tokens = torch.tensor([[3.0, 4.0], [0.0, -2.0], [-7.0, 0.0]])
    assert token_salience(tokens, bank).tolist() == [pytest.approx(0.8), 0.0, 1.0]
    assert token_salience(tokens[:1].bfloat16(), bank[:1]).dtype == torch.float32
    assert token_salience(-tokens[:1], bank[:2]).item() < 0, "not clipped"


def test_a_bank_of_unknown_words_is_refused():
    one = session(("salience.questions", ["?!"]))
    with pytest.raises(InputError, match="knows no word"):
        watch(one, range(2))
