"""Where the pose token comes from: CUT3R's memory of images and the poses they had.

The mean feature of an image asks; rows of (feature, pose token) answer. After each frame the rows
look at what the frame had to say. Its size never changes.

Source: specs/mem4d.md section 2.6.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vision_mem.models.mem4d.config import Mem4DConfig
from vision_mem.models.mem4d.layers import DecoderBlock
from vision_mem.models.mem4d.protocol import Encoded, Read

_BLOCKS = 2


class PoseMemory(nn.Module):
    """A ``PoseCarry`` of fixed size.

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

    def ask(self, state: Tensor, encoded: Encoded) -> Tensor:
        """The pose token ``(B, 1, D)`` that the rows remember for such an image."""
        key = self._key(encoded)
        x = torch.cat([key, self.unknown.to(key.dtype).expand(len(key), -1, -1)], dim=-1)
        for block in self.read_blocks:
            x, _ = block(x, [Read(state, state)], None)
        return x[..., self.width :]

    def write(self, state: Tensor, encoded: Encoded, pose_token: Tensor) -> Tensor:
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

    def _key(self, encoded: Encoded) -> Tensor:
        """``(B, 1, D)``."""
        out: Tensor = self.query(encoded.features.mean(dim=1, keepdim=True))
        return out
