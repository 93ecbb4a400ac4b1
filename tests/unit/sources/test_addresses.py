"""Addresses: what cannot be one is refused in a line, and no key of one is told."""

from __future__ import annotations

import pytest

from vision_mem.errors import InputError, SourceError
from vision_mem.sources.open import open_source
from vision_mem.sources.pixels import check_size
from vision_mem.sources.selection import check_exists, file_name, without_password


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("rtmp://host/live/KEY", "rtmp://host/live/..."),
        ("rtmp://me:word@host/live/a/KEY", "rtmp://host/live/.../..."),
        ("rtsp://me:word@cam:554/Streaming/Channels/101", "rtsp://cam:554/Streaming/Channels/101"),
        ("rtsp://host/live/SECRETKEY", "rtsp://host/live/..."),
        ("rtsp://host/live/ch0", "rtsp://host/live/ch0"),
        ("http://host/a.mp4?token=KEY", "http://host/a.mp4"),
        ("srt://host:9000?streamid=KEY", "srt://host:9000"),
        ("https://host/hls/abcdef0123456789abcd/index.m3u8", "https://host/hls/.../index.m3u8"),
        ("https://host/bunny_720p_surround.mp4", "https://host/bunny_720p_surround.mp4"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("udp://@:1234", "udp://:1234"),
    ],
)
def test_keys_are_not_told(url, told):
    assert without_password(url) == told
    assert "KEY" not in file_name(url) and "word" not in file_name(url)


@pytest.mark.parametrize("url", ["http://[", "rtsp://", "http://host:99999/x", "rtsp://:554/x"])
def test_what_is_no_address_is_refused_in_a_line(url):
    with pytest.raises(InputError, match="no host, or no port from 0 to 65535; expected"):
        open_source(url)


@pytest.mark.parametrize("pattern", ["ff/*", "ff/*/*.png", "ff/%05d.png"])
def test_advice_is_no_pattern(pattern):
    with pytest.raises(SourceError, match="give the folder of the images, as 'ff'"):
        check_exists(pattern)


def test_pictures_of_declared_giant_size_are_refused(tmp_path):
    header = b"P5 60000 60000 255\n"
    (tmp_path / "bomb.pgm").write_bytes(header + b"\0" * 100)
    with pytest.raises(SourceError, match=r"cannot be read as an image \(it says it has more"):
        open_source(tmp_path / "bomb.pgm")
    with pytest.raises(SourceError, match="60000x60000 pixels; expected at most 178 million"):
        check_size("x.mp4", 60000, 60000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("youtube.com/watch?v=1", "begin it as https:// or rtsp://"),
        ("cam.local:554/stream", "begin it as https:// or rtsp://"),
        ("readme.txt", "expected a video"),
        ("clp.mp4", "did you mean 'clip.mp4'"),
        ("shot", "did you mean 'shots'"),
    ],
)
def test_what_is_not_there_is_told_with_what_may_be_meant(tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    for name in ("clip.mp4", "note.txt"):
        (tmp_path / name).touch()
    (tmp_path / "shots").mkdir()
    with pytest.raises(SourceError, match="no such file or folder") as caught:
        check_exists(text)
    assert says in str(caught.value)


def test_schemes_in_capitals_are_addresses_too():
    with pytest.raises(SourceError) as caught:
        open_source("HTTP://127.0.0.1:1/a.mp4", timeout_s=2)
    assert str(caught.value).startswith(
        "http://127.0.0.1:1/a.mp4 cannot be reached (Connection ref"
    )
