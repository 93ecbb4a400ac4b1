"""``vision-mem track`` as users run it, on small generated clips."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision_mem.cli import main
from vision_mem.visualization.contact_sheet import write_video

# Seeded random weights of a real SAM 2 at a small image size: every code path, no download.
MODEL = "random:sam2.1_hiera_t@128"
BOX = "cup=30,28,40,40"


def _track(clip: Path | str, out: Path, *words: str) -> int:
    return main(["track", str(clip), "--out", str(out), "--model", MODEL, "--quiet", *words])


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _text_results(out: Path) -> dict[str, str]:
    """All results that are text, by name, without what depends on the clock."""
    paths = [p for p in out.rglob("*") if p.suffix in (".txt", ".jsonl")]
    kept = [p for p in paths if "snapshot" not in str(p) and not p.name.endswith("_time.txt")]
    return {str(p.relative_to(out)): p.read_text(encoding="utf-8") for p in kept}


def _times(path: Path) -> list[float]:
    import av

    with av.open(str(path)) as container:
        return [round(frame.time, 4) for frame in container.decode(video=0)]


def _decoded(path: Path) -> int:
    return len(_times(path))


def test_a_run_leaves_valid_results(small_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    saves = "video,lasot,otb,got10k,mot,rle,png,diary"
    assert _track(small_clip, out, "--box", BOX, "--save", saves) == 0
    boxes = np.loadtxt(out / "lasot" / "cup.txt", delimiter=",")
    assert boxes.shape == (32, 4)
    assert (out / "otb" / "cup.txt").read_text() == (out / "lasot" / "cup.txt").read_text()
    assert len(_lines(out / "got10k" / "cup" / "cup_001.txt")) == 32
    for name in ("cup.diary.jsonl", "cup.masks.jsonl"):
        entries = [json.loads(line) for line in _lines(out / name)]
        assert [entry["frame"] for entry in entries] == list(range(32))
    assert len(list((out / "masks" / "cup").glob("*.png"))) == 32
    assert _decoded(out / "cup_tracked.mp4") == 32
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["frames"] == 32
    assert record["source_info"]["frame_count"] == 32
    assert record["config"]["policy"]["name"] == "scored"
    assert record["model"].startswith("random:sam2.1_hiera_t@128#")
    assert record["objects"]["cup"]["present"] >= 1
    assert set(record["versions"]) >= {"vision-mem", "torch", "sam2", "python"}
    assert record["memory"]["bytes"] > 0


def test_several_objects_points_and_a_later_prompt(small_clip: Path, tmp_path: Path) -> None:
    words = ["--box", BOX, "--point", "floor=120,80", "--not-point", "floor=40,40"]
    words += ["--box", "late=5,5,30,30@10", "--max-frames", "14", "--save", "diary"]
    assert _track(small_clip, tmp_path / "out", *words) == 0
    entries = [json.loads(line) for line in _lines(tmp_path / "out" / "cup.diary.jsonl")]
    assert [o["name"] for o in entries[0]["objects"]] == ["floor", "cup"] or [
        o["name"] for o in entries[0]["objects"]
    ] == ["cup", "floor"]
    assert len(entries[9]["objects"]) == 2
    assert [o["name"] for o in entries[10]["objects"]][-1] == "late"
    added = [(e["frame"], event["name"]) for e in entries for event in e["events"]]
    assert (10, "late") in added


def test_start_end_and_stride_name_frames_of_the_source(small_clip: Path, tmp_path: Path) -> None:
    words = ["--box", BOX + "@12", "--start", "4", "--end", "30", "--stride", "4"]
    assert _track(small_clip, tmp_path / "out", *words, "--save", "diary") == 0
    entries = [json.loads(line) for line in _lines(tmp_path / "out" / "cup.diary.jsonl")]
    assert [entry["frame"] for entry in entries] == [4, 8, 12, 16, 20, 24, 28]
    assert [len(entry["objects"]) for entry in entries] == [0, 0, 1, 1, 1, 1, 1]


def test_an_image_folder_with_its_truth_file(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "Cup" / "img"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in (1, 2, 10):
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), np.uint8)).save(folder / f"{number}.jpg")
    (tmp_path / "groundtruth_rect.txt").write_text("10\t12\t20\t24\n")
    init = str(tmp_path / "groundtruth_rect.txt")
    assert _track(folder, tmp_path / "out", "--init", init, "--save", "lasot") == 0
    (boxes,) = (tmp_path / "out" / "lasot").glob("*.txt")
    assert len(_lines(boxes)) == 3


def test_a_mask_prompt(small_clip: Path, tmp_path: Path) -> None:
    from PIL import Image

    mask = np.zeros((96, 160), np.uint8)
    mask[30:60, 30:70] = 1
    mask[70:90, 100:150] = 2
    Image.fromarray(mask).save(tmp_path / "m.png")
    words = ["--mask", str(tmp_path / "m.png"), "--max-frames", "3", "--save", "mot"]
    assert _track(small_clip, tmp_path / "out", *words) == 0
    first = [line.split(",") for line in _lines(tmp_path / "out" / "mot" / "cup.txt")]
    assert {line[1] for line in first if line[0] == "1"} == {"1", "2"}


def test_the_summary_names_the_results(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["track", str(small_clip), "--out", str(out), "--model", MODEL, "--box", BOX]
    assert main([*words, "--max-frames", "4"]) == 0
    shown = capsys.readouterr().out
    assert "4 frames in" in shown
    assert "frames/s" in shown
    assert str(out / "cup_tracked.mp4") in shown
    assert "cup: to be seen in" in shown


def test_results_are_not_replaced_by_accident(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _track(small_clip, out, "--box", BOX, "--max-frames", "2") == 0
    (out / "notes.md").write_text("mine")
    assert _track(small_clip, out, "--box", BOX) == 2
    assert "--overwrite" in capsys.readouterr().err
    words = ["--box", BOX, "--max-frames", "3", "--overwrite", "--save", "lasot"]
    assert _track(small_clip, out, *words) == 0
    assert len(_lines(out / "lasot" / "cup.txt")) == 3
    assert not (out / "cup_tracked.mp4").exists(), "an old video beside new boxes misleads"
    assert (out / "notes.md").read_text() == "mine"


def test_a_slip_in_the_first_box_is_no_obstacle(small_clip: Path, tmp_path: Path) -> None:
    assert _track(small_clip, tmp_path / "out", "--box", "900,900,5,5") == 2
    assert _track(small_clip, tmp_path / "out", "--box", BOX, "--max-frames", "2") == 0


def test_a_run_continues_where_it_ended(small_clip: Path, tmp_path: Path) -> None:
    saves = ["--save", "lasot,mot,rle,diary"]
    assert _track(small_clip, tmp_path / "whole", "--box", BOX, *saves) == 0
    parts = tmp_path / "parts"
    assert _track(small_clip, parts, "--box", BOX, *saves, "--max-frames", "11") == 0
    assert _track(small_clip, parts, "--resume", "--max-frames", "20") == 0
    assert _track(small_clip, parts, "--resume") == 0
    assert _text_results(parts) == _text_results(tmp_path / "whole")
    assert _track(small_clip, parts, "--resume") == 0, "nothing left is no error"
    record = json.loads((parts / "run.json").read_text())
    assert (record["frames"], record["resumed_at"]) == (32, 20)
    assert record["source_info"]["frame_count"] == 32


def test_runs_get_folders_by_command_and_number(
    small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["track", str(small_clip), "--model", MODEL, "--save", "lasot"]
    new = [*words, "--box", BOX, "--max-frames", "2"]
    assert main([*new, "--quiet"]) == 0
    assert main(new) == 0
    shown = capsys.readouterr()
    assert "note: results go to runs/track/cup-2" in shown.err
    assert "results in runs/track/cup-2:" in shown.out
    assert main([*words, "--resume", "--max-frames", "4", "--quiet"]) == 0
    counts = [len(_lines(Path(f"runs/track/{name}/lasot/cup.txt"))) for name in ("cup", "cup-2")]
    assert counts == [2, 4], "the latest goes on"
    # A run of an earlier version, in runs/NAME, without the command in its record.
    old = Path("runs/track/cup").rename("runs/cup")
    record = json.loads((old / "run.json").read_text())
    del record["command"]
    (old / "run.json").write_text(json.dumps(record))
    assert main([*words, "--resume", "--max-frames", "5", "--quiet"]) == 0
    assert len(_lines(old / "lasot" / "cup.txt")) == 5


def test_a_continued_run_keeps_its_nature(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _track(small_clip, out, "--box", BOX, "--max-frames", "3") == 0
    assert _track(small_clip, out, "--resume", "--preset", "sam2") == 2
    assert "was 'samurai' in the run to continue" in capsys.readouterr().err
    assert _track(small_clip, out, "--resume", "--overwrite") == 2
    assert _track(small_clip, tmp_path / "new", "--resume") == 2
    assert "no snapshot" in capsys.readouterr().err
    assert _track(small_clip, out, "--resume", "--max-frames", "3") == 0
    assert "nothing left to do" in capsys.readouterr().out


def test_a_run_that_is_corrected_ends_where_it_ended(small_clip: Path, tmp_path: Path) -> None:
    def frames() -> int:
        return int(json.loads((tmp_path / "run.json").read_text())["frames"])

    words = ["--box", BOX, "--snapshot-every", "3", "--save", "lasot"]
    assert _track(small_clip, tmp_path, *words, "--max-frames", "8") == 0
    correct = ["--resume", "--box", "cup=31,28,40,40", "--from"]
    assert _track(small_clip, tmp_path, *correct, "7") == 0
    assert frames() == 8
    assert _track(small_clip, tmp_path, *correct, "5", "--max-frames", "10") == 0
    assert frames() == 10
    assert _track(small_clip, tmp_path, "--resume", "--end", "12") == 0
    assert frames() == 12, "a run that reached its limit goes on behind it"


def test_the_run_of_another_command_is_refused(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _track(small_clip, tmp_path, "--box", BOX, "--max-frames", "2", "--save", "lasot") == 0
    for words in (["mots", str(small_clip)], ["reconstruct", "generated"]):
        assert main([*words, "--resume", "--out", str(tmp_path)]) == 2
        assert f"is one of track, not of {words[0]}; give another --out" in capsys.readouterr().err


def test_a_run_goes_on_with_its_own_source_only(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _track(small_clip, out, "--box", BOX, "--max-frames", "4") == 0
    other = tmp_path / "other.mp4"
    shutil.copy(small_clip, other)
    assert _track(other, out, "--resume") == 2
    assert "not of " in capsys.readouterr().err
    moved = tmp_path / "moved" / small_clip.name
    moved.parent.mkdir()
    write_video(moved, [np.zeros((48, 64, 3), np.uint8)] * 8, 24.0)
    assert _track(moved, out, "--resume") == 2
    assert "it is another file" in capsys.readouterr().err
    shutil.copy(small_clip, moved)
    assert _track(moved, out, "--resume", "--max-frames", "6") == 0


def _start(clip: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vision_mem", "track", str(clip), "--out", str(out)]
    command += ["--model", MODEL, "--box", BOX, "--save", "video,lasot,mot,rle,diary", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _wait_for_lines(process: subprocess.Popen[str], path: Path, wanted: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if path.exists() and len(_lines(path)) >= wanted:
            return
        if process.poll() is not None:
            pytest.fail(f"it ended early: {process.communicate()[1]}")
        time.sleep(0.005)
    process.kill()
    pytest.fail("it never wrote its lines")


@pytest.fixture(scope="module")
def whole_run(small_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Text results of the run nobody interrupts."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert _track(small_clip, out, "--box", BOX, "--save", "lasot,mot,rle,diary") == 0
    return _text_results(out)


@pytest.mark.parametrize("at", [1, 12, 21])
def test_after_kill_9_lines_are_valid_and_the_run_continues(
    small_clip: Path, tmp_path: Path, whole_run: dict[str, str], at: int
) -> None:
    out = tmp_path / "out"
    process = _start(small_clip, out, "--snapshot-every", "10")
    _wait_for_lines(process, out / "cup.diary.jsonl", at + 1)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    for name, text in _text_results(out).items():
        assert whole_run[name].startswith(text), f"{name} is not a beginning of the whole run's"
    assert _track(small_clip, out, "--resume") == 0
    assert _text_results(out) == whole_run
    assert _times(out / "cup_tracked.mp4") == _times(small_clip), "each frame once, at its time"
    assert [path.name for path in out.glob("*tracked*")] == ["cup_tracked.mp4"]


@pytest.mark.parametrize("words", [["--max-frames", "32"], ["--end", "32"], []])
def test_a_run_killed_after_its_last_frame_is_brought_to_its_end(
    small_clip: Path, tmp_path: Path, words: list[str]
) -> None:
    out = tmp_path / "out"
    assert _track(small_clip, out, "--box", BOX, *words) == 0
    # As the folder is between the last snapshot and the end.
    video, record = out / "cup_tracked.mp4", out / "run.json"
    video.rename(out / "cup_tracked.partial.mp4")
    record.write_text(record.read_text().replace('"finished"', '"running"'))
    assert _track(small_clip, out, "--resume", *words) == 0
    assert json.loads(record.read_text())["status"] == "finished"
    assert _decoded(video) == 32
    assert not list(out.glob("*partial*")) and not list(out.glob("*part2*"))


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_finishes_files_and_the_run_continues(
    small_clip: Path, tmp_path: Path, whole_run: dict[str, str], number: int, code: int
) -> None:
    out = tmp_path / "out"
    process = _start(small_clip, out)
    _wait_for_lines(process, out / "cup.diary.jsonl", 5)
    process.send_signal(number)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "stopped; results so far" in shown
    done = len(_lines(out / "cup.diary.jsonl"))
    assert 5 <= done < 32
    assert _decoded(out / "cup_tracked.mp4") == done
    assert json.loads((out / "run.json").read_text())["status"] == "stopped"
    assert _track(small_clip, out, "--resume") == 0
    assert _times(out / "cup_tracked.mp4") == _times(small_clip)
    assert _text_results(out) == whole_run


def test_an_error_half_way_leaves_a_run_to_continue(
    small_clip: Path, tmp_path: Path, whole_run: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_mem.errors import SinkError
    from vision_mem.sinks.masks import Diary

    write = Diary.write

    def full(self: Diary, frame: object, result: object) -> None:
        if frame.index == 9:
            raise SinkError("no space left")
        write(self, frame, result)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Diary, "write", full)
        assert _track(small_clip, out, "--box", BOX, "--save", "lasot,mot,rle,diary") == 1
    assert json.loads((out / "run.json").read_text())["status"] == "failed"
    assert _track(small_clip, out, "--resume") == 0
    assert _text_results(out) == whole_run


def _bad_inputs(folder: Path, clip: Path) -> dict[str, tuple[list[str], int, str]]:
    """Label: words after ``track``, exit code, what the line says."""
    (folder / "empty.mp4").touch()
    (folder / "cut.mp4").write_bytes(clip.read_bytes()[:2000])
    (folder / "words.mp4").write_text("these are words\n" * 100)
    (folder / "nothing").mkdir()
    (folder / "file").touch()
    (folder / "w.pt").write_bytes(b"\x80\x04not a checkpoint")
    good = str(clip)
    box = ["--box", BOX]
    return {
        "no such file": (["absent.mp4", *box], 2, "no such file"),
        "empty file": ([str(folder / "empty.mp4"), *box], 2, "empty"),
        "cut file": ([str(folder / "cut.mp4"), *box], 2, "cut"),
        "no video": ([str(folder / "words.mp4"), *box], 2, "not a video"),
        "empty folder": ([str(folder / "nothing"), *box], 2, "image"),
        "no camera": (["63", *box], 1, "camera 63"),
        "no prompt": ([good], 2, "say what to follow"),
        "box of no area": ([good, "--box", "1,2,0,4"], 2, "no area"),
        "box outside": ([good, "--box", "500,500,10,10"], 2, "outside the frame"),
        "point outside": ([good, "--point", "500,500"], 2, "outside the frame"),
        "prompt too late": ([good, "--box", BOX + "@99"], 2, "the last frame is 31"),
        "prompt too early": ([good, "--box", BOX + "@2", "--start", "5"], 2, "first frame is 5"),
        "prompt left out": ([good, "--box", BOX + "@5", "--stride", "2"], 2, "leaves out"),
        "no preset": ([good, *box, "--preset", "samuri"], 2, "did you mean 'samurai'"),
        "no setting": ([good, *box, "--set", "policy.chioce=iou"], 2, "'selection.choice'"),
        "wrong type": ([good, *box, "--set", "policy.max_prompts=x"], 2, "max_prompts"),
        "wrong value": ([good, *box, "--set", "policy.choice=x"], 2, "choice"),
        "no output": ([good, *box, "--save", "vdeo"], 2, "video"),
        "no model": ([good, *box, "--model", str(folder / "a.pt")], 2, "a.pt"),
        "broken model": ([good, *box, "--model", str(folder / "w.pt")], 1, "w.pt"),
        "no device": ([good, *box, "--device", "gpu"], 2, "gpu"),
        "start after the end": ([good, *box, "--start", "99"], 2, "32"),
        "stride of 0": ([good, *box, "--stride", "0"], 2, "stride"),
        "out is a file": ([good, *box, "--out", str(folder / "file")], 2, "expected a folder"),
        "out below a file": ([good, *box, "--out", str(folder / "file" / "x")], 2, "file"),
    }


LABELS = [
    "no such file",
    "empty file",
    "cut file",
    "no video",
    "empty folder",
    "no camera",
    "no prompt",
    "box of no area",
    "box outside",
    "point outside",
    "prompt too late",
    "prompt too early",
    "prompt left out",
    "no preset",
    "no setting",
    "wrong type",
    "wrong value",
    "no output",
    "no model",
    "broken model",
    "no device",
    "start after the end",
    "stride of 0",
    "out is a file",
    "out below a file",
]


@pytest.mark.parametrize("label", LABELS)
def test_bad_input_is_one_line(
    label: str, small_clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words, code, says = _bad_inputs(tmp_path, small_clip)[label]
    if "--model" not in words:
        words = [*words, "--model", MODEL]
    if "--out" not in words:
        words = [*words, "--out", str(tmp_path / "out")]
    assert main(["track", *words]) == code
    *remarks, shown = capfd.readouterr().err.strip().splitlines()
    assert all(line.startswith("WARNING: ") for line in remarks)
    assert shown.startswith("error: ")
    assert says in shown


def test_bad_input_in_a_process_of_its_own(
    vision_mem: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = vision_mem("track", "absent.mp4", "--box", BOX, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(small_clip: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert _track(small_clip, tmp_path / "out", "--box", BOX) == 1


def test_one_broken_image_is_skipped_or_stops_a_strict_run(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "img"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"broken")
    words = ["--box", "10,10,20,20", "--save", "diary"]
    assert _track(folder, tmp_path / "out", *words) == 0
    (diary,) = (tmp_path / "out").glob("*.diary.jsonl")
    assert [json.loads(line)["frame"] for line in _lines(diary)] == [0, 1, 3]
    assert _track(folder, tmp_path / "strict", *words, "--strict") == 1


def test_the_decoder_is_recorded_and_kept_when_resuming(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--box", BOX, "--save", "diary", "--max-frames", "2", "--snapshot-every", "1"]
    assert _track(small_clip, out, *words, "--decoder", "opencv") == 0
    assert json.loads((out / "run.json").read_text())["options"]["decoder"] == "opencv"
    assert len(_lines(out / "cup.diary.jsonl")) == 2
    assert main(["track", str(small_clip), "--out", str(tmp_path / "no"), "--decoder", "vlc"]) == 2
    capsys.readouterr()
    assert _track(small_clip, out, "--resume", "--max-frames", "4", "--decoder", "pyav") == 2
    assert "--decoder is 'pyav' but was 'opencv'" in capsys.readouterr().err
