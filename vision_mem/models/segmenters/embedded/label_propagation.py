"""Mask propagation over frozen features: the votes of the embedded segmenter.

Each token of a new window takes the mask values of its most similar tokens in memory, weighted
by a softmax over feature similarity and by distance inside the window. This is the label
propagation of the self-supervised video literature (Jabri et al., Space-Time Correspondence as
a Contrastive Random Walk, 2020), with a vote an entry instead of one vote over all tokens.

Everything here is a pure function of arrays.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vision_mem.models.efficientnet import CHANNELS
from vision_mem.models.segmenters.embedded.windows import PropagationConfig

FEATURES = CHANNELS[8] + CHANNELS[16]


@dataclass(frozen=True)
class VotingMemory:
    """One memory as the vote sees it.

    Attributes:
        tokens: ``(N, FEATURES)`` unit vectors.
        mask: ``(N,)`` float32, share of each token that is the object.
        share: weight of this entry among all, above 0.
        prompted: whether a user gave its mask, or what it was made of.
        exact: whether its mask is to be taken as it is. Tracking does so: a decoder told of
            doubt spreads, on generated clips. What is made of a box is doubted when it is made.
    """

    tokens: Tensor
    mask: Tensor
    share: float
    prompted: bool
    exact: bool = True


def unit_tokens(maps: dict[int, Tensor]) -> Tensor:
    """Join trunk features to one unit vector a token at stride 8.

    Args:
        maps: stride -> ``(1, C, h, w)``; strides 8 and 16 are used. Stride 16 tells what a
            thing is, stride 8 where it ends.

    Returns:
        ``(h8 * w8, FEATURES)`` in the dtype of the features.
    """
    fine = F.normalize(maps[8].float(), dim=1)
    coarse = F.normalize(maps[16].float(), dim=1)
    coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
    joined = torch.cat([fine, coarse], dim=1) / 2**0.5
    return F.normalize(joined[0].flatten(1).T, dim=1).to(maps[8].dtype).contiguous()


def _split(values: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Two numbers of ``dtype`` whose sum is as good as the float32."""
    high = values.to(dtype)
    return [high, (values - high.float()).to(dtype)]


