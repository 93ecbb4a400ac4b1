"""Live sources: a real MJPEG server on this machine, real captures that break."""

from __future__ import annotations

import gc
import io
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import pytest
from media_samples import encode, index_of, picture
from PIL import Image
from test_prefetch import readers, wait_until

from vision_mem.errors import InputError, SourceError
from vision_mem.sources.live import Camera, LiveReader, Reconnect
from vision_mem.sources.open import StreamSource, open_source
from vision_mem.sources.selection import Selection, file_name, without_password

QUICK = Reconnect(limit=3, first_delay_s=0.02, longest_delay_s=0.1)


@pytest.fixture(autouse=True)
def no_thread_survives():
    yield
    gc.collect()
    assert wait_until(lambda: not readers())


def jpeg(index: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(index)).save(out, format="JPEG", quality=95)
    return out.getvalue()


class MjpegServer:
    """Sends numbered pictures over http; breaks off, stalls or closes as told."""

    def __init__(self, per_connection: int = 10**9, connections: int = 10**9, fps: float = 100):
        self.number = 0
        self.served = 0
        self.stall_after: int | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                if outer.served >= connections:
                    self.send_error(503)
                    return
                outer.served += 1
                self.send_response(200)
                kind = "multipart/x-mixed-replace; boundary=frame"
                self.send_header("Content-Type", kind)
                self.end_headers()
                try:
                    for _ in range(per_connection):
                        if outer.stall_after is not None and outer.number >= outer.stall_after:
                            outer.stopped.wait(20)
                            return
                        data = jpeg(outer.number % 256)
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}"
                        self.wfile.write(f"{head}\r\n\r\n".encode() + data + b"\r\n")
                        outer.number += 1
                        if outer.stopped.wait(1 / fps):
                            return
                except OSError:
                    pass  # the client left

        self.stopped = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/live.mjpg"

    def __enter__(self) -> MjpegServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopped.set()
        self.http.shutdown()
        self.http.server_close()


def test_a_network_stream_gives_frames_with_wall_clock_times():
    with (
        MjpegServer() as server,
        open_source(server.url, drop="none", max_frames=20, reconnect=QUICK) as source,
    ):
        assert source.info.live and source.info.frame_count is None
        assert (source.info.width, source.info.height) == (128, 96)
        before = time.time() - 5
        frames = list(source)
    assert [f.index for f in frames] == list(range(20))
    shown = [index_of(f.image) for f in frames]
    assert shown == list(range(shown[0], shown[0] + 20))  # none lost in between
    times = [f.time_s for f in frames]
    assert before < times[0] and times == sorted(times) and times[-1] < time.time() + 1
    assert source.dropped == 0


def test_a_slow_consumer_gets_the_newest_frame_and_a_count_of_the_rest():
    with MjpegServer(fps=60) as server, open_source(server.url, reconnect=QUICK) as source:
        indices = []
        for frame in source:
            indices.append(frame.index)
            if len(indices) == 6:
                break
            time.sleep(0.15)
        dropped = source.dropped
    gaps = np.diff(indices)
    assert (gaps > 2).all()
    # Every frame was handed out, dropped, or still waiting when we stopped.
    assert indices[-1] + 1 - len(indices) <= dropped <= indices[-1] + 4


def test_a_broken_connection_is_opened_again(caplog):
    with (
        MjpegServer(per_connection=8) as server,
        caplog.at_level(logging.WARNING),
        open_source(server.url, drop="none", max_frames=20, reconnect=QUICK) as source,
    ):
        frames = list(source)
    assert [f.index for f in frames] == list(range(20))
    assert server.served >= 3
    assert any("try 1 of 3" in r.getMessage() for r in caplog.records)
    assert any("connected again" in r.getMessage() for r in caplog.records)


def test_after_the_last_try_the_frames_so_far_are_kept_and_the_error_is_clear():
    with MjpegServer(per_connection=9, connections=1) as server:
        source = open_source(server.url, drop="none", reconnect=QUICK)
        frames = []
        with pytest.raises(SourceError, match="3 tries to reconnect") as caught:
            for frame in source:
                frames.append(frame)
    assert 7 <= len(frames) <= 9 and "\n" not in str(caught.value)


def test_a_stream_that_falls_silent_times_out():
    with MjpegServer() as server:
        server.stall_after = 30
        options = {"timeout_s": 0.5, "drop": "none", "reconnect": Reconnect(limit=0)}
        source = open_source(server.url, **options)
        begun = time.monotonic()
        with pytest.raises(SourceError, match="broke after"):
            list(source)
        assert time.monotonic() - begun < 10


