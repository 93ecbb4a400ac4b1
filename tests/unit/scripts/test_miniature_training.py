"""What the miniature is taught: labels, packed questions, where it looks, and that it learns."""

# ruff: noqa: F401, F811  (fixtures are imported, and then named as arguments)
from __future__ import annotations

import numpy as np
import pytest
import torch
from miniature_parts import (
    learning,
    network,
    one_thread,
    pool,
    pupil,
    scripts,
    watches,
    watching,
)

from vision_mem.models.vlm import miniature
from vision_mem.models.vlm.option_scores import ByLikelihood, in_words
from vision_mem.models.vlm.protocol import Question
from vision_mem.synthetic.qa_streams import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    GeneratedStream,
    StreamSettings,
)
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession

CPU = torch.device("cpu")
pytest.importorskip("transformers", reason="needs the transformers library")


# -- what it is taught -------------------------------------------------------------------------


def test_tokens_are_labelled_with_what_is_there(scripts):
    made, found = scripts["miniature_pictures"], 0
    stream = GeneratedStream(StreamSettings(seed=3, noise=0))
    for time_s in range(1, 60, 3):
        shown = made.shown_in(stream, [time_s, time_s + 1.0]).reshape(6, 8, -1)
        image = stream.picture(time_s)
        for row, column in np.ndindex(6, 8):
            part = dict(zip(made.PARTS, shown[row, column], strict=True))
            said = {n: made.PARTS[n][v] for n, v in part.items() if v != made.UNKNOWN}
            cell = image[28 * row : 28 * row + 28, 28 * column : 28 * column + 28].astype(int)
            near = {c: abs(cell - rgb).max(-1).min() < 12 for c, rgb in COLOURS.items()}
            if said.get("kind") in SHAPES and said["frames"] != "second":
                assert near[said["mark"]], (time_s, said, row, column)
                assert said.get("ground", stream.scene_at(time_s)) == stream.scene_at(time_s)
                found += 1
            elif said.get("kind") in BACKGROUNDS:
                assert said["kind"] == said["ground"] and said["frames"] == "none"
                assert not near["red"] and not near["blue"] and not near["purple"]
        middles = (shown[..., list(made.PARTS).index("middle")] == 1).sum()
        assert middles == len({*stream.seen_at(time_s), *stream.seen_at(time_s + 1)})
    assert found > 30


def test_scenes_are_full_of_all_there_is(scripts):
    made = scripts["miniature_pictures"]
    scenes = [made.make_scene(np.random.default_rng(n)) for n in range(60)]
    again = made.make_scene(np.random.default_rng(7))
    assert np.array_equal(again.images, scenes[7].images)
    shown = np.concatenate([scene.shown for scene in scenes])
    for number, (name, words) in enumerate(made.PARTS.items()):
        assert set(range(len(words))) <= set(shown[:, number].tolist()), name


def test_tokens_made_at_once_are_those_of_the_adapter(scripts, pupil, pool):
    stream = scripts["miniature_questions"].stream_of(13)
    made = pool.tokens(2)
    for second in (0, 6, 7, 41):
        frames = [
            Frame(t, float(t), stream.picture(t)) for t in range(second - second % 2, second + 1)
        ]
        (alone,) = pupil.encode_grid(frames).tokens[None]
        assert np.abs(made[second] - alone.numpy()).max() < 0.02, second
    again = type(pool)(pool.folder, None, 11)
    assert np.array_equal(again.tokens(2), made), "what is on disk is not made again"


