"""The two memories of the learned reconstruction: what they keep, merge and give up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mem4d_samples import entry, nothing_read

from vision_mem.models.mem4d.config import PersistentConfig, TransientConfig
from vision_mem.models.mem4d.layers import grid_positions
from vision_mem.reconstruction.learned.frame_ring import Ring
from vision_mem.reconstruction.learned.structure_bank import (
    Bank,
    farthest_points,
    keep_scores,
    pooled,
)

FAR = torch.tensor([[[0.0, 0, 2], [1, 0, 2], [0, 1, 2], [1, 1, 2]]])
RULES = PersistentConfig(capacity=8, confident=1.0, voxel=0.1, pool=False, young=2)


def bank_after(rules, *entries):
    bank = Bank.empty(rules, entries[0])
    for one in entries:
        bank = bank.write(one, nothing_read(len(one.keys)), None)
    return bank


def places_of(bank, row=0):
    held = bank.centroids[row][bank.valid[row]]
    return sorted(tuple(round(float(v), 3) for v in p) for p in held)


class TestRing:
    settings = TransientConfig(frames=3)

    def ring_after(self, *entries, settings=None):
        ring = Ring.empty(entries[0], (settings or self.settings).frames)
        for t, one in enumerate(entries):
            ring = ring.write(one, torch.tensor([t]), settings or self.settings)
        return ring

    def other(self, n):
        return entry(FAR + n, keys=torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(n)))

    def test_the_oldest_leaves(self):
        ring = self.ring_after(*[self.other(n) for n in range(5)])
        assert sorted(ring.written[0].tolist()) == [2, 3, 4]
        assert ring.centroids[0, :, 0, 0].sort().values.tolist() == [2.0, 3.0, 4.0]
        assert ring.count == 12

    @pytest.mark.parametrize(
        ("moving", "held"),
        [(0.0, [-1, -1, 1]), (1.0, [-1, 0, 1])],
        ids=["still camera, nothing moves", "still camera, something moves"],
    )
    def test_the_same_frame_twice(self, moving, held):
        ring = self.ring_after(entry(FAR), entry(FAR, dynamic=moving))
        assert sorted(ring.written[0].tolist()) == held

    def test_ages_and_what_is_there(self):
        tokens = self.ring_after(self.other(0), self.other(1)).tokens(
            torch.tensor([2]), grid_positions((2, 2))
        )
        assert tokens.valid[0].sum() == 8
        assert sorted(tokens.ages[tokens.valid].tolist()) == [1] * 4 + [2] * 4
        assert tokens.positions.shape == (1, 12, 2)

    def test_rows_below_zero_write_nothing(self):
        ring = Ring.empty(entry(FAR), 2).write(entry(FAR), torch.tensor([-1]), self.settings)
        assert ring.count == 0

    def test_bytes_do_not_change(self):
        one, many = self.ring_after(self.other(0)), self.ring_after(*map(self.other, range(7)))
        assert one.nbytes == many.nbytes

    def test_state_and_back(self):
        ring = self.ring_after(self.other(0), self.other(1))
        again = Ring.from_state(ring.state())
        assert all(torch.equal(getattr(ring, n), getattr(again, n)) for n in ("keys", "written"))
        with pytest.raises(ValueError, match="do not fit"):
            Ring.from_state({**ring.state(), "grid": [5, 5]})


class TestGate:
    def test_what_moves_is_not_written(self):
        moving = torch.tensor([[1.0, 0.0, 0.6, 0.4]])
        bank = bank_after(RULES, entry(FAR, dynamic=moving))
        assert places_of(bank) == [(1, 0, 2), (1, 1, 2)]

    def test_a_frame_in_which_all_moves_changes_no_token(self):
        before = bank_after(RULES, entry(FAR))
        after = before.write(entry(FAR + 5, dynamic=1.0), nothing_read(), None)
        assert torch.equal(before.centroids, after.centroids)
        assert torch.equal(before.valid, after.valid)

    @pytest.mark.parametrize(("gate", "count"), [("static", 0), ("none", 4), ("truth", 2)], ids=str)
    def test_gates(self, gate, count):
        truth = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
        one = entry(FAR, dynamic=1.0, truth=truth)
        assert bank_after(replace(RULES, gate=gate), one).count == count

    @pytest.mark.parametrize(("confidence", "count"), [(1.2, 0), (3.0, 4)])
    def test_confidence_counts_where_it_is_asked_for(self, confidence, count):
        rules = replace(RULES, confident=3.0)
        assert bank_after(rules, entry(FAR, confidence=confidence)).count == count


class TestPooling:
    def test_a_flat_block_becomes_its_mean(self):
        near = torch.tensor([[[0.0, 0, 2], [0.1, 0, 2], [0, 0.1, 2], [0.1, 0.1, 2]]])
        values, weights = pooled(
            {"centroids": near, "depth": near[..., 2]}, torch.ones(1, 4), (2, 2), RULES
        )
        assert values["centroids"][0, 0].tolist() == pytest.approx([0.05, 0.05, 2])
        assert weights.tolist() == [[1.0]]

    def test_a_depth_edge_keeps_the_most_static_one(self):
        edge = torch.tensor([[[0.0, 0, 2], [0.1, 0, 2], [0, 0.1, 5], [0.1, 0.1, 5]]])
        values, _ = pooled(
            {"centroids": edge, "depth": edge[..., 2]}, torch.tensor([[0.5, 0.5, 0.9, 0.6]]),
            (2, 2), RULES,
        )  # fmt: skip
        assert values["centroids"][0, 0].tolist() == pytest.approx([0, 0.1, 5])

    def test_odd_grids(self):
        places = torch.randn(1, 15, 3)
        values, weights = pooled(
            {"centroids": places, "depth": places[..., 2]}, torch.ones(1, 15), (3, 5), RULES
        )
        assert values["centroids"].shape == (1, 6, 3)
        assert (weights > 0).all()


class TestNovelty:
    def test_a_known_surface_is_not_inserted_again(self):
        bank = bank_after(RULES, entry(FAR), entry(FAR + 0.02))
        assert bank.count == 4
        assert bank.hits[bank.valid].tolist() == [2] * 4

    @pytest.mark.parametrize(
        ("confidence", "merge", "x"),
        [(3.0, "replace", 0.04), (1.5, "replace", 0.0), (1.5, "average", 0.02)],
        ids=["more confident", "less confident", "average"],
    )
    def test_keep_replace_or_average(self, confidence, merge, x):
        rules = replace(RULES, merge=merge)
        shift = torch.tensor([0.04, 0, 0])
        bank = bank_after(rules, entry(FAR), entry(FAR + shift, confidence=confidence))
        assert places_of(bank)[0] == pytest.approx((x, 0, 2))

    def test_without_merging_all_is_inserted(self):
        assert bank_after(replace(RULES, merge="none"), entry(FAR), entry(FAR)).count == 8

    def test_seen_from_another_side_up_to_three_a_voxel(self):
        sides = [(0.0, 0, 1), (1.0, 0, 0), (0.0, 1, 0), (-1.0, 0, 0), (0.0, -1, 0)]
        point = torch.zeros(1, 1, 3)
        key = torch.ones(1, 1, 8)
        rules = replace(RULES, young=0)
        bank = bank_after(
            rules, *[entry(point, grid=(1, 1), keys=key, direction=side) for side in sides]
        )
        assert bank.count == 3

    def test_another_look_at_the_same_place_is_new(self):
        other = torch.nn.functional.one_hot(torch.arange(4) + 4, 8).float()[None]
        assert bank_after(RULES, entry(FAR), entry(FAR, keys=other)).count == 8


class TestPruning:
    def test_the_count_never_exceeds_the_capacity(self):
        bank = bank_after(RULES, *[entry(FAR + 3.0 * n) for n in range(6)])
        assert bank.count == 8

    def test_the_first_frame_stays_when_it_is_an_anchor(self):
        rules = replace(RULES, capacity=16)
        many = [entry(FAR + 3.0 * n) for n in range(9)]
        kept = places_of(bank_after(rules, *many))
        assert {(0, 0, 2), (1, 1, 2)} <= set(kept)
        lost = places_of(bank_after(replace(rules, anchor=False), *many))
        assert not {(0, 0, 2), (1, 1, 2)} & set(lost)

    def test_anchors_take_a_quarter_at_most(self):
        assert bank_after(RULES, entry(FAR)).anchor.sum() == 2

    def test_what_is_looked_at_is_kept(self):
        rules = replace(RULES, anchor=False, capacity=8, young=0)
        bank = bank_after(rules, entry(FAR), entry(FAR + 3))
        mass = torch.zeros(1, 9)
        place = (bank.centroids[0, :, 0] == 1).nonzero()[0, 0]
        mass[0, 1 + place] = 50
        read = replace(nothing_read(), mass={"persistent": mass})
        for n in range(2, 4):
            bank = bank.write(entry(FAR + 3.0 * n), read if n == 2 else nothing_read(), None)
        assert bank.usage.max() == 50
        assert any(p[0] == 1 for p in places_of(bank))

    def test_scores(self):
        usage, age = torch.tensor([[5.0, 1, 1, 1]]), torch.tensor([[20.0, 20, 50, 1]])
        static, count = torch.ones(1, 4), torch.tensor([[1.0, 1, 1, 1]])
        order = keep_scores(usage, age, static, count, young=10)[0].argsort(descending=True)
        assert order.tolist() == [3, 0, 1, 2]

    def test_farthest_points(self):
        line = torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0], [9, 0, 0]]])
        chosen = farthest_points(line, torch.tensor([[True, True, True, True]]), 2)
        assert chosen.tolist() == [[True, False, False, True]]
        chosen = farthest_points(line, torch.tensor([[True, True, False, False]]), 3)
        assert chosen.tolist() == [[True, True, False, False]]


class TestBank:
    def test_streams_do_not_mix(self):
        both = torch.cat([FAR, FAR + 7])
        alone = bank_after(RULES, entry(FAR), entry(FAR + 1))
        pair = bank_after(RULES, entry(both), entry(both + 1))
        assert places_of(pair, 0) == places_of(alone)

    def test_bytes_do_not_change(self):
        sizes = {bank_after(RULES, *[entry(FAR + n)] * (n + 1)).nbytes for n in range(4)}
        assert len(sizes) == 1

    def test_state_and_back(self):
        bank = bank_after(RULES, entry(FAR), entry(FAR + 1))
        again = Bank.from_state(bank.state(), RULES)
        one = bank.write(entry(FAR + 2), nothing_read(), None).state()
        other = again.write(entry(FAR + 2), nothing_read(), None).state()
        assert all(torch.equal(one[name], other[name]) for name in one)
        with pytest.raises(ValueError, match="has shape"):
            Bank.from_state(bank.state(), replace(RULES, capacity=9))

    def test_gradients_reach_what_is_written_in_training(self):
        keys = torch.randn(1, 4, 8, requires_grad=True)
        bank = Bank.empty(RULES, entry(FAR), soft=True)
        bank = bank.write(entry(FAR, keys=keys), nothing_read(), None)
        bank.values.sum().backward()
        assert (keys.grad != 0).all()

    def test_more_patches_than_places(self):
        rules = replace(RULES, capacity=4)
        places = torch.arange(16.0)[None, :, None].expand(-1, -1, 3)
        keys = torch.randn(1, 16, 8)
        bank = bank_after(rules, entry(places, grid=(4, 4), keys=keys))
        assert bank.count == 4
