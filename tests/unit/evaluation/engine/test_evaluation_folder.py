"""Going on where an evaluation was cut off, choosing sequences, progress, submissions."""

from __future__ import annotations

import json
import random
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_samples import (
    HERE,
    box_set,
    contents,
    jobs_of,
    make_session,
    mask_set,
    run,
)

from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.engine.folder import EvaluationFolder
from vision_mem.evaluation.engine.progress import EvaluationProgress, clock
from vision_mem.evaluation.engine.run import evaluate
from vision_mem.evaluation.engine.runner import Advanced, Failed, Finished, WorkerLost
from vision_mem.evaluation.options import Workplace
from vision_mem.evaluation.selection import choose_sequences, parse_shard
from vision_mem.evaluation.sot.records import SotSequence
from vision_mem.evaluation.sot.result_files import (
    is_whole,
    missing_results,
    write_submission,
)

NOBODY = np.zeros((0, 4))


# -- going on ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "whole"),
    [
        (lambda text: text, True),
        (lambda text: text[:-9], False),
        (lambda text: "".join(text.splitlines(True)[:-1]), False),
        (lambda text: text + "1,2,3,4\n", False),
        (lambda text: text.replace(",", ";"), False),
        (lambda text: "nan" + text[text.index(",") :], False),
        (lambda text: "", False),
    ],
    ids=["as written", "cut off", "row short", "row more", "foreign", "nan", "empty"],
)
def test_only_whole_results_count_as_done(tmp_path: Path, damage, whole: bool) -> None:
    benchmark = box_set(tmp_path / "set", 1)
    folder, _ = run(benchmark, tmp_path / "out")
    path = folder.results / "cat-0.txt"
    good = path.read_text()
    path.write_text(damage(good))
    assert is_whole(folder.results, benchmark.sequences[0], "boxes") == whole
    run(benchmark, tmp_path / "out")
    assert path.read_text() == good


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    benchmark = mask_set(tmp_path / "set", 2)
    folder, _ = run(benchmark, tmp_path / "out")
    (folder.results / "dog-1" / "0002.png").unlink()
    before = {p: p.stat().st_mtime_ns for p in folder.results.rglob("*.png")}
    run(benchmark, tmp_path / "out")
    after = {p: p.stat().st_mtime_ns for p in folder.results.rglob("*.png")}
    again = {path.parent.name for path in after if after[path] != before.get(path)}
    assert again == {"dog-1"}
    assert len(after) == 8


def test_other_settings_are_named(tmp_path: Path) -> None:
    benchmark = box_set(tmp_path / "set", 1)
    identity = {"benchmark": "lasot", "policy": {"choice": "motion", "weight": 0.15}}
    folder = EvaluationFolder(tmp_path / "out", identity)
    folder.begin()
    evaluate(jobs_of(benchmark), folder, make_session, HERE)
    EvaluationFolder(tmp_path / "out", identity).begin()
    other = {"benchmark": "lasot", "policy": {"choice": "best", "weight": 0.15}}
    with pytest.raises(InputError, match=r"policy.choice 'motion' there, 'best' now.*--overwrite"):
        EvaluationFolder(tmp_path / "out", other)
    anew = EvaluationFolder(tmp_path / "out", other, overwrite=True)
    assert (tmp_path / "out/results/cat-0.txt").exists()  # nothing is lost before it begins
    anew.begin()
    assert contents(anew.results) == {}
    assert not list((tmp_path / "out/logs").iterdir())


def test_settings_recorded_by_earlier_versions_are_read(tmp_path: Path) -> None:
    policy = {"choice": "iou", "memory": "recent", "window": 8, "anchor_slots": 4}
    policy |= {"memory_iou": 0.5, "appear_threshold": 0.0, "inclusive_box": False}
    folder = EvaluationFolder(tmp_path / "out", {"tracking": {"policy": policy}})
    folder.begin()
    (folder.results / "cat-0.txt").write_text("1,1,2,2\n")
    now = {
        "policy": {"name": "recent", "window": 8},
        "selection": {"choice": "iou"},
        "appear_threshold": 0.0,
        "inclusive_box": True,  # the setting was not read then: widths were those of pixels
    }
    EvaluationFolder(tmp_path / "out", {"tracking": now})
    with pytest.raises(InputError, match=r"tracking.inclusive_box true there, false now"):
        EvaluationFolder(tmp_path / "out", {"tracking": now | {"inclusive_box": False}})


def test_another_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    from vision_mem.models.segmenters.fake import FakeSegmenter
    from vision_mem.tracking import TrackingSession

    benchmark = box_set(tmp_path / "set", 2)
    folder, _ = run(benchmark, tmp_path / "out")
    (folder.results / "cat-1.txt").unlink()
    with pytest.raises(InputError, match="model 'fake' there, 'other' now"):
        run(benchmark, tmp_path / "out", make=lambda _: TrackingSession(FakeSegmenter("other")))
    assert sorted(contents(folder.results)) == ["cat-0.txt"]
    assert json.loads((tmp_path / "out/run.json").read_text())["identity"]["model"] == "fake"


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="other things"):
            EvaluationFolder(tmp_path, {}, overwrite=overwrite)
    (tmp_path / "run.json").write_text("{not json")
    with pytest.raises(InputError, match="cannot be read"):
        EvaluationFolder(tmp_path, {}, overwrite=True)


def test_a_full_disk_is_one_line_and_leaves_no_half(tmp_path: Path, monkeypatch) -> None:
    import errno

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = EvaluationFolder(tmp_path / "out", {})
    folder.begin()
    monkeypatch.setattr("vision_mem.evaluation.engine.folder.os.fsync", full)
    done = Finished("dog", {"dog/1.png": b"x"}, {})
    for each in (done, replace(done, files={"dog.txt": b"1"})):
        with pytest.raises(VisionMemError, match="no space left"):
            folder.write(each)
    assert not [p for p in folder.results.iterdir() if not p.name.startswith(".")]


