"""The file of a map: restarts, killed programs, readers beside a writer, damage, locks."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import zlib

import numpy as np
import pytest
from navigation_scenes import (
    ROUGH,
    moment,
    read_again_and_again,
    said,
    same,
    walk,
    write_until_killed,
)

from vision_mem.errors import InputError, ModelError, SinkError
from vision_mem.formats import sqlite
from vision_mem.navigation import (
    Key,
    NavigationConfig,
    NavigationSession,
)
from vision_mem.navigation.config import StoreConfig
from vision_mem.navigation.storage import MapFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "room.vmem"


# -- restarts --------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [1, 7, 1000])
def test_a_reopened_map_goes_on_as_if_never_closed(path, fold):
    config = NavigationConfig(octree=ROUGH.octree, store=StoreConfig(fold_every=fold))
    with NavigationSession(path, config) as session:
        walk(session, range(15))
    with NavigationSession(path) as session, NavigationSession(config=config) as straight:
        assert session.config == config
        results = walk(session, range(15, 30))
        assert walk(straight, range(30))[15:] == results
        same(session, straight)


def test_a_map_can_be_carried_as_a_state():
    with NavigationSession(config=ROUGH) as one, NavigationSession(config=ROUGH) as other:
        walk(one, range(12))
        walk(other, range(3))
        other.load_state_dict(one.state_dict())
        assert walk(one, range(12, 20)) == walk(other, range(12, 20))
        same(one, other)
        with pytest.raises(ModelError, match="no state of a spatial memory"):
            other.load_state_dict({"map": 3})


def test_opening_and_closing_does_not_grow_the_file(path):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(5))
    sizes = set()
    for _ in range(60):
        NavigationSession(path).close()
        sizes.add(path.stat().st_size)
    assert len(sizes) == 1


def test_a_map_of_the_first_version_is_read_and_brought_up_to_date(path):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(6))
    with contextlib.closing(sqlite3.connect(path)) as sql:
        sql.executescript("DROP TABLE exit; PRAGMA user_version=1;")
    with NavigationSession(path, mode="r") as reader, NavigationSession(config=ROUGH) as other:
        walk(other, range(6))
        same(reader, other)
        with NavigationSession(path) as session:
            walk(session, range(6, 8))
            walk(other, range(6, 8))
            same(session, other)
            assert reader.where("lamp")[0].seqs == session.where("lamp")[0].seqs
        with contextlib.closing(sqlite3.connect(path)) as sql:
            assert sql.execute("PRAGMA user_version").fetchone() == (2,)


@pytest.fixture(scope="module")
def processes():
    # A server that has imported everything forks children in milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vision_mem.navigation"])
    return context


def test_killed_at_any_moment_it_loses_one_observation_at_most(path, processes):
    NavigationSession(path, ROUGH).close()
    random = np.random.default_rng(8)
    total = 0
    for round_ in range(20):
        ours, theirs = processes.Pipe(duplex=False)
        child = processes.Process(target=write_until_killed, args=(str(path), theirs))
        child.start()
        theirs.close()
        said = total
        if ours.poll(30):
            said = ours.recv()
        # Somewhere within the next steps, mid-write as likely as not.
        child.join(float(random.uniform(0, 0.03)))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        try:
            while ours.poll(0):
                said = ours.recv()
        except (EOFError, OSError):
            pass
        with NavigationSession(path) as session:
            state = session.state
            assert said <= state.frame <= said + 1
            assert state.octree.stats.frames == state.frame  # whole steps only
            total = state.frame
            if round_ % 10 != 9:
                continue
            assert session.check() == state.journal.next_seq - 1
            counts = [len(session.recall(Key("landmark", i))) for i in state.landmarks.by_id]
            assert counts == [each.count for each in state.landmarks.by_id.values()]
    assert total >= 20
    with NavigationSession(path) as session, NavigationSession(config=ROUGH) as straight:
        walk(straight, range(total))
        same(session, straight)


def test_readers_see_whole_steps_while_somebody_writes(path, processes):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(2))
        readers = []
        for _ in range(2):
            ours, theirs = processes.Pipe(duplex=False)
            reader = processes.Process(target=read_again_and_again, args=(str(path), theirs, 5))
            reader.start()
            readers.append((reader, ours))
        number = 2
        while any(reader.is_alive() for reader, _ in readers) and number < 2000:
            session.step(moment(number))
            number += 1
        for reader, ours in readers:
            seen = ours.recv()
            reader.join()
            frames = [row[0] for row in seen]
            assert frames == sorted(frames) and frames[-1] > frames[0]
            assert all(frame == space for frame, space, _, _ in seen)
            assert all(row[3] for row in seen)
            counts = [row[2] for row in seen]
            assert counts == sorted(counts)


# -- files that cannot be used -----------------------------------------------------------------


def test_one_writer_at_a_time(path):
    with NavigationSession(path, ROUGH) as session:
        assert f"process {os.getpid()}" in said(lambda: NavigationSession(path))
        session.step(moment(0))
    NavigationSession(path).close()


def test_nothing_stays_beside_a_map_that_is_closed(path):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(3))
        assert path.with_name(f"{path.name}.lock").is_file()
    for mode in ("r", "w", "r"):
        NavigationSession(path, mode=mode).close()
        assert [each.name for each in path.parent.iterdir()] == [path.name]
    with contextlib.closing(MapFile(path, "r")), NavigationSession(path) as session:
        walk(session, range(3, 5))  # while another reads
    with NavigationSession(path, mode="r") as session:
        assert session.state.frame == 5


def test_readers_do_not_write(path):
    assert "no map file" in said(lambda: NavigationSession(path, mode="r"))
    NavigationSession(path, ROUGH).close()
    with NavigationSession(path, mode="r") as session:
        for call in (lambda: session.step(moment(0)), session.reset, session.rebuild,
                     lambda: session.forget(landmark=1), lambda: session.correct({})):  # fmt: skip
            assert "reading only" in said(call)
    assert "closed" in said(lambda: session.where("door") or session.recall("place:1"))


def test_files_that_are_no_maps_say_so(path, tmp_path):
    path.write_bytes(b"not a database at all, but long enough to be taken for one" * 50)
    assert "damaged or no map" in said(lambda: NavigationSession(path))
    other = tmp_path / "other.db"
    sql = sqlite3.connect(other)
    sql.execute("CREATE TABLE cats(name)")
    sql.commit()
    sql.close()
    for mode in "rw":
        assert "no map of this program" in said(
            lambda mode=mode: NavigationSession(other, mode=mode)
        )
    assert "mode is 'a'" in said(lambda: NavigationSession(path, mode="a"))


def edited(path, *statements):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(3))
    sql = sqlite3.connect(path)
    for statement in statements:
        sql.execute(statement)
    sql.commit()
    sql.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("PRAGMA user_version=99", "has version 99; this program reads 1 to 2"),
        ("UPDATE place SET pose=x'00'", "damaged"),
        ("UPDATE look SET change=x'00'", "damaged"),
        ("UPDATE landmark SET numbers=x'00'", "damaged"),
        ("UPDATE landmark SET fields='{}'", "damaged"),
        ("UPDATE view SET numbers=x'0011'", "damaged"),
        ("UPDATE short SET fields='[]'", "damaged"),
        ("UPDATE meta SET value='five' WHERE key='frame'", "damaged"),
        ("UPDATE meta SET value='{\"octree\": 3}' WHERE key='config'", "settings stored"),
        ("UPDATE meta SET value='[1]' WHERE key='corner'", "corner stored"),
        ("DELETE FROM meta WHERE key='corner'", "corner stored"),
        ("DELETE FROM place", "missing"),
        ("DROP TABLE way", "damaged or no map"),
        ("DROP TABLE exit", "damaged or no map"),
        ("INSERT INTO exit VALUES(1, 0, 400.0, 0)", "damaged: a way leaves place 1"),
        ("INSERT INTO exit VALUES(1, 0, 'north', 0)", "damaged"),
        ("UPDATE meta SET value='[1]' WHERE key='origin'", "damaged"),
        ("UPDATE meta SET value='{}' WHERE key='origin'", "damaged"),
        ("UPDATE place SET visits='many'", "damaged"),
        ("UPDATE place SET first_s=9e999", "damaged: a number of it is not finite"),
        ("UPDATE place SET pose=zeroblob(120)", "15 numbers where 16 belong"),
        ("UPDATE short SET slot=-1 WHERE slot=0", "entry -1 of short memory is damaged"),
        ("UPDATE meta SET value='99999999999' WHERE key='landmark_vectors'", "damaged"),
        ("CREATE TABLE extra(x)", "holds 'extra' as no program of ours makes it"),
        ("CREATE INDEX extra ON place(abs(visits))", "holds 'extra' as no program of ours"),
    ],
)
def test_damage_is_said_in_one_line(path, statement, words):
    edited(path, statement)
    assert words in said(lambda: NavigationSession(path))


DEEP, LONG = "[" * 100_000 + "]" * 100_000, "9" * 5_000


@pytest.mark.parametrize(
    "target", [f"INSERT OR REPLACE INTO meta VALUES('{key}', ?)" for key in (
        "next_id", "frame", "now_s", "short_step", "octree", "origin", "config", "corner",
        "landmark_vectors", "leaf_width",
    )] + ["UPDATE landmark SET fields=?", "UPDATE short SET fields=?"],
)  # fmt: skip
@pytest.mark.parametrize("value", [DEEP, LONG, "9" * 400, '{"a": "b"}', "1e999", "\x1b[31m"])
def test_values_from_strangers_are_one_bounded_line(path, target, value):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(2))
    with sqlite3.connect(path) as database:
        database.execute(target, (value,))
    database.close()
    line = said(lambda: NavigationSession(path))
    assert len(line) < 300 and "\x1b" not in line and "Error" not in line


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("brick VALUES(7, ?)", bytes(300_000)),
        ("look VALUES(999, 1, ?)", bytes(300_000_000)),
        ("look VALUES(999, 1, ?)", np.array([10**12] + [0] * 8, "<i8").tobytes()),
        ("look VALUES(999, 1, ?)", np.array([0, 0, 0, 0, 10**15, -1, -1, -1, 9], "<i8").tobytes()),
    ],
)
def test_what_unpacks_to_more_than_it_can_be_is_refused(path, table, content):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(2))
    with sqlite3.connect(path) as database:
        database.execute(f"INSERT INTO {table}", (zlib.compress(content, 9),))
    database.close()
    assert "is damaged" in said(lambda: NavigationSession(path))


def test_pages_that_lead_in_circles_are_noticed(path):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(2))
    with sqlite3.connect(path) as database:
        rows = [(10**6 + code, bytes(200)) for code in range(400)]
        database.executemany("INSERT INTO brick VALUES(?, ?)", rows)
        asked = "SELECT rootpage FROM sqlite_master WHERE name='brick'"
        (root,) = database.execute(asked).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
        database.commit()
        database.execute("PRAGMA journal_mode=DELETE")
    database.close()
    raw, page = bytearray(path.read_bytes()), (root - 1) * size
    assert raw[page] == 5  # the root of a table of several pages
    count = int.from_bytes(raw[page + 3 : page + 5], "big")
    cells = [page + int.from_bytes(raw[page + 12 + 2 * i :][:2], "big") for i in range(count)]
    for cell in cells[1:]:
        raw[cell : cell + 4] = raw[cells[0] : cells[0] + 4]
    path.write_bytes(raw)
    assert "rows of it come twice" in said(lambda: NavigationSession(path, mode="r"))


def test_a_question_without_end_is_stopped(path, monkeypatch):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(3))
    monkeypatch.setattr(sqlite, "_LEAST", 1_000_000)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n"
    file = MapFile(path, "r")
    with pytest.raises(ModelError) as error, file.reading() as sql:
        sql.execute(endless).fetchone()
    file.close()
    assert "takes more steps than its size can" in str(error.value) and error.value.exit_code == 2


def test_a_changed_memory_is_noticed(path):
    edited(path, "UPDATE memory SET label='green door' WHERE label='red door'")
    with NavigationSession(path) as session:
        assert "checksum" in said(session.check)


def test_a_cut_off_file_does_not_break_anything_else(path):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(10))
        session.commit(fold=True)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        said(lambda: NavigationSession(path).check())


def test_changed_bytes_are_said_or_harmless(path):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(12))
        session.commit(fold=True)
        walk(session, range(12, 15))
    whole, random, refused = path.read_bytes(), np.random.default_rng(9), 0
    for _ in range(40):
        broken = bytearray(whole)
        for _ in range(random.choice([1, 5, 40])):
            broken[random.integers(len(broken))] = random.integers(256)
        path.write_bytes(broken)
        for log in ("-wal", "-shm"):
            path.with_name(path.name + log).unlink(missing_ok=True)
        try:
            with NavigationSession(path) as session:
                session.where("door", near=(0, 0, 0))
                session.recall("place:1")
                session.step(moment(99))
                session.check()
        except (InputError, ModelError, SinkError) as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user without rights")
def test_a_folder_without_rights_can_be_read(path):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(3))
    path.parent.chmod(0o500)
    try:
        assert "cannot be written" in said(lambda: NavigationSession(path.parent / "new.vmem"))
        with NavigationSession(path, mode="r") as session:
            assert session.where("lamp")
    finally:
        path.parent.chmod(0o700)


def test_a_file_that_is_read_only_says_so(path):
    NavigationSession(path, ROUGH).close()
    with NavigationSession(path) as session:
        session._file.sql.execute("PRAGMA query_only=ON")  # as a file system that became read-only
        assert "read-only" in said(lambda: session.step(moment(0)))
        session._file.sql.execute("PRAGMA query_only=OFF")
        # What could not be written is written with the next step.
        assert session.step(moment(1)).committed
    with NavigationSession(path) as session:
        looks = [m for m in session.recall("place:1") if m.landmark is None]
        assert session.state.frame == 2 and [m.frame for m in looks] == [1, 2]


def test_another_process_holding_the_database_is_said(path):
    NavigationSession(path, ROUGH).close()
    with NavigationSession(path) as session:
        session._file.sql.execute("PRAGMA busy_timeout=50")
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in said(lambda: session.step(moment(0)))
        other.rollback()
        other.close()
        assert session.step(moment(1)).committed


def test_a_map_with_code_in_it_is_not_opened(path):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(3))
    with sqlite3.connect(path) as database:
        database.execute("CREATE TRIGGER extra AFTER INSERT ON event BEGIN SELECT 1; END")
    database.close()
    with pytest.raises(ModelError, match="'extra', which no program of ours makes"):
        NavigationSession(path)
