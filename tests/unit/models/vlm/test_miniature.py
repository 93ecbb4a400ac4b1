"""The miniature: its size and words, how it is taught, that it resumes, and that it opens."""

# ruff: noqa: F401, F811  (fixtures are imported, and then named as arguments)
from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from miniature_parts import learning, network, one_thread, scripts, watching

from vision_mem.errors import InputError, ModelError
from vision_mem.evaluation.videoqa.datasets.ovobench import queries_of
from vision_mem.models.vlm import miniature
from vision_mem.models.vlm.network import SYSTEM, Chat
from vision_mem.models.vlm.protocol import AnswerPiece, Question
from vision_mem.synthetic.qa_questions import ask_stream
from vision_mem.synthetic.qa_sets import entries_of
from vision_mem.synthetic.qa_streams import GeneratedStream, StreamSettings
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession
from vision_mem.videoqa.config import QUESTIONS

CPU = torch.device("cpu")
pytest.importorskip("transformers", reason="needs the transformers library")


# -- size and words ----------------------------------------------------------------------------


def test_it_is_a_small_network_of_the_librarys_class(network):
    assert type(network).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert 1_000_000 < sum(p.numel() for p in network.parameters()) <= 10_000_000


def test_the_same_seed_gives_the_same_weights(network):
    again, other = miniature.miniature_network(1), miniature.miniature_network(2)
    for (name, one), two in zip(network.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert not torch.equal(network.lm_head.weight, other.lm_head.weight)


def test_time_rows_and_columns_all_turn(network):
    """With the usual series a column would turn by a hundredth of a radian over a whole frame."""
    rope = network.model.language_model.rotary_emb
    time, row, column = rope.inv_freq.split(rope.mrope_section)
    assert rope.attention_scaling == 1 and len(time) + len(row) + len(column) == 16
    for axis, places in ((row, 6), (column, 8)):
        assert 3 < (places - 1) * axis.max() < 6.28, "places in a frame look alike"
    moving = time[time > 1e-3]
    assert time.max() == 1 and 0.5 < 128 * moving.min() < 3.15, "two minutes turn more than half"
    # Words find what they mean by numbers that no position turns.
    assert (rope.inv_freq * 1000 < 0.1).sum() == 8


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
    texts = [SYSTEM, *QUESTIONS, *scripts["miniature_vision"].spoken()]
    for seed in range(12):
        stream = GeneratedStream(StreamSettings(seed=seed))
        for query in queries_of(entries_of(ask_stream(stream, per_task=5), "a.mp4"), "here"):
            question = query.question
            texts += [question.text, question.instruction, *question.options]
    tokenizer = miniature.miniature_tokenizer()
    words = {word for text in texts for word in re.findall(r"[A-Za-z]+|\d", text)}
    spelt = [w for w in words for form in (w, f" {w}") if len(tokenizer.encode(form)) != 1]
    assert len(words) > 100 and not spelt


# -- the run -----------------------------------------------------------------------------------


TINY = ["--seeing", "2", "--now", "1", "--steps", "5", "--scenes", "2", "--stretches", "2"]
TINY += ["--streams", "1", "--moments", "1", "--asked", "3", "--pool", "2", "--warm-up", "2"]
TINY += ["--threads", "1", "--device", "cpu", "--check-clips", "0"]


@pytest.fixture(scope="module")
def whole_run(scripts, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert scripts["train_miniature"].main(["--out", str(out), *TINY]) == 0
    return out


def test_a_run_in_pieces_gives_the_same_bits(scripts, whole_run, tmp_path, capsys):
    main, load = scripts["train_miniature"].main, scripts["train_miniature"].load
    words = ["--out", str(tmp_path / "cut"), *TINY, "--minutes", "1e-6"]
    for piece in range(5):
        assert main([*words, *(["--resume"] if piece else [])]) == 0
        assert load(tmp_path / "cut")["step"] == piece + 1
    one, two = load(whole_run), load(tmp_path / "cut")
    for part in ("network", "average", "readers"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), name
    assert main([*words, "--resume", "--seed", "1"]) == 2
    assert "other values of seed" in capsys.readouterr().err
    assert main([*words, "--seeing", "5"]) == 2
    assert "5 steps cannot have 5 of the tower" in capsys.readouterr().err


def test_an_exported_model_opens_and_answers(scripts, whole_run, tmp_path, monkeypatch, capsys):
    from vision_mem.models.vlm.load import load_video_model

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
    from vision_mem.models.vlm.load import load_video_model

    monkeypatch.setattr(miniature, "FOLDER", tmp_path)
    with pytest.raises(ModelError) as caught:
        load_video_model("miniature", device="cpu")
    assert "train_miniature.py" in str(caught.value) and "\n" not in str(caught.value)


def test_checks_ask_a_session_and_know_right_from_wrong(
    scripts, learning, watching, network, tmp_path
):
    checks = scripts["miniature_checks"]
    watches = checks.check_watches(1)
    assert watches == checks.check_watches(1)
    every = [one for watch in watches for _, asked in watch.moments for one in asked]
    now = [one for one in every if one.task in checks.REALTIME]
    waiting = iter(now)

    class Knowing(learning.Pupil):
        """Says what is right, but for colours."""

        def answer(self, context, question, **more):
            one = next(waiting)
            assert (one.text, ()) == (question.text, question.options)
            right = one.options[one.right]
            return iter([AnswerPiece("mauve" if one.task == "ATR" else right, "stop")])

    pupil = Knowing(network)
    scores = checks.check(pupil, watches, watching.Pool(tmp_path, pupil, checks.CHECK_SEEDS))
    tasks = {one.task for one in now}
    assert scores["ATR"] == 0 and all(scores[task] == 1 for task in tasks - {"ATR"})
    assert scores["present"] == pytest.approx(1 - 1 / len(tasks))
    assert 0.25 < scores["commonest"] < 1 and 0.2 < scores["guessing"] <= 0.5
    # A network that knows nothing guesses among options.
    assert 0 <= scores["realtime"] < 0.8 and 0 <= scores["backward"] < 0.9


# -- the weights of the package ----------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    from vision_mem.models.vlm.load import load_video_model

    return load_video_model("miniature", device="cpu")


def test_the_shipped_one_is_small_and_whole(shipped):
    sizes = {path.name: path.stat().st_size for path in miniature.FOLDER.iterdir()}
    assert sum(sizes.values()) < 5 * 1024 * 1024 and {"config.json", "model.safetensors"} <= set(
        sizes
    )
    assert type(shipped).__name__ == "ByLikelihood"  # by its config.json, wherever the folder is


@pytest.mark.parametrize("seed", [301, 302, 303])
def test_the_shipped_one_answers_about_streams_it_never_saw(shipped, scripts, seed):
    """Questions about now in words, questions about before among their options."""
    ask, rng = scripts["miniature_questions"].choices_at, np.random.default_rng(seed)
    realtime = scripts["miniature_questions"].REALTIME
    stream = GeneratedStream(StreamSettings(seed=seed))
    session, now, before = VideoMemorySession(shipped), [], []
    for second, frame in enumerate(stream.frames(fps=1.0)):
        session.step(frame)
        if second % 8 == 7 and stream.is_quiet(second):
            for one in ask(stream, second, rng, realtime, passes=2, most=20):
                now.append(session.ask(one.text).text == one.options[one.right])
        if second > 40 and second % 8 == 7 and stream.is_quiet(second):
            for one in ask(stream, second, rng, ("EPM", "HLD"), passes=2, most=20):
                said = session.ask(Question(one.text, one.options)).text
                before.append(said == "ABCD"[one.right])
    assert len(now) > 40 and len(before) > 10
    assert np.mean(now) > 0.85
    assert np.mean(before) > 0.6


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
    assert worth.main([*words[:2], "--model", "no-such"]) == 2
    assert capsys.readouterr().err.startswith("error: no video model")
