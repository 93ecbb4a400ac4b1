"""State tokens of CUT3R's kind: recurrent slots, and the memory of poses.

Slots and the tokens of a frame advance layer by layer, each looking at the other as it was before
the layer. What the slots become is a proposal; how far they follow it is decided by the memory
(``vision_mem.reconstruction.learned.recurrent_state``).

Source: specs/mem4d.md section 2.5 (B); the twin decoder is that of CUT3R.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vision_mem.models.mem4d.config import Mem4DConfig
from vision_mem.models.mem4d.layers import NORM_EPS, DecoderBlock
from vision_mem.models.mem4d.protocol import EncodedFrame, Read


def slot_positions(count: int, device: torch.device | str = "cpu") -> Tensor:
    """``(1, count, 2)`` row and column of slots on a grid of even width, about as wide as high."""
    width = int(count**0.5)
    width += width % 2
    order = torch.arange(count, device=device)
    rows = order.div(width, rounding_mode="floor")
    return torch.stack([rows, order % width], dim=-1)[None].float()


class SlotStack(nn.Module):
    """The weights: learned first slots, and a decoder layer for each of the image's.

    Args:
        config: ``persistent.capacity`` slots, ``persistent.slot_heads`` heads, and the decoder's
            width and layers.
    """

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        width, count = config.decoder.width, config.persistent.capacity
        self.count = count
        self.init = nn.Parameter(torch.randn(count, config.encoder.width))
        self.embed = nn.Linear(config.encoder.width, width)
        self.blocks = nn.ModuleList(
            DecoderBlock(width, config.persistent.slot_heads, config.rope)
            for _ in range(config.decoder.layers)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def start(self, batch: int) -> Tensor:
        """``(B, N, D)``: the slots of a new stream."""
        out: Tensor = self.embed(self.init)
        return out.expand(batch, -1, -1)

    def reader(self, slots: Tensor, first: Tensor) -> SlotReader:
        """A reader of ``slots (B, N, D)`` for one frame; those of new streams start anew.

        Args:
            slots: before the frame.
            first: ``(B,)`` bool.
        """
        fresh = torch.where(first[:, None, None], self.start(len(first)), slots)
        return SlotReader(self, fresh, first)

    def proposed(self, slots: Tensor) -> Tensor:
        """``(B, N, D)`` after the last layer, as it may be kept."""
        out: Tensor = self.norm(slots)
        return out


class SlotReader:
    """Reads slots for one frame, and lets them look at the frame meanwhile; a ``Reader``.

    Args:
        weights: of the slots.
        slots: ``(B, N, D)`` before the frame.
        first: ``(B,)`` bool: streams whose slots follow fully, whatever the gate.

    Attributes:
        heard: ``(B, N, 1 + P)`` scores of slots against tokens before the softmax, mean over
            heads and the layers so far; None before the first.
    """

    def __init__(self, weights: SlotStack, slots: Tensor, first: Tensor) -> None:
        self.before, self.first = slots, first
        self.heard: Tensor | None = None
        self._weights, self._slots = weights, slots
        self._layer = 0
        self._positions = slot_positions(slots.shape[1], slots.device)

    def read(self, layer: int, tokens: Tensor, positions: Tensor) -> Read:
        """What image layer ``layer`` sees: the slots before their own layer of that number."""
        if layer != self._layer:
            raise AssertionError(f"slots are at layer {self._layer}, layer {layer} asked")
        seen = Read(self._slots, self._slots, positions=self._positions)
        block = self._weights.blocks[layer]
        self._slots, looks = block(
            self._slots, [Read(tokens, tokens, positions=positions)], self._positions
        )
        scores = looks[0].scores.float().mean(dim=1)  # (B, N, 1 + P)
        self.heard = (
            scores if self.heard is None else self.heard + (scores - self.heard) / (layer + 1)
        )
        self._layer += 1
        return seen

    @property
    def proposal(self) -> Tensor:
        """``(B, N, D)`` what the slots would become.

        Raises:
            AssertionError: when layers have not all been read.
        """
        if self._layer != len(self._weights.blocks):
            raise AssertionError(f"only {self._layer} layers of {len(self._weights.blocks)} read")
        return self._weights.proposed(self._slots)


_BLOCKS = 2


class PoseMemory(nn.Module):
    """What pose tokens start from, in rows of a fixed number.

    Args:
        config: widths and heads of encoder and decoder, ``pose_rows``.
    """

    def __init__(self, config: Mem4DConfig) -> None:
        super().__init__()
        width, heads = config.decoder.width, config.decoder.heads
        self.width = width
        self.query = nn.Linear(config.encoder.width, width)
        self.unknown = nn.Parameter(0.2 * torch.randn(1, 1, width))
        self.rows = nn.Parameter(0.2 * torch.randn(1, config.pose_rows, 2 * width))
        self.write_blocks = nn.ModuleList(
            DecoderBlock(2 * width, heads, config.rope) for _ in range(_BLOCKS)
        )
        self.read_blocks = nn.ModuleList(
            DecoderBlock(2 * width, heads, config.rope) for _ in range(_BLOCKS)
        )

    def start(self, batch: int) -> Tensor:
        """``(B, rows, 2 * D)``: the rows as they were learned."""
        return self.rows.expand(batch, -1, -1)

    def ask(self, state: Tensor, encoded: EncodedFrame) -> Tensor:
        """The pose token ``(B, 1, D)`` that the rows remember for such an image."""
        key = self._key(encoded)
        x = torch.cat([key, self.unknown.to(key.dtype).expand(len(key), -1, -1)], dim=-1)
        for block in self.read_blocks:
            x, _ = block(x, [Read(state, state)], None)
        return x[..., self.width :]

    def write(self, state: Tensor, encoded: EncodedFrame, pose_token: Tensor) -> Tensor:
        """The rows after a frame.

        Args:
            state: ``(B, rows, 2 * D)``.
            encoded: the frame.
            pose_token: ``(B, 1, D)`` as decoded, after the decoder's norm.

        Returns:
            ``(B, rows, 2 * D)``.
        """
        seen = torch.cat([self._key(encoded), pose_token], dim=-1)
        for block in self.write_blocks:
            state, _ = block(state, [Read(seen, seen)], None)
        return state

    def _key(self, encoded: EncodedFrame) -> Tensor:
        """``(B, 1, D)``."""
        out: Tensor = self.query(encoded.features.mean(dim=1, keepdim=True))
        return out
