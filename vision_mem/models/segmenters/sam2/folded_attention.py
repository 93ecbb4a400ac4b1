"""Cross-attention to memories with fewer sums: equal within rounding, not to the bit.

A memory token has 64 channels; SAM 2 widens it to 256 twice, into a key and into a value. Since
attention weights sum to one,

    softmax(Q K') (M Wv + bv) Wo + bo  =  (softmax(Q K') M) (Wv Wo) + (bv Wo + bo)

the weighted mean can be taken over the narrow tokens, and one small product replaces the widening
of all of them and the output projection. Keys carry rotary positions and cannot be narrowed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

QUERIES, TOKENS = 512, 1024
"""Scores at once: 2 MiB of float32, which stays in a core's cache."""


class Folded:
    """Value and output projections of one attention, multiplied into one.

    Args:
        attention: a ``RoPEAttention`` with a single head.
    """

    def __init__(self, attention: Any) -> None:
        wide, out = attention.v_proj, attention.out_proj
        weight = out.weight.double() @ wide.weight.double()
        bias = out.weight.double() @ wide.bias.double() + out.bias.double()
        self.weight, self.bias = weight.float(), bias.float()

    def __call__(
        self, queries: torch.Tensor, keys: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Look into the memory.

        Args:
            queries: ``(1 or B, 1, n, c)``, rotated.
            keys: ``(B, 1, m, c)``, rotated.
            tokens: ``(B, m, Cm)`` memory tokens.

        Returns:
            ``(B, n, C)``, output projection included.
        """
        scaled = queries[:, 0] * queries.shape[-1] ** -0.5
        rows = [
            torch.cat([_mean(part, k, m) for part in q.split(QUERIES)])
            for q, k, m in zip(scaled.expand(len(keys), -1, -1), keys[:, 0], tokens, strict=True)
        ]
        return F.linear(torch.stack(rows), self.weight, self.bias)


def _mean(queries: torch.Tensor, keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """``softmax(queries keys') tokens`` piece by piece, after Milakov & Gimelshein (2018)."""
    total = weight = top = None
    for some, seen in zip(keys.split(TOKENS), tokens.split(TOKENS), strict=True):
        scores = queries @ some.t()
        highest = scores.amax(dim=-1, keepdim=True)
        if top is not None:
            highest = torch.maximum(highest, top)
        shares = scores.sub_(highest).exp_()
        part, share = shares @ seen, shares.sum(dim=-1, keepdim=True)
        if total is None or weight is None or top is None:
            total, weight = part, share
        else:
            shrink = (top - highest).exp_()
            total, weight = total.mul_(shrink).add_(part), weight.mul_(shrink).add_(share)
        top = highest
    assert total is not None and weight is not None  # a memory holds a token at least
    return total / weight
