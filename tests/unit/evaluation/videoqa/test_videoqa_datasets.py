"""Annotation files of the sets of questions."""

from __future__ import annotations

import json

import pytest

from vision_mem.errors import InputError
from vision_mem.evaluation.videoqa.datasets.open import open_videoqa_benchmark, video_of

CHOICE = {
    "id": 0, "task": "EPM", "video": "a/b.mp4", "question": "Where?", "answer": "not an option",
    "options": ["x", "y"], "gt": 1, "realtime": 10.5,
}  # fmt: skip
REC = {
    "id": 1, "task": "REC", "video": "a/b.mp4", "activity": "jump rope",
    "start_times": [1], "end_times": [2], "test_info": [{"realtime": 3, "count": 1}],
}  # fmt: skip
SSR = {
    "id": 2, "task": "SSR", "video": "c.mp4", "tutorial": "tea", "all_steps": ["boil"],
    "test_info": [{"realtime": 3, "step": "boil water", "type": 0},
                  {"realtime": 2, "step": "boil water", "type": 1}],
}  # fmt: skip
CRR = {
    "id": 3, "task": "CRR", "video": "c.mp4", "question": "Who won?", "answer": "she",
    "ask_time": 1, "clue_time": 5, "test_info": [{"realtime": 6, "type": 1}],
}  # fmt: skip


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_ovo_bench(tmp_path):
    write(tmp_path / "data" / "ovo_bench_new.json", [CHOICE, REC, SSR, CRR])
    benchmark = open_videoqa_benchmark("ovo-bench", tmp_path)
    said = [(q.name, q.task, q.group, q.kind, q.truth, q.time_s) for q in benchmark.queries]
    assert said == [
        ("0", "EPM", "backward", "choice", "B", 10.5),  # gt counts, not the answer's text
        ("1_0", "REC", "forward", "count", "1", 3.0),
        ("2_0", "SSR", "forward", "yes-no", "No", 3.0),
        ("2_1", "SSR", "forward", "yes-no", "Yes", 2.0),
        ("3_0", "CRR", "forward", "yes-no", "Yes", 6.0),
    ]
    questions = {q.name: q.question for q in benchmark.queries}
    assert questions["0"].options == ("x", "y") and "letter" in questions["0"].instruction
    assert "jump rope" in questions["1_0"].text and "number" in questions["1_0"].instruction
    assert "boil water" in questions["2_0"].text and "Yes or No" in questions["2_0"].instruction
    assert "Who won?" in questions["3_0"].text and "Yes or No" in questions["3_0"].instruction
    videos = {v.name: [q.name for q in v.queries] for v in benchmark.videos}
    assert videos == {"a_b": ["1_0", "0"], "c": ["2_1", "2_0", "3_0"]}  # in order of time
    only = open_videoqa_benchmark("ovo-bench", tmp_path, tasks="SSR,C*")
    assert [q.name for q in only.queries] == ["2_0", "2_1", "3_0"]
    by_file = open_videoqa_benchmark("ovo-bench", tmp_path / "data" / "ovo_bench_new.json")
    assert by_file.queries == benchmark.queries


@pytest.mark.parametrize(
    "place",
    ["a/b.mp4", "src_videos/a/b.mp4", "data/src_videos/a/b.mp4", "videos/b.mp4"],
)
def test_where_videos_are(tmp_path, place):
    write(tmp_path / "ovo_bench_new.json", [CHOICE, REC])
    query = open_videoqa_benchmark("ovo-bench", tmp_path).queries[0]
    assert video_of(tmp_path, query, "ovo-bench", cut=False) is None
    path = write(tmp_path / place, "film")
    assert video_of(tmp_path, query, "ovo-bench", cut=False) == path


def test_where_cut_clips_are(tmp_path):
    write(tmp_path / "ovo_bench_new.json", [CHOICE, REC])
    one, two = open_videoqa_benchmark("ovo-bench", tmp_path).queries
    for name, query in (("0.mp4", one), ("1_0.mp4", two)):
        path = write(tmp_path / "chunked_videos" / name, "film")
        assert video_of(tmp_path, query, "ovo-bench", cut=True) == path


def test_names_of_videos_never_meet(tmp_path):
    entries = [CHOICE | {"id": k, "video": v} for k, v in enumerate(("a/b.mp4", "a_b.mp4", "A-b"))]
    entries += [CHOICE | {"id": 7, "video": "A/B.mp4"}, CHOICE | {"id": 8, "video": "..mp4"}]
    write(tmp_path / "ovo_bench_new.json", entries)
    videos = open_videoqa_benchmark("ovo-bench", tmp_path).videos
    names = [video.name.lower() for video in videos]
    assert len(set(names)) == 5 and all(names) and not any("/" in name for name in names)


