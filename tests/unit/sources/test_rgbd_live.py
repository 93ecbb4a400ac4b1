"""Depth that is still coming in: iterators, folders and files that grow."""

from __future__ import annotations

import io
import threading
import time

import cv2
import numpy as np
import pytest

from vision_mem.errors import InputError, SourceError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.reconstruction import ReconstructionSession
from vision_mem.runs.loop import stream
from vision_mem.sources.rgbd import open_rgbd, rgbd_frames
from vision_mem.sources.rgbd_live import GrowingLines, is_whole

K = (50.0, 50.0, 31.5, 23.5)
COUNT = 6


def colour(k):
    return np.full((48, 64, 3), (30 * k, 90, 200), np.uint8)


def depth(k):
    return np.full((48, 64), 1500 + 10 * k, np.uint16)


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


def camera():
    for k in range(COUNT):
        yield colour(k), depth(k), np.eye(4)


def test_a_live_camera_in_one_line():
    session = ReconstructionSession()
    found = [r for _, r in stream(rgbd_frames(camera(), intrinsics=K), session)]
    assert len(found) == COUNT and not any(result.lost for result in found)
    assert len(session.static_map().points)


PINHOLE = Pinhole.from_centres(*K, 64, 48)


@pytest.mark.parametrize(
    ("item", "time_s", "posed"),
    [
        ((colour(1), depth(1)), 0.0, False),
        ((colour(1), depth(1) / 1000.0, np.eye(4)), 0.0, True),
        ({"image": colour(1), "depth": depth(1), "time_s": 7.5}, 7.5, False),
        ({"image": colour(1)[::2, ::2], "depth": depth(1), "camera": PINHOLE}, 0.0, False),
        (RgbdFrame(0, 3.0, colour(1), depth(1).astype(np.float32) / 1000, PINHOLE), 3.0, False),
    ],
)
def test_what_a_frame_may_be(item, time_s, posed):
    (frame,) = rgbd_frames([item], intrinsics=K)
    assert frame.time_s == time_s and (frame.pose is not None) == posed
    assert frame.depth[0, 0] == pytest.approx(1.51) and frame.size == (48, 64)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (None, "frame 0 is nothing"),
        ((colour(0), depth(0)), "give intrinsics"),
        ({"image": colour(0)}, "frame 0 has image; expected"),
        ({"image": colour(0), "depth": depth(0), "poses": 1}, "poses; expected"),
        ((colour(0), colour(0)), "expected \\(H, W\\)"),
    ],
)
def test_what_a_frame_may_not_be(item, said):
    with pytest.raises(InputError, match=said):
        list(rgbd_frames([item]))


def test_an_iterator_is_a_source_with_numbers_and_rising_times():
    frames = ({"image": colour(k), "depth": depth(k), "time_s": 5.0} for k in range(COUNT))
    source = open_rgbd(frames, intrinsics=K, start=1, stride=2, max_frames=2)
    found = [(frame.index, frame.time_s) for frame in source]
    assert [index for index, _ in found] == [1, 3] and found[1][1] > found[0][1]
    assert source.info.frame_count is None and not source.posed
    with pytest.raises(SourceError, match="gave no frame"):
        open_rgbd(iter(()), intrinsics=K)


def write(folder, name, content, pause=0.0):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    half = len(content) // 2
    with path.open("wb") as file:
        file.write(content[:half])
        file.flush()
        time.sleep(pause)
        file.write(content[half:])


def seven(folder, k, pause):
    stem = f"frame-{k:06d}"
    write(folder, f"{stem}.color.png", png(colour(k)))
    write(folder, f"{stem}.depth.png", png(depth(k)), pause)
    write(folder, f"{stem}.pose.txt", b"1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")


def beside(folder, k, pause):
    write(folder, f"color/{k:04d}.png", png(colour(k)))
    write(folder, f"depth/{k:04d}.png", png(depth(k)), pause)


def tum(folder, k, pause):
    write(folder, f"rgb/{k}.png", png(colour(k)))
    for name in ("rgb", "depth"):
        with (folder / f"{name}.txt").open("a") as file:
            file.write(f"{100 + 0.1 * k:.3f} {name}/{k}.png\n")
    write(folder, f"depth/{k}.png", png(depth(k)), pause)


@pytest.mark.parametrize("add", [seven, beside, tum])
def test_a_folder_that_grows_is_followed_to_its_end(tmp_path, add):
    (tmp_path / "intrinsics.txt").write_text("50 50 31.5 23.5")
    add(tmp_path, 0, 0)

    def fill():
        for k in range(1, COUNT):
            add(tmp_path, k, 0.03)

    writer = threading.Thread(target=fill)
    writer.start()
    source = open_rgbd(tmp_path, follow_for=0.5, depth_scale=0.001)
    found = list(source)
    writer.join()
    assert [frame.index for frame in found] == list(range(COUNT))
    # None was read before it was whole.
    assert [round(float(frame.depth.min()) * 1000) for frame in found] == [
        1500 + 10 * k for k in range(COUNT)
    ]
    assert source.info.live and source.posed == (add is seven)


def test_what_never_gets_whole_is_left_out_and_does_not_stop_the_rest(tmp_path, caplog):
    (tmp_path / "intrinsics.txt").write_text("50 50 31.5 23.5")
    for k in range(4):
        beside(tmp_path, k, 0)
    (tmp_path / "depth/0001.png").write_bytes(png(depth(1))[:80])
    found = list(open_rgbd(tmp_path, follow_for=0.4))
    assert [frame.index for frame in found] == [0, 2, 3]
    assert "frame 1 skipped" in caplog.text


def test_a_folder_in_which_nothing_comes_says_so(tmp_path):
    (tmp_path / "color").mkdir()
    (tmp_path / "depth").mkdir()
    with pytest.raises(SourceError, match="empty; expected depth maps"):
        open_rgbd(tmp_path, follow_for=0.1)


def test_lines_are_read_when_they_are_whole(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntw")
    with path.open("rb") as file, path.open("ab") as more:
        lines = GrowingLines(file, 0.2)
        assert lines.readline(100) == b"one\n"
        threading.Timer(0.05, lambda: (more.write(b"o\nthr"), more.flush())).start()
        assert lines.readline(100) == b"two\n"
        assert lines.readline(100) == b"thr" and lines.readline(100) == b""


def test_whether_a_file_is_whole(tmp_path):
    stream = io.BytesIO()
    np.savez(stream, depth=depth(0))
    numbers = io.BytesIO()
    np.save(numbers, depth(0))
    jpeg = cv2.imencode(".jpg", colour(0))[1].tobytes()
    for name, content in {
        "a.png": png(depth(0)), "a.jpg": jpeg, "a.npz": stream.getvalue(),
        "a.npy": numbers.getvalue(),
    }.items():  # fmt: skip
        path = tmp_path / name
        path.write_bytes(content[:-70])
        assert not is_whole(path), name
        path.write_bytes(content)
        assert is_whole(path), name
    assert not is_whole(tmp_path / "none.png")
