from __future__ import annotations

import gc
import threading
import time

import pytest

from vision_mem.sources.prefetch import Prefetch


def wait_until(condition, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return bool(condition())


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "vision-mem-prefetch"]


@pytest.fixture(autouse=True)
def no_thread_survives():
    yield
    gc.collect()
    assert wait_until(lambda: not readers())


def test_items_come_in_order_and_the_thread_ends():
    assert list(Prefetch(lambda: iter(range(100)), 4)) == list(range(100))


def test_an_error_comes_after_the_items_before_it_and_only_once():
    def items():
        yield 1
        yield 2
        raise ValueError("third")

    ahead = Prefetch(items, 8)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_an_error_before_the_first_item():
    def items():
        raise RuntimeError("at once")

    with pytest.raises(RuntimeError, match="at once"):
        next(Prefetch(items, 2))


def test_it_works_ahead_no_further_than_its_depth():
    made = []

    def items():
        for number in range(1000):
            made.append(number)
            yield number

    ahead = Prefetch(items, 3)
    assert next(ahead) == 0
    assert wait_until(lambda: ahead.waiting == 3)
    time.sleep(0.05)
    assert len(made) == 5  # one handed over, three waiting, one in the producer's hand
    assert ahead.close()


def test_closing_early_runs_the_generators_clean_up_in_its_own_thread():
    cleaned = []

    def items():
        try:
            yield from range(10**9)
        finally:
            cleaned.append(threading.current_thread().name)

    ahead = Prefetch(items, 2)
    next(ahead)
    assert ahead.close() and ahead.close()
    assert cleaned == ["vision-mem-prefetch"]
    assert list(ahead) == []


def test_closing_before_the_first_item_starts_nothing():
    ahead = Prefetch(lambda: iter([1]), 2)
    assert ahead.close()
    assert list(ahead) == []


def test_a_waiting_consumer_is_released_by_close():
    release = threading.Event()

    def items():
        release.wait(5)
        yield 1

    ahead = Prefetch(items, 2)
    got = []
    consumer = threading.Thread(target=lambda: got.extend(ahead))
    consumer.start()
    time.sleep(0.05)
    assert not ahead.close(timeout_s=0.05)  # the producer is stuck, the consumer is not
    consumer.join(2)
    assert not consumer.is_alive() and got == []
    release.set()


def test_forgetting_it_ends_the_thread():
    ahead = Prefetch(lambda: iter(range(10**9)), 2)
    next(ahead)
    assert readers()
    del ahead


def test_latest_keeps_the_newest_and_counts_the_rest():
    seen = threading.Event()

    def items():
        yield 0
        seen.wait(5)
        yield from range(1, 11)

    ahead = Prefetch(items, 8, latest=True)
    assert next(ahead) == 0
    seen.set()
    assert wait_until(lambda: ahead.dropped == 9)
    assert list(ahead) == [10]