DAMAGED = [
    ("{}", "no list"),
    ("[]", "holds no questions"),
    ("[1]", "entry 1 is 1; expected an object"),
    ([CHOICE, CHOICE], "two questions are called 0"),
    ([CHOICE | {"gt": 2}], "gt is 2 of 2 options"),
    ([CHOICE | {"gt": "x"}], "expected a whole number"),
    ([CHOICE | {"options": ["x"]}], "of 1 options"),
    ([CHOICE | {"options": "xy"}], "expected a list of texts"),
    ([CHOICE | {"realtime": -1}], "expected seconds"),
    ([CHOICE | {"realtime": 1e999}], "not JSON: Infinity"),
    ([CHOICE | {"video": "../../secret.mp4"}], "leads out of the set's folder"),
    ([CHOICE | {"video": "/etc/passwd"}], "leads out of the set's folder"),
    ([CHOICE | {"video": "C:\\x.mp4"}], "leads out of the set's folder"),
    ([CHOICE | {"question": ""}], "question is"),
    ([CHOICE | {"task": "ABC"}], "task is 'ABC'"),
    ([REC | {"test_info": [3]}], "test_info 1 is 3"),
    ([SSR | {"test_info": [{"realtime": 1, "type": 1}]}], "has no 'step'"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_damaged_annotations_get_one_line(tmp_path, content, message):
    path = write(tmp_path / "ovo_bench_new.json", content)
    with pytest.raises(InputError) as caught:
        open_videoqa_benchmark("ovo-bench", tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_annotations(tmp_path):
    with pytest.raises(InputError, match=r"ovo_bench_new\.json"):
        open_videoqa_benchmark("ovo-bench", tmp_path)
    with pytest.raises(InputError, match="did you mean 'ovo-bench'"):
        open_videoqa_benchmark("ovobench", tmp_path)
    with pytest.raises(InputError, match="give --root"):
        open_videoqa_benchmark("odv-bench", None, tasks="x")


CSV = """question_id,task_type,question,time_stamp,answer,frames_required,temporal_clue_type,options
Real-Time Visual Understanding_sample_12_3,Object Recognition,"What, now?",00:01:05,B,single,Prior,\
"['A. a cup', 'B. a cat', 'C.a dog', 'D. nothing']"
"""


def test_streamingbench_csv(tmp_path):
    write(tmp_path / "StreamingBench" / "Real_Time_Visual_Understanding.csv", CSV)
    (query,) = open_videoqa_benchmark("streamingbench", tmp_path).queries
    assert (query.name, query.truth, query.time_s, query.group) == (
        "Real-Time Visual Understanding_sample_12_3", "B", 65.0, "realtime",
    )  # fmt: skip
    assert query.question.options == ("a cup", "a cat", "a dog", "nothing")
    path = write(tmp_path / "videos" / "sample_12" / "video.mp4", "film")
    assert video_of(tmp_path, query, "streamingbench", cut=False) == path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("question_id", "id", "has no column question_id"),
        ("sample_12_3", "twelve", "expected ..._sample_12_3"),
        ("['A. a cup'", "__import__('os').getcwd()or['A'", "options is null"),
        (",B,", ",E,", "answer is 'E' of 4 options"),
        ("00:01:05", "later", "expected seconds, or HH:MM:SS"),
    ],
)
def test_streamingbench_csv_damaged(tmp_path, old, new, message):
    write(tmp_path / "Real_Time_Visual_Understanding.csv", CSV.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        open_videoqa_benchmark("streamingbench", tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_streamingbench_json(tmp_path):
    question = {
        "task_type": "Source Discrimination", "question": "Who?", "time_stamp": "00:00:34",
        "answer": "D", "options": ["A.he", "B.she", "C.it", "D.they"],
    }  # fmt: skip
    proactive = {
        "task_type": "Proactive Output", "question": "Say when", "time_stamp": "00:00:30",
        "ground_truth_time_stamp": "00:00:40", "ground_truth_output": "Goal", "answer": "",
    }  # fmt: skip
    entries = [
        {"time": "x", "video_path": "./videos/s_1.mp4", "questions": [question, proactive]},
        {"time": "y", "video_path": "./videos/s_1.mp4", "questions": [question]},
    ]
    write(tmp_path / "src" / "data" / "questions_omni.json", entries)
    queries = open_videoqa_benchmark("streamingbench", tmp_path).queries
    names = ["videos/s_1@00:00:34", "videos/s_1@00:00:30", "videos/s_1@00:00:34#2"]
    assert [q.name for q in queries] == names
    assert {q.group for q in queries} == {"omni", "contextual"}
    assert queries[0].question.options[1] == "she" and queries[0].moments == [34]
    assert queries[1].moments == list(range(31, 45)) and queries[1].truth == "Goal"


def test_odv_bench(tmp_path):
    entry = {
        "task": "Static Target", "subtask": "Driving Decision", "video": "z/1.mp4",
        "question": "What now?", "candidates": ["go", "wait"], "answer": "wait",
        "start": 2.5, "end": 12.5,
    }  # fmt: skip
    path = write(tmp_path / "anything.json", [entry, entry])
    one, two = open_videoqa_benchmark("odv-bench", path).queries
    assert (one.truth, one.start_s, one.time_s, one.task, one.group) == (
        "B", 2.5, 12.5, "Driving Decision", "Static Target",
    )  # fmt: skip
    assert one.name != two.name
