"""Crops of tracks: bounded while the stream runs, on with a snapshot, escaped on the page."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vision_mem.mots import MotsResult, TrackResult
from vision_mem.sinks import track_pictures
from vision_mem.sinks.track_pictures import TrackPictures
from vision_mem.types import Frame, SourceInfo

SIZE = (60, 80)
INFO = SourceInfo("street", 10.0, SIZE[1], SIZE[0], None)


def seen(t: int, *tracks: tuple[int, str, bool]) -> tuple[Frame, MotsResult]:
    box = np.array([10, 10, 30, 50], np.float32)
    image = np.full((*SIZE, 3), 40 + t % 200, np.uint8)
    results = [
        TrackResult(key, name, 1, "person", "confirmed", there, np.zeros(SIZE, bool), box, 0.9)
        for key, name, there in tracks
    ]
    return Frame(t, t / 10, image), MotsResult(t, t / 10, SIZE, tuple(results))


def test_a_page_says_when_each_track_was_in_sight_and_escapes_its_name(tmp_path) -> None:
    sink = TrackPictures(tmp_path / "street.page.html", "a <b>street")
    sink.open(INFO)
    for t in range(100):
        sink.write(*seen(t, (1, "<script>alert('x')</script>", t < 30 or t > 60), (2, "b", True)))
    sink.close()
    page = (tmp_path / "street.page.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page and "<b>" not in page
    rows = page.split("<tr data-w")[1:]
    assert [row.count("<i style") for row in rows] == [2, 1]  # parts of their time lines
    assert all(1 < row.count("data:image/jpeg") <= 4 for row in rows)
    assert not re.search(r"(?:src|href)='?(?!data:)[\w/]", page)  # needs no other file


def test_of_many_tracks_those_seen_least_go(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(track_pictures, "MOST_TRACKS", 5)
    sink = TrackPictures(tmp_path / "p.html", "p")
    sink.open(INFO)
    for t in range(40):
        sink.write(*seen(t, (1, "stays", True), (100 + t, f"passer-{t}", True)))
    sink.close()
    page = (tmp_path / "p.html").read_text()
    assert page.count("<tr data-w") == 5 and ">stays<" in page
    assert "36 more, seen least, are not shown" in page


@pytest.mark.parametrize("name", ["street.page.html", "crops"])
def test_what_a_snapshot_kept_is_gone_on_from(tmp_path, name) -> None:
    def files(folder):
        return {p.name: p.read_bytes() for p in folder.rglob("*.*") if p.suffix != ".json"}

    whole, part = (
        TrackPictures(tmp_path / "a" / name, "s"),
        TrackPictures(tmp_path / "b" / name, "s"),
    )
    for sink in (whole, part):
        sink.open(INFO)
    for t in range(40):
        step = seen(t, (1, "one", True), (2, "two", t > 10))
        whole.write(*step)
        if t < 20:
            part.write(*step)
    part.flush()
    assert files(tmp_path / "b")  # on disk as far as the snapshot
    part.keep(tmp_path)
    again = TrackPictures(tmp_path / "b" / name, "s")  # after a kill
    again.open(INFO)
    again.recall(tmp_path)
    for t in range(20, 40):
        again.write(*seen(t, (1, "one", True), (2, "two", True)))
    whole.close()
    again.close()
    assert files(tmp_path / "a") == files(tmp_path / "b") != {}


def test_a_damaged_note_of_a_snapshot_begins_anew(tmp_path) -> None:
    (tmp_path / "page.pictures.json").write_text('{"tracks": {"1": 3}')
    sink = TrackPictures(tmp_path / "p.html", "p")
    sink.recall(tmp_path)
    sink.open(INFO)
    sink.write(*seen(0, (1, "one", True)))
    sink.close()
    assert (tmp_path / "p.html").read_text().count("<tr data-w") == 1
