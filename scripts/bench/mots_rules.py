"""What each rule of a multi-object session is worth: generated crowds, one rule off at a time.

    python scripts/bench/mots_rules.py --out rules.jsonl           # what is missing, then the table
    python scripts/bench/mots_rules.py --out rules.jsonl --detectors truth --only default official
    python scripts/bench/mots_rules.py --out rules.jsonl --try "gallery.margin=0.1"

Crowds of objects of two classes that cross, hide, leave, and come back as who they were; masks are
scored by the rules of KITTI MOTS. ``truth`` detections are the true boxes; ``faulty`` ones miss
objects for a while (more so the hidden ones), invent some, report some twice and are never exact.
Differences are means over seeds of the same clip with and without the rule, with their standard
error. Results are kept in ``--out``, so that a run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from mots_clips import Crowd, detections_of, rows_of

from vision_mem.config import load_config
from vision_mem.evaluation.mots.preprocessing import compare
from vision_mem.evaluation.mots.scores import count
from vision_mem.formats.track_rows import TrackRecord
from vision_mem.models import load_segmenter, use_threads
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.mots import MotsConfig, MotsSession

RULES_OFF: dict[str, tuple[str, str]] = {
    "default": ("default", ""),
    "official": ("official", ""),
    "probabilistic": ("probabilistic", ""),
    "births before association": ("default", "birth.before_association=true"),
    "no suppression of double detections": ("default", "birth.nms_iou=1,birth.max_overlap=1"),
    "no end of double tracks": ("default", "lifecycle.duplicate_share=1"),
    "no confirmation": ("default", "lifecycle.validation=none"),
    "unconfirmed ones not shown": ("default", "emit_tentative=false"),
    "no motion in association": ("default", "association.motion_weight=0"),
    "no re-prompts": ("default", "reprompt.enabled=false"),
    "no corrections of drift": ("default", "reprompt.drift_iou=0"),
    "no gallery": ("default", "gallery.enabled=false"),
    "recognised at birth only": ("default", "gallery.decide_frames=0,gallery.hold_frames=0"),
    "newcomers not held back": ("default", "gallery.hold_frames=0"),
    "masks that slipped count": ("default", "gallery.slip_similarity=0"),
    "no overlap at edges": ("default", "association.edges=false"),
    "no parts": ("default", "association.part_share=0"),
    "not shown anew when whole": ("default", "reprompt.whole_again=false"),
    "all masks remembered": ("default", "memory.gate=false"),
    "oldest in front": ("default", "overlap=creation"),
    "who is swallowed stays so": ("default", "overlap=score"),
    "nobody is born behind others": ("default", "birth.sure_score=1.01"),
    "weak detections choose with the others": ("default", "association.low_iou=0"),
    "nobody is hidden, only lost": ("default", "lifecycle.hidden_frames=0"),
    "no loss by misses": ("default", "lifecycle.max_misses=0"),
    "no loss by doubt": ("default", "lifecycle.doubt_frames=0"),
    "nobody is ever lost": ("default", "lifecycle.lose=false"),
    "doubtful masks shown": ("default", "shown_score=0"),
    "lost ones looked for each frame": ("default", "lifecycle.lost_every=1"),
}
SHOWN = ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "IDS")


def scored(clip: Any, detections: list[Any], session: MotsSession, *, absence: bool = True) -> Any:
    """Counts of a whole clip, and milliseconds of processor time a frame."""
    records: list[tuple[int, TrackRecord]] = []
    started = time.process_time()
    for (frame, _), found in zip(clip, detections, strict=True):
        result = session.step(frame, found, reports_absence=absence)
        for one in result.shown:
            label = one.label if clip.masks else 1
            record = TrackRecord(one.object_id, label, one.score, one.box, one.mask)
            records.append((frame.index, record))
    spent = 1e3 * (time.process_time() - started) / len(clip)
    rows = rows_of(records, clip.masks)
    total = None
    for comparison in compare(clip.rules, clip.truth, rows, len(clip)).values():
        counts = count(comparison, masks=clip.masks)
        total = counts if total is None else total + counts
    return total, spent


def settings_of(name: str) -> MotsConfig:
    preset, changes = RULES_OFF.get(name, ("default", name))
    return load_config(MotsConfig, preset, [c for c in changes.split(",") if c], folder="mots")


def table(rows: list[dict[str, Any]], detector: str) -> None:
    """Means of ``default`` and differences to it, Markdown."""
    by_name: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        if row["detector"] == detector:
            by_name.setdefault(row["name"], {})[row["seed"]] = row
    base = by_name.get("default")
    if not base:
        return
    print(f"\n{detector} boxes, {len(base)} crowds\n")
    print("| | " + " | ".join(SHOWN) + " |\n|---" * 1 + "|---" * len(SHOWN) + "|")
    means = [np.mean([one[m] for one in base.values()]) for m in SHOWN]
    print("| default | " + " | ".join(f"{v:.1f}" if v > 2 else f"{v:.3f}" for v in means) + " |")
    for name, found in by_name.items():
        if name == "default":
            continue
        seeds = sorted(set(found) & set(base))
        cells = []
        for measure in SHOWN:
            change = np.array([found[s][measure] - base[s][measure] for s in seeds])
            error = change.std(ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else float("nan")
            digits = 1 if measure == "IDS" else 3
            cells.append(f"{change.mean():+.{digits}f} ± {error:.{digits}f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="results so far, JSON lines")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--window", type=int, help="of the embedded one, pixels; 128 is 4x faster")
    parser.add_argument("--detectors", nargs="+", default=["truth", "faulty"])
    parser.add_argument("--only", nargs="+", default=[], help="names of the table")
    parser.add_argument("--try", action="append", default=[], dest="tries", metavar="KEY=VALUE,...")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104, 105])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--returning", type=float, default=0.6)
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing after them")
    args = parser.parse_args()
    use_threads(1)
    names = args.only or ([] if args.tries else list(RULES_OFF))
    names += args.tries
    rows = (
        [json.loads(line) for line in args.out.read_text().splitlines()]
        if args.out.exists()
        else []
    )
    done = {(row["name"], row["detector"], row["seed"]) for row in rows}
    segmenter = load_segmenter(args.model)
    if args.window:
        segmenter = EmbeddedSegmenter.load(config=EmbeddedConfig(window=args.window))
    started = time.monotonic()
    for seed in args.seeds:
        clip = None
        for detector in args.detectors:
            for name in names:
                late = time.monotonic() - started > 60 * args.minutes
                if (name, detector, seed) in done or late:
                    continue
                if clip is None:
                    options = {"objects": args.objects, "returning": args.returning}
                    clip = Crowd(seed, args.frames, **options)
                session = MotsSession(segmenter, settings_of(name))
                counts, ms = scored(clip, detections_of(clip, detector, seed), session)
                values = counts.measures()
                row = {"name": name, "detector": detector, "seed": seed}
                row |= {m: round(float(values[m]), 4) for m in (*SHOWN, "FP", "FN")} | {"ms": ms}
                rows.append(row)
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    for detector in args.detectors:
        table(rows, detector)


if __name__ == "__main__":
    main()
