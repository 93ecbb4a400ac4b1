"""The clip of the golden cases, random clips, and memories on them."""

from __future__ import annotations

import hashlib

import torch

from vision_mem.models.vlm.protocol import EncodedGrid
from vision_mem.videoqa.compression import unit
from vision_mem.videoqa.config import MemoryConfig
from vision_mem.videoqa.memory import TokenMemory
from vision_mem.videoqa.records import GridEntry

GRIDS, ROWS, COLS, WIDTH = 24, 6, 8, 16
_D = torch.arange(WIDTH, dtype=torch.float64)


def golden_clip() -> torch.Tensor:
    """float32 ``(24, 48, 16)``: the features of specs/savemem.md 1.10."""
    t = torch.arange(GRIDS, dtype=torch.float64)[:, None, None, None]
    r = torch.arange(ROWS, dtype=torch.float64)[None, :, None, None]
    c = torch.arange(COLS, dtype=torch.float64)[None, None, :, None]
    slow = torch.cos((_D + 1) * (0.30 * r + 0.50 * c) + 1.7 * torch.floor(t / 6) * (_D % 5))
    fast = 0.25 * torch.sin(3.1 * t + 1.3 * _D + 0.7 * r * c)
    return (slow + fast).float().reshape(GRIDS, ROWS * COLS, WIDTH)


def golden_text() -> torch.Tensor:
    """float32 ``(14, 16)``: vectors of the prompt, none of unit length."""
    i = torch.arange(14, dtype=torch.float64)[:, None]
    return torch.cos((_D + 1) * 0.37 * (i + 1)).float()


def golden_bank() -> torch.Tensor:
    """float32 ``(6, 16)`` unit vectors."""
    j = torch.arange(6, dtype=torch.float64)[:, None]
    return unit(torch.sin((_D + 1) * 0.23 * (j + 1)).float())


def entry(tokens, index, *, rows=ROWS, cols=COLS, segment=0, extras=None) -> GridEntry:
    """A grid of two frames, two seconds after the one before."""
    return GridEntry.new(
        EncodedGrid.full(tokens, rows, cols, extras),
        index=index,
        frames=(2 * index, 2 * index + 1),
        start_s=2.0 * index,
        end_s=2.0 * index + 1.0,
        segment=segment,
    )


def remember(clip, config: MemoryConfig, bank=None) -> TokenMemory:
    """Write a clip ``(T, 48, D)`` grid by grid."""
    memory = TokenMemory(config, 2, bank)
    for index, tokens in enumerate(clip):
        memory = memory.write(entry(tokens, index))
    return memory


def kept_per_grid(entries, grids=GRIDS) -> list[int]:
    held = {one.index: len(one) for one in entries}
    return [held.get(index, 0) for index in range(grids)]


def fingerprint(entries, tokens_a_grid=ROWS * COLS) -> str:
    """First 12 hex digits of SHA-256 of the ascending numbers of all kept tokens."""
    kept = sorted(one.index * tokens_a_grid + place for one in entries for place in one.places())
    return hashlib.sha256(",".join(map(str, kept)).encode()).hexdigest()[:12]


def walking_clip(grids, *, seed=0, rows=4, cols=5, width=12, change=0.25, cut=17) -> torch.Tensor:
    """float32 ``(grids, rows * cols, width)``: tokens that drift, and now and then all change."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(rows * cols, width, generator=random)
    made = []
    for index in range(grids):
        moving = torch.rand(rows * cols, 1, generator=random) < 0.4
        step = change * torch.randn(rows * cols, width, generator=random)
        tokens = torch.where(moving, tokens + step, tokens)
        if index % cut == cut - 1:
            tokens = torch.randn(rows * cols, width, generator=random)
        tokens = tokens / tokens.norm(dim=1, keepdim=True).clamp(min=1e-3) * width**0.5
        made.append(tokens)
    return torch.stack(made)
