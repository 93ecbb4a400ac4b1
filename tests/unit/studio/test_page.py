"""The studio's page in a real Chromium: what is painted, what is clicked, what survives."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from studio_server import TOKEN, read_by_coco, serving
from studio_streams import picture

from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.studio.frames import encode_jpeg
from vision_mem.studio.registry import Studio
from vision_mem.studio.stream import StreamActor
from vision_mem.videoqa.evidence import ThumbnailSession, open_session
from vision_mem.visualization.contact_sheet import write_video

pytest.importorskip("fastapi", reason="extra [studio] is not installed")
play = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium"),
    # Sockets of a browser that was closed, and of servers that were killed, are told of later.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MORE_LESS = (cv2.dilate, cv2.erode)  # outlines are as wide as a pixel or two
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
        ready = f"typeof studio !== 'undefined' && ({what})"  # not yet, while the page loads
        while not (found := self.page.evaluate(ready)):
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

    def lane(self, row: int, part: float, right: float = 0) -> tuple[float, float]:
        """A place on the timeline, which is drawn anew all the time: asked for in one go."""
        x, y, width = self.page.evaluate(
            f"""() => {{
              const box = document.querySelectorAll('#timeline canvas')[{row}]
                .getBoundingClientRect();
              return [box.x, box.y, box.width];
            }}"""
        )
        return x + width * part + right, y + 5

    def painted(self) -> np.ndarray:
        """``(H, W)`` bool at the frame's size: where the overlay has colour."""
        return _mask(self.page.evaluate(f"({PAINTED})()"))


PAINTED = """() => {
  const { head, overlay, ratio } = studio.stage, { scale, x, y } = studio.stage.view();
  const to = document.createElement('canvas');
  to.width = head.width; to.height = head.height;
  const all = [head.width, head.height], big = all.map((side) => side * scale * ratio);
  to.getContext('2d').drawImage(overlay, x * ratio, y * ratio, ...big, 0, 0, ...all);
  const data = to.getContext('2d').getImageData(0, 0, head.width, head.height).data;
  const runs = [];
  let last = false, count = 0;
  for (let p = 3; p < data.length; p += 4, count++)
    if ((data[p] > 40) !== last) { runs.push(count); last = !last; count = 0; }
  return [head.width, head.height, [...runs, count]];
}"""


def _mask(said: Any) -> np.ndarray:
    width, height, runs = said
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Page]]:
    made: list[Page] = []

    def opened(address: str, **options: Any) -> Page:
        made.append(Page(browser, address, **options))
        return made[-1]

    yield opened
    for each in made:
        each.context.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Iterator[tuple[str, Studio]]:
    """One for all tests that do not end it; with something to ask and a detector."""
    from vision_mem.models.detectors import make_detector

    def memory() -> ThumbnailSession:
        model = FakeVideoModel(speaks=False)
        return ThumbnailSession(open_session(model, None, ["fps=10"]))

    made = serving(
        tmp_path_factory.mktemp("out"), clip.parent, open_memory=memory,
        make_detector=lambda word, classes: make_detector([word], only=classes),
    )  # fmt: skip
    with made as running:
        yield running


@pytest.fixture
def page(server: tuple[str, Studio], open_page: Callable[..., Page]) -> Iterator[Page]:
    """On the clip of two squares, at its first frame."""
    stream = server[1].open("squares.mp4").id
    tab = open_page(server[0])
    tab.until("studio.stage.head?.frame === 0")
    yield tab
    assert tab.wrong == []
    server[1].close(stream)


def test_what_is_followed_is_painted_where_it_is(page: Page, server: tuple[str, Studio]) -> None:
    (stream,) = server[1].streams.values()
    page.page.mouse.click(*page.at(22 * SCALE, 42 * SCALE))
    page.until("studio.stage.objects.length === 1")
    kept = _painted_to_the_end(page, stream.actor, 24)
    good = 0
    for n, painted in kept.items():
        x = (10 + n) * SCALE
        truth = np.zeros_like(painted)
        truth[30 * SCALE : 54 * SCALE, x : x + 24 * SCALE] = True
        good += _iou(painted, truth) >= 0.6
    assert good >= 0.9 * len(kept)


