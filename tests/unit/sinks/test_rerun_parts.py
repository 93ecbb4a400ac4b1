"""A recording that goes on after an interrupted run: parts that the viewer takes for one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from vision_mem.sinks.rerun import RerunScene
from vision_mem.types import SourceInfo

LIBRARY = """
made = []
class RecordingStream:
    def __init__(self, name, *, recording_id=None):
        made.append((name, recording_id))
    def save(self, path):
        open(path, "w").close()
    def log(self, *words, **options):
        pass
    flush = disconnect = log
class ViewCoordinates:
    RIGHT_HAND_Y_DOWN = 1
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What streams of rerun were made with; a stand-in, since rerun is large."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "rerun.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.delitem(sys.modules, "rerun", raising=False)
    made: list[tuple[str, str]] = importlib.import_module("rerun").made
    return made


def test_parts_are_one_recording(library: list[tuple[str, str]], tmp_path: Path) -> None:
    info = SourceInfo("room", 8, 6, 30.0)
    for append in (False, True, True):
        sink = RerunScene(tmp_path / "out" / "room.rrd", append=append)
        sink.open(info)
        sink.close()
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["room.part2.rrd", "room.part3.rrd", "room.rrd"]
    assert library == [("vision-mem-scene", "out/room")] * 3
