"""Which detection is which track, what is new, and who owns a pixel: tables, no network."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.geometry.assignment import assign
from vision_mem.mots.association import (
    AssociationConfig,
    affinity,
    compatible,
    match_by_cost,
    match_by_overlap,
    middle_distances,
    modulated_cost,
)
from vision_mem.mots.birth import BirthConfig, is_new, worth_a_look
from vision_mem.mots.regions import (
    bounds_ious,
    free_share,
    front_to_back,
    ious,
    owned,
    owners,
    region_of,
    region_of_box,
    share_inside,
)

C = AssociationConfig(min_iou=0.3)
SIZE = (40, 60)


def mask(x1, y1, x2, y2):
    made = np.zeros(SIZE, bool)
    made[y1:y2, x1:x2] = True
    return made


@pytest.mark.parametrize(
    ("cost", "most", "pairs"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], np.inf, [(0, 0), (1, 1)]),
        ([[1.0, 0.1], [9.0, 1.0]], np.inf, [(0, 0), (1, 1)]),  # the sum counts, not the best pair
        ([[0.5, np.inf], [0.1, np.inf]], np.inf, [(1, 0)]),
        ([[0.1, 0.2], [0.2, np.inf]], np.inf, [(0, 1), (1, 0)]),  # two pairs beat one cheap one
        ([[0.5, 0.95], [0.95, 0.95]], 0.9, [(0, 0)]),
        ([[np.inf]], np.inf, []),
        (np.zeros((0, 3)), np.inf, []),
    ],
)
def test_assign(cost, most, pairs):
    assert assign(cost, most) == pairs


@pytest.mark.parametrize(
    ("why", "iou", "lost", "pairs"),
    [
        ("plain", [[0.9, 0.0], [0.0, 0.8]], [False, False], {0: 0, 1: 1}),
        ("below the least overlap", [[0.29]], [False], {}),
        ("at the least overlap", [[0.3]], [False], {0: 0}),
        ("no overlap at all", [[0.0]], [True], {}),
        ("lost needs less", [[0.15]], [True], {0: 0}),
        ("lost, but another could have had it", [[0.5, 0.2], [0.6, 0.0]], [False, True], {1: 0}),
        ("lost and well placed beside one in view", [[0.5, 0.4], [0.6, 0]], [False, True],
         {0: 1, 1: 0}),
        ("in view chooses first", [[0.4, 0.9]], [False, True], {0: 0}),
    ],
)  # fmt: skip
def test_match_by_overlap(why, iou, lost, pairs):
    iou = np.array(iou)
    found = match_by_overlap(C, iou, np.ones_like(iou, dtype=bool), lost)
    assert found == pairs, why


def test_other_classes_are_never_matched():
    allowed = compatible([1, 2], [2, 2], True)
    assert allowed.tolist() == [[False, False], [True, True]]
    assert compatible([1], [2], False).all()
    assert list(match_by_overlap(C, np.full((2, 2), 0.9), allowed, [False, False])) == [1]


def test_affinity_mixes_mask_and_motion_where_both_are_known():
    seen, moved = np.full((1, 4), 0.8), np.full((1, 4), 0.4)
    found = affinity(C, seen, moved, [True, True, False, False], [True, False, True, False])
    np.testing.assert_allclose(found, [[0.6, 0.8, 0.4, 0.0]])
    masks_alone = AssociationConfig(motion_weight=0)
    off = affinity(masks_alone, seen[:, :2], moved[:, :2], [True, False], [True, True])
    np.testing.assert_allclose(off, [[0.8, 0.0]])


def test_modulated_cost_by_hand():
    """Two masks of 100 pixels, 10 pixels apart: distance 10 / sqrt(200)."""
    distance = middle_distances([(0, 0)], [100], [(10, 0)], [100])
    assert distance[0, 0] == pytest.approx(10 / 200**0.5)
    alike = np.exp(-(0.5 / (2 * 0.25)))  # distance squared is 0.5
    plain = 0.5 * (1 - 0.2) + 0.5 * (1 - alike)
    for score, weight in ((1.0, 1.0), (0.5, 1.25)):
        cost = modulated_cost(C, np.array([[0.2]]), distance, [score], [1.0])
        assert cost[0, 0] == pytest.approx(plain * weight)
    assert match_by_cost(C, np.array([[0.9]]), np.array([[True]])) == {0: 0}
    assert match_by_cost(C, np.array([[0.91]]), np.array([[True]])) == {}


def test_overlaps_of_regions_by_hand():
    square, right = region_of(mask(10, 10, 20, 20)), region_of(mask(15, 10, 25, 20))
    box = region_of_box(np.array([10, 10, 20, 15], np.float32), SIZE)
    nothing = region_of(np.zeros(SIZE, bool))
    table = ious([square, box, nothing], [square, right, box])
    np.testing.assert_allclose(table, [[1, 50 / 150, 50 / 100], [0.5, 25 / 125, 1], [0, 0, 0]])
    np.testing.assert_allclose(bounds_ious([square], [right, nothing]), [[50 / 150, 0]])
    np.testing.assert_allclose(share_inside([box, nothing], [square]), [[1.0], [0.0]])
    assert square.middle == (14.5, 14.5) and box.middle == (15, 12.5)


def test_a_box_over_the_border_counts_inside_the_frame():
    box = region_of_box(np.array([-10, -10, 5.7, 5.2], np.float32), SIZE)
    assert box.area == 25
    assert ious([box], [region_of(mask(0, 0, 5, 5))])[0, 0] == 1


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((0, 0, 10, 10), 1.0),
        ((10, 10, 20, 20), 0.0),
        ((5, 10, 15, 20), 0.5),
        ((15.9, 10.9, 25.9, 20.9), 0.5),  # corners are rounded down: 15..25 x 10..20
        ((-50, -50, -10, -10), 0.0),
        ((50, 30, 80, 80), 1.0),
    ],
)
def test_free_share(box, share):
    taken = mask(10, 10, 20, 20)
    assert free_share(taken, np.array(box, np.float32)) == pytest.approx(share)


@pytest.mark.parametrize(
    ("score", "name", "free", "overlap", "why"),
    [
        (0.9, "car", 0.61, 0.0, None),
        (0.9, "car", 0.60, 0.0, "free"),
        (0.9, "person", 0.80, 0.0, "free"),
        (0.9, "Pedestrian", 0.86, 0.0, None),
        (0.49, "car", 1.0, 0.0, "score"),
        (0.9, "car", 1.0, 0.5, "overlaps"),
        (0.9, "car", 1.0, 0.49, None),
    ],
)
def test_is_new(score, name, free, overlap, why):
    found = is_new(BirthConfig(), score, name, free, overlap)
    assert found is None if why is None else why in found


def test_every_birth_rule_can_be_switched_off():
    off = BirthConfig(min_score=0, free_share=0, free_share_by_class={}, max_overlap=1)
    assert is_new(off, 0.01, "person", 0.01, 0.99) is None


def test_worth_a_look_drops_doubles_specks_and_outsiders():
    boxes = np.array(
        [(0, 0, 10, 10), (0, 0, 10, 9), (30, 0, 40, 10), (-9, -9, -1, -1), (20, 20, 21, 21)],
        np.float32,
    )
    scores, labels = [0.5, 0.9, 0.05, 0.9, 0.9], [0, 0, 0, 0, 0]
    assert worth_a_look(BirthConfig(), boxes, scores, labels, SIZE) == [1, 4]
    assert worth_a_look(BirthConfig(nms_iou=1), boxes, scores, labels, SIZE) == [1, 4, 0]
    assert worth_a_look(BirthConfig(min_area=0.01), boxes, scores, labels, SIZE) == [1]
    assert worth_a_look(BirthConfig(), boxes, scores, [1, 0, 0, 0, 0], SIZE) == [1, 4, 0]
    assert worth_a_look(BirthConfig(), np.empty((0, 4), np.float32), [], [], SIZE) == []


@pytest.mark.parametrize(
    ("rule", "order"),
    [("score", [1, 2, 0]), ("area", [2, 0, 1]), ("creation", [2, 0, 1]), ("none", [0, 1, 2])],
)
def test_who_is_in_front(rule, order):
    assert front_to_back(rule, [0.5, 0.9, 0.5], [20, 30, 10], [7, 8, 3]) == order


def test_masks_are_disjoint_and_keep_what_nobody_else_has():
    regions = [region_of(mask(10, 10, 20, 20)), region_of(mask(15, 10, 25, 20))]
    for order in ([0, 1], [1, 0]):
        parts = owned(owners(regions, order, SIZE), regions)
        assert not (parts[0] & parts[1]).any()
        assert (parts[0] | parts[1]).sum() == 150
        assert parts[order[0]].sum() == 100


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cost": "iou"}, "overlap, modulated"),
        ({"min_iou": 2}, "from 0 to 1"),
        ({"middle_spread": 0}, "more than 0"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(InputError, match=words):
        AssociationConfig(**settings)
