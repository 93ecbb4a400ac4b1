"""The miniature: its size and words, how it is taught, that it resumes, and that it opens."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from vision_mem.errors import InputError, ModelError
from vision_mem.evaluation.videoqa.ovobench import queries_of
from vision_mem.models import miniature
from vision_mem.models.videoqa_chat import SYSTEM, Chat
from vision_mem.models.videoqa_protocols import Question
from vision_mem.streamfiles import entries_of
from vision_mem.streamquestions import ask_stream
from vision_mem.streams import COLOURS, GeneratedStream, StreamSettings
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession
from vision_mem.videoqa.salience import QUESTIONS

pytest.importorskip("transformers", reason="needs the transformers library")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scripts(root):
    """The modules of the training script."""
    sys.path.insert(0, str(root / "scripts"))
    try:
        import miniature_checks
        import miniature_learning
        import miniature_questions
        import train_miniature

        modules = (miniature_checks, miniature_learning, miniature_questions, train_miniature)
        yield {module.__name__: module for module in modules}
    finally:
        sys.path.remove(str(root / "scripts"))


@pytest.fixture(scope="module")
def learning(scripts):
    return scripts["miniature_learning"]


@pytest.fixture(scope="module")
def network():
    return miniature.miniature_network(1)


@pytest.fixture(scope="module")
def clips(scripts):
    """A short clip, and a remembered stream whose memory drops a good part."""
    made = scripts["miniature_questions"]
    short = made.make_clip(11, np.random.default_rng(3), made.Wanted(frames=4, asked=4))
    wanted = made.Wanted(remembered=True, seconds=30, asked=4, taught=3, budgets=(144, 145))
    return {"short": short, "remembered": made.make_clip(12, np.random.default_rng(1), wanted)}


# -- size and words ----------------------------------------------------------------------------


def test_it_is_a_small_network_of_the_librarys_class(network):
    assert type(network).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert 1_000_000 < sum(p.numel() for p in network.parameters()) <= 10_000_000


def test_the_same_seed_gives_the_same_weights(network):
    again, other = miniature.miniature_network(1), miniature.miniature_network(2)
    for (name, one), two in zip(network.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert not torch.equal(network.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize(
    "text",
    [
        "What is the red circle doing now?",
        "system\nYou watch a video\n\n  two  blanks\tand a tab",
        "Wörter, die es nicht gibt: 東京 🙂 zebra",
        "redgreen  red",
        "<|im_end|> typed by a user",
    ],
)
def test_any_text_comes_back(text):
    tokenizer = miniature.miniature_tokenizer()
    ids = Chat(tokenizer).ids(text)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert max(ids) < miniature.miniature_config().text_config.vocab_size
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids


def test_every_word_of_the_questions_is_one_token(scripts):
    texts = [SYSTEM, *QUESTIONS, scripts["miniature_questions"].IN_WORDS]
    for seed in range(12):
        stream = GeneratedStream(StreamSettings(seed=seed))
        for query in queries_of(entries_of(ask_stream(stream, per_task=5), "a.mp4"), "here"):
            question = query.question
            texts += [question.text, question.instruction, *question.options]
    tokenizer = miniature.miniature_tokenizer()
    words = {word for text in texts for word in re.findall(r"[A-Za-z]+|\d", text)}
    spelt = [w for w in words for form in (w, f" {w}") if len(tokenizer.encode(form)) != 1]
    assert len(words) > 100 and not spelt


# -- what it is taught -------------------------------------------------------------------------


def test_a_choice_is_asked_for_its_letter_or_without_options(scripts):
    made = scripts["miniature_questions"]
    stream = GeneratedStream(StreamSettings(seed=5))
    now = next(t for t in range(20, 60) if stream.is_quiet(t) and stream.seen_at(t))
    for query in made.choices_at(stream, now, np.random.default_rng(0)):
        letter, words = made.put(query, words=False), made.put(query, words=True)
        assert (letter.question, letter.answer) == (query.question, query.truth)
        if words.form == "words":
            assert not words.question.options
            assert words.answer == query.question.options["ABCD".index(query.truth)]
        else:
            assert query.question.text.startswith("Which of these") and words == letter


def test_tokens_are_labelled_with_what_is_there(scripts):
    made, found = scripts["miniature_questions"], 0
    stream = GeneratedStream(StreamSettings(seed=3, noise=0))
    for time_s in range(1, 60, 3):
        shown = made.shown_in(stream, [time_s, time_s + 1.0]).reshape(6, 8)
        image = stream.picture(time_s)
        for row, column in np.argwhere(shown != made.NOTHING_KNOWN):
            name = made.NAMES[shown[row, column]]
            cell = image[28 * row : 28 * row + 28, 28 * column : 28 * column + 28].astype(int)
            near = {c: abs(cell - rgb).max(-1).min() < 12 for c, rgb in COLOURS.items()}
            if name.split()[0] in COLOURS:
                assert near[name.split()[0]], (time_s, name, row, column)
                found += 1
            elif name in ("grass", "gravel", "bricks", "launch pad"):
                assert not near["red"] and not near["blue"] and not near["purple"]
    assert found > 20


@pytest.mark.parametrize("kind", ["short", "remembered"])
def test_packed_questions_are_what_a_session_asks_alone(kind, clips, learning, network):
    """Positions, labels and guesses of many questions in one row, against one at a time."""

    class Recorder(learning.Pupil):
        def answer(self, context, question, **more):
            self.start = self._start(context, self._chat.prompt(question))
            return super().answer(context, question, **more)

    clip, model = clips[kind], Recorder(network)
    grids = [[learning.frames_of(clip)[n] for n in grid] for grid in clip.grids]
    encoded = model.encode(grids)
    rows = []
    for context, asked in learning.read_clip(model, clip, encoded):
        tokens = learning.learned_through(context, clip, encoded)
        assert torch.equal(tokens, context.tokens)
        rows.append(model.row(context, tokens, asked))
    if kind == "remembered":
        lost = encoded[0].shape[0] * len(clip.grids) - len(context.tokens)
        assert lost > 100, "nothing was dropped: this shows nothing"
    guesses, labels, owners = model.logits(rows)
    session = VideoMemorySession(model, learning.memory_config(clip.budget))
    waiting, checked = dict(clip.moments), 0
    for count, frame in enumerate(learning.frames_of(clip), 1):
        session.step(frame)
        for one in waiting.get(count, ()):
            session.ask(replace(one.question))
            start = model.start
            row = next(r for r in rows if any(a is one for a in r.asked))
            number = next(n for n, a in enumerate(row.asked, 1) if a is one)
            mine = (row.part == 0) | (row.part == number)
            answer = model._chat.ids(one.answer)
            length = start.positions.shape[-1]
            assert torch.equal(row.positions[:, mine][:, :length], start.positions[:, 0])
            later = torch.arange(start.goes_on, start.goes_on + len(answer))
            assert torch.equal(row.positions[:, mine][:, length:], later.expand(3, -1))
            # Labels stand on the answer and its end alone, each a token ahead.
            wanted = [learning.IGNORED] * (length - 1) + [*answer, model._chat.end]
            assert row.labels[mine].tolist() == wanted
            own = (owners == torch.tensor([_place(rows, row), number - 1])).all(1)
            assert labels[own].tolist() == [*answer, model._chat.end]
            with torch.no_grad():
                alone = network(
                    inputs_embeds=start.inputs["inputs_embeds"], position_ids=start.positions,
                    attention_mask=torch.ones(1, length, dtype=torch.long),
                ).logits[0, -1]  # fmt: skip
            torch.testing.assert_close(guesses[own][0], alone, atol=2e-4, rtol=1e-3)
            checked += 1
    assert checked == sum(len(asked) for _, asked in clip.moments) >= 4


def _place(rows, row):
    return next(n for n, other in enumerate(rows) if other is row)


def test_the_vision_tower_learns_through_the_grids_chosen(clips, learning, network):
    clip, model = clips["remembered"], learning.Pupil(network)
    grids = [[learning.frames_of(clip)[n] for n in grid] for grid in clip.grids]
    encoded = model.encode(grids).detach().requires_grad_(True)
    *_, (context, _) = learning.read_clip(model, clip, encoded)
    learning.learned_through(context, clip, encoded).sum().backward()
    moved = {n for n, one in enumerate(encoded.grad) if one.any()}
    read = set()
    for span in context.grids:
        frames = range(2 * span.index, 2 * span.index + (1 if span.start_s == span.end_s else 2))
        read.add(clip.grids.index(tuple(frames)))
    assert moved == read & set(clip.taught) != set()


def test_it_learns_one_clip_by_heart(clips, scripts):
    made = scripts["train_miniature"]
    plan = made.Plan(steps=60, warm_up=1, lr=2e-3)
    pupil = made.Pupil(miniature.miniature_network(0))
    optimizer = made.make_optimizer(pupil.network, plan)
    told = [made.learn(pupil, optimizer, [clips["short"]], plan, n, False) for n in range(25)]
    assert told[-1]["answers"] < 0.3 * told[0]["answers"]
    assert told[-1]["align"] < 0.5 * told[0]["align"]


# -- the run -----------------------------------------------------------------------------------


TINY = ["--steps", "4", "--first-share", "0.25", "--present-share", "0.5", "--clips", "1"]
TINY += ["--streams", "1", "--seconds", "24", "--asked", "2", "--warm-up", "2", "--threads", "1"]
TINY += ["--device", "cpu", "--check-clips", "0"]


@pytest.fixture(scope="module")
def whole_run(scripts, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert scripts["train_miniature"].main(["--out", str(out), *TINY]) == 0
    return out


def test_a_run_in_pieces_gives_the_same_bits(scripts, whole_run, tmp_path, capsys):
    main, load = scripts["train_miniature"].main, scripts["train_miniature"].load
    words = ["--out", str(tmp_path / "cut"), *TINY, "--minutes", "1e-6"]
    for piece in range(4):
        assert main([*words, *(["--resume"] if piece else [])]) == 0
        assert load(tmp_path / "cut")["step"] == piece + 1
    one, two = load(whole_run), load(tmp_path / "cut")
    for part in ("network", "average"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), name
    assert main([*words, "--resume", "--seed", "1"]) == 2
    assert "other values of seed" in capsys.readouterr().err
    assert main([*words, "--tasks", "OCR,EPM"]) == 2
    assert "'EPM'; expected some of OCR" in capsys.readouterr().err


def test_an_exported_model_opens_and_answers(scripts, whole_run, tmp_path, monkeypatch, capsys):
    from vision_mem.models.videoqa_loading import load_video_model

    folder = tmp_path / "model"
    words = ["--out", str(whole_run), "--export", str(folder)]
    assert scripts["train_miniature"].main(words) == 0
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 20 * 1024 * 1024
    assert not list(tmp_path.glob(".*"))
    monkeypatch.setattr(miniature, "FOLDER", folder)
    model = load_video_model("miniature", device="cpu")
    assert model.traits.model_id.startswith("miniature#")
    assert (model.traits.frames_per_grid, model.traits.tokens_per_second) == (2, 2.0)
    session = VideoMemorySession(model)
    for number, image in enumerate(np.zeros((3, 168, 224, 3), np.uint8)):
        session.step(Frame(number, float(number), image))
    answer = session.ask(Question("What is the background now?", ("grass", "gravel")))
    assert answer.text is not None and answer.tokens_read == 96
    # Once more over what is there; never over other things.
    assert scripts["train_miniature"].main(words) == 0
    (folder / "notes.txt").write_text("mine")
    assert scripts["train_miniature"].main(words) == 2
    assert "holds other things" in capsys.readouterr().err and (folder / "notes.txt").is_file()


def test_what_is_too_large_is_not_exported(scripts, tmp_path):
    class Large(torch.nn.Linear):
        def save_pretrained(self, folder):
            (folder / "model.safetensors").write_bytes(b"")

    with pytest.raises(InputError, match="too many for the package"):
        scripts["train_miniature"].export(Large(4000, 3000, bias=False), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_without_weights_one_line_says_how_to_get_them(monkeypatch, tmp_path):
    from vision_mem.models.videoqa_loading import load_video_model

    monkeypatch.setattr(miniature, "FOLDER", tmp_path)
    with pytest.raises(ModelError) as caught:
        load_video_model("miniature", device="cpu")
    assert "train_miniature.py" in str(caught.value) and "\n" not in str(caught.value)


def test_checks_ask_a_session_and_know_right_from_wrong(scripts, learning, network):
    checks = scripts["miniature_checks"]
    clips = checks.check_set(4)
    assert [clip.budget for clip in clips] == [None] * 4 + [256] * 2
    again = checks.check_set(4)
    assert all(np.array_equal(a.images, b.images) for a, b in zip(clips, again, strict=True))

    class Knowing(learning.Pupil):
        """Says what is right, but for letters about colours."""

        def answer(self, context, question, **more):
            from vision_mem.models.videoqa_protocols import AnswerPiece

            one = next(a for c in clips for _, some in c.moments for a in some
                       if a.question is question)  # fmt: skip
            wrong = one.task == "ATR" and one.form == "letter"
            return iter([AnswerPiece("Z" if wrong else one.answer, "stop")])

    scores = checks.check(Knowing(network), clips)
    assert scores["ATR"] == 0 and scores["STU"] == scores["words"] == scores["practice"] == 1
    assert scores["backward"] == scores["forward"] == 1
    assert 0 < scores["present"] < 1 and 0.2 < scores["chance"] < 0.35


# -- the worth of a memory ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def worth(root):
    sys.path.insert(0, str(root / "scripts" / "bench"))
    try:
        import videoqa_worth

        yield videoqa_worth
    finally:
        sys.path.remove(str(root / "scripts" / "bench"))


@pytest.mark.parametrize(
    ("backward", "realtime", "said"),
    [
        (5.0, -1.0, "met"),
        (4.9, 3.0, "not met"),
        (20.0, -1.1, "not met"),
    ],
)
def test_the_verdict_is_about_points(worth, backward, realtime, said):
    rows = {
        "default": [{"backward": 50 + backward + d, "realtime": 70 + realtime} for d in (-9, 9)],
        "fifo": [{"backward": 50.0, "realtime": 70.0}] * 2,
        "full": [{"backward": 90.0, "realtime": 90.0}] * 2,
    }
    (line,) = worth.verdict(rows)
    assert line.startswith("default and fifo") and line.endswith(f": {said}")


def test_presets_are_run_on_the_same_questions(worth, tmp_path, capsys, monkeypatch):
    import json

    words = ["--model", "random:qwen2.5-vl-tiny", "--device", "cpu", "--threads", "1"]
    words += ["--seeds", "1", "--videos", "1", "--seconds", "20", "--per-task", "1"]
    words += ["--budget", "100", "--presets", "default,fifo,full"]
    words += ["--root", str(tmp_path / "sets"), "--out", str(tmp_path / "worth.json")]
    assert worth.main(words) == 0
    said = capsys.readouterr().out
    assert "random: the numbers say nothing" in said and "default and fifo" in said
    rows = json.loads((tmp_path / "worth.json").read_text())["rows"]
    assert list(rows) == ["default", "fifo", "full", "chance"]
    assert rows["default"][0]["tokens"] <= 100 and rows["fifo"][0]["tokens"] <= 100
    assert rows["full"][0]["tokens"] > 150
    answers = sorted((tmp_path / "sets" / "answers-0").iterdir())
    assert [p.name for p in answers] == ["default", "fifo", "full"]
    questions = {
        tuple(sorted((e["id"], e["question"]) for e in json.loads(f.read_text())["backward"]))
        for place in answers
        for f in place.iterdir()
    }
    assert len(questions) == 1
    assert worth.main([*words[:2], "--model", "no-such"]) == 1
    assert capsys.readouterr().err.startswith("error: no video model")
