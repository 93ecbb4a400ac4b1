"""Ten thousand frames of every system: do milliseconds or memory grow?

    python scripts/bench/soak.py                          # all five, one process each
    python scripts/bench/soak.py --only mots --frames 2000

Each system gets a generated stream without end (a short one, played forwards and backwards), and
writes what its command writes, so that source, session, sinks and files are all in it. A row is a
quarter of the run: the mean of milliseconds of processor time a frame, bytes the session holds,
resident memory of the process. The last quarter is held against the second: the first one fills
memories. What a machine does beside changes what a second of its processor is worth, so a fixed
computation is timed all along, and milliseconds are compared as multiples of it. Ends with 1 if
one of them is more than ``--within`` percent above it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vision_mem.config import load_config
from vision_mem.models import use_threads
from vision_mem.runs.loop import run
from vision_mem.types import Frame, Prompt, SourceInfo

FPS = 25.0


class Endless:
    """A source of ``total`` frames made of a few: there, back, and there again."""

    def __init__(self, name: str, frames: Sequence[Any], total: int) -> None:
        self.frames = [*frames, *frames[-2:0:-1]]
        height, width = frames[0].image.shape[:2]
        self.info = SourceInfo(name, width, height, FPS, total)
        self.total = total

    def __iter__(self) -> Iterator[Any]:
        for t, frame in zip(range(self.total), cycle(self.frames), strict=False):
            yield replace(frame, index=t, time_s=t / FPS)

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Watched:
    """A session whose steps are timed; ``drive`` says how one frame is given to it."""

    session: Any
    drive: Callable[[Any, Any], Any]
    spent: list[float]
    yardstick: list[float] = field(default_factory=list)

    def step(self, frame: Any) -> Any:
        """Look at the next frame."""
        began = time.process_time()
        result = self.drive(self.session, frame)
        self.spent.append(1e3 * (time.process_time() - began))
        if frame.index % 20 == 0:
            began = time.process_time()
            fixed_computation()
            self.yardstick.append(1e3 * (time.process_time() - began))
        return result


_MATRIX = np.random.default_rng(0).normal(size=(160, 160))


def fixed_computation() -> float:
    """Some of each: arithmetic in the cache, sorting in memory, and the interpreter; a few ms."""
    total = float((_MATRIX @ _MATRIX).sum() + np.sort(np.tile(_MATRIX, 4), axis=None)[7])
    for number in range(8000):
        total += number % 7
    return total


def clip(frames: int) -> list[Frame]:
    """A generated clip as frames."""
    from vision_mem.synthetic.clips import demo_clip

    images = islice(demo_clip().frames(), frames)
    return [
        Frame(t, t / FPS, np.ascontiguousarray(each[::2, ::2])) for t, each in enumerate(images)
    ]


def track(total: int, out: Path) -> tuple[Endless, Watched, list[Any]]:
    """One object, the embedded segmenter."""
    from vision_mem.models.segmenters.load import load_segmenter
    from vision_mem.sinks.registry import make_sinks
    from vision_mem.synthetic.clips import demo_clip
    from vision_mem.tracking import TrackingConfig, TrackingSession

    box = demo_clip().render(0).box / 2
    source = Endless("soak", clip(60), total)
    config = load_config(TrackingConfig, "samurai", folder="tracking")
    session = TrackingSession(load_segmenter("embedded"), config)

    def drive(session: Any, frame: Frame) -> Any:
        return session.step(frame, [Prompt(box=box)] if frame.index == 0 else [])

    sinks = make_sinks(out, ["video", "mot", "rle", "diary"], source.info)
    return source, Watched(session, drive, []), sinks


def mots(total: int, out: Path) -> tuple[Endless, Watched, list[Any]]:
    """People that come and go, true boxes as detections, a small embedded segmenter."""
    from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
    from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
    from vision_mem.mots import MotsConfig, MotsSession
    from vision_mem.sinks.registry import MOTS_SINKS, make_sinks
    from vision_mem.synthetic.crowds import CrowdClip, CrowdSettings
    from vision_mem.types import Detections

    made = list(CrowdClip(CrowdSettings(seed=5, frames=60, width=160, height=120, objects=4)))
    frames = [Frame(t, t / FPS, each.image) for t, each in enumerate(made)]
    source = Endless("soak", frames, total)
    boxes = cycle([*made, *made[-2:0:-1]])
    config = load_config(MotsConfig, "default", folder="mots")
    small = EmbeddedConfig(window=96, scene_side=96)
    session = MotsSession(EmbeddedSegmenter.load("cpu", config=small), config)

    def drive(session: Any, frame: Frame) -> Any:
        found = np.array([record.box for record in next(boxes).records()], np.float32)
        return session.step(frame, Detections(found.reshape(-1, 4)))

    names = ["video", "mot", "rle", "events", "tracks"]
    return (
        source,
        Watched(session, drive, []),
        make_sinks(out, names, source.info, table=MOTS_SINKS),
    )


def ask(total: int, out: Path) -> tuple[Endless, Watched, list[Any]]:
    """Five frames a second are looked at; a question every hundred frames."""
    from vision_mem.models.vlm.load import load_video_model
    from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

    source = Endless("soak", clip(60), total)
    changes = {"fps": 5.0, "memory.budget": 300}
    config = load_config(VideoQaConfig, "search", changes, folder="videoqa")
    session = VideoMemorySession(load_video_model("words"), config)

    def drive(session: Any, frame: Frame) -> Any:
        result = session.step(frame)
        if frame.index % 100 == 99:
            session.ask("a dog")
        return result

    return source, Watched(session, drive, []), []


def room(total: int) -> Endless:
    """A generated room with things that move, depth and poses."""
    from vision_mem.synthetic.rgbd_scene import SyntheticStream

    frames = [true.frame for true in SyntheticStream(3, 48, 96, 72)]
    return Endless("soak", frames, total)


def reconstruct(total: int, out: Path) -> tuple[Endless, Watched, list[Any]]:
    """Poses are found; the budget is small, so that it is full early."""
    from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession

    changes = {"budget_mb": 4.0}
    config = load_config(ReconstructionConfig, "default", changes, folder="reconstruction")

    def drive(session: Any, frame: Any) -> Any:
        return session.step(frame if frame.index == 0 else frame.without_pose())

    return room(total), Watched(ReconstructionSession(config), drive, []), []


def navigate(total: int, out: Path) -> tuple[Endless, Watched, list[Any]]:
    """A map file with its journal on disk, a bounded part of it in memory."""
    from vision_mem.navigation import NavigationConfig, NavigationSession, Observation

    config = load_config(NavigationConfig, "indoor", {"octree.leaf": 0.1}, folder="navigation")
    session = NavigationSession(out / "soak.map", mode="w", config=config)

    def drive(session: Any, frame: Any) -> Any:
        v, u = (grid.ravel()[::7] for grid in np.indices(frame.depth.shape))
        z = frame.depth[v, u]
        k = frame.camera
        points = np.stack([(u - k.cx) / k.fx * z, (v - k.cy) / k.fy * z, z], 1)[z > 0]
        return session.step(Observation(frame.time_s, frame.pose, points=points))

    return room(total), Watched(session, drive, []), []


SYSTEMS = {f.__name__: f for f in (track, mots, ask, reconstruct, navigate)}


def soak(name: str, frames: int) -> None:
    """Run one system; one JSON line a quarter."""
    use_threads(1)
    process, most = psutil.Process(), 0
    with tempfile.TemporaryDirectory() as folder:
        source, watched, sinks = SYSTEMS[name](frames, Path(folder))
        quarter = frames // 4
        for frame, _ in run(source, watched, sinks):
            if frame.index % 50 == 0:
                most = max(most, watched.session.usage().bytes)
            if (frame.index + 1) % quarter == 0:
                row = {
                    "system": name, "frame": frame.index + 1,
                    "ms": float(np.mean(watched.spent[-quarter:])),
                    "fixed": float(np.mean(watched.yardstick[-quarter // 20 :])),
                    "held": most, "rss": process.memory_info().rss,
                }  # fmt: skip
                print(json.dumps(row), flush=True)
                most = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--only", choices=SYSTEMS, action="append")
    parser.add_argument("--within", type=float, default=10.0, help="percent")
    parser.add_argument("--child", choices=SYSTEMS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        soak(given.child, given.frames)
        return 0
    print(
        "| system | frame | ms a frame | fixed, ms | held, MB | resident, MB "
        "| above the second quarter |"
    )
    print("|---|---|---|---|---|---|---|")
    grown = []
    for name in given.only or SYSTEMS:
        command = [sys.executable, __file__, "--child", name, "--frames", str(given.frames)]
        rows: list[dict[str, Any]] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout or ():
                row = json.loads(line)
                rows.append(row)
                above = ""
                if len(rows) == 4:
                    for each in rows:
                        each["worth"] = each["ms"] / each["fixed"]
                    shares = [row[key] / rows[1][key] - 1 for key in ("worth", "rss")]
                    above = "{:+.1%} ms, {:+.1%} resident".format(*shares)
                    grown += [name] * (100 * max(shares) > given.within)
                print(
                    f"| {name} | {row['frame']} | {row['ms']:.2f} | {row['fixed']:.2f} "
                    f"| {row['held'] / 1e6:.1f} | {row['rss'] / 1e6:.0f} | {above} |",
                    flush=True,
                )
        if len(rows) != 4:
            grown.append(name)
            print(f"{name} ended early, with {child.returncode}", file=sys.stderr)
    if grown:
        print(f"grown by more than {given.within:g} %: {', '.join(grown)}", file=sys.stderr)
    return int(bool(grown))


if __name__ == "__main__":
    raise SystemExit(main())
