"""Containers that say one thing and hold another, from files and over HTTP; see fixtures/video."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import threading
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vision_mem.errors import SourceError
from vision_mem.sources.live import Reconnect
from vision_mem.sources.open import open_source
from vision_mem.sources.video import AS_STORED, mirrored, upright

SHOWN = {"base.mp4": 60, "trim.mp4": 45, "hflip.mp4": 60, "vfr.mp4": 60, "sar.mp4": 60}
SHOWN |= {"timelapse.mp4": 10, "chrome.webm": 60, "nodur.mkv": 60}


@pytest.fixture
def clips(root: Path) -> Path:
    return root / "tests" / "fixtures" / "video"


def burnt_in(image: np.ndarray) -> int:
    """The number at the lower edge, five bits of 32 pixels each."""
    return sum(int(image[-8, 16 + 32 * bit].mean() > 128) << bit for bit in range(5))


@pytest.mark.parametrize("name", sorted(SHOWN))
@pytest.mark.parametrize("decoder", ["pyav", "decord", "opencv"])
def test_every_decoder_shows_the_same_picture_for_the_same_number(clips, name, decoder):
    if decoder == "decord":
        pytest.importorskip("decord")
        if name in ("chrome.webm", "nodur.mkv"):
            with pytest.raises(SourceError, match="decord; try another"):
                open_source(clips / name, decoder="decord")
            return
    with open_source(clips / name, decoder=decoder, strict=True) as source:
        frames = list(source)
    assert len(frames) == SHOWN[name]
    with av.open(str(clips / name)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if name == "hflip.mp4":
        stored = [image[:, ::-1] for image in stored]
    for number, frame in enumerate(frames):
        assert frame.index == number
        assert np.abs(frame.image.astype(int) - stored[number]).max() <= 2


def test_the_network_is_given_the_picture_that_is_shown(clips, caplog):
    import cv2

    with open_source(clips / "trim.mp4", resize=("decord", 160)) as source:
        for frame in source:
            small = cv2.resize(frame.image, (160, 160), interpolation=cv2.INTER_AREA)
            assert np.abs(small.astype(int) - frame.model_image).mean() < 8
    assert "trimmed" in caplog.text and "cut off" not in caplog.text


@pytest.mark.parametrize(
    ("matrix", "row", "column"),
    [
        ((1, 0, 0, 1), 0, 0), ((-1, 0, 0, 1), 0, -1), ((1, 0, 0, -1), -1, 0),
        ((-1, 0, 0, -1), -1, -1), ((0, 1, 1, 0), 0, 0), ((0, 1, -1, 0), 0, -1),
        ((0, -1, 1, 0), -1, 0), ((0, -1, -1, 0), -1, -1),
    ],
)  # fmt: skip
def test_all_eight_display_matrices(matrix, row, column):
    image = np.zeros((4, 6, 3), np.uint8)
    image[0, 0], image[0, 1] = 255, 99  # a corner, and what lies beside it in its row
    shown = upright(image, matrix)
    assert shown.shape[:2] == ((4, 6) if matrix[0] else (6, 4))
    assert shown[row, column, 0] == 255
    beside = (row, 1 if column == 0 else -2) if matrix[0] else (1 if row == 0 else -2, column)
    assert shown[beside][0] == 99
    # Another decoder turned it by the angle of the matrix alone.
    turns = {(1, 0): 0, (-1, 0): 2, (0, 1): 3, (0, -1): 1}[matrix[:2]]
    assert np.array_equal(mirrored(np.rot90(image, turns), matrix), shown)
    assert upright(image, AS_STORED) is image


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Chunked(Quiet):
    """As servers that make a file while they send it: no length is known."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        data = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "video/webm")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):  # the client left
            for first in range(0, len(data), 9999):
                piece = data[first : first + 9999]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")


class Unsaid(Quiet):
    """As old servers: the connection closes where the file ends, or where it broke."""

    def send_header(self, keyword, value):
        if keyword != "Content-Length":
            super().send_header(keyword, value)


@pytest.fixture(params=[Quiet, Chunked, Unsaid])
def site(request, clips, tmp_path):
    shutil.copytree(clips, tmp_path / "site")
    with av.open(str(tmp_path / "site" / "short.ts"), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        with av.open(str(clips / "base.mp4")) as base:
            for number, frame in zip(range(5), base.decode(video=0), strict=False):
                frame.pts = number
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    handler = functools.partial(request.param, directory=str(tmp_path / "site"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield request.param, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["base.mp4", "chrome.webm", "nodur.mkv", "trim.mp4", "vfr.mp4"])
def test_files_over_http_end_at_their_end(site, name, caplog):
    kind, address = site
    fetched = kind is not Quiet and name.endswith(".mp4")  # its index is at its end
    retry = Reconnect(limit=0)
    with (
        caplog.at_level(logging.WARNING),
        open_source(f"{address}/{name}", drop="none", reconnect=retry) as source,
    ):
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(SHOWN[name]))
    assert kind is not Quiet or not source.info.live
    assert "cut off" not in caplog.text and "again" not in caplog.text
    assert ("were fetched first" in caplog.text) or not fetched
    assert ("may be missing" in caplog.text) == (kind is Unsaid and not fetched)


def test_a_very_short_file_over_http_sends_its_pictures(site):
    kind, address = site
    if kind is not Quiet:
        pytest.skip("a transport stream without a length is live")
    with open_source(f"{address}/short.ts") as source:
        assert len(list(source)) == 5


def test_a_file_address_is_a_file(clips):
    with open_source((clips / "base.mp4").as_uri(), max_frames=3) as source:
        assert not source.info.live and len(list(source)) == 3


def test_a_size_that_changes_is_fitted_to_the_first(tmp_path, caplog):
    for number, size in enumerate([(60, 40), (30, 40), (60, 40)]):
        Image.new("RGB", size, (200, 10, 10)).save(tmp_path / f"{number}.png")
    with open_source(tmp_path) as source:
        frames = list(source)
        assert source.fitted == 1
    assert {frame.size for frame in frames} == {(40, 60)}
    assert tuple(frames[1].image[20, 30]) == (200, 10, 10)
    assert tuple(frames[1].image[20, 2]) == (0, 0, 0)
    assert caplog.text.count("fitted to it") == 1


def _recorded(path, codec, times):
    """A small video whose frames stand at so many ticks of a thousandth of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for at in times:
            image = np.random.default_rng(at).integers(0, 255, (48, 64, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_an_avi_that_left_frames_out_is_not_damaged(tmp_path, caplog):
    _recorded(tmp_path / "screen.avi", "mjpeg", range(0, 480, 40))
    with open_source(tmp_path / "screen.avi", strict=True) as source:
        assert len(list(source)) == 12
    assert not caplog.records
    whole = (tmp_path / "screen.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    with open_source(tmp_path / "cut.avi") as source:
        assert 0 < len(list(source)) < 12
    assert "cut off or damaged" in caplog.text


def test_a_cut_file_without_a_count_is_doubted(tmp_path, caplog):
    _recorded(tmp_path / "whole.mkv", "ffv1", range(0, 480, 40))
    whole = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    with open_source(tmp_path / "whole.mkv") as source:
        assert len(list(source)) == 12
    assert not caplog.records
    with open_source(tmp_path / "cut.mkv", max_frames=2) as source:
        assert len(list(source)) == 2
    assert not caplog.records, "the end was not asked for"
    with open_source(tmp_path / "cut.mkv") as source:
        assert 0 < len(list(source)) < 12
    assert "it says that it lasts 0.5 s but ends after 0.3 s; it may be cut off" in caplog.text
