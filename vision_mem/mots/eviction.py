"""What of a frame is remembered, and what is forgotten first when memory has a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vision_mem.errors import InputError
from vision_mem.mots.lifecycle import LOST, TENTATIVE

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EvictionConfig:
    """What is kept.

    Attributes:
        gate: whether masks that may be wrong are kept out of memory.
        gate_score: score that a mask needs.
        gate_area_change: factor between its area and the usual one that is not exceeded.
        gate_covered: share of it that other tracks' masks may cover.
        budget_mb: MiB that all tracks and the gallery may hold together; 0 for no limit.
        max_tracks: tracks at a time, lost ones among them. The one lost longest makes room for a
            new one; without any, the new one is refused.
    """

    gate: bool = True
    gate_score: float = 0.5
    gate_area_change: float = 4.0
    gate_covered: float = 0.5
    budget_mb: float = 0.0
    max_tracks: int = 64

    def __post_init__(self) -> None:
        if self.max_tracks < 1:
            raise InputError(f"max_tracks is {self.max_tracks}; expected 1 or more")
        if self.budget_mb < 0:
            raise InputError(f"budget_mb is {self.budget_mb}; expected 0 (none) or more MiB")
        if not self.gate_area_change >= 1:
            raise InputError(f"gate_area_change is {self.gate_area_change}; expected 1 or more")

    @property
    def budget(self) -> int | None:
        """Bytes; None for no limit."""
        return int(self.budget_mb * 2**20) if self.budget_mb else None


def withheld(
    config: EvictionConfig, *, score: float, area: int, usual_area: float, covered: float
) -> str | None:
    """Why a mask is not remembered; None when it is.

    Args:
        config: settings.
        score: of the mask, 0 when the object is not to be seen.
        area: pixels.
        usual_area: running mean of the track's area; 0 when unknown.
        covered: share of the mask that other tracks' masks cover, [0, 1].
    """
    if not config.gate:
        return None
    if area == 0:
        return "there is no mask"
    if score < config.gate_score:
        return f"score {score:.2f} is below {config.gate_score}"
    change = max(area / usual_area, usual_area / area) if usual_area else 1.0
    if change > config.gate_area_change:
        return f"area changed by a factor of {change:.1f}"
    if covered > config.gate_covered:
        return f"{covered:.2f} of it is covered by others"
    return None


@dataclass(frozen=True)
class Holder:
    """A track that holds memory, as far as forgetting cares.

    Attributes:
        object_id: of the track.
        state: see ``lifecycle``.
        lost_frames: frames that it is lost.
        score: running mean of its scores.
    """

    object_id: int
    state: str
    lost_frames: int
    score: float


def forgetting_order(holders: Sequence[Holder]) -> list[tuple[str, int]]:
    """In which order memory is given up until the rest fits.

    1. lost tracks go, the one lost longest first;
    2. tracks in view are thinned out, tentative ones first, then from the lowest score up: their
       oldest tracked frames, then their oldest prompted ones but the first;
    3. tracks in view go, in the same order.

    Returns:
        ``("remove" or "thin", object id)``; ``thin`` is meant again and again until nothing can
        be thinned out.
    """
    lost = [h for h in holders if h.state == LOST]
    lost.sort(key=lambda h: (-h.lost_frames, h.score, h.object_id))
    rest = [h for h in holders if h.state != LOST]
    rest.sort(key=lambda h: (h.state != TENTATIVE, h.score, -h.object_id))
    return [
        *(("remove", h.object_id) for h in lost),
        *(("thin", h.object_id) for h in rest),
        *(("remove", h.object_id) for h in rest),
    ]


class Ledger:
    """Bytes held by tensors that may share storage: each storage counts once, whole."""

    def __init__(self) -> None:
        self._holders: Counter[int] = Counter()
        self._sizes: dict[int, int] = {}
        self.total = 0

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """Hold tensors; one that is given twice is held twice."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage.data_ptr(), storage.nbytes()
            if not size:
                continue
            if not self._holders[key]:
                self._sizes[key] = size
                self.total += size
            self._holders[key] += 1

    def drop(self, tensors: Iterable[torch.Tensor]) -> None:
        """Let go of tensors that were added."""
        for tensor in tensors:
            key = tensor.untyped_storage().data_ptr()
            if not tensor.untyped_storage().nbytes():
                continue
            self._holders[key] -= 1
            if not self._holders[key]:
                self.total -= self._sizes.pop(key)