@pytest.mark.parametrize("kind", ["short", "remembered"])
def test_packed_questions_are_what_a_session_asks_alone(
    kind, watches, scripts, learning, network, pool, watching
):
    """Positions, labels and guesses of many questions in one row, against one at a time."""

    class Recorder(learning.Pupil):
        def answer(self, context, question, **more):
            self.start = self._start(context, self._chat.prompt(question))
            return super().answer(context, question, **more)

    watch, model = watches[kind], Recorder(network)
    read = list(watching.read_watch(model, watch, pool))
    stream = scripts["miniature_questions"].stream_of(11)
    rows = [model.row(context, asked, stream) for context, asked in read]
    if kind == "remembered":
        assert len(read[-1][0].tokens) <= 144 < 48 * watch.moments[-1][0] / 2
    heard, checked = model.hear(rows), 0
    guesses, labels, owners = heard.guesses, heard.labels, heard.owners
    assert len(heard.early) == sum(len(row.tokens) for row in rows)
    session = VideoMemorySession(model, watching.memory_config(watch.preset, max(watch.budget, 48)))
    waiting = dict(watch.moments)
    for second in range(2 * watch.first, max(waiting) + 1):
        session.step(Frame(second, float(second), stream.picture(second)))
        for number, one in enumerate(waiting.get(second, ()), 1):
            session.ask(scripts["miniature_questions"].text_of(one))
            start = model.start
            place, row = next((n, r) for n, r in enumerate(rows) if one in r.asked)
            mine = (row.part == 0) | (row.part == number)
            answer = model._chat.ids(one.options[one.right])
            length = start.positions.shape[-1]
            assert torch.equal(row.positions[:, mine][:, :length], start.positions[:, 0])
            later = torch.arange(start.goes_on, start.goes_on + len(answer))
            assert torch.equal(row.positions[:, mine][:, length:], later.expand(3, -1))
            # Labels stand on the answer and its end alone, each a token ahead.
            wanted = [learning.IGNORED] * (length - 1) + [*answer, model._chat.end]
            assert row.labels[mine].tolist() == wanted
            own = (owners == torch.tensor([place, number - 1])).all(1)
            assert labels[own].tolist() == [*answer, model._chat.end]
            with torch.no_grad():
                alone = network(
                    inputs_embeds=start.inputs["inputs_embeds"], position_ids=start.positions,
                    attention_mask=torch.ones(1, length, dtype=torch.long),
                ).logits[0, -1]  # fmt: skip
            # The pool keeps tokens in half precision.
            torch.testing.assert_close(guesses[own][0], alone, atol=0.03, rtol=0.02)
            checked += 1
    assert checked == sum(len(asked) for _, asked in watch.moments) >= 4


def test_attention_is_told_what_a_question_is_about(learning, network, scripts, tmp_path, watching):
    """The tokens wanted are those of the object; what is taken for attention is the library's."""
    made, pictures = scripts["miniature_questions"], scripts["miniature_pictures"]
    pupil = learning.Pupil(network)
    pool, stream = watching.Pool(tmp_path, pupil, 40), made.stream_of(40)
    watch = made.make_now(0, stream, np.random.default_rng(5), 20)
    ((context, asked),) = watching.read_watch(pupil, watch, pool)
    row = pupil.row(context, asked, stream)
    about = 0
    for one, wanted in zip(asked, row.subjects, strict=True):
        if one.text.startswith(("How many", "What is the background")):
            assert not wanted.any()
            continue
        (visit,) = made.subjects(stream, one)
        for span in context.grids:
            times = [span.start_s, span.end_s]
            shown = pictures.shown_in(stream, times)[:, 0]
            right = shown == pictures.PARTS["kind"].index(visit.kind)
            here = wanted[span.first : span.first + span.count].numpy()
            assert (right <= here).all()
            about += int(here.sum())
    assert about > 10
    # What is taken for attention is the library's.
    text, hidden = network.model.language_model, torch.randn(1, 30, 128)
    turns = text.rotary_emb(hidden, torch.randint(0, 60, (3, 1, 30)))
    mask = torch.ones(1, 30, 30, dtype=torch.bool).tril()
    looks, usual = text.layers[2].self_attn, text.config._attn_implementation
    text.config._attn_implementation = "eager"
    try:
        added = torch.where(mask, 0.0, -1e30)[:, None]
        _, shares = looks(hidden_states=hidden, attention_mask=added, position_embeddings=turns)
    finally:
        text.config._attn_implementation = usual
    for head in range(4):
        own = learning._heed(looks, head, hidden, turns, mask).exp()
        torch.testing.assert_close(own, shares[:, head], atol=1e-5, rtol=1e-4)


def test_rows_in_groups_are_the_same_lesson(watches, learning, scripts, pool, monkeypatch):
    pupil = learning.Pupil(miniature.miniature_network(0))
    readers = scripts["miniature_vision"].Readers(128, 6, 8)
    every = list(watches.values())
    one, parts = learning.hear(pupil, readers, every, pool, 0.3, 0.3)
    monkeypatch.setattr(learning, "_TOGETHER", 1)
    two, again = learning.hear(pupil, readers, every, pool, 0.3, 0.3)
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert (
        parts.keys() == again.keys() >= {"answers", "place", "look", "hit_realtime", "hit_backward"}
    )


def test_the_tower_learns_and_words_come_near(scripts, tmp_path):
    made = scripts["miniature_course"]
    course = made.Course(made.Plan(seeing=50, now=0, steps=50, warm_up=4), tmp_path, CPU)
    scenes = [scripts["miniature_pictures"].make_scene(np.random.default_rng(n)) for n in range(4)]
    told = [course.learn(scenes, n, False) for n in range(24)]
    assert told[-1]["align"] < 0.6 * told[0]["align"]
    assert told[-1]["see_kind"] > 0.5 > told[0]["see_kind"]


