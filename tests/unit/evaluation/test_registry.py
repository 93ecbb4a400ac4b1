"""The table of families: options of a set, sets of one's own, folders that are gone on with."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from benchmark_samples import write_sample
from evaluation_samples import contents

from vision_mem.cli import main
from vision_mem.errors import InputError
from vision_mem.evaluation.options import words_of
from vision_mem.evaluation.registry import Dataset, families, family_of, look_up
from vision_mem.evaluation.sot.datasets import BENCHMARKS, open_benchmark
from vision_mem.evaluation.vln.family import DATASETS as STREETS
from vision_mem.evaluation.vln.job import DATASETS as KNOWN_STREETS

MINE = """
from vision_mem.evaluation.sot.datasets.folder import open_folder

def open_mine(root, need_frames=True):
    return open_folder(root, need_frames=need_frames)

def open_nothing(root, need_frames=True):
    return 3
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of a set and a module that opens it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_sets", raising=False)
    (tmp_path / "my_sets.py").write_text(MINE)
    write_sample("folder", tmp_path / "set")
    return tmp_path


def test_every_set_is_of_one_family_with_options_of_its_own() -> None:
    words = [word for family in families().values() for word in family.datasets]
    assert len(words) == len(set(words)) > 30
    for word in words:
        family = family_of(word)
        for kind in (family.options(word), family.scoring(word)):
            if kind is not None:
                assert is_dataclass(kind) and len(words_of(kind)) == len(fields(kind))
        assert "--root" in words_of(family.options(word))
    assert tuple(STREETS) == KNOWN_STREETS
    with pytest.raises(InputError, match="did you mean 'lasot'"):
        family_of("lasott")


def test_readers_are_there_and_named_right() -> None:
    for family in families().values():
        for row in family.datasets.values():
            assert not row.read or callable(look_up(row.read))
    with pytest.raises(InputError, match="has no 'nothing'"):
        look_up("vision_mem.evaluation.registry:nothing")


def test_a_set_of_one_s_own_by_function_and_by_row(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--root", "set", "--devices", "cpu", "--max-sequences", "1"]
    assert main(["eval", "my_sets:open_mine", *words]) == 0
    assert "results: runs/eval/folder-samurai" in capsys.readouterr().out
    assert main(["score", "my_sets:open_mine", "runs/eval/folder-samurai", "--root", "set",
                 "--partial"]) == 0  # fmt: skip
    monkeypatch.setitem(BENCHMARKS, "mine", Dataset("Mine", "", "my_sets:open_mine"))
    assert len(open_benchmark("mine", place / "set").sequences) > 0
    capsys.readouterr()
    assert main(["eval", "my_sets:open_nothing", *words]) == 2
    assert "returned int; expected a Benchmark" in capsys.readouterr().err


def test_folders_are_gone_on_with_wherever_they_were(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "folder", "--root", "set", "--devices", "cpu", "--quiet"]
    assert main([*words, "--resume"]) == 2
    assert "no results to go on with" in capsys.readouterr().err
    assert main([*words, "--max-sequences", "1"]) == 0
    done = contents(place / "runs/eval/folder-samurai/results")
    # Before there was a folder for each command, this is where it lay.
    (place / "runs/eval/folder-samurai").rename(place / "runs/folder-samurai")
    assert main([*words, "--resume"]) == 0
    assert not (place / "runs/eval/folder-samurai").exists()
    assert done.items() < contents(place / "runs/folder-samurai/results").items()
    assert main([*words, "--preset", "sam2", "--max-sequences", "1"]) == 0
    assert json.loads((place / "runs/eval/folder-sam2/run.json").read_text())["preset"] == "sam2"
    assert main([*words, "--resume", "--overwrite"]) == 2
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lasott"], "did you mean"),
        (["lasot"], "missing option --root"),
        (["lasot", "--root", "nowhere"], "is not there"),
        (["kitti-mots", "--root", ".", "--preset", "samurai"], "there are default"),
        (["lasot", "--root", ".", "--shard", "3/2"], "i/n"),
        (["lasot", "--root", ".", "--model", "no.pt"], "--model no.pt: no such file"),
        (["streams", "--model", "./no"], "--model ./no: no such file"),
        (["lasot", "--root", ".", "--devices", ","], "--devices"),
        (["lasot", "--root", ".", "--detect", "x"], "no such option"),
    ],
)
def test_what_typing_shows_is_said_without_torch(words: list[str], says: str) -> None:
    code = (
        "import sys; from vision_mem.cli import main; "
        f"code = main(['eval', *{words!r}]); print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert says in done.stderr and done.stderr.count("\n") == 1


def test_help_lists_sets_by_family_and_options_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--help"]) == 0
    shown = capsys.readouterr().out
    for family in families().values():
        assert f"{family.line.capitalize()}:" in shown
    assert main(["eval", "kitti-mots", "--help"]) == 0
    shown = capsys.readouterr().out
    headings = [line for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == ["Input:", "Model:", "Output:", "Where it runs:", "Advanced:", "Options:"]
    assert "--detect" in shown and "--crowd" not in shown and "--street" not in shown


def test_scores_are_not_replaced_unasked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "folder", "--root", "set", "--devices", "cpu", "--quiet"]
    assert main([*words, "--max-sequences", "1", "--out", "out"]) == 0
    words = ["score", "folder", "out", "--root", "set", "--partial", "--out", "report"]
    assert main(words) == 0
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
