"""The second lesson of the miniature: questions, from tokens that were made before.

The vision tower has learned by then and stands still. Its tokens of a pool of streams are made
once; a real session watches them and is asked, so that what is read, and where it stands, is what
users' questions meet. Many questions share the video in front of them and do not see each other.
The loss is on the words of answers alone; beside it, what the second layer makes of a visual token
must tell its row and column (``place``), which all else about places rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from miniature_pictures import SEEN, overlap
from miniature_pool import Pool, read_watch
from miniature_questions import GROUP_OF, Watch, options_shown, subjects, text_of
from miniature_vision import Eyes, Readers
from torch import Tensor

from vision_mem.models.vlm.network import ChatPrompt
from vision_mem.models.vlm.protocol import Question, VisualContext
from vision_mem.synthetic.qa_questions import StreamQuestion
from vision_mem.synthetic.qa_streams import GeneratedStream, ObjectVisit

IGNORED = -100
_PLACED = 0  # layer whose outcome must tell places
_FINDING = 1  # layer whose first head must find it, from the word that names it
_LOOKING = 2  # layer whose first head must look at what a question is about
_HEARING = 2  # its head that must look at the naming word
_TOGETHER = 4  # rows


@dataclass
class Row:
    """One video as it was read, and the questions about it.

    Attributes:
        ids: ``(L,)`` words; 0 at the video's tokens.
        seen: ``(L,)`` bool, the video's tokens.
        tokens: ``(n, D)`` of them.
        positions: ``(3, L)``.
        part: ``(L,)`` 0 for what all questions see, else the number of the question.
        labels: ``(L,)`` the token that is to be said next, or ``IGNORED``.
        places: ``(2, n)`` row and column of the video's tokens.
        subjects: bool ``(questions, n)`` tokens of what each question is about; none where it is
            about no one object, or nothing of it was kept.
        named: of each question, the place in ``ids`` of the word that tells its object from
            others, or ``IGNORED``.
        findable: places in ``ids`` of all words that name an object, and bool ``(n,)`` its tokens.
        asked: the questions, in the order of their numbers.
    """

    ids: Tensor
    seen: Tensor
    tokens: Tensor
    positions: Tensor
    part: Tensor
    labels: Tensor
    places: Tensor
    subjects: Tensor
    named: list[int]
    findable: list[tuple[int, Tensor]]
    asked: tuple[StreamQuestion, ...]


class Pupil(Eyes):
    """The adapter around a network whose language model learns."""

    @lru_cache(maxsize=65536)  # noqa: B019  one of it, as long as the program
    def written(self, text: str) -> ChatPrompt:
        """The prompt of a question without options."""
        return self._chat.prompt(Question(text))

    @lru_cache(maxsize=4096)  # noqa: B019
    def said(self, text: str) -> tuple[int, ...]:
        """Ids of an answer, its end with them."""
        return (*self._chat.ids(text), self._chat.end)

    def naming(self, one: StreamQuestion, stream: GeneratedStream) -> int:
        """Which token of a question tells its object from others: its kind, or its place."""
        about, answer = subjects(stream, one), one.options[one.right]
        if answer in (named := self.named_options(one, stream)):
            return named[answer]
        if one.task == "ASI" or not about:
            return IGNORED
        for word in (about[0].kind, about[0].place.split()[-1]):
            spot = f"{one.text[:-1]} ".rfind(f" {word} ")
            if spot >= 0:
                return self._token_at(one.text, spot + 1)
        return IGNORED

    def named_options(self, one: StreamQuestion, stream: GeneratedStream) -> dict[str, int]:
        """Which token of a question ends the name of each option that it lists."""
        if not options_shown(stream, one):
            return {}
        text, found, spot = text_of(one), {}, len(one.text)
        for name in one.options:
            spot = text.index(name, spot) + len(name)
            found[name] = self._token_at(text, spot - 1)
        return found

    def _token_at(self, text: str, spot: int) -> int:
        """The first token of a question that reaches beyond a letter."""
        offsets = self._chat._coded(text)[1]
        return next(n for n, (_, end) in enumerate(offsets) if end > spot)

    def row(
        self, context: VisualContext, asked: Sequence[StreamQuestion], stream: GeneratedStream
    ) -> Row:
        """All questions behind one video, positions as each of them has alone."""
        before = [*self.written(text_of(asked[0])).before, *self._opening]
        first, n = len(before), len(context.tokens)
        shared = first + n
        ids, labels = [*before, *[0] * n], [IGNORED] * shared
        part = [0] * shared
        texts, named = [], []
        shown = where_shown(stream, context, [subjects(stream, one) for one in asked])
        findable: list[tuple[int, Tensor]] = []
        for number, one in enumerate(asked, 1):
            own = [*self._closing, *self.written(text_of(one)).after]
            begun = len(ids) + len(self._closing)
            answer = self.said(one.options[one.right])
            place = self.naming(one, stream)
            named.append(place if place == IGNORED else begun + place)
            options = options_shown(stream, one)
            if options:
                spots = self.named_options(one, stream)
                there = where_shown(stream, context, list(options.values()))
                findable += [
                    (begun + spots[n], some) for n, some in zip(options, there, strict=True)
                ]
            elif place != IGNORED:
                findable.append((begun + place, shown[number - 1]))
            ids += [*own, *answer[:-1]]
            labels += [*[IGNORED] * (len(own) - 1), *answer]
            part += [number] * (len(own) + len(answer) - 1)
            texts.append(torch.arange(len(own) + len(answer) - 1) + first + context.text_start)
        seen = torch.zeros(len(ids), dtype=torch.bool)
        seen[first:shared] = True
        positions = torch.cat(
            [
                torch.arange(first).expand(3, -1), context.positions.cpu() + first,
                torch.cat(texts).expand(3, -1),
            ],
            dim=1,
        )  # fmt: skip
        return Row(
            torch.tensor(ids), seen, context.tokens, positions, torch.tensor(part),
            torch.tensor(labels), context.positions[1:].cpu(),
            shown, named, findable, tuple(asked),
        )  # fmt: skip

    def hear(self, rows: Sequence[Row]) -> Heard:
        """Guesses where something is to be said."""

        def pad(values: list[Tensor], filling: int | bool = 0) -> Tensor:
            made = torch.nn.utils.rnn.pad_sequence(values, True, filling)
            return made.to(self.device)

        seen = pad([row.seen for row in rows])
        embeds = self._network.get_input_embeddings()(pad([row.ids for row in rows]))
        tokens = torch.cat([row.tokens for row in rows]).to(embeds)
        embeds = embeds.masked_scatter(seen[..., None], tokens)
        positions = pad([row.positions.T for row in rows]).permute(2, 0, 1)
        part = pad([row.part for row in rows], -1)
        labels = pad([row.labels for row in rows], IGNORED)
        early: list[Any] = []
        late: list[Any] = []
        text = self._network.model.language_model
        finds, looks = (text.layers[n].self_attn for n in (_FINDING, _LOOKING))
        hooks = [
            text.layers[_PLACED].register_forward_hook(lambda _l, _i, out: early.append(out)),
            *(
                layer.register_forward_pre_hook(
                    lambda _l, _i, given: late.append(given), with_kwargs=True
                )
                for layer in (finds, looks)
            ),
        ]
        mask = visible(part)
        try:
            hidden = text(
                inputs_embeds=embeds, position_ids=positions, use_cache=False,
                attention_mask={"full_attention": mask[:, None]},
            ).last_hidden_state  # fmt: skip
        finally:
            for hook in hooks:
                hook.remove()
        (placed,) = (out[0] if isinstance(out, tuple) else out for out in early)
        where = labels != IGNORED
        owners = torch.stack([where.nonzero()[:, 0], part[where] - 1], dim=1)
        guesses = self._network.lm_head(hidden[where]).float()
        found, heed, heard = (
            _heed(layer, head, given["hidden_states"], given["position_embeddings"], mask)
            for layer, head, given in (
                (finds, 0, late[0]), (looks, 0, late[1]), (looks, _HEARING, late[1]),
            )
        )  # fmt: skip
        wanted = [torch.zeros(len(row.asked), part.shape[1], dtype=torch.bool) for row in rows]
        for row, some in zip(rows, wanted, strict=True):
            first = int(row.seen.nonzero()[0])
            some[:, first : first + row.subjects.shape[1]] = row.subjects
        said = torch.stack([wanted[row][number] for row, number in owners.tolist()])
        missed = [_missed(heed[where], said.to(self.device))]
        for number, row in enumerate(rows):
            if not row.findable:
                continue
            first = int(row.seen.nonzero()[0])
            spots, tokens = zip(*row.findable, strict=True)
            sought = torch.zeros(len(spots), part.shape[1], dtype=torch.bool)
            sought[:, first : first + row.subjects.shape[1]] = torch.stack(tokens)
            missed.append(_missed(found[number, list(spots)], sought.to(self.device)))
        names = torch.tensor([rows[row].named[number] for row, number in owners.tolist()])
        named = names[:, None] == torch.arange(part.shape[1])
        missed.append(_missed(heard[where], named.to(self.device)))
        return Heard(
            guesses, labels[where], owners, placed[seen], missed[0],
            torch.cat([heed.new_zeros(0), *missed[1:-1]]), missed[-1],
        )  # fmt: skip


@dataclass
class Heard:
    """What came of some rows.

    Attributes:
        guesses: ``(k, vocabulary)`` logits where something is to be said.
        labels: ``(k,)`` what is to be said.
        owners: ``(k, 2)`` row and question.
        early: ``(n, D)`` what an early layer makes of the video's tokens, row after row.
        missed: minus the logarithm of the share of one head's attention that goes to what the
            question is about, for each word of an answer for which there is such a thing.
        unfound: the same, an earlier layer and the naming words of questions.
        unheard: the same, another head of the answers' layer and the naming word.
    """

    guesses: Tensor
    labels: Tensor
    owners: Tensor
    early: Tensor
    missed: Tensor
    unfound: Tensor
    unheard: Tensor


def _missed(heed: Tensor, wanted: Tensor) -> Tensor:
    """Minus the logarithm of the shares that are wanted, where anything is."""
    some = wanted.any(1)
    return -heed[some].masked_fill(~wanted[some], -torch.inf).logsumexp(-1)


def _heed(
    looks: Any, head: int, hidden: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor
) -> Tensor:
    """``(B, L, L)`` logarithms of a head's attention, as the library computes it."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

    d, shared = looks.head_dim, head // looks.num_key_value_groups
    query, key = (
        F.linear(hidden, p.weight[d * n : d * n + d], p.bias[d * n : d * n + d])
        for p, n in ((looks.q_proj, head), (looks.k_proj, shared))
    )
    query, key = apply_rotary_pos_emb(query[:, None], key[:, None], *turns)
    alike = (query @ key.transpose(-1, -2))[:, 0].float() * looks.scaling
    filled: Tensor = alike.masked_fill(~mask, torch.finfo(torch.float32).min).log_softmax(-1)
    return filled