def _painted_to_the_end(tab: Page, actor: StreamActor, count: int) -> dict[int, np.ndarray]:
    """Play a file as fast as it goes; what was painted, by frame, which is what was found."""
    actor._paced = False
    tab.page.evaluate(
        f"""() => {{
          const stage = studio.stage, show = stage.show.bind(stage);
          globalThis.kept = {{}};
          stage.show = async (head, blob) => {{
            await show(head, blob);
            kept[head.frame] = ({PAINTED})();
          }};
        }}"""
    )
    tab.page.click("#play")
    tab.until(f"{count - 1} in kept && !studio.page.state.playing", 240)
    kept = {int(n): _mask(said) for n, said in tab.page.evaluate("kept").items()}
    for n, painted in kept.items():
        row = actor.store.rows(n)[1]
        wide, thin = (work(row.pixels().astype(np.uint8), np.ones((5, 5))) for work in MORE_LESS)
        assert not (painted & (wide == 0)).any() and painted[thin > 0].all()
    return kept


@pytest.mark.slow
def test_the_cup_of_the_demo_clip_is_painted_where_it_is(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    from vision_mem.models import load_segmenter
    from vision_mem.synthetic.clips import demo_clip

    # The whole clip, from the left edge past the pillar to the cup's double; every fourth frame.
    demo = demo_clip()
    truth = [demo.render(t) for t in range(0, 180, 4)]
    (tmp_path / "uploads").mkdir()
    write_video(tmp_path / "uploads" / "cup.mp4", (frame.image for frame in truth), 30.0)
    with serving(tmp_path, tmp_path, segmenter=load_segmenter("embedded")) as (address, studio):
        tab = open_page(address)
        tab.page.click("#empty [data-open=demo]")
        tab.until("studio.stage.head?.frame === 0")
        x, y = (truth[0].box[:2] + truth[0].box[2:]) / 2
        tab.page.mouse.click(*tab.at(float(x), float(y)))
        tab.until("studio.stage.objects.length === 1", 60)
        (stream,) = studio.streams.values()
        kept = _painted_to_the_end(tab, stream.actor, len(truth))
        assert len(kept) > 0.3 * len(truth)  # a busy machine paints fewer
        # Where half of it or more is to be seen: what hides it is not what is tried here.
        usual = np.median([frame.mask.sum() for frame in truth])
        seen = [n for n in kept if truth[n].mask.sum() >= 0.5 * usual]
        good = sum(_iou(kept[n], truth[n].mask) >= 0.6 for n in seen)
        assert good >= 0.9 * len(seen) and len(seen) > 0.5 * len(truth)
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
        page.mouse.click(*tab.lane(0, 12 / 23))
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
        assert _iou(tab.painted(), read_by_coco(last["segmentation"])) > 0.9

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


def test_a_first_visit_takes_no_reading(
    tmp_path: Path, clip: Path, open_page: Callable[..., Page]
) -> None:
    """From an empty folder: the demo clip, a click, a correction, a question, the results."""
    begin = time.monotonic()
    (tmp_path / "uploads").mkdir()
    shutil.copy(clip, tmp_path / "uploads" / "cup.mp4")  # filming it is not what is timed

    def memory() -> ThumbnailSession:
        return ThumbnailSession(open_session(FakeVideoModel(speaks=False), None, ["fps=10"]))

    (root := tmp_path / "empty").mkdir()
    with serving(tmp_path, root, open_memory=memory) as (address, _):
        tab = open_page(address)
        page = tab.page
        page.click("#empty [data-open=demo]")
        tab.until("studio.stage.head?.frame === 0")
        page.mouse.click(*tab.at(22 * SCALE, 42 * SCALE))
        tab.until("studio.stage.objects.length === 1")
        page.keyboard.press("Space")
        tab.until("studio.stage.head.frame >= 12")
        page.keyboard.press("Space")
        tab.until(
            "!studio.page.state.playing && studio.page.state.shown === studio.stage.head.frame"
        )
        x = 22 + page.evaluate("studio.stage.head.frame")
        page.keyboard.down("Shift")
        page.mouse.click(*tab.at(x * SCALE, 42 * SCALE))
        page.keyboard.up("Shift")
        tab.until("studio.page.state.objects[0].prompts.length === 2")
        page.click("[data-panel=ask]")
        page.fill("#question input", "is there something red?")
        page.keyboard.press("Enter")
        tab.until("document.querySelector('.answer .card, .answer .guess') !== null")
        page.click("[data-panel=home]")
        with page.expect_download() as download:
            page.click("#export")
        with zipfile.ZipFile(Path(download.value.path())) as file:
            assert {Path(name).name for name in file.namelist()} >= {"commands.jsonl"}
        assert tab.wrong == [] and time.monotonic() - begin < 180


def test_the_webcam_of_the_browser(
    server: tuple[str, Studio], open_page: Callable[..., Page]
) -> None:
    tab = open_page(server[0], permissions=["camera"])
    tab.page.click("#empty [data-open=browser]")
    tab.until("studio.stage.head?.frame > 3")
    (stream,) = server[1].streams.values()
    # The blue square moves up and down only.
    tab.page.mouse.click(*tab.at(140 * SCALE, 40 * SCALE))
    tab.until("studio.stage.objects.length === 1")
    start = stream.actor.status["head"]
    tab.until(f"studio.stage.head.frame > {start} + 10 && studio.page.delay !== null")
    assert tab.page.evaluate("studio.page.delay") < 5
    assert tab.wrong == []
    server[1].close(stream.id)


def test_everything_is_in_view_and_touchable(page: Page) -> None:
    page.page.mouse.click(*page.at(22 * SCALE, 42 * SCALE))
    page.until("document.querySelectorAll('.object').length === 1")
    for width, height in ((1280, 720), (390, 844)):
        page.page.set_viewport_size({"width": width, "height": height})
        page.page.wait_for_timeout(100)
        outside = page.page.evaluate(
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
        assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        buttons = "[...document.querySelectorAll('.controls button, .modes button')]"
        # Each button that has a place for an icon shows one.
        icon = "one.querySelector('use')?.getBBox().width"
        empty = f"{buttons}.filter((one) => one.offsetHeight && !{icon}).map((one) => one.id)"
        assert page.page.evaluate(empty) == []
        small = f"{buttons}.filter((one) => one.offsetHeight && one.offsetHeight < 30).length"
        assert page.page.evaluate(small) == 0


def test_what_happened_is_on_the_timeline_and_leads_there(
    page: Page, server: tuple[str, Studio]
) -> None:
    (stream,) = server[1].streams.values()
    page.page.mouse.click(*page.at(22 * SCALE, 42 * SCALE))
    page.until("studio.stage.objects.length === 1")
    page.page.evaluate("studio.send('seek', {frame: 20})")
    page.until("studio.stage.head.frame === 20 && !studio.page.state.behind.length")
    page.page.evaluate("studio.send('prompt', {frame: 9, object: 1, points: [[140, 160]]})")
    assert stream.actor.wait_until_caught_up(20)
    stream.actor.store.put(1, 14, replace(stream.actor.store.rows(14)[1], change="left"))
    wanted = [[0, "added"], [9, "corrected"], [14, "left"]]
    page.until(f"JSON.stringify(studio.page.state.objects[0].events) === `{_json(wanted)}`")
    page.page.click("#happened summary")
    rows = page.page.locator("#events .what").all_inner_texts()
    assert rows == ["object-1 left the picture", "object-1 corrected", "object-1 pointed at"]
    page.page.click("#events button:has-text('left the picture')")
    page.until("studio.stage.head.frame === 14")
    page.page.mouse.move(*page.lane(1, 9 / 23, 2))
    assert page.page.evaluate("document.getElementById('timeline').title").endswith("frame 9")
    page.page.mouse.down()
    page.page.mouse.up()
    page.until("studio.stage.head.frame === 9")


def test_a_question_is_answered_as_a_guess_and_marked_on_the_timeline(page: Page) -> None:
    page.page.click("[data-panel=ask]")
    page.page.fill("#question input", "something red")
    page.page.keyboard.press("Enter")
    page.until("document.querySelector('.answer .guess') !== null")
    said = page.page.locator(".answer").inner_text()
    assert "Probably" in said and "a guess" in said
    title = page.page.evaluate("document.querySelector('.answer .guess').title")
    assert "the best moment scores" in title
    page.until("studio.page.state.answers.length === 1")


def test_everything_is_followed_from_the_page_and_trouble_is_told(
    page: Page, server: tuple[str, Studio]
) -> None:
    page.page.click("#everything summary")
    page.page.fill("#detector", "file:nothing.jsonl")
    page.page.click("#detect")
    page.until("document.querySelector('.toast.bad') !== null")
    page.page.fill("#detector", "motion")
    page.page.click("#detect")
    page.until("studio.page.state.detector === 'motion'")
    assert page.page.inner_text("#detect") == "Stop"
    (stream,) = server[1].streams.values()
    stream.actor._note("cup could not be followed")
    page.until("document.querySelector('#toasts').innerText.includes('Cup could not be')")
    page.page.click("#detect")
    page.until("studio.page.state.detector === null")
    page.wrong = [text for text in page.wrong if "status of 4" not in text]  # the nonsense above


def _json(said: Any) -> str:
    return json.dumps(said, separators=(",", ":"))
