"""Where the tokens that are read stand in the prompt: M-RoPE ids, counted from the video's start.

A model adds the number of text tokens before the video to every id given here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vision_mem.videoqa.config import PositionConfig
from vision_mem.videoqa.records import GridEntry

# Times are sums of decimal fractions: 2.0000 may come as 1.9999999, and must not lose an id.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Watched:
    """What a stream has shown so far, kept or not: the extent of the uncompressed video.

    Attributes:
        grids: number of grids.
        first_s, last_s: start of the first and of the newest grid, seconds.
        rows, cols: largest grid so far.
    """

    grids: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    rows: int = 0
    cols: int = 0

    def after(self, entry: GridEntry) -> Watched:
        """With one grid more."""
        first_s = entry.start_s if self.grids == 0 else self.first_s
        rows, cols = max(self.rows, entry.size[0]), max(self.cols, entry.size[1])
        return Watched(entry.index + 1, first_s, entry.start_s, rows, cols)

    @property
    def seconds_per_grid(self) -> float:
        """Mean time from grid to grid, to the millisecond; 0 for a single grid."""
        if self.grids < 2:
            return 0.0
        return round((self.last_s - self.first_s) / (self.grids - 1), 3)


@dataclass(frozen=True, eq=False)
class Placed:
    """Position ids of what is read.

    Attributes:
        ids: int64 ``(3, n)`` time, row and column of each token.
        text_start: where text after the video starts.
        mode: the mode that was used; ``compact`` also where another one did not fit the model.
    """

    ids: torch.Tensor
    text_start: int
    mode: str


def ids_by_index(
    grids: Sequence[int], seconds_per_grid: float, tokens_per_second: float | None
) -> list[int]:
    """Temporal ids of grids by number: ``floor(k * seconds_per_grid * tokens_per_second)``.

    Several share an id where that step is below 1; without ``tokens_per_second`` consecutive ones
    are one apart. Source: specs/savemem.md 1.8.
    """
    step = 1.0 if tokens_per_second is None else seconds_per_grid * tokens_per_second
    return [math.floor(k * step + _ROUNDING) for k in grids]


def ids_by_time(starts_s: Sequence[float], first_s: float, tokens_per_second: float) -> list[int]:
    """Temporal ids by the seconds that passed, for streams with gaps and uneven rates."""
    return [math.floor((s - first_s) * tokens_per_second + _ROUNDING) for s in starts_s]


def text_start(last: int, rows: int, cols: int, rule: str) -> int:
    """The id at which text after a video starts, whose last grid has the temporal id ``last``.

    By rule ``reference`` 1 after the largest id on any axis; by ``transformers`` (release 5.23)
    the larger of rows and columns, whatever the time. Source: specs/savemem.md 1.8 and 6.1.
    """
    return max(rows, cols) if rule == "transformers" else 1 + max(last, rows - 1, cols - 1)


def place(
    entries: Sequence[GridEntry],
    watched: Watched,
    config: PositionConfig,
    tokens_per_second: float | None,
    max_positions: int | None = None,
) -> Placed:
    """Position ids of everything that is read.

    Args:
        entries: grids in time order, with their tokens.
        watched: the whole stream.
        config: the rules.
        tokens_per_second: of the model; None puts consecutive grids one apart.
        max_positions: ids that video may take; where it would take more, gaps are closed.
    """
    pace = watched.seconds_per_grid
    step = 1 if tokens_per_second is None else max(1, math.floor(pace * tokens_per_second + 1e-6))
    sides, mode = (watched.rows, watched.cols), config.mode
    if config.clock == "time" and tokens_per_second is not None:
        times = [*(entry.start_s for entry in entries), watched.last_s]
        *ids, last = ids_by_time(times, watched.first_s, tokens_per_second)
    else:
        numbers = [*(entry.index for entry in entries), watched.grids - 1]
        *ids, last = ids_by_index(numbers, pace, tokens_per_second)
    if mode == "rebase":
        shift = min(ids, default=0)
        ids, last = [each - shift for each in ids], last - shift
    start = text_start(last, *sides, config.text)
    if mode == "compact" or (max_positions is not None and max(start, last + 1) > max_positions):
        mode = "compact"
        ids = [number * step for number in range(len(entries))]
        last = ids[-1] if ids else 0
        start = text_start(last, *sides, config.text)
    parts = [
        torch.stack((torch.full_like(rows, t), rows, entry.cols.long()))
        for entry, t in zip(entries, ids, strict=True)
        for rows in [entry.rows.long()]
    ]
    joined = torch.cat(parts, dim=1) if parts else torch.empty((3, 0), dtype=torch.int64)
    return Placed(joined, start, mode)
