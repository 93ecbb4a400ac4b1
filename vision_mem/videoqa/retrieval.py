"""What of a memory answers a question. Pure: reading never changes a memory.

Each grid is scored by late interaction: every visual token takes its best cosine with any word
of the question, and the grid is the mean of its tokens. The latest grids are always read. A gate
decides whether they alone answer; otherwise the older grids compete, and how many of them are
read follows from how much their scores differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import torch

from vision_mem.errors import InputError
from vision_mem.videoqa.config import SCOPES, RetrievalConfig
from vision_mem.videoqa.records import GridEntry

_LEAST_MEAN = 1e-8


@dataclass(frozen=True)
class GateDecision:
    """Whether the latest grids alone answer.

    Attributes:
        history: True when older grids are needed too.
        recent: mean score of the latest grids.
        reference: what it was compared with, before ``gate_ratio``; None when the gate is off or
            has nothing to compare with.
        carried: the average over questions that the ``carried`` gate hands on; else None.
    """

    history: bool
    recent: float | None = None
    reference: float | None = None
    carried: float | None = None


@dataclass(frozen=True, eq=False)
class Retrieved:
    """What is read for one question.

    Attributes:
        entries: the grids, in time order.
        scores: of every grid that was scored, by its number.
        gate: how the gate decided.
        spread: coefficient of variation of the older grids' scores; None when all were read
            without looking at it.
        count: older grids read.
    """

    entries: tuple[GridEntry, ...]
    scores: dict[int, float]
    gate: GateDecision
    spread: float | None
    count: int


def score_grids(
    entries: Sequence[GridEntry], query: torch.Tensor, match: str = "video"
) -> list[float]:
    """Late interaction of grids with the words of a question.

    Args:
        entries: grids with at least one token each.
        query: float32 ``(m, D)`` unit vectors, m >= 1.
        match: ``video``: the best over the words, the mean over the visual tokens (specs/savemem.md
            2); ``words``: the best over the visual tokens, the mean over the words (ColBERT, SIGIR
            2020). Scores are in [-1, 1].
    """
    if not entries:
        return []
    units = torch.cat([entry.units() for entry in entries]).float()
    cosines = units @ query.T  # (tokens of all grids, m)
    parts = torch.split(cosines, [len(entry) for entry in entries])
    if match == "words":
        return [float(part.max(dim=0).values.mean()) for part in parts]
    return [float(part.max(dim=1).values.cpu().mean()) for part in parts]


def needs_history(
    recent: Sequence[float],
    older: Sequence[float],
    config: RetrievalConfig,
    carried: float | None = None,
) -> GateDecision:
    """Whether a question needs more than the latest grids: their mean is below the reference.

    Args:
        recent: scores of the latest grids.
        older: scores of the other grids, oldest first.
        config: ``gate``, ``gate_ratio``, ``gate_momentum``.
        carried: the average over earlier questions, for the ``carried`` gate; None at first.

    Source:
        specs/savemem.md 2, step 3, for ``carried``; the other gates are ours and know nothing
        but this question and this stream.
    """
    if config.gate == "off" or not recent:
        return GateDecision(True, carried=carried)
    anchor = fmean(recent)
    if config.gate == "carried":
        carried = anchor if carried is None else _averaged(carried, anchor, config.gate_momentum)
        return GateDecision(anchor < config.gate_ratio * carried, anchor, carried, carried)
    if not older:
        return GateDecision(False, anchor)
    if config.gate == "best":
        reference = max(older)
    else:
        reference = older[0]
        for score in older[1:]:
            reference = _averaged(reference, score, config.gate_momentum)
    return GateDecision(anchor < config.gate_ratio * reference, anchor, reference)


def _averaged(before: float, new: float, momentum: float) -> float:
    return momentum * new + (1.0 - momentum) * before


def spread_of(scores: Sequence[float]) -> float:
    """Coefficient of variation of two scores or more: unbiased deviation over absolute mean."""
    return stdev(scores) / max(abs(fmean(scores)), _LEAST_MEAN)


def choose_count(candidates: int, spread: float, config: RetrievalConfig) -> int:
    """How many of N older grids to read: fewer the more their scores differ (``spread``).

    From ``min(N, top_k)`` to N, and no less than ``least_share`` of N; specs/savemem.md 2, steps 5
    and 6.
    """
    if candidates <= config.top_k:
        return candidates
    if spread <= config.low_spread:
        count = candidates
    elif spread >= config.high_spread:
        count = config.top_k
    else:
        along = (spread - config.low_spread) / (config.high_spread - config.low_spread)
        count = math.floor(candidates - along * (candidates - config.top_k))
    least = max(config.top_k, math.floor(config.least_share * candidates))
    return max(count, min(candidates, least))


def retrieve(
    recent: Sequence[GridEntry],
    older: Sequence[GridEntry],
    query: torch.Tensor,
    config: RetrievalConfig,
    *,
    scope: str = "auto",
    carried: float | None = None,
) -> Retrieved:
    """Choose what is read for a question.

    Args:
        recent: the latest grids, in time order; they are always read.
        older: the other grids, in time order.
        query: float32 ``(m, D)`` unit vectors of what is looked for; with m = 0 all is read.
        config: the rules.
        scope: ``recent`` or ``all`` takes the decision from the gate; ``auto`` leaves it there.
        carried: see ``needs_history``.

    Returns:
        The choice. Grids of which nothing is left are passed over.

    Raises:
        InputError: for an unknown scope.
    """
    if scope not in SCOPES:
        raise InputError(f"scope is {scope!r}; expected one of {', '.join(SCOPES)}")
    recent, older = ([e for e in entries if len(e)] for entries in (recent, older))
    if len(query) == 0:
        unscored = GateDecision(True, carried=carried)
        return Retrieved((*older, *recent), {}, unscored, None, len(older))
    new, old = (score_grids(some, query, config.match) for some in (recent, older))
    scores = {e.index: s for e, s in zip((*older, *recent), (*old, *new), strict=True)}
    gate = GateDecision(True, carried=carried)
    if scope == "recent":
        gate = GateDecision(False, carried=carried)
    elif scope == "auto" and config.enabled:
        gate = needs_history(new, old, config, carried)
    if not gate.history:
        return Retrieved(tuple(recent), scores, gate, None, 0)
    if not config.enabled or len(older) <= config.top_k:
        return Retrieved((*older, *recent), scores, gate, None, len(older))
    spread = spread_of(old)
    count = choose_count(len(older), spread, config)
    # Sorting is stable: of equal grids the older is read.
    best = set(sorted(range(len(older)), key=lambda n: -old[n])[:count])
    chosen = [entry for n, entry in enumerate(older) if n in best]
    return Retrieved((*chosen, *recent), scores, gate, spread, count)
