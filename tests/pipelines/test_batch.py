"""``batch`` as it is typed: many videos, cut off and gone on with, on processes of their own."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from vision_mem.cli import main
from vision_mem.pipelines.batch import run_command
from vision_mem.runs.lock import FileLock

FAKE = "vision_mem.models.segmenters.fake:FakeSegmenter"
WORDS = ["--box", "cup=30,28,40,40", "--model", FAKE, "--save", "lasot", "--threads", "1"]


@pytest.fixture
def clips(small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "clips"
    for name in ("one.mp4", "inner/one.mp4"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(small_clip, place / name)
    (place / "broken.mp4").write_bytes(b"no video")
    monkeypatch.chdir(tmp_path)
    return place


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _contents(out: Path) -> dict[str, bytes]:
    found = [p for p in (out / "runs").rglob("*") if p.suffix in (".txt", ".parquet")]
    return {str(p.relative_to(out)): p.read_bytes() for p in [*found, out / "index.parquet"]}


def test_many_videos_and_the_same_command_goes_on(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    line = ["batch", "track", "clips", *WORDS, "--out", "out"]
    assert main(line) == 1, "one of them is broken"
    said = capsys.readouterr()
    assert "2 of 3 videos done" in said.out
    assert "error: broken: " in said.err and "Traceback" not in said.err
    rows = {row["results"]: row for row in _rows(tmp_path / "out")}
    assert [row["status"] for row in rows.values()].count("finished") == 2
    assert {row["error"] != "" for row in rows.values()} == {True, False}
    index = pandas.read_parquet(tmp_path / "out" / "index.parquet")
    assert index.groupby("file").size().to_dict() == {
        "clips/one.mp4": 32,
        "clips/inner/one.mp4": 32,
    }
    assert set(index["name"]) == {"cup"} and set(index["state"]) <= {"sure", "unsure"}
    assert "results in" in (tmp_path / "out" / "logs" / "clips-one.txt").read_text()

    # A run that was cut off goes on from its snapshot, and gives what it gave.
    before = _contents(tmp_path / "out")
    run = tmp_path / "out" / "runs" / "clips-one"
    shutil.rmtree(run)
    alone = [*WORDS[:5], "lasot,parquet", *WORDS[6:], "--quiet", "--out", str(run)]
    assert run_command("track", ["clips/one.mp4", *alone, "--max-frames", "9"]) == 0
    record = json.loads((run / "run.json").read_text())
    record |= {"status": "running", "limits": {}}  # as if it had been killed here
    (run / "run.json").write_text(json.dumps(record))
    (clips / "broken.mp4").unlink()
    assert main(line) == 0
    said = capsys.readouterr()
    assert "2 of 2 videos done" in said.out
    assert _contents(tmp_path / "out") == before

    assert main([*line, "--stride", "2"]) == 2, "another line is another batch"
    assert "--overwrite to begin anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trak", "clips"], "did you mean 'track'"),
        (["track", "clips/no*.mp4"], "matches no file"),
        (["track", "clips", "--stride", "0"], "'--stride': expected a whole number, 1 or more"),
        (["track", "clips", "--memory", "x"], "track has no option --memory"),
        (["ask", "clips", "--memory", "x"], "not for many videos"),
        (["track", "clips", "--devices", "cpu,cpu", "--workers", "1"], "cannot use 2 devices"),
        (["track", "rtsp://camera/1"], "see vision-mem studio"),
    ],
)
def test_slips_are_said_before_the_first_video(
    clips: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(["batch", *words, "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert not Path("out").exists()


def test_a_folder_of_something_else_is_left_alone(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "track", "clips/one.mp4", *WORDS, "--out", "clips"]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert main(["batch", "track", "clips/one.mp4", *WORDS, "--out", "clips", "--overwrite"]) == 2
    assert (clips / "one.mp4").exists()


def test_what_another_batch_is_writing_is_not_cleared(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "runs" / "one").mkdir(parents=True)
    (out / "batch.json").write_text('{"command": "track", "options": []}')
    lock = FileLock(out / "batch.json", "batch out", "")
    try:
        line = ["batch", "track", "clips/one.mp4", *WORDS, "--out", "out", "--overwrite"]
        assert main(line) == 1
    finally:
        lock.close()
    assert "is being written by process" in capsys.readouterr().err
    assert (out / "runs" / "one").is_dir()
