"""Persistent memory as recurrent slots: fixed size, and a gate that says how far they follow.

Three gates: ``one`` follows each frame all the way (CUT3R); ``attention`` follows as far as slots
found something to look at (TTT3R, no training needed); ``static`` is ``attention`` to what stays,
times the share of the frame that stays, so that a frame full of moving things changes nothing.

Source: specs/mem4d.md section 2.5 (B). The share is ours: scores before the softmax may be
negative, and weighing them alone would open the gate for what moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from vision_mem.models.mem4d.config import Mem4DConfig, PersistentConfig
from vision_mem.models.mem4d.protocol import BankEntry, Decoded, EncodedFrame, MemoryReader


def gate(heard: Tensor, static: Tensor | None = None) -> Tensor:
    """How far each slot follows its proposal.

    Args:
        heard: ``(B, N, 1 + P)`` mean scores of slots against tokens, the pose token first.
        static: ``(B, P)`` 1 for patches that surely stay, 0 for those that surely move; None for
            all of them 1.

    Returns:
        ``(B, N)`` in [0, 1].
    """
    if static is None:
        return heard.mean(dim=-1).sigmoid()
    weights = torch.cat([static.new_ones(len(static), 1), static], dim=1)[:, None]
    mean = (heard * weights).sum(dim=-1) / weights.sum(dim=-1)
    return mean.sigmoid() * static.mean(dim=-1, keepdim=True)


@dataclass(frozen=True)
class SlotStore:
    """A memory of slots. A value: writing makes another one.

    Attributes:
        settings: its gates.
        slots: ``(B, N, D)``.
    """

    settings: PersistentConfig
    slots: Tensor

    @classmethod
    def empty(
        cls, config: Mem4DConfig, batch: int, device: Any, dtype: torch.dtype, network: Any
    ) -> SlotStore:
        """The learned first slots of ``network``, for ``batch`` new streams."""
        slots = network.psm.slots.start(batch)
        return cls(config.persistent, slots.to(device=device, dtype=dtype))

    def reader(self, network: Any, encoded: EncodedFrame) -> MemoryReader:
        """How the decoder reads it; streams at their first frame start from learned slots."""
        made: MemoryReader = network.psm.slots.reader(self.slots, encoded.first)
        return made

    def write(self, entry: BankEntry, decoded: Decoded, reader: MemoryReader) -> SlotStore:
        """The slots after a frame.

        Args:
            entry: what of the frame moves.
            decoded: not needed.
            reader: that the frame was read with.
        """
        read = cast(Any, reader)
        proposal: Tensor = read.proposal
        if self.settings.slot_gate != "one":
            share = gate(read.heard, self._static(entry))
            share = torch.where(read.first[:, None], 1.0, share)[..., None]
            proposal = torch.lerp(read.before, proposal, share.to(proposal.dtype))
        return replace(self, slots=proposal.to(self.slots.dtype))

    def _static(self, entry: BankEntry) -> Tensor | None:
        if self.settings.slot_gate == "attention" or self.settings.gate == "none":
            return None
        moving = entry.dynamic
        if self.settings.gate == "truth" and entry.truth is not None:
            moving = entry.truth
        return (1 - moving.float()).clamp(0, 1)

    def state(self) -> dict[str, Any]:
        """Tensors by name."""
        return {"slots": self.slots.detach().clone()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], config: Mem4DConfig) -> SlotStore:
        """What ``state`` gave.

        Raises:
            ValueError: when the slots are not those of the settings.
        """
        slots = state["slots"].clone()
        want = (config.persistent.capacity, config.decoder.width)
        if slots.ndim != 3 or slots.shape[1:] != want:
            raise ValueError(
                f"slots have shape {tuple(slots.shape)}; expected (B, {want[0]}, {want[1]})"
            )
        return cls(config.persistent, slots)

    @property
    def nbytes(self) -> int:
        """Held between frames; the same from the start on."""
        return self.slots.numel() * self.slots.element_size()

    @property
    def count(self) -> int:
        """Slots in use: always all of them."""
        return self.slots.shape[1]