def where_shown(
    stream: GeneratedStream, context: VisualContext, sought: Sequence[Sequence[ObjectVisit]]
) -> Tensor:
    """Bool ``(k, n)``: which tokens show any of the visits sought, k times."""
    _, rows, columns = context.positions.cpu().numpy()
    found = np.zeros((len(sought), len(rows)), bool)
    for number, visits in enumerate(sought):
        for visit in visits:
            for span in context.grids:
                here = slice(span.first, span.first + span.count)
                for t in {span.start_s, span.end_s}:
                    if visit.seen_at(t):
                        common = overlap(visit, t, rows[here], columns[here])
                        found[number, here] |= common >= SEEN
    return torch.from_numpy(found)


def visible(part: Tensor) -> Tensor:
    """``(B, L, L)`` bool: each token sees itself, what is shared, and its own question before it.

    Args:
        part: ``(B, L)`` 0 for what is shared, the number of a question, -1 for padding.
    """
    ours = part[:, None, :] == part[:, :, None]
    shared = (part[:, None, :] == 0) & (part[:, :, None] > 0)
    before = torch.ones(part.shape[1], part.shape[1], dtype=torch.bool, device=part.device).tril()
    return (ours | shared) & before


def hear(
    pupil: Pupil, readers: Readers, watches: Sequence[Watch], pool: Pool, place: float, look: float
) -> tuple[Tensor, dict[str, float]]:
    """The loss of some stretches of streams, and what it is made of.

    Args:
        pupil: learns.
        readers: tell places.
        watches: what is watched and asked.
        pool: has the streams' tokens.
        place: weight of rows and columns.
        look: weight of looking at what a question is about.

    Returns:
        The loss, and ``answers``, ``place``, ``look``, and the share of questions by group whose
        answer was right, whole and unaided word by word.
    """
    # Memories and tokens are in full precision, as users have them.
    with torch.autocast(pupil.device.type, enabled=False):
        rows = [
            pupil.row(context, asked, pool.stream(watch.stream))
            for watch in watches
            for context, asked in read_watch(pupil, watch, pool)
        ]
    # Rows of about one length go together: what fills up the shorter ones costs as much.
    rows.sort(key=lambda row: len(row.ids))
    groups = [rows[n : n + _TOGETHER] for n in range(0, len(rows), _TOGETHER)]
    heard = [pupil.hear(group) for group in groups]
    answers = _evenly(heard, groups)
    told = readers.places(torch.cat([one.early for one in heard])).float()
    places = torch.cat([row.places for row in rows], dim=1).to(told.device)
    lost = [
        F.cross_entropy(told[:, : readers.rows], places[0]),
        F.cross_entropy(told[:, readers.rows :], places[1]),
    ]
    placed, missed = torch.stack(lost).mean(), torch.cat([one.missed for one in heard])
    unfound = torch.cat([one.unfound for one in heard])
    unheard = torch.cat([one.unheard for one in heard])
    away, lost_names, deaf = (
        one.mean() if len(one) else answers * 0 for one in (missed, unfound, unheard)
    )
    said = {
        "answers": float(answers.detach()), "place": float(placed.detach()),
        "look": float(away.detach()), "find": float(lost_names.detach()),
        "hear": float(deaf.detach()),
    }  # fmt: skip
    return answers + place * placed + look * (away + lost_names + deaf), {
        **said,
        **_right(groups, heard),
    }


