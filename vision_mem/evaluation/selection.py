"""Which sequences of a benchmark to run: by name, a first few, one share of several."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

from vision_mem.config import nearest
from vision_mem.errors import InputError

Shard = tuple[int, int]


class Named(Protocol):
    """Whatever has a name: sequences of one object and of many."""

    @property
    def name(self) -> str:
        """As in the benchmark's lists."""


Some = TypeVar("Some", bound=Named)


def choose_sequences(
    sequences: Iterable[Some],
    *,
    names: str | None = None,
    limit: int | None = None,
    shard: Shard | None = None,
) -> list[Some]:
    """Choose in this order: names, then the first ``limit`` of them, then a share.

    Args:
        sequences: all of the set.
        names: comma-separated names or patterns as ``car-*``; None for all.
        limit: at most so many, in the order of the set's list; >= 1.
        shard: ``(i, n)``: of the rest in the order of their names, the i-th and every n-th after
            it, i from 1. Every sequence is in exactly one of the n shares, whatever n is.

    Returns:
        The sequences, in the order of the set's list.

    Raises:
        InputError: when two sequences have one name, or a name or pattern fits none.
    """
    chosen = list(sequences)
    known = [sequence.name for sequence in chosen]
    twice = (
        {name for name in known if known.count(name) > 1} if len(set(known)) < len(known) else ()
    )
    if twice:
        raise InputError(f"several sequences are called {min(twice)!r}; their results would mix")
    if names is not None:
        wanted = matching(known, names)
        chosen = [sequence for sequence in chosen if sequence.name in wanted]
    chosen = chosen[:limit]
    if shard is not None:
        number, shards = shard
        share = sorted(sequence.name for sequence in chosen)[number - 1 :: shards]
        mine = set(share)
        chosen = [sequence for sequence in chosen if sequence.name in mine]
    return chosen


def parse_shard(text: str) -> Shard:
    """Read ``i/n``, the i-th of n shares, i from 1.

    Raises:
        InputError: for anything else.
    """
    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(
            f"--shard is {text!r}; expected i/n with i from 1 to n: --shard 2/8 is the second of "
            "eight shares"
        )
    return int(match[1]), int(match[2])


def matching(known: list[str], names: str) -> set[str]:
    """Those that a list of names or patterns, commas between, means.

    Raises:
        InputError: when one of them fits none.
    """
    wanted: set[str] = set()
    for pattern in (part.strip() for part in names.split(",")):
        if not pattern:
            continue
        # A name first: "[" and "*" may stand in names too.
        found = {pattern} & set(known) or set(fnmatch.filter(known, pattern))
        if not found:
            raise InputError(
                f"no sequence fits {pattern!r}; the set has {len(known)}, as {known[0]!r}"
                f"{nearest(pattern, known)}"
                if known
                else "the set has no sequences"
            )
        wanted |= found
    if not wanted:
        raise InputError("--sequences names nothing; expected names or patterns: a,b-*,c")
    return wanted
