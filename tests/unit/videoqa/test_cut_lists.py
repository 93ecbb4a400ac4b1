"""Intervals as files of other programs."""

from __future__ import annotations

import csv
import json

import pytest

from vision_mem.videoqa.cut_lists import AnsweredQuestion, cut_clips, write_cut_lists
from vision_mem.videoqa.evidence import ShownFile, Span, spans_seen
from vision_mem.videoqa.records import Interval, Moment


def _span(file: str, start: float, end: float, score: float, grid: int = 0) -> Span:
    return Span(file, start, end, score, grid, start, None, (grid, grid))


ANSWERED = (
    AnsweredQuestion("a dog; =1+1", True, (_span("b/two.mp4", 1, 2.5, 0.9, 5),
                                           _span("a.mp4", 3661.04, 3662, 0.5))),
    AnsweredQuestion("=a cat", False, ()),
)  # fmt: skip


@pytest.fixture
def files(tmp_path):
    forms = ["json", "csv", "edl", "chapters"]
    return {p.name: p.read_text() for p in write_cut_lists(tmp_path, forms, ANSWERED, 25.0)}


def test_each_form_is_one_that_its_readers_take(files):
    dog, cat = json.loads(files["intervals.json"])
    assert (dog["count"], dog["total_s"], cat["found"], cat["count"]) == (2, 2.46, False, 0)
    assert [each["file"] for each in dog["intervals"]] == ["a.mp4", "b/two.mp4"]
    rows = list(csv.DictReader(files["intervals.csv"].splitlines()))
    assert [(row["file"], float(row["start_s"])) for row in rows] == [
        ("a.mp4", 3661.04), ("b/two.mp4", 1.0),
    ]  # fmt: skip
    lines = files["intervals.edl"].splitlines()
    assert (
        lines[3] == "001  AX       V     C        01:01:01:01 01:01:02:00 00:00:00:00 00:00:00:24"
    )
    assert (
        lines[7] == "002  AX       V     C        00:00:01:00 00:00:02:12 00:00:00:24 00:00:02:11"
    )
    assert "* FROM CLIP NAME: two.mp4" in lines
    chapters = files["two.mp4.chapters.txt"].splitlines()
    assert chapters[0] == ";FFMETADATA1"
    assert chapters[3:6] == ["START=1000", "END=2500", r"title=a dog\; \=1+1"]
    assert set(files) == {"intervals.json", "intervals.csv", "intervals.edl",
                          "a.mp4.chapters.txt", "two.mp4.chapters.txt"}  # fmt: skip


def test_an_interval_over_two_files_is_one_in_each():
    moments = tuple(Moment(n, (n,), float(n), float(n), 0.5 + n / 10, "short", 4) for n in range(4))
    shown = [ShownFile("a.mp4"), ShownFile("b.mp4", 2.0, 2)]
    second, first = spans_seen([Interval(0.0, 4.0, moments[3], moments)], shown)
    assert (first.file, first.start_s, first.end_s, first.peak_s) == ("a.mp4", 0.0, 2.0, 1.0)
    assert (second.file, second.start_s, second.end_s, second.peak_s) == ("b.mp4", 0.0, 2.0, 1.0)
    assert second.ends == (2, 3)


def test_clips_are_copied_from_the_key_frame_before(tmp_path):
    import av
    import numpy as np

    from vision_mem.visualization.contact_sheet import write_video

    source = tmp_path / "a.mp4"
    images = [np.full((64, 96, 3), 8 * n, np.uint8) for n in range(24)]
    write_video(source, images, 8.0)
    spans = (_span(str(source), 1.0, 2.0, 0.9), _span("rtsp://door", 0, 1, 0.5))
    (clip,) = cut_clips(tmp_path, 3, AnsweredQuestion("a", True, spans))
    assert clip.name == "clip-003-1.mp4"
    with av.open(str(clip)) as made:
        shades = [int(f.to_ndarray(format="rgb24").mean()) for f in made.decode(video=0)]
    assert shades[-1] == pytest.approx(8 * 15, abs=4), "up to the end"
    assert 8 <= len(shades) <= 16 and shades == sorted(shades)
