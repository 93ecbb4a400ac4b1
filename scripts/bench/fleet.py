"""Eight generated streams on one machine: alive, in time, fair, and back when killed?

    python scripts/bench/fleet.py                      # about four minutes
    python scripts/bench/fleet.py --minutes 20         # the paced part that long
    python scripts/bench/fleet.py --model vision_mem.models.segmenters.fake:FakeSegmenter

Four parts, each a ``vision-mem fleet`` of its own. ``alone`` and ``together`` run one stream and
all of them at full speed: frames/s, resident memory (with the owner's process), shares. ``paced``
plays them as cameras of 30 frames/s, far more than the machine can follow, kills the process of
the device half way, and looks at delays and identities. ``equal`` compares results of clips with
``vision-mem track`` alone, byte by byte, while another camera comes and a third one goes. Ends
with 1 if something does not hold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

PROGRAM = [sys.executable, "-m", "vision_mem"]
STREAMS = """
import numpy as np

def frames(seed, count=10**7):
    dice = np.random.default_rng(seed)
    ground = dice.integers(60, 120, (30, 40, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    for t in range(count):
        image = ground.copy()
        x = 130 + int(100 * np.sin(t / 60 + seed))
        y = 80 + int(50 * np.cos(t / 47))
        image[y : y + 60, x : x + 60] = (220, 30, 30)
        image[y + 15 : y + 45, x + 15 : x + 45] = (240, 220, 40)
        yield image
"""


@dataclass
class Watch:
    """What was seen of a fleet."""

    views: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Processor seconds of the process of the device, at each look."""

    def frames(self, begin: float, end: float) -> dict[str, float]:
        """Frames a second of each camera between two moments."""
        some = [(at, view) for at, view in self.views if begin <= at <= end]
        (first_at, first), (last_at, last) = some[0], some[-1]
        before = {one["name"]: one["frames"] for one in first["cameras"]}
        return {
            one["name"]: (one["frames"] - before.get(one["name"], 0)) / (last_at - first_at)
            for one in last["cameras"]
        }

    def seconds(self, begin: float, end: float) -> dict[str, float]:
        """Seconds of the device that each camera had between two moments."""
        some = [view for at, view in self.views if begin <= at <= end]
        before = {one["name"]: one["seconds"] for one in some[0]["cameras"]}
        return {one["name"]: one["seconds"] - before[one["name"]] for one in some[-1]["cameras"]}


def camera(name: str, seed: int, **more: Any) -> dict[str, Any]:
    x, y = 130 + int(100 * math.sin(seed)), 130
    said = {"source": f"streams:{name}", "box": f"thing={x},{y},60,60", "save": "lasot"}
    return said | more


def write_list(path: Path, model: str, cameras: dict[str, dict[str, Any]]) -> None:
    """The list, in one step, as an editor writes it; JSON is YAML."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"defaults": {"model": model}, "cameras": cameras}, indent=1))
    fresh.replace(path)


@contextmanager
def fleet(path: Path, out: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A fleet that runs, and the address of its status."""
    words = [*PROGRAM, "fleet", str(path), "--out", str(out), "--listen", "127.0.0.1:0", *more]
    child = subprocess.Popen(words, cwd=path.parent, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    try:
        line = child.stderr.readline()
        if "http" not in line:
            sys.exit(line + child.stderr.read())
        address = line.split()[-1]
        said = (out.parent / f"{out.name}.txt").open("w")
        drain = subprocess.Popen(["cat"], stdin=child.stderr, stdout=said)
        yield child, address
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        child.wait(60)
        drain.wait(5)


def view_of(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}status", timeout=10) as answer:
        return dict(json.load(answer))


def memory_of(child: subprocess.Popen[str]) -> int:
    """Resident bytes of a process and those it began; what they share counts once."""
    total = 0
    for process in [psutil.Process(child.pid), *psutil.Process(child.pid).children(True)]:
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def look(
    child: subprocess.Popen[str], address: str, seconds: float,
    each: Callable[[float, dict[str, Any]], None] = lambda at, view: None,
) -> Watch:  # fmt: skip
    """Look twice a second, from the moment when all cameras have followed some frames."""
    watch, begin = Watch(), 0.0
    give_up = time.monotonic() + 120 + seconds
    while child.poll() is None and time.monotonic() < give_up:
        time.sleep(0.5)
        view, now = view_of(address), time.monotonic()
        if not begin:
            if not all(one["frames"] > 8 for one in view["cameras"]):
                continue
            begin = now
        if now - begin > seconds:
            break
        watch.views.append((now, view))
        watch.memory.append(memory_of(child))
        with suppress(psutil.Error, TypeError):
            times = psutil.Process(view["devices"][0]["pid"]).cpu_times()
            watch.cpu.append(times.user + times.system)
        each(now - begin, view)
    return watch


class Checks:
    """What holds and what does not."""

    def __init__(self) -> None:
        self.failed = 0

    def say(self, good: bool, text: str) -> None:
        self.failed += not good
        print(f"{'holds' if good else 'FAILS'}: {text}", flush=True)


def full_speed(place: Path, model: str, count: int, seconds: float) -> tuple[float, float, Watch]:
    """Frames a second in all, and resident bytes, of so many streams."""
    path = place / f"full{count}.yaml"
    write_list(path, model, {f"s{n}": camera(f"s{n}", n) for n in range(count)})
    with fleet(path, place / f"full{count}") as (child, address):
        watch = look(child, address, seconds)
    begin, end = watch.views[0][0], watch.views[-1][0]
    rates = watch.frames(begin, end)
    memory = max(watch.memory)
    print(
        f"{count} at full speed: {sum(rates.values()):.1f} frames/s in all, {memory / 1e6:.0f} MB"
    )
    return sum(rates.values()), memory, watch


def unfairness(seconds: dict[str, float]) -> float:
    """The largest distance of a share from the mean, as a part of it."""
    mean = sum(seconds.values()) / len(seconds)
    return max(abs(one - mean) for one in seconds.values()) / mean


def paced(place: Path, model: str, count: int, seconds: float, checks: Checks) -> None:
    path = place / "paced.yaml"
    budget = 1500.0
    cameras = {
        f"s{n}": camera(f"s{n}", n, paced=True, delay_ms=budget, min_fps=0.5) for n in range(count)
    }
    write_list(path, model, cameras)
    state: dict[str, Any] = {}
    worst: dict[str, float] = {}
    late_at: list[tuple[float, float]] = []
    dead = 0

    def each(at: float, view: dict[str, Any]) -> None:
        nonlocal dead
        host = view["devices"][0]
        frames = {one["name"]: one["frames"] for one in view["cameras"]}
        if at > seconds / 2 and "killed" not in state:
            state["objects"] = {one["name"]: one["objects"] for one in view["cameras"]}
            os.kill(host["pid"], signal.SIGKILL)
            state["killed"] = time.monotonic()
            return
        if "killed" in state and "back" not in state:
            new = host["restarts"] > 0 and all(frames.values())
            running = all(one["state"] == "running" for one in view["cameras"])
            if new and running and host["pid"] is not None:
                state["back"] = time.monotonic()
                now = {one["name"]: one["objects"] for one in view["cameras"]}
                state["same"] = now == state["objects"]
            return
        for one in view["cameras"]:
            dead += one["state"] != "running"
            delay = one["worst_s"] or 0.0
            late_at.append((delay, at))
            worst[one["name"]] = max(worst.get(one["name"], 0.0), delay)

    with fleet(path, place / "paced", "--snapshot-every", "25") as (child, address):
        watch = look(child, address, seconds, each)
    late = max(worst.values())
    print(f"largest delay seen {max(late_at)[1]:.0f} s after the begin, of {seconds:.0f}")
    checks.say(dead == 0, f"every stream alive in {len(watch.views)} looks over {seconds:.0f} s")
    checks.say(late <= budget / 1e3, f"largest delay {late:.2f} s, budget {budget / 1e3:.1f} s")
    killed = state["killed"] - 0.6
    begin, end = watch.views[0][0], killed
    share = unfairness(watch.seconds(begin, end))
    checks.say(share <= 0.1, f"shares of paced streams within {share:.1%} of fair")
    took = state.get("back", 1e9) - state["killed"]
    checks.say(took <= 10, f"killed process: all streams follow again after {took:.1f} s")
    checks.say(state.get("same", False), "with the identities they had")
    rates = watch.frames(begin, end)
    print(f"paced: {sum(rates.values()):.1f} frames/s followed of {30 * count} that came")


def equal(place: Path, model: str, checks: Checks, length: int) -> None:
    """Two clips, while a third camera comes and a fourth one goes."""
    path, out = place / "equal.yaml", place / "equal"
    stay = {f"c{n}": camera(f"c{n}", n) for n in range(2)}
    write_list(path, model, stay | {"goes": camera("s5", 5)})
    alone = {}
    for name, one in stay.items():
        folder = place / f"alone-{name}"
        words = [one["source"], "--box", one["box"], "--save", "lasot", "--model", model]
        line = [*PROGRAM, "track", *words, "--threads", "1", "--quiet", "--out", str(folder)]
        subprocess.run(line, cwd=place, check=True)
        alone[name] = contents(folder)
    with fleet(path, out) as (_, address):
        give_up, done = time.monotonic() + 240, False
        while time.monotonic() < give_up:
            time.sleep(0.3)
            view = {one["name"]: one for one in view_of(address)["cameras"]}
            if "goes" in view and all(view[n]["frames"] > length // 4 for n in (*stay, "goes")):
                write_list(path, model, stay | {"comes": camera("s6", 6)})
            done = all(view[n]["state"] == "finished" for n in stay)
            if done and view.get("comes", {}).get("frames", 0) > 3:
                break
    for name in stay:
        same = contents(out / name) == alone[name] and bool(alone[name])
        checks.say(same, f"{name}: equal to a run alone, to the byte, while cameras come and go")
    ended = json.loads((out / "goes" / "run.json").read_text())
    checks.say(
        ended["status"] == "stopped", "the camera that was taken out: its files are finished"
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.txt"))
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.5, help="of the paced part")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30, help="of each part at full speed")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--only", nargs="+", default=["full", "paced", "equal"])
    given = parser.parse_args()
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        module = [f"def s{n}():\n    return frames({n})\n" for n in range(max(given.streams, 8))]
        length = 60
        module += [f"def c{n}():\n    return frames({n}, {length})\n" for n in range(2)]
        (place / "streams.py").write_text("\n".join([STREAMS, *module]))
        if "full" in given.only:
            one, small, _ = full_speed(place, given.model, 1, given.seconds)
            many, large, watch = full_speed(place, given.model, given.streams, given.seconds)
            checks.say(many >= 0.9 * one, f"{many / one:.2f} times the frames/s of one stream")
            checks.say(large <= 2 * small, f"{large / small:.2f} times its memory")
            share = unfairness(watch.seconds(watch.views[0][0], watch.views[-1][0]))
            checks.say(share <= 0.1, f"shares at full speed within {share:.1%} of fair")
        if "paced" in given.only:
            paced(place, given.model, given.streams, given.minutes * 60, checks)
        if "equal" in given.only:
            equal(place, given.model, checks, length)
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
