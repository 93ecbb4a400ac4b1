"""What a video memory may ask of a vision-language model: encode, embed text, answer.

A model holds weights and nothing about any stream: all calls are pure functions of their
arguments, so one model serves any number of sessions. What is kept, what is read and where it
stands (``vision_mem.videoqa``) lies between the seams.

A *grid* is the unit of memory: ``frames_per_grid`` frames that the vision tower turns into one
map of tokens. Positions are counted from the beginning of the video; a model adds to all of them
the number of text tokens that its prompt has before the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch

from vision_mem.errors import InputError
from vision_mem.types import Frame


@dataclass(frozen=True)
class VideoModelTraits:
    """Numbers a session needs to know about a model.

    Attributes:
        model_id: name and, when from a file, a short hash of the weights; a snapshot records it.
        width: D, numbers in a visual token and in a text vector.
        frames_per_grid: frames that make one grid: 2 for Qwen's temporal patch, else 1.
        tokens_per_second: temporal position ids a second of video (2 in released Qwen2.5-VL
            checkpoints); None where consecutive grids are one apart (Qwen2-VL, LLaVA).
        max_positions: position ids a prompt may span; None where nothing bounds them.
        speaks: False for models that find moments and give no words.
    """

    model_id: str
    width: int
    frames_per_grid: int = 2
    tokens_per_second: float | None = 2.0
    max_positions: int | None = None
    speaks: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class EncodedGrid:
    """One grid as the vision tower gives it: n tokens.

    Attributes:
        tokens: ``(n, D)`` in the model's type; exactly what goes into the language model's input.
        rows, cols: integer ``(n,)`` place of each token on the grid, from 0; no place twice.
        extras: more tensors of the same tokens by name, each ``(n, ...)``, for models that feed
            deeper layers too (Qwen3-VL). They are kept, dropped and merged with the tokens.
    """

    tokens: torch.Tensor
    rows: torch.Tensor
    cols: torch.Tensor
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.tokens)
        if self.tokens.ndim != 2 or n == 0 or not self.tokens.is_floating_point():
            raise InputError(
                f"a grid has tokens of shape {tuple(self.tokens.shape)} and type "
                f"{self.tokens.dtype}; expected (n, D) floating point with n >= 1"
            )
        for name, places in (("rows", self.rows), ("cols", self.cols)):
            if places.shape != (n,) or places.is_floating_point():
                raise InputError(
                    f"{name} of a grid have shape {tuple(places.shape)} and type {places.dtype}; "
                    f"expected ({n},) integers, one a token"
                )
        for name, extra in self.extras.items():
            if extra.ndim < 1 or len(extra) != n:
                raise InputError(
                    f"extra {name!r} of a grid has shape {tuple(extra.shape)}; expected ({n}, ...)"
                )

    @classmethod
    def full(
        cls,
        tokens: torch.Tensor,
        height: int,
        width: int,
        extras: Mapping[str, torch.Tensor] | None = None,
    ) -> EncodedGrid:
        """A grid with a token at every place, row by row: ``(height * width, D)``.

        Raises:
            InputError: when the number of tokens is another one.
        """
        if len(tokens) != height * width:
            raise InputError(
                f"{len(tokens)} tokens do not fill a grid of {height} x {width}; "
                f"expected {height * width}"
            )
        places = torch.arange(height * width, device=tokens.device)
        return cls(tokens, places // width, places % width, extras or {})


@dataclass(frozen=True)
class Question:
    """What a user asks.

    Attributes:
        text: the question itself.
        options: answers to choose from, without letters; empty for a free answer.
        instruction: how to answer ("with the letter only"); part of the prompt, and no part of
            what memory is searched for.
    """

    text: str
    options: tuple[str, ...] = ()
    instruction: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InputError("the question is empty; ask something")
        object.__setattr__(self, "options", tuple(self.options))


@dataclass(frozen=True)
class Turn:
    """An earlier question of the same conversation and what was answered."""

    question: Question
    answer: str


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """A question as vectors in the space of the visual tokens.

    Attributes:
        vectors: ``(m, D)``, one a token of all text of the prompt: system words, markers,
            instruction, question, options. Need not have length 1.
        of_question: bool ``(m,)``: the tokens of the question's own words and of the options.
    """

    vectors: torch.Tensor
    of_question: torch.Tensor

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.of_question.shape != self.vectors.shape[:1]:
            raise InputError(
                f"prompt vectors have shape {tuple(self.vectors.shape)} and marks "
                f"{tuple(self.of_question.shape)}; expected (m, D) and (m,)"
            )


@dataclass(frozen=True)
class GridSpan:
    """Where one grid lies among the tokens that a model is given, and when it was seen.

    Attributes:
        index: number of the grid in its stream, from 0.
        segment: counts changes of the frame size; grids of other segments have another ``size``.
        start_s, end_s: times of its first and last frame, seconds.
        size: rows and columns of the whole grid, before anything was dropped.
        first, count: its tokens are ``first`` to ``first + count`` (exclusive).
    """

    index: int
    segment: int
    start_s: float
    end_s: float
    size: tuple[int, int]
    first: int
    count: int


@dataclass(frozen=True, eq=False)
class VisualContext:
    """What a model answers from: the tokens that were read, grid after grid in time order.

    Attributes:
        tokens: ``(n, D)`` in the model's type.
        positions: int64 ``(3, n)`` time, row and column ids, counted from the video's beginning.
        text_start: id at which text after the video starts, counted in the same way.
        grids: the grids, in the order of their tokens.
        extras: tensors ``(n, ...)`` by name, as the model gave them with its grids.
        began_s: time of the stream's first frame, seconds; models that spell times out count from
            it, for frames of cameras are timed by the clock on the wall.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    text_start: int
    grids: tuple[GridSpan, ...]
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)
    began_s: float = 0.0


