"""The annotated video follows its source: times, shape on screen, colours; it always ends well."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from vision_mem.errors import SinkError
from vision_mem.results import Shown
from vision_mem.sinks.video import AnnotatedVideo, sound_of
from vision_mem.sources.open import open_source
from vision_mem.types import Frame, SourceInfo, TrackingResult


def nothing(frame: Frame) -> Shown:
    return TrackingResult(frame.index, frame.time_s, frame.size, (), ())


def copied(clip: Path, out: Path, **part: int) -> tuple[list[float], list[float], Path]:
    """Times of the frames read and of those in the video made of them."""
    sink = AnnotatedVideo(out / "out.mp4")
    read = []
    with open_source(clip, **part) as source:
        sink.open(source.info)
        for frame in source:
            read.append(frame.time_s)
            sink.write(frame, nothing(frame))
    sink.close()
    with av.open(str(sink.path)) as container:
        written = [frame.time for frame in container.decode(video=0)]
    return read, written, sink.path


@pytest.mark.parametrize(
    ("name", "length_s"),
    [("base.mp4", 2.36), ("vfr.mp4", 6.8), ("chrome.webm", 1.945), ("timelapse.mp4", 32400.0)],
)
def test_each_frame_is_shown_at_its_own_time(root, tmp_path, name, length_s):
    read, written, _ = copied(root / "tests" / "fixtures" / "video" / name, tmp_path)
    assert len(read) == len(written)
    np.testing.assert_allclose(written, np.array(read) - read[0], atol=6e-4)
    assert written[-1] == pytest.approx(length_s, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "part", "length_s"),
    [
        ("vfr.mp4", {"end": 15}, 0.5),  # 30 a second there, 8.7 on average
        ("vfr.mp4", {"end": 35}, 2.0),  # and 5 a second later
        ("base.mp4", {"stride": 5}, 2.4),
        ("base.mp4", {"stride": 7, "end": 40}, 1.68),
        ("base.mp4", {"max_frames": 1}, 0.04),
        ("chrome.webm", {"end": 20}, 0.662),
        ("timelapse.mp4", {"end": 3}, 10_800.0),
    ],
)
def test_the_last_frame_is_shown_as_long_as_it_lasts(root, tmp_path, name, part, length_s):
    _, _, path = copied(root / "tests" / "fixtures" / "video" / name, tmp_path, **part)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(length_s, abs=2e-3)


def test_shape_on_screen_and_colours_are_those_of_the_source(root, tmp_path):
    clips = root / "tests" / "fixtures" / "video"
    _, _, narrow = copied(clips / "sar.mp4", tmp_path / "sar")
    _, _, large = copied(clips / "col709.mp4", tmp_path / "hd")
    with av.open(str(narrow)) as container:
        assert (
            container.streams.video[0].sample_aspect_ratio
            == av.open(str(clips / "sar.mp4")).streams.video[0].sample_aspect_ratio
        )
    with av.open(str(large)) as container, av.open(str(clips / "col709.mp4")) as source:
        shown, given = next(container.decode(video=0)), next(source.decode(video=0))
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc) == (1, 1)
    assert (shown.colorspace, shown.color_range) == (1, 1)
    # What a player makes of both, by their tags.
    pair = [frame.to_ndarray(format="rgb24").astype(int) for frame in (shown, given)]
    assert np.abs(pair[0] - pair[1]).mean() < 2.5


def test_times_that_go_back_or_jump_far_play_on(tmp_path):
    sink = AnnotatedVideo(tmp_path / "out.mp4")
    sink.open(SourceInfo("x", 64, 48, 25.0))
    times = [0.0, 0.04, 0.08, 0.0, 0.04, 0.08, 3e5, 3e5 + 0.04, 3e5 + 0.08]
    for index, time_s in enumerate(times):
        frame = Frame(index, time_s, np.full((48, 64, 3), 20 * index, np.uint8))
        sink.write(frame, nothing(frame))
    sink.close()
    with av.open(str(sink.path)) as container:
        written = [frame.time for frame in container.decode(video=0)]
    steps = np.diff(written)
    assert (steps > 0).all()
    np.testing.assert_allclose(np.delete(steps, 5), 0.04, atol=1e-3)


def test_the_first_error_is_the_one_that_is_told(tmp_path, monkeypatch, caplog):
    sink = AnnotatedVideo(tmp_path / "out.mp4")
    sink.open(SourceInfo("x", 64, 48, 25.0))

    def refused(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(av.container.OutputContainer, "add_stream", refused, raising=False)
    frame = Frame(0, 0.0, np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(SinkError, match="no space left"):
        sink.write(frame, nothing(frame))
    with caplog.at_level(logging.ERROR):
        sink.close()  # nothing to finish, and no second error


_WRITER = """
import sys
from vision_mem.sinks.video import AnnotatedVideo, sound_of
from vision_mem.sources.open import open_source
from vision_mem.types import TrackingResult
clip, out, first, flushed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sink = AnnotatedVideo(out, append=first > 0, frames=first or None)
with open_source(clip, start=first) as source:
    sink.open(source.info)
    for frame in source:
        sink.write(frame, TrackingResult(frame.index, frame.time_s, frame.size, (), ()))
        if frame.index == flushed:
            sink.flush()
            print("flushed", flush=True)
        if frame.index == flushed + 3:
            print("beyond", flush=True)
            sys.stdin.read()
