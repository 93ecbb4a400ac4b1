"""Questions to a video memory session: what is read, answered and refused; nothing changes."""

from __future__ import annotations

import json

import pytest
from videoqa_streams import config, frame, plain, same, session, watch

from vision_mem.config import preset_names
from vision_mem.errors import InputError
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.models.vlm.protocol import Question
from vision_mem.videoqa import Conversation, GateHistory, VideoMemorySession

# -- asking ----------------------------------------------------------------------------------------


def test_evidence_is_where_the_colour_was():
    one = session()
    watch(one, range(24))
    answer = one.ask("when was there something green?")
    assert answer.scope == "all"
    best = answer.evidence[0]
    assert best.grid in (4, 5)
    assert best.frames == (2 * best.grid, 2 * best.grid + 1)
    assert (best.start_s, best.end_s) == (2.0 * best.grid, 2.0 * best.grid + 1)
    assert best.score == max(m.score for m in answer.evidence)
    assert best.tier in ("mid", "long")
    start = float(answer.text.split()[1])
    assert 8 <= start < 12
    assert answer.tokens_read <= 160
    json.dumps(answer.notes)


def test_the_newest_colour_needs_no_history():
    one = session()
    watch(one, range(24), colours={22: (230, 220, 40), 23: (230, 220, 40)})
    assert one.ask("yellow", scope="recent").grids_read == 2
    assert one.ask("yellow", scope="all").grids_read > 2
    assert one.ask("yellow").evidence[0].grid == 11


@pytest.mark.parametrize("preset", sorted({*preset_names("videoqa")} - {"card"}))  # for files
@pytest.mark.parametrize("frames", [1, 2, 19])
def test_asking_changes_nothing_and_order_does_not_matter(preset, frames):
    one = session(preset=preset)
    watch(one, range(frames))
    state = one.state_dict()
    questions = ["red?", "where is green", "blue", "is it the same as before"]
    first = [plain(one.ask(q)) for q in questions]
    again = [plain(one.ask(q)) for q in reversed(questions)]
    assert first == again[::-1]
    assert same(one.state_dict(), state)
    other = session(preset=preset)
    watch(other, range(frames))
    watch(other, range(frames, 24))
    watch(one, range(frames, 24))
    assert same(one.state_dict(), other.state_dict()), "questions changed what came after"


def test_a_waiting_frame_is_read_as_a_grid_of_its_own_and_then_gives_way():
    one = session()
    watch(one, range(3))
    asked = one.ask("green")
    assert asked.grids_read == 2
    assert {m.frames for m in asked.evidence} == {(0, 1), (2,)}
    assert (asked.evidence[0].start_s, asked.at_s) == (0.0, 2.0)
    watch(one, [3])
    assert [e.frames for e in one.memory.entries] == [(0, 1), (2, 3)]
    assert one.ask("green").grids_read == 2


@pytest.mark.parametrize(
    ("what", "at", "last", "at_s"),
    [
        ("now", None, (22, 23), 23.0),
        ("after the end", 1e6, (22, 23), 1e6),
        ("in the middle of the newest grid", 22.5, (22, 23), 22.5),
        ("a while ago", 9.5, (8, 9), 9.5),
        ("at the first frame", 0.0, (0, 1), 0.0),
    ],
)
def test_a_question_for_another_time(what, at, last, at_s):
    one = session(("evidence", 100), preset="full")
    watch(one, range(24))
    state = one.state_dict()
    answer = one.ask("blue", at=at)
    assert answer.at_s == at_s
    newest = max(m.grid for m in answer.evidence)
    assert max(m.frames for m in answer.evidence) == last, what
    assert newest == last[0] // 2
    assert same(one.state_dict(), state)


def test_a_question_for_then_is_answered_as_it_was_while_all_is_whole():
    """Whole grids do not age, so what was answered then is answered later, positions and all."""
    one = session(preset="full")
    then = {}
    for t in range(24):
        one.step(frame(t))
        if t % 2:
            then[t] = one.ask("green?").text
    for t, text in then.items():
        assert one.ask("green?", at=float(t)).text == text


@pytest.mark.parametrize(
    ("frames", "question", "options", "says"),
    [
        (0, "red?", {}, "nothing was seen yet"),
        (9, "", {}, "the question is empty"),
        (9, " ?! ", {}, "there is no word in the question"),
        (
            9,
            "red?",
            {"at": -0.5},
            "nothing is remembered from -0.5 s or before; memory begins at 4 s",
        ),
        (9, "red?", {"at": float("inf")}, "at is inf; expected a time"),
        (9, "red?", {"scope": "backward"}, "expected one of auto, recent, all"),
    ],
)
def test_questions_that_cannot_be_answered(frames, question, options, says):
    one = session()
    watch(one, range(frames))
    state = one.state_dict()
    with pytest.raises(InputError, match=says) as error:
        one.ask(question, **options)
    assert "\n" not in str(error.value)
    assert same(one.state_dict(), state)


