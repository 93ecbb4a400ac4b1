"""Parts of a run on a set of many objects: where detections come from, their classes, the set."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_samples import FRAMES, true_boxes, write_sample
from evaluation_samples import log_of, make_session
from evaluation_samples import write_images as write_pictures

from vision_mem.errors import InputError, SinkError
from vision_mem.evaluation.engine.folder import EvaluationFolder
from vision_mem.evaluation.engine.run import evaluate
from vision_mem.evaluation.engine.runner import Failed, Finished, run_job
from vision_mem.evaluation.mots.datasets import open_mot_benchmark
from vision_mem.evaluation.mots.detections import NUMBERS, TruthDetections, detector_word
from vision_mem.evaluation.mots.family import FAMILY, MotsScoreOptions
from vision_mem.evaluation.mots.job import DetectedJob, MotsWorker, of_the_set
from vision_mem.evaluation.mots.records import RULES, MotBenchmark, MotSequence
from vision_mem.evaluation.options import Workplace
from vision_mem.formats.class_names import ClassNumbers
from vision_mem.geometry.boxes import box_iou
from vision_mem.models.detectors import open_detector
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsSession
from vision_mem.synthetic.crowd_sets import RECORD, CrowdSeries, prepare_crowd, write_crowd
from vision_mem.synthetic.crowds import CrowdSettings
from vision_mem.types import Detections, Frame

BLANK = np.zeros((64, 96, 3), np.uint8)


# -- where detections come from ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "word", "opened"),
    [
        ("mot17", "public", "file:{folder}/det/det.txt:mot"),
        ("mot15", "public", "file:{folder}/det/det.txt:mot,scores=sigmoid"),
        ("mots-challenge", "public", "file:{folder}/det/det.txt:kitti,box=xywh,first=1"),
        ("kitti-mots", "public", "file:{root}/training/det_02/{name}.txt:label"),
        ("kitti-mot", "public", "file:{root}/training/det_02/{name}.txt:label"),
        ("mot17", "public:{root}/train", "file:{folder}/det/det.txt"),
        (
            "kitti-mot",
            "public:{root}/training/label_02",
            "file:{root}/training/label_02/{name}.txt",
        ),
        (
            "kitti-mots",
            "file:{root}/training/instances_txt/{{sequence}}.txt:mots",
            "file:{root}/training/instances_txt/{name}.txt:mots",
        ),
        ("mot17", "truth", "truth"),
        ("mot17", "dfine", "dfine"),
        ("mot17", "red car, person@owlv2", "red car, person@owlv2"),
    ],
)
def test_each_sequence_has_its_own_detections(
    tmp_path: Path, key: str, word: str, opened: str
) -> None:
    write_sample(key, tmp_path)
    benchmark = open_mot_benchmark(key, tmp_path)
    sequence = benchmark.sequences[1]
    places = {"root": tmp_path, "folder": sequence.frames[0].parents[1], "name": sequence.name}
    found = detector_word(word.format(**places), benchmark, sequence)
    assert found == opened.format(**places)
    if found.startswith("file:"):
        detector = open_detector(found, frame_count=FRAMES, size=sequence.size)
        seen = detector.detect(Frame(3, 0.3, BLANK))
        assert seen is not None
        x, y, w, h = true_boxes(1)[3]
        np.testing.assert_allclose(seen.boxes[0], [x, y, x + w, y + h])
        assert seen.name_of(0) in ("pedestrian", "car")


@pytest.mark.parametrize("key", ["kitti-mots", "kitti-mot", "mots-challenge", "mot15", "mot20"])
def test_the_truth_as_detections(tmp_path: Path, key: str) -> None:
    write_sample(key, tmp_path)
    benchmark = open_mot_benchmark(key, tmp_path)
    for number, sequence in enumerate(benchmark.sequences):
        detector = TruthDetections(sequence, benchmark.rules)
        for index, (x, y, w, h) in enumerate(true_boxes(number)):
            seen = detector.detect(Frame(index, 0.0, BLANK))
            np.testing.assert_allclose(seen.boxes, [[x, y, x + w, y + h]])
            car = key.startswith("kitti") and number == 1
            assert seen.name_of(0) == ("car" if car else "pedestrian")


def test_only_truth_that_counts_is_an_oracle_s(tmp_path: Path) -> None:
    rows = [
        "1,1,5,5,20,20,1,1,1",
        "1,2,30,5,20,20,0,1,1",
        "1,3,50,5,20,20,1,8,1",
        "1,4,9,9,0,5,1,1,1",
    ]
    truth = tmp_path / "gt.txt"
    truth.write_text("\n".join(rows) + "\n")
    sequence = MotSequence("s", 2, (), truth)
    detector = TruthDetections(sequence, RULES["mot17"])
    assert detector.detect(Frame(0, 0.0, BLANK)).boxes.tolist() == [[5, 5, 25, 25]]
    assert len(detector.detect(Frame(1, 0.0, BLANK))) == 0


# -- classes ----------------------------------------------------------------------------------


def test_classes_are_those_of_the_set_and_others_are_counted() -> None:
    boxes = np.array([[0, 0, 9, 9], [5, 5, 20, 20], [1, 1, 4, 4], [2, 2, 8, 8]], np.float32)
    names = {0: "person", 2: "car", 7: "truck"}
    masks = np.zeros((4, 64, 96), bool)
    masks[1, 5:20, 5:20] = True
    found = Detections(
        boxes, [0.9, 0.8, 0.7, 0.6], np.array([7, 2, 0, 56]), masks, names=names, frame_index=3
    )
    numbers = ClassNumbers({1: "car", 2: "pedestrian"}, {"truck": "car"})
    some = of_the_set(found, numbers)
    assert [some.name_of(k) for k in range(3)] == ["car", "car", "pedestrian"]
    assert some.labels.tolist() == [NUMBERS["car"], NUMBERS["car"], NUMBERS["pedestrian"]]
    assert some.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert some.mask_of(1) is not None and some.mask_of(0) is None
    assert some.frame_index == 3
    assert numbers.left_out == {"class-56": 1}


# -- one sequence -----------------------------------------------------------------------------


def benchmark_of(root: Path, count: int = 1, frames: int = 6) -> MotBenchmark:
    """Sequences with the red square of ``evaluation_samples``; its truth counts from 1."""
    from evaluation_samples import HEIGHT, WIDTH, box_at

    sequences = []
    for number in range(count):
        images = write_pictures(root / f"v-{number}", frames)
        truth = root / f"v-{number}.txt"
        rows = [f"{t + 1},4,{','.join(map(str, box_at(t)))},1,-1,-1,-1" for t in range(frames)]
        truth.write_text("\n".join(rows) + "\n")
        sequences.append(MotSequence(f"v-{number}", frames, images, truth, (HEIGHT, WIDTH)))
    return MotBenchmark("mot15", "MOT15", RULES["mot15"], tuple(sequences))


def worker(device: str = "cpu") -> MotsWorker:
    return MotsWorker(MotsSession(FakeSegmenter()), lambda word, **how: open_detector(word))


def jobs_of(benchmark: MotBenchmark, **how: object) -> list[DetectedJob]:
    title = benchmark.title
    return [
        DetectedJob(each, benchmark.rules, title, **({"detect": "truth"} | how))  # type: ignore[arg-type]
        for each in benchmark.sequences
    ]


def test_jobs_travel_and_are_whole_when_the_log_says_so(tmp_path: Path) -> None:
    benchmark = benchmark_of(tmp_path, 2)
    folder = EvaluationFolder(tmp_path / "out", {"benchmark": "mot15"})
    folder.begin()
    jobs = pickle.loads(pickle.dumps(jobs_of(benchmark)))
    progress = evaluate(jobs, folder, worker, Workplace(("cpu",)))
    assert not progress.failed and folder.undone(jobs) == []
    log = log_of(folder, "v-0")
    assert (log["frames"], log["tracks"], log["detections"], log["oracle"]) == (6, 1, 6, True)
    assert log["events"]["born"] == 1
    lines = FAMILY.sum_up(benchmark, MotsScoreOptions(partial=True), folder, "fake")
    assert "\nfake " in "\n".join(lines)
    summary = json.loads((folder.scores / "scores.json").read_text())["trackers"][0]["summary"]
    assert summary["HOTA"] > 0.7 and summary["IDS"] == summary["FN"] == 0
    (folder.results / "v-0.txt").write_text("")
    assert [job.name for job in folder.undone(jobs)] == ["v-0"]
    (folder.path / "logs/v-1.json").unlink()
    assert len(folder.undone(jobs)) == 2


@pytest.mark.parametrize("strict", [False, True])
def test_a_damaged_image_has_no_objects(tmp_path: Path, strict: bool) -> None:
    benchmark = benchmark_of(tmp_path)
    benchmark.sequences[0].frames[2].write_bytes(b"no picture")
    (job,) = jobs_of(benchmark, strict=strict)
    done = run_job(job, worker(), lambda _: None)
    if strict:
        assert isinstance(done, Failed) and "0003.png" in done.reason
        return
    assert isinstance(done, Finished)
    assert done.log["damaged_frames"] == [2] and "0003.png" in done.log["warnings"][-1]
    frames = [int(line.split(b",")[0]) for line in done.files["v-0.txt"].splitlines()]
    assert frames == [1, 2, 4, 5, 6]


def test_frames_beyond_the_list_are_left_alone(tmp_path: Path) -> None:
    benchmark = benchmark_of(tmp_path)
    path = tmp_path / "v-0.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    short = replace(benchmark.sequences[0], length=4)
    (job,) = jobs_of(replace(benchmark, sequences=(short,)))
    done = run_job(job, worker(), lambda _: None)
    assert isinstance(done, Finished) and done.log["frames"] == job.length == 4


def test_detections_nobody_asked_for_are_one_line(tmp_path: Path) -> None:
    benchmark = benchmark_of(tmp_path)
    (job,) = jobs_of(benchmark, detect=f"file:{tmp_path / 'none.txt'}:mot")
    done = run_job(job, worker(), lambda _: None)
    assert isinstance(done, Failed) and "none.txt" in done.reason and "\n" not in done.reason
    assert "traceback" not in done.log


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a:b"])
def test_names_that_cannot_be_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a file"):
        DetectedJob(MotSequence(name, 1, (), None), RULES["mot15"], "MOT15", "truth")


def test_prompted_sessions_are_still_what_other_sets_run_on() -> None:
    assert make_session("cpu").model.traits.model_id == "fake"
    assert worker().model.traits.model_id == "fake"


# -- generated crowds -------------------------------------------------------------------------

TINY = CrowdSeries(sequences=2, frames=3, width=96, height=64, objects=2)


def test_a_crowd_is_made_once(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()  # an empty one is no obstacle
    steps = []
    made = prepare_crowd(root, TINY, on_frame=lambda *at: steps.append(at))
    assert made["frames"] == 3 and len(steps) == 6
    assert [each.length for each in open_mot_benchmark("crowds", root).sequences] == [3, 3]
    assert prepare_crowd(root, TINY, on_frame=lambda *at: steps.append(at)) == made
    assert prepare_crowd(root) == made and len(steps) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(InputError, match=r"--crowd asks for frames=4, .*; leave out --crowd"):
        prepare_crowd(root, replace(TINY, frames=4))
    (root / RECORD).write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        prepare_crowd(root)


def test_the_crowd_s_detections_are_neither_perfect_nor_useless(tmp_path: Path) -> None:
    series = CrowdSeries(sequences=1, frames=60, width=208, height=120)
    texts = []
    for name in ("a", "b"):
        prepare_crowd(tmp_path / name, series)
        texts.append((tmp_path / name / "training/det_02/0000.txt").read_bytes())
    assert texts[0] == texts[1]
    benchmark = open_mot_benchmark("crowds", tmp_path / "a")
    (sequence,) = benchmark.sequences
    word = detector_word("public", benchmark, sequence)
    detector = open_detector(word, frame_count=60, size=sequence.size, guarded=False)
    truth = TruthDetections(sequence, benchmark.rules)
    hits = found = there = 0
    for index in range(60):
        seen, real = detector.detect(frame := Frame(index, 0.0, BLANK)), truth.detect(frame)
        assert seen is not None
        near = box_iou(seen.boxes[:, None], real.boxes[None]) > 0.5
        near &= seen.labels[:, None] == real.labels[None]
        hits, found, there = hits + near.any(axis=0).sum(), found + len(seen), there + len(real)
    assert 0.7 < hits / there < 0.95
    assert 0.8 < hits / found < 0.98


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        prepare_crowd(tmp_path / "file")
    with pytest.raises(InputError, match="holds other things"):
        prepare_crowd(tmp_path)
    with pytest.raises(SinkError):
        prepare_crowd(tmp_path / "file" / "set", TINY)
    write_crowd(tmp_path / "mine", [CrowdSettings(frames=2, width=96, height=64)])
    assert prepare_crowd(tmp_path / "mine") == {}
    with pytest.raises(InputError, match="no split 'val'"):
        open_mot_benchmark("crowds", tmp_path / "mine", split="val")


@pytest.mark.parametrize(
    ("series", "moving"),
    [
        (CrowdSeries(), [False, False, False, True]),
        (replace(TINY, moving_every=0), [False, False]),
        (replace(TINY, moving_every=1), [True, True]),
    ],
)
def test_what_a_series_is_made_of(series: CrowdSeries, moving: list[bool]) -> None:
    settings = series.settings()
    assert [each.moving for each in settings] == moving
    assert len({each.seed for each in settings}) == len(settings)
    assert {each.frames for each in settings} == {series.frames}


@pytest.mark.parametrize("change", [{"sequences": 0}, {"moving_every": -1}, {"width": 3}])
def test_series_that_cannot_be(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="cannot be made"):
        CrowdSeries(**change)
