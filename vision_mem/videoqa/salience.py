"""How much a visual token means before anybody asks: its likeness to a bank of open questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vision_mem.errors import InputError
from vision_mem.videoqa.compression import unit


def build_bank(questions: Sequence[str], embed: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """All tokens of all questions as unit vectors.

    Args:
        questions: the texts.
        embed: gives ``(m, D)`` vectors of a text's tokens.

    Returns:
        float32 ``(m, D)``, m the tokens of all questions.

    Raises:
        InputError: when the model has no vector for any of them.
    """
    bank = torch.cat([embed(text).float() for text in questions])
    if len(bank) == 0:
        raise InputError("the model knows no word of salience.questions; use other words")
    return unit(bank)


def token_salience(tokens: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """The best cosine of each visual token with any token of the bank.

    Args:
        tokens: ``(n, D)``, any length.
        bank: float32 ``(m, D)`` unit vectors.

    Returns:
        float32 ``(n,)`` in [-1, 1], neither scaled nor clipped.

    Source:
        specs/savemem.md 1.4.
    """
    return (unit(tokens.float()) @ bank.T).max(dim=1).values