@lru_cache(maxsize=16)
def nearness(
    tokens: int, weight: float, less: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """``(N, 8)`` each; their product is -(weight * squared distance) - ``less``.

    Both ride along in the product that compares features, so that they cost no pass of their own
    over all pairs of tokens. Every factor is split so that half precision loses nothing.
    """
    # Odd integers are exact in half precision up to 255; a step of 1 token is 2 of them.
    odd = torch.arange(1 - tokens, tokens, 2, dtype=torch.float32)
    # The weight counts in tokens of a 24-token window.
    scale = weight * (12 / tokens) ** 2
    y, x = torch.meshgrid(odd, odd, indexing="ij")
    x, y = x.flatten(), y.flatten()
    own = -scale * (x**2 + y**2)
    across, down = _split(2 * scale * x, dtype), _split(2 * scale * y, dtype)
    x, y, one = x.to(dtype), y.to(dtype), torch.ones_like(x, dtype=dtype)
    query = [*across, *down, *_split(own - less, dtype), one, one]
    keys = [x, x, y, y, one, one, *_split(own, dtype)]
    return torch.stack(query, dim=1).to(device), torch.stack(keys, dim=1).to(device)


def similarity(query: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """``exp((cosine - 1) / temperature)``, ``(N, M)``, of unit vectors ``(N, C)`` and ``(M, C)``.

    The "- 1" is part of the product, so that half precision rounds numbers near 0 where it
    matters instead of numbers near 1.
    """
    less = torch.full_like(query[:, :1], -1 / temperature)
    left = torch.cat([query / temperature, less], dim=1)
    return torch.mm(left, torch.cat([keys, torch.ones_like(keys[:, :1])], dim=1).T).exp_()


def vote(
    query: Tensor, memory: Sequence[VotingMemory], config: PropagationConfig
) -> NDArray[np.float32]:
    """Let memory say where the object is in a window.

    Args:
        query: ``(N, FEATURES)`` unit tokens of the window, N = tokens x tokens.
        memory: at least one entry of the same token count.
        config: constants.

    Returns:
        ``(4, tokens, tokens)`` float32: what all entries say, [0, 1], and what the prompted ones
        alone say. They part where the object has changed, and where the memory has drifted away
        from it. Then how much they found alike, a sixth of its logarithm, within +-2; and the share
        of the prompted ones that are exact, the same everywhere.
    """
    product = _scratch(query)
    said = query.new_empty(len(memory), len(query), 2)
    values = query.new_ones(len(memory), len(query), 2)
    values[..., 0] = torch.stack([entry.mask for entry in memory])
    less = 1 / config.temperature
    scaled = query / config.temperature
    asked = {}
    for prompted in {entry.prompted for entry in memory}:
        local = config.locality * (config.prompt_locality if prompted else 1.0)
        places = nearness(config.tokens, local, less, query.dtype, query.device)
        asked[prompted] = torch.cat([scaled, places[0]], dim=1), places[1]
    for answer, value, entry in zip(said.unbind(), values.unbind(), memory, strict=True):
        left, right = asked[entry.prompted]
        torch.mm(left, torch.cat([entry.tokens, right], dim=1).T, out=product).exp_()
        torch.mm(product, value, out=answer)
    inside, evidence = said.float().unbind(dim=-1)
    evidence = evidence + 1e-12
    share = torch.tensor([entry.share for entry in memory], device=query.device)
    weight = share[:, None] * evidence**config.evidence
    both = torch.stack([weight * inside / evidence, weight])
    first = torch.tensor([entry.prompted for entry in memory], device=query.device)
    weighed, total = torch.stack([both.sum(dim=1), both[:, first].sum(dim=1)], dim=1)
    alike = ((share[:, None] * evidence).sum(dim=0).log() / 6).clamp(-2, 2)
    told = [entry.exact for entry in memory if entry.prompted]
    exact = torch.full_like(alike, sum(told) / max(len(told), 1))
    maps = torch.cat([weighed / total, alike[None], exact[None]])
    return np.asarray(maps.reshape(4, config.tokens, config.tokens).cpu().numpy(), np.float32)


_scratches = threading.local()


def _scratch(query: Tensor) -> Tensor:
    """``(N, N)`` to write into, the same for all votes of a thread.

    Fresh pages from the system for each vote would cost half as much as the product itself.
    """
    known: Tensor | None = getattr(_scratches, "alike", None)
    shape = len(query), len(query)
    if known is None or (known.shape, known.dtype, known.device) != (
        shape, query.dtype, query.device,
    ):  # fmt: skip
        with torch.inference_mode(False):  # what is made in it cannot be written outside
            known = _scratches.alike = query.new_empty(shape)
    return known


def find_again(
    scene: Tensor, shape: tuple[int, int], memory: Sequence[VotingMemory], temperature: float
) -> NDArray[np.float32]:
    """Where in a whole picture the object might be, without any idea of its place.

    Args:
        scene: ``(h * w, FEATURES)`` unit tokens of the whole picture.
        shape: ``(h, w)``.
        memory: prompted entries.
        temperature: of the softmax.

    Returns:
        ``(h, w)`` float32 in [0, 1].
    """
    found = torch.zeros(len(scene), device=scene.device)
    for entry in memory:
        alike = similarity(scene, entry.tokens, temperature)
        values = torch.stack([entry.mask, torch.ones_like(entry.mask)], dim=1)
        inside, evidence = (alike @ values.to(alike.dtype)).float().unbind(dim=1)
        found += inside / (evidence + 1e-12) / len(memory)
    return np.asarray(found.reshape(shape).cpu().numpy(), np.float32)
