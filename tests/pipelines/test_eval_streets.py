"""Streets at the command line: ``eval touchdown|map2seq``, ``navigate follow`` and ``eval``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vision_mem.cli import main
from vision_mem.synthetic.city import CityConfig, make_city
from vision_mem.synthetic.city_routes import make_routes, write_city


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> Path:
    """A generated city in Touchdown's files, with the words that are to be seen where."""
    root = tmp_path_factory.mktemp("streets")
    city = make_city(5, CityConfig(blocks=5))
    write_city(city, root, {"dev": make_routes(city, 6, 0, turns=(1, 2), longest=30)})
    return root


def test_gold_is_perfect_and_goes_on_where_it_was(streets, tmp_path, capsys) -> None:
    out = tmp_path / "gold"
    words = ["eval", "touchdown", "--root", str(streets), "--out", str(out)]
    words += ["--street", "agent=gold,families=outdoor+ilharco", "--street", "threshold=5"]
    assert main([*words, "--max-sequences", "2"]) == 0
    shown = capsys.readouterr().out
    assert "touchdown dev, 2 routes; outdoor" in shown and "; ilharco (" in shown
    assert main(words) == 0
    lines = (out / "episodes.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 6
    scores = json.loads((out / "scores-outdoor.json").read_text())["scores"]
    assert scores["TC"] == scores["SED"] == scores["KPA"] == 100.0 and scores["SPD"] == 0.0


def test_rules_with_sights_do_better_than_forward_only(streets, tmp_path) -> None:
    found = {}
    for agent in ("rules", "forward"):
        out = tmp_path / agent
        words = ["eval", "touchdown", "--root", str(streets), "--out", str(out), "--quiet"]
        street = f"agent={agent},sights={streets / 'sights.jsonl'},memory=long"
        assert main([*words, "--street", street]) == 0
        found[agent] = json.loads((out / "scores-outdoor.json").read_text())["scores"]["TC"]
    assert found["rules"] >= found["forward"] + 30


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["touchdown"], "missing option --root"),
        (["touchdwn", "--root", "x"], "did you mean 'touchdown'"),
        (["touchdown", "--root", "{root}", "--street", "agnt=gold"], "did you mean 'agent'"),
        (["touchdown", "--root", "{root}", "--street", "agent=golden"], "no agent 'golden'"),
        (["touchdown", "--root", "{root}", "--street", "agent=model"], "from Python"),
        (["touchdown", "--root", "{root}", "--split", "test"], "no routes 'test'"),
        (["touchdown", "--root", "{root}", "--street", "sights=no.jsonl"], "no such file"),
        (["touchdown", "--root", "{root}", "--street", "landmarks=no.json"], "no such file"),
        (["touchdown", "--root", "{root}", "--street", "steps=many"], "expected a whole number"),
        (["touchdown", "--root", "{root}", "--preset", "sam2"], "no such option --preset"),
        (["map2seq", "--root", "{root}"], "is of touchdown, not of map2seq"),
        (["otb100", "--root", "{root}", "--street", "agent=gold"], "on streets: touchdown"),
    ],
)
def test_slips_are_one_line(streets, tmp_path, capsys, words, says) -> None:
    filled = [word.format(root=streets) for word in words]
    assert main(["eval", *filled, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and says in shown


def test_a_run_keeps_its_memory_as_a_map_and_may_begin_with_one(streets, tmp_path, capsys) -> None:
    known, out = tmp_path / "known.map", tmp_path / "out"
    sights = ["--sights", str(streets / "sights.jsonl")]
    assert main(["navigate", "build", str(streets), "--map", str(known), *sights, "--quiet"]) == 0
    before = known.read_bytes()
    words = ["eval", "touchdown", "--root", str(streets), "--out", str(out), "--quiet"]
    assert main([*words, "--street", f"memory=long,map={known}"]) == 0  # nothing is seen on the way
    assert json.loads((out / "scores-outdoor.json").read_text())["scores"]["TC"] >= 80
    assert known.read_bytes() == before
    assert main(["navigate", "show", "--map", str(out / "memory.map"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["places"] == len(make_city(5, CityConfig(blocks=5)).graph)
    assert shown["frames"] > shown["places"]
    assert main([*words, "--street", f"memory=short,map={known}"]) == 2
    assert "ask for memory long" in capsys.readouterr().err


def test_the_city_table_small(tmp_path, capsys) -> None:
    out = tmp_path / "table.json"
    words = ["--cities", "1", "--episodes", "3", "--seeds", "1", "--tour", "150", "--quiet"]
    assert main(["navigate", "eval", *words, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "short only" in shown and "control: another city" in shown
    rows = json.loads(out.read_text())["rows"]
    assert {row["task"] for row in rows} == {"routes", "goals"} and len(rows) == 16
