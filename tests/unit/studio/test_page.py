"""The studio's page in a real Chromium: what is painted, what is clicked, what survives."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio_server import TOKEN, read_by_coco, serving
from studio_streams import picture

from vision_mem.studio.frames import encode_jpeg
from vision_mem.visualization.contact_sheet import write_video

pytest.importorskip("fastapi", reason="extra [studio] is not installed")
play = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium"),
    # Sockets of a browser that was closed, and of servers that were killed, are told of later.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SCALE = 4  # the squares of the other tests are small for a hand


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the two squares, and the same as a webcam's pictures."""
    root = tmp_path_factory.mktemp("root")
    big = [np.kron(picture(t), np.ones((SCALE, SCALE, 1), np.uint8)) for t in range(24)]
    write_video(root / "squares.mp4", iter(big), 24.0)
    (root / "webcam.mjpeg").write_bytes(b"".join(encode_jpeg(image, 90) for image in big))
    return root / "squares.mp4"


@pytest.fixture(scope="module")
def browser(clip: Path) -> Iterator[Any]:
    with play.sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox", "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={clip.parent / 'webcam.mjpeg'}",
            ],
        )  # fmt: skip
        yield made
        made.close()


class Page:
    """A page that notes what should not happen."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 720}, **options)
        self.page, self.wrong = self.context.new_page(), []
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url, address))
        self.page.goto(f"{address}/?token={TOKEN}")
        self.until("typeof studio === 'object' && document.querySelector('main:not([hidden])')")

    def _asked(self, url: str, address: str) -> None:
        own = (address, address.replace("http", "ws"), "blob:", "data:")
        if not url.startswith(own):
            self.wrong.append(f"a request to {url}")

    def until(self, what: str, limit_s: float = 20) -> Any:
        end = time.monotonic() + limit_s
        while not (found := self.page.evaluate(what)):
            assert time.monotonic() < end, what
            self.page.wait_for_timeout(20)
        return found

    def at(self, x: float, y: float) -> tuple[float, float]:
        stage = self.page.locator("#stage").bounding_box()
        view = self.page.evaluate("studio.stage.view()")
        return stage["x"] + view["x"] + x * view["scale"], stage["y"] + view["y"] + y * view[
            "scale"
        ]

    def drag(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.page.mouse.move(*self.at(x1, y1))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(x2, y2), steps=3)
        self.page.mouse.up()

    def painted(self) -> np.ndarray:
        """``(H, W)`` bool at the frame's size: where the overlay has colour."""
        width, height, values = self.page.evaluate(
            """() => {
              const { head, overlay, ratio } = studio.stage, { scale, x, y } = studio.stage.view();
              const to = document.createElement('canvas');
              to.width = head.width; to.height = head.height;
              const all = [head.width, head.height], big = all.map((side) => side * scale * ratio);
              to.getContext('2d').drawImage(overlay, x * ratio, y * ratio, ...big, 0, 0, ...all);
              const data = to.getContext('2d').getImageData(0, 0, head.width, head.height).data;
              let text = '';
              for (let p = 3; p < data.length; p += 4) text += data[p] > 40 ? '1' : '0';
              return [head.width, head.height, text];
            }"""
        )
        return (np.frombuffer(values.encode(), np.uint8) == ord("1")).reshape(height, width)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Page]]:
    made: list[Page] = []

    def opened(address: str, **options: Any) -> Page:
        made.append(Page(browser, address, **options))
        return made[-1]

    yield opened
    for each in made:
        each.context.close()


