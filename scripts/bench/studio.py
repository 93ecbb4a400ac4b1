"""The studio's delays, rates and memory, with a real Chromium on the same machine.

    python scripts/bench/studio.py                    # the table: 1 and 4 streams, 1 and 8 objects
    python scripts/bench/studio.py --seconds 20 --streams 1 --objects 1
    python scripts/bench/studio.py --minutes 60       # 4 streams, 8 objects, 3 pages, corrections

A thread stands in for cameras: it pushes the demo clip, there and back again, at 30 frames a
second, each picture with the time at which it was "captured". The page notes when it has painted
it. Click to mask is from the click in the page to the mask in the page. Catching up is an object
that is added on a frame of ten seconds ago while the stream goes on.

With ``--minutes`` it looks for what grows: memory held and of the process, threads, tasks, files,
the pages' own memory; whether the pages see the same; and prints which limit is broken (exit code
1). The model there is the fake one unless ``--model embedded`` is given: leaks are the studio's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

TOKEN = "token-for-the-bench"
_BUDGET_MB = 64  # of a stream of the long run: small enough to be full soon


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--objects", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    parser.add_argument("--minutes", type=float, help="look for leaks for so long")
    parser.add_argument("--hour", action="store_true", help="--minutes 60")
    parser.add_argument("--corrections", type=int, default=200, help="with --minutes")
    parser.add_argument("--pages", type=int, default=3, help="with --minutes")
    parser.add_argument("--model", choices=("fake", "embedded"), help="[embedded; --minutes: fake]")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"load {os.getloadavg()[0]:.1f} before", flush=True)  # fmt: skip
    if options.hour:
        options.minutes = options.minutes or 60.0
    broken: list[str] = []
    if options.minutes:
        row, broken = long_run(options)
        rows = [row]
    else:
        rows = [
            measured(options, streams, objects)
            for streams in options.streams for objects in options.objects
        ]  # fmt: skip
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "broken": broken}, indent=2))
    for line in broken:
        print(f"BROKEN: {line}")
    if options.minutes and not broken:
        print("all limits hold")
    return 1 if broken else 0


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)


def load_model(name: str) -> Any:
    from vision_mem.models import load_segmenter, use_threads
    from vision_mem.models.segmenters.fake import FakeSegmenter

    use_threads(1)
    return load_segmenter("embedded") if name == "embedded" else FakeSegmenter()


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
        settings = uvicorn.Config(
            make_app(self.studio, TOKEN), log_level="error", ws_max_size=8 << 20,
            ws_per_message_deflate=False,
        )  # fmt: skip
        self._server = uvicorn.Server(settings)
        self.loop = asyncio.new_event_loop()
        serve = self._server.serve(sockets=[listening])
        self._runs = threading.Thread(
            target=lambda: self.loop.run_until_complete(serve), daemon=True
        )
        self._runs.start()
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

    def tasks(self) -> int:
        """How many tasks the server's loop has."""

        async def count() -> int:
            return len(asyncio.all_tasks())

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(20)

    def close(self) -> None:
        self._stop.set()
        self._server.should_exit = True
        self._runs.join(10)
        self.studio.close_all()


def pictures(count: int = 90) -> list[bytes]:
    from vision_mem.studio.frames import encode_jpeg
    from vision_mem.synthetic.clips import demo_clip

    clip = demo_clip()
    return [encode_jpeg(clip.render(t).image, 88) for t in range(count)]


