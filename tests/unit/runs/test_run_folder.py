"""The folder of a run: names, what may be replaced, snapshots that are whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vision_mem.errors import InputError, SinkError
from vision_mem.runs.folder import RECORD, SESSION, RunFolder, default_folder


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("clips/my dog.mp4", "my_dog"),
        ("0", "camera-0"),
        ("otb/Crossing/img", "Crossing"),
        ("frames_of_a_dog", "frames_of_a_dog"),
        ("rtsp://user:secret@host:554/live/1", "host_554_live_1"),
        ("../..", "stream"),
    ],
)
def test_default_names(source: str, name: str) -> None:
    assert default_folder(source) == Path("runs") / name


def _save(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def test_a_new_folder_and_its_record(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "b")
    assert not folder.path.exists(), "nothing is made before begin()"
    folder.begin()
    folder.record(status="running", box=[1, 2])
    folder.record(status="finished")
    assert json.loads((folder.path / RECORD).read_text()) == {"status": "finished", "box": [1, 2]}
    (folder.path / "x.txt").touch()
    (folder.path / "masks").mkdir()
    assert folder.files() == ["masks/", "x.txt"]


def test_the_newest_snapshot_wins_and_older_ones_go(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin()
    for number in (9, 10, 200):
        folder.take_snapshot(number, _save(str(number)), {"frames": number})
    assert [p.name for p in folder.path.glob("snapshot-*")] == ["snapshot-00000200"]
    (folder.path / "snapshot-00000300.partial").mkdir()  # killed while it was written
    again = RunFolder(folder.path, resume=True)
    assert again.progress() == {"frames": 200}
    assert again.frames_done() == 200
    assert again.snapshot is not None
    assert (again.snapshot / SESSION).read_text() == "200"


def test_a_snapshot_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin()
    folder.take_snapshot(1, _save("one"), {})

    def fail(path: Path) -> None:
        raise OSError("no space left")

    with pytest.raises(SinkError, match="no space left"):
        folder.take_snapshot(2, fail, {})
    assert folder.frames_done() == 1


def test_a_damaged_snapshot_says_so(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin()
    place = folder.take_snapshot(1, _save("one"), {})
    (place / "progress.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        folder.progress()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "holds results already"),
        ({"resume": True}, "holds no snapshot"),
        ({"resume": True, "overwrite": True}, "exclude each other"),
    ],
)
def test_results_that_are_there(tmp_path: Path, options: dict, says: str) -> None:
    (tmp_path / "results.txt").touch()
    with pytest.raises(InputError, match=says):
        RunFolder(tmp_path, **options)


def test_overwrite_deletes_what_the_record_names_and_nothing_else(tmp_path: Path) -> None:
    inside = tmp_path / "run"
    inside.mkdir()
    for path in (inside / "old.txt", inside / "mine.txt", tmp_path / "outside.txt"):
        path.touch()
    (inside / "snapshot-00000001").mkdir()
    files = ["old.txt", "gone.txt", "../outside.txt", str(tmp_path / "outside.txt")]
    (inside / RECORD).write_text(json.dumps({"files": files}))
    folder = RunFolder(inside, overwrite=True)
    assert (inside / "old.txt").exists(), "nothing goes before begin()"
    folder.begin()
    assert sorted(p.name for p in inside.iterdir()) == ["mine.txt"]
    assert (tmp_path / "outside.txt").exists()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="expected a folder"):
        RunFolder(tmp_path / "x")
    with pytest.raises(SinkError, match="cannot be written to"):
        RunFolder(tmp_path / "x" / "y").begin()
