"""What the miniature watches: tokens of a pool of streams, through real sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from miniature_questions import SECONDS, Watch, stream_of
from miniature_vision import Eyes
from numpy.typing import NDArray
from torch import Tensor

from vision_mem.config import load_config
from vision_mem.models.vlm.protocol import EncodedGrid, Question, VisualContext
from vision_mem.synthetic.qa_streams import GeneratedStream
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

_AT_ONCE = 16  # grids


class Pool:
    """The vision tower's tokens of some streams, on disk: whole pairs, and each first frame alone.

    Args:
        folder: of the files; what is there is not made again.
        eyes: make the tokens.
        first_seed: of the streams; the others count on.
    """

    def __init__(self, folder: Path, eyes: Eyes, first_seed: int) -> None:
        self.folder, self._eyes, self._first = folder, eyes, first_seed
        self._held: dict[int, NDArray[np.float16]] = {}

    def stream(self, number: int) -> GeneratedStream:
        """The stream of a number."""
        return stream_of(self._first + number)

    def tokens(self, number: int) -> NDArray[np.float16]:
        """``(SECONDS, tokens, D)``: at even seconds that frame alone, at odd ones its pair."""
        if number not in self._held:
            path = self.folder / f"{number:05d}.npy"
            if not path.is_file():
                self.folder.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(".partial")
                with partial.open("wb") as stream:
                    np.save(stream, self._made(number))
                partial.replace(path)
            self._held[number] = np.load(path)
        return self._held[number]

    @torch.no_grad()
    def _made(self, number: int) -> NDArray[np.float16]:
        stream = stream_of(self._first + number)
        images = np.stack([stream.picture(float(t)) for t in range(SECONDS)])
        grids = np.stack([images[[t - t % 2, t]] for t in range(SECONDS)])
        parts = [self._eyes.encode(grids[n : n + _AT_ONCE]) for n in range(0, SECONDS, _AT_ONCE)]
        return torch.cat(parts).cpu().numpy().astype(np.float16)


class Reader:
    """Gives a session tokens of a pool, and answers or keeps what the session would answer from.

    Args:
        pupil: embeds the questions.
        tokens: of a stream, see ``Pool``.
        speaks: what answers; None: nothing does, and ``context`` is what it would have read.
    """

    def __init__(self, pupil: Eyes, tokens: NDArray[np.float16], speaks: Any = None) -> None:
        self.traits, self.device = pupil.traits, torch.device("cpu")
        self._pupil, self._tokens, self._speaks = pupil, tokens, speaks
        self.context: VisualContext | None = None

    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid:
        tokens = torch.from_numpy(self._tokens[frames[-1].index]).float()
        return EncodedGrid.full(tokens, *(side // 28 for side in frames[0].size))

    def embed_text(self, text: str) -> Tensor:
        return self._pupil.embed_text(text).float().cpu()

    def embed_question(self, question: Question) -> Any:
        made = (self._speaks or self._pupil).embed_question(question)
        return replace(made, vectors=made.vectors.float().cpu(), of_question=made.of_question.cpu())

    def answer(self, context: VisualContext, question: Question, **more: Any) -> Any:
        self.context = context
        return None if self._speaks is None else self._speaks.answer(context, question, **more)


@lru_cache(maxsize=4096)
def memory_config(preset: str, budget: int, *, choosy: bool = False) -> VideoQaConfig:
    """A preset with a budget.

    Args:
        preset: its name.
        budget: tokens.
        choosy: whether it reads for each question what fits it, as users meet it; else all it
            holds, so that questions of a moment share what is read.
    """
    made = load_config(VideoQaConfig, preset, {"memory.budget": budget}, folder="videoqa")
    retrieval = made.retrieval if choosy else replace(made.retrieval, enabled=False)
    return replace(made, fps=None, retrieval=retrieval, max_answer_tokens=8)


_NO_IMAGE = np.zeros((168, 224, 3), np.uint8)


def read_watch(pupil: Eyes, watch: Watch, pool: Pool) -> Iterator[tuple[VisualContext, Any]]:
    """What a session holds at each moment, and the questions then."""
    reader = Reader(pupil, pool.tokens(watch.stream))
    # A budget smaller than a grid is refused; nothing here has larger ones.
    config = memory_config(watch.preset, max(watch.budget, 48))
    session = VideoMemorySession(reader, config)  # type: ignore[arg-type]
    waiting = dict(watch.moments)
    for second in range(2 * watch.first, max(waiting) + 1):
        session.step(Frame(second, float(second), _NO_IMAGE))
        if waiting.get(second):
            session.ask(waiting[second][0].text)
            assert reader.context is not None
            yield reader.context, waiting[second]
