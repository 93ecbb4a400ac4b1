"""Finding what is remembered: four ways to look, one ranking.

Short memory answers alone when it is sure and near. Otherwise short, spatial, semantic and text
rankings are merged by their reciprocal ranks (specification 1.5). Nothing found is an empty
list, never a list of zeros.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.navigation.ann_index import ENGINES, Neighbours
from vision_mem.navigation.landmarks import Landmark, Landmarks, words
from vision_mem.navigation.working_memory import WorkingMemory

CHANNELS = ("short", "spatial", "semantic", "text")
_RANK = 60
"""The constant of reciprocal-rank fusion (Cormack et al., 2009)."""


@dataclass(frozen=True)
class RecallConfig:
    """How memory is asked.

    Attributes:
        radius: metres of the spatial channel around the observer; 0 leaves the channel out.
        depth: candidates that each channel names at most.
        exact_up_to: landmarks up to which likeness is searched exactly.
        engine: beyond that: ``auto``, ``exact``, ``faiss`` or ``usearch``.
        least_cosine: likeness below which the semantic channel finds nothing, -1 to 1.
    """

    radius: float = 10.0
    depth: int = 50
    exact_up_to: int = 50_000
    engine: str = "auto"
    least_cosine: float = 0.2

    def __post_init__(self) -> None:
        if self.radius < 0 or self.depth < 1 or self.exact_up_to < 0 or self.engine not in ENGINES:
            raise InputError(
                "retrieval settings: radius and exact_up_to must be 0 or more, depth 1 or more, "
                f"engine one of {', '.join(ENGINES)}"
            )


@dataclass(frozen=True, eq=False)
class MapQuery:
    """What is asked.

    Attributes:
        text: words, or "".
        embedding: float32 ``(d,)`` of length 1, or None.
        position: ``(3,)`` metres: near here; None for anywhere.
    """

    text: str = ""
    embedding: NDArray[np.float32] | None = None
    position: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Hit:
    """Something remembered.

    Attributes:
        node: id of the landmark.
        kind: ``landmark``.
        label: its name, or "".
        position: float64 ``(3,)`` metres in the map's frame.
        covariance: float64 ``(3, 3)`` square metres.
        score: fused; higher is better.
        channels: each channel's own score: likeness, or share of words, or metres (spatial).
        age_s: seconds since it was last seen.
        count: sightings.
        existence: log-odds that it is still there.
        gone: whether it is believed not to be.
        seqs: journal ids of the latest sightings, oldest first.
        best_seq: journal id of the best view.
    """

    node: int
    kind: str
    label: str
    position: NDArray[np.float64]
    covariance: NDArray[np.float64]
    score: float
    channels: Mapping[str, float]
    age_s: float
    count: int
    existence: float
    gone: bool
    seqs: tuple[int, ...]
    best_seq: int

    @property
    def sigma(self) -> float:
        """Standard deviation of the position, metres, along its worst axis."""
        return sigma_of(self.covariance)


def sigma_of(covariance: NDArray[np.float64]) -> float:
    """Standard deviation along the worst axis of a ``(3, 3)`` covariance."""
    return math.sqrt(max(float(np.linalg.eigvalsh(covariance)[-1]), 0.0))


Ranking = list[tuple[int, float]]


@dataclass
class Retriever:
    """Asks all channels.

    Attributes:
        landmarks: what is remembered for long.
        short: what was lately around.
        config: settings.
    """

    landmarks: Landmarks
    short: WorkingMemory
    config: RecallConfig = field(default_factory=RecallConfig)

    def __post_init__(self) -> None:
        self.neighbours = Neighbours(
            self.landmarks.vectors, self.config.exact_up_to, self.config.engine
        )

    def search(
        self,
        query: MapQuery,
        k: int,
        now_s: float,
        *,
        allowed: set[int] | None = None,
        write: bool = True,
    ) -> list[Hit]:
        """Find landmarks, ``k`` at most, best first.

        Words and likeness choose, the position only ranks; with neither, all near it is found.
        ``write`` counts being found as a use in short memory; ``allowed`` limits what may be.
        """
        asked = query.embedding is not None or bool(words(query.text))
        if not self.landmarks.by_id or not (asked or query.position is not None):
            return []
        rankings: dict[str, Ranking] = {}
        if query.position is not None and (query.embedding is not None or not query.text):
            rankings["short"] = near = self._short(query, write)
            sure = self.short.config.sure
            if allowed is None and near and query.embedding is not None and near[0][1] >= sure:
                alone = {"short": [row for row in near if row[1] >= sure]}
                return self._hits(alone, k, now_s)
        if query.embedding is not None:
            rankings["semantic"] = self._semantic(query.embedding, allowed)
        if words(query.text):
            rankings["text"] = self._text(query.text, allowed)
        if query.position is not None and self.config.radius:
            # Near things that nothing else speaks for are no answer to a question.
            named = {node for ranking in rankings.values() for node, _ in ranking}
            ids, metres, _ = self.landmarks.around(query.position, self.config.radius)
            rows = zip(ids.tolist(), metres.tolist(), strict=True)
            rankings["spatial"] = [row for row in rows if not asked or row[0] in named]
        if allowed is not None:
            rankings = {
                name: [row for row in ranking if row[0] in allowed]
                for name, ranking in rankings.items()
            }
        return self._hits(rankings, k, now_s)

    def _short(self, query: MapQuery, write: bool) -> Ranking:
        assert query.position is not None
        found = self.short.search(query.embedding, query.position, self.config.depth, write=write)
        least = self.config.least_cosine if query.embedding is not None else -math.inf
        return [
            (node, likeness)
            for node, likeness, _ in found
            if node in self.landmarks.by_id and likeness >= least
        ]

    def _semantic(self, embedding: NDArray[np.float32], allowed: set[int] | None) -> Ranking:
        owners = self.landmarks.owner
        depth = self.config.depth if allowed is None else max(len(owners), 1)
        found = self.neighbours.search(embedding, depth)
        return [
            (owners[row], likeness)
            for row, likeness in found
            if row in owners and likeness >= self.config.least_cosine
        ][: None if allowed is not None else self.config.depth]

    def _text(self, text: str, allowed: set[int] | None) -> Ranking:
        """Share of the question's words that a name holds, rarer words counting more.

        Of two that hold the same words the one with fewer others is meant.
        """
        asked = sorted(set(words(text)))
        total = len(self.landmarks.by_id)
        found = {word: self.landmarks.named(word) for word in asked}
        weight = {word: math.log1p(total / max(len(ids), 1)) for word, ids in found.items()}
        scores: dict[int, float] = {}
        for word, ids in found.items():
            for node in ids:
                scores[node] = scores.get(node, 0.0) + weight[word]
        whole = sum(weight.values())
        rows = []
        likely = [
            (score, -node) for node, score in scores.items() if allowed is None or node in allowed
        ]
        for score, node in heapq.nlargest(4 * self.config.depth, likely):
            name = set(words(self.landmarks.by_id[-node].label))
            used = len(name.intersection(asked)) / max(len(name), 1)
            rows.append((-node, score / whole * (0.9 + 0.1 * used)))
        rows.sort(key=lambda row: (-row[1], -self.landmarks.by_id[row[0]].count, row[0]))
        return rows[: self.config.depth]

    def _hits(self, rankings: Mapping[str, Ranking], k: int, now_s: float) -> list[Hit]:
        fused = fuse(rankings)
        hits = []
        for node, score in fused[:k]:
            landmark = self.landmarks.by_id[node]
            channels = {
                name: value
                for name, ranking in rankings.items()
                for found, value in ranking
                if found == node
            }
            gone = self.landmarks.gone(landmark)
            hits.append(make_hit(landmark, score, channels, now_s, gone))
        return hits


def make_hit(
    landmark: Landmark, score: float, channels: Mapping[str, float], now_s: float, gone: bool
) -> Hit:
    """A hit on a landmark as it is remembered now."""
    return Hit(
        landmark.landmark_id, "landmark", landmark.label, landmark.position.copy(),
        landmark.covariance.copy(), score, dict(channels), now_s - landmark.last_s, landmark.count,
        landmark.existence, gone, landmark.last, landmark.best_seq,
    )  # fmt: skip


def fuse(rankings: Mapping[str, Sequence[tuple[int, float]]]) -> Ranking:
    """Merge rankings: each gives ``1 / (60 + rank)``, the best of a ranking being rank 1.

    ``(node, value)`` best first go in, where equal values share a rank; ``(node, score)`` come out.
    """
    scores: dict[int, float] = {}
    for name in sorted(rankings):
        rank, before = 0, math.nan
        for place, (node, value) in enumerate(rankings[name], start=1):
            rank, before = (rank if value == before else place), value
            scores[node] = scores.get(node, 0.0) + 1.0 / (_RANK + rank)
    return sorted(scores.items(), key=lambda row: (-row[1], row[0]))
