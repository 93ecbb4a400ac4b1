"""A memory that can be asked, beside a stream: it looks in a thread of its own, at what it can."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vision_mem.errors import InputError, VisionMemError
from vision_mem.models.vlm.protocol import AnswerPiece
from vision_mem.studio.frames import encode_jpeg
from vision_mem.types import Frame
from vision_mem.videoqa.evidence import ThumbnailSession, spans_of

_LONGEST = 500
SEEN_FROM = 0.4
"""Score of a moment from which on a model that neither talks nor judges has probably seen it.

Chosen by eye on two questions about one clip (a cat that is there, an elephant that is not).
Answers without a talking model are marked as guesses, whoever judges.
"""
_WAIT_S = 1.5


class StreamQuestions:
    """Watches a stream and answers questions about it.

    Args:
        open_memory: makes the session; called in the thread, for models take long to load.
    """

    def __init__(self, open_memory: Callable[[], ThumbnailSession]) -> None:
        self._open = open_memory
        self._waiting: Frame | None = None
        self._changed = threading.Condition()
        self._asking = threading.Lock()
        self._closing = False
        self._session: ThumbnailSession | None = None
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="studio-memory", daemon=True)
        self._thread.start()

    def look(self, frame: Frame) -> None:
        """Offer a frame; the newest one is looked at when there is time."""
        with self._changed:
            self._waiting = frame
            self._changed.notify()

    def _run(self) -> None:
        try:
            session = self._open()
        except VisionMemError as error:
            self.problem = " ".join(str(error).split())
            return
        with self._changed:
            self._session = session
            self._changed.notify_all()
        while True:
            with self._changed:
                while self._waiting is None and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                frame, self._waiting = self._waiting, None
            seen = session.session.seen
            # A file that is played again has nothing new to show.
            if frame is not None and (seen is None or frame.index > seen[0]):
                with self._asking, suppress(InputError):
                    session.step(frame)

    def ask(
        self, question: str, told: Callable[[AnswerPiece], bool] | None = None
    ) -> dict[str, Any]:
        """Answer a question from what was seen so far.

        Args:
            question: in words.
            told: is given each piece of the answer as it is made; with False the answer ends there.

        Returns:
            ``text`` where the model talks, else None; ``seen``; ``guess``, what a ``seen`` that
            rests on a score alone is to be marked by, else None; and ``evidence``: moments with
            their times, scores and pictures (JPEG bytes).

        Raises:
            InputError: for an empty question, or when nothing was seen yet.
        """
        question = question.strip() if isinstance(question, str) else ""
        if not question or len(question) > _LONGEST:
            raise InputError(f"the question is empty, or longer than {_LONGEST} letters")
        with self._changed:
            self._changed.wait_for(lambda: self._session or self.problem or self._closing, 60)
        if self._session is None:
            raise InputError(self.problem or "the memory is still being loaded; ask again")
        with self._asking:
            session = self._session.session
            if session.seen is None:
                raise InputError("nothing was seen yet; let the stream run first")
            pieces = session.ask_stream(question)
            for piece in pieces:
                if told is not None and not told(piece):
                    break
            answer = pieces.answer
            speaks = session.model.traits.speaks
            spans = spans_of(answer.evidence, 1.5 / (session.config.fps or 1e9))
            evidence = []
            frames = {entry.index: entry.frames[0] for entry in session.memory.read()}
            newest = session.seen[0]  # what still waits for its partner is no entry yet
            for span in spans:
                picture = self._session.picture(span.grid)
                evidence.append({
                    "start_s": span.start_s, "end_s": span.end_s, "score": round(span.score, 3),
                    "frame": frames.get(span.grid, newest),
                    "picture": None if picture is None else encode_jpeg(picture),
                })  # fmt: skip
        best, judged = max((span.score for span in spans), default=0.0), answer.found
        seen = best >= SEEN_FROM if judged is None else judged
        return {
            "question": question, "text": answer.text if speaks else None, "at_s": answer.at_s,
            "seen": speaks or seen,
            "guess": None if speaks else _guess(best, seen, by_score=judged is None),
            "model": session.model.traits.model_id.partition("#")[0], "evidence": evidence,
        }  # fmt: skip

    def ask_to_close(self) -> None:
        """Begin to close; ``close`` waits for it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread; a model that is still being loaded is not waited for."""
        self.ask_to_close()
        if self._session is not None:
            self._thread.join(_WAIT_S)


def _guess(score: float, seen: bool, *, by_score: bool) -> str:
    """What is said of an answer that rests on scores of moments."""
    word = "probably seen" if seen else "probably not seen"
    limit = (
        f"from {SEEN_FROM:.2f} on it counts"
        if by_score
        else "unrelated questions to the same memory say from where on that counts"
    )
    return f"{word}: the best moment scores {score:.2f}, and {limit}"
