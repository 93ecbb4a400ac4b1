"""A tiny video model without weights: knows colours by name. For tests, and to try pipelines out.

It is deterministic and uses each seam as a real network does: a grid is the mean of its frames in
cells, texts and cells share one space, and an answer depends on every token, position and earlier
turn that it is given, so a memory that is kept, read or restored wrongly shows in the words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch

from vision_mem.errors import InputError
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

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 200, 60),
    "blue": (40, 60, 220),
    "yellow": (230, 220, 40),
    "purple": (190, 50, 200),
    "black": (10, 10, 10),
    "white": (245, 245, 245),
    "grey": (115, 115, 115),
}
_RGB = np.array(list(COLOURS.values()), np.float32)
_CELL, _MOST = 20, 8  # pixels of a cell; cells along a side
_REACH = 60.0  # colour distance that still counts as the colour
_WORDS = 14  # numbers of a vector that only words use
WIDTH = len(COLOURS) + 2 + _WORDS
_PLAIN_WORD = 0.5
_SYSTEM = "you are watching a video"


class FakeVideoModel:
    """Sees colours in cells and says where and when the asked one is.

    Args:
        model_id: what snapshots record.
        frames_per_grid: frames that make a grid.
        speaks: False for a model that only finds moments.
    """

    def __init__(
        self, model_id: str = "fake", *, frames_per_grid: int = 2, speaks: bool = True
    ) -> None:
        self.traits = VideoModelTraits(
            model_id, WIDTH, frames_per_grid=frames_per_grid, max_positions=4096, speaks=speaks
        )
        self.device = torch.device("cpu")

    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid:
        rows, cols = (min(_MOST, max(1, round(side / _CELL))) for side in frames[0].size)
        images = [frame.image.astype(np.float32) for frame in frames]
        images += images[-1:] * (self.traits.frames_per_grid - len(images))
        cells = np.stack(
            [cv2.resize(image, (cols, rows), interpolation=cv2.INTER_AREA) for image in images]
        )
        mean = cells.mean(axis=0).reshape(-1, 3)
        change = np.abs(cells[-1] - cells[0]).mean(axis=-1).reshape(-1) / 255.0
        away = np.linalg.norm(mean[:, None] - _RGB, axis=-1) / _REACH
        seen = np.exp(-away * away)
        light = mean.mean(axis=-1) / 255.0
        blank = np.zeros((len(mean), _WORDS), np.float32)
        tokens = np.concatenate([seen, change[:, None], 0.2 * light[:, None], blank], axis=1)
        extras = {"colour": torch.from_numpy(mean)}
        return EncodedGrid.full(torch.from_numpy(tokens.astype(np.float32)), rows, cols, extras)

    def embed_text(self, text: str) -> torch.Tensor:
        words = re.findall(r"[^\W_]+", text.lower())
        return torch.from_numpy(
            np.stack([_word(word) for word in words]) if words else np.zeros((0, WIDTH), np.float32)
        )

    def embed_question(self, question: Question) -> PromptTokens:
        asked = self.embed_text(" ".join((question.text, *question.options)))
        if len(asked) == 0:
            raise InputError(f"there is no word in the question {question.text!r}; use words")
        before, after = self.embed_text(_SYSTEM), self.embed_text(question.instruction)
        marks = [False] * len(before) + [True] * len(asked) + [False] * len(after)
        return PromptTokens(torch.cat([before, asked, after]), torch.tensor(marks))

    def answer(
        self,
        context: VisualContext,
        question: Question,
        *,
        history: Sequence[Turn] = (),
        max_tokens: int = 128,
    ) -> Iterator[AnswerPiece] | None:
        if not self.traits.speaks:
            return None
        asked = self.embed_text(" ".join((question.text, *question.options)))
        norms = context.tokens.norm(dim=1).clamp(min=1e-6)
        match = (context.tokens / norms[:, None] @ asked.T).max(dim=1).values
        best = int(match.argmax())
        grid = next(g for g in context.grids if g.first <= best < g.first + g.count)
        row, col = (int(i) for i in context.positions[1:, best])
        places = context.positions.double().mul(torch.tensor([[1.0], [0.1], [0.01]])).sum(dim=0)
        digest = float((context.tokens.double().sum(dim=1) * (1.0 + places)).sum())
        said = f"at {grid.start_s:g} s, row {row} column {col}, {len(match)} tokens "
        said += f"to {context.text_start} ({digest:.6f})"
        if history:
            said += f" after {history[-1].question.text!r} and {history[-1].answer!r}"
        return _spoken(said.split(" "), max_tokens)


def _word(word: str) -> np.ndarray:
    vector = np.zeros(WIDTH, np.float32)
    if word in COLOURS:
        vector[list(COLOURS).index(word)] = 1.0
        return vector
    noise = np.frombuffer(hashlib.sha256(word.encode()).digest()[:WIDTH], np.uint8)
    vector[: len(noise)] = _PLAIN_WORD * (noise.astype(np.float32) / 255.0 - 0.5)
    vector[-_WORDS:] += 1.0 / _WORDS
    return vector


def _spoken(words: Sequence[str], most: int) -> Iterator[AnswerPiece]:
    for number, word in enumerate(words[:most]):
        last = number + 1 == min(len(words), most)
        finish = None if not last else "length" if len(words) > most else "stop"
        yield AnswerPiece(word if number == 0 else f" {word}", finish)
