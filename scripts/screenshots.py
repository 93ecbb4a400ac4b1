"""Pictures of the studio's page for the documentation, made with a real Chromium.

    python scripts/screenshots.py [--out docs/images] [--chromium /usr/bin/chromium] [--all]

Starts ``vision-mem studio`` on the demo clip, clicks the cup, and takes a picture of each state.
Without ``--all`` only those that the documentation shows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOKEN = "token-for-pictures"
CUP, TWIN, CAT = (90, 205), (596, 84), (424, 320)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    parser.add_argument("--port", type=int, default=8790)
    parser.add_argument("--all", action="store_true", help="every state, to look at")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = ["studio", "--port", str(options.port), "--token", TOKEN, "--no-open"]
        server = subprocess.Popen(
            [sys.executable, "-m", "vision_mem", *words, "--out", f"{folder}/out"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            print(server.stdout.readline().strip())
            options.out.mkdir(parents=True, exist_ok=True)
            take(options, f"http://localhost:{options.port}/?token={TOKEN}")
        finally:
            server.terminate()
            server.wait(20)


def take(options: argparse.Namespace, address: str) -> None:
    from playwright.sync_api import sync_playwright

    def save(page: Any, name: str, extra: bool = True) -> None:
        if options.all or not extra:
            path = options.out / f"studio-{name}.jpg"
            page.screenshot(path=path, type="jpeg", quality=80)
            print(path)

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=options.chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        wide = {"width": 1280, "height": 720}
        page = browser.new_context(viewport=wide, color_scheme="light").new_page()
        page.on("console", lambda m: print("console:", m.text) if m.type == "error" else None)
        page.goto(address)
        until(page, "document.querySelector('#empty:not([hidden])') !== null")
        save(page, "empty")
        page.click("#empty [data-open=demo]")
        until(page, "studio.stage.head !== null")
        save(page, "opened")
        click(page, *CUP, box=(48, 150, 132, 262))
        until(page, "studio.stage.objects.length === 1")
        name(page, "cup")
        click(page, *TWIN, box=(556, 36, 640, 132))
        until(page, "studio.stage.objects.length === 2")
        name(page, "twin")
        click(page, *CAT, box=(352, 268, 494, 360))
        until(page, "studio.stage.objects.length === 3")
        name(page, "cat")
        page.click("#play")
        until(page, "studio.page.state.head >= 24", 240)
        page.click("#play")
        page.wait_for_timeout(700)
        save(page, "running", extra=False)
        seek(page, 20)
        click(page, *CUP, kind="preview")
        page.wait_for_timeout(300)
        save(page, "corrected")
        page.keyboard.press("z")
        if page.evaluate("studio.page.about.can_ask"):
            page.click("[data-panel=ask]")
            for question in ("when is there a cat?", "is there an elephant?"):
                page.fill("#question input", question)
                page.keyboard.press("Enter")
                save(page, "asking")
                until(page, "!document.querySelector('#question button').disabled", 60)
            page.wait_for_timeout(300)
            save(page, "ask", extra=False)
        page.click("[data-panel=home]")
        save(page, "home")
        page.click("[data-panel=objects]")
        page.keyboard.press("Escape")
        page.click("#theme")
        page.wait_for_timeout(200)
        save(page, "dark", extra=False)
        page.keyboard.press("?")
        page.wait_for_timeout(200)
        save(page, "keys")
        page.keyboard.press("Escape")
        page.click("#add")
        page.wait_for_timeout(500)
        page.fill("#address input", "rtsp://nobody.invalid/stream")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('.toast.bad') !== null", 60)
        save(page, "error")
        for scheme in ("light", "dark"):
            tall = {"width": 390, "height": 844}
            phone = browser.new_context(
                viewport=tall, color_scheme=scheme, device_scale_factor=1.5, has_touch=True,
                is_mobile=True,
            ).new_page()  # fmt: skip
            phone.goto(address)
            until(phone, "studio.stage.head !== null")
            phone.wait_for_timeout(600)
            save(phone, f"phone-{scheme}", extra=scheme == "dark")
        if options.all:
            page.keyboard.press("Escape")
            page.keyboard.press("Escape")
            for number in (3, 2):
                page.evaluate(f"studio.send('remove', {{object: {number}, frame: 0}})")
            page.click("#play")
            until(page, "studio.page.state.head >= 92", 600)
            page.click("#play")
            page.wait_for_timeout(1500)
            save(page, "lost")
            page.click("#happened summary")
            page.click(".object")
            page.wait_for_timeout(400)
            save(page, "events")
            unsure = page.evaluate(
                "studio.page.state.objects[0].events.filter(([, k]) => /unsure/.test(k))[0]?.[0]"
            )
            if unsure is not None:
                seek(page, unsure)
                page.wait_for_timeout(400)
                save(page, "unsure")
            page.click("#everything summary")
            page.evaluate("document.getElementById('everything').scrollIntoView()")
            page.click("#detect")
            page.click("#play")
            page.wait_for_timeout(6000)
            save(page, "everything")
        browser.close()


def until(page: Any, what: str, limit_s: float = 60) -> None:
    """Until something holds on the page; its rules of safety forbid the browser's own waiting."""
    end = time.monotonic() + limit_s
    while not page.evaluate(f"'studio' in globalThis && Boolean({what})"):  # the page may load yet
        if time.monotonic() > end:
            raise TimeoutError(what)
        page.wait_for_timeout(20)


def click(
    page: Any, x: float, y: float, box: tuple[float, ...] | None = None, kind: str = ""
) -> None:
    """Click on a pixel of the frame, or drag a box."""
    stage, view = page.locator("#stage").bounding_box(), page.evaluate("studio.stage.view()")

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            stage["x"] + view["x"] + x * view["scale"], stage["y"] + view["y"] + y * view["scale"],
        )  # fmt: skip

    if kind:
        page.keyboard.down("Shift")
    if box is None:
        page.mouse.click(*place(x, y))
    else:
        page.mouse.move(*place(box[0], box[1]))
        page.mouse.down()
        page.mouse.move(*place(box[2], box[3]), steps=4)
        page.mouse.up()
    if kind:
        page.keyboard.up("Shift")


def name(page: Any, text: str) -> None:
    page.wait_for_timeout(300)
    page.keyboard.press("F2")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_timeout(400)
    page.keyboard.press("Escape")


def seek(page: Any, frame: int) -> None:
    page.evaluate(f"studio.send('seek', {{frame: {frame}}})")
    until(page, f"studio.stage.head.frame === {frame}")


if __name__ == "__main__":
    main()
