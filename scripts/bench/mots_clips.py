"""What the multi-object benchmarks look at: clips with truth, and detectors with faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision_mem.evaluation.mots.records import RULES
from vision_mem.formats.mot import MOT15, MOT17, read_mot_text
from vision_mem.formats.rle import runs_of_masks
from vision_mem.formats.track_rows import TrackRecord, TrackRows, track_rows
from vision_mem.geometry.boxes import box_iou
from vision_mem.models.detectors import MotionConfig, MotionDetector, make_detector
from vision_mem.synthetic.crowds import CROWD_CLASSES, CrowdClip, CrowdSettings
from vision_mem.types import Detections, Frame

DETECTORS = ("truth", "faulty", "motion", "people", "given")
"""True boxes; the same with a real detector's faults; background subtraction; the same, upright;
the detections that came with the clip."""

Seen = list[tuple[Frame, Detections]]


def rows_of(records: list[tuple[int, TrackRecord]], masks: bool) -> TrackRows:
    """Records by frame as the scorer takes them."""
    columns = np.array([(t, r.object_id, r.class_id, 0) for t, r in records], np.int64)
    size = records[0][1].mask.shape if masks and records else (1, 1)
    return track_rows(
        columns.reshape(-1, 4),
        boxes=np.array([r.box for _, r in records], np.float64).reshape(-1, 4),
        masks=runs_of_masks([r.mask for _, r in records], size) if masks else None,
    )


class Folder:
    """Frames and truth of a MOTChallenge folder (img1, gt/gt.txt); boxes of one class.

    MOT16 and MOT17 are told by their names, and scored by their own rules.
    """

    def __init__(self, root: Path, limit: int = 10**9) -> None:
        self.name = root.name
        paths = sorted((root / "img1").glob("*.jpg"))[:limit]
        text = (root / "gt" / "gt.txt").read_text()
        classes = root.name.startswith(("MOT16", "MOT17"))
        truth = read_mot_text(text, root, MOT17 if classes else MOT15, truth=True)
        self.truth, self.root = truth, root
        self.rules, self.masks = RULES["mot17" if classes else "mot15"], False
        counted = truth.scores.astype(np.int64) != 0
        counted &= (truth.classes == 1) | (not classes)
        self.seen: Seen = []
        self.hidden: list[list[float]] = []
        places = truth.by_frame(len(paths))
        for t, path in enumerate(paths):
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            boxes = truth.boxes[[n for n in places[t] if counted[n]]].astype(np.float32)
            self.seen.append((Frame(t, t / 10.0, image), Detections(boxes)))
            self.hidden.append([0.0] * len(boxes))

    def __iter__(self) -> Iterator[tuple[Frame, Detections]]:
        return iter(self.seen)

    def __len__(self) -> int:
        return len(self.seen)


class Crowd:
    """Frames and truth of a generated crowd; the camera stands still.

    With ``boxes``, truth is boxes of one class, for detectors that tell no classes apart.
    """

    def __init__(self, seed: int, frames: int, *, boxes: bool = False, **settings: Any) -> None:
        self.name = f"crowd {seed}"
        clip = CrowdClip(CrowdSettings(seed=seed, frames=frames, ignored=False, **settings))
        self.rules, self.masks = RULES["mot15" if boxes else "kitti-mots"], not boxes
        self.seen: Seen = []
        self.hidden: list[list[float]] = []
        records = []
        for t, made in enumerate(clip):
            some = made.records()
            records += [(t, replace(r, class_id=1) if boxes else r) for r in some]
            boxes_here = np.array([r.box for r in some], np.float32).reshape(-1, 4)
            labels = np.array([r.class_id for r in some], np.int64)
            found = Detections(boxes_here, labels=labels, names=dict(CROWD_CLASSES))
            self.seen.append((Frame(t, t / 10.0, made.image), found))
            self.hidden.append([made.hidden[r.object_id] for r in some])
        self.truth = rows_of(records, masks=self.masks)

    def __iter__(self) -> Iterator[tuple[Frame, Detections]]:
        return iter(self.seen)

    def __len__(self) -> int:
        return len(self.seen)


@dataclass(frozen=True)
class Faults:
    """What is wrong with a detector; shares and chances a frame.

    Attributes:
        missed: chance that an object in full view is not found; a hidden part adds to it.
        burst: chance that a miss goes on on the next frame.
        jitter: standard deviation of each side, as a share of the box's side.
        doubled: chance of a second box of the same thing.
        false: mean number of boxes of nothing, a frame.
        lingering: chance that such a box is there on the next frame too.
    """

    missed: float = 0.08
    burst: float = 0.5
    jitter: float = 0.05
    doubled: float = 0.08
    false: float = 0.15
    lingering: float = 0.4


def with_faults(clip: Any, seed: int, faults: Faults | None = None) -> list[Detections]:
    """True boxes as a detector would give them; same seed, same faults."""
    faults = faults or Faults()
    random = np.random.default_rng((7, seed))
    found, silent, ghosts = [], np.zeros((0, 4)), []
    for (frame, truth), hidden in zip(clip.seen, clip.hidden, strict=True):
        height, width = frame.size
        boxes, scores, labels, unseen = [], [], [], []
        for n, box in enumerate(truth.boxes):
            before = len(silent) > 0 and float(box_iou(box, silent).max()) > 0.5
            chance = faults.burst if before else faults.missed
            if random.random() < chance + (1 - chance) * max(hidden[n] - 0.3, 0):
                unseen.append(box)
                continue
            sides = np.tile(box[2:] - box[:2], 2)
            boxes.append(box + random.normal(0, faults.jitter, 4) * sides)
            scores.append(random.normal(0.8 - 0.3 * hidden[n], 0.1))
            labels.append(truth.labels[n])
            if random.random() < faults.doubled:
                boxes.append(box + random.normal(0, 3 * faults.jitter, 4) * sides)
                scores.append(random.normal(0.55, 0.1))
                labels.append(truth.labels[n])
        silent = np.array(unseen).reshape(-1, 4)
        ghosts = [ghost for ghost in ghosts if random.random() < faults.lingering]
        for _ in range(random.poisson(faults.false)):
            side = random.uniform(0.1, 0.3, 2) * height
            corner = random.uniform(0, 1, 2) * ((width, height) - side)
            ghosts.append((np.r_[corner, corner + side], int(random.integers(1, 3))))
        for ghost, label in ghosts:
            boxes.append(ghost + random.normal(0, 2, 4))
            scores.append(random.normal(0.55, 0.12))
            labels.append(label)
        found.append(
            Detections(
                np.array(boxes, np.float32).reshape(-1, 4),
                scores=np.clip(scores, 0.05, 0.99).astype(np.float32),
                labels=np.array(labels, np.int64),
                names=truth.names,
            )
        )
    return found


def detections_of(clip: Any, detector: str, seed: int = 0) -> list[Detections | None]:
    """What a detector says of each frame of a clip; the same list for every tracker."""
    if detector == "truth":
        return [truth for _, truth in clip]
    if detector == "faulty":
        return list(with_faults(clip, seed))
    if detector == "given":
        given = make_detector([f"file:{clip.root / 'det' / 'det.txt'}:mot"])
        return [given.detect(frame) for frame, _ in clip]
    motion = MotionDetector(MotionConfig.upright() if detector == "people" else None)
    motion.learn(frame for frame, _ in clip)
    return [motion.detect(frame) for frame, _ in clip]
