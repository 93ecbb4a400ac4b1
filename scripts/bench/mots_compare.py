"""Our session beside other trackers fed the same detections, in one run.

    python scripts/bench/mots_compare.py FOLDER ...                 # MOTChallenge: img1, gt/gt.txt
    python scripts/bench/mots_compare.py FOLDER ... --detector truth   # or given: det/det.txt
    python scripts/bench/mots_compare.py crowd --seeds 100 101 102  # still camera, motion detector

``plain IoU`` is what many start with: a box goes on where it overlaps the latest one by 0.3, for
five frames. SORT, ByteTrack, OC-SORT, BoT-SORT (which sees the pictures too) and C-BIoU are those
of the package ``trackers`` (roboflow, Apache-2.0; ``pip install trackers``) as they come, told the
frame rate and, with motion detectors, that every detection is sure (their scores are no
confidence); norfair is told its distance (IoU) and to show a box at once. Left out where they are
not installed.
Boxes are scored, without classes. Times are processor time of the trackers alone, one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from mots_clips import DETECTORS, Crowd, Folder, detections_of, rows_of

from vision_mem.config import load_config
from vision_mem.evaluation.mots.preprocessing import compare
from vision_mem.evaluation.mots.scores import count
from vision_mem.formats.track_rows import TrackRecord
from vision_mem.geometry.assignment import assign
from vision_mem.geometry.boxes import box_iou
from vision_mem.models import load_segmenter, use_threads
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.types import Detections, Frame

SHOWN = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDS", "FP", "FN")
RATE = 10.0

Shown = list[tuple[int, Any]]
Step = Callable[[Frame, Detections | None], Shown]


def plain_iou(patience: int = 5, least: float = 0.3) -> Step:
    """Boxes go on where they overlap the latest box."""
    known: dict[int, tuple[Any, int]] = {}
    given = 0

    def step(frame: Frame, found: Detections | None) -> Shown:
        nonlocal known, given
        boxes = np.zeros((0, 4)) if found is None else found.boxes
        ids = list(known)
        last = np.array([known[k][0] for k in ids]).reshape(-1, 4)
        iou = box_iou(boxes[:, None], last[None]) if len(boxes) else np.zeros((0, len(ids)))
        pairs = dict(assign(np.where(iou >= least, 1 - iou, np.inf)))
        known = {k: (box, age + 1) for k, (box, age) in known.items() if age < patience}
        shown = []
        for n, box in enumerate(boxes):
            given += n not in pairs
            key = ids[pairs[n]] if n in pairs else given
            known[key] = (box, 0)
            shown.append((key, box))
        return shown

    return step


def published(name: str, sure: bool) -> Step:
    """A tracker of the package ``trackers``, with its own settings.

    Args:
        name: of its class.
        sure: tell it that all detections are sure. Its thresholds are made for networks' scores;
            those of background subtraction say how much of a box is filled.
    """
    import supervision
    import trackers

    tracker = getattr(trackers, f"{name}Tracker")(frame_rate=RATE)
    looks = name == "BoTSORT"  # the others do without pictures

    def step(frame: Frame, found: Detections | None) -> Shown:
        found = Detections() if found is None else found
        scores = np.ones_like(found.scores) if sure else found.scores
        given = supervision.Detections(
            xyxy=found.boxes, confidence=scores, class_id=np.zeros(len(found), int)
        )
        seen = {"frame": np.ascontiguousarray(frame.image[..., ::-1])} if looks else {}
        made = tracker.update(given, **seen)
        ids = np.zeros(0, int) if made.tracker_id is None else made.tracker_id
        return [(int(i) + 1, box) for i, box in zip(ids, made.xyxy, strict=True) if i >= 0]

    return step


def norfair_step(least: float = 0.3) -> Step:
    """norfair's tracker on corners of boxes; what it sees on a frame is shown at once."""
    import norfair

    tracker = norfair.Tracker("iou", distance_threshold=1 - least, initialization_delay=0)

    def step(frame: Frame, found: Detections | None) -> Shown:
        boxes = np.zeros((0, 4)) if found is None else found.boxes
        given = [norfair.Detection(box.reshape(2, 2).astype(float)) for box in boxes]
        made = tracker.update(given)
        seen = [one for one in made if one.last_detection in given]
        return [(int(one.id), one.last_detection.points.reshape(4)) for one in seen]

    return step


def ours(segmenter: Any, config: MotsConfig, absence: bool) -> Step:
    session = MotsSession(segmenter, config)

    def step(frame: Frame, found: Detections | None) -> Shown:
        result = session.step(frame, found, reports_absence=absence)
        return [(one.object_id, one.box) for one in result.shown]

    return step


def measured(clips: list[Any], detections: list[Any], make: Callable[[], Step]) -> dict[str, float]:
    total, spent, frames = None, 0.0, 0
    for clip, found in zip(clips, detections, strict=True):
        step, records = make(), []
        started = time.process_time()
        for (frame, _), here in zip(clip, found, strict=True):
            records += [
                (frame.index, TrackRecord(key, 1, 1.0, np.asarray(box)))
                for key, box in step(frame, here)
            ]
        spent += time.process_time() - started
        frames += len(clip)
        rows = rows_of(records, masks=False)
        for comparison in compare(clip.rules, clip.truth, rows, len(clip)).values():
            counts = count(comparison, masks=False)
            total = counts if total is None else total + counts
    assert total is not None, "there is a clip"
    values = total.measures()
    return {m: round(float(values[m]), 4) for m in SHOWN} | {"ms": round(1e3 * spent / frames, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", nargs="+", help="MOTChallenge folders, or crowd")
    parser.add_argument("--detector", default="people", choices=DETECTORS)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--preset", help="motion or upright with a motion detector, else default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--try", action="append", dest="tries", default=[], metavar="KEY=VALUE,...")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--ours", action="store_true", help="leave the others out")
    parser.add_argument("--theirs", action="store_true", help="leave ours out")
    args = parser.parse_args()
    use_threads(1)
    motion = args.detector in ("motion", "people")
    preset = args.preset or {"motion": "motion", "people": "upright"}.get(args.detector, "default")
    if args.clips == ["crowd"]:
        clips: list[Any] = [
            Crowd(seed, args.frames, boxes=True, objects=args.objects) for seed in args.seeds
        ]
    else:
        clips = [Folder(Path(clip)) for clip in args.clips]
    found = [
        detections_of(clip, args.detector, seed) for clip, seed in zip(clips, cycle(args.seeds))
    ]
    rows: dict[str, Callable[[], Step]] = {}
    segmenter = None if args.theirs else load_segmenter(args.model)
    for change in [] if args.theirs else ["", *args.tries]:
        changes = [*args.set, *(c for c in change.split(",") if c)]
        config = load_config(MotsConfig, preset, changes, folder="mots")
        title = f"ours, {preset} {change}".strip()
        rows[title] = lambda config=config: ours(segmenter, config, not motion)  # type: ignore[misc]
    if not args.ours:
        rows["plain IoU"] = plain_iou
        for name in ("SORT", "ByteTrack", "OCSORT", "BoTSORT", "CBIoU"):
            rows[f"trackers: {name}"] = lambda name=name: published(name, motion)  # type: ignore[misc]
        rows["norfair"] = norfair_step
    print("| | " + " | ".join((*SHOWN, "ms")) + " |\n" + "|---" * (len(SHOWN) + 2) + "|")
    for title, make in rows.items():
        try:
            values = measured(clips, found, make)
        except ImportError as error:
            print(json.dumps({"left out": title, "why": str(error)}))
            continue
        print(f"| {title} | " + " | ".join(f"{v:g}" for v in values.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
