"""A video memory: grid by grid equal to the whole clip, bounded, never over its budget."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import videoqa_samples as samples
from videoqa_whole_clip import WholeClip

from vision_mem.errors import InputError
from vision_mem.videoqa.compression import unit
from vision_mem.videoqa.config import MemoryConfig
from vision_mem.videoqa.memory import TokenMemory
from vision_mem.videoqa.records import GridEntry

RULES = ("tiers", "recent", "fifo", "uniform", "full")
OFFICIAL = MemoryConfig(
    short_frames=6, mid_frames=12, budget=120, budget_over="history", stale_directions=True
)
OURS = MemoryConfig(short_frames=6, mid_frames=12, budget=120)


def bank(width=12, words=9):
    return unit(torch.randn(words, width, generator=torch.Generator().manual_seed(5)))


def grid(tokens, index, **fields):
    return samples.entry(tokens, index, rows=4, cols=5, **fields)


def grow(memory, clip, first=0):
    for index, tokens in enumerate(clip, first):
        memory = memory.write(grid(tokens, index))
        yield memory


def last(memory, clip, first=0):
    *_, end = grow(memory, clip, first)
    return end


def content(memory):
    """Everything held, bit for bit."""
    return [
        (e.index, e.tier, e.places(), *(t.tolist() for t in e.tensors())) for e in memory.entries
    ]


# -- grid by grid equals the whole clip ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("with_bank", [True, False])
@pytest.mark.parametrize(("short", "mid", "budget"), [(3, 6, 120), (1, 4, 60), (4, 0, 40)])
def test_grid_by_grid_leaves_what_the_whole_clip_leaves(seed, with_bank, short, mid, budget):
    clip = samples.walking_clip(40, seed=seed, rows=5, cols=8, change=1.5, cut=4)
    words = bank() if with_bank else None
    whole = WholeClip(clip, 5, 8, short=short, mid=mid, budget=budget, bank=words)
    config = replace(OFFICIAL, short_frames=2 * short, mid_frames=2 * mid, budget=budget)
    memory = TokenMemory(config, 2, words)
    for index, tokens in enumerate(clip):
        memory = memory.write(samples.entry(tokens, index, rows=5, cols=8))
    held = {e.index: e for e in memory.entries}
    for t in range(40):
        kept = whole.keep[t].nonzero().squeeze(1).tolist()
        entry = held.get(t)
        assert kept == ([] if entry is None else entry.places()), f"grid {t}"
        if entry is not None:
            assert entry.tier == whole.tier[t]
            assert torch.equal(entry.features, whole.features[t, kept])
    counts = memory.counts
    assert min(counts.pruned, counts.over_budget) > 0
    assert counts.unselected > 0 if with_bank else counts.rewritten > 0


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("chunk", [1, 2, 7, 40])
def test_stopping_and_going_on_at_any_grid_changes_nothing(rules, chunk):
    clip, config = samples.walking_clip(40, seed=4), replace(OURS, rules=rules)
    memory = TokenMemory(config, 2, bank())
    for first in range(0, 40, chunk):
        memory = TokenMemory.from_state(memory.state_dict(), config, 2, "cpu")
        memory = last(memory, clip[first : first + chunk], first)
    assert content(memory) == content(last(TokenMemory(config, 2, bank()), clip))


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["tiers", "recent", "fifo", "uniform"])
@pytest.mark.parametrize("budget", [20, 33, 47, 120, 400])
@pytest.mark.parametrize("with_bank", [True, False])
def test_the_budget_is_never_exceeded(rules, budget, with_bank):
    config = replace(OURS, rules=rules, budget=budget)
    most = 0
    empty = TokenMemory(config, 2, bank() if with_bank else None)
    for memory in grow(empty, samples.walking_clip(60, change=1.5, cut=3)):
        usage = memory.usage()
        assert sum(usage.tokens.values()) == memory.tokens <= budget
        assert memory.short[-1].index == memory.counts.grids - 1, "the newest grid is held"
        assert len(memory.short[-1]) == 20, "and whole"
        most = max(most, memory.tokens)
    assert most > 0.55 * min(budget, 60) or rules == "recent"


def test_the_official_budget_is_exceeded_and_ours_is_not():
    clip = samples.walking_clip(60, change=1.5, cut=3)
    tokens = {
        config: max(m.tokens for m in grow(TokenMemory(config, 2, bank()), clip))
        for config in (replace(OURS, budget=80), replace(OFFICIAL, budget=80))
    }
    ours, official = tokens.values()
    assert ours <= 80 < official


def test_old_grids_keep_a_share_where_the_middle_tier_would_take_all():
    clip = samples.walking_clip(60, change=1.5, cut=3)
    config = replace(OURS, mid_frames=400, budget=100)
    memory = last(TokenMemory(config, 2, bank()), clip)
    usage = memory.usage()
    assert usage.tokens["short"] <= 50
    assert usage.tokens["mid"] <= 0.5 * (100 - usage.tokens["short"]) + 20
    assert usage.tokens["long"] >= 10
    assert memory.entries[0].index < 40


def test_ten_thousand_grids_stay_bounded():
    clip = samples.walking_clip(500, rows=3, cols=3, width=8)
    memory = TokenMemory(replace(OURS, budget=96), 2, bank(8))
    bytes_held, entries = [], []
    with torch.inference_mode():
        for index in range(10_000):
            tokens = clip[index % 500]
            memory = memory.write(samples.entry(tokens, index, rows=3, cols=3))
            if index % 100 == 99:
                usage = memory.usage()
                assert sum(usage.tokens.values()) <= 96
                bytes_held.append(usage.bytes)
                entries.append(usage.entries)
    assert max(bytes_held[10:]) <= 1.05 * max(bytes_held[:10])
    assert max(entries) <= 96 + 3 + 6
    assert memory.counts.grids == 10_000
    assert memory.counts.tokens == 90_000
    held = memory.counts
    gone = held.pruned + held.unselected + held.merged + held.over_budget
    assert held.tokens - gone == memory.tokens, "every token is accounted for"


def test_a_grid_larger_than_the_budget_is_one_clear_line():
    memory = TokenMemory(replace(OURS, budget=19))
    with pytest.raises(InputError, match=r"grid 0 has 20 tokens.*memory.budget 19.*raise"):
        memory.write(grid(samples.walking_clip(1)[0], 0))
    assert memory.entries == ()


# -- memories of whole grids -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("recent", [17, 18, 19]),
        ("fifo", [14, 15, 16, 17, 18, 19]),
        ("full", list(range(20))),
    ],
)
def test_which_whole_grids_stay(rules, kept):
    memory = last(TokenMemory(replace(OURS, rules=rules)), samples.walking_clip(20))
    assert [e.index for e in memory.entries] == kept
    assert {len(e) for e in memory.entries} == {20}


@pytest.mark.parametrize("grids", [7, 20, 63, 150])
def test_uniform_reaches_over_everything_evenly(grids):
    memory = last(TokenMemory(replace(OURS, rules="uniform")), samples.walking_clip(grids))
    held = [e.index for e in memory.entries]
    assert len(held) == 6
    assert (held[0], held[-1]) == (0, grids - 1)
    gaps = [b - a for a, b in pairwise(held)]
    assert max(gaps) <= 2.5 * (grids - 1) / 5


# -- tiers -----------------------------------------------------------------------------------------


def test_tiers_are_in_time_order_and_empty_grids_hold_a_place_in_the_middle_only():
    still = samples.walking_clip(1).expand(30, -1, -1)
    memory = last(TokenMemory(OURS), still)
    assert [len(e) for e in memory.mid] == [0] * 6
    assert memory.long == ()
    assert [e.index for e in memory.entries] == list(range(21, 30))
    assert [e.index for e in memory.read()] == [27, 28, 29]


def test_short_grids_know_their_neighbours_and_the_others_forget():
    memory = last(TokenMemory(OURS, 2, bank()), samples.walking_clip(30))
    assert [e.like_previous is not None for e in memory.short] == [True] * 3
    assert [e.like_next is not None for e in memory.short] == [True, True, False]
    assert {e.tier for e in memory.short} == {"short"}
    for entry in (*memory.mid, *memory.long):
        assert entry.like_previous is None
        assert entry.like_next is None
        assert entry.salience.dtype == torch.float32
        assert entry.rows.dtype == entry.cols.dtype == torch.int16
        assert entry.original == 20


@pytest.mark.parametrize("stale", [True, False])
def test_merged_tokens_are_found_by_their_old_direction_only_when_stale(stale):
    config = replace(OURS, mid_frames=2, stale_directions=stale, budget=400)
    memory = last(TokenMemory(config), samples.walking_clip(30))
    assert memory.counts.rewritten > 0
    old = [e for e in memory.long if not torch.allclose(e.units(), unit(e.features), atol=1e-4)]
    assert bool(old) is stale
    assert all((e.directions is None) is not stale for e in old)


def test_a_scene_change_is_seen_and_kept():
    clip = samples.walking_clip(20, change=0.1, cut=9)
    config = replace(OURS, short_frames=40, budget=4000)
    memory = last(TokenMemory(config), clip)
    assert [e.index for e in memory.entries if e.scene_change] == [8, 17]


def test_extras_go_where_their_tokens_go():
    config = replace(OURS, mid_frames=2, budget=70)
    for words in (None, bank()):
        memory = TokenMemory(config, 2, words)
        for index, tokens in enumerate(samples.walking_clip(30)):
            place = torch.arange(20.0)[:, None, None].expand(20, 2, 3)
            extras = {"deep": tokens.double(), "place": place}
            memory = memory.write(grid(tokens, index, extras=extras))
        for entry in memory.entries:
            torch.testing.assert_close(
                entry.extras["deep"], entry.features.double(), rtol=1e-6, atol=1e-6
            )
            assert entry.extras["place"].shape == (len(entry), 2, 3)
        if words is not None:
            mids = [(e.extras["place"][:, 0, 0].tolist(), e.places()) for e in memory.mid]
            assert all(found == places for found, places in mids)


def test_features_keep_their_type_and_hold_no_more_than_their_own():
    batch = samples.walking_clip(30).bfloat16()
    memory = last(TokenMemory(OURS, 2, bank()), batch)
    for entry in memory.entries:
        assert entry.features.dtype == torch.bfloat16
        for tensor in entry.tensors():
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    usage = memory.usage()
    assert usage.bytes == sum(usage.detail.values())
    features = sum(e.features.numel() * 2 for e in memory.entries)
    assert features < usage.bytes < 2.5 * features + usage.detail["question bank"]


# -- segments --------------------------------------------------------------------------------------


def test_another_size_begins_a_segment_that_is_not_compared_with_the_one_before():
    clip = samples.walking_clip(12)
    memory = TokenMemory(replace(OURS, budget=400))
    for index in range(12):
        if index < 6:
            memory = memory.write(grid(clip[index], index))
        else:
            tokens = clip[index][:12]
            memory = memory.write(samples.entry(tokens, index, rows=3, cols=4, segment=1))
    held = {e.index: e for e in memory.entries}
    assert [held[i].size for i in (5, 6)] == [(4, 5), (3, 4)]
    assert memory.motion.grids == 5, "motion is measured anew"
    alone = TokenMemory(replace(OURS, budget=400))
    for index in range(6, 12):
        tokens = clip[index][:12]
        alone = alone.write(samples.entry(tokens, index, rows=3, cols=4, segment=1))
    assert content(alone) == [one for one in content(memory) if one[0] >= 6]
    # The last grid of the first segment has no grid after it: only what was there before counts.
    assert len(held[5]) > 0


@pytest.mark.parametrize("rules", RULES)
def test_a_size_that_changes_with_every_grid_stays_bounded(rules):
    memory = TokenMemory(replace(OURS, rules=rules, budget=100), 2, bank())
    for index, tokens in enumerate(samples.walking_clip(50)):
        rows = 4 - index % 2
        memory = memory.write(
            samples.entry(tokens[: rows * 5], index, rows=rows, cols=5, segment=index)
        )
        assert rules == "full" or memory.tokens <= 100
    assert memory.short[-1].index == 49


# -- reading, forgetting, keeping ------------------------------------------------------------------


def test_writing_gives_a_new_memory_and_leaves_the_old_one():
    memory = last(TokenMemory(OURS, 2, bank()), samples.walking_clip(30))
    before = content(memory)
    after = memory.write(grid(samples.walking_clip(1)[0], 30))
    assert content(memory) == before
    assert after.entries[-1].index == 30
    untouched = {id(e) for e in memory.entries} & {id(e) for e in after.entries}
    assert len(untouched) >= len(memory.entries) - 3, "what a write does not touch is the same"


def test_read_up_to_a_time():
    memory = last(TokenMemory(OURS, 2, bank()), samples.walking_clip(30))
    assert memory.read()[-1].index == 29
    assert memory.read(56.0)[-1].index == 28
    assert memory.read(55.9)[-1].index == 27
    assert memory.read(-1.0) == ()


def test_forget_a_span():
    memory = last(TokenMemory(OURS, 2, bank()), samples.walking_clip(30))
    left = memory.forget(51.0, 54.0)
    gone = {e.index for e in memory.entries} - {e.index for e in left.entries}
    assert gone == {25, 26, 27}
    assert left.counts.forgotten == memory.tokens - left.tokens
    assert memory.forget(0, 1e9).entries == ()
    on = last(memory.forget(57.0, 1e9), samples.walking_clip(5), 30)
    assert on.entries[-1].index == 34
    with pytest.raises(InputError, match="start <= end"):
        memory.forget(5.0, 4.0)


@pytest.mark.parametrize(
    ("what", "change", "says"),
    [
        ("older than what is held", {"index": 29}, "comes after grid 29"),
        ("another width", {"features": torch.ones(20, 7)}, "width 7 and the question bank 12"),
    ],
)
def test_grids_that_cannot_be_written(what, change, says):
    memory = last(TokenMemory(OURS, 2, bank()), samples.walking_clip(30))
    before = content(memory)
    with pytest.raises(InputError, match=says):
        memory.write(replace(grid(samples.walking_clip(1)[0], 30), **change))
    assert content(memory) == before, what


@pytest.mark.parametrize(
    "damage",
    [
        lambda e: e.update(tier="deep"),
        lambda e: e.update(rows=e["rows"][1:]),
        lambda e: e.update(rows=e["rows"] + 9),
        lambda e: e.update(cols=e["cols"] - 1 - e["cols"].max()),
        lambda e: e.update(features=e["features"][0]),
        lambda e: e.pop("index"),
        lambda e: e.update(index=7),
        lambda e: e.update(extras={"deep": torch.ones(1)}),
    ],
)
def test_a_damaged_state_is_refused(damage):
    memory = last(TokenMemory(OURS, 2, bank()), samples.walking_clip(30))
    state = memory.state_dict()
    damage(state["entries"][-1])
    with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
        TokenMemory.from_state(state, OURS, 2, "cpu")


def test_an_entry_survives_its_state():
    memory = last(TokenMemory(OURS, 2, bank()), samples.walking_clip(30))
    for entry in memory.entries:
        again = GridEntry.from_state(entry.state_dict(), "cpu")
        assert again.frames == (2 * entry.index, 2 * entry.index + 1)
        assert again.state_dict().keys() == entry.state_dict().keys()
        for one, other in zip(again.tensors(), entry.tensors(), strict=True):
            assert torch.equal(one, other)
