"""The memory of a stream on disk, with a real SQLite file and real killed programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vision_mem.errors import InputError, ModelError, SinkError
from vision_mem.formats.snapshot import pack_state
from vision_mem.videoqa.store import MemoryFile

ABOUT = {"model_id": "toy", "config": {"budget": 5}}


@pytest.fixture(name="opened")
def _opened() -> Iterator[Callable[..., MemoryFile]]:
    """Opens memory files, and closes them after the test."""
    with ExitStack() as stack:

        def make(*given: Any) -> MemoryFile:
            file = MemoryFile(*given)
            stack.callback(file.close)
            return file

        yield make


def _entry(number: int, tokens: int = 3, tier: str = "short") -> dict[str, Any]:
    features = torch.from_numpy(np.random.default_rng(number).normal(size=(tokens, 4))).float()
    return {
        "index": number, "start_s": number / 2, "end_s": number / 2 + 0.4, "tier": tier,
        "frames": [2 * number, 2 * number + 1], "features": features, "extras": {"deep": features},
    }  # fmt: skip


def _state(entries: list[dict[str, Any]], seen: int) -> dict[str, Any]:
    return {"memory": {"entries": entries, "bank": torch.ones(2, 4)}, "seen": seen, "size": None}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def test_what_was_saved_is_read_again(tmp_path: Path, opened: Callable[..., MemoryFile]) -> None:
    path = tmp_path / "deep" / "day.vmem"
    file = opened(path, ABOUT)
    assert file.load() is None
    entries = [_entry(0), _entry(1)]
    file.save(_state(entries, 2), {0: b"zero", 1: b"one"})
    entries = [{**entries[0], "tier": "mid", "features": entries[0]["features"][:1]}, _entry(2)]
    file.save(_state(entries, 3), {2: b"two"})
    file.close()
    again = opened(path)
    assert again.about == ABOUT
    assert _equal(again.load(), _state(entries, 3))
    # A grid that changed keeps its picture, one that is gone takes it along.
    assert [again.picture(number) for number in range(3)] == [b"zero", None, b"two"]


def test_only_what_changed_is_written(tmp_path: Path, opened: Callable[..., MemoryFile]) -> None:
    file = opened(tmp_path / "m.vmem", ABOUT)
    kept = _entry(0, tokens=20_000)
    file.save(_state([kept], 1))
    writes: list[str] = []
    file._database.set_trace_callback(writes.append)
    file.save(_state([dict(kept), _entry(1)], 2))
    put = [line for line in writes if "INTO grids" in line]
    assert len(put) == 1, "the large grid was there already"
    state = file.load()
    assert state is not None
    file.adopt(state)
    writes.clear()
    file.save({**state, "memory": {**state["memory"]}})
    assert not [line for line in writes if "INTO grids" in line]


def test_a_reader_sees_the_latest_whole_state_while_another_writes(
    tmp_path: Path, opened: Callable[..., MemoryFile]
) -> None:
    path = tmp_path / "m.vmem"
    writer = opened(path, ABOUT)
    writer.save(_state([_entry(0)], 1))
    reader = opened(path)
    with writer._transaction():
        writer._database.execute("DELETE FROM grids")
        found = reader.load()
    assert found is not None
    assert len(found["memory"]["entries"]) == 1


def test_a_second_writer_is_told_in_one_line(
    tmp_path: Path, opened: Callable[..., MemoryFile]
) -> None:
    first = opened(tmp_path / "m.vmem", ABOUT)
    second = opened(tmp_path / "m.vmem", ABOUT)  # may read
    with pytest.raises(SinkError, match=rf"being written by process {os.getpid()}; wait for it"):
        second.save(_state([_entry(0)], 1))
    first.close()
    second.save(_state([_entry(0)], 1))


def test_a_copy_of_the_file_alone_is_never_far_behind(
    tmp_path: Path, opened: Callable[..., MemoryFile]
) -> None:
    file = opened(tmp_path / "m.vmem", ABOUT)
    shutil.copy(file.path, tmp_path / "at once.vmem")
    assert opened(tmp_path / "at once.vmem").about == ABOUT
    for seen in range(1, 101):
        file.save(_state([_entry(n) for n in range(seen - 1, seen)], seen))
    shutil.copy(file.path, tmp_path / "later.vmem")  # without the log beside it
    state = opened(tmp_path / "later.vmem").load()
    assert state is not None and state["seen"] == 96


def test_a_file_whose_log_was_left_behind_says_so(
    tmp_path: Path, opened: Callable[..., MemoryFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFile, "_fold", lambda self: None)  # as files were written before
    file = opened(tmp_path / "m.vmem", ABOUT)
    shutil.copy(file.path, tmp_path / "copy.vmem")
    with pytest.raises(ModelError, match=r"without copy\.vmem-wal beside it; copy both"):
        opened(tmp_path / "copy.vmem")


def test_damage_inside_a_grid_is_noticed(tmp_path: Path, opened: Callable[..., MemoryFile]) -> None:
    file = opened(tmp_path / "m.vmem", ABOUT)
    file.save(_state([_entry(0), _entry(1)], 2))
    file.close()
    with sqlite3.connect(file.path) as database:
        (content,) = database.execute("SELECT content FROM grids WHERE number = 1").fetchone()
        changed = content[:-1] + bytes([content[-1] ^ 1])  # a bit of a number
        database.execute("UPDATE grids SET content = ? WHERE number = 1", (changed,))
    database.close()
    with pytest.raises(ModelError, match="grid 1 does not fit its check sum"):
        opened(file.path).load()


def test_files_without_check_sums_open_and_get_them(
    tmp_path: Path, opened: Callable[..., MemoryFile]
) -> None:
    file = opened(tmp_path / "m.vmem", ABOUT)
    file.save(_state([_entry(0)], 1))
    file.close()
    with sqlite3.connect(file.path) as database:
        database.execute("DROP TABLE sums")
    database.close()
    older = opened(file.path)
    state = older.load()
    assert state is not None
    older.save(_state([*state["memory"]["entries"], _entry(1)], 2))
    assert older._database.execute("SELECT count(*) FROM sums").fetchone() == (2,)


def test_a_moved_file_is_noticed(tmp_path: Path, opened: Callable[..., MemoryFile]) -> None:
    file = opened(tmp_path / "m.vmem", ABOUT)
    file.save(_state([_entry(0)], 1))
    file.path.rename(tmp_path / "elsewhere.vmem")
    with pytest.raises(SinkError, match="moved, removed or replaced while it was written"):
        file.save(_state([_entry(0), _entry(1)], 2))


def test_a_file_with_code_in_it_is_not_opened(
    tmp_path: Path, opened: Callable[..., MemoryFile]
) -> None:
    path = opened(tmp_path / "m.vmem", ABOUT).path
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE grids RENAME TO hidden")
        database.execute("CREATE VIEW grids AS SELECT * FROM hidden")
    database.close()
    with pytest.raises(ModelError, match="'grids', which no program of ours makes"):
        opened(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_only_be_read_is_read(
    tmp_path: Path, opened: Callable[..., MemoryFile]
) -> None:
    file = opened(tmp_path / "m.vmem", ABOUT)
    file.save(_state([_entry(0)], 1))
    file.close()
    file.path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert opened(file.path).load() is not None
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("how", ["text", "cut", "zeros inside", "other database", "version"])
def test_damaged_and_foreign_files_get_one_line(
    tmp_path: Path, opened: Callable[..., MemoryFile], how: str
) -> None:
    path = tmp_path / "m.vmem"
    if how == "text":
        path.write_text("not a memory at all, but long enough to be looked at" * 20)
    elif how == "other database":
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE songs (name TEXT)")
    else:
        file = opened(path, ABOUT)
        file.save(_state([_entry(n, tokens=200) for n in range(20)], 20))
        if how == "version":
            file._database.execute("UPDATE about SET value = '7' WHERE name = 'version'")
        file.close()
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "zeros inside":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(8192) + content[middle + 8192 :])
    with pytest.raises(ModelError) as caught:
        opened(path).load()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path, opened: Callable[..., MemoryFile]) -> None:
    (tmp_path / "empty.vmem").touch()
    with pytest.raises(InputError, match="is empty"):
        MemoryFile(tmp_path / "empty.vmem")
    with pytest.raises(InputError, match="no memory file"):
        opened(tmp_path / "nowhere.vmem")
    with pytest.raises(InputError, match="is a folder"):
        opened(tmp_path, ABOUT)


_WRITER = """
import sys, itertools
sys.path[:0] = {folders!r}
from test_store import ABOUT, MemoryFile, _entry, _state
file = MemoryFile({path!r}, ABOUT)
entries = []
for number in itertools.count():
    entries = [*entries, _entry(number)][-6:]
    file.save(_state(entries, number + 1))
    print(number + 1, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_kill_9_leaves_the_latest_save(tmp_path: Path, opened: Callable[..., MemoryFile]) -> None:
    for wait in (0.0, 0.013, 0.037):
        path = tmp_path / f"{wait}.vmem"
        here = Path(__file__).parent
        folders = [str(here), str(here.parents[1] / "fixtures")]
        code = _WRITER.format(folders=folders, path=str(path))
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        said = [1, *map(int, process.stdout.read().split())][-1]
        process.wait()
        process.stdout.close()
        state = opened(path).load()
        assert state is not None
        seen = state["seen"]
        # It was killed between a save and the word about it at most.
        assert seen in (said, said + 1)
        numbers = [entry["index"] for entry in state["memory"]["entries"]]
        assert numbers == list(range(max(0, seen - 6), seen))
        assert _equal(state["memory"]["entries"][-1], _entry(seen - 1))


# -- files from strangers --------------------------------------------------------------------------

_LONG, _DEEP = "9" * 5000, "[" * 100_000
_SPOILT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a negative count": lambda s: s["memory"]["counts"].update(tokens=-3),
    "a count with a fraction": lambda s: s["memory"]["counts"].update(pruned=0.5),
    "a count of 400 digits": lambda s: s["watched"].update(grids=10**400),
    "a time of 400 digits": lambda s: s.update(time_s=10**400),
    "a time that is none": lambda s: s.update(due_s=float("nan")),
    "an endless time": lambda s: s["memory"]["entries"][0].update(start_s=float("inf")),
    "a word for a time": lambda s: s["memory"]["entries"][0].update(end_s="noon"),
    "truth for a number": lambda s: s["memory"]["entries"][0].update(original=True),
    "a motion that is none": lambda s: s["memory"]["motion"].update(total=float("nan")),
    "tokens that are none": lambda s: s["memory"]["entries"][0].update(
        features=torch.full((24, 24), float("nan"))
    ),
    "places with fractions": lambda s: s["memory"]["entries"][0].update(rows=torch.ones(24) / 2),
    "places in two directions": lambda s: s["memory"]["entries"][0].update(rows=torch.ones(24, 1)),
    "tokens of no width": lambda s: s["memory"]["entries"][0].update(features=torch.ones(24)),
    "a bank that is a word": lambda s: s["memory"].update(bank="red"),
    "frames that are a number": lambda s: s["memory"]["entries"][0].update(frames=3),
    "a size of one side": lambda s: s["memory"]["entries"][0].update(size=[4]),
    "nothing of the stream": lambda s: s.pop("watched"),
    "a list for the memory": lambda s: s.update(carried=[1, 2]),
}  # fmt: skip
_ABOUTS = {
    "a number of 5000 digits": f'{{"model_id": "fake", "config": {{"fps": {_LONG}}}}}',
    "a number of 400 digits": f'{{"model_id": "fake", "config": {{"fps": 1{"0" * 400}}}}}',
    "nesting": f'{{"model_id": "fake", "config": {_DEEP}',
    "a list": '["fake"]',
    "settings that are a list": '{"model_id": "fake", "config": [1]}',
    "settings that are none": '{"model_id": "fake", "config": {"memory": {"budget": "NaN"}}}',
    "no number": '{"model_id": "fake", "config": {"fps": NaN}}',
    "a long model": f'{{"model_id": "{"x" * 100_000}"}}',
    "files that are words": '{"model_id": "fake", "files": ["a.mp4"]}',
    "files with endless times": (
        '{"model_id": "fake", "files": [{"source": "a", "begin_s": Infinity, "first": 0, "live": '
        "false}]}"
    ),
    "no files": '{"model_id": "fake", "files": []}',
}
_STATEMENTS = {
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON rest BEGIN DELETE FROM grids; END",
    "a computed column": "ALTER TABLE about ADD COLUMN big AS (hex(zeroblob(400000000)))",
    "a virtual table": "CREATE VIRTUAL TABLE words USING fts5(text)",
    "an older layout": "ALTER TABLE rest RENAME COLUMN content TO contents",
    "numbers for contents": "UPDATE grids SET content = 7",
    "a word for the state": "UPDATE rest SET content = 'state'",
    "a version of 10 MB": "UPDATE about SET value = hex(zeroblob(5000000)) WHERE name = 'version'",
    "no record": "DELETE FROM about WHERE name = 'about'",
    "a record in bytes": "UPDATE about SET value = x'ff00' WHERE name = 'about'",
}


