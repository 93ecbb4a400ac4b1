"""When something was seen: from, to and a peak, or not at all.

For models that score tokens themselves (``MomentModel``). Pure: nothing here changes a memory.

A look of which tokens are gone because the next look shows them too has what the next one has
there. Looks next to each other have to agree. What counts as seen is what stands out from a bank of
texts that have nothing to do with the video, scored on the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from vision_mem.models.vlm.protocol import TokenSearch
from vision_mem.videoqa.config import SeenConfig
from vision_mem.videoqa.records import GridEntry, Interval, Moment

_OF_THE_BEST = 0.35
"""Share of the best score that another interval has to reach."""
_TOKENS = 3
"""Windows that have to show it, on the average."""


@dataclass(frozen=True, eq=False)
class ScoredLooks:
    """How well each look of a memory fits a question.

    Attributes:
        scores: of each grid, in time order, in [0, 1].
        boxes: where in its picture the best token is; None where nothing says so.
        threshold: from which score on it counts as seen.
    """

    scores: tuple[float, ...]
    boxes: tuple[tuple[float, float, float, float] | None, ...]
    threshold: float


def score_looks(
    entries: Sequence[GridEntry], asked: TokenSearch, unrelated: TokenSearch, config: SeenConfig
) -> ScoredLooks:
    """Score all looks for a question, and find what counts as seen on this memory.

    Args:
        entries: grids in time order, of each of which something is left.
        asked: one text.
        unrelated: many.
        config: the rules.
    """
    owns = [_token_scores(entry, asked, unrelated) for entry in entries]
    raw = torch.stack(_filled(entries, owns))  # (grids, 1 + m)
    agreed = _agreed(raw, entries)
    tops = agreed[:, 1:].max(dim=0).values
    stands_out = float(torch.quantile(tops, config.refuse))
    threshold = min(max(stands_out, config.least), config.most)
    boxes = tuple(_box(entry, own[:, 0]) for entry, own in zip(entries, owns, strict=True))
    return ScoredLooks(tuple(agreed[:, 0].tolist()), boxes, threshold)


def _token_scores(entry: GridEntry, asked: TokenSearch, unrelated: TokenSearch) -> torch.Tensor:
    parts = [s.scores(entry.features, entry.extras) for s in (asked, unrelated)]
    return torch.cat(parts, dim=1).cpu()  # (n, 1 + m)


def _filled(entries: Sequence[GridEntry], owns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Scores of grids by their best tokens; those of later grids stand in for what is gone.

    From the newest grid back: a token went because the next grid shows the same.
    """
    found: list[torch.Tensor] = []
    after: GridEntry | None = None
    held: torch.Tensor | None = None
    for entry, own in zip(reversed(entries), reversed(owns), strict=True):
        count = entry.size[0] * entry.size[1]
        apart = after is None or after.segment != entry.segment or after.scene_change
        if held is None or apart or held.shape[0] != count:
            held = torch.zeros(count, own.shape[1])
        held = held.clone()
        held[entry.places()] = own
        best = held.topk(min(_TOKENS, entry.original, count), dim=0).values
        found.append(best.mean(dim=0))
        after = entry
    return found[::-1]


def _agreed(raw: torch.Tensor, entries: Sequence[GridEntry]) -> torch.Tensor:
    """The geometric mean of each look's score and the better of its neighbours'."""
    pairs = [one.segment == other.segment for one, other in pairwise(entries)]
    before = torch.tensor([False, *pairs])[:, None]  # whether there is a neighbour
    after = torch.tensor([*pairs, False])[:, None]
    near = torch.maximum(raw.roll(1, 0) * before, raw.roll(-1, 0) * after)
    return (raw * torch.where(before | after, near, raw)).sqrt()


def _box(entry: GridEntry, own: torch.Tensor) -> tuple[float, float, float, float] | None:
    boxes = entry.extras.get("box")
    if boxes is None:
        return None
    left, top, right, bottom = boxes[int(own.argmax())].float().clamp(0.0, 1.0).tolist()
    return (left, top, right, bottom)


def find_intervals(
    moments: Sequence[Moment], threshold: float, period_s: float, gap_s: float, end_s: float
) -> tuple[Interval, ...]:
    """Moments grown into intervals, in time order.

    An interval has a moment at the threshold or above, and reaches as far as its neighbours have
    half of that; where something is seen very clearly, faint moments elsewhere are not it. It
    lasts until the next look, and intervals with short gaps between them are one.

    Args:
        moments: all looks, in time order.
        threshold: of the score.
        period_s: seconds between looks.
        gap_s: seconds without it that still join.
        end_s: when the last look ends.
    """
    clear = max((moment.score for moment in moments), default=0.0)
    threshold = max(threshold, _OF_THE_BEST * clear)
    groups: list[list[int]] = []
    for number, moment in enumerate(moments):
        if moment.score < 0.5 * threshold:
            continue
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    found: list[Interval] = []
    for group in groups:
        best = max((moments[n] for n in group), key=lambda moment: moment.score)
        if best.score < threshold:
            continue
        last = moments[group[-1]]
        after = moments[group[-1] + 1].start_s if group[-1] + 1 < len(moments) else end_s
        here = Interval(
            moments[group[0]].start_s, max(last.end_s, min(last.end_s + period_s, after)),
            best, tuple(moments[n] for n in group),
        )  # fmt: skip
        if found and here.start_s - found[-1].end_s <= gap_s:
            before = found.pop()
            best = max(before.peak, best, key=lambda moment: moment.score)
            here = replace(
                here, start_s=before.start_s, peak=best, moments=(*before.moments, *here.moments)
            )
        found.append(here)
    return tuple(found)