def test_the_cup_of_the_demo_clip_is_painted_where_it_is(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    from vision_mem.models import load_segmenter
    from vision_mem.synthetic.clips import demo_clip

    demo, count = demo_clip(), 10
    rendered = [demo.render(t) for t in range(count)]
    (tmp_path / "uploads").mkdir()
    write_video(tmp_path / "uploads" / "cup.mp4", (frame.image for frame in rendered), 30.0)
    with serving(tmp_path, tmp_path, segmenter=load_segmenter("embedded")) as (address, _):
        tab = open_page(address)
        tab.page.click("#empty [data-open=demo]")
        tab.until("studio.stage.head?.frame === 0")
        x, y = (rendered[0].box[:2] + rendered[0].box[2:]) / 2
        tab.page.mouse.click(*tab.at(float(x), float(y)))
        tab.until("studio.stage.objects.length === 1", 60)
        good = 0
        for t, frame in enumerate(rendered):
            tab.until(f"studio.stage.head.frame === {t} && studio.stage.objects.length === 1", 60)
            painted, truth = tab.painted(), frame.mask
            good += (painted & truth).sum() / (painted | truth).sum() >= 0.6
            tab.page.keyboard.press("ArrowRight")
        assert good >= 0.9 * count
        assert tab.wrong == []


def test_box_correct_undo_rename_export_reload_and_a_server_that_comes_back(
    tmp_path: Path, clip: Path, open_page: Callable[..., Page]
) -> None:
    with serving(tmp_path, clip.parent) as (address, studio):
        port = int(address.rpartition(":")[2])
        tab = open_page(address)
        page = tab.page
        page.click("#empty [data-open=other]")
        page.click("#files button:has-text('squares.mp4')")
        tab.until("studio.stage.head?.frame === 0")
        tab.drag(10 * SCALE, 30 * SCALE, 34 * SCALE, 54 * SCALE)
        tab.until("studio.stage.objects.length === 1")
        assert tab.painted()[160:180, 60:120].mean() > 0.9
        page.click("#play")
        tab.until("studio.stage.head.frame === 23 && !studio.page.state.playing")

        # To the past, a correction there, and back again.
        before = page.evaluate("JSON.stringify(studio.stage.objects[0].rle)")
        lane = page.locator("#timeline canvas").first.bounding_box()
        page.mouse.click(lane["x"] + lane["width"] * 12 / 23, lane["y"] + 5)
        tab.until("studio.stage.head.frame === 12")
        page.keyboard.down("Alt")
        page.mouse.click(*tab.at(30 * SCALE, 40 * SCALE))
        page.keyboard.up("Alt")
        tab.until(
            "studio.page.state.objects[0].prompts.length === 2 && !studio.page.state.behind.length"
        )
        page.keyboard.press("z")
        tab.until(
            "studio.page.state.objects[0].prompts.length === 1 && !studio.page.state.behind.length"
        )
        page.evaluate("studio.send('seek', {frame: 23})")
        tab.until("studio.stage.head.frame === 23")
        tab.until(f"JSON.stringify(studio.stage.objects[0].rle) === {json.dumps(before)}")

        # A name is text.
        evil = '<img src=x onerror="studio.page.hacked=1">'
        page.keyboard.press("F2")
        page.keyboard.type(evil)
        page.keyboard.press("Enter")
        tab.until("document.querySelector('.object .name').textContent.startsWith('<img')")
        assert page.evaluate("document.querySelectorAll('main img, .tags img').length") == 0
        assert page.evaluate("studio.page.hacked === undefined")

        page.click("[data-panel=home]")
        with page.expect_download() as download:
            page.click("#export")
        content = Path(download.value.path()).read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            lines = file.read("squares/squares.masks.jsonl").decode().splitlines()
        last = json.loads(lines[-1])["objects"][0]
        assert len(lines) == 24 and last["name"] == evil
        painted = tab.painted()
        decoded = read_by_coco(last["segmentation"])
        assert (painted & decoded).sum() / (painted | decoded).sum() > 0.9

        page.reload()
        tab.until("studio.stage.head?.frame === 23 && studio.stage.objects.length === 1")
        assert studio.streams
        assert tab.wrong == []
    tab.until("!document.getElementById('banner').hidden")
    with serving(tmp_path, clip.parent, port=port, resume=True):
        tab.until("document.getElementById('banner').hidden && studio.page.link")
        tab.until("studio.stage.objects.length === 1 && studio.page.state.objects.length === 1")
        assert [
            text for text in tab.wrong if "ERR_CONNECTION" not in text and "WebSocket" not in text
        ] == []


def test_the_webcam_of_the_browser(
    tmp_path: Path, clip: Path, open_page: Callable[..., Page]
) -> None:
    with serving(tmp_path, clip.parent) as (address, studio):
        tab = open_page(address, permissions=["camera"])
        tab.page.click("#empty [data-open=browser]")
        tab.until("studio.stage.head?.frame > 3")
        (stream,) = studio.streams.values()
        # The blue square moves up and down only.
        tab.page.mouse.click(*tab.at(140 * SCALE, 40 * SCALE))
        tab.until("studio.stage.objects.length === 1")
        start = stream.actor.status["head"]
        tab.until(f"studio.stage.head.frame > {start} + 10 && studio.page.delay !== null")
        assert tab.page.evaluate("studio.page.delay") < 5
        assert tab.wrong == []


@pytest.mark.parametrize("size", [(1280, 720), (390, 844)], ids=["desk", "phone"])
def test_everything_is_in_view_and_touchable(
    tmp_path: Path, clip: Path, open_page: Callable[..., Page], size: tuple[int, int]
) -> None:
    with serving(tmp_path, clip.parent) as (address, studio):
        studio.open("squares.mp4")
        tab = open_page(address)
        tab.page.set_viewport_size({"width": size[0], "height": size[1]})
        tab.until("studio.stage.head?.frame === 0")
        tab.page.mouse.click(*tab.at(22 * SCALE, 42 * SCALE))
        tab.until("document.querySelectorAll('.object').length === 1")
        outside = tab.page.evaluate(
            """() => {
              const all = document.querySelectorAll('button, input, canvas, .object, .status b');
              return [...all].filter((one) => {
                const box = one.getBoundingClientRect();
                const over = box.left < -1 || box.right > innerWidth + 1;
                const scrolls = one.closest('.panel, .tabs, .status, dialog');
                return box.width && !scrolls && (over || box.bottom > innerHeight + 1);
              }).map((one) => one.id || one.className);
            }"""
        )
        assert outside == []
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        buttons = "[...document.querySelectorAll('.controls button, .modes button')]"
        small = f"{buttons}.filter((one) => one.offsetHeight && one.offsetHeight < 30).length"
        assert tab.page.evaluate(small) == 0
        assert tab.wrong == []
