"""What the video models of the transformers library share: words in, words out."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vision_mem.errors import InputError, ModelError
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

SYSTEM = "You watch a video and answer questions about it. Rely on what the video shows."
_BEGIN, _END = "<|im_start|>", "<|im_end|>"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class ChatPrompt:
    """Token ids around the video.

    Attributes:
        before: ids before the video, its opening marker left out.
        after: ids after it, its closing marker left out.
        of_question: for ``before`` and ``after`` joined: the tokens of the last question's own
            words and of its options.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    of_question: tuple[bool, ...]


class Chat:
    """Builds prompts with a model's tokenizer.

    Args:
        tokenizer: a fast tokenizer of the transformers library with Qwen's turn markers.
        video_ends: what stands between the video and the first word of the question.
        system: the words every conversation begins with.

    Raises:
        ModelError: for a tokenizer without these markers, or one that cannot tell where in the
            text its tokens lie.
    """

    def __init__(self, tokenizer: Any, *, video_ends: str = "", system: str = SYSTEM) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                "the model's tokenizer cannot tell where its tokens lie in a text; expected a "
                "fast tokenizer: a folder with tokenizer.json"
            )
        # A copy: the library changes the settings of its own at each call, and that from one
        # thread breaks another one. Markers in a text are letters like others here.
        self._coder = copy.deepcopy(backend)
        self._coder.encode_special_tokens = True
        self._coder.no_truncation()
        self._coder.no_padding()
        self._video_ends = video_ends
        self._system = system
        self._begin, self.end = self.marker(_BEGIN), self.marker(_END)

    def marker(self, name: str) -> int:
        """The id of a marker.

        Raises:
            ModelError: when the tokenizer has no such token.
        """
        found = self._coder.token_to_id(name)
        if found is None:
            raise ModelError(
                f"the model's tokenizer has no token {name}; expected one of the Qwen family's "
                "chat models"
            )
        return int(found)

    def ids(self, text: str) -> list[int]:
        """Token ids of plain text."""
        return self._coded(text)[0]

    def prompt(self, question: Question, history: Sequence[Turn] = ()) -> ChatPrompt:
        """The whole conversation; the video comes first, in front of the oldest question.

        Args:
            question: the question to answer.
            history: earlier turns, oldest first.

        Raises:
            InputError: when no token of the question is left, or there are too many options.
        """
        before = [self._begin, *self.ids(f"system\n{self._system}"), self.end, *self.ids("\n")]
        before += [self._begin, *self.ids("user\n")]
        after: list[int] = []
        lead = self._video_ends
        for turn in history:
            after += self.ids(lead + _written(turn.question)[0])
            after += self._turned("assistant\n", turn.answer) + self._turned("user\n", "")
            lead = ""
        text, spans = _written(question)
        coded, offsets = self._coded(lead + text)
        spans = [(first + len(lead), last + len(lead)) for first, last in spans]
        marks = [any(a < last and b > first for first, last in spans) for a, b in offsets]
        if not any(marks):
            raise InputError(f"the model knows no word of the question {question.text!r}")
        answer, padding = self._turned("assistant\n", ""), [False] * (len(before) + len(after))
        of_question = (*padding, *marks, *([False] * len(answer)))
        return ChatPrompt(tuple(before), (*after, *coded, *answer), of_question)

    def _turned(self, role: str, words: str) -> list[int]:
        """The end of one turn and the beginning of another one."""
        return [self.end, *self.ids("\n"), self._begin, *self.ids(role + words)]

    def _coded(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        coded = self._coder.encode(text, add_special_tokens=False)
        return list(coded.ids), list(coded.offsets)


def _written(question: Question) -> tuple[str, list[tuple[int, int]]]:
    """The user's part of a turn, and where its question and options lie in it."""
    if len(question.options) > len(LETTERS):
        raise InputError(
            f"a question has {len(question.options)} options; expected at most {len(LETTERS)}"
        )
    text, spans = question.text, [(0, len(question.text))]
    for letter, option in zip(LETTERS, question.options, strict=False):
        text += f"\n{letter}. "
        spans.append((len(text), len(text) + len(option)))
        text += option
    if question.instruction:
        text += f"\n{question.instruction}"
    return text, spans


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
    _opening: tuple[int, ...] = ()
    _closing: tuple[int, ...] = ()
    """Markers in front of the video, and behind it."""

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

    def _traits(self, model_id: str) -> VideoModelTraits:
        """The numbers of this network."""
        config = self._network.config
        # Qwen2-VL's configuration has no such number: its grids are one apart.
        pace = getattr(config.vision_config, "tokens_per_second", None)
        return VideoModelTraits(
            model_id,
            int(config.get_text_config().hidden_size),
            frames_per_grid=int(getattr(config.vision_config, "temporal_patch_size", 1)),
            tokens_per_second=None if pace is None else float(pace),
            max_positions=self._positions_for_video(),
        )

    @abstractmethod
    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid: ...

    @abstractmethod
    def _start(self, context: VisualContext, prompt: ChatPrompt) -> Start:
        """The prompt with what was read of the video, and where each token stands."""

    @torch.no_grad()
    def embed_text(self, text: str) -> torch.Tensor:
        return self._embedded(self._chat.ids(text))

    @torch.no_grad()
    def embed_question(self, question: Question) -> PromptTokens:
        prompt = self._chat.prompt(question)
        before = (*prompt.before, *self._opening)
        after = (*self._closing, *prompt.after)
        cut, marks = len(prompt.before), prompt.of_question
        markers = [False] * (len(before) + len(after) - len(marks))
        every = torch.tensor([*marks[:cut], *markers, *marks[cut:]], device=self.device)
        return PromptTokens(self._embedded((*before, *after)), every)

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
            self._network, self._tokenizer, start, stops=self._stops, max_tokens=max_tokens,
            sampling=self._sampling,
        )  # fmt: skip

    # -- for the networks ----------------------------------------------------------------------

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
