"""``vision-mem eval`` as users run it, on tiny copies of all benchmarks."""

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

import numpy as np
import pytest
from benchmark_samples import FRAMES, true_boxes, write_sample
from evaluation_samples import contents

from vision_mem.cli import main
from vision_mem.evaluation.sot.datasets import BENCHMARKS

# Seeded random weights of a real SAM 2 at a small image size.
RANDOM = "random:sam2.1_hiera_t@128"


def run(key: str, root: Path, out: Path, *words: str) -> int:
    options = ["--out", str(out), "--precision", "fp32", "--devices", "cpu"]
    return main(["eval", key, "--root", str(root), *options, *words])


@pytest.fixture(scope="module")
def lasot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lasot")
    write_sample("lasot", root)
    return root


@pytest.mark.parametrize("key", BENCHMARKS)
def test_every_benchmark_runs_and_is_summed_up(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = write_sample(key, tmp_path / "set")
    out = tmp_path / "out"
    assert run(key, tmp_path / "set", out) == 0
    shown = capsys.readouterr().out
    assert f"{len(names)} of {len(names)} sequences done" in shown
    assert str(out) in shown
    assert {path.stem for path in (out / "logs").iterdir()} == set(names)
    found = contents(out / "results")
    if key == "vot":
        assert json.loads((out / "logs/agility.json").read_text())["init"] == "box"
        assert json.loads((out / "logs/ball.json").read_text())["init"] == "polygon"
    if key.startswith("davis"):
        assert len(found) == FRAMES * len(names)
    elif key.startswith("got10k"):
        assert sorted(found) == sorted(f"{name}/{name}_001.txt" for name in names)
    else:
        assert sorted(found) == sorted(f"{name}.txt" for name in names)
    if key not in ("got10k-test", "trackingnet"):
        scores = json.loads((out / "scores/scores.json").read_text())
        assert set(scores["trackers"][0]["sequences"]) == set(names)
        assert scores["trackers"][0]["name"] == "samurai embedded"
        assert (out / "scores/summary.csv").exists()
        assert key.startswith("davis") or key == "vot" or list((out / "scores").glob("*.png"))
        assert "frames/s" in shown
    else:
        with zipfile.ZipFile(out / "submission.zip") as archive:
            assert set(found) <= set(archive.namelist())
        assert "submission.zip" in shown
        assert f"the set has {len(names)} sequences but the server expects" in shown


def test_the_embedded_model_follows_the_square(lasot: Path, tmp_path: Path) -> None:
    assert run("lasot", lasot, tmp_path / "out", "--quiet") == 0
    rows = np.loadtxt(tmp_path / "out/results/airplane-9.txt", delimiter=",")
    truth = true_boxes(1, origin=1)
    assert rows[0].tolist() == truth[0].tolist()
    assert np.abs(rows - truth).max() < 6


def test_again_and_other_settings(
    lasot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("lasot", lasot, out, "--max-sequences", "1", "--quiet") == 0
    first = contents(out / "results")
    assert list(first) == ["airplane-1.txt"]
    stamp = (out / "results/airplane-1.txt").stat().st_mtime_ns
    assert run("lasot", lasot, out) == 0
    assert (out / "results/airplane-1.txt").stat().st_mtime_ns == stamp
    whole = contents(out / "results")
    assert len(whole) == 3
    capsys.readouterr()
    for words, says in [
        (["--set", "policy.motion_weight=0.3"], "selection.motion_weight 0.25 there, 0.3 now"),
        (["--preset", "sam2"], "policy.name"),
        (["--init", "box"], "init 'auto' there, 'box' now"),
        (["--resize", "cv2"], "resize"),
    ]:
        assert run("lasot", lasot, out, *words) == 2
        said = capsys.readouterr().err
        assert says in said
        assert "--overwrite" in said
        assert said.count("\n") == 1
    assert run("lasot", lasot, out, "--model", RANDOM) == 2
    assert "model_name" in capsys.readouterr().err
    assert contents(out / "results") == whole
    assert run("lasot", lasot, out, "--preset", "sam2", "--overwrite") == 0
    assert len(contents(out / "results")) == 3


def test_shards_into_one_folder_are_the_whole(
    lasot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lasot", lasot, tmp_path / "whole", "--quiet") == 0
    for share in ("2/2", "1/2"):
        words = ("--shard", share)
        assert run("lasot", lasot, tmp_path / "out", *words) == 0
    assert contents(tmp_path / "out/results") == contents(tmp_path / "whole/results")
    assert "2 of 2 sequences done" in capsys.readouterr().out


def test_a_broken_sequence_is_told_at_the_end(
    lasot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    shutil.copytree(lasot, root)
    (root / "airplane/airplane-9/img/00000001.jpg").write_bytes(b"\xff\xd8 no picture")
    assert run("lasot", root, tmp_path / "out") == 1
    shown = capsys.readouterr()
    assert "2 of 3 sequences done" in shown.out
    assert "error: airplane-9: " in shown.err
    assert "Traceback" not in shown.err
    log = json.loads((tmp_path / "out/logs/airplane-9.json").read_text())
    assert log["status"] == "failed"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lasso", "--root", "x"], "did you mean 'lasot'"),
        (["lasot", "--root", "nowhere"], "nowhere"),
        (["lasot"], "--root"),
        (["lasot", "--root", "x", "--shard", "3/2"], "i/n"),
        (["lasot", "--root", "x", "--max-sequences", "0"], "--max-sequences"),
        (["lasot", "--root", "x", "--devices", ","], "--devices"),
        (["lasot", "--root", "x", "--workers", "1", "--devices", "cuda:0,cuda:1"], "--workers 2"),
        (["lasot", "--root", "x", "--preset", "samurei"], "samurai"),
        (["lasot", "--root", ".", "--set", "policy.weight=1"], "selection.motion_weight"),
    ],
)
def test_slips_are_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["eval", *words, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert says in shown
    assert not (tmp_path / "out").exists()


def test_slips_after_the_set_is_known(
    lasot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, says in [
        (["--sequences", "airplane-2"], "did you mean 'airplane-"),
        (["--init", "mask"], "expected one of auto, box"),
        (["--model", "sam9"], "sam9"),
        (["--devices", "tpu"], "tpu"),
    ]:
        assert main(["eval", "lasot", "--root", str(lasot), "--out", str(tmp_path / "o"), *words])
        shown = capsys.readouterr().err
        assert says in shown
        assert shown.count("\n") == 1
    # None of these is in the way of the run that follows.
    assert run("lasot", lasot, tmp_path / "o", "--quiet", "--max-sequences", "1") == 0


@pytest.mark.slow
def test_processes_give_the_same_files(lasot: Path, tmp_path: Path) -> None:
    assert run("lasot", lasot, tmp_path / "alone", "--quiet") == 0
    assert run("lasot", lasot, tmp_path / "two", "--quiet", "--workers", "2") == 0
    assert contents(tmp_path / "alone/results") == contents(tmp_path / "two/results")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_in_order_and_says_how_to_go_on(tmp_path: Path, workers: str) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    write_sample("folder", root)
    for number in range(FRAMES + 1, 1000):  # so long that it is stopped in the middle
        shutil.copy(root / "bee" / f"{FRAMES}.jpg", root / "bee" / f"{number}.jpg")
    words = ["--root", root, "--out", out, "--devices", "cpu"]
    running = subprocess.Popen(
        [sys.executable, "-m", "vision_mem", "eval", "folder", *words, "--workers", workers],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while '"model": "embedded' not in _text(out / "run.json") and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # to all of them, as a terminal does
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert f"stopped; the same command goes on with {out}" in said
    assert "Traceback" not in said
    assert "error" not in said
    assert not (out / "results" / "bee.txt").exists()
    assert json.loads(_text(out / "run.json"))["identity"]["benchmark"] == "folder"


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
