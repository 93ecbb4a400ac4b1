"""What each sink writes, read back with the tools its users have."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from media_samples import absent, decode, picture, result, seen

from vision_mem.errors import InputError, MissingExtra
from vision_mem.session import Sink
from vision_mem.sinks.boxes import SingleObjectBoxes
from vision_mem.sinks.masks import Diary, MaskPng, MaskRle
from vision_mem.sinks.registry import ANNOTATION_SINKS, SINKS, make_sinks
from vision_mem.sinks.video import AnnotatedVideo
from vision_mem.sinks.window import LiveWindow
from vision_mem.sources.live import StopRun
from vision_mem.types import Frame, SourceInfo
from vision_mem.visualization.draw import Painter

INFO = SourceInfo("street", 128, 96, 25.0, 10)
SIZE = (96, 128)


def frame(index: int, height: int = 96, width: int = 128, time_s: float | None = None) -> Frame:
    time_s = index / 25 if time_s is None else time_s
    return Frame(index, time_s, picture(index, height, width))


def drive(sink, results, info: SourceInfo = INFO):
    sink.open(info)
    for each in results:
        sink.write(frame(each.frame_index, *each.size), each)
    sink.close()
    sink.close()


def lines(path):
    return path.read_text().splitlines()


MOVING = [
    result(0, seen(1, (10, 20, 30, 50), SIZE)),
    result(1, absent(1, SIZE)),
    result(2, seen(1, (12, 20, 32, 51), SIZE)),
]


# --- boxes ---


@pytest.mark.parametrize("layout", ["lasot", "otb"])
@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("true", ["10,20,20,30", "0,0,0,0", "12,20,20,31"]),
        ("samurai", ["10,20,19,29", "0,0,0,0", "12,20,19,30"]),
    ],
)
def test_one_line_a_frame(tmp_path, layout, convention, expected):
    drive(SingleObjectBoxes(tmp_path, layout, convention=convention), MOVING)
    assert lines(tmp_path / "street.txt") == expected
    index = [json.loads(line) for line in lines(tmp_path / "street.frames.jsonl")]
    assert [e["frame"] for e in index if "frame" in e] == [0, 1, 2]


def test_every_file_has_a_line_for_every_frame(tmp_path):
    one, two = seen(1, (1, 2, 3, 4), SIZE), seen(7, (5, 6, 9, 9), SIZE, name="dog: ../b")
    script = [
        result(10),
        result(12, one),
        result(14, one, two),  # added mid-stream
        result(16, two),  # 1 was removed
    ]
    drive(SingleObjectBoxes(tmp_path), script)
    assert lines(tmp_path / "street.txt") == ["0,0,0,0", "1,2,2,2", "1,2,2,2", "0,0,0,0"]
    assert lines(tmp_path / "street-7-dog_.._b.txt") == ["0,0,0,0", "0,0,0,0", "5,6,4,3", "5,6,4,3"]
    index = [json.loads(line) for line in lines(tmp_path / "street.frames.jsonl")]
    assert [e["frame"] for e in index if "frame" in e] == [10, 12, 14, 16]
    assert {"object": 7, "name": "dog: ../b", "file": "street-7-dog_.._b"} in index


def test_got10k_layout(tmp_path):
    drive(SingleObjectBoxes(tmp_path, "got10k"), MOVING)
    boxes = np.loadtxt(tmp_path / "street" / "street_001.txt", delimiter=",")
    times = np.loadtxt(tmp_path / "street" / "street_time.txt")
    assert boxes.tolist() == [[10, 20, 20, 30], [0, 0, 0, 0], [12, 20, 20, 31]]
    assert times.shape == (3,) and (times >= 0).all()


def test_a_new_run_leaves_no_stale_files(tmp_path):
    two = [result(i, seen(1, (1, 2, 3, 4), SIZE), seen(2, (1, 2, 3, 4), SIZE)) for i in range(9)]
    drive(SingleObjectBoxes(tmp_path), two)
    (tmp_path / "other.txt").write_text("not ours")
    drive(SingleObjectBoxes(tmp_path), MOVING)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "other.txt", "street.frames.jsonl", "street.txt"
    ]  # fmt: skip
    assert len(lines(tmp_path / "street.txt")) == 3


def test_mot_lines_count_from_one_and_hold_only_what_is_present(tmp_path):
    script = [
        result(0, seen(1, (10, 20, 30, 50), SIZE), seen(2, (0, 0, 4, 4), SIZE)),
        result(3, absent(1, SIZE), seen(2, (1, 0, 5, 4), SIZE)),
        result(4),
    ]
    drive(*make_sinks(tmp_path, ["mot"], INFO), script)
    assert lines(tmp_path / "mot" / "street.txt") == [
        "1,1,10,20,20,30,0.875,-1,-1,-1",
        "1,2,0,0,4,4,0.875,-1,-1,-1",
        "4,2,1,0,4,4,0.875,-1,-1,-1",
    ]


# --- masks ---


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_run_lengths_decode_to_the_same_masks(tmp_path):
    from pycocotools import mask as coco

    drive(MaskRle(tmp_path / "m.jsonl"), MOVING)
    entries = [json.loads(line) for line in lines(tmp_path / "m.jsonl")]
    assert [e["frame"] for e in entries] == [0, 1, 2]
    assert entries[0]["size"] == [96, 128] and entries[1]["objects"] == []
    for entry, each in zip(entries, MOVING, strict=True):
        for found in entry["objects"]:
            decoded = coco.decode(found["segmentation"]).astype(bool)
            assert np.array_equal(decoded, each[found["id"]].mask)


def test_png_masks_hold_ids_and_davis_colours(tmp_path):
    from PIL import Image

    over = result(5, seen(1, (0, 0, 20, 20), SIZE), seen(200, (10, 10, 30, 30), SIZE))
    drive(MaskPng(tmp_path / "masks"), [over, result(6, absent(1, SIZE))])
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == ["00005.png", "00006.png"]
    with Image.open(tmp_path / "masks" / "00005.png") as image:
        assert image.mode == "P" and image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        labels = np.asarray(image)
    assert labels.shape == SIZE
    assert (labels[5, 5], labels[15, 15], labels[25, 25], labels[50, 50]) == (1, 200, 200, 0)


@pytest.mark.parametrize("object_id", [0, 256, -1])
def test_png_masks_refuse_ids_they_cannot_hold(tmp_path, object_id):
    with pytest.raises(InputError, match="1 to 255"):
        drive(MaskPng(tmp_path), [result(0, seen(object_id, (1, 1, 2, 2), SIZE))])


# --- diary ---


def test_the_diary_is_strict_json(tmp_path):
    diary = {
        "chosen": np.int64(2),
        "motion_iou": float("nan"),
        "kept": np.array([1.5, np.inf]),
        "why": ("score", None, True),
        "größe": {3: np.float32(0.5)},
    }
    script = [result(0, seen(1, (1, 2, 3, 4), SIZE, name="Müller", diary=diary)), result(1)]
    drive(Diary(tmp_path / "d.jsonl"), script)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    first, second = (
        json.loads(line, parse_constant=refuse)
        for line in (tmp_path / "d.jsonl").read_text(encoding="utf-8").splitlines()
    )
    found = first["objects"][0]
    assert found["diary"] == {
        "chosen": 2, "motion_iou": None, "kept": [1.5, None], "why": ["score", None, True],
        "größe": {"3": 0.5},
    }  # fmt: skip
    assert (found["id"], found["name"], found["present"]) == (1, "Müller", True)
    assert found["box"] == [1, 2, 3, 4] and found["object_logit"] == 3.5
    assert found["state"] == "sure"
    assert first["events"] == [{"kind": "lost", "id": 1, "name": ""}]
    assert second == {"frame": 1, "time_s": 0.04, "objects": [], "events": []}


# --- video ---


def probe(path):
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [f.time for f in container.decode(stream)]
        context = stream.codec_context
        return context.name, context.pix_fmt, (context.height, context.width), times


def test_the_video_plays_in_browsers(tmp_path):
    results = [result(i, seen(1, (10, 20, 60, 70), SIZE)) for i in range(40)]
    painter = Painter(labels=False, counter=False)
    drive(AnnotatedVideo(tmp_path / "v.mp4", painter=painter), results)
    codec, pixels, size, times = probe(tmp_path / "v.mp4")
    assert (codec, pixels, size) == ("h264", "yuv420p", SIZE)
    assert np.allclose(times, np.arange(40) / 25, atol=1e-3)
    data = (tmp_path / "v.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat") and b"moof" not in data
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    shown = decode(tmp_path / "v.mp4")[20].astype(int)
    tint = np.abs(shown - picture(20)).mean(axis=2)
    assert tint[25:65, 15:55].mean() > 3 * tint[75:, 70:].mean()


@pytest.mark.parametrize(("height", "width"), [(95, 127), (96, 127), (1, 1), (33, 32)])
def test_odd_sizes_grow_to_even(tmp_path, height, width):
    size = (height, width)
    drive(AnnotatedVideo(tmp_path / "v.mp4"), [result(i, size=size) for i in range(3)])
    assert probe(tmp_path / "v.mp4")[2] == (height + height % 2, width + width % 2)


def test_a_new_size_mid_stream_is_fitted_between_black_bars(tmp_path):
    small, wide = (48, 64), (48, 128)
    script = [result(0), result(1, size=small), result(2, size=wide)]
    drive(AnnotatedVideo(tmp_path / "v.mp4"), script)
    images = decode(tmp_path / "v.mp4")
    assert [i.shape for i in images] == [(96, 128, 3)] * 3
    assert images[2][:16].max() < 40 and images[2][-16:].max() < 40
    assert images[1][60:].mean() > 60  # the same proportions fill the picture


def test_a_stride_keeps_the_speed_and_live_sources_follow_the_clock(tmp_path):
    drive(AnnotatedVideo(tmp_path / "stride.mp4"), [result(i) for i in range(5, 30, 5)])
    assert np.allclose(probe(tmp_path / "stride.mp4")[3], np.arange(5) * 0.2, atol=1e-3)
    live = AnnotatedVideo(tmp_path / "live.mp4")
    live.open(SourceInfo("cam", 128, 96, 30.0, live=True))
    clock = [0.0, 0.1, 0.1, 0.35, 2.0]
    for index, seconds in enumerate(clock):
        live.write(frame(index, time_s=1.7e9 + seconds), result(index))
    live.close()
    times = probe(tmp_path / "live.mp4")[3]
    assert np.allclose(times, clock, atol=0.003) and (np.diff(times) > 0).all()


@pytest.mark.parametrize("fps", [30000 / 1001, 0.5, 240.0, 23.976, 12.3456789])
def test_any_rate_is_kept(tmp_path, fps):
    info = SourceInfo("v", 128, 96, fps)
    sink = AnnotatedVideo(tmp_path / "v.mp4")
    sink.open(info)
    for index in range(10):
        sink.write(frame(index, time_s=index / fps), result(index))
    sink.close()
    assert probe(tmp_path / "v.mp4")[3][-1] == pytest.approx(9 / fps, rel=1e-3)


def test_no_frames_no_video(tmp_path):
    drive(AnnotatedVideo(tmp_path / "v.mp4"), [])
    assert list(tmp_path.iterdir()) == []


# --- window ---


@pytest.fixture
def dummy_display(monkeypatch):
    pytest.importorskip("pygame", reason='needs pip install "vision-mem[show]"')
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.parametrize("key", ["q", "escape", "close"])
def test_the_window_shows_frames_until_somebody_stops(dummy_display, key):
    import pygame

    window = LiveWindow()
    window.open(INFO)
    window.write(frame(0), MOVING[0])
    assert pygame.display.get_surface().get_size() == (128, 96)
    keys = {"q": pygame.K_q, "escape": pygame.K_ESCAPE}
    if key == "close":
        pygame.event.post(pygame.event.Event(pygame.QUIT))
    else:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=keys[key]))
    with pytest.raises(StopRun):
        window.write(frame(1), MOVING[1])
    window.close()
    window.close()


@pytest.mark.parametrize("driver", [None, "no-such-driver"])
def test_without_a_display_the_run_goes_on(dummy_display, monkeypatch, caplog, driver):
    import pygame

    pygame.display.quit()
    monkeypatch.delenv("SDL_VIDEODRIVER")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if driver is not None:
        monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    window = LiveWindow()
    window.open(INFO)
    window.write(frame(0), MOVING[0])
    window.close()
    assert caplog.messages == ["no display on this machine: the run goes on without a window"]


def test_without_pygame_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pygame", None)
    with pytest.raises(MissingExtra, match=r'pip install "vision-mem\[show\]"'):
        LiveWindow().open(INFO)


# --- by name ---


def test_all_names_make_sinks_and_files_where_documented(tmp_path):
    names = [name for name in SINKS if name not in ("window", *ANNOTATION_SINKS)]
    for sink in make_sinks(tmp_path, names, INFO):
        checked: Sink = sink
        drive(checked, MOVING)
    others = [name for name in ANNOTATION_SINKS if name != "parquet"]
    for sink in make_sinks(tmp_path / "others", others, INFO):
        drive(sink, MOVING)
    for name in others:
        path = ANNOTATION_SINKS[name].writes.partition(":")[0].partition(" ")[0]
        assert (tmp_path / "others" / path.replace("<name>", INFO.name)).exists(), path
    shutil.rmtree(tmp_path / "others")
    made = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert made == [
        "got10k/street.frames.jsonl",
        "got10k/street/street_001.txt",
        "got10k/street/street_time.txt",
        "lasot/street.frames.jsonl",
        "lasot/street.txt",
        "masks/street/00000.png",
        "masks/street/00001.png",
        "masks/street/00002.png",
        "mot/street.txt",
        "otb/street.frames.jsonl",
        "otb/street.txt",
        "street.diary.jsonl",
        "street.events.jsonl",
        "street.masks.jsonl",
        "street.zones.csv",
        "street_tracked.mp4",
    ]


def test_names_once_and_unknown_names_refused(tmp_path):
    assert len(make_sinks(tmp_path, ["mot", "diary", "mot"], INFO)) == 2
    with pytest.raises(InputError, match="did you mean 'lasot'"):
        make_sinks(tmp_path, ["lasto"], INFO)
    with pytest.raises(InputError, match="convention"):
        make_sinks(tmp_path, ["lasot"], INFO, convention="voc")
    assert list(tmp_path.iterdir()) == []
