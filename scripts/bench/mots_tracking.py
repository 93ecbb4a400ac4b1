"""Track one MOTChallenge folder (img1, gt/gt.txt) or a generated crowd, and score it.

    python scripts/bench/mots_tracking.py FOLDER --detector truth --preset default
    python scripts/bench/mots_tracking.py crowd --detector truth --set gallery.enabled=false
    python scripts/bench/mots_tracking.py long --frames 10000

Detectors: ``truth`` (the true boxes), ``motion`` (background subtraction), ``people`` (the same,
for upright things). Preset ``iou`` is a plain tracker of boxes. ``long`` runs a segmenter without
weights over objects that come and go, and prints bytes held and milliseconds a frame as they
develop.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision_mem.config import load_config
from vision_mem.evaluation.mots.preprocessing import compare
from vision_mem.evaluation.mots.records import RULES
from vision_mem.evaluation.mots.scores import count
from vision_mem.geometry.boxes import box_iou
from vision_mem.io.mottext import MOT15, read_mot_text
from vision_mem.io.runlength import runs_of_masks
from vision_mem.io.trackrows import TrackRecord, TrackRows, track_rows
from vision_mem.models import load_segmenter, use_threads
from vision_mem.models.detectors import MotionConfig, MotionDetector
from vision_mem.models.fakes import FakeSegmenter
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.ops.assignment import assign
from vision_mem.types import Detections, Frame

SHOWN = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDS", "FP", "FN", "Frag")


def rows_of(records: list[tuple[int, TrackRecord]], masks: bool) -> TrackRows:
    columns = np.array([(t, r.object_id, r.class_id, 0) for t, r in records], np.int64)
    size = records[0][1].mask.shape if masks and records else (1, 1)
    return track_rows(
        columns.reshape(-1, 4),
        boxes=np.array([r.box for _, r in records], np.float64).reshape(-1, 4),
        masks=runs_of_masks([r.mask for _, r in records], size) if masks else None,
    )


class Folder:
    """Frames and truth of a MOTChallenge folder."""

    def __init__(self, root: Path, limit: int) -> None:
        self.paths = sorted((root / "img1").glob("*.jpg"))[:limit]
        text = (root / "gt" / "gt.txt").read_text()
        self.truth = read_mot_text(text, root, MOT15, truth=True)
        self.rules, self.masks = RULES["mot15"], False

    def __iter__(self) -> Iterator[tuple[Frame, Detections]]:
        places = self.truth.by_frame(len(self.paths))
        for t, path in enumerate(self.paths):
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            boxes = self.truth.boxes[places[t]]
            yield Frame(t, t / 10.0, image), Detections(boxes.astype(np.float32))


class Crowd:
    """Frames and truth of generated crowds, masks and two classes."""

    def __init__(self, seed: int, frames: int) -> None:
        from vision_mem.crowds import CROWD_CLASSES, CrowdClip, CrowdSettings

        self.clip = CrowdClip(CrowdSettings(seed=seed, frames=frames, ignored=False))
        self.names = dict(CROWD_CLASSES)
        self.rendered = [(made.image, made.records()) for made in self.clip]
        records = [(t, r) for t, (_, some) in enumerate(self.rendered) for r in some]
        self.truth = rows_of(records, masks=True)
        self.rules, self.masks = RULES["kitti-mots"], True

    def __iter__(self) -> Iterator[tuple[Frame, Detections]]:
        for t, (image, records) in enumerate(self.rendered):
            boxes = np.array([r.box for r in records], np.float32).reshape(-1, 4)
            labels = np.array([r.class_id for r in records], np.int64)
            yield (
                Frame(t, t / 10.0, image),
                Detections(boxes, labels=labels, names=self.names),
            )


class PlainIou:
    """What many start with: boxes go on where they overlap the latest box by 0.3."""

    def __init__(self, patience: int = 5, hits: int = 1) -> None:
        self.patience, self.hits, self.next = patience, hits, 1
        self.boxes: dict[int, tuple[Any, int, int]] = {}

    def step(self, found: Detections | None) -> list[tuple[int, Any, float]]:
        boxes = np.zeros((0, 4)) if found is None else found.boxes
        ids = list(self.boxes)
        known = np.array([self.boxes[k][0] for k in ids]).reshape(-1, 4)
        iou = box_iou(boxes[:, None], known[None]) if len(boxes) else np.zeros((0, len(ids)))
        pairs = dict(assign(np.where(iou >= 0.3, 1 - iou, np.inf)))
        self.boxes = {k: (b, m + 1, h) for k, (b, m, h) in self.boxes.items() if m < self.patience}
        shown = []
        for n, box in enumerate(boxes):
            key = ids[pairs[n]] if n in pairs else self.next
            self.next += n not in pairs
            hits = self.boxes[key][2] + 1 if key in self.boxes else 1
            self.boxes[key] = (box, 0, hits)
            if hits >= self.hits:
                shown.append((key, box, float(found.scores[n])))
        return shown


def plain(clip: Any, detector: str) -> tuple[TrackRows, float]:
    tracker, motion, records = PlainIou(), made_detector(detector, clip), []
    for frame, truth in clip:
        for key, box, score in tracker.step(truth if motion is None else motion.detect(frame)):
            records.append((frame.index, TrackRecord(key, 1, score, box)))
    return rows_of(records, False), 0.0


def made_detector(detector: str, clip: Any) -> MotionDetector | None:
    if detector == "truth":
        return None
    motion = MotionDetector(MotionConfig.upright() if detector == "people" else None)
    motion.learn(frame for frame, _ in clip)
    return motion


def track(clip: Any, detector: str, config: MotsConfig, segmenter: Any) -> tuple[TrackRows, float]:
    session = MotsSession(segmenter, config)
    motion = made_detector(detector, clip)
    records: list[tuple[int, TrackRecord]] = []
    spent = 0.0
    for frame, truth in clip:
        found = truth if motion is None else motion.detect(frame)
        started = time.perf_counter()
        result = session.step(frame, found, reports_absence=motion is None)
        spent += time.perf_counter() - started
        for one in result.shown:
            label = one.label if clip.masks and motion is None else 1
            records.append(
                (frame.index, TrackRecord(one.object_id, label, one.score, one.box, one.mask))
            )
    count_frames = sum(1 for _ in clip)
    return rows_of(records, clip.masks), 1000 * spent / max(count_frames, 1)


def measure(clips: list[Any], args: argparse.Namespace, changes: list[str]) -> dict[str, float]:
    if args.preset != "iou":
        config = load_config(MotsConfig, args.preset, changes, folder="mots")
        segmenter = load_segmenter(args.model)
    total, ms = None, 0.0
    for clip in clips:
        if args.preset == "iou":
            rows, spent = plain(clip, args.detector)
        else:
            rows, spent = track(clip, args.detector, config, segmenter)
        length = int(clip.truth.frames.max()) + 1
        for comparison in compare(clip.rules, clip.truth, rows, length).values():
            counts = count(comparison, masks=clip.masks)
            total = counts if total is None else total + counts
        ms += spent / len(clips)
    measures = total.measures()
    return {name: round(float(measures[name]), 4) for name in SHOWN} | {"ms": round(ms, 1)}


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


def long_run(frames: int, preset: str, changes: list[str]) -> None:
    session = MotsSession(FakeSegmenter(), load_config(MotsConfig, preset, changes, folder="mots"))
    born: set[int] = set()
    block, started = max(frames // 10, 1), time.perf_counter()
    most = 0
    for t in range(frames):
        result = session.step(*crowd_of_squares(t))
        for event in result.events:
            if event.kind == "born":
                assert event.object_id not in born, f"id {event.object_id} was given twice"
                born.add(event.object_id)
        most = max(most, session.usage().bytes)
        if (t + 1) % block == 0:
            now = time.perf_counter()
            print(
                json.dumps(
                    {
                        "frame": t + 1,
                        "ms a frame": round(1000 * (now - started) / block, 2),
                        "most bytes": most,
                        "tracks": len(session.track_ids),
                        "born": len(born),
                    }
                ),
                flush=True,
            )
            started, most = now, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", help="a MOTChallenge folder, crowd, or long")
    parser.add_argument("--detector", default="truth", choices=("truth", "motion", "people"))
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--try", action="append", dest="tries", default=[], metavar="KEY=VALUE,...")
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    use_threads(1)
    if args.clip == "long":
        long_run(args.frames or 10_000, args.preset, args.set)
        return
    if args.clip == "crowd":
        clips: list[Any] = [Crowd(seed, args.frames or 80) for seed in range(args.seeds)]
    else:
        clips = [Folder(Path(args.clip), args.frames or 10**9)]
    for change in ["", *args.tries]:
        more = [part for part in change.split(",") if part]
        found = measure(clips, args, [*args.set, *more])
        print(json.dumps({"with": change or "as given", **found}), flush=True)


if __name__ == "__main__":
    main()