@pytest.fixture(name="whole", scope="module")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from videoqa_streams import session, watch

    one = session()
    watch(one, range(9))
    file = MemoryFile(
        tmp_path_factory.mktemp("whole") / "m.vmem",
        {"model_id": "fake", "config": asdict(one.config)},
    )
    file.save(one.state_dict(), {0: b"no picture"})
    file.close()
    return file.path


def _refused(path: Path) -> None:
    """It is told in one line of plain words, soon."""
    from vision_mem.models.vlm.fake import FakeVideoModel
    from vision_mem.videoqa.evidence import ThumbnailSession, open_session

    begin = time.monotonic()
    with pytest.raises((InputError, ModelError)) as caught:
        file = MemoryFile(path)
        try:
            ThumbnailSession(open_session(FakeVideoModel(), None, [], file), file)
        finally:
            file.close()
    said = str(caught.value)
    assert "\n" not in said and len(said) < 500
    assert not re.search(r"Error|None|NoneType|dict|float|int\b|str\b|object|argument", said), said
    assert time.monotonic() - begin < 2


def _changed(whole: Path, place: Path, *statements: tuple[str, tuple[Any, ...]]) -> Path:
    shutil.copy(whole, place)
    with sqlite3.connect(place) as database:
        for statement, values in statements:
            database.execute(statement, values)
    database.close()
    return place


