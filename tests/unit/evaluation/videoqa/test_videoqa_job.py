"""Runs on sets of questions, from generated streams to scores."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
import torch

from vision_mem.errors import InputError, ModelError
from vision_mem.evaluation.engine.folder import EvaluationFolder
from vision_mem.evaluation.engine.run import evaluate
from vision_mem.evaluation.engine.runner import Failed, Finished, run_job
from vision_mem.evaluation.options import Workplace
from vision_mem.evaluation.videoqa.datasets.ovobench import queries_of
from vision_mem.evaluation.videoqa.frame_protocol import FrameProtocol, chosen_frames
from vision_mem.evaluation.videoqa.job import VideoQaWorker, plan_questions, usual_protocol
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.synthetic.qa_questions import StreamQuestion, ask_stream
from vision_mem.synthetic.qa_sets import StreamSeries, entries_of, prepare_streams, write_streams
from vision_mem.synthetic.qa_streams import GeneratedStream, StreamSettings
from vision_mem.videoqa import Answer
from vision_mem.visualization.contact_sheet import write_video

SMALL = StreamSettings(seconds=20, width=64, height=64, noise=0)
STREAM = FrameProtocol(mode="stream")


class Answerer:
    """Answers from a list by question and time, and notes what it was shown and asked."""

    def __init__(self, answers=None, always=None):
        self.answers, self.always = answers or {}, always
        self.seen, self.asked, self.resets = [], [], 0

    def reset(self):
        self.seen = []
        self.resets += 1

    def step(self, frame):
        self.seen.append(frame.time_s)

    def ask(self, question, *, scope="auto"):
        self.asked.append((question, tuple(self.seen), scope))
        if self.always is not None:
            return Answer(self.always, (), self.seen[-1], scope, 1, 1)
        waiting = self.answers[question]
        said = waiting.pop(0)
        if isinstance(said, Exception):
            raise said
        return Answer(said, (), self.seen[-1], scope, 1, 1)


def worker(session):
    model = FakeVideoModel()
    return VideoQaWorker(session, model)


def oracle(job):
    """The right answers of a video, in the order of their times."""
    answers = {}
    for query in job.video.queries:
        answers.setdefault(query.question, []).append(query.truth)
    return Answerer(answers)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    number = write_streams(root, [replace(SMALL, seed=seed) for seed in (1, 2)], per_task=1)
    return root, number


def run_with(run, folder, make_answerer):
    folder.begin()
    for job in folder.undone(run.jobs):
        done = run_job(job, worker(make_answerer(job)), lambda message: None)
        folder.write(done)
        assert isinstance(done, Finished), done


@pytest.mark.parametrize("mode", ["clips", "stream"])
def test_an_oracle_is_right_everywhere(generated, tmp_path, mode):
    root, number = generated
    run = plan_questions(
        "ovo-bench", root, protocol=replace(usual_protocol("ovo-bench"), mode=mode)
    )
    assert sum(len(job.video.queries) for job in run.jobs) == number
    folder = EvaluationFolder(tmp_path / "out", run.identity)
    run_with(run, folder, oracle)
    assert folder.undone(run.jobs) == []
    said = "\n".join(run.sum_up(folder, "oracle"))
    record = json.loads((folder.scores / "scores.json").read_text())["trackers"][0]
    tasks = record["attributes"]
    assert set(tasks) >= {"ATR", "STU", "OJR", "EPM", "HLD", "REC", "SSR", "CRR"}
    assert (
        {values["overall"] for values in tasks.values()}
        == {1.0}
        == {values["strict"] for values in tasks.values()}
    )
    assert record["summary"]["overall"] == 1.0 and "oracle" in said
    assert (folder.scores / "accuracy.png").stat().st_size > 10_000


def test_a_constant_answer_gets_its_share(generated, tmp_path):
    root, _ = generated
    run = plan_questions("ovo-bench", root, protocol=STREAM)
    folder = EvaluationFolder(tmp_path / "out", run.identity)
    run_with(run, folder, lambda job: Answerer(always="A"))
    run.sum_up(folder, "constant")
    tasks = json.loads((folder.scores / "scores.json").read_text())["trackers"][0]["attributes"]
    queries = [query for job in run.jobs for query in job.video.queries]
    for task, values in tasks.items():
        truths = [query.truth for query in queries if query.task == task]
        assert values["overall"] == pytest.approx(truths.count("A") / len(truths), abs=1e-6)


def test_the_official_clip_and_the_honest_stream(generated):
    """A clip ends at the next whole second; a stream is asked when it has seen no more."""
    root, _ = generated
    for mode in ("clips", "stream"):
        protocol = replace(usual_protocol("ovo-bench"), mode=mode)
        job = plan_questions("ovo-bench", root, protocol=protocol).jobs[0]
        answerer = oracle(job)
        run_job(job, worker(answerer), lambda message: None)
        assert answerer.resets == (1 if mode == "stream" else len(job.video.queries))
        for query, (asked, seen, _) in zip(job.video.queries, answerer.asked, strict=True):
            assert asked == query.question
            assert seen[-1] <= query.time_s
            assert seen[-1] >= query.time_s - (0.25 if mode == "clips" else 1.0)
            steps = {round(b - a, 3) for a, b in pairwise(seen)}
            assert steps <= {1.0} or query.time_s < 4


def test_scopes(generated):
    root, _ = generated
    job = plan_questions("ovo-bench", root, protocol=replace(STREAM, scope="benchmark")).jobs[0]
    answerer = oracle(job)
    run_job(job, worker(answerer), lambda message: None)
    for query, (_, _, scope) in zip(job.video.queries, answerer.asked, strict=True):
        assert scope == ("recent" if query.group == "realtime" else "all")


def test_the_real_session_runs_and_goes_on(generated, tmp_path):
    root, _ = generated
    run = plan_questions("ovo-bench", root, protocol=STREAM)
    folder = EvaluationFolder(tmp_path / "out", run.identity)
    folder.begin()
    first = plan_questions("ovo-bench", root, protocol=STREAM, shard=(1, 2)).jobs
    evaluate(first, folder, make_fake, Workplace())
    assert [job.name for job in folder.undone(run.jobs)] == [
        job.name for job in run.jobs if job.name not in {one.name for one in first}
    ]
    progress = evaluate(run.jobs, folder, make_fake, Workplace())
    assert progress.finished == 1 and not progress.failed
    alone, _ = folder.speed(run.jobs)
    assert alone > 0
    (folder.results / run.jobs[0].file).write_text('{"backward": []}')  # a damaged result
    assert folder.undone(run.jobs) == [run.jobs[0]]
    log = json.loads((folder.path / "logs" / f"{run.jobs[0].name}.json").read_text())
    assert {"answer", "truth", "tokens_read", "scope", "seconds"} <= set(log["questions"][0])
    assert "fake" in "\n".join(run.sum_up(folder, "fake"))


def make_fake(device):
    torch.set_num_threads(1)
    return VideoQaWorker.around(FakeVideoModel())


def test_a_question_that_fails_has_no_answer(generated, tmp_path):
    root, _ = generated
    run = plan_questions("ovo-bench", root, tasks="EPM,HLD", protocol=STREAM)
    job = run.jobs[0]
    answers = {query.question: [ModelError("out of\nwords")] for query in job.video.queries}
    done = run_job(job, worker(Answerer(answers)), lambda message: None)
    assert isinstance(done, Finished)
    content = json.loads(done.files[job.file])
    assert {row["response"] for row in content["backward"]} == {None}
    assert done.log["questions"][0]["error"] == "out of words"
    folder = EvaluationFolder(tmp_path / "out", run.identity)
    folder.begin()
    folder.write(done)
    assert job not in folder.undone(run.jobs)


def proactive_set(root, **more):
    """A video of 12 s, and one question whose moment is at 6 s."""
    clip = GeneratedStream(replace(SMALL, seconds=12, seed=1))
    write_video(root / "v.mp4", (frame.image for frame in clip), 2.0)
    question = {
        "task_type": "Proactive Output", "question": 'Say "Goal" when the ball is in.',
        "time_stamp": "00:00:02", "ground_truth_time_stamp": "00:00:06",
        "ground_truth_output": "Goal",
    }  # fmt: skip
    entry = {"video_path": "v.mp4", "questions": [question | more]}
    (root / "questions_proactive.json").write_text(json.dumps([entry]))


class Watcher(Answerer):
    """Says that the moment has come at a given second, and then the words."""

    def __init__(self, yes_at, words="Goal"):
        super().__init__()
        self.yes_at, self.words = yes_at, words

    def ask(self, question, *, scope="auto"):
        now = self.seen[-1]
        self.asked.append((now, question.text))
        said = self.words
        if "Has the moment come" in question.text:
            said = "Yes." if now >= self.yes_at else "No."
        return Answer(said, (), now, scope, 1, 1)


@pytest.mark.parametrize("mode", ["clips", "stream"])
@pytest.mark.parametrize(
    ("yes_at", "words", "polls", "in_time", "right"),
    [
        (5, "Goal!", [3, 4, 5], True, True),
        (7, "Foul", [3, 4, 5, 6, 7], True, False),
        (3, "Goal", [3], False, False),
        (99, "Goal", [3, 4, 5, 6, 7, 8, 9, 10], False, False),
    ],
)
def test_words_at_the_right_moment(tmp_path, mode, yes_at, words, polls, in_time, right):
    """Asked each second from the next one on, until it is yes or four seconds after the moment."""
    proactive_set(tmp_path)
    run = plan_questions("streamingbench", tmp_path, protocol=FrameProtocol(mode=mode))
    folder = EvaluationFolder(tmp_path / "out", run.identity)
    watcher = Watcher(yes_at, words)
    run_with(run, folder, lambda job: watcher)
    asked = [at for at, text in watcher.asked if "Has the moment come" in text]
    assert asked == polls
    assert len(watcher.asked) - len(polls) == (yes_at < 99)  # the words, once
    row = json.loads((folder.results / run.jobs[0].file).read_text())[0]["questions"][0]
    last = row["response"]["dialog_history"][-1]
    assert (last["role"], last["time"]) == ("assistant", polls[-1])
    assert folder.undone(run.jobs) == []
    said = "\n".join(run.sum_up(folder, "watcher"))
    record = json.loads((folder.scores / "scores.json").read_text())["trackers"][0]
    assert record["summary"]["overall"] == (1.0 if right else 0.0)
    assert f"{int(in_time)} of 1 output came in time" in said


def test_a_moment_before_its_question(tmp_path):
    proactive_set(tmp_path, time_stamp="00:00:30")
    with pytest.raises(InputError, match="long after the moment 6 s"):
        plan_questions("streamingbench", tmp_path)


def test_models_that_do_not_speak():
    with pytest.raises(InputError, match="gives no words"):
        VideoQaWorker.around(FakeVideoModel(speaks=False))


def test_a_missing_video_fails_alone(generated, tmp_path):
    root, _ = generated
    copy = tmp_path / "set"
    (copy / "data").mkdir(parents=True)
    text = (root / "data" / "ovo_bench_new.json").read_text()
    (copy / "data" / "ovo_bench_new.json").write_text(text)
    for mode in ("clips", "stream"):
        job = plan_questions("ovo-bench", copy, protocol=FrameProtocol(mode=mode)).jobs[0]
        done = run_job(job, worker(Answerer(always="A")), lambda message: None)
        assert isinstance(done, Failed) and "generated/0000.mp4" in done.reason


def test_ready_cut_clips(generated, tmp_path):
    root, _ = generated
    entries = json.loads((root / "data" / "ovo_bench_new.json").read_text())
    entry = next(each for each in entries if "realtime" in each)
    (tmp_path / "ovo_bench_new.json").write_text(json.dumps([entry]))
    images = (torch.full((32, 32, 3), k, dtype=torch.uint8).numpy() for k in range(30))
    write_video(tmp_path / "chunked_videos" / f"{entry['id']}.mp4", images, 5.0)
    job = plan_questions("ovo-bench", tmp_path).jobs[0]
    answerer = Answerer(always="A")
    assert isinstance(run_job(job, worker(answerer), lambda message: None), Finished)
    assert answerer.asked[0][1][-1] == pytest.approx(29 / 5)  # its last frame


CLIPS = [
    # frames, rate, window, end, start, min, max: first, last, count
    ((3000, 30.0), (256.0, 10.0, 0.0), (4, 256), (29, 299, 10)),
    ((30000, 30.0), (256.0, 900.0, 0.0), (4, 256), (19349, 26999, 256)),
    ((30000, 30.0), (60.0, 900.0, 0.0), (4, 256), (25229, 26999, 60)),
    ((30000, 30.0), (None, 900.0, 0.0), (2, 256), (0, 26999, 256)),
    ((30000, 30.0), (None, 900.0, 890.0), (2, 256), (26700, 26999, 10)),
    ((30000, 30.0), (256.0, None, 0.0), (2, 256), (22349, 29999, 256)),
    ((100, 25.0), (256.0, 99.0, 0.0), (4, 256), (24, 99, 4)),
    ((100, 25.0), (256.0, 0.0, 0.0), (4, 256), (0, 0, 1)),
    ((1, 25.0), (256.0, 5.0, 0.0), (4, 256), (0, 0, 1)),
    ((100, 25.0), (None, 3.0, 2.0), (8, 256), (50, 74, 8)),
    ((1000, 1.0), (256.0, 500.0, 0.0), (4, 8), (492, 499, 8)),
]


@pytest.mark.parametrize(("video", "clip", "bounds", "expected"), CLIPS)
def test_which_frames_a_clip_has(video, clip, bounds, expected):
    protocol = FrameProtocol(
        window_s=clip[0], min_frames=bounds[0], max_frames=bounds[1], whole_seconds=True
    )
    found = chosen_frames(*video, protocol, end_s=clip[1], start_s=clip[2])
    assert (found[0], found[-1], len(found)) == expected
    assert found == sorted(set(found))


def test_a_clip_that_is_not_cut_has_the_frame_of_the_question():
    """StreamingBench and ODV-Bench: up to floor(time * rate), from ceil(begin * rate)."""
    found = chosen_frames(30000, 30.0, FrameProtocol(window_s=60.0), end_s=900.0)
    assert (found[0], found[-1], len(found)) == (27000 - 59 * 30, 27000, 60)
    found = chosen_frames(30000, 29.97, FrameProtocol(window_s=None), end_s=12.5, start_s=2.5)
    assert (found[0], found[-1]) == (75, 374)
    assert chosen_frames(30, 30.0, FrameProtocol(), end_s=99.0)[-1] == 29


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "live"}, "mode is 'live'"),
        ({"scope": "wide"}, "scope is 'wide'"),
        ({"window_s": 0.0}, "window_s is 0.0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"min_frames": 0}, "min_frames 0"),
    ],
)
def test_protocols_that_make_no_sense(settings, message):
    with pytest.raises(InputError, match=message):
        FrameProtocol(**settings)


def test_a_generated_set_is_written_once(tmp_path):
    series = StreamSeries(videos=1, seconds=12, width=64, height=64, per_task=1)
    names = []
    made = prepare_streams(tmp_path / "set", series, on_stream=names.append)
    assert made == asdict(series) == prepare_streams(tmp_path / "set", series)
    assert prepare_streams(tmp_path / "set", None, on_stream=names.append) == made
    assert names == ["0000"]
    run = plan_questions("streams", tmp_path / "set")
    assert run.protocol.mode == "stream" and len(run.jobs) == 1
    assert isinstance(run_job(run.jobs[0], worker(oracle(run.jobs[0])), lambda m: None), Finished)
    with pytest.raises(InputError, match="--stream asks for videos=2"):
        prepare_streams(tmp_path / "set", replace(series, videos=2))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(InputError, match="holds other things"):
        prepare_streams(tmp_path / "other")
    with pytest.raises(InputError, match="0 streams"):
        StreamSeries(videos=0)


def test_questions_of_a_stream_without_files():
    """What a training script sees is what an evaluation asks."""
    stream = GeneratedStream(SMALL)
    asked = ask_stream(stream)
    queries = queries_of(entries_of(asked, "x.mp4"), "a stream")
    choices = [each for each in asked if isinstance(each, StreamQuestion)]
    assert len(queries) > len(choices) > 10
    for query, each in zip(queries, choices, strict=False):
        assert query.question.text == each.text and query.time_s == each.time_s
        assert each.options["ABCD".index(query.truth)] == each.options[each.right]
