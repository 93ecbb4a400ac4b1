"""A question as tokens: the chat format that Qwen's language models were taught, our own words.

All backbones here build on Qwen's language models and share their turn markers. Text between two
markers is cut into tokens in one go, as in training; markers that a user types are plain text.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vision_mem.errors import InputError, ModelError
from vision_mem.models.vlm.protocol import Question, Turn

SYSTEM = "You watch a video and answer questions about it. Rely on what the video shows."
_BEGIN, _END = "<|im_start|>", "<|im_end|>"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Prompt:
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

    def prompt(self, question: Question, history: Sequence[Turn] = ()) -> Prompt:
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
        answer = self._turned("assistant\n", "")
        padding = [False] * (len(before) + len(after))
        of_question = (*padding, *marks, *(False for _ in answer))
        return Prompt(tuple(before), (*after, *coded, *answer), of_question)

    def _turned(self, role: str, words: str) -> list[int]:
        """The end of one turn and the beginning of another one."""
        return [self.end, *self.ids("\n"), self._begin, *self.ids(role + words)]

    def _coded(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        coded = self._coder.encode(text, add_special_tokens=False)
        return list(coded.ids), list(coded.offsets)


def _written(question: Question) -> tuple[str, list[tuple[int, int]]]:
    """The user's part of a turn, and where its question and options lie in it."""
    if len(question.options) > len(_LETTERS):
        raise InputError(
            f"a question has {len(question.options)} options; expected at most {len(_LETTERS)}"
        )
    text, spans = question.text, [(0, len(question.text))]
    for letter, option in zip(_LETTERS, question.options, strict=False):
        text += f"\n{letter}. "
        spans.append((len(text), len(text) + len(option)))
        text += option
    if question.instruction:
        text += f"\n{question.instruction}"
    return text, spans
