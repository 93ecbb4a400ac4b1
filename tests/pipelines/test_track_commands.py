"""``track`` with the studio's log of commands, both directions, corrections of a run, a window."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from studio_streams import Filed

from vision_mem.cli import main
from vision_mem.sinks.window import pick_objects
from vision_mem.studio.export import export
from vision_mem.types import Detections, Frame

FAKE = "vision_mem.models.segmenters.fake:FakeSegmenter"
CUP = "cup=30,28,40,40"
Track = Callable[..., dict[str, str]]


@pytest.fixture
def track(small_clip: Path, tmp_path: Path) -> Track:
    """Run ``track``; gives its results that are text, by name."""

    def run(name: str, *words: str, code: int = 0) -> dict[str, str]:
        out = tmp_path / name
        usual = ["--model", FAKE, "--save", "rle,lasot,mot,diary", "--quiet", "--out", str(out)]
        assert main(["track", str(small_clip), *usual, *words]) == code
        found = [p for p in out.rglob("*") if p.suffix in (".txt", ".jsonl") and p.is_file()]
        return {str(p.relative_to(out)): p.read_text() for p in found}

    return run


def _masks(found: dict[str, str]) -> dict[int, str]:
    lines = found["cup.masks.jsonl"].splitlines()
    return {json.loads(line)["frame"]: json.dumps(json.loads(line)["objects"]) for line in lines}


def test_a_log_of_commands_gives_the_studios_results(
    track: Track, small_clip: Path, tmp_path: Path
) -> None:
    studio = Filed(tmp_path / "studio", small_clip)
    try:
        studio.do("prompt", frame=0, box=[30, 28, 40, 40])
        studio.until(31)
        studio.do("rename", object=1, name="the cup")
        studio.do("prompt", frame=20, points=[[120, 80]], name="floor", direction="both")
        studio.do("prompt", frame=12, object=1, points=[[66, 52], [10, 10]], labels=[1, 0])
        studio.do("prompt", frame=15, object=1, points=[[5, 5]])
        studio.do("undo")
        studio.do("remove", frame=28, object=2)
        export(studio.actor, ["rle", "lasot", "mot", "diary"], tmp_path / "a.zip", str(small_clip))
    finally:
        studio.close()
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        taken = {n.partition("/")[2]: file.read(n).decode() for n in file.namelist()}
    log = tmp_path / "log.jsonl"
    log.write_text(taken.pop("commands.jsonl"))
    found = track("again", "--commands", str(log))
    assert {name: text for name, text in found.items() if name in taken} == taken
    assert len(taken) == 6 and "the cup" in taken["cup.masks.jsonl"]
    # From the middle, too.
    stopped = track("stopped", "--commands", str(log), "--max-frames", "14")
    assert stopped["cup.masks.jsonl"] == "".join(
        line for line in taken["cup.masks.jsonl"].splitlines(keepends=True)[:14]
    )
    (tmp_path / "stopped" / "run.json").write_text(
        (tmp_path / "stopped" / "run.json").read_text().replace("finished", "stopped")
    )
    assert track("stopped", "--resume")["cup.masks.jsonl"] == taken["cup.masks.jsonl"]


def test_both_directions_of_a_file(track: Track) -> None:
    box = f"{CUP.replace('30', '45', 1)}@13"
    forward = _masks(track("forward", "--box", box))
    backward = _masks(track("backward", "--box", box, "--direction", "backward"))
    both = _masks(track("both", "--box", box, "--direction", "both"))
    assert all(both[n] == forward[n] for n in range(13, 32))
    assert all(both[n] == backward[n] != "[]" for n in range(14))
    assert all(backward[n] == "[]" for n in range(14, 32)) and forward[12] == "[]"
    strided = _masks(
        track("stride", "--box", box, "--direction", "both", "--stride", "3", "--start", "1")
    )
    assert list(strided) == list(range(1, 32, 3)) and all(text != "[]" for text in strided.values())


def test_a_run_that_is_corrected_from_a_frame_on(
    track: Track, tmp_path: Path, small_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--box", CUP, "--box", "floor=100,60,30,30"]
    before = track("run", *words)
    corrected = track("run", "--resume", "--from", "20", "--box", "cup=60,34,40,40")
    whole = track("whole", *words, "--box", "cup=60,34,40,40@20")
    for name in ("cup.masks.jsonl", "cup.diary.jsonl", "lasot/cup-1.txt", "mot/cup.txt"):
        if name in whole:
            assert corrected[name] == whole[name]
    one, other = _masks(before), _masks(corrected)
    assert all(one[n] == other[n] for n in range(20)) and one != other
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["options"]["box"][-1] == "cup=60,34,40,40@20"
    late = ["track", str(small_clip), "--out", str(tmp_path / "run"), "--resume", "--from", "99"]
    assert main([*late, "--box", "cup=60,34,40,40"]) == 2
    assert "after the last frame" in capsys.readouterr().err
    # A snapshot from before the frame is gone on from, one from behind it is not.
    stopped = track("stopped", *words, "--max-frames", "10")
    assert len(_masks(stopped)) == 10
    limit = ["--max-frames", "99"]  # anew: the one before would hold
    again = track("stopped", "--resume", "--from", "20", "--box", "cup=60,34,40,40", *limit)
    assert again["cup.masks.jsonl"] == whole["cup.masks.jsonl"]


def test_what_is_live_has_no_past_to_go_back_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["track", "rtsp://me:hunter2@127.0.0.1:9/x", "--box", CUP, "--out", str(tmp_path / "o")]
    assert main([*words, "--direction", "both"]) == 2
    told = capsys.readouterr().err
    assert "are for files" in told and "hunter2" not in told


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--direction", "up", "--box", CUP], "forward, backward, both"),
        (["--from", "5", "--box", CUP], "--resume too"),
        (["--commands", "no.jsonl"], "no.jsonl cannot be read"),
        (["--commands", "LOG", "--box", CUP], "leave out boxes"),
        (["--commands", "LOG"], "line 1: prompt needs|line 1: a prompt needs 'frame'"),
        (["--pick"], "vision-mem studio"),
    ],
)
def test_wrong_use_is_told_in_a_line(
    words: list[str], why: str, small_clip: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import re

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    log = tmp_path / "log.jsonl"
    log.write_text('{"command": "prompt", "points": [[1, 2]]}\n')
    words = [str(log) if word == "LOG" else word for word in words]
    code = main(["track", str(small_clip), "--model", FAKE, "--out", str(tmp_path / "o"), *words])
    told = capsys.readouterr().err
    assert code == 2 and re.search(why, told) and len(told.splitlines()) == 1


def test_boxes_and_points_are_picked_in_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    down, up, key = pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP, pygame.KEYDOWN
    events = [
        (down, {"pos": (10, 12), "button": 1}), (up, {"pos": (50, 42), "button": 1}),
        (down, {"pos": (90, 60), "button": 1}), (up, {"pos": (91, 60), "button": 1}),
        (down, {"pos": (1, 1), "button": 1}), (up, {"pos": (1, 1), "button": 1}),
        (key, {"key": pygame.K_z}), (key, {"key": pygame.K_RETURN}),
    ]  # fmt: skip
    for kind, said in events:
        pygame.event.post(pygame.event.Event(kind, said))
    boxes, points = pick_objects(np.zeros((96, 160, 3), np.uint8))
    assert boxes == ["object-1=10.0,12.0,40.0,30.0"] and points == ["object-2=91.0,60.0"]


def test_words_become_objects_once_found(
    track: Track, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    class Scripted:
        name, stateful, reports_absence = "scripted", False, True

        def __init__(self, words: list[str], model: str, **options: object) -> None:
            self.words = tuple(words)
            assert model == "grounding-dino"

        def detect(self, frame: Frame) -> Detections:
            seen.append(frame.index)
            score = 0.9 if frame.index >= 3 else 0.1
            box = np.array([[30, 28, 70, 68]], np.float32)
            return Detections(box, np.array([score]), names=dict(enumerate(self.words)))

    monkeypatch.setattr("vision_mem.models.detectors.transformers.WordsDetector", Scripted)
    monkeypatch.setattr("vision_mem.models.detectors.open._check_repository", lambda *_: None)
    found = track("words", "--text", "cup")
    assert next(number for number, masks in _masks(found).items() if "cup" in masks) == 3
    assert seen == [0, 1, 2, 3]
    # Cut off before it is found, and after: the rest is the same.
    for frames, code in (("2", 3), ("9", 0)):
        part = f"part{frames}"
        track(part, "--text", "cup", "--max-frames", frames, code=code)
        assert track(part, "--resume")["cup.masks.jsonl"] == found["cup.masks.jsonl"]
    assert track("both", "--text", "cup", "--box", CUP) and seen[-1] <= 3
    monkeypatch.setattr(Scripted, "detect", lambda self, frame: Detections())
    track("none", "--text", "cup", code=3)
    assert "cup was not found on any of 32 frames" in capsys.readouterr().err
    for words in (["--text", " ,@sam3"], ["--text", "cup", "--direction", "both"]):
        track("wrong", *words, code=2)
    track("unknown", "--text", "cup@sam33", code=2)
    assert "did you mean 'sam3'" in capsys.readouterr().err
