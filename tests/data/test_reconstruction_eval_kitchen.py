"""A real recording through ``eval reconstruction``: forty frames of a kitchen."""

from __future__ import annotations

import csv

import pytest

from vision_mem.cli import main

pytestmark = pytest.mark.data


@pytest.mark.parametrize(("poses", "accuracy_m"), [("given", 0.002), ("found", 0.01)])
def test_the_kitchen_s_points(data, tmp_path, capsys, poses, accuracy_m) -> None:
    folder = data / "rgbd" / "7scenes_redkitchen"
    if not folder.is_dir():
        pytest.skip(f"the kitchen was not found in {folder}")
    (tmp_path / "set" / "redkitchen").mkdir(parents=True)
    (tmp_path / "set" / "redkitchen" / "seq-01").symlink_to(folder)
    words = ["--root", str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--scene"]
    assert main(["eval", "reconstruction", *words, f"stride=10,poses={poses}"]) == 0
    assert "not registered" in capsys.readouterr().err
    (row,) = csv.DictReader((tmp_path / "out/scores/summary.csv").open())
    assert float(row["acc"]) < accuracy_m and float(row["comp"]) < accuracy_m
    assert float(row["nc"]) > 0.85
