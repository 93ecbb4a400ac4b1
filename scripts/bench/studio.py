"""The studio's delays, rates and memory, with a real Chromium on the same machine.

    python scripts/bench/studio.py                    # the table: 1 and 4 streams, 1 and 8 objects
    python scripts/bench/studio.py --seconds 20 --streams 1 --objects 1
    python scripts/bench/studio.py --hour      # 54,000 frames, 200 corrections, a page: leaks?

A thread stands in for cameras: it pushes the demo clip, there and back again, at 30 frames a
second, each picture with the time at which it was "captured". The page notes when it has painted
it. Click to mask is from the click in the page to the mask in the page. Catching up is an object
that is added on a frame of ten seconds ago while the stream goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

TOKEN = "token-for-the-bench"
BOXES = ((48, 150, 132, 262), (556, 36, 640, 132), (352, 268, 494, 360))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--objects", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    parser.add_argument("--hour", action="store_true")
    parser.add_argument("--frames", type=int, default=54_000, help="with --hour")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"load {os.getloadavg()[0]:.1f} before")  # fmt: skip
    rows = [long_run(options)] if options.hour else [
        measured(options, streams, objects)
        for streams in options.streams for objects in options.objects
    ]  # fmt: skip
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


class Served:
    """A studio in this process, and cameras that push pictures."""

    def __init__(self, folder: str, segmenter: Any) -> None:
        import uvicorn

        from vision_mem.config import load_config
        from vision_mem.studio.registry import Studio
        from vision_mem.studio.server import make_app
        from vision_mem.tracking.config import TrackingConfig

        config = load_config(TrackingConfig, "samurai", (), folder="tracking")
        self.studio = Studio(segmenter, config, Path(folder), Path(folder))
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.address = f"http://localhost:{listening.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(make_app(self.studio, TOKEN), log_level="error", ws_max_size=8 << 20)
        )
        run = threading.Thread(target=lambda: self._server.run(sockets=[listening]), daemon=True)
        run.start()
        self._stop = threading.Event()
        self.studio.warm_up()

    def cameras(self, count: int, pictures: list[bytes], fps: float) -> list[Any]:
        actors = [self.studio.open("browser").actor for _ in range(count)]

        def push() -> None:
            order = itertools.cycle([*range(len(pictures)), *range(len(pictures) - 2, 0, -1)])
            due = time.monotonic()
            while not self._stop.is_set():
                content = pictures[next(order)]
                for actor in actors:
                    actor.frames.push(content)
                due = max(due + 1 / fps, time.monotonic() - 1 / fps)
                time.sleep(max(0.0, due - time.monotonic()))

        threading.Thread(target=push, daemon=True).start()
        return actors

    def close(self) -> None:
        self._stop.set()
        self._server.should_exit = True
        time.sleep(0.5)
        self.studio.close_all()


def pictures(count: int = 90) -> list[bytes]:
    from vision_mem.studio.frames import encode_jpeg
    from vision_mem.synthetic.clips import demo_clip

    clip = demo_clip()
    return [encode_jpeg(clip.render(t).image, 88) for t in range(count)]


def measured(options: argparse.Namespace, streams: int, objects: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    from vision_mem.models import load_segmenter, use_threads

    use_threads(1)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        served = Served(folder, load_segmenter("embedded"))
        actors = served.cameras(streams, pictures(), options.fps)
        browser = play.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
        page.goto(f"{served.address}/?token={TOKEN}")
        until(page, "globalThis.studio?.stage.head")
        page.evaluate(NOTE)
        clicks = []
        for number in range(objects):
            for actor in actors[:-1] if number < objects else ():
                submit(actor, number)
            clicks.append(click(page, number))
        page.evaluate("seen.length = 0")
        begin, used, first = time.monotonic(), time.process_time(), actors[0].status["head"]
        page.wait_for_timeout(options.seconds * 1000)
        seen = page.evaluate("seen")
        used = (time.process_time() - used) * 1000
        rate = actors[-1].status["fps_followed"]
        followed = max(1.0, rate * options.seconds * streams)
        assert actors[0].status["head"] > first
        painted = len(seen) / (time.monotonic() - begin)
        delays = np.array([delay for _, delay in seen]) * 1000
        actor = actors[-1]
        caught = catch_up(actor)
        row = {
            "streams": streams, "objects": objects, "painted/s": f"{painted:.1f}",
            "followed/s": rate, "processor ms a frame": f"{used / followed:.0f}",
            "delay ms, median": f"{np.median(delays):.0f}" if len(delays) else "-",
            "p95": f"{np.percentile(delays, 95):.0f}" if len(delays) else "-",
            "click to mask ms": f"{np.median(clicks):.0f}", "caught up, frames/s": caught,
            "held MB": round(sum(a.held() for a in actors) / 2**20),
            "process MB": round(psutil.Process().memory_info().rss / 2**20),
        }  # fmt: skip
        browser.close()
        served.close()
        return row


NOTE = """() => {
  globalThis.seen = [];
  const stage = studio.stage, show = stage.show.bind(stage);
  stage.show = async (head, blob) => {
    await show(head, blob);
    seen.push([head.frame, Date.now() / 1000 - head.time_s]);
  };
  stage.root.addEventListener('pointerup', () => {
    const begin = performance.now(), count = stage.objects.length;
    document.getElementById('preview').hidden = true;
    globalThis.took = null;
    const look = () => {
      const there = stage.objects.length > count || !document.getElementById('preview').hidden;
      if (there) globalThis.took = performance.now() - begin; else requestAnimationFrame(look);
    };
    look();
  }, true);
}"""


def click(page: Any, number: int) -> float:
    """Click, in the page, where nothing is followed yet; milliseconds until there is a mask."""
    box, view = page.locator("#stage").bounding_box(), page.evaluate("studio.stage.view()")
    x, y = 40 + 75 * number, 60 + 37 * (number % 8)
    page.evaluate("globalThis.took = null")
    page.keyboard.press("Escape")
    page.mouse.click(
        box["x"] + view["x"] + x * view["scale"], box["y"] + view["y"] + y * view["scale"]
    )
    until(page, "globalThis.took !== null || studio.stage.selected !== null")
    page.wait_for_timeout(300)
    return page.evaluate("globalThis.took") or float("nan")


def submit(actor: Any, number: int) -> None:
    from vision_mem.studio.commands import parse_command

    point = [40 + 75 * number, 60 + 37 * (number % 8)]
    said = {"command": "prompt", "frame": actor.status["head"], "points": [point]}
    actor.submit(parse_command(said)).result(60)


def catch_up(actor: Any) -> str:
    from vision_mem.studio.commands import parse_command

    low, high = actor.ring.span
    index = actor.ring.after(max(low, high - 300)) or high
    said = {"command": "prompt", "frame": index, "box": [552, 30, 80, 90]}
    held = sum(1 for n in list(actor.ring._order) if n >= index)
    begin = time.monotonic()
    actor.submit(parse_command(said)).result(60)
    actor.wait_until_caught_up(120)
    return f"{held / (time.monotonic() - begin):.0f}"


def until(page: Any, what: str, limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not page.evaluate(what):
        if time.monotonic() > end:
            raise TimeoutError(what)
        page.wait_for_timeout(10)


def long_run(options: argparse.Namespace) -> dict[str, Any]:
    """Frames of an hour as fast as they go, a page that looks, corrections; does anything grow?"""
    from playwright.sync_api import sync_playwright

    from vision_mem.models.segmenters.fake import FakeSegmenter
    from vision_mem.studio.commands import parse_command

    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        served = Served(folder, FakeSegmenter())
        served.studio.budget = 64 << 20
        browser = play.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        actor = served.studio.open("browser").actor
        some = pictures(60)
        page = browser.new_context().new_page()
        page.goto(f"{served.address}/?token={TOKEN}")
        marks: list[tuple[int, int, int, int]] = []
        for n in range(options.frames):
            actor.frames.push(some[n % 60])
            while (actor._head or 0) < n - 1 or actor.frames._box._held is not None:
                time.sleep(0.0005)
            if n == 50:
                submit(actor, 1)
            if n and n % max(1, options.frames // 200) == 0 and n > 50:
                point = [60 + n % 400, 80 + n % 200]
                said = {"command": "prompt", "frame": n - 20, "object": 1, "points": [point]}
                actor.submit(parse_command(said)).result(60)
            if n % max(1, options.frames // 12) == 0:
                mark = (
                    n,
                    process.memory_info().rss >> 20,
                    process.num_threads(),
                    process.num_fds(),
                )
                marks.append(mark)
                print(*mark, actor.held() >> 20, flush=True)
        half = marks[len(marks) // 2 :]
        row = {
            "frames": options.frames, "corrections": actor.status["commands"],
            "held MB (budget 64)": actor.held() >> 20,
            "process MB, half-way to end": f"{half[0][1]} to {half[-1][1]}",
            "threads": f"{half[0][2]} to {half[-1][2]}", "files": f"{half[0][3]} to {half[-1][3]}",
        }  # fmt: skip
        browser.close()
        served.close()
    return row


if __name__ == "__main__":
    main()
