"""Answers to questions with options by likelihood: the options are weighed, none is named.

A small model may know that something is red and not know how to name the letter before ``red``. So
the question is put without its options, and the option that the model would rather say is taken:
the one whose words, with the end of the answer behind them, have the largest probability. Options
are part of the prompt, and of what memory is searched for, only where the question cannot do
without: "which of these came first".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from vision_mem.models.vlm.generation import next_logits
from vision_mem.models.vlm.network import LETTERS, NetworkVideoModel
from vision_mem.models.vlm.protocol import (
    AnswerPiece,
    PromptTokens,
    Question,
    Turn,
    VisualContext,
)

_POINTING = re.compile(r"\b(these|following|below|above)\b", re.IGNORECASE)


class ByLikelihood:
    """A video model that answers questions with options by the letter of the likeliest one.

    It behaves like the model in all else; questions without options are answered in words.

    Args:
        model: of the transformers library, fed by embeddings (Qwen2-VL, Qwen2.5-VL).
    """

    def __init__(self, model: NetworkVideoModel) -> None:
        self.model = model
        self.traits, self.device = model.traits, model.device
        self.encode_grid, self.embed_text = model.encode_grid, model.embed_text

    def embed_question(self, question: Question) -> PromptTokens:
        return self.model.embed_question(in_words(question))

    def answer(
        self,
        context: VisualContext,
        question: Question,
        *,
        history: Sequence[Turn] = (),
        max_tokens: int = 128,
    ) -> Iterator[AnswerPiece] | None:
        if not question.options:
            return self.model.answer(context, question, history=history, max_tokens=max_tokens)
        likely = self.weigh(context, question, history)
        return iter([AnswerPiece(LETTERS[int(likely.argmax())], "stop")])

    @torch.inference_mode()
    def weigh(
        self, context: VisualContext, question: Question, history: Sequence[Turn] = ()
    ) -> torch.Tensor:
        """Natural logarithms of the options' probabilities, float32 ``(n,)``.

        Args:
            context: what was read.
            question: with options; none of them empty.
            history: earlier turns, oldest first.
        """
        model = self.model
        model._check(context)
        start = model._start(context, model._chat.prompt(in_words(question), history))
        answers = [[*model._chat.ids(option), model._chat.end] for option in question.options]
        return log_likelihoods(
            model._network, start.inputs["inputs_embeds"], start.positions, start.goes_on, answers
        )


def in_words(question: Question) -> Question:
    """A question with options as one without.

    It loses them; one that points at them ("which of these ...") is told them in its own words:
    "Which of these is red: cat, cup or card?"
    """
    if not question.options:
        return question
    text = question.text
    if _POINTING.search(text):
        *others, last = question.options
        named = f"{', '.join(others)} or {last}" if others else last
        text = f"{text.rstrip('?. ')}: {named}?"
    return replace(question, text=text, options=(), instruction="")


def log_likelihoods(
    network: Any, inputs: torch.Tensor, positions: torch.Tensor, goes_on: int,
    answers: Sequence[Sequence[int]],
) -> torch.Tensor:  # fmt: skip
    """Natural logarithms of the probabilities of some answers, float32 ``(n,)``.

    Args:
        network: a causal language model of the transformers library.
        inputs: ``(1, L, D)`` embeddings of the prompt.
        positions: int64 ``(..., 1, L)`` its position ids.
        goes_on: position id of the first token of an answer.
        answers: token ids of each, the end marker with them; none empty.
    """
    from transformers import DynamicCache

    n, length, device = len(answers), inputs.shape[1], inputs.device
    longest = max(len(ids) for ids in answers)
    padded = torch.zeros((n, longest), dtype=torch.long, device=device)
    inside = torch.zeros((n, longest), device=device)
    for row, ids in enumerate(answers):
        padded[row, : len(ids)] = torch.tensor(ids, device=device)
        inside[row, : len(ids)] = 1

    # The prompt is looked at once; the answers go on from there together.
    cache = DynamicCache(config=network.config)
    first = next_logits(network, positions, length, cache, inputs_embeds=inputs, logits_to_keep=1)
    logs = first.log_softmax(-1).expand(n, -1, -1)
    if longest > 1:
        cache.batch_repeat_interleave(n)
        later = torch.arange(goes_on, goes_on + longest - 1, device=device)
        later = later.expand(*positions.shape[:-2], n, -1)
        seen, more = length + longest - 1, padded[:, :-1]
        rest = next_logits(network, later, seen, cache, input_ids=more).log_softmax(-1)
        logs = torch.cat([logs, rest], dim=1)
    return (logs.gather(-1, padded[..., None])[..., 0] * inside).sum(-1)
