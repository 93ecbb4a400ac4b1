"""An answer while it is being made, and the conversation it belongs to."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from vision_mem.models.vlm.protocol import AnswerPiece, Question, Turn
from vision_mem.videoqa.records import Answer


class Conversation:
    """Questions and answers that belong together. It lives outside every memory.

    Attributes:
        turns: finished turns, oldest first; older ones than ``limit`` are gone.

    Args:
        limit: turns to keep.
    """

    def __init__(self, limit: int = 100) -> None:
        self.turns: deque[Turn] = deque(maxlen=limit)

    def latest(self, count: int) -> tuple[Turn, ...]:
        """The latest ``count`` turns, oldest first."""
        return tuple(self.turns)[max(0, len(self.turns) - count) :]


class GateHistory:
    """The average that the ``carried`` gate takes from question to question; None at first."""

    def __init__(self, average: float | None = None) -> None:
        self.average = average


class AnswerStream(Iterator[AnswerPiece]):
    """Pieces of an answer as the model makes them; the evidence is there from the start.

    Args:
        pieces: from the model; None for a model that does not speak.
        answer: everything but the text.
        question: what was asked.
        conversation: takes the turn once the answer is whole, or None.
        model_id: named in ``chunks``.
    """

    def __init__(
        self,
        pieces: Iterator[AnswerPiece] | None,
        answer: Answer,
        question: Question,
        conversation: Conversation | None,
        model_id: str,
    ) -> None:
        self._pieces = pieces
        self._answer = answer if pieces is None else replace(answer, text="")
        self._question = question
        self._conversation = conversation
        self._model_id = model_id
        self._done = pieces is None

    @property
    def answer(self) -> Answer:
        """The answer so far; whole once there are no more pieces."""
        return self._answer

    def __next__(self) -> AnswerPiece:
        if self._done or self._pieces is None:
            raise StopIteration
        piece = next(self._pieces, None)
        if piece is None:  # the model ended without saying so
            piece = AnswerPiece("", "stop")
        text = (self._answer.text or "") + piece.text
        self._answer = replace(self._answer, text=text, cut=piece.finish == "length")
        if piece.finish is not None:
            self._done = True
            if self._conversation is not None:
                self._conversation.turns.append(Turn(self._question, text))
        return piece

    def finish(self) -> Answer:
        """Wait for the whole answer."""
        for _ in self:
            pass
        return self._answer

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The pieces as OpenAI's chat completion chunks; the last one also has ``evidence``.

        A model that does not speak gives one chunk without content.
        """
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion.chunk",
            "created": int(time.time()), "model": self._model_id,
        }  # fmt: skip
        silent = (AnswerPiece("", "stop"),)
        for piece in silent if self._pieces is None else self:
            delta = {"content": piece.text} if piece.text else {}
            choice = {"index": 0, "delta": delta, "finish_reason": piece.finish}
            last = {"evidence": [asdict(m) for m in self._answer.evidence]} if piece.finish else {}
            yield {**head, "choices": [choice], **last}
