"""``vision-mem ask`` as users run it: a clip of colours, and a model that knows colours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision_mem.cli import main
from vision_mem.videoqa.store import MemoryFile

FPS, SECONDS = 8.0, 12
ORDER = ("grey", "red", "grey", "blue", "grey", "green")
RGB = {"grey": (115, 115, 115), "red": (220, 40, 40), "blue": (40, 60, 220), "green": (40, 200, 60)}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds: a grey wall, and a coloured square on it for two seconds at a time."""
    from vision_mem.visualization.contact_sheet import write_video

    def image(t: int) -> np.ndarray:
        picture = np.full((80, 120, 3), RGB["grey"], np.uint8)
        picture[20:60, 40:80] = RGB[ORDER[int(t / FPS / 2)]]
        return picture

    path = tmp_path_factory.mktemp("clips") / "colours.mp4"
    write_video(path, (image(t) for t in range(int(FPS * SECONDS))), FPS)
    return path


def _ask(*words: str | Path) -> int:
    return main(["ask", *map(str, words), "--model", "fake", "--quiet"])


def _entries(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line]


def test_answers_come_with_their_moments(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _ask(colours, "blue?", "red?", "--out", out, "--json") == 0
    blue, red = _entries(capsys)
    assert 6 <= blue["moments"][0]["start_s"] < 8
    assert 2 <= red["moments"][0]["start_s"] < 4
    assert blue["at_s"] == pytest.approx(SECONDS - 1 / FPS, abs=0.2)
    assert blue["answer"].startswith("at ")
    lines = (out / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["question"] for line in lines] == ["blue?", "red?"]
    from PIL import Image

    with Image.open(blue["sheet"]) as sheet:
        sheet.load()
        assert sheet.width >= 384
        middle = np.asarray(sheet.convert("RGB"))[:, :384]
    # The best moment's picture shows the blue square.
    assert (np.abs(middle.astype(int) - RGB["blue"]).sum(axis=2) < 60).mean() > 0.05


def test_words_for_people(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ask", str(colours), "red?", "--out", str(tmp_path), "--model", "fake"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "at 0:11" in shown
    assert "answered from:" in shown
    assert "answer-001.png" in shown
    assert "tokens" in shown


def test_a_question_is_asked_when_its_time_has_come(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["red?", "blue?", "--at", "5", "--at", "3"]
    assert _ask(colours, *words, "--out", tmp_path, "--json") == 0
    first, second = _entries(capsys)
    assert (first["question"], second["question"]) == ("blue?", "red?")
    assert first["at_s"] == pytest.approx(3.0, abs=0.3)
    assert second["at_s"] == pytest.approx(5.0, abs=0.3)
    assert max(each["end_s"] for each in first["evidence"]) <= 3.0 + 1e-6


def test_a_memory_file_answers_without_the_video(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "day.vmem"
    where = ["--out", tmp_path / "out", "--json"]
    assert _ask(colours, "blue?", "--memory", file, *where) == 0
    assert _ask(file, "blue?", "red?", *where) == 0
    live, blue, red = _entries(capsys)
    assert blue["moments"] == live["moments"]
    assert blue["answer"] == live["answer"]
    assert 2 <= red["moments"][0]["start_s"] < 4
    assert Path(red["sheet"]).exists(), "its pictures come from the file"
    assert _ask(file, "when?", "--set", "memory.budget=5", *where) == 0, "reading may change"
    assert main(["ask", str(file), "red?", "--model", "random:qwen2.5-vl-tiny"]) == 2
    assert "was made with model 'fake'" in capsys.readouterr().err


def test_a_memory_goes_on_with_the_same_and_with_another_video(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole.vmem", tmp_path / "parts.vmem"
    assert _ask(colours, "--memory", whole, "--out", tmp_path) == 0
    assert _ask(colours, "--memory", parts, "--end", "41", "--out", tmp_path) == 0
    assert _ask(colours, "--memory", parts, "--out", tmp_path) == 0
    for file in (whole, parts):
        assert _ask(file, "green?", "--out", tmp_path, "--json") == 0
    one, other = _entries(capsys)
    assert one["evidence"] == other["evidence"]
    copy = tmp_path / "second.mp4"
    copy.write_bytes(colours.read_bytes())
    assert _ask(copy, "red?", "--memory", parts, "--out", tmp_path, "--json") == 0
    (entry,) = _entries(capsys)
    starts = [moment["start_s"] for moment in entry["evidence"][:2]]
    assert any(start > SECONDS for start in starts), "another video lies behind the first"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_kill_9_keeps_what_was_seen(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.vmem"
    command = [sys.executable, "-m", "vision_mem", "ask", str(colours), "--memory", str(file)]
    process = subprocess.Popen(
        [*command, "--model", "fake", "--realtime", "--out", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    grids = 0
    while grids < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)
        if file.exists():
            try:
                reader = MemoryFile(file)
                state = reader.load()
                grids = 0 if state is None else len(state["memory"]["entries"])
                reader.close()
            except Exception:  # not made whole yet
                continue
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert _ask(file, "grey?", "--out", tmp_path, "--json") == 0
    assert _ask(colours, "blue?", "--memory", file, "--out", tmp_path, "--json") == 0
    _, blue = _entries(capsys)
    assert 6 <= blue["moments"][0]["start_s"] < 8


def test_typed_questions_are_answered_while_it_watches(colours: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vision_mem", "ask", str(colours), "--interactive"]
    process = subprocess.run(
        [*command, "--model", "fake", "--out", str(tmp_path), "--quiet"],
        input="???\nred?\n\n", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "there is no word in the question" in process.stdout, "a slip does not end the run"
    assert "red?" in process.stdout
    assert "type a question" in process.stderr


def test_each_run_has_a_folder_and_the_latest_goes_on(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = Path("runs/ask/colours"), Path("runs/ask/colours-2")
    assert _ask(colours, "red?", "--memory", "day.vmem", "--max-frames", "40") == 0
    assert _ask(colours, "blue?", "--stride", "2", "--strict", "--drop", "none") == 0
    assert [len((each / "answers.jsonl").read_text().splitlines()) for each in (first, second)] == [
        1, 1,
    ]  # fmt: skip
    record = json.loads((first / "run.json").read_text())
    assert (record["command"], record["status"]) == ("ask", "finished")
    assert record["files"] == ["answer-001.png", "answers.jsonl"]
    (second / "notes.md").write_text("mine")
    capsys.readouterr()
    assert _ask(colours, "green?", "--overwrite", "--json") == 0
    (green,) = _entries(capsys)
    lines = (second / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["question"] for line in lines] == ["green?"]
    assert (second / "notes.md").read_text() == "mine"
    assert 10 <= green["moments"][0]["start_s"] < 12
    # The first one goes on: its memory has seen five seconds, and takes in the rest.
    assert _ask(colours, "green?", "--resume", "--out", first, "--json") == 0
    (entry,) = _entries(capsys)
    assert entry["moments"][0]["start_s"] == pytest.approx(green["moments"][0]["start_s"], abs=0.2)
    assert len((first / "answers.jsonl").read_text().splitlines()) == 2
    assert _ask(colours, "red?", "--resume", "--overwrite") == 2
    assert _ask("nowhere.mp4", "red?", "--resume") == 2
    assert "no snapshot of a run of ask" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["CLIP"], "give a question"),
        (["CLIP", "a?", "b?", "--at", "1", "--at", "2", "--at", "3"], "3 --at for 2 questions"),
        (["nowhere.mp4", "red?"], "nowhere.mp4"),
        (["nowhere.vmem", "red?"], "no memory file"),
        (["CLIP", "red?", "--preset", "fifoo"], "did you mean"),
        (["CLIP", "red?", "--set", "memory.budgte=3"], "budget"),
        (["CLIP", "red?", "--model", "/nowhere"], "no video model"),
        (["CLIP", "???"], "no word"),
        (["CLIP", "red?", "--scope", "past"], "auto"),
    ],
)
def test_slips_get_one_clear_line(
    colours: Path, tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(colours) if word == "CLIP" else word for word in words]
    if "--model" not in given:
        given += ["--model", "fake"]
    code = main(["ask", *given, "--quiet", "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err.strip()
    assert code in (1, 2)
    assert says in error
    assert error.count("\n") == 0


def test_damaged_memory_is_refused_and_kept(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.vmem"
    assert _ask(colours, "--memory", file, "--out", tmp_path) == 0
    content = bytearray(file.read_bytes())
    content[4096:8192] = b"\x07" * 4096
    file.write_bytes(content)
    assert _ask(colours, "red?", "--memory", file, "--out", tmp_path) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert str(file) in error
    assert error.count("\n") == 0
    assert file.read_bytes() == bytes(content), "nothing was written over it"


def test_the_miniature_talks_about_generated_streams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    from vision_mem.synthetic.qa_streams import GeneratedStream, StreamSettings
    from vision_mem.visualization.contact_sheet import write_video

    stream = GeneratedStream(StreamSettings(seed=4242, seconds=40, scene_beats=3))
    path = tmp_path / "stream.mp4"
    write_video(path, (frame.image for frame in stream), stream.settings.fps)
    truth = {
        "What is the background now?": stream.scene_at(39),
        "Where is the motorcycle now?": "centre",
        "Where was the helmet that was seen earlier?": "centre",
        "Where was the black square that was seen earlier?": "bottom right",
        "What colour was the square that was seen earlier?": "black",
        "What colour was the ring that was seen earlier?": "yellow",
    }
    words = [*truth, "--model", "miniature", "--json", "--out", str(tmp_path / "out")]
    assert main(["ask", str(path), *words]) == 0
    entries = _entries(capsys)
    right = [entry["answer"] == truth[entry["question"]] for entry in entries]
    assert len(right) == 6 and sum(right) >= 5
    # What an answer rests on is shown: the helmet was there from 12.5 s to 16.5 s.
    (helmet,) = (entry for entry in entries if "helmet" in entry["question"])
    assert any(12 <= moment["start_s"] < 17 for moment in helmet["moments"][:3])
    assert main(["ask", str(path), "What is the background now?", "--at", "15", *words[6:-1],
                 str(tmp_path / "then")]) == 0  # fmt: skip
    assert [entry["answer"] for entry in _entries(capsys)] == [stream.scene_at(15)]
