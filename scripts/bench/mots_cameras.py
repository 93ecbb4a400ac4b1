"""Identities across cameras: a generated crowd seen by two, IDF1 over both together.

    python scripts/bench/mots_cameras.py --seeds 400 401 402
    python scripts/bench/mots_cameras.py --detector faulty --reid trunk --try min_similarity=0.7

One scene is seen by two virtual cameras, side by side with a gap between them; the second one has
other colours, more light and a quarter more pixels. Who leaves one picture may come into the other.
Boxes of both cameras are scored as one sequence, the second one's frames behind the first one's,
so that somebody who is two identities counts as a mistake. ``apart`` is what sessions say without
a gallery they share: each track of each camera is somebody of its own.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from mots_clips import Seen, rows_of, with_faults

from vision_mem.config import load_config
from vision_mem.evaluation.mots.preprocessing import compare
from vision_mem.evaluation.mots.records import RULES
from vision_mem.evaluation.mots.scores import count
from vision_mem.formats.track_rows import TrackRecord
from vision_mem.geometry.masks import mask_to_box
from vision_mem.models import use_threads
from vision_mem.models.detectors.appearance import open_embedder
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.mots import MotsSession, SharedGallery, SharedGalleryConfig
from vision_mem.synthetic.crowds import CROWD_CLASSES, CrowdClip, CrowdFrame, CrowdSettings
from vision_mem.types import Detections, Frame

VIEWS = {"east": (0.0, 0.47, 1.0), "west": (0.53, 1.0, 1.25)}
"""Left and right end of each picture as shares of the scene's width, and pixels for one."""


class View:
    """What one camera sees of a crowd."""

    def __init__(self, name: str) -> None:
        self.name, self.seen, self.hidden = name, [], []
        self.seen: Seen
        self.truth: list[tuple[int, TrackRecord]] = []

    def add(self, made: CrowdFrame, t: int) -> None:
        """One more frame of the scene."""
        left, right, scale = VIEWS[self.name]
        width = made.image.shape[1]
        part = slice(round(left * width), round(right * width))
        size = round((part.stop - part.start) * scale), round(made.image.shape[0] * scale)
        image = cv2.resize(made.image[:, part], size, interpolation=cv2.INTER_LINEAR)
        if scale > 1:
            light = (image / 255.0) ** 0.85 * (1.1, 1.0, 0.85)
            image = np.clip(light * 255, 0, 255).astype(np.uint8)
        records = []
        for each in made.records():
            mask = np.ascontiguousarray(each.mask[:, part])
            if mask.sum() >= 12:
                records.append(replace(each, class_id=1, box=mask_to_box(mask) * scale, mask=None))
        self.truth += [(t, record) for record in records]
        labels = np.array([made.classes[r.object_id] for r in records], np.int64)
        boxes = np.array([r.box for r in records], np.float32).reshape(-1, 4)
        found = Detections(boxes, labels=labels, names=dict(CROWD_CLASSES))
        self.seen.append((Frame(t, t / 10.0, image), found))
        self.hidden.append([made.hidden[r.object_id] for r in records])


def views_of(seed: int, frames: int) -> list[View]:
    settings = CrowdSettings(seed, frames, width=832, ignored=False, returning=0.2, objects=7)
    views = [View(name) for name in VIEWS]
    for t, made in enumerate(CrowdClip(settings)):
        for view in views:
            view.add(made, t)
    return views


def shown(
    views: list[View], detector: str, seed: int, reid: str, gallery: SharedGallery
) -> tuple[list[list[tuple[int, int, int | None, Any]]], float]:
    """Of each camera: frame, track, identity, box; and milliseconds of processor time a frame."""
    segmenter = EmbeddedSegmenter.load(config=EmbeddedConfig(window=128))
    embedder = open_embedder(reid, "cpu")
    given = [
        with_faults(view, seed) if detector == "faulty" else [found for _, found in view.seen]
        for view in views
    ]
    sessions = [MotsSession(segmenter, threads=1) for _ in views]
    for session, view in zip(sessions, views, strict=True):
        session.share(gallery, view.name)
    rows: list[list[tuple[int, int, int | None, Any]]] = [[] for _ in views]
    started = time.process_time()
    for t in range(len(views[0].seen)):
        for view, session, found, own in zip(views, sessions, given, rows, strict=True):
            frame, here = view.seen[t][0], found[t]
            if embedder is not None and len(here):
                here = replace(here, embeddings=embedder.embed(frame.image, here.boxes))
            result = session.step(frame, here)
            own += [(t, one.object_id, one.identity, one.box) for one in result.shown]
    spent = 1e3 * (time.process_time() - started) / sum(len(view.seen) for view in views)
    # The identity a track ends with is that of all of it.
    for own in rows:
        last = {track: who for _, track, who, _ in own if who is not None}
        own[:] = [(t, track, last.get(track), box) for t, track, _, box in own]
    return rows, spent


def scored(views: list[View], rows: list[Any], across: bool) -> Any:
    """Counts of all cameras as one sequence."""
    frames, records, truth = len(views[0].seen), [], []
    for number, (view, own) in enumerate(zip(views, rows, strict=True)):
        for t, track, who, box in own:
            key = who if across and who is not None else 1000 * (number + 1) + track
            records.append((t + number * frames, TrackRecord(key, 1, 1.0, np.asarray(box))))
        truth += [(t + number * frames, record) for t, record in view.truth]
    compared = compare(
        RULES["mot15"], rows_of(truth, False), rows_of(records, False), len(views) * frames
    )
    (one,) = compared.values()
    return count(one, masks=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[400, 401, 402])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--detector", default="truth", choices=("truth", "faulty"))
    parser.add_argument("--reid", default="colours", help="colours, trunk or onnx:FILE")
    parser.add_argument("--try", action="append", dest="tries", default=[], metavar="KEY=VALUE,...")
    args = parser.parse_args()
    use_threads(1)
    print("| | HOTA | AssA | IDF1 | identities | known | MiB | ms |\n" + "|---" * 8 + "|")
    clips = [(seed, views_of(seed, args.frames)) for seed in args.seeds]
    for change in args.tries or [""]:
        config = load_config(
            SharedGalleryConfig, None, [c for c in change.split(",") if c], folder="mots"
        )
        apart = across = None
        people = known = held = spent = 0.0
        for seed, views in clips:
            gallery = SharedGallery(config)
            rows, cost = shown(views, args.detector, seed, args.reid, gallery)
            one, other = scored(views, rows, False), scored(views, rows, True)
            apart = one if apart is None else apart + one
            across = other if across is None else across + other
            people += len({r.object_id for view in views for _, r in view.truth})
            known += len(gallery)
            held, spent = max(held, gallery.usage().bytes / 2**20), spent + cost / len(clips)
        for title, counts in (("apart", apart), (f"shared {change}".strip(), across)):
            values = counts.measures()
            print(
                f"| {title} | {values['HOTA']:.3f} | {values['AssA']:.3f} | {values['IDF1']:.3f} "
                f"| {people:.0f} | {known:.0f} | {held:.2f} | {spent:.0f} |", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
