"""What the miniature is asked: streams, moments, memories and questions, all from chance numbers.

Streams of training have seeds from ``TRAIN_SEEDS`` on; those of checks lie below, and those of the
generated benchmark far below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vision_mem.evaluation.videoqa.datasets.ovobench import GROUPS
from vision_mem.models.vlm.option_scores import in_words
from vision_mem.models.vlm.protocol import Question
from vision_mem.synthetic.qa_questions import CHOICES, StreamQuestion, ask_at
from vision_mem.synthetic.qa_streams import GeneratedStream, ObjectVisit, StreamSettings

CHECK_SEEDS, TRAIN_SEEDS = 5_000_000, 10_000_000
CROWDED = 10_000_000
"""Streams of training from this number on are crowded, see ``stream_of``."""
SECONDS = 64
REALTIME = GROUPS["realtime"]
GROUP_OF = {task: group for group, tasks in GROUPS.items() for task in tasks}

MEMORIES = {
    "default": 0.3, "similarity-only": 0.15, "uniform": 0.2, "fifo": 0.15, "recent-only": 0.05,
    "full": 0.15,
}  # fmt: skip
"""Memories that streams are remembered by, and how often: the miniature is to know all of them."""
_FULL_S = 18  # a memory that keeps everything is asked about so many seconds, for the time it takes
_BUDGETS = (96, 420)  # tokens
_GRIDS = 4  # of a short stretch, at most


@dataclass(frozen=True)
class Watch:
    """A stretch of a stream, how it is remembered, and what is asked.

    Attributes:
        stream: number of the stream.
        first: grid that it begins with.
        preset: of the memory.
        budget: tokens of memory.
        moments: seconds, and questions then.
    """

    stream: int
    first: int
    preset: str
    budget: int
    moments: tuple[tuple[int, tuple[StreamQuestion, ...]], ...]


def stream_of(seed: int) -> GeneratedStream:
    """A stream as the benchmark has them; or a crowded one, for training alone.

    In most streams of the benchmark one or two shapes are in view: who names any colour that is to
    be seen is right four times of five, and learns no better. In crowded ones there are up to five.
    """
    usual = StreamSettings(seed=seed, seconds=SECONDS)
    if seed < TRAIN_SEEDS + CROWDED:
        return GeneratedStream(usual)
    crowd = replace(usual, objects=5, longest=10, moving=0.3, cutouts=False, cards=seed % 4 == 0)
    return GeneratedStream(crowd)


def make_now(number: int, stream: GeneratedStream, rng: np.random.Generator, asked: int) -> Watch:
    """The last grids before a moment, all kept, and questions about then.

    Args:
        number: of the stream.
        stream: itself.
        rng: decides everything.
        asked: questions, at most.
    """
    quiet = [t for t in range(1, SECONDS) if stream.is_quiet(t)]
    for _ in range(20):  # what is empty teaches little
        now = int(rng.choice(quiet))
        if stream.seen_at(now):
            break
    first = max(0, now // 2 + 1 - int(rng.integers(1, _GRIDS + 1)))
    questions = choices_at(stream, now, rng, REALTIME, passes=3, most=asked)
    return Watch(number, first, "full", 1, ((now, questions),))


def make_watch(
    number: int, stream: GeneratedStream, rng: np.random.Generator, asked: int, moments: int
) -> Watch:
    """A stream from its beginning, through some memory, with questions about now and before.

    Args:
        number: of the stream.
        stream: itself.
        rng: decides everything.
        asked: questions at a moment, at most.
        moments: how many.
    """
    preset = str(rng.choice(list(MEMORIES), p=list(MEMORIES.values())))
    last = _FULL_S if preset == "full" else SECONDS
    quiet = [t for t in range(6, last) if stream.is_quiet(t)]
    times = sorted(rng.choice(quiet, moments, replace=False).tolist())
    low, high = np.log(_BUDGETS)
    budget = round(float(np.exp(rng.uniform(low, high))))
    found = tuple((t, choices_at(stream, t, rng, CHOICES, passes=2, most=asked)) for t in times)
    return Watch(number, 0, preset, budget, found)


def choices_at(
    stream: GeneratedStream,
    now: int,
    rng: np.random.Generator,
    tasks: tuple[str, ...],
    *,
    passes: int,
    most: int,
) -> tuple[StreamQuestion, ...]:
    """Some of the benchmark's questions at a moment, none twice.

    Args:
        stream: asked about.
        now: seconds.
        rng: chooses.
        tasks: words of those wanted.
        passes: times that each template is asked.
        most: questions, at most.
    """
    found: dict[str, StreamQuestion] = {}
    for _ in range(passes):
        for one in ask_at(stream, float(now), rng, tasks):
            found.setdefault(text_of(one), one)
    every = list(found.values())
    return tuple(every[n] for n in rng.permutation(len(every))[:most])


def text_of(one: StreamQuestion) -> str:
    """How a question is put."""
    return in_words(Question(one.text, one.options)).text


def subjects(stream: GeneratedStream, one: StreamQuestion) -> list[ObjectVisit]:
    """What is to be looked at for a question: visits of the object named by answer or question.

    None for questions about no one object.
    """
    past = [visit for visit in stream.visits if visit.start_s <= one.time_s]
    if one.task in REALTIME:
        past = [visit for visit in past if visit.seen_at(one.time_s)]
    words = f" {one.text.rstrip('?')} "
    answer = one.options[one.right]
    for found in (
        [visit for visit in past if visit.name == answer],
        [visit for visit in past if f" {visit.name} " in words],
        [visit for visit in past if f" {visit.kind} " in words],
    ):
        if found:
            return found
    return []


def options_shown(stream: GeneratedStream, one: StreamQuestion) -> dict[str, list[ObjectVisit]]:
    """Visits so far of each object that a question itself names as an option; seen or not."""
    if text_of(one) == one.text:
        return {}
    past = [visit for visit in stream.visits if visit.start_s <= one.time_s]
    return {name: [visit for visit in past if visit.name == name] for name in one.options}
