"""How much a visual token means before anybody asks: its likeness to a bank of open questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from vision_mem.errors import InputError
from vision_mem.videoqa.compression import unit

QUESTIONS = (
    "Which things can be seen here?",
    "How many people or things are there?",
    "What is somebody doing, or what is going on?",
    "What is different from a moment ago?",
    "Say where the things are in relation to each other.",
)


@dataclass(frozen=True)
class SalienceConfig:
    """The pseudo-question bank.

    Attributes:
        enabled: whether there is one. Without it nothing is protected by its meaning, grids are
            merged on their way into the long tier, and the budget goes by the tokens' norms.
        questions: its texts; at least one.

    Source:
        specs/savemem.md 1.4: what is there, how many, what happens, what changed, where things
        are. The wording is ours.
    """

    enabled: bool = True
    questions: tuple[str, ...] = QUESTIONS

    def __post_init__(self) -> None:
        if not self.questions or not all(text.strip() for text in self.questions):
            raise InputError(
                f"salience.questions are {list(self.questions)}; expected one text or more, none "
                "empty (salience.enabled=false goes without)"
            )


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
