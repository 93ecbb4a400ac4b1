"""``vision-mem demo`` as users run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vision_mem.cli import main

# Seeded random weights of a real SAM 2: every code path, no download.
MODEL = "random:sam2.1_hiera_t@128"


def test_the_demo_runs_and_scores_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo", "--out", str(tmp_path / "demo"), "--max-frames", "6", "--model", MODEL]
    assert main(words) == 0
    assert main(words) == 2, "results are not replaced by accident"
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    shown = capsys.readouterr().out
    score = json.loads((tmp_path / "demo" / "score.json").read_text())
    assert score["frames"] == 6
    assert 0 <= score["mean_iou_where_visible"] <= 1
    assert (tmp_path / "demo" / "contact-sheet.png").stat().st_size > 1000
    assert "look at the video" in shown


def test_the_demo_of_the_default_model_follows_the_cup(tmp_path: Path) -> None:
    assert main(["demo", "--out", str(tmp_path), "--max-frames", "8", "--quiet"]) == 0
    score = json.loads((tmp_path / "score.json").read_text())
    assert score["mean_iou_where_visible"] > 0.8
