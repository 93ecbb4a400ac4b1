"""Generated streams: what is asked is to be seen in the pictures, and only one answer is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.synthetic.qa_questions import (
    CHOICES,
    FORWARD,
    UNABLE,
    StreamMoments,
    StreamQuestion,
    ask_at,
    ask_stream,
)
from vision_mem.synthetic.qa_streams import (
    CARD,
    COLOURS,
    MOTIONS,
    PLACES,
    SHAPES,
    STILL,
    GeneratedStream,
    StreamSettings,
)

STREAMS = [GeneratedStream(StreamSettings(seed=seed, noise=0)) for seed in range(12)]
NAMES = list(COLOURS)


def blob(image, colour):
    """Mean place of a colour, ``(x, y)`` in ninths of the picture's sides; None when it is not."""
    near = np.abs(image.astype(int) - COLOURS[colour]).max(axis=2) < 12
    if near.sum() < 40:
        return None
    rows, columns = np.nonzero(near)
    return columns.mean() / image.shape[1] * 3, rows.mean() / image.shape[0] * 3


def vivid(stream, t):
    """Shapes to be seen whose colour nothing else has: no card, no cut-out, no second shape."""
    here = stream.seen_at(t)
    marks = Counter(visit.mark for visit in here)
    return [v for v in here if v.kind in SHAPES and marks[v.mark] == 1
            and v.mark not in ("white", "black", "red", "orange")]  # fmt: skip


def test_the_same_seed_gives_the_same_stream():
    settings = StreamSettings(seed=5, seconds=12)
    one, two = GeneratedStream(settings), GeneratedStream(settings)
    assert one.visits == two.visits and one.scenes == two.scenes
    assert all((a.image == b.image).all() for a, b in zip(one, two, strict=True))
    assert ask_stream(one) == ask_stream(two) != ask_stream(one, seed=1)
    other = GeneratedStream(replace(settings, seed=6))
    assert other.visits != one.visits
    assert not (other.picture(9.0) == one.picture(9.0)).all()


def test_frames_on_demand_are_those_of_the_stream():
    stream = GeneratedStream(StreamSettings(seed=2, seconds=10, fps=4.0))
    frames = list(stream)
    assert len(frames) == len(stream) == stream.info.frame_count == 40
    assert [frame.time_s for frame in frames[:3]] == [0, 0.25, 0.5]
    slow = list(stream.frames(1.0, until_s=6.0))
    assert [frame.time_s for frame in slow] == [0, 1, 2, 3, 4, 5, 6]
    assert all((a.image == frames[4 * k].image).all() for k, a in enumerate(slow))


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_what_is_there_is_to_be_seen_where_it_is(stream):
    times = [t + 0.25 for t in range(1, 64, 3)]
    for t in times:
        image = stream.picture(t)
        for visit in vivid(stream, t):
            x, y = blob(image, visit.mark)
            row, column = divmod(PLACES.index(visit.place), 3)
            across, down = MOTIONS[visit.motion]
            assert abs(x - column - 0.5) < (0.5 if across else 0.12), visit
            assert abs(y - row - 0.5) < (0.5 if down else 0.12), visit
        gone = {v.mark for v in stream.visits if v.kind in SHAPES} - {
            v.mark for v in stream.seen_at(t)
        } - {"white", "black", "red", "orange"}  # fmt: skip
        if not any(v.kind not in SHAPES for v in stream.seen_at(t)):
            assert all(blob(image, mark) is None for mark in gone)


def test_what_moves_goes_where_it_is_said_to_go():
    moved = 0
    for stream in STREAMS:
        for visit in stream.visits:
            early, late = visit.start_s + 0.5, visit.end_s - 0.5
            alone = visit in vivid(stream, early) and visit in vivid(stream, late)
            if visit.motion == STILL or not alone:
                continue
            (x1, y1), (x2, y2) = (blob(stream.picture(t), visit.mark) for t in (early, late))
            across, down = MOTIONS[visit.motion]
            assert np.allclose([np.sign(round(x2 - x1, 1)), np.sign(round(y2 - y1, 1))],
                               [across, down])  # fmt: skip
            moved += 1
    assert moved >= 3


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_one_thing_of_a_kind_and_nothing_on_top_of_another(stream):
    for t in np.arange(0, stream.settings.seconds, 0.5):
        here = stream.seen_at(t)
        assert len({visit.kind for visit in here}) == len(here) <= stream.settings.objects
        places = [visit.place for visit in here]
        assert len(set(places)) == len(places)
    for visit in stream.visits:
        assert visit.start_s % stream.settings.beat_s in (0, 0.5)
        assert visit.end_s - visit.start_s >= 3