# -- what to run ------------------------------------------------------------------------------


def _named(*names: str) -> list[SotSequence]:
    return [SotSequence(name, (), NOBODY) for name in names]


def _chosen(known: list[str], **how) -> list[str]:
    return [sequence.name for sequence in choose_sequences(_named(*known), **how)]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, ["dog-2", "dog-1", "cat", "car[1]"]),
        ({"names": "cat, dog-1"}, ["dog-1", "cat"]),
        ({"names": "dog-*"}, ["dog-2", "dog-1"]),
        ({"names": "car[1]"}, ["car[1]"]),
        ({"limit": 2}, ["dog-2", "dog-1"]),
        ({"names": "c*", "limit": 1}, ["cat"]),
        ({"limit": 3, "shard": (1, 2)}, ["dog-2", "cat"]),
        ({"limit": 3, "shard": (2, 2)}, ["dog-1"]),
    ],
)
def test_sequences_are_chosen(how: dict, expected: list[str]) -> None:
    assert _chosen(["dog-2", "dog-1", "cat", "car[1]"], **how) == expected


def test_shards_miss_nothing_and_share_nothing() -> None:
    draw = random.Random(5)
    for _ in range(200):
        count, shards = draw.randrange(0, 40), draw.randrange(1, 50)
        names = [f"s{number}" for number in draw.sample(range(1000), count)]
        limit = draw.choice([None, 7])
        whole = _chosen(names, limit=limit)
        shares = [_chosen(names, limit=limit, shard=(i + 1, shards)) for i in range(shards)]
        together = [name for share in shares for name in share]
        assert sorted(together) == sorted(whole)
        assert len(set(together)) == len(together)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        draw.shuffle(names)  # another copy may list them in another order
        again = [set(_chosen(names, shard=(i + 1, shards))) for i in range(shards)]
        assert limit is not None or again == [set(share) for share in shares]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "a/b", "1/2/3", "-1/2", ""])
def test_shards_are_checked(text: str) -> None:
    with pytest.raises(InputError, match="i/n"):
        parse_shard(text)
    assert parse_shard(" 2/8 ") == (2, 8)


@pytest.mark.parametrize(
    ("names", "wanted", "says"),
    [
        (["cat", "dog"], "cot", "did you mean 'cat'"),
        (["cat", "dog"], "x*", "no sequence fits 'x*'"),
        (["cat", "cat"], None, "several sequences are called 'cat'"),
        (["cat"], " , ", "names nothing"),
        ([], "cat", "no sequences"),
    ],
)
def test_slips_in_names(names: list[str], wanted: str | None, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        _chosen(names, names=wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        {"devices": ("",)},
        {"devices": ("cuda:0", "cuda:1"), "workers": 1},
        {"devices": ("cuda:0", "cuda:1"), "ray": "local"},
    ],
)
def test_places_are_checked(wrong: dict) -> None:
    with pytest.raises(InputError, match="--devices"):
        Workplace(**wrong)


# -- how it is going --------------------------------------------------------------------------


def test_progress_counts_every_frame_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vision_mem.evaluation.engine.progress._PLAIN_EVERY_S", 0.0)
    jobs = jobs_of(box_set(tmp_path, 3))
    with EvaluationProgress(jobs, done=2) as progress:
        for message, frames in [
            (Advanced("cat-0", 4), 4),
            (Advanced("cat-1", 2), 6),
            (WorkerLost("cat-0", "by SIGKILL"), 2),
            (Advanced("cat-0", 1), 3),
            (Finished("cat-0", {}, {}), 8),
            (Failed("cat-1", "no such image"), 12),
        ]:
            progress.hear(message)
            assert progress.frames == frames
    assert (progress.finished, progress.total) == (1, 18)
    assert [failed.sequence for failed in progress.failed] == ["cat-1"]
    lines = capsys.readouterr().err.splitlines()
    assert "cat-0: its worker ended (by SIGKILL); trying again" in lines
    assert "cat-1 failed: no such image" in lines
    assert lines[-1].startswith("sequence 4/5")
    assert lines[-1].endswith("1 failed")
    assert [clock(seconds) for seconds in (7, 760, 11100)] == ["0:07", "12:40", "3:05:00"]
    with EvaluationProgress(jobs, show=False) as silent:
        silent.hear(Failed("cat-1", "no such image"))
    assert capsys.readouterr().err == ""


# -- submissions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("got10k-test", ["cat-0/cat-0_001.txt", "cat-0/cat-0_time.txt"]),
        ("trackingnet", ["cat-0.txt", "cat-1.txt"]),
    ],
)
def test_a_submission_has_the_server_s_names(tmp_path: Path, key: str, expected: list[str]) -> None:
    benchmark = box_set(tmp_path / "set", 2, key=key)
    folder, _ = run(benchmark, tmp_path / "out")
    path = tmp_path / "out" / "submission.zip"
    notes = write_submission(benchmark, folder.results, path)
    assert "server" in notes[-1]  # two sequences are not the whole set
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert names[:2] == expected
        assert len(names) == len(set(names)) == (4 if key == "got10k-test" else 2)
        for name in names:
            assert archive.read(name) == (folder.results / name).read_bytes()
    first = path.read_bytes()
    write_submission(benchmark, folder.results, path)
    assert path.read_bytes() == first
    (folder.results / names[-2]).unlink()
    assert len(missing_results(benchmark, folder.results)) == 1