@pytest.mark.parametrize("how", _SPOILT)
def test_states_of_strangers(whole: Path, tmp_path: Path, how: str) -> None:
    file = MemoryFile(whole)
    state = file.load()
    file.close()
    assert state is not None
    _SPOILT[how](state)
    entries = state["memory"].pop("entries")
    changes = [("DROP TABLE sums", ()), ("UPDATE rest SET content = ?", (pack_state(state),))]
    for number, entry in enumerate(entries):
        changes.append(
            ("UPDATE grids SET content = ? WHERE number = ?", (pack_state(entry), number))
        )
    _refused(_changed(whole, tmp_path / "m.vmem", *changes))


@pytest.mark.parametrize("how", _ABOUTS)
def test_records_of_strangers(whole: Path, tmp_path: Path, how: str) -> None:
    change = "UPDATE about SET value = ? WHERE name = 'about'"
    _refused(_changed(whole, tmp_path / "m.vmem", (change, (_ABOUTS[how],))))


@pytest.mark.parametrize("how", _STATEMENTS)
def test_tables_of_strangers(whole: Path, tmp_path: Path, how: str) -> None:
    _refused(_changed(whole, tmp_path / "m.vmem", (_STATEMENTS[how], ())))


@pytest.mark.parametrize("inner", [_LONG, _DEEP, "NaN", "{}", '"state"', '{"__tensor__": "t9"}'])
def test_headers_of_strangers(whole: Path, tmp_path: Path, inner: str) -> None:
    """The state's JSON lies in the head of a safetensors file."""
    note = f'{{"format": "vision-mem-snapshot", "version": 1, "header": {{}}, "state": {inner}}}'
    head = json.dumps({"__metadata__": {"vision-mem-snapshot": note}}).encode()
    content = len(head).to_bytes(8, "little") + head
    changes = [("DROP TABLE sums", ()), ("UPDATE rest SET content = ?", (content,))]
    _refused(_changed(whole, tmp_path / "m.vmem", *changes))


def test_a_statement_that_goes_on_and_on_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_mem.formats import sqlite

    monkeypatch.setattr(sqlite, "_LEAST", 100_000)
    database = sqlite3.connect(":memory:")
    rows = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n{}) SELECT count(*) FROM n"
    )
    for _ in range(9):  # what ends is not stopped, however often
        sqlite.limit_steps(database, Path("m.vmem"))
        assert database.execute(rows.format(" LIMIT 2000")).fetchone() == (2000,)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        database.execute(rows.format("")).fetchone()
    database.close()


def test_a_picture_of_a_stranger_is_looked_at_first() -> None:
    from vision_mem.visualization.contact_sheet import from_jpeg, to_jpeg

    small = to_jpeg(np.zeros((9, 16, 3), np.uint8))
    assert from_jpeg(small).shape == (9, 16, 3)
    at = small.index(b"\xff\xc0") + 5  # height and width in the head
    for content in (small[:at] + b"\xff\xff\xff\xff" + small[at + 4 :], b"", b"\xff\xd8"):
        with pytest.raises(ModelError, match="picture"):
            from_jpeg(content)