@dataclass(frozen=True)
class AnswerPiece:
    """A few characters of an answer.

    Attributes:
        text: to be appended to what came before; may be empty.
        finish: None while more is to come; on the last piece ``stop``, or ``length`` when the
            limit cut the answer off.
    """

    text: str
    finish: str | None = None


class VideoLanguageModel(Protocol):
    """A model that sees grids and answers questions. All its tensors live on ``device``."""

    traits: VideoModelTraits
    device: torch.device

    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid:
        """Encode one grid, alone: nothing may depend on other grids.

        Args:
            frames: ``frames_per_grid`` frames of one size, in time order; fewer when the stream
                stops there, and then the last one counts as repeated.
        """

    def embed_text(self, text: str) -> torch.Tensor:
        """``(m, D)`` vectors of a text's tokens, without any special tokens."""

    def embed_question(self, question: Question) -> PromptTokens:
        """Vectors of everything in the prompt that is not video, and which belong to the question.

        Raises:
            InputError: when there is nothing in the question that the model knows.
        """

    def answer(
        self,
        context: VisualContext,
        question: Question,
        *,
        history: Sequence[Turn] = (),
        max_tokens: int = 128,
    ) -> Iterator[AnswerPiece] | None:
        """Answer from what was read.

        Args:
            context: tokens, positions and times.
            question: the question.
            history: earlier turns of the conversation, oldest first.
            max_tokens: of the answer, at most.

        Returns:
            Pieces of the answer as they are made; the last has ``finish`` set. None for a model
            that does not speak. The iterator holds all it needs: the stream may go on meanwhile.
        """


class TokenSearch(Protocol):
    """What is looked for: m texts at once."""

    @property
    def unknown(self) -> str:
        """Why nothing can be found, in one line; empty when something can."""

    def scores(self, tokens: torch.Tensor, extras: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """How much each of n tokens shows of each text: float32 ``(n, m)`` in [0, 1]."""


@runtime_checkable
class MomentModel(Protocol):
    """A model that finds moments: it scores tokens for a question itself.

    Its grids may have an extra ``box``, ``(n, 4)``: where in the picture a token is, left, top,
    right and bottom as shares of its sides.
    """

    def unrelated(self) -> TokenSearch:
        """Texts that a video is mostly not about, to compare questions with."""

    def search(self, question: Question) -> TokenSearch:
        """What a question looks for, m = 1.

        Raises:
            InputError: when there is nothing in the question to look for.
        """


def model_of(model: VideoLanguageModel, model_id: str) -> VideoLanguageModel:
    """The model that a memory was made with, where it was made by an earlier release.

    Args:
        model: the model of today.
        model_id: what the memory says.

    Returns:
        The earlier model of that name where there is one, else ``model``.
    """
    earlier = getattr(model, "earlier", None)
    return (earlier and model_id != model.traits.model_id and earlier(model_id)) or model