def test_instructions_are_not_searched_for_but_options_are():
    one = session()
    watch(one, range(24))
    plainly = one.ask("which one?").evidence
    told = one.ask(Question("which one?", instruction="answer green"))
    chosen = one.ask(Question("which one?", options=("green", "not")))
    assert told.evidence == plainly
    assert chosen.evidence[0].grid in (4, 5)
    assert chosen.evidence != plainly


def test_the_whole_prompt_is_searched_for_on_request():
    one, whole = session(), session(("retrieval.query", "prompt"))
    for made in (one, whole):
        watch(made, range(24))
    question = Question("which one?", instruction="green")
    assert whole.ask(question).evidence[0].grid in (4, 5)
    assert whole.ask(question).evidence != one.ask(question).evidence


def test_answers_come_in_pieces_with_the_evidence_first():
    one = session()
    watch(one, range(24))
    stream = one.ask_stream("where was green?")
    whole = one.ask("where was green?")
    assert stream.answer.text == ""
    assert stream.answer.evidence == whole.evidence
    first = next(stream)
    assert first.finish is None
    watch(one, range(24, 40))  # the stream goes on meanwhile
    rest = list(stream)
    assert first.text + "".join(piece.text for piece in rest) == whole.text
    assert [piece.finish for piece in rest[:-1]] == [None] * (len(rest) - 1)
    assert rest[-1].finish == "stop"
    assert stream.answer == whole
    assert list(stream) == []


def test_an_answer_longer_than_the_limit_says_so():
    one = session(max_answer_tokens=3)
    watch(one, range(4))
    answer = one.ask("red")
    assert answer.cut
    assert len(answer.text.split()) == 3
    assert not session_answer("red").cut


def session_answer(question):
    one = session()
    watch(one, range(4))
    return one.ask(question)


@pytest.mark.parametrize("speaks", [True, False])
def test_openai_chunks(speaks):
    one = session(model=FakeVideoModel(speaks=speaks))
    watch(one, range(4))
    chunks = list(one.ask_stream("red").chunks())
    assert json.loads(json.dumps(chunks)) is not None
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert len({c["id"] for c in chunks}) == 1
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert text == (one.ask("red").text or "")
    assert [c["choices"][0]["finish_reason"] for c in chunks][-1] == "stop"
    assert chunks[-1]["evidence"][0]["frames"] in ((0, 1), (2, 3))
    assert len(chunks) == (1 if not speaks else len(text.split()))


def test_a_model_that_does_not_speak_finds_moments():
    one = session(model=FakeVideoModel(speaks=False))
    watch(one, range(24))
    talk = Conversation()
    answer = one.ask("green", conversation=talk)
    assert answer.text is None
    assert answer.evidence[0].grid in (4, 5)
    assert not talk.turns


def test_a_conversation_is_remembered_outside_the_memory():
    one = session(history_turns=1)
    watch(one, range(6))
    state, talk = one.state_dict(), Conversation()
    first = one.ask("red?", conversation=talk)
    second = one.ask("blue?", conversation=talk)
    third = one.ask("green?", conversation=talk)
    assert "after" not in first.text
    assert second.text.endswith(f"after 'red?' and {first.text!r}")
    assert "'blue?'" in third.text
    assert [turn.question.text for turn in talk.turns] == ["red?", "blue?", "green?"]
    assert one.ask("blue?").text == second.text.partition(" after")[0]
    assert same(one.state_dict(), state)
    silent = session(history_turns=0)
    watch(silent, range(6))
    assert "after" not in silent.ask("blue?", conversation=talk).text


def test_the_released_gate_carries_its_average_and_says_so_in_the_state():
    rules = {"retrieval.gate": "carried"}
    shared = GateHistory()
    model = FakeVideoModel()
    sessions = [VideoMemorySession(model, config(**rules), shared) for _ in range(2)]
    for one in sessions:
        watch(one, range(12))
    sessions[0].ask("red")
    first = shared.average
    sessions[1].ask("blue")
    assert shared.average != first
    other = VideoMemorySession(model, config(), shared)
    watch(other, range(12))
    before = shared.average
    other.ask("green")
    assert shared.average == before, "only the carried gate carries anything"
    own = session(**rules)
    watch(own, range(12))
    own.ask("red")
    assert own.state_dict()["carried"] == first
    own.reset()
    assert own.state_dict()["carried"] is None
