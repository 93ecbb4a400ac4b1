"""Objects whose memories have equal shapes go through the network together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vision_mem.models.segmenters.protocol import Candidates, MemoryRead


def equal_shapes(reads: Sequence[MemoryRead] | None, count: int) -> list[list[int]]:
    """Positions of ``count`` reads, those of equal shape in one list; all in one without reads."""
    if reads is None:
        return [list(range(count))]
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, read in enumerate(reads):
        shape = len(read.prompts), len(read.recents), len(read.pointers)
        groups.setdefault(shape, []).append(number)
    return list(groups.values())


def in_order(parts: list[tuple[list[int], Candidates]], count: int) -> Candidates:
    """Put groups that were decoded apart back into the order in which they were asked for."""
    if len(parts) == 1:
        return parts[0][1]
    place = torch.tensor([n for numbers, _ in parts for n in numbers])
    back = torch.empty(count, dtype=torch.long)
    back[place] = torch.arange(count)
    back = back.to(parts[0][1].logits.device)
    fields = ("logits", "iou", "object_logit", "pointers")
    joined = {f: torch.cat([getattr(made, f) for _, made in parts])[back] for f in fields}
    return Candidates(**joined)