def test_when_all_kinds_are_there_nothing_more_comes():
    for seed in range(6):
        crowd = StreamSettings(seed=seed, objects=5, longest=10, cutouts=False, cards=False)
        stream = GeneratedStream(crowd)
        here = [stream.seen_at(t) for t in range(crowd.seconds)]
        assert all(len({v.kind for v in some}) == len(some) for some in here)
        assert max(map(len, here)) >= 4


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_answers_follow_from_what_was_seen(stream):
    """Each question is answered again, by other means than the templates'."""
    for question in ask_stream(stream, per_task=6):
        if isinstance(question, StreamMoments):
            check_moments(stream, question)
            continue
        assert len(set(question.options)) == len(question.options) >= 2
        assert stream.is_quiet(question.time_s)
        right = question.options[question.right]
        fits = [option for option in question.options if holds(stream, question, option)]
        assert fits == [right], question


def holds(stream, question, option):
    """Whether an option is right, from the visits alone."""
    t, text = question.time_s, question.text
    here = [v for v in stream.visits if v.start_s <= t < v.end_s]
    past = [v for v in stream.visits if v.start_s <= t]
    about = [v for v in past if v.name in text] or [
        v for v in past if v.kind in text.replace("?", "").split()
    ]
    last = about[-1] if about else None
    never = option == UNABLE and last is None
    match question.task, text.split(" ")[0]:
        case "OCR", _:
            return any(v.kind == CARD and v.mark == option for v in here)
        case "ACR", _:
            return last.motion == option
        case "ATR", _:
            return last.mark == option
        case "STU", _:
            return last.place == option
        case "FPD", _:
            word = last.motion.split(" ")[1]
            return option.endswith(word)
        case "OJR", "How":
            return len(here) == int(option)
        case "OJR", _ if "background" in text:
            return stream.scene_at(t) == option
        case "OJR", _:
            place = text.removeprefix("What is at the ").removesuffix(" now?")
            return any(v.name == option and v.place == place for v in here)
        case ("EPM", "Which"):
            return option in {v.name for v in past} - {v.name for v in here}
        case ("EPM", _) if "background" in text:
            return stream.scene_at(last.start_s) == option
        case (("EPM" | "HLD"), _):
            cards = [v for v in past if v.kind == CARD]
            last = cards[-1] if "card" in text else last
            return never or (last is not None and option in (last.mark, last.place))
        case "ASI", "Which":
            starts = {v.name: v.start_s for v in past}
            listed = [starts[name] for name in question.options]
            best = min(listed) if "first" in text else max(listed)
            return starts[option] == best
        case "ASI", _:
            order = [v.name for v in past]
            return order[order.index(last.name) + 1] == option
    raise AssertionError(question)


def check_moments(stream, asked):
    times = [t for t, _ in asked.moments]
    assert times == sorted(times) and all(stream.is_quiet(t) for t in times)
    for number, (t, value) in enumerate(asked.moments):
        if asked.task == "REC":
            name = asked.subject.split(" ", 2)[2]
            assert value == sum(v.name == name and v.start_s <= t for v in stream.visits)
        elif asked.task == "SSR":
            name = asked.steps[number].split(" ", 2)[2]
            assert value == any(v.name == name for v in stream.seen_at(t))
        else:
            kind = asked.subject.removeprefix("What colour is the ").removesuffix("?")
            seen = [v for v in stream.visits if v.kind == kind and v.start_s <= t]
            assert value == bool(seen)
            assert not seen or seen[0].mark == asked.answer


def test_every_task_is_asked_and_no_letter_is_a_good_guess():
    tasks, letters = Counter(), Counter()
    for seed in range(40):
        for question in ask_stream(GeneratedStream(StreamSettings(seed=seed))):
            tasks[question.task] += 1
            if isinstance(question, StreamQuestion):
                letters[question.right] += 1
    assert set(tasks) == {*CHOICES, *FORWARD}
    assert min(tasks.values()) >= 30
    assert max(letters.values()) < 0.36 * sum(letters.values())


def test_not_knowing_is_not_always_the_answer_where_it_is_offered():
    offered = [
        question.options[question.right] == UNABLE
        for seed in range(40)
        for question in ask_stream(GeneratedStream(StreamSettings(seed=seed)), tasks=["EPM", "HLD"])
        if UNABLE in question.options
    ]
    assert 0.5 < np.mean(offered) < 0.9


def test_nothing_is_asked_right_after_a_change():
    random = np.random.default_rng(0)
    stream = STREAMS[0]
    asked = {t: bool(ask_at(stream, float(t), random)) for t in range(2, 60)}
    assert asked == {t: stream.is_quiet(t) for t in range(2, 60)}
    assert 0 < sum(asked.values()) < len(asked)
    for visit in stream.visits:
        assert not any(stream.is_quiet(visit.start_s + d) for d in (0, 0.5, 1.0) if visit.start_s)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beat_s": 2}, "beat of 2 s"),
        ({"seconds": 5}, "stream of 5 s"),
        ({"objects": 0}, "0 objects"),
        ({"fps": 0.0}, "cannot be made"),
        ({"width": 57}, "57x168"),
        ({"height": 20}, "224x20"),
    ],
)
def test_streams_that_cannot_be_made(settings, message):
    with pytest.raises(InputError, match=message):
        StreamSettings(**settings)


def test_unknown_task():
    with pytest.raises(InputError, match="no task 'XYZ'"):
        ask_at(STREAMS[0], 3.0, np.random.default_rng(0), ["XYZ"])
