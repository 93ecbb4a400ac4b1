"""``vision-mem mots`` as users run it, on a small generated clip of moving blocks."""

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
from vision_mem.formats.mot import check_kitti_labels, check_mot_text
from vision_mem.formats.mots import KITTI_MOTS, MOTS_CHALLENGE, check_mots_pngs, check_mots_text

FRAMES, EMPTY, HEIGHT, WIDTH = 48, 12, 96, 160
COLOURS = ((220, 60, 40), (40, 90, 230), (240, 220, 60))


def _box(number: int, t: int) -> tuple[int, int, int, int] | None:
    """Where block ``number`` is; block 2 comes later and leaves the picture again."""
    if t < EMPTY:
        return None
    t -= EMPTY
    if number == 2:
        x = WIDTH - 8 * (t - 6)
        return (max(x, 0), 66, min(x + 24, WIDTH), 90) if t >= 7 and x + 24 > 4 else None
    x = 8 + 3 * t if number == 0 else 128 - 3 * t
    return (x, 6 + 30 * number, x + 24, 30 + 30 * number)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MP4: a still background, empty at first, then blocks that cross it."""
    from vision_mem.visualization.contact_sheet import write_video

    rng = np.random.default_rng(3)
    background = rng.integers(90, 140, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    background = background.repeat(8, axis=0).repeat(8, axis=1)

    def image(t: int) -> np.ndarray:
        picture = background.copy()
        for number, colour in enumerate(COLOURS):
            if (box := _box(number, t)) is not None:
                x1, y1, x2, y2 = box
                picture[y1:y2, x1:x2] = colour
                picture[y1 + 8 : y2 - 8, x1:x2] = np.array(colour) // 2
        return picture

    path = tmp_path_factory.mktemp("clips") / "blocks.mp4"
    write_video(path, (image(t) for t in range(FRAMES)), 24.0)
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true boxes as a KITTI detection file: two cars, one pedestrian."""
    path = tmp_path_factory.mktemp("found") / "blocks.txt"
    lines = []
    for t in range(FRAMES):
        for number in range(3):
            if (box := _box(number, t)) is not None:
                lines.append(f"{t} {' '.join(map(str, box))} 0.9 {2 if number == 2 else 1}")
    path.write_text("\n".join(lines) + "\n")
    return path


def _mots(clip: Path, out: Path, *words: str) -> int:
    return main(["mots", str(clip), "--out", str(out), "--quiet", "--threads", "1", *words])


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _text_results(out: Path) -> dict[str, str]:
    paths = [p for p in out.rglob("*") if p.suffix in (".txt", ".jsonl", ".csv")]
    kept = [p for p in paths if "snapshot" not in str(p)]
    return {str(p.relative_to(out)): p.read_text(encoding="utf-8") for p in kept}


