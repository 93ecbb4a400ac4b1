"""What many objects cost: milliseconds and bytes of a multi-object session, by number of objects.

    python scripts/bench/mots_cost.py                                  # embedded
    python scripts/bench/mots_cost.py --model random --image-size 256  # SAM 2 tiny, random weights
    python scripts/bench/mots_cost.py --objects 16 --profile           # where the time goes
    python scripts/bench/mots_cost.py --scale 3 --objects 1 8 25       # 1920 x 1080

Objects drift about in cells of a generated picture; the detector says where each is on every
frame, so association, states, overlaps and memories have their full work. Times are processor
time (other programs do not count) and medians over frames on which all memories are full; with
``--threads 2`` they are wall time. One process makes the whole table; sizes take turns frame by
frame, so that all meet the same machine.

With random weights masks mean nothing, so objects are added by hand and neither lost nor born; the
last table shows what boxes cost that are decoded one by one and together, for births.

Columns: a whole frame; what of it no object changes (``encode_image``, E); the rest divided by the
objects; whole frame and rest as multiples of one object's; the frame on which all were born; bytes
held between frames, and how many are followed then.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from vision_mem.config import load_config
from vision_mem.models import load_segmenter, use_threads
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.tracking.engine import Engine, apply_boxes
from vision_mem.types import Detections, Frame, Prompt

ALWAYS = (
    "lifecycle.lose=false",
    "lifecycle.duplicate_share=1",
    "memory.gate=false",
    "reprompt.enabled=false",
    "gallery.slip_similarity=0",
    "birth.free_share=1",
    "tracking.appear_threshold=-1000000",
)
HEIGHT, WIDTH, COLUMNS, ROWS = 360, 640, 8, 4
MIB = 2**20


class Cells:
    """A picture of up to 128 textured objects, each drifting about in a cell of its own.

    Pictures are ``scale`` times 640 x 360, objects too; more than 32 are half as large.
    """

    def __init__(self, objects: int, scale: int = 1) -> None:
        self.scale = scale
        self.finer = 1 if objects <= COLUMNS * ROWS else 2
        columns, rows = self.finer * COLUMNS, self.finer * ROWS
        size = 42 // self.finer, 56 // self.finer
        random = np.random.default_rng(5)
        fine = random.integers(60, 190, (HEIGHT // 4, WIDTH // 4, 3)).astype(np.uint8)
        self.ground = cv2.GaussianBlur(
            cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), (0, 0), 3
        )
        # The first few cells are spread over the picture, not crowded into its corner.
        order = random.permutation(columns * rows)[:objects]
        self.places = [divmod(int(cell), columns) for cell in order]
        self.patches = []
        for number in range(objects):
            own = np.random.default_rng(100 + number)
            colour = own.integers(0, 256, 3)
            grain = own.integers(-50, 50, (8, 6, 3))
            patch = np.clip(colour + grain, 0, 255).astype(np.uint8)
            self.patches.append(cv2.resize(patch, size, interpolation=cv2.INTER_NEAREST))

    def __call__(self, t: int) -> tuple[Frame, Detections]:
        image = self.ground.copy()
        boxes = []
        for number, ((row, column), patch) in enumerate(
            zip(self.places, self.patches, strict=True)
        ):
            wide, high = WIDTH // COLUMNS / self.finer, HEIGHT // ROWS / self.finer
            x = round(column * wide + (19 + 15 * np.sin(0.11 * t + number)) / self.finer)
            y = round(row * high + (17 + 12 * np.cos(0.09 * t + 2 * number)) / self.finer)
            height, width = patch.shape[:2]
            image[y : y + height, x : x + width] = patch
            boxes.append((x, y, x + width, y + height))
        if self.scale > 1:
            image = np.repeat(np.repeat(image, self.scale, axis=0), self.scale, axis=1)
        found = Detections(self.scale * np.array(boxes, np.float32))
        return Frame(t, t / 25.0, image), found


class Timed:
    """A segmenter that says how long its image encoder took."""

    def __init__(self, segmenter: Any, clock: Any) -> None:
        self._segmenter, self._clock = segmenter, clock
        self.spent = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segmenter, name)

    def encode_image(self, frame: Frame) -> Any:
        begin = self._clock()
        made = self._segmenter.encode_image(frame)
        self.spent = self._clock() - begin
        return made


def row(runs: dict[int, list[Any]], objects: int, skip: int) -> dict[str, Any]:
    def rest(count: int) -> float:
        return float(np.median([each[0] - each[1] for each in runs[count][skip:]]))

    def whole(count: int) -> float:
        return float(np.median([each[0] for each in runs[count][skip:]]))

    one = min(runs)
    shared = float(np.median([each[1] for each in runs[objects][skip:]]))
    return {
        "objects": objects,
        "ms": round(1e3 * whole(objects), 1),
        "mean ms": round(1e3 * float(np.mean([each[0] for each in runs[objects][skip:]])), 1),
        "E ms": round(1e3 * shared, 1),
        "ms an object": round(1e3 * rest(objects) / objects, 1),
        "x one frame": round(whole(objects) / whole(one), 2),
        "x one object": round(rest(objects) / rest(one), 2),
        "births ms": round(1e3 * runs[objects][0][0], 1),
        "MiB held": round(runs[objects][-1][2] / MIB, 2),
        "followed": runs[objects][-1][3],
    }


def births(segmenter: Any, config: MotsConfig, counts: list[int], clock: Any) -> None:
    """Boxes shown to the segmenter one by one and together: milliseconds, medians of three."""
    engine = Engine(segmenter, replace(config.tracking, batch_objects="on"))
    for count in counts:
        frame, found = Cells(count)(0)
        features = segmenter.encode_image(frame)
        prompts = {n: Prompt(box=box) for n, box in enumerate(found.boxes)}
        times: dict[str, list[float]] = {"one by one": [], "together": []}
        with torch.inference_mode():
            for _ in range(4):
                begin = clock()
                for n, prompt in prompts.items():
                    engine.apply_prompt(features, prompt, [], n, None)
                middle = clock()
                apply_boxes(engine, features, prompts)
                times["one by one"].append(middle - begin)
                times["together"].append(clock() - middle)
        cells = {k: round(1e3 * float(np.median(v[1:])), 1) for k, v in times.items()}
        print(f"boxes {count}  " + "  ".join(f"{k} {v}" for k, v in cells.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="embedded", help="embedded, random, or any segmenter")
    parser.add_argument("--image-size", type=int, default=256, help="of the random one")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--frames", type=int, default=28)
    parser.add_argument("--scale", type=int, default=1, help="times 640 x 360")
    parser.add_argument("--skip", type=int, default=20, help="frames until memories are full")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--profile", action="store_true", help="of the last number of objects")
    parser.add_argument("--out", type=Path, help="write the numbers to a JSON file")
    args = parser.parse_args()
    if not 0 < args.skip < args.frames:
        parser.error("--skip must lie within --frames")
    use_threads(1)
    torch.set_num_threads(1)  # --threads looks at so many objects at a time
    name, changes = args.model, list(args.set)
    if name == "random":
        name = f"random:sam2.1_hiera_t@{args.image_size}"
        changes = [*ALWAYS, *changes]
    clock = time.process_time if args.threads == 1 and args.device == "cpu" else time.perf_counter
    config = load_config(MotsConfig, args.preset, changes, folder="mots")
    segmenter = Timed(load_segmenter(name, device=args.device), clock)
    sessions = {count: MotsSession(segmenter, config, args.threads) for count in args.objects}
    clips = {count: Cells(count, args.scale) for count in args.objects}
    runs: dict[int, list[Any]] = {count: [] for count in args.objects}
    profiler = cProfile.Profile()
    for t in range(args.frames):
        for count, session in sessions.items():
            frame, found = clips[count](t)
            watched = args.profile and count == args.objects[-1] and t >= args.skip
            begin = clock()
            if watched:
                profiler.enable()
            if args.model == "random" and t == 0:
                session.step(frame, None)
                for box in found.boxes:
                    session.prompt(None, Prompt(box=box))
            else:
                session.step(frame, found)
            if watched:
                profiler.disable()
            spent = clock() - begin
            usage = session.usage().bytes
            runs[count].append((spent, segmenter.spent, usage, len(session.track_ids)))
    table = [row(runs, count, args.skip) for count in args.objects]
    for line in table:
        print("  ".join(f"{name} {value}" for name, value in line.items()), flush=True)
    if args.model == "random":
        births(segmenter, config, args.objects, clock)
    if args.profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    if args.out:
        args.out.write_text(json.dumps({"model": name, "threads": args.threads, "rows": table}))


if __name__ == "__main__":
    main()
