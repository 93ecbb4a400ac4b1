"""Killed programs, full disks, folders that cannot be written, runs that go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from media_samples import decode, picture, result, seen

from vision_mem.errors import SinkError
from vision_mem.formats.text import LineFile
from vision_mem.sinks.registry import SINKS, make_sinks
from vision_mem.types import Frame, SourceInfo

INFO = SourceInfo("street", 128, 96, 10.0)
SIZE = (96, 128)
FILES = [name for name in SINKS if name != "window"]
SMALL = ("png", "davis")  # a file a frame


def step(index: int):
    box = (index % 50, 20, index % 50 + 30, 60)
    return Frame(index, index / 10, picture(index)), result(index, seen(1, box, SIZE))


def write(sinks, indices):
    for sink in sinks:
        sink.open(INFO)
    for index in indices:
        frame, found = step(index)
        for sink in sinks:
            sink.write(frame, found)


def run_child(code: str, *args: object) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    places = [str(here), str(here.parents[1] / "fixtures")]
    head = f"import sys; sys.path[:0] = {places!r}\nfrom test_sinks_failures import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_text_files(out: Path, count: int) -> None:
    boxes = (out / "lasot" / "street.txt").read_text().splitlines()
    assert len(boxes) >= count
    assert all(len(line.split(",")) == 4 for line in boxes)
    assert len((out / "mot" / "street.txt").read_text().splitlines()) >= count
    for name in ("street.diary.jsonl", "street.masks.jsonl"):
        entries = [json.loads(line) for line in (out / name).read_text().splitlines()]
        assert [e["frame"] for e in entries[:count]] == list(range(count))


def test_after_kill_9_everything_written_is_valid_and_the_run_goes_on(tmp_path):
    child = run_child(
        """
        sinks = make_sinks(sys.argv[1], FILES, INFO)
        for sink in sinks:
            sink.open(INFO)
        for index in range(10**6):
            frame, found = step(index)
            for sink in sinks:
                sink.write(frame, found)
                if index == 29 and hasattr(sink, "flush"):
                    sink.flush()  # as a snapshot does
            if index == 34:
                print("written", flush=True)  # and on it goes: the signal comes mid-write
        """,
        tmp_path,
    )
    assert child.stdout.readline() == "written\n", child.stderr.read()
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()

    check_text_files(tmp_path, 35)
    assert len(list((tmp_path / "masks" / "street").glob("[0-9]*.png"))) >= 35
    assert not (tmp_path / "street_tracked.mp4").exists()
    partial = decode(tmp_path / "street_tracked.partial.mp4")
    assert len(partial) >= 20  # all but the last fragment or two, of a second each

    # A snapshot was taken at frame 30: frames 30 to 34 come again.
    sinks = make_sinks(tmp_path, FILES, INFO, append=True)
    write(sinks, range(30, 45))
    for sink in sinks:
        sink.close()
    whole = tmp_path / "uninterrupted"
    sinks = make_sinks(whole, [n for n in FILES if n != "video"], INFO)
    write(sinks, range(45))
    for sink in sinks:
        sink.close()
    for path in whole.rglob("*"):
        if path.is_file() and not path.name.endswith("_time.txt"):
            again = tmp_path / path.relative_to(whole)
            assert again.read_bytes() == path.read_bytes(), path.name
    assert len(decode(tmp_path / "street_tracked.mp4")) == 45
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("name", ["lasot", "mot", "rle", "diary"])
def test_a_line_cut_short_is_dropped_when_a_run_goes_on(tmp_path, name):
    sinks = make_sinks(tmp_path, [name], INFO)
    write(sinks, range(5))
    sinks[0].close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-3])
    sinks = make_sinks(tmp_path, [name], INFO, append=True)
    write(sinks, range(4, 8))
    sinks[0].close()
    texts = {p.name: p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    for text in texts.values():
        lines = text.splitlines()
        assert lines and all(line == line.strip() for line in lines)
    if name in ("rle", "diary"):
        assert [json.loads(line)["frame"] for line in lines] == list(range(8))


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("name", ["lasot", "mot", "rle", "diary"])
def test_foreign_and_hostile_content_does_no_harm(tmp_path, name, append):
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    junk = '{"object": 1, "name": "", "file": "../victim"}\n[1]\n{"frame": "x"}\n\xff,\n'
    out = tmp_path / "out"
    for file in ("lasot/street.frames.jsonl", "mot/street.txt", "street.masks.jsonl"):
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_text(junk, encoding="latin-1")
    (out / "street.diary.jsonl").write_text(junk, encoding="latin-1")
    (sink,) = make_sinks(out, [name], INFO, append=append)
    write([sink], range(3))
    sink.close()
    assert victim.read_text() == "precious"
    if name in ("rle", "diary"):
        file = out / {"rle": "street.masks.jsonl", "diary": "street.diary.jsonl"}[name]
        assert [json.loads(line)["frame"] for line in file.read_text().splitlines()] == [0, 1, 2]


def test_objects_added_after_the_snapshot_are_forgotten_and_found_again(tmp_path):
    def script(index):
        objects = [seen(1, (1, 1, 5, 5), SIZE)]
        if index >= 6:
            objects.append(seen(2, (2, 2, 6, 6), SIZE))
        return Frame(index, 0.0, picture(index)), result(index, *objects)

    def go(out, indices, append):
        (sink,) = make_sinks(out, ["lasot"], INFO, append=append)
        sink.open(INFO)
        for index in indices:
            sink.write(*script(index))
        sink.close()

    go(tmp_path / "a", range(9), False)
    go(tmp_path / "a", range(4, 12), True)
    go(tmp_path / "b", range(12), False)
    for name in ("street.txt", "street-2.txt", "street.frames.jsonl"):
        first = (tmp_path / "a" / "lasot" / name).read_text()
        assert first == (tmp_path / "b" / "lasot" / name).read_text()


@pytest.mark.parametrize("name", FILES)
def test_going_on_where_nothing_was_begun_is_a_new_run(tmp_path, name):
    (sink,) = make_sinks(tmp_path, [name], INFO, append=True)
    write([sink], range(3))
    sink.close()
    assert any(p.is_file() for p in tmp_path.rglob("*"))
    assert not any("part2" in p.name for p in tmp_path.rglob("*"))


QUIET = {"zones"}  # nothing is written where there are no zones


@pytest.mark.parametrize("name", [n for n in FILES if not n.startswith("yolo") and n not in QUIET])
def test_a_full_disk_is_one_clear_line_and_results_stay_valid(tmp_path, name):
    """A limit on file size stands for the full disk: both make write() fail half-way."""
    pytest.importorskip("resource", reason="limits on file size are POSIX")
    child = run_child(
        """
        import resource
        from vision_mem.errors import SinkError
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
        (sink,) = make_sinks(sys.argv[1], [sys.argv[2]], INFO)
        sink.open(INFO)
        try:
            for index in range(3000):
                sink.write(*step(index % 256 if sys.argv[2] == "png" else index))
        except SinkError as error:
            print(index, error)
        try:
            sink.close()
        except SinkError:
            pass
        """,
        *(tmp_path, name, 60 if name in SMALL else 40_000),
    )
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    said = out.splitlines()
    assert len(said) == 1 and "cannot be written" in said[0], (out, err)
    for path in tmp_path.rglob("*"):
        if path.suffix == ".mp4":
            assert len(decode(path)) > 5
        elif path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            assert lines or name == "davis"  # no picture, no name
        elif path.suffix == ".txt":
            assert path.read_bytes().endswith(b"\n")
        elif path.suffix == ".json":
            assert json.loads(path.read_text())
        elif path.suffix == ".xml":
            assert ElementTree.parse(path).getroot() is not None
        elif path.suffix == ".parquet":
            assert path.read_bytes().endswith(b"PAR1")
        elif path.is_file():
            raise AssertionError(f"{path} was left behind")


@pytest.mark.parametrize("name", FILES)
def test_an_output_folder_that_is_a_file_is_refused_at_once(tmp_path, name):
    (tmp_path / "out").write_text("in the way")
    (sink,) = make_sinks(tmp_path / "out", [name], INFO)
    with pytest.raises(SinkError, match="in the way") as caught:
        sink.open(INFO)
    assert "\n" not in str(caught.value)
    sink.close()


@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_cannot_be_written_is_refused_at_once(name):
    """/proc refuses even the superuser."""
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    (sink,) = make_sinks("/proc/self/results", [name], INFO)
    with pytest.raises(SinkError, match="cannot be written") as caught:
        sink.open(INFO)
    assert "\n" not in str(caught.value)
    sink.close()


def test_a_folder_in_the_place_of_a_file(tmp_path):
    for place, name in {"street_tracked.mp4": "video", "street.diary.jsonl": "diary"}.items():
        (tmp_path / place).mkdir()
        (sink,) = make_sinks(tmp_path, [name], INFO)
        with pytest.raises(SinkError, match="folder is in the way"):
            sink.open(INFO)


def test_a_line_that_fits_only_in_part_is_taken_back(tmp_path, monkeypatch):
    file = LineFile(tmp_path / "a.txt")
    file.write("first")
    real = os.write

    def full(descriptor, data):
        if len(data) > 4:
            return real(descriptor, data[:4])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SinkError, match="no space left"):
        file.write("second line")
    monkeypatch.undo()
    file.write("third")
    file.close()
    assert (tmp_path / "a.txt").read_text() == "first\nthird\n"


def test_drawing_and_encoding_stay_far_below_real_time(tmp_path):
    """Measured at about 4 ms a frame; the bound leaves room for a busy machine."""
    import time

    size = (360, 640)
    (sink,) = make_sinks(tmp_path, ["video"], SourceInfo("v", 640, 360, 30.0))
    sink.open(SourceInfo("v", 640, 360, 30.0))
    frames = [picture(i, *size) for i in range(30)]
    found = [
        result(i, *(seen(k, (100 * k, 50 + i, 100 * k + 90, 200 + i), size) for k in (1, 2, 3)),
               size=size)
        for i in range(30)
    ]  # fmt: skip
    sink.write(Frame(0, 0.0, frames[0]), found[0])
    begun = time.process_time()
    for index in range(1, 30):
        sink.write(Frame(index, index / 30, frames[index]), found[index])
    spent = (time.process_time() - begun) / 29
    sink.close()
    assert spent < 0.03
    assert np.asarray(decode(tmp_path / "v_tracked.mp4")).shape == (30, 360, 640, 3)
