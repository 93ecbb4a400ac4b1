"""An answer word by word: one look at the prompt, then a token at a time with a cache of its own.

Nothing is kept on the network between two calls, so any number of answers may be under way on one
network at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vision_mem.errors import InputError, ModelError
from vision_mem.models.vlm.protocol import AnswerPiece

_BROKEN = "�"  # what a decoder writes for a letter whose bytes have not all come


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the likeliest token; above, one is drawn.
        seed: of the draws; the same for each answer, so that answers can be repeated.
    """

    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"temperature is {self.temperature}; expected 0 or more")


@dataclass(frozen=True, eq=False)
class Start:
    """Where an answer starts.

    Attributes:
        inputs: what the network is given first: ``inputs_embeds`` ``(1, L, D)`` or ``input_ids``
            ``(1, L)``, and whatever else it needs once.
        positions: int64 ``(..., 1, L)`` position ids of the prompt.
        goes_on: position id of the first token of the answer.
    """

    inputs: Mapping[str, Any]
    positions: torch.Tensor
    goes_on: int


def speak(
    network: Any,
    tokenizer: Any,
    start: Start,
    *,
    stops: frozenset[int],
    max_tokens: int,
    sampling: Sampling,
) -> Iterator[AnswerPiece]:
    """Pieces of an answer of at most ``max_tokens``, as they are made.

    ``network`` is a causal language model of the transformers library; tokens of ``stops`` end an
    answer and are no part of it.

    Raises:
        ModelError: when the device has not enough memory for the prompt.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=network.config)
    generator = torch.Generator(device=network.device).manual_seed(sampling.seed)
    text = _Text(tokenizer)
    inputs, positions, goes_on = dict(start.inputs), start.positions, start.goes_on
    seen = positions.shape[-1]
    del start  # the prompt is not needed once it was looked at
    for count in range(1, max_tokens + 1):
        logits = next_logits(network, positions, seen, cache, **inputs, logits_to_keep=1)
        token = _chosen(logits[0, -1], sampling, generator)
        if token in stops:
            yield AnswerPiece(text.rest(), "stop")
            return
        piece = text.with_token(token)
        if count == max_tokens:
            yield AnswerPiece(piece + text.rest(), "length")
            return
        if piece:
            yield AnswerPiece(piece)
        inputs = {"input_ids": torch.tensor([[token]], device=network.device)}
        positions = positions.new_full((*positions.shape[:-1], 1), goes_on)
        goes_on, seen = goes_on + 1, seen + 1


@torch.inference_mode()
def next_logits(
    network: Any, positions: torch.Tensor, seen: int, cache: Any, **inputs: Any
) -> torch.Tensor:
    """Float32 logits ``(rows, n, vocabulary)`` of what comes next; the cache takes the inputs in.

    Args:
        network: a causal language model of the transformers library.
        positions: int64 ``(..., rows, L)`` position ids of the inputs.
        seen: tokens of a row so far, the inputs included.
        cache: of what was looked at before.
        **inputs: for the network: tokens or embeddings ``(rows, L, ...)``, ``logits_to_keep``.

    Raises:
        ModelError: when the device has not enough memory, or the precision not enough range.
    """
    # Without a mask, the library takes a gap between position ids for the start of another text.
    mask = torch.ones((positions.shape[-2], seen), dtype=torch.long, device=network.device)
    about = {"position_ids": positions, "attention_mask": mask, "past_key_values": cache}
    try:
        logits: torch.Tensor = network(**inputs, **about, use_cache=True).logits
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"there is not enough memory on {network.device} for a prompt of {seen} tokens; lower "
            "the memory's budget, or use a smaller model or precision"
        ) from error
    check_numbers(logits)
    return logits.float()


def check_numbers(made: torch.Tensor) -> None:
    """Refuse what a network made without numbers in it: an answer would be made of it all the same.

    Raises:
        ModelError: naming the precision that has too little range.
    """
    if bool(made.isnan().any()):
        kind = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(made.dtype, "fp32")
        wider = "its weights are damaged; download it again"
        if kind == "fp16":
            wider = "numbers of this model leave the range of fp16; give --precision bf16 or fp32"
        raise ModelError(f"the model computes no numbers in {kind}: {wider}")


def _chosen(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    likely = (logits / sampling.temperature).softmax(dim=-1)
    return int(torch.multinomial(likely, 1, generator=generator))


class _Text:
    """Turns tokens into text as they come; letters of several tokens wait until they are whole."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []  # the last piece that was given out, and what came since
        self._told = 0

    def with_token(self, token: int) -> str:
        """What can be read now that could not be read before."""
        self._tokens.append(token)
        whole = self._read(len(self._tokens))
        if whole.endswith(_BROKEN) and len(self._tokens) - self._told < 16:
            return ""
        return self._given_out(whole)

    def rest(self) -> str:
        """Whatever still waits."""
        return self._given_out(self._read(len(self._tokens)))

    def _given_out(self, whole: str) -> str:
        # Tokens are read together with the piece before: some begin with a blank only there.
        piece = whole[len(self._read(self._told)) :]
        self._tokens = self._tokens[self._told :]
        self._told = len(self._tokens)
        return piece

    def _read(self, count: int) -> str:
        plain = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self._tokenizer.decode(self._tokens[:count], **plain))
