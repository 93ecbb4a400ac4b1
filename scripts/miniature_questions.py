"""What the miniature is taught: streams, moments, questions, and what is where in each grid.

``make_clip`` makes everything of one clip from numbers drawn by chance; no network is needed, so
worker processes do it. Streams of training have seeds from ``TRAIN_SEEDS`` on; those of checks lie
below, and those of the generated benchmark far below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vision_mem.evaluation.videoqa.ovobench import GROUPS, queries_of
from vision_mem.evaluation.videoqa.prompts import LETTER_ONLY
from vision_mem.evaluation.videoqa.records import CHOICE, Query
from vision_mem.models.videoqa_protocols import Question
from vision_mem.streamfiles import entries_of
from vision_mem.streamquestions import StreamMoments, StreamQuestion, ask_at, ask_stream
from vision_mem.streams import (
    BACKGROUNDS,
    CARD,
    COLOURS,
    OBJECTS,
    PLACES,
    SHAPES,
    STILL,
    GeneratedStream,
    StreamSettings,
    Visit,
)

CHECK_SEEDS, TRAIN_SEEDS = 5_000_000, 10_000_000
REALTIME = GROUPS["realtime"]
IN_WORDS = "Answer in a few words."
CELL = 28  # pixels a token
_PRACTICE = "Which of these is {}?"
_ONLY_CHOICES = "Which of these"  # questions that mean nothing without their options

NAMES = (
    *BACKGROUNDS,
    *(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES),
    *OBJECTS,
    *(f"{CARD} with a {digit}" for digit in range(10)),
)
"""All that a token may show."""
NOTHING_KNOWN = -1
_SINGLE = (*COLOURS, *SHAPES, *OBJECTS)  # words: easier to tell apart than names of two


@dataclass(frozen=True)
class Asked:
    """A question and its answer.

    Attributes:
        question: as a model gets it.
        answer: what it is to say.
        task: of OVO-Bench, or ``practice``, which can be answered without looking.
        form: ``letter``, ``words``, or ``other`` (a number, Yes or No).
    """

    question: Question
    answer: str
    task: str
    form: str


@dataclass
class Clip:
    """Frames, and questions after some of them.

    Attributes:
        images: ``(T, H, W, 3)`` uint8 RGB.
        times_s: of the frames.
        grids: frames of each grid that is encoded: pairs, and single ones that are asked about
            before their partner comes.
        shown: ``(grids, tokens)`` number in ``NAMES`` of what a token shows, or ``NOTHING_KNOWN``.
        taught: grids through which the vision tower learns.
        moments: how many frames were seen, and what is asked then.
        budget: tokens of memory; None to keep everything.
    """

    images: NDArray[np.uint8]
    times_s: list[float]
    grids: list[tuple[int, ...]]
    shown: NDArray[np.int64]
    taught: list[int]
    moments: list[tuple[int, list[Asked]]]
    budget: int | None


@dataclass(frozen=True)
class Wanted:
    """What a clip is to be.

    Attributes:
        remembered: a stream from its beginning, through a memory; else a few frames, all kept.
        frames: of a short clip, at most; a multiple of 2.
        seconds: of a remembered stream, at most.
        moments: at which a remembered stream is asked.
        asked: questions at a moment, at most.
        letters: share of the choices that are asked for a letter; the others for words.
        taught: grids of a remembered stream through which the vision tower learns.
        budgets: tokens of memory, least and most.
        tasks: of short clips.
        practice: questions at a moment that can be answered without looking.
    """

    remembered: bool = False
    frames: int = 8
    seconds: int = 64
    moments: int = 2
    asked: int = 8
    letters: float = 0.6
    taught: int = 12
    budgets: tuple[int, int] = (128, 640)
    tasks: tuple[str, ...] = REALTIME
    practice: int = 2


def make_clip(seed: int, rng: np.random.Generator, wanted: Wanted) -> Clip:
    """A clip of a stream with questions.

    Args:
        seed: of the stream.
        rng: decides everything else.
        wanted: its kind.
    """
    seconds = 24
    if wanted.remembered:
        seconds = int(rng.integers(min(24, wanted.seconds), wanted.seconds + 1))
    stream = GeneratedStream(StreamSettings(seed=seed, seconds=seconds))
    if wanted.remembered:
        return _remembered(stream, rng, wanted)
    quiet = [t for t in range(1, seconds) if stream.is_quiet(t)]
    for _ in range(20):  # what is empty teaches little
        now = int(rng.choice(quiet))
        if stream.seen_at(now):
            break
    count = min(2 * int(rng.integers(1, wanted.frames // 2 + 1)), (now + 1) // 2 * 2)
    times = [float(t) for t in range(now - count + 1, now + 1)]
    found = choices_at(stream, now, rng, wanted.tasks)
    asked = _drawn(found, rng, wanted)
    grids = [(n, n + 1) for n in range(0, count, 2)]
    return _clip(stream, times, grids, list(range(len(grids))), [(count, asked)], None)


def _remembered(stream: GeneratedStream, rng: np.random.Generator, wanted: Wanted) -> Clip:
    asked = ask_stream(stream, int(rng.integers(2**31)), tasks=GROUPS["forward"])
    later = queries(asked)
    seconds = stream.settings.seconds
    quiet = [t for t in range(seconds // 3, seconds) if stream.is_quiet(t)]
    # Forward questions have their own moments; half of ours are such.
    theirs = [int(q.time_s) for q in later if q.time_s in quiet]
    times: set[int] = set()
    while len(times) < min(wanted.moments, len(quiet)):
        some = theirs if theirs and rng.random() < 0.5 else quiet
        times.add(int(rng.choice(some)))
    moments = []
    for now in sorted(times):
        found = [*choices_at(stream, now, rng), *(q for q in later if q.time_s == now)]
        moments.append((now + 1, _drawn(found, rng, wanted)))
    last = max(times)
    grids: list[tuple[int, ...]] = [(n, n + 1) for n in range(0, last, 2)]
    grids += [(now,) for now in sorted(times) if now % 2 == 0]
    most = min(wanted.taught, len(grids))
    taught = sorted(rng.choice(len(grids), most, replace=False).tolist())
    low, high = wanted.budgets
    budget = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    return _clip(stream, [float(t) for t in range(last + 1)], grids, taught, moments, budget)


def _clip(
    stream: GeneratedStream,
    times: list[float],
    grids: list[tuple[int, ...]],
    taught: list[int],
    moments: list[tuple[int, list[Asked]]],
    budget: int | None,
) -> Clip:
    images = np.stack([stream.picture(t) for t in times])
    shown = np.stack([shown_in(stream, [times[n] for n in grid]) for grid in grids])
    return Clip(images, times, grids, shown, taught, moments, budget)


# -- questions ---------------------------------------------------------------------------------


def queries(asked: list[StreamQuestion | StreamMoments]) -> tuple[Query, ...]:
    """Questions as the generated benchmark puts them to a model."""
    return queries_of(entries_of(asked, "generated/stream.mp4"), "generated questions")


def choices_at(
    stream: GeneratedStream,
    time_s: float,
    rng: np.random.Generator,
    tasks: tuple[str, ...] | None = None,
) -> list[Query]:
    """Questions with options at a moment."""
    return list(queries(list(ask_at(stream, time_s, rng, tasks))))


def _drawn(found: list[Query], rng: np.random.Generator, wanted: Wanted) -> list[Asked]:
    """Some of them in some form, and what can be answered without looking."""
    some = rng.permutation(len(found))[: wanted.asked]
    asked = [put(found[n], words=bool(rng.random() >= wanted.letters)) for n in some]
    return [*asked, *(_practice(rng) for _ in range(wanted.practice))]


def _practice(rng: np.random.Generator) -> Asked:
    names = rng.choice(_SINGLE if rng.random() < 0.5 else NAMES, 4, replace=False).tolist()
    right = int(rng.integers(4))
    question = Question(_PRACTICE.format(names[right]), tuple(names), LETTER_ONLY)
    return Asked(question, "ABCD"[right], "practice", "letter")


def put(query: Query, *, words: bool) -> Asked:
    """A question of the benchmark as it is, or a choice without its options."""
    question = query.question
    if query.kind != CHOICE:
        return Asked(question, query.truth, query.task, "other")
    if not words or question.text.startswith(_ONLY_CHOICES):
        return Asked(question, query.truth, query.task, "letter")
    answer = question.options["ABCD".index(query.truth)]
    free = replace(question, options=(), instruction=IN_WORDS)
    return Asked(free, answer, query.task, "words")


# -- what is where -----------------------------------------------------------------------------


def shown_in(stream: GeneratedStream, times: list[float]) -> NDArray[np.int64]:
    """What each token of a grid shows: number in ``NAMES``, ``NOTHING_KNOWN`` where in doubt.

    In doubt are the rims of objects, the ways of moving ones, and what changes within the grid.
    """
    width, height = stream.settings.width, stream.settings.height
    rows, columns = np.mgrid[: height // CELL, : width // CELL] * CELL + CELL / 2
    scenes = {stream.scene_at(t) for t in times}
    known = NAMES.index(scenes.pop()) if len(scenes) == 1 else NOTHING_KNOWN
    shown = np.full(rows.shape, known, np.int64)
    visits = {id(visit): visit for t in times for visit in stream.seen_at(t)}
    for visit in visits.values():
        x, y = _middle(visit, width, height)
        far = np.maximum(abs(columns - x), abs(rows - y))
        if visit.motion != STILL:
            row, column = divmod(PLACES.index(visit.place), 3)
            along = "left" in visit.motion or "right" in visit.motion
            near = (rows * 3 // height == row) if along else (columns * 3 // width == column)
            shown[near] = NOTHING_KNOWN
            continue
        lasting = all(visit.seen_at(t) for t in times)
        shown[far < 1.5 * CELL] = NOTHING_KNOWN
        shown[far < 0.8 * CELL] = NAMES.index(visit.name) if lasting else NOTHING_KNOWN
    return shown.reshape(-1)


def _middle(visit: Visit, width: int, height: int) -> tuple[float, float]:
    row, column = divmod(PLACES.index(visit.place), 3)
    return width * (2 * column + 1) / 6, height * (2 * row + 1) / 6
