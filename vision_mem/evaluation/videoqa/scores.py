"""How many answers are right, by task, by group of tasks, and over all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from vision_mem.errors import InputError
from vision_mem.evaluation.scores import BenchmarkScore, Curve, SequenceScore
from vision_mem.evaluation.videoqa import answer_rules
from vision_mem.evaluation.videoqa.datasets.open import set_of
from vision_mem.evaluation.videoqa.records import OUTPUT, Query, Reply, VideoQaBenchmark
from vision_mem.evaluation.videoqa.results import VideoQaResults
from vision_mem.runs.tally import count

OFFICIAL, STRICT = "official", "strict"
_PER_ITEM = "per item"
_PLOTTED_LEAST = 20  # questions that a point of the curve rests on, at least
_POINTS = 50

NAN = float("nan")


@dataclass(frozen=True)
class Mark:
    """What one reply is worth.

    Attributes:
        task, group, item: see ``Query``.
        official: right by the rules of the set's own scorer; None when it does not count there.
        strict: right by the strict rules; None when it does not count there.
        null: nothing was replied.
        time_s: when it was asked, where that is known.
    """

    task: str
    group: str
    item: str
    official: bool | None
    strict: bool | None
    null: bool = False
    time_s: float | None = None

    def by(self, rule: str) -> bool | None:
        """Right by ``official`` or ``strict`` rules."""
        return self.strict if rule == STRICT else self.official


def share(marks: Iterable[Mark], rule: str) -> float:
    """Share of right answers among those that count; NaN when none does."""
    found = [value for mark in marks if (value := mark.by(rule)) is not None]
    return sum(found) / len(found) if found else NAN


def share_per_item(marks: Iterable[Mark], rule: str) -> float:
    """Mean over items of their shares: an item asked at many moments weighs as much as others."""
    items: dict[str, list[Mark]] = {}
    for mark in marks:
        items.setdefault(mark.item, []).append(mark)
    return _mean(share(some, rule) for some in items.values())


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else NAN


@dataclass(frozen=True)
class VideoQaScore(BenchmarkScore):
    """A model on a set of questions. A ``sequence`` is a question, an ``attribute`` its task.

    Attributes:
        marks: all replies, and what was not replied to.
        groups: of tasks, those over which ``overall`` is taken.
        pooled: see ``VideoQaSet``.
        rule: ``official`` or ``strict``: what the numbers are by; one column has the other's.
    """

    unit: ClassVar[str] = "question"
    trait: ClassVar[str] = "task"
    entrant: ClassVar[str] = "model"

    marks: tuple[Mark, ...]
    groups: tuple[str, ...]
    pooled: bool
    rule: str

    def summary(self) -> dict[str, float]:
        """Overall, by group, all questions alike, and overall by the other rules."""
        other = OFFICIAL if self.rule == STRICT else STRICT
        groups = {name: self.group(name, self.rule) for name in self.groups}
        found = {"overall": self.overall(self.rule), **groups}
        if not self.pooled:
            # Papers on memory leave the forward tasks out.
            if {"realtime", "backward"} <= set(groups):
                found["rt+bt"] = (groups["realtime"] + groups["backward"]) / 2
            found["all questions"] = share(self.marks, self.rule)
        return found | {other: self.overall(other)}

    def overall(self, rule: str) -> float:
        """All questions alike, or the mean of the groups; NaN when a group is not there."""
        if self.pooled:
            return share(self.marks, rule)
        return float(np.mean([self.group(name, rule) for name in self.groups]))

    def group(self, name: str, rule: str) -> float:
        """A group: its questions alike, or the mean of its tasks that are there."""
        tasks = self._by_task(mark for mark in self.marks if mark.group == name)
        if self.pooled:
            return share((mark for some in tasks.values() for mark in some), rule)
        return _mean(share(some, rule) for some in tasks.values())

    def by_attribute(self) -> dict[str, tuple[int, dict[str, float]]]:
        """Questions and numbers of each task: those of ``summary`` that a task has, and counts."""
        other = OFFICIAL if self.rule == STRICT else STRICT
        found = {}
        tasks = [task for group in set_of(self.benchmark).groups.values() for task in group]
        order = {task: number for number, task in enumerate(tasks)}
        ordered = sorted(self.marks, key=lambda mark: order.get(mark.task, len(order)))
        for task, some in self._by_task(ordered).items():
            counted = [value for mark in some if (value := mark.by(self.rule)) is not None]
            found[task] = (
                len(counted),
                {
                    "overall": share(some, self.rule),
                    other: share(some, other),
                    _PER_ITEM: share_per_item(some, self.rule),
                    "correct": float(sum(counted)),
                    "nulls": float(sum(mark.null for mark in some)),
                },
            )
        return found

    def curves(self) -> dict[str, Curve]:
        """Right answers over how late they were asked, where times are known."""
        timed = [
            (mark.time_s, value)
            for mark in self.marks
            if mark.time_s is not None and (value := mark.by(self.rule)) is not None
        ]
        if len(timed) < 2 * _PLOTTED_LEAST:
            return {}
        timed.sort()
        times = np.array([time for time, _ in timed])
        correct = np.array([float(value) for _, value in timed])
        remaining = np.arange(len(times), 0, -1)
        later = np.cumsum(correct[::-1])[::-1] / remaining
        x = np.linspace(0.0, times[-_PLOTTED_LEAST], _POINTS)
        if not x[-1] > 0:
            return {}
        y = later[np.searchsorted(times, x, side="left")]
        return {"Accuracy": Curve(x, y, float(correct.mean()))}

    def _by_task(self, marks: Iterable[Mark]) -> dict[str, list[Mark]]:
        found: dict[str, list[Mark]] = {}
        for mark in marks:
            found.setdefault(mark.task, []).append(mark)
        return found


def score_answers(
    benchmark: VideoQaBenchmark,
    results: VideoQaResults,
    *,
    strict: bool = False,
    on_sequence: Callable[[str], None] = lambda name: None,
) -> VideoQaScore:
    """Score the answers of one model; ``on_sequence`` is called with the name of each question.

    By the official rules, everything that stands in the result files counts, against the truth
    stored with it. By the strict ones, each question counts once, with its last answer; where the
    annotations are known their truth counts, and questions without an answer are wrong.

    Raises:
        InputError: when a file is damaged or there is no answer at all.
    """
    kind = set_of(benchmark.key)
    replies = results.read()
    if not replies:
        raise InputError(f"{results.path} holds no answer to a question of {benchmark.title}")
    rule = STRICT if strict else OFFICIAL
    known = {query.name: query for query in benchmark.queries}
    # An answer that fits no question of the annotations is none to the strict rules.
    last = {
        reply.name: place
        for place, reply in enumerate(replies)
        if not known or _fits(reply, known.get(reply.name))
    }
    named: list[tuple[str, Mark]] = []
    for place, reply in enumerate(replies):
        query = known.get(reply.name)
        counts = last.get(reply.name) == place
        truth = reply if query is None else replace(reply, truth=query.truth)
        mark = Mark(
            reply.task, reply.group, reply.item, kind.official(reply),
            answer_rules.strict(truth) if counts else None, reply.response is None,
            None if query is None else query.time_s,
        )  # fmt: skip
        named.append((reply.name, mark))
        on_sequence(reply.name)
    missing = tuple(name for name in known if name not in last)
    for name in missing:
        query = known[name]
        lost = Mark(query.task, query.group, query.item, None, False, True, query.time_s)
        named.append((name, lost))
    if not any(mark.by(rule) is not None for _, mark in named):
        raise InputError(f"{results.path}: no answer counts by the {rule} rules")
    marks = tuple(mark for _, mark in named)
    counted = replies if rule == OFFICIAL else [replies[place] for place in sorted(last.values())]
    notes = _notes(benchmark, replies, counted, known, rule)
    return VideoQaScore(
        benchmark.key, benchmark.title, "questions", results.name, _questions(named, rule),
        missing, tuple(notes), marks, _groups(benchmark, marks),
        kind.pooled, rule,
    )  # fmt: skip


def _groups(benchmark: VideoQaBenchmark, marks: Iterable[Mark]) -> tuple[str, ...]:
    """What ``overall`` is taken over.

    All groups of a set whose groups weigh alike, there or not, less those that nobody wants; of
    the other sets those that are there.
    """
    kind = set_of(benchmark.key)
    here = dict.fromkeys(mark.group for mark in marks)
    if kind.pooled:
        return tuple(sorted(here, key=[*kind.groups, *here].index))
    return tuple(
        name for name, tasks in kind.groups.items() if any(benchmark.wants(task) for task in tasks)
    )


def _fits(reply: Reply, query: Query | None) -> bool:
    return query is not None and reply.task == query.task


def _questions(named: list[tuple[str, Mark]], rule: str) -> tuple[SequenceScore, ...]:
    """What counts, one by one, each under a name of its own."""
    met: Counter[str] = Counter()
    found = []
    for name, mark in named:
        value = mark.by(rule)
        if value is None:
            continue
        met[name] += 1
        own = name if met[name] == 1 else f"{name} ({met[name]})"
        found.append(SequenceScore(own, {"overall": float(value)}, (mark.task,), 1, mark))
    # In an order that does not depend on how the answers are spread over files.
    return tuple(sorted(found, key=lambda each: (len(each.name), each.name)))


def _notes(
    benchmark: VideoQaBenchmark,
    replies: list[Reply],
    counted: list[Reply],
    known: Mapping[str, Query],
    rule: str,
) -> list[str]:
    """What is to be known of the numbers; ``counted``: the replies that they are made from."""
    notes = []
    kind = set_of(benchmark.key)
    official = rule == OFFICIAL
    if sum(reply.listed for reply in replies):
        notes.append(
            "answers are lists; the first element of each counts"
            + ("" if kind.pooled else " (OVO-Bench's own script stops at them)")
        )
    left_out = kind.official(replace(replies[0], response=None)) is None
    nulls = sum(reply.response is None or (left_out and not reply.response) for reply in counted)
    if nulls:
        how = "left out, as by the official scorer" if left_out and official else "wrong"
        notes.append(f"{count(nulls, 'question')} without an answer: {how}")
    spoken = [reply for reply in counted if reply.kind == OUTPUT and reply.response is not None]
    if spoken:
        in_time = sum(answer_rules.is_in_time(reply) for reply in spoken)
        notes.append(f"{in_time} of {count(len(spoken), 'output')} came in time, right or wrong")
    twice = len(replies) - len({reply.name for reply in replies})
    if twice:
        how = "each counts, as in the official scorer" if official else "the last one counts"
        notes.append(f"{count(twice, 'question')} answered again: {how}")
    if known:
        strange = sum(not _fits(reply, known.get(reply.name)) for reply in replies)
        if strange:
            how = "counted, as by the official scorer" if official else "left out"
            notes.append(f"{count(strange, 'answer')} to no question of the annotations: {how}")
        other = sum(
            known[reply.name].truth != reply.truth for reply in counted if reply.name in known
        )
        if other:
            whose = "that of the result file counts" if official else "the annotations count"
            notes.append(
                f"the truth of {count(other, 'question')} is not that of the annotations: {whose}"
            )
        there = {reply.name for reply in replies if official or _fits(reply, known.get(reply.name))}
        if lost := len(set(known) - there):
            how = "left out, as by the official scorer; --strict takes them as wrong"
            how = how if official else "wrong"
            notes.append(f"{count(lost, 'question')} not in the results: {how}")
    answered = {reply.task for reply in replies}
    asked = {query.task for query in known.values()}
    absent = [
        task
        for tasks in kind.groups.values()
        for task in tasks
        if benchmark.wants(task) and task not in answered and (not asked or task in asked)
    ]
    if absent and not kind.pooled:
        how = "a group is the mean of the tasks it has" if official or not known else "wrong"
        notes.append(f"no answers to {', '.join(absent)}: {how}")
    return notes