def test_language_learns_by_heart_and_leaves_the_rest(watches, scripts, pool, tmp_path):
    made = scripts["miniature_course"]
    course = made.Course(made.Plan(seeing=0, now=0, steps=90, warm_up=4), tmp_path, CPU)
    course.pool = pool
    network = course.pupil.network
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    told = [course.learn(list(watches.values()), n, False) for n in range(40)]
    assert told[-1]["answers"] < 0.4 * told[0]["answers"]
    assert told[-1]["place"] < 0.8 * told[0]["place"]
    assert told[-1]["look"] < 0.8 * told[0]["look"]
    table = network.get_input_embeddings().weight
    changed = (table != before["model.language_model.embed_tokens.weight"]).any(1)
    assert changed.any() and not changed[course.pupil.spoken_ids].any()
    assert all(torch.equal(p, before[n]) for n, p in network.named_parameters() if "visual" in n)


def test_options_that_a_question_lists_are_each_told_where_they_are(
    learning, network, scripts, tmp_path, watching
):
    made = scripts["miniature_questions"]
    pupil = learning.Pupil(network)
    pool, stream = watching.Pool(tmp_path, pupil, 40), made.stream_of(40)
    asked = made.choices_at(stream, 40, np.random.default_rng(3), ("ASI", "EPM"), passes=6, most=40)
    watch = made.Watch(0, 0, "full", 1, ((40, asked),))
    ((context, asked),) = watching.read_watch(pupil, watch, pool)
    row, listed = pupil.row(context, asked, stream), 0
    findable = dict(row.findable)
    for number, one in enumerate(asked, 1):
        if "these" not in one.text:
            assert not made.options_shown(stream, one)
            continue
        named = pupil.named_options(one, stream)
        assert list(named) == list(one.options)
        begun = row.part.tolist().index(number) + len(pupil._closing)
        own = pupil._chat._coded(made.text_of(one))[0]
        for name, spot in named.items():
            assert row.ids[begun + spot] == own[spot] == pupil._chat.ids(f" {name}")[-1]
            tokens = findable[begun + spot]
            ever = any(v.name == name and v.start_s <= 40 for v in stream.visits)
            assert bool(tokens.any()) == ever
            listed += ever
        assert row.named[number - 1] == begun + named[one.options[one.right]]
    assert listed > 10


# -- options by likelihood ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "put"),
    [
        ("What colour is it?", ("red", "blue"), "What colour is it?"),
        ("Which of these came?", ("a cat", "a cup"), "Which of these came: a cat or a cup?"),
        ("Which of the following is?", ("x", "y", "z"), "Which of the following is: x, y or z?"),
        ("Which of these?", ("x",), "Which of these: x?"),
        ("Which of these?", (), "Which of these?"),
    ],
)  # fmt: skip
def test_options_are_told_where_a_question_points_at_them(text, options, put):
    made = in_words(Question(text, options, "Reply with the letter." if options else ""))
    assert (made.text, made.options, made.instruction) == (put, (), "")


def test_options_are_weighed_by_their_words_and_end(
    learning, watches, pool, network, pupil, watching
):
    ((context, asked), *_) = watching.read_watch(pupil, watches["short"], pool)
    options = ("red", "moving to the left", "7")
    question = Question(asked[0].text, options, "Reply with the letter.")
    judge = ByLikelihood(pupil)
    found = judge.weigh(context, question)
    start = pupil._start(context, pupil._chat.prompt(Question(asked[0].text)))
    for option, value in zip(options, found, strict=True):
        ids, total = [*pupil._chat.ids(option), pupil._chat.end], 0.0
        inputs = {"inputs_embeds": start.inputs["inputs_embeds"]}
        said, places = [], start.positions
        for token in ids:
            extra = network.get_input_embeddings()(torch.tensor([said], dtype=torch.long))
            with torch.no_grad():
                logits = network(
                    inputs_embeds=torch.cat([inputs["inputs_embeds"], extra], 1),
                    position_ids=places,
                    attention_mask=torch.ones(1, places.shape[-1], dtype=torch.long),
                ).logits[0, -1]
            total += float(logits.log_softmax(-1)[token])
            said.append(token)
            nxt = torch.full((3, 1, 1), start.goes_on + len(said) - 1)
            places = torch.cat([places, nxt], -1)
        assert value == pytest.approx(total, abs=1e-3)
    (piece,) = judge.answer(context, question)
    assert piece.text == "ABC"[int(found.argmax())] and piece.finish == "stop"
    assert len(judge.embed_question(question).vectors) == len(
        pupil.embed_question(Question(asked[0].text)).vectors
    )
    plain = Question(asked[0].text)
    words = "".join(p.text for p in judge.answer(context, plain, max_tokens=3))
    assert words == "".join(p.text for p in pupil.answer(context, plain, max_tokens=3))
