"""All memories on a room with depth, for very many frames: is each inside its share, and flat?

    python scripts/bench/watch.py --frames 20000
    python scripts/bench/watch.py --frames 2000 --segmenter embedded --ask words

A camera goes round and round a generated room (``synthetic.furnished_room``); what it sees is
filmed once and shown again. Two things are followed, the memory and the map are files, and a
snapshot of all is taken every so many frames. A row is an eighth of the run: bytes that each memory
holds, the most since the beginning of the run, resident memory of the process, milliseconds a
frame. Ends with 1 when a memory was ever above its share, or when the resident memory of the last
half is more than ``--within`` percent above that of the quarter before it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import psutil

from vision_mem.config import load_config
from vision_mem.formats.sqlite import put_back
from vision_mem.models import load_segmenter, use_threads
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.models.vlm.load import load_video_model
from vision_mem.navigation import NavigationConfig, NavigationSession
from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession
from vision_mem.stream_memory import StreamMemory, fitted, split_budget
from vision_mem.stream_memory.session import state_file
from vision_mem.synthetic.furnished_room import Room
from vision_mem.tracking import TrackingSession
from vision_mem.types import Prompt
from vision_mem.videoqa import VideoMemorySession, VideoQaConfig
from vision_mem.videoqa.evidence import ThumbnailSession, open_session
from vision_mem.videoqa.store import MemoryFile

_ROWS = 8


def main() -> int:
    """Run it; the exit code says how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=80)
    parser.add_argument("--round", type=int, default=48, help="frames of one round")
    parser.add_argument("--budget", default="64MB")
    parser.add_argument("--segmenter", default="fake")
    parser.add_argument("--ask", default="fake")
    parser.add_argument("--snapshot-every", type=int, default=1000)
    parser.add_argument("--within", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="keep it there, and go on from its snapshot")
    args = parser.parse_args()
    use_threads(1)
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
        return _run(args, args.folder)
    with tempfile.TemporaryDirectory() as folder:
        return _run(args, Path(folder))


def _run(args: argparse.Namespace, folder: Path) -> int:
    height = args.width * 3 // 4
    filmed = [f for f, _ in Room(frames=args.round, width=args.width, height=height).film()]
    segmenter = FakeSegmenter() if args.segmenter == "fake" else load_segmenter(args.segmenter)
    brain = load_video_model(args.ask)
    shares = split_budget(args.budget, ["track", "ask", "reconstruct", "navigate"])
    preset = "search" if args.ask == "words" else "default"
    asked = load_config(VideoQaConfig, preset, folder="videoqa")
    asked = fitted(asked, shares["ask"], brain, (height, args.width))
    scene = fitted(
        load_config(ReconstructionConfig, None, folder="reconstruction"), shares["reconstruct"]
    )
    mapped = fitted(load_config(NavigationConfig, None, folder="navigation"), shares["navigate"])
    about = {"model_id": brain.traits.model_id, "config": asdict(asked)}
    process, rows, most = psutil.Process(), [], {}
    joint = folder / "all.safetensors"
    before = joint.exists()
    for part, name in (("ask", "room.vmem"), ("navigate", "room.map")) if before else ():
        put_back(state_file(joint, part), folder / name)
    with (
        closing(MemoryFile(folder / "room.vmem", about)) as file,
        NavigationSession(folder / "room.map", mapped) as navigate,
    ):
        memory = StreamMemory(
            objects=(
                TrackingSession.resume(state_file(joint, "track"), segmenter)
                if before else TrackingSession(segmenter)
            ),
            ask=ThumbnailSession(
                open_session(brain, None, [], file) if before
                else VideoMemorySession(brain, asked), file,
            ),
            reconstruct=(
                ReconstructionSession.resume(state_file(joint, "reconstruct"))
                if before else ReconstructionSession(scene)
            ),
            navigate=navigate, budget=args.budget,
        )  # fmt: skip
        if before:
            memory.resume(joint)
        start = 0 if memory.latest is None else memory.latest + 1
        print(f"from frame {start}", flush=True)
        third = args.width // 3
        first = [
            Prompt(box=(4, 8, 4 + third, 8 + third), name="left thing"),
            Prompt(box=(args.width - third, 8, args.width - 4, 8 + third), name="right thing"),
        ]
        begin = time.perf_counter()
        every = max(args.frames // _ROWS, 1)
        for number in range(start, args.frames):
            frame = replace(filmed[number % len(filmed)], index=number, time_s=number / 10)
            result = memory.step(frame, first if number == 0 else ())
            for part, size in result.held.items():
                most[part] = max(most.get(part, 0), size)
            if (number + 1) % args.snapshot_every == 0:
                memory.snapshot(joint)
            if (number + 1) % every == 0:
                now = time.perf_counter()
                rows.append({
                    "frames": number + 1, "held": dict(result.held), "most": dict(most),
                    "resident_mb": process.memory_info().rss / 1e6,
                    "ms": 1000 * (now - begin) / every,
                    "files_mb": sum(p.stat().st_size for p in folder.iterdir()) / 1e6,
                })  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
                begin = now
        where = [(hit.label, hit.position.round(2).tolist()) for hit in memory.where("thing")]
        print(f"where: {where}", *memory.remarks, sep="\n")
    over = [part for part, size in most.items() if size > shares[part].bytes]
    resident = [row["resident_mb"] for row in rows]
    quarter = resident[len(rows) // 4 : len(rows) // 2] or resident
    grown = 100 * (max(resident[len(rows) // 2 :]) / max(quarter) - 1)
    print(f"shares: { ({name: each.bytes for name, each in shares.items()}) }")
    print(f"above its share: {over or 'none'}; resident memory of the last half {grown:+.1f} %")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return int(bool(over) or grown > args.within)


if __name__ == "__main__":
    sys.exit(main())
