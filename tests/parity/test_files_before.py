"""Files written before the modules were laid out anew: they open, and what was stopped goes on.

``before_inputs.py`` says how the samples were made; ``whole`` holds what the same commands give
when nobody stops them. Numbers may differ from that in the last place on another processor, and by
that a few pixels of a network with random weights; a state that is not read right does far more.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from before_inputs import FRAMES, REST, make_inputs

from vision_mem.cli import main

BEFORE = Path(__file__).resolve().parents[1] / "goldens" / "before"
PIXELS = 2.0


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("before") / "inputs"
    make_inputs(place)
    return place


@pytest.fixture
def samples(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all samples beside their inputs; commands run there."""
    place = tmp_path / "samples"
    shutil.copytree(BEFORE, place)
    (place / "inputs").symlink_to(inputs)
    monkeypatch.chdir(place)
    return place


def run(line: str, code: int = 0) -> None:
    assert main(shlex.split(line)) == code


def rows(path: Path, separator: str | None = ",") -> np.ndarray:
    return np.loadtxt(path, delimiter=separator, ndmin=2)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_tracking_goes_on(samples: Path) -> None:
    kept = lines(samples / "track/lasot/blocks.txt")
    run(REST["track"])
    assert lines(samples / "track/lasot/blocks.txt")[: len(kept)] == kept
    for name in ("lasot/blocks.txt", "mot/blocks.txt"):
        whole = rows(samples / "whole/track" / name)
        assert len(whole) == FRAMES
        np.testing.assert_allclose(rows(samples / "track" / name), whole, atol=PIXELS)
    frames = [json.loads(line)["frame"] for line in lines(samples / "track/blocks.diary.jsonl")]
    assert frames == list(range(FRAMES))
    record = json.loads((samples / "track/run.json").read_text())
    assert (record["status"], record["frames"], record["resumed_at"]) == ("finished", FRAMES, 5)


def test_following_everything_goes_on(samples: Path) -> None:
    run(REST["mots"])
    whole = rows(samples / "whole/mots/mot/blocks.txt")
    np.testing.assert_allclose(rows(samples / "mots/mot/blocks.txt"), whole, atol=PIXELS)
    said = [
        [(e["frame"], e["kind"], e["id"]) for e in map(json.loads, lines(place))]
        for place in (samples / f"{one}mots/blocks.events.jsonl" for one in ("", "whole/"))
    ]
    assert said[0] == said[1]
    record = json.loads((samples / "mots/run.json").read_text())
    assert (record["status"], record["frames"], record["resumed_at"]) == ("finished", FRAMES, 5)


def test_rebuilding_goes_on(samples: Path) -> None:
    run(REST["reconstruct"])
    whole = rows(samples / "whole/reconstruct/room.tum.txt", None)
    found = rows(samples / "reconstruct/room.tum.txt", None)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    heads = [
        (samples / f"{one}reconstruct/room.map.ply").read_bytes().partition(b"end_header")[0]
        for one in ("", "whole/")
    ]
    assert heads[0] == heads[1], "as many points of the map"


def test_a_memory_answers_and_goes_on(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("ask day.vmem red? --model fake --json --quiet --out again")
    entry = json.loads(capsys.readouterr().out)
    assert entry["at_s"] < 6.1 and 2 <= entry["moments"][0]["start_s"] < 5
    run(REST["ask"] + " --quiet")
    entry = json.loads(capsys.readouterr().out)
    whole = json.loads(lines(samples / "whole/answers.jsonl")[0])
    for moment in entry["moments"]:
        assert moment.pop("file").endswith("colours")  # said since
        for since in ("peak_s", "box", "ends", "thing", "entity"):
            moment.pop(since)
    for each in entry["evidence"]:
        each.pop("box")
    for key in ("at_s", "answer", "moments", "evidence", "tokens_read"):
        assert entry[key] == whole[key]


def test_a_map_of_rooms_answers_and_goes_on(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("navigate where box --map room.map --json")
    (hit,) = json.loads(capsys.readouterr().out)["hits"]
    assert (hit["key"], hit["label"], hit["seen"]) == ("landmark:2", "box", 1)
    np.testing.assert_allclose(hit["position"], (0.3, 0.0, 1.2), atol=1e-6)
    run("navigate show --map room.map --check --json")
    shown = json.loads(capsys.readouterr().out)
    expected = {"frames": 4, "places": 1, "landmarks": 1, "memories": 5, "occupied_leaves": 344}
    assert shown | expected == shown and shown["checked"] == 5
    run("navigate recall box --map room.map --json")
    assert json.loads(capsys.readouterr().out)["label"] == "box"
    run("navigate build inputs/room --map room.map --max-frames 3 --quiet")
    run("navigate show --map room.map --check --json")
    assert json.loads(capsys.readouterr().out)["frames"] == 7, "added as another recording"


def test_a_map_of_streets_answers_and_goes_on(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run('navigate where "red shop4" --map streets.map --json -k 1')
    (hit,) = json.loads(capsys.readouterr().out)["hits"]
    assert hit["label"] == "red shop4" and hit["seen"] == 2
    run("navigate show --map streets.map --check --json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["frames"], shown["places"], shown["landmarks"]) == (30, 25, 12)
    with sqlite3.connect(samples / "streets.map") as sql:
        taken = {row[0].rpartition("/")[2] for row in sql.execute("SELECT source FROM frame")}
    sql.close()
    assert len(taken) == 25 and all(source.startswith("streets?tour=1#p") for source in taken)
    sights = "--sights inputs/streets/sights.jsonl"
    run(f"navigate build inputs/streets --map streets.map {sights} --quiet")
    run("navigate show --map streets.map --check --json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["frames"], shown["places"]) == (30 + 65, 65), "all places, the known ones again"
    run('navigate route --map streets.map --to "red shop4" --json')
    assert json.loads(capsys.readouterr().out)["on"] == "places"


def test_an_evaluation_goes_on(samples: Path) -> None:
    before = (samples / "eval/results/one.txt").stat().st_mtime_ns
    run(REST["eval"] + " --quiet")
    assert (samples / "eval/results/one.txt").stat().st_mtime_ns == before, "not run again"
    for name in ("one", "two"):
        whole = rows(samples / f"whole/eval/results/{name}.txt")
        np.testing.assert_allclose(rows(samples / f"eval/results/{name}.txt"), whole, atol=PIXELS)
    scores = json.loads((samples / "eval/scores/scores.json").read_text())
    assert set(scores["trackers"][0]["sequences"]) == {"one", "two"}
