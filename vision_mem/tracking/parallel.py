"""Work on several objects at a time: one thread an object, results as if it were one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")


def mapped(work: Callable[[Item], Made], items: Sequence[Item], threads: int) -> list[Made]:
    """Do the same to each item.

    Args:
        work: does not change anything that others see.
        items: of any number.
        threads: at a time, >= 1.

    Returns:
        What was made of each, in order. What ``work`` raises is raised.
    """
    if threads <= 1 or len(items) < 2:
        return [work(item) for item in items]
    inference = torch.is_inference_mode_enabled()  # each thread has its own

    def run(item: Item) -> Made:
        with torch.inference_mode(inference):
            return work(item)

    return list(_pool(threads).map(run, items))


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    # Shared by all sessions, which may come and go by the thousand.
    return ThreadPoolExecutor(threads, thread_name_prefix="vision-mem-objects")
