"""Scores of answers: the published numbers, the rules, files that are odd or damaged."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from videoqa_results import CHOICES, write_ovo_results

from vision_mem.errors import InputError
from vision_mem.evaluation.videoqa import answer_rules
from vision_mem.evaluation.videoqa.datasets.open import open_videoqa_benchmark
from vision_mem.evaluation.videoqa.records import Reply
from vision_mem.evaluation.videoqa.results import VideoQaResults
from vision_mem.evaluation.videoqa.scores import score_answers

GOLDEN = json.loads(
    (Path(__file__).resolve().parents[3] / "goldens" / "ovobench" / "scores.json").read_text()
)


def score(path, key="ovo-bench", root=None, strict=False, tasks=None, name=None):
    benchmark = open_videoqa_benchmark(key, root, tasks=tasks)
    with VideoQaResults(path, benchmark, name) as results:
        return score_answers(benchmark, results, strict=strict)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def choice(task, response, truth="B", number=0):
    return {
        "id": number, "video": "a/b.mp4", "task": task, "question": "?", "response": response,
        "ground_truth": truth,
    }  # fmt: skip


def moments(task, rows, number=900):
    return {"id": number, "video": "a/b.mp4", "task": task, "test_info": rows}


@pytest.mark.parametrize("model", GOLDEN["models"])
def test_the_published_numbers_of_ovo_bench(tmp_path, model):
    """Records with the counts of the published result files give their scores."""
    known = GOLDEN["models"][model]
    write_ovo_results(tmp_path, known["tasks"], lists=known["lists"], seed=len(model))
    found = score(tmp_path)
    tasks = found.by_attribute()
    assert set(tasks) == set(known["tasks"])
    for task, truth in known["tasks"].items():
        number, values = tasks[task]
        assert (number, values["correct"]) == (truth["total"], truth["correct"])
        assert values["nulls"] == truth["null_responses"]
        assert values["overall"] * 100 == pytest.approx(truth["score"], abs=1e-8)
    summary = found.summary()
    for group, value in known["groups"].items():
        assert summary[group] * 100 == pytest.approx(value, abs=1e-8)
    assert summary["overall"] * 100 == pytest.approx(known["overall"], abs=1e-8)
    micro = known["micro"]
    assert summary["all questions"] == pytest.approx(micro["correct"] / micro["total"])
    assert any("lists" in note for note in found.notes) == known["lists"]


@pytest.mark.parametrize(("said", "crr", "ssr"), [("Yes", 60.0, 67.25), ("No", 40.0, 32.75)])
def test_always_the_same_word(tmp_path, said, crr, ssr):
    """The counts of yes and no in the set decide, specs/savemem.md 4.1."""
    for task, yes in (("CRR", 144), ("SSR", 423)):
        total = {"CRR": 240, "SSR": 629}[task]
        rows = [{"realtime": 1, "type": int(k < yes), "response": said} for k in range(total)]
        write(tmp_path / f"{task}.json", {"forward": [moments(task, rows, 5 + yes)]})
    tasks = score(tmp_path).by_attribute()
    assert round(tasks["CRR"][1]["overall"] * 100, 2) == crr
    assert round(tasks["SSR"][1]["overall"] * 100, 2) == ssr


@pytest.mark.parametrize(("task", "right", "total", "percent"),
    [("EPM", 119, 297, 40.07), ("OCR", 34, 149, 22.82), ("FPD", 34, 101, 33.66)])  # fmt: skip
def test_always_the_same_letter(tmp_path, task, right, total, percent):
    rows = [choice(task, "A", "A" if k < right else "BC"[k % 2], k) for k in range(total)]
    write(tmp_path / "x.json", {CHOICES[task]: rows})
    assert round(score(tmp_path).by_attribute()[task][1]["overall"] * 100, 2) == percent


RULES = [
    # kind, truth, response, OVO-Bench, StreamingBench, ODV-Bench, strict
    ("choice", "B", "B", True, True, True, True),
    ("choice", "B", "B.", True, True, True, True),
    ("choice", "B", "The best is B", True, False, True, True),
    ("choice", "B", "b", False, False, True, False),
    ("choice", "B", "(B) a red car", True, False, True, True),
    ("choice", "B", "C, not B", True, False, False, False),
    ("choice", "A", "All of them", True, True, False, False),
    ("choice", "B", "Blue", True, True, False, False),
    ("choice", "B", "C. the Bus", True, False, False, False),
    ("choice", "B", "", False, None, None, False),
    ("choice", "B", None, False, None, None, False),
    ("count", "3", "3", True, None, None, True),
    ("count", "3", "3 times.", True, None, None, True),
    ("count", "3", "03", False, None, None, True),
    ("count", "23", "2 or 3", True, None, None, False),
    ("count", "2", "2 or 3", False, None, None, False),
    ("count", "0", "none", False, None, None, False),
    ("count", "0", "0", True, None, None, True),
    ("count", "3", None, False, None, None, False),
    ("count", "1", "1" * 5000, False, None, None, False),
    ("yes-no", "Yes", "Yes", True, None, None, True),
    ("yes-no", "Yes", "Y", True, None, None, True),
    ("yes-no", "No", "N", True, None, None, True),
    ("yes-no", "Yes", "yes", False, None, None, True),
    ("yes-no", "No", "Not now", True, None, None, False),
    ("yes-no", "No", "NO", False, None, None, True),
    ("yes-no", "No", "Yes. No doubt", True, None, None, False),
    ("yes-no", "Yes", None, False, None, None, False),
]


@pytest.mark.parametrize(("kind", "truth", "said", "ovo", "streaming", "odv", "strict"), RULES)
def test_what_is_right(kind, truth, said, ovo, streaming, odv, strict):
    reply = Reply("1", "1", "T", "g", kind, truth, said)
    assert answer_rules.ovo_official(reply) is ovo
    assert answer_rules.strict(reply) is strict
    if kind == "choice":
        assert answer_rules.streaming_official(reply) is streaming
        assert answer_rules.odv_official(reply) is odv


@pytest.fixture
def annotated(tmp_path):
    """Three questions and one that is asked twice."""
    entries = [
        {"id": k, "task": "EPM", "video": "a/b.mp4", "question": "What?", "answer": "other",
         "options": ["x", "y", "z"], "gt": 1, "realtime": 10.5 + k}
        for k in range(3)
    ]  # fmt: skip
    entries.append(
        {"id": 3, "task": "REC", "video": "a/c.mp4", "activity": "jump",
         "test_info": [{"realtime": 4, "count": 0}, {"realtime": 9, "count": 2}]}
    )  # fmt: skip
    write(tmp_path / "set" / "data" / "ovo_bench_new.json", entries)
    return tmp_path


def test_strict_counts_each_question_of_the_set_once(annotated):
    out = annotated / "model"
    rows = [choice("EPM", "A", "A", 0), choice("EPM", "B", "A", 0), choice("EPM", "B", "B", 77)]
    content = {"backward": rows, "forward": [moments("REC", [{"count": 0, "response": "0"}], 3)]}
    write(out / "x.json", content)
    official = score(out, root=annotated / "set")
    assert official.by_attribute()["EPM"][:1] == (3,)
    assert official.by_attribute()["EPM"][1]["overall"] == pytest.approx(2 / 3)
    assert official.by_attribute()["REC"][1]["overall"] == 1
    assert official.missing == ("1", "2", "3_1")
    strict = score(out, root=annotated / "set", strict=True)
    # The last answer to 0 is B, which the annotations want; 77 is unknown; 1 and 2 are lacking.
    assert strict.by_attribute()["EPM"][0] == 3
    assert strict.by_attribute()["EPM"][1]["overall"] == pytest.approx(1 / 3)
    assert strict.by_attribute()["REC"][1]["overall"] == pytest.approx(1 / 2)
    said = " | ".join(official.notes)
    for words in ("1 question answered again", "1 answer to no question", "2 questions is not that",
                  "3 questions not in the results"):  # fmt: skip
        assert words in said
    assert official.summary()["strict"] != official.summary()["strict"]  # no real-time task: NaN


def test_strict_notes_say_what_its_numbers_are_made_from(annotated):
    """Every question of the set counts once: wrong where there is no answer, or one to another."""
    rows = [choice("EPM", "B", "B", 0), choice("ASI", "B", "B", 1), choice("EPM", None, "B", 2)]
    rows.append(choice("EPM", "B", "B", 2))
    write(annotated / "model/x.json", {"backward": rows})
    found = score(annotated / "model", root=annotated / "set", strict=True)
    assert found.by_attribute()["EPM"][0] == 3 and found.by_attribute()["REC"][0] == 2
    assert found.by_attribute()["EPM"][1]["correct"] == 2  # 0 and 2; the answer to 1 is one to ASI
    said = " | ".join(found.notes)
    assert "3 questions not in the results: wrong" in said and "no answers to REC: wrong" in said
    assert "without an answer" not in said  # the null was answered again
    loose = " | ".join(score(annotated / "model", root=annotated / "set").notes)
    assert "a group is the mean of the tasks it has" in loose and "1 question without" in loose


def test_forward_tasks_by_item(tmp_path):
    rows = [{"count": k, "response": "1"} for k in range(4)]
    items = [moments("REC", rows, 1), moments("REC", [{"count": 1, "response": "1"}], 2)]
    write(tmp_path / "x.json", {"forward": items})
    _, values = score(tmp_path).by_attribute()["REC"]
    assert values["overall"] == pytest.approx(2 / 5)
    assert values["per item"] == pytest.approx((1 / 4 + 1) / 2)


def test_only_some_tasks(tmp_path):
    rows = [choice("EPM", "B"), choice("ASI", "A", number=1)]
    write(tmp_path / "x.json", {"backward": rows})
    assert score(tmp_path).summary()["overall"] != score(tmp_path).summary()["overall"]  # NaN
    some = score(tmp_path, tasks="E*")
    assert list(some.by_attribute()) == ["EPM"] and some.summary()["overall"] == 1
    with pytest.raises(InputError, match="EPN"):
        score(tmp_path, tasks="EPN")


def test_curve_over_time_needs_times(annotated, tmp_path):
    entries = [
        {"id": k, "task": "EPM", "video": "v.mp4", "question": "?", "options": ["x", "y"],
         "gt": 0, "realtime": 2.0 * k}
        for k in range(100)
    ]  # fmt: skip
    write(tmp_path / "timed" / "ovo_bench_new.json", entries)
    rows = [choice("EPM", "A" if k < 50 else "B", "A", k) for k in range(100)]
    write(tmp_path / "out" / "x.json", {"backward": rows})
    assert score(tmp_path / "out").curves() == {}
    curve = score(tmp_path / "out", root=tmp_path / "timed").curves()["Accuracy"]
    assert curve.y[0] == pytest.approx(0.5) == curve.score
    assert curve.y[-1] == 0  # everything late is wrong


DAMAGED = [
    ("[1, 2", "is not JSON"),
    ("", "is not JSON"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a": NaN}', "NaN is no JSON number"),
    ("[]", "no result file of OVO-Bench"),
    ('{"scores": 1}', "no result file of OVO-Bench"),
    ({"backward": {}}, "backward is {}; expected a list"),
    ({"backward": [1]}, "backward 1 is 1; expected an object"),
    ({"backward": [{"id": 1}]}, "has no 'task'"),
    ({"forward": [choice("OCR", "A")]}, "OCR is not a forward task"),
    ({"backward": [moments("REC", [])]}, "REC is not a backward task"),
    ({"backward": [choice("XYZ", "A")]}, "task is 'XYZ'"),
    ({"backward": [choice("EPM", {"a": 1})]}, 'response is {"a": 1}; expected text'),
    ({"backward": [choice("EPM", [["A"]])]}, "expected text, a list with a text, or null"),
    ({"backward": [choice("EPM", True)]}, "response is true"),
    ({"backward": [choice("EPM", "A", "red")]}, "ground_truth is 'red'; expected a letter"),
    ({"backward": [choice("EPM", "A", "")]}, "ground_truth"),
    ({"forward": [{"id": 1, "task": "REC"}]}, "has no 'test_info'"),
    ({"forward": [moments("REC", [{"count": "many", "response": "1"}])]}, "a whole number"),
    ({"forward": [moments("CRR", [{"type": 1}])]}, "has no 'response'"),
    ({"backward": []}, "holds no answer"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_damaged_files_get_one_line(tmp_path, content, message):
    write(tmp_path / "x.json", content)
    with pytest.raises(InputError) as caught:
        score(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_where_files_are_looked_for(tmp_path):
    good = {"backward": [choice("EPM", "B")]}
    write(tmp_path / "run" / "results" / "x.json", good)
    write(tmp_path / "run" / "run.json", {"kind": "evaluation"})
    assert score(tmp_path / "run").tracker == "run"
    assert score(tmp_path / "run" / "results" / "x.json").tracker == "x"
    with zipfile.ZipFile(tmp_path / "Packed.zip", "w") as archive:
        archive.writestr("Packed/x.json", json.dumps(good))
        archive.writestr("__MACOSX/Packed/._x.json", b"\0")
    assert score(tmp_path / "Packed.zip").tracker == "Packed"
    with pytest.raises(InputError, match="in 2 folders"):
        for name in "ab":
            write(tmp_path / "several" / name / "x.json", good)
        score(tmp_path / "several")
    with pytest.raises(InputError, match="holds no JSON file"):
        (tmp_path / "empty").mkdir()
        score(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        score(tmp_path / "nowhere")


# -- the other sets ------------------------------------------------------------------------------


def streaming(response, answer="A", task="Counting", **more):
    options = ["A. one", "B. two", "C. three", "D. four"]
    return {
        "task_type": task, "question": "How many?", "time_stamp": "00:01:05", "answer": answer,
        "options": options, "required_ability": "memory", "MyModel": response, **more,
    }  # fmt: skip


def test_streamingbench(tmp_path):
    said = [streaming("A"), streaming("B"), streaming(" A"), streaming(None), streaming("")]
    other = [streaming("A) one", task="Emotion Recognition")]
    content = [
        {"time": "", "video_path": "./videos/s1.mp4", "questions": said},
        {"time": "", "video_path": "./videos/s2.mp4", "questions": other},
    ]
    write(tmp_path / "MyModel.json", content)
    found = score(tmp_path, "streamingbench")
    assert found.by_attribute()["Counting"] == (
        3, {"overall": 1 / 3, "strict": 2 / 5, "per item": 1 / 3, "correct": 1.0, "nulls": 1.0},
    )  # fmt: skip
    assert found.summary() == pytest.approx(
        {"overall": 2 / 4, "realtime": 1 / 3, "omni": 1.0, "strict": 3 / 6}
    )
    strict = score(tmp_path, "streamingbench", strict=True)
    assert strict.summary()["overall"] == pytest.approx(3 / 6)  # none and empty are wrong
    assert strict.summary()["official"] == pytest.approx(2 / 4)
    assert any("2 questions without an answer: left out" in note for note in found.notes)


def test_streamingbench_of_two_models_needs_a_name(tmp_path):
    entry = {"video_path": "v.mp4", "questions": [streaming("A", Other="B")]}
    write(tmp_path / "x.json", [entry])
    with pytest.raises(InputError, match="MyModel, Other"):
        score(tmp_path, "streamingbench")
    assert score(tmp_path, "streamingbench", name="MyModel").summary()["overall"] == 1
    assert score(tmp_path, "streamingbench", name="Other").summary()["overall"] == 0


def test_streamingbench_line_by_line(tmp_path):
    rows = [
        {"question_id": f"Real-Time Visual Understanding_sample_3_{k}", "task_type": "Counting",
         "answer": "C", "response": "C" if k else "D"}
        for k in range(4)
    ]  # fmt: skip
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    assert score(tmp_path, "streamingbench").summary()["overall"] == pytest.approx(3 / 4)


def test_streamingbench_questions_that_follow_from_each_other(tmp_path):
    """They lie in lists of their own."""
    entry = {"video_path": "v.mp4", "questions": [streaming("A")]}
    write(tmp_path / "x.json", [[entry, entry], [entry]])
    assert score(tmp_path, "streamingbench").by_attribute()["Counting"][0] == 3


def test_streamingbench_words_at_the_right_moment(tmp_path):
    def proactive(time_s, said, words="Goal"):
        history = [{"role": "assistant", "time": 31, "content": "no"}] if words else []
        history += [{"role": "assistant", "time": time_s, "content": said}]
        return {
            "task_type": "Proactive Output", "question": "Say Goal", "time_stamp": "00:00:30",
            "ground_truth_time_stamp": "00:00:40", "ground_truth_output": "Goal",
            "Model": {"dialog_history": history},
        }  # fmt: skip

    asked = [proactive(38, "Goal!"), proactive(42, "Goal"), proactive(43, "Goal"),
             proactive(40, "goal")]  # fmt: skip
    asked.append(asked[0] | {"Model": None})
    write(tmp_path / "x.json", [{"video_path": "v.mp4", "questions": asked}])
    found = score(tmp_path, "streamingbench")
    assert found.summary()["overall"] == pytest.approx(2 / 4)
    assert found.summary()["strict"] == pytest.approx(2 / 5)
    assert "3 of 4 outputs came in time, right or wrong" in found.notes
    asked[0]["Model"] = "Goal"
    write(tmp_path / "x.json", [{"video_path": "v.mp4", "questions": asked}])
    with pytest.raises(InputError, match="Model is 'Goal'; expected an object"):
        score(tmp_path, "streamingbench")


def odv(response, answer="wait", **more):
    return {
        "task": "Static Target", "subtask": "Driving Decision", "video": "zip/1.mp4",
        "question": "What now?", "candidates": ["go", "wait", "turn"], "answer": answer,
        "start": 0, "end": 12.5, "response": response, **more,
    }  # fmt: skip


def test_odv_bench(tmp_path):
    rows = [odv("B"), odv("B. wait"), odv("it is b"), odv("A"), odv("")]
    write(tmp_path / "x.json", [*rows, odv("C", "turn", task="Dynamic Target", subtask="Action")])
    found = score(tmp_path, "odv-bench")
    assert found.summary() == pytest.approx(
        {"overall": 4 / 5, "Static Target": 3 / 4, "Dynamic Target": 1.0, "strict": 3 / 6}
    )


def test_odv_bench_logs_of_its_evaluation(tmp_path):
    rows = [
        {"odvbench_accuracy": {"pred_answer": said, "gt_answer": "B", "score": 0,
                               "task": "Static Target", "subtask": "Driving Decision"}}
        for said in ("B", "C", "B. wait")
    ]  # fmt: skip
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    assert score(tmp_path, "odv-bench").summary()["overall"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("odv-bench", [odv("A", "fly")], "'fly' is none of 3 candidates"),
        ("odv-bench", '{"a": 1}\n{"b"', "line"),
        ("odv-bench", [odv("A", end="soon")], "end is 'soon'; expected seconds"),
        ("streamingbench", [{"video_path": "/etc/x", "questions": []}], "leads out of"),
        ("streamingbench", [{"video_path": "a.mp4", "questions": 3}], "expected a list"),
        ("streamingbench", "[]", "holds no answer"),
        ("streamingbench", '{\n "backward": []\n}', "is one object; expected a list"),
    ],
)
def test_damaged_files_of_other_sets(tmp_path, key, content, message):
    write(tmp_path / "x.json", content)
    with pytest.raises(InputError) as caught:
        score(tmp_path, key)
    assert message in str(caught.value) and "\n" not in str(caught.value)
