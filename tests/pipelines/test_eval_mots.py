"""``vision-mem eval`` on sets of many objects, on tiny copies and on generated crowds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from benchmark_samples import FRAMES, write_sample
from evaluation_samples import contents

from vision_mem.cli import main
from vision_mem.evaluation.mots.datasets import MOT_BENCHMARKS, open_mot_benchmark
from vision_mem.evaluation.mots.results import MotResults

KEYS = [key for key in MOT_BENCHMARKS if key != "crowds"]


def run(key: str, root: Path, out: Path, *words: str) -> int:
    options = ["--out", str(out), "--precision", "fp32", "--devices", "cpu"]
    return main(["eval", key, "--root", str(root), *options, *words])


def legal(key: str, root: Path, out: Path) -> bool:
    """Whether all results are such as official scorers take; what is not is an error."""
    benchmark = open_mot_benchmark(key, root)
    with MotResults(out / "results", benchmark) as results:
        here = [each for each in benchmark.sequences if results.holds(each)]
        assert here
        return all(results.read(each, each.size) is not None for each in here)


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    write_sample("kitti-mots", root)
    return root


@pytest.fixture(scope="module")
def whole(kitti: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run leaves."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run("kitti-mots", kitti, out, "--quiet") == 0
    return out


@pytest.mark.parametrize("key", KEYS)
def test_every_set_runs_on_its_own_detections(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = write_sample(key, tmp_path / "set")
    out = tmp_path / "out"
    assert run(key, tmp_path / "set", out) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 sequences done" in shown
    assert "default embedded public" in shown
    assert "with detecting and reading files" in shown
    assert sorted(contents(out / "results")) == [f"{name}.txt" for name in names]
    assert legal(key, tmp_path / "set", out)
    found = json.loads((out / "scores/scores.json").read_text())["trackers"][0]
    assert found["summary"]["HOTA"] > 0.75
    assert found["summary"]["IDS"] == 0
    log = json.loads((out / f"logs/{names[0]}.json").read_text())
    assert log["detections"] == FRAMES
    assert log["tracks"] == 1
    assert log["classes_left_out"] == ({"tram": FRAMES} if key.startswith("kitti") else {})
    assert (out / "scores/summary.csv").exists()


def test_the_truth_is_an_oracle_and_said_to_be(
    kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run("kitti-mots", kitti, tmp_path / "out", "--detect", "truth", "--max-sequences", "1") == 0
    )
    shown = capsys.readouterr().out
    assert "its truth boxes as detections (an oracle): 1 of 1 sequence done" in shown
    assert "oracle" in json.loads((tmp_path / "out/scores/scores.json").read_text())["title"]
    assert json.loads((tmp_path / "out/logs/0002.json").read_text())["oracle"] is True
    words = ("--detect", "truth", "--split", "testing")
    assert run("kitti-mots", kitti, tmp_path / "secret", *words) == 2
    assert "the truth of 0000 is not here" in capsys.readouterr().err


def test_files_with_the_sequence_s_name_and_other_words_for_classes(
    kitti: Path, tmp_path: Path
) -> None:
    for name in ("0002", "0006"):
        lines = (kitti / f"training/det_02/{name}.txt").read_text().replace("Pedestrian", "Cyclist")
        (tmp_path / f"{name}-found.txt").write_text(lines)
    spec = f"file:{tmp_path}/{{sequence}}-found.txt:label"
    assert run("kitti-mot", kitti, tmp_path / "a", "--detect", spec, "--max-sequences", "1") == 0
    log = json.loads((tmp_path / "a/logs/0002.json").read_text())
    assert log["classes_left_out"] == {"cyclist": FRAMES, "tram": FRAMES}
    assert any("cyclist" in line for line in log["warnings"])
    assert (tmp_path / "a/results/0002.txt").read_text() == ""
    assert legal("kitti-mot", kitti, tmp_path / "a")
    words = ["--detect", spec, "--max-sequences", "1", "--classes", "cyclist=pedestrian,tram=car"]
    assert run("kitti-mot", kitti, tmp_path / "b", *words) == 0
    text = (tmp_path / "b/results/0002.txt").read_text()
    assert " Pedestrian " in text and " Car " in text
    assert legal("kitti-mot", kitti, tmp_path / "b")


def test_what_moves_is_the_only_class_there_is(tmp_path: Path) -> None:
    write_sample("mot15", tmp_path / "set")
    words = ("--detect", "motion", "--max-sequences", "1")
    assert run("mot15", tmp_path / "set", tmp_path / "out", *words) == 0
    log = json.loads((tmp_path / "out/logs/ADL-Rundle-6.json").read_text())
    assert log["classes_left_out"] == {}
    assert log["preset"] == "motion"
    # The background was learned from all frames beforehand: there is no warm-up without answers.
    assert log["frames_without_answer"] == 0
    assert log["detections"] > 0


def test_again_and_other_settings(
    kitti: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    stamps = {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    assert len(stamps) == 2
    capsys.readouterr()
    for words, says in [
        (["--detect", "truth"], "detect 'public' there, 'truth' now"),
        (["--classes", "tram=car"], "classes"),
        (["--preset", "probabilistic"], "association.cost"),
        (["--set", "emit_tentative=false"], "emit_tentative true there, false now"),
    ]:
        assert run("kitti-mots", kitti, out, *words) == 2
        said = capsys.readouterr().err
        assert says in said and "--overwrite" in said
        assert said.count("\n") == 1
    assert run("kitti-mots", kitti, out, "--quiet") == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    # A file that somebody cut short is not the one the log speaks of, and is made again.
    cut = out / "results/0006.txt"
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:-1]))
    assert run("kitti-mots", kitti, out, "--quiet") == 0
    assert contents(out / "results") == contents(whole / "results")


def test_shares_into_one_folder_are_the_whole(kitti: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for words in (["--shard", "2/2"], ["--max-sequences", "1"]):
        assert run("kitti-mots", kitti, out, "--quiet", *words) == 0
    assert contents(out / "results") == contents(whole / "results")


@pytest.mark.parametrize(
    ("key", "split", "name"), [("kitti-mots", "testing", "0000"), ("mot17", "test", "MOT-07")]
)
def test_without_truth_there_is_a_file_for_the_server(
    key: str, split: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sample(key, tmp_path / "set")
    words = ["--split", split]
    if key == "kitti-mots":  # its detections are there for training only
        (tmp_path / "found").mkdir()
        given = tmp_path / "set/training/det_02/0002.txt"
        shutil.copy(given, tmp_path / "found/0000.txt")
        words += ["--detect", f"public:{tmp_path / 'found'}"]
    assert run(key, tmp_path / "set", tmp_path / "out", *words) == 0
    shown = capsys.readouterr().out
    assert "submission.zip" in shown and "send it in at https://" in shown
    with zipfile.ZipFile(tmp_path / "out/submission.zip") as archive:
        assert archive.namelist() == [f"{name}.txt"]
        assert archive.read(f"{name}.txt").count(b"\n") >= FRAMES - 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["kitti-mos"], "did you mean 'kitti-mots'"),
        (["kitti-mots", "--init", "box"], "no such option --init for kitti-mots; of one object"),
        (["kitti-mots", "--crowd", "frames=9"], "finds: crowds"),
        (["lasot", "--detect", "truth"], "finds: kitti-mots, kitti-mot, "),
        (["kitti-mots", "--detect", "motion"], "--classes moving=car"),
        (["kitti-mots", "--classes", "tram"], "--classes"),
        (["kitti-mots", "--classes", "tram=bus"], "no class 'bus'"),
        (["kitti-mots", "--detect", "file:x.txt"], "{sequence}"),
        (["kitti-mots", "--detect", "file:{sequence}.txt:kitti"], "no file 0002.txt"),
        (["kitti-mots", "--detect", "public:nowhere"], "no file nowhere/0002.txt"),
        (["kitti-mots", "--preset", "samurai"], "official"),
        (["kitti-mots", "--split", "vall"], "no split 'vall'"),
        (["kitti-mots", "--sequences", "0003"], "0003"),
        (["crowds", "--crowd", "frame=3"], "did you mean 'frames'"),
        (["crowds", "--crowd", "frames=0"], "cannot be made"),
    ],
)
def test_slips_are_one_line(
    kitti: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "made" if words[0] == "crowds" else kitti
    assert main(["eval", *words, "--root", str(root), "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert says in shown
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "made").exists()


def test_detectors_that_cannot_be_opened_end_the_run(
    kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("kitti-mots", kitti, tmp_path / "out", "--detect", "maskrcn") == 2
    shown = capsys.readouterr().err
    assert "did you mean maskrcnn" in shown and shown.count("\n") == 1


def test_detections_of_another_video_fail_their_sequence(
    kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("0002", "0006"):
        shutil.copy(kitti / f"training/det_02/{name}.txt", tmp_path / f"{name}.txt")
    with (tmp_path / "0002.txt").open("a") as file:
        file.write("8 -1 Car -1 -1 -10 1 1 30 12 -1 -1 -1 -1000 -1000 -1000 -10 0.5\n")
    words = ("--detect", f"file:{tmp_path}/{{sequence}}.txt:label")
    assert run("kitti-mots", kitti, tmp_path / "out", *words) == 1
    shown = capsys.readouterr()
    assert "1 of 2 sequences done" in shown.out
    assert "error: 0002: " in shown.err and "frame 8, " in shown.err and "8 frames" in shown.err
    assert "Traceback" not in shown.err


def test_crowds_are_generated_run_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "made", tmp_path / "out"
    size = "sequences=2,frames=5,width=96,height=64,objects=3,moving_every=2"
    assert run("crowds", root, out, "--crowd", size) == 0
    shown = capsys.readouterr()
    assert "writing 2 generated sequences of 5 frames" in shown.err
    assert "generated crowds: 2 of 2 sequences done" in shown.out
    assert "default embedded public" in shown.out
    assert legal("crowds", root, out)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    # The same command, with and without the sizes, takes what is there.
    assert run("crowds", root, out, "--crowd", size, "--quiet") == 0
    assert run("crowds", root, out, "--quiet") == 0
    words = ["--results", str(out), "--json"]
    assert main(["score", "crowds", "--root", str(root), *words]) == 0
    tracker = json.loads(capsys.readouterr().out)["trackers"][0]
    assert set(tracker["sequences"]) == {"0000", "0001"}
    ours = json.loads((out / "scores/scores.json").read_text())["trackers"][0]
    assert tracker["summary"] == ours["summary"]
    assert run("crowds", root, out, "--crowd", "frames=7") == 2
    assert "--crowd asks for sequences=4, frames=7" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_and_started_again_it_comes_to_the_same_files(tmp_path: Path, workers: str) -> None:
    size = "sequences=4,frames=15,width=128,height=80,objects=3"
    words = ["--crowd", size, "--precision", "fp32", "--devices", "cpu", "--quiet"]
    assert run("crowds", tmp_path / "set", tmp_path / "alone", *words) == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vision_mem", "eval", "crowds", "--root", tmp_path / "set"]
    command += ["--out", out, *words, "--workers", workers]
    kept: dict[str, bytes] = {}
    for done in (1, 2):
        running = subprocess.Popen(command, start_new_session=True)
        until = time.monotonic() + 120
        while len(list(out.glob("results/*.txt"))) < done and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)  # into the next sequence
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        now = {k: v for k, v in contents(out / "results").items() if ".partial" not in k}
        assert kept.items() <= now.items()
        kept = now
    assert 2 <= len(kept) < 4
    assert subprocess.run(command, timeout=240, check=False).returncode == 0
    assert contents(out / "results") == contents(tmp_path / "alone/results")


@pytest.mark.slow
def test_killed_while_crowds_are_written_they_are_written_anew(tmp_path: Path) -> None:
    words = ["--crowd", "sequences=9,frames=9,width=96,height=64,objects=2", "--max-sequences", "1"]
    command = [sys.executable, "-m", "vision_mem", "eval", "crowds", "--root", tmp_path / "set"]
    running = subprocess.Popen([*command, *words, "--out", tmp_path / "out"])
    until = time.monotonic() + 120
    while not list(tmp_path.glob(".set*/training/image_02/0000/*.png")):
        assert time.monotonic() < until
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "set").exists()
    assert run("crowds", tmp_path / "set", tmp_path / "out", *words, "--quiet") == 0
    assert len(list((tmp_path / "set/training/image_02").rglob("*.png"))) == 81
