"""A record stays a line, and a cell stays a word, whatever objects are called."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile

import pytest

from vision_mem.formats.text import csv_line, record_text, scratch_prefix


@pytest.mark.parametrize("name", ["=1+1", "+a", "-b", "@c", " =x", "\t=y", "\r=z", "\uff1d1"])
def test_no_cell_begins_a_formula(name):
    (cell,) = next(csv.reader([csv_line([name])]))
    assert cell.startswith("'")


def test_numbers_and_words_stay():
    assert csv_line([-1, "-0.5", "+1e-3", "a-b", "red car, left", None]) == (
        '-1,-0.5,+1e-3,a-b,"red car, left",'
    )


@pytest.mark.parametrize("sign", ["\n", "\r", "\x0b", "\x1b", "\x85", "\u2028", "\u2029"])
def test_a_record_is_record_text(sign):
    assert record_text(f"a{sign}b") == "a b"
    assert len(csv_line([f"a{sign}b"]).splitlines()) == 1
    assert len(json.dumps(record_text(f"a{sign}b"), ensure_ascii=False).splitlines()) == 1


def test_scratch_folders_of_killed_runs_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (f"vision-mem-{ended.pid}-a", f"vision-mem-{os.getpid()}-b", "vision-mem-mine-c"):
        (tmp_path / name).mkdir()
    assert scratch_prefix() == f"vision-mem-{os.getpid()}-"
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {f"vision-mem-{os.getpid()}-b", "vision-mem-mine-c"}
