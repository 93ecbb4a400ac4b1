"""Sound inputs: video files, folders of images, arrays."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import tracemalloc

import av
import numpy as np
import pytest
from media_samples import encode, index_of, picture
from PIL import Image
from test_prefetch import readers, wait_until

from vision_mem.errors import InputError, SourceError
from vision_mem.sources.open import open_source


@pytest.fixture(autouse=True)
def no_thread_survives():
    yield
    gc.collect()
    assert wait_until(lambda: not readers())


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("clips") / "my clip.mp4", 60)


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 10, 11):
        Image.fromarray(picture(number)).save(tmp_path / f"img{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._img1.png").write_bytes(b"finder's litter")
    return tmp_path


# --- video files ---


def test_a_video_gives_every_frame_with_its_index_and_time(clip):
    with open_source(clip) as source:
        assert (source.info.width, source.info.height, source.info.fps) == (128, 96, 25)
        assert source.info.frame_count == 60 and not source.info.live
        assert source.info.name == "my_clip"
        frames = list(source)
    assert [f.index for f in frames] == list(range(60))
    assert [index_of(f.image) for f in frames] == list(range(60))
    assert np.allclose([f.time_s for f in frames], np.arange(60) / 25)
    assert frames[0].image.flags.c_contiguous and frames[0].model_image is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start": 7}, range(7, 60)),
        ({"end": 5}, range(5)),
        ({"start": 3, "end": 20, "stride": 4}, range(3, 20, 4)),
        ({"max_frames": 3}, range(3)),
        ({"start": 50, "max_frames": 100}, range(50, 60)),
        ({"end": 1000}, range(60)),
        ({"start": 59}, range(59, 60)),
    ],
)
def test_start_end_stride_and_maximum_count_source_frames(clip, options, expected):
    with open_source(clip, **options) as source:
        count = source.info.frame_count
        frames = list(source)
    assert [f.index for f in frames] == list(expected)
    assert [index_of(f.image) for f in frames] == list(expected)
    assert count == len(expected)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov"])
def test_a_far_start_seeks_and_still_gives_exactly_that_frame(tmp_path, suffix):
    path = encode(tmp_path / f"long{suffix}", 127, gop=10)
    from vision_mem.sources import video

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "_SEEK_MARGIN", 8)
        for start in (33, 60, 100, 126):
            frame = next(open_source(path, start=start))
            assert (frame.index, index_of(frame.image)) == (start, start)


@pytest.mark.skipif(
    not hasattr(av.video.stream.VideoStream, "index_entries"), reason="needs PyAV 17"
)
def test_a_seek_really_happens(tmp_path, monkeypatch):
    from vision_mem.sources import video

    path = encode(tmp_path / "long.mp4", 127, gop=10)
    monkeypatch.setattr(video, "_SEEK_MARGIN", 8)
    reader = video.VideoFile(str(path), video.Selection(start=100))
    first_decoded = next(reader._decoded)[0]
    reader.close()
    assert 70 <= first_decoded <= 92


@pytest.mark.parametrize(
    ("rotation", "red"), [(0, "top"), (90, "left"), (180, "bottom"), (270, "right")]
)
def test_phone_videos_come_upright(tmp_path, rotation, red):
    path = tmp_path / "phone.mp4"
    image = np.zeros((96, 128, 3), np.uint8)
    image[:32, :, 0] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV reads rotations but cannot write them; needs PyAV 18")
        stream.set_display_rotation(rotation)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    with open_source(path, resize=("decord", 64)) as source:
        frame = next(source)
        assert frame.size == (source.info.height, source.info.width)
    assert frame.size == ((96, 128) if rotation in (0, 180) else (128, 96))
    for shown in (frame.image, frame.model_image):
        strips = {
            "top": shown[:8], "bottom": shown[-8:], "left": shown[:, :8], "right": shown[:, -8:]
        }  # fmt: skip
        assert max(strips, key=lambda side: strips[side][..., 0].mean()) == red


def test_model_images_are_those_of_decord(clip):
    decord = pytest.importorskip("decord")
    official = decord.VideoReader(str(clip), width=64, height=64)
    with open_source(clip, resize=("decord", 64), start=9, stride=5, end=40) as source:
        for frame in source:
            assert frame.model_image.shape == (64, 64, 3)
            assert np.array_equal(frame.model_image, official[frame.index].asnumpy())
            assert index_of(frame.image) == frame.index


def test_stopping_early_and_coming_back_goes_on(clip):
    with open_source(clip) as source:
        for frame in source:
            if frame.index == 4:
                break
        assert next(iter(source)).index == 5
    source.close()
    with pytest.raises(SourceError, match="closed"):
        iter(source)


def test_a_forgotten_source_is_freed(clip):
    source = open_source(clip)
    next(source)
    del source


def test_a_program_may_end_without_closing_its_source(clip):
    code = f"from vision_mem import open_source as o; s = o({str(clip)!r}); print(next(s).index)"
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n", b"")


def test_memory_stays_bounded(tmp_path):
    path = encode(tmp_path / "long.mp4", 200, height=240, width=320)
    frame_bytes = 240 * 320 * 3
    tracemalloc.start()
    try:
        with open_source(path, prefetch=4) as source:
            for _ in source:
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * frame_bytes  # 4 waiting, some in hand; 200 would be all of it


def test_a_video_at_an_http_address_is_played_to_its_end(clip, tmp_path):
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    serve = functools.partial(Quiet, directory=str(clip.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/my%20clip.mp4"
        with open_source(url) as source:
            assert not source.info.live
            assert len(list(source)) == 60
    finally:
        server.shutdown()
        server.server_close()


# --- folders of images ---


def test_a_folder_is_read_in_natural_order(folder):
    with open_source(folder, fps=10) as source:
        assert source.info.frame_count == 4 and source.info.fps == 10
        assert source.info.name == folder.name
        frames = list(source)
    assert [index_of(f.image) for f in frames] == [1, 2, 10, 11]
    assert [f.time_s for f in frames] == [0.0, 0.1, 0.2, 0.3]


def test_a_benchmarks_image_folder_has_the_name_of_its_sequence(tmp_path):
    (tmp_path / "Crossing" / "img").mkdir(parents=True)
    Image.fromarray(picture(1)).save(tmp_path / "Crossing" / "img" / "0001.jpg")
    assert open_source(tmp_path / "Crossing" / "img").info.name == "Crossing"


def test_images_of_any_kind_and_size_become_rgb(tmp_path):
    grey = np.full((20, 30), 100, np.uint8)
    Image.fromarray(grey).save(tmp_path / "1.png")
    Image.fromarray(np.full((20, 30), 100 * 257, np.uint16)).save(tmp_path / "2.png")
    Image.fromarray(np.dstack([grey] * 3 + [grey // 2])).save(tmp_path / "3.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "4.gif.png", format="PNG")
    Image.fromarray(np.full((40, 50), True)).save(tmp_path / "5.tif")
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "6.jpg")
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "7.webp", lossless=True)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "8.BMP")
    images = [f.image for f in open_source(tmp_path)]
    assert [int(i[10, 10, 1]) for i in images] == [100, 100, 100, 100, 255, 100, 100, 100]
    assert {image.shape for image in images} == {(20, 30, 3)}  # fitted to the first


def test_photos_come_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(1)).save(tmp_path / "photo.jpg", exif=exif)
    assert next(open_source(tmp_path / "photo.jpg")).size == (128, 96)


def test_a_broken_image_is_skipped_with_its_name_and_leaves_a_gap(folder, caplog):
    data = (folder / "img2.png").read_bytes()
    (folder / "img2.png").write_bytes(data[: len(data) // 2])
    (folder / "img10.png").write_text("not an image")
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(folder))
    assert [f.index for f in frames] == [0, 3]
    skipped = [r.getMessage() for r in caplog.records]
    assert len(skipped) == 2 and "img2.png" in skipped[0] and "img10.png" in skipped[1]


def test_strict_stops_at_a_broken_image(folder):
    (folder / "img10.png").write_text("not an image")
    source = open_source(folder, strict=True)
    assert [next(source).index, next(source).index] == [0, 1]
    with pytest.raises(SourceError, match=r"img10\.png"):
        next(source)


@pytest.mark.parametrize("content", ["nothing", "only text", "only broken"])
def test_a_folder_without_images_is_refused(tmp_path, content):
    if content != "nothing":
        (tmp_path / ("a.txt" if content == "only text" else "a.png")).write_text("x")
    with pytest.raises(SourceError, match="image"):
        open_source(tmp_path)


# --- arrays ---


def test_arrays_of_any_iterable():
    stack = np.stack([picture(i) for i in range(5)])
    for arrays in (stack, list(stack), (image for image in stack), stack[..., 0]):
        with open_source(arrays, fps=5, stride=2) as source:
            assert (source.info.width, source.info.height, source.info.fps) == (128, 96, 5)
            frames = list(source)
        assert [(f.index, f.time_s, index_of(f.image)) for f in frames] == [
            (0, 0.0, 0), (2, 0.4, 2), (4, 0.8, 4)
        ]  # fmt: skip


def test_a_generator_may_use_one_buffer_again():
    def images():
        buffer = np.zeros((8, 8, 3), np.uint8)
        for value in range(20):
            buffer[:] = value
            yield buffer

    assert [int(f.image[0, 0, 0]) for f in open_source(images())] == list(range(20))


def test_an_endless_generator_is_closed_with_the_source():
    closed = []

    def images():
        try:
            while True:
                yield picture(0)
        finally:
            closed.append(True)

    with open_source(images(), max_frames=3) as source:
        assert source.info.frame_count is None
        assert len(list(source)) == 3
    gc.collect()
    assert closed == [True]


def test_an_error_in_a_generator_reaches_the_consumer_in_order():
    def images():
        yield picture(0)
        yield picture(1)
        raise ZeroDivisionError("in the user's code")

    source = open_source(images())
    assert [next(source).index, next(source).index] == [0, 1]
    with pytest.raises(ZeroDivisionError, match="user's code"):
        next(source)


def test_a_bad_array_amid_good_ones_is_named():
    source = open_source([picture(0), np.zeros((3, 4, 5, 6))])
    next(source)
    with pytest.raises(InputError, match="shape"):
        next(source)


# --- wrong use ---


@pytest.mark.parametrize(
    ("spec", "options", "kind", "word"),
    [
        pytest.param("no/such.mp4", {}, SourceError, "no such", id="missing path"),
        pytest.param("", {}, SourceError, "an empty text", id="empty path"),
        pytest.param(None, {}, InputError, "expected", id="None"),
        pytest.param(True, {}, InputError, "expected", id="a bool"),
        pytest.param(1.5, {}, InputError, "float", id="a float"),
        pytest.param(-1, {}, InputError, "camera number", id="a negative camera"),
        pytest.param([], {}, SourceError, "no images", id="empty list"),
        pytest.param(np.zeros((8, 9, 3), np.uint8), {}, InputError, "list", id="a single image"),
        pytest.param([1, 2], {}, InputError, "shape", id="a list of numbers"),
        pytest.param("clip", {"start": -1}, InputError, "start", id="negative start"),
        pytest.param("clip", {"start": 60}, InputError, "60 frames", id="start after the end"),
        pytest.param("clip", {"start": 9, "end": 9}, InputError, "end", id="end before start"),
        pytest.param("clip", {"stride": 0}, InputError, "stride", id="stride 0"),
        pytest.param("clip", {"max_frames": 0}, InputError, "max_frames", id="no frames"),
        pytest.param("clip", {"prefetch": 0}, InputError, "prefetch", id="no prefetch"),
        pytest.param("clip", {"fps": 0}, InputError, "fps", id="fps 0"),
        pytest.param("clip", {"fps": float("nan")}, InputError, "fps", id="fps NaN"),
        pytest.param("clip", {"drop": "oldest"}, InputError, "latest", id="drop rule"),
        pytest.param("clip", {"resize": 512}, InputError, "decord", id="resize"),
        pytest.param("clip", {"timeout_s": 0}, InputError, "timeout", id="time-out"),
    ],
)
def test_wrong_use_is_one_clear_line(clip, spec, options, kind, word):
    with pytest.raises(kind, match=word) as caught:
        open_source(clip if isinstance(spec, str) and spec == "clip" else spec, **options)
    assert "\n" not in str(caught.value)
