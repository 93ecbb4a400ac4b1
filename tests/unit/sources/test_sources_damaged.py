"""Files as they come from full disks, broken transfers and wrong names."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from media_samples import encode, encode_audio, index_of

from vision_mem.errors import SourceError
from vision_mem.sources.open import open_source


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Bytes of an MP4 of 120 frames with its index in front."""
    return encode(tmp_path_factory.mktemp("clips") / "sound.mp4", 120).read_bytes()


@pytest.fixture
def truncated(tmp_path, sound):
    path = tmp_path / "truncated.mp4"
    path.write_bytes(sound[: len(sound) // 2])
    return path


@pytest.fixture
def damaged(tmp_path, sound):
    """Random bytes in the middle of the pictures."""
    data = bytearray(sound)
    middle = len(data) // 2
    junk = np.random.default_rng(1).integers(0, 255, 1500, dtype=np.uint8).tobytes()
    data[middle : middle + len(junk)] = junk
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("resize", [None, ("decord", 64)])
def test_a_truncated_video_plays_as_far_as_it_goes(truncated, caplog, resize):
    with caplog.at_level(logging.WARNING), open_source(truncated, resize=resize) as source:
        assert source.info.frame_count == 120  # what it announces
        frames = list(source)
    assert 20 < len(frames) < 80
    assert [index_of(f.image) for f in frames] == [f.index for f in frames]
    assert resize is None or all(f.model_image.shape == (64, 64, 3) for f in frames)
    last = caplog.records[-1].getMessage()
    assert "120 frames" in last and f"after {frames[-1].index + 1}" in last


def test_strict_refuses_the_end_of_a_truncated_video(truncated):
    source = open_source(truncated, strict=True)
    with pytest.raises(SourceError, match="damaged"):
        list(source)


@pytest.mark.parametrize("resize", [None, ("decord", 64)])
def test_damaged_frames_are_skipped_and_indices_stay_true(damaged, caplog, resize):
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(damaged, resize=resize))
    assert 60 < len(frames) < 120
    assert frames[-1].index == 119
    # Beyond the next key frame pictures are clean again: they must carry their own index.
    assert all(index_of(f.image) == f.index for f in frames if f.index > 90)
    assert any("skip" in record.getMessage() for record in caplog.records)
    assert resize is None or all(f.model_image is not None for f in frames)


def test_decord_giving_up_is_said_once(damaged, caplog):
    pytest.importorskip("decord")
    with caplog.at_level(logging.WARNING):
        list(open_source(damaged, resize=("decord", 64)))
    said = [r.getMessage() for r in caplog.records if "decord cannot" in r.getMessage()]
    assert len(said) == 1 and "damaged data" in said[0]


def test_strict_stops_at_a_damaged_frame(damaged):
    with pytest.raises(SourceError, match="damaged frame"):
        list(open_source(damaged, strict=True))


def test_a_transport_stream_cut_anywhere_plays(tmp_path):
    data = encode(tmp_path / "whole.ts", 80).read_bytes()
    for name, part in {"head": data[: len(data) // 2], "tail": data[len(data) // 3 :]}.items():
        path = tmp_path / f"{name}.ts"
        path.write_bytes(part)
        frames = list(open_source(path, resize=("decord", 32)))
        assert len(frames) > 10
        assert all(np.diff([f.index for f in frames]) == 1)


def _cut_off(tmp_path):
    path = encode(tmp_path / "recording.mp4", 60, faststart=False)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def _only_headers(tmp_path):
    """Index in front, announced pictures all missing."""
    data = encode(tmp_path / "headers.mp4", 60).read_bytes()
    path = tmp_path / "headers.mp4"
    path.write_bytes(data[: data.index(b"mdat") + 8])
    return path


def _write(tmp_path, content: bytes):
    path = tmp_path / "file.mp4"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "word"),
    [
        pytest.param(lambda t: _write(t, b""), "0 bytes", id="empty"),
        pytest.param(lambda t: _write(t, b"hello\n" * 99), "not a video", id="text"),
        pytest.param(lambda t: _write(t, bytes(5000)), "not a video", id="zeros"),
        pytest.param(lambda t: encode_audio(t / "a.mp4"), "only audio", id="audio only"),
        pytest.param(_cut_off, "cut off", id="no index"),
        pytest.param(_only_headers, "no frame", id="index but no pictures"),
    ],
)
@pytest.mark.parametrize("resize", [None, ("decord", 64)])
def test_what_cannot_be_played_is_one_clear_line(tmp_path, make, word, resize):
    path = make(tmp_path)
    with pytest.raises(SourceError, match=word) as caught:
        open_source(path, resize=resize)
    message = str(caught.value)
    assert path.name in message and "\n" not in message and len(message) < 300