def _decoded(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def _table(out: Path) -> list[dict[str, str]]:
    with (out / "blocks.tracks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _kitti(path: Path) -> list[str]:
    return ["--detect", f"file:{path}:kitti"]


def test_files_of_detections_give_valid_results(blocks: Path, found: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    saves = "video,kitti-mots,kitti-mots-png,mots-challenge,kitti,mot,rle,events,diary,tracks"
    assert _mots(blocks, out, *_kitti(found), "--save", saves) == 0
    size = (HEIGHT, WIDTH)
    text = (out / "kitti-mots" / "blocks.txt").read_text()
    assert not check_mots_text(text, out, KITTI_MOTS, frames=FRAMES, size=size)
    assert {line.split()[2] for line in text.splitlines()} == {"1", "2"}
    text = (out / "mots-challenge" / "blocks.txt").read_text()
    assert not check_mots_text(text, out, MOTS_CHALLENGE, frames=FRAMES, size=size)
    assert {line.split()[2] for line in text.splitlines()} == {"2"}, "it has no other class"
    pictures = sorted((out / "kitti-mots-png" / "blocks").iterdir())
    numbered = [(int(path.stem), path) for path in pictures]
    assert not check_mots_pngs(numbered, out, KITTI_MOTS, frames=FRAMES, size=size)
    assert not check_kitti_labels((out / "kitti" / "blocks.txt").read_text(), out, frames=FRAMES)
    mot = (out / "mot" / "blocks.txt").read_text()
    assert not check_mot_text(mot, out, frames=FRAMES)
    assert {line.split(",")[1] for line in mot.splitlines()} == {"1", "2", "3"}
    assert _decoded(out / "blocks_tracked.mp4") == FRAMES
    masks = [json.loads(line) for line in _lines(out / "blocks.masks.jsonl")]
    assert [entry["frame"] for entry in masks] == list(range(FRAMES))
    assert masks[EMPTY]["objects"][0]["class"] == "car", "seen on the frame it was born on"
    events = [json.loads(line) for line in _lines(out / "blocks.events.jsonl")]
    born = [event["frame"] for event in events if event["kind"] == "born"]
    assert born[:2] == [EMPTY, EMPTY], "nothing before the first detection"
    assert len(born) == 3
    rows = _table(out)
    assert {(row["id"], row["class"]) for row in rows} == {
        ("1", "car"), ("2", "car"), ("3", "pedestrian"),
    }  # fmt: skip
    first = next(row for row in rows if row["id"] == "1")
    assert int(first["first_frame"]) == EMPTY
    assert int(first["detected"]) >= FRAMES - EMPTY - 2
    assert abs(float(first["path_px"]) - 3 * (FRAMES - EMPTY - 1)) < 15
    record = json.loads((out / "run.json").read_text())
    assert (record["status"], record["preset"], record["most"]) == ("finished", "default", 3)
    assert record["classes"] == {"car": 2, "pedestrian": 1}


def test_motion_is_the_detector_when_none_is_named(
    blocks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["mots", str(blocks), "--out", str(out), "--threads", "1", "--save", "mot,tracks"]
    assert main([*words, "--record"]) == 0
    shown = capsys.readouterr().out
    assert "confirmed tracks" in shown
    assert "moving" in shown
    record = json.loads((out / "run.json").read_text())
    assert record["preset"] == "motion"
    rows = [row for row in _table(out) if int(row["frames_shown"]) > 15]
    assert len(rows) >= 2
    assert {row["class"] for row in rows} == {"moving"}
    # What was recorded plays back to the same tracks: motion masks, absence and all.
    again = ["--detect", f"file:{out / 'blocks.detections.jsonl'}", "--preset", "motion"]
    assert _mots(blocks, tmp_path / "again", *again, "--save", "mot") == 0
    mot = Path("mot") / "blocks.txt"
    assert (tmp_path / "again" / mot).read_text() == (out / mot).read_text()


@pytest.mark.parametrize("detector", ["file", "motion"])
def test_a_run_continues_where_it_ended(
    blocks: Path, found: Path, tmp_path: Path, detector: str
) -> None:
    words = [*(_kitti(found) if detector == "file" else []), "--every", "2", "--record"]
    words += ["--save", "mot,rle,events,diary,tracks"]
    assert _mots(blocks, tmp_path / "whole", *words) == 0
    parts = tmp_path / "parts"
    assert _mots(blocks, parts, *words, "--max-frames", "19") == 0
    assert _mots(blocks, parts, "--resume", "--max-frames", "30") == 0
    assert _mots(blocks, parts, "--resume") == 0
    assert _text_results(parts) == _text_results(tmp_path / "whole")
    assert _mots(blocks, parts, "--resume") == 0, "nothing left is no error"


def test_after_kill_9_the_run_continues(blocks: Path, found: Path, tmp_path: Path) -> None:
    words = [*_kitti(found), "--save", "video,mot,events,diary,tracks"]
    assert _mots(blocks, tmp_path / "whole", *words) == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vision_mem", "mots", str(blocks), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--threads", "1", "--snapshot-every", "10", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    diary = out / "blocks.diary.jsonl"
    while not (diary.exists() and len(_lines(diary)) > 25):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert _mots(blocks, out, "--resume") == 0
    assert _text_results(out) == _text_results(tmp_path / "whole")
    assert _decoded(out / "blocks_tracked.mp4") == FRAMES
    assert [path.name for path in out.glob("*tracked*")] == ["blocks_tracked.mp4"]


def test_results_are_not_lost_when_a_detector_cannot_be_opened(
    blocks: Path, found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _mots(blocks, out, *_kitti(found), "--max-frames", "15", "--save", "mot") == 0
    assert _mots(blocks, out, "--detect", "file:nowhere.txt", "--overwrite") == 2
    assert "nowhere.txt" in capsys.readouterr().err
    assert _lines(out / "mot" / "blocks.txt")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--save", "vidoe"], "did you mean 'video'?"),
        (["--classes", "moving"], "expected DETECTOR'S WORD=CLASS"),
        (["--classes", "moving=cat", "--save", "kitti-mots"], "no class 'cat'"),
        (["--region", "1,2,3"], "expected x,y,w,h"),
        (["--detect", "motion:mog3"], "motion:mog2"),
        (["--preset", "motoin"], "did you mean"),
        (["--set", "birth.max_overlpa=1"], "max_overlap"),
        (["--snapshot-every", "-1"], "a whole number, 0 or more"),
    ],
)
def test_slips_get_one_clear_line(
    blocks: Path, tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _mots(blocks, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.count("\n") == 0


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("48 10 10 30 30 0.9 1", 2, "the video has 48 frames"),
        ("400 10 10 30 30 0.9 1", 0, "goes on to frame 400, the video ends with 47"),
        ("20 30 10 10 30 0.9 1", 2, "line 2"),
        ("20 -10 -10 -30 -30 0.9 1", 2, "line 2"),
        ("20 nan 10 30 30 0.9 1", 0, "1 box left out: 1 not finite"),
        ("20 30 10 30 30 0.9 1", 2, "line 2"),
    ],
    ids=[
        "of another video",
        "of a longer one",
        "corners swapped",
        "negative size",
        "NaN",
        "no size",
    ],
)
def test_bad_boxes_in_files_get_one_clear_line(
    blocks: Path, tmp_path: Path, line: str, code: int, says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "bad.txt"
    path.write_text(f"13 8 6 32 30 0.9 1\n{line}\n")
    words = ["--max-frames", "15", "--save", "mot"]
    assert _mots(blocks, tmp_path / "out", *_kitti(path), *words) == code
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.count("\n") == 0


def test_nothing_to_follow_is_said(
    blocks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["mots", str(blocks), "--out", str(out), "--threads", "1", "--max-frames", str(EMPTY)]
    assert main([*words, "--detect", "motion"]) == 0
    assert "nothing was detected by motion" in capsys.readouterr().out
    assert _decoded(out / "blocks_tracked.mp4") == EMPTY


def test_regions_and_classes_choose(blocks: Path, found: Path, tmp_path: Path) -> None:
    words = [*_kitti(found), "--save", "tracks"]
    assert _mots(blocks, tmp_path / "low", *words, "--region", "0,60,160,36") == 0
    assert {row["class"] for row in _table(tmp_path / "low")} == {"pedestrian"}
    assert _mots(blocks, tmp_path / "cars", *words, "--only", "car") == 0
    assert {row["class"] for row in _table(tmp_path / "cars")} == {"car"}


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from vision_mem.cli import main; main(['mots', '--help']); "
    code += "assert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--detect" in done.stdout
