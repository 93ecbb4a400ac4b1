"""The same file through each decoder, and files that only one of them takes."""

from __future__ import annotations

import logging
import tracemalloc

import cv2
import numpy as np
import pytest
from media_samples import encode, index_of, picture

from vision_mem.errors import InputError, SourceError
from vision_mem.sources.open import open_source

OTHERS = ("decord", "opencv")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("clips") / "clip.mp4", 60)


@pytest.fixture
def unknown_code(tmp_path):
    """An AVI with MJPEG whose codec has a made-up name: FFmpeg refuses it, OpenCV does not."""
    path = tmp_path / "camera.avi"
    code = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, code, 25, (128, 96))
    for index in range(20):
        writer.write(picture(index)[..., ::-1].copy())
    writer.release()
    data = path.read_bytes()
    place = data.index(b"MJPG", data.index(b"strf"))
    path.write_bytes(data[:place] + b"QQQQ" + data[place + 4 :])
    return path


@pytest.fixture(autouse=True)
def needed(request):
    if "decord" in request.node.name:
        pytest.importorskip("decord")


@pytest.mark.parametrize("decoder", OTHERS)
@pytest.mark.parametrize(
    "options", [{}, {"start": 7, "stride": 3, "end": 50}, {"start": 58}, {"max_frames": 4}]
)
def test_all_decoders_give_the_same_frames(clip, decoder, options):
    with open_source(clip, decoder="pyav", **options) as reference:
        expected = list(reference)
    with open_source(clip, decoder=decoder, **options) as source:
        assert source.info == reference.info
        frames = list(source)
    assert [f.index for f in frames] == [f.index for f in expected]
    for one, other in zip(frames, expected, strict=True):
        assert index_of(one.image) == one.index
        assert one.time_s == pytest.approx(other.time_s, abs=1e-3)
        difference = np.abs(one.image.astype(int) - other.image.astype(int))
        assert difference.mean() < 1 and difference.max() <= 8
        assert one.image.flags.c_contiguous


@pytest.mark.parametrize("decoder", OTHERS)
def test_a_far_start_gives_exactly_that_frame(tmp_path, decoder):
    path = encode(tmp_path / "long.mp4", 180, gop=10)
    frame = next(open_source(path, decoder=decoder, start=170))
    assert (frame.index, index_of(frame.image)) == (170, 170)


@pytest.mark.parametrize("decoder", OTHERS)
def test_model_images_are_those_of_decord(clip, decoder):
    decord = pytest.importorskip("decord")
    official = decord.VideoReader(str(clip), width=64, height=64)
    with open_source(clip, decoder=decoder, resize=("decord", 64), start=5, stride=9) as source:
        for frame in source:
            assert np.array_equal(frame.model_image, official[frame.index].asnumpy())


@pytest.mark.parametrize("decoder", OTHERS)
def test_memory_stays_bounded(tmp_path, decoder):
    path = encode(tmp_path / "long.mp4", 200, height=240, width=320)
    tracemalloc.start()
    try:
        with open_source(path, prefetch=4, decoder=decoder) as source:
            assert len([frame.index for frame in source]) == 200
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 14 * 240 * 320 * 3


def test_what_pyav_refuses_goes_to_opencv_with_one_line(unknown_code, caplog):
    with caplog.at_level(logging.INFO), open_source(unknown_code) as source:
        assert (source.info.width, source.info.height, source.info.frame_count) == (128, 96, 20)
        frames = list(source)
    assert [index_of(f.image) for f in frames] == list(range(20))
    assert [f.time_s for f in frames] == pytest.approx(np.arange(20) / 25)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "OpenCV" in said[0] and "camera.avi" in said[0]
    with pytest.raises(SourceError):
        open_source(unknown_code, decoder="pyav")


def test_images_for_the_model_where_decord_refuses_too(unknown_code, caplog):
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(unknown_code, resize=("decord", 32)))
    assert all(f.model_image.shape == (32, 32, 3) for f in frames)
    assert len(caplog.records) == 2 and "resized by OpenCV" in caplog.text


def test_a_file_nothing_can_read_names_what_was_tried(tmp_path):
    path = tmp_path / "noise.mp4"
    path.write_bytes(np.random.default_rng(1).bytes(5000))
    with pytest.raises(SourceError, match=r"not a video.*tried: PyAV, OpenCV") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
    for decoder in OTHERS:
        with pytest.raises(SourceError, match=f"(?i){decoder}"):
            open_source(path, decoder=decoder)


@pytest.mark.parametrize("decoder", OTHERS)
@pytest.mark.parametrize("strict", [False, True])
def test_the_missing_end_of_a_file_is_said(tmp_path, caplog, decoder, strict):
    data = encode(tmp_path / "whole.mp4", 120).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) * 2 // 3])
    try:
        with caplog.at_level(logging.WARNING):
            frames = list(open_source(path, decoder=decoder, strict=strict))
    except SourceError as error:
        assert strict or decoder == "decord", error
        assert path.name in str(error)
    else:
        assert not strict and 0 < len(frames) < 120
        assert "cut off or damaged" in caplog.text


def test_decord_may_be_missing(clip, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(SourceError, match="not installed"):
        open_source(clip, decoder="decord")


def test_start_behind_the_end_and_unknown_names(clip):
    for decoder in OTHERS:
        with pytest.raises(InputError, match="60 frames"):
            open_source(clip, decoder=decoder, start=60)
    with pytest.raises(InputError, match="auto, pyav, decord, opencv"):
        open_source(clip, decoder="ffmpeg")
