"""What is read for a question, and where it stands: gate, count, scores, positions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import videoqa_samples as samples

from vision_mem.errors import InputError
from vision_mem.videoqa.config import PositionConfig, RetrievalConfig
from vision_mem.videoqa.mrope import Watched, ids_by_index, ids_by_time, place, text_start
from vision_mem.videoqa.retrieval import (
    choose_count,
    needs_history,
    retrieve,
    score_grids,
    spread_of,
)

# -- the gate --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "before", "recent", "history", "after"),
    [
        # First call ever: history exactly when the ratio is above 1.
        (0.1, None, 0.4, False, 0.4),
        (1.0, None, 0.4, False, 0.4),
        (1.01, None, 0.4, True, 0.4),
        # Later: a (1 - 0.2 ratio) < 0.8 ratio E.
        (0.1, 0.5, 0.0408, True, 0.40816),  # below 0.5 * 0.08 / 0.98 = 0.0408163
        (0.1, 0.5, 0.0409, False, 0.40818),
        (0.9, 0.5, 0.43, True, 0.486),
        (0.9, 0.5, 0.45, False, 0.49),
        (1.0, 0.5, 0.49, True, 0.498),
        (1.0, 0.5, 0.5, False, 0.5),
        (2.0, 0.5, 1.33, True, 0.666),
        (2.0, 0.5, 1.34, False, 0.668),
        (3.0, 0.5, 2.99, True, 0.998),
        (3.0, 0.5, 3.01, False, 1.002),
        (5.0, 0.5, 50.0, True, 10.4),
    ],
)
def test_the_carried_gate(ratio, before, recent, history, after):
    config = RetrievalConfig(gate="carried", gate_ratio=ratio)
    made = needs_history([recent], [0.9], config, before)
    assert made.carried == pytest.approx(after)
    assert made.history is history


@pytest.mark.parametrize(
    ("what", "gate", "ratio", "recent", "older", "history", "reference"),
    [
        ("an older grid matches better", "best", 1.0, [0.3, 0.5], [0.1, 0.41], True, 0.41),
        ("now matches best", "best", 1.0, [0.3, 0.5], [0.1, 0.39], False, 0.39),
        ("as well as the best is enough", "best", 1.0, [0.5], [0.5], False, 0.5),
        ("a careful ratio", "best", 2.0, [0.5], [0.3], True, 0.3),
        ("an average, oldest first", "stream", 1.0, [0.17], [0.1, 0.5], True, 0.18),
        ("the same the other way round", "stream", 1.0, [0.17], [0.5, 0.1], True, 0.42),
        ("above the average", "stream", 1.0, [0.19], [0.1, 0.5], False, 0.18),
        ("nothing older", "best", 1.0, [0.5], [], False, None),
        ("nothing older", "stream", 1.0, [0.5], [], False, None),
        ("off", "off", 1.0, [0.9], [0.1], True, None),
        ("nothing recent", "best", 1.0, [], [0.1], True, None),
    ],
)
def test_gates_that_know_this_question_alone(what, gate, ratio, recent, older, history, reference):
    made = needs_history(recent, older, RetrievalConfig(gate=gate, gate_ratio=ratio))
    assert made.history is history, what
    assert made.reference == (None if reference is None else pytest.approx(reference))
    assert made.carried is None


# -- how many --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "candidates", "spread", "least_share", "count"),
    [
        ("no more than top_k", 10, 9.0, 0.9, 10),
        ("all alike", 100, 0.05, 0.0, 100),
        ("very different", 100, 0.3, 0.0, 10),
        ("beyond that", 100, 4.0, 0.0, 10),
        ("half way", 100, 0.175, 0.0, 55),
        ("a little", 100, 0.06, 0.0, 96),  # floor(100 - 0.04 * 90)
        ("never fewer than the share", 100, 4.0, 0.9, 90),
        ("the share of 11 is 9: top_k counts", 11, 4.0, 0.9, 10),
        ("the share of 12", 12, 4.0, 0.9, 10),
        ("the share of 22", 22, 0.17, 0.9, 19),
        ("the spread asks for more than the share", 100, 0.06, 0.9, 96),
        ("a share of all", 100, 4.0, 1.0, 100),
    ],
)
def test_how_many_older_grids_are_read(what, candidates, spread, least_share, count):
    config = RetrievalConfig(least_share=least_share)
    assert choose_count(candidates, spread, config) == count, what


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1.0, 3.0], 2**0.5 / 2),
        ([-1.0, -3.0], 2**0.5 / 2),
        ([0.0, 0.0], 0.0),
        ([1.0, -1.0], 2e8**1),
    ],
)
def test_spread(scores, expected):
    assert spread_of(scores) == pytest.approx(expected, rel=0.5 if expected > 1 else 1e-9)


# -- reading ---------------------------------------------------------------------------------------


def grids(*scores, first=0):
    """Grids of two tokens each that score just so against the word (1, 0, ...)."""
    made = []
    for index, score in enumerate(scores, first):
        tokens = torch.zeros(2, samples.WIDTH)
        tokens[:, 0], tokens[:, 1] = score, (1 - score**2) ** 0.5
        made.append(samples.entry(3.0 * tokens, index, rows=1, cols=2))
    return made


WORD = torch.eye(samples.WIDTH)[:1]


def test_scores_take_the_best_word_and_the_mean_token():
    tokens = torch.zeros(2, samples.WIDTH)
    tokens[0, 0], tokens[1, 1] = 5.0, 0.1
    one = samples.entry(tokens, 0, rows=1, cols=2)
    assert score_grids([one], torch.eye(samples.WIDTH)[:1]) == [0.5]
    assert score_grids([one], torch.eye(samples.WIDTH)[:2]) == [1.0]
    assert score_grids([], WORD) == []


def test_the_best_older_grids_are_read_in_time_order_with_the_recent_ones():
    config = RetrievalConfig(top_k=2, least_share=0.0)
    older, recent = grids(0.1, 0.9, 0.1, 0.8, 0.9), grids(0.2, 0.3, first=5)
    found = retrieve(recent, older, WORD, config)
    assert [e.index for e in found.entries] == [1, 4, 5, 6]
    assert found.count == 2
    assert found.scores == pytest.approx(
        {0: 0.1, 1: 0.9, 2: 0.1, 3: 0.8, 4: 0.9, 5: 0.2, 6: 0.3}, abs=1e-6
    )


def test_of_equal_older_grids_the_oldest_are_read():
    config = RetrievalConfig(top_k=2, least_share=0.0, low_spread=0.0, high_spread=1e-9, gate="off")
    older = [*grids(0.5, 0.5, 0.5), *grids(0.1, first=3)]
    found = retrieve(grids(0.2, first=4), older, WORD, config)
    assert [e.index for e in found.entries] == [0, 1, 4]


@pytest.mark.parametrize(
    ("what", "scope", "recent", "enabled", "read"),
    [
        ("now matches best", "auto", 0.95, True, [5]),
        ("recent on request", "recent", 0.1, True, [5]),
        ("all on request", "all", 0.95, True, [1, 4, 5]),
        ("switched off reads everything", "auto", 0.95, False, [0, 1, 2, 3, 4, 5]),
        ("switched off, recent on request", "recent", 0.1, False, [5]),
    ],
)
def test_scope(what, scope, recent, enabled, read):
    config = RetrievalConfig(top_k=2, least_share=0.0, enabled=enabled)
    older = grids(0.1, 0.9, 0.1, 0.2, 0.9)
    found = retrieve(grids(recent, first=5), older, WORD, config, scope=scope)
    assert [e.index for e in found.entries] == read, what


def test_without_words_everything_is_read():
    config = RetrievalConfig(gate="carried", top_k=1, least_share=0.0)
    found = retrieve(grids(0.1, first=2), grids(0.3, 0.9), WORD[:0], config, carried=0.25)
    assert len(found.entries) == 3
    assert found.scores == {}
    assert found.gate.carried == 0.25


def test_emptied_grids_are_passed_over_and_unknown_scopes_refused():
    older = grids(0.3, 0.9)
    older[0] = older[0].take(torch.tensor([False, False]))
    found = retrieve(grids(0.1, first=2), older, WORD, RetrievalConfig())
    assert [e.index for e in found.entries] == [1, 2]
    with pytest.raises(InputError, match="expected one of auto, recent, all"):
        retrieve([], older, WORD, RetrievalConfig(), scope="backward")


def test_stale_directions_are_what_a_grid_is_found_by():
    (one,) = grids(0.5)
    stale = replace(one, directions=torch.eye(samples.WIDTH)[[0, 0]])
    assert score_grids([one, stale], WORD) == [pytest.approx(0.5), 1.0]


# -- positions -------------------------------------------------------------------------------------


def watch(entries):
    watched = Watched()
    for one in entries:
        watched = watched.after(one)
    return watched


def video(count, rows=6, cols=10):
    return [
        samples.entry(torch.ones(rows * cols, 4), index, rows=rows, cols=cols)
        for index in range(count)
    ]


@pytest.mark.parametrize(
    ("what", "grids", "size", "rule", "last", "text"),
    [
        # With p0 = 4 text tokens before: last visual t 16, next text 17, or 14 in release 5.23.
        ("reference", 4, (6, 10), "reference", 12, 13),
        ("transformers", 4, (6, 10), "transformers", 12, 10),
        ("long reference", 128, (16, 30), "reference", 508, 509),
        ("long transformers", 128, (16, 30), "transformers", 508, 30),
        ("a single wide grid", 1, (6, 10), "reference", 0, 10),
    ],
)
def test_absolute_positions(what, grids, size, rule, last, text):
    entries = video(grids, *size)
    config = PositionConfig(mode="absolute", clock="index", text=rule)
    placed = place(entries, watch(entries), config, tokens_per_second=2.0)
    time, rows, cols = placed.ids.tolist()
    n = size[0] * size[1]
    assert time[::n] == [4 * k for k in range(grids)]
    assert time[-1] == last
    assert rows[:n] == [i // size[1] for i in range(n)]
    assert cols[:n] == [i % size[1] for i in range(n)]
    assert placed.text_start == text, what
    by_time = place(entries, watch(entries), replace(config, clock="time"), tokens_per_second=2.0)
    assert torch.equal(by_time.ids, placed.ids)


@pytest.mark.parametrize(
    ("seconds_per_grid", "tokens_per_second", "expected"),
    [
        (2.0, 2.0, [0, 4, 8, 12]),
        (0.5, 2.0, [0, 1, 2, 3]),
        (0.25, 2.0, [0, 0, 1, 1]),  # two grids share an id
        (0.3, 2.0, [0, 0, 1, 1]),
        (2.002, 2.0, [0, 4, 8, 12]),
        (7.0, None, [0, 1, 2, 3]),
    ],
)
def test_ids_by_index(seconds_per_grid, tokens_per_second, expected):
    assert ids_by_index(range(4), seconds_per_grid, tokens_per_second) == expected


def test_ids_by_time_follow_gaps_and_forgive_rounding():
    assert ids_by_time([0.3, 2.2999999999, 62.3], 0.3, 2.0) == [0, 4, 124]


def test_dropped_tokens_leave_gaps_and_nothing_is_renumbered():
    entries = video(6)
    kept = [entries[1].take(torch.arange(60) == 23), entries[4].take(torch.arange(60) >= 58)]
    placed = place(kept, watch(entries), PositionConfig(mode="absolute"), 2.0)
    assert placed.ids.tolist() == [[4, 16, 16], [2, 5, 5], [3, 8, 9]]
    assert placed.text_start == 21


@pytest.mark.parametrize(
    ("mode", "limit", "time", "text", "used"),
    [
        ("absolute", None, [400, 404, 480], 509, "absolute"),
        ("rebase", None, [0, 4, 80], 109, "rebase"),
        ("compact", None, [0, 4, 8], 10, "compact"),
        ("rebase", 109, [0, 4, 80], 109, "rebase"),
        ("rebase", 108, [0, 4, 8], 10, "compact"),
        ("absolute", 200, [0, 4, 8], 10, "compact"),
    ],
)
def test_positions_of_a_long_stream(mode, limit, time, text, used):
    entries = video(128)
    kept = [entries[100], entries[101], entries[120]]
    placed = place(kept, watch(entries), PositionConfig(mode=mode), 2.0, limit)
    assert placed.ids[0, ::60].tolist() == time
    assert (placed.text_start, placed.mode) == (text, used)


def test_models_that_count_grids():
    entries = video(5)
    placed = place(entries[2:4], watch(entries), PositionConfig(), None)
    assert placed.ids[0, ::60].tolist() == [0, 1]
    assert placed.text_start == text_start(2, 6, 10, "reference") == 10


def test_nothing_read_has_no_positions():
    placed = place([], Watched(), PositionConfig(), 2.0)
    assert placed.ids.shape == (3, 0)


@pytest.mark.parametrize(
    ("starts", "pace"), [([0, 2, 4], 2.0), ([5], 0.0), ([0, 2.0004, 4.0004], 2.0), ([0, 3, 4], 2.0)]
)
def test_mean_time_from_grid_to_grid(starts, pace):
    one = video(1)[0]
    made = [replace(one, index=i, start_s=float(s)) for i, s in enumerate(starts)]
    assert watch(made).seconds_per_grid == pace
