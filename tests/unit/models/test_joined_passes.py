"""Requests of several threads in one pass: the same results, fewer passes."""

from __future__ import annotations

import threading
import time

import pytest

from vision_mem.models.joined_passes import JoinedPasses


@pytest.mark.parametrize("most", [1, 4, 100])
def test_each_thread_gets_its_own(most: int) -> None:
    sizes: list[int] = []

    def square(items: list[int]) -> list[int]:
        sizes.append(len(items))
        time.sleep(0.002)
        return [item * item for item in items]

    joined = JoinedPasses(square, most)
    made: dict[int, list[list[int]]] = {}

    def stream(n: int) -> None:
        made[n] = [joined([n, n + turn]) for turn in range(20)]

    threads = [threading.Thread(target=stream, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(6):
        assert made[n] == [[n * n, (n + turn) ** 2] for turn in range(20)]
    assert sum(sizes) == 240 and max(sizes) <= max(most, 2)
    assert joined.passes == len(sizes)
    if most >= 4:
        assert len(sizes) < 120, "some went together"


def test_an_error_reaches_who_asked_and_the_next_pass_runs() -> None:
    def halve(items: list[int]) -> list[int]:
        if 0 in items:
            raise ValueError("nothing to halve")
        return [item // 2 for item in items]

    joined = JoinedPasses(halve, 1)
    with pytest.raises(ValueError, match="nothing"):
        joined([0])
    assert joined([4, 6]) == [2, 3]