sink.close()
"""


@pytest.mark.parametrize("line", ["flushed", "beyond"])
@pytest.mark.parametrize("name", ["base.mp4", "vfr.mp4"])
def test_a_video_killed_twice_has_each_frame_once_at_its_time(root, tmp_path, name, line):
    clip, out = root / "tests" / "fixtures" / "video" / name, tmp_path / "out.mp4"
    for first, flushed in ((0, 14), (15, 30)):
        words = [sys.executable, "-c", _WRITER, str(clip), str(out), str(first), str(flushed)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            while line not in child.stdout.readline().decode():
                assert child.poll() is None
            child.kill()
    sink = AnnotatedVideo(out, append=True, frames=31)
    with open_source(clip, start=31) as source:
        sink.open(source.info)
        for frame in source:
            sink.write(frame, nothing(frame))
    sink.close()
    _, straight, _ = copied(clip, tmp_path / "straight")
    with av.open(str(out)) as container:
        assert [frame.time for frame in container.decode(video=0)] == straight
    assert [path.name for path in tmp_path.glob("out*")] == ["out.mp4"]


def test_sound_goes_along_in_time_and_its_loss_is_said_once(root, tmp_path, caplog):
    clip = str(root / "tests" / "fixtures" / "video" / "audio.mp4")
    assert sound_of(clip, False, False) is None
    assert caplog.messages == [f"the sound of {clip} is left out; --audio keeps it"]
    sink = AnnotatedVideo(tmp_path / "out.mp4", sound=sound_of(clip, True, False))
    with open_source(clip, start=10, end=30) as source:
        sink.open(source.info)
        for frame in source:
            sink.write(frame, nothing(frame))
    sink.close()
    with av.open(clip) as given, av.open(str(sink.path)) as kept:
        first, heard = 10 / 25, given.streams.audio[0]
        wanted = [bytes(p) for p in given.demux(heard) if p.pts and p.pts * p.time_base > first]
        found = [(p.pts * p.time_base, bytes(p)) for p in kept.demux(audio=0) if p.pts is not None]
    assert found[1][1] in wanted[:2], "copied, from where the video begins"
    assert float(found[-1][0]) == pytest.approx(20 / 25, abs=0.05)


def test_a_part_that_was_encoded_another_way_becomes_one_with_the_rest(root, tmp_path, monkeypatch):
    clip, out = root / "tests" / "fixtures" / "video" / "base.mp4", tmp_path / "out.mp4"
    for start, end in ((0, 20), (20, None)):
        sink = AnnotatedVideo(out, append=start > 0, frames=start or None)
        with open_source(clip, start=start, end=end) as source:
            sink.open(source.info)
            for frame in source:
                sink.write(frame, nothing(frame))
        sink.close()
        monkeypatch.setattr("vision_mem.sinks.video._BT601", 5)  # as another version might
    _, straight, _ = copied(clip, tmp_path / "straight")
    with av.open(str(out)) as container:
        assert [frame.time for frame in container.decode(video=0)] == straight
