"""How the miniature learns: each clip through our own memory, many questions in one look.

A clip's grids go through the vision tower at once. A real session then watches the clip and is
asked, so that what is read, and where it stands, is what users' questions meet. The questions
share the video in front of them and do not see each other. The loss is on the words of answers
alone; beside it, tokens learn to lie near the words for what they show (``align``), for a memory
that searches by likeness needs words and pictures in one space, as large models have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from miniature_questions import NAMES, NOTHING_KNOWN, Asked, Clip
from torch import Tensor

from vision_mem.config import load_config
from vision_mem.models.miniature import NAME, miniature_tokenizer
from vision_mem.models.qwen_vl import QwenVideoModel
from vision_mem.models.videoqa_protocols import EncodedGrid, Question, VisualContext
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

IGNORED = -100
_SHARP = 0.1  # temperature of ``align``
_QUIET = {"with", "a"}  # words of names that show nothing


@dataclass
class Row:
    """One video as it was read, and the questions about it.

    Attributes:
        embeds: ``(L, D)`` what the language model gets.
        positions: ``(3, L)``.
        part: ``(L,)`` 0 for what all questions see, else the number of the question.
        labels: ``(L,)`` the token that is to be said next, or ``IGNORED``.
        asked: the questions, in the order of their numbers.
    """

    embeds: Tensor
    positions: Tensor
    part: Tensor
    labels: Tensor
    asked: list[Asked]


class Pupil(QwenVideoModel):
    """The adapter around a network that learns."""

    def __init__(self, network: Any, tokenizer: Any | None = None) -> None:
        super().__init__(network, tokenizer or miniature_tokenizer(), model_id=NAME)
        network.requires_grad_(True)
        table = torch.zeros(len(NAMES), len(_spoken()))
        for number, name in enumerate(NAMES):
            words = [word for word in name.split() if word not in _QUIET]
            for word in words:
                table[number, _spoken().index(word)] = 1 / len(words)
        self._names = table.to(self.device)
        ids = [self._chat.ids(f" {word}") for word in _spoken()]
        self._spoken = torch.tensor([first for first, *_ in ids], device=self.device)

    @property
    def network(self) -> Any:
        """It, with whatever it has learned."""
        return self._network

    def encode(self, grids: Sequence[Sequence[Frame]]) -> Tensor:
        """``(grids, tokens, D)`` of frames of one size."""
        videos = [self._pixels(frames) for frames in grids]
        given = self._processor(videos=videos, do_sample_frames=False, return_tensors="pt")
        seen = self._network.get_video_features(
            given["pixel_values_videos"].to(self.device), given["video_grid_thw"].to(self.device)
        )
        return torch.stack(list(seen.pooler_output))

    def align_loss(self, tokens: Tensor, shown: Tensor) -> Tensor:
        """How far tokens are from the words for what they show.

        Args:
            tokens: ``(n, D)``.
            shown: ``(n,)`` numbers in ``NAMES``, or ``NOTHING_KNOWN``.
        """
        known = shown != NOTHING_KNOWN
        words = F.normalize(self._network.get_input_embeddings()(self._spoken).float(), dim=-1)
        likeness = F.normalize(tokens[known].float(), dim=-1) @ words.T / _SHARP
        return F.cross_entropy(likeness, self._names[shown[known]])

    def row(self, context: VisualContext, tokens: Tensor, asked: list[Asked]) -> Row:
        """All questions behind one video, positions as each of them has alone.

        Args:
            context: what a session gave; its ``tokens`` are not used.
            tokens: ``(n, D)`` in their place, to be learned through.
            asked: the questions.
        """
        context = replace(context, tokens=tokens, positions=context.positions.clone())
        embeds, positions, part, labels = [], [], [], []
        for number, one in enumerate(asked, 1):
            prompt = self._chat.prompt(one.question)
            start = self._start(context, prompt)
            given, places = start.inputs["inputs_embeds"][0], start.positions[:, 0]
            shared = len(prompt.before) + len(self._opening()) + len(tokens)
            if number == 1:
                embeds.append(given[:shared])
                positions.append(places[:, :shared])
                part += [0] * shared
                labels += [IGNORED] * shared
            answer = self._chat.ids(one.answer)
            last = torch.arange(start.goes_on, start.goes_on + len(answer), device=self.device)
            embeds += [given[shared:], self._embedded(answer)]
            positions += [places[:, shared:], last.expand(3, -1)]
            own = len(given) - shared
            part += [number] * (own + len(answer))
            labels += [*[IGNORED] * (own - 1), *answer, self._chat.end]
        device = self.device
        return Row(
            torch.cat(embeds), torch.cat(positions, dim=1), torch.tensor(part, device=device),
            torch.tensor(labels, device=device), asked,
        )  # fmt: skip

    def logits(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
        """Guesses where something is to be said.

        Returns:
            ``(k, vocabulary)`` logits, ``(k,)`` labels, and ``(k, 2)`` row and question.
        """
        pad = torch.nn.utils.rnn.pad_sequence
        embeds = pad([row.embeds for row in rows], batch_first=True)
        positions = pad([row.positions.T for row in rows], batch_first=True).permute(2, 0, 1)
        part = pad([row.part for row in rows], batch_first=True, padding_value=-1)
        labels = pad([row.labels for row in rows], batch_first=True, padding_value=IGNORED)
        mask = {"full_attention": visible(part)[:, None]}
        text = self._network.model.language_model
        hidden = text(
            inputs_embeds=embeds, position_ids=positions, attention_mask=mask, use_cache=False
        ).last_hidden_state
        said = labels != IGNORED
        owners = torch.stack([said.nonzero()[:, 0], part[said] - 1], dim=1)
        return self._network.lm_head(hidden[said]).float(), labels[said], owners


@lru_cache(maxsize=1)
def _spoken() -> tuple[str, ...]:
    """Words of all names, once each."""
    words = [word for name in NAMES for word in name.split() if word not in _QUIET]
    return tuple(dict.fromkeys(words))


def visible(part: Tensor) -> Tensor:
    """``(B, L, L)`` bool: each token sees itself, what is shared, and its own question before it.

    Args:
        part: ``(B, L)`` 0 for what is shared, the number of a question, -1 for padding.
    """
    ours = part[:, None, :] == part[:, :, None]
    shared = (part[:, None, :] == 0) & (part[:, :, None] > 0)
    before = torch.ones(part.shape[1], part.shape[1], dtype=torch.bool, device=part.device).tril()
    return (ours | shared) & before


class Reader:
    """Gives a session tokens that were made before, and keeps what the session would answer from.

    It stands where the model stands. What a memory does is quick on the CPU and slow on a GPU.

    Args:
        pupil: embeds the questions.
        tokens: ``(grids, n, D)``.
        clip: they are of.
    """

    def __init__(self, pupil: Pupil, tokens: Tensor, clip: Clip) -> None:
        self.traits, self.device = pupil.traits, torch.device("cpu")
        self._pupil = pupil
        self._tokens = dict(zip(clip.grids, tokens.detach().float().cpu(), strict=True))
        height, width = clip.images.shape[1:3]
        self._size = height // 28, width // 28
        self.context: VisualContext | None = None

    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid:
        return EncodedGrid.full(self._tokens[tuple(f.index for f in frames)], *self._size)

    def embed_text(self, text: str) -> Tensor:
        return self._pupil.embed_text(text).float().cpu()

    def embed_question(self, question: Question) -> Any:
        made = self._pupil.embed_question(question)
        return replace(made, vectors=made.vectors.float().cpu(), of_question=made.of_question.cpu())

    def answer(self, context: VisualContext, question: Question, **more: Any) -> None:
        self.context = context


@lru_cache(maxsize=4096)
def memory_config(budget: int | None) -> VideoQaConfig:
    """The default memory with a budget, or one that keeps everything."""
    preset = "full" if budget is None else "default"
    made = load_config(VideoQaConfig, preset, {}, folder="videoqa")
    memory = made.memory if budget is None else replace(made.memory, budget=budget)
    return replace(made, fps=None, memory=memory, max_answer_tokens=8)


def frames_of(clip: Clip) -> list[Frame]:
    return [Frame(n, t, clip.images[n]) for n, t in enumerate(clip.times_s)]


def read_clip(pupil: Pupil, clip: Clip, tokens: Tensor) -> Iterator[tuple[Any, list[Asked]]]:
    """What a session reads for each question; questions that read the same come together."""
    reader = Reader(pupil, tokens, clip)
    session = VideoMemorySession(reader, memory_config(clip.budget))  # type: ignore[arg-type]
    waiting = dict(clip.moments)
    for count, frame in enumerate(frames_of(clip), 1):
        session.step(frame)
        groups: dict[tuple[int, ...], tuple[Any, list[Asked]]] = {}
        for one in waiting.get(count, ()):
            session.ask(one.question)
            context = reader.context
            assert context is not None
            read = tuple(span.index for span in context.grids)
            groups.setdefault(read, (context, []))[1].append(one)
        yield from groups.values()


def learned_through(context: VisualContext, clip: Clip, encoded: Tensor) -> Tensor:
    """The tokens that a session read, with the vision tower's gradient where it learns.

    Args:
        context: from the session; merged tokens learn as the one whose place they have.
        clip: it is of.
        encoded: ``(grids, n, D)``, with a gradient for those taught.
    """
    device = encoded.device
    taught = set(clip.taught)
    tokens, places = context.tokens.clone().to(encoded), context.positions.clone().to(device)
    columns = clip.images.shape[2] // 28
    found = []
    for span in context.grids:
        here = slice(span.first, span.first + span.count)
        first = 2 * span.index
        grid = (first,) if span.start_s == span.end_s else (first, first + 1)
        number = clip.grids.index(grid)
        if number not in taught:
            found.append(tokens[here])
            continue
        own = encoded[number][places[1, here] * columns + places[2, here]]
        found.append(tokens[here] + (own - own.detach()))
    return torch.cat(found)


def lesson(pupil: Pupil, clips: Sequence[Clip], align: float) -> tuple[Tensor, dict[str, float]]:
    """The loss of some clips, and what it is made of.

    Args:
        pupil: learns.
        clips: of one size of frames.
        align: weight of the words for what tokens show.

    Returns:
        The loss, and ``answers``, ``align``, and how many answers were right, whole and unaided
        word by word: of letters, of words, of practice.
    """
    every = [[[frames_of(c)[n] for n in grid] for grid in c.grids] for c in clips]
    taught = [[grids[n] for n in c.taught] for grids, c in zip(every, clips, strict=True)]
    learning = pupil.encode([grid for grids in taught for grid in grids])
    left = [
        grid
        for grids, c in zip(every, clips, strict=True)
        for n, grid in enumerate(grids)
        if n not in set(c.taught)
    ]
    with torch.no_grad():
        plain = pupil.encode(left) if left else learning[:0]
    rows: list[Row] = []
    tokens, shown = [], []
    i = j = 0
    for clip in clips:
        parts = []
        for n in range(len(clip.grids)):
            if n in set(clip.taught):
                parts.append(learning[i])
                tokens.append(learning[i])
                shown.append(clip.shown[n])
                i += 1
            else:
                parts.append(plain[j])
                j += 1
        encoded = torch.stack(parts)
        for context, asked in read_clip(pupil, clip, encoded):
            rows.append(pupil.row(context, learned_through(context, clip, encoded), asked))
    guesses, labels, owners = pupil.logits(rows)
    answers = F.cross_entropy(guesses, labels)
    known = torch.from_numpy(np.concatenate(shown)).to(guesses.device)
    near = pupil.align_loss(torch.cat(tokens), known)
    parts_said = {"answers": float(answers.detach()), "align": float(near.detach())}
    return answers + align * near, {**parts_said, **_right(rows, guesses, labels, owners)}


def _right(rows: list[Row], guesses: Tensor, labels: Tensor, owners: Tensor) -> dict[str, float]:
    hits = (guesses.argmax(-1) == labels).tolist()
    whole: dict[tuple[int, int], bool] = {}
    for hit, (row, number) in zip(hits, owners.tolist(), strict=True):
        whole[row, number] = whole.get((row, number), True) and hit
    counts: dict[str, list[bool]] = {}
    for (row, number), right in whole.items():
        one = rows[row].asked[number]
        counts.setdefault("practice" if one.task == "practice" else one.form, []).append(right)
    return {f"hit_{form}": float(np.mean(counts[form])) for form in sorted(counts)}