def test_closing_interrupts_the_wait_between_tries():
    slow = Reconnect(limit=5, first_delay_s=60, longest_delay_s=60)
    with MjpegServer(per_connection=9, connections=1) as server:
        source = open_source(server.url, drop="none", reconnect=slow)
        next(source)
        time.sleep(0.5)
        begun = time.monotonic()
        source.close()
        assert time.monotonic() - begun < 1.5


def test_a_forgotten_stream_is_freed():
    with MjpegServer() as server:
        source = open_source(server.url, drop="none", reconnect=QUICK)
        next(source)
        del source
        gc.collect()
        assert wait_until(lambda: not readers())


def publish(url: str, stop: threading.Event) -> None:
    """Send numbered pictures as a camera would, until told to stop."""
    with av.open(url, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=50)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10"}
        for index in range(10**6):
            shown = av.VideoFrame.from_ndarray(picture(index % 256), format="rgb24")
            shown.pts = index
            container.mux(stream.encode(shown))
            if stop.wait(0.02):
                return


def test_a_transport_stream_over_udp():
    url = f"udp://127.0.0.1:{free_port()}"
    stop = threading.Event()
    sender = threading.Thread(target=publish, args=(url, stop), daemon=True)
    sender.start()
    try:
        with open_source(url, drop="none", max_frames=30, timeout_s=8, reconnect=QUICK) as source:
            assert source.info.live and source.info.fps == pytest.approx(50, abs=1)
            shown = [index_of(f.image) for f in source]
    finally:
        stop.set()
        sender.join(5)
    assert shown == list(range(shown[0], shown[0] + 30))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp"])
def test_nobody_at_the_address(scheme):
    url = f"{scheme}://user:secret@127.0.0.1:{free_port()}/cam"
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        open_source(url, timeout_s=1.0)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value) and "user" not in str(caught.value)


def test_a_server_that_accepts_and_says_nothing():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam"
        begun = time.monotonic()
        with pytest.raises(SourceError, match="cannot be reached"):
            open_source(url, timeout_s=0.5)
        assert time.monotonic() - begun < 8


def test_a_page_that_is_no_video():
    class Page(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>not a video</html>" * 50)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(SourceError):
            open_source(f"http://127.0.0.1:{server.server_port}/x", timeout_s=2)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("spec", [97, "97"])
def test_an_absent_camera_is_one_clear_line(spec):
    with pytest.raises(SourceError, match="camera 97 cannot be opened") as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)


def test_a_camera_unplugged_mid_run(tmp_path, caplog):
    """A capture of a short file stands for the camera: OpenCV reads both the same way."""
    cv2 = pytest.importorskip("cv2")
    path = encode(tmp_path / "camera.mp4", 10)
    plugged = [True, True]

    class Plugged(Camera):
        def __init__(self) -> None:
            super().__init__(str(path) if plugged.pop() else "unplugged")

    del cv2
    plugged[:] = [False] * 9 + [True, True]
    reader = LiveReader("camera-0", Plugged, Selection(), QUICK)
    frames = []
    source = StreamSource(reader, prefetch=4)
    with caplog.at_level(logging.WARNING), pytest.raises(SourceError, match="results so far"):
        for frame in source:
            frames.append(frame)
    assert [f.index for f in frames] == list(range(20))
    assert [index_of(f.image) for f in frames] == [*range(10), *range(10)]
    assert sum("try" in r.getMessage() for r in caplog.records) >= 4


def test_delays_double_up_to_the_longest():
    rule = Reconnect(limit=9, first_delay_s=0.5, longest_delay_s=3.0)
    assert [rule.delay_s(n) for n in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert rule.delay_s(10**6) == 3.0
    with pytest.raises(InputError, match="negative"):
        Reconnect(limit=-1)


def test_names_of_streams_are_safe_and_hold_no_password():
    url = "rtsp://user:secret@cam.local:554/live/main?token=abc"
    assert without_password(url) == "rtsp://cam.local:554/live/main"
    assert file_name(url) == "cam.local_554_live_main"
    assert file_name("../../etc/passwd") == "etc_passwd"
    assert file_name("...") == "stream"
    assert file_name("ängström 片") == "ängström_片"
    long = [file_name("片" * 90 + end) for end in ("a", "b")]
    assert long[0] != long[1] and all(len(name.encode()) <= 180 for name in long)
