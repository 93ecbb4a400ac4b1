"""Turns: shares by weight, none lost, none twice."""

from __future__ import annotations

import threading
import time

import pytest

from vision_mem.fleet.turns import FairTurns


@pytest.mark.parametrize(
    ("slots", "weights", "costs"),
    [
        (1, [1, 1, 1], [1, 1, 1]),
        (1, [1, 2, 4], [1, 1, 1]),
        (1, [1, 1, 1], [1, 3, 9]),  # a stream with slow frames has fewer of them
        (2, [1, 1, 1, 1, 2, 2, 2, 2], [1, 2, 3, 1, 2, 3, 1, 2]),
    ],
)
def test_shares_follow_weights(slots: int, weights: list[float], costs: list[float]) -> None:
    turns, until, most = FairTurns(slots), time.monotonic() + 0.6, 0
    lock, inside = threading.Lock(), 0
    for name, weight in enumerate(weights):
        turns.weigh(str(name), weight)

    def stream(name: str, cost: float) -> None:
        nonlocal inside, most
        while time.monotonic() < until:
            turns.take(name)
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.0005)
            with lock:
                inside -= 1
            turns.give_back(name, cost / 100)

    threads = [threading.Thread(target=stream, args=(str(n), cost)) for n, cost in enumerate(costs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= slots
    shares = [turns.seconds[str(n)] / weight for n, weight in enumerate(weights)]
    mean = sum(shares) / len(shares)
    assert max(abs(one - mean) for one in shares) / mean < 0.1


def test_a_stream_that_was_away_gets_little_credit() -> None:
    turns = FairTurns(1)
    for _ in range(100):
        assert turns.take("busy")
        turns.give_back("busy", 1.0)
    assert turns.take("late")
    turns.give_back("late", 1.0)
    assert turns._clocks["late"] >= turns._clocks["busy"] - 1.5


def test_a_stream_that_is_stopped_leaves_the_queue() -> None:
    turns = FairTurns(1)
    assert turns.take("one")
    assert not turns.take("two", stopped=lambda: True)
    turns.give_back("one", 1.0)
    assert turns.take("three")
