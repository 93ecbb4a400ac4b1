"""``--zone`` and ``--line`` of ``track`` and ``mots`` as users type them, on a small clip."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vision_mem.cli import main

FRAMES, HEIGHT, WIDTH = 24, 96, 160
# Quick, and what it follows keeps its colour.
MODEL = ["--model", "vision_mem.models.segmenters.fake:FakeSegmenter"]
ZONE, LINE = "hall=60,10,120,10,120,90,60,90", "gate=80,95,80,0"


def _box(t: int) -> tuple[int, int, int, int]:
    """A block that walks to the right: in the hall from frame 6 on, and out of it from 19 on."""
    return 18 + 5 * t, 30, 42 + 5 * t, 60


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vision_mem.visualization.contact_sheet import write_video

    rng = np.random.default_rng(3)
    background = rng.integers(90, 140, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    background = background.repeat(8, axis=0).repeat(8, axis=1)

    def image(t: int) -> np.ndarray:
        picture = background.copy()
        x1, y1, x2, y2 = _box(t)
        picture[y1:y2, x1:x2] = (220, 60, 40)
        return picture

    path = tmp_path_factory.mktemp("clips") / "walk.mp4"
    write_video(path, (image(t) for t in range(FRAMES)), 20.0)
    lines = [f"{t} {' '.join(map(str, _box(t)))} 0.9 2" for t in range(FRAMES)]
    path.with_suffix(".txt").write_text("\n".join(lines) + "\n")
    return path


def _mots(clip: Path, out: Path, *words: str) -> list[str]:
    found = ["--detect", f"file:{clip.with_suffix('.txt')}:kitti", "--threads", "1", *MODEL]
    found = [] if "--resume" in words else found
    return ["mots", str(clip), "--out", str(out), *found, *words]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _text_results(out: Path) -> dict[str, str]:
    paths = [p for p in out.rglob("*") if p.suffix in (".jsonl", ".csv", ".txt")]
    return {p.name: p.read_text() for p in paths if "snapshot" not in str(p)}


def test_counts_are_in_events_table_video_record_and_summary(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(_mots(clip, out, "--zone", ZONE, "--line", LINE)) == 0
    shown = capsys.readouterr().out
    assert "hall: 1 entered, 1 left, 0 inside at the end, stayed 0." in shown
    assert "gate: 0 in, 1 out" in shown
    events = [json.loads(line) for line in (out / "walk.events.jsonl").read_text().splitlines()]
    mine = [event for event in events if "zone" in event]
    assert [(e["kind"], e["zone"], e["class"]) for e in mine] == [
        ("entered", "hall", "pedestrian"), ("crossed", "gate", "pedestrian"),
        ("left", "hall", "pedestrian"),
    ]  # fmt: skip
    assert mine[0]["seen"] is True
    assert mine[1]["direction"] == "out"
    # Boxes are those of masks, a pixel or two off.
    assert [event["frame"] for event in mine] == pytest.approx([6, 10, 19], abs=1)
    assert mine[2]["dwell_s"] == pytest.approx(0.6, abs=0.11)
    rows = _rows(out / "walk.zones.csv")
    assert [(r["event"], r["inside"], r["entered"], r["in"], r["out"]) for r in rows] == [
        ("entered", "1", "1", "", ""), ("crossed", "", "", "0", "1"), ("left", "0", "1", "", ""),
    ]  # fmt: skip
    told = json.loads((out / "run.json").read_text())["zones"]
    assert [each["name"] for each in told] == ["hall", "gate"]
    assert told[1]["classes"] == {"in": {}, "out": {"pedestrian": 1}}


def test_the_video_shows_them(clip: Path, tmp_path: Path) -> None:
    import av

    out = tmp_path / "out"
    words = ["--zone", ZONE, "--save", "video", "--max-frames", "3", "--quiet"]
    assert main(_mots(clip, out, *words)) == 0
    assert main(_mots(clip, tmp_path / "plain", *words[2:])) == 0

    def first(folder: Path) -> np.ndarray:
        with av.open(str(folder / "walk_tracked.mp4")) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)

    changed = np.abs(first(out) - first(tmp_path / "plain")).max(axis=2) > 60
    assert changed[60:88, 118:123].any(axis=1).all(), "its right edge"
    assert changed[10:24, 60:110].any(axis=1).all(), "its name and counts"
    assert not changed[60:85, 66:112].any()


def test_after_kill_9_the_counts_go_on(clip: Path, tmp_path: Path) -> None:
    words = ["--zone", ZONE, "--line", LINE, "--save", "events,zones,mot", "--quiet"]
    assert main(_mots(clip, tmp_path / "whole", *words)) == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vision_mem", *_mots(clip, out, *words)]
    process = subprocess.Popen(
        [*command, "--snapshot-every", "6"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    lines, end = out / "mot" / "walk.txt", time.monotonic() + 120
    while not (lines.exists() and len(lines.read_text().splitlines()) > 13):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert main(_mots(clip, out, "--resume", "--quiet")) == 0
    assert _text_results(out) == _text_results(tmp_path / "whole")
    told, whole = (json.loads((p / "run.json").read_text()) for p in (out, tmp_path / "whole"))
    assert told["zones"] == whole["zones"]


def test_track_has_them_and_a_stopped_run_goes_on(clip: Path, tmp_path: Path) -> None:
    words = ["--box", "man=18,30,24,30", "--zone", ZONE, "--save", "diary,events,zones"]
    words = [str(clip), *words, *MODEL, "--quiet"]
    out, parts = tmp_path / "out", tmp_path / "parts"
    assert main(["track", *words, "--out", str(out)]) == 0
    (row,) = [row for row in _rows(out / "walk.zones.csv") if row["event"] == "entered"]
    assert (row["name"], row["class"], row["seen"]) == ("man", "", "1")
    assert main(["track", *words, "--out", str(parts), "--max-frames", "12"]) == 0
    assert _rows(parts / "walk.zones.csv")[-1]["event"] == "inside", "the run ended there"
    assert main(["track", str(clip), "--out", str(parts), "--resume", "--quiet"]) == 0
    assert _text_results(parts) == _text_results(out)


def test_events_are_told_while_the_run_goes_on(clip: Path, tmp_path: Path) -> None:
    from webhook_server import serving

    out = tmp_path / "out"
    with serving() as (posts, host):
        words = ["--events", f"http://{host}/gate", "--zone", ZONE, "--save", "events", "--quiet"]
        assert main(_mots(clip, out, *words)) == 0
    kept = [json.loads(line) for line in (out / "walk.events.jsonl").read_text().splitlines()]
    assert [body for _, _, body in posts.seen] == [{"source": "walk", **event} for event in kept]
    assert host not in (out / "run.json").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--zone", "hall=10,10,20,20"], "two points are a --line"),
        (["--zone", "hall=10,10,400,20,20,60"], "400,20 outside the frame, 160x96 pixels"),
        (["--line", "gate=10,10,-5,20"], "-5,20 outside the frame"),
        (["--zone", "h=0,0,40,40,40,0,0,40"], "crosses itself"),
        (["--zone", ZONE, "--line", "hall=0,0,9,9"], "two zones or lines called 'hall'"),
        (["--zone", ZONE, "--anchor", "foot"], "expected one of bottom, centre"),
        (["--zone", ZONE, "--settle", "0"], "a whole number, 1 or more"),
        (["--events", "events.jsonl"], "to keep them in a file: --save events"),
        (["--save", "zones"], "--save zones needs a --zone or a --line"),
    ],
)
@pytest.mark.parametrize("command", ["track", "mots"])
def test_slips_get_one_line(
    clip: Path, tmp_path: Path, command: str, words: list[str], says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    more = ["--box", "1,1,9,9"] if command == "track" else []
    assert main([command, str(clip), "--out", str(tmp_path / "out"), *more, *words]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.count("\n") == 0
