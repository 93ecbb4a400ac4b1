"""``vision-mem score`` on sets of questions, from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from videoqa_results import write_ovo_results

from vision_mem.cli import main

GOLDEN = json.loads(
    (Path(__file__).resolve().parents[1] / "goldens" / "ovobench" / "scores.json").read_text()
)["models"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for name in ("LongVU", "GPT", "Gemini"):
        write_ovo_results(folder / name, GOLDEN[name]["tasks"], seed=3)
    return folder


def run(capsys, *words):
    code = main(["score", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_side_by_side(models, tmp_path, capsys):
    out = tmp_path / "report"
    words = [models / name for name in ("LongVU", "GPT", "Gemini")]
    code, said, _ = run(capsys, "ovo-bench", *words, "--out", out)
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == "OVO-Bench: 3035 questions"
    assert lines[2].split()[:5] == ["model", "overall", "realtime", "backward", "forward"]
    assert [line.split()[:2] for line in lines[4:7]] == [
        ["Gemini", "0.6300"], ["GPT", "0.5938"], ["LongVU", "0.4671"],
    ]  # fmt: skip
    assert any(line.startswith("overall by task") for line in lines)
    assert any("GPT: no answers to REC, SSR" in line for line in lines)
    assert any("models are not scored on the same questions" in line for line in lines)
    record = json.loads((out / "scores.json").read_text())
    assert record["benchmark"] == "ovo-bench" and len(record["trackers"]) == 3
    with (out / "attributes.csv").open() as file:
        rows = {(row["tracker"], row["attribute"]): row for row in csv.DictReader(file)}
    assert float(rows["LongVU", "HLD"]["overall"]) == pytest.approx(9 / 186, abs=1e-6)


def test_json_strict_and_tasks(models, capsys):
    words = ("ovo-bench", models / "LongVU", "--json", "--strict", "--sequences", "HLD,EPM")
    code, said, _ = run(capsys, *words, "--name", "ours")
    assert code == 0
    (found,) = json.loads(said)["trackers"]
    assert found["name"] == "ours" and set(found["attributes"]) == {"HLD", "EPM"}
    assert found["summary"]["official"] == pytest.approx((9 / 186 + 121 / 297) / 2)
    assert found["summary"]["overall"] == found["summary"]["backward"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ovo-bench"], "no results to score"),
        (["ovo-bench", "{models}"], "result files in 3 folders"),
        (["ovo-bench", "{models}/GPT", "--partial"], "no such option --partial for ovo-bench"),
        (["ovo-bench", "{models}/GPT", "--root", "{models}"], "no annotations of OVO-Bench"),
        (["ovo-bench", "{models}/GPT", "--sequences", "EPN"], "EPN"),
        (["streamingbench", "{models}/GPT"], "GPT_ACR_offline.json"),
        (["odv-bench", "{models}/GPT"], "GPT_ACR_offline.json"),
        (["ovobench", "{models}/GPT"], "did you mean 'ovo-bench'"),
        (["lasot", "{models}/GPT"], "missing option --root"),
        (["kitti-mots", "{models}/GPT"], "missing option --root"),
    ],
)
def test_one_clear_line(models, capsys, words, message):
    code, said, wrong = run(capsys, *(word.format(models=models) for word in words))
    assert code != 0 and said == ""
    assert message in wrong and wrong.count("\n") == 1
