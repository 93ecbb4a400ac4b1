"""Questions about generated streams, with right answers, in the tasks of OVO-Bench.

========  =========================================================================================
task      question
========  =========================================================================================
OCR       What digit is on the card now?
ACR       What is the NAME doing now?
ATR       What colour is the SHAPE now?
STU       Where is the NAME now?
FPD       If the NAME goes on like this, where will it be next? (of what moves)
OJR       What is at the PLACE now? How many objects are to be seen now? What is the background now?
EPM       What colour was the SHAPE / where was the NAME / what digit was on the card that was seen
          earlier? Which of these was seen earlier and is gone now? What was the background when the
          NAME was to be seen?
ASI       Which of these came into view first / last? What came into view next after the NAME?
HLD       What colour was the SHAPE / where was the NAME that was seen earlier? (it never was)
REC       How many times did they show a NAME? at several moments
SSR       Is "show a NAME" being carried out? at several moments
CRR       Is what was seen enough to say what colour the SHAPE is? before and after it appears
========  =========================================================================================

Choices have up to four options in random order. They are asked at whole seconds at which nothing
has changed for 1.5 s, and only where there is one right answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vision_mem.errors import InputError
from vision_mem.synthetic.qa_streams import SHAPES, GeneratedStream, Visit
from vision_mem.synthetic.qa_templates import (
    OPTIONS,
    TEMPLATES,
    UNABLE,
    Random,
    choose_visit,
    with_article,
)

_MOMENTS = 6  # at which a forward question is asked


@dataclass(frozen=True)
class StreamQuestion:
    """A question with options at one moment.

    Attributes:
        task: see the module.
        time_s: when it is asked; what comes later is not known yet.
        text: the question.
        options: to choose from.
        right: number of the right one.
        since_s: seconds since what it is about was last seen; 0 when that is now, or never was.
    """

    task: str
    time_s: float
    text: str
    options: tuple[str, ...]
    right: int
    since_s: float = 0.0


@dataclass(frozen=True)
class StreamMoments:
    """A question that is asked again and again, and whose answer changes.

    Attributes:
        task: ``REC``, ``SSR`` or ``CRR``.
        subject: of REC what is done, of CRR the question; of SSR what is shown.
        answer: of CRR.
        moments: time, and what holds then: the count of REC, else 1 for yes and 0 for no.
        steps: of SSR, the step that each moment asks for.
        clue_s: of CRR, from when on it can be answered.
    """

    task: str
    subject: str
    answer: str
    moments: tuple[tuple[float, int], ...]
    steps: tuple[str, ...] = ()
    clue_s: float = 0.0


def ask_at(
    stream: GeneratedStream,
    time_s: float,
    random: Random,
    tasks: Iterable[str] | None = None,
) -> list[StreamQuestion]:
    """All that can be asked with options at a moment, one question of each template.

    Args:
        stream: asked about.
        time_s: a whole second; nothing is asked where something has just changed.
        random: chooses what is asked for, and the order of options.
        tasks: words of those wanted; None for all.

    Raises:
        InputError: for a task there is not.
    """
    wanted = CHOICES if tasks is None else tuple(tasks)
    if unknown := [task for task in wanted if task not in CHOICES]:
        raise InputError(f"no task {unknown[0]!r}; expected some of {', '.join(CHOICES)}")
    if not stream.is_quiet(time_s):
        return []
    found = []
    for task in wanted:
        for template in TEMPLATES[task]:
            made = template(stream, time_s, random)
            if made is None:
                continue
            text, right, wrong = made
            others = list(dict.fromkeys(option for option in wrong if option != right))
            random.shuffle(others)
            others.sort(key=lambda option: option != UNABLE)  # where it is offered, it stays
            others = others[: OPTIONS - 1]
            if not others:
                continue
            place = int(random.integers(len(others) + 1))
            options = (*others[:place], right, *others[place:])
            since = _since(stream, time_s, text, right) if task in ("EPM", "ASI") else 0.0
            found.append(StreamQuestion(task, time_s, text, options, place, since))
    return found


def ask_stream(
    stream: GeneratedStream,
    seed: int = 0,
    *,
    per_task: int = 2,
    tasks: Sequence[str] | None = None,
) -> list[StreamQuestion | StreamMoments]:
    """A set of questions about one stream, in the order of their tasks.

    Args:
        stream: asked about.
        seed: of what is asked.
        per_task: questions with options of each task, at most; of each forward task there is one.
        tasks: words of those wanted; None for all.
    """
    random = np.random.default_rng((stream.settings.seed, seed, 1))
    wanted = (*CHOICES, *FORWARD) if tasks is None else tuple(tasks)
    times = [float(t) for t in range(2, stream.settings.seconds) if stream.is_quiet(t)]
    found: list[StreamQuestion | StreamMoments] = []
    for task in wanted:
        if task in FORWARD:
            moments = FORWARD[task](stream, times, random)
            found += [moments] if moments is not None else []
            continue
        some: list[StreamQuestion] = []
        for time_s in random.permutation(times).tolist():
            if len(some) >= per_task:
                break
            # One of a moment: templates of a task take turns.
            here = ask_at(stream, time_s, random, [task])
            some += [here[int(random.integers(len(here)))]] if here else []
        some.sort(key=lambda question: question.time_s)
        found += some
    return found


def _repeated(stream: GeneratedStream, times: Sequence[float], r: Random) -> StreamMoments | None:
    names = [visit.name for visit in stream.visits]
    if not names:
        return None
    name = str(r.choice(names))  # what comes back is asked for more often
    counts = [
        (t, sum(v.name == name and v.start_s <= t for v in stream.visits))
        for t in _spread(times, r)
    ]
    return StreamMoments("REC", f"show {with_article(name)}", "", tuple(counts))


def _shown(stream: GeneratedStream, times: Sequence[float], r: Random) -> StreamMoments | None:
    names = list(dict.fromkeys(visit.name for visit in stream.visits))
    if len(names) < 2:
        return None
    moments, steps = [], []
    for t in _spread(times, r):
        here = [visit.name for visit in stream.seen_at(t)]
        away = [name for name in names if name not in here]
        yes = bool(here) and (not away or r.random() < 0.5)
        steps.append(f"show {with_article(str(r.choice(here if yes else away)))}")
        moments.append((t, int(yes)))
    return StreamMoments("SSR", "showing objects", "", tuple(moments), tuple(steps))


def _revealed(stream: GeneratedStream, times: Sequence[float], r: Random) -> StreamMoments | None:
    first: dict[str, Visit] = {}
    for visit in stream.visits:
        first.setdefault(visit.kind, visit)
    some = [v for k, v in first.items() if k in SHAPES and v.start_s > times[0]]
    chosen = choose_visit(some, r)
    if chosen is None:
        return None
    before = [t for t in times if t < chosen.start_s]
    after = [t for t in times if t > chosen.start_s]
    half = _MOMENTS // 2
    asked = [*_spread(before, r, half), *_spread(after, r, half)]
    moments = tuple((t, int(t >= chosen.start_s)) for t in asked)
    text = f"What colour is the {chosen.kind}?"
    return StreamMoments("CRR", text, chosen.mark, moments, clue_s=chosen.start_s)


def _spread(times: Sequence[float], random: Random, most: int = _MOMENTS) -> list[float]:
    number = min(most, len(times))
    if not number:
        return []
    return sorted(float(t) for t in random.choice(list(times), number, replace=False))


def _since(stream: GeneratedStream, t: float, text: str, right: str) -> float:
    """Seconds since what a question is about was last seen."""
    ends = [
        min(visit.end_s, t)
        for visit in stream.visits
        if visit.start_s <= t
        and (f" {visit.kind} " in f"{text} ".replace("?", " ") or visit.name == right)
    ]
    return round(t - max(ends), 3) if ends else 0.0


CHOICES = tuple(TEMPLATES)
"""Tasks with options."""
FORWARD: Mapping[
    str, Callable[[GeneratedStream, Sequence[float], Random], StreamMoments | None]
] = {
    "REC": _repeated,
    "SSR": _shown,
    "CRR": _revealed,
}
"""Tasks that are asked at several moments."""