def _evenly(heard: Sequence[Heard], groups: Sequence[Sequence[Row]]) -> Tensor:
    """The loss of answers, as scores are counted: the mean over tasks, each as the others."""
    losses: dict[str, list[Tensor]] = {}
    for rows, one in zip(groups, heard, strict=True):
        lost = F.cross_entropy(one.guesses, one.labels, reduction="none")
        tasks = [rows[row].asked[number].task for row, number in one.owners.tolist()]
        for task in dict.fromkeys(tasks):
            here = torch.tensor([other == task for other in tasks], device=lost.device)
            losses.setdefault(task, []).append(lost[here])
    return torch.stack([torch.cat(parts).mean() for parts in losses.values()]).mean()


def _right(groups: Sequence[Sequence[Row]], heard: Sequence[Heard]) -> dict[str, float]:
    counts: dict[str, list[bool]] = {}
    for rows, one in zip(groups, heard, strict=True):
        hits = (one.guesses.argmax(-1) == one.labels).tolist()
        whole: dict[tuple[int, int], bool] = {}
        for hit, (row, number) in zip(hits, one.owners.tolist(), strict=True):
            whole[row, number] = whole.get((row, number), True) and hit
        for (row, number), right in whole.items():
            counts.setdefault(GROUP_OF[rows[row].asked[number].task], []).append(right)
    return {f"hit_{group}": float(np.mean(counts[group])) for group in sorted(counts)}
