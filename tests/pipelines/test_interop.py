"""Formats of other tools from the command line; examples of docs/interop.md; the notebook."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vision_mem
import vision_mem.api
from vision_mem.cli import main
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.sinks.registry import ANNOTATION_SINKS

FAKE = f"{FakeSegmenter.__module__}:{FakeSegmenter.__name__}"
BOX = "cup=30,28,40,40"
SAVED = [name for name in ANNOTATION_SINKS if name != "parquet"]


def run(command: str, clip: Path, out: Path, *words: str) -> int:
    return main([command, str(clip), "--out", str(out), "--model", FAKE, "--quiet", *words])


def files(folder: Path) -> dict[str, bytes]:
    kept = [p for p in folder.rglob("*") if p.is_file() and "snapshot" not in str(p)]
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept if p.name != "run.json"}


def test_every_format_from_the_command_line_stopped_or_not(
    small_clip: Path, tmp_path: Path
) -> None:
    words = ["--box", BOX, "--save", ",".join(SAVED), "--frames", "--frames-every", "2"]
    words += ["--pad", "2"]
    assert run("track", small_clip, tmp_path / "whole", *words, "--max-frames", "10") == 0
    assert run("track", small_clip, tmp_path / "parts", *words, "--max-frames", "5") == 0
    assert run("track", small_clip, tmp_path / "parts", "--resume", "--max-frames", "10") == 0
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    content = json.loads((tmp_path / "whole" / "coco" / "cup.json").read_text())
    assert [image["frame_id"] for image in content["images"]] == [0, 2, 4, 6, 8]
    task = json.loads((tmp_path / "whole" / "labelstudio" / "cup.json").read_text())
    assert task[0]["data"] == {"video": "cup.mp4"}
    # What was written is a prompt again, and detections.
    init = ["--init", str(tmp_path / "whole" / "coco" / "cup.json"), "--max-frames", "3"]
    assert run("track", small_clip, tmp_path / "again", *init, "--save", "lasot") == 0
    assert len(np.loadtxt(tmp_path / "again" / "lasot" / "cup.txt", delimiter=",")) == 3
    found = ["--detect", f"file:{tmp_path / 'whole' / 'yolo' / 'labels'}", "--max-frames", "3"]
    assert run("mots", small_clip, tmp_path / "tracks", *found, "--save", "coco") == 0
    assert '"name": "cup"' in (tmp_path / "tracks" / "coco" / "cup.json").read_text()


_DYING = """
import os, signal
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.sinks.annotations import ComposedFile

AT = os.environ.get("DIE_AT", "")

class Dying(FakeSegmenter):
    def encode_image(self, frame):
        if AT == str(frame.index):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_image(frame)

closed, frames = [], ComposedFile._frames

def dying(self):
    closed.append(self)
    for number, rows in enumerate(frames(self)):
        if AT == f"close {len(closed)}" and number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield rows

ComposedFile._frames = dying
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["track", "mots"])
def test_every_format_survives_being_killed(
    small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "dying.py").write_text(_DYING)
    (tmp_path / "found.txt").write_text(
        "".join(f"{t},-1,{30 + t},28,40,40,0.9,-1,-1,-1\n" for t in range(1, 13))
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    saved = [name for name in ANNOTATION_SINKS if command == "track" or name != "davis"]
    words = ["--model", "dying:Dying", "--quiet", "--threads", "1"]
    begin = ["--save", ",".join(saved), "--frames", "--max-frames", "10", "--snapshot-every", "3"]
    found = f"file:{tmp_path / 'found.txt'}"
    begin += ["--box", BOX] if command == "track" else ["--detect", found]
    again = ["--resume"] if command == "track" else ["--resume", "--detect", found]

    def told(out: str) -> list[str]:
        return [command, str(small_clip), "--out", str(tmp_path / out), *words]

    assert main([*told("whole"), *begin]) == 0
    places = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH')}"}
    for number, moment in enumerate(("7", "close 3")):
        run = subprocess.run(
            [sys.executable, "-m", "vision_mem", *told("parts"), *(again if number else begin)],
            env=places | {"DIE_AT": moment}, capture_output=True, timeout=120,
        )  # fmt: skip
        assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert main([*told("parts"), *again]) == 0
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--save", "video", "--frames"], "--frames writes pictures beside"),
        (["--save", "coco", "--pad", "wide"], "pixels as 4"),
        (["--save", "cooc"], "did you mean"),
        (["--box", "a=yx:1,2,3,4"], "expected xyxy: or xywh:"),
    ],
)
def test_mistakes_are_told(
    small_clip: Path, tmp_path: Path, words: list[str], said: str, capsys
) -> None:
    assert run("track", small_clip, tmp_path / "out", "--box", BOX, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_corners_and_the_hint(small_clip: Path, tmp_path: Path, caplog) -> None:
    words = ["--save", "coco", "--max-frames", "2"]
    for name, box in (("a", "cup=30,28,40,40"), ("b", "cup=xyxy:30,28,70,68")):
        assert run("track", small_clip, tmp_path / name, "--box", box, *words) == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert "say xyxy" not in caplog.text
    assert run("track", small_clip, tmp_path / "c", "--box", "cup=80,48,120,90", *words) == 0
    assert "say xyxy:80,48,120,90" in caplog.text


def _page(root: Path) -> str:
    return (root / "docs" / "interop.md").read_text(encoding="utf-8")


@pytest.fixture
def place(small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip.mp4, which is the current one."""
    shutil.copy(small_clip, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["fake", pytest.param("embedded", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The usual model, or one that takes no time in its place."""
    if request.param == "fake":
        for where in (vision_mem.api, vision_mem):
            monkeypatch.setattr(where, "load_segmenter", lambda *names, **options: FakeSegmenter())
    return request.param


def test_the_python_of_the_page(root: Path, place: Path, model: str, capsys) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", _page(root), re.M | re.S)
    blocks = [block for block in blocks if "openai" not in block]  # tests/unit/studio has that one
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "interop.md", "exec"), {})
    said = capsys.readouterr().out
    assert "32 frames of clip; cup: seen on " in said and "cup: present, sure " in said
    assert "\n['corrected']\n" in said


def test_the_commands_of_the_page(root: Path, place: Path) -> None:
    block = re.findall(r"^```bash\n(.*?)^```", _page(root), re.M | re.S)[0]
    lines = [line.split()[1:] for line in block.splitlines()]
    assert [words[0] for words in lines] == ["track", "track", "mots"]
    for number, words in enumerate(lines):
        more = ["--model", FAKE, "--quiet", "--max-frames", "6", "--out", f"out-{number}"]
        assert main([*words, *more]) == 0
    assert len(list((place / "out-0" / "coco" / "images" / "clip").glob("*.jpg"))) == 2
    assert (place / "out-1" / "cvat" / "clip.xml").is_file()


def test_the_notebook(root: Path, model: str) -> None:
    notebook = json.loads((root / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and all(cell["id"] for cell in notebook["cells"])
    space: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "outputs are made by who reads it"
            exec(compile("".join(cell["source"]), cell["id"], "exec"), space)
    assert len(space["run"]) == 8 and space["tracks"].names
    assert space["run"][7]._repr_png_().startswith(b"\x89PNG")