def measured(options: argparse.Namespace, streams: int, objects: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    model = load_model(options.model or "embedded")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        served = Served(folder, model)
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
        begun = sum(a.followed for a in actors)
        page.wait_for_timeout(options.seconds * 1000)
        seen = page.evaluate("seen")
        used = (time.process_time() - used) * 1000
        rate = actors[-1].status["fps_followed"]
        followed = max(1, sum(a.followed for a in actors) - begun)
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
  globalThis.shown = new Map();
  const stage = studio.stage, show = stage.show.bind(stage);
  stage.show = async (head, blob) => {
    await show(head, blob);
    seen.push([head.frame, Date.now() / 1000 - head.time_s]);
    if (seen.length > 4000) seen.splice(0, 2000);
    const said = JSON.stringify(head.objects) + blob.size;  // 60 KB: its sum is noted
    let sum = 0;
    for (let n = 0; n < said.length; n++) sum = (Math.imul(sum, 31) + said.charCodeAt(n)) | 0;
    shown.set(head.frame, `${said.length} ${sum}`);
    if (shown.size > 600) shown.delete(shown.keys().next().value);
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


@dataclass(frozen=True)
class Sample:
    """What is held at a moment of the long run."""

    minute: float
    frames: int
    held_mb: float
    process_mb: int
    threads: int
    files: int
    tasks: int
    page_mb: float


def long_run(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Streams, pages that look, corrections; does anything grow?

    Returns:
        A row of the table, and the limits that are broken, a line each.
    """
    from playwright.sync_api import sync_playwright

    streams, objects = max(options.streams), max(options.objects)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        served = Served(folder, load_model(options.model or "fake"))
        served.studio.budget = _BUDGET_MB << 20
        actors = served.cameras(streams, pictures(60), options.fps)
        browser = play.chromium.launch(
            executable_path=options.chromium,
            args=["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"],
        )
        stream = next(iter(served.studio.streams))
        pages = []
        for _ in range(options.pages):
            page = browser.new_context(viewport={"width": 960, "height": 600}).new_page()
            page.goto(f"{served.address}/?token={TOKEN}#{stream}")
            page.goto(f"{served.address}/#{stream}")
            until(page, f"globalThis.studio?.page.current === '{stream}' && studio.stage.head")
            page.evaluate(NOTE)
            pages.append(page)
        clicks = [click(pages[0], 0)]
        for number in range(objects):
            for actor in actors[1:] if number == 0 else actors:
                submit(actor, number)
        run = LongRun(options, served, actors, pages, random.Random(7))
        samples = run.samples()
        print_table([asdict(sample) for sample in samples])
        row = run.row(clicks, samples)
        broken = run.broken(samples)
        browser.close()
        served.close()
        time.sleep(1.0)
        left = sorted(t.name for t in threading.enumerate() if t.name.startswith("studio-"))
        if left:
            broken.append(f"threads are left when all is closed: {', '.join(left)}")
    return row, broken


class LongRun:
    """A run that is going on.

    Args:
        options: of the command line.
        served: the studio.
        actors: of its streams; the pages look at the first.
        pages: of the browser.
        chance: which object is corrected, and where.
    """

    def __init__(
        self, options: argparse.Namespace, served: Served, actors: list[Any], pages: list[Any],
        chance: random.Random,
    ) -> None:  # fmt: skip
        self.options, self.served, self.actors, self.pages = options, served, actors, pages
        self._chance, self._process = chance, psutil.Process()
        self.corrected = 0
        self.refused: list[str] = []
        self.begun, self.used = time.monotonic(), time.process_time()
        self._first = sum(actor.followed for actor in actors)
        for page in pages:
            page.evaluate("seen.length = 0")

    def samples(self) -> list[Sample]:
        """Correct and look, until the time is over."""
        span = self.options.minutes * 60
        next_correction, next_sample, found = 0.0, 0.0, []
        while (now := time.monotonic() - self.begun) < span:
            if now >= next_correction and self.corrected < self.options.corrections:
                self._correct(self.corrected)
                self.corrected += 1
                next_correction = self.corrected * span * 0.95 / self.options.corrections
            if now >= next_sample:
                found.append(self._sample(now / 60))
                next_sample += span / 24
            self.pages[0].wait_for_timeout(50)
        found.append(self._sample((time.monotonic() - self.begun) / 60))
        return found

    def _correct(self, number: int) -> None:
        """By the page where it looks, by the actor elsewhere; every tenth one is undone."""
        actor = self.actors[number % len(self.actors)]
        object_id = self._chance.choice(list(actor.history.plan.objects))
        held = actor.ring.before((actor.status["head"] or 0) - self._chance.randrange(30))
        if held is None:
            return
        point = [self._chance.randrange(10, 630), self._chance.randrange(10, 350)]
        said = {"frame": held, "object": object_id, "points": [point]}
        undo = number % 10 == 9
        try:
            if actor is self.actors[0]:
                page = self.pages[(number // len(self.actors)) % len(self.pages)]
                page.evaluate(f"studio.send('prompt', {json.dumps(said)})")
                if undo:
                    page.evaluate("studio.send('undo')")
            else:
                do(actor, {"command": "prompt", **said})
                if undo:
                    do(actor, {"command": "undo"})
        except Exception as error:
            self.refused.append(" ".join(str(error).split())[:200])

    def _sample(self, minute: float) -> Sample:
        for page in self.pages:
            page.evaluate("globalThis.gc?.()")
        heap = [page.evaluate("performance.memory.usedJSHeapSize") for page in self.pages]
        made = Sample(
            round(minute, 1), sum(actor.followed for actor in self.actors) - self._first,
            round(max(actor.held() for actor in self.actors) / 2**20, 1),
            self._process.memory_info().rss >> 20, self._process.num_threads(),
            self._process.num_fds(), self.served.tasks(), round(max(heap) / 2**20, 1),
        )  # fmt: skip
        print(made, flush=True)
        return made

    def row(self, clicks: list[float], samples: list[Sample]) -> dict[str, Any]:
        """The figures of the whole run."""
        seen = [pair for page in self.pages for pair in page.evaluate("seen.slice(-4000)")]
        delays = np.array([delay for _, delay in seen] or [np.nan]) * 1000
        took = time.monotonic() - self.begun
        frames = max(1, samples[-1].frames)
        used = (time.process_time() - self.used) * 1000
        return {
            "minutes": round(took / 60, 1), "streams": len(self.actors),
            "objects": max(self.options.objects), "pages": len(self.pages),
            "corrections": self.corrected, "followed/s, all": f"{frames / took:.1f}",
            "processor ms a frame": f"{used / frames:.0f}",
            "delay ms, median": f"{np.median(delays):.0f}",
            "p95": f"{np.percentile(delays, 95):.0f}",
            "click to mask ms": f"{np.median(clicks):.0f}",
            "caught up, frames/s": catch_up(self.actors[-1]),
            f"held MB (of {_BUDGET_MB})": samples[-1].held_mb,
            "process MB": samples[-1].process_mb,
        }  # fmt: skip

    def broken(self, samples: list[Sample]) -> list[str]:
        """The limits that do not hold."""
        found = []
        over = [sample for sample in samples if sample.held_mb > _BUDGET_MB]
        if over:
            found.append(f"{over[0].held_mb} MB held at minute {over[0].minute}")
        # Of the second half, when all that fills up has: its middle against its end.
        half = samples[len(samples) // 2 :]
        cut = max(1, len(half) // 2)
        for name, slack in (
            ("process_mb", 24), ("threads", 3), ("files", 2), ("tasks", 2), ("page_mb", 12)
        ):  # fmt: skip
            early, late = (
                float(np.median([getattr(sample, name) for sample in part]))
                for part in (half[:cut], half[cut:])
            )
            if late > early + max(slack, 0.03 * early):
                found.append(f"{name} grows: {early:.0f}, later {late:.0f}")
        if self.refused:
            found.append(f"{len(self.refused)} corrections were refused: {self.refused[0]}")
        if self.corrected < self.options.corrections:
            found.append(f"{self.corrected} of {self.options.corrections} corrections were made")
        for actor in self.actors:
            if actor.problem or actor.status["notes"]:
                found.append(f"{actor.name}: {actor.problem or actor.status['notes'][-1][1]}")
        return found + self._unlike()

    def _unlike(self) -> list[str]:
        """Whether pages were shown different things on one frame."""
        # What is corrected meanwhile is rightly shown otherwise, to whoever is shown it later.
        self.actors[0].wait_until_caught_up(60)
        self.pages[0].wait_for_timeout(3000)
        for page in self.pages:
            page.evaluate("shown.clear()")
        shown: list[dict[int, str]] = []
        common: set[int] = set()
        for _ in range(30):  # on a busy machine pages paint few frames, seldom the same ones
            self.pages[0].wait_for_timeout(10_000)
            shown = [dict(page.evaluate("[...shown]")) for page in self.pages]
            common = set.intersection(*map(set, shown))
            if len(common) >= 3:
                break
        print(f"{len(common)} frames were painted by all pages", flush=True)
        if len(common) < 3:
            return [f"only {len(common)} frames were painted by all pages"]
        unlike = [frame for frame in common if len({page[frame] for page in shown}) > 1]
        return [f"{len(unlike)} of {len(common)} frames differ between pages"] if unlike else []


def do(actor: Any, said: dict[str, Any]) -> None:
    from vision_mem.studio.commands import parse_command

    actor.submit(parse_command(said)).result(120)


if __name__ == "__main__":
    sys.exit(main())
