"""What the video models of the transformers library share: words in, words out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from vision_mem.errors import InputError
from vision_mem.models.vlm.chat import SYSTEM, Chat, Prompt
from vision_mem.models.vlm.generation import Sampling, Start, speak
from vision_mem.models.vlm.protocol import (
    AnswerPiece,
    EncodedGrid,
    PromptTokens,
    Question,
    Turn,
    VideoModelTraits,
    VisualContext,
)
from vision_mem.types import Frame

_FOR_TEXT = 1024  # position ids left to the words of a prompt and its answer


class NetworkVideoModel(ABC):
    """A network with its tokenizer, behind the protocol ``VideoLanguageModel``.

    Args:
        network: of the transformers library, on its device; put into evaluation mode.
        tokenizer: its tokenizer, a fast one.
        model_id: what snapshots record.
        system: the words every conversation begins with.
        sampling: how the tokens of an answer are chosen.
    """

    traits: VideoModelTraits
    _video_ends = ""

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        model_id: str,
        system: str = SYSTEM,
        sampling: Sampling | None = None,
    ) -> None:
        self._network = network.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._chat = Chat(tokenizer, video_ends=self._video_ends, system=system)
        self._sampling = sampling or Sampling()
        self._stops = self._stop_tokens()
        self.device = torch.device(network.device)
        self.traits = self._traits(model_id)

    @abstractmethod
    def _traits(self, model_id: str) -> VideoModelTraits:
        """The numbers of this network."""

    @abstractmethod
    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid: ...

    @abstractmethod
    def _start(self, context: VisualContext, prompt: Prompt) -> Start:
        """The prompt with what was read of the video, and where each token stands."""

    @torch.no_grad()
    def embed_text(self, text: str) -> torch.Tensor:
        return self._embedded(self._chat.ids(text))

    @torch.no_grad()
    def embed_question(self, question: Question) -> PromptTokens:
        prompt = self._chat.prompt(question)
        before = (*prompt.before, *self._opening())
        after = (*self._closing(), *prompt.after)
        marks = list(prompt.of_question)
        cut = len(prompt.before)
        markers = [False] * (len(before) + len(after) - len(marks))
        marks = marks[:cut] + markers + marks[cut:]
        return PromptTokens(
            self._embedded((*before, *after)), torch.tensor(marks, device=self.device)
        )

    def answer(
        self,
        context: VisualContext,
        question: Question,
        *,
        history: Sequence[Turn] = (),
        max_tokens: int = 128,
    ) -> Iterator[AnswerPiece] | None:
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}; expected 1 or more")
        self._check(context)
        with torch.no_grad():
            start = self._start(context, self._chat.prompt(question, history))
        return speak(
            self._network,
            self._tokenizer,
            start,
            stops=self._stops,
            max_tokens=max_tokens,
            sampling=self._sampling,
        )

    # -- for the networks ----------------------------------------------------------------------

    def _opening(self) -> tuple[int, ...]:
        """Markers in front of the video."""
        return ()

    def _closing(self) -> tuple[int, ...]:
        """Markers behind the video."""
        return ()

    def _embedded(self, ids: Iterable[int]) -> torch.Tensor:
        """``(m, D)`` rows of the language model's table."""
        table = self._network.get_input_embeddings()
        return table(torch.tensor(list(ids), dtype=torch.long, device=self.device))

    def _pixels(self, frames: Sequence[Frame]) -> torch.Tensor:
        """uint8 ``(frames_per_grid, 3, H, W)``; the last frame is repeated where some lack."""
        most = self.traits.frames_per_grid
        sizes = {frame.size for frame in frames}
        if not 1 <= len(frames) <= most or len(sizes) != 1:
            raise InputError(
                f"a grid of {len(frames)} frames of sizes {sorted(sizes)}; expected 1 to {most} "
                "frames of one size"
            )
        images = [frame.image for frame in frames]
        images += images[-1:] * (most - len(images))
        return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())

    def _positions_for_video(self) -> int | None:
        """Position ids that the video may take: those of the model less a reserve for words."""
        limit = getattr(self._network.config.get_text_config(), "max_position_embeddings", None)
        return None if limit is None else max(1, int(limit) - min(_FOR_TEXT, int(limit) // 4))

    def _stop_tokens(self) -> frozenset[int]:
        settings = getattr(self._network, "generation_config", None)
        named = getattr(settings, "eos_token_id", None)
        named = [named] if isinstance(named, int) else list(named or ())
        own = self._tokenizer.eos_token_id
        return frozenset([*named, self._chat.end, *([own] if own is not None else [])])

    def _check(self, context: VisualContext) -> None:
        shape, width = tuple(context.tokens.shape), self.traits.width
        if len(shape) != 2 or shape[1] != width:
            raise InputError(
                f"a context has tokens of shape {shape}; expected (n, {width}) of this model"
            )
        if tuple(context.positions.shape) != (3, shape[0]):
            raise InputError(
                f"a context has positions of shape {tuple(context.positions.shape)}; expected "
                f"(3, {shape[0]})"
            )
