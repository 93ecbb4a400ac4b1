"""A long stream of objects that come and go: does anything grow, and is an identity given twice?

    python scripts/bench/mots_long.py                       # 10,000 frames
    python scripts/bench/mots_long.py --set gallery.size=32 # the gallery is full early

A segmenter without weights follows coloured squares that cross the picture, each visit another one.
Prints, for each tenth of the run, milliseconds of processor time a frame, the most bytes held,
tracks and removed ones remembered, and how many identities were given; stops at one given twice.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from vision_mem.config import load_config
from vision_mem.models import use_threads
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.types import Detections, Frame


def crowd_of_squares(t: int) -> tuple[Frame, Detections]:
    """Coloured squares that cross the picture, each visit another one: births and deaths."""
    image = np.full((120, 160, 3), 110, np.uint8)
    image[::7] += 6
    boxes = []
    for lane in range(5):
        visit, step = divmod(t + 37 * lane, 90)
        x = 2 * step - 20
        rng = np.random.default_rng(visit * 5 + lane)
        if x + 20 <= 2 or x >= 158 or rng.random() < 0.2:
            continue
        colour = rng.integers(0, 256, 3)
        colour[int(rng.integers(3))] = 255
        x1, x2, y = max(x, 0), min(x + 20, 160), 4 + 23 * lane
        image[y : y + 18, x1:x2] = colour
        boxes.append((x1, y, x2, y + 18))
    return Frame(t, t / 25.0, image), Detections(np.array(boxes, np.float32).reshape(-1, 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    use_threads(1)
    config = load_config(MotsConfig, args.preset, args.set, folder="mots")
    session = MotsSession(FakeSegmenter(), config)
    born: set[int] = set()
    block = max(args.frames // 10, 1)
    spent, most = 0.0, 0
    for t in range(args.frames):
        frame, found = crowd_of_squares(t)
        started = time.process_time()
        result = session.step(frame, found)
        spent += time.process_time() - started
        for event in result.events:
            if event.kind == "born":
                if event.object_id in born:
                    raise SystemExit(f"id {event.object_id} was given twice")
                born.add(event.object_id)
        most = max(most, session.usage().bytes)
        if (t + 1) % block == 0:
            row = {
                "frame": t + 1,
                "ms a frame": round(1e3 * spent / block, 2),
                "most bytes": most,
                "tracks": len(session.track_ids),
                "remembered": len(session._state.gallery),
                "born": len(born),
            }
            print(json.dumps(row), flush=True)
            spent, most = 0.0, 0


if __name__ == "__main__":
    main()
