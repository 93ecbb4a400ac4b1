"""Questions about generated streams, with right answers, in the tasks of OVO-Bench.

``TEMPLATES`` has the questions with options. Of the others, REC asks how many times a thing was
shown, SSR whether showing it is being carried out, both at several moments, and CRR whether what
was seen is enough to say a colour, before and after it is.

Choices have up to four options in random order. They are asked at whole seconds at which nothing
has changed for 1.5 s, and only where there is one right answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vision_mem.errors import InputError
from vision_mem.synthetic.qa_streams import (
    BACKGROUNDS,
    CARD,
    COLOURS,
    MOTIONS,
    OBJECTS,
    PLACES,
    SHAPES,
    STILL,
    GeneratedStream,
    ObjectVisit,
)

UNABLE = "Unable to answer"
OPTIONS = 4
"""Of a question, at most."""
_NEXT = {
    "moving left": "further to the left", "moving right": "further to the right",
    "moving up": "further up", "moving down": "further down",
}  # fmt: skip
_MOST_COUNTED = 5

Random = np.random.Generator
Found = tuple[str, str, Sequence[str]]
"""Question, right answer, wrong ones; the right one may be among them."""


Template = Callable[[GeneratedStream, float, Random], Found | None]
_Fits = Callable[[ObjectVisit], bool]
_DIGITS = [str(digit) for digit in range(10)]


def _about(
    text: str, right: str, wrong: Iterable[str], fits: _Fits, *, before: bool = False
) -> Template:
    """A question about one thing that is there, or ``before`` was: then half offer not to answer.

    ``right`` is the attribute of ``ObjectVisit`` that is the answer, ``fits`` says which things it
    can be asked about.
    """

    def template(stream: GeneratedStream, t: float, random: Random) -> Found | None:
        some = _gone(stream, t) if before else stream.seen_at(t)
        visit = choose_visit([each for each in some if fits(each)], random)
        if visit is None:
            return None
        asked = text.format(name=visit.name, kind=visit.kind)
        return asked, getattr(visit, right), _unable(random, wrong) if before else list(wrong)

    return template


def _is_card(visit: ObjectVisit) -> bool:
    return visit.kind == CARD


def _is_shape(visit: ObjectVisit) -> bool:
    return visit.kind in SHAPES


def _stays(visit: ObjectVisit) -> bool:
    return visit.motion == STILL


def _next_now(stream: GeneratedStream, t: float, random: Random) -> Found | None:
    visit = choose_visit([v for v in stream.seen_at(t) if not _stays(v)], random)
    if visit is None:
        return None
    text = f"If the {visit.name} goes on like this, where will it be next?"
    return text, _NEXT[visit.motion], list(_NEXT.values())


def _object_now(stream: GeneratedStream, t: float, random: Random) -> Found | None:
    visit = choose_visit([v for v in stream.seen_at(t) if _stays(v)], random)
    if visit is None:
        return None
    wrong = [*(v.name for v in stream.seen_at(t)), *_names(stream, random)[: OPTIONS - 1]]
    return f"What is at the {visit.place} now?", visit.name, wrong


def _count_now(stream: GeneratedStream, t: float, random: Random) -> Found | None:
    counts = [str(n) for n in range(_MOST_COUNTED + 1)]
    return "How many objects are to be seen now?", str(len(stream.seen_at(t))), counts


def _background_now(stream: GeneratedStream, t: float, random: Random) -> Found | None:
    return "What is the background now?", stream.scene_at(t), list(BACKGROUNDS)


def _past(stream: GeneratedStream, t: float) -> list[ObjectVisit]:
    return [visit for visit in stream.visits if visit.start_s <= t]


def _gone(stream: GeneratedStream, t: float) -> list[ObjectVisit]:
    """Visits of kinds that are not there now, one a kind and all alike: of one mark."""
    past = _past(stream, t)
    here = {visit.kind for visit in stream.seen_at(t)}
    found = []
    for kind in dict.fromkeys(visit.kind for visit in past):
        some = [visit for visit in past if visit.kind == kind]
        if kind not in here and len({visit.mark for visit in some}) == 1:
            found.append(some[-1])
    return found


def _unable(random: Random, options: Iterable[str]) -> list[str]:
    """Half of the questions that can be answered offer not to."""
    return [*([UNABLE] if random.random() < 0.5 else []), *options]


def _place_before(stream: GeneratedStream, t: float, random: Random) -> Found | None:
    names = [visit.name for visit in _past(stream, t)]
    once = [v for v in _gone(stream, t) if _stays(v) and names.count(v.name) == 1]
    visit = choose_visit(once, random)
    if visit is None:
        return None
    text = f"Where was the {visit.name} that was seen earlier?"
    return text, visit.place, _unable(random, PLACES)


def _which_before(stream: GeneratedStream, t: float, random: Random) -> Found | None:
    visit = choose_visit(_gone(stream, t), random)
    met = {v.name for v in _past(stream, t)}
    never = [name for name in _names(stream, random) if name not in met]
    if visit is None:
        return None
    wrong = [*(v.name for v in stream.seen_at(t)), *never[:OPTIONS]]
    return "Which of these was seen earlier and is gone now?", visit.name, wrong


def _background_before(stream: GeneratedStream, t: float, random: Random) -> Found | None:
    some = []
    for gone in _gone(stream, t):
        spans = [v for v in _past(stream, t) if v.name == gone.name]
        ends = [end for v in spans for end in (v.start_s, v.end_s - 0.5)]
        some += [gone] if len({stream.scene_at(end) for end in ends}) == 1 else []
    visit = choose_visit(some, random)
    if visit is None:
        return None
    text = f"What was the background when the {visit.name} was to be seen?"
    return text, stream.scene_at(visit.start_s), list(BACKGROUNDS)


def _order(stream: GeneratedStream, t: float) -> list[ObjectVisit]:
    """What came alone on its beat for the only time so far, in that order."""
    past = _past(stream, t)
    names = [visit.name for visit in past]
    starts = [visit.start_s for visit in past]
    return [v for v in past if names.count(v.name) == 1 and starts.count(v.start_s) == 1]


def _extreme(word: str, place: int) -> Template:
    def template(stream: GeneratedStream, t: float, random: Random) -> Found | None:
        alone = _order(stream, t)
        if len(alone) < 2:
            return None
        number = min(OPTIONS, len(alone))
        names = [alone[n].name for n in sorted(random.choice(len(alone), number, replace=False))]
        return f"Which of these came into view {word}?", names[place], names

    return template


def _after(stream: GeneratedStream, t: float, random: Random) -> Found | None:
    past, alone = _past(stream, t), _order(stream, t)
    pairs = [(one, two) for one, two in pairwise(past) if one in alone and two in alone]
    if not pairs:
        return None
    one, two = pairs[int(random.integers(len(pairs)))]
    others = [v.name for v in past if v.name not in (one.name, two.name)]
    never = [name for name in _names(stream, random) if name != one.name]
    wrong = [*others, *never][:OPTIONS]
    return f"What came into view next after the {one.name}?", two.name, wrong


_COLOUR_BEFORE = "What colour was the {kind} that was seen earlier?"


def _never(stream: GeneratedStream, t: float, random: Random) -> Found | None:
    """Something that is not known: a shape or an object that was never seen."""
    met = {visit.kind for visit in _past(stream, t)}
    shapes = [kind for kind in SHAPES if kind not in met]
    objects = [kind for kind in OBJECTS if kind not in met]
    if shapes and (not objects or random.random() < 0.5):
        return _COLOUR_BEFORE.format(kind=random.choice(shapes)), UNABLE, list(COLOURS)
    if not objects:
        return None
    return f"Where was the {random.choice(objects)} that was seen earlier?", UNABLE, PLACES


def choose_visit(visits: Sequence[ObjectVisit], random: Random) -> ObjectVisit | None:
    """One of them by chance; None of none."""
    return visits[int(random.integers(len(visits)))] if visits else None


def _names(stream: GeneratedStream, random: Random) -> list[str]:
    """Names of things that might be seen in this stream, in random order."""
    shapes = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    names = [*shapes, *(OBJECTS if stream.settings.cutouts else ())]
    chosen: list[str] = random.permutation(names).tolist()
    return chosen


def with_article(name: str) -> str:
    """``a cup``, ``an orange ring``."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


TEMPLATES: Mapping[str, tuple[Template, ...]] = {
    "OCR": (_about("What digit is on the card now?", "mark", _DIGITS, _is_card),),
    "ACR": (_about("What is the {name} doing now?", "motion", MOTIONS, lambda visit: True),),
    "ATR": (_about("What colour is the {kind} now?", "mark", COLOURS, _is_shape),),
    "STU": (_about("Where is the {name} now?", "place", PLACES, _stays),),
    "FPD": (_next_now,),
    "OJR": (_object_now, _count_now, _background_now),
    "EPM": (
        _about(_COLOUR_BEFORE, "mark", COLOURS, _is_shape, before=True),
        _place_before,
        _about("What digit was on the card that was seen earlier?", "mark", _DIGITS, _is_card,
               before=True),
        _which_before,
        _background_before,
    ),
    "ASI": (_extreme("first", 0), _extreme("last", -1), _after),
    "HLD": (_never,),
}  # fmt: skip


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
    """A set of questions about one stream, in the order of their tasks (None: all).

    ``seed`` is that of what is asked; of tasks with options there are ``per_task`` questions at
    most, of each forward task there is one.
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
    first: dict[str, ObjectVisit] = {}
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
