"""The folder of a run: names, what may be replaced, snapshots that are whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vision_mem.errors import InputError, SinkError
from vision_mem.runs.folder import RECORD, SESSION, RunFolder, choose_folder, default_folder


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
    assert default_folder(source, "track") == Path("runs") / "track" / name


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


def _run(place: Path, source: str = "dog.mp4", **values: object) -> Path:
    """A finished run with a snapshot."""
    folder = RunFolder(place)
    folder.begin()
    folder.take_snapshot(3, _save("state"), {"frames": 3})
    folder.record(**{"command": "track", "source": source, "status": "finished", **values})
    return place


def test_a_taken_folder_gets_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        names.append(_run(choose_folder("track", "dog.mp4", None).path).as_posix())
    assert names == ["runs/track/dog", "runs/track/dog-2", "runs/track/dog-3"]
    assert choose_folder("ask", "dog.mp4", None).path == Path("runs/ask/dog")
    slip = RunFolder(Path("runs/mots/dog"))
    slip.begin()
    slip.record(status="failed")
    del slip  # its process is over
    assert choose_folder("mots", "dog.mp4", None).path == Path("runs/mots/dog")
    with pytest.raises(InputError, match="holds results already"):
        choose_folder("track", "dog.mp4", Path("runs/track/dog"))


def test_resume_and_overwrite_take_the_latest_run_on_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no snapshot of a run of track on dog\.mp4"):
        choose_folder("track", "dog.mp4", None, resume=True)
    old = _run(Path("runs/dog"), command=None, options={"box": [], "save": "video"})
    known = {"resume": True, "options": ["box", "save", "mask"]}
    assert choose_folder("track", "dog.mp4", None, **known).path == old
    with pytest.raises(InputError, match="no snapshot"):
        choose_folder("mots", "dog.mp4", None, resume=True, options=["detect", "save"])
    first, second = _run(Path("runs/track/dog")), _run(Path("runs/track/dog-2"))
    _run(Path("runs/track/dog-3"), source="other/dog.mp4")
    for number, place in enumerate((second, first, old)):
        os.utime(place / RECORD, (100 - number, 100 - number))
    assert choose_folder("track", "./dog.mp4", None, resume=True).path == second
    assert choose_folder("track", "dog.mp4", None, overwrite=True).path == second
    assert choose_folder("track", "cat.mp4", None, overwrite=True).path == Path("runs/track/cat")
    with pytest.raises(InputError, match="exclude each other"):
        choose_folder("track", "dog.mp4", None, overwrite=True, resume=True)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX locks")
def test_two_runs_do_not_write_one_folder(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "run")
    first.begin()
    second = RunFolder(tmp_path / "run")
    with pytest.raises(SinkError, match="another run is writing"):
        second.begin()
    del first
    second.begin()
    assert list((tmp_path / "run").iterdir()) == [], "a lock leaves no file"


def test_a_folder_that_is_added_to(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to continue"):
        RunFolder(tmp_path, resume=True, adds=True)
    (tmp_path / "answers.jsonl").touch()
    folder = RunFolder(tmp_path, adds=True)
    folder.begin()
    folder.record(command="ask")
    assert RunFolder(tmp_path, resume=True, adds=True).recorded("command") == "ask"
    assert (tmp_path / "answers.jsonl").exists()


def test_runs_that_start_in_one_moment_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (choose_folder("track", "dog.mp4", None) for _ in range(2))
    assert [first.path.name, second.path.name] == ["dog", "dog-2"]
    second.begin()
    del first, second
    assert [path.name for path in Path("runs/track").iterdir()] == ["dog-2"], "unused ones go"


@pytest.mark.parametrize(
    ("record", "anew"),
    [
        ({"options": {}, "snapshot_every": 100}, True),
        ({"options": {}, "snapshot_every": 100, "status": "running"}, True),
        ({"options": {}, "snapshot_every": 0, "status": "running"}, False),
        ({"options": {}, "snapshot_every": 100, "status": "failed"}, False),
    ],
    ids=["before the first frame", "in the first frame", "without snapshots", "failed"],
)
def test_a_run_cut_off_before_its_first_frame_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record: dict, anew: bool
) -> None:
    (tmp_path / RECORD).write_text(json.dumps(record))
    if not anew:
        with pytest.raises(InputError, match="holds no snapshot"):
            RunFolder(tmp_path, resume=True)
        return
    folder = RunFolder(tmp_path, resume=True)
    assert not folder.resumes(True)
    folder.begin()
    assert folder.recorded("options") == {}, "the run is what it was"
    assert "begins anew" in capsys.readouterr().err
    folder.take_snapshot(1, _save("one"), {})
    assert RunFolder(tmp_path, resume=True).resumes(True)
